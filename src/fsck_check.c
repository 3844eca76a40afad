#include "fsck_check.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "commit.h"
#include "io.h"

#define LOST_FOUND "lost+found"
#define INO_STEP 65536 /* as delta.c reserves */

static bool report(struct fsck_check *c, char *path, uint64_t ino, const char *done, char *what)
{
    bool repair = c->commit && done && !c->error;

    if (repair) c->fixes++;
    /* What nothing can be done about was said the first time. */
    if (!c->again || done)
        fsck_report(c->fsck, &(struct fsck_finding){.where = c->where,
                                                    .path = path,
                                                    .ino = ino,
                                                    .what = what ? what : "?",
                                                    .done = repair ? done : NULL});
    free(path);
    free(what);
    return repair;
}

#define FORMATTED(what, format)                         \
    va_list arguments;                                  \
    char *what;                                         \
    va_start(arguments, format);                        \
    if (vasprintf(&what, format, arguments) < 0) what = NULL; \
    va_end(arguments)

bool fsck_found(struct fsck_check *c, uint64_t ino, const char *done, const char *format, ...)
{
    FORMATTED(what, format);
    return report(c, ino ? fsck_model_path(&c->model, ino) : NULL, ino, done, what);
}

bool fsck_found_name(struct fsck_check *c, const struct fsck_name *name, const char *done, const char *format, ...)
{
    FORMATTED(what, format);
    return report(c, fsck_model_path_in(&c->model, name->dir, name->name, name->length), name->ino, done, what);
}

static void failed(struct fsck_check *c, int r)
{
    if (r < 0 && !c->error) c->error = r;
}

void fsck_exec(struct fsck_check *c, const char *sql, ...)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    va_list arguments;
    const char *name;
    int r = c->error ? c->error : db_prepare(c->model.db, &s, sql);

    if (r == 0) {
        va_start(arguments, sql);
        while ((name = va_arg(arguments, const char *))) db_bind_int(s, name, va_arg(arguments, int64_t));
        va_end(arguments);
        r = db_run(s);
    }
    failed(c, r);
}

/* The slot that has the name, or else a free one of its hash; negative errno. */
static int64_t find_slot(struct fsck_check *c, uint64_t dir, const char *name, size_t length)
{
    uint32_t first = delta_first_slot(c->model.identity, name, length), taken = 0;
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(c->model.db, &s, "SELECT slot, name FROM dirent WHERE parent = :parent "
                                        "AND slot BETWEEN :slot AND :slot + 15");

    if (r < 0) return r;
    db_bind_int(s, ":parent", dir);
    db_bind_int(s, ":slot", first);
    while ((r = db_step(s)) > 0) {
        size_t size;
        const void *found = db_blob(s, 1, &size);

        if (size == length && memcmp(found, name, length) == 0) return db_int(s, 0);
        taken |= 1u << (db_int(s, 0) - first);
    }
    if (r < 0) return r;
    return taken == 0xffff ? -ENOSPC : (int64_t)first + __builtin_ctz(~taken);
}

void fsck_put_name(struct fsck_check *c, uint64_t dir, const char *name, size_t length, uint64_t ino, uint8_t type)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int64_t slot = c->error ? c->error : find_slot(c, dir, name, length);
    int r = slot < 0 ? slot : db_prepare(c->model.db, &s, "INSERT OR REPLACE INTO dirent(parent, slot, name, ino, type) "
                                                          "VALUES(:parent, :slot, :name, :ino, :type)");

    if (r == 0) {
        db_bind_int(s, ":parent", dir);
        db_bind_int(s, ":slot", slot);
        db_bind_blob(s, ":name", name, length);
        db_bind_int(s, ":ino", ino);
        db_bind_int(s, ":type", type);
        r = db_run(s);
    }
    failed(c, r);
}

static void insert_inode(struct fsck_check *c, const struct delta_inode *i)
{
    fsck_exec(c,
              "INSERT OR REPLACE INTO inode(ino, image_ino, mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, parent, "
              "object, chunked) VALUES(:ino, :image_ino, :mode, :uid, :gid, :rdev, :nlink, :size, :atime, :mtime, :ctime, "
              ":parent, nullif(:object, -1), :chunked)",
              ":ino", (int64_t)i->ino, ":image_ino", (int64_t)i->image_ino, ":mode", (int64_t)i->mode, ":uid",
              (int64_t)i->uid, ":gid", (int64_t)i->gid, ":rdev", (int64_t)i->rdev, ":nlink", (int64_t)i->nlink, ":size",
              (int64_t)i->size, ":atime", i->atime, ":mtime", i->mtime, ":ctime", i->ctime, ":parent", (int64_t)i->parent,
              ":object", i->object, ":chunked", (int64_t)i->chunked, NULL);
}

struct xattrs {
    struct fsck_check *check;
    uint64_t ino;
};

