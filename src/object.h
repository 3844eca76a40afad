/* object: the files objects/<id> of one node, each large contents of one of its inodes, by number.
 *
 * `objects_fd` is the directory, delta_objects_fd(). Symlinks are never followed. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

/* A descriptor, or negative errno; flags of open(2). -ELOOP, -EISDIR, -EUCLEAN: it is no regular file. */
int object_open(int objects_fd, uint64_t id, int flags);

/* An empty one; -EEXIST. */
int object_create(int objects_fd, uint64_t id);

/* Is it the name of an object, and of which? */
bool object_is_name(const char *name, uint64_t *ret_id);

/* A hard link in another directory; a copy where that cannot be (too many links). */
int object_share(int objects_fd, uint64_t id, int to_objects_fd);

int object_unlink(int objects_fd, uint64_t id);
int object_stat(int objects_fd, uint64_t id, struct stat *ret_stat);
