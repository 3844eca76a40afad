/* Each kind of damage made by hand: found, repaired, and the node's root works again. */
#include <dirent.h>
#include <fcntl.h>
#include <fts.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "harness.h"
#include "made_tree.h"
#include "random_ops.h"

enum { LARGE = 200000, SMALL = 1000, CLEAN = 0, REPAIRED = 1, LEFT = 4, FAILED = 8 };

static const char *node(const char *name)
{
    return harness_beside("store/nodes/%s/%s", harness_serial(0), name);
}

static char *must_fsck(int expected, const char *option)
{
    char *output = NULL;
    int status = harness_coppice(&output, "fsck", option, NULL);
    if (status != expected) print_error("fsck %s: exit %d, not %d:\n%s", option ? option : "", status, expected, output);
    assert_int_equal(status, expected);
    return output;
}

static void must_say(const char *output, const char *text)
{
    if (!strstr(output, text)) print_error("'%s' is not in:\n%s", text, output);
    assert_non_null(strstr(output, text));
}

static void sql(const char *file, const char *statements)
{
    char *output = NULL;
    int status = harness_run(&output, "sqlite3", "-bail", node(file), statements, NULL);
    if (status != 0) print_error("sqlite3: %s\n%s\n", output, statements);
    assert_int_equal(status, 0);
    free(output);
}

static void shell(const char *format, ...)
{
    char command[4096], *output = NULL;
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(command, sizeof(command), format, arguments);
    va_end(arguments);
    int status = harness_run(&output, "sh", "-c", command, NULL);
    if (status != 0) print_error("%s: %s\n", command, output);
    assert_int_equal(status, 0);
    free(output);
}

static void cannot_be_read(const char *path)
{
    char byte;
    int fd = must(open(path, O_RDONLY | O_CLOEXEC));
    must_fail(EIO, read(fd, &byte, 1));
    close(fd);
}

/* Everything below can be read. */
static void read_below(const char *path)
{
    char *paths[] = {(char *)path, NULL}, buffer[65536];
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    assert_non_null(walk);
    for (FTSENT *entry; (entry = fts_read(walk));) {
        if (strcmp(entry->fts_name, "many") == 0) fts_set(walk, entry, FTS_SKIP);
        must_hold(entry->fts_info != FTS_ERR && entry->fts_info != FTS_DNR && entry->fts_info != FTS_NS, "%s: %s",
                  entry->fts_path, strerror(entry->fts_errno));
        if (entry->fts_info != FTS_F) continue;
        int fd = open(entry->fts_path, O_RDONLY | O_CLOEXEC);
        must_hold(fd >= 0, "%s: %s", entry->fts_path, strerror(errno));
        ssize_t n;
        for (off_t total = 0; (n = read(fd, buffer, sizeof(buffer))) > 0 && total < (16 << 20);) total += n;
        must_hold(n >= 0, "%s: %s", entry->fts_path, strerror(errno));
        close(fd);
    }
    fts_close(walk);
}

static void read_everything(void)
{
    read_below(harness_root(0));
}

/* ---- one node with something of everything, kept beside ---- */

static void make_changes(void)
{
    must(mkdir(harness_at(0, "dir"), 0755));
    must(mkdir(harness_at(0, "dir/in"), 0755));
    must(mkdir(harness_at(0, "dir/in/deep"), 0755));
    made_file(harness_at(0, "dir/small"), 1, SMALL, 0644);
    made_file(harness_at(0, "dir/large"), 2, LARGE, 0644);
    made_file(harness_at(0, "dir/in/deep/file"), 3, SMALL, 0644);
    must(link(harness_at(0, "dir/small"), harness_at(0, "dir/link")));
    must(symlink("small", harness_at(0, "dir/symlink")));
    int fd = must(open(harness_at(0, MADE_LARGE_NAME), O_WRONLY | O_CLOEXEC));
    assert_int_equal(pwrite(fd, "x", 1, 1000000), 1);
    must(close(fd));
    must(rename(harness_at(0, "tree"), harness_at(0, "moved")));
    must(unlink(harness_at(0, "sizes/100")));
    must(chmod(harness_at(0, "sizes/4096"), 0600));
}

static int setup(void **state)
{
    harness_setup(state);
    make_changes();
    harness_umount();
    shell("cp -a %s %s", node("."), harness_beside("good"));
    return 0;
}

