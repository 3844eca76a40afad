/* The daemon, or the command where none runs, killed inside of snapshot create and delete, reset, clone, promote, rebase, diff
 * and export, under a load of 8 threads: each is done or not done, and what was answered is there.
 *
 * COPPICE_KILLS=100 for a long run by hand, COPPICE_RANDOM_SEED=N for the same dice again. */
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "fault_load.h"
#include "fault_store.h"
#include "harness.h"
#include "random_ops.h"
#include "snap_store.h"

enum { LOADS = 2 }; /* of FAULT_THREADS threads */
enum what { CREATE, DELETE, RESET, RESET_TO, CLONE, PROMOTE, REBASE, DIFF, EXPORT, WHATS };
static const char *const words[] = {"snapshot create", "snapshot delete", "reset", "reset --to", "clone",
                                    "promote",         "rebase",          "diff",  "export"};

static struct {
    uint64_t state;
    struct fault_load *loads[LOADS];
    int roots[LOADS]; /* directories below the node's root, stale after a reset */
    uint64_t moment;  /* when the command was begun */
    time_t killed;    /* by when all was over */
    int round, done[WHATS], undone[WHATS];
    uint64_t typical[WHATS]; /* milliseconds that a command takes, as far as is known */
    char last[32];    /* a snapshot that is there; "": none */
} run;

static uint64_t milliseconds(void *data)
{
    (void)data;
    return (uint64_t)(harness_seconds() * 1000) + 1;
}

static int rounds_wanted(int usual)
{
    const char *asked = getenv("COPPICE_KILLS");
    return asked ? atoi(asked) : usual;
}

/* ---- the store ---- */

static const char *root_of(const char *serial)
{
    return fault_store_at("../../%s/rootfs", serial);
}

/* ---- the load ---- */

static void load_free(void)
{
    for (int i = 0; i < LOADS; i++) {
        fault_load_free(run.loads[i]);
        run.loads[i] = NULL;
    }
}

/* What is there now is where the threads begin. */
static void load_new(const char *tree)
{
    load_free();
    for (int i = 0; i < LOADS; i++) {
        char path[1500];

        snprintf(path, sizeof(path), "%s/%c", tree, 'a' + i);
        run.loads[i] = fault_load_new(path, random_next(&run.state), milliseconds, NULL);
    }
}

static void load_start(void)
{
    for (int i = 0; i < LOADS; i++) {
        char path[64];

        run.roots[i] = must(open(fault_store_at("%c", 'a' + i), O_PATH | O_DIRECTORY | O_CLOEXEC));
        snprintf(path, sizeof(path), "/proc/self/fd/%d", run.roots[i]);
        fault_load_start(run.loads[i], path, &(struct fault_plan){0});
    }
}

static void load_join(void)
{
    bool is_good = true;

    for (int i = 0; i < LOADS; i++) {
        is_good = fault_load_join(run.loads[i]) && is_good;
        close(run.roots[i]);
    }
    must_hold(is_good, "%d: the load", run.round);
}

static void check_all(void)
{
    for (int i = 0; i < LOADS; i++)
        must_hold(fault_load_check_all(run.loads[i], fault_store_at("%c", 'a' + i)), "%d: the node", run.round);
}

static void check_tree(const char *root, const char *what)
{
    for (int i = 0; i < LOADS; i++) {
        char path[1500];

        snprintf(path, sizeof(path), "%s/%c", root, 'a' + i);
        must_hold(fault_load_check_copy(run.loads[i], path, run.moment), "%d: %s", run.round, what);
    }
}

static void check_copy(const char *serial)
{
    check_tree(root_of(serial), serial);
}

/* ---- one command ---- */

static bool replaces(enum what what)
{
    return what == RESET || what == RESET_TO || what == REBASE;
}

/* The image that the node does not stand on. */
static const char *other_image(void)
{
    return strcmp(snap_store_ask("SELECT image FROM identity WHERE serial = '" SNAP_NODE "'"), "next") == 0 ? "base" : "next";
}

