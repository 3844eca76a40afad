#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "dice.h"
#include "dirent.h"
#include "inode.h"
#include "io.h"
#include "references.h"
#include "view_fixture.h"

static const struct names_caller *const root = &view_fixture_caller;

static uint64_t make(struct view *v, uint64_t dir, const char *name, mode_t mode)
{
    uint64_t ino;

    assert_int_equal(names_make(v, root, dir, name, mode, 0, &ino), 0);
    return ino;
}

static uint64_t parent_of(struct view *v, uint64_t dir)
{
    uint64_t ino;

    assert_int_equal(names_lookup(v, dir, "..", &ino), 0);
    return ino;
}

/* ---- single operations ---- */

static void test_lookup(void **state)
{
    struct view *v = view_fixture_open(*state, "lookup");
    uint64_t tree = view_fixture_find(v, "tree"), file = view_fixture_find(v, "tree/to_file"), ino;
    char name[257];

    memset(name, 'n', sizeof(name) - 1);
    name[256] = '\0';
    assert_int_equal(names_lookup(v, tree, ".", &ino), 0);
    assert_int_equal(ino, tree);
    assert_int_equal(names_lookup(v, file, ".", &ino), 0);
    assert_int_equal(ino, file);
    assert_int_equal(names_lookup(v, file, "..", &ino), -ENOTDIR);
    assert_int_equal(names_lookup(v, file, "x", &ino), -ENOTDIR);
    assert_int_equal(names_lookup(v, tree, "none", &ino), -ENOENT);
    assert_int_equal(names_lookup(v, 1 << 30, ".", &ino), -ESTALE);
    assert_int_equal(names_make(v, root, tree, name, S_IFREG, 0, &ino), -ENAMETOOLONG);
    make(v, tree, name + 1, S_IFREG);
    assert_int_equal(names_make(v, root, tree, name + 1, S_IFREG, 0, &ino), -EEXIST);
    assert_int_equal(names_make(v, root, tree, "to_file", S_IFREG, 0, &ino), -EEXIST);
    assert_int_equal(names_make(v, root, file, "x", S_IFREG, 0, &ino), -ENOTDIR);
    view_fixture_close(*state);
}

static void test_make(void **state)
{
    static const mode_t types[] = {S_IFREG, S_IFDIR, S_IFCHR, S_IFBLK, S_IFIFO, S_IFSOCK};
    static const struct names_caller caller = {.uid = 12, .gid = 34, .umask = 027};
    struct view *v = view_fixture_open(*state, "make");
    uint64_t dir = make(v, DELTA_ROOT, "dir", S_IFDIR | 0755), ino;
    char name[16];

    for (size_t i = 0; i < 6; i++) {
        struct stat st;

        snprintf(name, sizeof(name), "%zu", i);
        assert_int_equal(names_make(v, &caller, dir, name, types[i] | 01777, 0x1234, &ino), 0);
        st = view_fixture_stat(v, ino);
        assert_int_equal(st.st_mode, types[i] | 01750);
        assert_int_equal(st.st_uid, 12);
        assert_int_equal(st.st_gid, 34);
        assert_int_equal(st.st_nlink, S_ISDIR(types[i]) ? 2 : 1);
        if (S_ISCHR(types[i]) || S_ISBLK(types[i])) assert_int_equal(st.st_rdev, 0x1234);
    }
    /* A directory that gives its group away. */
    assert_int_equal(view_fixture_change(v, dir, &(struct stat){.st_mode = 02755, .st_gid = 99},
                                         INODE_MODE | INODE_GID), 0);
    assert_int_equal(names_make(v, &caller, dir, "sub", S_IFDIR | 0777, 0, &ino), 0);
    assert_int_equal(view_fixture_stat(v, ino).st_mode, S_IFDIR | 02750);
    assert_int_equal(view_fixture_stat(v, ino).st_gid, 99);
    view_fixture_check(v);
    view_fixture_close(*state);
}

