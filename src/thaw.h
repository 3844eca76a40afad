/* thaw: how a file goes on after a snapshot came to share its object: it gets a new one, and what it had in the old one it
 * shows by chunks, as it does the image's contents. An object goes when neither an inode nor a chunk nor a row of undo names it. */
#pragma once

#include "inode.h"

/* Gives the inode an object that no snapshot shares, if it has one that is shared. Content lock held exclusively. */
int thaw(struct view *view, struct inode *inode);

/* delta_discard_chunks(); drops objects of which nothing shows any more. Within begin and end. */
int thaw_discard(struct delta *delta, uint64_t ino, uint64_t start, uint64_t end);
