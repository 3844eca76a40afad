/* db: SQLite for the rest of the program, which never sees sqlite3.h.
 *
 * Every function that can fail returns 0 or a negative errno; what SQLite said
 * is kept and read with db_message(). SQLITE_FULL is -ENOSPC, SQLITE_BUSY and
 * SQLITE_LOCKED -EBUSY, SQLITE_CORRUPT and SQLITE_NOTADB -EIO, SQLITE_CONSTRAINT
 * -EINVAL (-EEXIST for UNIQUE and PRIMARY KEY), SQLITE_READONLY -EROFS, an I/O
 * error the errno behind it, SQLITE_NOMEM -ENOMEM. None is ever -ENOENT except a database
 * file that is not there. -ELOOP: no part of a path may be a symlink.
 *
 * A connection is used by one thread at a time: whoever owns it brings the
 * lock. Opening the same file twice in one process is allowed only through
 * this module (SQLite itself then minds POSIX locks, see sqlite.org/howtocorrupt.html 2.2). */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct db;
typedef struct sqlite3_stmt db_stmt; /* an opaque prepared statement */

enum db_mode {
    DB_READ,   /* an existing file, for reading */
    DB_WRITE,  /* an existing file, for reading and writing */
    DB_CREATE, /* as DB_WRITE; made when it is not there */
    DB_DRAFT,  /* as DB_CREATE, and never synced: whoever gives the finished file its name does that */
};

/* Opens `path` with the project's settings: WAL (kept on close, never checkpointed behind the caller's
 * back: see db_checkpoint), page_size 4096, secure_delete off, foreign keys on, synchronous=NORMAL (a
 * commit is in the WAL file but not yet on the disk: see db_sync), temp_store memory, busy timeout 5 s,
 * not larger than RLIMIT_FSIZE; a new file with auto_vacuum=incremental (see db_shrink). */
int db_open(struct db **ret_db, const char *path, enum db_mode mode);

/* A file that is never written again (an image's index): no WAL, no locks (immutable=1). */
int db_open_immutable(struct db **ret_db, const char *path);

/* Finalizes every statement prepared on it. NULL is allowed. */
void db_close(struct db *db);
static inline void db_close_cleanup(struct db **db) { db_close(*db); }
#define _cleanup_db_ __attribute__((cleanup(db_close_cleanup)))

/* SQLite's words for the last failure on this connection; valid until the next call. */
const char *db_message(struct db *db);

/* Runs statements without binds or results. */
int db_exec(struct db *db, const char *sql);

/* A transaction around what fills a new file that nobody else knows yet. Whatever changes a node's data goes through commit.h. */
int db_begin(struct db *db);
int db_commit(struct db *db);

/* Prepares one statement; it belongs to the connection, which finalizes it on close. */
int db_prepare(struct db *db, db_stmt **ret_statement, const char *sql);

/* Finalizes a statement before its connection closes. NULL is allowed. */
void db_finish(db_stmt *statement);
static inline void db_finish_cleanup(db_stmt **statement) { db_finish(*statement); }
#define _cleanup_stmt_ __attribute__((cleanup(db_finish_cleanup)))

/* Binds are by name, ":ino". Text and blobs must stay valid until the statement is reset.
 * An unknown name is a programming error and aborts. db_bind_text with NULL binds NULL. */
void db_bind_int(db_stmt *statement, const char *name, int64_t value);
void db_bind_text(db_stmt *statement, const char *name, const char *value);
void db_bind_blob(db_stmt *statement, const char *name, const void *data, size_t size);
void db_bind_null(db_stmt *statement, const char *name);

/* 1: a row; 0: no more rows; negative errno. After 0 or an error the statement is already reset. */
int db_step(db_stmt *statement);

/* Runs a statement that returns no rows, then resets it. */
int db_run(db_stmt *statement);

/* Gives up the remaining rows. Harmless on a statement at rest. */
void db_reset(db_stmt *statement);

/* Columns of the current row, from 0. Text and blobs live until the next step or reset. */
int64_t db_int(db_stmt *statement, int column);
const char *db_text(db_stmt *statement, int column); /* NULL for NULL */
const void *db_blob(db_stmt *statement, int column, size_t *ret_size);
bool db_is_null(db_stmt *statement, int column);

/* Rows changed by the last INSERT, UPDATE or DELETE on this connection. */
int64_t db_changes(struct db *db);
/* By all of them since it was opened. */
int64_t db_total_changes(struct db *db);

/* PRAGMA data_version: changes when another connection has changed the file. */
int db_data_version(struct db *db, int64_t *ret_version);

/* fsync of the WAL file: what was committed before the call outlives a power cut. The one call that may
 * run in a thread of its own while another uses the connection. */
int db_sync(struct db *db);

/* Moves the WAL's content into the database file without waiting for anyone (PASSIVE).
 * *ret_pages: pages in the WAL, *ret_left: those not yet moved. Either may be NULL. */
int db_checkpoint(struct db *db, int *ret_pages, int *ret_left);
/* The same, and the WAL's file is empty then: nobody but the owner of a database that is still in use, or was when its process was killed, has
 * one with anything in it. The last call before db_close(). -EBUSY: somebody reads; nobody is waited for. */
int db_empty_wal(struct db *db);

/* A WAL that is begun anew is cut to so many bytes, if the file is longer. */
int db_limit_wal(struct db *db, uint64_t bytes);

/* Gives up to so many free pages of the file back to the disk, which gets them with the next whole checkpoint. Within a
 * transaction. Does nothing to a file that an older version made. */
int db_shrink(struct db *db, unsigned pages);

/* Pages in the WAL after the last commit on this connection (sqlite3_wal_hook); 0 before the first. */
int db_wal_pages(struct db *db);

/* For the one connection that writes a file: its read transaction stays open between statements, which spares it the locks that each
 * statement takes on the file (four calls of fcntl(2)). What it writes itself it sees; nobody else may write. A checkpoint on this
 * connection begins it anew, as does calling this again outside a transaction; one on another gets no further than its beginning. */
int db_keep_reading(struct db *db);

/* Waits until nobody is writing the file, -EBUSY after some seconds. To be called before db_keep_reading(): SQLite does not wait for
 * another writer where a read transaction is to become a write transaction, but fails at once. */
int db_await_writer(struct db *db);

/* Begins a transaction for reading: what this connection sees stays as it is now until db_close(), whoever writes. */
int db_hold(struct db *db);

/* Runs `sql` on a database that nobody has open, and leaves a file that is all of it, without a WAL: it may be opened
 * immutable, and by any program. Not synced, but for `durable`, where a power cut in the middle leaves a database too. */
int db_seal(const char *path, const char *sql, bool durable);

/* Runs `sql` on such a file that db_open() is to write next: it is in WAL mode then, which else waits for the disk three times when it is
 * opened. Not synced; still all of it, and may be opened immutable. */
int db_unseal(const char *path, const char *sql);

/* Copies the whole database, as `from` sees it, into a new file by SQLite's backup API. Not synced. */
int db_copy(struct db *from, const char *to_path);
