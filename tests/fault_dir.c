#include "fault_dir.h"

/* The file system by paths is simpler here than the one by nodes. */
#include <fuse.h>

#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"

/* Shared with the process that serves. */
struct fault_dir {
    atomic_int read, write, sync, read_ms;
    char only[64]; /* changed while no mistakes are made */
    atomic_uint count;
    pid_t server;
    char where[1024];
};

static struct fault_dir *shared; /* in the server */
static int root;                 /* its descriptor of what is beneath */

/* ---- mistakes ---- */

static int mistake(atomic_int *kind, const char *path)
{
    int error = atomic_load(kind);
    if (error == 0 || (shared->only[0] && !strstr(path, shared->only))) return 0;
    atomic_fetch_add(&shared->count, 1);
    return -error;
}

/* ---- passing on ---- */

static const char *beneath(const char *path)
{
    return path[1] ? path + 1 : ".";
}

static int result(long r)
{
    return r < 0 ? -errno : (int)r;
}

static int dir_getattr(const char *path, struct stat *st, struct fuse_file_info *fi)
{
    (void)fi;
    return result(fstatat(root, beneath(path), st, AT_SYMLINK_NOFOLLOW));
}

static int open_it(const char *path, int flags, mode_t mode, struct fuse_file_info *fi)
{
    int fd = openat(root, beneath(path), flags | O_CLOEXEC, mode);
    if (fd < 0) return -errno;
    fi->fh = (uint64_t)fd;
    /* What is cached would not be read again; but SQLite maps its index of the WAL. */
    fi->direct_io = !strstr(path, "-shm");
    return 0;
}

static int dir_open(const char *path, struct fuse_file_info *fi)
{
    return open_it(path, fi->flags & ~(O_CREAT | O_EXCL | O_NOFOLLOW), 0, fi);
}

static int dir_create(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    int r = mistake(&shared->write, path);
    return r ? r : open_it(path, fi->flags | O_CREAT, mode, fi);
}

static int dir_release(const char *path, struct fuse_file_info *fi)
{
    (void)path;
    close((int)fi->fh);
    return 0;
}

static int dir_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *fi)
{
    int r = mistake(&shared->read, path);
    if (atomic_load(&shared->read_ms) && mistake(&shared->read_ms, path)) usleep((useconds_t)atomic_load(&shared->read_ms) * 1000);
    return r ? r : result(pread((int)fi->fh, buffer, size, offset));
}

static int dir_write(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *fi)
{
    int r = mistake(&shared->write, path);
    return r ? r : result(pwrite((int)fi->fh, buffer, size, offset));
}

static int dir_fsync(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)data_only;
    int r = mistake(&shared->sync, path);
    return r ? r : result(fdatasync((int)fi->fh));
}

static int dir_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi)
{
    (void)data_only;
    (void)fi;
    return mistake(&shared->sync, path);
}

static int dir_truncate(const char *path, off_t size, struct fuse_file_info *fi)
{
    int r = mistake(&shared->write, path);
    if (r) return r;
    if (fi) return result(ftruncate((int)fi->fh, size));
    int fd = openat(root, beneath(path), O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    r = result(ftruncate(fd, size));
    close(fd);
    return r;
}

static int dir_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
    int r = mistake(&shared->write, path);
    return r ? r : result(fallocate((int)fi->fh, mode, offset, length));
}

static off_t dir_lseek(const char *path, off_t offset, int whence, struct fuse_file_info *fi)
{
    (void)path;
    off_t found = lseek((int)fi->fh, offset, whence);
    return found < 0 ? -errno : found;
}

