#include "delta_rows.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "db.h"
#include "delta_create.h"
#include "delta_upgrade.h"
#include "identity.h"
#include "io.h"
#include "log.h"

/* Numbers are reserved, durably, in steps of this many, and the next step when so few are left that all operations
 * under way might need more. */
#define INO_STEP 65536
#define INO_LEAST 1024

#define AWAITED 4 /* times that SQLite's patience with a writer, which is five seconds */

#define PAGE 4096
#define SHRINK_PAGES 256 /* given back at a time, while the node waits */

#define SLOT_SHIFT 4
_Static_assert(DELTA_SLOTS_PER_HASH == 1 << SLOT_SHIFT, "a name's slots");
#define HASH_MASK ((1u << 26) - 1)

#define NEXT(table)                                                                                     \
    "SELECT start, \"end\", source FROM " table " WHERE ino = :ino AND start >= "                       \
    "ifnull((SELECT max(start) FROM " table " WHERE ino = :ino AND start <= :offset), 0) "              \
    "AND \"end\" > :offset ORDER BY start LIMIT 1"
#define ADD(table) "INSERT INTO " table "(ino, start, \"end\", source) VALUES(:ino, :start, :end, :source)"
#define REMOVE(table) "DELETE FROM " table " WHERE ino = :ino AND start = :start"

