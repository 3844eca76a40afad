#include "snapshots.h"

#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "catalog_snapshot.h"
#include "io.h"
#include "log.h"
#include "snapshot.h"
#include "store.h"
#include "switch.h"
#include "tree_rows.h"

#define NOTE "note"    /* beside delta.db */
#define NOTE_ROOM 4096 /* a request's line has no more */

/* nodes/SERIAL/snapshots. */
struct place {
    int fd;
    char *path;
};

static void place_clear(struct place *p)
{
    if (p->fd >= 0) close(p->fd);
    free(p->path);
}
#define _cleanup_place_ __attribute__((cleanup(place_clear)))

static int place_open(struct place *p, struct tree *t, const char *serial)
{
    _cleanup_free_ char *name = io_format("%s/snapshots", serial);

    p->path = io_format("%s/%s/snapshots", t->nodes_path, serial);
    if (!name || !p->path) return -ENOMEM;
    p->fd = io_open_beneath(t->nodes_fd, name, O_RDONLY | O_DIRECTORY, 0);
    return p->fd < 0 ? p->fd : 0;
}

static int place_make(struct place *p, struct tree *t, const char *serial)
{
    _cleanup_free_ char *name = io_format("%s/snapshots", serial);
    int r = name ? io_mkdir(t->nodes_fd, serial, 0700) : -ENOMEM;

    if (r == 0) r = io_mkdir(t->nodes_fd, name, 0700);
    return r < 0 ? r : place_open(p, t, serial);
}

static int64_t now(void)
{
    return time(NULL);
}

/* When the directory was filled. */
static int64_t made_at(const struct place *p, const char *name)
{
    struct stat st;

    return fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 ? now() : st.st_mtime;
}

