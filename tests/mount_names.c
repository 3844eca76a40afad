/* Names: renaming, linking, deleting and making again, of what comes from the image and what was made in the node. */
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_tree.h"

enum { JUGGLERS = 4, BALLS = 24, THROWS = 300 };

static const char *at(const char *name)
{
    return harness_at(0, "%s", name);
}
static int make_directory(const char *name)
{
    return must(mkdir(at(name), 0755));
}
static void make(const char *name, uint64_t seed, size_t size)
{
    made_file(at(name), seed, size, 0644);
}

static struct stat stat_of(const char *name)
{
    struct stat st;
    must_hold(lstat(at(name), &st) == 0, "%s: %s", name, strerror(errno));
    return st;
}

static ino_t ino_of(const char *name)
{
    return stat_of(name).st_ino;
}
static nlink_t nlink_of(const char *name)
{
    return stat_of(name).st_nlink;
}

static void must_be_missing(const char *name)
{
    struct stat st;
    must_hold(lstat(at(name), &st) < 0 && errno == ENOENT, "%s is there", name);
}

/* Number of entries that readdir shows, "." and ".." apart. */
static int count_of(const char *name)
{
    DIR *directory = opendir(at(name));
    must_hold(directory, "%s: %s", name, strerror(errno));
    int count = 0;
    while (readdir(directory)) count++;
    closedir(directory);
    return count - 2;
}

static bool lists(const char *directory_name, const char *name)
{
    DIR *directory = opendir(at(directory_name));
    must_hold(directory, "%s: %s", directory_name, strerror(errno));
    bool found = false;
    for (struct dirent *entry; (entry = readdir(directory));) found = found || strcmp(entry->d_name, name) == 0;
    closedir(directory);
    return found;
}

/* Runs the checks as the kernel's caches have it, as the daemon has it, and as the store has it. */
static void at_every_depth(void (*check)(void))
{
    check();
    harness_drop_caches();
    check();
    harness_remount();
    check();
}

/* ---- rename over something ---- */

static void check_file_replaced(void)
{
    made_check_file(at("sizes/4095"), 101, 77);
    must_be_missing("replacing");
    assert_int_equal(nlink_of("sizes/4095"), 1);
}

static void test_a_new_file_replaces_one_of_the_image(void **state)
{
    (void)state;
    make("replacing", 101, 77);
    must(rename(at("replacing"), at("sizes/4095")));
    at_every_depth(check_file_replaced);
}

static void check_image_file_replaced(void)
{
    made_check_file(at("many/entry_0001"), 4, 80);
    must_be_missing("many/entry_0004");
    assert_int_equal(count_of("many"), MADE_MANY - 1);
}

static void test_a_file_of_the_image_replaces_another(void **state)
{
    (void)state;
    must(rename(at("many/entry_0004"), at("many/entry_0001")));
    at_every_depth(check_image_file_replaced);
}

static void check_directory_replaced(void)
{
    made_check_file(at("empty/kept"), 102, 10);
    assert_int_equal(count_of("empty"), 1);
    must_be_missing("new_directory");
}

static void test_a_new_directory_replaces_an_empty_one_of_the_image(void **state)
{
    (void)state;
    make_directory("new_directory");
    make("new_directory/kept", 102, 10);
    must(rename(at("new_directory"), at("empty")));
    at_every_depth(check_directory_replaced);
}

static void check_emptied_replaced(void)
{
    assert_int_equal(count_of("victims/full"), 1);
    must_be_missing("victims/full/inside");
    made_check_file(at("victims/full/fresh"), 103, 10);
}

static void test_a_directory_of_the_image_that_was_emptied_is_replaced(void **state)
{
    (void)state;
    make_directory("successor");
    make("successor/fresh", 103, 10);
    must_fail(ENOTEMPTY, rename(at("successor"), at("victims/full")));
    must(unlink(at("victims/full/inside")));
    must(rename(at("successor"), at("victims/full")));
    at_every_depth(check_emptied_replaced);
}

static void check_link_over_link(void)
{
    assert_int_equal(nlink_of("links/small_1"), 2);
    assert_int_equal(ino_of("links/small_1"), ino_of("links/small_2"));
}

