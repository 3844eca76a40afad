#include "fault_disk.h"

#include <fcntl.h>
#include <fuse_lowlevel.h>
#include <linux/loop.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "fault_op.h"
#include "harness.h"
#include "random_ops.h"

enum { ENTRIES_MOST = 1 << 20, SECTOR = 512, LARGE = 128 << 20 };
#define DATA_MOST ((size_t)4 << 30) /* address space; pages only where something was logged */

/* A write, or with size 0 a flush. */
struct entry {
    uint64_t offset, data;
    uint32_t size;
};

/* Shared with the process that serves. */
struct log {
    atomic_uint_fast64_t count;
    uint64_t used; /* of data */
    struct entry entries[ENTRIES_MOST];
};

struct fault_disk {
    int fd; /* memfd */
    size_t size;
    unsigned char *bytes;  /* the memfd's */
    unsigned char *before; /* as they were when recording began */
    struct log *log;
    unsigned char *data;
    pid_t server;
    char file[1024]; /* of the FUSE mount */
};

/* ---- the disk ---- */

bool fault_disk_is_possible(void)
{
    return access("/dev/loop-control", R_OK | W_OK) == 0 && access("/dev/fuse", R_OK | W_OK) == 0;
}

static void *shared_memory(size_t size)
{
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    assert_ptr_not_equal(memory, MAP_FAILED);
    return memory;
}

static const char *asked_for(void)
{
    const char *asked = getenv("COPPICE_DISK");
    return asked ? asked : "ext4";
}

static const char *file_system(void)
{
    static char name[16];
    snprintf(name, sizeof(name), "%.*s", (int)strcspn(asked_for(), ":"), asked_for());
    return name;
}

static const char *block_size(void)
{
    const char *colon = strchr(asked_for(), ':');
    return colon ? colon + 1 : "4096";
}

bool fault_disk_copies(void)
{
    return strcmp(file_system(), "btrfs") == 0;
}

unsigned fault_disk_block(void)
{
    unsigned block = (unsigned)atoi(block_size());
    return block < FAULT_PAGE ? block : FAULT_PAGE;
}

static int run_mkfs(char **ret_output, const char *path)
{
    char size[32];
    snprintf(size, sizeof(size), "size=%s", block_size());
    if (strcmp(file_system(), "xfs") == 0)
        return harness_run(ret_output, "mkfs.xfs", "--unsupported", "-q", "-f", "-b", size, path, NULL);
    if (strcmp(file_system(), "btrfs") == 0) return harness_run(ret_output, "mkfs.btrfs", "-q", "-f", path, NULL);
    return harness_run(ret_output, "mkfs.ext4", "-q", "-F", "-b", block_size(), "-m", "0", "-J", "size=4", "-E",
                       "lazy_itable_init=0,lazy_journal_init=0", path, NULL);
}

static void make_file_system(const struct fault_disk *disk)
{
    char path[64], *output = NULL;
    snprintf(path, sizeof(path), "/proc/%d/fd/%d", (int)getpid(), disk->fd);
    int status = run_mkfs(&output, path);
    if (status != 0) print_error("mkfs.%s: exit %d: %s\n", file_system(), status, output);
    free(output);
    assert_int_equal(status, 0);
}

struct fault_disk *fault_disk_new(size_t size)
{
    if (strcmp(file_system(), "ext4") != 0 && size < LARGE) size = LARGE; /* they are not made smaller */
    struct fault_disk *disk = calloc(1, sizeof(*disk));
    assert_non_null(disk);
    disk->size = size;
    disk->fd = must(memfd_create("fault-disk", MFD_CLOEXEC));
    must(ftruncate(disk->fd, (off_t)size));
    disk->bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, disk->fd, 0);
    assert_ptr_not_equal(disk->bytes, MAP_FAILED);
    make_file_system(disk);
    return disk;
}

void fault_disk_free(struct fault_disk *disk)
{
    if (!disk) return;
    fault_disk_record_end(disk);
    if (disk->log) munmap(disk->log, sizeof(*disk->log));
    if (disk->data) munmap(disk->data, DATA_MOST);
    free(disk->before);
    munmap(disk->bytes, disk->size);
    close(disk->fd);
    free(disk);
}

