/* content: the bytes of regular files.
 *
 * They come from up to three places: a row (small files, all of their bytes), the file's own object (a sparse file), and
 * chunks, which show bytes of the image until something is written there. A write copies from the image at most the rest of the
 * 4 KiB pages that it touches. What an object has in a chunk's place is never read. An object is as long as the file at least:
 * a shorter one is damaged, which is -EIO. Beyond the end of the file it may have leftovers, also where the object itself ends
 * there, in its last block; whatever makes the file longer removes them first.
 *
 * Every function takes the inode's content lock itself. Sizes and offsets in bytes. */
#pragma once

#include <sys/types.h>

#include "inode.h"

#define CONTENT_ROW_MAX 16384 /* longest file kept in a row: see DESIGN.md, "Contents" */
#define CONTENT_PAGE 4096
#define CONTENT_MAX ((UINT64_C(1) << 44) - CONTENT_PAGE) /* largest file, as ext4 with blocks of 4 KiB */

static inline uint64_t content_page_start(uint64_t offset) { return offset & ~(uint64_t)(CONTENT_PAGE - 1); }
static inline uint64_t content_page_end(uint64_t offset) { return content_page_start(offset + CONTENT_PAGE - 1); }

/* The number of bytes read: less than asked for only at the end of the file. -EIO: something is missing beneath. */
ssize_t content_read(struct view *view, uint64_t ino, void *buffer, size_t size, uint64_t offset);

/* Writes all or fails. Outlives the daemon when it returns. */
int content_write(struct view *view, uint64_t ino, const void *buffer, size_t size, uint64_t offset);

/* `also`: what else the same operation changes, or NULL. */
int content_truncate(struct view *view, uint64_t ino, uint64_t size, const struct inode_change *also);

/* fallocate(2) with FALLOC_FL_KEEP_SIZE, PUNCH_HOLE, ZERO_RANGE or 0; -EOPNOTSUPP for other modes. */
int content_allocate(struct view *view, uint64_t ino, int mode, uint64_t offset, uint64_t length);

/* lseek(2) with SEEK_DATA or SEEK_HOLE; -ENXIO. */
off_t content_seek(struct view *view, uint64_t ino, uint64_t offset, int whence);

/* Contents, names and rows reach the disk, in this order. */
int content_sync(struct view *view, uint64_t ino, bool data_only);

/* Parts of the above for allocate.c, with the lock held exclusively; `inode` as it is now, and as it is then. */
bool content_fits_row(const struct inode *inode, uint64_t size);
int content_write_held(struct view *view, struct inode *inode, const void *buffer, size_t size, uint64_t offset);
int content_check_length(struct view *view, const struct inode *inode, int object_fd, bool grows);
int content_resize_held(struct view *view, struct inode *inode, uint64_t size, const struct inode_change *also);

/* st_blocks. No lock held. */
int content_blocks(struct view *view, const struct inode *inode, blkcnt_t *ret_blocks);
