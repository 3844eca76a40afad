/* Contents of regular files, of the image and new ones: opening, appending, unlinked files, holes, sizes, mmap. */
#include <fcntl.h>
#include <linux/falloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_tree.h"

enum { THREADS = 8, LINES = 150, LINE = 64, RACES = 40 };

static const char *at(const char *name)
{
    return harness_at(0, "%s", name);
}
static int open_at(const char *name, int flags)
{
    return must(open(at(name), flags | O_CLOEXEC, 0644));
}

static struct stat stat_of(const char *name)
{
    struct stat st;
    must(lstat(at(name), &st));
    return st;
}

static off_t size_of(int fd)
{
    struct stat st;
    must(fstat(fd, &st));
    return st.st_size;
}

static void write_at(int fd, const void *data, size_t size, off_t offset)
{
    must_hold(must(pwrite(fd, data, size, offset)) == (ssize_t)size, "short write");
}

static void check_bytes(int fd, const void *data, size_t size, off_t offset)
{
    char *found = malloc(size);
    ssize_t length = must(pread(fd, found, size, offset));
    bool is_same = length == (ssize_t)size && memcmp(found, data, size) == 0;
    free(found);
    must_hold(is_same, "%zd bytes of %zu at %ld are others", length, size, offset);
}

static void check_made(int fd, uint64_t seed, size_t size, off_t offset)
{
    char *expected = malloc(size);
    made_fill(seed, (uint64_t)offset, expected, size);
    check_bytes(fd, expected, size, offset);
    free(expected);
}

static void check_zeros(int fd, size_t size, off_t offset)
{
    char *zeros = calloc(1, size);
    check_bytes(fd, zeros, size, offset);
    free(zeros);
}

/* A file of the image under another name's copy, so that each test has one of its own: made anew in the node. */
static void make(const char *name, uint64_t seed, size_t size)
{
    made_file(at(name), seed, size, 0644);
}

/* ---- threads ---- */

struct racer {
    pthread_t thread;
    int number;
    const char *name;
    int won, error;
};

static void race(void *(*body)(void *racer), const char *name, struct racer racers[THREADS])
{
    for (int i = 0; i < THREADS; i++) {
        racers[i] = (struct racer){.number = i, .name = name};
        assert_int_equal(pthread_create(&racers[i].thread, NULL, body, &racers[i]), 0);
    }
    for (int i = 0; i < THREADS; i++) pthread_join(racers[i].thread, NULL);
    for (int i = 0; i < THREADS; i++) must_hold(racers[i].error == 0, "thread %d: %s", i, strerror(racers[i].error));
}

static void *create_exclusively(void *data)
{
    struct racer *racer = data;
    for (int i = 0; i < RACES; i++) {
        int fd = open(harness_at(0, "%s_%d", racer->name, i), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644);
        if (fd >= 0)
            racer->won++, close(fd);
        else if (errno != EEXIST)
            racer->error = errno;
    }
    return NULL;
}

static void test_o_excl_lets_one_of_many_creators_win(void **state)
{
    (void)state;
    struct racer racers[THREADS];
    race(create_exclusively, "exclusive", racers);
    int won = 0;
    for (int i = 0; i < THREADS; i++) won += racers[i].won;
    assert_int_equal(won, RACES);
}

static void *append_lines(void *data)
{
    struct racer *racer = data;
    char line[LINE];
    int fd = open(at(racer->name), O_WRONLY | O_APPEND | O_CLOEXEC);
    memset(line, 'a' + racer->number, LINE);
    for (int i = 0; i < LINES && fd >= 0; i++)
        if (write(fd, line, LINE) != LINE) racer->error = errno ? errno : EIO;
    if (fd < 0 || close(fd) < 0) racer->error = errno;
    return NULL;
}

