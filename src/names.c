#include "names.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "acl.h"
#include "dirent.h"
#include "replay.h"

#define NAME_LENGTH 255
#define MAX_LINKS 65000 /* as ext4 */
#define DIR_SIZE 4096   /* what stat(2) shows of a directory, as ext4 for a small one */
#define MAX_DEPTH 65536 /* more directories above each other than any path reaches: the rows go in a circle */

/* A name in a directory, and what it means now. */
struct place {
    struct inode dir;
    const char *name;
    size_t length;
    bool exists;
    struct inode inode; /* if it exists */
};

/* What a name means: it must be there. */
static int get_named(struct view *v, struct delta *d, uint64_t ino, struct inode *ret)
{
    int r = inode_get(v, d, ino, ret);

    return r == -ESTALE ? damage_found(v, d, ino, 0, "its row is missing") : r;
}

static int find_place(struct view *v, struct delta *d, uint64_t dir, const char *name, struct place *p)
{
    struct dirent_found found;
    int r = inode_get_dir(v, d, dir, &p->dir);

    if (r < 0) return r;
    p->name = name;
    p->length = strlen(name);
    if (p->length > NAME_LENGTH) return -ENAMETOOLONG;
    r = dirent_find(v, d, dir, name, p->length, &found);
    p->exists = r > 0;
    return r > 0 ? get_named(v, d, found.ino, &p->inode) : r;
}

static int find_existing(struct view *v, struct delta *d, uint64_t dir, const char *name, struct place *p)
{
    int r = find_place(v, d, dir, name, p);

    return r == 0 && !p->exists ? -ENOENT : r;
}

/* The directory's names changed, and by `links` the number of directories in it. */
static int touch_dir(struct view *v, struct delta *d, struct inode *dir, int links)
{
    dir->row.nlink += links;
    return inode_put_modified(v, d, dir);
}

static int lookup_parent(const struct inode *inode, uint64_t *ret_ino)
{
    if (!S_ISDIR(inode->row.mode)) return -ENOTDIR;
    *ret_ino = inode->row.parent;
    return 0;
}

int names_explain(struct view *v, uint64_t dir, const char *name)
{
    struct delta *d = view_lock(v);
    struct dirent_found found;
    struct inode inode;
    int r = dirent_find(v, d, dir, name, strlen(name), &found);

    if (r > 0) r = get_named(v, d, found.ino, &inode);
    view_unlock(d);
    return r < 0 ? r : -ESTALE;
}

int names_lookup(struct view *v, uint64_t dir, const char *name, uint64_t *ret_ino)
{
    struct delta *d = view_lock(v);
    struct dirent_found found;
    struct inode inode;
    int r = inode_get(v, d, dir, &inode);

    if (r == 0 && strcmp(name, ".") == 0) {
        /* By handle: an inode without a name is over for whoever does not hold it open already. */
        r = inode.row.nlink == 0 ? -ESTALE : 0;
        *ret_ino = dir;
    } else if (r == 0 && strcmp(name, "..") == 0) {
        r = lookup_parent(&inode, ret_ino);
    } else if (r == 0) {
        r = S_ISDIR(inode.row.mode) ? dirent_find(v, d, dir, name, strlen(name), &found) : -ENOTDIR;
        if (r >= 0) *ret_ino = found.ino;
        r = r > 0 ? 0 : r < 0 ? r : -ENOENT;
    }
    view_unlock(d);
    return r;
}

static int name_it(struct view *v, struct delta *d, const struct place *at, const struct inode *inode)
{
    return dirent_set(v, d, at->dir.row.ino, at->name, at->length, inode->row.ino, inode_type(inode->row.mode));
}

/* Writes a new inode, filled in but for its number and owners, as one of that directory, but without a name in it. */
static int put_unnamed(struct view *v, struct delta *d, const struct names_caller *caller, struct inode *dir,
                       struct inode *inode, bool is_linked)
{
    bool is_dir = S_ISDIR(inode->row.mode);
    int r;

