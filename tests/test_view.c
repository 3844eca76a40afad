#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "acl.h"
#include "content.h"
#include "dirent.h"
#include "inode.h"
#include "io.h"
#include "made_acl.h"
#include "replay.h"
#include "view_fixture.h"
#include "xattr.h"

static uint64_t make(struct view *v, uint64_t dir, const char *name, mode_t mode)
{
    uint64_t ino;

    assert_int_equal(names_make(v, &view_fixture_caller, dir, name, mode, 0, &ino), 0);
    return ino;
}

/* ---- numbers ---- */

static void test_numbers(void **state)
{
    struct view *v = view_fixture_open(*state, "numbers");
    uint32_t count = image_count(v->image);

    assert_int_equal(view_image_ino(v, DELTA_ROOT), 1);
    assert_int_equal(view_ino(v, 1), DELTA_ROOT);
    for (uint32_t i = 2; i <= count; i++) assert_int_equal(view_image_ino(v, view_ino(v, i)), i);
    assert_int_equal(view_image_ino(v, 0), 0);
    assert_int_equal(view_image_ino(v, view_ino(v, count) + 1), 0);
    assert_int_equal(view_image_ino(v, view_ino(v, 2) - 1), 0); /* the root has one number, not two */
    assert_int_equal(view_wire(v, DELTA_ROOT).ino, DELTA_ROOT);
    assert_int_equal(view_wire(v, DELTA_ROOT).node, 7);
    for (uint64_t ino = view_ino(v, 2); ino < 100; ino++) assert_int_equal(view_unwire(v, view_wire(v, ino).ino), ino);
    view_fixture_close(*state);
}

static void test_reading_makes_no_delta(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "untouched");
    char buffer[100];
    struct stat st;

    view_fixture_check(v);
    assert_int_equal(content_read(v, view_fixture_find(v, "sizes/4095"), buffer, 100, 0), 100);
    assert_int_equal(view_sync(v), 0);
    view_tidy(v, 1000000, 1);
    assert_int_equal(view_refer(v, DELTA_ROOT), 0);
    view_forget(v, DELTA_ROOT, 1);
    view_fixture_close(f);
    assert_int_equal(stat(view_fixture_path(f, ""), &st), -1);
}

/* ---- attributes ---- */

static void test_image_attributes(void **state)
{
    struct view *v = view_fixture_open(*state, "stat");
    struct stat st = view_fixture_stat(v, view_fixture_find(v, "links/a"));
    struct stat real;
    struct view_fixture *f = *state;

    assert_int_equal(stat(scratch_path(&f->scratch, "images/base/rootfs/links/a"), &real), 0);
    assert_int_equal(st.st_mode, real.st_mode);
    assert_int_equal(st.st_nlink, 3);
    assert_int_equal(st.st_uid, real.st_uid);
    assert_int_equal(st.st_size, 5000);
    assert_int_equal(st.st_mtim.tv_sec, real.st_mtim.tv_sec);
    assert_int_equal(st.st_mtim.tv_nsec, real.st_mtim.tv_nsec);
    assert_int_equal(st.st_ino, identity_st_ino(view_wire(v, view_fixture_find(v, "linked"))));
    assert_int_equal(view_fixture_stat(v, DELTA_ROOT).st_nlink, 10);
    view_fixture_close(f);
}

static void test_change(void **state)
{
    struct view *v = view_fixture_open(*state, "change");
    struct stat st = {.st_mode = 07751, .st_uid = 1, .st_gid = UINT32_MAX - 1, .st_atim = {-5, 7},
                      .st_mtim = {4000000000, 999999999}};
    uint64_t ino = view_fixture_find(v, "tree/to_file"), other = view_fixture_find(v, "other/to_file");
    struct stat untouched = view_fixture_stat(v, other), seen;

    assert_int_equal(view_fixture_change(v, ino, &st, INODE_MODE | INODE_UID | INODE_GID | INODE_ATIME | INODE_MTIME),
                     0);
    for (int round = 0; round < 2; round++) {
        seen = view_fixture_stat(v, ino);
        assert_int_equal(seen.st_mode, S_IFREG | 07751);
        assert_int_equal(seen.st_uid, 1);
        assert_int_equal(seen.st_gid, UINT32_MAX - 1);
        assert_int_equal(seen.st_atim.tv_sec, -5);
        assert_int_equal(seen.st_atim.tv_nsec, 7);
        assert_int_equal(seen.st_mtim.tv_sec, 4000000000);
        assert_int_equal(seen.st_mtim.tv_nsec, 999999999);
        assert_true(io_now() / 1000000000 - seen.st_ctim.tv_sec < 60);
        v = view_fixture_reopen(*state);
    }
    assert_int_equal(view_fixture_change(v, ino, &st, INODE_UID), 0);
    assert_int_equal(view_fixture_stat(v, ino).st_atim.tv_sec, -5);
    assert_int_equal(view_fixture_change(v, ino, &st, INODE_MTIME | INODE_MTIME_NOW), 0);
    assert_true(io_now() / 1000000000 - view_fixture_stat(v, ino).st_mtim.tv_sec < 60);
    seen = view_fixture_stat(v, other);
    assert_memory_equal(&seen, &untouched, sizeof(seen));
    assert_int_equal(view_fixture_change(v, 1 << 30, &st, INODE_UID), -ESTALE);
    view_fixture_close(*state);
}

