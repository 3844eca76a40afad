/* One node's directory lies on a disk that makes mistakes: its callers get them, for the files concerned, the other nodes get none, and
 * when the disk is well again so is the node, without a remount. What was acknowledged holds. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fault_dir.h"
#include "fault_store.h"
#include "harness.h"
#include "made_tree.h"

/* Of a node; fault_store_at() is the other's root. */
#define BAD "../../node-bad/rootfs"

enum { LARGE = 300000, SMALL = 10000, FILES = 200, CHANGED = 6000 };
#define PATIENCE 10.0 /* for one turn of the other node's work on a busy machine */

static struct fault_dir *disk;
static int large[4]; /* held open all the time */

static void set(int read, int write, int sync, const char *only)
{
    fault_dir_set(disk, &(struct fault_dir_mistakes){.read = read, .write = write, .sync = sync, .only = only});
}

/* ---- what is there ---- */

static void make_files(void)
{
    for (int i = 0; i < 4; i++) made_file(fault_store_at(BAD "/large-%d", i), (uint64_t)i, LARGE, 0644);
    for (int i = 0; i < FILES; i++) made_file(fault_store_at(BAD "/small-%d", i), (uint64_t)i, SMALL, 0644);
}

static void check_files(void)
{
    harness_drop_caches();
    for (int i = 0; i < 4; i++) made_check_file(fault_store_at(BAD "/large-%d", i), (uint64_t)i, LARGE);
    for (int i = 0; i < FILES; i++) made_check_file(fault_store_at(BAD "/small-%d", i), (uint64_t)i, SMALL);
}

static bool is_mounted(void)
{
    return access(fault_store_at("."), F_OK) == 0;
}

/* Without a descriptor of the daemon's or a page of SQLite's from before. */
static void remount(void)
{
    for (int i = 0; i < 4; i++)
        if (large[i] > 0) close(large[i]);
    if (is_mounted()) assert_true(fault_store_umount());
    assert_true(fault_store_mount(fault_store_directory(), "sync"));
    for (int i = 0; i < 4; i++) large[i] = must(open(fault_store_at(BAD "/large-%d", i), O_RDWR | O_CLOEXEC));
}

static void work_elsewhere(void)
{
    static int turn;
    double start = harness_seconds();
    const char *file = fault_store_at("w%d", turn++);
    made_file(file, 1, LARGE, 0644);
    made_check_file(file, 1, LARGE);
    must(rename(file, fault_store_at("done")));
    must(unlink(fault_store_at("done")));
    must_hold(harness_seconds() - start < PATIENCE, "the other node's work took %.2f s", harness_seconds() - start);
}

/* ---- reading ---- */

static int count_failing_reads(void)
{
    char buffer[SMALL];
    int count = 0;
    harness_drop_caches();
    for (int i = 0; i < FILES; i++) {
        int fd = open(fault_store_at(BAD "/small-%d", i), O_RDONLY | O_CLOEXEC);
        ssize_t n = fd < 0 ? -1 : read(fd, buffer, sizeof(buffer));
        must_hold(n == SMALL || errno == EIO, "small-%d: %s", i, strerror(errno));
        if (n == SMALL) assert_true(made_matches((uint64_t)i, 0, buffer, SMALL));
        count += n < 0;
        if (fd >= 0) close(fd);
    }
    return count;
}

static void test_reads_fail_where_the_disk_does(void **state)
{
    char byte;
    (void)state;
    remount();
    set(EIO, 0, 0, "/objects/");
    harness_drop_caches();
    for (int i = 0; i < 4; i++) must_fail(EIO, pread(large[i], &byte, 1, 5000));
    assert_int_equal(count_failing_reads(), 0);
    work_elsewhere();
    set(0, 0, 0, NULL);
    check_files();

    remount();
    set(EIO, 0, 0, NULL);
    must_hold(count_failing_reads() > FILES / 2, "the rows were not read from the disk");
    must_fail(EIO, pread(large[0], &byte, 1, 5000));
    work_elsewhere();
    set(0, 0, 0, NULL);
    check_files();
    made_file(fault_store_at(BAD "/new"), 1, LARGE, 0644);
    must(unlink(fault_store_at(BAD "/new")));
}

