#include "made_tree.h"

#include <fcntl.h>
#include <ftw.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "made_acl.h"
#include "check.h"

/* ---- contents ---- */

static uint64_t word_at(uint64_t seed, uint64_t index)
{
    uint64_t x = (seed + 1) * 0x9e3779b97f4a7c15u + index * 0xbf58476d1ce4e5b9u;
    x = (x ^ (x >> 31)) * 0x94d049bb133111ebu;
    return x ^ (x >> 29);
}

void made_fill(uint64_t seed, uint64_t offset, void *buffer, size_t size)
{
    unsigned char *to = buffer;
    while (size > 0) {
        uint64_t word = word_at(seed, offset / 8);
        size_t skip = offset % 8, length = 8 - skip < size ? 8 - skip : size;
        memcpy(to, (unsigned char *)&word + skip, length);
        to += length, offset += length, size -= length;
    }
}

bool made_matches(uint64_t seed, uint64_t offset, const void *buffer, size_t size)
{
    unsigned char *expected = malloc(size + 1);
    if (!expected) return false;
    made_fill(seed, offset, expected, size);
    bool is_same = memcmp(expected, buffer, size) == 0;
    free(expected);
    return is_same;
}

void made_file(const char *path, uint64_t seed, uint64_t size, mode_t mode)
{
    static unsigned char buffer[1 << 18];
    int fd = must(open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0600));
    for (uint64_t offset = 0; offset < size;) {
        size_t length = size - offset < sizeof(buffer) ? (size_t)(size - offset) : sizeof(buffer);
        made_fill(seed, offset, buffer, length);
        must_hold(must(write(fd, buffer, length)) == (ssize_t)length, "short write to %s", path);
        offset += length;
    }
    must(fchmod(fd, mode));
    must(close(fd));
}

void made_check_file(const char *path, uint64_t seed, uint64_t size)
{
    static unsigned char buffer[1 << 18];
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    must_hold(fd >= 0, "%s: %s", path, strerror(errno));
    uint64_t offset = 0;
    for (ssize_t length; (length = must(read(fd, buffer, sizeof(buffer)))) > 0; offset += (uint64_t)length)
        must_hold(made_matches(seed, offset, buffer, (size_t)length), "%s: contents near offset %lu", path, offset);
    must(close(fd));
    must_hold(offset == size, "%s: %lu bytes, not %lu", path, offset, size);
}

/* ---- parts of the tree, each made in the working directory ---- */

static void make_directories(void)
{
    static const char *const names[] = {
        "sizes",         "sparse", "links",    "links/sub",  "symlinks",   "special", "modes",
        "modes/sticky",  "xattrs", "acls",     "names",      "deep",       "many",    "empty",
        "tree",          "tree/a", "tree/a/b", "tree/a/b/c", "tree/empty", "victims", "victims/full",
        "victims/empty", "boot",   "etc",      "usr",        "usr/bin"};
    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) must(mkdir(names[i], 0755));
}

static void make_sizes(void)
{
    static const uint64_t sizes[] = {0,     1,     100,   4095,   4096,   4097,      16383,
                                     16384, 16385, 65536, 131071, 131073, MADE_LARGE};
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        char name[40];
        snprintf(name, sizeof(name), "sizes/%lu", sizes[i]);
        made_file(name, sizes[i], sizes[i], 0644);
    }
}

static void make_one_sparse(const char *name, off_t size, off_t at, off_t length)
{
    int fd = must(open(name, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0644));
    char block[4096];
    must(ftruncate(fd, size));
    for (off_t offset = at; offset < at + length; offset += 4096) {
        made_fill(7, (uint64_t)offset, block, sizeof(block));
        must(pwrite(fd, block, sizeof(block), offset));
    }
    must(close(fd));
}

static void make_sparse(void)
{
    make_one_sparse("sparse/head", 4 << 20, 3 << 20, 1 << 20);
    make_one_sparse("sparse/middle", 8 << 20, 4 << 20, 1 << 16);
    make_one_sparse("sparse/tail", 4 << 20, 0, 1 << 16);
    make_one_sparse("sparse/all", 16 << 20, 0, 0);
}

