#include "change.h"

#include <errno.h>
#include <unistd.h>

#include "commit.h"
#include "fdcache.h"
#include "io.h"
#include "object.h"
#include "thaw.h"

static int cut_chunks(struct delta *d, struct inode *now, struct change *change)
{
    struct delta_chunk left;
    int r = change->cut == CUT_DISCARDED ? thaw_discard(d, now->row.ino, change->start, change->end)
                                         : delta_supersede_chunks(d, now->row.ino, change->start, change->end);

    if (r < 0) return r;
    change->superseded = r > 0;
    r = delta_next_chunk(d, now->row.ino, 0, &left);
    now->row.chunked = r > 0;
    return r < 0 ? r : 0;
}

/* A file with an object may have superseded chunks even if none is left to be seen. */
static bool has_chunks(const struct inode *before, const struct inode *now, const struct change *change)
{
    if (change->cut == CUT_NOTHING) return false;
    return now->row.chunked || (change->cut == CUT_DISCARDED && before->row.object > 0);
}

/* A power cut may now leave the object shorter than the file: see recovery.h. */
static bool has_grown(const struct delta_inode *before, const struct delta_inode *now)
{
    return now->object > 0 && (before->grown || now->size > before->size || now->object != before->object);
}

int change_store(struct view *v, struct delta *d, struct inode *now, struct change *change)
{
    struct inode inode;
    bool grown;
    int r = inode_get(v, d, now->row.ino, &inode);

    if (r == 0 && !inode.stored) r = inode_put(v, d, &inode);
    if (r == 0 && has_chunks(&inode, now, change)) r = cut_chunks(d, now, change);
    if (r < 0) return r;
    now->stored = true;
    grown = inode.row.grown;
    inode.row.grown = has_grown(&inode.row, &now->row);
    inode.row.size = now->row.size;
    inode.row.object = now->row.object;
    inode.row.chunked = now->row.chunked;
    r = grown == inode.row.grown ? inode_put_contents(d, &inode) : inode_put_modified(v, d, &inode);
    return r == 0 && change->also ? inode_apply(v, d, &inode, change->also) : r;
}

static int create_object(struct view *v, uint64_t *ret_object)
{
    struct delta *d;
    int r = view_begin(v, &d);

    if (r == 0) r = view_end(v, d, delta_new_ino(d, ret_object), VIEW_LAZY);
    return r < 0 ? r : object_create(delta_objects_fd(d), *ret_object);
}

static void remove_object(struct view *v, uint64_t object)
{
    fdcache_drop(v->shared->files, v, object);
    object_unlink(delta_objects_fd(atomic_load(&v->delta)), object);
}

/* What the old contents' range has of its own is then told by holes, not by where the object ends. */
static int lengthen(struct view *v, uint64_t ino, uint64_t object, uint64_t length)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd = view_open_object(v, ino, object, &file);

    if (fd < 0) return fd;
    return ftruncate(fd, length) < 0 ? -errno : 0;
}

int change_to_object(struct view *v, struct inode *inode, uint64_t length)
{
    uint64_t object;
    int r = create_object(v, &object);

    if (r < 0) return r;
    r = lengthen(v, inode->row.ino, object, length);
    if (r < 0) {
        remove_object(v, object);
        return r;
    }
    if (inode->row.object == DELTA_IN_ROW && inode->row.size > 0) inode->row.chunked = true;
    inode->row.object = object;
    return 0;
}

static int show_row(struct delta *d, const struct inode *before)
{
    struct delta_chunk whole = {.end = before->row.size, .source = DELTA_SOURCE_ROW};

    if (before->row.object != DELTA_IN_ROW || before->row.size == 0) return 0;
    return delta_add_chunk(d, before->row.ino, &whole);
}

/* Rows may reach the disk before the bytes and the name of the object do; commit learns what is to follow. */
static int store_in_object(struct view *v, struct delta *d, struct inode *now, const struct inode *before,
                           struct change *change)
{
    bool is_new = now->row.object != before->row.object;
    int r = is_new ? show_row(d, before) : 0;

    if (r == 0) r = change_store(v, d, now, change);
    if (r == 0 && is_new) {
        commit_adds_object(delta_commit(d));
        r = delta_add_fresh(d, now->row.ino, before->row.size);
    }
    if (r == 0 && change->superseded) r = commit_needs_object(delta_commit(d), now->row.object);
    return r;
}

/* All that a write inside the object can lose with its daemon is its mtime: the first write after a pause writes
 * it, those that follow within this time (in nanoseconds) leave it to the housekeeper's next round. */
#define LAZY_TIME INT64_C(1000000000)

/* Until the next tick of the clock (in nanoseconds) a further write changes no time, as on local file systems, which take it from
 * CLOCK_REALTIME_COARSE. What the last write set is one time twice. */
#define TICK INT64_C(4000000)

static bool leaves_row(const struct inode *now, const struct inode *before, enum view_promise promise)
{
    int64_t age = io_now() - before->row.mtime;

    return promise == VIEW_CONTENTS && now->row.object == before->row.object && now->row.size == before->row.size &&
           !before->row.chunked && before->row.mtime == before->row.ctime && age >= 0 && age < TICK;
}

int change_finish(struct view *v, struct inode *now, const struct inode *before, struct change *change, int error,
                  enum view_promise promise)
{
    bool is_new = now->row.object != before->row.object;
    struct delta *d;
    int r;

    if (error == 0 && !change->also && leaves_row(now, before, promise))
        return commit_check(delta_commit(atomic_load(&v->delta)));
    r = error < 0 ? error : view_begin(v, &d);

    if (r == 0) {
        r = store_in_object(v, d, now, before, change);
        if (promise == VIEW_CONTENTS && !is_new && now->row.size == before->row.size && !change->superseded &&
            io_now() - before->row.mtime < LAZY_TIME)
            promise = VIEW_LAZY;
        r = view_end(v, d, r, promise);
    }
    if (r < 0 && (error < 0 || r != -EIO) && is_new) remove_object(v, now->row.object);
    return r;
}
