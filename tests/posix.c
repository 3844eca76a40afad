#include "posix.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "made_tree.h"

/* ---- the fixture ---- */

char posix_name_255[256], posix_name_256[257], posix_path_4096[4097], posix_path_4095[4096];

void posix_make_names(void)
{
    memset(posix_name_255, 'n', 255);
    memset(posix_name_256, 'n', 256);
    for (int i = 0; i < 4096; i++) posix_path_4096[i] = i % 2 ? '/' : '.';
    memcpy(posix_path_4095, posix_path_4096, 4095);
}

static void make_file(const char *name, mode_t mode, uid_t uid)
{
    made_file(name, 5, 6000, mode);
    must(chown(name, uid, uid ? MADE_GID : 0));
    must(chmod(name, mode));
}

static void make_directory(const char *name, mode_t mode, uid_t uid)
{
    must(mkdir(name, 0700));
    must(chown(name, uid, uid ? MADE_GID : 0));
    must(chmod(name, mode));
}

static void make_symlinks(void)
{
    must(symlink("file", "link"));
    must(symlink("missing", "link_missing"));
    must(symlink("dir", "link_dir"));
    must(symlink("loop_b", "loop_a"));
    must(symlink("loop_a", "loop_b"));
    must(symlink("file", "chain_00"));
    for (int i = 1; i <= 41; i++) {
        char name[16], target[16];
        snprintf(name, sizeof(name), "chain_%02d", i);
        snprintf(target, sizeof(target), "chain_%02d", i - 1);
        must(symlink(target, name));
    }
}

static void make_script(void)
{
    int fd = must(open("script", O_CREAT | O_EXCL | O_WRONLY | O_CLOEXEC, 0755));
    must(write(fd, "#!/bin/true\n", 12));
    must(close(fd));
}

void posix_make_fixture(const char *path)
{
    int back = must(open(".", O_PATH | O_DIRECTORY | O_CLOEXEC));
    must(chdir(path));
    make_file("file", 0644, 0);
    make_file("other", 0644, 0);
    make_file("closed", 0600, 0);
    make_file("mine", 0644, MADE_UID);
    make_file("mine_closed", 0000, MADE_UID);
    make_file("writable", 0666, 0);
    must(setxattr("file", "user.present", "value", 5, 0));
    must(setxattr("mine", "user.present", "value", 5, 0));
    make_directory("dir", 0755, 0);
    make_file("dir/inside", 0644, 0);
    make_directory("dir/below", 0755, 0);
    make_directory("dir/below/deeper", 0755, 0);
    make_directory("dir_empty", 0755, 0);
    make_directory("dir_closed", 0700, 0);
    make_file("dir_closed/inside", 0644, 0);
    make_directory("dir_no_search", 0644, 0);
    make_file("dir_no_search/inside", 0644, 0);
    make_directory("dir_open", 0777, 0);
    make_file("dir_open/mine", 0644, MADE_UID);
    make_directory("dir_open/mine_dir", 0755, MADE_UID);
    make_directory("dir_sticky", 01777, 0);
    make_file("dir_sticky/of_root", 0666, 0);
    make_directory("dir_sticky/dir_of_root", 0777, 0);
    make_file("dir_sticky/mine", 0644, MADE_UID);
    make_symlinks();
    make_script();
    must(mknod("fifo", S_IFIFO | 0666, 0));
    must(mknod("socket", S_IFSOCK | 0666, 0));
    must(chmod("fifo", 0666));
    must(chmod("socket", 0666));
    must(fchdir(back));
    must(close(back));
}

/* ---- running ---- */

/* A missing errno name would make the message useless: strerrorname_np is in glibc since 2.32. */
static const char *name_of(int error)
{
    return error ? strerrorname_np(error) : "done";
}

int posix_run(enum posix_who who, const char *where)
{
    int wrong = 0;
    for (size_t i = 0; i < posix_row_count; i++) {
        const struct posix_row *row = &posix_rows[i];
        if (!(row->who & who)) continue;
        errno = 0;
        int found = row->call(row) < 0 ? errno : 0;
        if (found == row->expected) continue;
        wrong++;
        fprintf(stderr, "%s, %s: %s: %s, not %s\n", where, who == AS_ROOT ? "root" : "user", row->name, name_of(found),
                name_of(row->expected));
    }
    return wrong;
}

