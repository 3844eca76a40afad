/* Random bytes of a store's databases changed, objects shortened or taken away: the daemon and fsck say what is wrong and
 * go on; a node that is not concerned sees nothing of it.
 *
 * COPPICE_SEEDS=500 for a long run by hand, COPPICE_RANDOM_SEED=N for the same damage again. */
#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "harness.h"
#include "made_tree.h"
#include "random_ops.h"

enum { SEEDS = 10, LARGE = 200000, FILES = 60, ENTRIES = 20000, PAGE = 4096 };

static uint64_t state_of_random;

static uint64_t below(uint64_t limit)
{
    return random_below(&state_of_random, limit);
}

static void shell(const char *command)
{
    char *output = NULL;
    int status = harness_run(&output, "sh", "-c", command, NULL);
    if (status != 0) print_error("%s: %s\n", command, output);
    assert_int_equal(status, 0);
    free(output);
}

static const char *store(const char *name)
{
    return harness_beside("store/%s", name);
}

static void restore(void)
{
    char command[4096];
    snprintf(command, sizeof(command), "rm -rf '%s' && cp -a '%s' '%s'", harness_store(), harness_beside("good"),
             harness_store());
    shell(command);
}

static void make_changes(void)
{
    for (int i = 0; i < FILES; i++) {
        must(mkdir(harness_at(0, "dir-%d", i), 0755));
        made_file(harness_at(0, "dir-%d/small", i), i, 100 * i, 0644);
        if (i % 6 == 0) made_file(harness_at(0, "dir-%d/large", i), i, LARGE, 0644);
        must(link(harness_at(0, "dir-%d/small", i), harness_at(0, "dir-%d/link", i)));
        must(symlink("small", harness_at(0, "dir-%d/symlink", i)));
        must(chmod(harness_at(0, "many"), 0700 + i % 8));
    }
    must(rename(harness_at(0, "tree"), harness_at(0, "moved")));
    must(unlink(harness_at(0, "sizes/100")));
    int fd = must(open(harness_at(0, MADE_LARGE_NAME), O_WRONLY | O_CLOEXEC));
    assert_int_equal(pwrite(fd, "x", 1, 1000000), 1);
    must(close(fd));
}

static int setup(void **state)
{
    char command[4096];
    harness_setup(state);
    make_changes();
    harness_umount();
    snprintf(command, sizeof(command), "cp -a '%s' '%s'", harness_store(), harness_beside("good"));
    shell(command);
    return 0;
}

/* ---- damage ---- */

/* Bytes, a whole page of noise, or zeros, or the file cut off. */
static void damage_file(const char *path)
{
    struct stat st;
    must(stat(path, &st));
    int fd = must(open(path, O_RDWR | O_CLOEXEC));
    unsigned char page[PAGE];
    off_t at = st.st_size ? (off_t)below(st.st_size) : 0;
    switch (below(6)) {
    case 0: /* a page of noise */
        made_fill(below(1000), 0, page, PAGE);
        must(pwrite(fd, page, PAGE, at / PAGE * PAGE));
        break;
    case 1:
        memset(page, 0, PAGE);
        must(pwrite(fd, page, PAGE, at / PAGE * PAGE));
        break;
    case 2: must(ftruncate(fd, at)); break;
    default:
        for (uint64_t i = 1 + below(30); i > 0; i--) {
            unsigned char byte = below(256);
            must(pwrite(fd, &byte, 1, (off_t)below(st.st_size)));
        }
    }
    must(close(fd));
}

/* Into the file, so that damage of it is damage. */
static void move_wal(const char *path)
{
    char *output = NULL;
    harness_run(&output, "sqlite3", path, "PRAGMA wal_checkpoint(TRUNCATE)", NULL);
    free(output);
}

static void damage_object(void)
{
    const char *objects = harness_beside("store/nodes/%s/objects", harness_serial(0));
    DIR *directory = opendir(objects);
    assert_non_null(directory);
    for (struct dirent *e; (e = readdir(directory));) {
        if (e->d_name[0] == '.' || below(3)) continue;
        int fd = dirfd(directory);
        if (below(2)) must(unlinkat(fd, e->d_name, 0));
        else must(truncate(harness_beside("store/nodes/%s/objects/%s", harness_serial(0), e->d_name), below(LARGE)));
    }
    closedir(directory);
}

