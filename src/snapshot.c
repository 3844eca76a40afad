#include "snapshot.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "commit.h"
#include "db.h"
#include "delta_create.h"
#include "io.h"
#include "log.h"
#include "object.h"

/* What is on the disk when it is published needs neither table; and no object is its alone. */
#define SEAL "DELETE FROM undo; DELETE FROM fresh; UPDATE inode SET grown = 0 WHERE grown = 1; UPDATE view SET frozen = next_ino"

/* A snapshot being filled or read. */
struct place {
    int objects_fd;
    char *db; /* path of delta.db */
};

static void place_clear(struct place *p)
{
    if (p->objects_fd >= 0) close(p->objects_fd);
    free(p->db);
}
#define _cleanup_place_ __attribute__((cleanup(place_clear)))

static int place_open(struct place *p, int parent_fd, const char *parent_path, const char *name)
{
    _cleanup_free_ char *objects = io_format("%s/objects", name);

    p->db = io_format("%s/%s/delta.db", parent_path, name);
    if (!objects || !p->db) return -ENOMEM;
    p->objects_fd = io_open_beneath(parent_fd, objects, O_RDONLY | O_DIRECTORY, 0);
    return p->objects_fd < 0 ? p->objects_fd : 0;
}

/* In place of what a process that was killed left under the name. */
static int place_create(struct place *p, int parent_fd, const char *parent_path, const char *name)
{
    _cleanup_free_ char *objects = io_format("%s/objects", name);
    int r = objects ? io_remove_tree(parent_fd, name) : -ENOMEM;

    if (r == 0) r = io_mkdir(parent_fd, name, 0700);
    if (r == 0) r = io_mkdir(parent_fd, objects, 0700);
    return r < 0 ? r : place_open(p, parent_fd, parent_path, name);
}

struct object_list {
    uint64_t *ids;
    size_t count, room;
};

static int object_list_add(struct object_list *list, uint64_t id)
{
    if (list->count == list->room) {
        size_t room = list->room ? list->room * 2 : 64;
        uint64_t *ids = reallocarray(list->ids, room, sizeof(*ids));

        if (!ids) return -ENOMEM;
        list->ids = ids;
        list->room = room;
    }
    list->ids[list->count++] = id;
    return 0;
}

/* Every object that a row of the sealed copy names, and those of `settled` and above in *late. */
static int share_named(const struct place *to, int objects_fd, uint64_t settled, struct object_list *late)
{
    _cleanup_db_ struct db *db = NULL;
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_open_immutable(&db, to->db);

    if (r == 0)
        r = db_prepare(db, &s, "SELECT object FROM inode WHERE object > 0 UNION SELECT source FROM chunk WHERE source > :row");
    if (r < 0) return r;
    db_bind_int(s, ":row", DELTA_SOURCE_ROW);
    while ((r = db_step(s)) > 0) {
        r = object_share(objects_fd, db_int(s, 0), to->objects_fd);
        if (r == -ENOENT) r = 0; /* damage of the original, which must not prevent keeping the rest */
        if (r == 0 && (uint64_t)db_int(s, 0) >= settled) r = object_list_add(late, db_int(s, 0));
        if (r < 0) break;
    }
    return r;
}

