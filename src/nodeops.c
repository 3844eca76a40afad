#include "nodeops.h"

#include <dirent.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "catalog_snapshot.h"
#include "clone.h"
#include "commit.h"
#include "io.h"
#include "log.h"
#include "presence.h"
#include "snapshot.h"
#include "snapshots.h"
#include "store.h"
#include "switch.h"
#include "tree_replace.h"
#include "tree_rows.h"

#define MAX_FIELDS 8
#define IN_USE 10         /* seconds: a node that asked for something since is in use */
#define NANOSECONDS INT64_C(1000000000)
#define COPY_AGE (10 * NANOSECONDS) /* a copy that nobody has locked by then is a killed command's */
#define TIDY_EVERY (2 * NANOSECONDS)
#define SHIFT_MARGIN (1 << 20) /* numbers that may be given out while a switch is prepared */

/* One request and its reply. */
struct call {
    struct nodeops *ops;
    struct tree *tree;
    char *fields[MAX_FIELDS]; /* "" behind the last */
    char *reply;
};

static int fail(struct call *c, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* What to tell the user; returns `error`. */
static int fail(struct call *c, int error, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    if (!c->reply && vasprintf(&c->reply, format, arguments) < 0) c->reply = NULL;
    va_end(arguments);
    return error;
}

static int report(struct call *c, int r, const char *what)
{
    return r < 0 ? fail(c, r, "node %s: %s: %s", c->fields[1], what, log_reason(r)) : r;
}

/* ---- the node of a request ---- */

struct target {
    struct tree_node *node;
    struct view *view; /* NULL: not opened */
    const char *serial;
    struct switch_place place;
    int node_fd;    /* nodes/SERIAL; -1: not there */
    char *path;     /* of it */
};

static void target_clear(struct target *g)
{
    if (g->view) tree_release_view(g->node);
    if (g->node) tree_release(g->node);
    if (g->node_fd >= 0) close(g->node_fd);
    free(g->path);
}
#define _cleanup_target_ __attribute__((cleanup(target_clear)))

static int target_open(struct call *c, struct target *g, const char *serial)
{
    int r;

    *g = (struct target){.serial = serial, .node_fd = -1, .place = {c->tree->nodes_fd, c->tree->nodes_path, serial}};
    g->node = tree_hold_serial(c->tree, serial);
    if (!g->node) return fail(c, -ENOENT, "node %s: no such node", serial);
    g->path = io_format("%s/%s", c->tree->nodes_path, serial);
    if (!g->path) return -ENOMEM;
    r = tree_hold_view(g->node, &g->view);
    if (r == -ENOENT) return fail(c, r, "node %s: it has no image yet", serial);
    if (r == 0) r = io_mkdir(c->tree->nodes_fd, serial, 0700);
    if (r < 0) return report(c, r, "cannot be opened");
    g->node_fd = io_open_beneath(c->tree->nodes_fd, serial, O_RDONLY | O_DIRECTORY, 0);
    return g->node_fd < 0 ? report(c, g->node_fd, "cannot be opened") : 0;
}

static void target_release_view(struct target *g)
{
    if (g->view) tree_release_view(g->node);
    g->view = NULL;
}

static int check_snapshot(struct call *c, const char *serial, const char *name)
{
    int r = snapshots_check(c->tree, serial, name);

    if (r == -ENOENT) return fail(c, r, "node %s: snapshot %s: no such snapshot; 'coppice snapshot list' shows them", serial, name);
    return report(c, r, name);
}

/* The node's snapshot NAME, or with "" what it shows now, in the new directory parent_fd/TO. */
static int take_copy(struct call *c, struct target *g, const char *name, int parent_fd, const char *parent_path, const char *to,
                     uint64_t *ret_sequence)
{
    _cleanup_close_ int snapshots = -1;
    int r;

    *ret_sequence = 0;
    if (!*name) return report(c, snapshot_take(g->view, parent_fd, parent_path, to, ret_sequence), "cannot be copied");
    r = check_snapshot(c, g->serial, name);
    if (r < 0) return r;
    snapshots = io_open_beneath(g->node_fd, "snapshots", O_RDONLY | O_DIRECTORY, 0);
    if (snapshots < 0) return report(c, snapshots, "its snapshots cannot be opened");
    return report(c, snapshot_copy(snapshots, name, parent_fd, parent_path, to), "the snapshot cannot be copied");
}

/* ---- reset and switch ---- */

static char *address_of(struct tree *t, const char *serial)
{
    struct catalog_node row = {0};
    char *address;
    int r;

    pthread_mutex_lock(&t->catalog_lock);
    r = catalog_node(t->store->catalog, serial, &row);
    pthread_mutex_unlock(&t->catalog_lock);
    address = presence_of(serial, r == 0 ? row.ip : NULL);
    catalog_node_free(&row);
    return address;
}

static int check_idle(struct call *c, const struct target *g)
{
    _cleanup_free_ char *address = address_of(c->tree, g->serial);
    int64_t used = atomic_load(&g->node->used);
    struct timespec now;

    if (address) return fail(c, -EBUSY, "node %s is mounted by %s; --force does it all the same", g->serial, address);
    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    if (!used || now.tv_sec - used > IN_USE) return 0;
    return fail(c, -EBUSY, "node %s is in use, its last request came %d s ago; --force does it all the same", g->serial,
                (int)(now.tv_sec - used));
}

/* What must hold in the instant of a switch. */
struct condition {
    struct call *call;
    uint64_t shift;    /* of the new one: above every number given out */
    uint64_t sequence; /* nothing was changed since; 0: no matter */
};

static int check_condition(struct view *v, void *data)
{
    struct condition *k = data;
    struct delta *d = v ? atomic_load(&v->delta) : NULL;

    if (!d) return 0;
    if (delta_shift(d) + delta_reserved(d) > k->shift) return fail(k->call, -EAGAIN, "too much was written meanwhile; try again");
    if (k->sequence && commit_newest(delta_commit(d)) != k->sequence)
        return fail(k->call, -EAGAIN, "it was changed meanwhile");
    return 0;
}

static uint64_t next_shift(struct view *v)
{
    struct delta *d = atomic_load(&v->delta);

    return d ? delta_shift(d) + delta_reserved(d) + SHIFT_MARGIN : image_count(v->image) + SHIFT_MARGIN;
}

/* 1: there is nothing that would be worth a snapshot. */
static int is_untouched(struct view *v)
{
    struct delta *d = view_lock(v);
    int r = d ? delta_is_empty(d) : 1;

    view_unlock(d);
    return r;
}

/* The prepared .switch takes effect. `keep`: as which snapshot the old changes stay; NULL: they do not. */
static int take_effect(struct call *c, struct target *g, struct condition *condition, const char *keep)
{
    struct tree_replacement how = {check_condition, condition};
    int r;

    if (keep && (r = is_untouched(g->view)) != 0) {
        if (r < 0) return report(c, r, "cannot be read");
        keep = NULL;
    }
    if (keep && !snapshots_kept(c->tree)) keep = NULL;
    target_release_view(g);
    if (keep) snapshots_follow(c->tree); /* a row that was deleted must not take away the new one of its name */
    r = keep ? report(c, snapshots_rotate(c->tree, g->serial, keep), "its older snapshot cannot be renamed") : 0;
    if (r == 0) r = report(c, switch_prepare(&g->place, keep), "its new changes cannot be put into place");
    if (r == 0) r = tree_replace(g->node, &how, c->ops->changes);
    if (r == -EBUSY) return fail(c, r, "node %s: requests are under way that do not end", g->serial);
    if (r < 0) return report(c, r, "its changes could not be replaced");
    if (keep) snapshots_adopt(c->tree, g->serial);
    snapshots_prune_automatic(c->tree, g->serial);
    return 0;
}

static int fill_reset(struct call *c, struct target *g, const char *name, uint64_t shift)
{
    struct delta_base base = {.image = image_name(g->view->image), .image_count = image_count(g->view->image)};
    uint64_t sequence;
    int r;

    if (!*name) return report(c, snapshot_blank(g->node_fd, g->path, SWITCH_NEW, &base, shift), "an empty delta cannot be made");
    r = take_copy(c, g, name, g->node_fd, g->path, SWITCH_NEW, &sequence);
    return r < 0 ? r : report(c, snapshot_unseal(g->path, SWITCH_NEW, shift), "the snapshot cannot be copied");
}

static bool is_set(const char *field, const char *word)
{
    return strcmp(field, word) == 0;
}

static int run_reset(struct call *c)
{
    _cleanup_target_ struct target g = {.node_fd = -1};
    struct condition condition = {.call = c};
    int r = target_open(c, &g, c->fields[1]);

    if (r == 0 && !is_set(c->fields[3], "force")) r = check_idle(c, &g);
    if (r < 0) return r;
    condition.shift = next_shift(g.view);
    r = fill_reset(c, &g, c->fields[2], condition.shift);
    if (r == 0) r = take_effect(c, &g, &condition, is_set(c->fields[4], "keep") ? "before-reset" : NULL);
    if (r < 0) io_remove_tree(g.node_fd, SWITCH_NEW);
    return r;
}

static bool is_copy(const char *name)
{
    return strncmp(name, NODEOPS_COPY, strlen(NODEOPS_COPY)) == 0 && !strchr(name, '/');
}

static int run_switch(struct call *c)
{
    _cleanup_target_ struct target g = {.node_fd = -1};
    struct condition condition = {.call = c, .sequence = strtoull(c->fields[3], NULL, 10)};
    int r = is_copy(c->fields[2]) ? target_open(c, &g, c->fields[1]) : fail(c, -EINVAL, "%s: no copy", c->fields[2]);

    if (r < 0) return r;
    if (!is_set(c->fields[4], "force")) r = check_idle(c, &g);
    if (r < 0) return r;
    condition.shift = next_shift(g.view);
    r = snapshot_unseal(c->tree->nodes_path, c->fields[2], condition.shift);
    if (r == 0) r = io_remove_tree(g.node_fd, SWITCH_NEW);
    if (r == 0 && renameat(c->tree->nodes_fd, c->fields[2], g.node_fd, SWITCH_NEW) < 0) r = -errno;
    if (r == 0) r = commit_publish(g.node_fd, SWITCH_NEW, SWITCH_NEW); /* what the command has written into objects */
    if (r < 0) return report(c, r, "its new changes cannot be put into place");
    r = take_effect(c, &g, &condition, is_set(c->fields[5], "keep") ? "before-rebase" : NULL);
    if (r < 0) io_remove_tree(g.node_fd, SWITCH_NEW);
    return r;
}

/* ---- copies ---- */

/* The catalog speaks to users of the sqlite3 shell: without its table. */
static const char *without_table(const char *message)
{
    return strncmp(message, "snapshot: ", 10) == 0 ? message + 10 : message;
}

/* Before the name becomes a path. */
static int check_wanted(struct call *c, const struct catalog_snapshot *row)
{
    struct catalog *catalog = c->tree->store->catalog;
    int r;

    pthread_mutex_lock(&c->tree->catalog_lock);
    r = catalog_check_snapshot(catalog, row);
    if (r == -EINVAL) fail(c, r, "node %s: snapshot %s: %s", row->node, row->name, without_table(catalog_message(catalog)));
    pthread_mutex_unlock(&c->tree->catalog_lock);
    return r;
}

static int run_snapshot(struct call *c)
{
    struct catalog_snapshot row = {.node = c->fields[1], .name = c->fields[2], .note = c->fields[3]};
    int r;

    snapshots_follow(c->tree); /* the name of a deleted one is free */
    r = check_wanted(c, &row);
    if (r == 0) r = snapshots_create(c->tree, &row);
    if (r == -EEXIST) return fail(c, r, "node %s: snapshot %s: exists already", row.node, row.name);
    if (r == -ENOENT) return fail(c, r, "node %s: no such node", row.node);
    return report(c, r, "the snapshot could not be made");
}

static int run_copy(struct call *c)
{
    _cleanup_target_ struct target g = {.node_fd = -1};
    uint64_t sequence;
    int r = is_copy(c->fields[3]) ? target_open(c, &g, c->fields[1]) : fail(c, -EINVAL, "%s: no copy", c->fields[3]);

    if (r == 0) r = take_copy(c, &g, c->fields[2], c->tree->nodes_fd, c->tree->nodes_path, c->fields[3], &sequence);
    if (r == 0 && utimensat(c->tree->nodes_fd, c->fields[3], NULL, 0) < 0) r = report(c, -errno, "cannot be copied"); /* see discard_copy() */
    if (r == 0) c->reply = io_format("%llu", (unsigned long long)sequence);
    return r;
}

static char *given(char *field)
{
    return *field ? field : NULL;
}

static int add_clone(struct call *c, const char *temporary, const char *image)
{
    struct catalog_node row = {.serial = c->fields[3], .mac = given(c->fields[4]), .ip = given(c->fields[5]),
                               .hostname = given(c->fields[6])};
    struct clone_place place = {c->tree->nodes_fd, c->tree->store->catalog};
    int r;

    pthread_mutex_lock(&c->tree->catalog_lock);
    r = clone_add(&place, temporary, &row, image);
    if (r == -EINVAL || (r == -EEXIST && *catalog_message(c->tree->store->catalog)))
        fail(c, r, "node %s: %s", row.serial, catalog_message(c->tree->store->catalog));
    pthread_mutex_unlock(&c->tree->catalog_lock);
    if (r == -ENOTEMPTY)
        fail(c, r, "node %s: an earlier node of that serial is remembered; 'coppice node remove --purge %s' forgets it", row.serial, row.serial);
    if (r < 0) fail(c, r, "node %s: cannot be added: %s", row.serial, log_reason(r));
    return r;
}

static int fill_clone(struct call *c, struct target *g, const char *temporary)
{
    int nodes_fd = c->tree->nodes_fd;
    uint64_t sequence;
    int r = take_copy(c, g, c->fields[2], nodes_fd, c->tree->nodes_path, temporary, &sequence);

    if (r < 0) return r;
    r = snapshot_unseal(c->tree->nodes_path, temporary, 0);
    if (r == 0) r = clone_prepare(nodes_fd, temporary);
    return report(c, r, "cannot be copied");
}

static int check_free(struct call *c)
{
    tree_settle_clone(c->tree, c->fields[3]);
    if (faccessat(c->tree->nodes_fd, c->fields[3], F_OK, AT_SYMLINK_NOFOLLOW) < 0) return 0;
    return fail(c, -EEXIST, "node %s: changes of an earlier node of that serial are kept in %s/%s; 'coppice node add %s' without "
                "--from finds them", c->fields[3], c->tree->nodes_path, c->fields[3], c->fields[3]);
}

static int run_clone(struct call *c)
{
    _cleanup_target_ struct target g = {.node_fd = -1};
    _cleanup_free_ char *temporary = io_format(NODEOPS_COPY "clone-%s", c->fields[3]);
    struct snapshot_info info = {0};
    int r = temporary ? target_open(c, &g, c->fields[1]) : -ENOMEM;

    if (r == 0) r = check_free(c);
    if (r < 0) return r;
    r = fill_clone(c, &g, temporary);
    if (r == 0) r = report(c, snapshot_look(c->tree->nodes_fd, c->tree->nodes_path, temporary, &info), "cannot be copied");
    if (r == 0) r = add_clone(c, temporary, info.image);
    free(info.image);
    if (r < 0) io_remove_tree(c->tree->nodes_fd, temporary);
    return r;
}

/* A root that a command has made becomes a new node's. */
static int run_adopt(struct call *c)
{
    struct snapshot_info info = {0};
    int r = is_copy(c->fields[1]) ? check_free(c) : fail(c, -EINVAL, "%s: no copy", c->fields[1]);

    if (r < 0) return r;
    r = snapshot_look(c->tree->nodes_fd, c->tree->nodes_path, c->fields[1], &info);
    if (r == 0) r = commit_publish(c->tree->nodes_fd, c->fields[1], c->fields[1]); /* what the command has written into objects */
    if (r == 0) r = clone_prepare(c->tree->nodes_fd, c->fields[1]);
    if (r < 0) fail(c, r, "node %s: what it is to show cannot be read: %s", c->fields[3], log_reason(r));
    if (r == 0) r = add_clone(c, c->fields[1], info.image);
    free(info.image);
    return r;
}

static int run_follow(struct call *c)
{
    snapshots_follow(c->tree);
    return 0;
}

/* ---- requests ---- */

static const struct {
    const char *name;
    int (*run)(struct call *call);
} operations[] = {
    {"snapshot", run_snapshot}, {"reset", run_reset}, {"clone", run_clone},
    {"copy", run_copy},         {"switch", run_switch}, {"follow", run_follow},
    {"adopt", run_adopt},
};

static void split(struct call *c, char *request)
{
    for (int i = 0; i < MAX_FIELDS; i++) {
        char *field = request ? strsep(&request, "\t") : NULL;

        c->fields[i] = field ? field : (char *)"";
    }
}

char *nodeops_run(struct nodeops *ops, char *request)
{
    struct call c = {.ops = ops, .tree = ops->tree};
    char *reply;
    int r = -EINVAL;

    split(&c, request);
    for (size_t i = 0; i < sizeof(operations) / sizeof(*operations); i++)
        if (strcmp(operations[i].name, c.fields[0]) == 0) r = operations[i].run(&c);
    if (r < 0 && !c.reply) c.reply = io_format("%s: %s", c.fields[0], log_reason(r));
    reply = io_format("%s\t%s", r < 0 ? "error" : "ok", c.reply ? c.reply : "");
    free(c.reply);
    return reply;
}

void nodeops_follow(struct nodeops *ops)
{
    snapshots_follow(ops->tree);
}

/* Whoever uses a copy holds it locked, as soon as he has it: so not one that was touched since `before`. */
static void discard_copy(struct tree *t, const char *name, int64_t before)
{
    _cleanup_close_ int fd = io_open_beneath(t->nodes_fd, name, O_RDONLY | O_DIRECTORY, 0);
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0 || st.st_mtime > before / NANOSECONDS || flock(fd, LOCK_EX | LOCK_NB) < 0) return;
    switch_discard(t->nodes_fd, name, t->nodes_fd, "copy");
}

