#include "scratch.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "db.h"
#include "delta.h"
#include "delta_upgrade.h"
#include "identity.h"
#include "io.h"

static struct identity identity;
static const struct delta_base base = {.image = "base", .image_count = 1000};

static int setup(void **state)
{
    static const uint8_t key[32] = "a secret that everybody can read";

    identity_init(&identity, key);
    return scratch_setup(state);
}

static int try_open(void **state, const char *serial, const struct delta_base *create, struct delta **ret_delta)
{
    _cleanup_close_ int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return delta_open(ret_delta, fd, scratch_path(state, serial), serial, &identity, create);
}

static struct delta *open_delta(void **state, const char *serial)
{
    struct delta *d = NULL;

    assert_int_equal(try_open(state, serial, &base, &d), 0);
    return d;
}

/* As open_delta(), inside an operation, where a single thread may call everything. */
static struct delta *begin(void **state, const char *serial)
{
    struct delta *d = open_delta(state, serial);

    assert_int_equal(delta_reserve(d), 0);
    assert_int_equal(commit_begin(delta_commit(d)), 0);
    return d;
}

static void end(struct delta *d, int error)
{
    struct commit_batch *batch = NULL;

    assert_int_equal(commit_end(delta_commit(d), error, &batch), error);
    commit_release(delta_commit(d), batch);
}

static void finish(struct delta *d)
{
    end(d, 0);
    delta_close(d);
}

static int64_t number_in(void **state, const char *serial, const char *sql)
{
    _cleanup_db_ struct db *db = NULL;
    _cleanup_stmt_ db_stmt *statement = NULL;
    char name[64];

    snprintf(name, sizeof(name), "%s/delta.db", serial);
    assert_int_equal(db_open(&db, scratch_path(state, name), DB_READ), 0);
    assert_int_equal(db_prepare(db, &statement, sql), 0);
    assert_int_equal(db_step(statement), 1);
    return db_int(statement, 0);
}

static void change_in(void **state, const char *serial, const char *sql)
{
    _cleanup_db_ struct db *db = NULL;
    char name[64];

    snprintf(name, sizeof(name), "%s/delta.db", serial);
    assert_int_equal(db_open(&db, scratch_path(state, name), DB_WRITE), 0);
    assert_int_equal(db_exec(db, sql), 0);
}

/* ---- opening ---- */

static void test_open(void **state)
{
    struct delta *d = NULL;

    assert_int_equal(try_open(state, "node", NULL, &d), -ENOENT);
    d = open_delta(state, "node");
    assert_string_equal(delta_image(d), "base");
    assert_int_equal(delta_image_count(d), 1000);
    assert_int_equal(delta_image_base(d), DELTA_FIRST);
    assert_int_equal(delta_shift(d), 0);
    assert_string_equal(delta_path(d), scratch_path(state, "node/delta.db"));
    assert_true(delta_objects_fd(d) >= 0);
    delta_close(d);
    assert_int_equal(try_open(state, "node", NULL, &d), 0);
    delta_close(d);
    /* Another image asked for: the delta says what it stands on. */
    assert_int_equal(try_open(state, "node", &(struct delta_base){"other", 5}, &d), 0);
    assert_string_equal(delta_image(d), "base");
    delta_close(d);
}

/* In the middle of a write, and then it ends as a killed one does: it closes nothing by itself. */
static void write_and_end(void **state, int ready)
{
    struct db *db = NULL;
    bool is_writing = db_open(&db, scratch_path(state, "node/delta.db"), DB_WRITE) == 0 && db_exec(db, "BEGIN IMMEDIATE") == 0;

    if (!is_writing || write(ready, "", 1) != 1) _exit(1);
    usleep(300000);
    _exit(0);
}

/* A killed daemon may not have ended when the next one begins. */
static void test_open_awaits_another_writer(void **state)
{
    struct delta *d = NULL;
    int ready[2], status = -1;
    char byte;
    pid_t pid;

    delta_close(open_delta(state, "node"));
    assert_int_equal(pipe(ready), 0);
    pid = fork();
    if (pid == 0) write_and_end(state, ready[1]);
    close(ready[1]);
    assert_int_equal(read(ready[0], &byte, 1), 1);
    close(ready[0]);
    d = begin(state, "node");
    assert_int_equal(delta_set_xattr(d, 1, "user.a", "one", 3), 0);
    finish(d);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    assert_int_equal(status, 0);
}

static void test_open_after_a_creation_that_was_killed(void **state)
{
    struct stat st;

    assert_int_equal(mkdir(scratch_path(state, "killed"), 0700), 0);
    scratch_write(scratch_path(state, "killed/delta.new"), "half of it");
    scratch_write(scratch_path(state, "killed/delta.new-wal"), "and a WAL");
    delta_close(open_delta(state, "killed"));
    assert_int_equal(stat(scratch_path(state, "killed/delta.new"), &st), -1);
    assert_int_equal(stat(scratch_path(state, "killed/delta.new-wal"), &st), -1);
}