static void check_appended(const char *name, uint64_t seed, size_t size)
{
    struct racer racers[THREADS];
    race(append_lines, name, racers);
    int fd = open_at(name, O_RDONLY), counts[THREADS] = {0};
    assert_int_equal(size_of(fd), size + THREADS * LINES * LINE);
    check_made(fd, seed, size, 0);
    for (int i = 0; i < THREADS * LINES; i++) {
        char line[LINE];
        must(pread(fd, line, LINE, (off_t)(size + (size_t)i * LINE)));
        for (int j = 1; j < LINE; j++) must_hold(line[j] == line[0], "line %d is torn", i);
        must_hold(line[0] >= 'a' && line[0] < 'a' + THREADS, "line %d holds %02x", i, line[0]);
        counts[line[0] - 'a']++;
    }
    for (int i = 0; i < THREADS; i++) assert_int_equal(counts[i], LINES);
    must(close(fd));
}

static void test_o_append_by_many_threads_loses_nothing_in_a_new_file(void **state)
{
    (void)state;
    make("append", 1, 0);
    check_appended("append", 1, 0);
}

static void test_o_append_by_many_threads_loses_nothing_in_a_file_of_the_image(void **state)
{
    (void)state;
    check_appended("sizes/16385", 16385, 16385);
}

/* ---- opening, unlinked files ---- */

static void test_o_trunc_empties_every_link_of_a_file_of_the_image(void **state)
{
    (void)state;
    must(close(open_at("links/a", O_WRONLY | O_TRUNC)));
    assert_int_equal(stat_of("links/sub/c").st_size, 0);
    harness_drop_caches();
    assert_int_equal(stat_of("links/b").st_size, 0);
    assert_int_equal(stat_of("links/b").st_nlink, 3);
}

static void check_unlinked(const char *name, uint64_t seed, size_t size)
{
    int fd = open_at(name, O_RDWR);
    must(unlink(at(name)));
    struct stat st;
    must(fstat(fd, &st));
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_size, size);
    check_made(fd, seed, size, 0);
    write_at(fd, "after", 5, (off_t)size);
    make(name, seed + 1, 10);
    harness_drop_caches();
    check_bytes(fd, "after", 5, (off_t)size);
    check_made(fd, seed, size, 0);
    assert_int_equal(size_of(fd), size + 5);
    must(ftruncate(fd, 3));
    must(fchmod(fd, 0600));
    assert_int_equal(size_of(fd), 3);
    made_check_file(at(name), seed + 1, 10);
    must(close(fd));
    made_check_file(at(name), seed + 1, 10);
}

static void test_an_unlinked_file_of_the_image_lives_while_it_is_open(void **state)
{
    (void)state;
    check_unlinked("sizes/65536", 65536, 65536);
}

static void test_an_unlinked_small_file_of_the_image_lives_while_it_is_open(void **state)
{
    (void)state;
    check_unlinked("sizes/100", 100, 100);
}

static void test_an_unlinked_new_file_lives_while_it_is_open(void **state)
{
    (void)state;
    make("unlinked", 3, 70000);
    check_unlinked("unlinked", 3, 70000);
}

static void test_a_file_replaced_by_rename_lives_while_it_is_open(void **state)
{
    (void)state;
    int fd = open_at("victims/other", O_RDONLY);
    make("replacement", 4, 200);
    must(rename(at("replacement"), at("victims/other")));
    harness_drop_caches();
    check_made(fd, 66, 40000, 0);
    made_check_file(at("victims/other"), 4, 200);
    must(close(fd));
}

