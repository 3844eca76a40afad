#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "allocate.h"
#include "change.h"
#include "chunk.h"
#include "commit.h"
#include "fdcache.h"
#include "io.h"
#include "log.h"
#include "object.h"
#include "thaw.h"

#define SECTOR 512

static uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }
static uint64_t max(uint64_t a, uint64_t b) { return a > b ? a : b; }

static int get(struct view *v, uint64_t ino, struct inode *inode)
{
    struct delta *d = view_lock(v);
    int r = inode_get(v, d, ino, inode);

    view_unlock(d);
    if (r < 0) return r;
    if (S_ISDIR(inode->row.mode)) return -EISDIR;
    return S_ISREG(inode->row.mode) ? 0 : -EINVAL;
}

/* For writing: with an object of its own, if it has one at all. */
static int get_own(struct view *v, uint64_t ino, struct inode *inode)
{
    int r = get(v, ino, inode);

    return r == 0 ? thaw(v, inode) : r;
}

ssize_t content_read(struct view *v, uint64_t ino, void *buffer, size_t size, uint64_t offset)
{
    struct inode inode;
    int r;

    view_lock_contents(v, ino, false);
    r = get(v, ino, &inode);
    size = r < 0 || offset >= inode.row.size ? 0 : min(size, inode.row.size - offset);
    if (size) r = chunk_gather(v, &inode, buffer, size, offset);
    view_unlock_contents(v, ino);
    return r < 0 ? r : (ssize_t)size;
}

/* ---- writing: content lock held exclusively, so nobody else changes size, object, chunks or bytes ---- */

static bool knows_end(struct view *v, const struct inode *inode)
{
    struct delta *d = view_lock(v);
    bool known = delta_knows_end(d, inode->row.object);

    view_unlock(d);
    return known;
}

static int know_end(struct view *v, const struct inode *inode)
{
    struct delta *d = view_lock(v);
    int r = delta_know_end(d, inode->row.object);

    view_unlock(d);
    return r;
}

/* The object is as long as the file. Shorter it is damaged. What a failed write, or a power cut that took rows, has left behind
 * the end must not show when the file becomes longer; nor after a power cut, when the row is on the disk before that. The cut
 * may have left an object of the right length, and other bytes behind it in its last block: truncating to the length that it has
 * makes zeros of them. */
int content_check_length(struct view *v, const struct inode *inode, int fd, bool grows)
{
    struct stat st;
    int r = 0;

    if (fstat(fd, &st) < 0) return -errno;
    if ((uint64_t)st.st_size < inode->row.size) return chunk_short_object(v, inode, inode->row.object);
    if (!grows || ((uint64_t)st.st_size == inode->row.size && knows_end(v, inode))) return 0;
    if ((uint64_t)st.st_size > inode->row.size) r = view_sync(v); /* the row on the disk may still have these bytes */
    if (r == 0) r = ftruncate(fd, inode->row.size) < 0 ? -errno : view_sync_object(v, fd, true);
    return r < 0 ? r : know_end(v, inode);
}

/* Part of one page, which reaches the object whole and at once: after a power cut the page is there or it is not, and then the
 * chunk shows again. */
static int write_page(struct view *v, const struct inode *inode, int fd, const char *buffer, size_t size, uint64_t offset)
{
    char page[CONTENT_PAGE] = {0};
    uint64_t start = content_page_start(offset);
    uint64_t have = inode->row.size > start ? min(inode->row.size - start, CONTENT_PAGE) : 0;
    int r = have ? chunk_gather(v, inode, page, have, start) : 0;

    if (r < 0) return r;
    memcpy(page + (offset - start), buffer, size);
    return io_pwrite(fd, page, max(have, offset - start + size), start);
}

static int write_pages(struct view *v, const struct inode *inode, int fd, const char *buffer, size_t size, uint64_t offset)
{
    uint64_t end = offset + size;
    int r = 0;

    while (r == 0 && offset < end) {
        bool whole = offset == content_page_start(offset) && end - offset >= CONTENT_PAGE;
        size_t n = whole ? content_page_start(end) - offset : min(content_page_end(offset + 1), end) - offset;

        r = whole ? io_pwrite(fd, buffer, n, offset) : write_page(v, inode, fd, buffer, n, offset);
        buffer += n;
        offset += n;
    }
    return r;
}