static void test_open_brings_version_1_up_to_date(void **state)
{
    struct delta_inode inode = {.ino = 100, .mode = S_IFREG | 0600, .nlink = 1, .size = 20000, .object = 101};
    struct delta *d = begin(state, "upgrade");
    uint64_t ino;

    assert_int_equal(delta_add_inode(d, &inode), 0);
    finish(d);
    change_in(state, "upgrade", "ALTER TABLE view DROP COLUMN frozen; DROP TABLE progress; DROP INDEX grown; "
                                "ALTER TABLE inode DROP COLUMN grown; PRAGMA user_version = 1");
    d = open_delta(state, "upgrade");
    commit_lock(delta_commit(d));
    assert_int_equal(delta_next_grown(d, 0, &ino), 1);
    assert_int_equal(ino, 100);
    assert_int_equal(delta_get_inode(d, 100, &inode), 1);
    commit_unlock(delta_commit(d));
    assert_true(inode.grown);
    assert_int_equal(inode.object, 101);
    delta_close(d);
    assert_int_equal(number_in(state, "upgrade", "PRAGMA user_version"), DELTA_FORMAT);
}

static void test_open_refuses_damage(void **state)
{
    struct delta *d = NULL;

    delta_close(open_delta(state, "newer"));
    change_in(state, "newer", "PRAGMA user_version = 99");
    assert_int_equal(try_open(state, "newer", &base, &d), -EPROTO);
    delta_close(open_delta(state, "numbers"));
    change_in(state, "numbers", "UPDATE view SET next_ino = 20");
    assert_int_equal(try_open(state, "numbers", &base, &d), -EIO);
    delta_close(open_delta(state, "empty"));
    change_in(state, "empty", "DELETE FROM view");
    assert_int_equal(try_open(state, "empty", &base, &d), -EIO);
    delta_close(open_delta(state, "no-objects"));
    assert_int_equal(rmdir(scratch_path(state, "no-objects/objects")), 0);
    assert_int_equal(try_open(state, "no-objects", &base, &d), -EIO);
    assert_int_equal(mkdir(scratch_path(state, "noise"), 0700), 0);
    assert_int_equal(mkdir(scratch_path(state, "noise/objects"), 0700), 0);
    scratch_write(scratch_path(state, "noise/delta.db"), "this is no database, however long one looks at it, at all");
    assert_int_equal(try_open(state, "noise", &base, &d), -EIO);
    assert_null(d);
}

/* ---- numbers ---- */

static uint64_t new_ino(struct delta *d)
{
    uint64_t ino;

    assert_int_equal(delta_new_ino(d, &ino), 0);
    assert_true(delta_knows_ino(d, ino));
    assert_false(delta_knows_ino(d, ino + 1));
    return ino;
}

static void test_numbers_are_not_repeated(void **state)
{
    uint64_t last = DELTA_FIRST + base.image_count;

    for (int round = 0; round < 5; round++) {
        struct delta *d = begin(state, "numbers-1");

        for (int i = 0; i < 100; i++) {
            uint64_t ino = new_ino(d);

            assert_true(ino > last);
            last = ino;
        }
        finish(d);
    }
}

static void test_known_numbers(void **state)
{
    struct delta *d = begin(state, "known");

    assert_false(delta_knows_ino(d, 0));
    assert_false(delta_knows_ino(d, DELTA_FIRST - 1));
    assert_true(delta_knows_ino(d, DELTA_FIRST + 1000));
    finish(d);
}

/* Numbers of an operation that was undone, the first that asked for one, count as given out all the same. */
static void test_numbers_after_an_undone_operation(void **state)
{
    struct delta *d = begin(state, "undone");
    struct delta_inode inode = {.mode = S_IFREG, .nlink = 1, .object = DELTA_NO_OBJECT};

    new_ino(d);
    end(d, -EIO);
    assert_int_equal(delta_reserve(d), 0);
    assert_int_equal(commit_begin(delta_commit(d)), 0);
    inode.ino = new_ino(d);
    assert_int_equal(delta_add_inode(d, &inode), 0);
    finish(d);
    d = begin(state, "undone");
    assert_true(new_ino(d) > inode.ino);
    finish(d);
}

