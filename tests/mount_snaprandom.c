/* Random operations, snapshots, resets and clones, in step with the same done by full copies on the disk's own file system.
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

enum { OPERATIONS = 40, SNAPSHOTS = 4 };

static struct {
    struct random_ops *ops;
    char expected[1200];
    uint64_t state; /* of the dice for what happens between the operations */
    bool has[SNAPSHOTS];
    int clones;
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
    run.has[i] = true;
    note("snapshot", i);
}

static void begin_with(const char *tree)
{
    random_ops_close(run.ops);
    copy(tree, run.expected);
}

static void do_reset(int i)
{
    random_ops_close(run.ops);
    if (!run.has[i]) {
        MUST_COPPICE("reset", harness_serial(0), "--force");
        begin_with(harness_source());
    } else {
        MUST_COPPICE("reset", harness_serial(0), "--to", name_of(i), "--force", "--discard");
        begin_with(copy_of(i));
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
    int i = (int)random_below(&run.state, SNAPSHOTS), what = (int)random_below(&run.state, 5);

    for (int k = 0; k < OPERATIONS; k++) assert_true(random_ops_step(run.ops));
    if (what < 2) do_snapshot(i);
    else if (what < 4) do_reset(i);
    else do_clone(i);
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
    print_message("%ld operations, %d rounds\n", random_ops_count(run.ops), rounds);
}

static int setup(void **state)
{
    uint64_t seed = random_seed();

    harness_setup(state);
    snprintf(run.expected, sizeof(run.expected), "%s", harness_beside("expected"));
    copy(harness_source(), run.expected);
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