static void test_links(void **state)
{
    struct view *v = view_fixture_open(*state, "links");
    uint64_t a = view_fixture_find(v, "links/a"), links = view_fixture_find(v, "links");

    assert_int_equal(view_fixture_find(v, "linked"), a);
    assert_int_equal(names_link(v, a, DELTA_ROOT, "fourth"), 0);
    assert_int_equal(view_fixture_stat(v, a).st_nlink, 4);
    assert_int_equal(names_link(v, a, DELTA_ROOT, "fourth"), -EEXIST);
    assert_int_equal(names_link(v, links, DELTA_ROOT, "dir"), -EPERM);
    assert_int_equal(names_unlink(v, links, "a"), 0);
    assert_int_equal(names_unlink(v, DELTA_ROOT, "linked"), 0);
    assert_int_equal(names_unlink(v, DELTA_ROOT, "linked"), -ENOENT);
    view_fixture_check(v);
    v = view_fixture_reopen(*state);
    assert_int_equal(view_fixture_find(v, "links/b"), a);
    assert_int_equal(view_fixture_find(v, "fourth"), a);
    /* Two names of one file: both stay. */
    assert_int_equal(names_rename(v, root, links, "b", DELTA_ROOT, "fourth", 0), 0);
    assert_int_equal(view_fixture_stat(v, a).st_nlink, 2);
    view_fixture_check(v);
    view_fixture_close(*state);
}

static void test_directory_times(void **state)
{
    struct view *v = view_fixture_open(*state, "times");
    uint64_t tree = view_fixture_find(v, "tree"), sub = view_fixture_find(v, "tree/from_dir");
    struct timespec before = view_fixture_stat(v, tree).st_mtim, sub_before = view_fixture_stat(v, sub).st_mtim, after;

    assert_int_equal(names_rename(v, root, tree, "from_dir", tree, "moved", 0), 0);
    after = view_fixture_stat(v, tree).st_mtim;
    assert_true(after.tv_sec > before.tv_sec || after.tv_nsec != before.tv_nsec);
    after = view_fixture_stat(v, sub).st_mtim;
    assert_memory_equal(&after, &sub_before, sizeof(after));
    view_fixture_close(*state);
}

/* ---- rename, every kind onto every kind ---- */

enum kind { NOTHING, FILE_OF_IMAGE, NEW_FILE, EMPTY_OF_IMAGE, NEW_EMPTY, FULL_OF_IMAGE, NEW_FULL, CHANGED_FULL, KINDS };

static bool is_dir(enum kind kind)
{
    return kind >= EMPTY_OF_IMAGE;
}

/* Puts one of that kind into the directory and gives its name. */
static const char *provide(struct view *v, uint64_t dir, enum kind kind, const char *new_name)
{
    uint64_t ino;

    switch (kind) {
    case FILE_OF_IMAGE: return strcmp(new_name, "from") == 0 ? "from_file" : "to_file";
    case EMPTY_OF_IMAGE: return "to_empty";
    case FULL_OF_IMAGE: return strcmp(new_name, "from") == 0 ? "from_dir" : "to_full";
    case NEW_FILE: make(v, dir, new_name, S_IFREG | 0600); return new_name;
    case NEW_EMPTY: make(v, dir, new_name, S_IFDIR | 0700); return new_name;
    case NEW_FULL: make(v, make(v, dir, new_name, S_IFDIR | 0700), "inner", S_IFREG | 0600); return new_name;
    case CHANGED_FULL:
        new_name = strcmp(new_name, "from") == 0 ? "from_dir" : "to_full";
        assert_int_equal(names_lookup(v, dir, new_name, &ino), 0);
        assert_int_equal(names_unlink(v, ino, "inner"), 0);
        make(v, ino, "other", S_IFREG | 0600);
        return new_name;
    default: return new_name;
    }
}

static int expected_result(enum kind from, enum kind to, unsigned flags)
{
    if (from == NOTHING) return -ENOENT;
    if (flags & RENAME_EXCHANGE) return to == NOTHING ? -ENOENT : 0;
    if (to == NOTHING) return 0;
    if (flags & RENAME_NOREPLACE) return -EEXIST;
    if (is_dir(from) != is_dir(to)) return is_dir(from) ? -ENOTDIR : -EISDIR;
    return to >= FULL_OF_IMAGE ? -ENOTEMPTY : 0;
}

struct move {
    uint64_t from_dir, to_dir, from_ino, to_ino;
    const char *from, *to;
};

