/* io: system calls as the rest of the program wants them: negative errno,
 * whole transfers, descriptors that close themselves, names that cannot lead
 * out of the directory they are resolved in. */
#pragma once

#include <fcntl.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/types.h>
#include <unistd.h>

static inline void io_close_cleanup(int *fd)
{
    if (*fd >= 0) close(*fd);
}
static inline void io_free_cleanup(void *p) { free(*(void **)p); }

#define _cleanup_close_ __attribute__((cleanup(io_close_cleanup)))
#define _cleanup_free_ __attribute__((cleanup(io_free_cleanup)))

/* Hands a descriptor or pointer to the caller and disarms its cleanup. */
#define io_take_fd(fd)      \
    ({                      \
        int taken_ = (fd);  \
        (fd) = -1;          \
        taken_;             \
    })
#define io_take(p)                  \
    ({                              \
        __typeof__(p) taken_ = (p); \
        (p) = NULL;                 \
        taken_;                     \
    })

/* Reads until `size` bytes or the end of the file; the number read, or negative errno. */
ssize_t io_pread(int fd, void *buffer, size_t size, off_t offset);

/* Writes all of `size` bytes; 0 or negative errno. */
int io_pwrite(int fd, const void *buffer, size_t size, off_t offset);
int io_write(int fd, const void *buffer, size_t size);

/* Copies `size` bytes between files by reflink, copy_file_range(2) or a buffer, whichever works first.
 * A source that ends early is -EIO. */
int io_copy(int from, off_t from_offset, int to, off_t to_offset, off_t size);

/* openat2(2) with RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS and O_CLOEXEC:
 * the descriptor or negative errno. `path` is relative to `dirfd`; "" is not allowed, "." is. */
int io_open_beneath(int dirfd, const char *path, int flags, mode_t mode);

/* The same for an absolute path: no part of it may be a symlink. */
int io_open_plain(const char *path, int flags, mode_t mode);

/* mkdirat(2) where an existing directory is no error. */
int io_mkdir(int dirfd, const char *name, mode_t mode);

/* Removes a whole tree, never following a symlink; a missing name is no error. */
int io_remove_tree(int dirfd, const char *name);

/* asprintf(3) that returns NULL only on ENOMEM and leaves nothing undefined. Caller frees. */
char *io_format(const char *format, ...) __attribute__((format(printf, 1, 2)));

/* Raises RLIMIT_NOFILE to its hard limit; the number of descriptors now allowed. */
size_t io_raise_nofile(void);

/* CLOCK_REALTIME in nanoseconds since 1970. */
int64_t io_now(void);
