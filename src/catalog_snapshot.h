/* catalog_snapshot: the rows of snapshots (schema/catalog_snapshot.sql). As catalog.h. */
#pragma once

#include "catalog.h"

struct catalog_snapshot {
    char *node;     /* serial */
    char *name;
    char *note;
    char *image;    /* NULL: not made yet */
    int64_t added;  /* seconds since 1970 */
    int64_t made;   /* seconds since 1970, the instant that it shows; 0: not made yet */
    bool automatic; /* taken before a reset or a rebase */
};

void catalog_snapshot_free(struct catalog_snapshot *snapshot);

/* In the order of the nodes, and of each from the oldest; of one node, or of all with NULL. A non-zero return ends the walk. */
typedef int (*catalog_snapshot_fn)(const struct catalog_snapshot *snapshot, void *data);
int catalog_snapshots(struct catalog *catalog, const char *node, catalog_snapshot_fn fn, void *data);

/* -ENOENT. Contents belong to the caller. */
int catalog_snapshot(struct catalog *catalog, const char *node, const char *name, struct catalog_snapshot *ret_snapshot);

/* A row: with `made` of a snapshot that is there, without it the wish for one. -EEXIST, -EINVAL: see catalog_message(). */
int catalog_add_snapshot(struct catalog *catalog, const struct catalog_snapshot *snapshot);

/* What catalog_add_snapshot() would say; adds nothing. */
int catalog_check_snapshot(struct catalog *catalog, const struct catalog_snapshot *snapshot);

/* The wish is fulfilled; -ENOENT: nobody wants it any more. */
int catalog_made_snapshot(struct catalog *catalog, const char *node, const char *name, const char *image, int64_t made);

/* Its files are to be removed; see catalog_snapshot_removals(). -ENOENT. */
int catalog_remove_snapshot(struct catalog *catalog, const char *node, const char *name);

/* Its files were renamed. */
int catalog_rename_snapshot(struct catalog *catalog, const char *node, const char *from, const char *to);

/* A node that has stood on another image until now stands on this one; its row, if that names one, names it too. */
int catalog_rebase_node(struct catalog *catalog, int64_t number, const char *image);

/* catalog_add_node() for a node that stands on `image` from the start: its row appears when `fn` has put its changes into their
 * place, and not when that fails. -ENOTEMPTY: there was a node of that serial before, whose files were given out on some image. */
int catalog_add_clone(struct catalog *catalog, const struct catalog_node *node, const char *image, int (*fn)(void *data), void *data);

/* Of which deleted rows the files are still to be removed; and the end of that. */
int catalog_snapshot_removals(struct catalog *catalog, const char *node, catalog_snapshot_fn fn, void *data);
int catalog_snapshot_removed(struct catalog *catalog, const char *node, const char *name);