static void test_a_removed_directory_takes_no_new_names(void **state)
{
    (void)state;
    must(mkdir(at("removed"), 0755));
    int fd = open_at("removed", O_RDONLY | O_DIRECTORY);
    must(rmdir(at("removed")));
    struct stat st;
    must(fstat(fd, &st));
    assert_int_equal(st.st_nlink, 0);
    must_fail(ENOENT, openat(fd, "x", O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
    must_fail(ENOENT, mkdirat(fd, "x", 0755));
    must(close(fd));
}

static void test_o_tmpfile_works_or_says_that_it_does_not(void **state)
{
    (void)state;
    int fd = open(at("tree"), O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
    if (fd < 0) {
        must_hold(errno == EOPNOTSUPP, "%s", strerror(errno));
        return;
    }
    struct stat st;
    must(fstat(fd, &st));
    assert_int_equal(st.st_nlink, 0);
    assert_int_equal(st.st_mode, S_IFREG | 0600);
    write_at(fd, "kept", 4, 0);
    char path[64];
    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    must(linkat(AT_FDCWD, path, AT_FDCWD, at("from_tmpfile"), AT_SYMLINK_FOLLOW));
    must(close(fd));
    harness_remount();
    assert_int_equal(stat_of("from_tmpfile").st_size, 4);
    assert_int_equal(stat_of("from_tmpfile").st_nlink, 1);
    must(unlink(at("from_tmpfile")));
}

/* ---- bytes and sizes ---- */

static void test_a_byte_written_into_a_file_of_the_image_changes_only_that_byte(void **state)
{
    (void)state;
    int fd = open_at(MADE_LARGE_NAME, O_RDWR);
    write_at(fd, "!", 1, 3000001);
    harness_drop_caches();
    check_made(fd, MADE_LARGE, 3000001, 0);
    check_bytes(fd, "!", 1, 3000001);
    check_made(fd, MADE_LARGE, MADE_LARGE - 3000002, 3000002);
    assert_int_equal(size_of(fd), MADE_LARGE);
    must(close(fd));
}

static void test_a_shortened_file_shows_zeros_when_it_grows_again(void **state)
{
    (void)state;
    static const char *const names[] = {"sizes/131071", "sizes/4097", "regrown"};
    static const off_t sizes[] = {131071, 4097, 50000};
    make("regrown", 50000, 50000);
    for (int i = 0; i < 3; i++) {
        off_t kept = sizes[i] / 2 + 1;
        must(truncate(at(names[i]), kept));
        must(truncate(at(names[i]), sizes[i] + 10000));
        harness_drop_caches();
        int fd = open_at(names[i], O_RDONLY);
        check_made(fd, (uint64_t)sizes[i], (size_t)kept, 0);
        check_zeros(fd, (size_t)(sizes[i] + 10000 - kept), kept);
        must(close(fd));
    }
}

/* Through every size at which contents may move from one kind of storage to another, with a reader beside. */
static void test_a_file_grows_and_shrinks_without_a_reader_noticing(void **state)
{
    (void)state;
    enum { STEP = 1500, END = 300000 };
    make("growing", 9, 0);
    int fd = open_at("growing", O_WRONLY | O_APPEND), reader = open_at("growing", O_RDONLY);
    char block[STEP];
    for (size_t size = 0; size < END; size += STEP) {
        made_fill(9, size, block, STEP);
        must_hold(must(write(fd, block, STEP)) == STEP, "short write");
        assert_int_equal(size_of(reader), size + STEP);
        check_made(reader, 9, STEP, (off_t)size);
    }
    check_made(reader, 9, END, 0);
    for (size_t size = END; size > 0; size = size * 2 / 3) {
        must(ftruncate(fd, (off_t)size));
        assert_int_equal(size_of(reader), size);
        check_made(reader, 9, size, 0);
    }
    must(close(fd));
    must(close(reader));
}

static void test_a_file_of_more_than_four_gigabytes(void **state)
{
    (void)state;
    const off_t far = (off_t)5 << 30;
    make("huge", 1, 100);
    int fd = open_at("huge", O_RDWR);
    write_at(fd, "far away", 8, far);
    must(fsync(fd));
    must(close(fd));
    harness_remount();
    fd = open_at("huge", O_RDWR);
    assert_int_equal(size_of(fd), far + 8);
    check_bytes(fd, "far away", 8, far);
    check_made(fd, 1, 100, 0);
    check_zeros(fd, 4096, (off_t)1 << 32);
    struct stat st = stat_of("huge");
    must_hold(st.st_blocks < 2048, "%ld blocks of a sparse file", st.st_blocks);
    must_hold(must(lseek(fd, 1 << 20, SEEK_DATA)) > far - (1 << 20), "data in the middle of nothing");
    must(ftruncate(fd, ((off_t)1 << 32) + 1));
    assert_int_equal(size_of(fd), ((off_t)1 << 32) + 1);
    must(close(fd));
    must(unlink(at("huge")));
}

static void test_copy_file_range_from_the_image_into_a_new_file(void **state)
{
    (void)state;
    make("copied", 2, 10);
    int from = open_at("sizes/131073", O_RDONLY), to = open_at("copied", O_RDWR);
    loff_t in = 1001, out = 5;
    for (size_t left = 100000; left > 0;) {
        ssize_t copied = must(copy_file_range(from, &in, to, &out, left, 0));
        must_hold(copied > 0, "nothing copied with %zu left", left);
        left -= (size_t)copied;
    }
    char expected[100000];
    made_fill(131073, 1001, expected, sizeof(expected));
    check_made(to, 2, 5, 0);
    check_bytes(to, expected, sizeof(expected), 5);
    assert_int_equal(size_of(to), 100005);
    must(close(from));
    must(close(to));
}

static void test_sendfile_and_direct_reading(void **state)
{
    (void)state;
    make("sent", 2, 0);
    int from = open_at("boot/vmlinuz", O_RDONLY), to = open_at("sent", O_WRONLY);
    for (ssize_t sent = 1; sent > 0;) sent = must(sendfile(to, from, NULL, 1 << 20));
    must(close(from));
    must(close(to));
    made_check_file(at("sent"), 68, 300000);
    int fd = open(at("sent"), O_RDWR | O_DIRECT | O_CLOEXEC);
    if (fd < 0 && errno == EINVAL) return; /* open(2) allows a file system to have none */
    void *block = aligned_alloc(4096, 8192);
    assert_int_equal(must(pread(must(fd), block, 8192, 4096)), 8192);
    assert_true(made_matches(68, 4096, block, 8192));
    assert_int_equal(must(pwrite(fd, block, 8192, 16384)), 8192);
    free(block);
    must(close(fd));
    fd = open_at("sent", O_RDONLY);
    check_made(fd, 68, 16384, 0);
    char expected[8192];
    made_fill(68, 4096, expected, sizeof(expected));
    check_bytes(fd, expected, sizeof(expected), 16384);
    must(close(fd));
}

/* ---- holes ---- */

static void check_no_data_is_lost_in_holes(int fd, uint64_t seed, off_t from, off_t to)
{
    must_hold(must(lseek(fd, from, SEEK_DATA)) == from, "SEEK_DATA passes over data at %ld", from);
    must_hold(must(lseek(fd, from, SEEK_HOLE)) >= to, "SEEK_HOLE finds a hole before %ld", to);
    check_made(fd, seed, (size_t)(to - from), from);
}

static void check_sparse(const char *name, uint64_t seed, off_t data, off_t end, off_t size)
{
    int fd = open_at(name, O_RDONLY);
    assert_int_equal(size_of(fd), size);
    check_no_data_is_lost_in_holes(fd, seed, data, end);
    if (data > 0) {
        must_hold(must(lseek(fd, 0, SEEK_HOLE)) == 0, "no hole at the start of %s", name);
        must_hold(must(lseek(fd, 0, SEEK_DATA)) > data - (1 << 20), "data long before %ld", data);
        check_zeros(fd, (size_t)data, 0);
    }
    if (end < size) must_fail(ENXIO, lseek(fd, size - 1, SEEK_DATA));
    must(close(fd));
}

static void test_holes_of_the_image_are_holes(void **state)
{
    (void)state;
    check_sparse("sparse/head", 7, 3 << 20, 4 << 20, 4 << 20);
    check_sparse("sparse/middle", 7, 4 << 20, (4 << 20) + (1 << 16), 8 << 20);
    check_sparse("sparse/tail", 7, 0, 1 << 16, 4 << 20);
    int fd = open_at("sparse/all", O_RDONLY);
    must_fail(ENXIO, lseek(fd, 0, SEEK_DATA));
    assert_int_equal(must(lseek(fd, 0, SEEK_HOLE)), 0);
    must(close(fd));
}

static void test_holes_stay_after_a_write_beside_them(void **state)
{
    (void)state;
    int fd = open_at("sparse/all", O_RDWR);
    char block[4096];
    made_fill(5, 8 << 20, block, sizeof(block));
    write_at(fd, block, sizeof(block), 8 << 20);
    check_no_data_is_lost_in_holes(fd, 5, 8 << 20, (8 << 20) + 4096);
    off_t data = must(lseek(fd, 0, SEEK_DATA));
    must_hold(data > 7 << 20, "data at %ld", data);
    must_hold(must(lseek(fd, 8 << 20, SEEK_HOLE)) < 9 << 20, "no hole behind what was written");
    check_zeros(fd, 8 << 20, 0);
    must(close(fd));
}

static void check_punched(const char *name, uint64_t seed, off_t size)
{
    int fd = open_at(name, O_RDWR);
    off_t from = size / 4 + 23, length = size / 2;
    int64_t before = stat_of(name).st_blocks;
    must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, from, length));
    harness_drop_caches();
    assert_int_equal(size_of(fd), size);
    check_made(fd, seed, (size_t)from, 0);
    check_zeros(fd, (size_t)length, from);
    check_made(fd, seed, (size_t)(size - from - length), from + length);
    struct stat st = stat_of(name);
    must_hold(size < 1 << 20 || st.st_blocks < before - (length >> 9) * 3 / 4, "%ld blocks, before %ld", st.st_blocks,
              before);
    if (size >= 1 << 20) {
        off_t hole = must(lseek(fd, from, SEEK_HOLE));
        must_hold(hole < from + (1 << 18), "the hole at %ld is found at %ld", from, hole);
    }
    must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, size - 10, 1000));
    assert_int_equal(size_of(fd), size);
    check_zeros(fd, 10, size - 10);
    must(close(fd));
}

