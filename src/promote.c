#include "promote.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "content.h"
#include "dirent.h"
#include "import_attrs.h"
#include "import_log.h"
#include "io.h"
#include "linkmap.h"
#include "log.h"
#include "longpath.h"
#include "names.h"
#include "template.h"
#include "xattr.h"

#define PIECE (1 << 20)
#define MAX_LINKS 40 /* as path_resolution(7) */

/* What makes a machine itself, besides what templates say. */
static const char *const identity_paths[] = {
    "etc/hostname", "etc/machine-id", "var/lib/dbus/machine-id", "var/lib/systemd/random-seed", "etc/ssh/ssh_host_*_key*",
};

/* A name in one directory, which the image does not take from the node. */
struct exception {
    uint64_t dir;
    char *name; /* may have wildcards */
};

struct builder {
    struct store *store;
    struct view *from;
    struct view *parent; /* the image without the node's changes */
    const char *serial;
    struct exception *exceptions;
    size_t exception_count;
    struct promote_kept *kept;
    struct progress *progress;
    int rootfs_fd;
    struct linkmap linkmap;
    char **links; /* first names of files that have several, by the map's number - 1 */
    size_t link_count;
    char *path; /* of what is at hand */
    char *buffer;
    bool no_clone;
};

static int failed(struct builder *b, int r)
{
    return import_failed(b->progress, r, "node %s: %s: %s", b->serial, *b->path ? b->path : "/", log_reason(r));
}

static int append(char ***list, size_t *count, const char *text)
{
    char **grown = reallocarray(*list, *count + 1, sizeof(*grown));

    if (!grown) return -ENOMEM;
    *list = grown;
    grown[*count] = strdup(text);
    return grown[*count] ? (int)++*count : -ENOMEM;
}

/* ---- what stays out ---- */

static int find_dir(struct view *v, uint64_t from, const char *path, int links, uint64_t *ret_dir);

/* One step down the path, by a symlink perhaps. */
static int step(struct view *v, uint64_t *dir, const char *name, int links)
{
    char target[PATH_MAX];
    struct stat st;
    uint64_t ino;
    int r = names_lookup(v, *dir, name, &ino);

    if (r == 0) r = inode_stat(v, ino, &st);
    if (r < 0) return r;
    if (S_ISDIR(st.st_mode)) {
        *dir = ino;
        return 0;
    }
    if (!S_ISLNK(st.st_mode)) return -ENOTDIR;
    if (links >= MAX_LINKS) return -ELOOP;
    r = inode_readlink(v, ino, target, sizeof(target));
    return r < 0 ? r : find_dir(v, *target == '/' ? DELTA_ROOT : *dir, target, links + 1, dir);
}

static int find_dir(struct view *v, uint64_t from, const char *path, int links, uint64_t *ret_dir)
{
    _cleanup_free_ char *copy = io_format("%s", path);
    char *rest = copy, *name;
    int r = 0;

    if (!copy) return -ENOMEM;
    while (r == 0 && (name = strsep(&rest, "/")))
        if (*name) r = step(v, &from, name, links);
    if (r == 0) *ret_dir = from;
    return r;
}

/* A directory that is not there has no such file. */
static int except(struct builder *b, const char *path)
{
    const char *cut = strrchr(path, '/');
    _cleanup_free_ char *dir = io_format("%.*s", cut ? (int)(cut - path) : 0, path);
    struct exception *grown = reallocarray(b->exceptions, b->exception_count + 1, sizeof(*grown));
    uint64_t ino;
    int r;

    if (grown) b->exceptions = grown;
    if (!dir || !grown) return -ENOMEM;
    r = find_dir(b->from, DELTA_ROOT, dir, 0, &ino);
    if (r < 0) return r == -ENOENT || r == -ENOTDIR || r == -ELOOP ? 0 : r;
    grown[b->exception_count] = (struct exception){ino, strdup(cut ? cut + 1 : path)};
    return grown[b->exception_count].name ? (int)++b->exception_count : -ENOMEM;
}

