#include "commit.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "db.h"
#include "io.h"
#include "log.h"
#include "object.h"

/* A WAL of this many pages (4 MiB) is moved into the database; the file stays that long and is used again. */
#define CHECKPOINT_PAGES 1000
#define SYNC_FAILED "%s: sync failed, no more changes are taken until the next mount"
#define MANY_OBJECTS 256 /* are synced with their file system: each for itself would cost a commit of its journal */
#define FRAME 4120 /* bytes of a page in the WAL */

struct commit_batch {
    int references; /* guarded by commit.state_lock */
    int error;      /* set when the batch is closed */
    uint64_t sequence;
};

struct object_list {
    uint64_t *ids;
    size_t count, room;
};

struct commit {
    struct db *db;
    int objects_fd;
    char *name;

    pthread_mutex_t lock; /* guards db and the fields up to the next mutex */
    db_stmt *begin, *commit, *rollback, *savepoint, *keep, *undo;
    struct commit_batch *batch;   /* the open transaction's, NULL between transactions */
    uint64_t sequence;            /* of the newest batch */
    struct object_list needed;    /* contents that rows speak of, perhaps not on the disk */
    struct object_list dropped;   /* objects that the open batch ends */
    size_t needed_before, dropped_before; /* lengths when the running operation began */
    struct object_list doomed;    /* objects that written batches ended: unlinked once those are durable */
    unsigned pins;                /* who needs doomed objects to stay */
    bool new_names;               /* objects were made whose names are perhaps not on the disk */
    bool unsettled;               /* either was the case since the last time `settle` was called */
    int wal_most, wal_next;       /* pages behind which whoever commits moves the WAL; where that is tried next */
    bool moving;                  /* commit_checkpoint() moves it, and nobody else can meanwhile */
    pthread_cond_t moved;         /* that has changed */
    bool leaves_wal;              /* see commit_leave_wal() */
    bool shorten;                 /* the WAL's file, or the database's, is longer than it need be */
    commit_settle_fn settle;
    commit_undone_fn undone;
    void *data; /* of these, and of `record` */
    commit_record_fn record;
    bool sealed;                  /* the open batch, whose number is committed with it */
    int64_t since;                /* when the oldest batch that is not durable began */

    pthread_mutex_t state_lock; /* guards the fields below and the batches' references; taken last */
    pthread_cond_t changed;
    bool leading;               /* somebody is making batches durable */
    uint64_t durable;           /* sequence up to which batches are */
    int broken;                 /* -EIO once an fsync failed */
};

static int64_t seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

/* Room for so many more. */
static int object_list_reserve(struct object_list *list, size_t more)
{
    uint64_t *ids;

    if (list->count + more <= list->room) return 0;
    ids = reallocarray(list->ids, list->count + more, sizeof(*ids));
    if (!ids) return -ENOMEM;
    list->ids = ids;
    list->room = list->count + more;
    return 0;
}

static int object_list_add(struct object_list *list, uint64_t id)
{
    for (size_t i = list->count; i > 0 && i + 8 > list->count; i--)
        if (list->ids[i - 1] == id) return 0;
    if (list->count == list->room) {
        int r = object_list_reserve(list, list->room ? list->room : 16);

        if (r < 0) return r;
    }
    list->ids[list->count++] = id;
    return 0;
}

/* There is room. */
static void object_list_move(struct object_list *to, struct object_list *from)
{
    for (size_t i = 0; i < from->count; i++) to->ids[to->count++] = from->ids[i];
    from->count = 0;
}

static struct object_list object_list_take(struct object_list *list)
{
    struct object_list taken = *list;

    *list = (struct object_list){0};
    return taken;
}

int commit_new(struct commit **ret_commit, struct db *db, int objects_fd, const char *name, commit_settle_fn settle,
               commit_undone_fn undone, void *data)
{
    struct commit *c = calloc(1, sizeof(*c));
    const struct {
        db_stmt **statement;
        const char *sql;
    } statements[] = {{&c->begin, "BEGIN"},          {&c->commit, "COMMIT"},     {&c->rollback, "ROLLBACK"},
                      {&c->savepoint, "SAVEPOINT op"}, {&c->keep, "RELEASE op"}, {&c->undo, "ROLLBACK TO op"}};
    int r;

    if (!c) return -ENOMEM;
    c->db = db;
    c->objects_fd = objects_fd;
    c->name = io_format("%s", name);
    c->wal_most = c->wal_next = INT_MAX;
    c->settle = settle;
    c->undone = undone;
    c->data = data;
    pthread_mutex_init(&c->lock, NULL);
    pthread_mutex_init(&c->state_lock, NULL);
    pthread_cond_init(&c->changed, NULL);
    pthread_cond_init(&c->moved, NULL);
    for (size_t i = 0; i < sizeof(statements) / sizeof(*statements); i++) {
        r = db_prepare(db, statements[i].statement, statements[i].sql);

        if (r < 0) {
            commit_free(c);
            return r;
        }
    }
    r = db_keep_reading(db);
    if (r < 0) {
        commit_free(c);
        return r;
    }
    *ret_commit = c;
    return 0;
}

