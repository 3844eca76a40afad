/* valgrind_openat2: openat2(2) as far as coppice asks for it, for a valgrind that does not know the call. Preloaded into unit tests
 * by `scripts/test --valgrind`. Paths are walked name by name. */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINKS_MOST = 40, ROOM = 2 * PATH_MAX };

struct walk {
    const struct open_how *how;
    int dirfd, held; /* where it began, and where it is: -1: there still */
    int depth, links;
    uint64_t mount;
    char rest[ROOM]; /* of the path */
};

static int fail(int error)
{
    errno = error;
    return -1;
}

static uint64_t mount_of(int dirfd, const char *name)
{
    struct statx found = {0};
    statx(dirfd, name, AT_SYMLINK_NOFOLLOW | AT_EMPTY_PATH, STATX_MNT_ID, &found);
    return found.stx_mnt_id;
}

static int here(const struct walk *w)
{
    return w->held >= 0 ? w->held : w->dirfd;
}

static int go_to(struct walk *w, int fd)
{
    int error = errno;
    if (w->held >= 0) close(w->held);
    w->held = fd;
    errno = error;
    return fd < 0 ? -1 : 0;
}

/* The rest is the link's target, and what came after its name. */
static int follow(struct walk *w, const char *name, const char *after)
{
    char joined[ROOM], target[PATH_MAX];
    ssize_t n = readlinkat(here(w), name, target, sizeof(target) - 1);
    if (w->how->resolve & RESOLVE_NO_SYMLINKS || ++w->links > LINKS_MOST) return fail(ELOOP);
    if (n < 0) return -1;
    target[n] = '\0';
    if (target[0] == '/' && w->how->resolve & RESOLVE_BENEATH) return fail(EXDEV);
    if (target[0] == '/') {
        w->depth = 0;
        go_to(w, w->how->resolve & RESOLVE_IN_ROOT ? -1 : open("/", O_PATH | O_CLOEXEC));
    }
    if (snprintf(joined, sizeof(joined), "%s%s%s", target, *after ? "/" : "", after) >= ROOM) return fail(ENAMETOOLONG);
    strcpy(w->rest, joined);
    return 0;
}

static int go_up(struct walk *w)
{
    if (w->depth == 0 && w->how->resolve & RESOLVE_BENEATH) return fail(EXDEV);
    if (w->depth == 0 && w->how->resolve & RESOLVE_IN_ROOT) return 0;
    w->depth--;
    return go_to(w, openat(here(w), "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
}

/* One name. 1, and *ret_fd: it was the last. */
static int step(struct walk *w, const char *name, const char *after, bool is_last, int *ret_fd)
{
    struct stat st;
    bool is_there = fstatat(here(w), name, &st, AT_SYMLINK_NOFOLLOW) == 0;
    bool is_shown = is_last && w->how->flags & O_NOFOLLOW && w->how->flags & O_PATH;
    if (is_there && S_ISLNK(st.st_mode) && !is_shown)
        return is_last && w->how->flags & O_NOFOLLOW ? fail(ELOOP) : follow(w, name, after);
    if (is_there && w->how->resolve & RESOLVE_NO_XDEV && mount_of(here(w), name) != w->mount) return fail(EXDEV);
    if (is_last) {
        *ret_fd = openat(here(w), name, (int)w->how->flags | O_NOFOLLOW, (mode_t)w->how->mode);
        return *ret_fd < 0 ? -1 : 1;
    }
    w->depth++;
    return go_to(w, openat(here(w), name, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
}

/* The next name of the rest; what follows is moved to the rest's beginning by the caller. */
static int advance(struct walk *w, int *ret_fd)
{
    char path[ROOM], *name = path, *end;
    strcpy(path, w->rest);
    while (*name == '/') name++;
    end = strchrnul(name, '/');
    bool is_last = *end == '\0';
    if (!is_last) *end++ = '\0';
    memmove(w->rest, end, strlen(end) + 1);
    if (strcmp(name, "..") == 0) return go_up(w);
    if (*name == '\0' || strcmp(name, ".") == 0) return 0;
    return step(w, name, end, is_last, ret_fd);
}

static int walk(int dirfd, const char *path, const struct open_how *how)
{
    struct walk w = {.how = how, .dirfd = dirfd, .held = -1};
    int fd = -1, r = 0;
    if (*path == '\0' || strlen(path) >= ROOM) return fail(*path ? ENAMETOOLONG : ENOENT);
    if (*path == '/' && how->resolve & RESOLVE_BENEATH) return fail(EXDEV);
    if (*path == '/' && !(how->resolve & RESOLVE_IN_ROOT)) w.held = open("/", O_PATH | O_CLOEXEC);
    w.mount = mount_of(here(&w), "");
    strcpy(w.rest, path);
    while (r == 0 && w.rest[0]) r = advance(&w, &fd);
    if (r == 0) fd = openat(here(&w), ".", (int)how->flags, (mode_t)how->mode);
    go_to(&w, -1);
    return r < 0 ? -1 : fd;
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
    return walk((int)a[0], (const char *)a[1], (const struct open_how *)a[2]);
}