static int except_all(struct builder *b)
{
    _cleanup_files_ struct template_files files = {0};
    struct catalog_node node = {0};
    int r = catalog_node(b->store->catalog, b->serial, &node);

    if (r == 0) r = template_files(&files, b->store, &node, image_name(b->from->image));
    catalog_node_free(&node);
    for (size_t i = 0; r >= 0 && i < files.count; i++) r = except(b, files.items[i].path);
    for (size_t i = 0; r >= 0 && i < sizeof(identity_paths) / sizeof(*identity_paths); i++) r = except(b, identity_paths[i]);
    return r < 0 ? failed(b, r) : 0;
}

static bool is_excepted(const struct builder *b, uint64_t dir, const char *name)
{
    for (size_t i = 0; i < b->exception_count; i++)
        if (b->exceptions[i].dir == dir &&
            (strcmp(b->exceptions[i].name, name) == 0 || fnmatch(b->exceptions[i].name, name, 0) == 0)) return true;
    return false;
}

/* ---- one file ---- */

static int get(struct view *v, uint64_t ino, struct inode *ret)
{
    struct delta *d = view_lock(v);
    int r = inode_get(v, d, ino, ret);

    view_unlock(d);
    return r;
}

static int read_xattrs(struct builder *b, struct view *v, uint64_t ino, struct disk_xattrs *xattrs)
{
    ssize_t length = xattr_list(v, ino, NULL, 0);
    _cleanup_free_ char *names = NULL;

    if (length <= 0) return length;
    names = malloc(length);
    if (!names) return -ENOMEM;
    length = xattr_list(v, ino, names, length);
    for (const char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
        ssize_t size = xattr_get(v, ino, name, b->buffer, XATTR_SIZE);
        int r = size < 0 ? (int)size : disk_xattrs_add(xattrs, name, b->buffer, size);

        if (r < 0) return r;
    }
    return length < 0 ? (int)length : 0;
}

static int put_attrs(struct builder *b, struct view *v, const struct delta_inode *row, int dirfd, const char *name)
{
    int64_t sec = row->mtime / 1000000000, ns = row->mtime % 1000000000;
    _cleanup_import_attrs_ struct import_attrs attrs = {.mode = row->mode, .uid = row->uid, .gid = row->gid};
    const char *what;
    int r = read_xattrs(b, v, row->ino, &attrs.xattrs);

    attrs.mtime = (struct timespec){ns < 0 ? sec - 1 : sec, ns < 0 ? ns + 1000000000 : ns};
    if (r < 0) return failed(b, r);
    r = import_attrs_apply(&attrs, dirfd, name, &what);
    return r < 0 ? import_failed(b->progress, r, "node %s: %s: cannot keep its %s: %s", b->serial, b->path, what, log_reason(r)) : 0;
}

static int copy_range(struct builder *b, struct view *v, uint64_t ino, int to, off_t offset, off_t end)
{
    while (offset < end) {
        ssize_t size = content_read(v, ino, b->buffer, end - offset < PIECE ? end - offset : PIECE, offset);
        int r = size > 0 ? io_pwrite(to, b->buffer, size, offset) : size < 0 ? (int)size : -EIO;

        if (r < 0) return r;
        progress_add(b->progress, 0, size);
        offset += size;
    }
    return 0;
}

static int copy_contents(struct builder *b, struct view *v, const struct delta_inode *row, int to)
{
    off_t size = row->size, data = 0, hole;
    int r = 0;

    if (ftruncate(to, size) < 0) return -errno;
    for (off_t at = 0; r == 0 && at < size; at = hole) {
        data = content_seek(v, row->ino, at, SEEK_DATA);
        if (data == -ENXIO) return 0;
        hole = data < 0 ? data : content_seek(v, row->ino, data, SEEK_HOLE);
        if (hole < 0) return (int)hole;
        r = copy_range(b, v, row->ino, to, data, hole < size ? hole : size);
    }
    return r;
}

/* 1: the image's file is there, reflinked; 2: by another name of it, which has its attributes too. */
static int share(struct builder *b, const struct inode *inode, int dirfd, const char *name)
{
    _cleanup_close_ int from = image_open_file(b->from->image, inode->row.image_ino), to = -1;

    if (from < 0) return from;
    if (b->no_clone) return linkat(from, "", dirfd, name, AT_EMPTY_PATH) == 0 ? 2 : 0;
    to = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0) return -errno;
    if (ioctl(to, FICLONE, from) == 0) return 1;
    b->no_clone = true;
    if (unlinkat(dirfd, name, 0) < 0) return -errno;
    return linkat(from, "", dirfd, name, AT_EMPTY_PATH) == 0 ? 2 : 0;
}