static bool is_there(const struct place *p, const char *name)
{
    return faccessat(p->fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

/* ---- rows, under the catalog's lock ---- */

static int row_made(struct tree *t, const char *serial, const char *name, const char *image, int64_t made)
{
    pthread_mutex_lock(&t->catalog_lock);
    int r = catalog_made_snapshot(t->store->catalog, serial, name, image, made);
    pthread_mutex_unlock(&t->catalog_lock);
    return r;
}

static int row_add(struct tree *t, struct catalog_snapshot *row)
{
    pthread_mutex_lock(&t->catalog_lock);
    int r = catalog_add_snapshot(t->store->catalog, row);
    pthread_mutex_unlock(&t->catalog_lock);
    return r;
}

static int row_get(struct tree *t, const char *serial, const char *name, struct catalog_snapshot *ret)
{
    pthread_mutex_lock(&t->catalog_lock);
    int r = catalog_snapshot(t->store->catalog, serial, name, ret);
    pthread_mutex_unlock(&t->catalog_lock);
    return r;
}

static int row_remove(struct tree *t, const char *serial, const char *name, bool row)
{
    pthread_mutex_lock(&t->catalog_lock);
    int r = (row ? catalog_remove_snapshot : catalog_snapshot_removed)(t->store->catalog, serial, name);
    pthread_mutex_unlock(&t->catalog_lock);
    return r;
}

/* ---- making one ---- */

/* For whoever writes the row in place of a process that was killed before it could. */
static int write_note(const struct place *p, const char *directory, const char *note)
{
    _cleanup_free_ char *path = io_format("%s/" NOTE, directory);
    _cleanup_close_ int fd = -1;

    if (!note || !*note) return 0;
    if (!path) return -ENOMEM;
    fd = io_open_beneath(p->fd, path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    return fd < 0 ? fd : io_write(fd, note, strlen(note));
}

/* NULL: it has none. Caller frees. */
static char *read_note(const struct place *p, const char *directory)
{
    _cleanup_free_ char *path = io_format("%s/" NOTE, directory);
    _cleanup_close_ int fd = path ? io_open_beneath(p->fd, path, O_RDONLY, 0) : -ENOMEM;
    char text[NOTE_ROOM] = "";

    return fd < 0 || io_pread(fd, text, sizeof(text) - 1, 0) < 0 ? NULL : strdup(text);
}

static int fill(struct tree *t, const char *serial, const struct place *p, const struct catalog_snapshot *wanted, char **ret_image,
                int64_t *ret_made)
{
    const char *name = wanted->name;
    _cleanup_free_ char *temporary = io_format(".new-%s", name);
    struct tree_node *node = temporary ? tree_hold_serial(t, serial) : NULL;
    struct view *view;
    int r = node ? tree_hold_view(node, &view) : -ENOENT;

    if (r == 0) {
        *ret_made = now();
        *ret_image = io_format("%s", image_name(view->image));
        r = *ret_image ? snapshot_take(view, p->fd, p->path, temporary, NULL) : -ENOMEM;
        tree_release_view(node);
    }
    if (node) tree_release(node);
    if (r == 0) r = write_note(p, temporary, wanted->note);
    if (r == 0) r = snapshot_publish(p->fd, temporary, name);
    return r;
}

static int image_of(const struct place *p, const char *name, char **ret_image)
{
    struct snapshot_info info;
    int r = snapshot_look(p->fd, p->path, name, &info);

    if (r == 0) *ret_image = info.image;
    return r;
}

int snapshots_make(struct tree *t, const char *serial, const char *name)
{
    _cleanup_place_ struct place p = {.fd = -1};
    _cleanup_free_ char *image = NULL;
    int64_t made;
    int r = place_make(&p, t, serial);

    if (r < 0) return r;
    if (is_there(&p, name)) { /* whoever made it was killed before he could say so */
        made = made_at(&p, name);
        r = image_of(&p, name, &image);
    } else {
        r = fill(t, serial, &p, &(struct catalog_snapshot){.name = (char *)name}, &image, &made); /* its row has the note */
    }
    if (r == 0) r = row_made(t, serial, name, image, made);
    if (r == -ENOENT) switch_discard(p.fd, name, t->nodes_fd, serial); /* nobody wants it any more */
    return r;
}

int snapshots_create(struct tree *t, const struct catalog_snapshot *wanted)
{
    _cleanup_place_ struct place p = {.fd = -1};
    _cleanup_free_ char *image = NULL;
    struct catalog_snapshot row = *wanted;
    int r = place_make(&p, t, row.node);

    if (r < 0) return r;
    if (is_there(&p, row.name)) return -EEXIST;
    r = fill(t, row.node, &p, &row, &image, &row.made);
    if (r < 0) return r;
    row.image = image;
    r = row_add(t, &row);
    if (r < 0) switch_discard(p.fd, row.name, t->nodes_fd, row.node);
    return r;
}

/* ---- rows and directories ---- */

struct names {
    struct name {
        char node[256], name[256];
        bool made;
    } *list;
    size_t count;
};

static void names_clear(struct names *n)
{
    free(n->list);
}
#define _cleanup_names_ __attribute__((cleanup(names_clear)))

static int add_name(struct names *n, const char *node, const char *name, bool made)
{
    if (n->count % 32 == 0) {
        struct name *list = reallocarray(n->list, n->count + 32, sizeof(*list));

        if (!list) return -ENOMEM;
        n->list = list;
    }
    snprintf(n->list[n->count].node, sizeof(n->list->node), "%s", node);
    snprintf(n->list[n->count].name, sizeof(n->list->name), "%s", name);
    n->list[n->count++].made = made;
    return 0;
}

static int collect(const struct catalog_snapshot *row, void *data)
{
    return add_name(data, row->node, row->name, row->made != 0);
}

static int collect_automatic(const struct catalog_snapshot *row, void *data)
{
    return row->automatic && row->made ? add_name(data, row->node, row->name, true) : 0;
}

static int rows(struct tree *t, const char *serial, bool removals, catalog_snapshot_fn fn, struct names *ret)
{
    pthread_mutex_lock(&t->catalog_lock);
    int r = (removals ? catalog_snapshot_removals : catalog_snapshots)(t->store->catalog, serial, fn, ret);
    pthread_mutex_unlock(&t->catalog_lock);
    return r;
}

static int remove_files(struct tree *t, const char *serial, const char *name)
{
    _cleanup_place_ struct place p = {.fd = -1};
    int r = place_open(&p, t, serial);

    if (r == 0) r = switch_discard(p.fd, name, t->nodes_fd, serial);
    if (r < 0 && r != -ENOENT) return r;
    r = row_remove(t, serial, name, false);
    return r == -ENOENT ? 0 : r;
}

void snapshots_follow(struct tree *t)
{
    _cleanup_names_ struct names removed = {0}, wanted = {0};
    int r = rows(t, NULL, true, collect, &removed);

    for (size_t i = 0; i < removed.count; i++) {
        int failed = remove_files(t, removed.list[i].node, removed.list[i].name);

        if (failed < 0)
            log_error("node %s: snapshot %s could not be removed: %s", removed.list[i].node, removed.list[i].name,
                      log_reason(failed));
    }
    if (r == 0) r = rows(t, NULL, false, collect, &wanted);
    for (size_t i = 0; i < wanted.count; i++) {
        int failed = wanted.list[i].made ? 0 : snapshots_make(t, wanted.list[i].node, wanted.list[i].name);

        if (failed < 0 && failed != -ENOENT)
            log_error("node %s: snapshot %s could not be made: %s", wanted.list[i].node, wanted.list[i].name,
                      log_reason(failed));
    }
    if (r < 0) log_error("the catalog's snapshots cannot be read: %s", log_reason(r));
}

/* 1: its row was deleted, and the files are to follow. */
static int is_removed(struct tree *t, const char *serial, const char *name)
{
    _cleanup_names_ struct names removed = {0};
    int r = rows(t, serial, true, collect, &removed);

    for (size_t i = 0; r == 0 && i < removed.count; i++)
        if (strcmp(removed.list[i].name, name) == 0) r = 1;
    return r;
}

/* One that snapshots_rotate() has named. */
static bool is_automatic(const char *name)
{
    static const char *const names[] = {"before-reset", "before-rebase"};

    for (size_t i = 0; i < sizeof(names) / sizeof(*names); i++) {
        size_t length = strlen(names[i]);

        if (strncmp(name, names[i], length) == 0 && (!name[length] || (name[length] == '-' && isdigit((unsigned char)name[length + 1]))))
            return true;
    }
    return false;
}

static int adopt(struct tree *t, const char *serial, const struct place *p, const char *name)
{
    _cleanup_free_ char *image = NULL, *note = read_note(p, name);
    struct catalog_snapshot row = {.node = (char *)serial, .name = (char *)name, .note = note, .automatic = is_automatic(name)};
    struct catalog_snapshot known = {0};
    int r = row_get(t, serial, name, &known);

    catalog_snapshot_free(&known);
    if (r != -ENOENT) return r;
    r = is_removed(t, serial, name);
    if (r == 0) r = image_of(p, name, &image);
    if (r != 0) return r < 0 ? r : 0;
    row.image = image;
    row.made = made_at(p, name);
    return row_add(t, &row);
}

int snapshots_adopt(struct tree *t, const char *serial)
{
    _cleanup_place_ struct place p = {.fd = -1};
    int r = place_open(&p, t, serial), fd;
    DIR *directory;

    if (r < 0) return r == -ENOENT ? 0 : r;
    fd = io_open_beneath(p.fd, ".", O_RDONLY | O_DIRECTORY, 0);
    directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) return fd < 0 ? fd : -ENOMEM;
    for (struct dirent *e; (e = readdir(directory));) {
        int failed = e->d_name[0] == '.' ? 0 : adopt(t, serial, &p, e->d_name);

        if (failed < 0) {
            log_warning("node %s: snapshots/%s is no snapshot that can be used: %s", serial, e->d_name, log_reason(failed));
            r = failed;
        }
    }
    closedir(directory);
    return r;
}

/* Rows of files that snapshots_rotate() had renamed when it was killed; a row of the new name comes with its adoption. */
static void forget_renamed(struct tree *t, const char *serial)
{
    _cleanup_place_ struct place p = {.fd = -1};
    _cleanup_names_ struct names found = {0};

    if (place_open(&p, t, serial) < 0 || rows(t, serial, false, collect_automatic, &found) < 0) return;
    for (size_t i = 0; i < found.count; i++) {
        const char *name = found.list[i].name;

        if (is_there(&p, name) || errno != ENOENT) continue;
        if (row_remove(t, serial, name, true) == 0) row_remove(t, serial, name, false);
    }
}

/* Filled halfway, in snapshots/ and for a switch; nobody fills any now. */
static void discard_unfinished(struct tree *t, const char *serial)
{
    _cleanup_place_ struct place p = {.fd = -1};
    _cleanup_free_ char *new = io_format("%s/" SWITCH_NEW, serial);
    int fd = place_open(&p, t, serial) < 0 ? -1 : io_open_beneath(p.fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    if (new) switch_discard(t->nodes_fd, new, t->nodes_fd, serial);
    for (struct dirent *e; directory && (e = readdir(directory));)
        if (strncmp(e->d_name, ".new-", 5) == 0) switch_discard(p.fd, e->d_name, t->nodes_fd, serial);
    if (directory) closedir(directory);
}

void snapshots_adopt_all(struct tree *t)
{
    int fd = io_open_beneath(t->nodes_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    for (struct dirent *e; directory && (e = readdir(directory));) {
        if (e->d_name[0] == '.') continue;
        discard_unfinished(t, e->d_name);
        snapshots_adopt(t, e->d_name);
        forget_renamed(t, e->d_name);
    }
    if (directory) closedir(directory);
}

int snapshots_check(struct tree *t, const char *serial, const char *name)
{
    struct catalog_snapshot row = {0};
    int r = row_get(t, serial, name, &row);

    if (r == 0 && !row.made) r = -ENOENT;
    catalog_snapshot_free(&row);
    return r;
}

/* ---- automatic ones ---- */

int snapshots_rotate(struct tree *t, const char *serial, const char *name)
{
    _cleanup_place_ struct place p = {.fd = -1};
    _cleanup_free_ char *older = NULL;
    char date[32];
    time_t made;
    int r = place_open(&p, t, serial);

    if (r < 0 || !is_there(&p, name)) return r == -ENOENT ? 0 : r;
    made = made_at(&p, name);
    strftime(date, sizeof(date), "%Y%m%d-%H%M%S", gmtime(&made));
    for (int i = 0; i < 100; i++) {
        free(older);
        older = i ? io_format("%s-%s-%d", name, date, i) : io_format("%s-%s", name, date);
        if (!older) return -ENOMEM;
        if (renameat2(p.fd, name, p.fd, older, RENAME_NOREPLACE) == 0) break;
        if (errno != EEXIST) return -errno;
    }
    pthread_mutex_lock(&t->catalog_lock);
    r = catalog_rename_snapshot(t->store->catalog, serial, name, older);
    pthread_mutex_unlock(&t->catalog_lock);
    return r == -ENOENT ? snapshots_adopt(t, serial) : r;
}

size_t snapshots_kept(struct tree *t)
{
    _cleanup_free_ char *value = NULL;
    long n;

    pthread_mutex_lock(&t->catalog_lock);
    if (catalog_setting(t->store->catalog, SNAPSHOTS_KEEP_SETTING, &value) < 0) value = NULL;
    pthread_mutex_unlock(&t->catalog_lock);
    n = value ? strtol(value, NULL, 10) : SNAPSHOTS_KEEP_DEFAULT;
    return n < 0 ? 0 : n;
}

void snapshots_prune_automatic(struct tree *t, const char *serial)
{
    _cleanup_names_ struct names found = {0};
    size_t keep = snapshots_kept(t);

    if (rows(t, serial, false, collect_automatic, &found) < 0) return;
    for (size_t i = 0; i + keep < found.count; i++) row_remove(t, serial, found.list[i].name, true);
    snapshots_follow(t);
}
