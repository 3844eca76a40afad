#include "content.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "chunk.h"
#include "commit.h"
#include "fdcache.h"
#include "io.h"
#include "log.h"
#include "object.h"

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

enum cut { CUT_NOTHING, CUT_SUPERSEDED, CUT_DISCARDED };

/* What a change does to a file's chunks, and where; and what else the same operation changes. */
struct change {
    enum cut cut;
    uint64_t start, end;
    const struct inode_change *also; /* or NULL */
    bool superseded;                 /* the result: there were chunks, and now the object has newer bytes */
};

static int cut_chunks(struct delta *d, struct inode *now, struct change *change)
{
    bool discard = change->cut == CUT_DISCARDED;
    struct delta_chunk left;
    int r = (discard ? delta_discard_chunks : delta_supersede_chunks)(d, now->row.ino, change->start, change->end);

    if (r < 0) return r;
    change->superseded = r > 0;
    r = delta_next_chunk(d, now->row.ino, 0, &left);
    now->row.chunked = r > 0;
    return r < 0 ? r : 0;
}

/* A file with an object may have superseded chunks even if none is left to be seen. */
static bool has_chunks(const struct inode *before, const struct inode *now, const struct change *change)
{
    if (change->cut == CUT_NOTHING) return false;
    return now->row.chunked || (change->cut == CUT_DISCARDED && before->row.object > 0);
}

/* Cuts chunks, then writes those fields of `now` that belong to contents; others may have changed meanwhile. */
static int store(struct view *v, struct delta *d, struct inode *now, struct change *change)
{
    struct inode inode;
    int r = inode_get(v, d, now->row.ino, &inode);

    if (r == 0 && !inode.stored) r = inode_put(v, d, &inode);
    if (r == 0 && has_chunks(&inode, now, change)) r = cut_chunks(d, now, change);
    if (r < 0) return r;
    now->stored = true;
    inode.row.size = now->row.size;
    inode.row.object = now->row.object;
    inode.row.chunked = now->row.chunked;
    r = inode_put_modified(v, d, &inode);
    return r == 0 && change->also ? inode_apply(v, d, &inode, change->also) : r;
}

static int create_object(struct view *v, uint64_t *ret_object)
{
    struct delta *d;
    int r = view_begin(v, &d);

    if (r == 0) r = view_end(v, d, delta_new_ino(d, ret_object), VIEW_LAZY);
    return r < 0 ? r : object_create(delta_objects_fd(d), *ret_object);
}

static void remove_object(struct view *v, uint64_t object)
{
    fdcache_drop(v->shared->files, v, object);
    object_unlink(delta_objects_fd(atomic_load(&v->delta)), object);
}

/* Gives the file an object that no row speaks of yet. What was in its row stays there, as a chunk: see store_in_object(). */
static int to_object(struct view *v, struct inode *inode)
{
    uint64_t object;
    int r = create_object(v, &object);

    if (r < 0) return r;
    if (inode->row.object == DELTA_IN_ROW && inode->row.size > 0) inode->row.chunked = true;
    inode->row.object = object;
    return 0;
}

static int show_row(struct delta *d, const struct inode *before)
{
    struct delta_chunk whole = {.end = before->row.size, .source = DELTA_SOURCE_ROW};

    if (before->row.object != DELTA_IN_ROW || before->row.size == 0) return 0;
    return delta_add_chunk(d, before->row.ino, &whole);
}

/* Rows may reach the disk before the bytes and the name of the object do; commit learns what is to follow. */
static int store_in_object(struct view *v, struct delta *d, struct inode *now, const struct inode *before,
                           struct change *change)
{
    bool is_new = now->row.object != before->row.object;
    int r = is_new ? show_row(d, before) : 0;

    if (r == 0) r = store(v, d, now, change);
    if (r == 0 && is_new) {
        commit_adds_object(delta_commit(d));
        r = delta_add_fresh(d, now->row.ino, before->row.size);
    }
    if (r == 0 && change->superseded) r = commit_needs_object(delta_commit(d), now->row.object);
    return r;
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

/* Nothing may show up between the old end of the file and what is written behind it; nor after a power cut. */
static int trim_object(int fd, uint64_t size)
{
    struct stat st;

    if (fstat(fd, &st) < 0) return -errno;
    if ((uint64_t)st.st_size <= size) return 0;
    return ftruncate(fd, size) < 0 ? -errno : commit_object(fd, true);
}

static int write_object(struct view *v, const struct inode *inode, const struct inode *before, const void *buffer, size_t size,
                        uint64_t offset)
{
    struct fdcache_entry *entry;
    int fd = view_open_object(v, inode->row.object, &entry);
    int r = 0;

    if (fd < 0) return fd;
    if (offset + size > inode->row.size) r = trim_object(fd, inode->row.size);
    /* What the old contents' range has of its own is then told by holes, not by where the object ends. */
    if (r == 0 && inode->row.object != before->row.object) r = ftruncate(fd, before->row.size) < 0 ? -errno : 0;
    else if (r == 0 && inode->row.chunked)
        r = chunk_clear_beneath(v, before, fd, content_page_start(offset), content_page_end(offset + size));
    if (r == 0) r = (inode->row.chunked ? write_pages(v, before, fd, buffer, size, offset) : io_pwrite(fd, buffer, size, offset));
    fdcache_put(v->shared->files, entry);
    return r;
}

/* All that a write inside the object can lose with its daemon is its mtime: the first write after a pause writes
 * it, those that follow within this time (in nanoseconds) leave it to the housekeeper's next round. */
#define LAZY_TIME INT64_C(1000000000)

/* The rows after the bytes, unless writing those has failed. An object is removed again only if no row can speak of it. */
static int finish_in_object(struct view *v, struct inode *now, const struct inode *before, struct change *change, int error,
                            enum view_promise promise)
{
    bool is_new = now->row.object != before->row.object;
    struct delta *d;
    int r = error < 0 ? error : view_begin(v, &d);

