#include "sample.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "import.h"
#include "io.h"
#include "log.h"
#include "made_acl.h"

static void test_directory(void **state)
{
    struct catalog_image row;

    /* Which tar cannot tell. */
    assert_int_equal(link(scratch_path(state, "source/dev/pipe"), scratch_path(state, "source/dev/same-pipe")), 0);
    sample_import_good(state, "copy", scratch_path(state, "source"));
    assert_string_equal(sample_logged, "");
    sample_assert_images("copy");
    sample_assert_same(state, "copy", "-AX");
    sample_assert_same_stat(state, "copy");
    sample_assert_sparse("copy");
    sample_assert_opens("copy");
    assert_int_equal(catalog_image(sample_store->catalog, "copy", &row), 0);
    assert_string_equal(row.source, scratch_path(state, "source"));
    assert_string_equal(row.boot, "boot");
    assert_true(row.is_default);
    catalog_image_free(&row);
    sample_remove(state, "copy");
    sample_assert_images("");
    unlink(scratch_path(state, "source/dev/same-pipe"));
}

static void check_archive(void **state, const char *name, const char *options, const char *rsync_options)
{
    sample_import_good(state, "tar", sample_tar(state, name, options));
    assert_string_equal(sample_logged, "");
    sample_assert_same(state, "tar", rsync_options);
    sample_assert_sparse("tar");
    sample_assert_opens("tar");
    unlink(scratch_path(state, name));
}

static void test_archives(void **state)
{
    static const char *const programs[] = {"gzip", "bzip2", "xz", "zstd"};

    check_archive(state, "plain.tar", SAMPLE_PAX, "-AX --exclude=/run-socket");
    sample_assert_same_stat(state, "tar");
    sample_remove(state, "tar");
    check_archive(state, "gnu.tar", "--format=gnu", "--exclude=/run-socket");
    sample_remove(state, "tar");
    for (size_t i = 0; i < sizeof(programs) / sizeof(*programs); i++) {
        _cleanup_free_ char *options = io_format(SAMPLE_PAX " --use-compress-program=%s", programs[i]);
        char output[256];

        if (scratch_run(output, sizeof(output), "command -v %s", programs[i]) != 0) continue;
        check_archive(state, "packed.tar", options, "-AX --exclude=/run-socket");
        sample_remove(state, "tar");
    }
    sample_assert_images("");
}

static void test_standard_input(void **state)
{
    const char *path = sample_tar(state, "input.tar", SAMPLE_PAX " --gzip");
    _cleanup_close_ int saved = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 10), fd = open(path, O_RDONLY | O_CLOEXEC);
    struct catalog_image row;

    dup2(fd, STDIN_FILENO);
    sample_import_good(state, "piped", "-");
    dup2(saved, STDIN_FILENO);
    sample_assert_same(state, "piped", "-AX --exclude=/run-socket");
    assert_int_equal(catalog_image(sample_store->catalog, "piped", &row), 0);
    assert_string_equal(row.source, "standard input");
    catalog_image_free(&row);
    sample_remove(state, "piped");
    unlink(path);
}

/* --- archives made member by member --- */

static void refuse_members(void **state, const struct sample_member *members, const char *reason)
{
    sample_assert_refused(state, sample_archive(state, members), reason);
    assert_int_equal(access(scratch_path(state, "escaped"), F_OK), -1);
}

