#include "tree_replace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "catalog_snapshot.h"
#include "dirent.h"
#include "io.h"
#include "log.h"
#include "references.h"
#include "store.h"
#include "snapshot.h"
#include "switch.h"
#include "template.h"
#include "tree_rows.h"

#define DRAIN_TRIES 200
#define DRAIN_STEPS 50 /* milliseconds */

/* What the kernel knows of the old view, told when the new one is there: it may call back. */
struct known {
    uint64_t *nodeids;
    size_t count;
    char (*names)[256]; /* in the root, of the old view and of the new one */
    size_t name_count;
};

static void known_clear(struct known *k)
{
    free(k->nodeids);
    free(k->names);
}

static int note_inodes(struct known *k, const struct tree *t, struct view *v)
{
    int r = references_list(t->shared.handover, v->number, &k->nodeids, &k->count);

    for (size_t i = 0; r == 0 && i < k->count; i++)
        k->nodeids[i] = identity_nodeid(&t->identity, (struct identity_file){.node = v->number, .ino = k->nodeids[i]});
    return r;
}

static int note_name(struct known *k, const char *name)
{
    if (k->name_count % 64 == 0) {
        char(*names)[256] = reallocarray(k->names, k->name_count + 64, sizeof(*names));

        if (!names) return -ENOMEM;
        k->names = names;
    }
    snprintf(k->names[k->name_count++], sizeof(*k->names), "%s", name);
    return 0;
}

static int note_names(struct known *k, struct view *v)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    struct delta *d = view_lock(v);
    int r;

    while ((r = dirent_next(v, d, DELTA_ROOT, e.cookie, &e)) > 0) {
        r = note_name(k, e.name);
        if (r < 0) break;
    }
    view_unlock(d);
    return r;
}

static int note(struct known *k, const struct tree *t, struct view *v)
{
    int r = note_inodes(k, t, v);

    return r < 0 ? r : note_names(k, v);
}

/* Names first: with them the new view shows. Then whatever is held by number, so that it is asked for and found stale. */
static void tell(const struct known *k, const struct tree *t, const struct tree_node *node, const struct tree_changes *changes)
{
    uint64_t root = identity_nodeid(&t->identity, (struct identity_file){.node = node->number, .ino = DELTA_ROOT});

    if (!changes) return;
    for (size_t i = 0; i < k->name_count; i++) changes->name(changes->data, root, k->names[i], root);
    changes->list(changes->data, root);
    for (size_t i = 0; i < k->count; i++) changes->list(changes->data, k->nodeids[i]);
}

static void sleep_ms(void)
{
    nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
}

static struct view *take(struct tree_node *node, struct view *put)
{
    struct view *view;

    pthread_rwlock_wrlock(&node->tree->lock);
    view = atomic_exchange(&node->view, put);
    pthread_rwlock_unlock(&node->tree->lock);
    return view;
}

/* Requests that come now wait for open_lock, which is held when it succeeds. One that holds the view already may want it a second
 * time: so it is given back now and then. */
static int take_idle(struct tree_node *node, struct view **ret_view)
{
    for (int i = 0; i < DRAIN_TRIES; i++) {
        struct view *view;

        pthread_mutex_lock(&node->open_lock);
        view = take(node, NULL);
        for (int step = 0; step < DRAIN_STEPS && atomic_load(&node->view_users) > 0; step++) sleep_ms();
        *ret_view = view;
        if (atomic_load(&node->view_users) == 0) return 0;
        take(node, view);
        pthread_mutex_unlock(&node->open_lock);
        sleep_ms();
    }
    return -EBUSY;
}

static int replace_idle(struct tree_node *node, struct view *view, const struct tree_replacement *how, struct known *known)
{
    struct tree *t = node->tree;
    struct switch_place place = {t->nodes_fd, t->nodes_path, node->serial};
    int r = view ? note(known, t, view) : 0;

    if (r == 0 && view) r = view_sync(view);
    if (r == 0 && how->check) r = how->check(view, how->data);
    if (r < 0) {
        take(node, view);
        return r;
    }
    view_close(view);
    r = switch_begin(&place);
    if (r == 0) r = tree_open_view(node);
    if (r == 0) r = note_names(known, atomic_load(&node->view));
    return r;
}

int tree_replace(struct tree_node *node, const struct tree_replacement *how, const struct tree_changes *changes)
{
    __attribute__((cleanup(known_clear))) struct known known = {0};
    struct view *view = NULL;
    int r = take_idle(node, &view);

    if (r < 0) return r;
    r = replace_idle(node, view, how, &known);
    pthread_mutex_unlock(&node->open_lock);
    tell(&known, node->tree, node, changes);
    return r;
}

int tree_carry_on(struct tree_node *node, const char *serial)
{
    struct tree *t = node->tree;
    struct switch_place place = {t->nodes_fd, t->nodes_path, serial};
    struct snapshot_info info = {0};
    _cleanup_free_ char *image = NULL;
    int r = switch_carry_on(&place, &info);

    image = info.image;
    if (r <= 0) return r;
    pthread_mutex_lock(&t->catalog_lock);
    r = catalog_rebase_node(t->store->catalog, node->number, image);
    if (r == 0 && info.blank) r = template_forget_node(t->store, node->number);
    pthread_mutex_unlock(&t->catalog_lock);
    if (r < 0) {
        log_error("node %s: the catalog could not be told that it stands on image %s: %s", serial, image, log_reason(r));
        return r;
    }
    pthread_rwlock_wrlock(&t->lock);
    free(node->image);
    node->image = io_take(image);
    pthread_rwlock_unlock(&t->lock);
    return switch_end(&place);
}
