/* The store on a disk that forgets what was not flushed: whatever the moment of the cut, what was answered is there.
 *
 * COPPICE_RANDOM_SECONDS=600 for a long run by hand, COPPICE_RANDOM_SEED=N for the same operations again,
 * COPPICE_DISK=xfs or btrfs for another file system of the store than ext4, ext4:1024 for one of such blocks,
 * COPPICE_ONLY='*again*' for the tests of such names alone. */
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fault_disk.h"
#include "fault_load.h"
#include "fault_op.h"
#include "fault_store.h"
#include "harness.h"
#include "random_ops.h"

enum { DISK_BYTES = 80 << 20, CUTS_OF_A_RUN = 60, NODES = 2, SNAPSHOTS_AT_MOST = 4, RUNS = 4 };

static const char *const nodes[NODES] = {"node-a", "node-b"};

/* What is done to the nodes, each by threads of its own. */
struct run {
    struct fault_plan plan;
    const char *options; /* of the mount; NULL: sync */
    int snapshots;       /* of the first node, meanwhile */
    bool is_alone;       /* the first node */
};

/* Async so seldom that only an fsync commits. */
static const struct run small_run = {.plan = {.operations = 2}, .is_alone = true},
                        long_runs[RUNS] = {{.plan = {.operations = 250}},
                                       {.plan = {.operations = 100, .writes = true}},
                                       {.plan = {.operations = 250}, .options = "async=60"},
                                       {.plan = {.operations = 150}, .snapshots = SNAPSHOTS_AT_MOST}},
                        short_runs[] = {{.plan = {.operations = 40}},
                                        {.plan = {.operations = 40, .writes = true}},
                                        {.plan = {.operations = 40}, .snapshots = 1}};

struct snapshot {
    char name[16];
    uint64_t begun, made;
};

static struct {
    uint64_t state;
    struct fault_disk *disk, *after; /* recorded; what a cut leaves of it */
    struct fault_load *loads[NODES];
    const struct run *run;
    struct snapshot snapshots[SNAPSHOTS_AT_MOST]; /* of this recording */
    int snapshots_count, snapshots_ever;
    uint64_t first, end; /* moments of the recording between which the load ran */
    atomic_bool is_over;
    int cuts;
} power;

static const char *disk_directory(void)
{
    return fault_store_beside("disk");
}

/* ---- the kernel writes things back in any order, long before it must ---- */

static void write_back(const char *path, bool is_waited_for)
{
    unsigned how = SYNC_FILE_RANGE_WRITE | (is_waited_for ? SYNC_FILE_RANGE_WAIT_AFTER : 0);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    sync_file_range(fd, 0, 0, how);
    close(fd);
}

static void write_back_some_object(uint64_t *state)
{
    char name[300] = "";
    uint64_t seen = 0;
    const char *node = nodes[random_below(state, NODES)];
    DIR *objects = opendir(fault_store_beside("disk/store/nodes/%s/objects", node));
    for (struct dirent *e; objects && (e = readdir(objects));)
        if (random_below(state, ++seen) == 0) snprintf(name, sizeof(name), "%s", e->d_name);
    if (objects) closedir(objects);
    write_back(fault_store_beside("disk/store/nodes/%s/objects/%s", node, name), false);
}

