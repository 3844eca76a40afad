/* Attributes: times, owners, set-id bits, extended attributes, access control lists; of the image and new ones. */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/falloc.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_acl.h"
#include "made_tree.h"

static const char *at(const char *name)
{
    return harness_at(0, "%s", name);
}
static void make(const char *name, size_t size)
{
    made_file(at(name), 1, size, 0644);
}

static struct stat stat_of(const char *name)
{
    struct stat st;
    must_hold(lstat(at(name), &st) == 0, "%s: %s", name, strerror(errno));
    return st;
}

static mode_t mode_of(const char *name)
{
    return stat_of(name).st_mode & 07777;
}

/* ---- times ---- */

static int64_t nanoseconds(struct timespec t)
{
    return t.tv_sec * 1000000000LL + t.tv_nsec;
}

/* Longer than the kernel's clock for time stamps needs to go on. */
static void let_time_pass(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 15000000}, NULL);
}

enum stamp { NONE = 0, CTIME = 1, MTIME = 2, BOTH = 3 };

struct change {
    const char *name;
    void (*make)(const char *file);
    enum stamp file, parent; /* the stamps that move on; the others stay */
};

static void change_mode(const char *file)
{
    must(chmod(at(file), 0640));
}
static void change_owner(const char *file)
{
    must(chown(at(file), MADE_UID, MADE_GID));
}
static void change_nothing_of_owner(const char *file)
{
    must(chown(at(file), stat_of(file).st_uid, (gid_t)-1));
}
static void set_attribute(const char *file)
{
    must(setxattr(at(file), "user.change", "x", 1, 0));
}
static void remove_attribute(const char *file)
{
    must(removexattr(at(file), "user.change"));
}
static void add_link(const char *file)
{
    must(link(at(file), at("stamps/link")));
}
static void remove_link(const char *file)
{
    (void)file;
    must(unlink(at("stamps/link")));
}

static void write_byte(const char *file)
{
    int fd = must(open(at(file), O_WRONLY | O_CLOEXEC));
    must(pwrite(fd, "x", 1, 3));
    must(close(fd));
}

static void write_nothing(const char *file)
{
    int fd = must(open(at(file), O_WRONLY | O_CLOEXEC));
    must(pwrite(fd, "x", 0, 3));
    must(close(fd));
}

static void map_and_write(const char *file)
{
    int fd = must(open(at(file), O_RDWR | O_CLOEXEC));
    char *map = mmap(NULL, 10, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(map, MAP_FAILED);
    map[5] = '#';
    must(msync(map, 10, MS_SYNC));
    must(munmap(map, 10));
    must(close(fd));
}

static void shorten(const char *file)
{
    must(truncate(at(file), stat_of(file).st_size - 1));
}
static void empty(const char *file)
{
    must(close(must(open(at(file), O_WRONLY | O_TRUNC | O_CLOEXEC))));
}

static void allocate(const char *file)
{
    int fd = must(open(at(file), O_WRONLY | O_CLOEXEC));
    must(fallocate(fd, 0, 0, stat_of(file).st_size + 100));
    must(close(fd));
}

static void allocate_behind_the_end(const char *file)
{
    int fd = must(open(at(file), O_WRONLY | O_CLOEXEC));
    must(fallocate(fd, FALLOC_FL_KEEP_SIZE, stat_of(file).st_size + 5000, 100));
    must(close(fd));
}

static void zero_behind_the_end(const char *file)
{
    int fd = must(open(at(file), O_WRONLY | O_CLOEXEC));
    must(fallocate(fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, stat_of(file).st_size + 5000, 100));
    must(close(fd));
}

static void punch(const char *file)
{
    int fd = must(open(at(file), O_WRONLY | O_CLOEXEC));
    must(fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 2, 50));
    must(close(fd));
}

static void read_all(const char *file)
{
    char buffer[512];
    int fd = must(open(at(file), O_RDONLY | O_CLOEXEC));
    while (must(read(fd, buffer, sizeof(buffer))) > 0) {}
    must(close(fd));
}

static void rename_here(const char *file)
{
    must(rename(at(file), at("stamps/renamed")));
    must(rename(at("stamps/renamed"), at(file)));
}

static void set_only_access_time(const char *file)
{
    struct timespec times[2] = {{.tv_sec = 1000}, {.tv_nsec = UTIME_OMIT}};
    must(utimensat(AT_FDCWD, at(file), times, 0));
}

