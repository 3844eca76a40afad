#include "import_directory.h"

#include <errno.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "import_attrs.h"
#include "import_log.h"
#include "io.h"
#include "linkmap.h"
#include "listing.h"
#include "log.h"
#include "longpath.h"

/* Copied between two looks at the clock. */
#define STRETCH (16 << 20)
/* What a file adds to the work, in bytes, besides its contents. */
#define FILE_COST (16 << 10)

struct copier {
    const struct import_directory *import;
    struct stat forbidden[2];
    struct linkmap linkmap;
    char **links; /* first names of files that have several, by the map's number - 1 */
    char *path;   /* of the file at hand, relative to the source */
    size_t link_count, link_room, path_length, path_room;
    int64_t done, total;
    bool no_clone;
};

static int failed(struct copier *copier, int r)
{
    return import_failed(copier->import->progress, r, "%s/%s: %s", copier->import->source, copier->path, log_reason(r));
}

static int push(struct copier *copier, const char *name, size_t *ret_before)
{
    size_t need = copier->path_length + strlen(name) + 2;

    *ret_before = copier->path_length;
    if (need > copier->path_room) {
        char *grown = realloc(copier->path, need * 2);

        if (!grown) return failed(copier, -ENOMEM);
        copier->path = grown;
        copier->path_room = need * 2;
    }
    copier->path_length += sprintf(copier->path + copier->path_length, copier->path_length ? "/%s" : "%s", name);
    return 0;
}

static void pop(struct copier *copier, size_t before)
{
    copier->path_length = before;
    copier->path[before] = '\0';
}

/* Opens a file of the source; -EXDEV: something else is mounted on it. */
static int open_source(int dirfd, const char *name, int flags)
{
    struct open_how how = {
        .flags = flags | O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC,
        .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_XDEV,
    };
    int fd = syscall(SYS_openat2, dirfd, name, &how, sizeof(how));

    return fd < 0 ? -errno : fd;
}

static int check_forbidden(struct copier *copier, const struct stat *st)
{
    for (size_t i = 0; i < 2; i++)
        if (st->st_dev == copier->forbidden[i].st_dev && st->st_ino == copier->forbidden[i].st_ino)
            return import_failed(copier->import->progress, -EINVAL, "%s: the store lies inside it, at %s",
                                 copier->import->source, copier->path_length ? copier->path : ".");
    return 0;
}

static void advance(struct copier *copier, int64_t files, int64_t bytes)
{
    copier->done += files * FILE_COST + bytes;
    progress_at(copier->import->progress, copier->done, copier->total);
    progress_add(copier->import->progress, files, bytes);
}

static int copy_stretch(struct copier *copier, int from, int to, off_t offset, off_t end)
{
    while (offset < end) {
        off_t size = end - offset < STRETCH ? end - offset : STRETCH;
        int r = io_copy(from, offset, to, offset, size);

        if (r < 0) return r;
        advance(copier, 0, size);
        offset += size;
    }
    return 0;
}

static int copy_sparse(struct copier *copier, int from, int to, off_t size)
{
    off_t offset = 0;

    if (ftruncate(to, size) < 0) return -errno;
    while (offset < size) {
        off_t data = lseek(from, offset, SEEK_DATA), hole;
        int r;

        if (data < 0 && errno == ENXIO) return 0;
        if (data < 0) return errno == EINVAL ? copy_stretch(copier, from, to, offset, size) : -errno;
        hole = lseek(from, data, SEEK_HOLE);
        if (hole < 0) return -errno;
        r = copy_stretch(copier, from, to, data, hole < size ? hole : size);
        if (r < 0) return r;
        offset = hole;
    }
    return 0;
}

static int copy_contents(struct copier *copier, int from, int to, const struct stat *st)
{
    if (st->st_size == 0) return 0;
    if (!copier->no_clone && ioctl(to, FICLONE, from) == 0) {
        advance(copier, 0, st->st_size);
        return 0;
    }
    copier->no_clone = true;
    if (st->st_blocks * 512 >= st->st_size) return copy_stretch(copier, from, to, 0, st->st_size);
    return copy_sparse(copier, from, to, st->st_size);
}