static void test_punch_hole_in_files_of_the_image(void **state)
{
    (void)state;
    check_punched("modes/user", 3, 300);
    check_punched("tree/a/b/c/four", 64, 200000);
}

static void test_punch_hole_in_new_files(void **state)
{
    (void)state;
    make("punched_small", 6, 5000);
    check_punched("punched_small", 6, 5000);
    make("punched", 6, 4 << 20);
    check_punched("punched", 6, 4 << 20);
}

static void check_zero_range(const char *name, uint64_t seed, off_t size)
{
    int fd = open_at(name, O_RDWR);
    must(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, size - 100, 5000));
    assert_int_equal(size_of(fd), size);
    check_made(fd, seed, (size_t)size - 100, 0);
    check_zeros(fd, 100, size - 100);
    must(fallocate(fd, FALLOC_FL_ZERO_RANGE, size - 100, 5000));
    assert_int_equal(size_of(fd), size + 4900);
    check_zeros(fd, 5000, size - 100);
    must(close(fd));
}

static void test_zero_range_with_and_without_keep_size(void **state)
{
    (void)state;
    make("zeroed", 8, 60000);
    check_zero_range("zeroed", 8, 60000);
    make("zeroed_small", 8, 600);
    check_zero_range("zeroed_small", 8, 600);
    check_zero_range("tree/a/two", 62, 20000);
}