static void check_moved(struct view *v, const struct move *m, enum kind from, enum kind to, unsigned flags)
{
    uint64_t ino;
    struct stat st;

    assert_int_equal(names_lookup(v, m->to_dir, m->to, &ino), 0);
    assert_int_equal(ino, m->from_ino);
    if (is_dir(from)) assert_int_equal(parent_of(v, ino), m->to_dir);
    if (from == FULL_OF_IMAGE) assert_int_equal(names_lookup(v, ino, "inner", &ino), 0);
    if (flags & RENAME_EXCHANGE) {
        assert_int_equal(names_lookup(v, m->from_dir, m->from, &ino), 0);
        assert_int_equal(ino, m->to_ino);
        if (is_dir(to)) assert_int_equal(parent_of(v, ino), m->from_dir);
    } else {
        if (to != NOTHING) assert_int_equal(inode_stat(v, m->to_ino, &st), -ESTALE);
        if (!(flags & RENAME_WHITEOUT)) {
            assert_int_equal(names_lookup(v, m->from_dir, m->from, &ino), -ENOENT);
            return;
        }
        assert_int_equal(names_lookup(v, m->from_dir, m->from, &ino), 0);
        st = view_fixture_stat(v, ino);
        assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
    }
}

static void check_not_moved(struct view *v, const struct move *m, enum kind from, enum kind to)
{
    uint64_t ino;

    if (from != NOTHING) {
        assert_int_equal(names_lookup(v, m->from_dir, m->from, &ino), 0);
        assert_int_equal(ino, m->from_ino);
    }
    if (to == NOTHING) return;
    assert_int_equal(names_lookup(v, m->to_dir, m->to, &ino), 0);
    assert_int_equal(ino, m->to_ino);
}

static void rename_one(struct view_fixture *f, enum kind from, enum kind to, unsigned flags, bool across)
{
    struct move m = {0};
    char serial[64];
    struct view *v;
    int r, expected = expected_result(from, to, flags);

    snprintf(serial, sizeof(serial), "rename-%d-%d-%u-%d", from, to, flags, across);
    v = view_fixture_open(f, serial);
    m.from_dir = view_fixture_find(v, "tree");
    m.to_dir = across ? view_fixture_find(v, "other") : m.from_dir;
    m.from = provide(v, m.from_dir, from, "from");
    m.to = provide(v, m.to_dir, to, "to");
    if (!across && from == EMPTY_OF_IMAGE && to == EMPTY_OF_IMAGE) return view_fixture_close(f);
    names_lookup(v, m.from_dir, m.from, &m.from_ino);
    names_lookup(v, m.to_dir, m.to, &m.to_ino);
    r = names_rename(v, root, m.from_dir, m.from, m.to_dir, m.to, flags);
    if (r != expected) fail_msg("%s: %s, not %s", serial, strerror(-r), strerror(-expected));
    for (int round = 0; round < 2; round++) {
        if (r == 0) check_moved(v, &m, from, to, flags);
        else check_not_moved(v, &m, from, to);
        view_fixture_check(v);
        if (round == 0) v = view_fixture_reopen(f);
    }
    view_fixture_close(f);
}

static void test_rename_matrix(void **state)
{
    static const unsigned flags[] = {0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT};

    for (enum kind from = NOTHING; from < KINDS; from++)
        for (enum kind to = NOTHING; to < KINDS; to++)
            for (size_t i = 0; i < 4; i++) rename_one(*state, from, to, flags[i], (from + to + i) % 2);
}

static void test_rename_limits(void **state)
{
    struct view *v = view_fixture_open(*state, "rename-limits");
    uint64_t tree = view_fixture_find(v, "tree"), inner = view_fixture_find(v, "tree/from_dir");
    uint64_t deep = make(v, inner, "deep", S_IFDIR | 0700);

    assert_int_equal(names_rename(v, root, DELTA_ROOT, "tree", inner, "x", 0), -EINVAL);
    assert_int_equal(names_rename(v, root, DELTA_ROOT, "tree", tree, "x", 0), -EINVAL);
    assert_int_equal(names_rename(v, root, tree, "from_dir", deep, "x", 0), -EINVAL);
    assert_int_equal(names_rename(v, root, inner, "deep", DELTA_ROOT, "tree", RENAME_EXCHANGE), -EINVAL);
    assert_int_equal(names_rename(v, root, DELTA_ROOT, "tree", inner, "deep", RENAME_EXCHANGE), -EINVAL);
    assert_true(names_rename(v, root, inner, "deep", DELTA_ROOT, "tree", 0) < 0);
    assert_int_equal(names_rename(v, root, inner, "deep", tree, "x", 8), -EINVAL);
    assert_int_equal(names_rename(v, root, inner, "deep", tree, "x", RENAME_EXCHANGE | RENAME_NOREPLACE), -EINVAL);
    assert_int_equal(names_rename(v, root, tree, "to_file", tree, "to_file", 0), 0);
    view_fixture_check(v);
    view_fixture_close(*state);
}

