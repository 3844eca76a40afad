/* promote: what a node shows becomes the tree of a new image. What the node has not touched is shared with its image: by reflink
 * where the file system has it, else by a hard link, as neither tree is ever written. */
#pragma once

#include "import.h"
#include "view.h"

/* What is not taken from the node: what makes it itself, and its personal files. The image has those of its parent instead, or none. */
struct promote_kept {
    char **paths;
    size_t count;
};

/* `view` shows the node's changes, `parent` its image without them; `source` says for the catalog what that is. Logs its
 * failures. Caller frees the list. */
int promote(struct store *store, const char *name, struct view *view, struct view *parent, const char *serial, const char *source,
            struct promote_kept *ret_kept);
void promote_kept_free(struct promote_kept *kept);
