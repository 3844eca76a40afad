#include "scratch.h"

#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "commit.h"
#include "db.h"
#include "dice.h"
#include "io.h"

/* A database, a directory of objects, and the module on both. */
struct bench {
    char path[4096];
    int objects_fd;
    struct db *db;
    struct commit *commit;
    db_stmt *insert;
    int settled; /* calls of commit_settle_fn */
    int settle_result;
};

static int settle(void *data)
{
    struct bench *bench = data;

    bench->settled++;
    return bench->settle_result;
}

static void bench_open(struct bench *bench, const char *directory)
{
    char path[4100];

    *bench = (struct bench){0};
    snprintf(bench->path, sizeof(bench->path), "%s.db", directory);
    snprintf(path, sizeof(path), "%s.d", directory);
    assert_int_equal(io_mkdir(AT_FDCWD, path, 0700), 0);
    bench->objects_fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_true(bench->objects_fd >= 0);
    assert_int_equal(db_open(&bench->db, bench->path, DB_CREATE), 0);
    assert_int_equal(db_exec(bench->db, "CREATE TABLE IF NOT EXISTS thing(id INTEGER PRIMARY KEY, data BLOB)"), 0);
    assert_int_equal(db_prepare(bench->db, &bench->insert, "INSERT INTO thing VALUES(:id, :data)"), 0);
    assert_int_equal(commit_new(&bench->commit, bench->db, bench->objects_fd, "bench", settle, NULL, bench), 0);
}

static void bench_close(struct bench *bench)
{
    commit_free(bench->commit);
    db_close(bench->db);
    close(bench->objects_fd);
}

static int add(struct bench *bench, int64_t id, size_t size)
{
    static const char zeros[1 << 20];

    db_bind_int(bench->insert, ":id", id);
    db_bind_blob(bench->insert, ":data", zeros, size);
    return db_run(bench->insert);
}

/* One operation that adds a row; `error` as in commit_end(). */
static struct commit_batch *do_add(struct bench *bench, int64_t id, int error)
{
    struct commit_batch *batch = NULL;

    assert_int_equal(commit_begin(bench->commit), 0);
    assert_int_equal(add(bench, id, 10), 0);
    assert_int_equal(commit_end(bench->commit, error, &batch), error);
    assert_true((batch != NULL) == (error == 0));
    return batch;
}

static int64_t count_rows(struct db *db, const char *where)
{
    _cleanup_free_ char *sql = io_format("SELECT count(*) FROM thing WHERE %s", where);
    _cleanup_stmt_ db_stmt *statement = NULL;

    assert_int_equal(db_prepare(db, &statement, sql), 0);
    assert_int_equal(db_step(statement), 1);
    return db_int(statement, 0);
}

/* What another process would see. */
static int64_t count_written(const struct bench *bench)
{
    _cleanup_db_ struct db *other = NULL;

    assert_int_equal(db_open(&other, bench->path, DB_READ), 0);
    return count_rows(other, "1");
}

static void make_object(const struct bench *bench, const char *name)
{
    _cleanup_close_ int fd = openat(bench->objects_fd, name, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(io_write(fd, "contents", 8), 0);
}

static bool object_exists(const struct bench *bench, const char *name)
{
    return faccessat(bench->objects_fd, name, F_OK, 0) == 0;
}

static void test_undo_leaves_earlier_operations(void **state)
{
    struct commit_batch *first, *third;
    struct bench bench;

    bench_open(&bench, scratch_path(state, "undo"));
    first = do_add(&bench, 1, 0);
    do_add(&bench, 2, -EEXIST);
    third = do_add(&bench, 3, 0);
    assert_ptr_equal(first, third);
    assert_int_equal(commit_wait(bench.commit, first), 0);
    assert_int_equal(commit_wait(bench.commit, third), 0);
    assert_int_equal(count_written(&bench), 2);
    assert_int_equal(count_rows(bench.db, "id IN (1, 3)"), 2);
    bench_close(&bench);
}

static void test_undo_of_the_first_operation(void **state)
{
    struct bench bench;

    bench_open(&bench, scratch_path(state, "first"));
    do_add(&bench, 1, -EIO);
    assert_int_equal(commit_sync(bench.commit), 0);
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 1, 0)), 0);
    assert_int_equal(count_written(&bench), 1);
    bench_close(&bench);
}

