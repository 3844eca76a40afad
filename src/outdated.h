/* outdated: what the kernel holds of a view that was replaced, and how it is told to let go: it would go on answering from its caches.
 *
 * The names in the root come first: with them the new view shows. They are also written into nodes/SERIAL/switched/, so that the next
 * daemon can tell them when this one is killed before it has. The inodes below may be many; until they are told, whoever holds one
 * open may read what the kernel has cached of it, but whatever reaches the daemon is answered with ESTALE. */
#pragma once

#include "tree.h"

struct outdated {
    char (*names)[256];
    size_t count;
};
void outdated_clear(struct outdated *names);

/* The names in the view's root, in addition. */
int outdated_note(struct outdated *names, struct view *view);
/* To the file nodes/DIRECTORY/names; no disk is waited for, as no kernel outlives its machine. */
int outdated_save(const struct outdated *names, int nodes_fd, const char *directory);
/* From it, in addition; a file that is not there is none. */
int outdated_load(struct outdated *names, int nodes_fd, const char *directory);

/* To the kernel, which asks anew for each when it is used next. The caller holds no lock. */
void outdated_tell_names(const struct outdated *names, const struct tree_node *node, const struct tree_changes *changes);
/* What lies below names that the view has no more is let go of. One that is there again may be in use by now. */
int outdated_forget_names(const struct outdated *names, const struct tree_node *node, struct view *view, const struct tree_changes *changes);
/* Of every inode that the kernel has looked up, for so many milliseconds (-1: to the end): 1 when that was all, 0 when some are left. */
int outdated_tell_inodes(const struct tree_node *node, const struct tree_changes *changes, int milliseconds);