enum target { DELTA, INDEX, CATALOG, OBJECTS, TARGETS };

static void damage(enum target target)
{
    const char *paths[] = {harness_beside("store/nodes/%s/delta.db", harness_serial(0)),
                           store("images/" HARNESS_IMAGE "/index.db"), store("catalog.db")};
    if (target == OBJECTS) return damage_object();
    if (target != INDEX) move_wal(paths[target]);
    damage_file(paths[target]);
}

/* ---- use ---- */

/* Whatever it says, it says something. */
static void use_root(int node)
{
    char *paths[] = {(char *)harness_root(node), NULL}, buffer[65536];
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    long count = 0;
    assert_non_null(walk);
    for (FTSENT *entry; count < ENTRIES && (entry = fts_read(walk)); count++) {
        if (strcmp(entry->fts_name, "many") == 0 || strcmp(entry->fts_name, "sparse") == 0)
            fts_set(walk, entry, FTS_SKIP);
        if (entry->fts_info != FTS_F) continue;
        int fd = open(entry->fts_path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
        ssize_t n = 1;
        for (off_t total = 0; fd >= 0 && n > 0 && total < (6 << 20); total += n) n = read(fd, buffer, sizeof(buffer));
        if (fd >= 0) close(fd);
    }
    fts_close(walk);
}

static void change_root(int node)
{
    for (int i = 0; i < FILES; i += 3) {
        int fd = open(harness_at(node, "dir-%d/large", i), O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        if (fd >= 0 && pwrite(fd, "changed", 7, 5000 * i) < 0) errno = 0;
        if (fd >= 0) close(fd);
        if (rename(harness_at(node, "dir-%d/small", i), harness_at(node, "dir-%d/renamed", i + 1)) < 0) errno = 0;
        if (unlink(harness_at(node, "dir-%d/link", i)) < 0) errno = 0;
        if (rmdir(harness_at(node, "dir-%d", i)) < 0) errno = 0;
        if (mkdir(harness_at(node, "new-%d", i), 0755) < 0) errno = 0;
    }
}

/* Damage of the catalog or of an image may be everybody's. */
static void check_other(void)
{
    made_file(harness_at(1, "other"), 7, LARGE, 0644);
    made_check_file(harness_at(1, "other"), 7, LARGE);
    must(unlink(harness_at(1, "other")));
    assert_int_equal(compare_trees(harness_source(), harness_root(1), 0), 0);
}

static bool try_mount(bool may_fail)
{
    char *output = NULL;
    int status = harness_coppice(&output, "mount", harness_mountpoint(), NULL);
    if (status != 0 && (!may_fail || status != 1)) print_error("mount: exit %d: %s\n", status, output);
    assert_true(status == 0 || (may_fail && status == 1));
    free(output);
    return status == 0;
}

static void use_mount(enum target target)
{
    if (!try_mount(target == CATALOG)) return;
    pid_t pid = harness_daemon_pid();
    use_root(0);
    change_root(0);
    use_root(0);
    if (target == DELTA || target == OBJECTS) check_other();
    must_hold(pid > 0 && harness_daemon_pid() == pid, "the daemon is gone");
    harness_umount();
}

static int run_fsck(const char *option)
{
    char *output = NULL;
    int status = harness_coppice(&output, "fsck", option, NULL);
    if (status != 0 && status != 1 && status != 4 && status != 8) {
        print_error("fsck %s: exit %d:\n%s\n", option ? option : "", status, output);
        fail();
    }
    free(output);
    return status;
}

static void check_seed(uint64_t seed)
{
    enum target target = seed % TARGETS;
    state_of_random = seed * 2 + 1;
    restore();
    damage(target);
    run_fsck(below(2) ? NULL : "--contents");
    if (below(2)) use_mount(target);
    bool is_repaired = run_fsck("--repair") <= 1;
    if (is_repaired) must_hold(run_fsck(NULL) == 0, "repaired, but not clean");
    use_mount(target);
}

static void test_damage_is_survived(void **state)
{
    (void)state;
    const char *asked = getenv("COPPICE_SEEDS");
    int seeds = asked ? atoi(asked) : SEEDS;
    uint64_t first = random_seed();
    for (int i = 0; i < seeds; i++) {
        if (asked) print_message("seed %llu\n", (unsigned long long)(first + i));
        check_seed(first + i);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_damage_is_survived)};
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
