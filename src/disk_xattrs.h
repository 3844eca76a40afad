/* disk_xattrs: the extended attributes of a file on the disk, POSIX ACLs among them, and what an image keeps of
 * them. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

struct disk_xattrs_item {
    char *name;
    void *value;
    size_t size;
};

struct disk_xattrs {
    struct disk_xattrs_item *items;
    size_t count;
};

/* security.*, trusted.*, user.* and the two POSIX ACLs. Others (NFSv4 ACLs, a file system's own) cannot be carried
 * over. */
bool disk_xattrs_is_kept(const char *name);

/* Reads those of `name` in the directory at `dirfd`, symlinks not followed; "." is the directory. Of a file system
 * that has none: none. Caller frees. */
int disk_xattrs_read(struct disk_xattrs *ret_xattrs, int dirfd, const char *name);

/* Adds a copy, in place of one of the same name. */
int disk_xattrs_add(struct disk_xattrs *xattrs, const char *name, const void *value, size_t size);

/* Gives them all to `name` in `dirfd`, symlinks not followed. On failure *ret_name is the one that could not be set. */
int disk_xattrs_apply(const struct disk_xattrs *xattrs, int dirfd, const char *name, const char **ret_name);

void disk_xattrs_free(struct disk_xattrs *xattrs);
#define _cleanup_disk_xattrs_ __attribute__((cleanup(disk_xattrs_free)))
