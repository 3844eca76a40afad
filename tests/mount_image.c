/* A node and its image: what is shown before any change, what a change costs, and that it harms nobody else. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "harness.h"
#include "made_tree.h"

enum { BIG_FILES = 3, BIG_SIZE = 200 << 20, STRIDE = 1 << 20, PIECE = 1 << 16 };

static const char *at(const char *name)
{
    return harness_at(0, "%s", name);
}

static struct stat stat_of(const char *path)
{
    struct stat st;
    must_hold(lstat(path, &st) == 0, "%s: %s", path, strerror(errno));
    return st;
}

/* 200 MiB with 64 KiB of data in each MiB. */
static void add_big_files(const char *image)
{
    static char piece[PIECE];
    for (int i = 0; i < BIG_FILES; i++) {
        char path[1400];
        snprintf(path, sizeof(path), "%s/big_%d", image, i);
        int fd = must(open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
        must(ftruncate(fd, BIG_SIZE));
        for (off_t offset = 0; offset < BIG_SIZE; offset += STRIDE) {
            made_fill(9, (uint64_t)(offset + STRIDE - PIECE), piece, PIECE);
            must(pwrite(fd, piece, PIECE, offset + STRIDE - PIECE));
        }
        must(close(fd));
    }
}

static int64_t cost_so_far(void)
{
    sync();
    return harness_disk_usage(harness_beside("store/nodes/%s", harness_serial(0)));
}

/* ---- before any change ---- */

static void check_shown(int node)
{
    assert_int_equal(compare_trees(harness_source(), harness_root(node), COMPARE_TIMES), 0);
}

static void test_a_fresh_node_shows_the_image_exactly(void **state)
{
    (void)state;
    check_shown(0);
    harness_drop_caches();
    check_shown(0);
    check_shown(1);
    harness_remount();
    check_shown(1);
}

static void test_a_fresh_node_shows_the_blocks_of_the_image(void **state)
{
    (void)state;
    static const char *const names[] = {"sizes/0",       "sizes/100",    MADE_LARGE_NAME, "sparse/all",
                                        "sparse/middle", "boot/vmlinuz", "big_0"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        struct stat image = stat_of(harness_beside("source/%s", names[i])), node = stat_of(at(names[i]));
        long difference = labs((long)image.st_blocks - (long)node.st_blocks);
        must_hold(difference <= image.st_blocks / 10 + 16, "%s: %ld blocks, not %ld", names[i], node.st_blocks,
                  image.st_blocks);
    }
}

static void test_statfs_tells_of_the_disk_below(void **state)
{
    (void)state;
    struct statvfs disk, node;
    must(statvfs(harness_directory(), &disk));
    must(statvfs(harness_root(0), &node));
    assert_int_equal(node.f_namemax, 255);
    uint64_t size = disk.f_blocks * disk.f_frsize, shown = node.f_blocks * node.f_frsize;
    must_hold(shown > size - size / 50 && shown < size + size / 50, "%lu bytes, not %lu", shown, size);
    uint64_t space = disk.f_bavail * disk.f_frsize, shown_space = node.f_bavail * node.f_frsize;
    must_hold(shown_space > space - space / 20 && shown_space < space + space / 20, "%lu bytes, not %lu", shown_space,
              space);
    must_hold(node.f_files > 0 && node.f_ffree > 0, "no inodes");
}

/* ---- what a change costs ---- */

static void test_changed_attributes_of_a_large_file_cost_no_contents(void **state)
{
    (void)state;
    harness_needs_mount();
    must(chmod(at("etc/hostname"), 0600)); /* makes the delta */
    int64_t before = cost_so_far();
    struct stat image = stat_of(at("big_0"));
    must(chmod(at("big_0"), 0600));
    must(chown(at("big_0"), MADE_UID, MADE_GID));
    must(setxattr(at("big_0"), "user.big", "1", 1, 0));
    must(link(at("big_0"), at("big_link")));
    must(rename(at("big_link"), at("tree/big_link")));
    int64_t cost = cost_so_far() - before;
    must_hold(cost < 65536, "%ld bytes", cost);
    struct stat changed = stat_of(at("big_0"));
    assert_int_equal(changed.st_size, BIG_SIZE);
    assert_int_equal(changed.st_mode, S_IFREG | 0600);
    assert_int_equal(changed.st_mtim.tv_sec, image.st_mtim.tv_sec);
    must_hold(labs((long)(changed.st_blocks - image.st_blocks)) < image.st_blocks / 10 + 16, "%ld blocks",
              changed.st_blocks);
}

static double append_byte(const char *path)
{
    double start = harness_seconds();
    int fd = must(open(path, O_WRONLY | O_APPEND | O_CLOEXEC));
    assert_int_equal(must(write(fd, "+", 1)), 1);
    must(close(fd));
    return harness_seconds() - start;
}

static void test_appending_to_a_large_file_of_the_image_costs_a_chunk(void **state)
{
    (void)state;
    harness_needs_mount();
    int64_t before = cost_so_far();
    double fastest = 1000;
    for (int i = 0; i < BIG_FILES; i++) { /* the machine is shared: the fastest of the first appends counts */
        double seconds = append_byte(harness_at(0, "big_%d", i));
        fastest = seconds < fastest ? seconds : fastest;
    }
    int64_t cost = cost_so_far() - before;
    print_message("1 byte appended to 200 MiB: %.1f ms, %ld KiB\n", fastest * 1000, cost / BIG_FILES / 1024);
    must_hold(cost <= BIG_FILES * (1 << 20), "%ld bytes for %d files", cost, BIG_FILES);
    must_hold(fastest < 0.050, "%.1f ms", fastest * 1000);
    assert_int_equal(stat_of(at("big_1")).st_size, BIG_SIZE + 1);
}

static void check_big(int node, int number, bool is_changed)
{
    static char piece[PIECE];
    int fd = must(open(harness_at(node, "big_%d", number), O_RDONLY | O_CLOEXEC));
    for (off_t offset = STRIDE - PIECE; offset < BIG_SIZE; offset += 10 * STRIDE) {
        must_hold(must(pread(fd, piece, PIECE, offset)) == PIECE, "short read at %ld", offset);
        must_hold(made_matches(9, (uint64_t)offset, piece, PIECE), "contents at %ld", offset);
        must_hold(must(pread(fd, piece, 8, offset + PIECE)) == 8 || is_changed, "short read at %ld", offset);
        must_hold(memcmp(piece, "\0\0\0\0\0\0\0\0", 8) == 0, "no zeros at %ld", offset + PIECE);
    }
    if (is_changed) {
        assert_int_equal(must(pread(fd, piece, 8, BIG_SIZE)), 1);
        assert_int_equal(piece[0], '+');
    }
    must(close(fd));
}

static void test_the_rest_of_an_appended_file_is_the_image_s(void **state)
{
    (void)state;
    harness_needs_mount();
    check_big(0, 1, true);
    harness_remount();
    check_big(0, 1, true);
    check_big(1, 1, false);
}

static void test_a_byte_in_the_middle_costs_a_chunk(void **state)
{
    (void)state;
    harness_needs_mount();
    int64_t before = cost_so_far();
    int fd = must(open(at("big_2"), O_WRONLY | O_CLOEXEC));
    must(pwrite(fd, "-", 1, 100 << 20));
    must(fsync(fd));
    must(close(fd));
    int64_t cost = cost_so_far() - before;
    must_hold(cost <= 1 << 20, "%ld bytes", cost);
}

/* ---- blocks that du can trust ---- */

static void check_blocks(const char *name, off_t from, size_t size, int64_t least, int64_t most)
{
    int fd = must(open(at(name), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
    char *data = malloc(size + 1);
    made_fill(1, 0, data, size);
    must(pwrite(fd, data, size, from));
    free(data);
    must(fsync(fd));
    must(close(fd));
    int64_t bytes = stat_of(at(name)).st_blocks * 512;
    must_hold(bytes >= least && bytes <= most, "%s: %ld bytes on the disk, not %ld to %ld", name, bytes, least, most);
}

static void test_blocks_follow_the_data(void **state)
{
    (void)state;
    check_blocks("blocks_none", 0, 0, 0, 4096);
    check_blocks("blocks_small", 0, 3000, 512, 8192);
    check_blocks("blocks_some", 0, 100000, 100000, 200000);
    check_blocks("blocks_many", 0, 3 << 20, 3 << 20, (3 << 20) + (1 << 18));
    check_blocks("blocks_sparse", 1 << 30, 1 << 20, 1 << 20, (1 << 20) + (1 << 18));
    must(truncate(at("blocks_many"), 1 << 20));
    int64_t bytes = stat_of(at("blocks_many")).st_blocks * 512;
    must_hold(bytes <= (1 << 20) + (1 << 18), "%ld bytes after truncate", bytes);
}

static void test_deleting_gives_the_disk_back(void **state)
{
    (void)state;
    harness_needs_mount();
    made_file(at("temporary"), 1, 20 << 20, 0644);
    int64_t full = cost_so_far();
    must(unlink(at("temporary")));
    double start = harness_seconds();
    int64_t freed = full - cost_so_far();
    while (freed < 19 << 20 && harness_seconds() - start < 15) {
        usleep(100000);
        freed = full - cost_so_far();
    }
    must_hold(freed >= 19 << 20, "%ld bytes of 20 MiB came back", freed);
}

/* ---- nobody else is harmed ---- */

static void test_the_other_node_and_the_image_are_untouched(void **state)
{
    (void)state;
    static const char *const victims[] = {"sizes", "tree/a", "victims", "acls", "many", "links/a", "special"};
    for (size_t i = 0; i < sizeof(victims) / sizeof(victims[0]); i++)
        assert_int_equal(harness_run(NULL, "rm", "-r", at(victims[i]), NULL), 0);
    assert_int_equal(harness_run(NULL, "chmod", "-R", "a-r", at("modes"), NULL), 0);
    assert_int_equal(harness_run(NULL, "chown", "-R", "7:8", at("xattrs"), NULL), 0);
    must(rename(at("deep"), at("deeper")));
    must(truncate(at("boot/vmlinuz"), 12345));
    must(chmod(harness_root(0), 0700));
    check_shown(1);
    harness_remount();
    check_shown(1);
    if (harness_is_local()) return;
    assert_int_equal(
        compare_trees(harness_source(), harness_beside("store/images/%s/rootfs", HARNESS_IMAGE), COMPARE_TIMES), 0);
    assert_int_equal(harness_coppice(NULL, "node", "add", "node-c", NULL), 0);
    assert_int_equal(compare_trees(harness_source(), harness_on_mount("system/node-c/rootfs"), COMPARE_TIMES), 0);
}

static void test_a_node_s_changes_are_all_there_after_a_remount(void **state)
{
    (void)state;
    const char *copy = harness_beside("copy");
    char *output = NULL;
    int status = harness_run(&output, "cp", "-a", harness_root(0), copy, NULL);
    must_hold(status == 0, "cp: %s", output);
    free(output);
    assert_int_equal(compare_trees(copy, harness_root(0), COMPARE_TIMES), 0);
    harness_remount();
    assert_int_equal(compare_trees(copy, harness_root(0), COMPARE_TIMES), 0);
    harness_kill_daemon();
    harness_mount();
    assert_int_equal(compare_trees(copy, harness_root(0), COMPARE_TIMES), 0);
}

static int setup(void **state)
{
    (void)state;
    harness_start(&(struct harness_options){.extra = add_big_files});
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_fresh_node_shows_the_image_exactly),
        cmocka_unit_test(test_a_fresh_node_shows_the_blocks_of_the_image),
        cmocka_unit_test(test_statfs_tells_of_the_disk_below),
        cmocka_unit_test(test_changed_attributes_of_a_large_file_cost_no_contents),
        cmocka_unit_test(test_appending_to_a_large_file_of_the_image_costs_a_chunk),
        cmocka_unit_test(test_the_rest_of_an_appended_file_is_the_image_s),
        cmocka_unit_test(test_a_byte_in_the_middle_costs_a_chunk),
        cmocka_unit_test(test_blocks_follow_the_data),
        cmocka_unit_test(test_deleting_gives_the_disk_back),
        cmocka_unit_test(test_the_other_node_and_the_image_are_untouched),
        cmocka_unit_test(test_a_node_s_changes_are_all_there_after_a_remount),
    };
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
