/* watch: a thread that follows the catalog: the kernel keeps names and attributes that rows decide, so it is told as soon as
 * somebody, of this program or not, has written one (inotify(7) on the store; a look four times a second besides, for
 * changes that it does not tell of). */
#pragma once

#include "tree.h"

struct watch;

/* `tree` is borrowed, `store_path` only used here. `changes` are called by the thread, which holds no lock then. */
int watch_start(struct watch **ret_watch, struct tree *tree, const char *store_path, const struct tree_changes *changes);
/* Waits for its end. NULL is allowed. */
void watch_stop(struct watch *watch);