static void assert_target(struct view *v, const char *path, const char *target)
{
    char buffer[4096];

    assert_int_equal(inode_readlink(v, view_fixture_find(v, path), buffer, sizeof(buffer)), strlen(target));
    assert_string_equal(buffer, target);
}

static void test_readlink(void **state)
{
    struct view *v = view_fixture_open(*state, "readlink");
    char target[4097], buffer[4096];
    uint64_t ino;

    memset(target, 't', sizeof(target));
    target[4096] = '\0';
    assert_int_equal(names_symlink(v, &view_fixture_caller, DELTA_ROOT, "long", target, &ino), -ENAMETOOLONG);
    target[4095] = '\0';
    assert_int_equal(names_symlink(v, &view_fixture_caller, DELTA_ROOT, "long", target, &ino), 0);
    assert_int_equal(view_fixture_stat(v, ino).st_size, 4095);
    assert_int_equal(view_fixture_stat(v, ino).st_mode, S_IFLNK | 0777);
    assert_target(v, "long", target);
    assert_target(v, "symlinks/short", "../sizes/1");
    /* Copied up: the target stays. */
    assert_int_equal(view_fixture_change(v, view_fixture_find(v, "symlinks/short"), &(struct stat){.st_uid = 5},
                                         INODE_UID), 0);
    assert_target(v, "symlinks/short", "../sizes/1");
    v = view_fixture_reopen(*state);
    assert_target(v, "long", target);
    assert_target(v, "symlinks/short", "../sizes/1");
    assert_int_equal(inode_readlink(v, DELTA_ROOT, buffer, sizeof(buffer)), -EINVAL);
    assert_int_equal(inode_readlink(v, view_fixture_find(v, "fifo"), buffer, sizeof(buffer)), -EINVAL);
    view_fixture_close(*state);
}

/* ---- what is over ---- */

static int count_objects(struct view_fixture *f)
{
    char output[64];

    assert_int_equal(scratch_run(output, sizeof(output), "ls %s | wc -l", view_fixture_path(f, "objects")), 0);
    return atoi(output);
}

static void test_deleted_image_inode_is_stale(void **state)
{
    struct view *v = view_fixture_open(*state, "stale");
    uint64_t file = view_fixture_find(v, "tree/to_file"), dir = view_fixture_find(v, "empty"), found;
    uint64_t tree = view_fixture_find(v, "tree");
    struct stat st;
    char byte;

    assert_int_equal(names_unlink(v, tree, "to_file"), 0);
    assert_int_equal(names_rmdir(v, DELTA_ROOT, "empty"), 0);
    make(v, tree, "to_file", S_IFREG | 0600);
    for (int round = 0; round < 2; round++) {
        assert_int_equal(inode_stat(v, file, &st), -ESTALE);
        assert_int_equal(content_read(v, file, &byte, 1, 0), -ESTALE);
        assert_int_equal(names_lookup(v, file, ".", &found), -ESTALE);
        assert_int_equal(names_lookup(v, dir, "..", &found), -ESTALE);
        assert_int_equal(names_lookup(v, dir, "x", &found), -ESTALE);
        assert_int_equal(names_link(v, file, DELTA_ROOT, "back"), -ESTALE);
        assert_int_not_equal(view_fixture_find(v, "tree/to_file"), file);
        v = view_fixture_reopen(*state);
    }
    view_fixture_close(*state);
}

