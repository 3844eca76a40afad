/* A request that crashes each daemon: two of them, then it is answered with an error, and the mount goes on. The crash is made
 * from outside: a signal to the thread that works on the request, which its disk holds up. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fault_dir.h"
#include "fault_store.h"
#include "harness.h"
#include "made_tree.h"

/* Of the node whose disk is slow; fault_store_at() is the other's root. */
#define SLOW "../../node-slow/rootfs"

enum { LARGE = 300000, READ_MS = 400, SECONDS = 20 };

static struct fault_dir *disk;

/* What the daemon says of itself in the store; 0: there is none yet. */
static pid_t daemon_pid(void)
{
    char text[32] = "";
    int fd = open(fault_store_beside("store/daemon"), O_RDONLY | O_CLOEXEC);
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    if (fd >= 0) close(fd);
    return n > 0 ? atoi(text) : 0;
}

/* A thread of the daemon that waits for a pread(2); 0: none does. */
static pid_t find_reader(pid_t pid)
{
    char path[400], text[32];
    pid_t found = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    for (struct dirent *e; tasks && !found && (e = readdir(tasks));) {
        snprintf(path, sizeof(path), "/proc/%d/task/%s/syscall", (int)pid, e->d_name);
        FILE *file = fopen(path, "re");
        if (file && fgets(text, sizeof(text), file) && atoi(text) == SYS_pread64 && text[0] != '-' && text[0] != 'r')
            found = atoi(e->d_name);
        if (file) fclose(file);
    }
    if (tasks) closedir(tasks);
    return found;
}

/* One that waits for the slow disk, and not for another file. */
static pid_t find_waiting(pid_t pid)
{
    pid_t thread = find_reader(pid);
    if (thread) usleep(READ_MS * 1000 / 4);
    return thread && find_reader(pid) == thread ? thread : 0;
}

/* Crashes every daemon that reads from the slow disk, until the reader has ended: how many. */
static int crash_all(pid_t reader, int *ret_status, int number)
{
    pid_t last = 0;
    int count = 0;
    for (double end = harness_seconds() + SECONDS; harness_seconds() < end; usleep(2000)) {
        if (waitpid(reader, ret_status, WNOHANG) == reader) return count;
        pid_t pid = daemon_pid(), thread = pid && pid != last ? find_waiting(pid) : 0;
        if (!thread || syscall(SYS_tgkill, pid, thread, number) < 0) continue;
        last = pid;
        count++;
    }
    kill(reader, SIGKILL);
    waitpid(reader, ret_status, 0);
    fail_msg("nobody answered the reader; %d daemons crashed", count);
    return -1;
}

static int read_it(void)
{
    int fd = open(fault_store_at(SLOW "/large"), O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fcntl(fd, F_SETFL, O_DIRECT) < 0) return 2;
    static char buffer[4096] __attribute__((aligned(4096)));
    if (pread(fd, buffer, sizeof(buffer), 0) < 0) return errno == EIO ? 1 : 3;
    return 0;
}

static int crash_reads(int number, int *ret_status)
{
    harness_drop_caches();
    fault_dir_set(disk, &(struct fault_dir_mistakes){.read_ms = READ_MS, .only = "/objects/"});
    fflush(NULL);
    pid_t reader = must(fork());
    if (reader == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(read_it());
    }
    int count = crash_all(reader, ret_status, number);
    fault_dir_set(disk, &(struct fault_dir_mistakes){0});
    return count;
}

static int words_with(const char *text)
{
    char *words = fault_store_words();
    int count = 0;
    for (const char *at = words; (at = strstr(at, text)); at++) count++;
    free(words);
    return count;
}

static void must_go_on(void)
{
    made_check_file(fault_store_at(SLOW "/large"), 1, LARGE);
    made_file(fault_store_at("new"), 3, LARGE, 0644);
    made_check_file(fault_store_at("new"), 3, LARGE);
    must(unlink(fault_store_at("new")));
}

static void test_the_third_daemon_answers(void **state)
{
    int status;
    (void)state;
    int count = crash_reads(SIGSEGV, &status);
    must_hold(WIFEXITED(status) && WEXITSTATUS(status) == 1, "the reader ended with status %#x", status);
    assert_int_equal(count, 2);
    assert_int_equal(words_with("has crashed the daemon twice"), 1);
    must_go_on();
}