/* Gives out numbers in a process of its own, which ends without another word; the last one comes back by a pipe. */
static uint64_t give_out_and_die(void **state, const char *serial, int count)
{
    uint64_t ino = 0;
    int ends[2], status;
    pid_t child;

    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) {
        struct delta *d = begin(state, serial);

        for (int i = 0; i < count; i++) ino = new_ino(d);
        end(d, 0);
        _exit(write(ends[1], &ino, sizeof(ino)) != sizeof(ino));
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(read(ends[0], &ino, sizeof(ino)), sizeof(ino));
    close(ends[0]);
    close(ends[1]);
    return ino;
}

/* A number may be known outside, as an object's name or a client's handle, though no row of it was written. */
static void test_numbers_after_a_lost_reservation(void **state)
{
    uint64_t last = 0;

    delta_close(open_delta(state, "lost"));
    for (int round = 0; round < 3; round++) {
        uint64_t ino = give_out_and_die(state, "lost", 10);
        struct delta *d;

        assert_true(ino > last);
        d = begin(state, "lost");
        last = new_ino(d);
        assert_true(last > ino);
        finish(d);
    }
}

static void test_numbers_run_out(void **state)
{
    struct delta *d;
    uint64_t last = 0;
    int r = 0;

    delta_close(open_delta(state, "end"));
    change_in(state, "end", "UPDATE view SET next_ino = (1 << 43) - 100000");
    d = open_delta(state, "end");
    for (int i = 0; i < 200000 && (r = delta_reserve(d)) == 0; i++) {
        commit_lock(delta_commit(d));
        assert_true(new_ino(d) > last);
        commit_unlock(delta_commit(d));
    }
    assert_int_equal(r, -ENOSPC);
    delta_close(d);
}

/* Reserved in time, and as much as was given out is reserved on the disk whenever a reservation is done. */
static void test_numbers_are_reserved_ahead(void **state)
{
    struct delta *d = open_delta(state, "ahead");
    uint64_t ino = 0;

    for (int i = 0; i < 150000; i++) {
        assert_int_equal(delta_reserve(d), 0);
        commit_lock(delta_commit(d));
        ino = new_ino(d);
        commit_unlock(delta_commit(d));
        if (i % 10000 == 0) assert_true(number_in(state, "ahead", "SELECT next_ino FROM view") > (int64_t)ino);
    }
    delta_close(d);
    d = begin(state, "ahead");
    assert_true(new_ino(d) > ino);
    finish(d);
}

/* ---- inodes ---- */

static void assert_same_inode(const struct delta_inode *one, const struct delta_inode *other)
{
    assert_int_equal(one->ino, other->ino);
    assert_int_equal(one->image_ino, other->image_ino);
    assert_int_equal(one->mode, other->mode);
    assert_int_equal(one->uid, other->uid);
    assert_int_equal(one->gid, other->gid);
    assert_int_equal(one->nlink, other->nlink);
    assert_int_equal(one->rdev, other->rdev);
    assert_int_equal(one->size, other->size);
    assert_true(one->atime == other->atime && one->mtime == other->mtime && one->ctime == other->ctime);
    assert_int_equal(one->parent, other->parent);
    assert_int_equal(one->object, other->object);
    assert_int_equal(one->chunked, other->chunked);
}

static void test_inodes(void **state)
{
    struct delta *d = begin(state, "inodes");
    struct delta_inode large = {.ino = 2000, .image_ino = 7, .mode = S_IFREG | 07777, .uid = UINT32_MAX,
                                .gid = UINT32_MAX - 1, .nlink = 65000, .rdev = UINT32_MAX, .size = INT64_MAX,
                                .atime = INT64_MIN, .mtime = INT64_MAX, .ctime = -1, .parent = 99,
                                .object = 12345678901, .chunked = true};
    struct delta_inode none = {.ino = 2001, .mode = S_IFIFO, .object = DELTA_NO_OBJECT};
    struct delta_inode row = {.ino = 2002, .mode = S_IFREG, .nlink = 1, .object = DELTA_IN_ROW};
    struct delta_inode seen;

    assert_int_equal(delta_get_inode(d, 2000, &seen), 0);
    assert_int_equal(delta_add_inode(d, &large), 0);
    assert_int_equal(delta_add_inode(d, &none), 0);
    assert_int_equal(delta_add_inode(d, &row), 0);
    assert_int_equal(delta_add_inode(d, &row), -EEXIST);
    finish(d);
    d = begin(state, "inodes");
    assert_int_equal(delta_get_inode(d, 2000, &seen), 1);
    assert_same_inode(&seen, &large);
    assert_int_equal(delta_get_inode(d, 2001, &seen), 1);
    assert_same_inode(&seen, &none);
    assert_int_equal(delta_get_inode(d, 2002, &seen), 1);
    assert_same_inode(&seen, &row);
    large.ino = 2002;
    assert_int_equal(delta_set_inode(d, &large), 0);
    assert_int_equal(delta_get_inode(d, 2002, &seen), 1);
    assert_same_inode(&seen, &large);
    assert_int_equal(delta_get_inode(d, 2001, &seen), 1);
    assert_same_inode(&seen, &none);
    finish(d);
}

