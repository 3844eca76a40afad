/* inode: attributes of one inode of a view, and its copy-up: an inode of the image gets a row of its own when something
 * about it changes for the first time. That costs a row, and no contents.
 *
 * "Lock held": between view_lock() and view_unlock(), `delta` being what view_lock() returned (NULL: no delta yet), or between
 * view_begin() and view_end(). */
#pragma once

#include <stdbool.h>
#include <sys/stat.h>

#include "view.h"

struct inode {
    struct delta_inode row; /* as it is or, for an inode of the image, as its row would be */
    bool stored;            /* it has a row */
};

/* The row that an inode of the image gets when something about it changes; `parent` counts for a directory. */
struct delta_inode inode_of_image(const struct image_inode *image_inode, uint64_t ino, uint32_t image_ino, uint64_t parent);

/* The inode as it is now. -ESTALE: no such inode, or it is over. Lock held. */
int inode_get(struct view *view, struct delta *delta, uint64_t ino, struct inode *ret_inode);

/* A directory in which names can be made: -ENOTDIR, -ENOENT when it was removed. Lock held. */
int inode_get_dir(struct view *view, struct delta *delta, uint64_t ino, struct inode *ret_inode);

/* Writes the row, after copying the inode up if it had none. Within begin and end. */
int inode_put(struct view *view, struct delta *delta, struct inode *inode);

/* inode_put() with ctime now, and mtime too for inode_put_modified(). */
int inode_put_changed(struct view *view, struct delta *delta, struct inode *inode);
int inode_put_modified(struct view *view, struct delta *delta, struct inode *inode);
/* The same for an inode that has a row, in which nothing else has changed but size, object and chunked. */
int inode_put_contents(struct delta *delta, struct inode *inode);

/* A new inode with number, times and nlink 1 (2 for a directory) filled in; mode, uid, gid, rdev, parent as given. Not yet
 * written. */
int inode_new(struct delta *delta, struct inode *inode);

/* One name less; the last one orphans it. A directory loses its own "." too. Within begin and end. */
int inode_unlink(struct view *view, struct delta *delta, struct inode *inode);

/* What stat(2) shows. Takes the lock itself. */
int inode_stat(struct view *view, uint64_t ino, struct stat *ret_stat);

enum {
    INODE_MODE = 1 << 0,
    INODE_UID = 1 << 1,
    INODE_GID = 1 << 2,
    INODE_ATIME = 1 << 3,
    INODE_ATIME_NOW = 1 << 4,
    INODE_MTIME = 1 << 5,
    INODE_MTIME_NOW = 1 << 6,
    INODE_KILL_IDS = 1 << 7, /* as inode_clear_ids() */
};

/* What `set` names becomes what `stat` has. Sizes: content_truncate(). */
struct inode_change {
    const struct stat *stat;
    int set;
};

int inode_change(struct view *view, uint64_t ino, const struct inode_change *change);
/* The same within begin and end. */
int inode_apply(struct view *view, struct delta *delta, struct inode *inode, const struct inode_change *change);

/* What a write by one who may not do so takes from a file: the set-user-id bit, and the set-group-id bit if the group may execute
 * it (without that it means something else). 1: there was something to take; 0: there was not. */
int inode_clear_ids(struct view *view, uint64_t ino);

/* The target of a symlink, NUL-terminated; its length, or -EINVAL for anything else. */
int inode_readlink(struct view *view, uint64_t ino, char *buffer, size_t size);

/* DT_* of a mode. */
static inline uint8_t inode_type(uint32_t mode)
{
    return (mode & S_IFMT) >> 12;
}