static const struct change changes[] = {
    {"chmod", change_mode, CTIME, NONE},
    {"chown", change_owner, CTIME, NONE},
    {"chown to the same owner", change_nothing_of_owner, CTIME, NONE},
    {"setxattr", set_attribute, CTIME, NONE},
    {"removexattr", remove_attribute, CTIME, NONE},
    {"link", add_link, CTIME, BOTH},
    {"unlink of another link", remove_link, CTIME, BOTH},
    {"write", write_byte, BOTH, NONE},
    {"write of nothing", write_nothing, NONE, NONE},
    {"shared mapping", map_and_write, BOTH, NONE},
    {"truncate", shorten, BOTH, NONE},
    {"fallocate", allocate, BOTH, NONE},
    {"fallocate behind the end that keeps the size", allocate_behind_the_end, BOTH, NONE},
    {"zeroes behind the end that keep the size", zero_behind_the_end, BOTH, NONE},
    {"a hole punched", punch, BOTH, NONE},
    {"rename", rename_here, CTIME, BOTH},
    {"utimensat of the access time", set_only_access_time, CTIME, NONE},
    {"read", read_all, NONE, NONE},
    {"O_TRUNC", empty, BOTH, NONE},
};

static void check_stamps(const char *change, const char *whose, enum stamp expected, struct stat before,
                         struct stat after)
{
    bool is_newer_ctime = nanoseconds(after.st_ctim) > nanoseconds(before.st_ctim);
    bool is_newer_mtime = nanoseconds(after.st_mtim) > nanoseconds(before.st_mtim);
    bool is_same_mtime = nanoseconds(after.st_mtim) == nanoseconds(before.st_mtim);
    must_hold(is_newer_ctime == !!(expected & CTIME), "%s: ctime of the %s", change, whose);
    must_hold(expected & MTIME ? is_newer_mtime : is_same_mtime, "%s: mtime of the %s", change, whose);
}

static void check_changes(const char *file)
{
    for (size_t i = 0; i < sizeof(changes) / sizeof(changes[0]); i++) {
        struct stat file_before = stat_of(file), parent_before = stat_of("stamps");
        let_time_pass();
        changes[i].make(file);
        struct stat file_after = stat_of(file), parent_after = stat_of("stamps");
        check_stamps(changes[i].name, "file", changes[i].file, file_before, file_after);
        check_stamps(changes[i].name, "directory", changes[i].parent, parent_before, parent_after);
        harness_drop_caches();
        struct stat later = stat_of(file);
        must_hold(nanoseconds(later.st_ctim) == nanoseconds(file_after.st_ctim), "%s: another ctime later",
                  changes[i].name);
        must_hold(nanoseconds(later.st_mtim) == nanoseconds(file_after.st_mtim), "%s: another mtime later",
                  changes[i].name);
    }
}

static void test_each_change_of_a_new_file_moves_its_times(void **state)
{
    (void)state;
    make("stamps/new", 5000);
    check_changes("stamps/new");
}

static void test_each_change_of_a_file_of_the_image_moves_its_times(void **state)
{
    (void)state;
    must(rename(at("sizes/16384"), at("stamps/small_of_image")));
    check_changes("stamps/small_of_image");
    must(rename(at("boot/vmlinuz"), at("stamps/of_image")));
    check_changes("stamps/of_image");
}

static void in_parent(int step)
{
    switch (step) {
    case 0:
        make("empty/file", 1);
        break;
    case 1:
        must(mkdir(at("empty/directory"), 0755));
        break;
    case 2:
        must(symlink("x", at("empty/symlink")));
        break;
    case 3:
        must(mknod(at("empty/fifo"), S_IFIFO | 0600, 0));
        break;
    case 4:
        must(rename(at("empty/file"), at("empty/file_2")));
        break;
    case 5:
        must(unlink(at("empty/symlink")));
        break;
    case 6:
        must(rmdir(at("empty/directory")));
        break;
    case 7:
        must(rename(at("empty/file_2"), at("stamps/file_2")));
        break;
    case 8:
        must(rename(at("stamps/file_2"), at("empty/file_2")));
        break;
    case 9:
        must(rename(at("empty/fifo"), at("empty/file_2")));
        break;
    default:
        fail();
    }
}

