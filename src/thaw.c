#include "thaw.h"

#include <errno.h>
#include <stdlib.h>
#include <unistd.h>

#include "content.h"
#include "io.h"
#include "object.h"

/* What the chunks leave of the file, and what it has of its own so far. */
static int show_gaps(struct delta *d, const struct inode *inode, uint64_t object)
{
    uint64_t start = 0, size = inode->row.size;
    int found = 0;

    while (start < size) {
        struct delta_chunk next, gap = {.start = start, .source = object};
        int r = delta_next_chunk(d, inode->row.ino, start, &next);

        if (r < 0) return r;
        gap.end = r > 0 && next.start < size ? next.start : size;
        if (gap.start < gap.end) {
            int added = delta_add_chunk(d, inode->row.ino, &gap);

            if (added < 0) return added;
            found = 1;
        }
        start = r > 0 ? content_page_end(next.end) : size;
    }
    return found;
}

static int give(struct view *v, struct delta *d, struct inode *inode, uint64_t object)
{
    uint64_t old = inode->row.object;
    int r = inode_get(v, d, inode->row.ino, inode); /* others may have changed what is not contents */

    if (r == 0) r = show_gaps(d, inode, old);
    if (r < 0) return r;
    if (r > 0) inode->row.chunked = true;
    else if ((r = commit_drops_object(delta_commit(d), old)) < 0) return r;
    inode->row.object = object;
    inode->row.grown = true;
    r = inode_put(v, d, inode);
    commit_adds_object(delta_commit(d));
    if (r == 0) r = delta_add_fresh(d, inode->row.ino, inode->row.size);
    /* An fsync of the file syncs its new object alone. */
    return r < 0 ? r : commit_needs_object(delta_commit(d), old);
}

static int create(struct view *v, uint64_t size, uint64_t *ret_object)
{
    _cleanup_close_ int fd = -1;
    struct delta *d;
    int r = view_begin(v, &d);

    if (r == 0) r = view_end(v, d, delta_new_ino(d, ret_object), VIEW_LAZY);
    if (r < 0) return r;
    fd = object_open(delta_objects_fd(d), *ret_object, O_RDWR | O_CREAT | O_EXCL);
    if (fd < 0) return fd;
    if (ftruncate(fd, size) == 0) return 0;
    r = -errno;
    object_unlink(delta_objects_fd(d), *ret_object);
    return r;
}

/* Recovery makes the file's own object as long as the file, and no other. */
static int settle_length(struct view *v, const struct inode *inode)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd;

    if (!inode->row.grown) return 0;
    fd = view_open_object(v, inode->row.ino, inode->row.object, &file);
    return fd < 0 ? fd : view_sync_object(v, fd, false);
}

/* Rows of undo and fresh speak of the old object. */
static int settle(struct view *v, const struct inode *inode)
{
    struct delta *d = view_lock(v);
    int r = delta_is_settled(d, inode->row.ino);

    view_unlock(d);
    if (r == 0) r = view_sync(v);
    return r < 0 ? r : settle_length(v, inode);
}

int thaw(struct view *v, struct inode *inode)
{
    struct inode shared = *inode;
    struct delta *d = atomic_load(&v->delta);
    uint64_t object;
    int r;

    if (!d || !delta_is_shared(d, inode->row.object)) return 0;
    r = settle(v, inode);
    if (r == 0) r = create(v, inode->row.size, &object);
    if (r == 0) r = view_begin(v, &d);
    if (r < 0) return r;
    /* Written before it is used: a batch that fails takes all with it that is in it, and the caller goes on in another. */
    r = view_end(v, d, give(v, d, inode, object), VIEW_CONTENTS);
    if (r < 0 && r != -EIO) object_unlink(delta_objects_fd(d), object);
    if (r < 0) *inode = shared;
    return r;
}

/* Grows *ret_sources; caller frees. */
static int list_sources(struct delta *d, uint64_t ino, uint64_t **ret_sources, size_t *ret_count)
{
    uint64_t source = 0;
    size_t room = 0;
    int r;

    while ((r = delta_next_source(d, ino, source, &source)) > 0) {
        if (*ret_count == room) {
            uint64_t *grown = reallocarray(*ret_sources, room = room ? room * 2 : 8, sizeof(*grown));

            if (!grown) return -ENOMEM;
            *ret_sources = grown;
        }
        (*ret_sources)[(*ret_count)++] = source;
    }
    return r;
}

static int drop_unnamed(struct delta *d, uint64_t ino, const uint64_t *sources, size_t count)
{
    int r = 0;

    for (size_t i = 0; i < count && r >= 0; i++) {
        uint64_t next = 0;

        r = delta_next_source(d, ino, sources[i] - 1, &next);
        if (r >= 0 && (r == 0 || next != sources[i])) r = commit_drops_object(delta_commit(d), sources[i]);
    }
    return r < 0 ? r : 0;
}

int thaw_discard(struct delta *d, uint64_t ino, uint64_t start, uint64_t end)
{
    _cleanup_free_ uint64_t *sources = NULL;
    size_t count = 0;
    int r = list_sources(d, ino, &sources, &count);

    if (r == 0) r = delta_discard_chunks(d, ino, start, end);
    return r < 0 ? r : drop_unnamed(d, ino, sources, count);
}