static void test_orphan_lives_while_referred_to(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "orphan");
    uint64_t image = view_fixture_find(v, "sizes/300000"), fresh = make(v, DELTA_ROOT, "fresh", S_IFREG | 0600), found;
    uint64_t inos[] = {image, fresh};
    char bytes[20000] = "contents";
    struct stat st;

    assert_int_equal(content_write(v, fresh, bytes, sizeof(bytes), 0), 0);
    for (int i = 0; i < 2; i++)
        for (int n = 0; n < 3; n++) assert_int_equal(view_refer(v, inos[i]), 0);
    assert_int_equal(names_unlink(v, view_fixture_find(v, "sizes"), "300000"), 0);
    assert_int_equal(names_unlink(v, DELTA_ROOT, "fresh"), 0);
    for (int i = 0; i < 2; i++) {
        view_forget(v, inos[i], 2);
        assert_int_equal(view_fixture_stat(v, inos[i]).st_nlink, 0);
        assert_int_equal(names_lookup(v, inos[i], ".", &found), -ESTALE);
        assert_int_equal(content_write(v, inos[i], "more", 4, 19000), 0);
        assert_int_equal(content_read(v, inos[i], bytes, 4, 19000), 4);
        assert_memory_equal(bytes, "more", 4);
        view_forget(v, inos[i], 1);
        assert_int_equal(inode_stat(v, inos[i], &st), -ESTALE);
    }
    assert_int_equal(view_sync(v), 0);
    assert_int_equal(count_objects(f), 0);
    view_fixture_close(f);
}

static void test_unnamed_file_gets_a_name_or_ends(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "unnamed");
    const struct names_caller me = {0};
    uint64_t kept, gone;
    char bytes[20000] = "contents";
    struct stat st;

    assert_int_equal(names_make_unnamed(v, &me, DELTA_ROOT, S_IFREG | 0600, &kept), 0);
    assert_int_equal(names_make_unnamed(v, &me, DELTA_ROOT, S_IFREG | 0600, &gone), 0);
    assert_int_equal(view_fixture_stat(v, kept).st_nlink, 0);
    assert_int_equal(content_write(v, kept, bytes, sizeof(bytes), 0), 0);
    assert_int_equal(content_write(v, gone, bytes, sizeof(bytes), 0), 0);
    assert_int_equal(names_link(v, kept, DELTA_ROOT, "kept"), 0);
    view_forget(v, kept, 1);
    view_forget(v, gone, 1);
    st = view_fixture_stat(v, kept);
    assert_int_equal(st.st_nlink, 1);
    assert_int_equal(st.st_size, sizeof(bytes));
    assert_int_equal(inode_stat(v, gone, &st), -ESTALE);
    assert_int_equal(names_make_unnamed(v, &me, kept, S_IFREG | 0600, &gone), -ENOTDIR);
    assert_int_equal(view_sync(v), 0);
    assert_int_equal(count_objects(f), 1);
    view_fixture_close(f);
}

/* The kernel that referred to them is gone: they end when the view is opened again. */
static void test_orphans_are_swept_at_opening(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "sweep");
    uint64_t image = view_fixture_find(v, "sizes/300000"), fresh = make(v, DELTA_ROOT, "fresh", S_IFREG | 0600);
    uint64_t dir = make(v, DELTA_ROOT, "dir", S_IFDIR | 0700), inos[] = {image, fresh, dir};
    char bytes[20000] = "contents";
    struct stat st;

    assert_int_equal(content_write(v, fresh, bytes, sizeof(bytes), 0), 0);
    assert_int_equal(content_write(v, image, "x", 1, 0), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(view_refer(v, inos[i]), 0);
    assert_int_equal(names_unlink(v, view_fixture_find(v, "sizes"), "300000"), 0);
    assert_int_equal(names_unlink(v, DELTA_ROOT, "fresh"), 0);
    assert_int_equal(names_rmdir(v, DELTA_ROOT, "dir"), 0);
    for (int i = 0; i < 3; i++) assert_int_equal(inode_stat(v, inos[i], &st), 0);
    v = view_fixture_reopen(f);
    for (int i = 0; i < 3; i++) assert_int_equal(inode_stat(v, inos[i], &st), -ESTALE);
    assert_int_equal(view_sync(v), 0);
    assert_int_equal(count_objects(f), 0);
    view_fixture_check(v);
    view_fixture_close(f);
}