/* Locally each failure of a handle is ESTALE (fs/fhandle.c); afterwards it shows that the handle is not. */
static void test_a_node_that_cannot_be_opened_is_not_stale(void **state)
{
    struct {
        struct file_handle handle;
        unsigned char bytes[MAX_HANDLE_SZ];
    } held = {.handle.handle_bytes = MAX_HANDLE_SZ};
    int mount, root;
    struct stat st;
    (void)state;
    remount();
    must(name_to_handle_at(AT_FDCWD, fault_store_at(BAD "/small-1"), &held.handle, &mount, 0));
    for (int i = 0; i < 4; i++) close(large[i]), large[i] = 0;
    assert_true(fault_store_umount());
    set(EIO, 0, 0, NULL);
    assert_true(fault_store_mount(fault_store_directory(), "sync"));
    root = must(open(fault_store_at("../../.."), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    must_fail(EIO, stat(fault_store_at(BAD), &st));
    must_fail(ESTALE, open_by_handle_at(root, &held.handle, O_RDONLY | O_CLOEXEC));
    work_elsewhere();
    set(0, 0, 0, NULL);
    close(must(open_by_handle_at(root, &held.handle, O_RDONLY | O_CLOEXEC)));
    close(root);
    check_files();
}

/* ---- writing ---- */

static bool is_there(const char *format, int i)
{
    return access(fault_store_at(format, i), F_OK) == 0;
}

/* What was refused is not there, what was not is, also for the next daemon. */
static void check_made(const bool made[], int count)
{
    for (int i = 0; i < count; i++) must_hold(is_there(BAD "/made-%d", i) == made[i], "made-%d: %d, acknowledged %d", i, !made[i], made[i]);
}

/* `error` for every third creation; the log of the database takes no bytes then. */
static void refuse_writes(int error)
{
    bool made[30];
    for (int i = 0; i < 30; i++) {
        set(0, i % 3 == 2 ? error : 0, 0, "delta.db-wal");
        made[i] = mkdir(fault_store_at(BAD "/made-%d", i), 0755) == 0;
        must_hold(made[i] == (i % 3 != 2), "made-%d: %s", i, strerror(errno));
        if (!made[i]) assert_int_equal(errno, error);
    }
    work_elsewhere();
    set(0, 0, 0, NULL);
    check_made(made, 30);
    fault_store_kill();
    fault_store_detach();
    remount();
    check_made(made, 30);
    for (int i = 0; i < 30; i++)
        if (made[i]) must(rmdir(fault_store_at(BAD "/made-%d", i)));
}

static void test_changes_that_could_not_be_written_are_not_there(void **state)
{
    (void)state;
    remount();
    refuse_writes(EIO);
    refuse_writes(ENOSPC);
    check_files();
}

static void test_contents_that_could_not_be_written(void **state)
{
    static unsigned char bytes[LARGE], changed[CHANGED];
    (void)state;
    remount();
    memset(changed, 7, sizeof(changed));
    set(0, EIO, 0, "/objects/");
    must_fail(EIO, pwrite(large[1], changed, CHANGED, 4096));
    work_elsewhere();
    set(0, ENOSPC, 0, "/objects/");
    must_fail(ENOSPC, pwrite(large[1], changed, CHANGED, 4096));
    set(0, 0, 0, NULL);
    check_files();
    assert_int_equal(pwrite(large[1], changed, CHANGED, 4096), CHANGED);
    must(fsync(large[1]));
    harness_drop_caches();
    assert_int_equal(pread(large[1], bytes, LARGE, 0), LARGE);
    assert_memory_equal(bytes + 4096, changed, CHANGED);
    assert_true(made_matches(1, 0, bytes, 4096));
    assert_true(made_matches(1, 4096 + CHANGED, bytes + 4096 + CHANGED, LARGE - 4096 - CHANGED));
    made_fill(1, 4096, changed, CHANGED);
    assert_int_equal(pwrite(large[1], changed, CHANGED, 4096), CHANGED);
}

/* Nobody knows what is on the disk then: no more changes until the next daemon; reading goes on. */
static void test_a_failed_fsync_ends_changes(void **state)
{
    (void)state;
    remount();
    must(mkdir(fault_store_at(BAD "/before"), 0755));
    set(0, 0, EIO, NULL);
    must_fail(EIO, mkdir(fault_store_at(BAD "/during"), 0755));
    work_elsewhere();
    set(0, 0, 0, NULL);
    must_fail(EIO, mkdir(fault_store_at(BAD "/after"), 0755));
    must_fail(EIO, fsync(large[2]));
    check_files();
    fault_store_kill();
    fault_store_detach();
    remount();
    assert_true(is_there(BAD "/before", 0));
    must(rmdir(fault_store_at(BAD "/before")));
    must(mkdir(fault_store_at(BAD "/after"), 0755));
    must(rmdir(fault_store_at(BAD "/after")));
    check_files();
}

/* The same when it is the contents of one file that could not be synced. */
static void test_a_failed_fsync_of_contents_ends_changes(void **state)
{
    (void)state;
    remount();
    assert_int_equal(pwrite(large[3], "", 0, 0), 0);
    set(0, 0, EIO, "/objects/");
    must_fail(EIO, fsync(large[3]));
    set(0, 0, 0, NULL);
    must_fail(EIO, fsync(large[3]));
    must_fail(EIO, mkdir(fault_store_at(BAD "/after"), 0755));
    work_elsewhere();
    check_files();
    fault_store_kill();
    fault_store_detach();
    remount();
    check_files();
    for (int i = 0; i < 4; i++) close(large[i]), large[i] = 0;
    assert_true(fault_store_umount());
    assert_true(fault_store_is_clean(fault_store_directory()));
}

/* ---- fixtures ---- */

static int setup(void **state)
{
    (void)state;
    fault_store_begin(200);
    made_file(fault_store_beside("source/image"), 5, 1000, 0644);
    fault_store_make(fault_store_directory());
    assert_int_equal(harness_run(NULL, getenv("COPPICE"), "--store", fault_store_beside("store"), "node", "add", "node-bad", NULL), 0);
    must(mkdir(fault_store_beside("beneath"), 0700));
    must(mkdir(fault_store_beside("store/nodes/node-bad"), 0700));
    disk = fault_dir_mount(fault_store_beside("beneath"), fault_store_beside("store/nodes/node-bad"));
    assert_true(fault_store_mount(fault_store_directory(), "sync"));
    made_file(fault_store_at("own"), 5, 1000, 0644);
    make_files();
    assert_true(fault_store_umount());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (disk) set(0, 0, 0, NULL);
    fault_store_stop();
    fault_dir_umount(disk);
    fault_store_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_reads_fail_where_the_disk_does),
        cmocka_unit_test(test_a_node_that_cannot_be_opened_is_not_stale),
        cmocka_unit_test(test_changes_that_could_not_be_written_are_not_there),
        cmocka_unit_test(test_contents_that_could_not_be_written),
        cmocka_unit_test(test_a_failed_fsync_ends_changes),
        cmocka_unit_test(test_a_failed_fsync_of_contents_ends_changes),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