static void begin_again(struct delta *d)
{
    assert_int_equal(delta_reserve(d), 0);
    assert_int_equal(commit_begin(delta_commit(d)), 0);
}

/* Also what was read before, and after, in the operation. */
static void test_inodes_of_an_undone_operation(void **state)
{
    struct delta *d = begin(state, "undone inodes");
    struct delta_inode kept = {.ino = 2000, .mode = S_IFREG | 0644, .nlink = 1, .size = 1, .object = DELTA_NO_OBJECT};
    struct delta_inode changed = kept, added = {.ino = 2001, .mode = S_IFIFO, .object = DELTA_NO_OBJECT}, seen;

    assert_int_equal(delta_add_inode(d, &kept), 0);
    end(d, 0);
    changed.size = 2;
    for (int way = 0; way < 3; way++) {
        begin_again(d);
        assert_int_equal(delta_add_inode(d, &added), 0);
        if (way == 0) assert_int_equal(delta_set_inode(d, &changed), 0);
        if (way == 1) assert_int_equal(delta_set_contents(d, &changed), 0);
        if (way == 2) assert_int_equal(delta_remove_inode(d, 2000), 0);
        assert_int_equal(delta_get_inode(d, 2000, &seen), way < 2);
        if (way < 2) assert_same_inode(&seen, &changed);
        assert_int_equal(delta_get_inode(d, 2001, &seen), 1);
        end(d, -EIO);
        begin_again(d);
        assert_int_equal(delta_get_inode(d, 2000, &seen), 1);
        assert_same_inode(&seen, &kept);
        assert_int_equal(delta_get_inode(d, 2001, &seen), 0);
        end(d, 0);
    }
    delta_close(d);
}

static void hang_on(struct delta *d, uint64_t ino)
{
    assert_int_equal(delta_set_content(d, ino, "text", 4), 0);
    assert_int_equal(delta_add_chunk(d, ino, &(struct delta_chunk){.end = 10}), 0);
    assert_int_equal(delta_set_xattr(d, ino, "user.a", "1", 1), 0);
}

static bool hangs_on(struct delta *d, uint64_t ino)
{
    struct delta_chunk chunk;
    char buffer[8];
    size_t length;
    int n = delta_get_content(d, ino, buffer, sizeof(buffer), &length);

    n += delta_next_chunk(d, ino, 0, &chunk);
    n += delta_get_xattr(d, ino, "user.a", buffer, sizeof(buffer), &length);
    assert_true(n == 0 || n == 3);
    return n == 3;
}

static void test_removing_an_inode(void **state)
{
    struct delta *d = begin(state, "remove");
    struct delta_inode seen;

    for (uint64_t ino = 1; ino <= 3; ino++) {
        struct delta_inode inode = {.ino = ino, .mode = S_IFREG, .nlink = 1};

        assert_int_equal(delta_add_inode(d, &inode), 0);
        hang_on(d, ino);
    }
    assert_int_equal(delta_remove_inode(d, 1), 0);
    assert_int_equal(delta_get_inode(d, 1, &seen), 0);
    assert_false(hangs_on(d, 1));
    assert_int_equal(delta_clear_inode(d, 2), 0);
    assert_int_equal(delta_get_inode(d, 2, &seen), 1);
    assert_false(hangs_on(d, 2));
    assert_true(hangs_on(d, 3));
    assert_int_equal(delta_remove_inode(d, 99), 0);
    finish(d);
}

static void test_orphans(void **state)
{
    static const struct delta_inode inodes[] = {
        {.ino = 5, .mode = S_IFREG, .nlink = 0}, {.ino = 6, .mode = S_IFREG, .nlink = 1},
        {.ino = 7, .mode = 0, .nlink = 0},       {.ino = 8, .mode = S_IFDIR, .nlink = 0},
    };
    struct delta *d = begin(state, "orphans");
    uint64_t ino = 0;

    for (size_t i = 0; i < 4; i++) assert_int_equal(delta_add_inode(d, &inodes[i]), 0);
    assert_int_equal(delta_next_orphan(d, 0, &ino), 1);
    assert_int_equal(ino, 5);
    assert_int_equal(delta_next_orphan(d, ino, &ino), 1);
    assert_int_equal(ino, 8);
    assert_int_equal(delta_next_orphan(d, ino, &ino), 0);
    finish(d);
}

struct numbers {
    uint64_t seen[16];
    int count, stop_at;
};

static int note(uint64_t ino, void *data)
{
    struct numbers *n = data;

    n->seen[n->count++] = ino;
    return n->count == n->stop_at ? -ECANCELED : 0;
}

