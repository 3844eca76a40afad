/* parcel_entry: an inode's attributes as libarchive has them. */
#pragma once

#include "inode.h"

struct archive_entry;

int parcel_entry_fill(struct archive_entry *entry, struct view *view, const struct inode *inode);
/* Which parts of a regular file have data, where not all of them have. */
int parcel_entry_add_holes(struct archive_entry *entry, struct view *view, const struct inode *inode);
