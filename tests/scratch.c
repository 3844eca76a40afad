#include "scratch.h"

#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>

#include "io.h"

static char mounted[4096];

int scratch_setup(void **state)
{
    const char *temporary = getenv("TMPDIR");
    char *path = io_format("%s/coppice-test-XXXXXX", temporary ? temporary : "/tmp");

    if (!path || !mkdtemp(path)) return -1;
    *state = path;
    return 0;
}

int scratch_teardown(void **state)
{
    int r;

    /* Still there after a test that failed. */
    if (*mounted) umount2(mounted, MNT_DETACH);
    mounted[0] = '\0';
    r = io_remove_tree(AT_FDCWD, *state);
    free(*state);
    return r;
}

const char *scratch_path(void **state, const char *name)
{
    static char paths[8][4096];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", (const char *)*state, name);
    return path;
}

void scratch_tmpfs(void **state, const char *name, unsigned size)
{
    _cleanup_free_ char *options = io_format("size=%uk", size);

    if (unshare(CLONE_NEWNS) < 0) skip();
    assert_int_equal(mount("none", "/", "none", MS_REC | MS_PRIVATE, NULL), 0);
    assert_int_equal(mkdir(scratch_path(state, name), 0755), 0);
    assert_int_equal(mount("none", scratch_path(state, name), "tmpfs", 0, options), 0);
    snprintf(mounted, sizeof(mounted), "%s", scratch_path(state, name));
}

void scratch_unmount(void **state, const char *name)
{
    assert_int_equal(umount2(scratch_path(state, name), 0), 0);
    mounted[0] = '\0';
}

void scratch_write(const char *path, const char *text)
{
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(io_write(fd, text, strlen(text)), 0);
}

int scratch_run(char *output, size_t size, const char *format, ...)
{
    _cleanup_free_ char *command = NULL, *redirected = NULL;
    size_t used = 0, n;
    va_list arguments;
    FILE *pipe;
    int status;

    va_start(arguments, format);
    assert_true(vasprintf(&command, format, arguments) >= 0);
    va_end(arguments);
    redirected = io_format("{ %s\n} 2>&1", command);
    pipe = popen(redirected, "r");
    assert_non_null(pipe);
    while (used < size - 1 && (n = fread(output + used, 1, size - 1 - used, pipe)) > 0) used += n;
    if (used > 0 && output[used - 1] == '\n') used--;
    output[used] = '\0';
    status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

int scratch_wal_syncs;
bool scratch_fail_sync, scratch_skip_sync;

int fdatasync(int fd)
{
    char link[64], name[4096] = "";

    snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
    if (readlink(link, name, sizeof(name) - 1) > 4 && strcmp(name + strlen(name) - 4, "-wal") == 0) scratch_wal_syncs++;
    if (!scratch_fail_sync) return scratch_skip_sync ? 0 : syscall(SYS_fdatasync, fd);
    errno = EDQUOT;
    return -1;
}

int fsync(int fd)
{
    return scratch_skip_sync ? 0 : syscall(SYS_fsync, fd);
}

double scratch_seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec + now.tv_nsec / 1e9;
}