static void test_flush_shows_rows_to_others(void **state)
{
    struct commit_batch *one, *two;
    struct bench bench;
    int64_t since;

    bench_open(&bench, scratch_path(state, "flush"));
    assert_false(commit_pending(bench.commit, &since));
    one = do_add(&bench, 1, 0);
    two = do_add(&bench, 2, 0);
    assert_int_equal(count_written(&bench), 0);
    scratch_wal_syncs = 0;
    assert_int_equal(commit_flush(bench.commit, one), 0);
    assert_int_equal(count_written(&bench), 2);
    assert_int_equal(commit_flush(bench.commit, two), 0);
    assert_int_equal(scratch_wal_syncs, 0);
    assert_true(commit_pending(bench.commit, &since)); /* written is not durable */
    assert_int_equal(commit_sync(bench.commit), 0);
    assert_int_equal(scratch_wal_syncs, 1);
    assert_false(commit_pending(bench.commit, &since));
    assert_int_equal(commit_sync(bench.commit), 0);
    assert_int_equal(scratch_wal_syncs, 1);
    bench_close(&bench);
}

static void test_wait_after_another_batch_began(void **state)
{
    struct commit_batch *one, *two;
    struct bench bench;

    bench_open(&bench, scratch_path(state, "later"));
    one = do_add(&bench, 1, 0);
    assert_int_equal(commit_sync(bench.commit), 0);
    two = do_add(&bench, 2, 0);
    assert_ptr_not_equal(one, two);
    scratch_wal_syncs = 0;
    assert_int_equal(commit_wait(bench.commit, one), 0);
    assert_int_equal(scratch_wal_syncs, 0);
    assert_int_equal(count_written(&bench), 1);
    commit_release(bench.commit, two);
    bench_close(&bench);
    bench_open(&bench, scratch_path(state, "later"));
    assert_int_equal(count_written(&bench), 2); /* commit_free() left nothing behind */
    bench_close(&bench);
}

static void test_dropped_objects_go_when_durable(void **state)
{
    struct commit_batch *batch = NULL;
    struct bench bench;

    bench_open(&bench, scratch_path(state, "drop"));
    make_object(&bench, "17");
    make_object(&bench, "18");
    assert_int_equal(commit_begin(bench.commit), 0);
    assert_int_equal(commit_drops_object(bench.commit, 18), 0);
    assert_int_equal(commit_end(bench.commit, -EIO, &batch), -EIO);
    assert_int_equal(commit_begin(bench.commit), 0);
    assert_int_equal(commit_drops_object(bench.commit, 17), 0);
    assert_int_equal(commit_drops_object(bench.commit, 999), 0); /* not there: no harm */
    assert_int_equal(commit_end(bench.commit, 0, &batch), 0);
    assert_true(object_exists(&bench, "17"));
    assert_int_equal(commit_flush(bench.commit, batch), 0);
    assert_true(object_exists(&bench, "17"));
    assert_int_equal(commit_sync(bench.commit), 0);
    assert_false(object_exists(&bench, "17"));
    commit_free(bench.commit);
    assert_true(object_exists(&bench, "18"));
    db_close(bench.db);
    close(bench.objects_fd);
}

static void test_needed_objects(void **state)
{
    struct commit_batch *batch = NULL;
    struct bench bench;

    bench_open(&bench, scratch_path(state, "need"));
    make_object(&bench, "17");
    assert_int_equal(commit_begin(bench.commit), 0);
    commit_adds_object(bench.commit);
    for (uint64_t object = 0; object < 100; object++) assert_int_equal(commit_needs_object(bench.commit, object), 0);
    assert_int_equal(commit_end(bench.commit, 0, &batch), 0);
    assert_int_equal(commit_wait(bench.commit, batch), 0); /* objects that are gone need nothing */
    /* One that cannot be opened must not be taken for synced. */
    assert_int_equal(symlinkat("17", bench.objects_fd, "18"), 0);
    assert_int_equal(commit_begin(bench.commit), 0);
    assert_int_equal(commit_needs_object(bench.commit, 18), 0);
    assert_int_equal(commit_end(bench.commit, -ENOSPC, &batch), -ENOSPC);
    assert_int_equal(commit_sync(bench.commit), 0);
    assert_int_equal(commit_begin(bench.commit), 0);
    assert_int_equal(commit_needs_object(bench.commit, 18), 0);
    assert_int_equal(commit_end(bench.commit, 0, &batch), 0);
    assert_true(commit_wait(bench.commit, batch) < 0);
    bench_close(&bench);
}

static struct commit_batch *do_need(struct bench *bench, uint64_t object)
{
    struct commit_batch *batch;