/* The kernel is still there, only the daemon is another one: what was open without a name stays until it is forgotten. */
static void test_orphans_stay_over_a_handover(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "heir");
    uint64_t kept = make(v, DELTA_ROOT, "kept", S_IFREG | 0600), gone = make(v, DELTA_ROOT, "gone", S_IFREG | 0600);
    struct stat st;

    for (int i = 0; i < 2; i++) assert_int_equal(view_refer(v, kept), 0);
    assert_int_equal(names_unlink(v, DELTA_ROOT, "kept"), 0);
    assert_int_equal(view_refer(v, gone), 0);
    v = view_fixture_hand_over(f);
    assert_int_equal(inode_stat(v, kept, &st), 0);
    assert_int_equal(names_unlink(v, DELTA_ROOT, "gone"), 0);
    assert_int_equal(inode_stat(v, gone, &st), 0);
    v = view_fixture_hand_over(f);
    view_forget(v, kept, 1);
    assert_int_equal(inode_stat(v, kept, &st), 0);
    view_forget(v, kept, 1);
    view_forget(v, gone, 1);
    assert_int_equal(inode_stat(v, kept, &st), -ESTALE);
    assert_int_equal(inode_stat(v, gone, &st), -ESTALE);
    view_fixture_close(f);
}

static bool is_done(struct view_fixture *f, uint64_t unique, uint64_t *ret_result)
{
    bool done;

    replay_take(f->shared.handover, unique | UINT64_C(1) << 63);
    done = replay_begin(ret_result);
    replay_answered();
    return done;
}

/* The request's work in the database, and then no answer. */
static uint64_t make_for(struct view_fixture *f, struct view *v, uint64_t unique, const char *name)
{
    uint64_t result;

    replay_take(f->shared.handover, unique);
    assert_false(replay_begin(&result));
    return make(v, DELTA_ROOT, name, S_IFREG | 0600);
}

static void test_the_next_daemon_knows_what_was_executed(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "executed");
    uint64_t ino = make_for(f, v, 100, "made"), result = 0;
    struct delta *d;

    make_for(f, v, 102, "answered");
    replay_answered();
    /* Noted, and then the batch is undone as if it had never been committed. */
    replay_take(f->shared.handover, 104);
    assert_false(replay_begin(&result));
    assert_int_equal(view_begin(v, &d), 0);
    assert_true(replay_note(v->number, commit_sequence(delta_commit(d))));
    assert_int_equal(view_end(v, d, -EINTR, VIEW_LAZY), -EINTR);
    assert_true(replay_note(v->number, 1000000)); /* what view_end() took back: the daemon died before */
    replay_take(f->shared.handover, 106);
    assert_false(replay_begin(&result));
    replay_take(f->shared.handover, 0);
    v = view_fixture_hand_over(f);
    make(v, DELTA_ROOT, "next", S_IFREG | 0600);
    v = view_fixture_hand_over(f);
    assert_true(is_done(f, 100, &result));
    assert_int_equal(result, ino);
    assert_false(is_done(f, 100, &result)); /* answered now */
    assert_false(is_done(f, 102, &result));
    assert_false(is_done(f, 104, &result));
    assert_false(is_done(f, 106, &result));
    view_fixture_close(f);
}

static void test_objects_of_nobody_are_swept_at_opening(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "strays");
    uint64_t kept = make(v, DELTA_ROOT, "kept", S_IFREG | 0600);
    char bytes[20000] = "contents", found[20000];

    assert_int_equal(content_write(v, kept, bytes, sizeof(bytes), 0), 0);
    scratch_write(view_fixture_path(f, "objects/9"), "as if the daemon had died");
    scratch_write(view_fixture_path(f, "objects/123456789"), "");
    scratch_write(view_fixture_path(f, "objects/007"), "not a name of ours");
    v = view_fixture_reopen(f);
    assert_int_equal(count_objects(f), 2);
    assert_int_equal(access(view_fixture_path(f, "objects/007"), F_OK), 0);
    assert_int_equal(content_read(v, kept, found, sizeof(found), 0), sizeof(found));
    assert_memory_equal(found, bytes, sizeof(bytes));
    view_fixture_close(f);
}

/* The removal that failed leaves a file that the last forgetting must not end. */
static void test_undone_removal_is_no_removal(void **state)
{
    struct view *v = view_fixture_open(*state, "undone");
    uint64_t ino = view_fixture_find(v, "tree/to_file");
    struct inode inode;
    struct delta *d;

    assert_int_equal(view_fixture_change(v, ino, &(struct stat){.st_uid = 5}, INODE_UID), 0);
    assert_int_equal(view_refer(v, ino), 0);
    assert_int_equal(view_begin(v, &d), 0);
    assert_int_equal(inode_get(v, d, ino, &inode), 0);
    assert_int_equal(inode_unlink(v, d, &inode), 0);
    assert_int_equal(view_end(v, d, -ENOSPC, VIEW_METADATA), -ENOSPC);
    view_forget(v, ino, 1);
    assert_int_equal(view_fixture_stat(v, ino).st_nlink, 1);
    view_fixture_check(v);
    view_fixture_close(*state);
}