static void test_each(void **state)
{
    struct delta *d = begin(state, "each");
    struct numbers numbers = {0};

    assert_int_equal(delta_each_dir(d, note, &numbers), 0);
    assert_int_equal(delta_each_inode(d, 100, note, &numbers), 0);
    assert_int_equal(numbers.count, 0);
    for (uint64_t ino = 10; ino < 16; ino++) {
        struct delta_inode inode = {.ino = ino, .mode = S_IFREG};

        assert_int_equal(delta_add_inode(d, &inode), 0);
        assert_int_equal(delta_set_dirent(d, ino * 2, "a", 1, 1, 8), 0);
        assert_int_equal(delta_set_dirent(d, ino * 2, "b", 1, 0, 0), 0);
    }
    assert_int_equal(delta_each_dir(d, note, &numbers), 0);
    assert_int_equal(numbers.count, 6);
    for (int i = 0; i < 6; i++) assert_int_equal(numbers.seen[i], 20 + 2 * i);
    numbers = (struct numbers){0};
    assert_int_equal(delta_each_inode(d, 13, note, &numbers), 0);
    assert_int_equal(numbers.count, 3);
    numbers = (struct numbers){.stop_at = 2};
    assert_int_equal(delta_each_inode(d, 100, note, &numbers), -ECANCELED);
    assert_int_equal(numbers.count, 2);
    finish(d);
}

/* ---- names ---- */

static void test_dirents(void **state)
{
    static const char odd[] = "\x01\xff name\n";
    struct delta *d = begin(state, "dirents");
    struct delta_dirent e;
    char name[256];

    memset(name, 'n', sizeof(name));
    assert_int_equal(delta_get_dirent(d, 1, "a", 1, &e), 0);
    assert_int_equal(delta_set_dirent(d, 1, "a", 1, 40, 8), 0);
    assert_int_equal(delta_set_dirent(d, 2, "a", 1, 41, 4), 0);
    assert_int_equal(delta_set_dirent(d, 1, name, 255, 42, 10), 0);
    assert_int_equal(delta_set_dirent(d, 1, odd, sizeof(odd) - 1, 0, 0), 0);
    assert_int_equal(delta_get_dirent(d, 1, "a", 1, &e), 1);
    assert_int_equal(e.ino, 40);
    assert_int_equal(e.type, 8);
    assert_true(e.slot < 1u << 30);
    assert_int_equal(delta_set_dirent(d, 1, "a", 1, 43, 4), 0);
    assert_int_equal(delta_get_dirent(d, 1, "a", 1, &e), 1);
    assert_int_equal(e.ino, 43);
    assert_int_equal(e.type, 4);
    assert_int_equal(delta_get_dirent(d, 2, "a", 1, &e), 1);
    assert_int_equal(e.ino, 41);
    assert_int_equal(delta_get_dirent(d, 1, name, 255, &e), 1);
    assert_int_equal(delta_get_dirent(d, 1, name, 254, &e), 0);
    assert_int_equal(delta_get_dirent(d, 1, odd, sizeof(odd) - 1, &e), 1);
    assert_int_equal(e.ino, 0);
    assert_int_equal(delta_remove_dirent(d, 1, "a", 1), 0);
    assert_int_equal(delta_remove_dirent(d, 1, "a", 1), 0);
    assert_int_equal(delta_get_dirent(d, 1, "a", 1, &e), 0);
    assert_int_equal(delta_get_dirent(d, 2, "a", 1, &e), 1);
    finish(d);
}

static void test_live_dirents(void **state)
{
    struct delta *d = begin(state, "live");
    struct delta_dirent e;

    assert_int_equal(delta_has_live_dirent(d, 1), 0);
    assert_int_equal(delta_set_dirent(d, 1, "gone", 4, 0, 0), 0);
    assert_int_equal(delta_has_live_dirent(d, 1), 0);
    assert_int_equal(delta_set_dirent(d, 1, "here", 4, 5, 8), 0);
    assert_int_equal(delta_set_dirent(d, 2, "here", 4, 5, 8), 0);
    assert_int_equal(delta_has_live_dirent(d, 1), 1);
    assert_int_equal(delta_remove_dirents(d, 1), 0);
    assert_int_equal(delta_has_live_dirent(d, 1), 0);
    assert_int_equal(delta_next_dirent(d, 1, 0, &e), 0);
    assert_int_equal(delta_has_live_dirent(d, 2), 1);
    finish(d);
}

