#include "fsck.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "catalog.h"
#include "db.h"
#include "fsck_delta.h"
#include "fsck_image.h"
#include "fsck_report.h"
#include "image.h"
#include "io.h"
#include "log.h"
#include "store.h"

#define MESSAGES 5         /* of SQLite's, that are printed of one file */
#define INTERVAL_USUAL 5   /* seconds after which a daemon commits, unless -o async says another number */
#define ASYNC_MOST 10      /* longer than that nobody waits for the daemon */
#define GRACE_MS 5000      /* beyond the interval: the housekeeper's rounds, a slow disk */

/* An image in use. image NULL: it cannot be read, which was said. */
struct used_image {
    char *name;
    struct image *image;
    struct used_image *next;
};

struct run {
    struct fsck fsck;
    struct store *store;
    struct used_image *images;
};

/* ---- the catalog ---- */

static int complain_rows(struct fsck *f, struct db *db, const char *query, const char *format)
{
    db_stmt *s;
    int r = db_prepare(db, &s, query), count = 0;

    while (r == 0 && (r = db_step(s)) > 0) {
        const char *text = db_text(s, 0);
        _cleanup_free_ char *what = io_format("%s%s", format, text ? text : "?");

        r = 0;
        if (text && strcmp(text, "ok") == 0) continue;
        if (++count <= MESSAGES) fsck_complain(f, "catalog", "%s", what ? what : "?");
    }
    return r;
}

static const char *const catalog_queries[][2] = {
    {"PRAGMA integrity_check(100)", "catalog.db: "},
    {"SELECT DISTINCT \"table\" FROM pragma_foreign_key_check", "a name that is not there, in table "},
    {"SELECT serial FROM node WHERE serial NOT IN (SELECT serial FROM identity WHERE serial IS NOT NULL)",
     "node without a number: "},
    {"SELECT 'store' WHERE (SELECT count(*) FROM store) <> 1", "the key of all file handles is missing in table "},
};

/* False: nothing more can be trusted. */
static bool is_catalog_sound(struct fsck *f)
{
    _cleanup_free_ char *path = io_format("%s/catalog.db", f->store);
    _cleanup_db_ struct db *db = NULL;
    int64_t left = f->result.left;
    int r = path ? db_open(&db, path, DB_READ) : -ENOMEM;

    if (r == -ENOENT) return true; /* no store: said when it is opened */
    for (size_t i = 0; r == 0 && i < sizeof(catalog_queries) / sizeof(*catalog_queries); i++)
        r = complain_rows(f, db, catalog_queries[i][0], catalog_queries[i][1]);
    if (r < 0) fsck_complain(f, "catalog", "catalog.db: damaged, cannot be read: %s", log_reason(r));
    return f->result.left == left;
}

/* ---- images ---- */

static struct image *use_image(struct run *run, const char *name)
{
    _cleanup_free_ char *where = io_format("image %s", name);
    struct used_image *u;
    int r;

    for (u = run->images; u; u = u->next)
        if (strcmp(u->name, name) == 0) return u->image;
    u = calloc(1, sizeof(*u));
    if (u) u->name = strdup(name);
    if (!u || !u->name) {
        free(u);
        return NULL;
    }
    u->next = run->images;
    run->images = u;
    r = image_open(&u->image, run->fsck.images_fd, run->fsck.images_path, name);
    if (r < 0) fsck_complain(&run->fsck, where ? where : "image", "cannot be used: %s", log_reason(r));
    return u->image;
}

static int check_image(const struct catalog_image *row, void *data)
{
    struct run *run = data;
    struct image *image = use_image(run, row->name);

    run->fsck.result.images++;
    if (image) fsck_image(&run->fsck, row->name, image);
    return 0;
}

/* ---- nodes ---- */

/* What the delta itself says: the catalog's row may not have been written yet. */
static char *base_of_delta(const char *dir)
{
    _cleanup_free_ char *path = io_format("%s/delta.db", dir);
    _cleanup_db_ struct db *db = NULL;
    db_stmt *s;
    int r = path ? db_open(&db, path, DB_READ) : -ENOMEM;

    if (r == 0) r = db_prepare(db, &s, "SELECT image FROM view");
    if (r == 0) r = db_step(s);
    return r > 0 && db_text(s, 0) ? strdup(db_text(s, 0)) : NULL;
}

/* Nobody writes it, so nothing of it is mended. */
static void check_snapshot(struct run *run, const char *serial, const char *node_dir, const char *name)
{
    struct fsck *f = &run->fsck;
    const struct fsck_options *options = f->options;
    struct fsck_options reading = *options;
    bool mounted = f->mounted;
    _cleanup_free_ char *where = io_format("node %s, snapshot %s", serial, name);
    _cleanup_free_ char *dir = io_format("%s/snapshots/%s", node_dir, name), *base = dir ? base_of_delta(dir) : NULL;
    struct fsck_delta delta = {.where = where, .dir = dir, .serial = serial, .base = base};

    if (!where || !dir) return;
    delta.image = base ? use_image(run, base) : NULL;
    reading.repair = false;
    f->options = &reading;
    f->mounted = false;
    fsck_delta(f, &delta);
    f->options = options;
    f->mounted = mounted;
}

