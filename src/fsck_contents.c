#include "fsck_contents.h"

#include <dirent.h>
#include <sys/stat.h>

#include "content.h"
#include "object.h"

#define LL(x) ((long long)(x))

static void set_inode(struct fsck_check *c, const struct delta_inode *row)
{
    fsck_exec(c, "UPDATE inode SET size = :size, object = nullif(:object, -1), chunked = :chunked WHERE ino = :ino", ":size",
              (int64_t)row->size, ":object", row->object, ":chunked", (int64_t)row->chunked, ":ino", (int64_t)row->ino, NULL);
}

/* ---- chunks ---- */

/* Of an object that was looked for in vain: it goes only when no row has named it before. */
static bool is_chunk_gone(const struct fsck_check *c, const struct fsck_chunk *chunk)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(c->model.db, &s, "SELECT 1 FROM chunk WHERE ino = :ino AND source = :source LIMIT 1");

    if (r < 0) return false;
    db_bind_int(s, ":ino", chunk->ino);
    db_bind_int(s, ":source", chunk->source);
    return db_step(s) == 0;
}

static bool is_shared_object_there(const struct fsck_check *c, const struct fsck_chunk *chunk)
{
    struct stat st;

    return object_stat(c->objects_fd, chunk->source, &st) == 0 || (!c->commit && is_chunk_gone(c, chunk));
}

static bool is_source_there(const struct fsck_check *c, const struct fsck_item *item, const struct fsck_chunk *chunk)
{
    const struct image_inode *below;

    if (chunk->source == DELTA_SOURCE_ROW) return item->content >= chunk->end;
    if (chunk->source > DELTA_SOURCE_ROW) return is_shared_object_there(c, chunk);
    if (chunk->source != DELTA_SOURCE_IMAGE || !item->row.image_ino) return false;
    if (!c->model.image) return true;
    below = image_inode(c->model.image, item->row.image_ino);
    return below && S_ISREG(below->mode) && (int64_t)below->size >= chunk->end;
}

static void remove_chunk(struct fsck_check *c, const struct fsck_chunk *chunk)
{
    fsck_exec(c, "DELETE FROM chunk WHERE ino = :ino AND start = :start", ":ino", (int64_t)chunk->ino, ":start", chunk->start,
              NULL);
}

/* False: it is to go. */
static bool check_chunk(struct fsck_check *c, const struct fsck_item *item, const struct fsck_chunk *chunk, int64_t before)
{
    uint64_t ino = item->row.ino;
    int64_t size = item->row.size;

    if (chunk->start < 0 || chunk->start >= chunk->end || chunk->start % CONTENT_PAGE || chunk->start >= size) {
        if (fsck_found(c, ino, "removed", "chunk %lld-%lld of a file of %lld bytes", LL(chunk->start), LL(chunk->end), LL(size)))
            remove_chunk(c, chunk);
        return false;
    }
    if (chunk->start < before) {
        if (fsck_found(c, ino, "removed", "chunk %lld-%lld overlaps the one before", LL(chunk->start), LL(chunk->end)))
            remove_chunk(c, chunk);
        return false;
    }
    if (chunk->end > size) {
        if (fsck_found(c, ino, "cut", "chunk %lld-%lld ends behind the file's %lld bytes", LL(chunk->start), LL(chunk->end),
                       LL(size)))
            fsck_exec(c, "UPDATE chunk SET \"end\" = :size WHERE ino = :ino AND start = :start", ":size", size, ":ino",
                      (int64_t)ino, ":start", chunk->start, NULL);
        return true;
    }
    if (is_source_there(c, item, chunk)) return true;
    if (fsck_found(c, ino, "they read as zeros", "bytes %lld-%lld are lost: there is nothing where their chunk points",
                   LL(chunk->start), LL(chunk->end)))
        remove_chunk(c, chunk);
    return false;
}

static void check_chunks(struct fsck_check *c, struct fsck_item *item)
{
    size_t good = 0;
    int64_t end = 0;

    for (size_t i = 0; i < item->chunks; i++) {
        const struct fsck_chunk *chunk = &c->model.chunks[item->chunk + i];

        if (!check_chunk(c, item, chunk, end)) continue;
        good++;
        end = chunk->end;
    }
    /* Of a file in its row nobody looks for chunks. */
    if (item->row.object == DELTA_IN_ROW || item->row.chunked == (good > 0)) return;
    if (!fsck_found(c, item->row.ino, "corrected", good ? "does not know of its %zu chunks" : "has %zu chunks", good)) return;
    item->row.chunked = good > 0;
    set_inode(c, &item->row);
}