static void test_dirents_in_order(void **state)
{
    enum { COUNT = 1000 };
    struct delta *d = begin(state, "order");
    struct delta_dirent e, again;
    char name[16];
    uint32_t slot = 0;
    int seen = 0;

    for (int i = 0; i < COUNT; i++) {
        int length = snprintf(name, sizeof(name), "file-%d", i);

        assert_int_equal(delta_set_dirent(d, 1, name, length, 1000 + i, 8), 0);
    }
    for (; delta_next_dirent(d, 1, slot, &e) > 0; slot = e.slot + 1) {
        assert_true(e.slot >= slot && e.slot < 1u << 30);
        assert_int_equal(strlen(e.name), e.length);
        assert_int_equal(delta_get_dirent(d, 1, e.name, e.length, &again), 1);
        assert_int_equal(again.ino, e.ino);
        seen++;
        if (seen % 3) assert_int_equal(delta_remove_dirent(d, 1, e.name, e.length), 0);
    }
    assert_int_equal(seen, COUNT);
    finish(d);
}

/* Sixteen other names where the name's hash points to. */
static void fill_slots(void **state, const char *serial, const char *name)
{
    uint32_t first = (identity_name_hash(&identity, name, strlen(name)) & ((1u << 26) - 1)) << 4;
    char sql[256];

    for (uint32_t i = 0; i < 16; i++) {
        snprintf(sql, sizeof(sql),
                 "INSERT INTO dirent(parent, slot, name, ino, type) VALUES(1, %u, CAST('x%u' AS BLOB), %u, 8)",
                 first + i, i, 500 + i);
        change_in(state, serial, sql);
    }
}

static void test_names_of_one_hash(void **state)
{
    struct delta *d;
    struct delta_dirent e;
    uint32_t slot;
    char sql[64];

    delta_close(open_delta(state, "hash"));
    fill_slots(state, "hash", "name");
    d = begin(state, "hash");
    assert_int_equal(delta_get_dirent(d, 1, "name", 4, &e), 0);
    assert_int_equal(delta_set_dirent(d, 1, "name", 4, 9, 8), -ENOSPC);
    assert_int_equal(delta_set_dirent(d, 2, "name", 4, 9, 8), 0);
    assert_int_equal(delta_remove_dirent(d, 1, "name", 4), 0);
    assert_int_equal(delta_next_dirent(d, 1, 0, &e), 1);
    assert_string_equal(e.name, "x0");
    slot = e.slot;
    finish(d);
    /* One of them goes: its place is free, and the others keep theirs. */
    snprintf(sql, sizeof(sql), "DELETE FROM dirent WHERE parent = 1 AND slot = %u", slot + 5);
    change_in(state, "hash", sql);
    d = begin(state, "hash");
    assert_int_equal(delta_set_dirent(d, 1, "name", 4, 9, 8), 0);
    assert_int_equal(delta_get_dirent(d, 1, "name", 4, &e), 1);
    assert_int_equal(e.slot, slot + 5);
    assert_int_equal(delta_set_dirent(d, 1, "name", 4, 10, 8), 0); /* replaces, though all are taken again */
    assert_int_equal(delta_get_dirent(d, 1, "name", 4, &e), 1);
    assert_int_equal(e.ino, 10);
    finish(d);
    assert_int_equal(number_in(state, "hash", "SELECT count(*) FROM dirent WHERE parent = 1"), 16);
}

/* ---- contents ---- */

static void test_contents(void **state)
{
    struct delta *d = begin(state, "contents");
    static char large[16384], seen[16384];
    size_t length = 99;

    memset(large, 'c', sizeof(large));
    assert_int_equal(delta_get_content(d, 1, seen, sizeof(seen), &length), 0);
    assert_int_equal(delta_set_content(d, 1, large, sizeof(large)), 0);
    assert_int_equal(delta_set_content(d, 2, "a\0b", 3), 0);
    assert_int_equal(delta_set_content(d, 3, NULL, 0), 0);
    assert_int_equal(delta_get_content(d, 1, seen, sizeof(seen), &length), 1);
    assert_int_equal(length, sizeof(large));
    assert_memory_equal(seen, large, sizeof(large));
    assert_int_equal(delta_get_content(d, 1, seen, 5, &length), 1);
    assert_int_equal(length, sizeof(large));
    assert_int_equal(delta_get_content(d, 2, seen, sizeof(seen), &length), 1);
    assert_int_equal(length, 3);
    assert_memory_equal(seen, "a\0b", 3);
    assert_int_equal(delta_get_content(d, 3, seen, sizeof(seen), &length), 1);
    assert_int_equal(length, 0);
    assert_int_equal(delta_set_content(d, 2, "new", 3), 0);
    assert_int_equal(delta_get_content(d, 2, seen, sizeof(seen), &length), 1);
    assert_memory_equal(seen, "new", 3);
    assert_int_equal(delta_remove_content(d, 2), 0);
    assert_int_equal(delta_get_content(d, 2, seen, sizeof(seen), &length), 0);
    assert_int_equal(delta_remove_content(d, 2), 0);
    finish(d);
}