static void test_members_that_escape(void **state)
{
    _cleanup_free_ char *outside = strdup(scratch_path(state, "outside")), *escape = NULL;

    sample_run("mkdir -p '%s'", outside);
    escape = io_format("%s/escaped", outside);
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, "../escaped", NULL, "x"}), "member '../escaped': '..' in its name");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, "a/../../escaped", NULL, "x"}), "member 'a/../../escaped': '..'");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFDIR, "a/..", NULL, NULL}), "member 'a/../': '..'");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, escape, NULL, "x"}), "an absolute name");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFLNK, "out", outside, NULL}, {AE_IFREG, "out/escaped", NULL, "x"}),
                   "member 'out/escaped': is reached through a symbolic link");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFLNK, "out", "..", NULL}, {AE_IFDIR, "out/escaped/x", NULL, NULL}),
                   "member 'out/escaped/x/': is reached through a symbolic link");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, "in", NULL, "x"}, {AE_IFREG, "hard", "/etc/passwd", NULL}),
                   "member 'hard': hard link to '/etc/passwd': an absolute name");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, "hard", "../../../catalog.db", NULL}),
                   "hard link to '../../../catalog.db': '..'");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFLNK, "out", outside, NULL}, {AE_IFREG, "hard", "out/file", NULL}),
                   "hard link to 'out/file', which is reached through a symbolic link");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, "hard", "missing", NULL}),
                   "hard link to 'missing', which the archive does not");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, "file", NULL, "x"}, {AE_IFREG, "file/below", NULL, "x"}),
                   "member 'file/below': lies below what is no directory");
    refuse_members(state, SAMPLE_MEMBERS({AE_IFREG, "dir/file", NULL, "x"}, {AE_IFREG, "dir", NULL, "x"}),
                   "member 'dir': the archive has a directory of this name");
    assert_int_equal(access(escape, F_OK), -1);
}

/* A symlink made by one member is not followed by a later one of the same name, and what it points to stays. */
static void test_members_that_replace(void **state)
{
    _cleanup_free_ char *victim = strdup(scratch_path(state, "victim")), *rootfs = NULL;
    char output[256];

    scratch_write(victim, "untouched");
    sample_import_good(state, "twice",
                sample_archive(state, SAMPLE_MEMBERS({AE_IFREG, "file", NULL, "first"}, {AE_IFREG, "other", "file", NULL},
                                            {AE_IFLNK, "link", victim, NULL}, {AE_IFREG, "./file", NULL, "second"},
                                            {AE_IFREG, "link", NULL, "mine"}, {AE_IFLNK, "dir", "..", NULL},
                                            {AE_IFDIR, "dir", NULL, NULL}, {AE_IFREG, "dir//./file", NULL, "inside"},
                                            {AE_IFDIR, "gone", NULL, NULL}, {AE_IFLNK, "gone", "/", NULL},
                                            {AE_IFREG, "other", "other", NULL})));
    rootfs = io_format("%s/images/twice/rootfs", sample_store->path);
    scratch_run(output, sizeof(output), "cd '%s' && cat file other link dir/file '%s'; stat -c %%F dir gone", rootfs,
                victim);
    assert_string_equal(output, "secondfirstmineinsideuntoucheddirectory\nsymbolic link");
    sample_remove(state, "twice");
}

static void test_directories_that_are_implied(void **state)
{
    _cleanup_free_ char *rootfs = NULL;
    char output[256];

    sample_import_good(state, "implied",
                sample_archive(state, SAMPLE_MEMBERS({AE_IFREG, "a/b/c/file", NULL, "x"}, {AE_IFREG, "a/b/d", NULL, ""})));
    rootfs = io_format("%s/images/implied/rootfs", sample_store->path);
    scratch_run(output, sizeof(output), "cd '%s' && stat -c %%a:%%u . a a/b a/b/c | tr '\\n' ' '", rootfs);
    assert_string_equal(output, "755:0 755:0 755:0 755:0 ");
    sample_remove(state, "implied");
}

/* --- sources that are none --- */