/* What the image had in it must not come back when the list of what is hidden ends with the directory. */
static void test_removed_image_directory_stays_empty(void **state)
{
    struct view *v = view_fixture_open(*state, "dead-dir");
    uint64_t dir = view_fixture_find(v, "tree/to_full"), found;
    struct dirent_entry e;
    struct delta *d;
    int r;

    assert_int_equal(view_refer(v, dir), 0); /* somebody's working directory */
    assert_int_equal(names_unlink(v, dir, "inner"), 0);
    assert_int_equal(names_rmdir(v, view_fixture_find(v, "tree"), "to_full"), 0);
    assert_int_equal(view_fixture_stat(v, dir).st_nlink, 0);
    assert_int_equal(names_make(v, &view_fixture_caller, dir, "new", S_IFREG, 0, &found), -ENOENT);
    assert_int_equal(names_lookup(v, dir, "inner", &found), -ENOENT);
    d = view_lock(v);
    r = dirent_next(v, d, dir, 0, &e);
    view_unlock(d);
    assert_int_equal(r, 0);
    view_forget(v, dir, 1);
    view_fixture_close(*state);
}

/* ---- directories ---- */

enum { LISTED_MAX = 400 };

struct listing {
    int count;
    struct dirent_entry entries[LISTED_MAX];
};

static void list(struct view *v, uint64_t dir, uint32_t cookie, struct listing *ret)
{
    struct delta *d = view_lock(v);
    int r = 1;

    ret->count = 0;
    while (ret->count < LISTED_MAX && (r = dirent_next(v, d, dir, cookie, &ret->entries[ret->count])) > 0)
        cookie = ret->entries[ret->count++].cookie;
    view_unlock(d);
    assert_int_equal(r, 0);
}

static const struct dirent_entry *listed(const struct listing *listing, const char *name)
{
    for (int i = 0; i < listing->count; i++)
        if (strcmp(listing->entries[i].name, name) == 0) return &listing->entries[i];
    return NULL;
}

static void test_cookies_stay(void **state)
{
    static struct listing before, after, rest;
    struct view *v = view_fixture_open(*state, "cookies");
    uint64_t tree = view_fixture_find(v, "tree");
    char name[16];

    for (int i = 0; i < 200; i++) {
        snprintf(name, sizeof(name), "new-%d", i);
        make(v, tree, name, S_IFREG | 0600);
    }
    list(v, tree, 0, &before);
    assert_int_equal(before.count, 205);
    for (int i = 0; i < 200; i += 2) {
        snprintf(name, sizeof(name), "new-%d", i);
        assert_int_equal(names_unlink(v, tree, name), 0);
    }
    assert_int_equal(names_unlink(v, tree, "to_file"), 0);
    assert_int_equal(names_unlink(v, tree, "from_file"), 0);
    make(v, tree, "from_file", S_IFIFO | 0600);
    v = view_fixture_reopen(*state);
    list(v, tree, 0, &after);
    assert_int_equal(after.count, 104);
    for (int i = 0; i < after.count; i++) {
        const struct dirent_entry *e = &after.entries[i], *old = listed(&before, e->name);

        assert_non_null(old);
        assert_int_equal(e->cookie, old->cookie);
    }
    assert_int_equal(listed(&after, "from_file")->type, DT_FIFO);
    /* Going on after an entry that is gone by now. */
    for (int i = 0; i < before.count; i += 7) {
        list(v, tree, before.entries[i].cookie, &rest);
        for (int n = 0; n < rest.count; n++) assert_true(rest.entries[n].cookie > before.entries[i].cookie);
        for (int n = 0; n < after.count; n++)
            if (after.entries[n].cookie > before.entries[i].cookie)
                assert_non_null(listed(&rest, after.entries[n].name));
    }
    view_fixture_close(*state);
}

static void test_emptiness(void **state)
{
    struct view *v = view_fixture_open(*state, "emptiness");
    uint64_t full = view_fixture_find(v, "tree/to_full");
    uint64_t tree = view_fixture_find(v, "tree");

    assert_int_equal(names_rmdir(v, tree, "to_full"), -ENOTEMPTY);
    assert_int_equal(names_unlink(v, full, "inner"), 0);
    make(v, full, "new", S_IFREG | 0600);
    assert_int_equal(names_rmdir(v, tree, "to_full"), -ENOTEMPTY);
    assert_int_equal(names_unlink(v, full, "new"), 0);
    make(v, full, "inner", S_IFREG | 0600);
    assert_int_equal(names_rmdir(v, tree, "to_full"), -ENOTEMPTY);
    assert_int_equal(names_unlink(v, full, "inner"), 0);
    assert_int_equal(names_rmdir(v, tree, "to_full"), 0);
    /* Made again: nothing of the image shows. */
    full = make(v, tree, "to_full", S_IFDIR | 0755);
    assert_false(view_fixture_has(v, "tree/to_full/inner", &full));
    view_fixture_check(v);
    view_fixture_close(*state);
}

