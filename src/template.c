#include "template.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "catalog.h"
#include "db.h"
#include "io.h"
#include "log.h"
#include "store.h"
#include "template_text.h"
#include "template_write.h"
#include "view.h"

/* ---- filling in ---- */

/* What a node's names stand for. */
struct values {
    const struct catalog_node *node;
    char *server, *rootfs;
    db_stmt *variable;
};

static bool is_name(const char *name, size_t length, const char *known)
{
    return strlen(known) == length && memcmp(name, known, length) == 0;
}

static const char *variable(const char *name, size_t length, struct values *values)
{
    char text[256];

    if (length >= sizeof(text)) return NULL;
    snprintf(text, sizeof(text), "%.*s", (int)length, name);
    db_reset(values->variable);
    db_bind_text(values->variable, ":node", values->node->serial);
    db_bind_text(values->variable, ":name", text);
    return db_step(values->variable) == 1 ? db_text(values->variable, 0) : NULL;
}

static const char *value_of(const char *name, size_t length, void *data)
{
    struct values *values = data;
    const struct catalog_node *node = values->node;

    if (is_name(name, length, "serial")) return node->serial;
    if (is_name(name, length, "mac")) return node->mac;
    if (is_name(name, length, "ip")) return node->ip;
    /* A node must be called something. */
    if (is_name(name, length, "hostname")) return node->hostname ? node->hostname : node->serial;
    if (is_name(name, length, "server")) return values->server;
    if (is_name(name, length, "rootfs")) return values->rootfs;
    return variable(name, length, values);
}

static const char *hint_for(const char *name, size_t length)
{
    if (is_name(name, length, "server")) return "; it is a row of table setting";
    if (is_name(name, length, "mac") || is_name(name, length, "ip")) return "; coppice node set gives it one";
    if (is_name(name, length, "rootfs")) return " before the first mount";
    return "; a row of table variable gives it one";
}

static char *text_of_error(const struct values *values, const struct template_file *file, const char *name, size_t length)
{
    _cleanup_free_ char *where = file->image ? io_format("of image %s", file->image) : io_format("of every image");
    const char *shown = where ? where : "";

    if (length == 0)
        return io_format("node %s: template %s %s: '${' without its '}'", values->node->serial, file->path, shown);
    return io_format("node %s: template %s %s: ${%.*s} has no value%s", values->node->serial, file->path, shown,
                     (int)length, name, hint_for(name, length));
}

static int fill_in(struct template_file *file, struct values *values, const char *body, size_t size)
{
    const char *name;
    size_t length;
    int r = template_expand(body, size, value_of, values, &file->body, &file->size, &name, &length);

    if (r != -ENODATA) return r;
    file->error = text_of_error(values, file, name, length);
    return file->error ? 0 : -ENOMEM;
}

static int get_values(struct values *values, struct store *store)
{
    struct store_daemon daemon;
    int r = catalog_setting(store->catalog, "server", &values->server);

    if (r == 0)
        r = db_prepare(catalog_db(store->catalog), &values->variable,
                       "SELECT value FROM variable WHERE node = :node AND name = :name");
    if (r < 0) return r;
    if (store_last_daemon(store, &daemon) < 0) return 0;
    values->rootfs = io_format("%s/system/%s/rootfs", daemon.mountpoint, values->node->serial);
    return values->rootfs ? 0 : -ENOMEM;
}

static void free_values(struct values *values)
{
    db_finish(values->variable);
    free(values->server);
    free(values->rootfs);
}

/* ---- the templates of a node ---- */

/* Octal digits written as a decimal number: 644. */
static int mode_of(int digits)
{
    return digits % 10 + digits / 10 % 10 * 8 + digits / 100 % 10 * 64 + digits / 1000 % 10 * 512;
}

static struct template_file *add_file(struct template_files *files)
{
    void *grown = reallocarray(files->items, files->count + 1, sizeof(*files->items));

    if (!grown) return NULL;
    files->items = grown;
    files->items[files->count] = (struct template_file){.mode = -1};
    return &files->items[files->count++];
}