static const char *const sql[STATEMENTS] = {
    [GET_INODE] = "SELECT image_ino, mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, parent, object, chunked, "
                  "grown FROM inode WHERE ino = :ino",
    [ADD_INODE] = "INSERT INTO inode(ino, image_ino, mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, parent, object, "
                  "chunked, grown) VALUES(:ino, :image_ino, :mode, :uid, :gid, :rdev, :nlink, :size, :atime, :mtime, :ctime, "
                  ":parent, :object, :chunked, :grown)",
    [SET_INODE] = "UPDATE inode SET image_ino = :image_ino, mode = :mode, uid = :uid, gid = :gid, rdev = :rdev, nlink = :nlink, "
                  "size = :size, atime = :atime, mtime = :mtime, ctime = :ctime, parent = :parent, object = :object, "
                  "chunked = :chunked, grown = :grown WHERE ino = :ino",
    [SET_CONTENTS] = "UPDATE inode SET size = :size, mtime = :mtime, ctime = :ctime, object = :object, chunked = :chunked "
                     "WHERE ino = :ino",
    [REMOVE_INODE] = "DELETE FROM inode WHERE ino = :ino",
    [NEXT_ORPHAN] = "SELECT ino FROM inode WHERE ino > :ino AND nlink = 0 AND mode <> 0 ORDER BY ino LIMIT 1",
    [NEXT_GROWN] = "SELECT ino FROM inode WHERE ino > :ino AND grown = 1 ORDER BY ino LIMIT 1",
    [FIND_DIRENT] = "SELECT slot, name, ino, type FROM dirent WHERE parent = :parent AND slot BETWEEN :slot AND :slot + 15",
    [ADD_DIRENT] = "INSERT INTO dirent(parent, slot, name, ino, type) VALUES(:parent, :slot, :name, :ino, :type)",
    [SET_DIRENT] = "UPDATE dirent SET ino = :ino, type = :type WHERE parent = :parent AND slot = :slot",
    [REMOVE_DIRENT] = "DELETE FROM dirent WHERE parent = :parent AND slot = :slot",
    [REMOVE_DIRENTS] = "DELETE FROM dirent WHERE parent = :parent",
    [NEXT_DIRENT] = "SELECT slot, name, ino, type FROM dirent WHERE parent = :parent AND slot >= :slot ORDER BY slot LIMIT 1",
    [LIVE_DIRENT] = "SELECT 1 FROM dirent WHERE parent = :parent AND ino <> 0 LIMIT 1",
    [GET_CONTENT] = "SELECT data FROM content WHERE ino = :ino",
    [SET_CONTENT] = "INSERT INTO content(ino, data) VALUES(:ino, :data) ON CONFLICT(ino) DO UPDATE SET data = :data",
    [REMOVE_CONTENT] = "DELETE FROM content WHERE ino = :ino",
    [NEXT_CHUNK] = NEXT("chunk"),
    [ADD_CHUNK] = ADD("chunk"),
    [REMOVE_CHUNK] = REMOVE("chunk"),
    [REMOVE_CHUNKS] = "DELETE FROM chunk WHERE ino = :ino",
    [NEXT_UNDO] = NEXT("undo"),
    [ADD_UNDO] = ADD("undo"),
    [REMOVE_UNDO] = REMOVE("undo"),
    [REMOVE_UNDOS] = "DELETE FROM undo WHERE ino = :ino",
    [ANY_UNDO] = "SELECT ino, start, \"end\", source FROM undo WHERE (ino, start) > (:ino, :start) ORDER BY ino, start LIMIT 1",
    [SETTLE_CONTENT] = "DELETE FROM content WHERE ino IN (SELECT ino FROM undo WHERE source = 1) "
                       "AND EXISTS (SELECT 1 FROM inode WHERE inode.ino = content.ino AND object > 0) "
                       "AND NOT EXISTS (SELECT 1 FROM chunk WHERE chunk.ino = content.ino AND source = 1)",
    [SETTLE_UNDO] = "DELETE FROM undo",
    [ADD_FRESH] = "INSERT OR IGNORE INTO fresh(ino, size) VALUES(:ino, :size)",
    [NEXT_FRESH] = "SELECT ino, size FROM fresh WHERE ino > :ino ORDER BY ino LIMIT 1",
    [REMOVE_FRESH] = "DELETE FROM fresh WHERE ino = :ino",
    [SETTLE_FRESH] = "DELETE FROM fresh",
    [GET_XATTR] = "SELECT value FROM xattr WHERE ino = :ino AND name = :name",
    [SET_XATTR] = "INSERT INTO xattr(ino, name, value) VALUES(:ino, :name, :value) "
                  "ON CONFLICT(ino, name) DO UPDATE SET value = :value",
    [REMOVE_XATTR] = "DELETE FROM xattr WHERE ino = :ino AND name = :name",
    [REMOVE_XATTRS] = "DELETE FROM xattr WHERE ino = :ino",
    [LIST_XATTRS] = "SELECT name, value FROM xattr WHERE ino = :ino ORDER BY name",
    [SPACE] = "SELECT page_count, freelist_count FROM pragma_page_count, pragma_freelist_count",
    [RECORD] = "UPDATE progress SET batch = :batch",
    [UNDONE_SOURCES] = "SELECT DISTINCT source FROM undo WHERE source > 1 AND NOT EXISTS (SELECT 1 FROM chunk "
                       "WHERE chunk.ino = undo.ino AND chunk.source = undo.source)",
    [FREEZE] = "UPDATE view SET frozen = :next",
    [NEXT_SOURCE] = "SELECT min(source) FROM (SELECT source FROM chunk WHERE ino = :ino UNION ALL "
                    "SELECT source FROM undo WHERE ino = :ino) WHERE source > :source",
    [UNSETTLED] = "SELECT 1 FROM undo WHERE ino = :ino UNION ALL SELECT 1 FROM fresh WHERE ino = :ino LIMIT 1",
    [RESERVE] = "UPDATE view SET next_ino = max(next_ino, :next)",
};

int delta_use(struct delta *d, enum delta_statement which, db_stmt **ret)
{
    int r = 0;

    if (!d->statements[which]) r = db_prepare(d->db, &d->statements[which], sql[which]);
    *ret = d->statements[which];
    return r;
}

int delta_use_for(struct delta *d, enum delta_statement which, db_stmt **ret, uint64_t ino)
{
    int r = delta_use(d, which, ret);

    if (r == 0) db_bind_int(*ret, ":ino", ino);
    return r;
}

