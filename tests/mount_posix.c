/* The error codes of system calls, by root and by a user, over one tree that comes from the image, one that was made in
 * the node, and one on the disk's own file system, which shows that the expectations hold. */
#include <fcntl.h>
#include <linux/magic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "harness.h"
#include "made_tree.h"
#include "posix.h"

struct place {
    const char *path, *name;
    enum posix_who who;
};

static int run_rows(void *data)
{
    struct place *place = data;
    if (chdir(place->path) < 0) return 254;
    int wrong = posix_run(place->who, place->name);
    return wrong > 250 ? 250 : wrong;
}

static void make_expected(const char *name)
{
    must(mkdir(harness_beside("%s", name), 0755));
    posix_make_fixture(harness_beside("%s", name));
}

/* A failing call must leave nothing half-made: afterwards the tree is what it was. */
static void check_rows(const char *path, const char *name, enum posix_who who)
{
    struct place place = {path, name, who};
    uid_t uid = who == AS_USER ? MADE_UID : 0;
    assert_int_equal(harness_as(uid, MADE_GID, run_rows, &place), 0);
    assert_int_equal(compare_trees(harness_beside("expected"), path, 0), 0);
}

static void on_disk(enum posix_who who)
{
    struct statfs fs;
    must(statfs(harness_directory(), &fs));
    if (fs.f_type != EXT4_SUPER_MAGIC) skip();
    check_rows(harness_beside("beside"), "ext4", who);
}

static void test_error_codes_hold_on_ext4_as_root(void **state)
{
    (void)state, on_disk(AS_ROOT);
}
static void test_error_codes_hold_on_ext4_as_user(void **state)
{
    (void)state, on_disk(AS_USER);
}

static void test_error_codes_in_image_as_root(void **state)
{
    (void)state, check_rows(harness_at(0, "posix"), "image", AS_ROOT);
}
static void test_error_codes_in_image_as_user(void **state)
{
    (void)state, check_rows(harness_at(0, "posix"), "image", AS_USER);
}
static void test_error_codes_in_delta_as_root(void **state)
{
    (void)state, check_rows(harness_at(0, "made"), "delta", AS_ROOT);
}
static void test_error_codes_in_delta_as_user(void **state)
{
    (void)state, check_rows(harness_at(0, "made"), "delta", AS_USER);
}

static void test_error_codes_after_remount(void **state)
{
    (void)state;
    harness_remount();
    check_rows(harness_at(0, "posix"), "image after remount", AS_ROOT);
    check_rows(harness_at(0, "made"), "delta after remount", AS_USER);
}

static void add_fixture(const char *image)
{
    char path[1400];
    snprintf(path, sizeof(path), "%s/posix", image);
    must(mkdir(path, 0755));
    posix_make_fixture(path);
}

static int setup(void **state)
{
    (void)state;
    posix_make_names();
    harness_start(&(struct harness_options){.extra = add_fixture});
    make_expected("expected");
    make_expected("beside");
    must(mkdir(harness_at(0, "made"), 0755));
    posix_make_fixture(harness_at(0, "made"));
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_error_codes_hold_on_ext4_as_root),
        cmocka_unit_test(test_error_codes_hold_on_ext4_as_user),
        cmocka_unit_test(test_error_codes_in_image_as_root),
        cmocka_unit_test(test_error_codes_in_image_as_user),
        cmocka_unit_test(test_error_codes_in_delta_as_root),
        cmocka_unit_test(test_error_codes_in_delta_as_user),
        cmocka_unit_test(test_error_codes_after_remount),
    };
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
