/* Objects and rows of a node's changes that are missing, too short or unreadable: EIO for that file, told once, with the
 * node, the path as the node sees it, and the reason; fsck lists them; nothing else is concerned. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fault_store.h"
#include "harness.h"
#include "made_tree.h"

#define OTHER "../../node-b/rootfs"
#define NODE_DIRECTORY "store/nodes/node-a"

enum { LARGE = 100000, SMALL = 3000, MANY = 200, AGAIN = 3 };

static const char *const large[] = {"gone", "short", "symlink", "fifo", "moved/deep/inner", "line\nend"};
enum { LARGES = sizeof(large) / sizeof(*large) };

static int64_t object_of[LARGES];

static char *sql(const char *statements)
{
    char *output = NULL;
    int status = harness_run(&output, "sqlite3", "-bail", fault_store_beside(NODE_DIRECTORY "/delta.db"), statements, NULL);
    must_hold(status == 0, "%s: %s", statements, output);
    return output;
}

static int64_t number(const char *statements)
{
    char *output = sql(statements);
    int64_t value = atoll(output);
    free(output);
    return value;
}

static const char *object(int i)
{
    return fault_store_beside(NODE_DIRECTORY "/objects/%lld", (long long)object_of[i]);
}

/* ---- before the damage ---- */

/* What was never synced may be shorter than its row says: it is made as long. */
static void make_synced(const char *path, uint64_t seed)
{
    made_file(path, seed, LARGE, 0644);
    int fd = must(open(path, O_RDONLY | O_CLOEXEC));
    must(fsync(fd));
    close(fd);
}

static void make_files(void)
{
    must(rename(fault_store_at("image-dir"), fault_store_at("moved")));
    for (int i = 0; i < LARGES; i++) make_synced(fault_store_at("%s", large[i]), (uint64_t)i);
    for (int i = 0; i < MANY; i++) made_file(fault_store_at("row-%d", i), (uint64_t)i, SMALL, 0644);
    must(symlink("target", fault_store_at("link")));
    must(mkdir(fault_store_at("dir"), 0755));
    made_file(fault_store_at("dir/no-row"), 1, SMALL, 0644);
    made_file(fault_store_at("good"), 9, LARGE, 0644);
    made_file(fault_store_at(OTHER "/good"), 9, LARGE, 0644);
}

static void find_objects(ino_t inos[LARGES])
{
    char statement[200];
    for (int i = 0; i < LARGES; i++) {
        snprintf(statement, sizeof(statement), "SELECT object FROM inode WHERE ino = %llu",
                 (unsigned long long)inos[i] & ((1ULL << 44) - 1));
        object_of[i] = number(statement);
        must_hold(access(object(i), F_OK) == 0, "%s: no object %lld", large[i], (long long)object_of[i]);
    }
}

/* ---- the damage ---- */

/* Of one leaf of table content nothing is left. */
static void damage_page(void)
{
    static const char zeros[4096];
    free(sql("PRAGMA wal_checkpoint(TRUNCATE)"));
    int64_t page = number("SELECT pageno FROM dbstat WHERE name = 'content' AND pagetype = 'leaf' LIMIT 1 OFFSET 20");
    must_hold(page > 1, "page %lld", (long long)page);
    int fd = must(open(fault_store_beside(NODE_DIRECTORY "/delta.db"), O_WRONLY | O_CLOEXEC));
    assert_int_equal(pwrite(fd, zeros, sizeof(zeros), (page - 1) * (off_t)sizeof(zeros)), sizeof(zeros));
    close(fd);
}

static void do_damage(void)
{
    must(unlink(object(0)));
    must(truncate(object(1), LARGE / 2));
    must(rename(object(2), fault_store_beside("elsewhere")));
    must(symlink(fault_store_beside("elsewhere"), object(2)));
    must(unlink(object(3)));
    must(mkfifo(object(3), 0600));
    must(unlink(object(4)));
    must(unlink(object(5)));
    free(sql("DELETE FROM content WHERE ino = (SELECT ino FROM dirent WHERE CAST(name AS TEXT) = 'link');"
             "DELETE FROM inode WHERE ino = (SELECT ino FROM dirent WHERE CAST(name AS TEXT) = 'no-row')"));
}

/* ---- what is said of it ---- */

static void read_fails(const char *path)
{
    char buffer[LARGE];
    int fd = must(open(fault_store_at("%s", path), O_RDONLY | O_CLOEXEC));
    must_hold(pread(fd, buffer, 10, LARGE - 10) < 0 && errno == EIO, "%s: %s", path, strerror(errno));
    ssize_t n = pread(fd, buffer, sizeof(buffer), 0);
    must_hold(n < LARGE, "%s: all of it was read", path);
    close(fd);
}

static int count_unreadable_rows(void)
{
    char buffer[SMALL];
    int count = 0;
    for (int i = 0; i < MANY; i++) {
        int fd = must(open(fault_store_at("row-%d", i), O_RDONLY | O_CLOEXEC));
        ssize_t n = read(fd, buffer, sizeof(buffer));
        if (n < 0) assert_int_equal(errno, EIO);
        else made_check_file(fault_store_at("row-%d", i), (uint64_t)i, SMALL);
        count += n < 0;
        close(fd);
    }
    return count;
}