/* Who is killed is not to blame. */
static void test_a_killed_daemon_accuses_nobody(void **state)
{
    int status, before = words_with("has crashed");
    (void)state;
    for (int i = 0; i < 2; i++) {
        fflush(NULL);
        harness_drop_caches();
        fault_dir_set(disk, &(struct fault_dir_mistakes){.read_ms = READ_MS, .only = "/objects/"});
        pid_t reader = must(fork());
        if (reader == 0) _exit(read_it());
        pid_t last = 0;
        double end = harness_seconds() + SECONDS;
        for (int kills = 0; kills < 3; usleep(5000)) {
            pid_t pid = daemon_pid();
            must_hold(harness_seconds() < end, "%d of 3 kills", kills);
            if (!pid || pid == last || !find_waiting(pid)) continue;
            must(kill(pid, SIGKILL));
            last = pid;
            kills++;
        }
        must(waitpid(reader, &status, 0));
        fault_dir_set(disk, &(struct fault_dir_mistakes){0});
        must_hold(WIFEXITED(status) && WEXITSTATUS(status) == 0, "the reader ended with status %#x", status);
    }
    assert_int_equal(words_with("has crashed"), before);
    must_go_on();
}

/* ---- a daemon that cannot die ---- */

enum { STOPPED = 300 };
static pid_t stopped[STOPPED];
static int stopped_count;

static int state_of(pid_t pid, pid_t thread)
{
    char path[64], text[256] = "";
    snprintf(path, sizeof(path), "/proc/%d/task/%d/stat", (int)pid, (int)thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) text[0] = '\0';
    if (fd >= 0) close(fd);
    const char *end = strrchr(text, ')');
    return end ? end[2] : 0;
}

/* The one that follows the catalog polls two descriptors for 250 ms (watch.c). */
static bool is_watch(pid_t pid, pid_t thread)
{
    char path[64], text[256] = "";
    long call = -1;
    unsigned long arguments[3] = {0};
    snprintf(path, sizeof(path), "/proc/%d/task/%d/syscall", (int)pid, (int)thread);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || read(fd, text, sizeof(text) - 1) < 0) text[0] = '\0';
    if (fd >= 0) close(fd);
    sscanf(text, "%ld %lx %lx %lx", &call, &arguments[0], &arguments[1], &arguments[2]);
    return arguments[1] == 2 && arguments[2] != 0 && strstr(text, " 0x2 ");
}

static pid_t find_watch(pid_t pid)
{
    char path[64];
    pid_t watch = 0;
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    for (double end = harness_seconds() + SECONDS; !watch && harness_seconds() < end; usleep(1000)) {
        DIR *tasks = opendir(path);
        for (struct dirent *e; tasks && !watch && (e = readdir(tasks));)
            if (is_watch(pid, atoi(e->d_name))) watch = atoi(e->d_name);
        if (tasks) closedir(tasks);
    }
    must_hold(watch, "no thread of %d follows the catalog", (int)pid);
    return watch;
}

static void stop_all_but(pid_t pid, pid_t watch)
{
    char path[64];
    snprintf(path, sizeof(path), "/proc/%d/task", (int)pid);
    DIR *tasks = opendir(path);
    for (struct dirent *e; (e = readdir(tasks));) {
        pid_t thread = atoi(e->d_name);
        if (thread == 0 || thread == watch) continue;
        must(ptrace(PTRACE_SEIZE, thread, NULL, NULL));
        must(ptrace(PTRACE_INTERRUPT, thread, NULL, NULL));
        must(waitpid(thread, NULL, __WALL));
        stopped[stopped_count++] = thread;
        assert_in_range(stopped_count, 0, STOPPED - 1);
    }
    closedir(tasks);
}

static void let_go(void)
{
    for (int i = 0; i < stopped_count; i++) must(ptrace(PTRACE_DETACH, stopped[i], NULL, NULL));
    stopped_count = 0;
}

/* After two of its ticks it polls again, unless it waits for a lock of a thread that stands still. */
static bool goes_on(pid_t pid, pid_t watch)
{
    usleep(600000);
    for (int i = 0; i < 300; i++, usleep(1000))
        if (is_watch(pid, watch)) return true;
    return false;
}

/* All threads stand still but that one, which is returned, and none holds a lock that it needs. */
static pid_t stop_all_but_watch(pid_t pid)
{
    pid_t watch = find_watch(pid);
    for (int tries = 0; tries < 20; tries++) {
        stop_all_but(pid, watch);
        if (goes_on(pid, watch)) return watch;
        let_go();
        usleep(50000);
    }
    fail_msg("the thread that follows the catalog does not go on");
    return 0;
}