/* A directory of the image moved, its old place filled anew, and moved back into the new one. */
static void test_moved_image_directory_keeps_its_contents(void **state)
{
    struct view *v = view_fixture_open(*state, "moved-dir");
    uint64_t tree = view_fixture_find(v, "tree"), fresh, ino;

    assert_int_equal(names_rename(v, root, DELTA_ROOT, "tree", DELTA_ROOT, "old", 0), 0);
    fresh = make(v, DELTA_ROOT, "tree", S_IFDIR | 0700);
    assert_false(view_fixture_has(v, "tree/from_file", &ino));
    assert_int_equal(names_rename(v, root, DELTA_ROOT, "old", fresh, "old", 0), 0);
    v = view_fixture_reopen(*state);
    assert_int_equal(view_fixture_find(v, "tree/old"), tree);
    assert_int_equal(parent_of(v, tree), fresh);
    view_fixture_find(v, "tree/old/from_dir/inner");
    assert_int_equal(names_unlink(v, tree, "from_file"), 0);
    view_fixture_check(v);
    view_fixture_close(*state);
}

/* ---- random operations, against the file system below ---- */

struct twin {
    struct view_fixture *fixture;
    struct dice dice;
    char real[512]; /* directory that holds the same tree */
    bool whiteouts;
};

/* A directory in both: its number here and its path there. */
struct spot {
    uint64_t ino;
    char path[600];
};

static const char *join(const struct spot *spot, const char *name)
{
    static char paths[4][1024];
    static unsigned turn;
    char *path = paths[turn++ % 4];

    snprintf(path, sizeof(paths[0]), "%s/%s", spot->path, name);
    return path;
}

static int next_entry(struct view *v, uint64_t dir, uint32_t cookie, struct dirent_entry *e)
{
    struct delta *d = view_lock(v);
    int r = dirent_next(v, d, dir, cookie, e);

    view_unlock(d);
    assert_true(r >= 0);
    return r;
}

/* A name that is there, as often as not; of `type` if that is not 0. */
static bool pick_entry(struct twin *t, uint64_t dir, uint8_t type, struct dirent_entry *ret)
{
    struct dirent_entry e = {0};
    unsigned seen = 0;

    while (next_entry(t->fixture->view, dir, e.cookie, &e) > 0)
        if ((!type || e.type == type) && dice_once_in(&t->dice, ++seen)) *ret = e;
    return seen > 0;
}

static struct spot pick_dir(struct twin *t)
{
    struct spot spot = {.ino = DELTA_ROOT};
    struct dirent_entry e;

    snprintf(spot.path, sizeof(spot.path), "%s", t->real);
    while (strlen(spot.path) < sizeof(t->real) && !dice_once_in(&t->dice, 3) && pick_entry(t, spot.ino, DT_DIR, &e)) {
        size_t length = strlen(spot.path);

        snprintf(spot.path + length, sizeof(spot.path) - length, "/%.40s", e.name);
        spot.ino = e.ino;
    }
    return spot;
}

static void pick_name(struct twin *t, const struct spot *spot, char name[256])
{
    struct dirent_entry e;

    if (dice_once_in(&t->dice, 3) || !pick_entry(t, spot->ino, 0, &e))
        snprintf(name, 256, "%c%llu", "abc"[dice_below(&t->dice, 3)], (unsigned long long)dice_below(&t->dice, 6));
    else snprintf(name, 256, "%s", e.name);
}

static int errno_of(int r)
{
    return r < 0 ? -errno : 0;
}

static void both(const char *what, const char *path, int here, int there)
{
    if ((here == 0) != (there == 0)) fail_msg("%s %s: %s, not %s", what, path, strerror(-here), strerror(-there));
}