    if (r == 0) {
        r = store_in_object(v, d, now, before, change);
        if (promise == VIEW_CONTENTS && !is_new && now->row.size == before->row.size && !change->superseded &&
            io_now() - before->row.mtime < LAZY_TIME)
            promise = VIEW_LAZY;
        r = view_end(v, d, r, promise);
    }
    if (r < 0 && (error < 0 || r != -EIO) && is_new) remove_object(v, now->row.object);
    return r;
}

static int write_to_object(struct view *v, struct inode *inode, const void *buffer, size_t size, uint64_t offset)
{
    struct change change = {
        .cut = CUT_SUPERSEDED, .start = content_page_start(offset), .end = content_page_end(offset + size)};
    struct inode before = *inode;
    int r = 0;

    if (inode->row.object <= 0) r = to_object(v, inode);
    if (r < 0) return r;
    r = write_object(v, inode, &before, buffer, size, offset);
    inode->row.size = max(inode->row.size, offset + size);
    return finish_in_object(v, inode, &before, &change, r, VIEW_CONTENTS);
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
    r = store(v, d, inode, &change);
    if (r == 0) r = delta_set_content(d, inode->row.ino, row, inode->row.size);
    return view_end(v, d, r, promise);
}

static bool fits_row(const struct inode *inode, uint64_t size)
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

static int write_bytes(struct view *v, struct inode *inode, const void *buffer, size_t size, uint64_t offset)
{
    bool small = fits_row(inode, max(inode->row.size, offset + size));

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
    r = get(v, ino, &inode);
    if (r == 0) r = write_bytes(v, &inode, buffer, size, offset);
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
    r = store(v, d, inode, &change);
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

static int resize_object(struct view *v, const struct inode *inode, uint64_t size)
{
    struct fdcache_entry *entry;
    int fd = inode->row.object > 0 ? view_open_object(v, inode->row.object, &entry) : -1;
    int r;

    if (inode->row.object <= 0) return 0;
    if (fd < 0) return fd;
    r = trim_object(fd, size);
    fdcache_put(v->shared->files, entry);
    return r;
}

static int resize_large(struct view *v, struct inode *inode, uint64_t size, const struct inode_change *also)
{
    struct change change = {.cut = CUT_DISCARDED, .start = size, .end = CONTENT_MAX, .also = also};
    struct inode before = *inode;
    int r = 0;

    if (inode->row.object == DELTA_IN_ROW) r = to_object(v, inode);
    if (r < 0) return r;
    if (size > before.row.size) r = resize_object(v, inode, before.row.size);
    inode->row.size = size;
    r = finish_in_object(v, inode, &before, &change, r, VIEW_METADATA);
    if (r < 0 || size >= before.row.size || inode->row.object <= 0) return r;
    /* The bytes go only when it is on the disk that they do. */
    if (!v->shared->sync) r = view_sync(v);
    return r < 0 ? r : resize_object(v, inode, size);
}

static int resize(struct view *v, struct inode *inode, uint64_t size, const struct inode_change *also)
{
    if (size == 0) return truncate_to_nothing(v, inode, also);
    if (fits_row(inode, max(size, inode->row.size))) return resize_row(v, inode, size, also);
    return resize_large(v, inode, size, also);
}

int content_truncate(struct view *v, uint64_t ino, uint64_t size, const struct inode_change *also)
{
    struct inode inode;
    int r;

    if (size > CONTENT_MAX) return -EFBIG;
    view_lock_contents(v, ino, true);
    r = get(v, ino, &inode);
    if (r == 0) r = resize(v, &inode, size, also);
    view_unlock_contents(v, ino);
    return r;
}

/* ---- holes ---- */

static int write_zeros(struct view *v, struct inode *inode, uint64_t start, uint64_t end)
{
    static const char zeros[CONTENT_PAGE];
    int r = 0;

    while (r == 0 && start < end) {
        size_t size = min(end - start, CONTENT_PAGE);

        r = write_bytes(v, inode, zeros, size, start);
        start += size;
    }
    return r;
}

static int punch_object(struct view *v, const struct inode *inode, uint64_t start, uint64_t end)
{
    struct fdcache_entry *entry;
    int fd, r;

    if (inode->row.object <= 0) return 0;
    fd = view_open_object(v, inode->row.object, &entry);
    if (fd < 0) return fd;
    r = inode->row.chunked ? chunk_clear_beneath(v, inode, fd, start, end) : 0;
    if (r == 0) r = fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start) < 0 ? -errno : 0;
    fdcache_put(v->shared->files, entry);
    return r;
}

/* Whole pages: the object gets a hole, and no chunk shows in it. */
static int punch_pages(struct view *v, struct inode *inode, uint64_t start, uint64_t end)
{
    struct change change = {.cut = CUT_DISCARDED, .start = start, .end = end};
    struct delta *d;
    int r = punch_object(v, inode, start, end);

    if (r == 0) r = view_begin(v, &d);
    return r < 0 ? r : view_end(v, d, store(v, d, inode, &change), VIEW_CONTENTS);
}

/* Within the file. */
static int zero(struct view *v, struct inode *inode, uint64_t start, uint64_t end)
{
    uint64_t first = content_page_end(start), last;
    int r;

    end = min(end, inode->row.size);
    last = end == inode->row.size ? content_page_end(end) : content_page_start(end);
    if (start >= end) return 0;
    if (fits_row(inode, inode->row.size) || first >= last) return write_zeros(v, inode, start, end);
    r = write_zeros(v, inode, start, first);
    if (r == 0) r = punch_pages(v, inode, first, last);
    return r == 0 && last < end ? write_zeros(v, inode, last, end) : r;
}

/* Room on the disk, where the file has an object of its own. */
static int reserve(struct view *v, const struct inode *inode, uint64_t offset, uint64_t length)
{
    struct fdcache_entry *entry;
    int fd, r;

    if (inode->row.object <= 0) return 0;
    fd = view_open_object(v, inode->row.object, &entry);
    if (fd < 0) return fd;
    r = fallocate(fd, FALLOC_FL_KEEP_SIZE, offset, length) < 0 ? -errno : 0;
    fdcache_put(v->shared->files, entry);
    return r == -EOPNOTSUPP ? 0 : r;
}

/* As ext4, whether anything that can be seen has changed or not. */
static int touch(struct view *v, struct inode *inode)
{
    struct change change = {.cut = CUT_NOTHING};
    struct delta *d;
    int r = view_begin(v, &d);

    return r < 0 ? r : view_end(v, d, store(v, d, inode, &change), VIEW_METADATA);
}

static int give_object(struct view *v, struct inode *inode)
{
    struct change change = {.cut = CUT_NOTHING};
    struct inode before = *inode;
    int r = to_object(v, inode);

    return r < 0 ? r : finish_in_object(v, inode, &before, &change, 0, VIEW_METADATA);
}

/* What may fail for want of room comes first. */
static int allocate(struct view *v, struct inode *inode, int mode, uint64_t offset, uint64_t length)
{
    uint64_t end = offset + length;
    int r = 0;

    if (!(mode & FALLOC_FL_PUNCH_HOLE)) {
        r = view_check_room(v, length);
        if (r == 0 && inode->row.object <= 0 && end > CONTENT_ROW_MAX) r = give_object(v, inode);
        if (r == 0) r = reserve(v, inode, offset, length);
    }
    if (r == 0 && mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) r = zero(v, inode, offset, end);
    if (r < 0 || mode & FALLOC_FL_PUNCH_HOLE) return r;
    if (!(mode & FALLOC_FL_KEEP_SIZE) && end > inode->row.size) return resize(v, inode, end, NULL);
    return touch(v, inode);
}

int content_allocate(struct view *v, uint64_t ino, int mode, uint64_t offset, uint64_t length)
{
    struct inode inode;
    int r;

    if (mode & ~(FALLOC_FL_KEEP_SIZE | FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) return -EOPNOTSUPP;
    if (offset + length > CONTENT_MAX) return -EFBIG;
    view_lock_contents(v, ino, true);
    r = get(v, ino, &inode);
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

static int open_own(struct view *v, uint64_t ino, struct fdcache_entry **ret_entry)
{
    struct delta *d = view_lock(v);
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    view_unlock(d);
    if (r < 0) return r;
    *ret_entry = NULL;
    return S_ISREG(inode.row.mode) && inode.row.object > 0 ? view_open_object(v, inode.row.object, ret_entry) : 0;
}

int content_sync(struct view *v, uint64_t ino, bool data_only)
{
    struct fdcache_entry *entry;
    int fd, r = 0;

    view_lock_contents(v, ino, false); /* the object stays the file's while it is opened */
    fd = open_own(v, ino, &entry);
    view_unlock_contents(v, ino);
    if (fd < 0) return fd;
    if (entry) {
        r = commit_object(fd, !data_only);
        fdcache_put(v->shared->files, entry);
    }
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
