#include "catalog_snapshot.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "db.h"

static int prepare(struct catalog *c, db_stmt **ret_statement, const char *sql)
{
    int r = db_prepare(catalog_db(c), ret_statement, sql);

    return r < 0 ? catalog_changed(c, r, false) : 0;
}

static int step(struct catalog *c, db_stmt *s)
{
    int r = db_step(s);

    return r < 0 ? catalog_changed(c, r, false) : r;
}

/* Runs a statement that changes at least one row, durably. */
static int change(struct catalog *c, db_stmt *s)
{
    int r = db_run(s);

    if (r == 0 && db_changes(catalog_db(c)) == 0) return -ENOENT;
    return catalog_changed(c, r, true);
}

/* What follows happens wholly or not at all. */
static int begin(struct catalog *c)
{
    int r = db_exec(catalog_db(c), "BEGIN IMMEDIATE");

    return r < 0 ? catalog_changed(c, r, false) : 0;
}

static int end(struct catalog *c, int error)
{
    int r = error < 0 ? error : db_commit(catalog_db(c));

    if (r < 0) db_exec(catalog_db(c), "ROLLBACK");
    return r < 0 ? r : db_sync(catalog_db(c));
}

#define COLUMNS "SELECT node, name, note, image, added, made, automatic FROM snapshot "

void catalog_snapshot_free(struct catalog_snapshot *s)
{
    free(s->node);
    free(s->name);
    free(s->note);
    free(s->image);
    *s = (struct catalog_snapshot){0};
}

/* Texts are borrowed from the statement. */
static struct catalog_snapshot row_of(db_stmt *s)
{
    return (struct catalog_snapshot){
        .node = (char *)db_text(s, 0),
        .name = (char *)db_text(s, 1),
        .note = (char *)db_text(s, 2),
        .image = (char *)db_text(s, 3),
        .added = db_int(s, 4),
        .made = db_int(s, 5),
        .automatic = db_int(s, 6),
    };
}

static int each(struct catalog *c, const char *sql, const char *node, catalog_snapshot_fn fn, void *data)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = prepare(c, &s, sql);

    if (r < 0) return r;
    db_bind_text(s, ":node", node);
    while ((r = step(c, s)) > 0) {
        struct catalog_snapshot row = row_of(s);

        r = fn(&row, data);
        if (r != 0) return r;
    }
    return r;
}

int catalog_snapshots(struct catalog *c, const char *node, catalog_snapshot_fn fn, void *data)
{
    return each(c, COLUMNS "WHERE node = ifnull(:node, node) ORDER BY node, ifnull(made, added), rowid", node, fn, data);
}

int catalog_snapshot_removals(struct catalog *c, const char *node, catalog_snapshot_fn fn, void *data)
{
    return each(c, "SELECT node, name, '', NULL, 0, 0, 0 FROM snapshot_removal WHERE node = ifnull(:node, node)", node, fn,
                data);
}

static char *copy(const char *text, bool *lost)
{
    char *own = text ? strdup(text) : NULL;

    if (text && !own) *lost = true;
    return own;
}

int catalog_snapshot(struct catalog *c, const char *node, const char *name, struct catalog_snapshot *ret)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    bool lost = false;
    int r = prepare(c, &s, COLUMNS "WHERE node = :node AND name = :name");

    if (r < 0) return r;
    db_bind_text(s, ":node", node);
    db_bind_text(s, ":name", name);
    r = step(c, s);
    if (r <= 0) return r < 0 ? r : -ENOENT;
    *ret = row_of(s);
    ret->node = copy(ret->node, &lost);
    ret->name = copy(ret->name, &lost);
    ret->note = copy(ret->note, &lost);
    ret->image = copy(ret->image, &lost);
    if (lost) catalog_snapshot_free(ret);
    return lost ? -ENOMEM : 0;
}

