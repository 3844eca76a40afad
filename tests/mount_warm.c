/* What the kernel has learned once it need not ask again: shown by a daemon that is stopped meanwhile. */
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"
#include "made_tree.h"

enum { PATIENCE = 10 };

static char target[4096];

static int stat_it(void)
{
    struct stat st;

    return lstat(target, &st) < 0 ? errno : 0;
}

static int read_it(void)
{
    char buffer[64];
    int fd = open(target, O_RDONLY | O_CLOEXEC);

    if (fd < 0 || read(fd, buffer, sizeof(buffer)) < 0) return errno;
    close(fd);
    return 0;
}

static int list_it(void)
{
    char buffer[4096];
    int fd = open(target, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    if (fd < 0) return errno;
    while (getdents64(fd, buffer, sizeof(buffer)) > 0) continue;
    close(fd);
    return 0;
}

/* The child's exit status; -1: it waited for the daemon. A request that waits can be killed, as nobody has read it. */
static int run_in_child(int (*act)(void))
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) _exit(act());
    for (int i = 0; i < PATIENCE * 100; i++) {
        if (waitpid(child, &status, WNOHANG) == child) return WEXITSTATUS(status);
        usleep(10000);
    }
    kill(child, SIGKILL);
    waitpid(child, &status, 0);
    return -1;
}

static void needs_no_daemon(const char *path, int (*act)(void))
{
    pid_t daemon = harness_daemon_pid();
    int status;

    snprintf(target, sizeof(target), "%s", path);
    assert_int_equal(run_in_child(act), 0);
    assert_int_equal(run_in_child(act), 0); /* a listing is kept when it is read for the second time */
    assert_true(daemon > 0);
    kill(daemon, SIGSTOP);
    status = run_in_child(act);
    kill(daemon, SIGCONT);
    must_hold(status == 0, "%s: %s", path, status < 0 ? "waits for the daemon" : strerror(status));
}

static void test_the_attributes_of_a_file_by_its_whole_path(void **state)
{
    (void)state;
    harness_needs_mount();
    needs_no_daemon(harness_at(0, "sizes/4096"), stat_it);
}

static void test_open_read_and_close_of_a_file_of_the_image(void **state)
{
    (void)state;
    harness_needs_mount();
    needs_no_daemon(harness_at(0, "sizes/4096"), read_it);
}

static void test_open_read_and_close_of_a_file_that_was_written(void **state)
{
    (void)state;
    harness_needs_mount();
    made_file(harness_at(0, "new"), 1, 9000, 0644);
    needs_no_daemon(harness_at(0, "new"), read_it);
}

static void test_the_listing_of_a_directory(void **state)
{
    (void)state;
    harness_needs_mount();
    needs_no_daemon(harness_at(0, "etc"), list_it);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_the_attributes_of_a_file_by_its_whole_path),
        cmocka_unit_test(test_open_read_and_close_of_a_file_of_the_image),
        cmocka_unit_test(test_open_read_and_close_of_a_file_that_was_written),
        cmocka_unit_test(test_the_listing_of_a_directory),
    };

    return cmocka_run_group_tests(tests, harness_setup, harness_teardown);
}