/* ---- rows ---- */

static void check_size(struct fsck_check *c, struct fsck_item *item)
{
    struct delta_inode *row = &item->row;

    if (row->size > CONTENT_MAX) {
        if (!fsck_found(c, row->ino, "emptied", "no possible size, %lld bytes", LL(row->size))) return;
        row->size = item->content > 0 && row->object == DELTA_IN_ROW ? (uint64_t)item->content : 0;
        set_inode(c, row);
    }
    if (row->object != DELTA_IN_ROW || (int64_t)row->size == item->content) return;
    if (item->content < 0) {
        if (!fsck_found(c, row->ino, "emptied", "its contents are lost, %lld bytes", LL(row->size))) return;
        row->object = DELTA_NO_OBJECT;
        row->size = 0;
    } else {
        if (!fsck_found(c, row->ino, "corrected", "size %lld, but %lld bytes of contents", LL(row->size), LL(item->content)))
            return;
        row->size = item->content;
    }
    set_inode(c, row);
}

static void check_symlink(struct fsck_check *c, struct fsck_item *item)
{
    if (item->row.image_ino || item->content > 0) return;
    if (!fsck_found(c, item->row.ino, "made an empty file", "where the symlink led is lost")) return;
    fsck_exec(c, "UPDATE inode SET mode = :mode, size = 0 WHERE ino = :ino", ":mode", (int64_t)(S_IFREG | 0600), ":ino",
              (int64_t)item->row.ino, NULL);
    fsck_exec(c, "UPDATE dirent SET type = :type WHERE ino = :ino", ":type", (int64_t)IFTODT(S_IFREG), ":ino",
              (int64_t)item->row.ino, NULL);
}

static void check_other(struct fsck_check *c, struct fsck_item *item)
{
    if (item->row.object == DELTA_NO_OBJECT && !item->chunks) return;
    if (!fsck_found(c, item->row.ino, "cleared", "no regular file, but has contents")) return;
    fsck_exec(c, "DELETE FROM chunk WHERE ino = :ino", ":ino", (int64_t)item->row.ino, NULL);
    item->row.object = DELTA_NO_OBJECT;
    item->row.chunked = false;
    set_inode(c, &item->row);
}

void fsck_contents_rows(struct fsck_check *c)
{
    for (size_t i = 0; i < c->model.item_count; i++) {
        struct fsck_item *item = &c->model.items[i];

        if (!item->stored || !item->row.mode) continue;
        if (!S_ISREG(item->row.mode)) check_other(c, item);
        if (S_ISLNK(item->row.mode)) check_symlink(c, item);
        if (!S_ISREG(item->row.mode)) continue;
        check_size(c, item);
        check_chunks(c, item);
    }
}

/* ---- rows of nothing ---- */

static void check_table(struct fsck_check *c, const char *what, const char *find, const char *remove)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(c->model.db, &s, find);

    if (r == 0) r = db_step(s);
    if (r > 0 && db_int(s, 0) > 0) {
        int64_t rows = db_int(s, 0), ino = db_int(s, 1);

        db_reset(s);
        if (fsck_found(c, 0, "removed", "%lld %s of inodes that are not there, the first of %lld", LL(rows), what, LL(ino)))
            fsck_exec(c, remove, NULL);
    }
    if (r < 0 && !c->error) c->error = r;
}

#define OF_NOTHING(table) " FROM " table " WHERE ino NOT IN (SELECT ino FROM inode WHERE mode <> 0)"
#define CHECK_TABLE(what, table) \
    check_table(c, what, "SELECT count(*), min(ino)" OF_NOTHING(table), "DELETE" OF_NOTHING(table))

void fsck_contents_leftovers(struct fsck_check *c)
{
    CHECK_TABLE("contents", "content");
    CHECK_TABLE("chunks", "chunk");
    CHECK_TABLE("superseded chunks", "undo");
    CHECK_TABLE("new objects", "fresh");
    CHECK_TABLE("extended attributes", "xattr");
}