/* The file system's journal is committed with whatever is in it, on somebody else's behalf. */
static void commit_journal(uint64_t turn)
{
    int fd = must(open(fault_store_beside("disk/other"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
    fchmod(fd, turn % 2 ? 0600 : 0640);
    fsync(fd);
    close(fd);
}

static void *write_back_at_random(void *data)
{
    uint64_t state = power.state | 1;
    (void)data;
    while (!atomic_load(&power.is_over)) {
        uint64_t what = random_below(&state, 10);
        const char *node = nodes[random_below(&state, NODES)];
        if (what < 5) write_back(fault_store_beside("disk/store/nodes/%s/delta.db-wal", node), what < 3);
        else if (what < 7) write_back_some_object(&state);
        else if (what < 8) write_back(fault_store_beside("disk/store/nodes/%s/delta.db", node), false);
        /* A WAL that has grown shows its end only now. */
        if (what < 3 || what >= 8) commit_journal(state);
        usleep((useconds_t)random_below(&state, random_below(&state, 4) ? 1000 : 8000));
    }
    return NULL;
}

static uint64_t moment_of_the_disk(void *data)
{
    (void)data;
    return fault_disk_moment(power.disk);
}

static void tell_words(void)
{
    char *words = fault_store_words();
    print_error("the daemon said: %s\n", words);
    free(words);
}

static void take_snapshots(void)
{
    for (int i = 0; i < power.run->snapshots; i++) {
        struct snapshot *snapshot = &power.snapshots[power.snapshots_count];
        snprintf(snapshot->name, sizeof(snapshot->name), "s%d", power.snapshots_ever++);
        usleep((useconds_t)random_below(&power.state, 100000));
        snapshot->begun = moment_of_the_disk(NULL);
        fault_store_snapshot(disk_directory(), nodes[0], snapshot->name);
        snapshot->made = moment_of_the_disk(NULL);
        power.snapshots_count++;
    }
}

static int nodes_of(const struct run *run)
{
    return run->is_alone ? 1 : NODES;
}

static void run_loads(void)
{
    pthread_t thread;
    bool is_good = true;
    atomic_store(&power.is_over, false);
    must_hold(pthread_create(&thread, NULL, write_back_at_random, NULL) == 0, "no thread");
    for (int i = 0; i < nodes_of(power.run); i++)
        fault_load_start(power.loads[i], fault_store_root(nodes[i]), &power.run->plan);
    take_snapshots();
    for (int i = 0; i < nodes_of(power.run); i++) is_good = fault_load_join(power.loads[i]) && is_good;
    atomic_store(&power.is_over, true);
    pthread_join(thread, NULL);
    if (!is_good) tell_words();
    assert_true(is_good);
}

static void begin_loads(void)
{
    for (int i = 0; i < NODES; i++)
        power.loads[i] = fault_load_new(fault_store_source(), random_next(&power.state), moment_of_the_disk, NULL);
}

static long count_operations(void)
{
    long count = 0;
    for (int i = 0; i < NODES; i++) count += fault_load_count(power.loads[i]);
    return count;
}

/* A store on a disk of its own. */
static void make_disk(void)
{
    if (!fault_disk_is_possible()) skip();
    power.disk = fault_disk_new(DISK_BYTES);
    assert_true(fault_disk_mount(power.disk, disk_directory()));
    fault_store_make(disk_directory());
    fault_store_add_node(disk_directory(), nodes[1]);
    fault_disk_umount(power.disk, disk_directory());
}

/* Mounted, and all that is done to it recorded from here on. */
static void begin_record_with(const char *options)
{
    fault_disk_record(power.disk, fault_store_beside("recorded"));
    assert_true(fault_disk_mount(power.disk, disk_directory()));
    assert_true(fault_store_mount(disk_directory(), options));
    power.snapshots_count = 0;
    power.first = fault_disk_moment(power.disk);
}

static void begin_record(void)
{
    begin_record_with(NULL);
}

static void end_record(void)
{
    power.end = fault_disk_moment(power.disk);
    assert_true(fault_store_umount());
    fault_disk_umount(power.disk, disk_directory());
    fault_disk_record_end(power.disk);
}

static void record(const struct run *run)
{
    power.run = run;
    begin_record_with(run->options);
    run_loads();
    end_record();
}

static void forget(void)
{
    for (int i = 0; i < NODES; i++) {
        fault_load_free(power.loads[i]);
        power.loads[i] = NULL;
    }
    fault_disk_free(power.disk);
    power.disk = NULL;
}

static void tell_cut(const struct fault_cut *cut)
{
    print_error("cut at %lu of %lu … %lu, chance %u, %s, seed %lu\n", cut->moment, power.first, power.end, cut->chance,
                cut->is_torn ? "torn" : "whole", cut->seed);
    tell_words();
}

/* The store as the cut left it, mounted; now and then fsck comes first, which may find objects of nobody. */
static bool come_back(const struct fault_cut *cut)
{
    fault_disk_cut(power.disk, cut, power.after);
    assert_true(fault_disk_mount(power.after, disk_directory()));
    bool is_good = fault_store_is_sound(disk_directory()) &&
                   (cut->seed % 4 || fault_store_repair(disk_directory())) &&
                   fault_store_mount(disk_directory(), NULL);
    if (!is_good) tell_cut(cut);
    return is_good;
}

static void go_again(void)
{
    assert_true(fault_store_umount());
    assert_true(fault_store_is_clean(disk_directory()));
    fault_disk_umount(power.after, disk_directory());
    power.cuts++;
}

static bool check_node(int node, const struct fault_cut *cut, bool goes_on)
{
    const char *root = fault_store_root(nodes[node]);
    unsigned unit = cut->is_torn ? FAULT_SECTOR : fault_disk_block();
    if (power.run->options) return fault_load_check_async_cut(power.loads[node], root, cut->moment, unit);
    return fault_load_check_cut(power.loads[node], root, cut->moment, unit, goes_on);
}

/* The last one that was answered shows what there was at some instant, exactly. */
static bool check_snapshot(const struct fault_cut *cut)
{
    char from[32];
    int last = power.snapshots_count - 1;
    while (last >= 0 && power.snapshots[last].made > cut->moment) last--;
    if (last < 0) return true;
    snprintf(from, sizeof(from), "%s@%s", nodes[0], power.snapshots[last].name);
    fault_store_clone(disk_directory(), from, from + strlen(nodes[0]) + 1);
    const char *root = fault_store_root(power.snapshots[last].name);
    return fault_load_check_copy(power.loads[0], root, power.snapshots[last].begun);
}

static void check(const struct fault_cut *cut, bool goes_on)
{
    assert_true(come_back(cut));
    bool is_good = check_snapshot(cut);
    for (int i = 0; i < NODES; i++) is_good = check_node(i, cut, goes_on) && is_good;
    if (!is_good) tell_cut(cut);
    assert_true(is_good);
    go_again();
}

static void check_cut(const struct fault_cut *cut)
{
    check(cut, false);
}

static struct fault_cut random_cut(uint64_t moment)
{
    static const unsigned chances[] = {0, 64, 128, 230};
    struct fault_cut cut = {.moment = moment, .seed = random_next(&power.state)};
    cut.chance = chances[random_below(&power.state, 4)];
    cut.is_torn = random_below(&power.state, 3) == 0;
    return cut;
}

/* Just after the flush, and, now and then, in the middle of what comes before the next. */
static void cut_around_flush(uint64_t moment)
{
    check_cut(&(struct fault_cut){.moment = moment, .seed = 1});
    uint64_t next = moment + 1;
    while (next < power.end && !fault_disk_is_flush(power.disk, next)) next++;
    if (next == moment + 1 || random_below(&power.state, 3)) return;
    struct fault_cut cut = random_cut(moment + 1 + random_below(&power.state, next - moment - 1));
    check_cut(&cut);
}

static void test_a_small_run_cut_at_every_flush(void **state)
{
    (void)state;
    make_disk();
    begin_loads();
    record(&small_run);
    for (uint64_t moment = power.first; moment <= power.end; moment++)
        if (fault_disk_is_flush(power.disk, moment)) cut_around_flush(moment);
    print_message("%ld operations, %lu writes and flushes, %d cuts\n", count_operations(),
                  power.end - power.first, power.cuts);
}

/* Half of them just after a flush: the dice seldom meet that. */
static uint64_t random_moment(void)
{
    uint64_t moment = power.first + random_below(&power.state, power.end - power.first + 1);
    if (random_below(&power.state, 2)) return moment;
    while (moment < power.end && !fault_disk_is_flush(power.disk, moment)) moment++;
    return moment;
}

static void test_long_runs_cut_anywhere(void **state)
{
    (void)state;
    double share = random_seconds(12) / RUNS, end = harness_seconds() + RUNS * share;
    int runs = 0;
    power.cuts = 0;
    do {
        double next = harness_seconds() + share;
        forget();
        make_disk();
        begin_loads();
        record(&long_runs[runs++ % RUNS]);
        for (int i = 0; i < CUTS_OF_A_RUN && (harness_seconds() < next || i < 3); i++) {
            struct fault_cut cut = random_cut(random_moment());
            check_cut(&cut);
        }
        print_message("%s: %ld operations, %lu writes and flushes, %d cuts\n",
                      power.run->options ? power.run->options : power.run->snapshots ? "snapshots" : "sync",
                      count_operations(), power.end - power.first, power.cuts);
    } while (harness_seconds() < end || runs < RUNS);
}

static void stand_on_what_is_left(void)
{
    struct fault_disk *before = power.disk;
    power.disk = power.after;
    power.after = before;
}

/* What one cut leaves the next run stands on, and the next cut. */
static void test_cut_again_and_again(void **state)
{
    (void)state;
    double end = harness_seconds() + random_seconds(8);
    int runs = 0;
    power.cuts = 0;
    make_disk();
    begin_loads();
    do {
        record(&short_runs[runs++ % 3]);
        struct fault_cut cut = random_cut(random_moment());
        check(&cut, true);
        stand_on_what_is_left();
    } while (harness_seconds() < end || runs < 3);
    print_message("%ld operations, %d cuts\n", count_operations(), power.cuts);
}

/* ---- what the dice meet too seldom ---- */

#define WHOLE_CUT(moment_) (&(struct fault_cut){.moment = (moment_), .chance = 256})

/* Once it has been moved into the database the WAL is written over: its bytes then count without the file system's
 * journal. */
static void make_wal_old(void)
{
    static unsigned char bytes[16000];
    for (int i = 0; i < 1200; i++) {
        int fd = must(open(fault_store_at("row"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
        bytes[0]++;
        assert_int_equal(pwrite(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
        must(close(fd));
    }
    usleep(1000000);
    must(chmod(fault_store_at("row"), 0600));
    commit_journal(0);
}

static void test_a_lost_object_takes_no_length_with_it_that_was_answered(void **state)
{
    struct stat st;
    (void)state;
    make_disk();
    begin_record();
    make_wal_old();
    int fd = must(open(fault_store_at("grown"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    must(ftruncate(fd, 65222));
    assert_int_equal(pwrite(fd, "bytes", 5, 60000), 5);
    write_back(fault_store_beside("disk/store/nodes/node-a/delta.db-wal"), true);
    uint64_t moment = fault_disk_moment(power.disk);
    must(close(fd));
    end_record();

    assert_true(come_back(WHOLE_CUT(moment)));
    must(stat(fault_store_at("grown"), &st));
    must_hold(st.st_size == 65222, "%ld bytes long", (long)st.st_size);
    go_again();
}

static void write_back_objects(void)
{
    const char *path = fault_store_beside("disk/store/nodes/node-a/objects");
    DIR *objects = opendir(path);
    for (struct dirent *e; objects && (e = readdir(objects));) {
        char object[1400];
        snprintf(object, sizeof(object), "%s/%s", path, e->d_name);
        write_back(object, true);
    }
    if (objects) closedir(objects);
}

static void fill(int fd, char byte, off_t offset, size_t length)
{
    char bytes[20000];
    memset(bytes, byte, length);
    assert_int_equal(pwrite(fd, bytes, length, offset), length);
}

/* Bytes behind the end of a file are in its last block, and the row and the file system's length that speak of them
 * are not on the disk. */
static void lose_bytes_behind_the_end(void)
{
    struct stat st;
    begin_record();
    make_wal_old();
    int fd = must(open(fault_store_at("grown"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    fill(fd, 'a', 0, 20000);
    must(fsync(fd));
    fill(fd, 'b', 20000, 300);
    write_back_objects();
    uint64_t moment = fault_disk_moment(power.disk);
    must(close(fd));
    end_record();

    assert_true(come_back(WHOLE_CUT(moment)));
    must(stat(fault_store_at("grown"), &st));
    must_hold(st.st_size == 20000, "%ld bytes long", (long)st.st_size);
    go_again();
}

static void test_bytes_lost_once_do_not_show_when_the_file_grows_again(void **state)
{
    char found[300] = "";
    (void)state;
    make_disk();
    lose_bytes_behind_the_end();
    stand_on_what_is_left();
    begin_record();
    make_wal_old();
    int fd = must(open(fault_store_at("grown"), O_WRONLY | O_CLOEXEC));
    fill(fd, 'c', 20000, 300);
    write_back(fault_store_beside("disk/store/nodes/node-a/delta.db-wal"), true);
    commit_journal(1);
    uint64_t moment = fault_disk_moment(power.disk);
    must(close(fd));
    end_record();

    assert_true(come_back(WHOLE_CUT(moment)));
    fd = must(open(fault_store_at("grown"), O_RDONLY | O_CLOEXEC));
    ssize_t n = must(pread(fd, found, sizeof(found), 20000));
    /* btrfs writes nothing in its place, and loses the row. */
    assert_int_equal(n, n == 0 && fault_disk_copies() ? 0 : sizeof(found));
    must(close(fd));
    must_hold(!memchr(found, 'b', sizeof(found)), "bytes that were lost show again");
    go_again();
}

/* The row is on the disk, the object's new length is not. */
static void test_a_file_that_grew_without_fsync_is_no_damage(void **state)
{
    struct stat st;
    (void)state;
    make_disk();
    begin_record();
    make_wal_old();
    int fd = must(open(fault_store_at("grown"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    fill(fd, 'a', 0, 20000);
    must(fsync(fd));
    fill(fd, 'b', 20000, 20000);
    write_back(fault_store_beside("disk/store/nodes/node-a/delta.db-wal"), true);
    uint64_t moment = fault_disk_moment(power.disk);
    must(close(fd));
    end_record();

    fault_disk_cut(power.disk, WHOLE_CUT(moment), power.after);
    assert_true(fault_disk_mount(power.after, disk_directory()));
    assert_true(fault_store_is_clean(disk_directory()));
    assert_true(fault_store_mount(disk_directory(), NULL));
    must(stat(fault_store_at("grown"), &st));
    assert_int_equal(st.st_size, fault_disk_copies() && st.st_size == 20000 ? 20000 : 40000);
    go_again();
}

/* What outlived a daemon in the kernel's cache alone is no less to be synced by the next one. */
static void test_an_fsync_reaches_what_a_dead_daemon_had_written(void **state)
{
    char byte;
    (void)state;
    make_disk();
    begin_record();
    int fd = must(open(fault_store_at("small"), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
    fill(fd, 'a', 0, 1);
    must(close(fd));
    fault_store_kill();
    fault_store_detach();
    assert_true(fault_store_mount(disk_directory(), NULL));
    fd = must(open(fault_store_at("small"), O_WRONLY | O_CLOEXEC));
    must(fsync(fd));
    uint64_t moment = fault_disk_moment(power.disk);
    must(close(fd));
    end_record();

    assert_true(come_back(&(struct fault_cut){.moment = moment}));
    fd = must(open(fault_store_at("small"), O_RDONLY | O_CLOEXEC));
    assert_int_equal(must(pread(fd, &byte, 1, 0)), 1);
    assert_int_equal(byte, 'a');
    must(close(fd));
    go_again();
}

static void test_async_commits_at_its_interval(void **state)
{
    (void)state;
    make_disk();
    begin_record_with("async=1");
    close(must(creat(fault_store_at("made"), 0644)));
    usleep(4000000);
    uint64_t moment = fault_disk_moment(power.disk);
    end_record();
    assert_true(come_back(&(struct fault_cut){.moment = moment}));
    must(access(fault_store_at("made"), F_OK));
    go_again();
}

/* The file is so long (-1: as long as it likes), and what it began with is there. */
static void check_length(const char *name, off_t size)
{
    struct stat st;
    char found[100] = "";
    if (size < 0) return;
    must(stat(fault_store_at("%s", name), &st));
    must_hold(st.st_size == size, "%s: %ld bytes long", name, (long)st.st_size);
    int fd = must(open(fault_store_at("%s", name), O_RDONLY | O_CLOEXEC));
    assert_int_equal(must(pread(fd, found, sizeof(found), 0)), sizeof(found));
    must(close(fd));
    if (name[0] == 'b') must_hold(found[0] == 'a' && memcmp(found, found + 1, 99) == 0, "%s: lost its beginning", name);
}

/* Of an async mount: what came later is on the disk, and so must be the length of whatever way the file had to grow. */
static void test_async_a_lost_object_takes_no_length_with_it(void **state)
{
    static const char *const names[] = {"by-truncate", "by-write", "load/0/f6"};
    static const off_t sizes[] = {65222, 20001, 200000};
    (void)state;
    make_disk();
    begin_record_with("async=60");
    make_wal_old();
    for (int i = 0; i < 3; i++) {
        int fd = must(open(fault_store_at("%s", names[i]), O_WRONLY | O_CREAT | O_CLOEXEC, 0644));
        if (i < 2) fill(fd, 'a', 0, 100);
        if (i == 1) fill(fd, 'b', sizes[i] - 1, 1);
        else must(ftruncate(fd, sizes[i]));
        must(close(fd));
    }
    close(must(creat(fault_store_at("later"), 0644)));
    write_back(fault_store_beside("disk/store/nodes/node-a/delta.db-wal"), true);
    uint64_t moment = fault_disk_moment(power.disk);
    end_record();

    assert_true(come_back(WHOLE_CUT(moment)));
    bool is_there = access(fault_store_at("later"), F_OK) == 0;
    must_hold(is_there || fault_disk_copies(), "nothing of it reached the disk");
    for (int i = 0; i < 3; i++) check_length(names[i], is_there ? sizes[i] : -1);
    go_again();
}

/* Room that is reserved, and not written to, reads as zeros: once somebody has read it, SEEK_DATA takes it for data. */
static void read_all_objects(void)
{
    char command[1400];
    snprintf(command, sizeof(command), "cat %s/* >/dev/null", fault_store_beside("disk/store/nodes/node-a/objects"));
    assert_int_equal(system(command), 0);
}

static void test_reserved_room_that_somebody_has_read_is_not_taken_for_bytes(void **state)
{
    char before[4096], found[4096];
    (void)state;
    make_disk();
    begin_record();
    make_wal_old();
    int fd = must(open(fault_store_at("load/0/f6"), O_RDWR | O_CLOEXEC));
    assert_int_equal(must(pread(fd, before, sizeof(before), 40960)), sizeof(before));
    must(fallocate(fd, 0, 0, 150000));
    must(fsync(fd));
    fill(fd, 'w', 40960, 4096);
    write_back(fault_store_beside("disk/store/nodes/node-a/delta.db-wal"), true);
    uint64_t moment = fault_disk_moment(power.disk);
    must(close(fd));
    end_record();

    fault_disk_cut(power.disk, WHOLE_CUT(moment), power.after);
    assert_true(fault_disk_mount(power.after, disk_directory()));
    read_all_objects();
    assert_true(fault_store_mount(disk_directory(), NULL));
    fd = must(open(fault_store_at("load/0/f6"), O_RDONLY | O_CLOEXEC));
    assert_int_equal(must(pread(fd, found, sizeof(found), 40960)), sizeof(found));
    must(close(fd));
    assert_memory_equal(found, before, sizeof(found));
    go_again();
}

/* What is beside a page in its block was not written with it. */
static void test_the_page_beside_a_synced_one_is_old_or_new(void **state)
{
    char before[4096], after[4096], found[4096];
    (void)state;
    make_disk();
    begin_record();
    make_wal_old();
    int fd = must(open(fault_store_at("load/0/f6"), O_RDWR | O_CLOEXEC));
    assert_int_equal(must(pread(fd, before, sizeof(before), 40960)), sizeof(before));
    memset(after, 'w', sizeof(after));
    fill(fd, 's', 36864, 4096);
    must(fsync(fd));
    fill(fd, 'w', 40960, 4096);
    write_back(fault_store_beside("disk/store/nodes/node-a/delta.db-wal"), true);
    uint64_t moment = fault_disk_moment(power.disk);
    must(close(fd));
    end_record();

    assert_true(come_back(WHOLE_CUT(moment)));
    fd = must(open(fault_store_at("load/0/f6"), O_RDONLY | O_CLOEXEC));
    assert_int_equal(must(pread(fd, found, sizeof(found), 40960)), sizeof(found));
    must(close(fd));
    must_hold(memcmp(found, before, sizeof(found)) == 0 || memcmp(found, after, sizeof(found)) == 0, "neither: %d", found[0]);
    go_again();
}

/* Also after a failure. */
static int stop(void **state)
{
    (void)state;
    fault_store_stop();
    while (umount2(disk_directory(), MNT_DETACH) == 0) continue;
    forget();
    return 0;
}

static int setup(void **state)
{
    (void)state;
    fault_store_begin(280 + 2 * (int)random_seconds(0));
    fault_load_fill_image(fault_store_source());
    must(mkdir(disk_directory(), 0755));
    close(must(creat(fault_store_beside("recorded"), 0600)));
    power.state = random_seed();
    if (fault_disk_is_possible()) power.after = fault_disk_new(DISK_BYTES);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    fault_store_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_a_small_run_cut_at_every_flush, stop),
        cmocka_unit_test_teardown(test_a_lost_object_takes_no_length_with_it_that_was_answered, stop),
        cmocka_unit_test_teardown(test_bytes_lost_once_do_not_show_when_the_file_grows_again, stop),
        cmocka_unit_test_teardown(test_a_file_that_grew_without_fsync_is_no_damage, stop),
        cmocka_unit_test_teardown(test_an_fsync_reaches_what_a_dead_daemon_had_written, stop),
        cmocka_unit_test_teardown(test_async_commits_at_its_interval, stop),
        cmocka_unit_test_teardown(test_async_a_lost_object_takes_no_length_with_it, stop),
        cmocka_unit_test_teardown(test_reserved_room_that_somebody_has_read_is_not_taken_for_bytes, stop),
        cmocka_unit_test_teardown(test_the_page_beside_a_synced_one_is_old_or_new, stop),
        cmocka_unit_test_teardown(test_long_runs_cut_anywhere, stop),
        cmocka_unit_test_teardown(test_cut_again_and_again, stop),
    };
    cmocka_set_test_filter(getenv("COPPICE_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
