#include "db_wal.h"

#include <sqlite3.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define HEADER 24
#define PAGE 4096
#define FRAMES 16

struct db_wal {
    sqlite3_io_methods methods; /* first: the file's pMethods leads here */
    const sqlite3_io_methods *original;
    sqlite3_file *file;
    sqlite3_int64 offset; /* of the first byte kept */
    int used;
    bool is_last; /* the frame begun is the last of its transaction */
    char bytes[FRAMES * (HEADER + PAGE)];
};

static struct db_wal *wal_of(sqlite3_file *file)
{
    return (struct db_wal *)file->pMethods;
}

static int flush(struct db_wal *w)
{
    int used = w->used;

    w->used = 0;
    w->is_last = false;
    return used ? w->original->xWrite(w->file, w->bytes, used, w->offset) : SQLITE_OK;
}

static bool is_header(int size) { return size == HEADER; }

/* A frame is begun, or the begun one's page follows. */
static bool fits(const struct db_wal *w, int size, sqlite3_int64 offset)
{
    bool is_begun = w->used % (HEADER + PAGE) != 0;

    if (w->used && offset != w->offset + w->used) return false;
    return is_begun ? size == PAGE : is_header(size);
}

static void keep(struct db_wal *w, const void *data, int size, sqlite3_int64 offset)
{
    static const char zeros[4];

    if (!w->used) w->offset = offset;
    if (is_header(size)) w->is_last = memcmp((const char *)data + 4, zeros, sizeof(zeros)) != 0;
    memcpy(w->bytes + w->used, data, size);
    w->used += size;
}

static int gather(sqlite3_file *file, const void *data, int size, sqlite3_int64 offset)
{
    struct db_wal *w = wal_of(file);
    int r = SQLITE_OK;

    if (!fits(w, size, offset)) {
        r = flush(w);
        return r == SQLITE_OK ? w->original->xWrite(file, data, size, offset) : r;
    }
    keep(w, data, size, offset);
    if (!is_header(size) && (w->is_last || w->used == sizeof(w->bytes))) r = flush(w);
    return r;
}

/* Whatever else SQLite does with the file sees it as if nothing were kept. */

static int flush_read(sqlite3_file *file, void *data, int size, sqlite3_int64 offset)
{
    int r = flush(wal_of(file));

    return r == SQLITE_OK ? wal_of(file)->original->xRead(file, data, size, offset) : r;
}

static int flush_truncate(sqlite3_file *file, sqlite3_int64 size)
{
    int r = flush(wal_of(file));

    return r == SQLITE_OK ? wal_of(file)->original->xTruncate(file, size) : r;
}

static int flush_sync(sqlite3_file *file, int flags)
{
    int r = flush(wal_of(file));

    return r == SQLITE_OK ? wal_of(file)->original->xSync(file, flags) : r;
}

static int flush_size(sqlite3_file *file, sqlite3_int64 *ret_size)
{
    int r = flush(wal_of(file));

    return r == SQLITE_OK ? wal_of(file)->original->xFileSize(file, ret_size) : r;
}

/* SQLite lets go of the file where the journal's mode changes, before the connection ends. */
static int flush_close(sqlite3_file *file)
{
    struct db_wal *w = wal_of(file);
    int flushed = flush(w), r;

    file->pMethods = w->original;
    w->file = NULL;
    r = file->pMethods->xClose(file);
    return flushed == SQLITE_OK ? r : flushed;
}

struct db_wal *db_wal_gather(sqlite3_file *file)
{
    struct db_wal *w = malloc(sizeof(*w)); /* not cleared: memory that no commit needs is never touched */

    if (!w) return NULL;
    w->original = file->pMethods;
    w->methods = *file->pMethods;
    w->methods.xClose = flush_close;
    w->methods.xWrite = gather;
    w->methods.xRead = flush_read;
    w->methods.xTruncate = flush_truncate;
    w->methods.xSync = flush_sync;
    w->methods.xFileSize = flush_size;
    w->file = file;
    w->used = 0;
    w->is_last = false;
    file->pMethods = &w->methods;
    return w;
}

void db_wal_free(struct db_wal *w)
{
    if (!w) return;
    if (w->file) w->file->pMethods = w->original;
    free(w);
}

int db_wal_sync(struct db_wal *w)
{
    return w->original->xSync(w->file, SQLITE_SYNC_NORMAL);
}