void commit_lock(struct commit *c)
{
    pthread_mutex_lock(&c->lock);
}

void commit_unlock(struct commit *c)
{
    pthread_mutex_unlock(&c->lock);
}

int commit_check(struct commit *c)
{
    pthread_mutex_lock(&c->state_lock);
    int r = c->broken;
    pthread_mutex_unlock(&c->state_lock);
    return r;
}

static void batch_unref(struct commit *c, struct commit_batch *batch)
{
    pthread_mutex_lock(&c->state_lock);
    bool last = --batch->references == 0;
    pthread_mutex_unlock(&c->state_lock);
    if (last) free(batch);
}

static struct commit_batch *batch_ref(struct commit *c, struct commit_batch *batch)
{
    pthread_mutex_lock(&c->state_lock);
    batch->references++;
    pthread_mutex_unlock(&c->state_lock);
    return batch;
}

/* The open batch is over, for good or ill. Lock held. */
static void batch_close(struct commit *c, int error)
{
    struct commit_batch *batch = c->batch;

    c->batch = NULL;
    c->sealed = false;
    pthread_mutex_lock(&c->state_lock);
    batch->error = error;
    pthread_mutex_unlock(&c->state_lock);
    batch_unref(c, batch);
}

static void batch_fail(struct commit *c, int error)
{
    db_run(c->rollback); /* fails where SQLite has rolled back by itself, which is as good */
    if (c->undone) c->undone(c->data);
    c->dropped.count = 0;
    batch_close(c, error);
}

void commit_number(struct commit *c, uint64_t batch, commit_record_fn record)
{
    c->sequence = c->durable = batch;
    c->record = record;
}

void commit_free(struct commit *c)
{
    if (!c) return;
    if (commit_sync(c) == 0 && !c->leaves_wal && db_checkpoint(c->db, NULL, NULL) == 0) db_empty_wal(c->db);
    if (c->batch) batch_fail(c, -EIO);
    pthread_mutex_destroy(&c->lock);
    pthread_mutex_destroy(&c->state_lock);
    pthread_cond_destroy(&c->changed);
    pthread_cond_destroy(&c->moved);
    free(c->needed.ids);
    free(c->dropped.ids);
    free(c->doomed.ids);
    free(c->name);
    free(c);
}

void commit_leave_wal(struct commit *c)
{
    commit_lock(c);
    c->leaves_wal = true;
    commit_unlock(c);
}

static int batch_open(struct commit *c)
{
    struct commit_batch *batch = calloc(1, sizeof(*batch));
    int r;

    if (!batch) return -ENOMEM;
    r = db_run(c->begin);
    if (r < 0) {
        free(batch);
        return r;
    }
    batch->references = 1;
    batch->sequence = ++c->sequence;
    c->batch = batch;
    if (!c->since) c->since = seconds();
    return 0;
}

/* Operations can write the WAL faster than the disk takes what is moved out of it: not into the room that is kept for
 * deleting. Lock held. */
static void await_checkpoint(struct commit *c)
{
    while (c->moving && !c->batch && db_wal_pages(c->db) / 2 >= c->wal_most) pthread_cond_wait(&c->moved, &c->lock);
}

int commit_begin(struct commit *c)
{
    int r;

    commit_lock(c);
    await_checkpoint(c);
    r = commit_check(c);
    if (r == 0 && !c->batch) r = batch_open(c);
    if (r == 0) r = db_run(c->savepoint);
    c->needed_before = c->needed.count;
    c->dropped_before = c->dropped.count;
    if (r < 0) commit_unlock(c);
    return r;
}

static int undo(struct commit *c)
{
    int r = db_run(c->undo);

    if (c->undone) c->undone(c->data);
    c->needed.count = c->needed_before;
    c->dropped.count = c->dropped_before;
    return r < 0 ? r : db_run(c->keep);
}