/* 1: attributes and all. */
static int put_regular(struct builder *b, struct view *v, const struct inode *inode, int dirfd, const char *name)
{
    _cleanup_close_ int to = -1;
    int r = !inode->stored && inode->row.size > 0 ? share(b, inode, dirfd, name) : 0;

    if (r != 0) return r < 0 ? failed(b, r) : r - 1;
    to = openat(dirfd, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (to < 0) return failed(b, -errno);
    r = copy_contents(b, v, &inode->row, to);
    return r < 0 ? failed(b, r) : 0;
}

static int put_symlink(struct builder *b, struct view *v, uint64_t ino, int dirfd, const char *name)
{
    char target[PATH_MAX];
    int r = inode_readlink(v, ino, target, sizeof(target));

    if (r >= 0) r = symlinkat(target, dirfd, name) < 0 ? -errno : 0;
    return r < 0 ? failed(b, r) : 0;
}

static int put_file(struct builder *b, struct view *v, const struct inode *inode, int dirfd, const char *name)
{
    const struct delta_inode *row = &inode->row;
    int r;

    if (S_ISREG(row->mode)) r = put_regular(b, v, inode, dirfd, name);
    else if (S_ISLNK(row->mode)) r = put_symlink(b, v, row->ino, dirfd, name);
    else r = mknodat(dirfd, name, row->mode, row->rdev) < 0 ? failed(b, -errno) : 0;
    if (r != 0) return r < 0 ? r : 0;
    return put_attrs(b, v, row, dirfd, name);
}

static int link_first(struct builder *b, uint32_t number, int dirfd, const char *name)
{
    _cleanup_free_ char *first = strdup(b->links[number - 1]);
    _cleanup_close_ int fd = first ? longpath_open(b->rootfs_fd, first, O_PATH | O_NOFOLLOW) : -ENOMEM;

    if (fd < 0) return failed(b, fd);
    return linkat(fd, "", dirfd, name, AT_EMPTY_PATH) < 0 ? failed(b, -errno) : 0;
}

/* The parent's own files in place of the node's have no other names here. */
static int put_linked(struct builder *b, struct view *v, const struct inode *inode, int dirfd, const char *name)
{
    bool several = inode->row.nlink > 1 && v == b->from;
    uint32_t number = several ? linkmap_get(&b->linkmap, 0, inode->row.ino) : 0;
    int r;

    if (number) return link_first(b, number, dirfd, name);
    r = put_file(b, v, inode, dirfd, name);
    if (r < 0 || !several) return r;
    r = append(&b->links, &b->link_count, b->path);
    if (r > 0) r = linkmap_put(&b->linkmap, 0, inode->row.ino, b->link_count);
    return r < 0 ? failed(b, r) : 0;
}

/* ---- directories ---- */

static int put_names(struct builder *b, uint64_t dir, int fd);

static int put_directory(struct builder *b, const struct inode *inode, int dirfd, const char *name)
{
    _cleanup_close_ int fd = -1;
    int r;

    if (mkdirat(dirfd, name, 0700) < 0) return failed(b, -errno);
    fd = io_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return failed(b, fd);
    r = put_names(b, inode->row.ino, fd);
    return r < 0 ? r : put_attrs(b, b->from, &inode->row, dirfd, name);
}

/* As the parent has it, if it does. */
static int put_parents(struct builder *b, uint64_t dir, int dirfd, const char *name)
{
    uint32_t image_dir = view_image_ino(b->from, dir);
    int64_t entry = image_dir ? image_lookup(b->from->image, image_dir, name, strlen(name)) : -1;
    struct inode inode;
    int r;

    if (entry < 0) return 0;
    r = get(b->parent, view_ino(b->parent, image_entry(b->from->image, entry)->ino), &inode);
    if (r < 0) return failed(b, r);
    return S_ISDIR(inode.row.mode) ? 0 : put_linked(b, b->parent, &inode, dirfd, name);
}

/* `ino` 0: the node does not have the name. */
static int put_entry(struct builder *b, uint64_t dir, int fd, const char *name, uint64_t ino)
{
    struct inode inode = {0};
    char *outer = b->path;
    int r = ino ? get(b->from, ino, &inode) : 0;

    b->path = *outer ? io_format("%s/%s", outer, name) : io_format("%s", name);
    if (!b->path) {
        b->path = outer;
        return failed(b, -ENOMEM);
    }
    if (r < 0) r = failed(b, r);
    else if (S_ISDIR(inode.row.mode)) r = put_directory(b, &inode, fd, name);
    else if (is_excepted(b, dir, name)) {
        if (ino && (inode.stored || !view_image_ino(b->from, ino))) r = append(&b->kept->paths, &b->kept->count, b->path);
        if (r >= 0) r = put_parents(b, dir, fd, name);
    } else if (ino) r = put_linked(b, b->from, &inode, fd, name);
    progress_add(b->progress, 1, 0);
    free(b->path);
    b->path = outer;
    return r < 0 ? r : 0;
}

/* What the node has removed of the parent's, because it is its own affair. */
static int put_removed(struct builder *b, uint64_t dir, int fd)
{
    uint32_t image_dir = view_image_ino(b->from, dir);
    const struct image_inode *i = image_dir ? image_inode(b->from->image, image_dir) : NULL;
    int r = 0;

    for (uint32_t n = 0; i && r == 0 && n < i->entries; n++) {
        const struct image_entry *entry = image_entry(b->from->image, i->first_entry + n);
        char name[256];
        uint64_t ino;

        snprintf(name, sizeof(name), "%.*s", (int)entry->length, entry->name);
        if (!is_excepted(b, dir, name)) continue;
        if (names_lookup(b->from, dir, name, &ino) == -ENOENT) r = put_entry(b, dir, fd, name, 0);
    }
    return r;
}

static int put_names(struct builder *b, uint64_t dir, int fd)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    int r;

    for (;;) {
        struct delta *d = view_lock(b->from);

        r = dirent_next(b->from, d, dir, e.cookie, &e);
        view_unlock(d);
        if (r <= 0) break;
        r = put_entry(b, dir, fd, e.name, e.ino);
        if (r < 0) return r;
    }
    return r < 0 ? failed(b, r) : put_removed(b, dir, fd);
}