static int apply(struct copier *copier, const struct import_attrs *attrs, int to_dirfd, const char *name)
{
    const struct import_directory *import = copier->import;
    const char *what;
    int r = import_attrs_apply(attrs, to_dirfd, name, &what);

    if (r == 0) return 0;
    return import_failed(import->progress, r, "%s/%s: cannot keep its %s: %s", import->source, copier->path, what,
                         log_reason(r));
}

static int copy_attrs(struct copier *copier, int from_dirfd, const char *name, int to_dirfd, const char *to_name,
                      const struct stat *st)
{
    _cleanup_import_attrs_ struct import_attrs attrs = {0};
    int r = import_attrs_read(&attrs, from_dirfd, name, st);

    return r < 0 ? failed(copier, r) : apply(copier, &attrs, to_dirfd, to_name);
}

/* 1: a mount point, kept empty. */
static int copy_regular(struct copier *copier, int from_dirfd, int to_dirfd, const char *name, struct stat *st)
{
    _cleanup_close_ int from = -1, to = -1;
    struct stat after;
    int r;

    to = openat(to_dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0) return failed(copier, -errno);
    from = open_source(from_dirfd, name, 0);
    if (from == -EXDEV) return 1;
    if (from < 0) return failed(copier, from);
    if (fstat(from, st) < 0) return failed(copier, -errno);
    if (!S_ISREG(st->st_mode)) return failed(copier, -ESTALE);
    r = copy_contents(copier, from, to, st);
    if (r == -EIO && fstat(from, &after) == 0 && after.st_size < st->st_size)
        return import_failed(copier->import->progress, r, "%s/%s: was changed while it was copied",
                             copier->import->source, copier->path);
    return r < 0 ? failed(copier, r) : 0;
}

static int copy_symlink(struct copier *copier, int from_dirfd, int to_dirfd, const char *name)
{
    char target[4096];
    ssize_t length = readlinkat(from_dirfd, name, target, sizeof(target) - 1);

    if (length < 0) return failed(copier, -errno);
    target[length] = '\0';
    return symlinkat(target, to_dirfd, name) < 0 ? failed(copier, -errno) : 0;
}

static int link_first(struct copier *copier, uint32_t number, int to_dirfd, const char *name)
{
    _cleanup_free_ char *first = strdup(copier->links[number - 1]);
    _cleanup_close_ int fd = -1;

    if (!first) return failed(copier, -ENOMEM);
    fd = longpath_open(copier->import->rootfs_fd, first, O_PATH | O_NOFOLLOW);
    if (fd < 0) return failed(copier, fd);
    return linkat(fd, "", to_dirfd, name, AT_EMPTY_PATH) < 0 ? failed(copier, -errno) : 0;
}

static int remember_link(struct copier *copier, const struct stat *st)
{
    if (copier->link_count == copier->link_room) {
        size_t room = copier->link_room ? copier->link_room * 2 : 64;
        char **grown = reallocarray(copier->links, room, sizeof(*grown));

        if (!grown) return failed(copier, -ENOMEM);
        copier->links = grown;
        copier->link_room = room;
    }
    copier->links[copier->link_count] = strdup(copier->path);
    if (!copier->links[copier->link_count]) return failed(copier, -ENOMEM);
    copier->link_count++;
    return linkmap_put(&copier->linkmap, st->st_dev, st->st_ino, copier->link_count) < 0 ? failed(copier, -ENOMEM) : 0;
}

/* 1: a mount point, whose inode is not the source's. */
static int copy_file(struct copier *copier, int from_dirfd, int to_dirfd, const char *name, struct stat *st)
{
    int r, failure;

    if (S_ISREG(st->st_mode)) r = copy_regular(copier, from_dirfd, to_dirfd, name, st);
    else if (S_ISLNK(st->st_mode)) r = copy_symlink(copier, from_dirfd, to_dirfd, name);
    else r = mknodat(to_dirfd, name, st->st_mode, st->st_rdev) < 0 ? failed(copier, -errno) : 0;
    if (r < 0) return r;
    failure = copy_attrs(copier, from_dirfd, name, to_dirfd, name, st);
    return failure < 0 ? failure : r;
}

static int copy_linked(struct copier *copier, int from_dirfd, int to_dirfd, const char *name, struct stat *st)
{
    uint32_t number = st->st_nlink > 1 ? linkmap_get(&copier->linkmap, st->st_dev, st->st_ino) : 0;
    int r;

    if (number) return link_first(copier, number, to_dirfd, name);
    r = copy_file(copier, from_dirfd, to_dirfd, name, st);
    if (r < 0) return r;
    if (r > 0 || st->st_nlink < 2) return 0;
    return remember_link(copier, st);
}