int commit_end(struct commit *c, int error, struct commit_batch **ret_batch)
{
    int r = error;

    if (r < 0 && undo(c) < 0) batch_fail(c, r);
    if (r == 0 && (r = db_run(c->keep)) < 0) batch_fail(c, r);
    if (r == 0) *ret_batch = batch_ref(c, c->batch);
    commit_unlock(c);
    return r;
}

uint64_t commit_sequence(const struct commit *c)
{
    return c->batch->sequence;
}

void commit_seal(struct commit *c)
{
    c->sealed = c->record != NULL;
}

int commit_needs_object(struct commit *c, uint64_t object)
{
    c->unsettled = true;
    return object_list_add(&c->needed, object);
}

void commit_adds_object(struct commit *c)
{
    c->new_names = c->unsettled = true;
}

int commit_drops_object(struct commit *c, uint64_t object)
{
    return object_list_add(&c->dropped, object);
}

/* Lock held, no batch open. Where it cannot be moved whole, for someone reads or the disk is full, later. */
static void keep_wal_short(struct commit *c)
{
    int pages = db_wal_pages(c->db);

    if (pages < c->wal_next || c->moving) return;
    db_checkpoint(c->db, NULL, NULL);
    c->wal_next = db_wal_pages(c->db) ? pages + c->wal_most / 4 : c->wal_most;
}

/* COMMIT into the WAL. Lock held, a batch open. */
static int write_batch(struct commit *c)
{
    int r = object_list_reserve(&c->doomed, c->dropped.count);

    if (r == 0 && c->sealed) r = c->record(c->data, c->batch->sequence);
    if (r == 0) r = db_run(c->commit);
    if (r == -EFBIG || r == -EDQUOT) r = -ENOSPC; /* a limit on the daemon's files is a full disk to whoever waits */
    if (r < 0) {
        if (r != -ENOSPC) log_error("%s: changes could not be committed: %s", c->name, log_reason(r));
        batch_fail(c, r);
        /* On a full disk there is room in the WAL itself, once what it holds has been moved. */
        if (r == -ENOSPC) db_checkpoint(c->db, NULL, NULL);
        return r;
    }
    object_list_move(&c->doomed, &c->dropped);
    batch_close(c, 0);
    keep_wal_short(c);
    return 0;
}

/* Whatever the reason, nobody knows what is on the disk now. */
static int sync_result(int failed)
{
    if (failed) log_error("fsync: %s", log_reason(errno));
    return failed ? -EIO : 0;
}

int commit_object(int object_fd, bool metadata)
{
    return sync_result((metadata ? fsync(object_fd) : fdatasync(object_fd)) < 0);
}

int commit_objects(int objects_fd, const uint64_t *ids, size_t count)
{
    if (count > MANY_OBJECTS) return sync_result(syncfs(objects_fd) < 0);
    for (size_t i = 0; i < count; i++) {
        _cleanup_close_ int fd = object_open(objects_fd, ids[i], O_RDONLY);
        int r;

        if (fd == -ENOENT) continue;
        /* Without a descriptor for it: the whole file system, or what its rows are in would be told as failed and come later. */
        if (fd == -EMFILE || fd == -ENFILE || fd == -ENOMEM) return sync_result(syncfs(objects_fd) < 0);
        if (fd < 0) return fd;
        r = commit_object(fd, false);
        if (r < 0) return r;
    }
    return 0;
}

/* Without the lock: other operations of the node go on meanwhile. */
static int sync_contents(struct commit *c, struct object_list *list, bool names)
{
    int r = commit_objects(c->objects_fd, list->ids, list->count);

    return r == 0 && names ? sync_result(fsync(c->objects_fd) < 0) : r;
}

/* Lock held, given up while the disk works; more may be needed by then: a few rounds, then the rest under the lock. When it returns 0
 * nothing is needed. */
static int sync_needed(struct commit *c)
{
    for (int round = 0; c->needed.count || c->new_names; round++) {
        struct object_list list = object_list_take(&c->needed);
        bool names = c->new_names, under_lock = round >= 3;
        int r;

        c->new_names = false;
        if (!under_lock) commit_unlock(c);
        r = sync_contents(c, &list, names);
        if (!under_lock) commit_lock(c);
        if (r < 0) { /* it was not fsync perhaps, but a want of memory or descriptors: all is still needed */
            c->new_names |= names;
            if (object_list_reserve(&c->needed, list.count) == 0) object_list_move(&c->needed, &list);
            else r = -EIO;
        }
        free(list.ids);
        if (r < 0) return r;
    }
    return 0;
}

