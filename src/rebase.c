#include "rebase.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "dirent.h"
#include "io.h"
#include "linkmap.h"
#include "log.h"
#include "names.h"
#include "rebase_file.h"

#define BOTH_CHANGED "changed by the node and in the new image; the node's is kept, the new one is beside it"
#define BOTH_MADE "made by the node and new in the new image; the node's is kept, the new one is beside it"
#define NODE_REMOVED "removed by the node, changed in the new image; the new one is beside its place"
#define IMAGE_REMOVED "changed by the node, gone from the new image; the node's is kept"
#define NO_DIRECTORY "a directory of the node's changes, something else in the new image, which is beside it"

static const struct names_caller root = {0, 0, 0};

static const char *const package_lists[] = {"var/lib/dpkg/status", "var/lib/rpm/rpmdb.sqlite", "usr/lib/sysimage/rpm/rpmdb.sqlite",
                                            "var/lib/rpm/Packages", "lib/apk/db/installed", "usr/lib/apk/db/installed"};

struct merge {
    const char *serial;
    struct view *node, *base, *to;
    struct linkmap linkmap; /* inodes of the node that have several names → links */
    uint64_t *links;        /* what they are in the new view, by the map's number - 1 */
    size_t link_count;
    struct rebase_result *result;
};

/* A directory under way; 0: that tree has none there. */
struct level {
    const struct level *up;
    const char *name;
    uint64_t node, base;
    uint64_t *to; /* made when something needs it */
};

static char *path_of(const struct level *l, const char *name)
{
    _cleanup_free_ char *dir = l->up ? path_of(l->up, l->name) : NULL;

    return dir ? io_format("%s/%s", dir, name) : io_format("%s", name);
}

static int failed(struct merge *m, const struct level *l, const char *name, int r)
{
    _cleanup_free_ char *path = path_of(l, name);

    log_error("node %s: %s: cannot be taken over: %s", m->serial, path ? path : name, log_reason(r));
    return -ECANCELED;
}

static int conflict(struct merge *m, const struct level *l, const char *name, const char *what)
{
    struct rebase_conflict *grown = reallocarray(m->result->conflicts, m->result->count + 1, sizeof(*grown));
    char *path = path_of(l, name);

    if (grown) m->result->conflicts = grown;
    if (!grown || !path) {
        free(path);
        return -ENOMEM;
    }
    grown[m->result->count++] = (struct rebase_conflict){.path = path, .what = what};
    for (size_t i = 0; i < sizeof(package_lists) / sizeof(*package_lists); i++)
        if (strcmp(path, package_lists[i]) == 0) grown[m->result->count - 1].is_packages = true;
    return 0;
}

/* 0: there is no such name. */
static int find(struct view *v, uint64_t dir, const char *name, uint64_t *ret_ino)
{
    int r = dir ? names_lookup(v, dir, name, ret_ino) : -ENOENT;

    if (r == -ENOENT || r == -ENOTDIR) *ret_ino = 0;
    return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

static bool is_dir(struct view *v, uint64_t ino)
{
    struct inode inode;

    return ino && rebase_file_get((struct rebase_file){v, ino}, &inode) == 0 && S_ISDIR(inode.row.mode);
}

/* The name after the one at *cookie: 1, or 0 at the end. */
static int next(struct view *v, uint64_t dir, struct dirent_entry *e)
{
    struct delta *d = view_lock(v);
    int r = dirent_next(v, d, dir, e->cookie, e);

    view_unlock(d);
    return r;
}

/* ---- trees ---- */

static int same_tree(struct rebase_file a, struct rebase_file b);

/* 1: every name of `a` is in `b`, and means the same. */
static int holds_tree(struct rebase_file a, struct rebase_file b)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    int r;

    while ((r = next(a.view, a.ino, &e)) > 0) {
        uint64_t other;

        r = find(b.view, b.ino, e.name, &other);
        if (r == 0 && other) r = same_tree((struct rebase_file){a.view, e.ino}, (struct rebase_file){b.view, other});
        if (r <= 0) return r;
    }
    return r < 0 ? r : 1;
}