static int read_view(struct delta *d)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(d->db, &s, "SELECT image, image_count, image_base, shift, next_ino, batch, frozen FROM view, progress");

    if (r == 0) r = db_step(s);
    if (r <= 0) return r < 0 ? r : -EIO;
    d->image = io_format("%s", db_text(s, 0));
    d->image_count = db_int(s, 1);
    d->image_base = db_int(s, 2);
    d->shift = db_int(s, 3);
    d->reserved = db_int(s, 4);
    d->next_ino = d->first_new = d->reserved;
    d->batch = db_int(s, 5);
    d->frozen = db_int(s, 6);
    if (!d->image) return -ENOMEM;
    if (d->image_base < DELTA_FIRST || d->image_base + d->image_count >= d->reserved ||
        d->shift + d->reserved > IDENTITY_INO_MAX / 2)
        return -EIO;
    return 0;
}

static int settle(void *data);
static int record(void *data, uint64_t batch);

static void undone(void *data)
{
    delta_inode_forget_all(data);
}

/* Of a daemon that was killed a thread may be left in the kernel (supervisor.c), and with it all its locks, that of an open batch
 * too. Not for ever: what it waits for may be the answer to a request that waits here. */
static int await_writer(struct db *db, const char *name)
{
    int r = db_await_writer(db);

    for (int i = 1; r == -EBUSY && i < AWAITED; i++) {
        if (i == 1) log_warning("%s: waits for another daemon, which still holds its changes", name);
        r = db_await_writer(db);
    }
    return r;
}

static int open_existing(struct delta *d, int nodes_fd, const char *serial)
{
    _cleanup_free_ char *objects = io_format("%s/objects", serial), *name = io_format("node %s", serial);
    int r;

    if (!objects || !name) return -ENOMEM;
    d->objects_fd = io_open_beneath(nodes_fd, objects, O_RDONLY | O_DIRECTORY, 0);
    if (d->objects_fd < 0) return d->objects_fd;
    r = d->sealed ? db_open_immutable(&d->db, d->path) : db_open(&d->db, d->path, DB_WRITE);
    if (r == 0 && !d->sealed) r = await_writer(d->db, name);
    if (r == 0 && !d->sealed) r = delta_upgrade(d->db);
    if (r == 0) r = read_view(d);
    if (r == 0) r = commit_new(&d->commit, d->db, d->objects_fd, name, settle, undone, d);
    if (r == 0) commit_number(d->commit, d->batch, record);
    return r;
}

static int open_whole(struct delta **ret_delta, int nodes_fd, const char *path, const char *serial,
                      const struct identity *identity, bool sealed)
{
    struct delta *d = calloc(1, sizeof(*d));
    int r;

    if (!d) return -ENOMEM;
    d->objects_fd = -1;
    d->sealed = sealed;
    d->identity = identity;
    d->path = io_format("%s/delta.db", path);
    r = d->path ? open_existing(d, nodes_fd, serial) : -ENOMEM;
    if (r < 0) {
        /* Any file missing now is damage, not "no delta yet". */
        delta_close(d);
        return r == -ENOENT ? -EIO : r;
    }
    *ret_delta = d;
    return 0;
}

int delta_open(struct delta **ret_delta, int nodes_fd, const char *path, const char *serial,
               const struct identity *identity, const struct delta_base *base)
{
    _cleanup_free_ char *name = io_format("%s/delta.db", serial);

    if (!name) return -ENOMEM;
    if (faccessat(nodes_fd, name, F_OK, AT_SYMLINK_NOFOLLOW) < 0) {
        int r = errno != ENOENT || !base ? -errno : delta_create(nodes_fd, path, serial, base);

        if (r < 0) return r;
    }
    return open_whole(ret_delta, nodes_fd, path, serial, identity, false);
}

