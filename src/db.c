#include "db.h"

#include <errno.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "db_wal.h"
#include "io.h"
#include "log.h"

#define PAGE_SIZE 4096

struct db {
    sqlite3 *handle;
    sqlite3_file *wal;     /* NULL: not in WAL mode. Fetched once, so that db_sync() touches nothing else */
    struct db_wal *gather; /* what is written to it; NULL: nothing is */
    db_stmt *data_version; /* prepared at its first use */
    db_stmt *reader;       /* holds the read transaction of db_keep_reading() */
    int wal_pages;         /* after the last commit on this connection */
};

static int note_wal_pages(void *data, sqlite3 *handle, const char *name, int pages)
{
    struct db *db = data;

    (void)handle;
    (void)name;
    db->wal_pages = pages;
    return SQLITE_OK;
}

static int constraint_error(int extended)
{
    switch (extended) {
    case SQLITE_CONSTRAINT_UNIQUE:
    case SQLITE_CONSTRAINT_PRIMARYKEY:
    case SQLITE_CONSTRAINT_ROWID: return -EEXIST;
    default: return -EINVAL;
    }
}

static int file_errno(sqlite3_file *file)
{
    int error = 0;

    if (file && file->pMethods) file->pMethods->xFileControl(file, SQLITE_FCNTL_LAST_ERRNO, &error);
    return error;
}

/* What a commit fails of SQLite keeps with the file alone: the WAL, or the database during a checkpoint. */
static int write_errno(sqlite3 *handle)
{
    sqlite3_file *file = NULL;
    int error;

    sqlite3_file_control(handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file);
    error = file_errno(file);
    if (error == 0) sqlite3_file_control(handle, "main", SQLITE_FCNTL_LAST_ERRNO, &error);
    return error;
}

/* The errno behind an I/O error. A file that vanished while open is no missing database: see db.h. */
static int system_error(sqlite3 *handle, int extended)
{
    bool writing = extended == SQLITE_IOERR_WRITE || extended == SQLITE_IOERR_FSYNC;
    int error = writing ? write_errno(handle) : 0;

    if (error <= 0) error = sqlite3_system_errno(handle);
    return error > 0 && error != ENOENT ? -error : -EIO;
}

static int error_of(sqlite3 *handle)
{
    int extended = sqlite3_extended_errcode(handle);

    if (extended == SQLITE_IOERR_NOMEM) return -ENOMEM;
    if (extended == SQLITE_CANTOPEN_SYMLINK) return -ELOOP;
    switch (extended & 0xff) {
    case SQLITE_OK:
    case SQLITE_ROW:
    case SQLITE_DONE: return 0;
    case SQLITE_FULL: return -ENOSPC;
    case SQLITE_BUSY:
    case SQLITE_LOCKED: return -EBUSY;
    case SQLITE_CONSTRAINT: return constraint_error(extended);
    case SQLITE_MISMATCH: return -EINVAL;
    case SQLITE_READONLY: return -EROFS;
    case SQLITE_NOMEM: return -ENOMEM;
    case SQLITE_TOOBIG: return -EFBIG;
    case SQLITE_INTERRUPT: return -EINTR;
    case SQLITE_IOERR:
    case SQLITE_CANTOPEN: return system_error(handle, extended);
    default: return -EIO; /* CORRUPT, NOTADB, and a schema that lacks what a statement names */
    }
}

static int open_error(sqlite3 *handle)
{
    if (!handle) return -ENOMEM;
    if ((sqlite3_extended_errcode(handle) & 0xff) == SQLITE_CANTOPEN && sqlite3_system_errno(handle) == ENOENT)
        return -ENOENT;
    return error_of(handle);
}

static int open_handle(struct db **ret_db, const char *path, int flags)
{
    struct db *db = calloc(1, sizeof(*db));
    int r = 0;

    if (!db) return -ENOMEM;
    flags |= SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE | SQLITE_OPEN_NOFOLLOW;
    if (sqlite3_open_v2(path, &db->handle, flags, NULL) != SQLITE_OK) {
        r = open_error(db->handle);
        db_close(db);
        return r;
    }
    *ret_db = db;
    return 0;
}

static int keep_wal(sqlite3 *handle)
{
    int on = 1;

    if (sqlite3_file_control(handle, "main", SQLITE_FCNTL_PERSIST_WAL, &on) != SQLITE_OK) return -EIO;
    if (sqlite3_db_config(handle, SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE, 1, NULL) != SQLITE_OK) return -EIO;
    if (sqlite3_wal_autocheckpoint(handle, 0) != SQLITE_OK) return -EIO;
    return 0;
}

