#include "scratch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "db.h"
#include "io.h"

static struct db *make(const char *path)
{
    struct db *db = NULL;

    assert_int_equal(db_open(&db, path, DB_CREATE), 0);
    assert_int_equal(db_exec(db, "CREATE TABLE thing(id INTEGER PRIMARY KEY, name TEXT UNIQUE NOT NULL, data BLOB,"
                                 " CONSTRAINT \"name must be short\" CHECK (length(name) < 10)) STRICT"),
                     0);
    return db;
}

static int insert(struct db *db, int64_t id, const char *name, const void *data, size_t size)
{
    _cleanup_stmt_ db_stmt *statement = NULL;

    assert_int_equal(db_prepare(db, &statement, "INSERT INTO thing VALUES (:id, :name, :data)"), 0);
    db_bind_int(statement, ":id", id);
    db_bind_text(statement, ":name", name);
    db_bind_blob(statement, ":data", data, size);
    return db_run(statement);
}

static int64_t number(struct db *db, const char *sql)
{
    _cleanup_stmt_ db_stmt *statement = NULL;

    assert_int_equal(db_prepare(db, &statement, sql), 0);
    assert_int_equal(db_step(statement), 1);
    return db_int(statement, 0);
}

static void test_settings(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "settings.db"));
    _cleanup_stmt_ db_stmt *mode = NULL;

    assert_int_equal(number(db, "PRAGMA page_size"), 4096);
    assert_int_equal(number(db, "PRAGMA secure_delete"), 0);
    assert_int_equal(number(db, "PRAGMA foreign_keys"), 1);
    assert_int_equal(number(db, "PRAGMA synchronous"), 1);
    assert_int_equal(number(db, "PRAGMA temp_store"), 2);
    assert_int_equal(number(db, "PRAGMA busy_timeout"), 5000);
    assert_int_equal(number(db, "PRAGMA wal_autocheckpoint"), 0);
    assert_int_equal(db_prepare(db, &mode, "PRAGMA journal_mode"), 0);
    assert_int_equal(db_step(mode), 1);
    assert_string_equal(db_text(mode, 0), "wal");
}

static void test_binds_and_columns(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "binds.db"));
    _cleanup_stmt_ db_stmt *statement = NULL;
    const void *data;
    size_t size;

    assert_int_equal(insert(db, 1, "one", "a\0b", 3), 0);
    assert_int_equal(db_changes(db), 1);
    assert_int_equal(insert(db, 2, "two", NULL, 0), 0);
    assert_int_equal(db_prepare(db, &statement, "SELECT id, name, data, :none FROM thing ORDER BY id"), 0);
    db_bind_text(statement, ":none", NULL);
    assert_int_equal(db_step(statement), 1);
    assert_int_equal(db_int(statement, 0), 1);
    assert_string_equal(db_text(statement, 1), "one");
    data = db_blob(statement, 2, &size);
    assert_int_equal(size, 3);
    assert_memory_equal(data, "a\0b", 3);
    assert_true(db_is_null(statement, 3));
    assert_null(db_text(statement, 3));
    assert_int_equal(db_step(statement), 1);
    assert_false(db_is_null(statement, 2)); /* empty, not absent */
    db_blob(statement, 2, &size);
    assert_int_equal(size, 0);
    assert_int_equal(db_step(statement), 0);
    /* Reset by now: it can be bound and run again. */
    db_bind_int(statement, ":none", INT64_MIN);
    assert_int_equal(db_step(statement), 1);
    assert_int_equal(db_int(statement, 3), INT64_MIN);
    db_reset(statement);
    db_bind_null(statement, ":none");
}

