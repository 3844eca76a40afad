/* chunk: where the bytes of a file come from: its row, its object, or the image's file, in one pass over its chunks.
 *
 * A page of a file is a chunk's or the object's, never both: where a chunk ends inside a page and the file goes on, the rest of
 * the page is zeros, whatever the object has there. So a power cut leaves of a page what was there or what was written,
 * whichever of object and rows had reached the disk.
 *
 * Content lock held in all functions, shared at least. */
#pragma once

#include <sys/types.h>

#include "inode.h"

/* Reads [offset, offset + size), which lies inside the file. -EIO: something beneath is missing or too short. */
int chunk_gather(struct view *view, const struct inode *inode, char *buffer, size_t size, uint64_t offset);

/* Tells that the file's object, or one that it shares, is damaged: -EIO. No other lock held. */
int chunk_short_object(struct view *view, const struct inode *inode, uint64_t object);

/* Before chunks in [start, end), whole pages, are cut: what their place in the object `fd` has from a write that failed, or
 * whose rows a power cut took, goes, and is gone from the disk when it returns. Recovery would take it for new bytes. */
int chunk_clear_beneath(struct view *view, const struct inode *inode, int fd, uint64_t start, uint64_t end);

/* lseek(2) with SEEK_DATA or SEEK_HOLE; -ENXIO. */
off_t chunk_seek(struct view *view, const struct inode *inode, uint64_t offset, int whence);

/* Disk blocks (of 512 bytes) of what chunks show. */
int chunk_blocks(struct view *view, const struct inode *inode, blkcnt_t *ret_blocks);