    inode->row.uid = caller->uid;
    inode->row.gid = caller->gid;
    if (dir->row.mode & S_ISGID) { /* mount(8), "grpid": the BSD way for this directory alone */
        inode->row.gid = dir->row.gid;
        if (is_dir) inode->row.mode |= S_ISGID;
    }
    inode->row.parent = is_dir ? dir->row.ino : 0;
    r = inode_new(d, inode);
    if (r == 0 && !is_linked) inode->row.nlink = 0;
    if (r == 0) r = acl_inherit(v, d, dir, inode, caller->umask);
    return r < 0 ? r : inode_put(v, d, inode);
}

/* The same, and gives it the name, whatever that meant. */
static int put_new(struct view *v, struct delta *d, const struct names_caller *caller, struct place *at)
{
    int r = put_unnamed(v, d, caller, &at->dir, &at->inode, true);

    return r < 0 ? r : name_it(v, d, at, &at->inode);
}

static int add_new(struct view *v, struct delta *d, const struct names_caller *caller, struct place *at)
{
    int r = put_new(v, d, caller, at);

    return r < 0 ? r : touch_dir(v, d, &at->dir, S_ISDIR(at->inode.row.mode));
}

static int make(struct view *v, struct delta *d, const struct names_caller *caller, uint64_t dir, const char *name,
                mode_t mode, dev_t rdev, struct place *p)
{
    int r = find_place(v, d, dir, name, p);

    if (r < 0) return r;
    if (p->exists) return -EEXIST;
    p->inode = (struct inode){.row = {.mode = mode, .rdev = rdev, .size = S_ISDIR(mode) ? DIR_SIZE : 0}};
    return add_new(v, d, caller, p);
}

int names_make(struct view *v, const struct names_caller *caller, uint64_t dir, const char *name, mode_t mode, dev_t rdev,
               uint64_t *ret_ino)
{
    struct delta *d;
    struct place p;
    int r = view_check_room(v, 0);

    if (r == 0) r = view_begin(v, &d);
    if (r < 0) return r;
    r = make(v, d, caller, dir, name, mode, rdev, &p);
    if (r == 0) replay_result(*ret_ino = p.inode.row.ino);
    return view_end(v, d, r, VIEW_METADATA);
}

static int make_unnamed(struct view *v, struct delta *d, const struct names_caller *caller, uint64_t dir, mode_t mode,
                        uint64_t *ret_ino)
{
    struct inode parent, inode = {.row = {.mode = mode}};
    int r = inode_get(v, d, dir, &parent);

    if (r < 0) return r;
    if (!S_ISDIR(parent.row.mode)) return -ENOTDIR;
    if (parent.row.nlink == 0) return -ENOENT;
    r = put_unnamed(v, d, caller, &parent, &inode, false);
    if (r < 0) return r;
    /* Referred to before it is an orphan, for an orphan that nobody refers to ends at once. */
    r = view_refer(v, inode.row.ino);
    if (r < 0) return r;
    *ret_ino = inode.row.ino;
    return view_orphan(v, d, inode.row.ino);
}

int names_make_unnamed(struct view *v, const struct names_caller *caller, uint64_t dir, mode_t mode, uint64_t *ret_ino)
{
    struct delta *d;
    uint64_t ino = 0;
    int r = view_check_room(v, 0);

    if (r == 0) r = view_begin(v, &d);
    if (r < 0) return r;
    r = view_end(v, d, make_unnamed(v, d, caller, dir, mode, &ino), VIEW_METADATA);
    if (r == 0) *ret_ino = ino;
    else if (ino) view_forget(v, ino, 1);
    return r;
}

static int make_symlink(struct view *v, struct delta *d, const struct names_caller *caller, uint64_t dir, const char *name,
                        const char *target, struct place *p)
{
    int r = find_place(v, d, dir, name, p);

    if (r < 0) return r;
    if (p->exists) return -EEXIST;
    p->inode = (struct inode){.row = {.mode = S_IFLNK | 0777, .size = strlen(target)}};
    r = add_new(v, d, caller, p);
    return r < 0 ? r : delta_set_content(d, p->inode.row.ino, target, p->inode.row.size);
}

int names_symlink(struct view *v, const struct names_caller *caller, uint64_t dir, const char *name, const char *target,
                  uint64_t *ret_ino)
{
    struct delta *d;
    struct place p;
    int r;

    if (strlen(target) > 4095) return -ENAMETOOLONG;
    r = view_check_room(v, 0);
    if (r == 0) r = view_begin(v, &d);
    if (r < 0) return r;
    r = make_symlink(v, d, caller, dir, name, target, &p);
    if (r == 0) replay_result(*ret_ino = p.inode.row.ino);
    return view_end(v, d, r, VIEW_METADATA);
}

