/* tree: the whole mount: what stands above the nodes' roots, and the way from a nodeid to what it means.
 *
 *   /                        read-only, as is everything but the inside of rootfs
 *   /system/<serial>/rootfs  a node's view
 *   /system/<serial>/boot    a symlink to where the image keeps its boot files
 *   /tftpboot/<mac-dashes>   a symlink to ../system/<serial>/boot/
 *   /tftpboot/<8 digits>     the same, by the end of a hexadecimal serial: what a Raspberry Pi 4 or 5 asks for
 *
 * Nodes follow the catalog: it is looked at with every look-up up here, and by tree_follow(). */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/stat.h>

#include "view.h"

struct handover;
struct store;
struct tree;
struct tree_node;

enum tree_kind { TREE_ROOT, TREE_SYSTEM, TREE_TFTPBOOT, TREE_NODE, TREE_BOOT_LINK, TREE_TFTP_LINK, TREE_SERIAL_LINK, TREE_VIEW };

/* What a nodeid means, held until tree_put(). */
struct tree_file {
    enum tree_kind kind;
    struct tree_node *node; /* from TREE_NODE on */
    struct view *view;      /* TREE_VIEW alone */
    uint64_t ino;           /* in the view */
};

/* `sync`: see view_shared. The store and the handover are borrowed. */
int tree_open(struct tree **ret_tree, struct store *store, struct handover *handover, bool sync);
/* Makes everything durable. No request may be running. */
void tree_close(struct tree *tree);

/* -ESTALE: means nothing (any more); -ETIMEDOUT: not now. */
int tree_get(struct tree *tree, uint64_t nodeid, struct tree_file *ret_file);
void tree_put(struct tree_file *file);
static inline void tree_put_cleanup(struct tree_file *file) { tree_put(file); }
#define _cleanup_file_ __attribute__((cleanup(tree_put_cleanup)))

/* What goes over the wire for it. */
uint64_t tree_nodeid(const struct tree *tree, const struct tree_file *file);
uint32_t tree_generation(const struct tree *tree, const struct tree_file *file);
int tree_stat(struct tree *tree, const struct tree_file *file, struct stat *ret_stat);

/* May the kernel keep its name and attributes for ever? What the catalog decides, only where tree_follow() tells of its end: so a
 * path into a node's root needs no request once it was walked. */
bool tree_lasts(const struct tree_file *file);

/* Counting of the kernel's references; does nothing above the views. */
int tree_refer(const struct tree_file *file);
void tree_forget(struct tree *tree, uint64_t nodeid, uint64_t count);

/* Above the views (and at their roots, for ".."): the name in the directory. */
int tree_lookup(struct tree *tree, const struct tree_file *dir, const char *name, struct tree_file *ret_file);

/* Each export is one node's root, not system/ (export.h): a client of nfsd has no business above the roots. True also when
 * the catalog cannot tell. */
bool tree_is_confined(struct tree *tree);

/* The target of one of the symlinks up here. */
int tree_readlink(struct tree *tree, const struct tree_file *file, char *buffer, size_t size);

/* The entry after `cookie` in a directory up here: 1, or 0 at the end. Cookies as in dirent.h. */
struct tree_entry {
    struct tree_file file; /* the caller puts it */
    uint32_t cookie;
    char name[256];
};
int tree_next(struct tree *tree, const struct tree_file *dir, uint32_t cookie, struct tree_entry *ret_entry);

/* Follows the catalog: tells of what the kernel should forget (a directory's list; a name in it, with what it meant), and ends views
 * of nodes that are gone. Called by one thread, which holds no lock. */
struct tree_changes {
    void (*list)(void *data, uint64_t dir_nodeid);
    void (*name)(void *data, uint64_t dir_nodeid, const char *name, uint64_t root_nodeid);
    void (*expire)(void *data, uint64_t dir_nodeid, const char *name); /* asks anew for it at the next use, however much lies below it */
    void *data;
};
void tree_follow(struct tree *tree, const struct tree_changes *changes);

/* Of the catalog, as the tree has followed it: changes with it, never 0. */
int64_t tree_version(struct tree *tree);

/* Looks after the node of this number, if there is one and nobody else is at it: commits what is older than `commit_age` seconds,
 * checkpoints, ends the view of a node that is gone. Called a few times a second for all numbers below tree_room(). */
void tree_tidy(struct tree *tree, uint32_t number, int64_t commit_age);
uint32_t tree_room(struct tree *tree);
