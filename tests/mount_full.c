/* A store whose file system fills up: the caller is told so, nothing earlier is harmed, and deleting makes room
 * again. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fault_disk.h"
#include "fault_store.h"
#include "harness.h"
#include "made_tree.h"

enum { DISK_BYTES = 32 << 20, SMALL_DISK_BYTES = 16 << 20, PIECE = 128 << 10, SMALL = 3000, LARGEST_ROW = 16000, TARGET = 2000, KEPT = 8, FILE_LIMIT = 4 << 20 };

static struct fault_disk *disk;

static const char *disk_directory(void)
{
    return fault_store_beside("disk");
}

/* ---- writing until there is no room ---- */

/* Where it leads nothing is: a name and a row, as any other that is no file. */
static const char *target(void)
{
    static char text[TARGET + 1];
    memset(text, 't', TARGET);
    return text;
}

/* 0, or the negative errno of the call that failed. Of size 0: a symlink. */
static int make_file(const char *path, uint64_t seed, size_t size)
{
    if (!size) return symlink(target(), path) < 0 ? -errno : 0;
    unsigned char *bytes = malloc(size);
    int fd = bytes ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644) : -1, r = fd < 0 ? -errno : 0;
    made_fill(seed, 0, bytes, size);
    for (size_t at = 0; r == 0 && at < size;) {
        ssize_t n = pwrite(fd, bytes + at, size - at < PIECE ? size - at : PIECE, (off_t)at);
        if (n < 0) r = -errno;
        else at += (size_t)n;
    }
    if (r == 0 && fsync(fd) < 0) r = -errno;
    if (fd >= 0) close(fd);
    free(bytes);
    return r;
}

/* A long name: names alone then fill the disk soon. */
static const char *numbered(const char *name, int number)
{
    return fault_store_at("%s/%0250d", name, number);
}

/* Whole files of one size, till one does not fit, which is removed: how many. */
static int fill_with(const char *name, size_t size)
{
    int count = 0, r = 0;
    must(mkdir(fault_store_at("%s", name), 0755));
    while ((r = make_file(numbered(name, count), (uint64_t)count, size)) == 0) count++;
    must_hold(r == -ENOSPC, "%s: file %d of %zu bytes: %s", name, count, size, strerror(-r));
    if (unlink(numbered(name, count)) < 0) must_hold(errno == ENOENT || errno == ENOSPC, "unlink: %s", strerror(errno));
    return count;
}

static void check_files(const char *name, int count, size_t size)
{
    char found[TARGET + 1];
    for (int i = 0; i < count; i++) {
        if (size) made_check_file(numbered(name, i), (uint64_t)i, size);
        else assert_int_equal(readlink(numbered(name, i), found, sizeof(found)), TARGET);
    }
}

static void remove_files(const char *name, int from, int end)
{
    for (int i = from; i < end; i++)
        must_hold(unlink(numbered(name, i)) == 0, "%s: deleting file %d of %d: %s", name, i, end, strerror(errno));
}

/* ---- what must hold on a full disk ---- */

static void make_earlier(void)
{
    must(mkdir(fault_store_at("earlier"), 0755));
    for (int i = 0; i < KEPT; i++)
        assert_int_equal(make_file(fault_store_at("earlier/%d", i), (uint64_t)i, i % 2 ? 1 << 18 : 5000), 0);
}

static void check_earlier(void)
{
    for (int i = 0; i < KEPT; i++)
        made_check_file(fault_store_at("earlier/%d", i), (uint64_t)i, i % 2 ? 1 << 18 : 5000);
    made_check_file(fault_store_at("image/large"), 5, 600000);
    made_check_file(fault_store_at("image/small"), 6, 900);
}

static void must_be_full(int result, const char *what)
{
    must_hold(result == 0 || errno == ENOSPC, "%s: %s", what, strerror(errno));
}

/* Each of these may still find room, or be told that there is none; what could not be changed is as it was. */
static void try_everything(void)
{
    const char *earlier = fault_store_at("earlier/1");
    must_be_full(mkdir(fault_store_at("try-dir"), 0755), "mkdir");
    must_be_full(symlink("to", fault_store_at("try-symlink")), "symlink");
    must_be_full(link(earlier, fault_store_at("try-link")), "link");
    must_be_full(rename(fault_store_at("try-link"), fault_store_at("try-renamed")) == 0 || errno == ENOENT ? 0 : -1,
                 "rename");
    must_be_full(chmod(earlier, 0600), "chmod");
    must_be_full(truncate(fault_store_at("image/truncated"), 100000), "truncate of an image's file");
    int fd = must(open(fault_store_at("image/written"), O_WRONLY | O_CLOEXEC));
    must_be_full(pwrite(fd, "byte", 4, 100000) < 0 ? -1 : 0, "write into an image's file");
    must_be_full(fsync(fd), "fsync");
    must(close(fd));
    must(access(earlier, F_OK));
}