static int copy_entries(struct copier *copier, int from, int to);

static int copy_directory(struct copier *copier, int from_dirfd, int to_dirfd, const char *name, const struct stat *st)
{
    _cleanup_close_ int from = open_source(from_dirfd, name, O_DIRECTORY), to = -1;
    int r;

    if (from < 0 && from != -EXDEV) return failed(copier, from);
    r = check_forbidden(copier, st);
    if (r < 0) return r;
    if (mkdirat(to_dirfd, name, 0700) < 0) return failed(copier, -errno);
    if (from >= 0) {
        to = io_open_beneath(to_dirfd, name, O_RDONLY | O_DIRECTORY, 0);
        if (to < 0) return failed(copier, to);
        r = copy_entries(copier, from, to);
        if (r < 0) return r;
    }
    return copy_attrs(copier, from_dirfd, name, to_dirfd, name, st);
}

static int copy_entry(struct copier *copier, int from, int to, const char *name)
{
    struct stat st;
    size_t before;
    int r;

    if (fstatat(from, name, &st, AT_SYMLINK_NOFOLLOW) < 0)
        /* Removed since its directory was read, as in a root file system in use. */
        return errno == ENOENT ? 0 : failed(copier, -errno);
    r = push(copier, name, &before);
    if (r < 0) return r;
    r = S_ISDIR(st.st_mode) ? copy_directory(copier, from, to, name, &st) : copy_linked(copier, from, to, name, &st);
    if (r < 0) return r;
    advance(copier, 1, 0);
    pop(copier, before);
    return 0;
}

static int copy_entries(struct copier *copier, int from, int to)
{
    _cleanup_listing_ struct listing listing = {0};
    int r = listing_read(&listing, from);

    if (r < 0) return failed(copier, r);
    for (size_t i = 0; i < listing.count; i++) {
        r = copy_entry(copier, from, to, listing.items[i].name);
        if (r < 0) return r;
    }
    return 0;
}

/* How much work there is. What cannot be read now is the copy's to complain of. */
static int64_t count_work(int dirfd)
{
    _cleanup_listing_ struct listing listing = {0};
    int64_t work = 0;

    if (listing_read(&listing, dirfd) < 0) return 0;
    for (size_t i = 0; i < listing.count; i++) {
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (fstatat(dirfd, listing.items[i].name, &st, AT_SYMLINK_NOFOLLOW) < 0) continue;
        work += FILE_COST;
        if (S_ISREG(st.st_mode)) work += st.st_blocks * 512 < st.st_size ? st.st_blocks * 512 : st.st_size;
        if (S_ISDIR(st.st_mode)) fd = open_source(dirfd, listing.items[i].name, O_DIRECTORY);
        if (fd >= 0) work += count_work(fd);
    }
    return work;
}

static int copy_root(struct copier *copier)
{
    const struct import_directory *import = copier->import;
    struct stat st;
    int r;

    if (fstat(import->source_fd, &st) < 0) return failed(copier, -errno);
    r = check_forbidden(copier, &st);
    if (r == 0) r = copy_entries(copier, import->source_fd, import->rootfs_fd);
    if (r == 0) r = copy_attrs(copier, import->source_fd, ".", import->rootfs_fd, ".", &st);
    return r;
}

static void release(struct copier *copier)
{
    for (size_t i = 0; i < copier->link_count; i++) free(copier->links[i]);
    free(copier->links);
    free(copier->path);
    linkmap_free(&copier->linkmap);
}

int import_directory(const struct import_directory *import)
{
    struct copier copier = {.import = import, .path = strdup(""), .path_room = 1};
    int r;

    if (!copier.path) return import_failed(import->progress, -ENOMEM, "%s: %s", import->source, log_reason(-ENOMEM));
    if (fstat(import->store_fd, &copier.forbidden[0]) < 0 || fstat(import->work_fd, &copier.forbidden[1]) < 0) {
        r = failed(&copier, -errno);
    } else {
        io_raise_nofile(); /* each level of the tree holds two descriptors */
        if (import->progress && import->progress->shown) copier.total = count_work(import->source_fd);
        r = copy_root(&copier);
    }
    release(&copier);
    return r;
}