    assert_int_equal(commit_begin(bench->commit), 0);
    assert_int_equal(commit_needs_object(bench->commit, object), 0);
    assert_int_equal(commit_end(bench->commit, 0, &batch), 0);
    return batch;
}

/* Once the contents are on the disk, and not before; not again without anything new. */
static void test_needed_objects_without_a_descriptor_left(void **state)
{
    struct commit_batch *batch = NULL;
    struct rlimit before, low;
    struct bench bench;
    int r;

    bench_open(&bench, scratch_path(state, "descriptors"));
    make_object(&bench, "17");
    commit_release(bench.commit, do_add(&bench, 1, 0));
    assert_int_equal(commit_begin(bench.commit), 0);
    assert_int_equal(commit_needs_object(bench.commit, 17), 0);
    assert_int_equal(commit_end(bench.commit, 0, &batch), 0);
    assert_int_equal(getrlimit(RLIMIT_NOFILE, &before), 0);
    low = (struct rlimit){.rlim_cur = 0, .rlim_max = before.rlim_max};
    assert_int_equal(setrlimit(RLIMIT_NOFILE, &low), 0);
    r = commit_wait(bench.commit, batch);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(r, 0);
    assert_int_equal(count_written(&bench), 1);
    bench_close(&bench);
}

static void test_settle(void **state)
{
    struct commit_batch *batch;
    struct bench bench;

    bench_open(&bench, scratch_path(state, "settle"));
    make_object(&bench, "17");
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 1, 0)), 0);
    assert_int_equal(bench.settled, 0);
    batch = do_need(&bench, 17);
    assert_int_equal(commit_flush(bench.commit, batch), 0);
    assert_int_equal(bench.settled, 0);
    assert_int_equal(commit_sync(bench.commit), 0);
    assert_int_equal(bench.settled, 1);
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 2, 0)), 0);
    assert_int_equal(bench.settled, 1);
    /* One that failed is made up for. */
    bench.settle_result = -ENOSPC;
    commit_release(bench.commit, do_need(&bench, 17));
    commit_sync(bench.commit);
    bench.settle_result = 0;
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 3, 0)), 0);
    assert_int_equal(bench.settled, 3);
    assert_int_equal(count_written(&bench), 3);
    bench_close(&bench);
}

static void test_failed_sync_ends_writing(void **state)
{
    struct commit_batch *batch;
    struct bench bench;

    bench_open(&bench, scratch_path(state, "broken"));
    make_object(&bench, "17");
    assert_int_equal(commit_begin(bench.commit), 0);
    assert_int_equal(commit_drops_object(bench.commit, 17), 0);
    assert_int_equal(commit_end(bench.commit, 0, &batch), 0);
    scratch_fail_sync = true;
    assert_int_equal(commit_wait(bench.commit, batch), -EIO);
    scratch_fail_sync = false;
    assert_true(object_exists(&bench, "17"));
    assert_int_equal(commit_begin(bench.commit), -EIO);
    assert_int_equal(commit_sync(bench.commit), -EIO);
    commit_lock(bench.commit); /* reading goes on */
    assert_int_equal(count_rows(bench.db, "1"), 0);
    commit_unlock(bench.commit);
    bench_close(&bench);
}

struct worker {
    struct bench *bench;
    pthread_t thread;
    int64_t first;
    int count;
    bool wait;
    int failures;
};

static void *work(void *data)
{
    struct worker *w = data;

    for (int i = 0; i < w->count; i++) {
        struct commit_batch *batch;
        int r = commit_begin(w->bench->commit);

        if (r == 0) r = add(w->bench, w->first + i, w->wait ? 10 : 3000);
        if (r == 0) r = commit_end(w->bench->commit, i % 10 == 9 ? -ECANCELED : 0, &batch);
        if (i % 10 == 9) w->failures += r != -ECANCELED;
        else if (r == 0) w->failures += (w->wait ? commit_wait : commit_flush)(w->bench->commit, batch) != 0;
        else w->failures++;
    }
    return NULL;
}

static void start(struct worker *workers, int count, struct worker of)
{
    for (int i = 0; i < count; i++) {
        workers[i] = of;
        workers[i].first = i * 1000000;
        assert_int_equal(pthread_create(&workers[i].thread, NULL, work, &workers[i]), 0);
    }
}

static void join(struct worker *workers, int count)
{
    for (int i = 0; i < count; i++) {
        pthread_join(workers[i].thread, NULL);
        assert_int_equal(workers[i].failures, 0);
    }
}