static void restore(void)
{
    shell("rm -rf '%s' && cp -a '%s' '%s'", harness_beside("store/nodes/%s", harness_serial(0)), harness_beside("good"),
          harness_beside("store/nodes/%s", harness_serial(0)));
}

/* ---- what can go wrong with rows ---- */

#define INO(name) "(SELECT ino FROM dirent WHERE CAST(name AS TEXT) = '" name "' AND ino <> 0)"
#define BASE "(SELECT image_base + image_count FROM view)"

static const struct damage {
    const char *statements;
    const char *said;  /* what fsck says of it */
    const char *there; /* in the root afterwards */
} damages[] = {
    {"UPDATE inode SET nlink = 7 WHERE ino = " INO("small"), "link count 7, not 2", "dir/small"},
    {"UPDATE inode SET nlink = 0 WHERE ino = " INO("small"), "link count 0, not 2", "dir/small"},
    {"UPDATE inode SET nlink = 9 WHERE ino = " INO("dir"), "link count 9, not 3", "dir"},
    {"UPDATE inode SET nlink = 99 WHERE ino = 1", "link count 99, not", "dir"},
    {"DELETE FROM dirent WHERE CAST(name AS TEXT) = 'symlink'", "has lost its name", "lost+found"},
    {"DELETE FROM dirent WHERE CAST(name AS TEXT) = 'in'", "has lost its name", "lost+found"},
    {"UPDATE inode SET parent = 1 WHERE ino = " INO("deep"), "says it lies in directory 1", "dir/in/deep/file"},
    {"UPDATE dirent SET parent = " INO("deep") " WHERE CAST(name AS TEXT) = 'dir'; UPDATE dirent SET slot = slot",
     "directories in a circle", "lost+found"},
    {"DELETE FROM inode WHERE ino = " INO("large"), "its inode is not there", "dir/small"},
    {"DELETE FROM inode WHERE ino = " INO("symlink"), "its inode is not there", "dir/small"},
    {"DELETE FROM inode WHERE ino = " INO("dir"), "its inode is not there", "lost+found"},
    {"INSERT INTO dirent(parent, slot, name, ino, type) SELECT 1, 77, CAST('odd' AS BLOB), " INO("small") ", 8",
     "where nobody looks for it", "odd"},
    {"INSERT INTO dirent(parent, slot, name, ino, type) SELECT parent, (slot | 15), name, 0, 0 FROM dirent "
     "WHERE CAST(name AS TEXT) = 'small'", "the same name twice", "dir/small"},
    {"INSERT INTO dirent(parent, slot, name, ino, type) VALUES(1, 5, CAST('a/b' AS BLOB), 17, 8)", "no possible name", "dir"},
    {"INSERT INTO dirent(parent, slot, name, ino, type) VALUES(1, 5, CAST('' AS BLOB), 17, 8)", "no possible name", "dir"},
    {"INSERT INTO dirent(parent, slot, name, ino, type) VALUES(99999999, 5, CAST('x' AS BLOB), 17, 8)",
     "which is not there", "dir"},
    {"INSERT INTO dirent(parent, slot, name, ino, type) SELECT " INO("small") ", slot, name, ino, 8 FROM dirent "
     "WHERE CAST(name AS TEXT) = 'small'", "in what is no directory", "dir/small"},
    {"UPDATE dirent SET ino = 0, type = 0 WHERE CAST(name AS TEXT) = 'link'", "a whiteout that hides nothing", "dir/small"},
    {"UPDATE dirent SET type = 4 WHERE CAST(name AS TEXT) = 'small'", "of type 4, its inode of type 8", "dir/small"},
    {"UPDATE dirent SET ino = " INO("in") ", type = 4 WHERE CAST(name AS TEXT) = 'link'", "another name of a directory",
     "dir/small"},
    {"DELETE FROM dirent WHERE ino = 0 AND CAST(name AS TEXT) = '100'", "its inode is over", "dir"},
    {"DELETE FROM inode WHERE mode = 0", "inode of the image without a name", "dir"},
    {"UPDATE inode SET mode = 420 WHERE ino = " INO("small"), "no type", "dir/small"},
    {"UPDATE inode SET image_ino = 5 WHERE ino = " INO("small"), "says it was inode 5 of the image", "dir/small"},
    {"UPDATE view SET next_ino = image_base + image_count + 2", "the next number", "dir/small"},
    {"UPDATE inode SET size = 999 WHERE ino = " INO("small"), "size 999, but 1000 bytes", "dir/small"},
    {"DELETE FROM content WHERE ino = " INO("small"), "its contents are lost, 1000 bytes", "dir/small"},
    {"DELETE FROM content WHERE ino = " INO("symlink"), "where the symlink led is lost", "dir/symlink"},
    {"UPDATE inode SET size = -5 WHERE ino = " INO("large"), "no possible size", "dir/large"},
    {"INSERT INTO content VALUES(99999999, x'00')", "contents of inodes that are not there", "dir"},
    {"INSERT INTO xattr VALUES(99999999, 'user.x', x'00')", "extended attributes of inodes that are not there", "dir"},
    {"INSERT INTO chunk VALUES(99999999, 0, 4096, 0)", "chunks of inodes that are not there", "dir"},
    {"UPDATE chunk SET \"end\" = \"end\" + 1 WHERE start > 0", "ends behind the file's", MADE_LARGE_NAME},
    {"UPDATE chunk SET start = 1001472 WHERE start > 0", "chunk 1001472-", MADE_LARGE_NAME},
    {"INSERT INTO chunk SELECT ino, 8388608, 8392704, 0 FROM chunk WHERE start > 0", "chunk 8388608-", MADE_LARGE_NAME},
    {"INSERT INTO chunk SELECT ino, 4096, 8192, 0 FROM chunk WHERE start = 0 AND \"end\" > 8192", "overlaps the one before",
     MADE_LARGE_NAME},
    {"UPDATE chunk SET source = 9 WHERE start = 0 AND \"end\" < 5000000", "are lost", MADE_LARGE_NAME},
    {"UPDATE inode SET chunked = 0 WHERE object > 0 AND image_ino > 0", "does not know of its", MADE_LARGE_NAME},
    {"UPDATE inode SET chunked = 1 WHERE ino = " INO("large"), "has 0 chunks", "dir/large"},
    {"UPDATE inode SET object = 5 WHERE ino = " INO("dir"), "no regular file, but has contents", "dir/small"},
    {"UPDATE inode SET object = 99999999 WHERE ino = " INO("large"), "object 99999999 is missing", "dir/large"},
};

