#include "inode.h"

#include <errno.h>
#include <string.h>

#include "acl.h"
#include "content.h"
#include "io.h"
#include "log.h"

#define NS INT64_C(1000000000)

struct delta_inode inode_of_image(const struct image_inode *i, uint64_t ino, uint32_t image_ino, uint64_t parent)
{
    return (struct delta_inode){
        .ino = ino,
        .image_ino = image_ino,
        .mode = i->mode,
        .uid = i->uid,
        .gid = i->gid,
        .nlink = i->nlink,
        .rdev = i->rdev,
        .size = i->size,
        .atime = i->mtime,
        .mtime = i->mtime,
        .ctime = i->ctime,
        .parent = S_ISDIR(i->mode) ? parent : 0,
        .object = DELTA_NO_OBJECT,
        .chunked = S_ISREG(i->mode) && i->size > 0,
    };
}

int inode_get(struct view *v, struct delta *d, uint64_t ino, struct inode *ret)
{
    uint32_t image_ino = view_image_ino(v, ino);
    const struct image_inode *i = image_ino ? image_inode(v->image, image_ino) : NULL;
    int r = 0;

    if (d && (!image_ino || inomap_get(&v->changed_inodes, ino))) r = delta_get_inode(d, ino, &ret->row);
    if (r < 0) return damage_found(v, d, ino, r, "its row");
    ret->stored = r > 0;
    if (ret->stored) return ret->row.mode ? 0 : -ESTALE;
    if (!i) return -ESTALE;
    ret->row = inode_of_image(i, ino, image_ino, view_ino(v, i->parent));
    return 0;
}

int inode_get_dir(struct view *v, struct delta *d, uint64_t ino, struct inode *ret)
{
    int r = inode_get(v, d, ino, ret);

    if (r < 0) return r;
    if (!S_ISDIR(ret->row.mode)) return -ENOTDIR;
    return ret->row.nlink == 0 ? -ENOENT : 0;
}

static int copy_xattr(const char *name, const void *value, size_t size, void *data)
{
    const struct {
        struct delta *delta;
        uint64_t ino;
    } *to = data;

    return delta_set_xattr(to->delta, to->ino, name, value, size);
}

static int copy_up(struct view *v, struct delta *d, const struct delta_inode *row)
{
    struct {
        struct delta *delta;
        uint64_t ino;
    } to = {d, row->ino};
    int r = view_image_ino(v, row->ino) ? inomap_add(&v->changed_inodes, row->ino, 1) : 0;

    if (r == 0) r = delta_add_inode(d, row);
    if (r == 0 && row->image_ino) r = image_xattrs(v->image, row->image_ino, copy_xattr, &to);
    if (r == 0 && row->chunked) {
        struct delta_chunk whole = {.end = image_inode(v->image, row->image_ino)->size};

        r = delta_add_chunk(d, row->ino, &whole);
    }
    return r;
}

int inode_put(struct view *v, struct delta *d, struct inode *inode)
{
    int r;

    if (inode->stored) return delta_set_inode(d, &inode->row);
    r = copy_up(v, d, &inode->row);
    inode->stored = r == 0;
    return r;
}

int inode_put_changed(struct view *v, struct delta *d, struct inode *inode)
{
    inode->row.ctime = io_now();
    return inode_put(v, d, inode);
}

int inode_put_modified(struct view *v, struct delta *d, struct inode *inode)
{
    inode->row.mtime = inode->row.ctime = io_now();
    return inode_put(v, d, inode);
}

int inode_put_contents(struct delta *d, struct inode *inode)
{
    inode->row.mtime = inode->row.ctime = io_now();
    return delta_set_contents(d, &inode->row);
}

int inode_new(struct delta *d, struct inode *inode)
{
    struct delta_inode *row = &inode->row;

    row->image_ino = 0;
    row->nlink = S_ISDIR(row->mode) ? 2 : 1;
    row->atime = row->mtime = row->ctime = io_now();
    row->object = DELTA_NO_OBJECT;
    row->chunked = false;
    inode->stored = false;
    return delta_new_ino(d, &row->ino);
}

int inode_unlink(struct view *v, struct delta *d, struct inode *inode)
{
    int r;

    if (S_ISDIR(inode->row.mode)) inode->row.nlink = 0;
    else if (inode->row.nlink > 0) inode->row.nlink--;
    r = inode_put_changed(v, d, inode);
    if (r == 0 && inode->row.nlink == 0) r = view_orphan(v, d, inode->row.ino);
    return r;
}