static int take_row(struct template_files *files, struct values *values, db_stmt *row)
{
    struct template_file *file = add_file(files);
    const void *body;
    size_t size;

    if (!file) return -ENOMEM;
    file->image = db_is_null(row, 0) ? NULL : strdup(db_text(row, 0));
    file->path = strdup(db_text(row, 1));
    if (!file->path || (!db_is_null(row, 0) && !file->image)) return -ENOMEM;
    if (!db_is_null(row, 2)) file->mode = mode_of(db_int(row, 2));
    if (db_is_null(row, 3)) return 0;
    body = db_blob(row, 3, &size);
    return fill_in(file, values, body ? body : "", size);
}

static int read_files(struct template_files *files, struct store *store, struct values *values, const char *image)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "SELECT image, ltrim(path, '/'), mode, body FROM template AS t WHERE image = :image"
                       " OR (image IS NULL AND NOT EXISTS (SELECT 1 FROM template AS own WHERE own.image = :image"
                       " AND ltrim(own.path, '/') = ltrim(t.path, '/'))) ORDER BY 2");

    if (r < 0) return r;
    db_bind_text(row, ":image", image);
    while ((r = db_step(row)) > 0) {
        r = take_row(files, values, row);
        if (r < 0) return r;
    }
    return r;
}

int template_files(struct template_files *ret_files, struct store *store, const struct catalog_node *node,
                   const char *image)
{
    struct values values = {.node = node};
    struct template_files files = {0};
    int r = get_values(&values, store);

    if (r == 0) r = read_files(&files, store, &values, image);
    free_values(&values);
    if (r < 0) template_files_free(&files);
    else *ret_files = files;
    return r;
}

void template_files_free(struct template_files *files)
{
    for (size_t i = 0; i < files->count; i++) {
        free(files->items[i].image);
        free(files->items[i].path);
        free(files->items[i].body);
        free(files->items[i].error);
    }
    free(files->items);
    *files = (struct template_files){0};
}

/* ---- which nodes have theirs ---- */

/* The node's row in rendering: 1 and a copy of its error (NULL: none), 0: there is none. */
static int get_rendering(struct store *store, uint32_t number, const char *path, char **ret_error)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "SELECT error FROM rendering WHERE number = :number AND path = :path");

    if (r < 0) return r;
    db_bind_int(row, ":number", number);
    db_bind_text(row, ":path", path);
    r = db_step(row);
    if (r > 0) *ret_error = db_is_null(row, 0) ? NULL : strdup(db_text(row, 0));
    return r;
}

static int put_rendering(struct store *store, uint32_t number, const char *path, const char *error)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "INSERT INTO rendering(number, path, error) VALUES (:number, :path, :error)"
                       " ON CONFLICT(number, path) DO UPDATE SET error = excluded.error");

    if (r < 0) return r;
    db_bind_int(row, ":number", number);
    db_bind_text(row, ":path", path);
    db_bind_text(row, ":error", error);
    return db_run(row);
}

static int forget_rendering(struct store *store, uint32_t number, const char *path)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "DELETE FROM rendering WHERE number = :number AND (:path IS NULL OR path = :path)");

    if (r < 0) return r;
    db_bind_int(row, ":number", number);
    db_bind_text(row, ":path", path);
    return db_run(row);
}

/* Failures of templates that are no more. */
static int forget_others(struct store *store, uint32_t number, const struct template_files *files)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "SELECT path FROM rendering WHERE number = :number AND path <> ''");

    if (r < 0) return r;
    db_bind_int(row, ":number", number);
    while ((r = db_step(row)) > 0) {
        const char *path = db_text(row, 0);
        size_t i = 0;

        while (i < files->count && strcmp(files->items[i].path, path) != 0) i++;
        r = i < files->count ? 0 : forget_rendering(store, number, path);
        if (r < 0) return r;
    }
    return r;
}

int template_forget_node(struct store *store, uint32_t number)
{
    return catalog_changed(store->catalog, forget_rendering(store, number, NULL), true);
}

/* ---- a node's turn ---- */