static void test_sources_without_anything(void **state)
{
    sample_assert_refused(state, scratch_path(state, "missing"), "No such file or directory");
    sample_run("mkdir -p '%s'", scratch_path(state, "nothing"));
    sample_assert_refused(state, scratch_path(state, "nothing"), "nothing: is empty");
    sample_run(": > '%s'", scratch_path(state, "zero"));
    sample_assert_refused(state, scratch_path(state, "zero"), "zero: is empty");
    sample_run("gzip -c '%s' > '%s'", scratch_path(state, "zero"), scratch_path(state, "zero.gz"));
    sample_assert_refused(state, scratch_path(state, "zero.gz"), "zero.gz: is empty");
    sample_run("tar -cf '%s' -T /dev/null", scratch_path(state, "none.tar"));
    sample_assert_refused(state, scratch_path(state, "none.tar"), "none.tar: is empty");
    sample_run("tar -C '%s' -cf '%s' .", scratch_path(state, "nothing"), scratch_path(state, "dot.tar"));
    sample_assert_refused(state, scratch_path(state, "dot.tar"), "dot.tar: is empty");
    scratch_write(scratch_path(state, "text"), "no archive at all\n");
    sample_assert_refused(state, scratch_path(state, "text"), "text: no tar archive");
    sample_run("head -c 70000 /dev/urandom > '%s'", scratch_path(state, "noise"));
    sample_assert_refused(state, scratch_path(state, "noise"), "noise: no tar archive");
    sample_run("gzip -c '%s' > '%s'", scratch_path(state, "noise"), scratch_path(state, "noise.gz"));
    sample_assert_refused(state, scratch_path(state, "noise.gz"), "noise.gz: no tar archive");
    sample_assert_refused(state, "/dev/null", "/dev/null: neither a directory nor an archive");
    sample_assert_refused(state, scratch_path(state, "source/run-socket"), "run-socket: ");
}

static void cut(void **state, const char *from, off_t size)
{
    sample_run("head -c %lld '%s' > '%s'", (long long)size, from, scratch_path(state, "cut"));
}

static void test_truncated_archives(void **state)
{
    const struct sample_member *members = SAMPLE_MEMBERS({AE_IFDIR, "etc", NULL, NULL}, {AE_IFREG, "etc/a", NULL, "contents"},
                                                {AE_IFREG, "etc/b", NULL, ""}, {AE_IFREG, "etc/c", "etc/a", NULL},
                                                {AE_IFLNK, "link", "etc", NULL}, {AE_IFREG, "last", NULL, "the last"});
    _cleanup_free_ char *path = strdup(sample_archive(state, members));
    off_t end = 8 * 512; /* six headers, two blocks of contents */
    struct stat st;

    for (off_t size = 512; size <= end; size += 512) {
        cut(state, path, size);
        sample_assert_refused(state, scratch_path(state, "cut"), "truncated");
        cut(state, path, size - 100);
        sample_assert_refused(state, scratch_path(state, "cut"), size == 512 ? "no tar archive" : "truncated");
    }
    sample_run("gzip -kf '%s'", path);
    assert_int_equal(stat(scratch_path(state, "made.tar.gz"), &st), 0);
    for (off_t less = 1; less < st.st_size - 20; less += 7) {
        cut(state, scratch_path(state, "made.tar.gz"), st.st_size - less);
        sample_assert_refused(state, scratch_path(state, "cut"), "");
    }
    /* Padding longer than what is read ahead, so that the end is met only by looking for it. */
    sample_run("(cat '%s'; head -c 5M /dev/zero) | gzip > '%s'", path, scratch_path(state, "padded.tar.gz"));
    assert_int_equal(stat(scratch_path(state, "padded.tar.gz"), &st), 0);
    cut(state, scratch_path(state, "padded.tar.gz"), st.st_size - 100);
    sample_assert_refused(state, scratch_path(state, "cut"), "truncated");
    sample_import_good(state, "whole", scratch_path(state, "made.tar.gz"));
    sample_remove(state, "whole");
}

static void refuse_name(void **state, const char *name, int error, const char *reason)
{
    int r = sample_import(state, name, scratch_path(state, "source"));

    if (r != error || !strstr(sample_logged, reason)) fail_msg("%s: %d, %s", name, r, sample_logged);
}