int delta_open_sealed(struct delta **ret_delta, int nodes_fd, const char *path, const char *serial,
                      const struct identity *identity)
{
    return open_whole(ret_delta, nodes_fd, path, serial, identity, true);
}

void delta_close(struct delta *d)
{
    if (!d) return;
    commit_free(d->commit);
    db_close(d->db);
    if (d->objects_fd >= 0) close(d->objects_fd);
    inomap_clear(&d->known_ends);
    delta_inode_forget_all(d);
    free(d->path);
    free(d->image);
    free(d);
}

struct commit *delta_commit(struct delta *d) { return d->commit; }
int delta_objects_fd(const struct delta *d) { return d->objects_fd; }
const char *delta_path(const struct delta *d) { return d->path; }
const char *delta_message(struct delta *d) { return db_message(d->db); }
const char *delta_image(const struct delta *d) { return d->image; }
uint32_t delta_image_count(const struct delta *d) { return d->image_count; }
uint64_t delta_image_base(const struct delta *d) { return d->image_base; }
uint64_t delta_shift(const struct delta *d) { return d->shift; }
uint64_t delta_batch(const struct delta *d) { return d->batch; }
uint64_t delta_reserved(const struct delta *d) { return d->reserved; }

static int write_reservation(struct delta *d, uint64_t next)
{
    db_stmt *s;
    int r = delta_use(d, RESERVE, &s);

    if (r < 0) return r;
    if (next + d->shift > IDENTITY_INO_MAX / 2) return -ENOSPC;
    db_bind_int(s, ":next", next);
    return db_run(s);
}

/* In a transaction of its own, durable before the first of the numbers is used. */
int delta_reserve(struct delta *d)
{
    uint64_t next = d->reserved + INO_STEP;
    struct commit_batch *batch;
    int r;

    if (d->next_ino + INO_LEAST <= d->reserved) return 0;
    r = commit_begin(d->commit);
    if (r < 0) return r;
    r = commit_end(d->commit, write_reservation(d, next), &batch);
    if (r == 0) r = commit_wait(d->commit, batch);
    if (r < 0) return r;
    commit_lock(d->commit);
    if (d->reserved < next) d->reserved = next; /* others may have done the same meanwhile */
    commit_unlock(d->commit);
    return 0;
}

/* Lock held. */
static int space(struct delta *d, uint64_t *ret_bytes, uint64_t *ret_free)
{
    db_stmt *s;
    int r = delta_use(d, SPACE, &s);

    if (r == 0) r = db_step(s);
    if (r <= 0) return r < 0 ? r : -EIO;
    *ret_bytes = db_int(s, 0) * PAGE;
    *ret_free = db_int(s, 1) * PAGE;
    db_reset(s);
    return 0;
}

int delta_space(struct delta *d, uint64_t *ret_bytes, uint64_t *ret_free)
{
    int r;

    commit_lock(d->commit);
    r = space(d, ret_bytes, ret_free);
    commit_unlock(d->commit);
    return r;
}

int delta_shrink(struct delta *d, uint64_t keep)
{
    struct commit_batch *batch;
    uint64_t bytes, unused;
    int r = commit_begin(d->commit);

    if (r < 0) return r;
    r = space(d, &bytes, &unused);
    if (r == 0 && unused < keep + SHRINK_PAGES * PAGE) r = -EAGAIN;
    if (r == 0) r = db_shrink(d->db, SHRINK_PAGES);
    r = commit_end(d->commit, r, &batch);
    if (r == 0) r = commit_flush(d->commit, batch);
    return r == -EAGAIN ? 0 : r < 0 ? r : 1;
}

int delta_new_ino(struct delta *d, uint64_t *ret_ino)
{
    if (d->next_ino >= d->reserved) return -EBUSY; /* many threads at once were faster: never seen */
    *ret_ino = d->next_ino++;
    return 0;
}

bool delta_knows_ino(const struct delta *d, uint64_t ino)
{
    return ino >= DELTA_FIRST && ino < d->next_ino;
}

