/* The daemon, and the command, killed before the N-th of their steps - renames, links, removals, syncs, writes - inside of snapshot
 * create and delete, reset, clone, promote, rebase, export, node add --from-file: N counts up until the command ends undisturbed.
 * After each kill it is done or not done, nothing is left behind, and fsck finds nothing.
 *
 * COPPICE_KILL_STRIDE=1 for each N, which takes long; else every so many-th, from a random one on (COPPICE_RANDOM_SEED).
 * COPPICE_ONLY=rebase for one of them. */
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "compare.h"
#include "fault_store.h"
#include "harness.h"
#include "preload/kill_at.h"
#include "random_ops.h"
#include "snap_store.h"

enum what { CREATE, DELETE, RESET, RESET_TO, CLONE, PROMOTE, REBASE, EXPORT, FROM_FILE, WHATS };
enum whom { DAEMON, COMMAND, ALONE }; /* the daemon; the command beside it; the command where none runs */
static const char *const words[] = {"snapshot create", "snapshot delete", "reset",  "reset --to",          "clone",
                                    "promote",         "rebase",          "export", "node add --from-file"};
static const char *const victims[] = {"the daemon", "the command beside a daemon", "the command alone"};

static struct {
    struct kill_at *aim;
    uint64_t state;
    int64_t stride;
    int round;
    char name[32], old[1300], kept[1300]; /* what this round makes; copies of the node before it, and of snapshot "kept" */
} run;

/* ---- the store ---- */

static void copy(const char *from, const char *to)
{
    assert_int_equal(harness_run(NULL, "rm", "-rf", "--", to, NULL), 0);
    assert_int_equal(harness_run(NULL, "cp", "-a", "--", from, to, NULL), 0);
}

static void write_file(const char *path, size_t size)
{
    char *bytes = calloc(1, size);
    int fd = must(open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644));

    memset(bytes, 'a' + run.round % 26, size);
    assert_int_equal(write(fd, bytes, size), size);
    must(fsync(fd));
    close(fd);
    free(bytes);
}

/* Something of each kind: a row's contents, an object, the image's file with chunks, a name that is gone, one that is elsewhere. */
static void change(void)
{
    mkdir(fault_store_at("made"), 0755);
    write_file(fault_store_at("made/small"), 100 + run.round);
    write_file(fault_store_at("made/large"), 40000);
    if (truncate(fault_store_at("image/large"), 90000 + run.round) < 0) fail_msg("image/large");
    rename(fault_store_at("image/to"), fault_store_at("image/moved"));
    unlink(fault_store_at("image/gone"));
}

/* Every daemon may be killed; it is when the aim is set. */
static void mount_store(void)
{
    setenv("LD_PRELOAD", getenv("COPPICE_KILL_AT_LIBRARY"), 1);
    bool up = fault_store_mount(snap_store_where(), NULL);
    unsetenv("LD_PRELOAD");
    assert_true(up);
}

static void check_as(const char *expected, const char *found, const char *what, unsigned flags)
{
    must_hold(compare_trees(expected, found, flags) == 0, "%d: %s", run.round, what);
}

static void check_tree(const char *expected, const char *found, const char *what)
{
    check_as(expected, found, what, COMPARE_TIMES);
}

/* ---- one command ---- */

static const char *tar_file(void)
{
    return fault_store_beside("%s.tar", run.name);
}

static const char *other_image(void)
{
    return strcmp(snap_store_ask("SELECT image FROM identity WHERE serial = '" SNAP_NODE "'"), "next") == 0 ? "base" : "next";
}

static int run_command(enum what what, bool with_kill)
{
    const char *lines[WHATS][6] = {
        [CREATE] = {"snapshot", "create", SNAP_NODE, run.name, "--note", "why it was made"},
        [DELETE] = {"snapshot", "delete", SNAP_NODE, "doomed"},
        [RESET] = {"reset", SNAP_NODE, "--force"},
        [RESET_TO] = {"reset", SNAP_NODE, "--to", "kept", "--force"},
        [CLONE] = {"node", "add", run.name, "--from", SNAP_NODE},
        [PROMOTE] = {"image", "promote", run.name, SNAP_NODE},
        [REBASE] = {"rebase", SNAP_NODE, other_image(), "--force"},
        [EXPORT] = {"node", "export", SNAP_NODE, tar_file()},
        [FROM_FILE] = {"node", "add", run.name, "--from-file", fault_store_beside("kept.tar")},
    };
    const char **l = lines[what];
    char preload[1400];

    snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", with_kill ? getenv("COPPICE_KILL_AT_LIBRARY") : "");
    char *output = NULL;
    int status = harness_run(&output, "env", preload, snap_store_binary(), "--store", fault_store_beside("s/store"), l[0], l[1], l[2], l[3],
                             l[4], l[5], NULL);
    if (status != 0 && !atomic_load(&run.aim->at)) print_error("%s: %s", words[what], output);
    free(output);
    return status;
}

