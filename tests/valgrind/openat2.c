/* valgrind_openat2: openat2(2) as far as io.c asks for it, for a valgrind that does not know the call. Preloaded into unit tests
 * by `scripts/test --valgrind`. Paths are walked name by name, so that no symlink is followed. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

static int open_last(int dirfd, const char *name, const struct open_how *how)
{
    struct stat st;
    if (!(how->flags & O_PATH) && fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISLNK(st.st_mode)) {
        errno = ELOOP;
        return -1;
    }
    return openat(dirfd, name, (int)how->flags | O_NOFOLLOW, (mode_t)how->mode);
}

static int walk(int dirfd, char *path, const struct open_how *how)
{
    int held = -1, fd;
    if (*path == '/' && how->resolve & RESOLVE_BENEATH) return errno = EXDEV, -1;
    if (*path == '/') held = open("/", O_PATH | O_CLOEXEC);
    while (*path == '/') path++;
    for (char *cut; (cut = strchr(path, '/')); path = cut + 1) {
        *cut = '\0';
        if (strcmp(path, "..") == 0) return close(held), errno = EXDEV, -1;
        if (*path == '\0') continue;
        fd = openat(held >= 0 ? held : dirfd, path, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 && errno == ENOTDIR) errno = ELOOP;
        if (held >= 0) close(held);
        if (fd < 0) return -1;
        held = fd;
    }
    fd = open_last(held >= 0 ? held : dirfd, *path ? path : ".", how);
    int error = errno;
    if (held >= 0) close(held);
    errno = error;
    return fd;
}

long syscall(long number, ...)
{
    static long (*next)(long, ...);
    va_list list;
    long a[6];
    va_start(list, number);
    for (int i = 0; i < 6; i++) a[i] = va_arg(list, long);
    va_end(list);
    if (number != SYS_openat2) {
        if (!next) next = (long (*)(long, ...))dlsym(RTLD_NEXT, "syscall");
        return next(number, a[0], a[1], a[2], a[3], a[4], a[5]);
    }
    char *path = strdup((const char *)a[1]);
    if (!path) return -1;
    int fd = walk((int)a[0], path, (const struct open_how *)a[2]);
    int error = errno;
    free(path);
    errno = error;
    return fd;
}
