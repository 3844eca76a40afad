/* listing: the names in one directory, in inode order, which is near the order on the disk. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct listing_item {
    uint64_t ino;
    const char *name;
};

struct listing {
    struct listing_item *items;
    size_t count;
    char *names; /* what the items' names point into */
};

/* Reads the directory open at `fd`, without "." and "..". The descriptor stays the caller's. */
int listing_read(struct listing *ret_listing, int fd);
void listing_free(struct listing *listing);
#define _cleanup_listing_ __attribute__((cleanup(listing_free)))