static void test_names(void **state)
{
    static const char *const bad[] = {"", ".", "..", ".hidden", "-flag", "a/b", "blank ", "\303\251", "new\nline"};
    char longest[66];

    for (size_t i = 0; i < sizeof(bad) / sizeof(*bad); i++) refuse_name(state, bad[i], -EINVAL, "must be 1-64 of");
    memset(longest, 'n', 65);
    longest[65] = '\0';
    refuse_name(state, longest, -EINVAL, "must be 1-64 of");
    longest[64] = '\0';
    sample_import_good(state, longest, scratch_path(state, "source"));
    refuse_name(state, longest, -EEXIST, "there is one of this name already");
    sample_assert_images(longest);
    sample_remove(state, longest);
    sample_assert_images("");
}

/* The row is refused by the catalog itself after everything else was done. */
static void test_row_that_is_refused(void **state)
{
    sample_run("sqlite3 '%s/catalog.db' \"CREATE TRIGGER no BEFORE INSERT ON image BEGIN SELECT RAISE(ABORT, 'not today'); "
        "END\"",
        sample_store->path);
    sample_assert_refused(state, scratch_path(state, "source"), "image bad: not today");
    sample_run("sqlite3 '%s/catalog.db' 'DROP TRIGGER no'", sample_store->path);
}

static void test_leftover_in_the_way(void **state)
{
    sample_run("mkdir -p '%s/images/bad/rootfs'", sample_store->path);
    refuse_name(state, "bad", -EEXIST, "there is one of this name already");
    sample_assert_images("bad");
    sample_run("rm -r '%s/images/bad'", sample_store->path);
}

/* --- a source that the store lies in, mounts --- */

static void test_store_inside_the_source(void **state)
{
    sample_assert_refused(state, (const char *)*state, ": the store lies inside it, at store");
    sample_assert_refused(state, sample_store->path, ": the store lies inside it, at .");
    sample_assert_refused(state, scratch_path(state, "store/images"), ": the store lies inside it, at .import-");
}

static void test_mount_inside_the_source(void **state)
{
    struct store_daemon daemon = {.pid = getpid()};
    int claim;

    snprintf(daemon.mountpoint, sizeof(daemon.mountpoint), "%s", scratch_path(state, "source/tmp"));
    assert_int_equal(store_claim(sample_store, &claim), 0);
    assert_int_equal(store_announce(claim, &daemon), 0);
    sample_assert_refused(state, scratch_path(state, "source"), "source/tmp lies inside it");
    close(claim);
}