struct turn {
    struct view *view;
    struct store *store;
    struct template_files files;
    bool *is_due; /* by file */
    char **told;  /* by file: the failure that is known already, NULL: none */
    bool is_first;
    bool is_written; /* a file was: were that forgotten by a power cut, it would be written again over the node's changes */
};

static int choose(struct turn *turn)
{
    uint32_t number = turn->view->number;
    char *error = NULL;
    int r = get_rendering(turn->store, number, "", &error);

    turn->is_first = r == 0;
    if (r < 0) return r;
    for (size_t i = 0; i < turn->files.count; i++) {
        r = get_rendering(turn->store, number, turn->files.items[i].path, &turn->told[i]);
        if (r < 0) return r;
        turn->is_due[i] = turn->is_first || r > 0;
    }
    return 0;
}

/* catalog_lock held. */
static int begin(struct turn *turn)
{
    struct catalog_node node = {0};
    int r = catalog_node(turn->store->catalog, turn->view->serial, &node);

    if (r == 0) r = template_files(&turn->files, turn->store, &node, image_name(turn->view->image));
    catalog_node_free(&node);
    if (r < 0) return r;
    turn->is_due = calloc(turn->files.count + 1, sizeof(*turn->is_due));
    turn->told = calloc(turn->files.count + 1, sizeof(*turn->told));
    return turn->is_due && turn->told ? choose(turn) : -ENOMEM;
}

static void tell(const struct turn *turn, const struct template_written *written, template_changed_fn changed, void *data)
{
    const struct identity *identity = turn->view->shared->identity;
    uint64_t dir = identity_nodeid(identity, view_wire(turn->view, written->dir));
    uint64_t ino = written->ino ? identity_nodeid(identity, view_wire(turn->view, written->ino)) : dir;

    if (!changed) return;
    changed(data, dir, written->name, ino);
    /* The directory's list of names, too. */
    changed(data, dir, written->name, dir);
}

/* What fails here is noted like what has no value. */
static int write_files(struct turn *turn, template_changed_fn changed, void *data)
{
    for (size_t i = 0; i < turn->files.count; i++) {
        struct template_file *file = &turn->files.items[i];
        struct template_written written;
        int r;

        if (!turn->is_due[i] || file->error) continue;
        r = template_write(turn->view, file, &written);
        turn->is_written = true;
        if (r == 0) tell(turn, &written, changed, data);
        else file->error = io_format("node %s: template %s: %s", turn->view->serial, file->path, log_reason(r));
        if (r < 0 && !file->error) return -ENOMEM;
    }
    return turn->is_written ? view_sync(turn->view) : 0;
}

static int note(struct turn *turn, size_t i)
{
    const struct template_file *file = &turn->files.items[i];
    uint32_t number = turn->view->number;

    if (!file->error) return turn->told[i] ? forget_rendering(turn->store, number, file->path) : 0;
    if (turn->told[i] && strcmp(turn->told[i], file->error) == 0) return 0;
    log_warning("%s", file->error);
    return put_rendering(turn->store, number, file->path, file->error);
}

/* catalog_lock held. Writes only what is news: a change of the catalog is the next turn's reason. Returns the failures. A transaction
 * that began with reading would be refused at once (EBUSY) where another process has written since. */
static int end(struct turn *turn)
{
    struct db *db = catalog_db(turn->store->catalog);
    int64_t before = db_total_changes(db);
    int failures = 0, r = db_exec(db, "BEGIN IMMEDIATE");

    if (r == 0) r = forget_others(turn->store, turn->view->number, &turn->files);
    for (size_t i = 0; r == 0 && i < turn->files.count; i++) {
        if (!turn->is_due[i]) continue;
        failures += turn->files.items[i].error != NULL;
        r = note(turn, i);
    }
    if (r == 0 && turn->is_first) r = put_rendering(turn->store, turn->view->number, "", NULL);
    if (r == 0) r = db_commit(db);
    if (r < 0) db_exec(db, "ROLLBACK");
    if (r < 0 || db_total_changes(db) != before) r = catalog_noted(turn->store->catalog, r, turn->is_written);
    return r < 0 ? r : failures;
}

