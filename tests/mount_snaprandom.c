/* Random operations, snapshots, resets, clones, promotions and rebases, in step with the same done by full copies on the disk's own
 * file system.
 *
 * COPPICE_RANDOM_SECONDS=600 for a long run by hand, COPPICE_RANDOM_SEED=N for the same sequence again. */
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "harness.h"
#include "made_tree.h"
#include "random_ops.h"

#define ADDED "added by the second image"
enum { OPERATIONS = 40, SNAPSHOTS = 4 };

static struct {
    struct random_ops *ops;
    char expected[1200];
    uint64_t state; /* of the dice for what happens between the operations */
    bool has[SNAPSHOTS];
    char image[16], image_of[SNAPSHOTS][16]; /* on which the node, and each snapshot, stands */
    int clones, promotions, rebases;
    char done[4096]; /* what was done, for whoever finds a difference */
} run;

static void note(const char *what, int number)
{
    size_t used = strlen(run.done);

    if (used > sizeof(run.done) - 64) used = 0;
    snprintf(run.done + used, sizeof(run.done) - used, " %s-%d@%ld", what, number, random_ops_count(run.ops));
}

static void check(const char *expected, const char *found, unsigned flags)
{
    int differences = compare_trees(expected, found, flags);

    if (differences == 0) return;
    print_error("%s differs from %s after operation %ld; done:%s\n", found, expected, random_ops_count(run.ops), run.done);
    random_ops_print(run.ops);
    fail();
}

static const char *copy_of(int snapshot)
{
    return harness_beside("copy-%d", snapshot);
}

static const char *name_of(int snapshot)
{
    static char name[16];

    snprintf(name, sizeof(name), "s%d", snapshot);
    return name;
}