static int fill(int rootfs_fd, struct progress *progress, void *data)
{
    struct builder *b = data;
    struct inode root;
    int r;

    b->rootfs_fd = rootfs_fd;
    b->progress = progress;
    r = except_all(b);
    if (r == 0) r = put_names(b, DELTA_ROOT, rootfs_fd);
    if (r == 0 && (r = get(b->from, DELTA_ROOT, &root)) < 0) failed(b, r);
    return r < 0 ? r : put_attrs(b, b->from, &root.row, rootfs_fd, ".");
}

static void release(struct builder *b)
{
    for (size_t i = 0; i < b->exception_count; i++) free(b->exceptions[i].name);
    for (size_t i = 0; i < b->link_count; i++) free(b->links[i]);
    free(b->exceptions);
    free(b->links);
    linkmap_free(&b->linkmap);
    free(b->path);
    free(b->buffer);
}

int promote(struct store *store, const char *name, struct view *view, struct view *parent, const char *serial, const char *source,
            struct promote_kept *ret_kept)
{
    struct builder b = {.store = store, .from = view, .parent = parent, .serial = serial, .kept = ret_kept, .path = strdup(""),
                        .buffer = malloc(PIECE)};
    struct import_maker maker = {.source = source, .parent = image_name(view->image), .fill = fill, .data = &b};
    int r = b.path && b.buffer ? 0 : -ENOMEM;

    *ret_kept = (struct promote_kept){0};
    if (r == 0) r = import_made(store, name, &maker);
    else log_error("image %s: %s", name, log_reason(r));
    release(&b);
    return r;
}

void promote_kept_free(struct promote_kept *kept)
{
    for (size_t i = 0; i < kept->count; i++) free(kept->paths[i]);
    free(kept->paths);
}
