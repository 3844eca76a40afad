/* xattr: extended attributes of a view's inodes. An inode without a row has the image's, one with a row its own. */
#pragma once

#include <stddef.h>
#include <sys/types.h>

#include "inode.h"

#define XATTR_SIZE 65536 /* longest value, XATTR_SIZE_MAX of linux/limits.h */

/* The value into buffer; its length. -ERANGE: longer than size; size 0 asks for the length; -ENODATA. */
ssize_t xattr_get(struct view *view, uint64_t ino, const char *name, void *buffer, size_t size);

/* Beside the flags of setxattr(2): an access ACL that is set takes the set-group-id bit away. */
#define XATTR_KILL_SGID (1 << 16)

/* flags of setxattr(2). Setting an access ACL sets the mode too. */
int xattr_set(struct view *view, uint64_t ino, const char *name, const void *value, size_t size, int flags);
int xattr_remove(struct view *view, uint64_t ino, const char *name);

/* The names, each ended by NUL; as xattr_get(). */
ssize_t xattr_list(struct view *view, uint64_t ino, char *buffer, size_t size);

/* For other modules, lock held: 1 and the value, which fits; 0: none. */
int xattr_load(struct view *view, struct delta *delta, const struct inode *inode, const char *name, void *buffer, size_t size,
               size_t *ret_size);