static void test_unknown_bind_aborts(void **state)
{
    int status;
    pid_t child = fork();

    if (child == 0) {
        struct db *db = make(scratch_path(state, "abort.db"));
        db_stmt *statement;

        setrlimit(RLIMIT_CORE, &(struct rlimit){0});
        if (!freopen("/dev/null", "w", stderr) || db_prepare(db, &statement, "SELECT :one") < 0) _exit(2);
        signal(SIGABRT, SIG_DFL);
        db_bind_int(statement, ":two", 1);
        _exit(1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_true(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT);
}

static void test_constraints(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "constraints.db"));

    assert_int_equal(insert(db, 1, "one", "", 0), 0);
    assert_int_equal(insert(db, 1, "uno", "", 0), -EEXIST);
    assert_int_equal(insert(db, 2, "one", "", 0), -EEXIST);
    assert_string_equal(db_message(db), "UNIQUE constraint failed: thing.name");
    assert_int_equal(insert(db, 2, NULL, "", 0), -EINVAL);
    assert_int_equal(insert(db, 2, "far too long", "", 0), -EINVAL);
    assert_string_equal(db_message(db), "CHECK constraint failed: name must be short");
    assert_int_equal(db_exec(db, "INSERT INTO thing VALUES (2, 'two', 5)"), -EINVAL);
    assert_int_equal(db_exec(db, "SELECT nonsense FROM thing"), -EIO);
    assert_non_null(strstr(db_message(db), "nonsense"));
    assert_int_equal(number(db, "SELECT count(*) FROM thing"), 1);
}

static void test_opening_what_is_not_there(void **state)
{
    struct db *db = NULL;

    assert_int_equal(db_open(&db, scratch_path(state, "none.db"), DB_READ), -ENOENT);
    assert_int_equal(db_open(&db, scratch_path(state, "none.db"), DB_WRITE), -ENOENT);
    assert_int_equal(db_open(&db, scratch_path(state, "none/none.db"), DB_CREATE), -ENOENT);
    assert_int_equal(db_open_immutable(&db, scratch_path(state, "none.db")), -ENOENT);
    assert_int_equal(access(scratch_path(state, "none.db"), F_OK), -1);
    scratch_write(scratch_path(state, "text.db"), "this is no database, whatever its name says, not at all");
    assert_int_equal(db_open(&db, scratch_path(state, "text.db"), DB_READ), -EIO);
    assert_int_equal(db_open(&db, scratch_path(state, "text.db"), DB_WRITE), -EIO);
    assert_int_equal(db_open_immutable(&db, scratch_path(state, "text.db")), -EIO);
    assert_int_equal(db_open(&db, *state, DB_WRITE), -EISDIR);
    assert_null(db);
}

static void test_permission(void **state)
{
    int status;
    pid_t child;

    assert_int_equal(chmod(*state, 0755), 0);
    db_close(make(scratch_path(state, "private.db")));
    assert_int_equal(chmod(scratch_path(state, "private.db"), 0444), 0);
    child = fork();
    if (child == 0) {
        struct db *db;

        if (geteuid() == 0 && (setgid(65534) < 0 || setuid(65534) < 0)) _exit(2);
        _exit(db_open(&db, scratch_path(state, "private.db"), DB_WRITE) == -EACCES ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
}

static void test_reading_only(void **state)
{
    _cleanup_db_ struct db *writer = make(scratch_path(state, "read.db"));
    _cleanup_db_ struct db *reader = NULL;

    assert_int_equal(insert(writer, 1, "one", "", 0), 0);
    assert_int_equal(db_open(&reader, scratch_path(state, "read.db"), DB_READ), 0);
    assert_int_equal(number(reader, "SELECT count(*) FROM thing"), 1);
    assert_int_equal(insert(reader, 2, "two", "", 0), -EROFS);
}

static void test_damage(void **state)
{
    const char *path = scratch_path(state, "damaged.db");
    static char noise[4096];
    struct db *db = make(path);
    int r = 0;

    for (int i = 1; i < 500; i++) {
        char name[16];

        snprintf(name, sizeof(name), "%d", i);
        assert_int_equal(insert(db, i, name, noise, 100), 0);
    }
    assert_int_equal(db_checkpoint(db, NULL, NULL), 0);
    db_close(db);
    /* It still holds every page. */
    assert_int_equal(unlink(scratch_path(state, "damaged.db-wal")), 0);
    {
        _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);

        memset(noise, 0xa5, sizeof(noise));
        for (int page = 1; page < 10; page++) assert_int_equal(io_pwrite(fd, noise, 4096, page * 4096), 0);
    }
    assert_int_equal(db_open(&db, path, DB_READ), 0);
    {
        _cleanup_stmt_ db_stmt *statement = NULL;

        assert_int_equal(db_prepare(db, &statement, "SELECT length(name), data FROM thing"), 0);
        while ((r = db_step(statement)) > 0) continue;
    }
    db_close(db);
    assert_int_equal(r, -EIO);
}

static void test_full(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "full.db"));
    static char data[100000];

    assert_int_equal(db_exec(db, "PRAGMA max_page_count = 10"), 0);
    assert_int_equal(insert(db, 1, "one", data, sizeof(data)), -ENOSPC);
    assert_int_equal(insert(db, 1, "one", data, 10), 0);
}