static void test_each_change_of_a_directory_of_the_image_moves_its_times(void **state)
{
    (void)state;
    for (int step = 0; step < 10; step++) {
        struct stat before = stat_of("empty");
        let_time_pass();
        in_parent(step);
        char name[32];
        snprintf(name, sizeof(name), "step %d", step);
        check_stamps(name, "directory", BOTH, before, stat_of("empty"));
    }
}

static void test_moving_a_directory_moves_both_parents_times(void **state)
{
    (void)state;
    struct stat tree = stat_of("tree"), stamps = stat_of("stamps"), inside = stat_of("tree/a/b");
    let_time_pass();
    must(rename(at("tree/a"), at("stamps/a")));
    check_stamps("rename", "old parent", BOTH, tree, stat_of("tree"));
    check_stamps("rename", "new parent", BOTH, stamps, stat_of("stamps"));
    check_stamps("rename", "directory inside", NONE, inside, stat_of("stamps/a/b"));
    must(rename(at("stamps/a"), at("tree/a")));
}

static void test_times_are_kept_to_the_nanosecond_and_far_from_now(void **state)
{
    (void)state;
    static const struct timespec times[] = {{0, 0},          {-1, 999999999}, {1, 1}, {2147483648, 123456789},
                                            {4294967297, 5}, {-2000000000, 7}};
    static const char *const names[] = {"times_of_new", "sizes/4096", "tree/a/b", "symlinks/relative"};
    make("times_of_new", 1);
    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++)
        for (int j = 0; j < 4; j++) {
            struct timespec both[2] = {times[(i + 1) % 6], times[i]};
            must(utimensat(AT_FDCWD, at(names[j]), both, AT_SYMLINK_NOFOLLOW));
            if (i % 3 == 0) harness_drop_caches();
            struct stat st = stat_of(names[j]);
            must_hold(nanoseconds(st.st_mtim) == nanoseconds(times[i]), "mtime %ld.%09ld", st.st_mtim.tv_sec,
                      st.st_mtim.tv_nsec);
            must_hold(nanoseconds(st.st_atim) == nanoseconds(both[0]), "atime %ld.%09ld", st.st_atim.tv_sec,
                      st.st_atim.tv_nsec);
        }
    struct timespec last = times[5];
    harness_remount();
    must_hold(nanoseconds(stat_of("tree/a/b").st_mtim) == nanoseconds(last), "another mtime after a remount");
}

static void test_new_files_have_the_time_of_now(void **state)
{
    (void)state;
    struct timespec before, after;
    clock_gettime(CLOCK_REALTIME_COARSE, &before);
    make("now", 10);
    struct stat st = stat_of("now");
    clock_gettime(CLOCK_REALTIME, &after);
    must_hold(nanoseconds(st.st_mtim) >= nanoseconds(before) - 20000000 &&
                  nanoseconds(st.st_mtim) <= nanoseconds(after),
              "mtime");
    must_hold(nanoseconds(st.st_ctim) >= nanoseconds(before) - 20000000 &&
                  nanoseconds(st.st_ctim) <= nanoseconds(after),
              "ctime");
}

static int touch_as_user(void *data)
{
    return utimensat(AT_FDCWD, at(data), NULL, 0) < 0 ? errno : 0;
}

static void test_whoever_may_write_may_set_the_time_to_now(void **state)
{
    (void)state;
    make("touchable", 1);
    must(chmod(at("touchable"), 0666));
    must(utimensat(AT_FDCWD, at("touchable"), (struct timespec[2]){{.tv_sec = 5}, {.tv_sec = 5}}, 0));
    assert_int_equal(harness_as(MADE_UID, MADE_GID, touch_as_user, "touchable"), 0);
    must_hold(stat_of("touchable").st_mtim.tv_sec > MADE_TIMES_END, "mtime");
}

/* ---- set-id bits and capabilities ---- */

static int write_as_user(void *data)
{
    int fd = open(at(data), O_WRONLY | O_CLOEXEC);
    int error = fd < 0 || pwrite(fd, "x", 1, 0) != 1 ? errno : 0;
    if (fd >= 0) close(fd);
    return error;
}

static int truncate_as_user(void *data)
{
    return truncate(at(data), 5) < 0 ? errno : 0;
}