/* ---- loop devices ---- */

/* An open loop device on the file; it lets go of the file when it is no longer used. */
static int open_loop(int file, char path[32])
{
    int control = must(open("/dev/loop-control", O_RDWR | O_CLOEXEC));
    struct loop_config config = {.fd = (__u32)file, .block_size = SECTOR, .info.lo_flags = LO_FLAGS_AUTOCLEAR};
    for (int tries = 0; tries < 50; tries++) {
        snprintf(path, 32, "/dev/loop%d", must(ioctl(control, LOOP_CTL_GET_FREE)));
        int fd = open(path, O_RDWR | O_CLOEXEC);
        if (fd >= 0 && ioctl(fd, LOOP_CONFIGURE, &config) == 0) return close(control), fd;
        /* Somebody else was quicker. */
        if (fd >= 0) close(fd);
        usleep(20000);
    }
    close(control);
    fail_msg("no loop device: %s", strerror(errno));
    return -1;
}

bool fault_disk_mount(struct fault_disk *disk, const char *where)
{
    char device[32];
    int file = disk->server ? must(open(disk->file, O_RDWR | O_CLOEXEC)) : disk->fd;
    int loop = open_loop(file, device);
    int r = mount(device, where, file_system(), MS_NOATIME, "");
    if (r < 0) print_error("mount of %s: %s\n", device, strerror(errno));
    close(loop);
    if (disk->server) close(file);
    return r == 0;
}

void fault_disk_umount(struct fault_disk *disk, const char *where)
{
    (void)disk;
    for (int i = 0; umount2(where, 0) < 0; i++) {
        must_hold(errno == EBUSY && i < 500, "%s: umount: %s", where, strerror(errno));
        usleep(10000);
    }
}

/* ---- the file that the recording loop device stands on ---- */

static void disk_getattr(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    const struct fault_disk *disk = fuse_req_userdata(req);
    struct stat st = {.st_ino = ino, .st_mode = S_IFREG | 0600, .st_nlink = 1, .st_size = (off_t)disk->size};
    (void)fi;
    fuse_reply_attr(req, &st, 1e9);
}

static void disk_open(fuse_req_t req, fuse_ino_t ino, struct fuse_file_info *fi)
{
    (void)ino;
    fi->keep_cache = 1;
    fuse_reply_open(req, fi);
}

static void disk_read(fuse_req_t req, fuse_ino_t ino, size_t size, off_t offset, struct fuse_file_info *fi)
{
    const struct fault_disk *disk = fuse_req_userdata(req);
    (void)ino;
    (void)fi;
    if ((size_t)offset >= disk->size) size = 0;
    else if (size > disk->size - (size_t)offset) size = disk->size - (size_t)offset;
    fuse_reply_buf(req, (const char *)disk->bytes + offset, size);
}

static void add_entry(struct fault_disk *disk, const char *bytes, size_t size, off_t offset)
{
    struct log *log = disk->log;
    uint64_t count = atomic_load(&log->count);
    if (count == ENTRIES_MOST || log->used + size > DATA_MOST) abort();
    log->entries[count] = (struct entry){.offset = (uint64_t)offset, .data = log->used, .size = (uint32_t)size};
    if (size) memcpy(disk->data + log->used, bytes, size);
    log->used += size;
    atomic_store(&log->count, count + 1);
}

static void disk_write(fuse_req_t req, fuse_ino_t ino, const char *bytes, size_t size, off_t offset,
                       struct fuse_file_info *fi)
{
    struct fault_disk *disk = fuse_req_userdata(req);
    (void)ino;
    (void)fi;
    if ((size_t)offset + size > disk->size) {
        fuse_reply_err(req, ENOSPC);
        return;
    }
    memcpy(disk->bytes + offset, bytes, size);
    add_entry(disk, bytes, size, offset);
    fuse_reply_write(req, size);
}

