/* image: one unpacked OS image and its index, immutable from import on.
 *
 * index.db (schema/image.sql) is read once into arrays, shared by all nodes: a
 * look-up then costs well under a microsecond and no lock. Inodes are numbered
 * densely from 1, the root, parents before children; 0 is no inode. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct image;

struct image_inode {
    uint64_t size;   /* bytes; of a symlink, of its target */
    uint64_t blocks; /* of 512 bytes, on the disk of the import */
    int64_t mtime;   /* nanoseconds since 1970 */
    int64_t ctime;   /* the import's */
    uint64_t rdev;
    uint32_t mode;   /* type and permissions */
    uint32_t uid, gid;
    uint32_t nlink;
    uint32_t entries;     /* of a directory: number of its entries */
    uint32_t first_entry; /* of a directory: its first, the others follow; of anything else: one that names it */
    uint32_t parent;      /* of a directory: what holds it, the root itself; of anything else: no meaning */
    bool has_xattrs;
};

struct image_entry {
    const char *name;  /* not terminated by NUL; see length */
    uint16_t length;   /* bytes, 1-255 */
    uint8_t type;      /* DT_* */
    uint32_t ino;
    uint32_t parent;
};

/* Opens STORE/images/NAME and reads its index. `images_fd` is STORE/images. -ENOENT: no such image; -EIO: damaged (logged).
 * The caller holds one reference. */
int image_open(struct image **ret_image, int images_fd, const char *images_path, const char *name);
struct image *image_ref(struct image *image);
void image_unref(struct image *image);

const char *image_name(const struct image *image);
uint32_t image_count(const struct image *image);          /* highest inode number */
size_t image_memory(const struct image *image);           /* bytes held by the index */

/* NULL when there is no such inode. */
const struct image_inode *image_inode(const struct image *image, uint32_t ino);

/* The entry `name` of directory `parent`: its index into the image's entries, or -1. */
int64_t image_lookup(const struct image *image, uint32_t parent, const char *name, size_t length);
const struct image_entry *image_entry(const struct image *image, uint32_t index);

/* Extended attributes, in name order: call back for each; a non-zero return ends the walk and is returned. */
typedef int (*image_xattr_fn)(const char *name, const void *value, size_t size, void *data);
int image_xattrs(const struct image *image, uint32_t ino, image_xattr_fn fn, void *data);

/* The symlink's target into `buffer` (at least 4096 bytes, NUL-terminated): its length or negative errno. */
int image_readlink(const struct image *image, uint32_t ino, char *buffer, size_t size);

/* A regular file's contents for reading: a descriptor the caller closes. -EIO (logged once for each file) when the tree no longer
 * has the file with the size and mtime that the index has. */
int image_open_file(struct image *image, uint32_t ino);

/* Tells of damage of an inode's file, once for each: -EIO. */
int image_damaged(struct image *image, uint32_t ino, const char *what);

/* Builds index.db for the tree STORE/images/<anything>/rootfs, given by descriptor. Entries of a directory are numbered in
 * inode order, which is near the order on the disk. Logs its failures. image_index.h has one that shows progress. */
struct image_totals { int64_t files, bytes; };
int image_build(int rootfs_fd, const char *index_path, struct image_totals *ret_totals);