static int allocate_as_user(void *data)
{
    int fd = open(at(data), O_WRONLY | O_CLOEXEC);
    return fd < 0 || fallocate(fd, 0, 0, 400) < 0 ? errno : 0;
}

static void set_mode(const char *name, uid_t uid, mode_t mode)
{
    must(chown(at(name), uid, MADE_GID));
    must(chmod(at(name), mode));
    assert_int_equal(mode_of(name), mode);
}

static int chown_to_nobody_as_user(void *data)
{
    return chown(at(data), -1, -1) < 0 ? errno : 0;
}

static void check_set_id_cleared(const char *name)
{
    set_mode(name, 0, 06777);
    assert_int_equal(harness_as(MADE_UID + 5, MADE_UID + 5, write_as_user, (char *)name), 0);
    must_hold(mode_of(name) == 0777, "mode %o after a write", mode_of(name));
    harness_drop_caches();
    must_hold(mode_of(name) == 0777, "mode %o after a write, later", mode_of(name));
    set_mode(name, 0, 06777);
    assert_int_equal(harness_as(MADE_UID + 5, MADE_UID + 5, truncate_as_user, (char *)name), 0);
    must_hold(mode_of(name) == 0777, "mode %o after a truncate", mode_of(name));
    set_mode(name, 0, 06777);
    assert_int_equal(harness_as(MADE_UID + 5, MADE_UID + 5, allocate_as_user, (char *)name), 0);
    must_hold(mode_of(name) == 0777, "mode %o after a fallocate", mode_of(name));
    set_mode(name, 0, 06777);
    must(chown(at(name), MADE_UID, -1));
    must_hold(mode_of(name) == 0777, "mode %o after a chown", mode_of(name));
    set_mode(name, 0, 06777);
    harness_as(MADE_UID + 5, MADE_UID + 5, chown_to_nobody_as_user, (char *)name); /* EPERM, where the kernel looks */
    must_hold(mode_of(name) == 06777, "mode %o after another's chown to nobody", mode_of(name));
    must(chown(at(name), -1, -1));
    must_hold(mode_of(name) == 0777, "mode %o after a chown to nobody", mode_of(name));
}

static void test_set_id_bits_go_when_others_write_and_with_a_new_owner(void **state)
{
    (void)state;
    make("set_id", 300);
    check_set_id_cleared("set_id");
    check_set_id_cleared("modes/setuid");
}

static void test_set_id_bits_stay_when_root_writes(void **state)
{
    (void)state;
    set_mode("modes/both", 0, 06777);
    assert_int_equal(write_as_user("modes/both"), 0);
    assert_int_equal(mode_of("modes/both"), 06777);
}

static void test_the_set_gid_bit_without_group_execution_is_no_privilege(void **state)
{
    (void)state;
    set_mode("modes/setgid_no_exec", 0, 02666);
    must(chown(at("modes/setgid_no_exec"), MADE_UID, -1));
    assert_int_equal(mode_of("modes/setgid_no_exec"), 02666);
}

static int chmod_as_user(void *data)
{
    return chmod(at(data), 02755) < 0 ? errno : 0;
}

static void test_the_set_gid_bit_is_not_for_groups_one_is_not_in(void **state)
{
    (void)state;
    make("foreign_group", 1);
    must(chown(at("foreign_group"), MADE_UID, 0));
    assert_int_equal(harness_as(MADE_UID, MADE_GID, chmod_as_user, "foreign_group"), 0);
    assert_int_equal(mode_of("foreign_group"), 0755);
}

static bool has_capability(const char *name)
{
    struct vfs_cap_data capability;
    return getxattr(at(name), "security.capability", &capability, sizeof(capability)) == XATTR_CAPS_SZ_2;
}

static void add_capability(const char *name)
{
    struct vfs_cap_data capability = {.magic_etc = htole32(VFS_CAP_REVISION_2 | VFS_CAP_FLAGS_EFFECTIVE)};
    capability.data[0].permitted = htole32(1u << CAP_NET_RAW);
    must(setxattr(at(name), "security.capability", &capability, XATTR_CAPS_SZ_2, 0));
    assert_true(has_capability(name));
}