#define MUST_COPPICE(...)                                                   \
    do {                                                                    \
        char *output_ = NULL;                                               \
        int status_ = harness_coppice(&output_, __VA_ARGS__, NULL);         \
        if (status_ != 0) print_error(#__VA_ARGS__ ": exit %d: %s;%s\n", status_, output_, run.done); \
        free(output_);                                                      \
        assert_int_equal(status_, 0);                                       \
    } while (0)

/* A full copy in place of what is there. */
static void copy(const char *from, const char *to)
{
    assert_int_equal(harness_run(NULL, "rm", "-rf", "--", to, NULL), 0);
    assert_int_equal(harness_run(NULL, "cp", "-a", "--", from, to, NULL), 0);
}

static void do_snapshot(int i)
{
    if (run.has[i]) {
        MUST_COPPICE("snapshot", "delete", harness_serial(0), name_of(i));
        note("delete", i);
    }
    MUST_COPPICE("snapshot", "create", harness_serial(0), name_of(i));
    copy(run.expected, copy_of(i));
    snprintf(run.image_of[i], sizeof(run.image_of[i]), "%s", run.image);
    run.has[i] = true;
    note("snapshot", i);
}

static void begin_with(const char *tree)
{
    random_ops_close(run.ops);
    copy(tree, run.expected);
}

static const char *tree_of(const char *image)
{
    return harness_beside("store/images/%s/rootfs", image);
}

static void do_reset(int i)
{
    random_ops_close(run.ops);
    if (!run.has[i]) {
        MUST_COPPICE("reset", harness_serial(0), "--force");
        begin_with(tree_of(run.image));
    } else {
        MUST_COPPICE("reset", harness_serial(0), "--to", name_of(i), "--force", "--discard");
        begin_with(copy_of(i));
        snprintf(run.image, sizeof(run.image), "%s", run.image_of[i]);
    }
    note(run.has[i] ? "reset-to" : "reset", i);
}

/* Of the node, or of a snapshot of it; compared, changed, and gone: what it was made from must not notice. */
static void do_clone(int i)
{
    char serial[32], from[128];

    snprintf(serial, sizeof(serial), "clone%d", run.clones++);
    if (run.has[i]) snprintf(from, sizeof(from), "%s@%s", harness_serial(0), name_of(i));
    else snprintf(from, sizeof(from), "%s", harness_serial(0));
    MUST_COPPICE("node", "add", serial, "--from", from);
    note("clone", i);
    const char *root = harness_on_mount("system/%s/rootfs", serial);
    check(run.has[i] ? copy_of(i) : run.expected, root, COMPARE_OLD_TIMES);
    if (run.clones % 2) harness_run(NULL, "find", root, "-type", "f", "-size", "+8k", "-exec", "truncate", "-s", "9000", "{}", "+", NULL);
    else harness_run(NULL, "find", root, "-type", "f", "-exec", "sh", "-c", "for f; do echo changed >>\"$f\"; done", "sh", "{}", "+", NULL);
    MUST_COPPICE("node", "remove", serial);
}

/* Left out of a promotion, which shows the image's then. */
static bool is_machine_as_in_image(const char *tree)
{
    struct stat a, b;
    char mine[1300], images[1300];

    snprintf(mine, sizeof(mine), "%s/etc/hostname", tree);
    snprintf(images, sizeof(images), "%s/etc/hostname", tree_of(run.image));
    if (lstat(mine, &a) < 0 || lstat(images, &b) < 0 || harness_run(NULL, "cmp", "-s", mine, images, NULL) != 0) return false;
    return a.st_mode == b.st_mode && a.st_uid == b.st_uid && a.st_gid == b.st_gid && a.st_nlink == 1 && a.st_mtime == b.st_mtime;
}

/* Times are not what a rebase keeps or takes over: the copy gets those of the node. */
static void rebase_to(const char *image)
{
    random_ops_close(run.ops);
    MUST_COPPICE("rebase", harness_serial(0), image, "--force");
    snprintf(run.image, sizeof(run.image), "%s", image);
    note("rebase", ++run.rebases);
    check(run.expected, harness_root(0), 0);
    begin_with(harness_root(0));
}

/* The second image is the first and a directory more, which the node must have afterwards, and all else as it was. */
static void do_rebase(void)
{
    if (strcmp(run.image, HARNESS_IMAGE) != 0) return;
    random_ops_close(run.ops);
    copy(harness_beside("store/images/second/rootfs/" ADDED), harness_beside("expected/" ADDED));
    rebase_to("second");
}

/* The image is the node as it is, or was. A node that goes to its own state stays what it is. */
static void do_promote(int i)
{
    const char *from = run.has[i] && strcmp(run.image, run.image_of[i]) == 0 ? copy_of(i) : NULL;
    char name[16], of[64];

    if (!is_machine_as_in_image(from ? from : run.expected)) return;
    snprintf(name, sizeof(name), "p%d", run.promotions++);
    snprintf(of, sizeof(of), from ? "%s@%s" : "%s", harness_serial(0), name_of(i));
    MUST_COPPICE("image", "promote", name, of);
    note("promote", i);
    MUST_COPPICE("node", "add", name, "--image", name); /* in its own tree there are also links to its parent's files */
    check(from ? from : run.expected, harness_on_mount("system/%s/rootfs", name), COMPARE_OLD_TIMES);
    MUST_COPPICE("node", "remove", name);
    if (!from) rebase_to(name);
}

/* The views must not depend on what caches or the daemon's memory hold. */
static void come_back(int how)
{
    if (how == 0) harness_drop_caches();
    if (how == 1) random_ops_close(run.ops), harness_remount();
    if (how == 2) random_ops_close(run.ops), harness_kill_daemon(), harness_mount();
    if (how < 3) note("come-back", how);
}

static void one_round(void)
{
    int i = (int)random_below(&run.state, SNAPSHOTS), what = (int)random_below(&run.state, 8);

    for (int k = 0; k < OPERATIONS; k++) assert_true(random_ops_step(run.ops));
    if (what < 2) do_snapshot(i);
    else if (what < 4) do_reset(i);
    else if (what < 5) do_clone(i);
    else if (what < 6) do_rebase();
    else do_promote(i);
    come_back((int)random_below(&run.state, 8));
    check(run.expected, harness_root(0), COMPARE_OLD_TIMES);
}

static void test_snapshots_resets_and_clones_are_as_full_copies(void **state)
{
    double end = harness_seconds() + random_seconds(15);
    int rounds = 0;

    (void)state;
    for (; harness_seconds() < end; rounds++) one_round();
    for (int i = 0; i < SNAPSHOTS; i++) {
        if (!run.has[i]) continue;
        do_reset(i);
        check(run.expected, harness_root(0), COMPARE_OLD_TIMES);
    }
    MUST_COPPICE("fsck");
    print_message("%ld operations, %d rounds, %d clones, %d promotions, %d rebases\n", random_ops_count(run.ops), rounds, run.clones,
                  run.promotions, run.rebases);
}

static void import_second(void)
{
    const char *source = harness_beside("second");

    copy(harness_source(), source);
    assert_int_equal(harness_run(NULL, "cp", "-a", harness_beside("second/names"), harness_beside("second/" ADDED), NULL), 0);
    MUST_COPPICE("image", "import", "second", source, "--no-templates");
    assert_int_equal(harness_run(NULL, "rm", "-rf", "--", source, NULL), 0);
}

static int setup(void **state)
{
    uint64_t seed = random_seed();

    harness_setup(state);
    snprintf(run.expected, sizeof(run.expected), "%s", harness_beside("expected"));
    copy(harness_source(), run.expected);
    import_second();
    snprintf(run.image, sizeof(run.image), HARNESS_IMAGE);
    run.state = seed | 1;
    run.ops = random_ops_new(run.expected, harness_root(0), seed);
    return 0;
}

static int teardown(void **state)
{
    if (run.ops) random_ops_free(run.ops);
    return harness_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_snapshots_resets_and_clones_are_as_full_copies),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
