/* The daemon's resident memory and descriptors stay level under many operations.
 *
 * COPPICE_OPERATIONS=1000000 COPPICE_RANDOM_SECONDS=3600 for the long run by hand: level after the first tenth. */
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"

/* Each thread that takes requests has a buffer of 1 MiB: there are as many as ever were needed only after the first thousands. */
enum { OPERATIONS = 30000, WARM = 10, LEAST_WARM = 10000, PLACES = 64, GROWTH_KIB = 4096, DESCRIPTORS = 100 };

static long operations(void)
{
    const char *asked = getenv("COPPICE_OPERATIONS");
    return asked ? atol(asked) : OPERATIONS;
}

/* What the daemon has: a line of its status, in KiB. */
static long resident(void)
{
    char path[64], line[256];
    long kib = -1;
    snprintf(path, sizeof(path), "/proc/%d/status", (int)harness_daemon_pid());
    FILE *status = fopen(path, "re");
    must_hold(status, "%s: %s", path, strerror(errno));
    while (kib < 0 && fgets(line, sizeof(line), status))
        if (strncmp(line, "VmRSS:", 6) == 0) kib = atol(line + 6);
    fclose(status);
    return kib;
}

static long descriptors(void)
{
    char path[64];
    long count = 0;
    snprintf(path, sizeof(path), "/proc/%d/fd", (int)harness_daemon_pid());
    DIR *stream = opendir(path);
    must_hold(stream, "%s: %s", path, strerror(errno));
    while (readdir(stream)) count++;
    closedir(stream);
    return count;
}

static void list(const char *path)
{
    DIR *stream = opendir(path);
    must_hold(stream, "%s: %s", path, strerror(errno));
    while (readdir(stream)) continue;
    closedir(stream);
}

/* Ten operations and more, the last of which takes away what the first have made; a large file every eighth time. */
static void go_round(long turn)
{
    static char bytes[40000];
    const char *dir = harness_at(0, "leak/%ld", turn % PLACES), *file = harness_at(0, "leak/%ld/file", turn % PLACES),
               *other = harness_at(0, "leak/%ld/other%ld", turn % PLACES, turn), *image = harness_at(0, "etc");
    struct stat st;
    must(mkdir(dir, 0755));
    int fd = must(open(file, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0644));
    must(pwrite(fd, bytes, turn % 8 ? 300 : sizeof(bytes), 0));
    must(pread(fd, bytes, 100, 0));
    must(close(fd));
    must(setxattr(file, "user.turn", &turn, sizeof(turn), 0));
    must(chmod(file, 0600));
    must(link(file, other));
    must(rename(other, file) < 0 ? -1 : 0);
    must(unlink(other));
    must(symlink("file", other));
    must(stat(other, &st));
    list(dir);
    if (turn % 16 == 0 && access(image, F_OK) == 0) list(image);
    must(unlink(other));
    must(unlink(file));
    must(rmdir(dir));
}

enum { EACH = 16 };

static void run(long from, long end)
{
    for (long i = from; i < end; i += EACH) go_round(i / EACH);
    harness_drop_caches();
}

static void test_memory_stays_level(void **state)
{
    long count = operations(), warm = count / WARM > LEAST_WARM ? count / WARM : LEAST_WARM;
    (void)state;
    harness_needs_mount();
    must(mkdir(harness_at(0, "leak"), 0755));
    run(0, warm);
    long kib = resident(), files = descriptors();
    run(warm, count);
    long kib_after = resident(), files_after = descriptors();
    print_message("%ld KiB and %ld descriptors after %ld operations, %ld KiB and %ld after %ld\n", kib, files, warm,
                  kib_after, files_after, count);
#ifndef __SANITIZE_ADDRESS__ /* keeps what was freed for a while, and tells of leaks by itself */
    must_hold(kib_after < kib + kib / 10 + GROWTH_KIB, "%ld KiB, and %ld before", kib_after, kib);
#endif
    must_hold(files_after < files + DESCRIPTORS, "%ld descriptors, and %ld before", files_after, files);
}

static int setup(void **state)
{
    static const struct harness_options options = {.mount_options = "async"};
    (void)state;
    harness_start(&options);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(test_memory_stays_level)};
    return cmocka_run_group_tests(tests, setup, harness_teardown);
}
