#include "chunk.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <unistd.h>

#include "commit.h"
#include "content.h"
#include "io.h"
#include "log.h"
#include "object.h"

#define MAP_CHUNKS 32 /* read at a time */
#define SECTOR 512

static uint64_t min(uint64_t a, uint64_t b) { return a < b ? a : b; }

/* A run of bytes with one source. */
struct piece {
    uint64_t start, end;
    /* own: the object, or zeros without one; rest: of the page in which a chunk ends */
    enum { PIECE_OWN, PIECE_IMAGE, PIECE_ROW, PIECE_REST, PIECE_SHARED } kind;
    uint64_t object; /* own, shared: 0 for none */
};

/* Part of a file's map: chunks in order, of which the first ends in the page of the offset asked for, or later. */
struct map {
    struct delta_chunk chunks[MAP_CHUNKS];
    size_t count, next;
    bool more;
};

static int map_load(struct view *v, const struct inode *inode, uint64_t offset, struct map *map)
{
    struct delta *d;
    int r = 0;

    map->count = map->next = 0;
    map->more = false;
    if (!inode->row.chunked) return 0;
    if (!inode->stored) {
        map->chunks[map->count++] = (struct delta_chunk){.end = inode->row.size};
        return 0;
    }
    d = view_lock(v);
    offset = content_page_start(offset);
    while (map->count < MAP_CHUNKS) {
        struct delta_chunk *c = &map->chunks[map->count];

        r = delta_next_chunk(d, inode->row.ino, offset, c);
        if (r <= 0) break;
        offset = c->end;
        map->count++;
    }
    if (r < 0) r = damage_found(v, d, inode->row.ino, r, "its chunks");
    view_unlock(d);
    map->more = map->count == MAP_CHUNKS;
    return r < 0 ? r : 0;
}

static int kind_of(uint64_t source)
{
    if (source == DELTA_SOURCE_IMAGE) return PIECE_IMAGE;
    return source == DELTA_SOURCE_ROW ? PIECE_ROW : PIECE_SHARED;
}

/* The run that begins at `offset`, cut at `end`. */
static int map_piece(struct view *v, const struct inode *inode, struct map *map, uint64_t offset, uint64_t end,
                     struct piece *ret)
{
    const struct delta_chunk *c;

    while (map->next < map->count && content_page_end(map->chunks[map->next].end) <= offset) map->next++;
    if (map->next == map->count && map->more) {
        int r = map_load(v, inode, offset, map);

        if (r < 0) return r;
    }
    *ret = (struct piece){offset, end, PIECE_OWN, inode->row.object > 0 ? inode->row.object : 0};
    if (map->next == map->count) return 0;
    c = &map->chunks[map->next];
    if (c->start > offset) ret->end = min(end, c->start);
    else if (c->end <= offset) *ret = (struct piece){offset, min(end, content_page_end(c->end)), PIECE_REST, 0};
    else *ret = (struct piece){offset, min(end, c->end), kind_of(c->source), c->source};
    return 0;
}

int chunk_short_object(struct view *v, const struct inode *inode, uint64_t object)
{
    return damage_found(v, NULL, inode->row.ino, 0, "object %llu is shorter than the file", (unsigned long long)object);
}

static int read_object(struct view *v, const struct inode *inode, uint64_t object, char *buffer, size_t size, uint64_t offset)
{
    _cleanup_view_file_ struct view_file file = {0};
    ssize_t n;
    int fd;

    if (!object) {
        memset(buffer, 0, size);
        return 0;
    }
    fd = view_open_object(v, inode->row.ino, object, &file);
    if (fd < 0) return fd;
    n = io_pread(fd, buffer, size, offset);
    if (n < 0) return damage_found(v, NULL, inode->row.ino, n, "object %llu", (unsigned long long)object);
    return (size_t)n == size ? 0 : chunk_short_object(v, inode, object);
}

static int read_image(struct view *v, const struct inode *inode, char *buffer, size_t size, uint64_t offset)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd = view_open_image_file(v, inode->row.image_ino, &file);
    ssize_t n;

    if (fd < 0) return fd;
    n = io_pread(fd, buffer, size, offset);
    if (n < 0) return image_damaged(v->image, inode->row.image_ino, log_reason(n));
    return (size_t)n == size ? 0 : image_damaged(v->image, inode->row.image_ino, "is shorter than at its import");
}

static int read_row(struct view *v, const struct inode *inode, char *buffer, size_t size, uint64_t offset)
{
    char row[CONTENT_ROW_MAX];
    struct delta *d = view_lock(v);
    size_t length = 0;
    int r = delta_get_content(d, inode->row.ino, row, sizeof(row), &length);

    if (r < 0) r = damage_found(v, d, inode->row.ino, r, "its contents");
    else if (r == 0 || length > sizeof(row) || length < offset + size)
        r = damage_found(v, d, inode->row.ino, 0, "its contents are shorter than its size");
    view_unlock(d);
    if (r < 0) return r;
    memcpy(buffer, row + offset, size);
    return 0;
}

static int read_piece(struct view *v, const struct inode *inode, const struct piece *p, char *buffer)
{
    size_t size = p->end - p->start;

    if (p->kind == PIECE_IMAGE) return read_image(v, inode, buffer, size, p->start);
    if (p->kind == PIECE_ROW) return read_row(v, inode, buffer, size, p->start);
    return read_object(v, inode, p->kind == PIECE_REST ? 0 : p->object, buffer, size, p->start);
}

