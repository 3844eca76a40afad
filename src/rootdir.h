/* rootdir: looking into a root file system from outside, as its own system would: no symlink leads out of it. */
#pragma once

#include <stdbool.h>
#include <stddef.h>

/* openat2(2) with RESOLVE_IN_ROOT and O_CLOEXEC: the descriptor or negative errno. */
int rootdir_open(int root_fd, const char *path, int flags);
bool rootdir_has(int root_fd, const char *path);

/* A regular file of at most `most` bytes, with a NUL behind its end. -EFBIG, -EINVAL: no regular file. Caller frees. */
int rootdir_read(int root_fd, const char *path, size_t most, char **ret_text, size_t *ret_size);