/* ---- the calls ---- */

/* Closes without losing errno. */
static int closed(int fd, long value)
{
    int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return value < 0 ? -1 : 0;
}

static int with(const char *path, int flags)
{
    return open(path, flags | O_CLOEXEC | O_NONBLOCK);
}

int call_open(const struct posix_row *row)
{
    int fd = open(row->a, (int)row->x | O_CLOEXEC, (mode_t)row->y);
    return closed(fd, fd);
}

int call_creat(const struct posix_row *row)
{
    int fd = creat(row->a, 0644);
    return closed(fd, fd);
}

int call_openat_file(const struct posix_row *row)
{
    int at = with(row->a, O_RDONLY);
    int fd = at < 0 ? -1 : openat(at, row->b, O_RDONLY | O_CLOEXEC);
    closed(fd, 0);
    return closed(at, fd);
}

int call_stat(const struct posix_row *row)
{
    struct stat st;
    return stat(row->a, &st);
}

int call_access(const struct posix_row *row)
{
    return access(row->a, (int)row->x);
}

int call_chdir(const struct posix_row *row)
{
    int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int result = chdir(row->a);
    int error = errno;
    if (fchdir(back) < 0) abort();
    errno = error;
    return closed(back, result);
}

int call_mkdir(const struct posix_row *row)
{
    return mkdir(row->a, (mode_t)row->x);
}
int call_rmdir(const struct posix_row *row)
{
    return rmdir(row->a);
}
int call_unlink(const struct posix_row *row)
{
    return unlink(row->a);
}
int call_link(const struct posix_row *row)
{
    return link(row->a, row->b);
}
int call_symlink(const struct posix_row *row)
{
    return symlink(row->a, row->b);
}
int call_rename(const struct posix_row *row)
{
    return rename(row->a, row->b);
}
int call_renameat2(const struct posix_row *row)
{
    return renameat2(AT_FDCWD, row->a, AT_FDCWD, row->b, (unsigned)row->x);
}
int call_mknod(const struct posix_row *row)
{
    return mknod(row->a, (mode_t)row->x, (dev_t)row->y);
}
int call_truncate(const struct posix_row *row)
{
    return truncate(row->a, row->x);
}
int call_chmod(const struct posix_row *row)
{
    return chmod(row->a, (mode_t)row->x);
}
int call_chown(const struct posix_row *row)
{
    return chown(row->a, (uid_t)row->x, (gid_t)row->y);
}
int call_lchown(const struct posix_row *row)
{
    return lchown(row->a, (uid_t)row->x, (gid_t)row->y);
}

int call_readlink(const struct posix_row *row)
{
    char target[64];
    return (int)readlink(row->a, target, (size_t)row->x);
}

int call_ftruncate(const struct posix_row *row)
{
    int fd = with(row->a, (int)row->y);
    return closed(fd, fd < 0 ? -1 : ftruncate(fd, row->x));
}

int call_utimens(const struct posix_row *row)
{
    struct timespec times[2] = {{.tv_nsec = row->x}, {.tv_nsec = row->x}};
    return utimensat(AT_FDCWD, row->a, times, 0);
}

int call_utimens_now(const struct posix_row *row)
{
    return utimensat(AT_FDCWD, row->a, NULL, 0);
}

int call_getxattr(const struct posix_row *row)
{
    char value[256];
    return (int)getxattr(row->a, row->b, value, (size_t)row->x);
}

static char attribute_value[70000];

int call_setxattr(const struct posix_row *row)
{
    return setxattr(row->a, row->b, attribute_value, (size_t)row->y, (int)row->x);
}
int call_lsetxattr(const struct posix_row *row)
{
    return lsetxattr(row->a, row->b, attribute_value, (size_t)row->y, (int)row->x);
}
int call_removexattr(const struct posix_row *row)
{
    return removexattr(row->a, row->b);
}

int call_listxattr(const struct posix_row *row)
{
    char names[256];
    return (int)listxattr(row->a, names, (size_t)row->x);
}

int call_read(const struct posix_row *row)
{
    char byte;
    int fd = with(row->a, (int)row->x);
    return closed(fd, fd < 0 ? -1 : read(fd, &byte, 1));
}

int call_write(const struct posix_row *row)
{
    int fd = with(row->a, (int)row->x);
    return closed(fd, fd < 0 ? -1 : write(fd, "x", 1));
}