/* True when it was answered that it is done. */
static bool run_aimed(enum what what, enum whom whom, int64_t at)
{
    atomic_store(&run.aim->steps, 0);
    atomic_store(&run.aim->fired, 0);
    atomic_store(&run.aim->at, at);
    int status = run_command(what, whom != DAEMON);
    atomic_store(&run.aim->at, 0);
    fault_store_stop();
    return status == 0;
}

/* ---- what is there afterwards ---- */

static bool has_row(const char *table, const char *column, const char *name)
{
    return *snap_store_ask("SELECT 1 FROM %s WHERE %s = '%s'", table, column, name);
}

/* The snapshot shows what the node did before. */
static void check_and_delete(const char *snapshot)
{
    char look[40];

    snprintf(look, sizeof(look), "look-%d", run.round);
    snap_store_look_into(snapshot, look);
    check_tree(run.old, fault_store_root(look), snapshot);
    snap_store_coppice("node", "remove", look, NULL, NULL);
    snap_store_coppice("snapshot", "delete", SNAP_NODE, snapshot, NULL);
}

static bool check_create(const char *name)
{
    bool row = has_row("snapshot", "name", name);

    must_hold(row == snap_store_has(SNAP_NODE "/snapshots/%s", name), "%d: row %d of %s", run.round, row, name);
    if (!row) return false;
    must_hold(strcmp(snap_store_ask("SELECT note FROM snapshot WHERE name = '%s'", name), "why it was made") == 0, "%d: its note", run.round);
    check_and_delete(name);
    return true;
}

static bool check_delete(void)
{
    bool row = has_row("snapshot", "name", "doomed");

    must_hold(row == snap_store_has(SNAP_NODE "/snapshots/doomed"), "%d: row %d of what was deleted", run.round, row);
    return !row;
}

/* The old state, or the other with the old one beside it. */
static bool check_switch(const char *kept, const char *expected, unsigned flags)
{
    bool done = has_row("snapshot", "name", kept);

    check_as(done ? expected : run.old, fault_store_at("."), "the node", done ? flags : COMPARE_TIMES);
    if (!done) return false;
    check_and_delete(kept);
    return true;
}

/* What was not added leaves nothing in the way of a second try. */
static bool check_node(enum what what)
{
    bool row = has_row("node", "serial", run.name);

    must_hold(row == snap_store_has("%s", run.name), "%d: row %d of %s", run.round, row, run.name);
    if (!row) assert_int_equal(run_command(what, false), 0);
    check_tree(what == CLONE ? run.old : run.kept, fault_store_root(run.name), run.name);
    snap_store_coppice("node", "remove", run.name, NULL, NULL);
    return row;
}

static bool check_promote(void)
{
    bool row = has_row("image", "name", run.name);

    must_hold(row == (access(fault_store_beside("s/store/images/%s", run.name), F_OK) == 0), "%d: row %d of %s", run.round, row, run.name);
    if (!row) assert_int_equal(run_command(PROMOTE, false), 0);
    check_tree(run.old, fault_store_beside("s/store/images/%s/rootfs", run.name), run.name);
    snap_store_coppice("image", "remove", run.name, NULL, NULL);
    must_hold(harness_run(NULL, "sh", "-c", "! ls -A \"$0\" | grep -q '^\\.'", fault_store_beside("s/store/images"), NULL) == 0,
              "%d: something is left in images/", run.round);
    return row;
}

static bool check_export(void)
{
    const char *part = fault_store_beside("%s.tar.part", run.name);
    bool done = access(tar_file(), F_OK) == 0;

    /* Only between the last two steps has it a name of its own; the next export takes that over. */
    must_hold(done || access(part, F_OK) < 0 || strcmp(run.aim->call, "rename") == 0, "%d: a part is left", run.round);
    if (!done) assert_int_equal(run_command(EXPORT, false), 0);
    must_hold(harness_run(NULL, "tar", "-tf", tar_file(), NULL) == 0, "%d: no tar", run.round);
    must_hold(access(part, F_OK) < 0, "%d: a part is left for ever", run.round);
    must(unlink(tar_file()));
    return done;
}

static bool check(enum what what)
{
    if (what == CREATE) return check_create(run.name);
    if (what == DELETE) return check_delete();
    if (what == RESET) return check_switch("before-reset", fault_store_source(), COMPARE_TIMES);
    if (what == RESET_TO) return check_switch("before-reset", run.kept, COMPARE_TIMES);
    if (what == REBASE) return check_switch("before-rebase", run.old, 0); /* directories have the new image's times */
    if (what == PROMOTE) return check_promote();
    if (what == EXPORT) return check_export();
    return check_node(what);
}

/* ---- rounds ---- */