static void make_links(void)
{
    made_file("links/a", 11, 30000, 0644);
    must(link("links/a", "links/b"));
    must(link("links/a", "links/sub/c"));
    made_file("links/small_1", 12, 50, 0600);
    must(link("links/small_1", "links/small_2"));
    must(symlink("a", "links/symlink_1"));
    must(link("links/symlink_1", "links/symlink_2"));
}

static void make_symlinks(void)
{
    char target[4096];
    for (size_t i = 0; i < sizeof(target) - 1; i++) target[i] = i % 100 == 50 ? '/' : (char)('a' + i % 26);
    target[sizeof(target) - 1] = '\0';
    must(symlink(target, "symlinks/long"));
    must(symlink("../sizes/100", "symlinks/relative"));
    must(symlink("/etc/hostname", "symlinks/absolute"));
    must(symlink("nowhere", "symlinks/dangling"));
    must(symlink("loop", "symlinks/loop"));
    must(symlink("../tree", "symlinks/directory"));
    must(lchown("symlinks/dangling", MADE_UID, MADE_GID));
}

static void make_special(void)
{
    must(mknod("special/fifo", S_IFIFO | 0640, 0));
    must(mknod("special/socket", S_IFSOCK | 0755, 0));
    must(mknod("special/null", S_IFCHR | 0666, makedev(1, 3)));
    must(chmod("special/null", 0666));
    must(mknod("special/block", S_IFBLK | 0660, makedev(7, 300)));
}

static void make_modes(void)
{
    static const struct {
        const char *name;
        mode_t mode;
        uid_t uid;
        gid_t gid;
    } files[] = {{"modes/setuid", 04755, 0, 0},
                 {"modes/setgid", 02755, 0, MADE_GID},
                 {"modes/both", 06777, MADE_UID, MADE_GID},
                 {"modes/user", 0640, MADE_UID, MADE_GID},
                 {"modes/none", 0000, 0, 0},
                 {"modes/large_ids", 0644, 3000000000u, 4000000000u},
                 {"modes/setgid_no_exec", 02644, MADE_UID, MADE_GID}};
    for (size_t i = 0; i < sizeof(files) / sizeof(files[0]); i++) {
        made_file(files[i].name, i, 300, 0600);
        must(chown(files[i].name, files[i].uid, files[i].gid));
        must(chmod(files[i].name, files[i].mode));
    }
    must(chmod("modes/sticky", 01777));
    made_file("modes/sticky/of_root", 3, 10, 0666);
    must(mkdir("modes/setgid_directory", 0777));
    must(chown("modes/setgid_directory", 0, MADE_GID));
    must(chmod("modes/setgid_directory", 02777));
    must(mkdir("modes/of_user", 0755));
    must(chown("modes/of_user", MADE_UID, MADE_GID));
}

static void make_xattrs(void)
{
    struct vfs_cap_data capability = {.magic_etc = htole32(VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE)};
    capability.data[0].permitted = htole32(1u << CAP_NET_RAW);
    char value[3000];
    made_fill(21, 0, value, sizeof(value));
    made_file("xattrs/file", 21, 5000, 0644);
    must(setxattr("xattrs/file", "user.one", "1", 1, 0));
    must(setxattr("xattrs/file", "user.empty", "", 0, 0));
    must(setxattr("xattrs/file", "user.long", value, sizeof(value), 0));
    must(setxattr("xattrs/file", "trusted.two", "\0\xff", 2, 0));
    made_file("xattrs/capable", 22, 700, 0755);
    must(setxattr("xattrs/capable", "security.capability", &capability, sizeof(capability), 0));
    must(mkdir("xattrs/directory", 0755));
    must(setxattr("xattrs/directory", "user.of_directory", "yes", 3, 0));
    must(symlink("file", "xattrs/symlink"));
    must(lsetxattr("xattrs/symlink", "trusted.of_symlink", "yes", 3, 0));
    made_file("xattrs/many", 23, 10, 0644);
    for (int i = 0; i < 40; i++) {
        char name[32];
        snprintf(name, sizeof(name), "user.number_%02d", i);
        must(setxattr("xattrs/many", name, name, strlen(name), 0));
    }
}