static void check_damage(const struct damage *d)
{
    restore();
    sql("delta.db", d->statements);
    char *said = must_fsck(LEFT, NULL);
    must_say(said, d->said);
    free(said);
    said = must_fsck(REPAIRED, "--repair");
    must_say(said, d->said);
    free(said);
    free(must_fsck(CLEAN, NULL));
    harness_mount();
    read_everything();
    struct stat st;
    must_hold(lstat(harness_at(0, "%s", d->there), &st) == 0, "%s after: %s", d->there, d->statements);
    made_file(harness_at(0, "dir-after"), 1, LARGE, 0644);
    made_check_file(harness_at(0, "dir-after"), 1, LARGE);
    harness_umount();
    free(must_fsck(CLEAN, NULL));
}

static void test_what_is_wrong_in_rows_is_found_and_repaired(void **state)
{
    (void)state;
    const char *only = getenv("COPPICE_DAMAGE");
    for (size_t i = 0; i < sizeof(damages) / sizeof(damages[0]); i++) {
        if (only && (size_t)atoi(only) != i) continue;
        if (only) print_message("%s\n", damages[i].statements);
        check_damage(&damages[i]);
    }
}

/* ---- what is kept ---- */

static char *find_in_lost_found(const char *start)
{
    DIR *directory = opendir(harness_at(0, "lost+found"));
    assert_non_null(directory);
    char *path = NULL;
    for (struct dirent *e; !path && (e = readdir(directory));)
        if (strncmp(e->d_name, start, strlen(start)) == 0) path = strdup(harness_at(0, "lost+found/%s", e->d_name));
    closedir(directory);
    assert_non_null(path);
    return path;
}

static void test_what_has_lost_its_name_is_kept_with_its_contents(void **state)
{
    (void)state;
    restore();
    sql("delta.db", "DELETE FROM dirent WHERE CAST(name AS TEXT) = 'large'");
    free(must_fsck(REPAIRED, "--repair"));
    harness_mount();
    char *path = find_in_lost_found("#");
    made_check_file(path, 2, LARGE);
    free(path);
    harness_umount();
}

/* ---- objects ---- */

