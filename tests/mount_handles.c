/* File handles, as nfsd gives them to clients: name_to_handle_at(2), open_by_handle_at(2). */
#include <fcntl.h>
#include <pthread.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_tree.h"

/* The kernel's handle types: fs/fuse/inode.c, include/linux/exportfs.h */
enum { FUSE_HANDLE = 0x81, INO32_HANDLE = 1, LATER_FILES = 1500, FORGERS = 2 };

struct handle {
    union {
        struct file_handle head;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    };
    char name[64];
    struct stat st;
};

/* The compiler takes f_handle for an array of no bytes. */
static char *bytes_of(struct handle *handle)
{
    return handle->room + offsetof(struct file_handle, f_handle);
}

static const char *at(const char *name)
{
    return harness_at(0, "%s", name);
}

static struct handle handle_of(const char *name)
{
    struct handle handle = {.head.handle_bytes = MAX_HANDLE_SZ};
    int mount_id;
    snprintf(handle.name, sizeof(handle.name), "%s", name);
    int result = name_to_handle_at(AT_FDCWD, at(name), &handle.head, &mount_id, 0);
    must_hold(result == 0, "%s: name_to_handle_at: %s", name, strerror(errno));
    must(lstat(at(name), &handle.st));
    return handle;
}

static int open_mount(void)
{
    const char *path = harness_is_local() ? harness_root(0) : harness_mountpoint();
    return must(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
}

static int open_handle(struct handle *handle, int flags)
{
    int mount = open_mount();
    int fd = open_by_handle_at(mount, &handle->head, flags | O_CLOEXEC);
    int error = errno;
    close(mount);
    errno = error;
    return fd;
}

static void must_be_same(struct handle *handle, const char *when)
{
    struct stat st;
    int fd = open_handle(handle, O_PATH);
    must_hold(fd >= 0, "%s, %s: %s", handle->name, when, strerror(errno));
    must(fstat(fd, &st));
    must(close(fd));
    must_hold(st.st_ino == handle->st.st_ino, "%s, %s: opens another file", handle->name, when);
    must_hold((st.st_mode & S_IFMT) == (handle->st.st_mode & S_IFMT), "%s, %s: opens mode %o", handle->name, when,
              st.st_mode);
}

static void must_be_stale(struct handle *handle, const char *when)
{
    int fd = open_handle(handle, O_PATH);
    must_hold(fd < 0, "%s, %s: opens", handle->name, when);
    must_hold(errno == ESTALE, "%s, %s: %s", handle->name, when, strerror(errno));
}

static void must_contain(struct handle *handle, uint64_t seed, size_t size)
{
    char *data = malloc(size + 1);
    int fd = must(open_handle(handle, O_RDONLY));
    ssize_t length = must(pread(fd, data, size + 1, 0));
    bool is_same = length == (ssize_t)size && made_matches(seed, 0, data, size);
    free(data);
    must(close(fd));
    must_hold(is_same, "%s: opens a file of %zd bytes or with other contents", handle->name, length);
}

/* ---- handles of one of everything ---- */

static const char *const of_image[] = {".",
                                       "etc",
                                       "etc/hostname",
                                       "sizes/5242880",
                                       "sizes/0",
                                       "symlinks/long",
                                       "special/fifo",
                                       "special/socket",
                                       "special/null",
                                       "special/block",
                                       "deep/d/d/d/d/d/d",
                                       "deep/d/d/d/d/d/d/d",
                                       "many/entry_0999",
                                       "many/entry_0997",
                                       "many/entry_0993",
                                       "links/sub/c",
                                       "empty"};
static const char *const of_delta[] = {"made",        "made/file",  "made/small",      "made/symlink", "made/fifo",
                                       "made/device", "made/a/b/c", "made/a/b/c/file", "made/link"};

enum { OF_IMAGE = sizeof(of_image) / sizeof(of_image[0]), OF_DELTA = sizeof(of_delta) / sizeof(of_delta[0]) };
static struct handle handles[OF_IMAGE + OF_DELTA];

static void take_handles(void)
{
    for (int i = 0; i < OF_IMAGE; i++) handles[i] = handle_of(of_image[i]);
    for (int i = 0; i < OF_DELTA; i++) handles[OF_IMAGE + i] = handle_of(of_delta[i]);
}

static void check_handles(const char *when)
{
    for (int i = 0; i < OF_IMAGE + OF_DELTA; i++) must_be_same(&handles[i], when);
}

static void make_delta(void)
{
    must(mkdir(at("made"), 0755));
    must(mkdir(at("made/a"), 0755));
    must(mkdir(at("made/a/b"), 0755));
    must(mkdir(at("made/a/b/c"), 0755));
    made_file(at("made/file"), 1, 100000, 0644);
    made_file(at("made/small"), 2, 100, 0644);
    made_file(at("made/a/b/c/file"), 3, 1000, 0644);
    must(symlink("x", at("made/symlink")));
    must(mkfifo(at("made/fifo"), 0644));
    must(mknod(at("made/device"), S_IFCHR | 0644, 0x103));
    must(link(at("made/file"), at("made/link")));
}

static void test_handles_are_valid_at_once(void **state)
{
    (void)state;
    check_handles("at once");
}

static void test_handles_outlive_the_kernel_s_caches(void **state)
{
    (void)state;
    harness_drop_caches();
    check_handles("caches dropped");
    /* In the other order: a directory is then reached before what lies above it. */
    harness_drop_caches();
    for (int i = OF_IMAGE + OF_DELTA - 1; i >= 0; i--) must_be_same(&handles[i], "caches dropped");
}

static void test_handles_outlive_unmount_and_mount(void **state)
{
    (void)state;
    harness_remount();
    check_handles("mounted again");
    struct handle again = handle_of("etc/hostname");
    assert_int_equal(again.head.handle_bytes, handle_of("etc/hostname").head.handle_bytes);
    assert_memory_equal(bytes_of(&again), bytes_of(&handles[2]), again.head.handle_bytes);
}

static void test_handles_outlive_a_killed_daemon(void **state)
{
    (void)state;
    harness_kill_daemon();
    harness_mount();
    check_handles("daemon killed");
    must_contain(&handles[OF_IMAGE + 1], 1, 100000);
}

static void test_handles_read_and_list_what_they_name(void **state)
{
    (void)state;
    harness_drop_caches();
    struct handle file = handle_of("tree/a/b/c/four"), directory = handle_of("deep/d/d/d/d"), expected;
    harness_drop_caches();
    must_contain(&file, 64, 200000);
    int fd = must(open_handle(&directory, O_RDONLY | O_DIRECTORY));
    struct stat st;
    must(fstatat(fd, "../../../..", &st, 0));
    expected = handle_of("deep");
    assert_int_equal(st.st_ino, expected.st.st_ino);
    must(fstatat(fd, "d", &st, 0));
    char link[64], path[4096] = "";
    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    must(readlink(link, path, sizeof(path) - 1));
    assert_string_equal(path, at("deep/d/d/d/d"));
    must(close(fd));
}

static void test_a_handle_of_the_image_writes_the_node_s_file(void **state)
{
    (void)state;
    struct handle file = handle_of("tree/one");
    harness_drop_caches();
    int fd = must(open_handle(&file, O_WRONLY));
    must(pwrite(fd, "by handle", 9, 0));
    must(close(fd));
    char found[10] = "";
    fd = must(open(at("tree/one"), O_RDONLY | O_CLOEXEC));
    must(read(fd, found, 9));
    must(close(fd));
    assert_string_equal(found, "by handle");
    must_be_same(&file, "written");
}

static void test_handles_outlive_changes_of_what_they_name(void **state)
{
    (void)state;
    struct handle large = handle_of(MADE_LARGE_NAME), small = handle_of("sizes/100"), directory = handle_of("victims");
    must(truncate(at(MADE_LARGE_NAME), 123));
    must(chmod(at("sizes/100"), 0600));
    must(chown(at("victims"), MADE_UID, MADE_GID));
    for (int i = 0; i < 3; i++) {
        must_be_same(&large, "truncated");
        must_be_same(&small, "chmod");
        must_be_same(&directory, "chown");
        i == 0 ? harness_drop_caches() : harness_remount();
    }
    must_contain(&large, MADE_LARGE, 123);
    must_contain(&small, 100, 100);
}

static void test_handles_outlive_renames_of_the_file_and_of_directories_above(void **state)
{
    (void)state;
    struct handle four = handle_of("tree/a/b/c/four"), c = handle_of("tree/a/b/c"), file = handle_of("victims/file");
    struct handle made = handle_of("made/a/b/c/file");
    must(rename(at("tree/a/b/c/four"), at("tree/a/b/c/renamed")));
    must(rename(at("tree/a/b"), at("empty/b")));
    must(rename(at("empty"), at("no_longer_empty")));
    must(rename(at("victims/file"), at("file_moved")));
    must(rename(at("made/a/b"), at("tree/made_b")));
    must(renameat2(AT_FDCWD, at("tree"), AT_FDCWD, at("deep"), RENAME_EXCHANGE));
    for (int i = 0; i < 3; i++) {
        must_be_same(&four, "renamed");
        must_be_same(&c, "moved");
        must_be_same(&file, "moved");
        must_be_same(&made, "moved");
        i == 0 ? harness_drop_caches() : harness_remount();
    }
    must_contain(&four, 64, 200000);
    must_contain(&made, 3, 1000);
}

static void test_a_handle_lives_as_long_as_the_last_link(void **state)
{
    (void)state;
    struct handle image = handle_of("links/a"), made = handle_of("made/file");
    must(unlink(at("links/a")));
    must(unlink(at("links/sub/c")));
    must(unlink(at("made/file")));
    harness_drop_caches();
    must_contain(&image, 11, 30000);
    must_contain(&made, 1, 100000);
    must(unlink(at("links/b")));
    must(unlink(at("made/link")));
    must_be_stale(&image, "last link removed");
    must_be_stale(&made, "last link removed");
}

/* ---- deleted ---- */

static void make_later_files(void)
{
    must(mkdir(at("later"), 0755));
    for (int i = 0; i < LATER_FILES; i++) {
        const char *path = harness_at(0, "later/%d", i);
        must(i % 3 ? mknod(path, S_IFREG | 0644, 0) : i % 2 ? mkdir(path, 0755) : symlink("x", path));
    }
}

static void test_handles_of_deleted_files_are_stale_for_ever(void **state)
{
    (void)state;
    static const char *const names[] = {"modes/setuid",   "many/entry_0013", "many/entry_0017",
                                        "special/fifo",   "special/null",    "doomed/file",
                                        "doomed/symlink", "doomed/device",   "doomed"};
    enum { DOOMED = sizeof(names) / sizeof(names[0]) };
    must(mkdir(at("doomed"), 0755));
    made_file(at("doomed/file"), 1, 50000, 0644);
    must(symlink("x", at("doomed/symlink")));
    must(mknod(at("doomed/device"), S_IFCHR | 0644, 0x103));
    struct handle doomed[DOOMED];
    for (int i = 0; i < DOOMED; i++) doomed[i] = handle_of(names[i]);
    for (int i = 0; i < DOOMED; i++) must(S_ISDIR(doomed[i].st.st_mode) ? rmdir(at(names[i])) : unlink(at(names[i])));
    for (int i = 0; i < DOOMED; i++) must_be_stale(&doomed[i], "deleted");
    made_file(at("modes/setuid"), 1, 10, 0644);
    make_later_files();
    for (int i = 0; i < DOOMED; i++) must_be_stale(&doomed[i], "others made since");
    harness_remount();
    for (int i = 0; i < DOOMED; i++) must_be_stale(&doomed[i], "mounted again");
    harness_kill_daemon();
    harness_mount();
    for (int i = 0; i < DOOMED; i++) must_be_stale(&doomed[i], "daemon killed");
}

static void test_the_handle_of_a_replaced_file_is_stale(void **state)
{
    (void)state;
    struct handle old = handle_of("many/entry_0021");
    made_file(at("successor"), 1, 10, 0644);
    struct handle successor = handle_of("successor");
    must(rename(at("successor"), at("many/entry_0021")));
    must_be_stale(&old, "replaced");
    must_be_same(&successor, "in its place");
}

/* ---- forged ---- */

struct forger {
    pthread_t thread;
    struct handle handle;
    int64_t first, last;
    int64_t opened;
    int error; /* other than ESTALE */
};

/* Adds to the number in the handle and leaves the generation. */
static void shift(struct handle *handle, struct handle *original, int64_t by)
{
    uint32_t words[2];
    memcpy(words, bytes_of(original), sizeof(words));
    if (handle->head.handle_type == FUSE_HANDLE) {
        uint64_t nodeid = ((uint64_t)words[0] << 32 | words[1]) + (uint64_t)by;
        words[0] = (uint32_t)(nodeid >> 32);
        words[1] = (uint32_t)nodeid;
    } else
        words[0] += (uint32_t)by;
    memcpy(bytes_of(handle), words, sizeof(words));
}

static void *forge(void *data)
{
    struct forger *forger = data;
    struct handle handle = forger->handle;
    int mount = open(harness_is_local() ? harness_root(0) : harness_mountpoint(), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int64_t by = forger->first; by <= forger->last; by++) {
        if (by == 0) continue;
        shift(&handle, &forger->handle, by);
        int fd = open_by_handle_at(mount, &handle.head, O_PATH | O_CLOEXEC);
        if (fd >= 0)
            forger->opened++, close(fd);
        else if (errno != ESTALE)
            forger->error = errno;
    }
    close(mount);
    return NULL;
}

static int64_t forgeries(void)
{
    const char *asked = getenv("COPPICE_FORGERIES");
    return asked ? atoll(asked) : 1000000;
}

static void test_handles_built_from_a_handle_s_neighbours_are_stale(void **state)
{
    (void)state;
    struct handle handle = handle_of("etc/hostname");
    int type = harness_is_local() ? INO32_HANDLE : FUSE_HANDLE;
    must_hold(handle.head.handle_type == type, "handle type %x", handle.head.handle_type);
    struct forger forgers[FORGERS];
    int64_t half = forgeries() / 2;
    double start = harness_seconds();
    for (int i = 0; i < FORGERS; i++) {
        forgers[i] = (struct forger){.handle = handle, .first = i == 0 ? -half : 1, .last = i == 0 ? -1 : half};
        assert_int_equal(pthread_create(&forgers[i].thread, NULL, forge, &forgers[i]), 0);
    }
    for (int i = 0; i < FORGERS; i++) pthread_join(forgers[i].thread, NULL);
    print_message("%ld forged handles in %.1f s\n", forgeries(), harness_seconds() - start);
    for (int i = 0; i < FORGERS; i++) {
        must_hold(forgers[i].error == 0, "%s", strerror(forgers[i].error));
        must_hold(forgers[i].opened == 0, "%ld forged handles open a file", forgers[i].opened);
    }
}

static void test_a_handle_with_another_generation_is_stale(void **state)
{
    (void)state;
    struct handle original = handle_of("etc/hostname"), forged = original;
    size_t place = harness_is_local() ? 4 : 8;
    harness_drop_caches();
    for (uint32_t i = 1; i < 500; i++) {
        uint32_t generation;
        memcpy(&generation, bytes_of(&original) + place, 4);
        generation += i;
        memcpy(bytes_of(&forged) + place, &generation, 4);
        must_be_stale(&forged, "forged generation");
    }
    must_be_same(&original, "after forgeries");
}

static void test_one_node_s_generation_does_not_open_the_other_node_s_file(void **state)
{
    (void)state;
    harness_needs_mount();
    struct handle mine = handle_of("etc/hostname"),
                  forged = {.head.handle_bytes = MAX_HANDLE_SZ, .name = "the other node's"};
    int mount_id;
    must(name_to_handle_at(AT_FDCWD, harness_at(1, "etc/hostname"), &forged.head, &mount_id, 0));
    memcpy(bytes_of(&forged) + 8, bytes_of(&mine) + 8, 4);
    must_be_stale(&forged, "with this node's generation");
}

static int setup(void **state)
{
    harness_setup(state);
    make_delta();
    take_handles();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_handles_are_valid_at_once),
        cmocka_unit_test(test_handles_outlive_the_kernel_s_caches),
        cmocka_unit_test(test_handles_outlive_unmount_and_mount),
        cmocka_unit_test(test_handles_outlive_a_killed_daemon),
        cmocka_unit_test(test_handles_read_and_list_what_they_name),
        cmocka_unit_test(test_a_handle_of_the_image_writes_the_node_s_file),
        cmocka_unit_test(test_handles_outlive_changes_of_what_they_name),
        cmocka_unit_test(test_handles_outlive_renames_of_the_file_and_of_directories_above),
        cmocka_unit_test(test_a_handle_lives_as_long_as_the_last_link),
        cmocka_unit_test(test_handles_of_deleted_files_are_stale_for_ever),
        cmocka_unit_test(test_the_handle_of_a_replaced_file_is_stale),
        cmocka_unit_test(test_handles_built_from_a_handle_s_neighbours_are_stale),
        cmocka_unit_test(test_a_handle_with_another_generation_is_stale),
        cmocka_unit_test(test_one_node_s_generation_does_not_open_the_other_node_s_file),
    };
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