static void do_make(struct twin *t, const struct spot *spot, const char *name)
{
    static const mode_t types[] = {S_IFREG, S_IFIFO, S_IFSOCK, S_IFDIR, S_IFDIR, S_IFLNK};
    mode_t type = types[dice_below(&t->dice, 6)];
    struct view *v = t->fixture->view;
    const char *path = join(spot, name);
    uint64_t ino;

    if (S_ISLNK(type))
        both("symlink", path, names_symlink(v, root, spot->ino, name, "target", &ino),
             errno_of(symlink("target", path)));
    else if (S_ISDIR(type))
        both("mkdir", path, names_make(v, root, spot->ino, name, S_IFDIR | 0755, 0, &ino), errno_of(mkdir(path, 0755)));
    else both("mknod", path, names_make(v, root, spot->ino, name, type | 0644, 0, &ino),
              errno_of(mknod(path, type | 0644, 0)));
}

static void do_remove(struct twin *t, const struct spot *spot, const char *name)
{
    struct view *v = t->fixture->view;
    const char *path = join(spot, name);

    if (dice_once_in(&t->dice, 2)) both("rmdir", path, names_rmdir(v, spot->ino, name), errno_of(rmdir(path)));
    else both("unlink", path, names_unlink(v, spot->ino, name), errno_of(unlink(path)));
}

static void do_link(struct twin *t, const struct spot *spot, const char *name)
{
    struct spot to = pick_dir(t);
    char new_name[256];
    uint64_t ino;
    int r;

    pick_name(t, &to, new_name);
    r = names_lookup(t->fixture->view, spot->ino, name, &ino);
    if (r == 0) r = names_link(t->fixture->view, ino, to.ino, new_name);
    both("link", join(&to, new_name), r, errno_of(link(join(spot, name), join(&to, new_name))));
}

static void do_rename(struct twin *t, const struct spot *spot, const char *name)
{
    static const unsigned all_flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_EXCHANGE, RENAME_WHITEOUT};
    unsigned flags = all_flags[dice_below(&t->dice, t->whiteouts ? 7 : 6)];
    struct spot to = pick_dir(t);
    char new_name[256];
    int there;

    pick_name(t, &to, new_name);
    there = errno_of(renameat2(AT_FDCWD, join(spot, name), AT_FDCWD, join(&to, new_name), flags));
    both("rename", join(&to, new_name), names_rename(t->fixture->view, root, spot->ino, name, to.ino, new_name, flags),
         there);
}

static void do_one(struct twin *t)
{
    struct spot spot = pick_dir(t);
    char name[256];

    pick_name(t, &spot, name);
    switch (dice_below(&t->dice, 8)) {
    case 0:
    case 1: do_make(t, &spot, name); break;
    case 2: do_remove(t, &spot, name); break;
    case 3: do_link(t, &spot, name); break;
    default: do_rename(t, &spot, name);
    }
}

static void compare_entry(struct twin *t, const struct spot *spot, const struct dirent_entry *e, struct inomap *numbers)
{
    struct stat here = view_fixture_stat(t->fixture->view, e->ino), there;
    const char *path = join(spot, e->name);

    if (lstat(path, &there) < 0) fail_msg("%s: should not be there", path);
    if (here.st_mode != there.st_mode) fail_msg("%s: mode %o, not %o", path, here.st_mode, there.st_mode);
    if (S_ISDIR(here.st_mode)) return;
    if (here.st_nlink != there.st_nlink) fail_msg("%s: %lu links, not %lu", path, here.st_nlink, there.st_nlink);
    assert_int_equal(here.st_size, there.st_size);
    /* One inode there is one inode here. */
    if (inomap_get(numbers, there.st_ino)) assert_int_equal(inomap_get(numbers, there.st_ino), e->ino);
    else assert_int_equal(inomap_add(numbers, there.st_ino, e->ino), 0);
}

static void compare_dir(struct twin *t, const struct spot *spot, struct inomap *numbers)
{
    struct dirent_entry e = {0};
    int here = 0, there = -2;
    DIR *dir = opendir(spot->path);

    assert_non_null(dir);
    while (readdir(dir)) there++;
    closedir(dir);
    for (; next_entry(t->fixture->view, spot->ino, e.cookie, &e) > 0; here++) {
        compare_entry(t, spot, &e, numbers);
        if (e.type == DT_DIR) {
            struct spot sub = {.ino = e.ino};

            snprintf(sub.path, sizeof(sub.path), "%s", join(spot, e.name));
            compare_dir(t, &sub, numbers);
        }
    }
    if (here != there) fail_msg("%s: %d names, not %d", spot->path, here, there);
}