static void test_a_missing_object_is_one_file_s_loss(void **state)
{
    (void)state;
    restore();
    shell("for i in '%s'/*; do [ $(stat -c %%s $i) = %d ] && rm $i; done; true", node("objects"), LARGE);
    char *said = must_fsck(LEFT, NULL);
    must_say(said, "/dir/large: inode");
    must_say(said, "is missing");
    free(said);
    harness_mount();
    cannot_be_read(harness_at(0, "dir/large"));
    made_check_file(harness_at(0, "dir/small"), 1, SMALL);
    harness_umount();
    free(must_fsck(REPAIRED, "--repair"));
    free(must_fsck(CLEAN, NULL));
    harness_mount();
    read_everything();
    harness_umount();
}

static void test_an_object_without_a_row_is_removed(void **state)
{
    (void)state;
    restore();
    shell("echo x > '%s/4242'", node("objects"));
    char *said = must_fsck(LEFT, NULL);
    must_say(said, "object 4242, which no row speaks of");
    free(said);
    free(must_fsck(REPAIRED, "--repair"));
    must_fail(ENOENT, access(node("objects/4242"), F_OK));
    free(must_fsck(CLEAN, NULL));
}

/* Nobody looks into the node after the kill, and into a removed one nobody can. */
static void check_killed(bool is_removed)
{
    char statement[200];
    restore();
    harness_mount();
    made_file(harness_at(0, "written"), 1, SMALL, 0644);
    harness_kill_daemon();
    shell("echo x > '%s/4242'", node("objects"));
    snprintf(statement, sizeof(statement), "DELETE FROM node WHERE serial = '%s'", harness_serial(0));
    if (is_removed) assert_int_equal(harness_sql(NULL, statement), 0);
    harness_mount();
    free(must_fsck(CLEAN, NULL));
    must_fail(ENOENT, access(node("objects/4242"), F_OK));
    if (is_removed) assert_int_equal(harness_coppice(NULL, "node", "add", harness_serial(0), NULL), 0);
    made_check_file(harness_at(0, "written"), 1, SMALL);
    harness_umount();
    struct stat st;
    must(stat(node("delta.db-wal"), &st));
    assert_int_equal(st.st_size, 0); /* by which the next daemon knows that there is nothing to do */
}

static void test_the_next_daemon_clears_away_what_a_killed_one_left(void **state)
{
    (void)state;
    check_killed(false);
    check_killed(true);
}

/* ---- files that SQLite calls damaged ---- */

static void overwrite(const char *path, off_t offset, size_t size)
{
    char noise[8192];
    made_fill(99, 0, noise, size);
    int fd = must(open(path, O_WRONLY | O_CLOEXEC));
    assert_int_equal(pwrite(fd, noise, size, offset), size);
    must(close(fd));
}

/* Into the file, so that damage of it is damage. */
static void move_wal(void)
{
    sql("delta.db", "PRAGMA wal_checkpoint(TRUNCATE)");
}

static void test_a_delta_without_its_head_is_salvaged(void **state)
{
    (void)state;
    restore();
    move_wal();
    struct stat st;
    must(stat(node("delta.db"), &st));
    for (off_t page = 3; page * 4096 < st.st_size; page += 6) overwrite(node("delta.db"), page * 4096, 4096);
    free(must_fsck(LEFT, NULL));
    char *said = must_fsck(REPAIRED, "--repair");
    must_say(said, "the old is delta.damaged-1.db");
    free(said);
    must(access(node("delta.damaged-1.db"), F_OK));
    free(must_fsck(CLEAN, NULL));
    harness_mount();
    read_everything();
    made_file(harness_at(0, "after"), 1, LARGE, 0644);
    harness_umount();
    free(must_fsck(CLEAN, NULL));
}

static void test_what_is_no_database_is_left(void **state)
{
    (void)state;
    restore();
    move_wal();
    overwrite(node("delta.db"), 0, 4096);
    char *said = must_fsck(LEFT, NULL);
    must_say(said, "delta.db: damaged");
    free(said);
    harness_mount();
    struct stat st;
    assert_true(lstat(harness_at(0, "dir"), &st) < 0);
    must(lstat(harness_at(1, "sizes"), &st));
    harness_umount();
}

/* ---- images ---- */

static const char *tree(const char *name)
{
    return harness_beside("store/images/%s/rootfs/%s", HARNESS_IMAGE, name);
}