/* Every object of a snapshot: its rows, which take long to look through where there are many, name no others. */
static int share_all(const struct place *to, int objects_fd)
{
    int fd = openat(objects_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    uint64_t id;

    if (!stream) {
        r = -errno;
        if (fd >= 0) close(fd);
        return r;
    }
    for (struct dirent *e; r == 0 && (errno = 0, e = readdir(stream));)
        if (object_is_name(e->d_name, &id)) r = object_share(objects_fd, id, to->objects_fd);
    if (r == 0) r = -errno;
    closedir(stream);
    return r;
}

/* And what the node has written into them is on the disk. */
static int share_settled(struct view *v, const struct place *to)
{
    struct delta *d = atomic_load(&v->delta);
    struct object_list late = {0};
    int r = share_named(to, delta_objects_fd(d), v->settled, &late);

    if (r == 0 && late.count) r = commit_objects(to->objects_fd, late.ids, late.count);
    if (r == 0) v->settled = delta_frozen(d);
    free(late.ids);
    return r;
}

static int hold(void *reader)
{
    return db_hold(reader);
}

static int copy_held(struct db *reader, const struct place *to)
{
    int r = db_copy(reader, to->db);

    return r < 0 ? r : db_seal(to->db, SEAL, false);
}

static int fill(struct view *v, const struct place *to, uint64_t *ret_sequence)
{
    struct db *reader = NULL;
    uint64_t sequence = 0;
    struct delta *d;
    int r = view_begin(v, &d); /* a node without changes has no delta until now */

    if (r == 0) r = view_end(v, d, 0, VIEW_LAZY);
    if (r == 0) r = view_sync(v); /* so that little is left to wait for when it stops */
    if (r == 0) r = db_open(&reader, delta_path(d), DB_WRITE);
    if (r < 0) return r;
    r = view_freeze(v, hold, reader, &sequence);
    if (ret_sequence) *ret_sequence = sequence;
    if (r < 0) {
        db_close(reader);
        return r;
    }
    r = copy_held(reader, to);
    db_close(reader);
    if (r == 0) r = share_settled(v, to);
    commit_unpin(delta_commit(d));
    if (r == 0) r = view_sync(v); /* else a power cut takes it back that they are shared */
    return r;
}

int snapshot_take(struct view *v, int parent_fd, const char *parent_path, const char *name, uint64_t *ret_sequence)
{
    _cleanup_place_ struct place to = {.objects_fd = -1};
    int r = place_create(&to, parent_fd, parent_path, name);

    if (r == 0) r = fill(v, &to, ret_sequence);
    if (r < 0) io_remove_tree(parent_fd, name);
    return r;
}

static int copy_db(int from_fd, const char *from, const struct place *to)
{
    _cleanup_free_ char *path = io_format("%s/delta.db", from);
    _cleanup_close_ int source = -1, copy = -1;
    struct stat st;

    if (!path) return -ENOMEM;
    source = io_open_beneath(from_fd, path, O_RDONLY, 0);
    if (source < 0) return source;
    copy = open(to->db, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (copy < 0 || fstat(source, &st) < 0) return -errno;
    return io_copy(source, 0, copy, 0, st.st_size);
}

int snapshot_copy(int from_fd, const char *from, int parent_fd, const char *parent_path, const char *name)
{
    _cleanup_place_ struct place to = {.objects_fd = -1};
    _cleanup_free_ char *objects = io_format("%s/objects", from);
    _cleanup_close_ int objects_fd = -1;
    int r;

    if (!objects) return -ENOMEM;
    objects_fd = io_open_beneath(from_fd, objects, O_RDONLY | O_DIRECTORY, 0);
    if (objects_fd < 0) return objects_fd;
    r = place_create(&to, parent_fd, parent_path, name);
    if (r == 0) r = copy_db(from_fd, from, &to);
    if (r == 0) r = share_all(&to, objects_fd);
    if (r < 0) io_remove_tree(parent_fd, name);
    return r;
}

int snapshot_publish(int parent_fd, const char *temporary, const char *name)
{
    return commit_publish_delta(parent_fd, temporary, name);
}

int snapshot_seal(const char *parent_path, const char *name)
{
    _cleanup_free_ char *db = io_format("%s/%s/delta.db", parent_path, name);

    return db ? db_seal(db, SEAL, true) : -ENOMEM;
}

int snapshot_unseal(const char *parent_path, const char *name, uint64_t shift)
{
    _cleanup_free_ char *db = io_format("%s/%s/delta.db", parent_path, name);
    _cleanup_free_ char *sql = io_format("UPDATE view SET shift = %llu, frozen = next_ino", (unsigned long long)shift);

    return db && sql ? db_unseal(db, sql) : -ENOMEM;
}

int snapshot_reserve(const char *parent_path, const char *name, uint64_t next)
{
    _cleanup_free_ char *db = io_format("%s/%s/delta.db", parent_path, name);
    _cleanup_free_ char *sql = io_format("UPDATE view SET next_ino = max(next_ino, %llu)", (unsigned long long)next);

    return db && sql ? db_seal(db, sql, false) : -ENOMEM;
}

int snapshot_blank(int parent_fd, const char *parent_path, const char *name, const struct delta_base *base, uint64_t shift)
{
    _cleanup_free_ char *path = io_format("%s/%s", parent_path, name);
    int r = path ? io_remove_tree(parent_fd, name) : -ENOMEM;

    if (r == 0) r = delta_create(parent_fd, path, name, base);
    return r < 0 ? r : snapshot_unseal(parent_path, name, shift);
}

int snapshot_look(int parent_fd, const char *parent_path, const char *name, struct snapshot_info *ret)
{
    _cleanup_place_ struct place p = {.objects_fd = -1};
    _cleanup_db_ struct db *db = NULL;
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = place_open(&p, parent_fd, parent_path, name);

    if (r == 0) r = db_open_immutable(&db, p.db);
    if (r == 0) r = db_prepare(db, &s, "SELECT image, image_count, shift, next_ino, NOT EXISTS (SELECT 1 FROM inode) "
                                           "AND NOT EXISTS (SELECT 1 FROM dirent) FROM view");
    if (r == 0) r = db_step(s);
    if (r <= 0) return r < 0 ? r : -EIO;
    *ret = (struct snapshot_info){
        .image = io_format("%s", db_text(s, 0)),
        .image_count = db_int(s, 1),
        .shift = db_int(s, 2),
        .reserved = db_int(s, 3),
        .blank = db_int(s, 4),
    };
    return ret->image ? 0 : -ENOMEM;
}
