#include "view.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commit.h"
#include "content.h"
#include "fdcache.h"
#include "io.h"
#include "log.h"
#include "object.h"
#include "recovery.h"
#include "references.h"
#include "replay.h"
#include "room.h"

#define SHRINKS 8        /* in one round of the housekeeper's */
#define ROOM_ROWS 262144 /* free among the rows, for what may go into one */

struct learning {
    struct view *view;
    struct inomap *map;
};

/* What is not the image's is in the delta anyhow. */
static int learn_ino(uint64_t ino, void *data)
{
    struct learning *l = data;

    return view_image_ino(l->view, ino) ? inomap_add(l->map, ino, 1) : 0;
}

/* What the kernel of an earlier mount had open without a name is gone now; what it had open under an earlier daemon of
 * this mount is not. */
static int sweep(struct view *v, struct delta *d)
{
    uint64_t ino = 0;
    int r;

    commit_lock(delta_commit(d));
    r = delta_next_orphan(d, 0, &ino);
    commit_unlock(delta_commit(d));
    if (r <= 0) return r;
    r = commit_begin(delta_commit(d));
    if (r < 0) return r;
    for (ino = 0; (r = delta_next_orphan(d, ino, &ino)) > 0;) {
        r = view_orphan(v, d, ino);
        if (r < 0) break;
    }
    return view_end(v, d, r, VIEW_LAZY);
}

static int learn(struct view *v, struct delta *d)
{
    struct learning dirs = {v, &v->changed_dirs}, inodes = {v, &v->changed_inodes};
    int r = delta_each_dir(d, learn_ino, &dirs);

    return r < 0 ? r : delta_each_inode(d, v->image_base + image_count(v->image) + 1, learn_ino, &inodes);
}

/* Requests are under way when a delta `is_new`: what they read is compared, not written. */
static int check_base(struct view *v, const struct delta *d, bool is_new)
{
    if (!is_new) {
        v->image_base = delta_image_base(d);
        v->shift = delta_shift(d);
    } else if (v->image_base != delta_image_base(d) || v->shift != delta_shift(d)) {
        log_error("node %s: its new delta counts otherwise than it did without one", v->serial);
        return -EIO;
    }
    if (delta_image_count(d) == image_count(v->image) && strcmp(delta_image(d), image_name(v->image)) == 0) return 0;
    log_error("node %s: its changes stand on another image, %s of %u files", v->serial, delta_image(d),
              delta_image_count(d));
    return -EIO;
}

/* Of a delta that needs no recovery. */
static int take(struct view *v, struct delta *d)
{
    int r = check_base(v, d, false);

    if (r == 0) r = learn(v, d);
    if (r == 0) atomic_store(&v->delta, d);
    return r;
}

static int attach(struct view *v, const struct delta_base *create)
{
    _cleanup_free_ char *path = io_format("%s/%s", v->shared->nodes_path, v->serial);
    struct delta *d = NULL;
    int r;

    if (!path) return -ENOMEM;
    r = delta_open(&d, v->shared->nodes_fd, path, v->serial, v->shared->identity, create);
    if (r < 0) return r;
    r = check_base(v, d, create != NULL);
    commit_limit_wal(delta_commit(d), room_for_wal(v->shared->room));
    if (r == 0) replay_resolve(v->shared->handover, v->number, delta_batch(d));
    if (r == 0) r = recovery_run(d);
    if (r == 0) recovery_sweep(d);
    if (r == 0) r = learn(v, d);
    if (r == 0) r = sweep(v, d);
    if (r < 0) {
        delta_close(d);
        return r;
    }
    atomic_store(&v->delta, d);
    return 0;
}