static int count_in(const char *text, const char *what)
{
    int count = 0;
    for (const char *at = text; (at = strstr(at, what)); at += strlen(what)) count++;
    return count;
}

static void must_be_told_once(const char *words, const char *what)
{
    must_hold(count_in(words, what) == 1, "\"%s\" is told %d times in:\n%s", what, count_in(words, what), words);
}

static void check_words(void)
{
    char *words = fault_store_words();
    must_be_told_once(words, "node node-a: /gone: object ");
    assert_int_equal(count_in(words, ": No such file or directory\n"), 3);
    must_be_told_once(words, "node node-a: /short: object ");
    must_be_told_once(words, "is shorter than the file\n");
    must_be_told_once(words, "node node-a: /symlink: object ");
    must_be_told_once(words, "node node-a: /fifo: object ");
    must_be_told_once(words, "node node-a: /moved/deep/inner: object ");
    must_be_told_once(words, "node node-a: /line?end: object ");
    must_be_told_once(words, "node node-a: /link: its target is missing\n");
    must_be_told_once(words, "node node-a: /dir/no-row: its row is missing\n");
    assert_int_equal(count_in(words, "node-b"), 0);
    free(words);
}

static int fsck(char **ret_output, const char *option)
{
    return harness_run(ret_output, getenv("COPPICE"), "--store", fault_store_beside("store"), "fsck", option, NULL);
}

static void check_fsck(void)
{
    static const char *const found[] = {"/gone", "/symlink", "/fifo", "/moved/deep/inner", "/short", "has 50000 bytes of 100000"};
    char *words = NULL;
    assert_int_equal(fsck(&words, NULL), 4);
    for (size_t i = 0; i < sizeof(found) / sizeof(*found); i++)
        must_hold(strstr(words, found[i]), "%s, in:\n%s", found[i], words);
    free(words);
}

static void check_repaired(void)
{
    char *words = NULL;
    int status = fsck(&words, "--repair");
    must_hold(status == 1, "exit %d:\n%s", status, words);
    free(words);
    assert_true(fault_store_is_clean(fault_store_directory()));
}

static void test_damage_is_told_once(void **state)
{
    char target[10];
    struct stat st;
    (void)state;
    for (int i = 0; i < AGAIN; i++) {
        for (int j = 0; j < LARGES; j++) read_fails(large[j]);
        must_fail(EIO, readlink(fault_store_at("link"), target, sizeof(target)));
        must_fail(EIO, stat(fault_store_at("dir/no-row"), &st));
        must_fail(EIO, unlink(fault_store_at("dir/no-row")));
    }
    check_words();
    check_fsck();
    made_check_file(fault_store_at("good"), 9, LARGE);
    made_check_file(fault_store_at(OTHER "/good"), 9, LARGE);
    made_file(fault_store_at("new"), 3, LARGE, 0644);
    must(unlink(fault_store_at("gone"))); /* what is damaged can go */
    must(unlink(fault_store_at("short")));
    made_file(fault_store_at("short"), 4, LARGE, 0644);
    made_check_file(fault_store_at("short"), 4, LARGE);
    assert_true(fault_store_umount());
    check_repaired();
}

static void test_a_damaged_page_is_told_once_for_each_file(void **state)
{
    int rows = 0;
    (void)state;
    damage_page();
    assert_true(fault_store_mount(fault_store_directory(), NULL));
    for (int i = 0; i < AGAIN; i++) rows = count_unreadable_rows();
    must_hold(rows > 0 && rows < 3, "%d rows could not be read", rows);
    char *words = fault_store_words();
    must_hold(count_in(words, ": its contents: database disk image is malformed\n") == rows, "%d rows in:\n%s", rows, words);
    free(words);
    made_check_file(fault_store_at(OTHER "/good"), 9, LARGE);
    assert_true(fault_store_umount());
    check_repaired();
}

/* ---- fixtures ---- */


static int setup(void **state)
{
    ino_t inos[LARGES];
    struct stat st;
    (void)state;
    fault_store_begin(120);
    must(mkdir(fault_store_beside("source/image-dir"), 0755));
    must(mkdir(fault_store_beside("source/image-dir/deep"), 0755));
    made_file(fault_store_beside("source/image-dir/deep/file"), 5, 1000, 0644);
    fault_store_make(fault_store_directory());
    assert_int_equal(harness_run(NULL, getenv("COPPICE"), "--store", fault_store_beside("store"), "node", "add", "node-b", NULL), 0);
    assert_true(fault_store_mount(fault_store_directory(), NULL));
    make_files();
    for (int i = 0; i < LARGES; i++) {
        must(stat(fault_store_at("%s", large[i]), &st));
        inos[i] = st.st_ino;
    }
    assert_true(fault_store_umount());
    find_objects(inos);
    do_damage();
    assert_true(fault_store_mount(fault_store_directory(), NULL));
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
        cmocka_unit_test(test_damage_is_told_once),
        cmocka_unit_test(test_a_damaged_page_is_told_once_for_each_file),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