static void test_a_tree_changed_behind_the_index_is_reported(void **state)
{
    (void)state;
    struct stat st;
    restore();
    must(stat(tree("sizes/4096"), &st));
    shell("mv '%s' '%s' && echo x >> '%s' && touch '%s' && rm -r '%s' && ln -sfn elsewhere '%s'", tree("etc"), tree("etc.away"),
          tree("sizes/1"), tree("sizes/4095"), tree("many"), tree("symlinks/relative"));
    int fd = must(open(tree("sizes/4096"), O_WRONLY | O_CLOEXEC));
    assert_int_equal(pwrite(fd, "changed", 7, 100), 7);
    must(futimens(fd, (struct timespec[2]){st.st_atim, st.st_mtim}));
    close(fd);
    char *said = must_fsck(LEFT, "--contents");
    must_say(said, "/etc: is missing");
    must_say(said, "/etc.away: was not there at the import");
    must_say(said, "/sizes/1: has ");
    must_say(said, "/sizes/4095: was modified");
    must_say(said, "/many: is missing");
    must_say(said, "/symlinks/relative: leads elsewhere");
    must_say(said, "/sizes/4096: its contents were changed");
    free(said);
    harness_mount();
    cannot_be_read(harness_at(1, "sizes/1"));
    cannot_be_read(harness_at(1, "sizes/4095"));
    made_check_file(harness_at(1, MADE_LARGE_NAME), MADE_LARGE, MADE_LARGE);
    harness_umount();
}

/* ---- no false alarm ---- */

static void work(void)
{
    for (int i = 0;; i++) {
        const char *path = harness_at(0, "busy-%d", i % 20);
        int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
        static char bytes[LARGE];
        if (fd < 0 || write(fd, bytes, i % 3 ? LARGE : SMALL) < 0) _exit(1);
        close(fd);
        if (i % 4 == 0) unlink(path);
        if (i % 5 == 0 && rename(path, harness_at(0, "busy-%d", (i + 7) % 20)) < 0 && errno != ENOENT) _exit(1);
    }
}

static void test_a_node_that_is_written_raises_no_alarm(void **state)
{
    (void)state;
    restore();
    harness_mount();
    fflush(NULL);
    pid_t pid = must(fork());
    if (pid == 0) work();
    double end = harness_seconds() + 6;
    int rounds = 0;
    for (; harness_seconds() < end; rounds++) free(must_fsck(CLEAN, NULL));
    kill(pid, SIGKILL);
    must(waitpid(pid, NULL, 0));
    print_message("%d times\n", rounds);
    char *said = NULL;
    assert_int_equal(harness_coppice(&said, "fsck", "--repair", NULL), FAILED);
    must_say(said, "is mounted on");
    free(said);
    harness_kill_daemon();
    harness_mount();
    read_everything();
    harness_umount();
    free(must_fsck(CLEAN, NULL));
}

static void test_random_operations_leave_a_clean_store(void **state)
{
    (void)state;
    restore();
    must(mkdir(harness_beside("random"), 0755));
    harness_mount();
    must(mkdir(harness_at(0, "random"), 0755));
    char *root = strdup(harness_at(0, "random"));
    struct random_ops *ops = random_ops_new(harness_beside("random"), root, random_seed());
    for (int i = 0; i < 4000; i++) assert_true(random_ops_step(ops));
    random_ops_close(ops);
    free(must_fsck(CLEAN, NULL));
    harness_umount();
    free(must_fsck(CLEAN, NULL));
    random_ops_free(ops);
    free(root);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_what_is_wrong_in_rows_is_found_and_repaired),
        cmocka_unit_test(test_what_has_lost_its_name_is_kept_with_its_contents),
        cmocka_unit_test(test_a_missing_object_is_one_file_s_loss),
        cmocka_unit_test(test_an_object_without_a_row_is_removed),
        cmocka_unit_test(test_the_next_daemon_clears_away_what_a_killed_one_left),
        cmocka_unit_test(test_a_delta_without_its_head_is_salvaged),
        cmocka_unit_test(test_what_is_no_database_is_left),
        cmocka_unit_test(test_random_operations_leave_a_clean_store),
        cmocka_unit_test(test_a_node_that_is_written_raises_no_alarm),
        cmocka_unit_test(test_a_tree_changed_behind_the_index_is_reported), /* last: the image stays damaged */
    };
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