static int count_names(struct rebase_file f)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    int r, count = 0;

    while ((r = next(f.view, f.ino, &e)) > 0) count++;
    return r < 0 ? r : count;
}

static int same_tree(struct rebase_file a, struct rebase_file b)
{
    int r = rebase_file_same(a, b), n, k;

    if (r <= 0 || !is_dir(a.view, a.ino)) return r;
    n = count_names(a);
    k = count_names(b);
    if (n < 0 || k < 0) return n < 0 ? n : k;
    return n == k ? holds_tree(a, b) : 0;
}

static int remove_tree(struct view *v, uint64_t dir, const char *name, uint64_t ino)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    int r = 0;

    if (!is_dir(v, ino)) return names_unlink(v, dir, name);
    while ((r = next(v, ino, &e)) > 0) {
        r = remove_tree(v, ino, e.name, e.ino);
        if (r < 0) return r;
    }
    return r < 0 ? r : names_rmdir(v, dir, name);
}

/* The new image's version goes beside the name. */
static int put_aside(struct merge *m, uint64_t dir, const char *name)
{
    _cleanup_free_ char *beside = io_format("%.*s" REBASE_SUFFIX, (int)(255 - strlen(REBASE_SUFFIX)), name);

    return beside ? names_rename(m->to, &root, dir, name, dir, beside, RENAME_NOREPLACE) : -ENOMEM;
}

/* ---- what becomes of one name ---- */

/* The directory in the new view. */
static int need_dir(struct merge *m, const struct level *l)
{
    uint64_t other;
    int r;

    if (*l->to) return 0;
    r = need_dir(m, l->up);
    if (r == 0) r = find(m->to, *l->up->to, l->name, &other);
    if (r == 0 && other) {
        r = put_aside(m, *l->up->to, l->name);
        if (r == 0) r = conflict(m, l->up, l->name, NO_DIRECTORY);
    }
    if (r == 0) r = names_make(m->to, &root, *l->up->to, l->name, S_IFDIR | 0700, 0, l->to);
    return r < 0 ? r : rebase_file_dress((struct rebase_file){m->node, l->node}, (struct rebase_file){m->to, *l->to});
}

static int remember(struct merge *m, const struct inode *inode, uint64_t to)
{
    uint64_t *grown;

    if (inode->row.nlink < 2) return 0;
    grown = reallocarray(m->links, m->link_count + 1, sizeof(*grown));
    if (!grown) return -ENOMEM;
    m->links = grown;
    grown[m->link_count++] = to;
    return linkmap_put(&m->linkmap, 0, inode->row.ino, m->link_count);
}

static uint64_t known_as(const struct merge *m, const struct inode *inode)
{
    uint32_t number = inode->row.nlink > 1 ? linkmap_get(&m->linkmap, 0, inode->row.ino) : 0;

    return number ? m->links[number - 1] : 0;
}

static int make_symlink(struct merge *m, uint64_t dir, const char *name, uint64_t ino, uint64_t *ret_to)
{
    char target[PATH_MAX];
    int r = inode_readlink(m->node, ino, target, sizeof(target));

    return r < 0 ? r : names_symlink(m->to, &root, dir, name, target, ret_to);
}

static int create(struct merge *m, const struct level *l, const char *name, const struct inode *inode)
{
    struct rebase_file from = {m->node, inode->row.ino}, to = {m->to, known_as(m, inode)};
    uint32_t mode = inode->row.mode;
    int r = need_dir(m, l);

    if (r < 0) return r;
    if (to.ino) return names_link(m->to, to.ino, *l->to, name);
    if (S_ISLNK(mode)) r = make_symlink(m, *l->to, name, from.ino, &to.ino);
    else r = names_make(m->to, &root, *l->to, name, (mode & S_IFMT) | 0600, inode->row.rdev, &to.ino);
    if (r == 0 && S_ISREG(mode)) r = rebase_file_fill(from, to, false);
    if (r == 0) r = rebase_file_dress(from, to);
    return r < 0 ? r : remember(m, inode, to.ino);
}

