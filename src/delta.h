/* delta: the rows of one node's delta.db (schema/delta.sql), one function for each statement.
 *
 * Everything but delta_open() and delta_close() needs the lock of delta_commit(), and what writes needs commit_begin().
 * Look-ups return 1 found, 0 not there, or negative errno. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "commit.h"

struct delta;
struct identity;

#define DELTA_ROOT 1
#define DELTA_FIRST 16 /* numbers below, the root's apart, are kept for what stands around a node's root */

/* inode.object */
#define DELTA_NO_OBJECT -1 /* NULL in the row */
#define DELTA_IN_ROW 0

struct delta_inode {
    uint64_t ino;
    uint32_t image_ino;
    uint32_t mode, uid, gid, nlink;
    uint64_t rdev;
    uint64_t size;
    int64_t atime, mtime, ctime; /* nanoseconds since 1970 */
    uint64_t parent;
    int64_t object;
    bool chunked;
    bool grown; /* the object's length may not be on the disk */
};

struct delta_dirent {
    uint64_t ino; /* 0: a whiteout */
    uint32_t slot;
    uint8_t type;
    uint8_t length; /* of name; filled by delta_dirent_next() alone */
    char name[256];
};

/* What a new delta stands on. */
struct delta_base {
    const char *image;
    uint32_t image_count;
};

/* Opens nodes_fd/SERIAL/delta.db, `path` being that directory's path; makes it when `create` is given. -ENOENT: there is none. -EPROTO: made by a newer version. */
int delta_open(struct delta **ret_delta, int nodes_fd, const char *path, const char *serial, const struct identity *identity,
               const struct delta_base *create);
/* One that nobody writes any more (a snapshot's; see db_seal()), for reading; any number of times at once. -EIO: damaged. */
int delta_open_sealed(struct delta **ret_delta, int nodes_fd, const char *path, const char *serial,
                      const struct identity *identity);
void delta_close(struct delta *delta);

struct commit *delta_commit(struct delta *delta);
int delta_objects_fd(const struct delta *delta);
const char *delta_path(const struct delta *delta); /* of delta.db */
/* SQLite's words for the last failure. */
const char *delta_message(struct delta *delta);

/* The row of table view; fixed while the delta is open. */
const char *delta_image(const struct delta *delta);
uint32_t delta_image_count(const struct delta *delta);
uint64_t delta_image_base(const struct delta *delta);
uint64_t delta_shift(const struct delta *delta);
/* Above every number that was given out. No lock is needed. */
uint64_t delta_reserved(const struct delta *delta);

/* Snapshots share the object, so it is never written. No lock is needed, but see view.freeze_lock. */
bool delta_is_shared(const struct delta *delta, int64_t object);
uint64_t delta_frozen(const struct delta *delta); /* those below this number are */
/* All objects there are become shared. */
int delta_freeze(struct delta *delta);

/* Whether it is known that the disk has nothing behind the end of the object: what a power cut took the length of may be in its
 * last block. True of objects made since the delta was opened, and of those that were said to be so. */
bool delta_knows_end(const struct delta *delta, uint64_t object);
int delta_know_end(struct delta *delta, uint64_t object);

/* The objects that parts of the inode come from beside its own, in number order after `after`: 1 and *ret_source, 0 at the end. */
int delta_next_source(struct delta *delta, uint64_t ino, uint64_t after, uint64_t *ret_source);
/* 1: nothing differs from the image. */
int delta_is_empty(struct delta *delta);
/* 1: neither undo nor fresh has rows of the inode. */
int delta_is_settled(struct delta *delta, uint64_t ino);

/* The last batch that had been committed with its number when the delta was opened: see commit_number(). */
uint64_t delta_batch(const struct delta *delta);

/* Makes sure that there are numbers for one operation more; to be called before commit_begin(). */
int delta_reserve(struct delta *delta);
/* Bytes of delta.db, and those among them that deleted rows have left: they are filled again. Takes the lock. */
int delta_space(struct delta *delta, uint64_t *ret_bytes, uint64_t *ret_free);
/* Gives some of the free bytes back to the disk, but for `keep`: 1 when it did. Takes the lock. */
int delta_shrink(struct delta *delta, uint64_t keep);
/* A number never used before, for an inode or an object. */
int delta_new_ino(struct delta *delta, uint64_t *ret_ino);
/* True for a number that was given out. */
bool delta_knows_ino(const struct delta *delta, uint64_t ino);

int delta_get_inode(struct delta *delta, uint64_t ino, struct delta_inode *ret_inode);
int delta_add_inode(struct delta *delta, const struct delta_inode *inode);
int delta_set_inode(struct delta *delta, const struct delta_inode *inode);
/* Only size, object, chunked, mtime and ctime. Writes one page, where delta_set_inode() writes one more for an inode with `grown`, whose
 * index it touches. */