/* It waits for what does not come, and not just for the disk. */
static bool is_stuck(pid_t pid, pid_t thread)
{
    int times = 0;
    for (double end = harness_seconds() + SECONDS; times < 20 && harness_seconds() < end; usleep(10000))
        times = state_of(pid, thread) == 'D' ? times + 1 : 0;
    return times == 20;
}

/* The kernel's lock of system/ is held by whoever looks up a name there, and waits for an answer; the daemon's thread that tells
 * the kernel of a node's end waits for that lock, and cannot be killed. */
static void test_a_daemon_that_cannot_die_is_passed_by(void **state)
{
    int status;
    struct stat st;
    (void)state;
    must(stat(fault_store_at("../../node-gone/rootfs"), &st));
    int nodes = must(open(fault_store_at("../.."), O_PATH | O_DIRECTORY | O_CLOEXEC)); /* no way there that it could wait on */
    pid_t pid = daemon_pid(), watch = stop_all_but_watch(pid);
    fflush(NULL);
    pid_t client = must(fork());
    if (client == 0) _exit(fstatat(nodes, "no-such-node", &st, 0) < 0 ? errno : 0);
    close(nodes);
    usleep(200000);
    char *output = NULL;
    must_hold(harness_run(&output, "sqlite3", fault_store_beside("store/catalog.db"), "DELETE FROM node WHERE serial = 'node-gone'", NULL) == 0,
              "%s", output);
    free(output);
    must_hold(is_stuck(pid, watch), "the thread is in state %c", state_of(pid, watch));
    must(kill(pid, SIGKILL));
    double start = harness_seconds();
    while (waitpid(client, &status, WNOHANG) == 0) {
        for (int i = 0; i < stopped_count; i++) waitpid(stopped[i], NULL, __WALL | WNOHANG); /* they are dead for good then */
        must_hold(harness_seconds() - start < SECONDS, "nobody has answered for %d s", SECONDS);
        usleep(10000);
    }
    print_message("answered after %.1f s\n", harness_seconds() - start);
    must_hold(WIFEXITED(status) && WEXITSTATUS(status) == ENOENT, "status %#x", status);
    double end = harness_seconds() + SECONDS;
    while (stat(fault_store_at("../../node-gone"), &st) == 0 && harness_seconds() < end) usleep(10000);
    must_fail(ENOENT, stat(fault_store_at("../../node-gone"), &st));
    must_go_on();
}

/* A sanitizer would report the signal as its finding. */
static void leave_signals_alone(const char *variable)
{
    const char *options = getenv(variable);
    char text[1024];
    snprintf(text, sizeof(text), "%s:handle_segv=0", options ? options : "");
    setenv(variable, text, 1);
}

static int setup(void **state)
{
    struct rlimit none = {0};
    (void)state;
    setrlimit(RLIMIT_CORE, &none);
    leave_signals_alone("ASAN_OPTIONS");
    leave_signals_alone("TSAN_OPTIONS");
    fault_store_begin(120);
    made_file(fault_store_beside("source/image"), 5, 1000, 0644);
    fault_store_make(fault_store_directory());
    assert_int_equal(harness_run(NULL, getenv("COPPICE"), "--store", fault_store_beside("store"), "node", "add", "node-slow", NULL), 0);
    assert_int_equal(harness_run(NULL, getenv("COPPICE"), "--store", fault_store_beside("store"), "node", "add", "node-gone", NULL), 0);
    must(mkdir(fault_store_beside("beneath"), 0700));
    must(mkdir(fault_store_beside("store/nodes/node-slow"), 0700));
    disk = fault_dir_mount(fault_store_beside("beneath"), fault_store_beside("store/nodes/node-slow"));
    assert_true(fault_store_mount_supervised(fault_store_directory(), "sync"));
    made_file(fault_store_at(SLOW "/large"), 1, LARGE, 0644);
    must(chmod(fault_store_at("."), 0755));
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    if (disk) fault_dir_set(disk, &(struct fault_dir_mistakes){0});
    pid_t pid = daemon_pid();
    fault_store_stop();
    if (pid) kill(pid, SIGKILL);
    fault_dir_umount(disk);
    fault_store_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_third_daemon_answers),
        cmocka_unit_test(test_a_killed_daemon_accuses_nobody),
        cmocka_unit_test(test_a_daemon_that_cannot_die_is_passed_by),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