/* ---- extended attributes ---- */

static void assert_xattr(struct view *v, uint64_t ino, const char *name, const char *value)
{
    char buffer[64];

    assert_int_equal(xattr_get(v, ino, name, buffer, sizeof(buffer)), strlen(value));
    assert_memory_equal(buffer, value, strlen(value));
    assert_int_equal(xattr_get(v, ino, name, NULL, 0), strlen(value));
}

static void assert_xattr_names(struct view *v, uint64_t ino, const char *names, size_t size)
{
    char buffer[256];

    assert_int_equal(xattr_list(v, ino, NULL, 0), size);
    assert_int_equal(xattr_list(v, ino, buffer, sizeof(buffer)), size);
    assert_memory_equal(buffer, names, size);
    if (size > 1) assert_int_equal(xattr_list(v, ino, buffer, size - 1), -ERANGE);
}

static void test_xattrs_of_the_image(void **state)
{
    static const char both[] = "user.color\0user.shape", one[] = "user.shape";
    struct view *v = view_fixture_open(*state, "image-xattrs");
    uint64_t ino = view_fixture_find(v, "xattrs/file");
    char buffer[2];

    assert_xattr(v, ino, "user.color", "red");
    assert_xattr_names(v, ino, both, sizeof(both));
    assert_int_equal(xattr_get(v, ino, "user.none", buffer, 2), -ENODATA);
    assert_int_equal(xattr_get(v, ino, "user.color", buffer, 2), -ERANGE);
    /* Copied up with the inode, then its own. */
    assert_int_equal(view_fixture_change(v, ino, &(struct stat){.st_mode = 0600}, INODE_MODE), 0);
    assert_xattr_names(v, ino, both, sizeof(both));
    assert_int_equal(xattr_remove(v, ino, "user.color"), 0);
    assert_int_equal(xattr_remove(v, ino, "user.color"), -ENODATA);
    assert_int_equal(xattr_set(v, ino, "user.shape", "square", 6, XATTR_REPLACE), 0);
    v = view_fixture_reopen(*state);
    assert_xattr_names(v, ino, one, sizeof(one));
    assert_xattr(v, ino, "user.shape", "square");
    view_fixture_close(*state);
}

static void test_xattr_rules(void **state)
{
    static char large[XATTR_SIZE + 1];
    struct view *v = view_fixture_open(*state, "xattr-rules");
    uint64_t ino = view_fixture_find(v, "sizes/1");
    struct timespec before = view_fixture_stat(v, ino).st_ctim, after;

    assert_int_equal(xattr_set(v, ino, "user.a", "1", 1, XATTR_REPLACE), -ENODATA);
    assert_int_equal(xattr_set(v, ino, "user.a", "1", 1, XATTR_CREATE), 0);
    assert_int_equal(xattr_set(v, ino, "user.a", "2", 1, XATTR_CREATE), -EEXIST);
    assert_xattr(v, ino, "user.a", "1");
    assert_int_equal(xattr_set(v, ino, "user.a", "", 0, 0), 0);
    assert_xattr(v, ino, "user.a", "");
    after = view_fixture_stat(v, ino).st_ctim;
    assert_true(after.tv_sec != before.tv_sec || after.tv_nsec != before.tv_nsec);
    assert_int_equal(xattr_set(v, ino, "user.large", large, XATTR_SIZE, 0), 0);
    assert_int_equal(xattr_get(v, ino, "user.large", large, sizeof(large)), XATTR_SIZE);
    assert_int_equal(xattr_set(v, ino, "user.large", large, XATTR_SIZE + 1, 0), -E2BIG);
    assert_int_equal(xattr_set(v, ino, "trusted.t", "1", 1, 0), 0);
    assert_int_equal(xattr_set(v, ino, "security.capability", "1", 1, 0), 0);
    assert_int_equal(xattr_set(v, ino, "system.nfs4_acl", "1", 1, 0), -EOPNOTSUPP);
    assert_int_equal(xattr_set(v, ino, ACL_ACCESS "x", "1", 1, 0), -EOPNOTSUPP);
    assert_int_equal(xattr_set(v, ino, "other", "1", 1, 0), -EOPNOTSUPP);
    assert_int_equal(xattr_set(v, 1 << 30, "user.a", "1", 1, 0), -ESTALE);
    assert_int_equal(xattr_get(v, 1 << 30, "user.a", large, 1), -ESTALE);
    view_fixture_close(*state);
}