static int run_for(struct delta *d, enum delta_statement which, uint64_t ino)
{
    db_stmt *s;
    int r = delta_use_for(d, which, &s, ino);

    return r < 0 ? r : db_run(s);
}

int delta_clear_inode(struct delta *d, uint64_t ino)
{
    int r = run_for(d, REMOVE_CONTENT, ino);

    if (r == 0) r = run_for(d, REMOVE_CHUNKS, ino);
    if (r == 0) r = run_for(d, REMOVE_UNDOS, ino);
    if (r == 0) r = run_for(d, REMOVE_FRESH, ino);
    return r < 0 ? r : run_for(d, REMOVE_XATTRS, ino);
}

int delta_remove_inode(struct delta *d, uint64_t ino)
{
    int r = delta_clear_inode(d, ino);

    delta_inode_forget(d, ino);
    return r < 0 ? r : run_for(d, REMOVE_INODE, ino);
}

uint32_t delta_first_slot(const struct identity *identity, const char *name, size_t length)
{
    return (identity_name_hash(identity, name, length) & HASH_MASK) << SLOT_SHIFT;
}

static void read_dirent(db_stmt *s, struct delta_dirent *e, const void *name, size_t length)
{
    e->slot = db_int(s, 0);
    e->ino = db_int(s, 2);
    e->type = db_int(s, 3);
    e->length = length;
    memcpy(e->name, name, length);
    e->name[length] = '\0';
}

/* *ret_taken: which of the hash's slots are in use, when the name is not there. */
static int find_dirent(struct delta *d, uint64_t parent, const char *name, size_t length, struct delta_dirent *e,
                       uint32_t *ret_taken)
{
    uint32_t first = delta_first_slot(d->identity, name, length);
    db_stmt *s;
    int r = delta_use(d, FIND_DIRENT, &s);

    if (r < 0) return r;
    *ret_taken = 0;
    db_bind_int(s, ":parent", parent);
    db_bind_int(s, ":slot", first);
    while ((r = db_step(s)) > 0) {
        size_t size;
        const void *found = db_blob(s, 1, &size);

        if (size == length && memcmp(found, name, length) == 0) {
            read_dirent(s, e, found, size);
            db_reset(s);
            return 1;
        }
        *ret_taken |= 1u << (db_int(s, 0) - first);
    }
    return r;
}

int delta_get_dirent(struct delta *d, uint64_t parent, const char *name, size_t length, struct delta_dirent *ret_dirent)
{
    uint32_t taken;

    return find_dirent(d, parent, name, length, ret_dirent, &taken);
}

int delta_set_dirent(struct delta *d, uint64_t parent, const char *name, size_t length, uint64_t ino, uint8_t type)
{
    struct delta_dirent e;
    uint32_t taken;
    db_stmt *s;
    int found = find_dirent(d, parent, name, length, &e, &taken), r;

    if (found < 0) return found;
    if (!found && taken == (1u << DELTA_SLOTS_PER_HASH) - 1) return -ENOSPC;
    r = delta_use_for(d, found ? SET_DIRENT : ADD_DIRENT, &s, ino);
    if (r < 0) return r;
    db_bind_int(s, ":parent", parent);
    db_bind_int(s, ":slot", found ? e.slot : delta_first_slot(d->identity, name, length) + __builtin_ctz(~taken));
    db_bind_int(s, ":type", type);
    if (!found) db_bind_blob(s, ":name", name, length);
    return db_run(s);
}

static int run_for_parent(struct delta *d, enum delta_statement which, uint64_t parent)
{
    db_stmt *s;
    int r = delta_use(d, which, &s);

    if (r < 0) return r;
    db_bind_int(s, ":parent", parent);
    return db_run(s);
}