static int make_link(struct view *v, struct delta *d, uint64_t ino, uint64_t dir, const char *name)
{
    struct inode inode;
    struct place p;
    int r = inode_get(v, d, ino, &inode);

    if (r == 0) r = find_place(v, d, dir, name, &p);
    if (r < 0) return r;
    if (S_ISDIR(inode.row.mode)) return -EPERM;
    if (p.exists) return -EEXIST;
    /* Without a name: O_TMPFILE's first. What lost its last one the kernel refuses, which knows the difference. */
    if (inode.row.nlink >= MAX_LINKS) return -EMLINK;
    inode.row.nlink++;
    r = inode_put_changed(v, d, &inode);
    if (r == 0) r = dirent_set(v, d, dir, name, p.length, ino, inode_type(inode.row.mode));
    return r < 0 ? r : touch_dir(v, d, &p.dir, 0);
}

int names_link(struct view *v, uint64_t ino, uint64_t dir, const char *name)
{
    struct delta *d;
    int r = view_check_room(v, 0);

    if (r == 0) r = view_begin(v, &d);
    return r < 0 ? r : view_end(v, d, make_link(v, d, ino, dir, name), VIEW_METADATA);
}

static int check_empty(struct view *v, struct delta *d, uint64_t dir)
{
    int r = dirent_is_empty(v, d, dir);

    return r < 0 ? r : r == 0 ? -ENOTEMPTY : 0;
}

static int remove_name(struct view *v, struct delta *d, uint64_t dir, const char *name, bool is_dir)
{
    struct place p;
    int r = find_existing(v, d, dir, name, &p);

    if (r < 0) return r;
    if (is_dir != S_ISDIR(p.inode.row.mode)) return is_dir ? -ENOTDIR : -EISDIR;
    if (is_dir) r = check_empty(v, d, p.inode.row.ino);
    if (r == 0) r = dirent_remove(v, d, dir, name, p.length);
    if (r == 0) r = inode_unlink(v, d, &p.inode);
    return r < 0 ? r : touch_dir(v, d, &p.dir, is_dir ? -1 : 0);
}

static int remove_once(struct view *v, uint64_t dir, const char *name, bool is_dir)
{
    struct delta *d;
    int r = view_begin(v, &d);

    return r < 0 ? r : view_end(v, d, remove_name(v, d, dir, name, is_dir), VIEW_METADATA);
}

/* On a full disk the failure itself has made room in the WAL: see commit.c. */
static int remove_twice(struct view *v, uint64_t dir, const char *name, bool is_dir)
{
    int r = remove_once(v, dir, name, is_dir);

    return r == -ENOSPC ? remove_once(v, dir, name, is_dir) : r;
}

int names_unlink(struct view *v, uint64_t dir, const char *name)
{
    return remove_twice(v, dir, name, false);
}

int names_rmdir(struct view *v, uint64_t dir, const char *name)
{
    return remove_twice(v, dir, name, true);
}

/* -EINVAL when `dir` lies in the tree below `ino`. */
static int check_outside(struct view *v, struct delta *d, uint64_t ino, uint64_t dir)
{
    for (int depth = 0; dir != DELTA_ROOT; depth++) {
        struct inode inode;
        int r = inode_get(v, d, dir, &inode);

        if (r < 0) return r;
        if (dir == ino) return -EINVAL;
        if (depth > MAX_DEPTH) return -EIO;
        dir = inode.row.parent;
    }
    return 0;
}

static int check_replace(struct view *v, struct delta *d, const struct place *from, const struct place *to)
{
    bool is_dir = S_ISDIR(from->inode.row.mode);

    if (!to->exists) return 0;
    if (is_dir != S_ISDIR(to->inode.row.mode)) return is_dir ? -ENOTDIR : -EISDIR;
    return is_dir ? check_empty(v, d, to->inode.row.ino) : 0;
}

/* The moved inode: its ctime and, for a directory, where it hangs. */
static int moved(struct view *v, struct delta *d, struct inode *inode, uint64_t to_dir)
{
    if (S_ISDIR(inode->row.mode)) inode->row.parent = to_dir;
    return inode_put_changed(v, d, inode);
}