/* An errno that SQLite has no word for: the file size limit. */
static void test_errno_behind_an_io_error(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "limit.db"));
    static char data[1 << 20];
    struct rlimit before, low;
    int r;

    signal(SIGXFSZ, SIG_IGN);
    getrlimit(RLIMIT_FSIZE, &before);
    low = (struct rlimit){.rlim_cur = 200000, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_FSIZE, &low);
    r = insert(db, 1, "one", data, sizeof(data));
    setrlimit(RLIMIT_FSIZE, &before);
    signal(SIGXFSZ, SIG_DFL);
    assert_int_equal(r, -EFBIG);
    assert_int_equal(insert(db, 1, "one", data, sizeof(data)), 0);
}

static void test_full_disk(void **state)
{
    struct db *db;
    static char data[400000];
    int r;

    scratch_tmpfs(state, "small", 300);
    db = make(scratch_path(state, "small/full.db"));
    r = insert(db, 1, "one", data, sizeof(data));
    if (r == -ENOSPC) r = insert(db, 1, "one", data, 10) == 0 ? -ENOSPC : 0;
    db_close(db);
    scratch_unmount(state, "small");
    assert_int_equal(r, -ENOSPC);
}

static void test_busy(void **state)
{
    _cleanup_db_ struct db *one = make(scratch_path(state, "busy.db"));
    _cleanup_db_ struct db *two = NULL;

    assert_int_equal(db_open(&two, scratch_path(state, "busy.db"), DB_WRITE), 0);
    assert_int_equal(db_exec(two, "PRAGMA busy_timeout = 50"), 0);
    assert_int_equal(db_exec(one, "BEGIN IMMEDIATE"), 0);
    assert_int_equal(insert(two, 1, "one", "", 0), -EBUSY);
    assert_int_equal(db_exec(one, "ROLLBACK"), 0);
    assert_int_equal(insert(two, 1, "one", "", 0), 0);
}

static void test_data_version(void **state)
{
    _cleanup_db_ struct db *one = make(scratch_path(state, "version.db"));
    _cleanup_db_ struct db *two = NULL;
    int64_t first, second, third;

    assert_int_equal(db_open(&two, scratch_path(state, "version.db"), DB_WRITE), 0);
    assert_int_equal(db_data_version(one, &first), 0);
    assert_int_equal(db_data_version(one, &second), 0);
    assert_int_equal(first, second);
    assert_int_equal(insert(two, 1, "one", "", 0), 0);
    assert_int_equal(db_data_version(one, &third), 0);
    assert_true(third != first);
}

static off_t size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) < 0 ? -1 : st.st_size;
}

static void test_wal_stays_until_checkpoint(void **state)
{
    const char *wal = scratch_path(state, "wal.db-wal");
    struct db *db = make(scratch_path(state, "wal.db"));
    off_t before = size_of(scratch_path(state, "wal.db"));
    int pages, left;

    assert_int_equal(insert(db, 1, "one", "", 0), 0);
    assert_int_equal(db_sync(db), 0);
    db_close(db);
    assert_int_equal(size_of(scratch_path(state, "wal.db")), before);
    assert_true(size_of(wal) > 0);

    assert_int_equal(db_open(&db, scratch_path(state, "wal.db"), DB_WRITE), 0);
    assert_int_equal(number(db, "SELECT count(*) FROM thing"), 1);
    assert_int_equal(db_checkpoint(db, &pages, &left), 0);
    assert_true(pages > 0);
    assert_int_equal(left, 0);
    assert_true(size_of(scratch_path(state, "wal.db")) > before);
    db_close(db);
    assert_true(size_of(wal) > 0);
}