int catalog_add_snapshot(struct catalog *c, const struct catalog_snapshot *row)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = prepare(c, &s,
                            "INSERT INTO snapshot(node, name, note, image, made, automatic)"
                            " VALUES (:node, :name, ifnull(:note, ''), :image, nullif(:made, 0), :automatic)");

    if (r < 0) return r;
    db_bind_text(s, ":node", row->node);
    db_bind_text(s, ":name", row->name);
    db_bind_text(s, ":note", row->note);
    db_bind_text(s, ":image", row->image);
    db_bind_int(s, ":made", row->made);
    db_bind_int(s, ":automatic", row->automatic);
    return change(c, s);
}

int catalog_check_snapshot(struct catalog *c, const struct catalog_snapshot *row)
{
    int r = begin(c);

    if (r < 0) return r;
    r = catalog_add_snapshot(c, row);
    end(c, -ECANCELED);
    return r;
}

int catalog_made_snapshot(struct catalog *c, const char *node, const char *name, const char *image, int64_t made)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = prepare(c, &s, "UPDATE snapshot SET image = :image, made = :made WHERE node = :node AND name = :name");

    if (r < 0) return r;
    db_bind_text(s, ":node", node);
    db_bind_text(s, ":name", name);
    db_bind_text(s, ":image", image);
    db_bind_int(s, ":made", made);
    return change(c, s);
}

static int delete(struct catalog *c, const char *sql, const char *node, const char *name)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = prepare(c, &s, sql);

    if (r < 0) return r;
    db_bind_text(s, ":node", node);
    db_bind_text(s, ":name", name);
    return change(c, s);
}

int catalog_remove_snapshot(struct catalog *c, const char *node, const char *name)
{
    return delete(c, "DELETE FROM snapshot WHERE node = :node AND name = :name", node, name);
}

int catalog_snapshot_removed(struct catalog *c, const char *node, const char *name)
{
    return delete(c, "DELETE FROM snapshot_removal WHERE node = :node AND name = :name", node, name);
}

static int copy_row(struct catalog *c, const char *node, const char *from, const char *to)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = prepare(c, &s,
                            "INSERT INTO snapshot(node, name, note, added, made, image, automatic)"
                            " SELECT node, :to, note, added, made, image, automatic FROM snapshot"
                            " WHERE node = :node AND name = :from");

    if (r < 0) return r;
    db_bind_text(s, ":node", node);
    db_bind_text(s, ":from", from);
    db_bind_text(s, ":to", to);
    return change(c, s);
}

int catalog_rename_snapshot(struct catalog *c, const char *node, const char *from, const char *to)
{
    int r = begin(c);

    if (r < 0) return r;
    r = copy_row(c, node, from, to);
    if (r == 0) r = catalog_remove_snapshot(c, node, from);
    if (r == 0) r = catalog_snapshot_removed(c, node, from);
    return end(c, r);
}

static int follow_base(struct catalog *c, int64_t number, const char *image)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = prepare(c, &s,
                            "UPDATE node SET image = :image WHERE image IS NOT NULL"
                            " AND serial = (SELECT serial FROM identity WHERE number = :number)");

    if (r < 0) return r;
    db_bind_text(s, ":image", image);
    db_bind_int(s, ":number", number);
    r = change(c, s);
    return r == -ENOENT ? 0 : r;
}

int catalog_rebase_node(struct catalog *c, int64_t number, const char *image)
{
    int r = catalog_bind_node(c, number, image); /* which waits for no disk */

    if (r == 0) r = follow_base(c, number, image);
    return r < 0 ? r : db_sync(catalog_db(c));
}

static int bind_serial(struct catalog *c, const char *serial, const char *image)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = prepare(c, &s, "UPDATE identity SET image = :image WHERE serial = :serial AND image IS NULL");

    if (r < 0) return r;
    db_bind_text(s, ":serial", serial);
    db_bind_text(s, ":image", image);
    r = change(c, s);
    return r == -ENOENT ? -ENOTEMPTY : r;
}

int catalog_add_clone(struct catalog *c, const struct catalog_node *node, const char *image, int (*fn)(void *), void *data)
{
    int r = begin(c);

    if (r < 0) return r;
    r = catalog_add_node(c, node);
    if (r == 0) r = bind_serial(c, node->serial, image);
    if (r == 0) r = fn(data);
    return end(c, r);
}