static void discard_copies(struct tree *t, int64_t before)
{
    int fd = io_open_beneath(t->nodes_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    for (struct dirent *e; directory && (e = readdir(directory));)
        if (is_copy(e->d_name)) discard_copy(t, e->d_name, before);
    if (directory) closedir(directory);
}

void nodeops_tidy(struct nodeops *ops)
{
    int64_t now = io_now();

    if (now - ops->tidied < TIDY_EVERY && now >= ops->tidied) return;
    ops->tidied = now;
    discard_copies(ops->tree, now - COPY_AGE);
}

/* What a killed process has begun, a clone or a switch; and what it had open. */
static void take_up(struct nodeops *ops, const char *serial)
{
    struct switch_place place = {ops->tree->nodes_fd, ops->tree->nodes_path, serial};
    struct tree_node *node;

    tree_settle_clone(ops->tree, serial);
    node = switch_is_left(&place) > 0 ? tree_hold_serial(ops->tree, serial) : NULL;
    if (node) {
        tree_take_up(node, ops->changes); /* whoever failed there has said so */
        tree_release(node);
    }
    tree_recover(ops->tree, serial);
}

void nodeops_start(struct nodeops *ops)
{
    int fd = io_open_beneath(ops->tree->nodes_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    discard_copies(ops->tree, io_now());
    for (struct dirent *e; directory && (e = readdir(directory));)
        if (e->d_name[0] != '.') take_up(ops, e->d_name);
    if (directory) closedir(directory);
    snapshots_adopt_all(ops->tree);
    snapshots_follow(ops->tree);
}

void nodeops_sweep(struct nodeops *ops)
{
    int r;

    tree_tell_rest(ops->tree, ops->changes);
    r = switch_sweep(ops->tree->nodes_fd);
    if (r < 0) log_warning("%s: what is out of use could not be removed: %s", ops->tree->nodes_path, log_reason(r));
}