/* Frames of the WAL that end a transaction (sqlite.org/fileformat2.html, "WAL frame header format"). */
static int count_commits(const char *wal)
{
    _cleanup_close_ int fd = open(wal, O_RDONLY | O_CLOEXEC);
    unsigned char header[24], salt[8];
    int count = 0;

    assert_true(fd >= 0);
    assert_int_equal(io_pread(fd, salt, sizeof(salt), 16), sizeof(salt));
    for (off_t at = 32; io_pread(fd, header, sizeof(header), at) == sizeof(header); at += sizeof(header) + 4096) {
        if (memcmp(header + 8, salt, sizeof(salt)) != 0) break;
        if (memcmp(header + 4, "\0\0\0", 4) != 0) count++;
    }
    return count;
}

static void test_group_commit(void **state)
{
    enum { THREADS = 8, COUNT = 200, KEPT = THREADS * COUNT * 9 / 10 };
    struct worker workers[THREADS];
    struct bench bench;
    int commits;

    bench_open(&bench, scratch_path(state, "group"));
    scratch_wal_syncs = 0;
    start(workers, THREADS, (struct worker){.bench = &bench, .count = COUNT, .wait = true});
    join(workers, THREADS);
    assert_int_equal(count_written(&bench), KEPT);
    commits = count_commits(scratch_path(state, "group.db-wal"));
    print_message("%d operations of %d threads: %d commits, %d syncs\n", KEPT, THREADS, commits, scratch_wal_syncs);
    assert_in_range(scratch_wal_syncs, 1, KEPT / 2);
    assert_in_range(commits, 1, KEPT / 2);
    bench_close(&bench);
}

static off_t size_of(const char *path)
{
    struct stat st;

    return stat(path, &st) < 0 ? 0 : st.st_size;
}

static void test_checkpoint_while_threads_write(void **state)
{
    enum { THREADS = 4, COUNT = 6000 };
    struct worker workers[THREADS];
    struct bench bench;
    int longest = 0, emptied = 0, before = 0;

    bench_open(&bench, scratch_path(state, "checkpoint"));
    start(workers, THREADS, (struct worker){.bench = &bench, .count = COUNT});
    for (int i = 0; i < 400; i++) {
        int pages;

        assert_int_equal(commit_checkpoint(bench.commit, bench.path), 0);
        commit_lock(bench.commit);
        pages = db_wal_pages(bench.db);
        commit_unlock(bench.commit);
        emptied += pages < before;
        longest = pages > longest ? pages : longest;
        before = pages;
        usleep(2000);
    }
    join(workers, THREADS);
    print_message("WAL began anew %d times; at most %d pages seen\n", emptied, longest);
    assert_true(emptied > 0);
    assert_true(longest < THREADS * COUNT * 2);
    assert_int_equal(count_written(&bench), THREADS * COUNT * 9 / 10);
    bench_close(&bench);
    assert_true(size_of(scratch_path(state, "checkpoint.db")) > 0);
}

static void test_checkpoint_of_a_short_wal_does_nothing(void **state)
{
    struct bench bench;
    off_t before;

    bench_open(&bench, scratch_path(state, "short"));
    before = size_of(bench.path);
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 1, 0)), 0);
    assert_int_equal(commit_checkpoint(bench.commit, bench.path), 0);
    assert_int_equal(size_of(bench.path), before);
    bench_close(&bench);
}

static void test_checkpoint_empties_a_long_wal(void **state)
{
    struct commit_batch *batch;
    struct bench bench;

    bench_open(&bench, scratch_path(state, "long"));
    assert_int_equal(commit_begin(bench.commit), 0);
    for (int i = 1; i <= 20; i++) assert_int_equal(add(&bench, i, 1 << 20), 0);
    assert_int_equal(commit_end(bench.commit, 0, &batch), 0);
    assert_int_equal(commit_flush(bench.commit, batch), 0);
    assert_true(db_wal_pages(bench.db) > 4096);
    commit_release(bench.commit, do_add(&bench, 1000, 0)); /* an open batch must not keep the WAL from ending */
    assert_int_equal(commit_checkpoint(bench.commit, bench.path), 0);
    assert_true(size_of(bench.path) > 20 << 20);
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 1001, 0)), 0);
    assert_in_range(db_wal_pages(bench.db), 1, 10);
    assert_int_equal(count_written(&bench), 22);
    bench_close(&bench);
}

