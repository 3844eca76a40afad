/* snapshots: the snapshots of one node, as rows of the catalog and as directories nodes/SERIAL/snapshots/NAME, and how the two are
 * kept together. */
#pragma once

#include <stddef.h>

#include "catalog_snapshot.h"
#include "tree.h"

/* The setting that says how many snapshots taken before a reset or rebase are kept. */
#define SNAPSHOTS_KEEP_SETTING "keep_automatic"
#define SNAPSHOTS_KEEP_DEFAULT 3

/* Makes the snapshot, whose row appears afterwards: so that a kill leaves it of this instant or not at all. wanted->image and ->made are not
 * looked at. -EEXIST. */
int snapshots_create(struct tree *tree, const struct catalog_snapshot *wanted);

/* Makes the snapshot that a row asks for. -ENOENT: no such node, no such row. */
int snapshots_make(struct tree *tree, const char *serial, const char *name);

/* Removes directories whose row was deleted, makes what rows ask for and is not there. Logs its failures. */
void snapshots_follow(struct tree *tree);
/* What is there without a row gets one. */
int snapshots_adopt(struct tree *tree, const char *serial);
/* For all nodes, at the start: also removes what killed processes have begun. */
void snapshots_adopt_all(struct tree *tree);

/* The name is free for a new automatic snapshot: an older one gets its date to its name. */
int snapshots_rotate(struct tree *tree, const char *serial, const char *name);
/* How many automatic ones of each node are kept; 0: none are taken. */
size_t snapshots_kept(struct tree *tree);
/* Deletes rows of automatic ones but for the newest, as many as the setting says. */
void snapshots_prune_automatic(struct tree *tree, const char *serial);

/* Is there a snapshot of that name, made? -ENOENT: there is not. */
int snapshots_check(struct tree *tree, const char *serial, const char *name);
