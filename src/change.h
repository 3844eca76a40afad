/* change: what becomes of a file's rows when its bytes change: size, object, chunks, and what commit and recovery must know.
 *
 * Content lock held exclusively in all functions. */
#pragma once

#include "inode.h"

enum cut { CUT_NOTHING, CUT_SUPERSEDED, CUT_DISCARDED };

/* What a change does to a file's chunks, and where; and what else the same operation changes. */
struct change {
    enum cut cut;
    uint64_t start, end;
    const struct inode_change *also; /* or NULL */
    bool superseded;                 /* the result: there were chunks, and now the object has newer bytes */
};

/* Cuts chunks, then writes those fields of `now` that belong to contents; others may have changed meanwhile. Within begin and end. */
int change_store(struct view *view, struct delta *delta, struct inode *now, struct change *change);

/* Gives the file an object of this length, that no row speaks of yet. What was in its row stays there, as a chunk:
 * change_finish() sees to that. */
int change_to_object(struct view *view, struct inode *inode, uint64_t length);

/* The rows after the bytes, unless writing those has failed (`error`). `before` is the file as it was: an object that it did not
 * have is removed again if no row can speak of it. */
int change_finish(struct view *view, struct inode *now, const struct inode *before, struct change *change, int error,
                  enum view_promise promise);