/* Requests that come one after the other must not keep the snapshot waiting. */
static void init_freeze_lock(pthread_rwlock_t *lock)
{
    pthread_rwlockattr_t attributes;

    pthread_rwlockattr_init(&attributes);
    pthread_rwlockattr_setkind_np(&attributes, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(lock, &attributes);
    pthread_rwlockattr_destroy(&attributes);
}

static struct view *view_new(const struct view_shared *shared, uint32_t number, const char *serial, struct image *image)
{
    struct view *v = calloc(1, sizeof(*v));

    if (!v) return NULL;
    v->shared = shared;
    v->number = number;
    v->image = image_ref(image);
    v->image_base = DELTA_FIRST;
    v->serial = io_format("%s", serial);
    pthread_mutex_init(&v->create_lock, NULL);
    pthread_mutex_init(&v->references_lock, NULL);
    damage_init(&v->damage);
    for (int i = 0; i < VIEW_CONTENT_LOCKS; i++) pthread_rwlock_init(&v->content_locks[i], NULL);
    init_freeze_lock(&v->freeze_lock);
    return v;
}

int view_open(struct view **ret_view, const struct view_shared *shared, uint32_t number, const char *serial,
              struct image *image)
{
    struct view *v = view_new(shared, number, serial, image);
    int r;

    if (!v || !v->serial) {
        view_close(v);
        return -ENOMEM;
    }
    r = attach(v, NULL);
    if (r < 0 && r != -ENOENT) {
        log_error("node %s: its changes cannot be opened: %s", serial, log_reason(r));
        view_close(v);
        return r;
    }
    *ret_view = v;
    return 0;
}

int view_open_sealed(struct view **ret_view, const struct view_shared *shared, const char *serial, struct image *image)
{
    _cleanup_free_ char *path = io_format("%s/%s", shared->nodes_path, serial);
    struct view *v = view_new(shared, 0, serial, image);
    struct delta *d = NULL;
    int r = path && v && v->serial ? 0 : -ENOMEM;

    if (r == 0) r = delta_open_sealed(&d, shared->nodes_fd, path, serial, shared->identity);
    if (r == 0) r = take(v, d);
    if (r < 0) {
        if (d && !v->delta) delta_close(d);
        view_close(v);
        return r;
    }
    *ret_view = v;
    return 0;
}

void view_close(struct view *v)
{
    if (!v) return;
    fdcache_drop_owner(v->shared->files, v);
    delta_close(atomic_load(&v->delta));
    image_unref(v->image);
    inomap_clear(&v->changed_dirs);
    inomap_clear(&v->changed_inodes);
    inomap_clear(&v->orphans);
    damage_clear(&v->damage);
    pthread_mutex_destroy(&v->create_lock);
    pthread_mutex_destroy(&v->references_lock);
    for (int i = 0; i < VIEW_CONTENT_LOCKS; i++) pthread_rwlock_destroy(&v->content_locks[i]);
    pthread_rwlock_destroy(&v->freeze_lock);
    free(v->serial);
    free(v);
}

uint32_t view_image_ino(const struct view *v, uint64_t ino)
{
    if (ino == DELTA_ROOT) return 1;
    if (ino <= v->image_base + 1 || ino > v->image_base + image_count(v->image)) return 0;
    return ino - v->image_base;
}

uint64_t view_ino(const struct view *v, uint32_t image_ino)
{
    return image_ino == 1 ? DELTA_ROOT : v->image_base + image_ino;
}

struct identity_file view_wire(const struct view *v, uint64_t ino)
{
    return (struct identity_file){.node = v->number, .ino = ino == DELTA_ROOT ? ino : ino + v->shift};
}

uint64_t view_unwire(const struct view *v, uint64_t wire_ino)
{
    if (wire_ino == DELTA_ROOT) return DELTA_ROOT;
    return wire_ino < v->shift + DELTA_FIRST ? 0 : wire_ino - v->shift;
}

struct delta *view_lock(struct view *v)
{
    struct delta *d = atomic_load(&v->delta);

    if (d) commit_lock(delta_commit(d));
    return d;
}

void view_unlock(struct delta *d)
{
    if (d) commit_unlock(delta_commit(d));
}

static int make_delta(struct view *v)
{
    struct delta_base base = {.image = image_name(v->image), .image_count = image_count(v->image)};
    int r = 0;

    pthread_mutex_lock(&v->create_lock);
    if (!atomic_load(&v->delta)) {
        r = attach(v, &base);
        if (r < 0) log_error("node %s: no place for its changes could be made: %s", v->serial, log_reason(r));
    }
    pthread_mutex_unlock(&v->create_lock);
    return r;
}

int view_begin(struct view *v, struct delta **ret_delta)
{
    if (!atomic_load(&v->delta)) {
        int r = make_delta(v);

        if (r < 0) return r;
    }
    *ret_delta = atomic_load(&v->delta);
    int r = delta_reserve(*ret_delta);
    return r < 0 ? r : commit_begin(delta_commit(*ret_delta));
}

int view_end(struct view *v, struct delta *d, int error, enum view_promise promise)
{
    struct commit *c = delta_commit(d);
    struct commit_batch *batch = NULL;
    int r;

    damage_of_change(v, d, error);
    if (error == 0 && promise == VIEW_METADATA && replay_note(v->number, commit_sequence(c))) commit_seal(c);
    r = commit_end(c, error, &batch);
    if (r == 0 && promise == VIEW_METADATA && v->shared->sync) r = commit_wait(c, batch);
    else if (r == 0 && promise != VIEW_LAZY) r = commit_flush(c, batch);
    else if (r == 0) commit_release(c, batch);
    if (r < 0) replay_failed();
    return r;
}

void view_lock_contents(struct view *v, uint64_t ino, bool exclusive)
{
    pthread_rwlock_t *lock = &v->content_locks[ino % VIEW_CONTENT_LOCKS];

    pthread_rwlock_rdlock(&v->freeze_lock);
    if (exclusive) pthread_rwlock_wrlock(lock);
    else pthread_rwlock_rdlock(lock);
}

void view_unlock_contents(struct view *v, uint64_t ino)
{
    pthread_rwlock_unlock(&v->content_locks[ino % VIEW_CONTENT_LOCKS]);
    pthread_rwlock_unlock(&v->freeze_lock);
}

int view_freeze(struct view *v, int (*fn)(void *), void *data, uint64_t *ret_sequence)
{
    struct delta *d;
    int r;

    pthread_rwlock_wrlock(&v->freeze_lock);
    r = view_begin(v, &d);
    if (r == 0) r = view_end(v, d, delta_freeze(d), VIEW_CONTENTS); /* or a snapshot would have objects that are written to */
    if (r == 0) r = commit_pin(delta_commit(d), fn, data, ret_sequence);
    pthread_rwlock_unlock(&v->freeze_lock);
    return r;
}

int view_refer(struct view *v, uint64_t ino)
{
    return references_add(v->shared->handover, v->number, view_wire(v, ino).ino);
}

/* The row of an inode of the image stays, emptied, for its number must never mean the image's file again. */
static int end_inode(struct view *v, struct delta *d, uint64_t ino)
{
    struct delta_inode i;
    int r = delta_get_inode(d, ino, &i);

    if (r <= 0) return r;
    if (i.nlink > 0) return 0; /* the operation that took the last name was undone */
    /* Until now they kept the image's entries hidden from whoever still looks into the directory. */
    if (S_ISDIR(i.mode)) r = delta_remove_dirents(d, ino);
    if (r < 0) return r;
    if (i.object > 0) {
        fdcache_drop(v->shared->files, v, i.object);
        r = commit_drops_object(delta_commit(d), i.object);
        if (r < 0) return r;
    }
    for (uint64_t source = 0; r >= 0 && (r = delta_next_source(d, ino, source, &source)) > 0;) {
        fdcache_drop(v->shared->files, v, source);
        r = commit_drops_object(delta_commit(d), source);
    }
    if (r < 0) return r;
    if (!view_image_ino(v, ino)) return delta_remove_inode(d, ino);
    r = delta_clear_inode(d, ino);
    if (r < 0) return r;
    i = (struct delta_inode){.ino = ino, .object = DELTA_NO_OBJECT};
    return delta_set_inode(d, &i);
}

int view_orphan(struct view *v, struct delta *d, uint64_t ino)
{
    bool known;
    int r = 0;

    pthread_mutex_lock(&v->references_lock);
    known = references_get(v->shared->handover, v->number, view_wire(v, ino).ino) > 0;
    if (known && !inomap_get(&v->orphans, ino)) r = inomap_add(&v->orphans, ino, 1);
    pthread_mutex_unlock(&v->references_lock);
    if (r < 0) return r;
    return known ? 0 : end_inode(v, d, ino);
}

void view_forget(struct view *v, uint64_t ino, uint64_t count)
{
    struct delta *d;
    bool over;
    int r;

    pthread_mutex_lock(&v->references_lock);
    over = references_sub(v->shared->handover, v->number, view_wire(v, ino).ino, count) == 0 && inomap_get(&v->orphans, ino);
    if (over) inomap_sub(&v->orphans, ino, 1);
    pthread_mutex_unlock(&v->references_lock);
    if (!over) return;
    r = view_begin(v, &d);
    if (r == 0) r = view_end(v, d, end_inode(v, d, ino), VIEW_LAZY);
    if (r < 0) log_warning("node %s: inode %llu is unused and stays until the next mount: %s", v->serial,
                           (unsigned long long)ino, log_reason(r));
}

/* On a disk that is nearly full, what the database does not need is given back. */
static int give_back(struct view *v, struct delta *d)
{
    int r = 0;

    commit_limit_wal(delta_commit(d), room_for_wal(v->shared->room));
    for (int i = 0; i < SHRINKS && r == 0 && room_is_tight(v->shared->room); i++) {
        r = delta_shrink(d, ROOM_ROWS);
        if (r <= 0) return r;
        commit_shorten(delta_commit(d));
        r = commit_checkpoint(delta_commit(d), delta_path(d));
    }
    return r;
}

static int tidy(struct view *v, struct delta *d, int64_t now, int64_t age)
{
    int64_t since;
    int r = 0;

    if (commit_pending(delta_commit(d), &since)) r = (now - since >= age ? commit_sync : commit_write)(delta_commit(d));
    if (r == 0) r = give_back(v, d);
    return r < 0 ? r : commit_checkpoint(delta_commit(d), delta_path(d));
}

void view_tidy(struct view *v, int64_t now, int64_t age)
{
    struct delta *d = atomic_load(&v->delta);
    int r = d ? tidy(v, d, now, age) : 0;

    if (r == -EBUSY) return;
    if (r < 0 && r != v->tidy_error) log_warning("node %s: housekeeping: %s", v->serial, log_reason(r));
    v->tidy_error = r;
}

int view_sync(struct view *v)
{
    struct delta *d = atomic_load(&v->delta);

    return d ? commit_sync(delta_commit(d)) : 0;
}

int view_sync_object(struct view *v, int fd, bool metadata)
{
    int r = commit_object(fd, metadata);

    if (r < 0) commit_break(delta_commit(atomic_load(&v->delta)));
    return r;
}

/* What was small and is deleted leaves room in the database, not on the disk. */
static int check_rows(struct view *v, uint64_t size, int on_disk)
{
    bool in_row = size <= CONTENT_ROW_MAX;
    struct delta *d = atomic_load(&v->delta);
    uint64_t bytes, unused;

    if (!d || delta_space(d, &bytes, &unused) < 0) return on_disk;
    if (on_disk < 0 && (!in_row || unused < ROOM_ROWS + size)) return on_disk;
    return room_check_file(v->shared->room, bytes - unused + (in_row ? size : 0));
}

int view_check_room(struct view *v, uint64_t size)
{
    int r = room_take(v->shared->room, size);

    return r == -ENOSPC || room_limits_files(v->shared->room) ? check_rows(v, size, r) : r;
}

static int open_object(void *data, uint64_t object)
{
    struct view *v = data;

    return object_open(delta_objects_fd(atomic_load(&v->delta)), object, O_RDWR);
}

void view_put_file(struct view_file *file)
{
    if (file->entry) fdcache_put(file->files, file->entry);
}

static int open_file(struct view *v, const void *owner, uint64_t id, fdcache_open_fn open, void *data,
                     struct view_file *ret_file)
{
    struct fdcache_entry *entry;
    int fd = fdcache_get(v->shared->files, owner, id, open, data, &entry);

    if (fd >= 0) *ret_file = (struct view_file){v->shared->files, entry};
    return fd;
}

int view_open_object(struct view *v, uint64_t ino, uint64_t object, struct view_file *ret_file)
{
    int fd = open_file(v, v, object, open_object, v, ret_file);

    return fd >= 0 ? fd : damage_found(v, NULL, ino, fd, "object %llu", (unsigned long long)object);
}

static int open_image_file(void *data, uint64_t ino)
{
    return image_open_file(data, ino);
}

int view_open_image_file(struct view *v, uint32_t image_ino, struct view_file *ret_file)
{
    return open_file(v, v->image, image_ino, open_image_file, v->image, ret_file);
}
