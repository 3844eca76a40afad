#include "fault_op.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "made_tree.h"

static ssize_t write_some(const struct fault_op *op, int fd, const unsigned char *bytes, size_t from)
{
    if (op->is_append) return write(fd, bytes + from, op->length - from);
    return pwrite(fd, bytes + from, op->length - from, (off_t)(op->offset + from));
}

/* Of a write that was done in part the rest tells why. A rest that goes well is a failure too: there was no reason. */
static int write_all(const struct fault_op *op, int fd, const unsigned char *bytes)
{
    ssize_t n = write_some(op, fd, bytes, 0);
    if (n >= 0 && n < (ssize_t)op->length && (n = write_some(op, fd, bytes, (size_t)n)) >= 0) return -ENODATA;
    return n < 0 ? -errno : 0;
}

static int write_file(const struct fault_op *op, const char *path)
{
    int flags = O_WRONLY | O_CLOEXEC | (op->is_append ? O_APPEND : 0) | (op->is_synced ? O_SYNC : 0);
    unsigned char *bytes = malloc(op->length);
    int fd = bytes ? open(path, flags) : -1;
    int r = fd < 0 ? -errno : 0;
    if (fd >= 0) {
        made_fill(op->seed, op->offset, bytes, op->length);
        r = write_all(op, fd, bytes);
        close(fd);
    }
    free(bytes);
    return r;
}

static int sync_file(const char *path, bool data_only)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int r = (data_only ? fdatasync(fd) : fsync(fd)) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int allocate(const struct fault_op *op, const char *path)
{
    int hole = op->seed % 2 ? FALLOC_FL_PUNCH_HOLE : FALLOC_FL_ZERO_RANGE;
    int mode = op->kind == FAULT_PUNCH ? hole | FALLOC_FL_KEEP_SIZE : 0;
    int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0) return -errno;
    int r = fallocate(fd, mode, (off_t)op->offset, (off_t)op->length) < 0 ? -errno : 0;
    close(fd);
    return r;
}

static int create_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (fd < 0) return -errno;
    close(fd);
    return 0;
}

static int set_attribute(const struct fault_op *op, const char *path)
{
    unsigned char value[256];
    size_t length = op->seed % 200;
    made_fill(op->seed, 0, value, length);
    return setxattr(path, FAULT_ATTRIBUTE, value, length, 0);
}

int fault_op_run(const struct fault_op *op, const char *root)
{
    char path[1600], other[1600];
    int r = 0;
    snprintf(path, sizeof(path), "%s/%s", root, op->path);
    snprintf(other, sizeof(other), "%s/%s", root, op->other);
    switch (op->kind) {
    case FAULT_CREATE: return create_file(path);
    case FAULT_WRITE: return write_file(op, path);
    case FAULT_FSYNC: return sync_file(path, op->seed % 2);
    case FAULT_ALLOCATE:
    case FAULT_PUNCH: return allocate(op, path);
    case FAULT_TRUNCATE: r = truncate(path, (off_t)op->length); break;
    case FAULT_RENAME: r = rename(path, other); break;
    case FAULT_LINK: r = link(path, other); break;
    case FAULT_UNLINK: r = unlink(path); break;
    case FAULT_MKDIR: r = mkdir(path, 0755); break;
    case FAULT_RMDIR: r = rmdir(path); break;
    case FAULT_SYMLINK: r = symlink(op->other, path); break;
    case FAULT_CHMOD: r = chmod(path, op->mode); break;
    case FAULT_SETXATTR: r = set_attribute(op, path); break;
    default: r = removexattr(path, FAULT_ATTRIBUTE);
    }
    return r < 0 ? -errno : 0;
}

bool fault_op_first_part(const struct fault_op *op, struct fault_op *ret_part)
{
    uint64_t end = (op->offset | (FAULT_PAGE - 1)) + 1;
    if (op->kind != FAULT_WRITE || op->offset % FAULT_PAGE == 0 || op->offset + op->length <= end) return false;
    *ret_part = *op;
    ret_part->length = end - op->offset;
    return true;
}

void fault_op_print(const struct fault_op *op, char *text, size_t room)
{
    static const char *const words[FAULT_KINDS] = {"create", "write",    "truncate",   "fsync", "allocate", "punch",
                                                   "rename", "link",     "unlink",     "mkdir", "rmdir",    "symlink",
                                                   "chmod",  "setxattr", "removexattr"};
    int n = snprintf(text, room, "%s %s", words[op->kind], op->path);
    if (op->kind == FAULT_WRITE)
        snprintf(text + n, room - (size_t)n, " %lu+%lu seed %lu%s%s", op->offset, op->length, op->seed,
                 op->is_append ? " append" : "", op->is_synced ? " sync" : "");
    else if (op->kind == FAULT_ALLOCATE || op->kind == FAULT_PUNCH)
        snprintf(text + n, room - (size_t)n, " %lu+%lu%s", op->offset, op->length, op->seed % 2 ? "" : " other way");
    else if (op->kind == FAULT_TRUNCATE) snprintf(text + n, room - (size_t)n, " to %lu", op->length);
    else if (op->other[0]) snprintf(text + n, room - (size_t)n, " to %s", op->other);
}