static pid_t start(enum what what, const char *name)
{
    char *argv[12] = {(char *)snap_store_binary(), "--store", (char *)fault_store_beside("s/store")};
    const char *lines[WHATS][6] = {
        [CREATE] = {"snapshot", "create", SNAP_NODE, name},
        [DELETE] = {"snapshot", "delete", SNAP_NODE, run.last},
        [RESET] = {"reset", SNAP_NODE, "--force"},
        [RESET_TO] = {"reset", SNAP_NODE, "--to", run.last, "--force"},
        [CLONE] = {"node", "add", name, "--from", SNAP_NODE},
        [PROMOTE] = {"image", "promote", name, SNAP_NODE},
        [REBASE] = {"rebase", SNAP_NODE, other_image(), "--force"},
        [DIFF] = {"diff", SNAP_NODE},
        [EXPORT] = {"node", "export", SNAP_NODE, fault_store_beside("%s.tar", name)},
    };

    for (int i = 0; i < 6; i++) argv[3 + i] = (char *)lines[what][i];
    fflush(NULL);
    pid_t pid = must(fork());
    if (pid > 0) return pid;
    int out = open(fault_store_beside("out"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    dup2(out, 1);
    dup2(out, 2);
    execvp(argv[0], argv);
    _exit(127);
}

static bool has_ended(pid_t pid, int *ret_status)
{
    return waitpid(pid, ret_status, WNOHANG) == pid;
}

/* For as long as it takes, or less: true when it has ended by itself. */
static bool let_run(enum what what, pid_t pid, int *ret_status)
{
    uint64_t began = milliseconds(NULL), *typical = &run.typical[what], most = random_below(&run.state, *typical * 5 / 4 + 2);

    while (milliseconds(NULL) - began < most) {
        if (has_ended(pid, ret_status)) {
            *typical = (*typical + milliseconds(NULL) - began) / 2 + 1;
            return true;
        }
        usleep(500);
    }
    *typical += *typical / 4; /* too short perhaps: some must end */
    return false;
}

static void kill_daemon(void)
{
    for (int i = 0; i < LOADS; i++) fault_load_expect_death(run.loads[i]);
    fault_store_kill();
    load_join();
    fault_store_detach();
}

/* True when it was answered that it is done. */
static bool kill_under_load(enum what what, const char *name)
{
    int status = -1;

    load_start();
    usleep((useconds_t)random_below(&run.state, 150000));
    for (int i = 0; i < LOADS && what == REBASE; i++) fault_load_stop(run.loads[i]); /* it gives way to a node that writes */
    for (int i = 0; i < LOADS && replaces(what); i++) fault_load_expect_replacement(run.loads[i]);
    run.moment = milliseconds(NULL);
    pid_t pid = start(what, name);
    bool ended = let_run(what, pid, &status);

    if (!ended && random_below(&run.state, what == CREATE ? 2 : 4) == 0) kill(pid, SIGKILL); /* the command too, as when the machine's memory is short */
    kill_daemon();
    if (!ended) must(waitpid(pid, &status, 0));
    run.killed = time(NULL);
    if (what == CREATE) sleep(1); /* what is made afterwards tells itself by its time */
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

static bool kill_unmounted(enum what what, const char *name)
{
    int status = -1;

    load_start(); /* else there is nothing that a reset would have to keep */
    usleep(50000);
    for (int i = 0; i < LOADS; i++) fault_load_stop(run.loads[i]);
    load_join();
    assert_true(fault_store_umount());
    run.moment = milliseconds(NULL);
    pid_t pid = start(what, name);
    if (!let_run(what, pid, &status)) {
        kill(pid, SIGKILL);
        must(waitpid(pid, &status, 0));
    }
    run.killed = time(NULL);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

/* ---- what is there afterwards ---- */

static bool check_create(const char *name, const char *other)
{
    bool row = *snap_store_ask("SELECT 1 FROM snapshot WHERE name = '%s'", name);

    must_hold(row == snap_store_has(SNAP_NODE "/snapshots/%s", name), "%d: row %d of %s", run.round, row, name);
    must_hold(!row || atoll(snap_store_ask("SELECT made FROM snapshot WHERE name = '%s'", name)) <= run.killed, "%d: %s is of a later instant", run.round, name);
    if (row) snap_store_look_into(name, other), check_copy(other);
    if (row) snprintf(run.last, sizeof(run.last), "%s", name);
    return row;
}

static bool check_delete(void)
{
    bool row = *snap_store_ask("SELECT 1 FROM snapshot WHERE name = '%s'", run.last);

    must_hold(row == snap_store_has(SNAP_NODE "/snapshots/%s", run.last), "%d: row %d of %s", run.round, row, run.last);
    if (!row) run.last[0] = '\0';
    return !row;
}

/* The old state, or the other with the old one kept beside it. */
static bool check_reset(enum what what, const char *other)
{
    char kept[64], expected[1500];
    bool done = *snap_store_ask("SELECT 1 FROM snapshot WHERE name = 'before-reset'");

    snprintf(kept, sizeof(kept), "%s-kept", other);
    if (!done) return false;
    snap_store_look_into("before-reset", kept);
    check_copy(kept);
    if (what == RESET_TO) snap_store_look_into(run.last, other);
    snprintf(expected, sizeof(expected), "%s", what == RESET_TO ? root_of(other) : fault_store_source());
    must_hold(compare_trees(expected, fault_store_at("."), COMPARE_TIMES) == 0, "%d: after the reset", run.round);
    snap_store_coppice("snapshot", "delete", SNAP_NODE, "before-reset", NULL);
    return true;
}

/* What was not added leaves nothing that a later node of that serial would take up. */
static bool check_clone(const char *name)
{
    bool row = *snap_store_ask("SELECT 1 FROM node WHERE serial = '%s'", name);

    must_hold(row == snap_store_has("%s", name), "%d: row %d of %s", run.round, row, name);
    if (row) check_copy(name);
    if (!row) {
        snap_store_coppice("node", "add", name, NULL, NULL);
        must_hold(compare_trees(fault_store_source(), root_of(name), COMPARE_TIMES) == 0, "%d: %s", run.round, name);
    }
    return row;
}

/* Its tree is plain files. What was not made is made by a second try, with nothing in its way. */
static bool check_promote(const char *name)
{
    bool row = *snap_store_ask("SELECT 1 FROM image WHERE name = '%s'", name);

    must_hold(row == (access(fault_store_beside("s/store/images/%s", name), F_OK) == 0), "%d: row %d of %s", run.round, row, name);
    if (row) check_tree(fault_store_beside("s/store/images/%s/rootfs", name), name);
    else snap_store_coppice("image", "promote", name, SNAP_NODE, NULL);
    snap_store_coppice("image", "remove", name, NULL, NULL);
    return row;
}

/* Its changes are the same on either image, which are of one tree. */
static bool check_rebase(void)
{
    bool done = *snap_store_ask("SELECT 1 FROM snapshot WHERE name = 'before-rebase'");

    if (!done) return false;
    check_copy(SNAP_NODE);
    snap_store_coppice("snapshot", "delete", SNAP_NODE, "before-rebase", NULL);
    return true;
}

static bool check_export(const char *name)
{
    const char *file = fault_store_beside("%s.tar", name);
    bool done = access(file, F_OK) == 0;

    if (!done) snap_store_coppice("node", "export", SNAP_NODE, file, NULL);
    must_hold(harness_run(NULL, "tar", "-tf", file, NULL) == 0, "%d: %s is no tar", run.round, file);
    unlink(file);
    return done;
}

static bool check(enum what what, const char *name, const char *other)
{
    if (what == PROMOTE) return check_promote(name);
    if (what == REBASE) return check_rebase();
    if (what == EXPORT) return check_export(name);
    if (what == DIFF) return true;
    if (what == CREATE) return check_create(name, other);
    if (what == DELETE) return check_delete();
    if (what == CLONE) return check_clone(name);
    return check_reset(what, other);
}

static void one_round(enum what what, bool (*kill_it)(enum what what, const char *name))
{
    char name[32], other[32];

    if ((what == DELETE || what == RESET_TO) && !run.last[0]) what = CREATE;
    snprintf(name, sizeof(name), "k%d", ++run.round);
    snprintf(other, sizeof(other), "c%d", run.round);
    bool answered = kill_it(what, name);
    assert_true(fault_store_mount(snap_store_where(), NULL));
    snap_store_wait_until_swept(run.round);
    bool done = check(what, name, other);
    must_hold(done || !answered, "%d: %s was answered and is not done", run.round, words[what]);
    if (done && replaces(what)) load_new(fault_store_at("."));
    else check_all();
    must_hold(fault_store_is_clean(snap_store_where()), "%d: after %s", run.round, words[what]);
    (done ? run.done : run.undone)[what]++;
}

static void rounds(int count, bool (*kill_it)(enum what what, const char *name))
{
    memset(run.done, 0, sizeof(run.done));
    memset(run.undone, 0, sizeof(run.undone));
    for (int i = 0; i < WHATS; i++) run.typical[i] = i < PROMOTE ? 200 : 1200;
    for (int i = 0; i < count; i++) one_round((enum what)((unsigned)i % WHATS), kill_it);
    print_message("%d kills; done and not:", count);
    for (int i = 0; i < WHATS; i++) print_message("%s %s %d %d", i ? "," : "", words[i], run.done[i], run.undone[i]);
    print_message("\n");
}

static void test_killed_daemons_leave_each_done_or_not_done(void **state)
{
    (void)state;
    rounds(rounds_wanted(WHATS + CLONE + 1), kill_under_load);
}

static void test_killed_commands_leave_each_done_or_not_done(void **state)
{
    (void)state;
    rounds(rounds_wanted(WHATS), kill_unmounted);
}

static int setup(void **state)
{
    (void)state;
    fault_store_begin(180 + 8 * rounds_wanted(1));
    run.state = random_seed();
    for (int i = 0; i < LOADS; i++) {
        char path[1500];

        snprintf(path, sizeof(path), "%s/%c", fault_store_source(), 'a' + i);
        must(mkdir(path, 0755));
        fault_load_fill_image(path);
    }
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_store_end();
    return 0;
}

/* Each test begins with a store of its own: what fails in one must not fail the next. */
static int setup_store(void **state)
{
    (void)state;
    run.last[0] = '\0';
    must(mkdir(snap_store_where(), 0755));
    fault_store_make(snap_store_where());
    snap_store_coppice("image", "import", "next", fault_store_source(), "--no-templates");
    assert_true(fault_store_mount(snap_store_where(), NULL));
    load_new(fault_store_source());
    return 0;
}

static int teardown_store(void **state)
{
    (void)state;
    fault_store_stop();
    load_free();
    harness_run(NULL, "rm", "-rf", "--", snap_store_where(), NULL);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_killed_daemons_leave_each_done_or_not_done, setup_store, teardown_store),
        cmocka_unit_test_setup_teardown(test_killed_commands_leave_each_done_or_not_done, setup_store, teardown_store),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
