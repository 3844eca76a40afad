#include "fsck_delta.h"

#include <dirent.h>
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "commit.h"
#include "db.h"
#include "delta_upgrade.h"
#include "fsck_check.h"
#include "fsck_contents.h"
#include "fsck_names.h"
#include "fsck_objects.h"
#include "fsck_salvage.h"
#include "io.h"
#include "log.h"
#include "recovery.h"

#define MESSAGES 5    /* of SQLite's, that are printed */
#define ROUNDS 300    /* of one stage: a lost directory of the image gives away those in it one after the other */

/* ---- the file ---- */

/* Is the file whole, as far as SQLite can tell? */
static bool is_sound(struct fsck *f, const struct fsck_delta *d, const char *path, bool report)
{
    _cleanup_db_ struct db *db = NULL;
    db_stmt *s = NULL;
    int64_t count = 0;
    int r = db_open(&db, path, DB_READ);

    if (r == 0) r = db_prepare(db, &s, "PRAGMA integrity_check(100)");
    while (r == 0 && (r = db_step(s)) > 0) {
        const char *text = db_text(s, 0);

        r = 0;
        if (text && strcmp(text, "ok") == 0) continue;
        if (++count <= MESSAGES && report) fsck_complain(f, d->where, "delta.db: %s", text ? text : "?");
    }
    if (r < 0 && report) fsck_complain(f, d->where, "delta.db: damaged, cannot be read: %s", log_reason(r));
    return r == 0 && count == 0;
}

static bool salvage(struct fsck *f, const struct fsck_delta *d)
{
    struct fsck_salvage_base base = {.image = d->image ? d->base : NULL};
    _cleanup_free_ char *kept = NULL, *done = NULL;
    int r;

    if (d->image) base.image_count = image_count(d->image);
    r = fsck_salvage(d->dir, &base, &kept);
    if (r < 0) {
        fsck_complain(f, d->where, "delta.db: damaged, and cannot be salvaged: %s",
                      r == -ENOENT ? "that needs the sqlite3 shell" : log_reason(r));
        return false;
    }
    done = io_format("what could be read is in a new one, the old is %s", kept);
    fsck_report(f, &(struct fsck_finding){.where = d->where, .what = "delta.db: damaged", .done = done ? done : "salvaged"});
    return true;
}

/* ---- what the rows say ---- */

static bool check_view(struct fsck *f, const struct fsck_delta *d, struct db *db)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    uint32_t count = d->image ? image_count(d->image) : 0;
    const char *image;
    int r = db_prepare(db, &s, "SELECT image, image_count, image_base, shift, next_ino, "
                               "(SELECT user_version FROM pragma_user_version) FROM view");

    if (r == 0) r = db_step(s);
    if (r <= 0) {
        fsck_complain(f, d->where, "delta.db: table view: %s", r < 0 ? db_message(db) : "its row is missing");
        return false;
    }
    image = db_text(s, 0);
    if (db_int(s, 5) > DELTA_FORMAT) {
        fsck_complain(f, d->where, "delta.db: made by a newer version of coppice (format %lld)", (long long)db_int(s, 5));
        return false;
    }
    if (!image || (d->base && strcmp(image, d->base) != 0) || (count && db_int(s, 1) != count)) {
        fsck_complain(f, d->where, "its changes stand on another image: %s of %lld files, not %s of %u", image ? image : "?",
                      (long long)db_int(s, 1), d->base ? d->base : "?", count);
        return false;
    }
    if (db_int(s, 2) >= DELTA_FIRST && db_int(s, 3) >= 0 && db_int(s, 2) + db_int(s, 1) < db_int(s, 4)) return true;
    fsck_complain(f, d->where, "delta.db: table view: no possible numbers");
    return false;
}

static const struct stage {
    void (*run)(struct fsck_check *check);
    bool needs_image;
} stages[] = {
    {fsck_names_rows, false},     {fsck_names_dirents, true},       {fsck_names_tree, true}, {fsck_names_lost, true},
    {fsck_names_links, true},     {fsck_contents_rows, false},      {fsck_contents_leftovers, false},
};

static int reload(struct fsck_check *c)
{
    struct db *db = c->model.db;
    struct image *image = c->model.image;
    int r;

    fsck_model_free(&c->model);
    r = fsck_model_load(&c->model, db, &c->fsck->identity, image);
    if (r == 0 && image) fsck_model_count(&c->model);
    return r;
}

static int run_stage(struct fsck_check *c, void (*run)(struct fsck_check *check))
{
    for (int round = 0; round < ROUNDS; round++) {
        int r = 0;

        c->fixes = 0;
        run(c);
        if (c->error) return c->error;
        if (!c->fixes) return 0;
        r = reload(c);
        if (r < 0) return r;
    }
    return 0;
}

static int run_stages(struct fsck_check *c)
{
    int r = reload(c);

    for (size_t i = 0; r == 0 && i < sizeof(stages) / sizeof(*stages); i++)
        if (c->model.image || !stages[i].needs_image) r = run_stage(c, stages[i].run);
    return r;
}

static void complain_failed(struct fsck_check *c, int r)
{
    if (r < 0) fsck_complain(c->fsck, c->where, "delta.db: %s", r == -EIO ? db_message(c->model.db) : log_reason(r));
}

