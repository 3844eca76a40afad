/* inomap: a hash table from inode numbers to counts. Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct inomap {
    struct inomap_slot {
        uint64_t ino; /* 0: free */
        uint64_t count;
    } *slots;
    size_t used, mask; /* mask + 1 slots, a power of two; slots == NULL while empty */
};

void inomap_clear(struct inomap *map); /* frees all */

/* 0 for an inode that is not in the map. */
uint64_t inomap_get(const struct inomap *map, uint64_t ino);

/* Adds to the count; -ENOMEM. */
int inomap_add(struct inomap *map, uint64_t ino, uint64_t count);

/* Subtracts, to 0 at the least, where the inode leaves the map; what is left. */
uint64_t inomap_sub(struct inomap *map, uint64_t ino, uint64_t count);
