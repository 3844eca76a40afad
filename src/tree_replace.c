#include "tree_replace.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "catalog_snapshot.h"
#include "clone.h"
#include "io.h"
#include "log.h"
#include "outdated.h"
#include "recovery.h"
#include "store.h"
#include "snapshot.h"
#include "switch.h"
#include "template.h"
#include "tree_rows.h"

#define DRAIN_TRIES 200
#define DRAIN_STEPS 50 /* milliseconds */
#define TELL_AT_ONCE 10 /* milliseconds: few inodes are told before whoever has asked goes on */

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

/* Names that cannot be written down are only missed when this daemon is killed before it has told them. */
static void save_names(const struct outdated *names, const struct tree_node *node)
{
    _cleanup_free_ char *new = io_format("%s/" SWITCH_NEW, node->serial);
    int r = new ? outdated_save(names, node->tree->nodes_fd, new) : -ENOMEM;

    if (r < 0) log_warning("node %s: the names in its root could not be written down: %s", node->serial, log_reason(r));
}

static int replace_idle(struct tree_node *node, struct view *view, const struct tree_replacement *how, struct outdated *names)
{
    struct tree *t = node->tree;
    struct switch_place place = {t->nodes_fd, t->nodes_path, node->serial};
    int r = view ? outdated_note(names, view) : 0;

    if (r == 0 && view) r = view_sync(view);
    if (r == 0 && how->check) r = how->check(view, how->data);
    if (r < 0) {
        take(node, view);
        return r;
    }
    if (view && atomic_load(&view->delta)) commit_leave_wal(delta_commit(view->delta));
    view_close(view);
    save_names(names, node);
    atomic_fetch_add(&node->replaced, 1);
    r = switch_begin(&place);
    if (r == 0) r = tree_open_view(node);
    if (r == 0) r = outdated_note(names, atomic_load(&node->view));
    return r;
}

int tree_replace(struct tree_node *node, const struct tree_replacement *how, const struct tree_changes *changes)
{
    __attribute__((cleanup(outdated_clear))) struct outdated names = {0};
    struct view *view = NULL;
    int r = take_idle(node, &view);

    if (r < 0) return r;
    r = replace_idle(node, view, how, &names);
    pthread_mutex_unlock(&node->open_lock);
    if (changes) outdated_tell_names(&names, node, changes);
    if (changes) outdated_tell_inodes(node, changes, TELL_AT_ONCE);
    atomic_store(&node->untold, true);
    return r;
}

static int forget_names(struct tree_node *node, const struct tree_changes *changes)
{
    __attribute__((cleanup(outdated_clear))) struct outdated names = {0};
    _cleanup_free_ char *switched = io_format("%s/" SWITCH_DONE, node->serial);
    struct view *view;
    int r = switched ? outdated_load(&names, node->tree->nodes_fd, switched) : -ENOMEM;

    if (r == 0) r = tree_hold_view(node, &view);
    if (r < 0) return r;
    r = outdated_forget_names(&names, node, view, changes);
    tree_release_view(node);
    return r;
}

static int tell_rest(struct tree_node *node, const struct tree_changes *changes)
{
    struct switch_place place = {node->tree->nodes_fd, node->tree->nodes_path, node->serial};
    unsigned replaced = atomic_load(&node->replaced);
    int r = changes ? outdated_tell_inodes(node, changes, -1) : 0;

    if (r >= 0 && changes) r = forget_names(node, changes);
    if (r < 0) return r;
    pthread_mutex_lock(&node->open_lock); /* what a replacement since has left is not told yet */
    if (atomic_load(&node->replaced) == replaced) r = switch_forget(&place);
    pthread_mutex_unlock(&node->open_lock);
    return r;
}

void tree_tell_rest(struct tree *t, const struct tree_changes *changes)
{
    uint32_t count = tree_room(t);

    for (uint32_t i = 0; i < count; i++) {
        struct tree_node *node = tree_hold_number(t, i);
        int r = node && atomic_exchange(&node->untold, false) ? tell_rest(node, changes) : 0;

        if (r < 0) log_warning("node %s: the kernel could not be told of its old files: %s", node->serial, log_reason(r));
        if (node) tree_release(node);
    }
}

int tree_take_up(struct tree_node *node, const struct tree_changes *changes)
{
    __attribute__((cleanup(outdated_clear))) struct outdated names = {0};
    _cleanup_free_ char *switched = io_format("%s/" SWITCH_DONE, node->serial);
    struct view *view;
    int r = switched ? tree_hold_view(node, &view) : -ENOMEM; /* which carries on with one that was begun */

    if (r < 0) return r;
    r = outdated_load(&names, node->tree->nodes_fd, switched);
    if (r == 0) r = outdated_note(&names, view);
    tree_release_view(node);
    if (changes) outdated_tell_names(&names, node, changes);
    atomic_store(&node->untold, true);
    return r;
}

static int carry_on_switch(struct tree_node *node, const char *serial)
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

int tree_settle_clone(struct tree *t, const char *serial)
{
    struct clone_place place = {t->nodes_fd, t->store->catalog};
    int r;

    pthread_mutex_lock(&t->catalog_lock);
    r = clone_settle(&place, serial);
    pthread_mutex_unlock(&t->catalog_lock);
    if (r < 0) log_error("node %s: an unfinished clone could not be put away: %s", serial, log_reason(r));
    return r;
}

static bool is_known(struct tree *t, const char *serial)
{
    bool known = false;

    pthread_rwlock_rdlock(&t->lock);
    for (uint32_t i = 0; i < t->room && !known; i++) known = t->nodes[i] && strcmp(t->nodes[i]->serial, serial) == 0;
    pthread_rwlock_unlock(&t->lock);
    return known;
}

static int recover_files(struct tree *t, const char *serial)
{
    _cleanup_free_ char *path = io_format("%s/%s", t->nodes_path, serial);
    struct delta *d;
    int r = path ? delta_open(&d, t->nodes_fd, path, serial, &t->identity, NULL) : -ENOMEM;

    if (r < 0) return r;
    r = recovery_run(d);
    if (r == 0) recovery_sweep(d);
    delta_close(d);
    return r;
}

/* Nobody opens it meanwhile: that takes a look at the catalog first. */
static int recover_removed(struct tree *t, const char *serial)
{
    int r = 0;

    pthread_mutex_lock(&t->catalog_lock);
    if (!is_known(t, serial)) r = recover_files(t, serial);
    pthread_mutex_unlock(&t->catalog_lock);
    return r;
}

int tree_recover(struct tree *t, const char *serial)
{
    _cleanup_free_ char *wal = io_format("%s/delta.db-wal", serial);
    struct tree_node *node;
    struct stat st;
    int r;

    if (!wal) return -ENOMEM;
    if (fstatat(t->nodes_fd, wal, &st, AT_SYMLINK_NOFOLLOW) < 0 || st.st_size == 0) return 0;
    node = tree_hold_serial(t, serial);
    if (!node) {
        r = recover_removed(t, serial);
        if (r < 0) log_error("node %s, removed: its changes cannot be put in order: %s", serial, log_reason(r));
        return r;
    }
    struct view *view;
    r = tree_hold_view(node, &view); /* whoever failed there has said so */
    if (r == 0) tree_release_view(node);
    tree_release(node);
    return r;
}

int tree_carry_on(struct tree_node *node, const char *serial)
{
    int r = tree_settle_clone(node->tree, serial);

    return r < 0 ? r : carry_on_switch(node, serial);
}