static void look(struct fsck_check *c)
{
    int r = db_begin(c->model.db);

    if (r == 0) r = run_stages(c);
    if (r < 0) complain_failed(c, r);
    db_exec(c->model.db, "ROLLBACK");
    if (r == 0) fsck_objects(c);
    fsck_model_free(&c->model);
}

static void check_rows(struct fsck *f, const struct fsck_delta *d, const char *path, int objects_fd, bool again)
{
    _cleanup_db_ struct db *db = NULL;
    struct fsck_check c = {.fsck = f, .where = d->where, .objects_fd = objects_fd, .again = again};
    int r = db_open(&db, path, DB_READ);

    if (r < 0) {
        fsck_complain(f, d->where, "delta.db: %s", log_reason(r));
        return;
    }
    if (!check_view(f, d, db)) return;
    c.model = (struct fsck_model){.db = db, .image = d->image};
    look(&c);
}

/* ---- repairing ---- */

/* What the next mount would do first. */
static int recover(struct fsck *f, const struct fsck_delta *d)
{
    struct delta *delta;
    int r = delta_open(&delta, f->nodes_fd, d->dir, d->serial, &f->identity, NULL);

    if (r < 0) return r;
    r = recovery_run(delta);
    delta_close(delta);
    return r;
}

static int nothing_to_settle(void *data)
{
    (void)data;
    return 0;
}

static int mend(struct fsck_check *c)
{
    struct commit *commit = c->commit;
    struct commit_batch *batch;
    int r = commit_begin(commit);

    if (r < 0) return r;
    r = run_stages(c);
    if (r == 0) {
        fsck_objects(c); /* once: they go when this is durable */
        r = c->error;
    }
    r = commit_end(commit, r, &batch);
    return r < 0 ? r : commit_wait(commit, batch);
}

/* False: nothing could be looked at. */
static bool repair_rows(struct fsck *f, const struct fsck_delta *d, const char *path, int objects_fd, bool salvaged)
{
    _cleanup_db_ struct db *db = NULL;
    struct fsck_check c = {.fsck = f, .where = d->where, .objects_fd = objects_fd, .salvaged = salvaged};
    int r = recover(f, d);

    if (r == 0) r = db_open(&db, path, DB_WRITE);
    if (r < 0) {
        fsck_complain(f, d->where, "delta.db: %s", log_reason(r));
        return false;
    }
    if (!check_view(f, d, db)) return false;
    r = commit_new(&c.commit, db, objects_fd, d->where, nothing_to_settle, NULL, NULL);
    c.model = (struct fsck_model){.db = db, .image = d->image};
    if (r == 0) r = mend(&c);
    if (r < 0) fsck_complain(f, d->where, "could not be repaired: %s", r == -EIO ? db_message(db) : log_reason(r));
    fsck_model_free(&c.model);
    commit_free(c.commit);
    return r == 0;
}

/* ---- all of it ---- */

/* A node without delta.db has no changes, and so no objects. */
static void check_absent(struct fsck *f, const struct fsck_delta *d, int objects_fd)
{
    int fd = objects_fd >= 0 ? openat(objects_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    DIR *directory = fd >= 0 ? fdopendir(fd) : NULL;
    struct dirent *e;
    int64_t count = 0;

    if (!directory) return;
    while ((e = readdir(directory))) count += e->d_name[0] != '.';
    closedir(directory);
    if (count) fsck_complain(f, d->where, "delta.db is missing, but there are %lld objects", (long long)count);
}

static int open_objects(const struct fsck_delta *d)
{
    _cleanup_free_ char *path = io_format("%s/objects", d->dir);
    int fd = path ? io_open_plain(path, O_RDONLY | O_DIRECTORY, 0) : -ENOMEM;

    return fd;
}

static int make_objects(struct fsck *f, const struct fsck_delta *d)
{
    _cleanup_close_ int dir = io_open_plain(d->dir, O_RDONLY | O_DIRECTORY, 0);

    if (dir < 0 || io_mkdir(dir, "objects", 0700) < 0) return -1;
    fsck_report(f, &(struct fsck_finding){.where = d->where, .what = "the directory objects is missing", .done = "made"});
    return open_objects(d);
}

void fsck_delta(struct fsck *f, const struct fsck_delta *d)
{
    _cleanup_free_ char *path = io_format("%s/delta.db", d->dir);
    _cleanup_close_ int objects_fd = open_objects(d);
    bool repair = f->options->repair && d->serial, sound, salvaged = false;

    if (!path) return fsck_complain(f, d->where, "%s", log_reason(-ENOMEM));
    if (objects_fd < 0 && objects_fd != -ENOENT) return fsck_complain(f, d->where, "objects: %s", log_reason(objects_fd));
    if (access(path, F_OK) < 0) return check_absent(f, d, objects_fd);
    if (objects_fd < 0 && repair) objects_fd = make_objects(f, d);
    if (objects_fd < 0) return fsck_complain(f, d->where, "the directory objects is missing");
    sound = is_sound(f, d, path, !repair);
    if (!sound && repair) sound = salvaged = salvage(f, d);
    if (!sound) return;
    if (!repair) return check_rows(f, d, path, objects_fd, false);
    if (repair_rows(f, d, path, objects_fd, salvaged)) check_rows(f, d, path, objects_fd, true);
}
