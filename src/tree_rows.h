/* tree_rows: the tree's own structures, for the files that make it up, and nobody else; and its table of nodes, which follows the
 * catalog's rows. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>

#include "bootname.h"
#include "identity.h"
#include "imageset.h"
#include "room.h"
#include "tree.h"

#define TREE_MAX_NODES (1u << IDENTITY_NODE_BITS)

struct tree_node {
    struct tree *tree;
    uint32_t number;
    _Atomic unsigned users; /* requests that hold it */
    _Atomic unsigned view_users; /* that hold its view; raised with tree.lock held, so that whoever takes the view away can wait */
    _Atomic int64_t used;        /* when the last one came: seconds, CLOCK_MONOTONIC */

    char *serial; /* as long as the node is known */
    /* Guarded by tree.lock; changed with it held for writing. */
    char *mac_name, *image, *boot; /* mac_name: with dashes; NULL: none. image, boot: NULL without an image */
    char tail[BOOTNAME_TAIL];               /* the name of its second link in tftpboot; "": none */
    bool gone;                              /* its row was deleted */
    bool seen;                              /* by the refresh under way */

    _Atomic bool link_changed; /* where `boot` leads: the kernel keeps targets */
    _Atomic bool tidied;       /* somebody is at it */
    _Atomic bool untold;       /* its view was replaced, and the kernel does not know of all of it: see outdated.h */
    _Atomic unsigned replaced; /* how often its view was; changed with open_lock held */
    bool told;                 /* the kernel, that the node is gone; the following thread's own */
    _Atomic int unwritten;     /* personal files that could not be written */
    int64_t tried;             /* the catalog's version when they were tried; the following thread's own */

    pthread_mutex_t open_lock; /* held while the view is opened or closed */
    _Atomic(struct view *) view;
};

struct tree {
    struct store *store;
    struct identity identity;
    struct view_shared shared;
    char *images_path, *nodes_path;
    int images_fd, nodes_fd;
    struct room disk;

    pthread_mutex_t catalog_lock; /* guards the catalog and the versions; taken before `lock` */
    int64_t version, told_version;
    bool followed;      /* tree_follow() was called before; the following thread's own */
    atomic_bool listed; /* somebody has listed what the catalog decides, and the kernel has kept it */

    struct imageset images;

    pthread_rwlock_t lock; /* guards the table and what node fields say */
    struct tree_node **nodes; /* by number; NULL: no such node */
    uint32_t room;            /* of nodes */
    int64_t changed;          /* nanoseconds since 1970: when the catalog was last seen to change */
};

/* Looks at the catalog. 1: it has changed, and the table with it; 0: it has not. Logs its failures. Takes both locks. */
int tree_refresh(struct tree *tree);
/* The table, when no view is open any more. */
void tree_rows_free(struct tree *tree);

/* The node of that serial, held by `users`; NULL. */
struct tree_node *tree_hold_serial(struct tree *tree, const char *serial);
/* NULL: there is no such node (any more). */
struct tree_node *tree_hold_number(struct tree *tree, uint32_t number);
static inline void tree_release(struct tree_node *node) { atomic_fetch_sub(&node->users, 1); }

/* Its view, opened if need be and held by view_users. */
int tree_hold_view(struct tree_node *node, struct view **ret_view);
static inline void tree_release_view(struct tree_node *node) { atomic_fetch_sub(&node->view_users, 1); }

/* Opens the view. open_lock held, and there is none. */
int tree_open_view(struct tree_node *node);