static void fetch_wal(struct db *db)
{
    sqlite3_file *file = NULL;

    if (sqlite3_file_control(db->handle, "main", SQLITE_FCNTL_JOURNAL_POINTER, &file) != SQLITE_OK) return;
    if (file && file->pMethods) db->wal = file;
}

static int use_wal(struct db *db)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = db_prepare(db, &statement, "PRAGMA journal_mode = WAL");

    if (r < 0) return r;
    r = db_step(statement);
    if (r < 0) return r;
    /* A file system without shared memory stays in another mode and says no more than that. */
    if (r == 0 || strcmp(db_text(statement, 0), "wal") != 0) return -EOPNOTSUPP;
    return 0;
}

/* A limit on files would be met by a checkpoint, which then cannot end, and so the WAL neither: rather by the statement
 * that adds something. */
static int limit_pages(struct db *db)
{
    struct rlimit limit;
    char sql[64];

    if (getrlimit(RLIMIT_FSIZE, &limit) < 0 || limit.rlim_cur == RLIM_INFINITY) return 0;
    snprintf(sql, sizeof(sql), "PRAGMA max_page_count = %llu", (unsigned long long)limit.rlim_cur / PAGE_SIZE);
    return db_exec(db, sql);
}

static int set_up(struct db *db, enum db_mode mode)
{
    int r;

    sqlite3_busy_timeout(db->handle, 5000);
    /* On a file that is there already it would write. */
    r = mode == DB_DRAFT ? db_exec(db, "PRAGMA synchronous = OFF") : 0;
    if (r == 0 && (mode == DB_CREATE || mode == DB_DRAFT)) r = db_exec(db, "PRAGMA auto_vacuum = INCREMENTAL");
    if (r < 0) return r;
    r = db_exec(db, "PRAGMA page_size = 4096; PRAGMA secure_delete = OFF; PRAGMA foreign_keys = ON;"
                    "PRAGMA temp_store = MEMORY; PRAGMA cache_spill = OFF");
    if (r == 0 && mode != DB_DRAFT) r = db_exec(db, "PRAGMA synchronous = NORMAL");
    if (r < 0) return r;
    r = keep_wal(db->handle);
    if (r < 0) return r;
    if (mode != DB_READ) {
        r = use_wal(db);
        if (r == 0) r = limit_pages(db);
        if (r < 0) return r;
    }
    /* The first read opens the WAL, and finds out whether the file is a database at all. */
    r = db_exec(db, "SELECT 1 FROM sqlite_schema LIMIT 1");
    if (r < 0) return r;
    fetch_wal(db);
    if (db->wal && mode != DB_READ) db->gather = db_wal_gather(db->wal);
    sqlite3_wal_hook(db->handle, note_wal_pages, db);
    return 0;
}

int db_wal_pages(struct db *db)
{
    return db->wal_pages;
}

int db_limit_wal(struct db *db, uint64_t bytes)
{
    char sql[64];

    snprintf(sql, sizeof(sql), "PRAGMA journal_size_limit = %llu", (unsigned long long)bytes);
    return db_exec(db, sql);
}

int db_shrink(struct db *db, unsigned pages)
{
    char sql[64];

    snprintf(sql, sizeof(sql), "PRAGMA incremental_vacuum(%u)", pages);
    return db_exec(db, sql);
}

/* SQLite opens what it may not write for reading and fails later. */
static int check_writable(struct db *db, const char *path)
{
    if (sqlite3_db_readonly(db->handle, "main") != 1) return 0;
    return access(path, W_OK) < 0 ? -errno : -EROFS;
}

int db_open(struct db **ret_db, const char *path, enum db_mode mode)
{
    static const int flags[] = {
        [DB_READ] = SQLITE_OPEN_READONLY,
        [DB_WRITE] = SQLITE_OPEN_READWRITE,
        [DB_CREATE] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
        [DB_DRAFT] = SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE,
    };
    _cleanup_db_ struct db *db = NULL;
    int r = open_handle(&db, path, flags[mode]);

    if (r < 0) return r;
    if (mode != DB_READ) {
        r = check_writable(db, path);
        if (r < 0) return r;
    }
    r = set_up(db, mode);
    if (r < 0) {
        log_debug("%s: %s", path, db_message(db));
        return r;
    }
    *ret_db = io_take(db);
    return 0;
}

/* file:PATH?immutable=1, with what a URI gives a meaning to escaped. Caller frees. */
static char *immutable_uri(const char *path)
{
    char *uri = malloc(3 * strlen(path) + sizeof("file:?immutable=1"));
    char *end = uri;

    if (!uri) return NULL;
    end = stpcpy(end, "file:");
    for (; *path; path++) {
        if (strchr("%?#", *path)) end += sprintf(end, "%%%02x", (unsigned char)*path);
        else *end++ = *path;
    }
    strcpy(end, "?immutable=1");
    return uri;
}

