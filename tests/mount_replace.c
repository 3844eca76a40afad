/* The daemon dies, or another one is put in its place, and whoever uses the mount does not see it.
 *
 * COPPICE_KILLS=100 for a long run by hand, COPPICE_RANDOM_SEED=N for the same operations again, COPPICE_ONLY='*without*' for the
 * tests of such names alone. */
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "check.h"
#include "fault_load.h"
#include "harness.h"
#include "random_ops.h"

enum { KILLS = 20, REPLACEMENTS = 5, NEXT_SECONDS = 20 };

static struct {
    uint64_t state;
    struct fault_load *load;
} here;

static int wanted(int usual)
{
    const char *asked = getenv("COPPICE_KILLS");
    return asked ? (atoi(asked) * usual + KILLS - 1) / KILLS : usual;
}

static uint64_t microseconds(void *data)
{
    (void)data;
    return (uint64_t)(harness_seconds() * 1e6);
}

/* ---- daemons ---- */

/* The pid of the daemon after `before`, when it serves; 0: none comes. */
static pid_t wait_for_next(pid_t before)
{
    for (double end = harness_seconds() + NEXT_SECONDS; harness_seconds() < end; usleep(2000)) {
        pid_t pid = harness_daemon_pid();
        if (pid && pid != before) return pid;
    }
    return 0;
}

static void kill_and_wait(void)
{
    pid_t pid = harness_daemon_pid();
    must(kill(pid, SIGKILL));
    must_hold(wait_for_next(pid) > 0, "no daemon after %d", (int)pid);
}

static void replace(void)
{
    char *output = NULL;
    int status = harness_coppice(&output, "mount", "--replace", harness_mountpoint(), NULL);
    if (status != 0) print_error("--replace: exit %d: %s", status, output);
    free(output);
    assert_int_equal(status, 0);
}

/* ---- how long anybody waits ---- */

static atomic_bool is_over;
static double longest_wait;

static void *wait_all_the_time(void *data)
{
    (void)data;
    while (!atomic_load(&is_over)) {
        double begin = harness_seconds();
        int fd = open(harness_at(1, "wait"), O_CREAT | O_EXCL | O_CLOEXEC | O_WRONLY, 0600);
        if (fd < 0 || write(fd, "x", 1) != 1 || close(fd) < 0 || unlink(harness_at(1, "wait")) < 0) {
            print_error("an operation failed: %s\n", strerror(errno));
            longest_wait = 1e9;
            break;
        }
        double waited = harness_seconds() - begin;
        if (waited > longest_wait) longest_wait = waited;
        usleep(500);
    }
    return NULL;
}

static void run_under_load(void (*disturb)(void), int times)
{
    pthread_t thread;
    longest_wait = 0;
    atomic_store(&is_over, false);
    fault_load_start(here.load, harness_root(0), &(struct fault_plan){0});
    assert_int_equal(pthread_create(&thread, NULL, wait_all_the_time, NULL), 0);
    for (int i = 0; i < times; i++) {
        usleep((useconds_t)(300000 + random_below(&here.state, 300000)));
        disturb();
    }
    usleep(300000);
    fault_load_stop(here.load);
    atomic_store(&is_over, true);
    pthread_join(thread, NULL);
    assert_true(fault_load_join(here.load));
    print_message("%ld operations; the longest anybody waited: %.0f ms\n", fault_load_count(here.load), longest_wait * 1000);
    must_hold(longest_wait < 2 * harness_slower(), "a pause of %.1f s", longest_wait);
    assert_true(fault_load_check_all(here.load, harness_root(0)));
}

static void test_nobody_sees_a_kill(void **state)
{
    (void)state;
    run_under_load(kill_and_wait, wanted(KILLS));
}

static void test_nobody_sees_a_replacement(void **state)
{
    (void)state;
    run_under_load(replace, wanted(REPLACEMENTS));
}

