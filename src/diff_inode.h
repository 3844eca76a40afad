/* diff_inode: in what two inodes of the same type differ; see diff.h. */
#pragma once

#include "inode.h"

int diff_inode(struct view *old, const struct inode *a, struct view *new, const struct inode *b, unsigned *ret_what);