/* ---- access control lists ---- */

static void assert_acl(struct view *v, uint64_t ino, const char *name, unsigned user, unsigned group, unsigned mask,
                       unsigned other, unsigned owner)
{
    struct made_acl expected, seen;
    size_t size = made_acl_for_user(&expected, 1000, user, group, mask, other);

    expected.entries[0].permissions = htole16((uint16_t)owner);
    assert_int_equal(xattr_get(v, ino, name, &seen, sizeof(seen)), size);
    assert_memory_equal(&seen, &expected, size);
}

static void test_chmod_follows_into_the_acl(void **state)
{
    struct view *v = view_fixture_open(*state, "acl-chmod");
    uint64_t ino = view_fixture_find(v, "listed");

    assert_int_equal(view_fixture_stat(v, ino).st_mode & 0777, 0770);
    assert_acl(v, ino, ACL_ACCESS, 4, 5, 7, 0, 7);
    assert_int_equal(view_fixture_change(v, ino, &(struct stat){.st_mode = 0641}, INODE_MODE), 0);
    assert_int_equal(view_fixture_stat(v, ino).st_mode & 0777, 0641);
    assert_acl(v, ino, ACL_ACCESS, 4, 5, 4, 1, 6);
    view_fixture_close(*state);
}

static void test_acl_sets_the_mode(void **state)
{
    struct view *v = view_fixture_open(*state, "acl-set");
    uint64_t ino = view_fixture_find(v, "sizes/1");
    struct made_acl acl;
    size_t size = made_acl_for_user(&acl, 1000, 6, 4, 6, 1);

    assert_int_equal(view_fixture_change(v, ino, &(struct stat){.st_mode = 04644}, INODE_MODE), 0);
    assert_int_equal(xattr_set(v, ino, ACL_ACCESS, &acl, size, 0), 0);
    assert_int_equal(view_fixture_stat(v, ino).st_mode, S_IFREG | 04761);
    assert_acl(v, ino, ACL_ACCESS, 6, 4, 6, 1, 7);
    assert_int_equal(xattr_set(v, ino, ACL_ACCESS, &acl, size - 1, 0), -EINVAL);
    assert_int_equal(xattr_set(v, ino, ACL_ACCESS, &acl, 3, 0), -EINVAL);
    acl.version = htole32(1);
    assert_int_equal(xattr_set(v, ino, ACL_ACCESS, &acl, size, 0), -EINVAL);
    assert_int_equal(xattr_set(v, ino, ACL_DEFAULT, &acl, size, 0), -EACCES);
    /* Three entries say no more than the mode does. */
    acl = (struct made_acl){.version = htole32(2),
                            .entries = {{htole16(ACL_OWNER), htole16(6), ACL_NO_ID},
                                        {htole16(ACL_GROUP_OWNER), htole16(4), ACL_NO_ID},
                                        {htole16(ACL_OTHER), htole16(0), ACL_NO_ID}}};
    assert_int_equal(xattr_set(v, ino, ACL_ACCESS, &acl, 4 + 3 * 8, 0), 0);
    assert_int_equal(view_fixture_stat(v, ino).st_mode, S_IFREG | 04640);
    assert_int_equal(xattr_get(v, ino, ACL_ACCESS, &acl, sizeof(acl)), -ENODATA);
    assert_int_equal(xattr_remove(v, ino, ACL_ACCESS), 0);
    view_fixture_close(*state);
}