static void prepare(enum what what)
{
    snprintf(run.name, sizeof(run.name), "k%d", ++run.round);
    change();
    copy(fault_store_at("."), run.old);
    if (what == DELETE && !has_row("snapshot", "name", "doomed")) snap_store_coppice("snapshot", "create", SNAP_NODE, "doomed", NULL);
}

/* True when it was killed. */
static bool one_round(enum what what, enum whom whom, int64_t at)
{
    prepare(what); /* where the daemon is that looked after what the round before has left */
    if (whom == ALONE) assert_true(fault_store_umount());
    bool answered = run_aimed(what, whom, at), killed = atomic_load(&run.aim->fired);
    mount_store();
    snap_store_wait_until_swept(run.round);
    bool done = check(what);
    if (answered != done && (answered || !killed))
        fail_msg("%d: %s, %s killed before step %ld, %s: answered %d, done %d", run.round, words[what], victims[whom], (long)at,
                 run.aim->call, answered, done);
    must_hold(fault_store_is_clean(snap_store_where()), "%d: %s, %s killed before step %ld, %s", run.round, words[what], victims[whom],
              (long)at, run.aim->call);
    return killed;
}

static void all_steps(enum what what, enum whom whom)
{
    const char *only = getenv("COPPICE_ONLY");

    if (only && strcmp(only, words[what]) != 0) return;
    int64_t at = 1 + (int64_t)random_below(&run.state, (uint64_t)run.stride);
    int kills = 0;

    for (; one_round(what, whom, at); at += run.stride) kills++;
    print_message("%s: %d kills of %s, in %ld steps\n", words[what], kills, victims[whom], (long)atomic_load(&run.aim->steps));
}

static void test_daemon_killed_between_steps(void **state)
{
    (void)state;
    for (int what = 0; what < WHATS; what++) all_steps((enum what)what, DAEMON);
}

static void test_command_killed_between_steps(void **state)
{
    (void)state;
    for (int what = PROMOTE; what < WHATS; what++) all_steps((enum what)what, COMMAND);
}

static void test_command_alone_killed_between_steps(void **state)
{
    (void)state;
    for (int what = 0; what < WHATS; what++) all_steps((enum what)what, ALONE);
}

static void map_aim(void)
{
    const char *path = fault_store_beside("aim");
    int fd = must(open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600));

    must(ftruncate(fd, sizeof(*run.aim)));
    run.aim = mmap(NULL, sizeof(*run.aim), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_ptr_not_equal(run.aim, MAP_FAILED);
    close(fd);
    setenv(KILL_AT_FILE, path, 1);
}

static void fill_source(void)
{
    must(mkdir(fault_store_beside("source/image"), 0755));
    write_file(fault_store_beside("source/image/large"), 100000);
    write_file(fault_store_beside("source/image/to"), 10);
    write_file(fault_store_beside("source/image/gone"), 10);
}

static int setup(void **state)
{
    const char *stride = getenv("COPPICE_KILL_STRIDE");

    (void)state;
    must_hold(getenv("COPPICE_KILL_AT_LIBRARY"), "COPPICE_KILL_AT_LIBRARY is not set");
    run.stride = stride ? atoll(stride) : 40;
    run.state = random_seed() | 1;
    fault_store_begin(stride ? 3600 : 280);
    map_aim();
    fill_source();
    must(mkdir(snap_store_where(), 0755));
    fault_store_make(snap_store_where());
    snap_store_coppice("image", "import", "next", fault_store_source(), "--no-templates");
    snprintf(run.old, sizeof(run.old), "%s", fault_store_beside("old"));
    snprintf(run.kept, sizeof(run.kept), "%s", fault_store_beside("kept"));
    mount_store();
    change();
    copy(fault_store_at("."), run.kept);
    snap_store_coppice("snapshot", "create", SNAP_NODE, "kept", NULL);
    snap_store_coppice("node", "export", SNAP_NODE, fault_store_beside("kept.tar"), "--delta");
    assert_true(fault_store_umount());
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_store_end();
    return 0;
}

static int start(void **state)
{
    (void)state;
    mount_store();
    return 0;
}

static int stop(void **state)
{
    (void)state;
    fault_store_stop();
    return 0;
}

/* What is preloaded comes before the sanitizer's own library, which it would refuse. */
static void allow_preloading(void)
{
    const char *options = getenv("ASAN_OPTIONS");
    char text[1024];

    snprintf(text, sizeof(text), "%s:verify_asan_link_order=0", options ? options : "");
    setenv("ASAN_OPTIONS", text, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(test_daemon_killed_between_steps, start, stop),
        cmocka_unit_test_setup_teardown(test_command_killed_between_steps, start, stop),
        cmocka_unit_test_setup_teardown(test_command_alone_killed_between_steps, start, stop),
    };

    allow_preloading();
    return cmocka_run_group_tests(tests, setup, teardown);
}