static int take_turn(struct turn *turn, pthread_mutex_t *catalog_lock, template_changed_fn changed, void *data)
{
    int r;

    pthread_mutex_lock(catalog_lock);
    r = begin(turn);
    pthread_mutex_unlock(catalog_lock);
    if (r == 0) r = write_files(turn, changed, data);
    if (r < 0) return r;
    pthread_mutex_lock(catalog_lock);
    r = end(turn);
    pthread_mutex_unlock(catalog_lock);
    return r;
}

int template_render_node(struct view *view, struct store *store, pthread_mutex_t *catalog_lock,
                         template_changed_fn changed, void *data)
{
    struct turn turn = {.view = view, .store = store};
    int r = take_turn(&turn, catalog_lock, changed, data);

    if (r < 0) log_error("node %s: its personal files could not be written: %s", view->serial, log_reason(r));
    for (size_t i = 0; turn.told && i < turn.files.count; i++) free(turn.told[i]);
    free(turn.told);
    free(turn.is_due);
    template_files_free(&turn.files);
    return r;
}

/* ---- for people ---- */

int template_failures(struct store *store, const char *node, template_failure_fn fn, void *data)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "SELECT serial, path, error FROM rendering JOIN identity USING (number)"
                       " JOIN node USING (serial) WHERE error IS NOT NULL AND (:node IS NULL OR serial = :node)"
                       " ORDER BY serial, path");

    if (r < 0) return r;
    db_bind_text(row, ":node", node);
    while ((r = db_step(row)) > 0) {
        const struct template_failure failure = {db_text(row, 0), db_text(row, 1), db_text(row, 2)};

        r = fn(&failure, data);
        if (r != 0) return r;
    }
    return r;
}

int template_rows(struct store *store, template_row_fn fn, void *data)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "SELECT image, ltrim(path, '/'), ifnull(mode, -1), body FROM template ORDER BY 1, 2");

    if (r < 0) return r;
    while ((r = db_step(row)) > 0) {
        struct template_row template = {.image = db_text(row, 0), .path = db_text(row, 1), .mode = db_int(row, 2)};

        if (!db_is_null(row, 3)) template.body = db_blob(row, 3, &template.size);
        if (!db_is_null(row, 3) && !template.body) template.body = "";
        r = fn(&template, data);
        if (r != 0) return r;
    }
    return r;
}

int template_put(struct store *store, const struct template_row *template)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "INSERT INTO template(image, path, mode, body) VALUES (:image, :path, nullif(:mode, -1), :body)"
                       " ON CONFLICT(ifnull(image, ''), ltrim(path, '/'))"
                       " DO UPDATE SET mode = excluded.mode, body = excluded.body");

    if (r == 0) {
        db_bind_text(row, ":image", template->image);
        db_bind_text(row, ":path", template->path);
        db_bind_int(row, ":mode", template->mode);
        /* As text, which the sqlite3 shell shows, where it is some. */
        if (!template->body || strlen(template->body) == template->size) db_bind_text(row, ":body", template->body);
        else db_bind_blob(row, ":body", template->body, template->size);
        r = db_run(row);
    }
    return catalog_changed(store->catalog, r, true);
}

int template_copy(struct store *store, const char *from, const char *to)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    int r = db_prepare(catalog_db(store->catalog), &row,
                       "INSERT INTO template(image, path, mode, body) SELECT :to, path, mode, body FROM template"
                       " WHERE image = :from");

    if (r == 0) {
        db_bind_text(row, ":from", from);
        db_bind_text(row, ":to", to);
        r = db_run(row);
    }
    return catalog_changed(store->catalog, r, true);
}

int template_remove(struct store *store, const char *image, const char *path)
{
    _cleanup_stmt_ db_stmt *row = NULL;
    struct db *db = catalog_db(store->catalog);
    int r = db_prepare(db, &row, "DELETE FROM template WHERE image IS :image AND ltrim(path, '/') = ltrim(:path, '/')");

    if (r < 0) return r;
    db_bind_text(row, ":image", image);
    db_bind_text(row, ":path", path);
    r = db_run(row);
    if (r == 0 && db_changes(db) == 0) return -ENOENT;
    return catalog_changed(store->catalog, r, true);
}