static void make_acls(void)
{
    struct made_acl acl;
    size_t size = made_acl_for_user(&acl, MADE_UID, 6, 4, 6, 0);
    made_file("acls/file", 31, 200, 0640);
    must(setxattr("acls/file", ACL_ACCESS_NAME, &acl, size, 0));
    size = made_acl_for_user(&acl, MADE_UID, 7, 5, 7, 0);
    must(mkdir("acls/directory", 0750));
    must(setxattr("acls/directory", ACL_ACCESS_NAME, &acl, size, 0));
    must(setxattr("acls/directory", ACL_DEFAULT_NAME, &acl, size, 0));
}

static void make_names(void)
{
    char path[6 + 255 + 1] = "names/";
    for (int i = 0; i < 255; i++) path[6 + i] = (char)(i % 255 + 1 == '/' ? '\n' : i % 255 + 1);
    made_file(path, 41, 60, 0644);
    memset(path + 6, 0xff, 255);
    must(mkdir(path, 0755));
    must(symlink(" ", "names/ "));
    must(mkdir("names/...", 0755));
    made_file("names/\xc3\xa4", 42, 1, 0644);
    made_file("names/a\xcc\x88", 43, 1, 0644);
}

static void make_deep(void)
{
    char path[256] = "deep";
    for (int i = 0; i < MADE_DEEP; i++) {
        strcat(path, "/d");
        must(mkdir(path, 0755));
    }
    strcat(path, "/file");
    made_file(path, 51, 500, 0644);
}

static void make_many(void)
{
    for (int i = 0; i < MADE_MANY; i++) {
        char path[64];
        snprintf(path, sizeof(path), "many/entry_%04d", i);
        if (i % 10 == 7)
            must(mkdir(path, 0755));
        else if (i % 10 == 3)
            must(symlink("entry_0000", path));
        else
            made_file(path, (uint64_t)i, (uint64_t)(i % 5) * 20, 0644);
    }
}

static void make_ordinary(void)
{
    made_file("tree/one", 61, 1000, 0644);
    made_file("tree/a/two", 62, 20000, 0644);
    made_file("tree/a/b/three", 63, 10, 0644);
    made_file("tree/a/b/c/four", 64, 200000, 0644);
    made_file("victims/file", 65, 4000, 0644);
    made_file("victims/other", 66, 40000, 0644);
    made_file("victims/full/inside", 67, 400, 0644);
    made_file("boot/vmlinuz", 68, 300000, 0644);
    made_file("boot/config.txt", 69, 300, 0644);
    made_file("etc/hostname", 70, 20, 0644);
    made_file("usr/bin/tool", 71, 90000, 0755);
}

void made_tree(const char *path)
{
    int back = must(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    must(chdir(path));
    make_directories();
    make_sizes();
    make_sparse();
    make_links();
    make_symlinks();
    make_special();
    make_modes();
    make_xattrs();
    make_acls();
    make_names();
    make_deep();
    make_many();
    make_ordinary();
    must(fchdir(back));
    must(close(back));
}

/* ---- times ---- */

static size_t times_base;

static int set_time(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    (void)st, (void)type, (void)ftw;
    uint64_t hash = 14695981039346656037u;
    for (const char *c = path + times_base; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
    struct timespec time = {.tv_sec = (time_t)(315532800 + hash % 631152000), .tv_nsec = (long)(hash / 7 % 1000000000)};
    struct timespec times[2] = {time, time};
    return utimensat(AT_FDCWD, path, times, AT_SYMLINK_NOFOLLOW);
}

void made_tree_set_times(const char *path)
{
    times_base = strlen(path);
    must(nftw(path, set_time, 20, FTW_DEPTH | FTW_PHYS));
}