static void test_capabilities_go_with_a_write_and_with_a_new_owner(void **state)
{
    (void)state;
    make("capable", 10);
    add_capability("capable");
    assert_true(has_capability("xattrs/capable"));
    assert_int_equal(write_as_user("capable"), 0);
    assert_int_equal(write_as_user("xattrs/capable"), 0);
    assert_false(has_capability("capable"));
    assert_false(has_capability("xattrs/capable"));
    add_capability("xattrs/capable");
    must(chown(at("xattrs/capable"), MADE_UID, -1));
    assert_false(has_capability("xattrs/capable"));
    harness_remount();
    assert_false(has_capability("xattrs/capable"));
}

/* ---- extended attributes ---- */

static void check_value(const char *name, const char *attribute, uint64_t seed, size_t size)
{
    static char value[65536];
    ssize_t found = lgetxattr(at(name), attribute, value, sizeof(value));
    must_hold(found == (ssize_t)size, "%s of %s: %zd bytes: %s", attribute, name, found, strerror(errno));
    assert_true(made_matches(seed, 0, value, size));
    assert_int_equal(must(lgetxattr(at(name), attribute, NULL, 0)), size);
}

static void set_value(const char *name, const char *attribute, uint64_t seed, size_t size, int flags)
{
    static char value[65536];
    made_fill(seed, 0, value, size);
    must_hold(lsetxattr(at(name), attribute, value, size, flags) == 0, "%s of %s: %s", attribute, name,
              strerror(errno));
}

static int count_attributes(const char *name)
{
    char names[8192];
    ssize_t size = must(llistxattr(at(name), names, sizeof(names)));
    int count = 0;
    for (const char *c = names; c < names + size; c += strlen(c) + 1) count++;
    return count;
}

static void check_kept_attributes(void)
{
    check_value("xattrs/file", "user.one", 1, 100);
    check_value("xattrs/file", "security.made", 2, 200);
    check_value("xattrs/symlink", "trusted.made", 4, 50);
    check_value("xattrs/directory", "trusted.made", 3, 300);
    check_value("xattrs/file", "user.empty", 0, 0);
    must_fail(ENODATA, getxattr(at("xattrs/file"), "user.long", NULL, 0));
    assert_int_equal(count_attributes("xattrs/file"), 4);
    assert_int_equal(count_attributes("xattrs/many"), 40);
    assert_int_equal(count_attributes("attributed"), 60);
    check_value("attributed", "user.attribute_59", 59, 20);
}

static void test_attributes_are_added_replaced_removed_and_kept(void **state)
{
    (void)state;
    set_value("xattrs/file", "user.one", 1, 100, XATTR_REPLACE);
    set_value("xattrs/file", "security.made", 2, 200, XATTR_CREATE);
    set_value("xattrs/directory", "trusted.made", 3, 300, 0);
    set_value("xattrs/symlink", "trusted.made", 4, 50, 0);
    must(removexattr(at("xattrs/file"), "user.long"));
    must(removexattr(at("xattrs/many"), "user.number_07"));
    must_fail(ENODATA, removexattr(at("xattrs/many"), "user.number_07"));
    set_value("xattrs/many", "user.number_07", 7, 10, XATTR_CREATE);
    make("attributed", 10);
    for (uint64_t i = 0; i < 60; i++) {
        char name[32];
        snprintf(name, sizeof(name), "user.attribute_%02lu", i);
        set_value("attributed", name, i, 20, XATTR_CREATE);
    }
    check_kept_attributes();
    harness_drop_caches();
    check_kept_attributes();
    harness_remount();
    check_kept_attributes();
}

static void test_attributes_of_64_kibibytes(void **state)
{
    (void)state;
    harness_needs_mount(); /* ext4 has room for 4 KiB */
    static const char *const attributes[] = {"user.large", "trusted.large", "security.large"};
    for (uint64_t i = 0; i < 3; i++) {
        set_value("xattrs/file", attributes[i], i, 65536, 0);
        set_value("xattrs/directory", attributes[i], i + 10, 65536, 0);
    }
    harness_remount();
    for (uint64_t i = 0; i < 3; i++) {
        check_value("xattrs/file", attributes[i], i, 65536);
        check_value("xattrs/directory", attributes[i], i + 10, 65536);
        must(removexattr(at("xattrs/file"), attributes[i]));
    }
}