static void check_snapshots(struct run *run, const char *serial, const char *node_dir)
{
    _cleanup_free_ char *path = io_format("%s/snapshots", node_dir);
    int fd = path ? io_open_plain(path, O_RDONLY | O_DIRECTORY, 0) : -ENOMEM;
    DIR *snapshots = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;

    while (snapshots && (e = readdir(snapshots)))
        if (e->d_name[0] != '.') check_snapshot(run, serial, node_dir, e->d_name);
    if (snapshots) closedir(snapshots);
}

static void check_node(struct run *run, const char *serial)
{
    struct fsck *f = &run->fsck;
    _cleanup_free_ char *where = io_format("node %s", serial), *dir = io_format("%s/%s", f->nodes_path, serial);
    _cleanup_free_ char *base = NULL;
    struct fsck_delta delta = {.where = where, .dir = dir, .serial = serial};
    int r;

    if (!where || !dir) return;
    r = catalog_bound_image(run->store->catalog, serial, &base);
    if (r == -ENOENT) fsck_complain(f, where, "there are changes of it, but the catalog has no number for it");
    else if (r < 0) fsck_complain(f, where, "catalog: %s", log_reason(r));
    if (!base) base = base_of_delta(dir);
    delta.base = base;
    delta.image = base ? use_image(run, base) : NULL;
    f->result.nodes++;
    fsck_delta(f, &delta);
    check_snapshots(run, serial, dir);
}

static int check_nodes(struct run *run)
{
    int fd = openat(run->fsck.nodes_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *nodes = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!nodes) {
        if (fd >= 0) close(fd);
        return -errno;
    }
    while ((e = readdir(nodes)))
        if (e->d_name[0] != '.') check_node(run, e->d_name);
    closedir(nodes);
    return 0;
}

static int check_one(struct run *run, const char *serial)
{
    _cleanup_free_ char *base = NULL;
    int r = catalog_bound_image(run->store->catalog, serial, &base);

    if (r < 0) {
        log_error("node %s: %s", serial, r == -ENOENT ? "there is none" : log_reason(r));
        return r;
    }
    check_node(run, serial);
    return 0;
}

/* ---- the run ---- */

static int64_t grace_of(const struct store_daemon *daemon)
{
    const char *async = strstr(daemon->options, "async");
    int seconds = async && async[5] == '=' ? atoi(async + 6) : INTERVAL_USUAL;

    return seconds > ASYNC_MOST ? -1 : seconds * 1000 + GRACE_MS;
}

/* Repairing needs the store for itself: *ret_claim keeps daemons away. */
static int find_daemon(struct run *run, int *ret_claim)
{
    struct fsck *f = &run->fsck;
    struct store_daemon daemon;
    int r = store_running(run->store, &daemon);

    if (r < 0) {
        log_error("store %s: %s", f->store, log_reason(r));
        return r;
    }
    f->mounted = r == 1;
    if (f->mounted) f->grace = grace_of(&daemon);
    if (!f->options->repair) return 0;
    if (!f->mounted) return store_claim(run->store, ret_claim);
    log_error("store %s: is mounted on %s: unmount it before --repair", f->store,
              daemon.mountpoint[0] ? daemon.mountpoint : "?");
    return -EBUSY;
}

static int open_parts(struct run *run)
{
    struct fsck *f = &run->fsck;
    uint8_t key[32];
    int r = catalog_key(run->store->catalog, key);

    if (r < 0) return r;
    identity_init(&f->identity, key);
    f->nodes_path = io_format("%s/nodes", run->store->path);
    f->images_path = io_format("%s/images", run->store->path);
    f->nodes_fd = io_open_beneath(run->store->fd, "nodes", O_RDONLY | O_DIRECTORY, 0);
    f->images_fd = io_open_beneath(run->store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    if (!f->nodes_path || !f->images_path) return -ENOMEM;
    return f->nodes_fd < 0 ? f->nodes_fd : f->images_fd < 0 ? f->images_fd : 0;
}

static int check_all(struct run *run)
{
    const char *serial = run->fsck.options->serial;
    int r = open_parts(run);

    if (r == 0 && !serial) r = catalog_images(run->store->catalog, check_image, run);
    if (r == 0 && !serial) r = check_nodes(run);
    if (r < 0) log_error("store %s: %s", run->fsck.store, log_reason(r));
    return r == 0 && serial ? check_one(run, serial) : r;
}

static void release(struct run *run)
{
    while (run->images) {
        struct used_image *u = run->images;

        run->images = u->next;
        image_unref(u->image);
        free(u->name);
        free(u);
    }
    if (run->fsck.nodes_fd >= 0) close(run->fsck.nodes_fd);
    if (run->fsck.images_fd >= 0) close(run->fsck.images_fd);
    free(run->fsck.nodes_path);
    free(run->fsck.images_path);
    store_close(run->store);
}

int fsck_run(const char *store_path, const struct fsck_options *options, struct fsck_result *ret_result)
{
    struct run run = {.fsck = {.options = options, .store = store_path, .nodes_fd = -1, .images_fd = -1}};
    _cleanup_close_ int claim = -1;
    int r = 0;

    if (is_catalog_sound(&run.fsck)) {
        r = store_open(&run.store, store_path);
        if (r == 0) r = find_daemon(&run, &claim);
        if (r == 0) r = check_all(&run);
    }
    *ret_result = run.fsck.result;
    release(&run);
    return r;
}