/* A batch that does not fit onto the disk: all of its operations fail, nothing of it is kept, and no object is lost. */
static void check_full_disk(struct bench *bench, const char *filler,
                            int (*finish)(struct commit *commit, struct commit_batch *batch))
{
    struct commit_batch *batches[3] = {0};
    static char data[200000];
    _cleanup_close_ int fd = -1;

    assert_int_equal(commit_wait(bench->commit, do_add(bench, 1, 0)), 0);
    make_object(bench, "17");
    fd = open(filler, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    assert_true(fd >= 0);
    for (int i = 0; i < 3; i++) {
        assert_int_equal(commit_begin(bench->commit), 0);
        assert_int_equal(add(bench, 100 + i, 30000), 0);
        if (i == 1) assert_int_equal(commit_drops_object(bench->commit, 17), 0);
        assert_int_equal(commit_end(bench->commit, 0, &batches[i]), 0);
    }
    while (write(fd, data, sizeof(data)) > 0) continue;
    for (int i = 0; i < 3; i++) assert_int_equal(finish(bench->commit, batches[i]), -ENOSPC);
    assert_int_equal(count_rows(bench->db, "1"), 1);
    assert_true(object_exists(bench, "17"));
    assert_int_equal(ftruncate(fd, 0), 0);
    assert_int_equal(commit_wait(bench->commit, do_add(bench, 2, 0)), 0);
    assert_int_equal(count_written(bench), 2);
    assert_true(object_exists(bench, "17"));
}

static void test_full_disk(void **state)
{
    struct bench bench;

    scratch_tmpfs(state, "small", 1024);
    bench_open(&bench, scratch_path(state, "small/flush"));
    check_full_disk(&bench, scratch_path(state, "small/filler"), commit_flush);
    bench_close(&bench);
    bench_open(&bench, scratch_path(state, "small/wait"));
    check_full_disk(&bench, scratch_path(state, "small/filler"), commit_wait);
    bench_close(&bench);
    scratch_unmount(state, "small");
}

/* SQLite gives up the whole transaction when a statement finds the database full: so do all who are in it. */
static void test_full_database(void **state)
{
    struct commit_batch *early, *batch = NULL;
    struct bench bench;
    int r;

    bench_open(&bench, scratch_path(state, "full"));
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 1, 0)), 0);
    assert_int_equal(db_exec(bench.db, "PRAGMA max_page_count = 10"), 0);
    early = do_add(&bench, 2, 0);
    assert_int_equal(commit_begin(bench.commit), 0);
    r = add(&bench, 3, 100000);
    assert_int_equal(r, -ENOSPC);
    assert_int_equal(commit_end(bench.commit, r, &batch), -ENOSPC);
    r = commit_wait(bench.commit, early);
    assert_true(r == 0 || r == -ENOSPC);
    assert_int_equal(count_written(&bench), r == 0 ? 2 : 1);
    assert_int_equal(db_exec(bench.db, "PRAGMA max_page_count = 1000000"), 0);
    assert_int_equal(commit_wait(bench.commit, do_add(&bench, 4, 0)), 0);
    bench_close(&bench);
}

static void test_rename_and_publish(void **state)
{
    struct stat st;
    _cleanup_close_ int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    scratch_write(scratch_path(state, "new"), "text");
    assert_int_equal(commit_rename(fd, "new", "final"), 0);
    assert_int_equal(commit_rename(fd, "new", "final"), -ENOENT);
    assert_int_equal(fstatat(fd, "final", &st, 0), 0);
    assert_int_equal(st.st_size, 4);
    assert_int_equal(mkdirat(fd, "tree", 0700), 0);
    assert_int_equal(commit_publish(fd, "tree", "published"), 0);
    assert_int_equal(commit_publish(fd, "tree", "published"), -ENOENT);
    assert_int_equal(fstatat(fd, "published", &st, 0), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_undo_leaves_earlier_operations),
        cmocka_unit_test(test_undo_of_the_first_operation),
        cmocka_unit_test(test_flush_shows_rows_to_others),
        cmocka_unit_test(test_wait_after_another_batch_began),
        cmocka_unit_test(test_dropped_objects_go_when_durable),
        cmocka_unit_test(test_needed_objects),
        cmocka_unit_test(test_needed_objects_without_a_descriptor_left),
        cmocka_unit_test(test_settle),
        cmocka_unit_test(test_failed_sync_ends_writing),
        cmocka_unit_test(test_group_commit),
        cmocka_unit_test(test_checkpoint_of_a_short_wal_does_nothing),
        cmocka_unit_test(test_checkpoint_empties_a_long_wal),
        cmocka_unit_test(test_checkpoint_while_threads_write),
        cmocka_unit_test(test_full_database),
        cmocka_unit_test(test_rename_and_publish),
        cmocka_unit_test(test_full_disk),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
