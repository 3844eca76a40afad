/* fault_op: one operation on a small tree of files, that can be done, written down and done again to a model of the
 * tree. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum fault_kind {
    FAULT_CREATE,
    FAULT_WRITE,
    FAULT_TRUNCATE,
    FAULT_FSYNC,
    FAULT_ALLOCATE,
    FAULT_PUNCH,
    FAULT_RENAME,
    FAULT_LINK,
    FAULT_UNLINK,
    FAULT_MKDIR,
    FAULT_RMDIR,
    FAULT_SYMLINK,
    FAULT_CHMOD,
    FAULT_SETXATTR,
    FAULT_REMOVEXATTR,
    FAULT_KINDS
};

/* FAULT_FILE_MAX: no file gets longer; FAULT_ROW_MAX: nor in the daemon's rows. */
enum { FAULT_FILE_MAX = 160 << 10, FAULT_ROW_MAX = 16384, FAULT_PAGE = 4096, FAULT_SECTOR = 512 };
#define FAULT_ATTRIBUTE "user.load"

struct fault_op {
    enum fault_kind kind;
    char path[48], other[48];  /* below the tree; other: new name of a rename or link */
    uint64_t offset, length;   /* of a write, an allocation, a hole; length also a truncation's new size */
    uint64_t seed;             /* of the bytes written (made_fill), of an attribute's value; odd: the other way to do it */
    mode_t mode;               /* of a chmod */
    bool is_synced, is_append; /* a write with O_SYNC, with O_APPEND */
    int file;                  /* the model's number of the file written to: the same in every model of one history */
    uint64_t begun, acked;     /* moments, see fault_load.h; acked 0: no answer came */
};

/* Does it to the tree: 0 or negative errno; -ENODATA for a write that was done in part. */
int fault_op_run(const struct fault_op *op, const char *root);

/* The kernel sends the first page's part of a write by itself when it does not hold the rest of that page: true, and that part. */
bool fault_op_first_part(const struct fault_op *op, struct fault_op *ret_part);

/* "write d1/f2 700+90 seed 17 sync" */
void fault_op_print(const struct fault_op *op, char *text, size_t room);