static void test_default_acl_is_inherited(void **state)
{
    struct view *v = view_fixture_open(*state, "acl-inherit");
    uint64_t acl = view_fixture_find(v, "acl"), file = make(v, acl, "file", S_IFREG | 0666), link;
    uint64_t dir = make(v, acl, "dir", S_IFDIR | 0777), deep = make(v, dir, "deep", S_IFREG | 0600);
    uint64_t plain = make(v, DELTA_ROOT, "plain", S_IFREG | 0666);
    char buffer[64];

    assert_int_equal(names_symlink(v, &view_fixture_caller, acl, "link", "x", &link), 0);
    assert_int_equal(view_fixture_stat(v, plain).st_mode & 07777, 0644); /* umask, where there is no list */
    assert_int_equal(view_fixture_stat(v, file).st_mode & 07777, 0660);
    assert_acl(v, file, ACL_ACCESS, 7, 5, 6, 0, 6);
    assert_int_equal(xattr_get(v, file, ACL_DEFAULT, buffer, sizeof(buffer)), -ENODATA);
    assert_int_equal(view_fixture_stat(v, dir).st_mode & 07777, 0770);
    assert_acl(v, dir, ACL_ACCESS, 7, 5, 7, 0, 7);
    assert_acl(v, dir, ACL_DEFAULT, 7, 5, 7, 0, 7);
    assert_int_equal(view_fixture_stat(v, deep).st_mode & 07777, 0600);
    assert_acl(v, deep, ACL_ACCESS, 7, 5, 0, 0, 6);
    assert_int_equal(view_fixture_stat(v, link).st_mode, S_IFLNK | 0777);
    assert_int_equal(xattr_list(v, link, NULL, 0), 0);
    v = view_fixture_reopen(*state);
    assert_acl(v, dir, ACL_DEFAULT, 7, 5, 7, 0, 7);
    view_fixture_close(*state);
}

/* ---- opening ---- */

static void test_open_refuses_damage(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "damaged");
    char output[256];

    make(v, DELTA_ROOT, "file", S_IFREG | 0600);
    view_fixture_close(f);
    assert_int_equal(scratch_run(output, sizeof(output),
                                 "dd if=/dev/urandom of=%s bs=4096 count=1 conv=notrunc status=none",
                                 view_fixture_path(f, "delta.db")), 0);
    assert_int_equal(view_open(&v, &f->shared, 7, "damaged", f->image), -EIO);
    view_fixture_open(f, "untouched"); /* one node's damage is nobody else's */
    view_fixture_close(f);
}

/* A row that cannot be must not end the daemon, which serves other nodes, too. */
static void test_impossible_rows(void **state)
{
    struct view_fixture *f = *state;
    struct view *v = view_fixture_open(f, "impossible");
    uint64_t ino = make(v, DELTA_ROOT, "file", S_IFREG | 0600), link;
    struct delta_inode row;
    struct delta *d;
    char buffer[64];
    struct stat st;

    assert_int_equal(names_symlink(v, &view_fixture_caller, DELTA_ROOT, "link", "target", &link), 0);
    assert_int_equal(view_begin(v, &d), 0);
    assert_int_equal(delta_get_inode(d, ino, &row), 1);
    row.chunked = true;
    row.image_ino = 999999;
    row.size = 100;
    assert_int_equal(delta_set_inode(d, &row), 0);
    assert_int_equal(delta_add_chunk(d, ino, &(struct delta_chunk){.end = 100}), 0);
    assert_int_equal(delta_remove_content(d, link), 0);
    assert_int_equal(view_end(v, d, 0, VIEW_LAZY), 0);
    assert_int_equal(inode_readlink(v, link, buffer, sizeof(buffer)), -EIO);
    assert_true(content_read(v, ino, buffer, 10, 0) < 0);
    inode_stat(v, ino, &st); /* any answer will do */
    view_fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_numbers),
        cmocka_unit_test(test_reading_makes_no_delta),
        cmocka_unit_test(test_image_attributes),
        cmocka_unit_test(test_change),
        cmocka_unit_test(test_readlink),
        cmocka_unit_test(test_deleted_image_inode_is_stale),
        cmocka_unit_test(test_orphan_lives_while_referred_to),
        cmocka_unit_test(test_unnamed_file_gets_a_name_or_ends),
        cmocka_unit_test(test_orphans_are_swept_at_opening),
        cmocka_unit_test(test_orphans_stay_over_a_handover),
        cmocka_unit_test(test_the_next_daemon_knows_what_was_executed),
        cmocka_unit_test(test_objects_of_nobody_are_swept_at_opening),
        cmocka_unit_test(test_undone_removal_is_no_removal),
        cmocka_unit_test(test_removed_image_directory_stays_empty),
        cmocka_unit_test(test_cookies_stay),
        cmocka_unit_test(test_emptiness),
        cmocka_unit_test(test_xattrs_of_the_image),
        cmocka_unit_test(test_xattr_rules),
        cmocka_unit_test(test_chmod_follows_into_the_acl),
        cmocka_unit_test(test_acl_sets_the_mode),
        cmocka_unit_test(test_default_acl_is_inherited),
        cmocka_unit_test(test_open_refuses_damage),
        cmocka_unit_test(test_impossible_rows),
    };

    return cmocka_run_group_tests(tests, view_fixture_setup, view_fixture_teardown);
}
