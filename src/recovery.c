#include "recovery.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "content.h"
#include "delta.h"
#include "inomap.h"
#include "io.h"
#include "log.h"
#include "object.h"

/* Something else has its name. */
static bool is_no_object(int error)
{
    return error == -ENOENT || error == -ELOOP || error == -EISDIR || error == -EUCLEAN || error == -ENXIO;
}

/* The object, negative when the inode has none or it never reached the disk, or negative errno. Room that was allocated and not
 * written to is a hole, but SEEK_DATA takes it for data once its zeros are in the page cache, by whoever has read the store. */
static int open_object(struct delta *d, const struct delta_inode *inode, int *ret_fd)
{
    *ret_fd = inode->object > 0 ? object_open(delta_objects_fd(d), inode->object, O_RDWR) : -ENOENT;
    if (*ret_fd < 0) return is_no_object(*ret_fd) ? 0 : *ret_fd;
    return -posix_fadvise(*ret_fd, 0, 0, POSIX_FADV_DONTNEED); /* what is to be written to the disk stays */
}

/* The first hole in [start, end): 1 and its ends; 0: none. Without an object all is hole. On a file system of smaller
 * blocks a page of which a part is missing is missing. */
static int find_hole(int fd, off_t start, off_t end, struct delta_chunk *hole)
{
    off_t from = fd < 0 ? start : lseek(fd, start, SEEK_HOLE), to;

    if (from < 0 && errno != ENXIO) return -errno;
    if (from < 0) from = start; /* behind the end of the object */
    if (from >= end) return 0;
    to = fd < 0 ? end : lseek(fd, from, SEEK_DATA);
    if (to < 0 && errno != ENXIO) return -errno;
    hole->start = from & ~(off_t)(CONTENT_PAGE - 1);
    hole->end = to < 0 || to > end ? end : (to + CONTENT_PAGE - 1) & ~(off_t)(CONTENT_PAGE - 1);
    if (hole->end > (uint64_t)end) hole->end = end;
    return 1;
}

static int restore_holes(struct delta *d, int fd, const struct delta_undo *u, uint64_t *ret_bytes)
{
    struct delta_chunk hole = {.end = u->chunk.start, .source = u->chunk.source};
    int r;

    while ((r = find_hole(fd, hole.end, u->chunk.end, &hole)) > 0) {
        r = delta_restore_chunk(d, u->ino, &hole);
        if (r < 0) break;
        *ret_bytes += hole.end - hole.start;
    }
    return r;
}

static int restore(struct delta *d, const struct delta_undo *u, uint64_t *ret_bytes)
{
    _cleanup_close_ int fd = -1;
    struct delta_inode inode;
    uint64_t before = *ret_bytes;
    int r = delta_get_inode(d, u->ino, &inode);

    if (r <= 0) return r;
    r = open_object(d, &inode, &fd);
    if (r == 0) r = restore_holes(d, fd, u, ret_bytes);
    if (r < 0) return r;
    inode.chunked |= *ret_bytes > before;
    r = delta_set_inode(d, &inode);
    return r == 0 && fd >= 0 ? commit_needs_object(delta_commit(d), inode.object) : r; /* the pages that are there */
}

static int restore_all(struct delta *d)
{
    struct delta_undo u = {0};
    uint64_t bytes = 0;
    int r = delta_next_undo(d, &(struct delta_undo){0}, &u);

    for (; r > 0; r = delta_next_undo(d, &u, &u)) {
        r = restore(d, &u, &bytes);
        if (r < 0) break;
    }
    if (r == 0 && bytes)
        log_warning("%s: %llu bytes written without fsync before a power cut are lost, what they replaced shows again",
                    delta_path(d), (unsigned long long)bytes);
    return r;
}

/* A file whose object never reached the disk shows what it had before, and where it has grown since, zeros: how long it is says the row,
 * as what was done later may be there. */
static int check_fresh(struct delta *d, uint64_t ino, uint64_t size)
{
    _cleanup_close_ int fd = -1;
    struct delta_inode inode;
    int r = delta_get_inode(d, ino, &inode);

    if (r <= 0 || inode.object <= 0) return r < 0 ? r : 0;
    r = open_object(d, &inode, &fd);
    if (r < 0 || fd >= 0) return r;
    log_warning("%s: what was written to inode %llu without fsync before a power cut, since it had %llu bytes, is lost",
                delta_path(d), (unsigned long long)ino, (unsigned long long)size);
    inode.object = DELTA_NO_OBJECT;
    inode.grown = false;
    return delta_set_inode(d, &inode);
}

static int check_all_fresh(struct delta *d)
{
    uint64_t ino = 0, size;
    int r;

    while ((r = delta_next_fresh(d, ino, &ino, &size)) > 0) {
        r = check_fresh(d, ino, size);
        if (r < 0) break;
    }
    return r;
}

/* Where a file had grown without fsync and its object has not, the rest is zeros. On the disk before anything is written there:
 * bytes inside an old length reach it without the new one. */