static void test_rename_over_a_link_of_the_same_file_does_nothing(void **state)
{
    (void)state;
    must(rename(at("links/small_1"), at("links/small_2")));
    at_every_depth(check_link_over_link);
}

/* ---- whole directories ---- */

static void check_moved_tree(void)
{
    must_be_missing("tree");
    must_be_missing("moved/a/b");
    made_check_file(at("moved/one"), 61, 1000);
    made_check_file(at("moved/a/two"), 62, 20000);
    made_check_file(at("deep/b_moved/c/four"), 64, 200000);
    made_check_file(at("deep/b_moved/added"), 104, 40);
    assert_int_equal(ino_of("deep/b_moved/.."), ino_of("deep"));
    assert_int_equal(ino_of("deep/b_moved/c/.."), ino_of("deep/b_moved"));
    assert_int_equal(ino_of("moved/.."), ino_of("."));
    assert_int_equal(nlink_of("moved"), 4);
    assert_int_equal(nlink_of("moved/a"), 2);
    assert_int_equal(nlink_of("deep"), 4);
    must_fail(ELOOP, open(at("symlinks/loop"), O_RDONLY | O_CLOEXEC));
    must_fail(ENOENT, open(at("symlinks/directory/one"), O_RDONLY | O_CLOEXEC));
}