int chunk_gather(struct view *v, const struct inode *inode, char *buffer, size_t size, uint64_t offset)
{
    uint64_t end = offset + size;
    struct map map;
    int r;

    if (inode->row.object == DELTA_IN_ROW) return read_row(v, inode, buffer, size, offset);
    r = map_load(v, inode, offset, &map);
    while (r == 0 && offset < end) {
        struct piece p;

        r = map_piece(v, inode, &map, offset, end, &p);
        if (r < 0) break;
        r = read_piece(v, inode, &p, buffer);
        buffer += p.end - p.start;
        offset = p.end;
    }
    return r;
}

/* The first data (or hole) of one source in [offset, end), or end. */
static off_t seek_in(int fd, uint64_t offset, uint64_t end, int whence)
{
    off_t found = lseek(fd, offset, whence);

    if (found < 0 && errno != ENXIO) return -errno;
    if (found < 0) return whence == SEEK_HOLE ? offset : end; /* behind the end of the object all is hole */
    return min(found, end);
}

static off_t seek_piece(struct view *v, const struct inode *inode, const struct piece *p, int whence)
{
    _cleanup_view_file_ struct view_file file = {0};
    int fd;

    if (p->kind == PIECE_ROW) return whence == SEEK_DATA ? p->start : p->end;
    if (p->kind == PIECE_REST || (p->kind == PIECE_OWN && !p->object))
        return whence == SEEK_HOLE ? p->start : p->end;
    fd = p->kind == PIECE_IMAGE ? view_open_image_file(v, inode->row.image_ino, &file)
                                : view_open_object(v, inode->row.ino, p->object, &file);
    return fd < 0 ? fd : seek_in(fd, p->start, p->end, whence);
}

off_t chunk_seek(struct view *v, const struct inode *inode, uint64_t offset, int whence)
{
    uint64_t end = inode->row.size;
    struct map map;
    int r;

    if (offset >= end) return -ENXIO;
    if (inode->row.object == DELTA_IN_ROW) return whence == SEEK_DATA ? offset : end;
    r = map_load(v, inode, offset, &map);
    while (r == 0 && offset < end) {
        struct piece p;
        off_t found;

        r = map_piece(v, inode, &map, offset, end, &p);
        if (r < 0) return r;
        found = seek_piece(v, inode, &p, whence);
        if (found < 0 || found < (off_t)p.end) return found;
        offset = p.end;
    }
    if (r < 0) return r;
    return whence == SEEK_HOLE ? (off_t)end : -ENXIO;
}

/* 1: there was something in [start, end), whole pages: a part of one would only be filled with zeros. */
static int punch_data(int fd, uint64_t start, uint64_t end)
{
    off_t found = seek_in(fd, start, end, SEEK_DATA);

    if (found < 0 || found == (off_t)end) return found < 0 ? found : 0;
    return fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, start, end - start) < 0 ? -errno : 1;
}

int chunk_clear_beneath(struct view *v, const struct inode *inode, int fd, uint64_t start, uint64_t end)
{
    struct map map;
    bool found = false;
    int r = map_load(v, inode, start, &map);

    while (r >= 0 && start < end) {
        struct piece p;

        r = map_piece(v, inode, &map, start, end, &p);
        if (r == 0 && p.kind != PIECE_OWN) r = punch_data(fd, p.start, p.end = content_page_end(p.end));
        found |= r > 0;
        start = p.end;
    }
    if (r < 0 || !found) return r < 0 ? r : 0;
    return view_sync_object(v, fd, true);
}

/* Bytes that chunks of the kind show in this part of the map. */
static uint64_t shown(const struct map *map, int kind)
{
    uint64_t bytes = 0;

    for (size_t i = 0; i < map->count; i++)
        if (kind_of(map->chunks[i].source) == kind) bytes += map->chunks[i].end - map->chunks[i].start;
    return bytes;
}

/* Of all shared objects. A damaged file can still be looked at: no blocks then. */
static int shared_blocks(struct view *v, const struct inode *inode, blkcnt_t *ret_blocks)
{
    uint64_t object = 0;
    struct stat st;
    struct delta *d = view_lock(v);
    int r;

    *ret_blocks = 0;
    while ((r = delta_next_source(d, inode->row.ino, object, &object)) > 0)
        if (object_stat(delta_objects_fd(d), object, &st) == 0) *ret_blocks += st.st_blocks;
    view_unlock(d);
    return r;
}

static uint64_t sectors(uint64_t bytes) { return (bytes + SECTOR - 1) / SECTOR; }

int chunk_blocks(struct view *v, const struct inode *inode, blkcnt_t *ret_blocks)
{
    uint64_t image = 0, row = 0, shared = 0;
    blkcnt_t blocks = 0;
    struct map map;
    int r = map_load(v, inode, 0, &map);

    while (r == 0 && map.count > 0) {
        image += shown(&map, PIECE_IMAGE);
        row += shown(&map, PIECE_ROW);
        shared += shown(&map, PIECE_SHARED);
        if (!map.more) break;
        r = map_load(v, inode, content_page_end(map.chunks[map.count - 1].end), &map);
    }
    *ret_blocks = sectors(row);
    if (image && image_inode(v->image, inode->row.image_ino)) /* the image's file may have holes */
        *ret_blocks += min(sectors(image), image_inode(v->image, inode->row.image_ino)->blocks);
    if (r == 0 && shared) r = shared_blocks(v, inode, &blocks);
    *ret_blocks += min(sectors(shared), blocks);
    return r;
}