static void test_attribute_names_of_255_bytes(void **state)
{
    (void)state;
    char name[256] = "user.";
    memset(name + 5, 'n', 250);
    set_value("sizes/65536", name, 9, 30, 0);
    harness_drop_caches();
    check_value("sizes/65536", name, 9, 30);
}

/* ---- access control lists ---- */

static int may_write_as_user(void *data)
{
    return open(at(data), O_RDWR | O_CLOEXEC) < 0 ? errno : 0;
}
static int user_writes(const char *name)
{
    return harness_as(MADE_UID, MADE_GID, may_write_as_user, (char *)name);
}

static void check_enforced(const char *name)
{
    assert_int_equal(user_writes(name), 0);
    assert_int_equal(harness_as(MADE_UID + 1, MADE_GID, may_write_as_user, (char *)name), EACCES);
    must(chmod(at(name), 0640));
    must_hold(mode_of(name) == 0640, "mode %o", mode_of(name));
    assert_int_equal(user_writes(name), EACCES);
    must(chmod(at(name), 0660));
    assert_int_equal(user_writes(name), 0);
    harness_remount();
    assert_int_equal(user_writes(name), 0);
    must(removexattr(at(name), ACL_ACCESS_NAME));
    assert_int_equal(user_writes(name), EACCES);
    must_fail(ENODATA, getxattr(at(name), ACL_ACCESS_NAME, NULL, 0));
}

static void test_a_list_lets_a_user_in_and_the_mask_keeps_it_out(void **state)
{
    (void)state;
    struct made_acl acl;
    make("listed", 100);
    must(chmod(at("listed"), 0600));
    assert_int_equal(user_writes("listed"), EACCES);
    must(setxattr(at("listed"), ACL_ACCESS_NAME, &acl, made_acl_for_user(&acl, MADE_UID, 6, 4, 6, 0), 0));
    assert_int_equal(mode_of("listed"), 0760);
    check_enforced("listed");
}

static void test_a_list_of_the_image_is_enforced(void **state)
{
    (void)state;
    check_enforced("acls/file");
}

static void check_list(const char *name, const char *kind, const struct made_acl *expected, size_t size)
{
    struct made_acl found;
    ssize_t length = getxattr(at(name), kind, &found, sizeof(found));
    must_hold(length == (ssize_t)size, "%s of %s: %zd bytes", kind, name, length);
    for (size_t i = 0; i < (size - 4) / sizeof(found.entries[0]); i++) {
        assert_int_equal(found.entries[i].tag, expected->entries[i].tag);
        must_hold(found.entries[i].permissions == expected->entries[i].permissions, "%s of %s: entry %zu has %o", kind,
                  name, i, found.entries[i].permissions);
    }
}

static void make_below(const char *parent, const char *name, mode_t mode, bool is_directory)
{
    const char *path = harness_at(0, "%s/%s", parent, name);
    umask(0077);
    if (is_directory)
        must(mkdir(path, mode));
    else
        must(close(must(open(path, O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, mode))));
    umask(0022);
}

static const char *below(const char *parent, const char *name)
{
    return harness_at(0, "%s/%s", parent, name) + strlen(harness_root(0)) + 1;
}

static void check_inheritance(const char *parent)
{
    struct made_acl expected, restricted;
    size_t size = made_acl_for_user(&expected, MADE_UID, 7, 5, 7, 0);
    make_below(parent, "directory", 0777, true);
    make_below(parent, "file", 0640, false);
    must(mknod(harness_at(0, "%s/node", parent), S_IFREG | 0640, 0));
    must(symlink("x", harness_at(0, "%s/symlink", parent)));
    harness_drop_caches();
    check_list(below(parent, "directory"), ACL_DEFAULT_NAME, &expected, size);
    check_list(below(parent, "directory"), ACL_ACCESS_NAME, &expected, size);
    made_acl_for_user(&restricted, MADE_UID, 7, 5, 4, 0);
    restricted.entries[0].permissions = htole16(6);
    check_list(below(parent, "file"), ACL_ACCESS_NAME, &restricted, size);
    check_list(below(parent, "node"), ACL_ACCESS_NAME, &restricted, size);
    must_hold(mode_of(below(parent, "file")) == 0640, "mode %o", mode_of(below(parent, "file")));
    must_hold(mode_of(below(parent, "directory")) == 0770, "mode %o", mode_of(below(parent, "directory")));
    must_fail(ENODATA, getxattr(at(below(parent, "file")), ACL_DEFAULT_NAME, NULL, 0));
}

