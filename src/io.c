#include "io.h"

#include <dirent.h>
#include <errno.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>

/* The deepest nesting that io_remove_tree() holds a descriptor of each level for. */
#define REMOVE_DEPTH 64

ssize_t io_pread(int fd, void *buffer, size_t size, off_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pread(fd, (char *)buffer + done, size - done, offset + done);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) break;
        done += n;
    }
    return done;
}

int io_pwrite(int fd, const void *buffer, size_t size, off_t offset)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = pwrite(fd, (const char *)buffer + done, size - done, offset + done);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return -EIO;
        done += n;
    }
    return 0;
}

int io_write(int fd, const void *buffer, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = write(fd, (const char *)buffer + done, size - done);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return -errno;
        if (n == 0) return -EIO;
        done += n;
    }
    return 0;
}

static int copy_by_buffer(int from, off_t from_offset, int to, off_t to_offset, off_t size)
{
    const size_t room = 256 * 1024;
    _cleanup_free_ char *buffer = malloc(room);

    if (!buffer) return -ENOMEM;
    while (size > 0) {
        size_t want = size < (off_t)room ? (size_t)size : room;
        ssize_t n = io_pread(from, buffer, want, from_offset);
        int r;

        if (n < 0) return n;
        if (n == 0) return -EIO;
        r = io_pwrite(to, buffer, n, to_offset);
        if (r < 0) return r;
        from_offset += n;
        to_offset += n;
        size -= n;
    }
    return 0;
}

int io_copy(int from, off_t from_offset, int to, off_t to_offset, off_t size)
{
    /* copy_file_range(2) is also the reflink: file systems that share extents do so in it. */
    while (size > 0) {
        ssize_t n = copy_file_range(from, &from_offset, to, &to_offset, size, 0);

        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && (errno == ENOSPC || errno == EDQUOT || errno == EIO || errno == EFBIG)) return -errno;
        /* 0 is the end of the file, but also the answer of file systems that cannot tell: reading decides. */
        if (n <= 0) return copy_by_buffer(from, from_offset, to, to_offset, size);
        size -= n;
    }
    return 0;
}

static int open_how(int dirfd, const char *path, int flags, mode_t mode, uint64_t resolve)
{
    bool creates = (flags & O_CREAT) || (flags & O_TMPFILE) == O_TMPFILE;
    struct open_how how = {.flags = flags | O_CLOEXEC, .mode = creates ? mode : 0, .resolve = resolve};
    int fd;

    /* EAGAIN: a rename elsewhere crossed the walk of a "..", which may now be tried again. */
    do fd = syscall(SYS_openat2, dirfd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    return fd < 0 ? -errno : fd;
}

int io_open_beneath(int dirfd, const char *path, int flags, mode_t mode)
{
    return open_how(dirfd, path, flags, mode, RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int io_open_plain(const char *path, int flags, mode_t mode)
{
    return open_how(AT_FDCWD, path, flags, mode, RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS);
}

int io_mkdir(int dirfd, const char *name, mode_t mode)
{
    struct stat st;

    if (mkdirat(dirfd, name, mode) == 0) return 0;
    if (errno != EEXIST) return -errno;
    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    return S_ISDIR(st.st_mode) ? 0 : -ENOTDIR;
}

/* Moves a directory that lies too deep up to the top of the tree, where it is met again. */
static int hoist(int dirfd, const char *name, int topfd, unsigned *serial)
{
    for (;;) {
        char to[32];

        snprintf(to, sizeof(to), ".deep-%u", (*serial)++);
        if (renameat2(dirfd, name, topfd, to, RENAME_NOREPLACE) == 0) return 0;
        if (errno != EEXIST) return -errno;
    }
}

static void closedir_cleanup(DIR **directory)
{
    if (*directory) closedir(*directory);
}

static int remove_below(int dirfd, const char *name, int topfd, unsigned depth, unsigned *serial);

static int remove_entries(DIR *directory, int topfd, unsigned depth, unsigned *serial)
{
    struct dirent *entry;

    while (errno = 0, (entry = readdir(directory))) {
        int r;

        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        r = remove_below(dirfd(directory), entry->d_name, topfd, depth + 1, serial);
        if (r < 0) return r;
    }
    return -errno;
}

/* `topfd` is the tree's own root, -1 while that is still being opened. */
static int remove_below(int parent, const char *name, int topfd, unsigned depth, unsigned *serial)
{
    __attribute__((cleanup(closedir_cleanup))) DIR *directory = NULL;
    int fd, r;

    if (unlinkat(parent, name, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR && errno != EPERM) return -errno;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    if (errno != ENOTEMPTY && errno != EEXIST) return -errno;
    if (depth >= REMOVE_DEPTH) return hoist(parent, name, topfd, serial);

    fd = openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    if (fd < 0) return -errno;
    directory = fdopendir(fd);
    if (!directory) {
        r = -errno;
        close(fd);
        return r;
    }
    r = remove_entries(directory, topfd < 0 ? fd : topfd, depth, serial);
    if (r < 0) return r;
    if (unlinkat(parent, name, AT_REMOVEDIR) == 0 || errno == ENOENT) return 0;
    return -errno;
}

int io_remove_tree(int dirfd, const char *name)
{
    unsigned serial = 0, hoisted;
    int r;

    /* Each round with hoisted directories leaves a tree that is REMOVE_DEPTH levels less deep. */
    do {
        hoisted = serial;
        r = remove_below(dirfd, name, -1, 0, &serial);
    } while ((r == -ENOTEMPTY || r == -EEXIST) && serial != hoisted);
    return r;
}

char *io_format(const char *format, ...)
{
    va_list arguments;
    char *text;
    int r;

    va_start(arguments, format);
    r = vasprintf(&text, format, arguments);
    va_end(arguments);
    return r < 0 ? NULL : text;
}

size_t io_raise_nofile(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return 1024;
    if (limit.rlim_cur < limit.rlim_max) {
        rlim_t before = limit.rlim_cur;

        limit.rlim_cur = limit.rlim_max;
        if (setrlimit(RLIMIT_NOFILE, &limit) < 0) limit.rlim_cur = before;
    }
    return limit.rlim_cur;
}

int64_t io_now(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}
