/* delta_rows: what the files that read and write delta.db share, and nobody else sees. */
#pragma once

#include "db.h"
#include "delta.h"
#include "inomap.h"

enum delta_statement {
    GET_INODE, ADD_INODE, SET_INODE, SET_CONTENTS, REMOVE_INODE, NEXT_ORPHAN, NEXT_GROWN,
    FIND_DIRENT, ADD_DIRENT, SET_DIRENT, REMOVE_DIRENT, REMOVE_DIRENTS, NEXT_DIRENT, LIVE_DIRENT,
    GET_CONTENT, SET_CONTENT, REMOVE_CONTENT,
    NEXT_CHUNK, ADD_CHUNK, REMOVE_CHUNK, REMOVE_CHUNKS,
    NEXT_UNDO, ADD_UNDO, REMOVE_UNDO, REMOVE_UNDOS, ANY_UNDO, SETTLE_CONTENT, SETTLE_UNDO, ADD_FRESH, NEXT_FRESH, REMOVE_FRESH, SETTLE_FRESH,
    GET_XATTR, SET_XATTR, REMOVE_XATTR, REMOVE_XATTRS, LIST_XATTRS,
    RESERVE, RECORD, SPACE, UNDONE_SOURCES, FREEZE, NEXT_SOURCE, UNSETTLED, STATEMENTS
};

struct delta {
    struct db *db;
    struct commit *commit;
    const struct identity *identity;
    char *path, *image;
    bool sealed; /* a file that is never written again */
    int objects_fd;
    uint32_t image_count;
    uint64_t image_base, shift, batch;
    _Atomic uint64_t frozen;             /* what view.frozen says. Changed under the lock, read without */
    _Atomic uint64_t next_ino, reserved; /* reserved: what view.next_ino says. Changed under the lock, read without */
    uint64_t first_new;                  /* next_ino when this was opened */
    struct inomap known_ends;            /* objects of lower numbers whose ends are known. Guarded by the lock */
    struct delta_inode *kept;            /* see delta_inode.c. Guarded by the lock */
    db_stmt *statements[STATEMENTS]; /* prepared when first used */
};

/* Prepares a statement at its first use; binds :ino. */
int delta_use(struct delta *delta, enum delta_statement which, db_stmt **ret_statement);
int delta_use_for(struct delta *delta, enum delta_statement which, db_stmt **ret_statement, uint64_t ino);

/* The blob that is the first column of the first row, at most `size` bytes of it: as delta_get_content(). */
int delta_read_blob(db_stmt *statement, void *buffer, size_t size, size_t *ret_length);

/* What is kept of the row, or of all, is not what the file says any more. Lock held. */
void delta_inode_forget(struct delta *delta, uint64_t ino);
void delta_inode_forget_all(struct delta *delta);
