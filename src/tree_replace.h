/* tree_replace: a node of the mount gets other changes than it had, by a switch that was prepared (switch.h), while it is used. */
#pragma once

#include "tree.h"

struct tree_replacement {
    /* Called when no request is under way and all is on the disk; `view`: the old one, NULL: none was open. Less than 0 leaves
     * everything as it is. May be NULL. */
    int (*check)(struct view *view, void *data);
    void *data;
};

/* Requests wait meanwhile; what was given out of the old view is stale afterwards, but for the root, and the kernel is told so by
 * `changes` (NULL: nobody has mounted it). No lock may be held. -EBUSY: requests that do not end. */
int tree_replace(struct tree_node *node, const struct tree_replacement *how, const struct tree_changes *changes);

/* What there was no time for then: tells of the inodes of old views. May take long; one caller at a time. */
void tree_tell_rest(struct tree *tree, const struct tree_changes *changes);

/* A daemon before this one was killed over a replacement: carries on with it, and tells the kernel what that one may have not. */
int tree_take_up(struct tree_node *node, const struct tree_changes *changes);

/* A daemon before this one was killed while it had the node's changes open: puts them in order, which else waits for the next look into
 * the node. Also of a node that was removed since, which nobody may look into for long. */
int tree_recover(struct tree *tree, const char *serial);

/* Before nodes/SERIAL is used, see clone_settle(). */
int tree_settle_clone(struct tree *tree, const char *serial);

/* The same, and ends a switch that a process which was killed has begun; whoever opens the view calls it. open_lock held. */
int tree_carry_on(struct tree_node *node, const char *serial);
