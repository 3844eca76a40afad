#include "catalog.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "db.h"
#include "io.h"
#include "schema.h"

#define CATALOG_APPLICATION 0x636f7063
#define CATALOG_VERSION 3
#define STORE_FORMAT 1

/* Own changes between two checkpoints. SQLite's own checkpoints are off, see db.h. */
#define CHANGES_PER_CHECKPOINT 64

struct catalog {
    struct db *db;
    db_stmt *node; /* prepared at its first use, as it answers look-ups */
    int64_t changes; /* own ones that catalog_version() tells of */
    int64_t writes;  /* own transactions */
    char message[512];
};

/* "UNIQUE constraint failed: node.mac" → "mac is already in use". */
static bool say_column(char *buffer, size_t size, const char *text, const char *prefix, const char *what)
{
    const char *column;

    if (strncmp(text, prefix, strlen(prefix)) != 0) return false;
    column = strrchr(text, '.');
    column = column ? column + 1 : text + strlen(prefix);
    snprintf(buffer, size, "%s %s", column, what);
    return true;
}

/* Keeps what SQLite said, which the next statement would replace. Returns `error`. */
static int failed(struct catalog *catalog, int error)
{
    static const char check[] = "CHECK constraint failed: ";
    const char *text = db_message(catalog->db);
    char *buffer = catalog->message;
    size_t size = sizeof(catalog->message);

    if (say_column(buffer, size, text, "UNIQUE constraint failed: ", "is already in use")) return error;
    if (say_column(buffer, size, text, "NOT NULL constraint failed: ", "must be given")) return error;
    if (strncmp(text, check, strlen(check)) == 0) text += strlen(check);
    snprintf(buffer, size, "%s", text);
    return error;
}

static int prepare(struct catalog *catalog, db_stmt **ret_statement, const char *sql)
{
    int r = db_prepare(catalog->db, ret_statement, sql);

    return r < 0 ? failed(catalog, r) : 0;
}

static int step(struct catalog *catalog, db_stmt *statement)
{
    int r = db_step(statement);

    return r < 0 ? failed(catalog, r) : r;
}

struct db *catalog_db(struct catalog *catalog)
{
    return catalog->db;
}

int catalog_noted(struct catalog *catalog, int error, bool durable)
{
    if (error < 0) return failed(catalog, error);
    if (++catalog->writes % CHANGES_PER_CHECKPOINT == 0) db_checkpoint(catalog->db, NULL, NULL);
    return durable ? db_sync(catalog->db) : 0;
}

int catalog_changed(struct catalog *catalog, int error, bool durable)
{
    if (error >= 0) catalog->changes++;
    return catalog_noted(catalog, error, durable);
}

/* Runs a statement that changes exactly one row, durably. */
static int change(struct catalog *catalog, db_stmt *statement)
{
    int r = db_run(statement);

    if (r == 0 && db_changes(catalog->db) == 0) return -ENOENT;
    return catalog_changed(catalog, r, true);
}

static void remove_files(const char *path)
{
    static const char *const suffixes[] = {"", "-wal", "-shm"};

    for (size_t i = 0; i < sizeof(suffixes) / sizeof(*suffixes); i++) {
        _cleanup_free_ char *name = io_format("%s%s", path, suffixes[i]);

        if (name) unlink(name);
    }
}

static int insert_store(struct db *db)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    uint8_t key[32];
    int r;

    if (getrandom(key, sizeof(key), 0) != sizeof(key)) return -EIO;
    r = db_prepare(db, &statement, "INSERT INTO store(key) VALUES (:key)");
    if (r < 0) return r;
    db_bind_blob(statement, ":key", key, sizeof(key));
    return db_run(statement);
}

static int one_number(struct db *db, const char *sql, int64_t *ret_value);

/* What each version has that the one before had not; a new catalog goes through all of them. */
static int run_steps(struct db *db)
{
    static const char *const steps[CATALOG_VERSION + 1] = {[2] = schema_template, [3] = schema_snapshot};
    int64_t version;
    int r = one_number(db, "PRAGMA user_version", &version);

    while (r == 0 && version < CATALOG_VERSION) r = db_exec(db, steps[++version]);
    return r;
}

/* Two processes may open it at once: only one finds something to do. */
static int upgrade(struct db *db)
{
    int r = db_exec(db, "BEGIN IMMEDIATE");

    if (r < 0) return r;
    r = run_steps(db);
    if (r == 0) r = db_commit(db);
    if (r < 0) db_exec(db, "ROLLBACK");
    return r < 0 ? r : db_sync(db);
}