static void go_round(void)
{
    assert_true(fault_store_umount());
    must_hold(fault_store_is_sound(disk_directory()), "the database is damaged");
    assert_true(fault_store_mount(disk_directory(), NULL));
    check_earlier();
}

static void begin(size_t bytes, const char *options)
{
    if (!fault_disk_is_possible()) skip();
    disk = fault_disk_new(bytes);
    assert_true(fault_disk_mount(disk, disk_directory()));
    fault_store_make(disk_directory());
    assert_true(fault_store_mount(disk_directory(), options));
    make_earlier();
}

static int stop(void **state)
{
    (void)state;
    fault_store_stop();
    if (disk) fault_disk_umount(disk, disk_directory());
    fault_disk_free(disk);
    disk = NULL;
    return 0;
}

/* Fills the disk with files of one size twice over: the first time's room comes back. */
static void fill_and_empty(const char *first, const char *second, size_t size)
{
    int count = fill_with(first, size);
    must_hold(count > 10, "%d files", count);
    try_everything();
    check_earlier();
    check_files(first, count, size);
    remove_files(first, 0, count);
    assert_int_equal(rmdir(fault_store_at("%s", first)), 0);
    check_earlier();

    int again = fill_with(second, size);
    print_message("full after %d files of %zu bytes, the second time after %d\n", count, size, again);
    must_hold(again >= count * 9 / 10, "full after %d files, the second time after %d", count, again);
    check_files(second, again, size);
    check_earlier();
    go_round();
    check_files(second, again, size);
    remove_files(second, 0, again);
}

static void test_small_files_fill_the_disk(void **state)
{
    (void)state;
    begin(SMALL_DISK_BYTES, NULL);
    fill_and_empty("first", "second", SMALL);
}

static void test_large_files_fill_the_disk(void **state)
{
    (void)state;
    begin(DISK_BYTES, NULL);
    fill_and_empty("first", "second", 700000);
}

/* The room of rows goes to objects. */
static void test_small_files_make_room_for_large_ones(void **state)
{
    (void)state;
    begin(DISK_BYTES, NULL);
    int usual = fill_with("large", 700000);
    remove_files("large", 0, usual);
    int small = fill_with("small", LARGEST_ROW);
    remove_files("small", 0, small);
    double end = harness_seconds() + 10;
    int count = 0;
    for (int turn = 0; count < usual * 9 / 10 && harness_seconds() < end; turn++) {
        if (turn) usleep(250000); /* the housekeeper gives room back in steps */
        while (make_file(fault_store_at("large/b%d", count), (uint64_t)count, 700000) == 0) count++;
        unlink(fault_store_at("large/b%d", count));
    }
    print_message("%d large files; after %d small ones %d\n", usual, small, count);
    must_hold(count >= usual * 9 / 10, "%d large files after %d small ones, %d before", count, small, usual);
    check_earlier();
    go_round();
    for (int i = 0; i < count; i++) made_check_file(fault_store_at("large/b%d", i), (uint64_t)i, 700000);
}

static void test_names_alone_fill_the_disk(void **state)
{
    (void)state;
    begin(SMALL_DISK_BYTES, "async");
    fill_and_empty("first", "second", 0);
}

/* ---- a disk without a single block left ---- */

enum { MANY = 6, MANY_BYTES = 300000 };