static void disk_fsync(fuse_req_t req, fuse_ino_t ino, int data_only, struct fuse_file_info *fi)
{
    (void)ino;
    (void)data_only;
    (void)fi;
    add_entry(fuse_req_userdata(req), NULL, 0, 0);
    fuse_reply_err(req, 0);
}

/* By one thread: the log's order is the order of the answers. */
static int serve(struct fault_disk *disk, int ready)
{
    static const struct fuse_lowlevel_ops operations = {
        .getattr = disk_getattr, .open = disk_open, .read = disk_read, .write = disk_write, .fsync = disk_fsync};
    char *argv[] = {"fault-disk", "-o", "fsname=fault-disk", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);
    struct fuse_session *session = fuse_session_new(&args, &operations, sizeof(operations), disk);
    if (!session || fuse_session_mount(session, disk->file) < 0) return 1;
    if (write(ready, "", 1) != 1) return 1;
    return fuse_session_loop(session) != 0;
}

void fault_disk_record(struct fault_disk *disk, const char *file)
{
    int ready[2];
    char byte;
    snprintf(disk->file, sizeof(disk->file), "%s", file);
    if (!disk->log) {
        disk->log = shared_memory(sizeof(*disk->log));
        disk->data = shared_memory(DATA_MOST);
        disk->before = malloc(disk->size);
    }
    assert_non_null(disk->before);
    atomic_store(&disk->log->count, 0);
    disk->log->used = 0;
    memcpy(disk->before, disk->bytes, disk->size);
    must(pipe(ready));
    fflush(NULL);
    disk->server = must(fork());
    if (disk->server == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        /* Writing to it while the kernel wants memory must not wait for this process. */
        prctl(PR_SET_IO_FLUSHER, 1, 0, 0, 0);
        close(ready[0]);
        _exit(serve(disk, ready[1]));
    }
    close(ready[1]);
    must_hold(read(ready[0], &byte, 1) == 1, "the recording disk did not come up");
    close(ready[0]);
}

void fault_disk_freeze(struct fault_disk *disk, bool is_frozen)
{
    must(kill(disk->server, is_frozen ? SIGSTOP : SIGCONT));
}

void fault_disk_record_end(struct fault_disk *disk)
{
    if (!disk->server) return;
    umount2(disk->file, MNT_DETACH);
    kill(disk->server, SIGKILL);
    must(waitpid(disk->server, NULL, 0));
    disk->server = 0;
}

/* ---- cuts ---- */

uint64_t fault_disk_moment(void *data)
{
    struct fault_disk *disk = data;
    return atomic_load(&disk->log->count) + 1;
}

static bool is_flush(const struct log *log, uint64_t count)
{
    return count > 0 && log->entries[count - 1].size == 0;
}

bool fault_disk_is_flush(const struct fault_disk *disk, uint64_t moment)
{
    return is_flush(disk->log, moment - 1);
}

static void apply(const struct fault_disk *from, const struct entry *e, struct fault_disk *to)
{
    memcpy(to->bytes + e->offset, from->data + e->data, e->size);
}

static void apply_torn(const struct fault_disk *from, const struct entry *e, uint64_t *dice, struct fault_disk *to)
{
    for (uint32_t at = 0; at < e->size; at += SECTOR)
        if (random_below(dice, 2)) memcpy(to->bytes + e->offset + at, from->data + e->data + at, SECTOR);
}

void fault_disk_cut(const struct fault_disk *from, const struct fault_cut *cut, struct fault_disk *to)
{
    const struct log *log = from->log;
    uint64_t count = cut->moment - 1, flushed = count, dice = cut->seed | 1;
    while (flushed > 0 && !is_flush(log, flushed)) flushed--;
    memcpy(to->bytes, from->before, from->size);
    for (uint64_t i = 0; i < count; i++) {
        const struct entry *e = &log->entries[i];
        if (e->size == 0) continue;
        if (i < flushed || random_below(&dice, 256) < cut->chance) apply(from, e, to);
        else if (cut->is_torn) apply_torn(from, e, &dice, to);
    }
}
