#include "scratch.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "db.h"
#include "image.h"
#include "io.h"
#include "log.h"
#include "schema.h"

#define FUZZ_ROUNDS 3000
#define MANY 40000

/* Standard error goes into a file while a call is watched. */
static char logged[65536];
static int saved_stderr = -1;

static void catch_log(void **state)
{
    _cleanup_close_ int fd = open(scratch_path(state, "log"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    assert_true(fd >= 0);
    saved_stderr = fcntl(STDERR_FILENO, F_DUPFD_CLOEXEC, 10);
    dup2(fd, STDERR_FILENO);
}

static int read_log(void **state)
{
    _cleanup_close_ int fd = open(scratch_path(state, "log"), O_RDONLY | O_CLOEXEC);
    ssize_t n;
    int lines = 0;

    dup2(saved_stderr, STDERR_FILENO);
    close(saved_stderr);
    n = io_pread(fd, logged, sizeof(logged) - 1, 0);
    assert_true(n >= 0);
    logged[n] = '\0';
    for (const char *c = logged; *c; c++) lines += *c == '\n';
    return lines;
}

static void run(const char *format, ...)
{
    _cleanup_free_ char *command = NULL;
    va_list arguments;

    va_start(arguments, format);
    assert_true(vasprintf(&command, format, arguments) >= 0);
    va_end(arguments);
    if (system(command) != 0) fail_msg("%s", command);
}

static int images_fd(void **state)
{
    int fd = open((const char *)*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return fd;
}

static int open_image(void **state, const char *name, struct image **ret_image)
{
    _cleanup_close_ int fd = images_fd(state);

    return image_open(ret_image, fd, *state, name);
}

static int build(void **state, const char *name, struct image_totals *ret_totals)
{
    _cleanup_free_ char *rootfs = io_format("%s/%s/rootfs", (const char *)*state, name);
    _cleanup_free_ char *index = io_format("%s/%s/index.db", (const char *)*state, name);
    _cleanup_close_ int fd = open(rootfs, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_true(fd >= 0);
    return image_build(fd, index, ret_totals);
}

/* A tree with one of everything that an index tells apart. */
static void make_tree(const char *rootfs)
{
    run("mkdir -p '%s' && cd '%s' && mkdir -p etc usr/bin usr/share/doc empty names dev && echo root > etc/passwd"
        " && head -c 100000 /dev/urandom > usr/bin/tool && chmod 4755 usr/bin/tool && ln usr/bin/tool usr/bin/same"
        " && ln usr/bin/tool usr/share/third && ln -s ../etc/passwd usr/link && ln -s /absolute dangling"
        " && mknod dev/null c 1 3 && mknod dev/disk b 259 70000 && mkfifo dev/pipe"
        " && chown -h 12345:54321 dangling etc/passwd && chmod 0600 etc/passwd && truncate -s 64M sparse"
        " && touch -d '2001-02-03 04:05:06.123456789' etc/passwd && touch -h -d '1969-12-31 23:59:59.5 UTC' dangling"
        " && touch -d '2002-01-01 00:00:00.000000001' etc",
        rootfs, rootfs);
    for (int i = 1; i < 256; i++) {
        _cleanup_free_ char *name = io_format("%s/names/%cx%c", rootfs, i, i);

        if (i == '/') continue;
        assert_int_equal(mknod(name, S_IFREG | 0644, 0), 0);
    }
}

static void set_xattrs(const char *rootfs)
{
    static const char capability[20] = {1, 0, 0, 2, 0, 32};
    _cleanup_free_ char *file = io_format("%s/usr/bin/tool", rootfs), *link = io_format("%s/dangling", rootfs);

    assert_int_equal(setxattr(file, "user.one", "1", 1, 0), 0);
    assert_int_equal(setxattr(file, "user.empty", "", 0, 0), 0);
    assert_int_equal(setxattr(file, "trusted.two", "two\0two", 7, 0), 0);
    assert_int_equal(setxattr(file, "security.capability", capability, sizeof(capability), 0), 0);
    assert_int_equal(lsetxattr(link, "trusted.link", "symlink", 7, 0), 0);
    assert_int_equal(setxattr(rootfs, "user.root", "yes", 3, 0), 0);
}

static int setup(void **state)
{
    _cleanup_free_ char *rootfs = NULL;
    struct image_totals totals;

    if (scratch_setup(state) < 0) return -1;
    rootfs = io_format("%s/good/rootfs", (const char *)*state);
    make_tree(rootfs);
    set_xattrs(rootfs);
    return build(state, "good", &totals);
}

/* --- what an index says is what the disk says --- */

struct xattr_check {
    const char *path;
    int count;
};

static int check_xattr(const char *name, const void *value, size_t size, void *data)
{
    struct xattr_check *check = data;
    char found[256];

    assert_int_equal(lgetxattr(check->path, name, found, sizeof(found)), size);
    assert_memory_equal(found, value, size);
    check->count++;
    return 0;
}

static int count_xattrs(const char *path)
{
    char names[1024];
    ssize_t size = llistxattr(path, names, sizeof(names));
    int count = 0;

    assert_true(size >= 0);
    for (ssize_t i = 0; i < size; i += strlen(names + i) + 1) count++;
    return count;
}

static void check_inode(const struct image *image, uint32_t ino, const char *path)
{
    const struct image_inode *inode = image_inode(image, ino);
    struct xattr_check check = {.path = path};
    char target[4096], found[4096];
    struct stat st;

    assert_non_null(inode);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(inode->mode, st.st_mode);
    assert_int_equal(inode->uid, st.st_uid);
    assert_int_equal(inode->gid, st.st_gid);
    assert_int_equal(inode->size, st.st_size);
    assert_int_equal(inode->blocks, st.st_blocks);
    assert_int_equal(inode->nlink, st.st_nlink);
    assert_int_equal(inode->mtime, st.st_mtim.tv_sec * 1000000000 + st.st_mtim.tv_nsec);
    assert_int_equal(inode->ctime, st.st_ctim.tv_sec * 1000000000 + st.st_ctim.tv_nsec);
    if (S_ISCHR(st.st_mode) || S_ISBLK(st.st_mode)) assert_int_equal(inode->rdev, st.st_rdev);
    assert_int_equal(image_xattrs(image, ino, check_xattr, &check), 0);
    assert_int_equal(check.count, count_xattrs(path));
    assert_int_equal(inode->has_xattrs, check.count > 0);
    if (!S_ISLNK(st.st_mode)) return;
    assert_int_equal(image_readlink(image, ino, target, sizeof(target)), st.st_size);
    assert_int_equal(readlink(path, found, sizeof(found)), st.st_size);
    assert_memory_equal(target, found, st.st_size);
}

static void check_contents(struct image *image, uint32_t ino, const char *path)
{
    _cleanup_close_ int fd = image_open_file(image, ino);
    struct stat opened, st;

    assert_true(fd >= 0);
    assert_int_equal(fstat(fd, &opened), 0);
    assert_int_equal(lstat(path, &st), 0);
    assert_int_equal(opened.st_ino, st.st_ino);
}

static unsigned check_directory(struct image *image, uint32_t ino, const char *path)
{
    const struct image_inode *directory = image_inode(image, ino);
    ino_t last = 0;
    unsigned seen = 0;

    for (uint32_t i = 0; i < directory->entries; i++) {
        const struct image_entry *entry = image_entry(image, directory->first_entry + i);
        _cleanup_free_ char *below = io_format("%s/%.*s", path, entry->length, entry->name);
        struct stat st;

        assert_int_equal(entry->parent, ino);
        assert_int_equal(image_lookup(image, ino, entry->name, entry->length), directory->first_entry + i);
        assert_int_equal(lstat(below, &st), 0);
        assert_true(st.st_ino >= last);
        last = st.st_ino;
        assert_int_equal(entry->type, IFTODT(st.st_mode));
        check_inode(image, entry->ino, below);
        if (S_ISREG(st.st_mode)) check_contents(image, entry->ino, below);
        seen++;
        if (entry->type != DT_DIR) continue;
        assert_true(entry->ino > ino);
        assert_int_equal(image_inode(image, entry->ino)->parent, ino);
        seen += check_directory(image, entry->ino, below);
    }
    return seen;
}

static unsigned count_names(const char *path)
{
    char output[32];

    assert_int_equal(scratch_run(output, sizeof(output), "find '%s' -mindepth 1 -printf x | wc -c", path), 0);
    return atoi(output);
}

static void test_index_is_the_tree(void **state)
{
    const char *rootfs = scratch_path(state, "good/rootfs");
    struct image *image;

    assert_int_equal(open_image(state, "good", &image), 0);
    assert_string_equal(image_name(image), "good");
    check_inode(image, 1, rootfs);
    assert_int_equal(image_inode(image, 1)->parent, 1);
    assert_int_equal(check_directory(image, 1, rootfs), count_names(rootfs));
    image_unref(image);
}

static uint32_t find(struct image *image, const char *path)
{
    uint32_t ino = 1;

    while (*path) {
        size_t length = strcspn(path, "/");
        int64_t entry = image_lookup(image, ino, path, length);

        assert_true(entry >= 0);
        ino = image_entry(image, entry)->ino;
        path += length;
        path += *path == '/';
    }
    return ino;
}

static void test_lookup(void **state)
{
    struct image *image;

    assert_int_equal(open_image(state, "good", &image), 0);
    assert_int_equal(image_lookup(image, 1, "etcetera", 3), image_lookup(image, 1, "etc", 3));
    assert_int_equal(image_lookup(image, 1, "et", 2), -1);
    assert_int_equal(image_lookup(image, 1, "passwd", 6), -1);
    assert_int_equal(image_lookup(image, 4000000000u, "etc", 3), -1);
    assert_int_equal(find(image, "usr/bin/tool"), find(image, "usr/share/third"));
    assert_int_equal(image_inode(image, find(image, "usr/bin/same"))->nlink, 3);
    assert_null(image_inode(image, 0));
    assert_null(image_inode(image, image_count(image) + 1));
    assert_null(image_entry(image, image_count(image) + 100));
    image_unref(image);
}

static void test_refusals_of_calls(void **state)
{
    struct image *image;
    char target[16];

    assert_int_equal(open_image(state, "good", &image), 0);
    assert_int_equal(image_readlink(image, 1, target, sizeof(target)), -EINVAL);
    assert_int_equal(image_readlink(image, 0, target, sizeof(target)), -ENOENT);
    assert_int_equal(image_readlink(image, find(image, "dangling"), target, 9), -ENAMETOOLONG);
    assert_int_equal(image_open_file(image, 1), -EINVAL);
    assert_int_equal(image_open_file(image, image_count(image) + 1), -ENOENT);
    image_unref(image_ref(image));
    assert_string_equal(image_name(image), "good");
    image_unref(image);
    image_unref(NULL);
}

static void test_totals_and_digests(void **state)
{
    _cleanup_free_ char *expected = NULL;
    struct image_totals totals;
    char output[256];

    run("mkdir -p %s && cp -a %s %s", scratch_path(state, "again"), scratch_path(state, "good/rootfs"),
        scratch_path(state, "again/rootfs"));
    assert_int_equal(build(state, "again", &totals), 0);
    scratch_run(output, sizeof(output),
                "sqlite3 %s 'SELECT count(*), sum(size) FILTER (WHERE digest NOT NULL) FROM inode'",
                scratch_path(state, "again/index.db"));
    expected = io_format("%lld|%lld", (long long)totals.files, (long long)totals.bytes);
    assert_string_equal(output, expected);
    assert_int_equal(scratch_run(output, sizeof(output),
                                 "test \"$(sqlite3 %s \"SELECT lower(hex(digest)) FROM inode JOIN dirent USING(ino)"
                                 " WHERE name = CAST('same' AS BLOB)\")\" = \"$(sha256sum < %s | cut -d' ' -f1)\"",
                                 scratch_path(state, "again/index.db"),
                                 scratch_path(state, "again/rootfs/usr/bin/tool")),
                     0);
    assert_int_equal(access(scratch_path(state, "again/index.db-wal"), F_OK), -1);
    assert_int_equal(access(scratch_path(state, "again/index.db-shm"), F_OK), -1);
}

static void test_path_longer_than_the_kernel_takes(void **state)
{
    enum { LEVELS = 40 };
    char name[201];
    struct image_totals totals;
    struct image *image;
    uint32_t ino = 1;
    int fd;

    memset(name, 'd', 200);
    name[200] = '\0';
    run("mkdir -p %s", scratch_path(state, "deep/rootfs"));
    fd = open(scratch_path(state, "deep/rootfs"), O_RDONLY | O_DIRECTORY);
    for (int i = 0; i < LEVELS; i++) {
        int next;

        assert_int_equal(mkdirat(fd, name, 0755), 0);
        next = openat(fd, name, O_RDONLY | O_DIRECTORY);
        close(fd);
        fd = next;
    }
    assert_int_equal(mknodat(fd, "file", S_IFREG | 0644, 0), 0);
    close(fd);

    assert_int_equal(build(state, "deep", &totals), 0);
    assert_int_equal(totals.files, LEVELS + 2);
    assert_int_equal(open_image(state, "deep", &image), 0);
    for (int i = 0; i < LEVELS; i++) ino = image_entry(image, image_lookup(image, ino, name, 200))->ino;
    fd = image_open_file(image, image_entry(image, image_lookup(image, ino, "file", 4))->ino);
    assert_true(fd >= 0);
    close(fd);
    image_unref(image);
}

/* --- files that are no longer what was imported --- */

static void check_changed(void **state, const char *command, const char *reason)
{
    struct image_totals totals;
    struct image *image;
    int first, second;
    uint32_t ino;

    run("mkdir -p %s/rootfs/dir && cd %s/rootfs/dir && echo contents > file", scratch_path(state, "changed"),
        scratch_path(state, "changed"));
    assert_int_equal(build(state, "changed", &totals), 0);
    assert_int_equal(open_image(state, "changed", &image), 0);
    ino = find(image, "dir/file");
    run("cd %s/rootfs/dir && %s", scratch_path(state, "changed"), command);
    catch_log(state);
    first = image_open_file(image, ino);
    second = image_open_file(image, ino);
    assert_int_equal(read_log(state), 1);
    assert_int_equal(first, -EIO);
    assert_int_equal(second, -EIO);
    if (!strstr(logged, "image changed: dir/file: ") || !strstr(logged, reason)) fail_msg("%s: %s", command, logged);
    image_unref(image);
    run("rm -rf %s", scratch_path(state, "changed"));
}

static void test_changed_files(void **state)
{
    check_changed(state, "echo more >> file", "was changed");
    check_changed(state, "touch -r file ../stamp && echo more >> file && touch -r ../stamp file", "was changed");
    check_changed(state, "touch -d '2000-01-01' file", "was changed");
    check_changed(state, "rm file", "No such file");
    check_changed(state, "mv file other && ln -s other file", "symbolic links");
    check_changed(state, "mv ../dir ../elsewhere && ln -s elsewhere ../dir", "symbolic links");
    check_changed(state, "rm file && mkfifo file", "no regular file");
    check_changed(state, "rm file && mkdir file", "");
}

/* --- damaged indices --- */

static void copy_good(void **state, const char *sql)
{
    run("mkdir -p %s/rootfs && cp %s %s/index.db", scratch_path(state, "bad"), scratch_path(state, "good/index.db"),
        scratch_path(state, "bad"));
    run("sqlite3 %s \"PRAGMA writable_schema = ON; %s\"", scratch_path(state, "bad/index.db"), sql);
}

static void check_damaged(void **state, const char *sql, const char *reason)
{
    struct image *image;
    int r, lines;

    copy_good(state, sql);
    catch_log(state);
    r = open_image(state, "bad", &image);
    lines = read_log(state);
    if (r != -EIO || lines != 1 || !strstr(logged, reason)) fail_msg("%s: %d, %s", sql, r, logged);
    assert_memory_equal(logged, "coppice: image bad: index.db: ", 30);
}

#define SOME_DIR "(SELECT max(ino) FROM inode WHERE mode / 4096 = 4)"
#define SOME_FILE "(SELECT min(ino) FROM inode WHERE mode / 4096 = 8)"
#define SOME_LINK "(SELECT min(ino) FROM inode WHERE mode / 4096 = 10)"

static void test_damaged_inodes(void **state)
{
    check_damaged(state, "DELETE FROM inode", "no inodes");
    check_damaged(state, "DELETE FROM inode WHERE ino = 1", "number of an inode");
    check_damaged(state, "DELETE FROM inode WHERE ino = 7", "number of an inode");
    check_damaged(state, "UPDATE inode SET ino = -5 WHERE ino = 1", "number of an inode");
    check_damaged(state, "UPDATE inode SET mode = mode + 65536 WHERE ino = 3", "attributes");
    check_damaged(state, "UPDATE inode SET mode = 511 WHERE ino = 3", "attributes");
    check_damaged(state, "UPDATE inode SET uid = -1 WHERE ino = 3", "attributes");
    check_damaged(state, "UPDATE inode SET gid = 4294967295 WHERE ino = 3", "attributes");
    check_damaged(state, "UPDATE inode SET nlink = 0 WHERE ino = 3", "attributes");
    check_damaged(state, "UPDATE inode SET size = -1 WHERE ino = 3", "attributes");
    check_damaged(state, "UPDATE inode SET parent = 2 WHERE ino = 1", "parent");
    check_damaged(state, "UPDATE inode SET parent = ino WHERE ino = " SOME_DIR, "parent");
    check_damaged(state, "UPDATE inode SET parent = 1000000 WHERE ino = " SOME_DIR, "parent");
    check_damaged(state, "UPDATE inode SET parent = -1 WHERE ino = " SOME_DIR, "parent");
    check_damaged(state, "UPDATE inode SET parent = " SOME_FILE " WHERE ino = " SOME_DIR, "parent");
    check_damaged(state, "UPDATE inode SET parent = 1 WHERE ino = " SOME_DIR, "name of directory");
    check_damaged(state, "UPDATE inode SET parent = 1 WHERE ino = " SOME_FILE, "parent");
    check_damaged(state, "UPDATE inode SET target = NULL WHERE ino = " SOME_LINK, "target");
    check_damaged(state, "UPDATE inode SET target = x'610061', size = 3 WHERE ino = " SOME_LINK, "target");
    check_damaged(state, "UPDATE inode SET size = size + 1 WHERE ino = " SOME_LINK, "target");
    check_damaged(state, "UPDATE inode SET target = zeroblob(5000), size = 5000 WHERE ino = " SOME_LINK, "target");
    check_damaged(state, "UPDATE inode SET nlink = nlink + 1 WHERE ino = " SOME_FILE, "link count");
    check_damaged(state, "UPDATE inode SET nlink = nlink + 1 WHERE ino = 1", "link count");
    check_damaged(state, "UPDATE inode SET mode = 32768 WHERE ino = 1; UPDATE inode SET parent = 0 WHERE ino = 1",
                  "parent");
}

static void test_damaged_entries(void **state)
{
    check_damaged(state, "DELETE FROM dirent WHERE parent = 1 AND cookie = 1", "order of entries");
    check_damaged(state, "DELETE FROM dirent WHERE parent = 1", "link count");
    check_damaged(state, "DELETE FROM dirent WHERE parent = 1; UPDATE inode SET nlink = 2 WHERE ino = 1", "damaged: ");
    check_damaged(state, "UPDATE dirent SET cookie = cookie + 100 WHERE parent = 1", "order of entries");
    check_damaged(state, "UPDATE dirent SET parent = " SOME_FILE " WHERE parent = 1", "no directory");
    check_damaged(state, "UPDATE dirent SET parent = 99999 WHERE parent = 1", "no directory");
    check_damaged(state, "UPDATE dirent SET name = x'' WHERE parent = 1 AND cookie = 1", "name");
    check_damaged(state, "UPDATE dirent SET name = x'2e' WHERE parent = 1 AND cookie = 1", "name");
    check_damaged(state, "UPDATE dirent SET name = x'2e2e' WHERE parent = 1 AND cookie = 1", "name");
    check_damaged(state, "UPDATE dirent SET name = x'612f62' WHERE parent = 1 AND cookie = 1", "name");
    check_damaged(state, "UPDATE dirent SET name = x'6100' WHERE parent = 1 AND cookie = 1", "name");
    check_damaged(state, "UPDATE dirent SET name = CAST(printf('%0256d', 0) AS BLOB) WHERE parent = 1 AND cookie = 1",
                  "name");
    check_damaged(state, "UPDATE dirent SET name = x'61' WHERE parent = 1", "two entries");
    check_damaged(state, "UPDATE dirent SET ino = 0 WHERE parent = 1 AND cookie = 1", "without an inode");
    check_damaged(state, "UPDATE dirent SET ino = 1 WHERE parent = 1 AND cookie = 1", "without an inode");
    check_damaged(state, "UPDATE dirent SET ino = 4294967298 WHERE parent = 1 AND cookie = 1", "without an inode");
    check_damaged(state, "UPDATE dirent SET type = type + 1 WHERE parent = 1 AND cookie = 1", "type");
    check_damaged(state,
                  "UPDATE dirent SET ino = (SELECT ino FROM dirent WHERE parent = 1 AND type = 4 LIMIT 1)"
                  " WHERE parent = 1 AND type = 4",
                  "second name");
}

static void test_damaged_rest(void **state)
{
    check_damaged(state, "UPDATE xattr SET ino = 0 WHERE name = 'user.one'", "xattr without an inode");
    check_damaged(state, "UPDATE xattr SET ino = 99999 WHERE name = 'user.one'", "xattr without an inode");
    check_damaged(state, "UPDATE xattr SET name = '' WHERE name = 'user.one'", "xattr of inode");
    check_damaged(state, "UPDATE xattr SET value = zeroblob(70000) WHERE name = 'user.one'", "xattr of inode");
    check_damaged(state, "PRAGMA user_version = 2", "newer version");
    check_damaged(state, "PRAGMA user_version = 0", "unknown format");
    check_damaged(state, "DROP TABLE dirent", "no such table");
    check_damaged(state, "ALTER TABLE inode RENAME COLUMN mtime TO gone", "no such column");
}

static void check_open(void **state, const char *name, int expected, int expected_lines)
{
    struct image *image;
    int r, lines;

    catch_log(state);
    r = open_image(state, name, &image);
    lines = read_log(state);
    if (r != expected || lines != expected_lines) fail_msg("%s: %d, %s", name, r, logged);
}

static void test_missing_parts(void **state)
{
    check_open(state, "nowhere", -ENOENT, 0);
    copy_good(state, "");
    run("truncate -s 5000 %s", scratch_path(state, "bad/index.db"));
    check_open(state, "bad", -EIO, 1);
    run(": > %s", scratch_path(state, "bad/index.db"));
    check_open(state, "bad", -EIO, 1);
    run("head -c 30000 /dev/urandom > %s", scratch_path(state, "bad/index.db"));
    check_open(state, "bad", -EIO, 1);
    run("rm %s", scratch_path(state, "bad/index.db"));
    check_open(state, "bad", -EIO, 1);
    run("rm -r %s", scratch_path(state, "bad/rootfs"));
    check_open(state, "bad", -EIO, 1);
}

/* Whatever a damaged index says, all of it can be asked for. */
static int ignore_xattr(const char *name, const void *value, size_t size, void *data)
{
    size_t *sum = data;

    *sum += strlen(name) + size + (size ? *(const unsigned char *)value : 0);
    return 0;
}

static void use_image(struct image *image)
{
    char target[4096];
    size_t sum = 0;

    for (uint32_t ino = 1; ino <= image_count(image); ino++) {
        const struct image_inode *inode = image_inode(image, ino);

        for (uint32_t i = 0; i < inode->entries; i++) {
            const struct image_entry *entry = image_entry(image, inode->first_entry + i);

            assert_int_equal(image_lookup(image, ino, entry->name, entry->length), inode->first_entry + i);
        }
        image_xattrs(image, ino, ignore_xattr, &sum);
        image_readlink(image, ino, target, sizeof(target));
        sum += image_open_file(image, ino) >= 0;
    }
}

static void flip_bytes(char *bytes, size_t size, unsigned *seed)
{
    for (int flips = rand_r(seed) % 8 + 1; flips > 0; flips--) {
        size_t where = ((size_t)rand_r(seed) << 15 ^ (size_t)rand_r(seed)) % size;

        /* Small changes reach deeper than noise. */
        if (rand_r(seed) % 2) bytes[where] ^= 1 << rand_r(seed) % 8;
        else bytes[where] = rand_r(seed);
    }
}

static void test_flipped_bytes(void **state)
{
    _cleanup_close_ int good = open(scratch_path(state, "good/index.db"), O_RDONLY), bad = -1;
    static char bytes[1 << 20], changed[1 << 20];
    ssize_t size = io_pread(good, bytes, sizeof(bytes), 0);
    int opened = 0;

    assert_in_range(size, 4096, sizeof(bytes) - 1);
    run("mkdir -p %s", scratch_path(state, "fuzz/rootfs"));
    bad = open(scratch_path(state, "fuzz/index.db"), O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    catch_log(state);
    log_set_level((enum log_level) - 1);
    for (unsigned round = 0; round < FUZZ_ROUNDS; round++) {
        struct image *image;
        unsigned seed = round;
        int r;

        memcpy(changed, bytes, size);
        flip_bytes(changed, size, &seed);
        assert_int_equal(io_pwrite(bad, changed, size, 0), 0);
        r = open_image(state, "fuzz", &image);
        if (r != 0 && r != -EIO) fail_msg("round %u: %d", round, r);
        if (r != 0) continue;
        opened++;
        use_image(image);
        image_unref(image);
    }
    log_set_level(LOG_LEVEL_INFO);
    read_log(state);
    print_message("%d of %d changed indices were still good\n", opened, FUZZ_ROUNDS);
    assert_in_range(opened, 1, FUZZ_ROUNDS - 1);
}

/* --- size and speed --- */

static void make_many(void **state)
{
    _cleanup_free_ char *sql =
        io_format("%s INSERT INTO inode VALUES(1, 16877, 0, 0, 0, 402, 4096, 8, 0, 0, 1, NULL, NULL);"
                  "WITH RECURSIVE n(i) AS (SELECT 2 UNION ALL SELECT i + 1 FROM n WHERE i < %d) INSERT INTO inode"
                  " SELECT i, iif(i <= 401, 16877, 33188), 0, 0, 0, iif(i <= 401, 2, 1), 4000, 8, i, i, i <= 401, "
                  "NULL, zeroblob(32)"
                  " FROM n; INSERT INTO dirent SELECT 1, ino - 1, CAST('directory' || ino AS BLOB), ino, 4 FROM inode"
                  " WHERE ino BETWEEN 2 AND 401; INSERT INTO dirent SELECT ino %% 400 + 2, (ino - 2) / 400,"
                  " CAST('libfile-' || ino || '.so' AS BLOB), ino, 8 FROM inode WHERE ino > 401;",
                  schema_image, MANY);
    FILE *shell;
    _cleanup_free_ char *command = NULL;

    run("mkdir -p %s", scratch_path(state, "many/rootfs"));
    command = io_format("sqlite3 %s", scratch_path(state, "many/index.db"));
    shell = popen(command, "w");
    assert_non_null(shell);
    fprintf(shell, "BEGIN; %s COMMIT;", sql);
    assert_int_equal(pclose(shell), 0);
}

static void test_many_files(void **state)
{
    struct image *image;
    double began, seconds;

    make_many(state);
    began = scratch_seconds();
    assert_int_equal(open_image(state, "many", &image), 0);
    seconds = scratch_seconds() - began;
    assert_int_equal(image_count(image), MANY);
    print_message("%d files in %.0f ms, %.0f bytes for each\n", MANY, seconds * 1000,
                  (double)image_memory(image) / image_count(image));
    assert_true(image_memory(image) / image_count(image) <= 130);
    assert_true(getenv("COPPICE_VALGRIND") || seconds < 1);
    image_unref(image);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_index_is_the_tree),
        cmocka_unit_test(test_lookup),
        cmocka_unit_test(test_refusals_of_calls),
        cmocka_unit_test(test_totals_and_digests),
        cmocka_unit_test(test_path_longer_than_the_kernel_takes),
        cmocka_unit_test(test_changed_files),
        cmocka_unit_test(test_damaged_inodes),
        cmocka_unit_test(test_damaged_entries),
        cmocka_unit_test(test_damaged_rest),
        cmocka_unit_test(test_missing_parts),
        cmocka_unit_test(test_flipped_bytes),
        cmocka_unit_test(test_many_files),
    };

    return cmocka_run_group_tests(tests, setup, scratch_teardown);
}