int delta_remove_dirent(struct delta *d, uint64_t parent, const char *name, size_t length)
{
    struct delta_dirent e;
    db_stmt *s;
    int r = delta_get_dirent(d, parent, name, length, &e);

    if (r <= 0) return r;
    r = delta_use(d, REMOVE_DIRENT, &s);
    if (r < 0) return r;
    db_bind_int(s, ":parent", parent);
    db_bind_int(s, ":slot", e.slot);
    return db_run(s);
}

int delta_remove_dirents(struct delta *d, uint64_t parent)
{
    return run_for_parent(d, REMOVE_DIRENTS, parent);
}

int delta_next_dirent(struct delta *d, uint64_t parent, uint32_t slot, struct delta_dirent *e)
{
    const void *name;
    size_t length;
    db_stmt *s;
    int r = delta_use(d, NEXT_DIRENT, &s);

    if (r < 0) return r;
    db_bind_int(s, ":parent", parent);
    db_bind_int(s, ":slot", slot);
    r = db_step(s);
    if (r <= 0) return r;
    name = db_blob(s, 1, &length);
    if (length >= 1 && length <= 255) read_dirent(s, e, name, length);
    else r = -EIO;
    if (r > 0 && e->slot < slot) r = -EIO;
    db_reset(s);
    return r;
}

int delta_find_name(struct delta *d, uint64_t ino, uint64_t *ret_parent, struct delta_dirent *e)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    size_t length;
    int r = db_prepare(d->db, &s, "SELECT slot, name, ino, type, parent FROM dirent WHERE ino = :ino LIMIT 1");

    if (r < 0) return r;
    db_bind_int(s, ":ino", ino);
    r = db_step(s);
    if (r <= 0) return r;
    db_blob(s, 1, &length);
    if (length < 1 || length > 255) return -EIO;
    read_dirent(s, e, db_blob(s, 1, &length), length);
    *ret_parent = db_int(s, 4);
    return 1;
}

int delta_has_live_dirent(struct delta *d, uint64_t parent)
{
    db_stmt *s;
    int r = delta_use(d, LIVE_DIRENT, &s);

    if (r < 0) return r;
    db_bind_int(s, ":parent", parent);
    r = db_step(s);
    db_reset(s);
    return r;
}

static int each(struct delta *d, const char *query, delta_ino_fn fn, void *data)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(d->db, &s, query);

    while (r == 0 && (r = db_step(s)) > 0) r = fn(db_int(s, 0), data);
    return r;
}

int delta_each_dir(struct delta *d, delta_ino_fn fn, void *data)
{
    /* One seek for each directory rather than a scan of all names. */
    return each(d, "WITH RECURSIVE dir(ino) AS (SELECT min(parent) FROM dirent UNION ALL "
                   "SELECT (SELECT min(parent) FROM dirent WHERE parent > dir.ino) FROM dir WHERE dir.ino IS NOT NULL) "
                   "SELECT ino FROM dir WHERE ino IS NOT NULL", fn, data);
}

int delta_each_inode(struct delta *d, uint64_t below, delta_ino_fn fn, void *data)
{
    _cleanup_free_ char *query = io_format("SELECT ino FROM inode WHERE ino < %llu", (unsigned long long)below);

    return query ? each(d, query, fn, data) : -ENOMEM;
}

int delta_each_object(struct delta *d, delta_ino_fn fn, void *data)
{
    return each(d, "SELECT object FROM inode WHERE object > 0 UNION SELECT source FROM chunk WHERE source > 1 "
                   "UNION SELECT source FROM undo WHERE source > 1", fn, data);
}

int delta_read_blob(db_stmt *s, void *buffer, size_t size, size_t *ret_length)
{
    const void *data;
    int r = db_step(s);

    if (r <= 0) return r;
    data = db_blob(s, 0, ret_length);
    if (*ret_length && size) memcpy(buffer, data, *ret_length < size ? *ret_length : size);
    db_reset(s);
    return 1;
}