/* The object was the file's before. */
static int prepare_object(struct view *v, const struct inode *inode, int fd, size_t size, uint64_t offset)
{
    int r = content_check_length(v, inode, fd, offset + size > inode->row.size);

    if (r < 0 || !inode->row.chunked) return r;
    return chunk_clear_beneath(v, inode, fd, content_page_start(offset), content_page_end(offset + size));
}

/* A file that outgrows its row takes along what is in front of the page that is written; behind it there is nothing. */
static int write_row_s_part(struct view *v, const struct inode *before, int fd, uint64_t offset)
{
    uint64_t size = min(before->row.size, content_page_start(offset));
    char row[CONTENT_ROW_MAX];
    int r;

    if (before->row.object != DELTA_IN_ROW || size == 0) return 0;
    r = chunk_gather(v, before, row, size, 0);
    return r < 0 ? r : io_pwrite(fd, row, size, 0);
}

static int write_object(struct view *v, const struct inode *inode, const struct inode *before, const void *buffer,
                        size_t size, uint64_t offset)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd = view_open_object(v, inode->row.ino, inode->row.object, &file);
    int r;

    if (fd < 0) return fd;
    r = inode->row.object == before->row.object ? prepare_object(v, before, fd, size, offset)
                                                : write_row_s_part(v, before, fd, offset);
    if (r < 0) return r;
    return inode->row.chunked ? write_pages(v, before, fd, buffer, size, offset) : io_pwrite(fd, buffer, size, offset);
}

static int write_to_object(struct view *v, struct inode *inode, const void *buffer, size_t size, uint64_t offset)
{
    struct change change = {
        .cut = CUT_SUPERSEDED, .start = content_page_start(offset), .end = content_page_end(offset + size)};
    struct inode before = *inode;
    int r = 0;

    if (inode->row.object == DELTA_IN_ROW) change.start = 0;
    if (inode->row.object <= 0) r = change_to_object(v, inode, inode->row.size);
    if (r < 0) return r;
    r = write_object(v, inode, &before, buffer, size, offset);
    inode->row.size = max(inode->row.size, offset + size);
    return change_finish(v, inode, &before, &change, r, VIEW_CONTENTS);
}

/* The whole file fits into a row, and its bytes are in `row`. */
static int write_row(struct view *v, struct inode *inode, const char *row, const struct inode_change *also,
                     enum view_promise promise)
{
    struct change change = {.cut = CUT_DISCARDED, .end = CONTENT_MAX, .also = also};
    struct delta *d;
    int r = view_begin(v, &d);

    if (r < 0) return r;
    inode->row.object = DELTA_IN_ROW;
    r = change_store(v, d, inode, &change);
    if (r == 0) r = delta_set_content(d, inode->row.ino, row, inode->row.size);
    return view_end(v, d, r, promise);
}

bool content_fits_row(const struct inode *inode, uint64_t size)
{
    return inode->row.object <= 0 && size <= CONTENT_ROW_MAX;
}

/* The first `size` bytes, padded with zeros. */
static int load_row(struct view *v, const struct inode *inode, char row[CONTENT_ROW_MAX], uint64_t size)
{
    uint64_t have = min(inode->row.size, size);

    memset(row + have, 0, CONTENT_ROW_MAX - have);
    return have ? chunk_gather(v, inode, row, have, 0) : 0;
}

static int write_small(struct view *v, struct inode *inode, const void *buffer, size_t size, uint64_t offset)
{
    char row[CONTENT_ROW_MAX];
    int r = load_row(v, inode, row, CONTENT_ROW_MAX);

    if (r < 0) return r;
    memcpy(row + offset, buffer, size);
    inode->row.size = max(inode->row.size, offset + size);
    return write_row(v, inode, row, NULL, VIEW_CONTENTS);
}

int content_write_held(struct view *v, struct inode *inode, const void *buffer, size_t size, uint64_t offset)
{
    bool small = content_fits_row(inode, max(inode->row.size, offset + size));

    return (small ? write_small : write_to_object)(v, inode, buffer, size, offset);
}