static void test_whole_directories_of_the_image_move(void **state)
{
    (void)state;
    ino_t tree = ino_of("tree"), c = ino_of("tree/a/b/c"), four = ino_of("tree/a/b/c/four");
    int open_inside = must(open(at("tree/a/b/c"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    must(rename(at("tree"), at("moved")));
    must(rename(at("moved/a/b"), at("deep/b_moved")));
    make("deep/b_moved/added", 104, 40);
    struct stat st;
    must(fstatat(open_inside, "four", &st, 0));
    must(fstatat(open_inside, "../added", &st, 0));
    must(close(open_inside));
    check_moved_tree();
    assert_int_equal(ino_of("moved"), tree);
    assert_int_equal(ino_of("deep/b_moved/c"), c);
    assert_int_equal(ino_of("deep/b_moved/c/four"), four);
    at_every_depth(check_moved_tree);
}

static void check_moved_and_made_again(void)
{
    assert_int_equal(count_of("usr"), 0);
    made_check_file(at("old_usr/bin/tool"), 71, 90000);
}

static void test_a_directory_made_where_one_of_the_image_was_is_empty(void **state)
{
    (void)state;
    must(rename(at("usr"), at("old_usr")));
    make_directory("usr");
    at_every_depth(check_moved_and_made_again);
}

static void check_moved_back(void)
{
    made_check_file(at("boot/vmlinuz"), 68, 300000);
    assert_int_equal(count_of("boot"), 2);
    assert_int_equal(nlink_of("boot"), 2);
}

static void test_a_directory_of_the_image_moves_away_and_back(void **state)
{
    (void)state;
    ino_t boot = ino_of("boot");
    must(rename(at("boot"), at("elsewhere")));
    must(rename(at("elsewhere"), at("boot")));
    assert_int_equal(ino_of("boot"), boot);
    at_every_depth(check_moved_back);
}

static void test_a_directory_does_not_move_below_itself_by_any_way(void **state)
{
    (void)state;
    make_directory("outer");
    make_directory("outer/middle");
    make_directory("outer/middle/inner");
    must_fail(EINVAL, rename(at("outer"), at("outer/middle/inner/x")));
    must(rename(at("outer/middle"), at("middle")));
    must(rename(at("outer"), at("middle/inner/outer")));
    must_fail(EINVAL, rename(at("middle"), at("middle/inner/outer/x")));
    assert_int_equal(ino_of("middle/inner/outer/.."), ino_of("middle/inner"));
}

/* ---- RENAME_EXCHANGE, RENAME_WHITEOUT ---- */

static void exchange(const char *a, const char *b)
{
    must(renameat2(AT_FDCWD, at(a), AT_FDCWD, at(b), RENAME_EXCHANGE));
}

static void check_exchanged(void)
{
    made_check_file(at("many/entry_0002"), 105, 55);
    made_check_file(at("swapped"), 2, 40);
    made_check_file(at("modes/sticky/x"), 106, 5);
    made_check_file(at("swapped_directory/of_root"), 3, 10);
    assert_int_equal(ino_of("modes/sticky/.."), ino_of("modes"));
    assert_int_equal(ino_of("swapped_directory/.."), ino_of("."));
    assert_true(S_ISDIR(stat_of("sizes/1").st_mode));
    made_check_file(at("now_a_file"), 1, 1);
    made_check_file(at("many/entry_0010"), 11, 20);
    made_check_file(at("many/entry_0011"), 10, 0);
}

static void test_exchange_between_the_image_and_the_node(void **state)
{
    (void)state;
    make("swapped", 105, 55);
    exchange("swapped", "many/entry_0002");
    make_directory("swapped_directory");
    make("swapped_directory/x", 106, 5);
    exchange("modes/sticky", "swapped_directory");
    make_directory("now_a_file");
    nlink_t sizes = nlink_of("sizes");
    exchange("sizes/1", "now_a_file");
    assert_int_equal(nlink_of("sizes"), sizes + 1);
    exchange("many/entry_0010", "many/entry_0011");
    at_every_depth(check_exchanged);
}

static void check_whiteout(void)
{
    struct stat st = stat_of("many/entry_0005");
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(st.st_rdev, makedev(0, 0));
    assert_true(S_ISCHR(stat_of("whitened").st_mode));
    made_check_file(at("from_whiteout"), 5, 0);
    made_check_file(at("many/entry_0006"), 107, 9);
}

static void test_rename_whiteout_leaves_a_device_0_0(void **state)
{
    (void)state;
    make("whitened", 107, 9);
    must(renameat2(AT_FDCWD, at("many/entry_0005"), AT_FDCWD, at("from_whiteout"), RENAME_WHITEOUT));
    must(renameat2(AT_FDCWD, at("whitened"), AT_FDCWD, at("many/entry_0006"), RENAME_WHITEOUT));
    at_every_depth(check_whiteout);
    must(unlink(at("many/entry_0005")));
    must_be_missing("many/entry_0005");
}

static void check_whiteout_of_group(void)
{
    struct stat st = stat_of("whiteouts/of_group");
    assert_true(S_ISCHR(st.st_mode));
    assert_int_equal(st.st_gid, MADE_GID);
}

static void test_a_whiteout_in_a_set_gid_directory_has_its_group(void **state)
{
    (void)state;
    make_directory("whiteouts");
    make("whiteouts/of_group", 1, 10);
    must(chown(at("whiteouts"), 0, MADE_GID));
    must(chmod(at("whiteouts"), 02755));
    must(renameat2(AT_FDCWD, at("whiteouts/of_group"), AT_FDCWD, at("whiteouts/x"), RENAME_WHITEOUT));
    at_every_depth(check_whiteout_of_group);
}

/* ---- delete and make again ---- */

static void check_made_again(void)
{
    assert_int_equal(count_of("etc"), 1);
    made_check_file(at("etc/fresh"), 108, 20);
    made_check_file(at("victims/file"), 109, 3);
    must_be_missing("etc/hostname");
    must_be_missing("many/entry_0008");
    assert_false(lists("many", "entry_0008"));
}

static void test_what_was_deleted_is_hidden_and_made_again_shows_only_the_new(void **state)
{
    (void)state;
    must(unlink(at("etc/hostname")));
    must(rmdir(at("etc")));
    make_directory("etc");
    make("etc/fresh", 108, 20);
    ino_t old = ino_of("victims/file");
    must(unlink(at("victims/file")));
    make("victims/file", 109, 3);
    if (!harness_is_local()) assert_int_not_equal(ino_of("victims/file"), old); /* ext4 takes numbers again */
    must(unlink(at("many/entry_0008")));
    at_every_depth(check_made_again);
}

static void check_kinds(void)
{
    assert_true(S_ISDIR(stat_of("special/fifo").st_mode));
    assert_true(S_ISLNK(stat_of("special/socket").st_mode));
    assert_true(S_ISREG(stat_of("special/block").st_mode));
    assert_true(S_ISFIFO(stat_of("victims/empty").st_mode));
}

static void test_a_name_of_the_image_becomes_something_of_another_kind(void **state)
{
    (void)state;
    must(unlink(at("special/fifo")));
    make_directory("special/fifo");
    must(unlink(at("special/socket")));
    must(symlink("x", at("special/socket")));
    must(unlink(at("special/block")));
    make("special/block", 1, 1);
    must(rmdir(at("victims/empty")));
    must(mkfifo(at("victims/empty"), 0600));
    at_every_depth(check_kinds);
}

static void check_missing_stay_missing(void)
{
    for (int i = 0; i < 5; i++) must_be_missing("comes_and_goes");
}

static void test_a_name_comes_and_goes(void **state)
{
    (void)state;
    for (int i = 0; i < 20; i++) {
        must_be_missing("comes_and_goes");
        make("comes_and_goes", 1, 10);
        assert_int_equal(stat_of("comes_and_goes").st_size, 10);
        must(unlink(at("comes_and_goes")));
    }
    at_every_depth(check_missing_stay_missing);
}

/* ---- links ---- */

static void check_links(void)
{
    static const char *const names[] = {"links/a", "links/b", "links/sub/c", "links_of_a"};
    for (int i = 0; i < 4; i++) {
        assert_int_equal(nlink_of(names[i]), 4);
        assert_int_equal(ino_of(names[i]), ino_of("links/a"));
        assert_int_equal(stat_of(names[i]).st_mode, S_IFREG | 0751);
        assert_int_equal(stat_of(names[i]).st_size, 30006);
    }
}

static void test_links_of_a_file_of_the_image_stay_one_file_when_it_changes(void **state)
{
    (void)state;
    ino_t ino = ino_of("links/a");
    int fd = must(open(at("links/b"), O_WRONLY | O_APPEND | O_CLOEXEC));
    must(write(fd, "change", 6));
    must(close(fd));
    must(chmod(at("links/sub/c"), 0751));
    must(link(at("links/a"), at("links_of_a")));
    assert_int_equal(ino_of("links/a"), ino);
    at_every_depth(check_links);
}

static void check_fewer_links(void)
{
    must_be_missing("links/symlink_1");
    assert_int_equal(nlink_of("links/symlink_2"), 1);
    assert_int_equal(nlink_of("many/entry_0022"), 2);
    assert_int_equal(ino_of("many/entry_0022"), ino_of("linked_untouched"));
}

static void test_link_counts_follow_link_and_unlink(void **state)
{
    (void)state;
    must(unlink(at("links/symlink_1")));
    must(link(at("many/entry_0022"), at("linked_untouched")));
    at_every_depth(check_fewer_links);
    must(unlink(at("linked_untouched")));
    assert_int_equal(nlink_of("many/entry_0022"), 1);
}

static void test_link_counts_of_directories_follow_their_subdirectories(void **state)
{
    (void)state;
    nlink_t deep = nlink_of("deep");
    make_directory("deep/one");
    make_directory("deep/two");
    assert_int_equal(nlink_of("deep"), deep + 2);
    assert_int_equal(nlink_of("deep/one"), 2);
    must(rename(at("deep/one"), at("deep/two/one")));
    assert_int_equal(nlink_of("deep"), deep + 1);
    assert_int_equal(nlink_of("deep/two"), 3);
    make_directory("deep/three");
    must(rename(at("deep/three"), at("deep/two/one")));
    assert_int_equal(nlink_of("deep"), deep + 1);
    assert_int_equal(nlink_of("deep/two"), 3);
    must(rmdir(at("deep/two/one")));
    must(rmdir(at("deep/two")));
    assert_int_equal(nlink_of("deep"), deep);
    harness_remount();
    assert_int_equal(nlink_of("deep"), deep);
}

static void test_inode_numbers_stay_through_change_rename_and_remount(void **state)
{
    (void)state;
    ino_t file = ino_of("xattrs/file"), directory = ino_of("xattrs");
    must(truncate(at("xattrs/file"), 10));
    must(rename(at("xattrs/file"), at("xattrs/renamed")));
    must(chmod(at("xattrs"), 0700));
    assert_int_equal(ino_of("xattrs/renamed"), file);
    harness_remount();
    assert_int_equal(ino_of("xattrs/renamed"), file);
    assert_int_equal(ino_of("xattrs"), directory);
}

/* ---- set-gid directories, sticky directories ---- */

static int make_as_user(void *data)
{
    const char *parent = data;
    umask(0);
    int fd = open(harness_at(0, "%s/file", parent), O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0660);
    if (fd < 0 || mkdir(harness_at(0, "%s/directory", parent), 0770) < 0) return errno;
    if (mknod(harness_at(0, "%s/node", parent), S_IFREG | 0600, 0) < 0 ||
        symlink("x", harness_at(0, "%s/symlink", parent)) < 0)
        return errno;
    return 0;
}

static void check_inherited(const char *parent)
{
    static const char *const names[] = {"file", "directory", "node", "symlink"};
    for (int i = 0; i < 4; i++) {
        struct stat st = stat_of(harness_at(0, "%s/%s", parent, names[i]) + strlen(harness_root(0)) + 1);
        assert_int_equal(st.st_gid, MADE_GID);
        assert_int_equal(st.st_uid, MADE_UID + 1);
        assert_int_equal(!!(st.st_mode & S_ISGID), i == 1);
    }
}

static void test_set_gid_directories_give_their_group_on(void **state)
{
    (void)state;
    make_directory("setgid_new");
    must(chown(at("setgid_new"), 0, MADE_GID));
    must(chmod(at("setgid_new"), 02777));
    assert_int_equal(harness_as(MADE_UID + 1, MADE_UID + 1, make_as_user, "setgid_new"), 0);
    check_inherited("setgid_new");
    assert_int_equal(harness_as(MADE_UID + 1, MADE_UID + 1, make_as_user, "modes/setgid_directory"), 0);
    check_inherited("modes/setgid_directory");
}

static int in_sticky_as_user(void *data)
{
    (void)data;
    if (unlink(at("sticky/of_root")) == 0 || errno != EPERM) return 1;
    if (rename(at("sticky/of_root"), at("sticky/x")) == 0 || errno != EPERM) return 2;
    if (rename(at("sticky/mine"), at("sticky/mine_too")) < 0) return 3;
    if (unlink(at("sticky/mine_too")) < 0) return 4;
    return unlink(at("sticky_of_user/of_root")) < 0 ? 5 : 0;
}

static void test_in_sticky_directories_only_owners_delete(void **state)
{
    (void)state;
    make_directory("sticky");
    make("sticky/of_root", 1, 1);
    make("sticky/mine", 1, 1);
    must(chown(at("sticky/mine"), MADE_UID, MADE_GID));
    must(chmod(at("sticky"), 01777));
    make_directory("sticky_of_user");
    make("sticky_of_user/of_root", 1, 1);
    must(chown(at("sticky_of_user"), MADE_UID, MADE_GID));
    must(chmod(at("sticky_of_user"), 01777));
    assert_int_equal(harness_as(MADE_UID, MADE_GID, in_sticky_as_user, NULL), 0);
}

/* ---- extreme names ---- */

static void test_names_of_any_byte_and_of_255_bytes(void **state)
{
    (void)state;
    make_directory("bytes");
    char name[256] = {0};
    for (int byte = 1; byte < 256; byte++) {
        if (byte == '/') continue;
        memset(name, byte, 255);
        must(mknod(harness_at(0, "bytes/%s", name), S_IFREG | 0600, 0));
        snprintf(name, sizeof(name), "%c", byte);
        if (byte != '.') must(symlink(name, harness_at(0, "bytes/%s", name)));
    }
    assert_int_equal(count_of("bytes"), 254 + 253);
    harness_remount();
    assert_int_equal(count_of("bytes"), 254 + 253);
    memset(name, 0xff, 255);
    assert_true(lists("bytes", name));
    assert_int_equal(harness_run(NULL, "rm", "-r", at("bytes"), NULL), 0);
    must_be_missing("bytes");
}

static void test_symlinks_of_4095_bytes(void **state)
{
    (void)state;
    char target[4096], found[4097];
    memset(target, 's', 4095);
    target[4095] = '\0';
    must(symlink(target, at("long_symlink")));
    harness_remount();
    assert_int_equal(must(readlink(at("long_symlink"), found, sizeof(found))), 4095);
    assert_memory_equal(found, target, 4095);
    assert_int_equal(stat_of("long_symlink").st_size, 4095);
    assert_int_equal(must(readlink(at("symlinks/long"), found, sizeof(found))), 4095);
    assert_int_equal(stat_of("symlinks/long").st_size, 4095);
}

/* 30 directories whose names make a path of more than PATH_MAX, which only openat() reaches. */
static int make_long_path(int levels, const char *name)
{
    int fd = must(open(at("long"), O_PATH | O_DIRECTORY | O_CLOEXEC));
    for (int i = 0; i < levels; i++) {
        must(mkdirat(fd, name, 0755));
        int below = must(openat(fd, name, O_PATH | O_DIRECTORY | O_CLOEXEC));
        must(close(fd));
        fd = below;
    }
    return fd;
}

static void test_paths_of_path_max_and_beyond(void **state)
{
    (void)state;
    char name[201];
    memset(name, 'p', 200);
    name[200] = '\0';
    make_directory("long");
    int fd = make_long_path(30, name);
    int file = must(openat(fd, "file", O_CREAT | O_RDWR | O_CLOEXEC, 0644));
    must(write(file, "deep", 4));
    must(rename(at("long"), at("long_moved")));
    struct stat st;
    must(fstatat(fd, "file", &st, 0));
    assert_int_equal(st.st_size, 4);
    must(close(file));
    must(close(fd));

    char path[PATH_MAX];
    size_t length = (size_t)snprintf(path, sizeof(path), "%s", at("long_moved"));
    while (length + 201 < sizeof(path)) length += (size_t)snprintf(path + length, sizeof(path) - length, "/%s", name);
    size_t rest = sizeof(path) - 2 - length;
    if (rest > 0) {
        path[length] = '/';
        memset(path + length + 1, 'q', rest);
        path[length + 1 + rest] = '\0';
        assert_int_equal(strlen(path), PATH_MAX - 1);
        fd = must(open(path, O_CREAT | O_WRONLY | O_CLOEXEC, 0644));
        must(close(fd));
        harness_drop_caches();
        must(unlink(path));
    }
    assert_int_equal(harness_run(NULL, "rm", "-r", at("long_moved"), NULL), 0);
}

/* ---- between nodes, between threads ---- */

static void test_nothing_moves_or_links_from_node_to_node(void **state)
{
    (void)state;
    harness_needs_mount();
    make("stays", 1, 10);
    must_fail(EXDEV, rename(at("stays"), harness_at(1, "stays")));
    must_fail(EXDEV, link(at("stays"), harness_at(1, "stays")));
    must_fail(EXDEV, rename(at("deep"), harness_at(1, "deep_of_other")));
    must_fail(EXDEV, renameat2(AT_FDCWD, at("stays"), AT_FDCWD, harness_at(1, "sizes/100"), RENAME_EXCHANGE));
    must_fail(ENOENT, open(harness_at(1, "stays"), O_RDONLY | O_CLOEXEC));
}

struct juggler {
    pthread_t thread;
    unsigned seed;
    int error;
};

/* Exchanges and moves: whatever the order, no file is lost and none appears. */
static void *juggle(void *data)
{
    struct juggler *juggler = data;
    for (int i = 0; i < THROWS; i++) {
        const char *a =
            harness_at(0, "juggled_%d/%d", rand_r(&juggler->seed) % 2, rand_r(&juggler->seed) % (2 * BALLS));
        const char *b =
            harness_at(0, "juggled_%d/%d", rand_r(&juggler->seed) % 2, rand_r(&juggler->seed) % (2 * BALLS));
        unsigned flags = rand_r(&juggler->seed) % 2 ? RENAME_EXCHANGE : RENAME_NOREPLACE;
        if (renameat2(AT_FDCWD, a, AT_FDCWD, b, flags) < 0 && errno != ENOENT && errno != EEXIST)
            juggler->error = errno;
    }
    return NULL;
}

static void check_balls(void)
{
    bool seen[BALLS] = {false};
    for (int i = 0; i < 4 * BALLS; i++) {
        struct stat st;
        if (stat(harness_at(0, "juggled_%d/%d", i / (2 * BALLS), i % (2 * BALLS)), &st) < 0) continue;
        must_hold(st.st_size < BALLS && !seen[st.st_size], "file %ld is there twice", st.st_size);
        seen[st.st_size] = true;
        assert_int_equal(st.st_nlink, 1);
    }
    for (int i = 0; i < BALLS; i++) must_hold(seen[i], "file %d is lost", i);
    assert_int_equal(count_of("juggled_0") + count_of("juggled_1"), BALLS);
}

static void test_threads_that_rename_the_same_names_lose_nothing(void **state)
{
    (void)state;
    struct juggler jugglers[JUGGLERS];
    make_directory("juggled_0");
    make_directory("juggled_1");
    for (int i = 0; i < BALLS; i++) made_file(harness_at(0, "juggled_%d/%d", i % 2, i), 1, (uint64_t)i, 0644);
    for (int i = 0; i < JUGGLERS; i++) {
        jugglers[i] = (struct juggler){.seed = (unsigned)i + 1};
        assert_int_equal(pthread_create(&jugglers[i].thread, NULL, juggle, &jugglers[i]), 0);
    }
    for (int i = 0; i < JUGGLERS; i++) pthread_join(jugglers[i].thread, NULL);
    for (int i = 0; i < JUGGLERS; i++) must_hold(jugglers[i].error == 0, "%s", strerror(jugglers[i].error));
    at_every_depth(check_balls);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_a_new_file_replaces_one_of_the_image),
        cmocka_unit_test(test_a_file_of_the_image_replaces_another),
        cmocka_unit_test(test_a_new_directory_replaces_an_empty_one_of_the_image),
        cmocka_unit_test(test_a_directory_of_the_image_that_was_emptied_is_replaced),
        cmocka_unit_test(test_rename_over_a_link_of_the_same_file_does_nothing),
        cmocka_unit_test(test_whole_directories_of_the_image_move),
        cmocka_unit_test(test_a_directory_made_where_one_of_the_image_was_is_empty),
        cmocka_unit_test(test_a_directory_of_the_image_moves_away_and_back),
        cmocka_unit_test(test_a_directory_does_not_move_below_itself_by_any_way),
        cmocka_unit_test(test_exchange_between_the_image_and_the_node),
        cmocka_unit_test(test_rename_whiteout_leaves_a_device_0_0),
        cmocka_unit_test(test_a_whiteout_in_a_set_gid_directory_has_its_group),
        cmocka_unit_test(test_what_was_deleted_is_hidden_and_made_again_shows_only_the_new),
        cmocka_unit_test(test_a_name_of_the_image_becomes_something_of_another_kind),
        cmocka_unit_test(test_a_name_comes_and_goes),
        cmocka_unit_test(test_links_of_a_file_of_the_image_stay_one_file_when_it_changes),
        cmocka_unit_test(test_link_counts_follow_link_and_unlink),
        cmocka_unit_test(test_link_counts_of_directories_follow_their_subdirectories),
        cmocka_unit_test(test_inode_numbers_stay_through_change_rename_and_remount),
        cmocka_unit_test(test_set_gid_directories_give_their_group_on),
        cmocka_unit_test(test_in_sticky_directories_only_owners_delete),
        cmocka_unit_test(test_names_of_any_byte_and_of_255_bytes),
        cmocka_unit_test(test_symlinks_of_4095_bytes),
        cmocka_unit_test(test_paths_of_path_max_and_beyond),
        cmocka_unit_test(test_nothing_moves_or_links_from_node_to_node),
        cmocka_unit_test(test_threads_that_rename_the_same_names_lose_nothing),
    };
    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