static void check_allocation(const char *name, uint64_t seed, off_t size)
{
    int fd = open_at(name, O_RDWR);
    must(fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, size + 100000));
    assert_int_equal(size_of(fd), size);
    must(fallocate(fd, 0, 0, size / 2));
    assert_int_equal(size_of(fd), size);
    must(fallocate(fd, 0, size / 2, size));
    assert_int_equal(size_of(fd), size / 2 + size);
    harness_drop_caches();
    check_made(fd, seed, (size_t)size, 0);
    check_zeros(fd, (size_t)(size / 2 + size - size), size);
    must(close(fd));
}

static void test_fallocate_grows_and_keeps(void **state)
{
    (void)state;
    make("allocated", 14, 30000);
    check_allocation("allocated", 14, 30000);
    make("allocated_small", 14, 600);
    check_allocation("allocated_small", 14, 600);
    check_allocation("usr/bin/tool", 71, 90000);
}

/* ---- mmap ---- */

static void check_shared_mapping(const char *name, uint64_t seed, size_t size)
{
    int fd = open_at(name, O_RDWR);
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    assert_true(made_matches(seed, 0, map, size));
    memcpy(map + size / 2, "mapped", 6);
    check_bytes(fd, "mapped", 6, (off_t)(size / 2));
    write_at(fd, "written", 7, 1);
    must_hold(memcmp(map + 1, "written", 7) == 0, "the mapping does not show what was written");
    must(msync(map, size, MS_SYNC));
    must(munmap(map, size));
    must(close(fd));
    harness_drop_caches();
    fd = open_at(name, O_RDONLY);
    check_bytes(fd, "mapped", 6, (off_t)(size / 2));
    check_bytes(fd, "written", 7, 1);
    assert_int_equal(size_of(fd), size);
    must(close(fd));
}