int content_write(struct view *v, uint64_t ino, const void *buffer, size_t size, uint64_t offset)
{
    struct inode inode;
    int r;

    if (size == 0) return 0;
    if (offset + size > CONTENT_MAX) return -EFBIG;
    r = view_check_room(v, size);
    if (r < 0) return r;
    view_lock_contents(v, ino, true);
    r = get_own(v, ino, &inode);
    if (r == 0) r = content_write_held(v, &inode, buffer, size, offset);
    view_unlock_contents(v, ino);
    return r;
}

/* ---- changing the size ---- */

/* A new object on the next write, so that the old contents stay whole until this is committed. */
static int truncate_to_nothing(struct view *v, struct inode *inode, const struct inode_change *also)
{
    struct change change = {.cut = CUT_DISCARDED, .end = CONTENT_MAX, .also = also};
    int64_t object = inode->row.object;
    struct delta *d;
    int r = view_begin(v, &d);

    if (r < 0) return r;
    inode->row.size = 0;
    inode->row.object = DELTA_NO_OBJECT;
    r = change_store(v, d, inode, &change);
    if (r == 0) r = delta_remove_content(d, inode->row.ino);
    if (r == 0 && object > 0) r = commit_drops_object(delta_commit(d), object);
    r = view_end(v, d, r, VIEW_METADATA);
    if (r == 0 && object > 0) fdcache_drop(v->shared->files, v, object);
    return r;
}

static int resize_row(struct view *v, struct inode *inode, uint64_t size, const struct inode_change *also)
{
    char row[CONTENT_ROW_MAX];
    int r = load_row(v, inode, row, size);

    if (r < 0) return r;
    inode->row.size = size;
    return write_row(v, inode, row, also, VIEW_METADATA);
}

/* On the disk when it returns: bytes written inside the new length reach it without a row that says so. */
static int lengthen_object(struct view *v, const struct inode *inode, uint64_t size)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd = view_open_object(v, inode->row.ino, inode->row.object, &file);
    int r;

    if (fd < 0) return fd;
    r = content_check_length(v, inode, fd, true);
    if (r < 0) return r;
    return ftruncate(fd, size) < 0 ? -errno : view_sync_object(v, fd, true);
}

static int lengthen(struct view *v, struct inode *inode, uint64_t size)
{
    if (inode->row.object == DELTA_IN_ROW) return change_to_object(v, inode, size);
    return inode->row.object > 0 ? lengthen_object(v, inode, size) : 0;
}

/* After the rows. The bytes go only when it is on the disk that they do, and before anything is written in their place. */
static int shorten_object(struct view *v, const struct inode *inode)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd, r = v->shared->sync ? 0 : view_sync(v);

    if (r < 0) return r;
    fd = view_open_object(v, inode->row.ino, inode->row.object, &file);
    if (fd < 0) return fd;
    return ftruncate(fd, inode->row.size) < 0 ? -errno : view_sync_object(v, fd, true);
}

static int resize_large(struct view *v, struct inode *inode, uint64_t size, const struct inode_change *also)
{
    struct change change = {.cut = CUT_DISCARDED, .start = size, .end = CONTENT_MAX, .also = also};
    struct inode before = *inode;
    int r = size > inode->row.size ? lengthen(v, inode, size) : 0;

    inode->row.size = size;
    r = change_finish(v, inode, &before, &change, r, VIEW_METADATA);
    if (r < 0 || size >= before.row.size || inode->row.object <= 0) return r;
    return shorten_object(v, inode);
}

int content_resize_held(struct view *v, struct inode *inode, uint64_t size, const struct inode_change *also)
{
    if (size == 0) return truncate_to_nothing(v, inode, also);
    if (content_fits_row(inode, max(size, inode->row.size))) return resize_row(v, inode, size, also);
    return resize_large(v, inode, size, also);
}

int content_truncate(struct view *v, uint64_t ino, uint64_t size, const struct inode_change *also)
{
    struct inode inode;
    int r;

    if (size > CONTENT_MAX) return -EFBIG;
    view_lock_contents(v, ino, true);
    r = size ? get_own(v, ino, &inode) : get(v, ino, &inode);
    if (r == 0) r = content_resize_held(v, &inode, size, also);
    view_unlock_contents(v, ino);
    return r;
}