int db_open_immutable(struct db **ret_db, const char *path)
{
    _cleanup_free_ char *uri = immutable_uri(path);
    _cleanup_db_ struct db *db = NULL;
    int r;

    if (!uri) return -ENOMEM;
    r = open_handle(&db, uri, SQLITE_OPEN_READONLY | SQLITE_OPEN_URI);
    if (r < 0) return r;
    r = db_exec(db, "PRAGMA temp_store = MEMORY; SELECT 1 FROM sqlite_schema LIMIT 1");
    if (r < 0) return r;
    *ret_db = io_take(db);
    return 0;
}

void db_close(struct db *db)
{
    db_stmt *statement;

    if (!db) return;
    while ((statement = sqlite3_next_stmt(db->handle, NULL))) sqlite3_finalize(statement);
    db_wal_free(db->gather);
    sqlite3_close(db->handle);
    free(db);
}

const char *db_message(struct db *db)
{
    return sqlite3_errmsg(db->handle);
}

int db_exec(struct db *db, const char *sql)
{
    return sqlite3_exec(db->handle, sql, NULL, NULL, NULL) == SQLITE_OK ? 0 : error_of(db->handle);
}

int db_begin(struct db *db)
{
    return db_exec(db, "BEGIN");
}

int db_commit(struct db *db)
{
    return db_exec(db, "COMMIT");
}

int db_prepare(struct db *db, db_stmt **ret_statement, const char *sql)
{
    int r = sqlite3_prepare_v3(db->handle, sql, -1, SQLITE_PREPARE_PERSISTENT, ret_statement, NULL);

    return r == SQLITE_OK ? 0 : error_of(db->handle);
}

void db_finish(db_stmt *statement)
{
    sqlite3_finalize(statement);
}

__attribute__((noreturn)) static void bind_failed(db_stmt *statement, const char *name, const char *reason)
{
    fprintf(stderr, "coppice: bind %s: %s: %s\n", name, reason, sqlite3_sql(statement));
    abort();
}

static int parameter(db_stmt *statement, const char *name)
{
    int index = sqlite3_bind_parameter_index(statement, name);

    if (index == 0) bind_failed(statement, name, "no such name");
    return index;
}

static void check_bind(db_stmt *statement, const char *name, int r)
{
    if (r != SQLITE_OK) bind_failed(statement, name, sqlite3_errstr(r));
}

void db_bind_int(db_stmt *statement, const char *name, int64_t value)
{
    check_bind(statement, name, sqlite3_bind_int64(statement, parameter(statement, name), value));
}

void db_bind_text(db_stmt *statement, const char *name, const char *value)
{
    check_bind(statement, name, sqlite3_bind_text(statement, parameter(statement, name), value, -1, SQLITE_STATIC));
}

void db_bind_blob(db_stmt *statement, const char *name, const void *data, size_t size)
{
    /* A NULL pointer would bind NULL, which an empty value is not. */
    const void *bytes = size > 0 ? data : "";

    check_bind(statement, name, sqlite3_bind_blob64(statement, parameter(statement, name), bytes, size, SQLITE_STATIC));
}

void db_bind_null(db_stmt *statement, const char *name)
{
    check_bind(statement, name, sqlite3_bind_null(statement, parameter(statement, name)));
}

int db_step(db_stmt *statement)
{
    int r = sqlite3_step(statement);

    if (r == SQLITE_ROW) return 1;
    r = r == SQLITE_DONE ? 0 : error_of(sqlite3_db_handle(statement));
    sqlite3_reset(statement);
    return r;
}

int db_run(db_stmt *statement)
{
    int r = db_step(statement);

    if (r > 0) sqlite3_reset(statement);
    return r < 0 ? r : 0;
}

void db_reset(db_stmt *statement)
{
    sqlite3_reset(statement);
}

int64_t db_int(db_stmt *statement, int column)
{
    return sqlite3_column_int64(statement, column);
}

const char *db_text(db_stmt *statement, int column)
{
    return (const char *)sqlite3_column_text(statement, column);
}

const void *db_blob(db_stmt *statement, int column, size_t *ret_size)
{
    const void *data = sqlite3_column_blob(statement, column);

    *ret_size = sqlite3_column_bytes(statement, column);
    return data;
}

bool db_is_null(db_stmt *statement, int column)
{
    return sqlite3_column_type(statement, column) == SQLITE_NULL;
}

int64_t db_changes(struct db *db)
{
    return sqlite3_changes64(db->handle);
}

