#include "allocate.h"

#include <errno.h>
#include <fcntl.h>

#include "change.h"
#include "chunk.h"
#include "content.h"

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

static int write_zeros(struct view *v, struct inode *inode, uint64_t start, uint64_t end)
{
    static const char zeros[CONTENT_PAGE];
    int r = 0;

    while (r == 0 && start < end) {
        size_t size = min(end - start, CONTENT_PAGE);

        r = content_write_held(v, inode, zeros, size, start);
        start += size;
    }
    return r;
}

/* With the rows as they are: beneath chunks. Else: what the object has there. */
static int punch_object(struct view *v, const struct inode *inode, uint64_t start, uint64_t end, bool is_beneath)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd;

    if (inode->row.object <= 0) return 0;
    fd = view_open_object(v, inode->row.ino, inode->row.object, &file);
    if (fd < 0) return fd;
    if (is_beneath) return inode->row.chunked ? chunk_clear_beneath(v, inode, fd, start, end) : 0;
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start) < 0 ? -errno : 0;
}

/* Whole pages: no chunk shows in them, and the object gets a hole; in this order, as a hole where table undo still has what was there
 * before shows that again, should the daemon die between. */
static int punch_pages(struct view *v, struct inode *inode, uint64_t start, uint64_t end)
{
    struct change change = {.cut = CUT_DISCARDED, .start = start, .end = end};
    struct delta *d;
    int r = punch_object(v, inode, start, end, true);

    if (r == 0) r = view_begin(v, &d);
    if (r == 0) r = view_end(v, d, change_store(v, d, inode, &change), VIEW_CONTENTS);
    return r == 0 ? punch_object(v, inode, start, end, false) : r;
}

/* Within the file. */
static int zero(struct view *v, struct inode *inode, uint64_t start, uint64_t end)
{
    uint64_t first = content_page_end(start), last;
    int r;

    end = min(end, inode->row.size);
    last = end == inode->row.size ? content_page_end(end) : content_page_start(end);
    if (start >= end) return 0;
    if (content_fits_row(inode, inode->row.size) || first >= last) return write_zeros(v, inode, start, end);
    r = write_zeros(v, inode, start, first);
    if (r == 0) r = punch_pages(v, inode, first, last);
    return r == 0 && last < end ? write_zeros(v, inode, last, end) : r;
}

/* Room on the disk, where the file has an object of its own. */
static int reserve(struct view *v, const struct inode *inode, uint64_t offset, uint64_t length)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd, r;

    if (inode->row.object <= 0) return 0;
    fd = view_open_object(v, inode->row.ino, inode->row.object, &file);
    if (fd < 0) return fd;
    r = content_check_length(v, inode, fd, true); /* later that would take the room behind the end */
    if (r < 0) return r;
    return fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length) < 0 && errno != EOPNOTSUPP ? -errno : 0;
}

/* As ext4, whether anything that can be seen has changed or not. */
static int touch(struct view *v, struct inode *inode)
{
    struct change change = {.cut = CUT_NOTHING};
    struct delta *d;
    int r = view_begin(v, &d);

    return r < 0 ? r : view_end(v, d, change_store(v, d, inode, &change), VIEW_METADATA);
}

static int give_object(struct view *v, struct inode *inode)
{
    struct change change = {.cut = CUT_NOTHING};
    struct inode before = *inode;
    int r = change_to_object(v, inode, inode->row.size);

    return r < 0 ? r : change_finish(v, inode, &before, &change, 0, VIEW_METADATA);
}

int allocate(struct view *v, struct inode *inode, int mode, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    int r = 0;

    /* What may fail for want of room comes first. */
    if (!(mode & FALLOC_FL_PUNCH_HOLE)) {
        r = view_check_room(v, length);
        if (r == 0 && inode->row.object <= 0 && end > CONTENT_ROW_MAX) r = give_object(v, inode);
        if (r == 0) r = reserve(v, inode, offset, length);
    }
    if (r == 0 && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) r = zero(v, inode, offset, end);
    if (r < 0 || mode & FALLOC_FL_PUNCH_HOLE) return r;
    if (!(mode & FALLOC_FL_KEEP_SIZE) && end > inode->row.size) return content_resize_held(v, inode, end, NULL);
    return touch(v, inode);
}