static int fill(const char *path)
{
    _cleanup_db_ struct db *db = NULL;
    int left, r;

    r = db_open(&db, path, DB_CREATE);
    if (r < 0) return r;
    r = db_exec(db, schema_catalog);
    if (r == 0) r = run_steps(db);
    if (r < 0) return r;
    r = insert_store(db);
    if (r < 0) return r;
    /* A new catalog is moved without its WAL. */
    r = db_checkpoint(db, NULL, &left);
    if (r < 0) return r;
    return left > 0 ? -EBUSY : 0;
}

int catalog_create(const char *path)
{
    int r;

    if (access(path, F_OK) == 0) return -EEXIST;
    r = fill(path);
    if (r < 0) remove_files(path);
    return r;
}

static int one_number(struct db *db, const char *sql, int64_t *ret_value)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = db_prepare(db, &statement, sql);

    if (r < 0) return r;
    r = db_step(statement);
    if (r < 0) return r;
    *ret_value = r > 0 ? db_int(statement, 0) : 0;
    return 0;
}

static int check_format(struct db *db)
{
    int64_t application, version, format;
    int r;

    r = one_number(db, "PRAGMA application_id", &application);
    if (r < 0) return r;
    if (application != CATALOG_APPLICATION) return -EINVAL;
    r = one_number(db, "PRAGMA user_version", &version);
    if (r < 0) return r;
    if (version > CATALOG_VERSION) return -EPROTO;
    if (version < 1) return -EINVAL;
    r = one_number(db, "SELECT format FROM store", &format);
    if (r < 0) return r;
    if (format > STORE_FORMAT) return -EPROTO;
    if (format != STORE_FORMAT) return -EINVAL;
    return version < CATALOG_VERSION ? upgrade(db) : 0;
}

int catalog_open(struct catalog **ret_catalog, const char *path)
{
    _cleanup_db_ struct db *db = NULL;
    struct catalog *catalog;
    int r;

    r = db_open(&db, path, DB_WRITE);
    if (r < 0) return r;
    r = check_format(db);
    if (r < 0) return r;
    catalog = calloc(1, sizeof(*catalog));
    if (!catalog) return -ENOMEM;
    catalog->db = io_take(db);
    *ret_catalog = catalog;
    return 0;
}

void catalog_close(struct catalog *catalog)
{
    if (!catalog) return;
    if (catalog->writes > 0) db_checkpoint(catalog->db, NULL, NULL);
    db_close(catalog->db);
    free(catalog);
}

const char *catalog_message(struct catalog *catalog)
{
    return catalog->message;
}

int catalog_version(struct catalog *catalog, int64_t *ret_version)
{
    int64_t others;
    int r = db_data_version(catalog->db, &others);

    if (r < 0) return failed(catalog, r);
    /* Both only grow, so their sum never returns to an earlier value. */
    *ret_version = others + catalog->changes;
    return 0;
}

int catalog_key(struct catalog *catalog, uint8_t ret_key[32])
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    const void *key;
    size_t size;
    int r;

    r = prepare(catalog, &statement, "SELECT key FROM store");
    if (r < 0) return r;
    r = step(catalog, statement);
    if (r < 0) return r;
    if (r == 0) return -EINVAL;
    key = db_blob(statement, 0, &size);
    if (size != 32) return -EINVAL;
    memcpy(ret_key, key, size);
    return 0;
}

int catalog_setting(struct catalog *catalog, const char *name, char **ret_value)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement, "SELECT value FROM setting WHERE name = :name");
    if (r < 0) return r;
    db_bind_text(statement, ":name", name);
    r = step(catalog, statement);
    if (r < 0) return r;
    *ret_value = r > 0 ? strdup(db_text(statement, 0)) : NULL;
    return r > 0 && !*ret_value ? -ENOMEM : 0;
}

int catalog_has_addresses(struct catalog *catalog)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement, "SELECT 1 FROM node WHERE ip IS NOT NULL LIMIT 1");
    return r < 0 ? r : step(catalog, statement);
}

int catalog_set_setting(struct catalog *catalog, const char *name, const char *value)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement,
                "INSERT INTO setting(name, value) VALUES (:name, :value)"
                " ON CONFLICT(name) DO UPDATE SET value = excluded.value");
    if (r < 0) return r;
    db_bind_text(statement, ":name", name);
    db_bind_text(statement, ":value", value);
    return change(catalog, statement);
}

void catalog_image_free(struct catalog_image *image)
{
    free(image->name);
    free(image->source);
    free(image->boot);
    *image = (struct catalog_image){0};
}

void catalog_node_free(struct catalog_node *node)
{
    free(node->serial);
    free(node->mac);
    free(node->ip);
    free(node->hostname);
    free(node->image);
    free(node->base);
    *node = (struct catalog_node){0};
}

/* Text of the current row, borrowed from the statement. */
static char *column(db_stmt *statement, int index)
{
    return (char *)db_text(statement, index);
}

