/* chunk: where the bytes of a file come from: its row, its object, or the image's file, in one pass over its chunks.
 *
 * Content lock held in all functions, shared at least. */
#pragma once

#include <sys/types.h>

#include "inode.h"

/* Reads [offset, offset + size), which lies inside the file. -EIO: something beneath is missing or too short. */
int chunk_gather(struct view *view, const struct inode *inode, char *buffer, size_t size, uint64_t offset);

/* lseek(2) with SEEK_DATA or SEEK_HOLE; -ENXIO. */
off_t chunk_seek(struct view *view, const struct inode *inode, uint64_t offset, int whence);

/* Disk blocks (of 512 bytes) of what chunks show. */
int chunk_blocks(struct view *view, const struct inode *inode, blkcnt_t *ret_blocks);
