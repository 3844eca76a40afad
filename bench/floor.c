/* floor: what the protocol alone costs.
 *
 *     floor MOUNTPOINT
 *
 * A FUSE file system that does nothing: names and attributes are in memory, what is written is dropped, nothing is ever on a disk. It
 * agrees with the kernel on what coppice agrees on, so it gets the same requests, and answers them at once. No FUSE daemon on the
 * same machine can be faster, whatever it does with its requests; passthrough alone spares them. Goes to the background when it is
 * mounted, and ends when it is unmounted. */
#define FUSE_USE_VERSION 314
#include <errno.h>
#include <fuse_lowlevel.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#define FOREVER 1e9
#define BUCKETS 65536

/* An inode and its one name. Numbers are places in `files`, and used once. */
struct file {
    uint64_t parent, next; /* next: in its bucket */
    struct stat st;
    char *name; /* NULL: it has none any more */
};

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER; /* guards all of it */
static struct file *files;
static uint64_t count = FUSE_ROOT_ID, room, buckets[BUCKETS];

static uint64_t *bucket(uint64_t parent, const char *name)
{
    uint64_t hash = parent * 0x9e3779b97f4a7c15;

    while (*name) hash = (hash ^ (uint8_t)*name++) * 1099511628211u;
    return &buckets[hash >> 32 & (BUCKETS - 1)];
}

/* What points to the file of this name, or to 0. */
static uint64_t *find(uint64_t parent, const char *name)
{
    uint64_t *at = bucket(parent, name);

    while (*at && (files[*at].parent != parent || strcmp(files[*at].name, name) != 0)) at = &files[*at].next;
    return at;
}

static void put_name(uint64_t ino, uint64_t parent, const char *name)
{
    uint64_t *at = bucket(parent, name);

    files[ino].parent = parent;
    files[ino].name = strdup(name);
    files[ino].next = *at;
    *at = ino;
}

static uint64_t take_name(uint64_t parent, const char *name)
{
    uint64_t *at = find(parent, name), ino = *at;

    if (!ino) return 0;
    *at = files[ino].next;
    free(files[ino].name);
    files[ino].name = NULL;
    return ino;
}

static uint64_t make(mode_t mode)
{
    if (count >= room) files = realloc(files, (room = room ? 2 * room : 4096) * sizeof(*files));
    if (!files) abort();
    files[count] = (struct file){.st = {.st_ino = count, .st_mode = mode, .st_nlink = S_ISDIR(mode) ? 2 : 1}};
    return count++;
}

static struct fuse_entry_param entry_of(uint64_t ino)
{
    struct fuse_entry_param e = {.ino = ino, .attr_timeout = FOREVER, .entry_timeout = FOREVER};

    if (ino) e.attr = files[ino].st;
    return e;
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    struct fuse_entry_param e;

    pthread_mutex_lock(&lock);
    e = entry_of(*find(parent, name));
    pthread_mutex_unlock(&lock);
    fuse_reply_entry(req, &e);
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    struct fuse_entry_param e;
    uint64_t ino;

    (void)rdev;
    pthread_mutex_lock(&lock);
    ino = make(mode);
    put_name(ino, parent, name);
    e = entry_of(ino);
    pthread_mutex_unlock(&lock);
    fuse_reply_entry(req, &e);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    op_mknod(req, parent, name, (mode & ~S_IFMT) | S_IFDIR, 0);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    pthread_mutex_lock(&lock);
    take_name(parent, name);
    pthread_mutex_unlock(&lock);
    fuse_reply_err(req, 0);
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t to_parent, const char *to, unsigned flags)
{
    uint64_t ino;

    (void)flags;
    pthread_mutex_lock(&lock);
    take_name(to_parent, to);
    ino = take_name(parent, name);
    if (ino) put_name(ino, to_parent, to);
    pthread_mutex_unlock(&lock);
    fuse_reply_err(req, 0);
}

static void reply_attr(fuse_req_t req, uint64_t ino)
{
    struct stat st;

    pthread_mutex_lock(&lock);
    st = files[ino].st;
    pthread_mutex_unlock(&lock);
    fuse_reply_attr(req, &st, FOREVER);
}

static void op_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)fi;
    reply_attr(req, ino);
}

static void op_setattr(fuse_req_t req, fuse_ino_t ino, struct stat *st, int set, struct fuse_file_info *fi)
{
    (void)fi;
    pthread_mutex_lock(&lock);
    if (set & FUSE_SET_ATTR_SIZE) files[ino].st.st_size = st->st_size;
    pthread_mutex_unlock(&lock);
    reply_attr(req, ino);
}

static void op_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset, struct fuse_file_info *fi)
{
    (void)bytes;
    (void)fi;
    pthread_mutex_lock(&lock);
    if (files[ino].st.st_size < offset + (off_t)size) files[ino].st.st_size = offset + (off_t)size;
    pthread_mutex_unlock(&lock);
    fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi)
{
    (void)ino;
    (void)data_only;
    (void)fi;
    fuse_reply_err(req, 0);
}

/* No state, so no requests: as coppice says. */
static void op_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    (void)fi;
    fuse_reply_err(req, ENOSYS);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t ino, const char *name, size_t size)
{
    (void)ino;
    (void)name;
    (void)size;
    fuse_reply_err(req, ENOSYS);
}

static void op_readdir(fuse_req_t req, fuse_ino_t parent, size_t size, off_t offset, struct fuse_file_info *fi)
{
    char buffer[4096];
    size_t used = 0;

    (void)fi;
    if (size > sizeof(buffer)) size = sizeof(buffer);
    pthread_mutex_lock(&lock);
    for (uint64_t ino = offset > FUSE_ROOT_ID ? offset : FUSE_ROOT_ID + 1; ino < count; ino++) {
        const struct file *f = &files[ino];

        if (!f->name || f->parent != parent) continue;
        size_t need = fuse_add_direntry(req, buffer + used, size - used, f->name, &f->st, (off_t)(ino + 1));
        if (need > size - used) break;
        used += need;
    }
    pthread_mutex_unlock(&lock);
    fuse_reply_buf(req, buffer, used);
}

static void op_init(void *data, struct fuse_conn_info *conn)
{
    (void)data;
    conn->want = conn->capable & (FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_PARALLEL_DIROPS | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK |
                                  FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT);
    conn->max_write = 1 << 20;
}

static const struct fuse_lowlevel_ops table = {
    .init = op_init, .lookup = op_lookup, .getattr = op_getattr, .setattr = op_setattr, .mknod = op_mknod, .mkdir = op_mkdir,
    .unlink = op_unlink, .rmdir = op_unlink, .rename = op_rename, .open = op_open, .opendir = op_open, .write = op_write,
    .fsync = op_fsync, .fsyncdir = op_fsync, .readdir = op_readdir, .getxattr = op_getxattr,
};

int main(int argc, char **argv)
{
    char *options[] = {argv[0], "-o", "default_permissions,allow_other,fsname=floor", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, options);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    struct fuse_session *session;

    if (argc != 2 || !config) {
        fprintf(stderr, "usage: floor MOUNTPOINT\n");
        return 2;
    }
    make(S_IFDIR | 0755); /* FUSE_ROOT_ID */
    session = fuse_session_new(&args, &table, sizeof(table), NULL);
    if (!session || fuse_session_mount(session, argv[1]) < 0) return 1;
    fuse_daemonize(0);
    fuse_loop_cfg_set_idle_threads(config, 16);
    fuse_session_loop_mt(session, config);
    fuse_session_unmount(session);
    return 0;
}