int delta_get_content(struct delta *d, uint64_t ino, void *buffer, size_t size, size_t *ret_length)
{
    db_stmt *s;
    int r = delta_use_for(d, GET_CONTENT, &s, ino);

    return r < 0 ? r : delta_read_blob(s, buffer, size, ret_length);
}

int delta_set_content(struct delta *d, uint64_t ino, const void *data, size_t size)
{
    db_stmt *s;
    int r = delta_use_for(d, SET_CONTENT, &s, ino);

    if (r < 0) return r;
    db_bind_blob(s, ":data", data, size);
    return db_run(s);
}

int delta_remove_content(struct delta *d, uint64_t ino)
{
    return run_for(d, REMOVE_CONTENT, ino);
}

/* Tables chunk and undo are of one shape; which of them is the number of its first statement. */
enum { NEXT_OF = NEXT_CHUNK - NEXT_CHUNK, ADD_OF = ADD_CHUNK - NEXT_CHUNK, REMOVE_OF = REMOVE_CHUNK - NEXT_CHUNK };

static int next_part(struct delta *d, enum delta_statement table, uint64_t ino, uint64_t offset, struct delta_chunk *c)
{
    db_stmt *s;
    int r = delta_use_for(d, table + NEXT_OF, &s, ino);

    if (r < 0) return r;
    db_bind_int(s, ":offset", offset);
    r = db_step(s);
    if (r <= 0) return r;
    *c = (struct delta_chunk){.start = db_int(s, 0), .end = db_int(s, 1), .source = db_int(s, 2)};
    db_reset(s);
    return c->end > offset ? 1 : -EIO;
}

static int add_part(struct delta *d, enum delta_statement table, uint64_t ino, const struct delta_chunk *c)
{
    db_stmt *s;
    int r = delta_use_for(d, table + ADD_OF, &s, ino);

    if (r < 0) return r;
    db_bind_int(s, ":start", c->start);
    db_bind_int(s, ":end", c->end);
    db_bind_int(s, ":source", c->source);
    return db_run(s);
}

static int remove_part(struct delta *d, enum delta_statement table, uint64_t ino, uint64_t start)
{
    db_stmt *s;
    int r = delta_use_for(d, table + REMOVE_OF, &s, ino);

    if (r < 0) return r;
    db_bind_int(s, ":start", start);
    return db_run(s);
}

/* Cuts [start, end) out of the parts in the table; what is cut goes to undo if `keep`. 1: there was something to cut. */
static int cut(struct delta *d, enum delta_statement table, uint64_t ino, uint64_t start, uint64_t end, bool keep)
{
    struct delta_chunk c;
    int r, found = 0;

    while ((r = next_part(d, table, ino, start, &c)) > 0 && c.start < end) {
        struct delta_chunk before = {c.start, start, c.source}, after = {end, c.end, c.source};
        struct delta_chunk middle = {c.start > start ? c.start : start, c.end < end ? c.end : end, c.source};

        r = remove_part(d, table, ino, c.start);
        if (r == 0 && c.start < start) r = add_part(d, table, ino, &before);
        if (r == 0 && c.end > end) r = add_part(d, table, ino, &after);
        if (r == 0 && keep) r = add_part(d, NEXT_UNDO, ino, &middle);
        if (r < 0) return r;
        found = 1;
    }
    return r < 0 ? r : found;
}

int delta_next_chunk(struct delta *d, uint64_t ino, uint64_t offset, struct delta_chunk *ret_chunk)
{
    return next_part(d, NEXT_CHUNK, ino, offset, ret_chunk);
}

int delta_add_chunk(struct delta *d, uint64_t ino, const struct delta_chunk *chunk)
{
    return add_part(d, NEXT_CHUNK, ino, chunk);
}

int delta_supersede_chunks(struct delta *d, uint64_t ino, uint64_t start, uint64_t end)
{
    return cut(d, NEXT_CHUNK, ino, start, end, true);
}

