/* fault_model: what a small tree of files should look like after a list of operations, and whether one does.
 *
 * A model made with `unit` 0 knows one truth. With a unit of bytes it also keeps what data could read as instead while
 * no fsync has confirmed it: each unit of a file as before any write since, and each size. */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum fault_kind {
    FAULT_CREATE,
    FAULT_WRITE,
    FAULT_TRUNCATE,
    FAULT_FSYNC,
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

enum { FAULT_FILE_MAX = 160 << 10, FAULT_ROW_MAX = 16384, FAULT_PAGE = 4096, FAULT_SECTOR = 512 };

struct fault_op {
    enum fault_kind kind;
    char path[48], other[48];   /* below the tree; other: new name of a rename or link */
    uint64_t offset, length;    /* of a write; length also a truncation's new size */
    uint64_t seed;              /* of the bytes written (made_fill), of an attribute's value */
    mode_t mode;                /* of a chmod */
    bool is_synced, is_append;  /* a write with O_SYNC, with O_APPEND */
    int file;                   /* the model's number of the file written to: the same in every model of one history */
    uint64_t begun, acked;      /* moments, see fault_load.h; acked 0: no answer came */
};

struct fault_model;

/* An empty tree; fault_model_read(): the tree as it is there now, NULL and a message when it cannot be read. Free each. */
struct fault_model *fault_model_new(void);
struct fault_model *fault_model_read(const char *path, char *ret_why, size_t room);
struct fault_model *fault_model_clone(const struct fault_model *model);
void fault_model_free(struct fault_model *model);

/* From now on what is written may, until it is synced, read as before in any unit of so many bytes. */
void fault_model_keep_old(struct fault_model *model, unsigned unit);

/* Something that can be done now, by dice; `state` as random_next() has it. With `writes`: nearly always a write that nothing
 * syncs. */
void fault_model_choose(const struct fault_model *model, uint64_t *state, bool writes, struct fault_op *ret_op);
/* Does it to the model. */
void fault_model_apply(struct fault_model *model, const struct fault_op *op);
/* The write alone, if the file is there: on a model that lacks the operations between. */
void fault_model_apply_late_write(struct fault_model *model, const struct fault_op *op);
/* Does it to the tree: 0 or negative errno. */
int fault_op_run(const struct fault_op *op, const char *root);
/* True for a write whose bytes may come in parts when it is cut off: they are not all in one row, or in one request. */
bool fault_model_writes_in_parts(const struct fault_model *model, const struct fault_op *op);

/* False: *ret_why says where the found tree differs. Without `contents`: names and attributes alone, no sizes. */
bool fault_model_agrees(const struct fault_model *expected, const struct fault_model *found, bool contents, char *ret_why,
                        size_t room);

/* The two agree: what could read as old or new becomes what was found. */
void fault_model_adopt(struct fault_model *model, const struct fault_model *found);

/* "write d1/f2 700+90 seed 17 sync" */
void fault_op_print(const struct fault_op *op, char *text, size_t room);
