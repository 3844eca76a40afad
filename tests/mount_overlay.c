/* Kernel overlayfs over directories of a node's root, as container runtimes mount it: upper, work and lower in one root. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_tree.h"

static const char *merged(const char *name)
{
    return harness_at(0, "tmp/merged/%s", name);
}

static void mount_overlay(const char *more)
{
    char options[8192];

    snprintf(options, sizeof(options), "lowerdir=%s,upperdir=%s,workdir=%s%s", harness_at(0, "lower"), harness_at(0, "tmp/upper"),
             harness_at(0, "tmp/work"), more);
    must(mount("overlay", harness_at(0, "tmp/merged"), "overlay", 0, options));
}

static void umount_overlay(void)
{
    must(umount2(harness_at(0, "tmp/merged"), MNT_DETACH));
}

/* A directory of the root that holds none of the overlay's own. */
static int make_lower(void **state)
{
    static const char *const names[] = {"sizes", "tree", "deep"};

    harness_setup(state);
    must(mkdir(harness_at(0, "lower"), 0755));
    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++)
        must(rename(harness_at(0, "%s", names[i]), harness_at(0, "lower/%s", names[i])));
    return 0;
}

static int set_up(void **state)
{
    (void)state;
    must(mkdir(harness_at(0, "tmp"), 01777));
    must(mkdir(harness_at(0, "tmp/upper"), 0755));
    must(mkdir(harness_at(0, "tmp/work"), 0755));
    must(mkdir(harness_at(0, "tmp/merged"), 0755));
    return 0;
}

static int take_down(void **state)
{
    (void)state;
    umount2(harness_at(0, "tmp/merged"), MNT_DETACH);
    return harness_run(NULL, "rm", "-rf", harness_at(0, "tmp"), NULL);
}

static void append_to(const char *path, const char *text)
{
    int fd = must(open(path, O_WRONLY | O_APPEND | O_CLOEXEC));

    must(write(fd, text, strlen(text)));
    must(close(fd));
}

/* What a container does to its image, one of each. */
static void change_it(void)
{
    append_to(merged("sizes/4096"), "more");
    must(chmod(merged("sizes/100"), 0600));
    must(unlink(merged("sizes/4097")));
    must(rename(merged("sizes/16383"), merged("renamed")));
    must(mkdir(merged("made"), 0755));
    made_file(merged("made/file"), 5, 70000, 0644);
    must(harness_run(NULL, "rm", "-r", merged("deep"), NULL));
    must(mkdir(merged("deep"), 0755));
    made_file(merged("deep/own"), 6, 10, 0644);
}

static void check_it(void)
{
    struct stat st;
    int fd;

    must(stat(merged("sizes/4096"), &st));
    assert_int_equal(st.st_size, 4100);
    must(stat(merged("sizes/100"), &st));
    assert_int_equal(st.st_mode & 07777, 0600);
    must_fail(ENOENT, stat(merged("sizes/4097"), &st));
    must_fail(ENOENT, stat(merged("sizes/16383"), &st));
    must(stat(merged("renamed"), &st));
    assert_int_equal(st.st_size, 16383);
    made_check_file(merged("made/file"), 5, 70000);
    made_check_file(merged("deep/own"), 6, 10);
    must_fail(ENOENT, stat(merged("deep/d"), &st));
    fd = must(open(merged("sizes/4096"), O_RDWR | O_CLOEXEC));
    must(close(fd));
    must(stat(merged("sizes/5242880"), &st));
}

/* Whatever was learned of the files below, by name or by handle. */
static void check_it_again(const char *options)
{
    harness_drop_caches();
    check_it();
    umount_overlay();
    mount_overlay(options);
    check_it();
    umount_overlay();
    harness_remount();
    mount_overlay(options);
    check_it();
    harness_drop_caches();
    check_it();
}

static void test_changes_over_a_lower_directory_of_the_same_root(void **state)
{
    (void)state;
    harness_needs_mount();
    mount_overlay("");
    change_it();
    check_it();
    check_it_again("");
}

static void test_with_redirects_and_copies_of_metadata_alone(void **state)
{
    (void)state;
    harness_needs_mount();
    mount_overlay(",redirect_dir=on,metacopy=on");
    change_it();
    must(rename(merged("tree"), merged("moved")));
    check_it();
    check_it_again(",redirect_dir=on,metacopy=on");
    must(access(merged("moved"), F_OK));
}

static void test_a_whiteout_is_a_device_0_0_and_an_opaque_directory_is_marked(void **state)
{
    char value[4];
    struct stat st;

    (void)state;
    harness_needs_mount();
    mount_overlay("");
    change_it();
    must(lstat(harness_at(0, "tmp/upper/sizes/4097"), &st));
    assert_true(S_ISCHR(st.st_mode) && st.st_rdev == 0);
    assert_int_equal(getxattr(harness_at(0, "tmp/upper/deep"), "trusted.overlay.opaque", value, sizeof(value)), 1);
    umount_overlay();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_changes_over_a_lower_directory_of_the_same_root, set_up, take_down),
        cmocka_unit_test_setup_teardown(test_with_redirects_and_copies_of_metadata_alone, set_up, take_down),
        cmocka_unit_test_setup_teardown(test_a_whiteout_is_a_device_0_0_and_an_opaque_directory_is_marked, set_up, take_down),
    };

    return cmocka_run_group_tests(tests, make_lower, harness_teardown);
}
