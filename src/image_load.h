/* image_load: index.db into memory, with every value checked on the way.
 *
 * The index may be damaged; what the rest of the program sees of it never is. For image.c and image_index.c alone. */
#pragma once

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <time.h>

#include "image.h"

/* PRAGMA user_version of an index.db that this program reads and writes. */
#define IMAGE_FORMAT 1

/* Nanoseconds since 1970; a time that does not fit (years 1677 to 2262) becomes the nearest that does. */
static inline int64_t image_time(struct timespec time)
{
    if (time.tv_sec >= INT64_MAX / 1000000000) return INT64_MAX;
    if (time.tv_sec <= INT64_MIN / 1000000000) return INT64_MIN;
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* The entry that names a directory, whose inode has the entries in it instead. */
struct image_directory {
    uint32_t ino;
    uint32_t entry;
};

struct image_xattr {
    uint32_t ino;
    uint32_t size; /* bytes of the value */
    size_t name;   /* where the name, with its NUL, lies in xattr_data; the value follows it */
};

struct image {
    atomic_uint references;
    char *name;
    int rootfs_fd;

    struct image_inode *inodes; /* of ino at [ino - 1]. A symlink's `parent` is where its target lies in `targets` */
    struct image_entry *entries;
    struct image_directory *directories; /* by ino, without the root */
    struct image_xattr *xattrs;          /* by ino, then name */
    uint32_t *table;                     /* hash of (parent, name) → index of the entry + 1; 0: free */
    char *names;                         /* of all entries, without separators */
    char *targets;                       /* of all symlinks, with their NULs */
    char *xattr_data;
    atomic_uchar *reported; /* one bit for each inode: a missing file was logged */

    size_t inode_count, entry_count, directory_count, xattr_count;
    size_t table_size; /* slots: twice the entries, and at least one */
    size_t names_size, targets_size, xattr_size;
};

/* Fills the arrays of an image whose name is set. -EIO: damaged (logged). What was filled stays for the caller to
 * free. */
int image_load(struct image *image, const char *index_path);

/* The slot of `table` that holds the entry, or the free one where it would be. */
size_t image_slot(const struct image *image, uint32_t parent, const char *name, size_t length);
