/* The same random operations on a node's root and on the disk's own file system beside it, whole trees compared.
 *
 * COPPICE_RANDOM_SECONDS=600 for a long run by hand, COPPICE_RANDOM_SEED=N for the same sequence again. */
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "harness.h"
#include "made_tree.h"
#include "random_ops.h"

enum { OPERATIONS = 600 };

static struct random_ops *ops;
static char expected[1200]; /* the tree on the disk's own file system */

static void check_trees(const char *when)
{
    int differences = compare_trees(expected, harness_root(0), COMPARE_OLD_TIMES);
    if (differences == 0) return;
    print_error("after operation %ld, %s\n", random_ops_count(ops), when);
    random_ops_print(ops);
    fail();
}

/* What happens between two rounds: the view must not depend on what any cache or the daemon's memory holds. */
static const char *come_back(int round)
{
    switch (round % 5) {
    case 0:
        return "going on";
    case 1:
        harness_drop_caches();
        return "caches dropped";
    case 2:
        random_ops_close(ops), harness_remount();
        return "mounted again";
    case 3:
        return "going on";
    default:
        random_ops_close(ops), harness_kill_daemon(), harness_mount();
        return "daemon killed";
    }
}

static void test_random_operations_end_as_on_the_disk_s_own_file_system(void **state)
{
    (void)state;
    double end = harness_seconds() + random_seconds(20);
    int round = 0;
    do {
        for (int i = 0; i < OPERATIONS; i++) assert_true(random_ops_step(ops));
        check_trees(come_back(round++));
    } while (harness_seconds() < end);
    random_ops_close(ops);
    harness_remount();
    check_trees("at the end");
    print_message("%ld operations, %d times compared\n", random_ops_count(ops), round + 1);
}

static void test_the_other_node_saw_nothing_of_it(void **state)
{
    (void)state;
    assert_int_equal(compare_trees(harness_source(), harness_root(1), COMPARE_TIMES), 0);
}

static int setup(void **state)
{
    harness_setup(state);
    snprintf(expected, sizeof(expected), "%s", harness_beside("expected"));
    must(mkdir(expected, 0755));
    made_tree(expected);
    made_tree_set_times(expected);
    ops = random_ops_new(expected, harness_root(0), random_seed());
    return 0;
}

static int teardown(void **state)
{
    random_ops_free(ops);
    return harness_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_random_operations_end_as_on_the_disk_s_own_file_system),
        cmocka_unit_test(test_the_other_node_saw_nothing_of_it),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