/* Calls of write(2) and its like that this process has made. */
static long writes_so_far(void)
{
    FILE *file = fopen("/proc/self/io", "re");
    char line[64];
    long count = -1;

    assert_non_null(file);
    while (fgets(line, sizeof(line), file)) sscanf(line, "syscw: %ld", &count);
    fclose(file);
    assert_true(count >= 0);
    return count;
}

/* What another process finds, be this one killed now. */
static int64_t others_count(const char *path)
{
    pid_t pid = fork();
    int status;

    if (pid == 0) {
        struct db *db;

        if (db_open(&db, path, DB_WRITE) < 0) _exit(255);
        int64_t count = number(db, "SELECT count(*) FROM thing");
        _exit(number(db, "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check = 'ok'") == 1 ? count : 254);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    return WEXITSTATUS(status);
}

static void test_commit_is_one_write(void **state)
{
    if (getenv("COPPICE_VALGRIND")) skip(); /* whose own writes are counted */
    static const char data[3 * 4096];
    const char *path = scratch_path(state, "gather.db");
    _cleanup_db_ struct db *db = make(path);
    char name[8];
    long before;

    assert_int_equal(insert(db, 1, "one", data, sizeof(data)), 0); /* also writes the WAL's header */
    before = writes_so_far();
    assert_int_equal(insert(db, 2, "two", data, sizeof(data)), 0);
    assert_int_equal(writes_so_far() - before, 1);
    assert_int_equal(others_count(path), 2);

    /* More than is gathered at once, and what is undone in between. */
    assert_int_equal(db_exec(db, "BEGIN"), 0);
    for (int i = 3; i < 60; i++) {
        snprintf(name, sizeof(name), "n%d", i);
        assert_int_equal(insert(db, i, name, data, sizeof(data)), 0);
    }
    assert_int_equal(others_count(path), 2);
    assert_int_equal(db_exec(db, "ROLLBACK; BEGIN"), 0);
    for (int i = 3; i < 100; i++) {
        snprintf(name, sizeof(name), "m%d", i);
        assert_int_equal(insert(db, i, name, data, sizeof(data)), 0);
    }
    assert_int_equal(db_commit(db), 0);
    assert_int_equal(others_count(path), 99);
    assert_int_equal(db_checkpoint(db, NULL, NULL), 0);
    assert_int_equal(insert(db, 100, "last", "", 0), 0);
    assert_int_equal(others_count(path), 100);
}

static void test_checkpoint_waits_for_nobody(void **state)
{
    _cleanup_db_ struct db *writer = make(scratch_path(state, "passive.db"));
    _cleanup_db_ struct db *reader = NULL;
    int pages, left;

    assert_int_equal(insert(writer, 1, "one", "", 0), 0);
    assert_int_equal(db_open(&reader, scratch_path(state, "passive.db"), DB_READ), 0);
    assert_int_equal(db_exec(reader, "BEGIN"), 0);
    assert_int_equal(number(reader, "SELECT count(*) FROM thing"), 1);
    assert_int_equal(insert(writer, 2, "two", "", 0), 0);
    assert_int_equal(db_checkpoint(writer, &pages, &left), 0);
    assert_true(left > 0);
    assert_int_equal(db_exec(reader, "COMMIT"), 0);
    assert_int_equal(db_checkpoint(writer, NULL, &left), 0);
    assert_int_equal(left, 0);
}

static void test_sync_reaches_the_wal(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "sync.db"));

    assert_int_equal(insert(db, 1, "one", "", 0), 0);
    scratch_wal_syncs = 0;
    assert_int_equal(insert(db, 2, "two", "", 0), 0);
    assert_int_equal(scratch_wal_syncs, 0);
    assert_int_equal(db_sync(db), 0);
    assert_int_equal(scratch_wal_syncs, 1);
    scratch_fail_sync = true;
    assert_int_equal(db_sync(db), -EDQUOT);
    scratch_fail_sync = false;
}

static void test_sync_without_wal(void **state)
{
    _cleanup_db_ struct db *db = NULL;

    db_close(make(scratch_path(state, "frozen.db")));
    assert_int_equal(db_open_immutable(&db, scratch_path(state, "frozen.db")), 0);
    assert_int_equal(db_sync(db), 0);
}