static void kill_twice(void)
{
    pid_t pid = harness_daemon_pid();
    must(kill(pid, SIGKILL));
    usleep((useconds_t)random_below(&here.state, 30000));
    pid_t next = harness_daemon_pid();
    if (next && next != pid) kill(next, SIGKILL);
    must_hold(wait_for_next(next ? next : pid) > 0, "no daemon after %d", (int)pid);
}

static void test_nobody_sees_two_kills_at_once(void **state)
{
    (void)state;
    run_under_load(kill_twice, wanted(5));
}

/* ---- one thing at a time ---- */

static void check_unlinked(int fd, const char *when)
{
    char found[5000];
    harness_drop_caches();
    assert_int_equal(pread(fd, found, sizeof(found), 0), sizeof(found));
    for (size_t i = 0; i < sizeof(found); i++) must_hold(found[i] == 'u', "byte %zu %s", i, when);
}

static int64_t objects_on_disk(void)
{
    return harness_disk_usage(harness_beside("store/nodes/%s/objects", harness_serial(0)));
}

static void test_an_open_file_without_a_name_stays(void **state)
{
    char bytes[5000];
    (void)state;
    memset(bytes, 'u', sizeof(bytes));
    int before = must(open(harness_at(0, "before"), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    int after = must(open(harness_at(0, "after"), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    assert_int_equal(pwrite(before, bytes, sizeof(bytes), 0), sizeof(bytes));
    assert_int_equal(pwrite(after, bytes, sizeof(bytes), 0), sizeof(bytes));
    must(unlink(harness_at(0, "before")));
    replace();
    check_unlinked(before, "after a replacement");
    kill_and_wait();
    must(unlink(harness_at(0, "after")));
    check_unlinked(before, "after a kill");
    check_unlinked(after, "unlinked after a kill");
    close(before);
    close(after);
}

/* What is forgotten after a hand-over is ended, and its bytes given back. */
static void test_space_comes_back_after_a_replacement(void **state)
{
    enum { SIZE = 8 << 20 };
    (void)state;
    char *bytes = calloc(1, SIZE);
    assert_non_null(bytes);
    memset(bytes, 'b', SIZE);
    int fd = must(open(harness_at(0, "big"), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    assert_int_equal(pwrite(fd, bytes, SIZE, 0), SIZE);
    free(bytes);
    must(fsync(fd));
    int64_t with = objects_on_disk();
    replace();
    must(unlink(harness_at(0, "big")));
    close(fd);
    for (int i = 0; i < 100 && objects_on_disk() > with - SIZE; i++) {
        harness_drop_caches();
        usleep(100000);
    }
    must_hold(objects_on_disk() <= with - SIZE, "%ld bytes before, %ld after", (long)with, (long)objects_on_disk());
}

/* What the kernel has cached stays valid, and a mapping goes on. */
static void test_a_mapping_goes_on(void **state)
{
    (void)state;
    int fd = must(open(harness_at(0, "mapped"), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    must(ftruncate(fd, 8192));
    char *map = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(map != MAP_FAILED);
    map[0] = 'a';
    kill_and_wait();
    map[4096] = 'b';
    must(msync(map, 8192, MS_SYNC));
    munmap(map, 8192);
    close(fd);
    harness_drop_caches();
    char found[8192];
    fd = must(open(harness_at(0, "mapped"), O_RDONLY | O_CLOEXEC));
    assert_int_equal(read(fd, found, sizeof(found)), sizeof(found));
    close(fd);
    assert_true(found[0] == 'a' && found[4096] == 'b');
}

static void test_a_program_that_does_not_run_takes_nothing_over(void **state)
{
    pid_t daemon = harness_daemon_pid(), supervisor = harness_supervisor_pid();
    char command[64];
    (void)state;
    assert_true(supervisor > 0);
    /* The supervisor takes the shell, which asks, for the new program. */
    snprintf(command, sizeof(command), "kill -USR2 %d; sleep 1", (int)supervisor);
    assert_int_equal(harness_run(NULL, "/bin/sh", "-c", command, NULL), 0);
    must_hold(wait_for_next(daemon) > 0, "no daemon after %d", (int)daemon);
    assert_int_equal(harness_supervisor_pid(), supervisor);
    must(access(harness_at(0, "load"), F_OK));
    replace();
}

static void test_without_its_supervisor_a_daemon_serves_on(void **state)
{
    char *output = NULL;
    pid_t supervisor = harness_supervisor_pid();
    (void)state;
    must(kill(supervisor, SIGKILL));
    for (int i = 0; i < 500 && kill(supervisor, 0) == 0; i++) usleep(10000);
    close(must(open(harness_at(0, "unsupervised"), O_CREAT | O_RDWR | O_CLOEXEC, 0600)));
    assert_int_equal(harness_coppice(&output, "mount", "--replace", harness_mountpoint(), NULL), 1);
    must_hold(strstr(output, "has no supervisor") != NULL, "said: %s", output);
    free(output);
    assert_int_equal(harness_coppice(&output, "mount", harness_mountpoint(), NULL), 1);
    must_hold(strstr(output, "supervisor") != NULL, "said: %s", output);
    free(output);
    harness_remount();
    assert_true(harness_supervisor_pid() > 0);
    must(access(harness_at(0, "unsupervised"), F_OK));
}

static void test_a_daemon_that_always_dies_is_given_up(void **state)
{
    pid_t supervisor = harness_supervisor_pid(), killed = 0;
    struct stat st;
    (void)state;
    for (double end = harness_seconds() + NEXT_SECONDS; kill(supervisor, 0) == 0 && harness_seconds() < end; usleep(1000)) {
        pid_t pid = harness_daemon_pid();
        if (pid && pid != killed && kill(pid, SIGKILL) == 0) killed = pid;
    }
    must_hold(kill(supervisor, 0) < 0, "the supervisor goes on");
    assert_int_equal(stat(harness_at(0, "x"), &st), -1);
    assert_int_equal(errno, ENOTCONN);
    assert_int_equal(harness_coppice(NULL, "umount", harness_mountpoint(), NULL), 0);
    harness_mount();
    must(access(harness_at(0, "load"), F_OK));
}

static unsigned long long capabilities_of(pid_t pid)
{
    char path[64], line[256];
    unsigned long long found = ~0ull;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)pid);
    FILE *file = fopen(path, "re");
    while (file && fgets(line, sizeof(line), file)) sscanf(line, "CapPrm: %llx", &found);
    if (file) fclose(file);
    return found;
}

static void test_the_daemon_keeps_one_capability(void **state)
{
    (void)state;
    assert_int_equal(capabilities_of(harness_daemon_pid()), 1 << 2); /* CAP_DAC_READ_SEARCH */
    replace();
    assert_int_equal(capabilities_of(harness_daemon_pid()), 1 << 2);
}

/* ---- as on Linux before 6.9: what was in flight fails, and the mount comes back ---- */

static void mount_without_resending(void)
{
    harness_umount();
    setenv("COPPICE_NO_RESEND", "1", 1);
    harness_mount();
    unsetenv("COPPICE_NO_RESEND");
}

static void check_back_since(double begin, const char *path)
{
    struct stat st;
    while (stat(path, &st) < 0 && harness_seconds() < begin + 10 * harness_slower()) usleep(10000);
    double waited = harness_seconds() - begin;
    print_message("back after %.0f ms\n", waited * 1000);
    must_hold(waited < 5 * harness_slower(), "back after %.1f s", waited);
}

static void test_without_resending_the_mount_comes_back(void **state)
{
    (void)state;
    mount_without_resending();
    close(must(open(harness_at(0, "early"), O_CREAT | O_RDWR | O_CLOEXEC, 0600)));
    replace(); /* which needs no resending */
    must(access(harness_at(0, "early"), F_OK));
    double begin = harness_seconds();
    kill_and_wait();
    check_back_since(begin, harness_at(0, "early"));
    harness_remount();
}

/* A file as nfsd holds it, and what is in it. */
struct held {
    union {
        struct file_handle head;
        char room[sizeof(struct file_handle) + MAX_HANDLE_SZ];
    };
    const char *name;
    size_t size;
    ino_t ino;
};

static void hold(struct held *held)
{
    char *bytes = malloc(held->size);
    struct stat st;
    int mount, fd = must(open(harness_at(0, "%s", held->name), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    assert_non_null(bytes);
    memset(bytes, held->name[0], held->size);
    assert_int_equal(pwrite(fd, bytes, held->size, 0), held->size); /* that nothing syncs */
    free(bytes);
    must(fstat(fd, &st));
    held->ino = st.st_ino;
    held->head.handle_bytes = MAX_HANDLE_SZ;
    must(name_to_handle_at(AT_FDCWD, harness_at(0, "%s", held->name), &held->head, &mount, 0));
    must(close(fd));
}

static void check_held(struct held *held)
{
    char *bytes = malloc(held->size + 1);
    struct stat st;
    int root = must(open(harness_mountpoint(), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
    int fd = must(open_by_handle_at(root, &held->head, O_RDWR | O_CLOEXEC));
    assert_non_null(bytes);
    must(fstat(fd, &st));
    assert_int_equal(st.st_ino, held->ino);
    assert_int_equal(pread(fd, bytes, held->size + 1, 0), held->size);
    for (size_t i = 0; i < held->size; i++) must_hold(bytes[i] == held->name[0], "%s: byte %zu", held->name, i);
    free(bytes);
    assert_int_equal(pwrite(fd, held->name, 1, 0), 1);
    must(fsync(fd));
    must(close(fd));
    must(close(root));
}

static void kill_under_load(struct held held[2])
{
    fault_load_start(here.load, harness_root(0), &(struct fault_plan){0});
    usleep((useconds_t)(300000 + random_below(&here.state, 300000)));
    for (int i = 0; i < 2; i++) hold(&held[i]);
    fault_load_expect_death(here.load);
    fault_load_expect_replacement(here.load); /* while nothing is mounted there are no names */
    double begin = harness_seconds();
    kill_and_wait();
    check_back_since(begin, harness_at(0, "small"));
    bool is_good = fault_load_join(here.load);
    assert_true(is_good);
}

static void test_without_resending_handles_go_on_through_kills_under_load(void **state)
{
    struct held held[2] = {{.name = "small", .size = 1000}, {.name = "large", .size = 100000}};
    (void)state;
    mount_without_resending();
    for (int i = 0; i < wanted(5); i++) {
        kill_under_load(held);
        for (int n = 0; n < 2; n++) check_held(&held[n]);
        assert_true(fault_load_check_all(here.load, harness_root(0)));
    }
    print_message("%ld operations\n", fault_load_count(here.load));
    harness_remount();
}

static int setup(void **state)
{
    (void)state;
    harness_start(&(struct harness_options){.extra = fault_load_fill_image});
    harness_needs_mount();
    here.state = random_seed();
    here.load = fault_load_new(harness_source(), random_next(&here.state), microseconds, NULL);
    return 0;
}

static int teardown(void **state)
{
    fault_load_free(here.load);
    return harness_teardown(state);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_an_open_file_without_a_name_stays),
        cmocka_unit_test(test_space_comes_back_after_a_replacement),
        cmocka_unit_test(test_a_mapping_goes_on),
        cmocka_unit_test(test_the_daemon_keeps_one_capability),
        cmocka_unit_test(test_a_program_that_does_not_run_takes_nothing_over),
        cmocka_unit_test(test_nobody_sees_a_kill),
        cmocka_unit_test(test_nobody_sees_a_replacement),
        cmocka_unit_test(test_nobody_sees_two_kills_at_once),
        cmocka_unit_test(test_without_its_supervisor_a_daemon_serves_on),
        cmocka_unit_test(test_a_daemon_that_always_dies_is_given_up),
        cmocka_unit_test(test_without_resending_the_mount_comes_back),
        cmocka_unit_test(test_without_resending_handles_go_on_through_kills_under_load),
    };
    cmocka_set_test_filter(getenv("COPPICE_ONLY"));
    return cmocka_run_group_tests(tests, setup, teardown);
}