static int copy_xattr(const char *name, const void *value, size_t size, void *data)
{
    const struct xattrs *to = data;
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(to->check->model.db, &s, "INSERT OR IGNORE INTO xattr(ino, name, value) VALUES(:ino, :name, :value)");

    if (r < 0) return r;
    db_bind_int(s, ":ino", to->ino);
    db_bind_text(s, ":name", name);
    db_bind_blob(s, ":value", value, size);
    return db_run(s);
}

void fsck_materialize(struct fsck_check *c, struct fsck_item *item)
{
    struct xattrs to = {c, item->row.ino};

    if (item->stored || c->error) return;
    insert_inode(c, &item->row);
    failed(c, image_xattrs(c->model.image, item->row.image_ino, copy_xattr, &to));
    if (item->row.chunked)
        fsck_exec(c, "INSERT OR IGNORE INTO chunk(ino, start, \"end\", source) VALUES(:ino, 0, :end, 0)", ":ino",
                  (int64_t)item->row.ino, ":end", (int64_t)item->row.size, NULL);
    item->stored = true;
}

uint64_t fsck_new_ino(struct fsck_check *c)
{
    uint64_t ino = c->model.next_ino;

    /* Numbers below view.next_ino may have been given out; see delta_reserve(). */
    fsck_exec(c, "UPDATE view SET next_ino = :next", ":next", (int64_t)(ino + INO_STEP), NULL);
    if (c->error) return 0;
    c->model.next_ino = ino + INO_STEP;
    return ino;
}

static uint64_t make_lost_found(struct fsck_check *c)
{
    struct fsck_item *root = fsck_model_find(&c->model, DELTA_ROOT);
    int64_t now = io_now();
    struct delta_inode dir = {
        .mode = S_IFDIR | 0700, .nlink = 2, .size = 4096, .atime = now, .mtime = now, .ctime = now, .parent = DELTA_ROOT,
        .object = DELTA_NO_OBJECT};

    dir.ino = fsck_new_ino(c);
    if (!dir.ino) return 0;
    insert_inode(c, &dir);
    fsck_materialize(c, root);
    fsck_exec(c, "UPDATE inode SET nlink = nlink + 1 WHERE ino = 1", NULL);
    fsck_put_name(c, DELTA_ROOT, LOST_FOUND, strlen(LOST_FOUND), dir.ino, DT_DIR);
    return dir.ino;
}

struct search {
    uint64_t dir;
    bool taken; /* by something else */
};

static int match_lost_found(struct fsck_model *m, const struct fsck_name *name, void *data)
{
    struct search *s = data;
    const struct fsck_item *item = fsck_model_live(m, name->ino);

    if (name->dir != DELTA_ROOT || name->length != strlen(LOST_FOUND)) return 0;
    if (memcmp(name->name, LOST_FOUND, name->length) != 0) return 0;
    if (item && S_ISDIR(item->row.mode)) s->dir = name->ino;
    else s->taken = true;
    return 1;
}

/* 0 after a failure. */
static uint64_t lost_found(struct fsck_check *c)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    struct search search = {0};
    int r;

    fsck_model_names(&c->model, match_lost_found, &search);
    if (search.dir) return search.dir;
    if (search.taken) failed(c, -EEXIST);
    /* Made in this stage already? */
    r = c->error ? c->error : db_prepare(c->model.db, &s, "SELECT ino FROM dirent WHERE parent = 1 AND slot BETWEEN :slot "
                                                          "AND :slot + 15 AND name = :name AND ino <> 0");
    if (r == 0) {
        db_bind_int(s, ":slot", delta_first_slot(c->model.identity, LOST_FOUND, strlen(LOST_FOUND)));
        db_bind_blob(s, ":name", LOST_FOUND, strlen(LOST_FOUND));
        r = db_step(s);
    }
    failed(c, r);
    return c->error ? 0 : r > 0 ? (uint64_t)db_int(s, 0) : make_lost_found(c);
}

void fsck_keep(struct fsck_check *c, uint64_t ino, uint8_t type, const char *prefix)
{
    uint64_t dir = lost_found(c);
    struct fsck_item *item = fsck_model_find(&c->model, dir);
    char name[64];
    int length = snprintf(name, sizeof(name), "%s%llu", prefix, (unsigned long long)ino);

    if (!dir) return;
    if (item) fsck_materialize(c, item);
    fsck_put_name(c, dir, name, length, ino, type);
    if (type != DT_DIR) return;
    fsck_exec(c, "UPDATE inode SET nlink = nlink + 1 WHERE ino = :ino", ":ino", (int64_t)dir, NULL);
    fsck_exec(c, "UPDATE inode SET parent = :dir WHERE ino = :ino", ":dir", (int64_t)dir, ":ino", (int64_t)ino, NULL);
}
