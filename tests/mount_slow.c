/* One node's directory lies on a disk that does not answer: the others notice nothing. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fault_disk.h"
#include "fault_store.h"
#include "harness.h"
#include "made_tree.h"

/* Of a node; fault_store_at() is the first node's root. */
#define SLOW "../../node-slow/rootfs"
#define NEW "../../node-new/rootfs"

enum { DISK_BYTES = 64 << 20, CLIENTS = 150, LARGE = 100000, SECONDS = 4, OBJECT_SECONDS = 8 };
/* What a busy machine may take for one operation; without an answer of the disk it would take for ever. */
#define PATIENCE 2.0

static struct {
    struct fault_disk *disk;
    pid_t clients[CLIENTS];
} slow;

static const char *store(void)
{
    return fault_store_beside("store");
}

static int coppice(const char *a, const char *b, const char *c)
{
    return harness_run(NULL, getenv("COPPICE"), "--store", store(), a, b, c, NULL);
}

static const char *slow_directory(void)
{
    return fault_store_beside("store/nodes/node-slow");
}

/* ---- clients of the slow node ---- */

static void make_slow_files(void)
{
    for (int i = 0; i < CLIENTS; i++) made_file(fault_store_at(SLOW "/%d", i), (uint64_t)i, LARGE, 0644);
}

/* Each keeps a request waiting. */
static int be_client(int number)
{
    unsigned char byte = 1;
    int fd = open(fault_store_at(SLOW "/%d", number), O_WRONLY | O_CLOEXEC);
    bool is_written = pwrite(fd, &byte, 1, LARGE) == 1;
    return !(fd >= 0 && is_written && fsync(fd) == 0);
}

static void start_clients(void)
{
    fflush(NULL);
    for (int i = 0; i < CLIENTS; i++) {
        slow.clients[i] = must(fork());
        if (slow.clients[i]) continue;
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        _exit(be_client(i));
    }
}

static int count_finished(void)
{
    int count = 0;
    for (int i = 0; i < CLIENTS; i++) {
        siginfo_t info = {0};
        must(waitid(P_PID, (id_t)slow.clients[i], &info, WEXITED | WNOHANG | WNOWAIT));
        count += info.si_pid != 0;
    }
    return count;
}

static void join_clients(void)
{
    for (int i = 0; i < CLIENTS; i++) {
        int status = 0;
        must(waitpid(slow.clients[i], &status, 0));
        must_hold(status == 0, "client %d: status %#x", i, status);
        slow.clients[i] = 0;
    }
}

/* ---- the others ---- */

static double slowest;

#define TIMED(call)                                                     \
    do {                                                                \
        double start_ = harness_seconds();                              \
        must(call);                                                     \
        double took_ = harness_seconds() - start_;                      \
        if (took_ > slowest) slowest = took_;                           \
        must_hold(took_ < PATIENCE, "%s took %.2f s", #call, took_);    \
    } while (0)

static void work(int turn)
{
    const char *file = fault_store_at("w%d", turn), *other = fault_store_at("renamed%d", turn);
    static char bytes[LARGE];
    struct stat st;
    int fd = -1;
    TIMED(fd = open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    TIMED(pwrite(fd, bytes, turn % 2 ? sizeof(bytes) : 500, 0));
    TIMED(fsync(fd));
    TIMED(pread(fd, bytes, 500, 0));
    TIMED(close(fd));
    TIMED(rename(file, other));
    TIMED(stat(other, &st));
    TIMED(chmod(other, 0600));
    TIMED(unlink(other));
    TIMED(stat(fault_store_at("image"), &st));
}

static long objects_of_the_first(void)
{
    DIR *stream = opendir(fault_store_beside("store/nodes/node-a/objects"));
    long count = 0;
    must_hold(stream, "objects: %s", strerror(errno));
    for (struct dirent *e; (e = readdir(stream));) count += e->d_name[0] != '.';
    closedir(stream);
    return count;
}

/* The object of a deleted file goes when the housekeeper has made that durable. */
static void check_housekeeper(void)
{
    double end = harness_seconds() + OBJECT_SECONDS;
    must(unlink(fault_store_at("kept")));
    while (objects_of_the_first() && harness_seconds() < end) usleep(50000);
    must_hold(objects_of_the_first() == 0, "%ld objects of deleted files", objects_of_the_first());
}

static void test_a_disk_that_does_not_answer_is_one_node_s_matter(void **state)
{
    (void)state;
    if (!fault_disk_is_possible()) skip();
    made_file(fault_store_at("kept"), 1, LARGE, 0644);
    make_slow_files();
    must_hold(objects_of_the_first() == 1, "%ld objects", objects_of_the_first());

    fault_disk_freeze(slow.disk, true);
    start_clients();
    usleep(1000000);
    double end = harness_seconds() + SECONDS;
    int turns = 0;
    while (harness_seconds() < end) work(turns++);
    assert_int_equal(coppice("node", "add", "node-new"), 0);
    TIMED(mkdir(fault_store_at(NEW "/dir"), 0755));
    check_housekeeper();
    must_hold(count_finished() == 0, "%d clients of the slow disk have been answered", count_finished());

    fault_disk_freeze(slow.disk, false);
    join_clients();
    print_message("%d turns, the slowest operation took %.3f s\n", turns, slowest);
    assert_true(fault_store_umount());
}

static int setup(void **state)
{
    (void)state;
    fault_store_begin(100);
    made_file(fault_store_beside("source/image"), 5, 1000, 0644);
    fault_store_make(fault_store_directory());
    if (!fault_disk_is_possible()) return 0;
    assert_int_equal(coppice("node", "add", "node-slow"), 0);
    must(mkdir(slow_directory(), 0700));
    made_file(fault_store_beside("disk"), 0, 0, 0600);
    slow.disk = fault_disk_new(DISK_BYTES);
    fault_disk_record(slow.disk, fault_store_beside("disk"));
    assert_true(fault_disk_mount(slow.disk, slow_directory()));
    assert_true(fault_store_mount(fault_store_directory(), "async=1"));
    return 0;
}

/* Killing whoever serves the disk gives those who wait for it an error. */
static int teardown(void **state)
{
    (void)state;
    if (slow.disk) fault_disk_record_end(slow.disk);
    for (int i = 0; i < CLIENTS; i++)
        if (slow.clients[i] > 0) kill(slow.clients[i], SIGKILL);
    fault_store_stop();
    if (slow.disk) fault_disk_umount(slow.disk, slow_directory());
    fault_disk_free(slow.disk);
    fault_store_end();
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_a_disk_that_does_not_answer_is_one_node_s_matter)};
    return cmocka_run_group_tests(tests, setup, teardown);
}