static int dir_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi,
                       enum fuse_readdir_flags flags)
{
    int fd = openat(root, beneath(path), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    (void)offset;
    (void)fi;
    (void)flags;
    if (!stream) return -errno;
    for (struct dirent *e; (e = readdir(stream));) fill(buffer, e->d_name, NULL, 0, 0);
    closedir(stream);
    return 0;
}

static int dir_mkdir(const char *path, mode_t mode) { return result(mkdirat(root, beneath(path), mode)); }
static int dir_unlink(const char *path) { return result(unlinkat(root, beneath(path), 0)); }
static int dir_rmdir(const char *path) { return result(unlinkat(root, beneath(path), AT_REMOVEDIR)); }
static int dir_link(const char *from, const char *to) { return result(linkat(root, beneath(from), root, beneath(to), 0)); }

static int dir_rename(const char *from, const char *to, unsigned flags)
{
    return result(renameat2(root, beneath(from), root, beneath(to), flags));
}

static int dir_chmod(const char *path, mode_t mode, struct fuse_file_info *fi)
{
    (void)fi;
    return result(fchmodat(root, beneath(path), mode, 0));
}

static int dir_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi)
{
    (void)fi;
    return result(fchownat(root, beneath(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int dir_statfs(const char *path, struct statvfs *st)
{
    (void)path;
    return result(fstatvfs(root, st));
}

static void *dir_init(struct fuse_conn_info *connection, struct fuse_config *config)
{
    (void)connection;
    config->use_ino = 1;
    config->attr_timeout = config->entry_timeout = config->negative_timeout = 0;
    return NULL;
}

static const struct fuse_operations operations = {
    .init = dir_init, .getattr = dir_getattr, .open = dir_open, .create = dir_create, .release = dir_release,
    .read = dir_read, .write = dir_write, .fsync = dir_fsync, .fsyncdir = dir_fsyncdir, .truncate = dir_truncate,
    .fallocate = dir_fallocate, .lseek = dir_lseek, .readdir = dir_readdir, .mkdir = dir_mkdir, .unlink = dir_unlink,
    .rmdir = dir_rmdir, .link = dir_link, .rename = dir_rename, .chmod = dir_chmod, .chown = dir_chown, .statfs = dir_statfs};

/* ---- the server ---- */

static int serve(const char *path, int ready)
{
    char *argv[] = {"fault-dir", "-o", "fsname=fault-dir,allow_other", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct fuse *fuse = fuse_new(&args, &operations, sizeof(operations), NULL);
    root = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (!fuse || root < 0 || fuse_mount(fuse, shared->where) < 0) return 1;
    if (write(ready, "", 1) != 1) return 1;
    return fuse_loop_mt(fuse, NULL);
}

struct fault_dir *fault_dir_mount(const char *path, const char *where)
{
    struct fault_dir *dir = mmap(NULL, sizeof(*dir), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int ready[2];
    char byte;
    assert_ptr_not_equal(dir, MAP_FAILED);
    snprintf(dir->where, sizeof(dir->where), "%s", where);
    must(pipe(ready));
    fflush(NULL);
    pid_t server = must(fork());
    if (server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        close(ready[0]);
        shared = dir;
        _exit(serve(path, ready[1]));
    }
    close(ready[1]);
    dir->server = server; /* the memory is the server's, too */
    must_hold(read(ready[0], &byte, 1) == 1, "%s: the faulty directory did not come up", where);
    close(ready[0]);
    return dir;
}

void fault_dir_umount(struct fault_dir *dir)
{
    if (!dir) return;
    umount2(dir->where, MNT_DETACH);
    kill(dir->server, SIGKILL);
    must(waitpid(dir->server, NULL, 0));
    munmap(dir, sizeof(*dir));
}

void fault_dir_set(struct fault_dir *dir, const struct fault_dir_mistakes *mistakes)
{
    dir->read = dir->write = dir->sync = dir->read_ms = 0;
    snprintf(dir->only, sizeof(dir->only), "%s", mistakes->only ? mistakes->only : "");
    dir->read = mistakes->read;
    dir->write = mistakes->write;
    dir->sync = mistakes->sync;
    dir->read_ms = mistakes->read_ms;
}

unsigned fault_dir_count(const struct fault_dir *dir)
{
    return dir->count;
}
