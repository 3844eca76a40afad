/* rebase: what a node has changed, on another image than it was made on: a merge of three trees, by path.
 *
 * The base is the old image with the node's personal files as its templates write them; one side is the node, the other the new
 * image with the personal files of its templates. What the node has not changed is the new image's; what it has changed stays; what both have
 * changed is the node's, and the new image's version stands beside it as NAME.coppice-new. Times and inode numbers are no change. */
#pragma once

#include "view.h"

#define REBASE_SUFFIX ".coppice-new"

struct rebase_conflict {
    char *path;
    const char *what;  /* for people */
    bool is_packages;  /* the package manager's list of what is installed */
};

struct rebase_result {
    struct rebase_conflict *conflicts;
    size_t count;
    size_t kept; /* files, directories and removals of the node's */
};

/* `node`: the node's changes; `base`, `to`: new ones, on the old image and the new one, without changes yet. Logs its failures. Caller
 * frees the result. */
int rebase(const char *serial, struct view *node, struct view *base, struct view *to, struct rebase_result *ret_result);
void rebase_result_free(struct rebase_result *result);
