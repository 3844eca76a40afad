/* linkmap: a hash table from a file's identity (st_dev, st_ino) to a number, for finding hard links. */
#pragma once

#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

struct linkmap {
    struct linkmap_slot {
        dev_t dev;
        ino_t ino;
        uint32_t number; /* 0: free */
    } * slots;
    size_t used, size; /* of slots; a power of two. slots == NULL while empty */
};

/* The number put in for the file; 0: none. */
uint32_t linkmap_get(const struct linkmap *map, dev_t dev, ino_t ino);

/* The file is not in the map yet, and `number` is not 0. -ENOMEM. */
int linkmap_put(struct linkmap *map, dev_t dev, ino_t ino, uint32_t number);

void linkmap_free(struct linkmap *map);