/* Everything rows spoke of is on the disk: what was kept for the other case goes with this batch. */
static int settle(struct commit *c)
{
    int r = c->batch ? 0 : batch_open(c);

    if (r == 0 && (r = c->settle(c->data)) < 0) batch_fail(c, r);
    return r;
}

static void unlink_objects(struct commit *c, struct object_list *list)
{
    for (size_t i = 0; i < list->count; i++) {
        int r = object_unlink(c->objects_fd, list->ids[i]);

        if (r < 0 && r != -ENOENT)
            log_warning("%s: object %llu could not be removed: %s", c->name, (unsigned long long)list->ids[i],
                        log_reason(r));
    }
}

/* One round of the leader: everything executed so far becomes durable. *ret_sequence: up to where. */
static int make_durable(struct commit *c, uint64_t *ret_sequence)
{
    struct object_list doomed = {0};
    int r;

    commit_lock(c);
    r = sync_needed(c);
    if (r == 0 && c->unsettled) c->unsettled = settle(c) < 0;
    /* A batch that cannot be written is its members' affair. */
    if (r == 0 && c->batch && write_batch(c) < 0) c->unsettled = true;
    if (r == 0 && !c->pins && !c->unsettled) doomed = object_list_take(&c->doomed);
    *ret_sequence = c->batch ? c->batch->sequence - 1 : c->sequence;
    if (r == 0) c->since = 0;
    commit_unlock(c);

    if (r == 0 && db_sync(c->db) < 0) r = -EIO;
    if (r == 0) unlink_objects(c, &doomed);
    if (r == -EIO) log_error(SYNC_FAILED, c->name);
    free(doomed.ids);
    return r;
}

/* state_lock held, before and after. -EIO is for good, anything else for this time. */
static int lead(struct commit *c)
{
    uint64_t sequence = 0;
    int r;

    c->leading = true;
    pthread_mutex_unlock(&c->state_lock);
    r = make_durable(c, &sequence);
    pthread_mutex_lock(&c->state_lock);
    c->leading = false;
    if (r == -EIO) c->broken = r;
    else if (r == 0 && sequence > c->durable) c->durable = sequence;
    pthread_cond_broadcast(&c->changed);
    return r;
}

void commit_break(struct commit *c)
{
    pthread_mutex_lock(&c->state_lock);
    bool was_whole = c->broken == 0;
    c->broken = -EIO;
    pthread_mutex_unlock(&c->state_lock);
    if (was_whole) log_error(SYNC_FAILED, c->name);
}

static int wait_for(struct commit *c, uint64_t sequence)
{
    int r = 0;

    pthread_mutex_lock(&c->state_lock);
    while (r == 0 && c->durable < sequence && (r = c->broken) == 0) {
        if (c->leading) pthread_cond_wait(&c->changed, &c->state_lock);
        else r = lead(c);
    }
    pthread_mutex_unlock(&c->state_lock);
    return r;
}

int commit_wait(struct commit *c, struct commit_batch *batch)
{
    int r = wait_for(c, batch->sequence);

    if (batch->error < 0) r = batch->error; /* set before durable passed it */
    batch_unref(c, batch);
    return r;
}

int commit_flush(struct commit *c, struct commit_batch *batch)
{
    int r;

    commit_lock(c);
    if (c->batch == batch) write_batch(c);
    r = batch->error;
    commit_unlock(c);
    batch_unref(c, batch);
    return r;
}

int commit_write(struct commit *c)
{
    int r;

    commit_lock(c);
    r = c->batch ? write_batch(c) : 0;
    commit_unlock(c);
    return r;
}

int commit_pin(struct commit *c, int (*fn)(void *), void *data, uint64_t *ret_sequence)
{
    int r;

    commit_lock(c);
    r = c->batch ? write_batch(c) : 0;
    if (r == 0) r = fn(data);
    if (r == 0) c->pins++;
    *ret_sequence = c->sequence;
    commit_unlock(c);
    return r;
}

void commit_unpin(struct commit *c)
{
    commit_lock(c);
    c->pins--;
    commit_unlock(c);
}

uint64_t commit_newest(struct commit *c)
{
    uint64_t sequence;

    commit_lock(c);
    sequence = c->sequence;
    commit_unlock(c);
    return sequence;
}

void commit_release(struct commit *c, struct commit_batch *batch)
{
    if (batch) batch_unref(c, batch);
}