static void test_immutable_with_an_odd_name(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "odd %41?#.db"));
    _cleanup_db_ struct db *frozen = NULL;

    assert_int_equal(insert(db, 1, "one", "", 0), 0);
    assert_int_equal(db_checkpoint(db, NULL, NULL), 0);
    assert_int_equal(db_open_immutable(&frozen, scratch_path(state, "odd %41?#.db")), 0);
    assert_int_equal(number(frozen, "SELECT count(*) FROM thing"), 1);
    assert_true(insert(frozen, 2, "two", "", 0) < 0);
}

static void test_copy(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "original.db"));
    _cleanup_db_ struct db *copy = NULL;
    static char data[100000];

    assert_int_equal(insert(db, 1, "one", data, sizeof(data)), 0);
    assert_int_equal(db_copy(db, scratch_path(state, "copy.db")), 0);
    assert_int_equal(insert(db, 2, "two", "", 0), 0);
    assert_int_equal(db_open(&copy, scratch_path(state, "copy.db"), DB_WRITE), 0);
    assert_int_equal(number(copy, "SELECT count(*) FROM thing"), 1);
    assert_int_equal(number(copy, "SELECT length(data) FROM thing"), sizeof(data));
    assert_int_equal(insert(copy, 3, "three", "", 0), 0);
    assert_int_equal(number(db, "SELECT max(id) FROM thing"), 2);
    assert_int_equal(db_copy(db, scratch_path(state, "copy.db")), -EEXIST);
    assert_int_equal(db_copy(db, scratch_path(state, "none/copy.db")), -ENOENT);
}

/* Which is a number of the file's header: 1 with a journal, 2 with a WAL. */
static int write_version(const char *path)
{
    unsigned char header[19];
    FILE *file = fopen(path, "r");

    assert_non_null(file);
    assert_int_equal(fread(header, sizeof(header), 1, file), 1);
    fclose(file);
    return header[18];
}

static void test_sealed_and_unsealed(void **state)
{
    _cleanup_db_ struct db *db = make(scratch_path(state, "sealed.db")), *immutable = NULL, *again = NULL;
    const char *path = scratch_path(state, "sealed.db");

    assert_int_equal(insert(db, 1, "one", "", 0), 0);
    db_close(io_take(db));
    assert_int_equal(db_seal(path, "UPDATE thing SET id = 2", false), 0);
    assert_int_equal(write_version(path), 1);
    assert_int_equal(db_unseal(path, "UPDATE thing SET id = 3"), 0);
    assert_int_equal(write_version(path), 2);
    assert_int_equal(access(scratch_path(state, "sealed.db-wal"), F_OK), -1);
    assert_int_equal(db_open_immutable(&immutable, path), 0);
    assert_int_equal(number(immutable, "SELECT id FROM thing"), 3);
    assert_int_equal(db_open(&again, path, DB_WRITE), 0);
    assert_int_equal(insert(again, 4, "four", "", 0), 0);
    assert_int_equal(number(immutable, "SELECT max(id) FROM thing"), 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_settings),
        cmocka_unit_test(test_binds_and_columns),
        cmocka_unit_test(test_unknown_bind_aborts),
        cmocka_unit_test(test_constraints),
        cmocka_unit_test(test_opening_what_is_not_there),
        cmocka_unit_test(test_permission),
        cmocka_unit_test(test_reading_only),
        cmocka_unit_test(test_damage),
        cmocka_unit_test(test_full),
        cmocka_unit_test(test_errno_behind_an_io_error),
        cmocka_unit_test(test_full_disk),
        cmocka_unit_test(test_busy),
        cmocka_unit_test(test_data_version),
        cmocka_unit_test(test_wal_stays_until_checkpoint),
        cmocka_unit_test(test_commit_is_one_write),
        cmocka_unit_test(test_checkpoint_waits_for_nobody),
        cmocka_unit_test(test_sync_reaches_the_wal),
        cmocka_unit_test(test_sync_without_wal),
        cmocka_unit_test(test_immutable_with_an_odd_name),
        cmocka_unit_test(test_copy),
        cmocka_unit_test(test_sealed_and_unsealed),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
