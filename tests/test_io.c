#include "scratch.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "io.h"
#include "log.h"
#include "rootdir.h"

static int make_file(const char *path, const void *data, size_t size)
{
    int fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

    assert_true(fd >= 0);
    assert_int_equal(io_pwrite(fd, data, size, 0), 0);
    return fd;
}

static void test_whole_transfers(void **state)
{
    _cleanup_close_ int fd = make_file(scratch_path(state, "whole"), "hello world", 11);
    char buffer[32];

    assert_int_equal(io_pread(fd, buffer, sizeof(buffer), 0), 11);
    assert_int_equal(io_pread(fd, buffer, 5, 6), 5);
    assert_memory_equal(buffer, "world", 5);
    assert_int_equal(io_pread(fd, buffer, 5, 100), 0);
    assert_int_equal(io_pread(-1, buffer, 5, 0), -EBADF);
    assert_int_equal(io_write(-1, "x", 1), -EBADF);
}

static void test_write_continues_on_a_pipe(void **state)
{
    static char data[300 * 1024], seen[sizeof(data)];
    int ends[2];
    size_t done = 0;
    pid_t child;

    (void)state;
    memset(data, 'p', sizeof(data));
    assert_int_equal(pipe(ends), 0);
    child = fork();
    if (child == 0) _exit(io_write(ends[1], data, sizeof(data)) == 0 ? 0 : 1);
    close(ends[1]);
    for (ssize_t n; (n = read(ends[0], seen + done, sizeof(seen) - done)) > 0;) done += n;
    close(ends[0]);
    assert_int_equal(done, sizeof(data));
    assert_memory_equal(seen, data, sizeof(data));
}

static void test_copy_moves_every_byte(void **state)
{
    static char data[700001], seen[sizeof(data)];
    _cleanup_close_ int from = -1, to = -1, memory = -1;

    for (size_t i = 0; i < sizeof(data); i++) data[i] = i * 7919 >> 3;
    from = make_file(scratch_path(state, "from"), data, sizeof(data));
    to = make_file(scratch_path(state, "to"), "", 0);
    assert_int_equal(io_copy(from, 13, to, 4099, sizeof(data) - 13), 0);
    assert_int_equal(io_pread(to, seen, sizeof(seen), 4099), sizeof(data) - 13);
    assert_memory_equal(seen, data + 13, sizeof(data) - 13);

    /* Another file system: the way by a buffer. */
    memory = memfd_create("copy", MFD_CLOEXEC);
    assert_int_equal(io_copy(from, 0, memory, 0, sizeof(data)), 0);
    assert_int_equal(io_pread(memory, seen, sizeof(seen), 0), sizeof(data));
    assert_memory_equal(seen, data, sizeof(data));
}

static void test_copy_of_a_short_source_fails(void **state)
{
    _cleanup_close_ int from = make_file(scratch_path(state, "short"), "abc", 3);
    _cleanup_close_ int to = make_file(scratch_path(state, "long"), "", 0);

    assert_int_equal(io_copy(from, 0, to, 0, 4), -EIO);
    assert_int_equal(io_copy(from, 0, to, 0, 3), 0);
    assert_int_equal(io_copy(from, 0, to, 0, 0), 0);
}