int commit_sync(struct commit *c)
{
    return wait_for(c, commit_newest(c));
}

bool commit_pending(struct commit *c, int64_t *ret_since)
{
    commit_lock(c);
    *ret_since = c->since;
    commit_unlock(c);
    return *ret_since != 0;
}

void commit_limit_wal(struct commit *c, uint64_t bytes)
{
    int pages = bytes / FRAME;

    commit_lock(c);
    if (pages != c->wal_most) {
        if (db_limit_wal(c->db, (uint64_t)pages * FRAME) == 0) {
            c->shorten = pages < c->wal_most;
            c->wal_most = c->wal_next = pages;
        }
    }
    commit_unlock(c);
}

void commit_shorten(struct commit *c)
{
    commit_lock(c);
    c->shorten = true;
    commit_unlock(c);
}

static bool checkpoint_is_due(struct commit *c)
{
    int most = c->wal_most < CHECKPOINT_PAGES ? c->wal_most : CHECKPOINT_PAGES;

    return c->shorten || db_wal_pages(c->db) >= most;
}

/* What the WAL held when this was called, over a connection of its own, so that operations go on. */
static int move_bulk(struct commit *c, const char *db_path)
{
    _cleanup_db_ struct db *other = NULL;
    int r = db_keep_reading(c->db); /* from here on the other may move all that was written */

    if (r < 0) return r;
    c->moving = true;
    commit_unlock(c);
    r = db_open(&other, db_path, DB_WRITE);
    if (r == 0) r = db_checkpoint(other, NULL, NULL);
    commit_lock(c);
    c->moving = false;
    pthread_cond_broadcast(&c->moved);
    return r;
}

/* What was added meanwhile follows under the lock: only a WAL moved to its last frame is used again from its start. */
int commit_checkpoint(struct commit *c, const char *db_path)
{
    int r = 0;

    commit_lock(c);
    bool due = checkpoint_is_due(c) && !commit_check(c) && !c->moving;
    if (due && c->batch) r = write_batch(c);
    if (due && r == 0) r = move_bulk(c, db_path);
    if (due && r == 0 && c->batch) r = write_batch(c);
    if (due && r == 0) r = db_checkpoint(c->db, NULL, NULL);
    if (due && r == 0 && db_wal_pages(c->db) == 0) c->shorten = false;
    commit_unlock(c);
    return r == -EBUSY ? 0 : r; /* somebody reads just now: the next round does it */
}

int commit_rename(int dir_fd, const char *from, const char *to)
{
    _cleanup_close_ int fd = openat(dir_fd, from, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);

    if (fd < 0 || fsync(fd) < 0) return -errno;
    if (renameat(dir_fd, from, dir_fd, to) < 0) return -errno;
    return fsync(dir_fd) < 0 ? -errno : 0;
}

int commit_publish(int parent_fd, const char *from, const char *to)
{
    if (syncfs(parent_fd) < 0) return -errno;
    if (renameat(parent_fd, from, parent_fd, to) < 0) return -errno;
    return fsync(parent_fd) < 0 ? -errno : 0;
}

/* Regular files first: what a directory is synced for then names what is on the disk. */
static int sync_entries(DIR *directory, mode_t type)
{
    struct dirent *e;
    int r = 0;

    rewinddir(directory);
    while (r == 0 && (e = readdir(directory))) {
        _cleanup_close_ int fd = -1;
        struct stat st;

        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        fd = openat(dirfd(directory), e->d_name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
        if (fd < 0 || fstat(fd, &st) < 0) return -errno;
        if ((st.st_mode & S_IFMT) == type && fsync(fd) < 0) r = -errno;
    }
    return r;
}

static int sync_delta(int parent_fd, const char *name)
{
    int fd = openat(parent_fd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    int r;

    if (!directory) {
        r = -errno;
        if (fd >= 0) close(fd);
        return r;
    }
    r = sync_entries(directory, S_IFREG);
    if (r == 0) r = sync_entries(directory, S_IFDIR);
    if (r == 0 && fsync(fd) < 0) r = -errno;
    closedir(directory);
    return r;
}

int commit_publish_delta(int parent_fd, const char *from, const char *to)
{
    int r = sync_delta(parent_fd, from);

    if (r < 0) return r;
    if (strcmp(from, to) != 0 && renameat(parent_fd, from, parent_fd, to) < 0) return -errno;
    return fsync(parent_fd) < 0 ? -errno : 0;
}