static void compare_all(struct twin *t)
{
    struct spot top = {.ino = DELTA_ROOT};
    struct inomap numbers = {0};

    snprintf(top.path, sizeof(top.path), "%s", t->real);
    compare_dir(t, &top, &numbers);
    inomap_clear(&numbers);
    view_fixture_check(t->fixture->view);
}

static bool has_whiteouts(struct twin *t)
{
    struct spot top = {.ino = DELTA_ROOT};
    char from[1024];

    snprintf(top.path, sizeof(top.path), "%s", t->real);
    snprintf(from, sizeof(from), "%s.probe", t->real);
    scratch_write(from, "");
    if (renameat2(AT_FDCWD, from, AT_FDCWD, join(&top, "../probed"), RENAME_WHITEOUT) < 0) return false;
    return unlink(from) == 0 && unlink(join(&top, "../probed")) == 0;
}

static void test_random_operations(void **state)
{
    enum { OPERATIONS = 6000 };
    struct view_fixture *f = *state;
    struct twin t = {.fixture = f, .dice = dice_new()};
    char output[256];

    snprintf(t.real, sizeof(t.real), "%s", scratch_path(&f->scratch, "twin"));
    assert_int_equal(scratch_run(output, sizeof(output), "cp -a %s %s",
                                 scratch_path(&f->scratch, "images/base/rootfs"), t.real), 0);
    t.whiteouts = has_whiteouts(&t);
    view_fixture_open(f, "random");
    compare_all(&t);
    for (int i = 0; i < OPERATIONS; i++) {
        do_one(&t);
        if (i % 25 == 0) compare_all(&t);
        if (!dice_once_in(&t.dice, 200)) continue;
        view_fixture_reopen(f);
        compare_all(&t);
    }
    compare_all(&t);
    view_fixture_close(f);
}

/* With the kernel holding on to inodes that have no name any more, and letting go of them at any time. */
static void test_random_operations_on_referenced_inodes(void **state)
{
    enum { HELD = 64, OPERATIONS = 4000 };
    struct view_fixture *f = *state;
    struct twin t = {.fixture = f, .dice = dice_new()};
    uint64_t held[HELD] = {0};
    struct stat st;
    char output[256];

    snprintf(t.real, sizeof(t.real), "%s", scratch_path(&f->scratch, "twin-2"));
    assert_int_equal(scratch_run(output, sizeof(output), "cp -a %s %s",
                                 scratch_path(&f->scratch, "images/base/rootfs"), t.real), 0);
    view_fixture_open(f, "referenced");
    for (int i = 0; i < OPERATIONS; i++) {
        size_t place = dice_below(&t.dice, HELD);
        struct spot spot = pick_dir(&t);
        struct dirent_entry e;

        do_one(&t);
        for (size_t n = 0; n < HELD; n++)
            if (held[n]) assert_int_equal(inode_stat(f->view, held[n], &st), 0);
        if (held[place]) view_forget(f->view, held[place], 1);
        held[place] = 0;
        if (inode_stat(f->view, spot.ino, &st) < 0 || st.st_nlink == 0 || !pick_entry(&t, spot.ino, 0, &e)) continue;
        held[place] = e.ino;
        assert_int_equal(view_refer(f->view, e.ino), 0);
        if (i % 50 == 0) compare_all(&t);
    }
    for (size_t n = 0; n < HELD; n++)
        if (held[n]) view_forget(f->view, held[n], 1);
    compare_all(&t);
    assert_int_equal(references_total(f->shared.handover), 0);
    assert_int_equal(f->view->orphans.used, 0);
    view_fixture_close(f);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_make),
        cmocka_unit_test(test_links),
        cmocka_unit_test(test_directory_times),
        cmocka_unit_test(test_rename_limits),
        cmocka_unit_test(test_moved_image_directory_keeps_its_contents),
        cmocka_unit_test(test_random_operations),
        cmocka_unit_test(test_random_operations_on_referenced_inodes),
        cmocka_unit_test(test_rename_matrix),
    };

    return cmocka_run_group_tests(tests, view_fixture_setup, view_fixture_teardown);
}