static int fill_to_the_last_block(void)
{
    static unsigned char block[4096];
    int fd = must(open(fault_store_beside("disk/filler"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    while (write(fd, block, sizeof(block)) > 0) continue;
    must(fsync(fd));
    return fd;
}

/* The database has room of its own for a while. */
static void change_until_it_fails(void)
{
    int failed = 0;
    for (int turn = 0; turn < 5000 && failed < 20; turn++) {
        const char *path = numbered("many", turn % MANY);
        int r = turn % 3 == 0   ? chmod(path, turn % 2 ? 0600 : 0644)
                : turn % 3 == 1 ? symlink("to", fault_store_at("s%d", turn))
                                : mkdir(fault_store_at("d%d", turn), 0700);
        must_be_full(r, "change");
        failed += r < 0;
    }
    must_hold(failed, "the disk never filled up");
}

static void delete_some(bool is_there[MANY])
{
    for (int i = 0; i < MANY; i++) {
        int r = i % 2 ? truncate(numbered("many", i), 0) : unlink(numbered("many", i));
        must_be_full(r, "delete");
        is_there[i] = r < 0;
    }
}

static void check_deleted(const bool is_there[MANY])
{
    for (int i = 0; i < MANY; i++) {
        struct stat st;
        if (is_there[i]) made_check_file(numbered("many", i), (uint64_t)i, MANY_BYTES);
        else assert_true(stat(numbered("many", i), &st) < 0 || st.st_size == 0);
    }
}

static void test_a_change_that_finds_no_room_changes_nothing(void **state)
{
    bool is_there[MANY];
    (void)state;
    begin(DISK_BYTES, NULL);
    must(mkdir(fault_store_at("many"), 0755));
    for (int i = 0; i < MANY; i++) assert_int_equal(make_file(numbered("many", i), (uint64_t)i, MANY_BYTES), 0);
    int filler = fill_to_the_last_block();
    change_until_it_fails();
    delete_some(is_there);
    harness_drop_caches();
    check_deleted(is_there);
    check_earlier();

    must(ftruncate(filler, 0));
    must(fsync(filler));
    must(close(filler));
    assert_int_equal(make_file(fault_store_at("after"), 1, MANY_BYTES), 0);
    go_round();
    made_check_file(fault_store_at("after"), 1, MANY_BYTES);
    check_deleted(is_there);
}

/* The largest file that the daemon may write is smaller than what is asked of it. */
static void test_a_limit_on_the_daemon_s_files_is_told_to_the_caller(void **state)
{
    (void)state;
    begin(DISK_BYTES, NULL);
    assert_true(fault_store_umount());
    assert_true(fault_store_mount_limited(disk_directory(), RLIMIT_FSIZE, FILE_LIMIT));
    check_earlier();
    int r = make_file(fault_store_at("too-large"), 1, FILE_LIMIT + PIECE);
    must_hold(r == -ENOSPC || r == -EFBIG, "large file: %s", r ? strerror(-r) : "was written");
    must_hold(make_file(fault_store_at("fits"), 2, FILE_LIMIT / 2) == 0, "a file that fits");
    /* The database has the same limit. */
    int count = fill_with("rows", LARGEST_ROW);
    print_message("limit met after %d files of %d bytes\n", count, LARGEST_ROW);
    must_hold(count > FILE_LIMIT / 2 / LARGEST_ROW, "after %d files", count);
    check_files("rows", count, LARGEST_ROW);
    made_check_file(fault_store_at("fits"), 2, FILE_LIMIT / 2);
    check_earlier();
    remove_files("rows", 0, count);
    int again = fill_with("again", LARGEST_ROW);
    must_hold(again >= count * 9 / 10, "%d files, the second time %d", count, again);
    check_files("again", again, LARGEST_ROW);
    go_round();
    remove_files("again", 0, again);
    must(unlink(fault_store_at("fits")));
    assert_int_equal(make_file(fault_store_at("large"), 3, FILE_LIMIT + PIECE), 0);
}

static int setup(void **state)
{
    (void)state;
    fault_store_begin(115);
    must(mkdir(fault_store_beside("source/image"), 0755));
    made_file(fault_store_beside("source/image/large"), 5, 600000, 0644);
    made_file(fault_store_beside("source/image/small"), 6, 900, 0644);
    made_file(fault_store_beside("source/image/truncated"), 7, 200000, 0644);
    made_file(fault_store_beside("source/image/written"), 8, 200000, 0644);
    must(mkdir(disk_directory(), 0755));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_store_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_small_files_fill_the_disk, stop),
        cmocka_unit_test_teardown(test_large_files_fill_the_disk, stop),
        cmocka_unit_test_teardown(test_small_files_make_room_for_large_ones, stop),
        cmocka_unit_test_teardown(test_names_alone_fill_the_disk, stop),
        cmocka_unit_test_teardown(test_a_change_that_finds_no_room_changes_nothing, stop),
        cmocka_unit_test_teardown(test_a_limit_on_the_daemon_s_files_is_told_to_the_caller, stop),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