static void test_mounts_are_not_crossed(void **state)
{
    _cleanup_free_ char *rootfs = NULL;
    char output[256];
    int r;

    sample_run("mkdir -p '%s/dir'", scratch_path(state, "host"));
    scratch_write(scratch_path(state, "host/file"), "covered");
    scratch_write(scratch_path(state, "secret"), "secret");
    if (unshare(CLONE_NEWNS) < 0) skip();
    assert_int_equal(mount(NULL, "/", "none", MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mount("none", scratch_path(state, "host/dir"), "tmpfs", 0, "mode=0711"), 0);
    assert_int_equal(mount(scratch_path(state, "secret"), scratch_path(state, "host/file"), "none", MS_BIND, NULL), 0);
    scratch_write(scratch_path(state, "host/dir/secret"), "secret");
    r = sample_import(state, "host", scratch_path(state, "host"));
    assert_int_equal(umount(scratch_path(state, "host/dir")), 0);
    assert_int_equal(umount(scratch_path(state, "host/file")), 0);
    assert_int_equal(r, 0);
    rootfs = io_format("%s/images/host/rootfs", sample_store->path);
    scratch_run(output, sizeof(output), "cd '%s' && find . -type f -printf '%%P:%%s ' && find dir -printf '%%p:%%m '",
                rootfs);
    assert_string_equal(output, "file:0 dir:711 ");
    sample_remove(state, "host");
}

/* Files of the image do not take what the store's directories would hand down. */
static void test_default_acl_of_the_store(void **state)
{
    struct made_acl acl;
    size_t size = made_acl_for_user(&acl, 4321, 7, 5, 6, 4);

    assert_int_equal(setxattr(scratch_path(state, "store/images"), ACL_DEFAULT_NAME, &acl, size, 0), 0);
    sample_import_good(state, "acl", scratch_path(state, "source"));
    assert_int_equal(removexattr(scratch_path(state, "store/images"), ACL_DEFAULT_NAME), 0);
    sample_assert_same(state, "acl", "-AX");
    sample_remove(state, "acl");
}

/* --- what is found out about an image --- */

static void check_boot(void **state, const char *file, const char *expected)
{
    struct catalog_image row;

    sample_run("mkdir -p \"$(dirname '%s/%s')\" && : > '%s/%s'", scratch_path(state, "pi"), file, scratch_path(state, "pi"),
        file);
    sample_import_good(state, "pi", scratch_path(state, "pi"));
    assert_int_equal(catalog_image(sample_store->catalog, "pi", &row), 0);
    assert_string_equal(row.boot, expected);
    catalog_image_free(&row);
    sample_remove(state, "pi");
    sample_run("rm -r '%s'", scratch_path(state, "pi"));
}

static void test_boot_directory(void **state)
{
    check_boot(state, "boot/vmlinuz", "boot");
    check_boot(state, "boot/firmware/readme", "boot");
    check_boot(state, "boot/start4.elf", "boot");
    check_boot(state, "boot/firmware/start4.elf", "boot/firmware");
    check_boot(state, "boot/firmware/bootcode.bin", "boot/firmware");
    check_boot(state, "boot/firmware/config.txt", "boot/firmware");
    check_boot(state, "boot/firmware/pxelinux.0", "boot/firmware");
    check_boot(state, "boot/firmware/boot.scr.uimg", "boot/firmware");
    check_boot(state, "boot/firmware/cmdline.txt", "boot/firmware");
}

static void test_incomplete_image(void **state)
{
    sample_run("mkdir -p '%s'; ln -sf /bin/sh '%s'", scratch_path(state, "part/sbin"), scratch_path(state, "part/sbin/init"));
    sample_import_good(state, "part", scratch_path(state, "part"));
    assert_string_equal(sample_logged, "coppice: warning: image part: looks incomplete: it has neither an init nor a shell\n");
    sample_remove(state, "part");
    sample_run("mkdir -p '%s'; : > '%s'", scratch_path(state, "part/bin"), scratch_path(state, "part/bin/sh"));
    sample_import_good(state, "part", scratch_path(state, "part"));
    assert_string_equal(sample_logged, "");
    sample_remove(state, "part");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        SAMPLE_TEST(test_directory),
        SAMPLE_TEST(test_archives),
        SAMPLE_TEST(test_standard_input),
        SAMPLE_TEST(test_members_that_escape),
        SAMPLE_TEST(test_members_that_replace),
        SAMPLE_TEST(test_directories_that_are_implied),
        SAMPLE_TEST(test_sources_without_anything),
        SAMPLE_TEST(test_truncated_archives),
        SAMPLE_TEST(test_names),
        SAMPLE_TEST(test_row_that_is_refused),
        SAMPLE_TEST(test_leftover_in_the_way),
        SAMPLE_TEST(test_store_inside_the_source),
        SAMPLE_TEST(test_mount_inside_the_source),
        SAMPLE_TEST(test_mounts_are_not_crossed),
        SAMPLE_TEST(test_default_acl_of_the_store),
        SAMPLE_TEST(test_boot_directory),
        SAMPLE_TEST(test_incomplete_image),
    };

    return cmocka_run_group_tests(tests, sample_setup, sample_teardown);
}