int call_pread_at(const struct posix_row *row)
{
    char byte;
    int fd = with(row->a, O_RDONLY);
    return closed(fd, fd < 0 ? -1 : pread(fd, &byte, 1, row->x));
}

int call_pwrite_at(const struct posix_row *row)
{
    int fd = with(row->a, O_WRONLY);
    return closed(fd, fd < 0 ? -1 : pwrite(fd, "x", 1, row->x));
}

int call_lseek(const struct posix_row *row)
{
    int fd = with(row->a, O_RDONLY);
    return closed(fd, fd < 0 ? -1 : lseek(fd, row->x, (int)row->y));
}

int call_fallocate(const struct posix_row *row)
{
    int fd = with(row->a, O_RDWR);
    if (fd < 0) return -1;
    bool is_before = row->y == -1;
    return closed(fd, fallocate(fd, (int)row->x, is_before ? -1 : 0, is_before ? 1 : row->y));
}

int call_fallocate_read(const struct posix_row *row)
{
    int fd = with(row->a, O_RDONLY);
    return closed(fd, fd < 0 ? -1 : fallocate(fd, FALLOC_FL_KEEP_SIZE, 0, 1));
}

int call_copy_range(const struct posix_row *row)
{
    int from = with(row->a, O_RDONLY);
    int to = from < 0 ? -1 : with(row->b, (int)row->y);
    loff_t in = 0, out = 0;
    int result = to < 0 ? -1 : (int)copy_file_range(from, &in, to, &out, 10, (unsigned)row->x);
    closed(to, 0);
    return closed(from, result);
}

int call_opendir(const struct posix_row *row)
{
    DIR *directory = opendir(row->a);
    if (!directory) return -1;
    closedir(directory);
    return 0;
}

int call_getdents_file(const struct posix_row *row)
{
    char buffer[1024];
    int fd = with(row->a, O_RDONLY);
    return closed(fd, fd < 0 ? -1 : syscall(SYS_getdents64, fd, buffer, sizeof(buffer)));
}

int call_mmap(const struct posix_row *row)
{
    int fd = with(row->a, (int)row->x);
    if (fd < 0) return -1;
    void *map = mmap(NULL, 4096, (int)row->y, MAP_SHARED, fd, 0);
    if (map != MAP_FAILED) munmap(map, 4096);
    return closed(fd, map == MAP_FAILED ? -1 : 0);
}

/* Runs `body` where its effects on the process do not matter; its errno. */
static int in_child(const struct posix_row *row, int (*body)(const struct posix_row *row))
{
    pid_t pid = fork();
    if (pid == 0) _exit(body(row) < 0 ? errno : 0);
    int status = 0;
    if (pid < 0 || waitpid(pid, &status, 0) < 0) return -1;
    errno = WIFEXITED(status) ? WEXITSTATUS(status) : EINTR;
    return errno ? -1 : 0;
}

static int execute(const struct posix_row *row)
{
    char *argv[] = {(char *)row->a, NULL};
    return execv(row->a, argv);
}

static int limit_file_size(long bytes)
{
    struct rlimit limit = {(rlim_t)bytes, (rlim_t)bytes};
    signal(SIGXFSZ, SIG_IGN);
    return setrlimit(RLIMIT_FSIZE, &limit);
}

static int limited_write(const struct posix_row *row)
{
    int fd = limit_file_size(row->x) < 0 ? -1 : with(row->a, O_WRONLY);
    return fd < 0 ? -1 : (int)pwrite(fd, "x", 1, row->y);
}

static int limited_truncate(const struct posix_row *row)
{
    return limit_file_size(row->x) < 0 ? -1 : truncate(row->a, row->y);
}

int call_execute(const struct posix_row *row)
{
    return in_child(row, execute);
}
int call_limited_write(const struct posix_row *row)
{
    return in_child(row, limited_write);
}
int call_limited_truncate(const struct posix_row *row)
{
    return in_child(row, limited_truncate);
}

int call_fchdir(const struct posix_row *row)
{
    int back = open(".", O_PATH | O_DIRECTORY | O_CLOEXEC);
    int fd = with(row->a, (int)row->x);
    int result = fd < 0 ? -1 : fchdir(fd);
    int error = errno;
    if (fchdir(back) < 0) abort();
    close(back);
    errno = error;
    return closed(fd, result);
}