/* The node's file is the image's, changed, and the new image has the same one. */
static int change(struct merge *m, const struct inode *inode, uint64_t to_ino)
{
    struct rebase_file from = {m->node, inode->row.ino}, to = {m->to, to_ino};
    int r = S_ISREG(inode->row.mode) ? rebase_file_fill(from, to, true) : 0;

    if (r == 0) r = rebase_file_dress(from, to);
    return r < 0 ? r : remember(m, inode, to_ino);
}

static bool is_changed(struct merge *m, const struct inode *inode, uint64_t base, int *ret_error)
{
    struct inode before;
    int r;

    *ret_error = 0;
    if (!base) return true;
    if (!inode->stored && view_image_ino(m->node, inode->row.ino) == view_image_ino(m->base, base)) {
        r = rebase_file_get((struct rebase_file){m->base, base}, &before);
        if (r == 0 && !before.stored) return false;
    } else r = rebase_file_get((struct rebase_file){m->base, base}, &before);
    if (r == 0 && inode->row.nlink > before.row.nlink) return true;
    if (r == 0) r = rebase_file_same((struct rebase_file){m->node, inode->row.ino}, (struct rebase_file){m->base, base});
    if (r < 0) *ret_error = r;
    return r == 0;
}

static bool is_images(struct view *v, uint64_t ino)
{
    struct inode inode;

    return view_image_ino(v, ino) && rebase_file_get((struct rebase_file){v, ino}, &inode) == 0 && !inode.stored;
}

/* `to` and `base` are the same: is the node's file the one that both images have there, changed? */
static bool is_change(struct merge *m, const struct inode *inode, uint64_t base, uint64_t to)
{
    return !S_ISLNK(inode->row.mode) && !known_as(m, inode) && is_images(m->to, to) && is_images(m->base, base) &&
           view_image_ino(m->node, inode->row.ino) == view_image_ino(m->base, base);
}

/* What the new image has in the name's place gives way. */
static int make_way(struct merge *m, const struct level *l, const char *name, uint64_t base, uint64_t to, const char *what)
{
    int r = base ? same_tree((struct rebase_file){m->to, to}, (struct rebase_file){m->base, base}) : 0;

    if (r != 0) return r < 0 ? r : remove_tree(m->to, *l->to, name, to);
    r = put_aside(m, *l->to, name);
    return r < 0 ? r : conflict(m, l, name, what);
}

/* 1: the new image has the same there, and as many names of it. */
static int is_there(struct merge *m, const struct inode *inode, uint64_t to)
{
    struct rebase_file mine = {m->node, inode->row.ino}, theirs = {m->to, to};
    struct inode other;
    int r = rebase_file_get(theirs, &other);

    if (r < 0 || (inode->row.nlink > 1 && inode->row.nlink != other.row.nlink)) return r;
    r = rebase_file_same(mine, theirs);
    if (r <= 0) return r;
    r = remember(m, inode, to); /* its other names are the same file there */
    return r < 0 ? r : 1;
}

static int merge_file(struct merge *m, const struct level *l, const char *name, const struct inode *inode, uint64_t base, uint64_t to)
{
    struct rebase_file theirs = {m->to, to}, before = {m->base, base};
    int r = 0;

    if (!is_changed(m, inode, base, &r)) return r;
    m->result->kept++;
    if (to && known_as(m, inode) == to) return 0;
    if (to && !known_as(m, inode) && (r = is_there(m, inode, to)) != 0) return r < 0 ? r : 0;
    if (to && base && is_change(m, inode, base, to) && (r = rebase_file_same(theirs, before)) != 0)
        return r < 0 ? r : change(m, inode, to);
    if (to) r = make_way(m, l, name, base, to, base ? BOTH_CHANGED : BOTH_MADE);
    else if (base) r = conflict(m, l, name, IMAGE_REMOVED);
    return r < 0 ? r : create(m, l, name, inode);
}

static int merge_level(struct merge *m, const struct level *l);