int64_t db_total_changes(struct db *db)
{
    return sqlite3_total_changes64(db->handle);
}

int db_data_version(struct db *db, int64_t *ret_version)
{
    int r;

    if (!db->data_version) {
        r = db_prepare(db, &db->data_version, "PRAGMA data_version");
        if (r < 0) return r;
    }
    r = db_step(db->data_version);
    if (r < 0) return r;
    *ret_version = db_int(db->data_version, 0);
    db_reset(db->data_version);
    return 0;
}

static int sync_wal(struct db *db)
{
    return db->gather ? db_wal_sync(db->gather) : db->wal->pMethods->xSync(db->wal, SQLITE_SYNC_NORMAL);
}

int db_sync(struct db *db)
{
    int error;

    if (!db->wal || sync_wal(db) == SQLITE_OK) return 0;
    /* Not sqlite3_system_errno(): another thread may be using the connection. */
    error = file_errno(db->wal);
    return error > 0 ? -error : -EIO;
}

int db_await_writer(struct db *db)
{
    return db_exec(db, "BEGIN IMMEDIATE; ROLLBACK");
}

int db_keep_reading(struct db *db)
{
    int r = 0;

    if (db->reader) db_reset(db->reader);
    else r = db_prepare(db, &db->reader, "SELECT 1 FROM sqlite_schema");
    if (r == 0) r = db_step(db->reader);
    return r < 0 ? r : 0;
}

int db_checkpoint(struct db *db, int *ret_pages, int *ret_left)
{
    int pages = 0, moved = 0, r;

    /* A read transaction of its own would be in the way; the new one stands on the end of the WAL. */
    if (db->reader) db_reset(db->reader);
    r = sqlite3_wal_checkpoint_v2(db->handle, "main", SQLITE_CHECKPOINT_PASSIVE, &pages, &moved);
    if (r != SQLITE_OK) r = error_of(db->handle);
    if (db->reader) db_keep_reading(db); /* without it all is right, and slower */
    if (r < 0) return r;
    if (pages == moved) db->wal_pages = 0; /* the next commit begins the file anew */
    /* -1: not in WAL mode. */
    if (ret_pages) *ret_pages = pages < 0 ? 0 : pages;
    if (ret_left) *ret_left = pages < 0 ? 0 : pages - moved;
    return 0;
}

int db_empty_wal(struct db *db)
{
    if (db->reader) db_reset(db->reader);
    sqlite3_busy_timeout(db->handle, 0);
    return sqlite3_wal_checkpoint_v2(db->handle, "main", SQLITE_CHECKPOINT_TRUNCATE, NULL, NULL) == SQLITE_OK ? 0 : error_of(db->handle);
}

static int back_up(struct db *from, struct db *to)
{
    sqlite3_backup *backup = sqlite3_backup_init(to->handle, "main", from->handle, "main");

    if (!backup) return error_of(to->handle);
    sqlite3_backup_step(backup, -1);
    return sqlite3_backup_finish(backup) == SQLITE_OK ? 0 : error_of(to->handle);
}

static int copy_into(struct db *from, const char *to_path)
{
    _cleanup_db_ struct db *to = NULL;
    int r = open_handle(&to, to_path, SQLITE_OPEN_READWRITE);

    if (r < 0) return r;
    /* Nobody else knows the file, and a failed copy is removed: no journal. */
    r = db_exec(to, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF");
    return r < 0 ? r : back_up(from, to);
}

int db_copy(struct db *from, const char *to_path)
{
    int fd = io_open_plain(to_path, O_WRONLY | O_CREAT | O_EXCL, 0644);
    int r;

    if (fd < 0) return fd;
    close(fd);
    r = copy_into(from, to_path);
    if (r < 0) unlink(to_path);
    return r;
}

int db_hold(struct db *db)
{
    /* BEGIN alone would wait with it for the first look. */
    return db_exec(db, "BEGIN; SELECT 1 FROM sqlite_schema LIMIT 1");
}

static int run_alone(const char *path, const char *before, const char *sql, const char *after)
{
    _cleanup_db_ struct db *db = NULL;
    int r = open_handle(&db, path, SQLITE_OPEN_READWRITE);

    if (r == 0) r = db_exec(db, before);
    if (r == 0) r = db_exec(db, sql);
    return r < 0 ? r : db_exec(db, after);
}

int db_seal(const char *path, const char *sql, bool durable)
{
    return run_alone(path, durable ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = OFF", sql, "PRAGMA journal_mode = DELETE");
}

int db_unseal(const char *path, const char *sql)
{
    return run_alone(path, "PRAGMA synchronous = OFF", sql, "PRAGMA journal_mode = WAL");
}