int delta_set_contents(struct delta *delta, const struct delta_inode *inode);
/* Removes the row and all that hangs on it: contents, chunks, attributes. */
int delta_remove_inode(struct delta *delta, uint64_t ino);
/* Removes what hangs on it and leaves the row. */
int delta_clear_inode(struct delta *delta, uint64_t ino);
/* Inodes without a name, in number order after `ino`: 1 and *ret_ino, 0 when there are no more. */
int delta_next_orphan(struct delta *delta, uint64_t ino, uint64_t *ret_ino);
/* The same for inodes with `grown`. */
int delta_next_grown(struct delta *delta, uint64_t ino, uint64_t *ret_ino);

/* The first of the slots in which a name may stand, of as many as follow. */
#define DELTA_SLOTS_PER_HASH 16
uint32_t delta_first_slot(const struct identity *identity, const char *name, size_t length);

int delta_get_dirent(struct delta *delta, uint64_t parent, const char *name, size_t length, struct delta_dirent *ret_dirent);
/* Adds or replaces the row of this name. -ENOSPC when 16 names of one hash are there. */
int delta_set_dirent(struct delta *delta, uint64_t parent, const char *name, size_t length, uint64_t ino, uint8_t type);
int delta_remove_dirent(struct delta *delta, uint64_t parent, const char *name, size_t length);
int delta_remove_dirents(struct delta *delta, uint64_t parent);
/* The row with the lowest slot ≥ `slot`, whiteouts included. */
int delta_next_dirent(struct delta *delta, uint64_t parent, uint32_t slot, struct delta_dirent *ret_dirent);
/* A name of the inode, by looking at all rows: 1, *ret_parent and *ret_dirent. For messages. */
int delta_find_name(struct delta *delta, uint64_t ino, uint64_t *ret_parent, struct delta_dirent *ret_dirent);
/* 1 when the directory has a row that is no whiteout. */
int delta_has_live_dirent(struct delta *delta, uint64_t parent);

/* Directories with rows in dirent, and inodes with rows in inode: call back for each number; used once, at opening. */
typedef int (*delta_ino_fn)(uint64_t ino, void *data);
int delta_each_dir(struct delta *delta, delta_ino_fn fn, void *data);
int delta_each_inode(struct delta *delta, uint64_t below, delta_ino_fn fn, void *data);
int delta_each_object(struct delta *delta, delta_ino_fn fn, void *data); /* the objects of all inodes */

/* Small contents: at most `size` bytes into buffer; *ret_length is what the row holds. */
int delta_get_content(struct delta *delta, uint64_t ino, void *buffer, size_t size, size_t *ret_length);
int delta_set_content(struct delta *delta, uint64_t ino, const void *data, size_t size);
int delta_remove_content(struct delta *delta, uint64_t ino);

/* delta_chunk.source */
#define DELTA_SOURCE_IMAGE 0
#define DELTA_SOURCE_ROW 1 /* above: an object */

struct delta_chunk {
    uint64_t start, end;
    uint64_t source;
};

/* The first chunk that ends after `offset`. */
int delta_next_chunk(struct delta *delta, uint64_t ino, uint64_t offset, struct delta_chunk *ret_chunk);
int delta_add_chunk(struct delta *delta, uint64_t ino, const struct delta_chunk *chunk);

/* Cuts [start, end) out of the inode's chunks: because the object has newer bytes there, which a power cut may take back
 * (see tables undo and fresh; 1: there was something to cut); or because what was there is no longer wanted. */
int delta_supersede_chunks(struct delta *delta, uint64_t ino, uint64_t start, uint64_t end);
int delta_discard_chunks(struct delta *delta, uint64_t ino, uint64_t start, uint64_t end);
/* The inode's object is new; the file was of this size when it was made, which recovery tells the reader of its log. */
int delta_add_fresh(struct delta *delta, uint64_t ino, uint64_t size);

/* For recovery, in (ino, start) and ino order: the first row after these. */
struct delta_undo {
    uint64_t ino;
    struct delta_chunk chunk;
};
int delta_next_undo(struct delta *delta, const struct delta_undo *after, struct delta_undo *ret_undo);
int delta_next_fresh(struct delta *delta, uint64_t ino, uint64_t *ret_ino, uint64_t *ret_size);
/* [start, end) of the inode shows the chunk again. */
int delta_restore_chunk(struct delta *delta, uint64_t ino, const struct delta_chunk *chunk);

int delta_get_xattr(struct delta *delta, uint64_t ino, const char *name, void *buffer, size_t size, size_t *ret_length);
int delta_set_xattr(struct delta *delta, uint64_t ino, const char *name, const void *value, size_t size);
/* 1 when there was one. */
int delta_remove_xattr(struct delta *delta, uint64_t ino, const char *name);
typedef int (*delta_xattr_fn)(const char *name, const void *value, size_t size, void *data);
int delta_xattrs(struct delta *delta, uint64_t ino, delta_xattr_fn fn, void *data);