static int lengthen(struct delta *d, uint64_t ino)
{
    _cleanup_close_ int fd = -1;
    struct delta_inode inode;
    struct stat st;
    int r = delta_get_inode(d, ino, &inode);

    if (r <= 0) return r;
    r = open_object(d, &inode, &fd);
    if (r == -EIO) return 0; /* reading this one file fails then */
    if (r < 0 || fd < 0) return r;
    if (fstat(fd, &st) < 0) return -errno;
    if ((uint64_t)st.st_size >= inode.size || inode.size > CONTENT_MAX) return 0;
    if (ftruncate(fd, inode.size) < 0) { /* reading this one file fails then, with EIO */
        log_warning("%s: inode %llu: object %lld cannot be made as long as the file: %s", delta_path(d),
                    (unsigned long long)ino, (long long)inode.object, log_reason(errno));
        return 0;
    }
    return commit_needs_object(delta_commit(d), inode.object);
}

static int lengthen_all(struct delta *d)
{
    uint64_t ino = 0;
    int r;

    while ((r = delta_next_grown(d, ino, &ino)) > 0) {
        r = lengthen(d, ino);
        if (r < 0) break;
    }
    return r;
}

/* 1: there is something to do. */
static int look(struct delta *d)
{
    uint64_t ino, size;
    struct delta_undo u;
    int r;

    commit_lock(delta_commit(d));
    r = delta_next_undo(d, &(struct delta_undo){0}, &u);
    if (r == 0) r = delta_next_fresh(d, 0, &ino, &size);
    if (r == 0) r = delta_next_grown(d, 0, &ino);
    commit_unlock(delta_commit(d));
    return r;
}

static int run(struct delta *d)
{
    struct commit_batch *batch;
    int r = commit_begin(delta_commit(d));

    if (r < 0) return r;
    r = restore_all(d);
    if (r == 0) r = check_all_fresh(d);
    if (r == 0) r = lengthen_all(d);
    commit_adds_object(delta_commit(d)); /* and with the names all rows of both tables are settled */
    r = commit_end(delta_commit(d), r, &batch);
    return r < 0 ? r : commit_wait(delta_commit(d), batch);
}

/* 1: whoever had it open last did not close it, so that rows may be in the page cache alone. */
static int was_left_open(const struct delta *d)
{
    _cleanup_free_ char *wal = io_format("%s-wal", delta_path(d));
    struct stat st;

    if (!wal) return -ENOMEM;
    if (stat(wal, &st) < 0) return errno == ENOENT ? 0 : -errno;
    return st.st_size > 0;
}

/* What is seen from now on counts as durable: for an fsync, and before the object goes that a row had. */
static int make_durable(struct delta *d)
{
    struct commit_batch *batch;
    int r = commit_begin(delta_commit(d));

    if (r == 0) r = commit_end(delta_commit(d), 0, &batch);
    return r < 0 ? r : commit_wait(delta_commit(d), batch);
}

int recovery_run(struct delta *d)
{
    int r = look(d);

    if (r > 0) return run(d);
    if (r == 0) r = was_left_open(d);
    return r > 0 ? make_durable(d) : r;
}

/* ---- objects of nobody ---- */

static int note_object(uint64_t object, void *data)
{
    return inomap_add(data, object, 1);
}

static bool has_objects(DIR *stream)
{
    struct dirent *e;
    uint64_t id;

    while ((e = readdir(stream)))
        if (object_is_name(e->d_name, &id)) return true;
    return false;
}

static int remove_strays(struct delta *d, DIR *stream, const struct inomap *known)
{
    struct dirent *e;
    unsigned count = 0;
    uint64_t id;
    int r = 0;

    rewinddir(stream);
    while (r == 0 && (e = readdir(stream))) {
        if (!object_is_name(e->d_name, &id) || inomap_get(known, id)) continue;
        count++;
        r = object_unlink(delta_objects_fd(d), id);
        if (r == -ENOENT) r = 0;
    }
    if (count) log_debug("%s: %u objects belonged to no inode and were removed", delta_path(d), count);
    return r;
}

static int sweep_stream(struct delta *d, DIR *stream)
{
    struct inomap known = {0};
    int r;

    commit_lock(delta_commit(d));
    r = delta_each_object(d, note_object, &known);
    commit_unlock(delta_commit(d));
    if (r == 0) r = remove_strays(d, stream, &known);
    inomap_clear(&known);
    return r;
}

static int sweep(struct delta *d)
{
    int fd = openat(delta_objects_fd(d), ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r;
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);

    if (!stream) {
        r = -errno;
        if (fd >= 0) close(fd);
        return r;
    }
    r = has_objects(stream) ? sweep_stream(d, stream) : 0;
    closedir(stream);
    return r;
}

void recovery_sweep(struct delta *d)
{
    int r = sweep(d);

    if (r < 0) log_warning("%s: objects without an inode could not be removed: %s", delta_path(d), log_reason(r));
}
