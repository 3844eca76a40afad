/* view: what one node sees: its image and, over it, its delta.
 *
 * This file holds the pieces that all operations share; the operations are in inode.h (attributes), dirent.h (one
 * name), names.h (changes of names), content.h (bytes) and xattr.h.
 *
 * Locks, in the order in which they are taken: freeze_lock, a content lock, the delta's commit lock, references_lock.
 * A view without changes has no delta at all: it is made by the first view_begin(). */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "damage.h"
#include "delta.h"
#include "identity.h"
#include "image.h"
#include "inomap.h"

struct fdcache;
struct handover;
struct room;

#define VIEW_CONTENT_LOCKS 64

/* What every view of a mount shares; outlives them. */
struct view_shared {
    const struct identity *identity;
    struct fdcache *files;
    struct room *room;
    struct handover *handover; /* the kernel's references, and what an earlier daemon had executed */
    int nodes_fd;
    const char *nodes_path;
    bool sync; /* every metadata operation is durable before its reply */
};

struct view {
    const struct view_shared *shared;
    uint32_t number;
    char *serial;
    struct image *image;
    uint64_t image_base, shift;

    pthread_mutex_t create_lock; /* held while the delta is made */
    _Atomic(struct delta *) delta;

    /* Guarded by the delta's commit lock: what may differ from the image. Never too few, sometimes too many. */
    struct inomap changed_dirs;   /* directories with rows in dirent */
    struct inomap changed_inodes; /* inodes of the image with rows in inode */

    pthread_mutex_t references_lock; /* guards orphans, and makes one step of counting and looking there */
    struct inomap orphans;           /* inodes without a name that the kernel still refers to */

    struct damage damage;

    uint64_t settled; /* objects of lower numbers are shared, and on the disk; of whoever takes snapshots, one at a time */
    int tidy_error; /* the last, so that it is told once; the housekeeper's own */
    /* Shared by whoever uses contents, exclusive for the instant in which a snapshot comes to share all objects. Never taken twice by one
     * thread: a snapshot that comes between would wait for it, and it for the snapshot. */
    pthread_rwlock_t freeze_lock;

    /* Guards an inode's contents, by number: for reading shared, for writing exclusive. */
    pthread_rwlock_t content_locks[VIEW_CONTENT_LOCKS];
};

/* `image` is borrowed a reference of. -EIO: the delta is damaged; -EPROTO: made by a newer version (both logged). */
int view_open(struct view **ret_view, const struct view_shared *shared, uint32_t number, const char *serial, struct image *image);
/* A view that nobody writes any more, for reading: nodes_fd/SERIAL holds a snapshot. -EIO: damaged. */
int view_open_sealed(struct view **ret_view, const struct view_shared *shared, const char *serial, struct image *image);
/* Makes everything durable first. No operation may be running. */
void view_close(struct view *view);

/* The inode of the image behind this number, or 0. */
uint32_t view_image_ino(const struct view *view, uint64_t ino);
uint64_t view_ino(const struct view *view, uint32_t image_ino);

/* The number as it leaves the daemon, and back: 0 when it never left. */
struct identity_file view_wire(const struct view *view, uint64_t ino);
uint64_t view_unwire(const struct view *view, uint64_t wire_ino);

/* For reading: takes the delta's lock if there is a delta, which is returned. */
struct delta *view_lock(struct view *view);
void view_unlock(struct delta *delta);

/* For an operation that writes: makes the delta if there is none, begins, returns with the lock held and view->delta set. */
int view_begin(struct view *view, struct delta **ret_delta);

/* Ends it, undoing everything when `error` is not 0. Returns when the operation is as durable as the mount promises for
 * changes of metadata (VIEW_METADATA), when it outlives the daemon (VIEW_CONTENTS), or at once (VIEW_LAZY). When it fails, nothing of the
 * operation stays, but for -EIO: then nobody knows. */
enum view_promise { VIEW_METADATA, VIEW_CONTENTS, VIEW_LAZY };
int view_end(struct view *view, struct delta *delta, int error, enum view_promise promise);

void view_lock_contents(struct view *view, uint64_t ino, bool exclusive);
void view_unlock_contents(struct view *view, uint64_t ino);

/* The kernel learned of the inode once more; forgot `count` of these. The last forgetting of an inode without a name ends it. */
int view_refer(struct view *view, uint64_t ino);
void view_forget(struct view *view, uint64_t ino, uint64_t count);

/* The inode has lost its last name: ends at once if the kernel does not know it, else with view_forget(). Within begin and end. */
int view_orphan(struct view *view, struct delta *delta, uint64_t ino);

/* Makes all contents shared, and calls `fn` in that instant: see commit_pin(), of which this is one. */
int view_freeze(struct view *view, int (*fn)(void *data), void *data, uint64_t *ret_sequence);

/* Writes what was left lazy, makes durable what is older than `age` seconds, and keeps the WAL short. For the housekeeper. */
void view_tidy(struct view *view, int64_t now, int64_t age);

/* Makes durable all that was executed. */
int view_sync(struct view *view);

/* commit_object() of one of the node's objects. When it fails nothing more is written, as after any fsync that failed: what is tried
 * again would succeed without the bytes. */
int view_sync_object(struct view *view, int object_fd, bool metadata);

/* -ENOSPC when so many bytes more would leave too little of the disk for deleting. For whatever adds something. */
int view_check_room(struct view *view, uint64_t size);

/* One of the node's objects, or a file of its image, in use: _cleanup_view_file_ struct view_file file = {0}. */
struct fdcache_entry;
struct view_file {
    struct fdcache *files;
    struct fdcache_entry *entry;
};
void view_put_file(struct view_file *file);
#define _cleanup_view_file_ __attribute__((cleanup(view_put_file)))

/* The descriptor, usable while *ret_file is, or negative errno; what is wrong with an object is told as damage of inode `ino`. */
int view_open_object(struct view *view, uint64_t ino, uint64_t object, struct view_file *ret_file);
int view_open_image_file(struct view *view, uint32_t image_ino, struct view_file *ret_file);