int delta_discard_chunks(struct delta *d, uint64_t ino, uint64_t start, uint64_t end)
{
    int r = cut(d, NEXT_CHUNK, ino, start, end, false);

    if (r >= 0) r = cut(d, NEXT_UNDO, ino, start, end, false);
    return r < 0 ? r : 0;
}

int delta_add_fresh(struct delta *d, uint64_t ino, uint64_t size)
{
    db_stmt *s;
    int r = delta_use_for(d, ADD_FRESH, &s, ino);

    if (r < 0) return r;
    db_bind_int(s, ":size", size);
    return db_run(s);
}

/* In a damaged file a tree may lead back: who asks for the next row would go round for ever. */
static int goes_on(uint64_t after, uint64_t found)
{
    return found > after ? 1 : -EIO;
}

int delta_next_undo(struct delta *d, const struct delta_undo *after, struct delta_undo *u)
{
    struct delta_undo from;
    db_stmt *s;
    int r = delta_use_for(d, ANY_UNDO, &s, after->ino);

    if (r < 0) return r;
    db_bind_int(s, ":start", after->chunk.start);
    r = db_step(s);
    if (r <= 0) return r;
    from = *after;
    *u = (struct delta_undo){db_int(s, 0), {.start = db_int(s, 1), .end = db_int(s, 2), .source = db_int(s, 3)}};
    db_reset(s);
    return u->ino == from.ino ? goes_on(from.chunk.start, u->chunk.start) : goes_on(from.ino, u->ino);
}

static int next_inode(struct delta *d, enum delta_statement which, uint64_t ino, uint64_t *ret_ino)
{
    db_stmt *s;
    int r = delta_use_for(d, which, &s, ino);

    if (r == 0) r = db_step(s);
    if (r <= 0) return r;
    *ret_ino = db_int(s, 0);
    db_reset(s);
    return goes_on(ino, *ret_ino);
}

int delta_next_orphan(struct delta *d, uint64_t ino, uint64_t *ret_ino)
{
    return next_inode(d, NEXT_ORPHAN, ino, ret_ino);
}

int delta_next_grown(struct delta *d, uint64_t ino, uint64_t *ret_ino)
{
    return next_inode(d, NEXT_GROWN, ino, ret_ino);
}

int delta_next_fresh(struct delta *d, uint64_t ino, uint64_t *ret_ino, uint64_t *ret_size)
{
    db_stmt *s;
    int r = delta_use_for(d, NEXT_FRESH, &s, ino);

    if (r == 0) r = db_step(s);
    if (r <= 0) return r;
    *ret_ino = db_int(s, 0);
    *ret_size = db_int(s, 1);
    db_reset(s);
    return goes_on(ino, *ret_ino);
}

int delta_restore_chunk(struct delta *d, uint64_t ino, const struct delta_chunk *chunk)
{
    int r = cut(d, NEXT_UNDO, ino, chunk->start, chunk->end, false);

    return r < 0 ? r : add_part(d, NEXT_CHUNK, ino, chunk);
}

/* See commit_new(). */
static int settle(void *data)
{
    struct delta *d = data;
    db_stmt *s;
    int r = delta_use(d, UNDONE_SOURCES, &s);

    while (r >= 0 && (r = db_step(s)) > 0) r = commit_drops_object(d->commit, db_int(s, 0));
    if (r < 0) return r;
    r = delta_use(d, SETTLE_CONTENT, &s);
    if (r == 0) r = db_run(s);
    if (r == 0) r = delta_use(d, SETTLE_UNDO, &s);
    if (r == 0) r = db_run(s);
    if (r == 0) r = delta_use(d, SETTLE_FRESH, &s);
    return r < 0 ? r : db_run(s);
}

/* See commit_number(). */
static int record(void *data, uint64_t batch)
{
    db_stmt *s;
    int r = delta_use(data, RECORD, &s);

    if (r < 0) return r;
    db_bind_int(s, ":batch", batch);
    return db_run(s);
}