static void test_a_default_list_is_inherited_in_a_directory_of_the_image(void **state)
{
    (void)state;
    check_inheritance("acls/directory");
}

static void test_a_default_list_is_inherited_in_a_new_directory(void **state)
{
    (void)state;
    struct made_acl acl;
    must(mkdir(at("default_list"), 0755));
    must(setxattr(at("default_list"), ACL_DEFAULT_NAME, &acl, made_acl_for_user(&acl, MADE_UID, 7, 5, 7, 0), 0));
    assert_int_equal(mode_of("default_list"), 0755);
    check_inheritance("default_list");
    check_inheritance("default_list/directory");
}

static void test_without_a_default_list_the_umask_counts(void **state)
{
    (void)state;
    make_below("stamps", "masked_file", 0666, false);
    make_below("stamps", "masked_directory", 0777, true);
    assert_int_equal(mode_of("stamps/masked_file"), 0600);
    assert_int_equal(mode_of("stamps/masked_directory"), 0700);
}

static void test_a_list_that_says_no_more_than_the_mode_becomes_the_mode(void **state)
{
    (void)state;
    struct made_acl acl = {.version = htole32(2),
                           .entries = {{htole16(ACL_OWNER), htole16(6), ACL_NO_ID},
                                       {htole16(ACL_GROUP_OWNER), htole16(4), ACL_NO_ID},
                                       {htole16(ACL_OTHER), htole16(1), ACL_NO_ID}}};
    make("minimal_list", 1);
    must(setxattr(at("minimal_list"), ACL_ACCESS_NAME, &acl, 4 + 3 * sizeof(acl.entries[0]), 0));
    assert_int_equal(mode_of("minimal_list"), 0641);
    must_fail(ENODATA, getxattr(at("minimal_list"), ACL_ACCESS_NAME, NULL, 0));
}

static void test_only_directories_have_default_lists(void **state)
{
    (void)state;
    struct made_acl acl;
    size_t size = made_acl_for_user(&acl, MADE_UID, 7, 5, 7, 0);
    make("no_default", 1);
    must_fail(EACCES, setxattr(at("no_default"), ACL_DEFAULT_NAME, &acl, size, 0));
}

static int setup(void **state)
{
    harness_setup(state);
    must(mkdir(at("stamps"), 0777));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_each_change_of_a_new_file_moves_its_times),
        cmocka_unit_test(test_each_change_of_a_file_of_the_image_moves_its_times),
        cmocka_unit_test(test_each_change_of_a_directory_of_the_image_moves_its_times),
        cmocka_unit_test(test_moving_a_directory_moves_both_parents_times),
        cmocka_unit_test(test_times_are_kept_to_the_nanosecond_and_far_from_now),
        cmocka_unit_test(test_new_files_have_the_time_of_now),
        cmocka_unit_test(test_whoever_may_write_may_set_the_time_to_now),
        cmocka_unit_test(test_set_id_bits_go_when_others_write_and_with_a_new_owner),
        cmocka_unit_test(test_set_id_bits_stay_when_root_writes),
        cmocka_unit_test(test_the_set_gid_bit_without_group_execution_is_no_privilege),
        cmocka_unit_test(test_the_set_gid_bit_is_not_for_groups_one_is_not_in),
        cmocka_unit_test(test_capabilities_go_with_a_write_and_with_a_new_owner),
        cmocka_unit_test(test_attributes_are_added_replaced_removed_and_kept),
        cmocka_unit_test(test_attributes_of_64_kibibytes),
        cmocka_unit_test(test_attribute_names_of_255_bytes),
        cmocka_unit_test(test_a_list_lets_a_user_in_and_the_mask_keeps_it_out),
        cmocka_unit_test(test_a_list_of_the_image_is_enforced),
        cmocka_unit_test(test_a_default_list_is_inherited_in_a_directory_of_the_image),
        cmocka_unit_test(test_a_default_list_is_inherited_in_a_new_directory),
        cmocka_unit_test(test_without_a_default_list_the_umask_counts),
        cmocka_unit_test(test_a_list_that_says_no_more_than_the_mode_becomes_the_mode),
        cmocka_unit_test(test_only_directories_have_default_lists),
    };
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