/* ---- chunks ---- */

/* The chunks of an inode as "start-end/source" words. */
static const char *chunks_of(struct delta *d, uint64_t ino)
{
    static char text[512];
    struct delta_chunk c = {0};
    size_t used = 0;
    int r;

    text[0] = '\0';
    while ((r = delta_next_chunk(d, ino, c.end, &c)) > 0)
        used += snprintf(text + used, sizeof(text) - used, "%s%llu-%llu/%llu", used ? " " : "",
                         (unsigned long long)c.start,
                         (unsigned long long)c.end, (unsigned long long)c.source);
    assert_int_equal(r, 0);
    return text;
}

static void test_chunks(void **state)
{
    struct delta *d = begin(state, "chunks");
    struct delta_chunk c;

    assert_int_equal(delta_next_chunk(d, 1, 0, &c), 0);
    assert_int_equal(delta_add_chunk(d, 1, &(struct delta_chunk){4096, 12288, 0}), 0);
    assert_int_equal(delta_add_chunk(d, 1, &(struct delta_chunk){20480, 30000, 1}), 0);
    assert_int_equal(delta_add_chunk(d, 2, &(struct delta_chunk){0, INT64_MAX, 0}), 0);
    assert_string_equal(chunks_of(d, 1), "4096-12288/0 20480-30000/1");
    assert_int_equal(delta_next_chunk(d, 1, 4095, &c), 1);
    assert_int_equal(c.start, 4096);
    assert_int_equal(delta_next_chunk(d, 1, 12287, &c), 1);
    assert_int_equal(c.start, 4096);
    assert_int_equal(delta_next_chunk(d, 1, 12288, &c), 1);
    assert_int_equal(c.start, 20480);
    assert_int_equal(delta_next_chunk(d, 1, 30000, &c), 0);
    assert_int_equal(delta_discard_chunks(d, 1, 0, 4096), 0);
    assert_string_equal(chunks_of(d, 1), "4096-12288/0 20480-30000/1");
    assert_int_equal(delta_discard_chunks(d, 1, 8192, 24576), 0);
    assert_string_equal(chunks_of(d, 1), "4096-8192/0 24576-30000/1");
    assert_int_equal(delta_discard_chunks(d, 1, 4096, 8192), 0);
    assert_string_equal(chunks_of(d, 1), "24576-30000/1");
    assert_int_equal(delta_discard_chunks(d, 1, 0, INT64_MAX), 0);
    assert_string_equal(chunks_of(d, 1), "");
    assert_int_equal(delta_discard_chunks(d, 2, 4096, 8192), 0);
    assert_string_equal(chunks_of(d, 2), "0-4096/0 8192-9223372036854775807/0");
    finish(d);
}

static void test_superseded_chunks_come_back(void **state)
{
    struct delta *d = begin(state, "undo");
    struct delta_undo undo = {0};

    assert_int_equal(delta_add_chunk(d, 1, &(struct delta_chunk){0, 40960, 0}), 0);
    assert_int_equal(delta_supersede_chunks(d, 1, 8192, 16384), 1);
    assert_int_equal(delta_supersede_chunks(d, 1, 4096, 12288), 1); /* part of it for the second time */
    assert_int_equal(delta_supersede_chunks(d, 1, 4096, 12288), 0);
    assert_string_equal(chunks_of(d, 1), "0-4096/0 16384-40960/0");
    assert_int_equal(delta_next_undo(d, &undo, &undo), 1);
    assert_int_equal(undo.chunk.start, 4096);
    assert_int_equal(undo.chunk.end, 8192);
    assert_int_equal(delta_next_undo(d, &undo, &undo), 1);
    assert_int_equal(undo.ino, 1);
    assert_int_equal(undo.chunk.start, 8192);
    assert_int_equal(undo.chunk.end, 16384);
    assert_int_equal(delta_restore_chunk(d, 1, &(struct delta_chunk){8192, 12288, 0}), 0);
    assert_string_equal(chunks_of(d, 1), "0-4096/0 8192-12288/0 16384-40960/0");
    assert_int_equal(delta_discard_chunks(d, 1, 0, 40960), 0);
    undo = (struct delta_undo){0};
    assert_int_equal(delta_next_undo(d, &undo, &undo), 0);
    finish(d);
}