static void test_shared_mapping_of_a_file_of_the_image(void **state)
{
    (void)state;
    check_shared_mapping("sizes/4096", 4096, 4096);
    check_shared_mapping("sizes/16384", 16384, 16384);
}

static void test_shared_mapping_of_a_new_file(void **state)
{
    (void)state;
    make("mapped", 15, 500000);
    check_shared_mapping("mapped", 15, 500000);
    make("mapped_small", 15, 1000);
    check_shared_mapping("mapped_small", 15, 1000);
}

static void test_private_mapping_changes_no_file(void **state)
{
    (void)state;
    int fd = open_at("boot/config.txt", O_RDONLY);
    char *map = mmap(NULL, 300, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    memset(map, 'p', 300);
    must(munmap(map, 300));
    must(close(fd));
    made_check_file(at("boot/config.txt"), 69, 300);
}

static void test_a_mapping_outlives_its_descriptor_and_its_name(void **state)
{
    (void)state;
    make("outlived", 16, 100000);
    int fd = open_at("outlived", O_RDWR);
    char *map = mmap(NULL, 100000, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    must(close(fd));
    must(unlink(at("outlived")));
    harness_drop_caches();
    assert_true(made_matches(16, 0, map, 100000));
    memset(map, 'x', 100000);
    must(msync(map, 100000, MS_SYNC));
    must(munmap(map, 100000));
}

/* ---- special files ---- */

static void test_fifos_pass_bytes(void **state)
{
    (void)state;
    must(mkfifo(at("fifo"), 0644));
    static const char *const names[] = {"fifo", "special/fifo"};
    for (int i = 0; i < 2; i++) {
        int fd = open_at(names[i], O_RDWR | O_NONBLOCK);
        char found[4] = "";
        assert_int_equal(must(write(fd, "pipe", 4)), 4);
        assert_int_equal(must(read(fd, found, 4)), 4);
        assert_memory_equal(found, "pipe", 4);
        must(close(fd));
    }
}

static void test_sockets_bind_and_connect(void **state)
{
    (void)state;
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const char *path = at("bound");
    if (strlen(path) >= sizeof(address.sun_path)) {
        must(chdir(harness_root(0)));
        path = "bound";
    }
    strcpy(address.sun_path, path);
    int server = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0)),
        client = must(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
    must(bind(server, (struct sockaddr *)&address, sizeof(address)));
    must(listen(server, 1));
    must(connect(client, (struct sockaddr *)&address, sizeof(address)));
    assert_true(S_ISSOCK(stat_of("bound").st_mode));
    must(chdir("/"));
    must(close(server));
    must(close(client));
}

static void test_devices_work(void **state)
{
    (void)state;
    must(mknod(at("zero"), S_IFCHR | 0666, 0x105));
    int fd = open_at("zero", O_RDONLY);
    check_zeros(fd, 100, 0);
    must(close(fd));
    fd = open_at("special/null", O_RDWR);
    assert_int_equal(must(write(fd, "gone", 4)), 4);
    must(close(fd));
}

static void test_a_program_that_runs_is_not_written(void **state)
{
    (void)state;
    assert_int_equal(harness_run(NULL, "cp", "/bin/sleep", at("program"), NULL), 0);
    int ready[2];
    must(pipe2(ready, O_CLOEXEC));
    pid_t pid = must(fork());
    if (pid == 0) {
        execl(at("program"), "program", "30", NULL);
        _exit(1);
    }
    close(ready[1]);
    char byte;
    must(read(ready[0], &byte, 1)); /* ends when exec has closed the other end */
    close(ready[0]);
    int fd = open(at("program"), O_WRONLY | O_CLOEXEC), error = errno;
    if (fd >= 0) close(fd);
    must(kill(pid, SIGKILL));
    must(waitpid(pid, NULL, 0));
    must_hold(fd < 0 && error == ETXTBSY, "%s", fd < 0 ? strerror(error) : "opened");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_o_excl_lets_one_of_many_creators_win),
        cmocka_unit_test(test_o_append_by_many_threads_loses_nothing_in_a_new_file),
        cmocka_unit_test(test_o_append_by_many_threads_loses_nothing_in_a_file_of_the_image),
        cmocka_unit_test(test_o_trunc_empties_every_link_of_a_file_of_the_image),
        cmocka_unit_test(test_an_unlinked_file_of_the_image_lives_while_it_is_open),
        cmocka_unit_test(test_an_unlinked_small_file_of_the_image_lives_while_it_is_open),
        cmocka_unit_test(test_an_unlinked_new_file_lives_while_it_is_open),
        cmocka_unit_test(test_a_file_replaced_by_rename_lives_while_it_is_open),
        cmocka_unit_test(test_a_removed_directory_takes_no_new_names),
        cmocka_unit_test(test_o_tmpfile_works_or_says_that_it_does_not),
        cmocka_unit_test(test_a_byte_written_into_a_file_of_the_image_changes_only_that_byte),
        cmocka_unit_test(test_a_shortened_file_shows_zeros_when_it_grows_again),
        cmocka_unit_test(test_a_file_grows_and_shrinks_without_a_reader_noticing),
        cmocka_unit_test(test_a_file_of_more_than_four_gigabytes),
        cmocka_unit_test(test_copy_file_range_from_the_image_into_a_new_file),
        cmocka_unit_test(test_sendfile_and_direct_reading),
        cmocka_unit_test(test_holes_of_the_image_are_holes),
        cmocka_unit_test(test_holes_stay_after_a_write_beside_them),
        cmocka_unit_test(test_punch_hole_in_files_of_the_image),
        cmocka_unit_test(test_punch_hole_in_new_files),
        cmocka_unit_test(test_zero_range_with_and_without_keep_size),
        cmocka_unit_test(test_fallocate_grows_and_keeps),
        cmocka_unit_test(test_shared_mapping_of_a_file_of_the_image),
        cmocka_unit_test(test_shared_mapping_of_a_new_file),
        cmocka_unit_test(test_private_mapping_changes_no_file),
        cmocka_unit_test(test_a_mapping_outlives_its_descriptor_and_its_name),
        cmocka_unit_test(test_fifos_pass_bytes),
        cmocka_unit_test(test_sockets_bind_and_connect),
        cmocka_unit_test(test_devices_work),
        cmocka_unit_test(test_a_program_that_runs_is_not_written),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