static void test_open_stays_beneath(void **state)
{
    _cleanup_close_ int directory = -1, found = -1, made = -1, self = -1;

    assert_int_equal(mkdir(scratch_path(state, "tree"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(state, "tree/sub"), 0755), 0);
    assert_int_equal(symlink("/etc", scratch_path(state, "tree/etc")), 0);
    assert_int_equal(symlink("sub", scratch_path(state, "tree/inside")), 0);
    directory = open(scratch_path(state, "tree"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    assert_int_equal(io_open_beneath(directory, "..", O_RDONLY, 0), -EXDEV);
    assert_int_equal(io_open_beneath(directory, "sub/../../x", O_RDONLY, 0), -EXDEV);
    assert_int_equal(io_open_beneath(directory, "/etc/passwd", O_RDONLY, 0), -EXDEV);
    assert_int_equal(io_open_beneath(directory, "etc/passwd", O_RDONLY, 0), -ELOOP);
    assert_int_equal(io_open_beneath(directory, "inside/x", O_RDONLY, 0), -ELOOP);
    assert_int_equal(io_open_beneath(directory, "inside", O_RDONLY, 0), -ELOOP);
    assert_int_equal(io_open_beneath(directory, "", O_RDONLY, 0), -ENOENT);
    assert_int_equal(io_open_beneath(directory, "none", O_RDONLY, 0), -ENOENT);

    made = io_open_beneath(directory, "sub/new", O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(made >= 0);
    assert_true(fcntl(made, F_GETFD) & FD_CLOEXEC);
    /* A mode without O_CREAT is ignored, as open(2) does. */
    found = io_open_beneath(directory, "sub/../sub/new", O_RDONLY, 0600);
    assert_true(found >= 0);
    self = io_open_beneath(directory, ".", O_RDONLY | O_DIRECTORY, 0);
    assert_true(self >= 0);
}

static void test_mkdir_accepts_a_directory_only(void **state)
{
    assert_int_equal(io_mkdir(AT_FDCWD, scratch_path(state, "made"), 0700), 0);
    assert_int_equal(io_mkdir(AT_FDCWD, scratch_path(state, "made"), 0700), 0);
    scratch_write(scratch_path(state, "file"), "");
    assert_int_equal(io_mkdir(AT_FDCWD, scratch_path(state, "file"), 0700), -ENOTDIR);
    assert_int_equal(symlink("made", scratch_path(state, "link")), 0);
    assert_int_equal(io_mkdir(AT_FDCWD, scratch_path(state, "link"), 0700), -ENOTDIR);
    assert_int_equal(io_mkdir(AT_FDCWD, scratch_path(state, "none/made"), 0700), -ENOENT);
}

static void test_remove_tree_spares_what_symlinks_name(void **state)
{
    char output[64];

    assert_int_equal(scratch_run(output, sizeof(output),
                                 "cd %s && mkdir -p kept gone/a/b && echo x >kept/file && ln -s ../../kept gone/a/link"
                                 " && mkfifo gone/a/fifo && echo y >gone/a/b/file",
                                 (char *)*state),
                     0);
    assert_int_equal(io_remove_tree(AT_FDCWD, scratch_path(state, "gone")), 0);
    assert_int_equal(access(scratch_path(state, "gone"), F_OK), -1);
    assert_int_equal(access(scratch_path(state, "kept/file"), F_OK), 0);

    assert_int_equal(io_remove_tree(AT_FDCWD, scratch_path(state, "gone")), 0);
    assert_int_equal(symlink("kept", scratch_path(state, "alias")), 0);
    assert_int_equal(io_remove_tree(AT_FDCWD, scratch_path(state, "alias")), 0);
    assert_int_equal(access(scratch_path(state, "kept/file"), F_OK), 0);
    assert_int_equal(io_remove_tree(AT_FDCWD, scratch_path(state, "none/gone")), 0);
}

/* Deeper than descriptors, and than a path may be long. */
static void test_remove_tree_of_any_depth(void **state)
{
    struct rlimit before, few;
    int fd = open(*state, O_RDONLY | O_DIRECTORY | O_CLOEXEC);

    for (int depth = 0; depth < 3000; depth++) {
        int next;

        assert_int_equal(mkdirat(fd, "deep", 0755), 0);
        next = openat(fd, "deep", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        assert_true(next >= 0);
        close(fd);
        fd = next;
    }
    close(fd);
    getrlimit(RLIMIT_NOFILE, &before);
    few = (struct rlimit){.rlim_cur = 100, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &few);
    assert_int_equal(io_remove_tree(AT_FDCWD, scratch_path(state, "deep")), 0);
    setrlimit(RLIMIT_NOFILE, &before);
    assert_int_equal(access(scratch_path(state, "deep"), F_OK), -1);
}

static void test_take_disarms(void **state)
{
    int kept = -1;
    char *text = NULL;

    {
        _cleanup_close_ int fd = make_file(scratch_path(state, "taken"), "", 0);
        _cleanup_free_ char *made = io_format("%d-%s", 7, "x");

        kept = io_take_fd(fd);
        text = io_take(made);
        assert_int_equal(fd, -1);
        assert_null(made);
    }
    assert_true(fcntl(kept, F_GETFD) >= 0);
    assert_string_equal(text, "7-x");
    close(kept);
    free(text);
}

static void test_raise_nofile(void **state)
{
    struct rlimit before, low, after;

    (void)state;
    getrlimit(RLIMIT_NOFILE, &before);
    low = (struct rlimit){.rlim_cur = 64, .rlim_max = before.rlim_max};
    setrlimit(RLIMIT_NOFILE, &low);
    assert_int_equal(io_raise_nofile(), before.rlim_max);
    getrlimit(RLIMIT_NOFILE, &after);
    assert_int_equal(after.rlim_cur, before.rlim_max);
    setrlimit(RLIMIT_NOFILE, &before);
}

static void test_reasons(void **state)
{
    (void)state;
    assert_string_equal(log_reason(-ENOENT), "No such file or directory");
    assert_string_equal(log_reason(ENOSPC), "No space left on device");
    assert_string_equal(log_reason(-100000), "Unknown error");
}

/* openat2(2) gives up a ".." while something is renamed, wherever that is. */
static void test_a_root_is_looked_into_beside_renames(void **state)
{
    char *target = strdup(scratch_path(state, "root/lib/init")), *one = strdup(scratch_path(state, "one"));
    const char *two = scratch_path(state, "two");
    int root, missed = 0;
    pid_t child;

    assert_int_equal(mkdir(scratch_path(state, "root"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(state, "root/lib"), 0755), 0);
    assert_int_equal(mkdir(scratch_path(state, "root/bin"), 0755), 0);
    scratch_write(target, "init");
    scratch_write(one, "");
    assert_int_equal(symlink("../lib/init", scratch_path(state, "root/bin/init")), 0);
    child = fork();
    if (child == 0)
        for (;;) rename(one, two), rename(two, one);
    root = open(scratch_path(state, "root"), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    for (int i = 0; i < 50000; i++) missed += !rootdir_has(root, "bin/init");
    close(root);
    kill(child, SIGKILL);
    waitpid(child, NULL, 0);
    assert_int_equal(missed, 0);
    free(target);
    free(one);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_whole_transfers),
        cmocka_unit_test(test_write_continues_on_a_pipe),
        cmocka_unit_test(test_copy_moves_every_byte),
        cmocka_unit_test(test_copy_of_a_short_source_fails),
        cmocka_unit_test(test_open_stays_beneath),
        cmocka_unit_test(test_mkdir_accepts_a_directory_only),
        cmocka_unit_test(test_remove_tree_spares_what_symlinks_name),
        cmocka_unit_test(test_remove_tree_of_any_depth),
        cmocka_unit_test(test_take_disarms),
        cmocka_unit_test(test_raise_nofile),
        cmocka_unit_test(test_reasons),
        cmocka_unit_test(test_a_root_is_looked_into_beside_renames),
    };

    return cmocka_run_group_tests(tests, scratch_setup, scratch_teardown);
}