static void test_fresh_objects(void **state)
{
    struct delta *d = begin(state, "fresh");
    uint64_t ino = 0;

    assert_int_equal(delta_next_fresh(d, 0, &ino, &(uint64_t){0}), 0);
    assert_int_equal(delta_add_fresh(d, 7, 0), 0);
    assert_int_equal(delta_add_fresh(d, 7, 0), 0);
    assert_int_equal(delta_add_fresh(d, 5, 0), 0);
    assert_int_equal(delta_next_fresh(d, 0, &ino, &(uint64_t){0}), 1);
    assert_int_equal(ino, 5);
    assert_int_equal(delta_next_fresh(d, ino, &ino, &(uint64_t){0}), 1);
    assert_int_equal(ino, 7);
    assert_int_equal(delta_next_fresh(d, ino, &ino, &(uint64_t){0}), 0);
    /* Settled once names are on the disk. */
    commit_adds_object(delta_commit(d));
    end(d, 0);
    assert_int_equal(commit_sync(delta_commit(d)), 0);
    assert_int_equal(commit_begin(delta_commit(d)), 0);
    assert_int_equal(delta_next_fresh(d, 0, &ino, &(uint64_t){0}), 0);
    finish(d);
}

/* ---- attributes ---- */

static int append(const char *name, const void *value, size_t size, void *data)
{
    char *text = data;

    sprintf(text + strlen(text), "%s=%.*s ", name, (int)size, (const char *)value);
    return strcmp(name, "user.stop") == 0 ? -ECANCELED : 0;
}

static void test_xattrs(void **state)
{
    struct delta *d = begin(state, "xattrs");
    char buffer[16], text[256] = "";
    size_t length;

    assert_int_equal(delta_get_xattr(d, 1, "user.a", buffer, sizeof(buffer), &length), 0);
    assert_int_equal(delta_set_xattr(d, 1, "user.b", "two", 3), 0);
    assert_int_equal(delta_set_xattr(d, 1, "user.a", "one", 3), 0);
    assert_int_equal(delta_set_xattr(d, 2, "user.a", "other", 5), 0);
    assert_int_equal(delta_set_xattr(d, 1, "user.empty", NULL, 0), 0);
    assert_int_equal(delta_set_xattr(d, 1, "user.a", "uno", 3), 0);
    assert_int_equal(delta_get_xattr(d, 1, "user.a", buffer, sizeof(buffer), &length), 1);
    assert_int_equal(length, 3);
    assert_memory_equal(buffer, "uno", 3);
    assert_int_equal(delta_get_xattr(d, 1, "user.a", NULL, 0, &length), 1);
    assert_int_equal(length, 3);
    assert_int_equal(delta_get_xattr(d, 1, "user.empty", buffer, sizeof(buffer), &length), 1);
    assert_int_equal(length, 0);
    assert_int_equal(delta_xattrs(d, 1, append, text), 0);
    assert_string_equal(text, "user.a=uno user.b=two user.empty= ");
    assert_int_equal(delta_remove_xattr(d, 1, "user.a"), 1);
    assert_int_equal(delta_remove_xattr(d, 1, "user.a"), 0);
    assert_int_equal(delta_get_xattr(d, 2, "user.a", buffer, sizeof(buffer), &length), 1);
    assert_int_equal(delta_set_xattr(d, 3, "user.stop", "x", 1), 0);
    assert_int_equal(delta_set_xattr(d, 3, "user.t", "x", 1), 0);
    text[0] = '\0';
    assert_int_equal(delta_xattrs(d, 3, append, text), -ECANCELED);
    assert_string_equal(text, "user.stop=x ");
    finish(d);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_open),
        cmocka_unit_test(test_open_awaits_another_writer),
        cmocka_unit_test(test_open_after_a_creation_that_was_killed),
        cmocka_unit_test(test_open_brings_version_1_up_to_date),
        cmocka_unit_test(test_open_refuses_damage),
        cmocka_unit_test(test_numbers_are_not_repeated),
        cmocka_unit_test(test_known_numbers),
        cmocka_unit_test(test_numbers_after_an_undone_operation),
        cmocka_unit_test(test_numbers_after_a_lost_reservation),
        cmocka_unit_test(test_numbers_are_reserved_ahead),
        cmocka_unit_test(test_numbers_run_out),
        cmocka_unit_test(test_inodes),
        cmocka_unit_test(test_inodes_of_an_undone_operation),
        cmocka_unit_test(test_removing_an_inode),
        cmocka_unit_test(test_orphans),
        cmocka_unit_test(test_each),
        cmocka_unit_test(test_dirents),
        cmocka_unit_test(test_live_dirents),
        cmocka_unit_test(test_dirents_in_order),
        cmocka_unit_test(test_names_of_one_hash),
        cmocka_unit_test(test_contents),
        cmocka_unit_test(test_chunks),
        cmocka_unit_test(test_superseded_chunks_come_back),
        cmocka_unit_test(test_fresh_objects),
        cmocka_unit_test(test_xattrs),
    };

    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