int content_allocate(struct view *v, uint64_t ino, int mode, uint64_t offset, uint64_t length)
{
    struct inode inode;
    int r;

    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) return -EOPNOTSUPP;
    if (offset + length > CONTENT_MAX) return -EFBIG;
    view_lock_contents(v, ino, true);
    r = get_own(v, ino, &inode);
    if (r == 0) r = allocate(v, &inode, mode, offset, length);
    view_unlock_contents(v, ino);
    return r;
}

off_t content_seek(struct view *v, uint64_t ino, uint64_t offset, int whence)
{
    struct inode inode;
    off_t r;

    if (whence != SEEK_DATA && whence != SEEK_HOLE) return -EINVAL;
    view_lock_contents(v, ino, false);
    r = get(v, ino, &inode);
    if (r == 0) r = chunk_seek(v, &inode, offset, whence);
    view_unlock_contents(v, ino);
    return r;
}

/* ---- the disk ---- */

static int get_now(struct view *v, uint64_t ino, struct inode *ret_inode)
{
    struct delta *d = view_lock(v);
    int r = inode_get(v, d, ino, ret_inode);

    view_unlock(d);
    return r;
}

/* A descriptor, or -ENODATA for what has no object; the inode as it was then. */
static int open_own(struct view *v, uint64_t ino, struct inode *ret_inode, struct view_file *file)
{
    int r;

    view_lock_contents(v, ino, false); /* the object stays the file's while it is opened */
    r = get_now(v, ino, ret_inode);
    if (r == 0)
        r = S_ISREG(ret_inode->row.mode) && ret_inode->row.object > 0
                ? view_open_object(v, ino, ret_inode->row.object, file) : -ENODATA;
    view_unlock_contents(v, ino);
    return r;
}

/* The object's length is on the disk, unless somebody has written since, which ctime tells. */
static int settle_length(struct view *v, const struct inode *synced)
{
    struct inode inode;
    struct delta *d;
    int r = view_begin(v, &d);

    if (r < 0) return r;
    r = inode_get(v, d, synced->row.ino, &inode);
    if (r == 0 && inode.row.object == synced->row.object && inode.row.size == synced->row.size &&
        inode.row.ctime == synced->row.ctime) {
        inode.row.grown = false;
        r = inode_put(v, d, &inode);
    }
    return view_end(v, d, r == -ESTALE ? 0 : r, VIEW_LAZY);
}

int content_sync(struct view *v, uint64_t ino, bool data_only)
{
    _cleanup_view_file_ struct view_file file = {0};
    struct inode inode;
    int fd = open_own(v, ino, &inode, &file);
    int r = 0;

    if (fd < 0 && fd != -ENODATA) return fd;
    if (fd >= 0) r = view_sync_object(v, fd, !data_only);
    if (r == 0 && fd >= 0 && inode.row.grown) r = settle_length(v, &inode);
    return r < 0 ? r : view_sync(v);
}

/* A damaged file can still be looked at, and deleted: no blocks then. */
static blkcnt_t object_blocks(struct view *v, uint64_t object)
{
    struct stat st;

    return object_stat(delta_objects_fd(atomic_load(&v->delta)), object, &st) < 0 ? 0 : st.st_blocks;
}

int content_blocks(struct view *v, const struct inode *inode, blkcnt_t *ret_blocks)
{
    const struct delta_inode *row = &inode->row;
    blkcnt_t own = 0, shared = 0;
    int r = 0;

    if (!inode->stored) shared = image_inode(v->image, row->image_ino)->blocks;
    else if (S_ISDIR(row->mode)) own = CONTENT_PAGE / SECTOR;
    else if (S_ISREG(row->mode)) {
        if (row->object == DELTA_IN_ROW) own = (row->size + SECTOR - 1) / SECTOR;
        if (row->object > 0) own = object_blocks(v, row->object);
        if (row->chunked) r = chunk_blocks(v, inode, &shared);
    }
    *ret_blocks = own + shared;
    return r;
}
