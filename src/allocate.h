/* allocate: fallocate(2): holes in a file, zeros, and room that is kept for it. */
#pragma once

#include "inode.h"

/* As content_allocate(), whose checks have been made. Content lock held exclusively. */
int allocate(struct view *view, struct inode *inode, int mode, uint64_t offset, uint64_t length);