static struct timespec to_timespec(int64_t ns)
{
    struct timespec t = {.tv_sec = ns / NS, .tv_nsec = ns % NS};

    if (t.tv_nsec < 0) {
        t.tv_sec--;
        t.tv_nsec += NS;
    }
    return t;
}

static int64_t from_timespec(const struct timespec *t)
{
    return t->tv_sec * NS + t->tv_nsec;
}

int inode_stat(struct view *v, uint64_t ino, struct stat *st)
{
    struct delta *d = view_lock(v);
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    view_unlock(d);
    if (r < 0) return r;
    *st = (struct stat){
        .st_ino = identity_st_ino(view_wire(v, ino)),
        .st_mode = inode.row.mode,
        .st_nlink = inode.row.nlink,
        .st_uid = inode.row.uid,
        .st_gid = inode.row.gid,
        .st_rdev = inode.row.rdev,
        .st_size = inode.row.size,
        .st_blksize = 4096,
        .st_atim = to_timespec(inode.row.atime),
        .st_mtim = to_timespec(inode.row.mtime),
        .st_ctim = to_timespec(inode.row.ctime),
    };
    return content_blocks(v, &inode, &st->st_blocks);
}

static int change_mode(struct view *v, struct delta *d, struct inode *inode, uint32_t mode)
{
    inode->row.mode = (inode->row.mode & S_IFMT) | (mode & 07777);
    return acl_chmod(v, d, inode);
}

static void change_times(struct delta_inode *row, const struct stat *st, int set, int64_t now)
{
    if (set & INODE_ATIME) row->atime = set & INODE_ATIME_NOW ? now : from_timespec(&st->st_atim);
    if (set & INODE_MTIME) row->mtime = set & INODE_MTIME_NOW ? now : from_timespec(&st->st_mtim);
    row->ctime = now;
}

static uint32_t without_ids(uint32_t mode)
{
    if (S_ISDIR(mode)) return mode;
    return mode & ~(S_ISUID | (mode & S_IXGRP ? S_ISGID : 0));
}

int inode_apply(struct view *v, struct delta *d, struct inode *inode, const struct inode_change *change)
{
    int set = change->set, r;

    if (set & INODE_UID) inode->row.uid = change->stat->st_uid;
    if (set & INODE_GID) inode->row.gid = change->stat->st_gid;
    if (set & INODE_KILL_IDS) inode->row.mode = without_ids(inode->row.mode);
    change_times(&inode->row, change->stat, set, io_now());
    r = inode_put(v, d, inode);
    if (r < 0 || !(set & INODE_MODE)) return r;
    r = change_mode(v, d, inode, change->stat->st_mode);
    return r < 0 ? r : inode_put(v, d, inode);
}

int inode_change(struct view *v, uint64_t ino, const struct inode_change *change)
{
    struct inode inode;
    struct delta *d;
    int r = view_begin(v, &d);

    if (r < 0) return r;
    r = inode_get(v, d, ino, &inode);
    if (r == 0) r = inode_apply(v, d, &inode, change);
    return view_end(v, d, r, VIEW_METADATA);
}

int inode_clear_ids(struct view *v, uint64_t ino)
{
    static const struct inode_change change = {.set = INODE_KILL_IDS};
    struct delta *d = view_lock(v);
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    view_unlock(d);
    if (r < 0 || without_ids(inode.row.mode) == inode.row.mode) return r;
    r = inode_change(v, ino, &change);
    return r < 0 ? r : 1;
}

static int stored_target(struct view *v, struct delta *d, uint64_t ino, char *buffer, size_t size)
{
    size_t length;
    int r = delta_get_content(d, ino, buffer, size - 1, &length);

    if (r <= 0) return r < 0 ? damage_found(v, d, ino, r, "its target") : damage_found(v, d, ino, 0, "its target is missing");
    if (length >= size) return -ENAMETOOLONG;
    buffer[length] = '\0';
    return length;
}

int inode_readlink(struct view *v, uint64_t ino, char *buffer, size_t size)
{
    struct delta *d = view_lock(v);
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    if (r == 0 && !S_ISLNK(inode.row.mode)) r = -EINVAL;
    if (r == 0 && !inode.row.image_ino) r = stored_target(v, d, ino, buffer, size);
    view_unlock(d);
    if (r != 0 || !inode.row.image_ino) return r;
    return image_readlink(v->image, inode.row.image_ino, buffer, size);
}