static int merge_dir(struct merge *m, const struct level *up, const char *name, uint64_t node, uint64_t base, uint64_t to)
{
    struct rebase_file mine = {m->node, node}, before = {m->base, is_dir(m->base, base) ? base : 0};
    uint64_t found = is_dir(m->to, to) ? to : 0;
    struct level l = {up, name, node, before.ino, &found};
    int r = 0, same = before.ino ? rebase_file_same(mine, before) : 0;

    if (same < 0) return same;
    if (!same) m->result->kept++;
    if (!before.ino && to && !found) r = make_way(m, up, name, base, to, base ? BOTH_CHANGED : BOTH_MADE);
    if (r == 0 && !same) r = need_dir(m, &l);
    if (r == 0) r = merge_level(m, &l);
    return r < 0 || same ? r : rebase_file_dress(mine, (struct rebase_file){m->to, found});
}

static int merge_name(struct merge *m, const struct level *l, const char *name, uint64_t node)
{
    struct rebase_file mine = {m->node, node};
    struct inode inode;
    uint64_t base, to;
    int r = find(m->base, l->base, name, &base);

    if (r == 0) r = find(m->to, *l->to, name, &to);
    if (r == 0) r = rebase_file_get(mine, &inode);
    if (r == 0 && S_ISDIR(inode.row.mode)) return merge_dir(m, l, name, node, base, to);
    if (r == 0) r = merge_file(m, l, name, &inode, base, to);
    return r < 0 && r != -ECANCELED ? failed(m, l, name, r) : r;
}

/* What the node has removed. */
static int merge_absent(struct merge *m, const struct level *l, const char *name, uint64_t base)
{
    uint64_t node, to;
    int r = find(m->node, l->node, name, &node);

    if (r < 0 || node) return r;
    m->result->kept++;
    r = find(m->to, *l->to, name, &to);
    if (r == 0 && to) r = make_way(m, l, name, base, to, NODE_REMOVED);
    return r < 0 ? failed(m, l, name, r) : 0;
}

static bool is_beside(const char *name)
{
    size_t length = strlen(name), suffix = strlen(REBASE_SUFFIX);

    return length > suffix && strcmp(name + length - suffix, REBASE_SUFFIX) == 0;
}

/* Those that an earlier rebase has put beside, or all others. One that the new image has put there is newer. */
static int merge_names(struct merge *m, const struct level *l, bool beside)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    int r;

    while ((r = next(m->node, l->node, &e)) > 0) {
        uint64_t to = 0;

        if (is_beside(e.name) != beside) continue;
        r = beside ? find(m->to, *l->to, e.name, &to) : 0;
        if (r == 0 && !to) r = merge_name(m, l, e.name, e.ino);
        if (r < 0) return r;
    }
    return r;
}

static int merge_level(struct merge *m, const struct level *l)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    int r = merge_names(m, l, false);

    while (r >= 0 && l->base && (r = next(m->base, l->base, &e)) > 0) r = merge_absent(m, l, e.name, e.ino);
    return r < 0 ? r : merge_names(m, l, true);
}

static int merge_root(struct merge *m)
{
    uint64_t to = DELTA_ROOT;
    struct level l = {.name = "", .node = DELTA_ROOT, .base = DELTA_ROOT, .to = &to};
    struct rebase_file mine = {m->node, DELTA_ROOT}, before = {m->base, DELTA_ROOT};
    int same = rebase_file_same(mine, before), r = same < 0 ? same : merge_level(m, &l);

    if (r == 0 && !same) r = rebase_file_dress(mine, (struct rebase_file){m->to, DELTA_ROOT});
    return r;
}

int rebase(const char *serial, struct view *node, struct view *base, struct view *to, struct rebase_result *ret_result)
{
    struct merge m = {.serial = serial, .node = node, .base = base, .to = to, .result = ret_result};
    int r;

    *ret_result = (struct rebase_result){0};
    r = merge_root(&m);
    if (r < 0 && r != -ECANCELED) log_error("node %s: its changes cannot be taken over: %s", serial, log_reason(r));
    linkmap_free(&m.linkmap);
    free(m.links);
    return r;
}

void rebase_result_free(struct rebase_result *result)
{
    for (size_t i = 0; i < result->count; i++) free(result->conflicts[i].path);
    free(result->conflicts);
}
