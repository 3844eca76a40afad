#include "view_fixture.h"

#include <endian.h>
#include <stdio.h>
#include <string.h>
#include <sys/xattr.h>

#include "dirent.h"
#include "handover.h"
#include "io.h"

#define IMAGE "base"

const struct names_caller view_fixture_caller = {.umask = 022};

void view_fixture_fill(uint64_t seed, uint64_t offset, void *buffer, size_t size)
{
    uint8_t *bytes = buffer;

    for (size_t i = 0; i < size; i++) {
        uint64_t x = (offset + i + seed * 1000003) * UINT64_C(0x9e3779b97f4a7c15);

        bytes[i] = 1 + (x >> 40) % 255;
    }
}

/* ---- the image ---- */

static char root[2048];

static const char *at(const char *name)
{
    static char path[4096]; /* until the next call */

    snprintf(path, sizeof(path), "%s/%s", root, name);
    return path;
}

static void make_dir(const char *name)
{
    assert_int_equal(mkdir(at(name), 0755), 0);
}

static void put_bytes(int fd, uint64_t seed, off_t offset, size_t size)
{
    char *bytes = test_malloc(size + 1);

    view_fixture_fill(seed, offset, bytes, size);
    assert_int_equal(io_pwrite(fd, bytes, size, offset), 0);
    test_free(bytes);
}

static void make_file(const char *name, uint64_t seed, size_t size)
{
    _cleanup_close_ int fd = open(at(name), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    put_bytes(fd, seed, 0, size);
}

static void make_sizes(void)
{
    static const size_t sizes[] = {0, 1, 4095, 4096, 4097, 16384, 16385, 300000};

    make_dir("sizes");
    for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
        char name[32];

        snprintf(name, sizeof(name), "sizes/%zu", sizes[i]);
        make_file(name, sizes[i], sizes[i]);
    }
}

static void make_sparse(void)
{
    _cleanup_close_ int fd = open(at("sparse"), O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    put_bytes(fd, 77, 65536, 70000 - 65536);
    put_bytes(fd, 77, 131072, 1);
    assert_int_equal(ftruncate(fd, VIEW_FIXTURE_SPARSE), 0);
}

static void make_links(void)
{
    char first[4096];

    make_dir("links");
    make_file("links/a", 5000, 5000);
    strcpy(first, at("links/a"));
    assert_int_equal(link(first, at("links/b")), 0);
    assert_int_equal(link(first, at("linked")), 0);
    make_dir("symlinks");
    assert_int_equal(symlink("../sizes/1", at("symlinks/short")), 0);
    assert_int_equal(symlink("/nowhere", at("symlinks/dangling")), 0);
    assert_int_equal(mkfifo(at("fifo"), 0600), 0);
}

static void make_targets(const char *dir)
{
    static const char *const dirs[] = {"", "/from_dir", "/to_empty", "/to_full"};
    static const char *const files[] = {"/from_file", "/from_dir/inner", "/to_file", "/to_full/inner"};
    char name[64];

    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "%s%s", dir, dirs[i]);
        make_dir(name);
    }
    for (size_t i = 0; i < 4; i++) {
        snprintf(name, sizeof(name), "%s%s", dir, files[i]);
        make_file(name, 10, 10);
    }
}

static void make_attributes(void)
{
    /* acl(5): version 2, then (tag, permissions, id) each. */
    static const uint16_t user = 7, named = 7, group = 5, mask = 7, other = 0;
    struct {
        uint32_t version;
        struct {
            uint16_t tag, permissions;
            uint32_t id;
        } entries[5];
    } acl = {htole32(2),
             {{htole16(0x01), htole16(user), UINT32_MAX}, {htole16(0x02), htole16(named), htole32(1000)},
              {htole16(0x04), htole16(group), UINT32_MAX}, {htole16(0x10), htole16(mask), UINT32_MAX},
              {htole16(0x20), htole16(other), UINT32_MAX}}};

    make_dir("xattrs");
    make_file("xattrs/file", 3, 3);
    assert_int_equal(setxattr(at("xattrs/file"), "user.color", "red", 3, 0), 0);
    assert_int_equal(setxattr(at("xattrs/file"), "user.shape", "round", 5, 0), 0);
    make_dir("acl");
    assert_int_equal(setxattr(at("acl"), "system.posix_acl_default", &acl, sizeof(acl), 0), 0);
    make_file("listed", 6, 6);
    acl.entries[1].permissions = htole16(4);
    assert_int_equal(setxattr(at("listed"), "system.posix_acl_access", &acl, sizeof(acl), 0), 0);
}

