/* commit: the one module that decides what reaches the disk, and in which order (DESIGN.md, "Durability").
 *
 * Operations of one node run one at a time inside a shared transaction, a batch; each is a savepoint, so that it
 * happens wholly or not at all. A batch is first written (COMMIT into the WAL, which outlives the daemon), then made
 * durable (it outlives a power cut): contents that its rows speak of, names of new objects, then the WAL. Whoever
 * waits first leads for all who wait; while it waits for the disk the next batch fills. Objects that no row speaks
 * of any more are unlinked when that is durable, never before. */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
struct commit;

/* A claim on the batch an operation went into; given back by commit_flush(), commit_wait() or commit_release(). */
struct commit_batch;

/* Called with the lock held, inside a transaction: all contents and names that earlier batches spoke of are on the disk. */
typedef int (*commit_settle_fn)(void *data);

/* Called with the lock held: what an operation, or a whole batch, has written is undone. May be NULL. */
typedef void (*commit_undone_fn)(void *data);

/* `db` and `objects_fd` (the directory of the node's objects) are borrowed; `name` is for messages; all functions get `data`. */
int commit_new(struct commit **ret_commit, struct db *db, int objects_fd, const char *name, commit_settle_fn settle,
               commit_undone_fn undone, void *data);

/* Called with the lock held, at the end of a batch that was sealed: writes its number into it. */
typedef int (*commit_record_fn)(void *data, uint64_t batch);

/* Batches are numbered from `batch` + 1, and sealed ones recorded, by a function that gets the same data. To be called once, first. */
void commit_number(struct commit *commit, uint64_t batch, commit_record_fn record);

/* Makes everything durable, then frees. */
void commit_free(struct commit *commit);
/* The database goes out of use: commit_free() is not to move the WAL into it, which takes its time. */
void commit_leave_wal(struct commit *commit);

/* The lock of the node's database: whoever holds it may use the connection, its statements and what view.h says it
 * guards. For reading: */
void commit_lock(struct commit *commit);
void commit_unlock(struct commit *commit);

/* Begins an operation that writes: takes the lock and opens a savepoint. On failure the lock is not held; -EIO after an fsync failed:
 * nobody knows what is on the disk then, so nothing more is written. */
int commit_begin(struct commit *commit);

/* Ends it: keeps what it did when `error` is 0, else undoes it; gives up the lock. Returns `error`, or what went wrong now;
 * *ret_batch is set when the result is 0. */
int commit_end(struct commit *commit, int error, struct commit_batch **ret_batch);

/* -EIO when commit_begin() would say so: for a change that needs no rows. */
int commit_check(struct commit *commit);

/* Between begin and end: the number of the batch that the operation is part of; it is to be recorded when the batch is committed. */
uint64_t commit_sequence(const struct commit *commit);
void commit_seal(struct commit *commit);

/* Between begin and end: rows of the operation speak of new bytes in this object, or of an object whose name is new. They
 * may be written before those are on the disk, and are settled after. The third: nothing speaks of the object any more. */
int commit_needs_object(struct commit *commit, uint64_t object);
void commit_adds_object(struct commit *commit);
int commit_drops_object(struct commit *commit, uint64_t object);

/* Returns when the batch is written: -ENOSPC or another errno when it could not be, and is undone. */
int commit_flush(struct commit *commit, struct commit_batch *batch);
/* Returns when the batch is durable. */
int commit_wait(struct commit *commit, struct commit_batch *batch);
void commit_release(struct commit *commit, struct commit_batch *batch);

/* Makes durable all that was executed before the call. */
int commit_sync(struct commit *commit);

/* Contents could not be synced: nothing more is written, as after any fsync that failed. */
void commit_break(struct commit *commit);

/* fdatasync(2) of an object's contents, or fsync(2) with `metadata`. */
int commit_object(int object_fd, bool metadata);

/* fdatasync(2) of all these objects; those that are gone need nothing. */
int commit_objects(int objects_fd, const uint64_t *ids, size_t count);

/* Calls `fn` while no operation is under way and everything executed is written; other operations wait. When it returns
 * 0, no object is unlinked any more until commit_unpin(). */
int commit_pin(struct commit *commit, int (*fn)(void *data), void *data, uint64_t *ret_sequence);
void commit_unpin(struct commit *commit);
/* The number of the newest batch, which grows with every change. *ret_sequence above is what it was in that instant. Takes the lock. */
uint64_t commit_newest(struct commit *commit);

/* Writes the open batch, if there is one. */
int commit_write(struct commit *commit);

/* Something was executed that is not durable yet, at the latest since *ret_since (CLOCK_MONOTONIC seconds). */
bool commit_pending(struct commit *commit, int64_t *ret_since);

/* The WAL is to stay below so many bytes: whoever commits behind that moves it itself; and the file gives back what is more.
 * Without a call there is no limit. */
void commit_limit_wal(struct commit *commit, uint64_t bytes);

/* The next commit_checkpoint() finds something to do, however short the WAL is. */
void commit_shorten(struct commit *commit);

/* Keeps the WAL from growing: moves it into the database file when it is long, for the most part without the lock. */
int commit_checkpoint(struct commit *commit, const char *db_path);

/* A finished file gets its name: it and the directory are synced around the rename. */
int commit_rename(int dir_fd, const char *from, const char *to);

/* A finished tree gets its name: its whole file system is synced, `from` renamed to `to` within parent_fd, and the parent synced. */
int commit_publish(int parent_fd, const char *from, const char *to);

/* The same for a delta whose objects are on the disk already: only the files beside them and the directories are synced. */
int commit_publish_delta(int parent_fd, const char *from, const char *to);