#define IMAGE_COLUMNS                                 \
    "SELECT name, source, boot, added, files, bytes," \
    " name = (SELECT value FROM setting WHERE name = 'default_image') FROM image"

static struct catalog_image image_row(db_stmt *statement)
{
    return (struct catalog_image){
        .name = column(statement, 0),
        .source = column(statement, 1),
        .boot = column(statement, 2),
        .added = db_int(statement, 3),
        .files = db_int(statement, 4),
        .bytes = db_int(statement, 5),
        .is_default = db_int(statement, 6) != 0,
    };
}

#define NODE_COLUMNS "SELECT serial, mac, ip, hostname, image, base, number, added FROM node_view"

static struct catalog_node node_row(db_stmt *statement)
{
    return (struct catalog_node){
        .serial = column(statement, 0),
        .mac = column(statement, 1),
        .ip = column(statement, 2),
        .hostname = column(statement, 3),
        .image = column(statement, 4),
        .base = column(statement, 5),
        .number = db_int(statement, 6),
        .added = db_int(statement, 7),
    };
}

int catalog_images(struct catalog *catalog, catalog_image_fn fn, void *data)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement, IMAGE_COLUMNS " ORDER BY name");
    if (r < 0) return r;
    while ((r = step(catalog, statement)) > 0) {
        struct catalog_image image = image_row(statement);

        r = fn(&image, data);
        if (r != 0) return r;
    }
    return r;
}

int catalog_nodes(struct catalog *catalog, catalog_node_fn fn, void *data)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement, NODE_COLUMNS " ORDER BY serial");
    if (r < 0) return r;
    while ((r = step(catalog, statement)) > 0) {
        struct catalog_node node = node_row(statement);

        r = fn(&node, data);
        if (r != 0) return r;
    }
    return r;
}

int catalog_gone_nodes(struct catalog *catalog, catalog_gone_fn fn, void *data)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = prepare(catalog, &statement, "SELECT number, serial FROM identity WHERE serial IS NOT NULL AND "
                                         "NOT EXISTS (SELECT 1 FROM node WHERE node.serial = identity.serial)");

    while (r == 0 && (r = step(catalog, statement)) > 0) r = fn(db_int(statement, 0), db_text(statement, 1), data);
    return r;
}

/* Replaces a borrowed text by a copy; notes in *lost when there was no memory for one. */
static void own(char **text, bool *lost)
{
    if (!*text) return;
    *text = strdup(*text);
    if (!*text) *lost = true;
}

int catalog_image(struct catalog *catalog, const char *name, struct catalog_image *ret_image)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    struct catalog_image image;
    bool lost = false;
    int r;

    r = prepare(catalog, &statement, IMAGE_COLUMNS " WHERE name = :name");
    if (r < 0) return r;
    db_bind_text(statement, ":name", name);
    r = step(catalog, statement);
    if (r < 0) return r;
    if (r == 0) return -ENOENT;

    image = image_row(statement);
    own(&image.name, &lost);
    own(&image.source, &lost);
    own(&image.boot, &lost);
    if (lost) {
        catalog_image_free(&image);
        return -ENOMEM;
    }
    *ret_image = image;
    return 0;
}

static int own_node(struct catalog_node *node)
{
    bool lost = false;

    own(&node->serial, &lost);
    own(&node->mac, &lost);
    own(&node->ip, &lost);
    own(&node->hostname, &lost);
    own(&node->image, &lost);
    own(&node->base, &lost);
    if (!lost) return 0;
    catalog_node_free(node);
    return -ENOMEM;
}

int catalog_node(struct catalog *catalog, const char *serial, struct catalog_node *ret_node)
{
    struct catalog_node node;
    int r;

    if (!catalog->node) {
        r = prepare(catalog, &catalog->node, NODE_COLUMNS " WHERE serial = :serial");
        if (r < 0) return r;
    }
    db_bind_text(catalog->node, ":serial", serial);
    r = step(catalog, catalog->node);
    if (r < 0) return r;
    if (r == 0) return -ENOENT;
    node = node_row(catalog->node);
    r = own_node(&node);
    db_reset(catalog->node);
    if (r < 0) return r;
    *ret_node = node;
    return 0;
}

int catalog_add_image(struct catalog *catalog, const struct catalog_image *image)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement,
                "INSERT INTO image(name, source, boot, added, files, bytes) VALUES (:name, ifnull(:source, ''),"
                " ifnull(:boot, 'boot'), ifnull(nullif(:added, 0), unixepoch()), :files, :bytes)");
    if (r < 0) return r;
    db_bind_text(statement, ":name", image->name);
    db_bind_text(statement, ":source", image->source);
    db_bind_text(statement, ":boot", image->boot);
    db_bind_int(statement, ":added", image->added);
    db_bind_int(statement, ":files", image->files);
    db_bind_int(statement, ":bytes", image->bytes);
    return change(catalog, statement);
}