static void make_image(struct view_fixture *f)
{
    struct image_totals totals;
    _cleanup_close_ int images_fd = -1, rootfs_fd = -1;

    assert_int_equal(mkdir(scratch_path(&f->scratch, "images"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(&f->scratch, "images/" IMAGE), 0755), 0);
    snprintf(root, sizeof(root), "%s", scratch_path(&f->scratch, "images/" IMAGE "/rootfs"));
    assert_int_equal(mkdir(root, 0755), 0);
    make_sizes();
    make_sparse();
    make_links();
    make_targets("tree");
    make_targets("other");
    make_attributes();
    make_dir("empty");
    rootfs_fd = open(root, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(image_build(rootfs_fd, scratch_path(&f->scratch, "images/" IMAGE "/index.db"), &totals), 0);
    images_fd = open(scratch_path(&f->scratch, "images"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    assert_int_equal(image_open(&f->image, images_fd, scratch_path(&f->scratch, "images"), IMAGE), 0);
}

/* ---- the view ---- */

int view_fixture_setup(void **state)
{
    static const uint8_t key[32] = "a secret that everybody can read";
    struct view_fixture *f = calloc(1, sizeof(*f));

    if (!f || scratch_setup(&f->scratch) < 0) return -1;
    scratch_skip_sync = true;
    identity_init(&f->identity, key);
    umask(022);
    make_image(f);
    if (mkdir(scratch_path(&f->scratch, "nodes"), 0755) < 0) return -1;
    f->shared = (struct view_shared){
        .identity = &f->identity,
        .files = fdcache_new(64),
        .room = &f->room,
        .nodes_fd = open(scratch_path(&f->scratch, "nodes"), O_RDONLY | O_DIRECTORY | O_CLOEXEC),
        .nodes_path = strdup(scratch_path(&f->scratch, "nodes")),
    };
    if (room_init(&f->room, f->shared.nodes_fd) < 0) return -1;
    if (handover_open(&f->shared.handover, -1) < 0) return -1;
    *state = f;
    return 0;
}

int view_fixture_teardown(void **state)
{
    struct view_fixture *f = *state;
    int r;

    image_unref(f->image);
    fdcache_free(f->shared.files);
    handover_close(f->shared.handover);
    close(f->shared.nodes_fd);
    free((void *)f->shared.nodes_path);
    r = scratch_teardown(&f->scratch);
    free(f);
    return r;
}

struct view *view_fixture_open(struct view_fixture *f, const char *serial)
{
    snprintf(f->serial, sizeof(f->serial), "%s", serial);
    f->view = NULL; /* left open by a test that failed, perhaps with its locks */
    assert_int_equal(view_open(&f->view, &f->shared, 7, f->serial, f->image), 0);
    return f->view;
}

void view_fixture_close(struct view_fixture *f)
{
    view_close(f->view);
    f->view = NULL;
}

struct view *view_fixture_hand_over(struct view_fixture *f)
{
    char serial[64];

    view_fixture_close(f);
    strcpy(serial, f->serial);
    handover_begin(f->shared.handover);
    return view_fixture_open(f, serial);
}

struct view *view_fixture_reopen(struct view_fixture *f)
{
    char serial[64];

    view_fixture_close(f);
    strcpy(serial, f->serial);
    handover_close(f->shared.handover);
    assert_int_equal(handover_open(&f->shared.handover, -1), 0);
    return view_fixture_open(f, serial);
}

const char *view_fixture_path(struct view_fixture *f, const char *name)
{
    char relative[512];

    snprintf(relative, sizeof(relative), "nodes/%s/%s", f->serial, name);
    return scratch_path(&f->scratch, relative);
}

bool view_fixture_has(struct view *v, const char *path, uint64_t *ret_ino)
{
    char copy[1024], *next = copy, *name;
    uint64_t ino = DELTA_ROOT;

    snprintf(copy, sizeof(copy), "%s", path);
    while ((name = strsep(&next, "/")))
        if (*name && names_lookup(v, ino, name, &ino) < 0) return false;
    *ret_ino = ino;
    return true;
}

uint64_t view_fixture_find(struct view *v, const char *path)
{
    uint64_t ino = 0;

    if (!view_fixture_has(v, path, &ino)) fail_msg("%s: not there", path);
    return ino;
}

struct stat view_fixture_stat(struct view *v, uint64_t ino)
{
    struct stat st;

    assert_int_equal(inode_stat(v, ino, &st), 0);
    return st;
}

int view_fixture_change(struct view *v, uint64_t ino, const struct stat *st, int set)
{
    return inode_change(v, ino, &(struct inode_change){st, set});
}

/* ---- the check ---- */

struct walk {
    struct view *view;
    struct inomap names; /* of inodes other than directories */
    bool compare;        /* second time round: the counts are known */
};

static int next(struct view *v, uint64_t dir, uint32_t cookie, struct dirent_entry *ret)
{
    struct delta *d = view_lock(v);
    int r = dirent_next(v, d, dir, cookie, ret);

    view_unlock(d);
    return r;
}

static void check_entry(struct walk *walk, uint64_t dir, const struct dirent_entry *e, mode_t *ret_mode)
{
    struct stat st = view_fixture_stat(walk->view, e->ino);
    uint64_t found;

    assert_int_equal(names_lookup(walk->view, dir, e->name, &found), 0);
    assert_int_equal(found, e->ino);
    assert_int_equal(e->type, inode_type(st.st_mode));
    assert_int_equal(strlen(e->name), e->length);
    *ret_mode = st.st_mode;
    if (S_ISDIR(st.st_mode)) {
        assert_int_equal(names_lookup(walk->view, e->ino, "..", &found), 0);
        assert_int_equal(found, dir);
    } else if (walk->compare) {
        assert_int_equal(st.st_nlink, inomap_get(&walk->names, e->ino));
    } else {
        assert_int_equal(inomap_add(&walk->names, e->ino, 1), 0);
    }
}

static void check_dir(struct walk *walk, uint64_t dir)
{
    struct dirent_entry e = {.cookie = 0};
    uint32_t cookie = DIRENT_COOKIE_DOTS;
    nlink_t links = 2;
    int r;

    while ((r = next(walk->view, dir, cookie, &e)) > 0) {
        mode_t mode;

        assert_true(e.cookie > cookie && e.cookie < 1u << 31);
        cookie = e.cookie;
        check_entry(walk, dir, &e, &mode);
        if (!S_ISDIR(mode)) continue;
        links++;
        check_dir(walk, e.ino);
    }
    assert_int_equal(r, 0);
    assert_int_equal(view_fixture_stat(walk->view, dir).st_nlink, links);
}

void view_fixture_check(struct view *v)
{
    struct walk walk = {.view = v};

    check_dir(&walk, DELTA_ROOT);
    walk.compare = true;
    check_dir(&walk, DELTA_ROOT);
    inomap_clear(&walk.names);
}