/* Both directories, or the one, after `to_links` directories more in the one and `from_links` in the other. */
static int touch_dirs(struct view *v, struct delta *d, struct place *from, struct place *to, int from_links, int to_links)
{
    int r;

    if (from->dir.row.ino == to->dir.row.ino) return touch_dir(v, d, &from->dir, from_links + to_links);
    r = touch_dir(v, d, &from->dir, from_links);
    return r < 0 ? r : touch_dir(v, d, &to->dir, to_links);
}

static int exchange(struct view *v, struct delta *d, struct place *from, struct place *to)
{
    int from_dir = S_ISDIR(from->inode.row.mode), to_dir = S_ISDIR(to->inode.row.mode);
    int r = 0;

    if (from->inode.row.ino == to->inode.row.ino) return 0;
    if (to_dir) r = check_outside(v, d, to->inode.row.ino, from->dir.row.ino);
    if (r == 0) r = name_it(v, d, from, &to->inode);
    if (r == 0) r = name_it(v, d, to, &from->inode);
    if (r == 0) r = moved(v, d, &from->inode, to->dir.row.ino);
    if (r == 0) r = moved(v, d, &to->inode, from->dir.row.ino);
    return r < 0 ? r : touch_dirs(v, d, from, to, to_dir - from_dir, from_dir - to_dir);
}

/* What is left behind hides the name in a layer below an overlay: a device 0/0 (kernel: Documentation/filesystems/overlayfs.rst). */
static int leave_whiteout(struct view *v, struct delta *d, const struct names_caller *caller, const struct place *from)
{
    struct place left = {.dir = from->dir, .name = from->name, .length = from->length};

    left.inode = (struct inode){.row = {.mode = S_IFCHR}};
    return put_new(v, d, caller, &left);
}

static int move(struct view *v, struct delta *d, const struct names_caller *caller, struct place *from, struct place *to,
                bool whiteout)
{
    int is_dir = S_ISDIR(from->inode.row.mode);
    int r;

    if (to->exists && from->inode.row.ino == to->inode.row.ino) return 0; /* rename(2): two names of one file */
    r = check_replace(v, d, from, to);
    if (r < 0) return r;
    if (to->exists) r = inode_unlink(v, d, &to->inode);
    if (r == 0) r = name_it(v, d, to, &from->inode);
    if (r == 0 && whiteout) r = leave_whiteout(v, d, caller, from);
    else if (r == 0) r = dirent_remove(v, d, from->dir.row.ino, from->name, from->length);
    if (r == 0) r = moved(v, d, &from->inode, to->dir.row.ino);
    return r < 0 ? r : touch_dirs(v, d, from, to, -is_dir, is_dir && !to->exists);
}

static int do_rename(struct view *v, struct delta *d, const struct names_caller *caller, struct place *from, struct place *to,
                     unsigned flags)
{
    int r = 0;

    if (S_ISDIR(from->inode.row.mode)) r = check_outside(v, d, from->inode.row.ino, to->dir.row.ino);
    if (r < 0) return r;
    if (flags & RENAME_NOREPLACE && to->exists) return -EEXIST;
    if (!(flags & RENAME_EXCHANGE)) return move(v, d, caller, from, to, flags & RENAME_WHITEOUT);
    return to->exists ? exchange(v, d, from, to) : -ENOENT;
}

int names_rename(struct view *v, const struct names_caller *caller, uint64_t from_dir, const char *from, uint64_t to_dir,
                 const char *to, unsigned flags)
{
    struct place from_place, to_place;
    struct delta *d;
    int r;

    if (flags & ~(RENAME_NOREPLACE | RENAME_EXCHANGE | RENAME_WHITEOUT)) return -EINVAL;
    if (flags & RENAME_EXCHANGE && flags & (RENAME_NOREPLACE | RENAME_WHITEOUT)) return -EINVAL;
    r = view_begin(v, &d);
    if (r < 0) return r;
    r = find_existing(v, d, from_dir, from, &from_place);
    if (r == 0) r = find_place(v, d, to_dir, to, &to_place);
    if (r == 0) r = do_rename(v, d, caller, &from_place, &to_place, flags);
    return view_end(v, d, r, VIEW_METADATA);
}