/* *ret_users: up to ten nodes that need the image, with commas; NULL: nobody does. */
static int image_users(struct catalog *catalog, const char *name, char **ret_users)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    const char *users;
    int r;

    r = prepare(catalog, &statement,
                "SELECT group_concat(serial, ', ') FROM (SELECT serial FROM image_user"
                " WHERE image = :name ORDER BY serial LIMIT 10)");
    if (r < 0) return r;
    db_bind_text(statement, ":name", name);
    r = step(catalog, statement);
    if (r < 0) return r;
    users = r > 0 ? db_text(statement, 0) : NULL;
    *ret_users = users ? strdup(users) : NULL;
    return users && !*ret_users ? -ENOMEM : 0;
}

int catalog_remove_image(struct catalog *catalog, const char *name, char **ret_users)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    *ret_users = NULL;
    r = prepare(catalog, &statement, "DELETE FROM image WHERE name = :name");
    if (r < 0) return r;
    db_bind_text(statement, ":name", name);
    r = change(catalog, statement);
    if (r != -EINVAL) return r;
    /* The trigger refused: asked only now, as a node may come in between. */
    r = image_users(catalog, name, ret_users);
    return r < 0 ? r : -EBUSY;
}

static void bind_node(db_stmt *statement, const struct catalog_node *node)
{
    db_bind_text(statement, ":serial", node->serial);
    db_bind_text(statement, ":mac", node->mac);
    db_bind_text(statement, ":ip", node->ip);
    db_bind_text(statement, ":hostname", node->hostname);
    db_bind_text(statement, ":image", node->image);
}

int catalog_add_node(struct catalog *catalog, const struct catalog_node *node)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement,
                "INSERT INTO node(serial, mac, ip, hostname, image)"
                " VALUES (:serial, :mac, :ip, :hostname, :image)");
    if (r < 0) return r;
    bind_node(statement, node);
    return change(catalog, statement);
}

int catalog_set_node(struct catalog *catalog, const struct catalog_node *node)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement,
                "UPDATE node SET mac = :mac, ip = :ip, hostname = :hostname, image = :image"
                " WHERE serial = :serial");
    if (r < 0) return r;
    bind_node(statement, node);
    return change(catalog, statement);
}

int catalog_remove_node(struct catalog *catalog, const char *serial)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement, "DELETE FROM node WHERE serial = :serial");
    if (r < 0) return r;
    db_bind_text(statement, ":serial", serial);
    return change(catalog, statement);
}

/* 1: it stands on the image already. */
static int is_bound(struct catalog *catalog, int64_t number, const char *image)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = prepare(catalog, &statement, "SELECT image IS :image FROM identity WHERE number = :number");

    if (r < 0) return r;
    db_bind_text(statement, ":image", image);
    db_bind_int(statement, ":number", number);
    r = db_step(statement);
    if (r < 0) return failed(catalog, r);
    return r == 0 ? -ENOENT : (int)db_int(statement, 0);
}

int catalog_bind_node(struct catalog *catalog, int64_t number, const char *image)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = is_bound(catalog, number, image);

    if (r != 0) return r < 0 ? r : 0;
    r = prepare(catalog, &statement, "UPDATE identity SET image = :image WHERE number = :number");
    if (r < 0) return r;
    db_bind_text(statement, ":image", image);
    db_bind_int(statement, ":number", number);
    return catalog_noted(catalog, db_run(statement), false);
}

int catalog_needs_image(struct catalog *catalog, const char *name)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = prepare(catalog, &statement, "SELECT 1 FROM image_user WHERE image = :name UNION ALL "
                                         "SELECT 1 FROM setting WHERE name = 'default_image' AND value = :name");

    if (r < 0) return r;
    db_bind_text(statement, ":name", name);
    return step(catalog, statement);
}

int catalog_bound_image(struct catalog *catalog, const char *serial, char **ret_image)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = prepare(catalog, &statement, "SELECT image FROM identity WHERE serial = :serial");

    if (r < 0) return r;
    db_bind_text(statement, ":serial", serial);
    r = step(catalog, statement);
    if (r <= 0) return r < 0 ? r : -ENOENT;
    *ret_image = db_is_null(statement, 0) ? NULL : strdup(db_text(statement, 0));
    return *ret_image || db_is_null(statement, 0) ? 0 : -ENOMEM;
}

int catalog_forget_node(struct catalog *catalog, const char *serial)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r;

    r = prepare(catalog, &statement, "UPDATE identity SET serial = NULL, image = NULL WHERE serial = :serial");
    if (r < 0) return r;
    db_bind_text(statement, ":serial", serial);
    return change(catalog, statement);
}
