/* nodeops: what is done to a node as a whole: snapshot, reset, clone, copy, switch. By the daemon where one runs, as it has the views;
 * else by the command that was called, which claims the store meanwhile.
 *
 * A request is one line of fields with tabs between, as is the reply: "ok", or "error" and what to tell the user.
 *
 *   snapshot SERIAL NAME NOTE                 makes the snapshot
 *   reset SERIAL NAME force|- keep|-          NAME "": to the image; keep: what was goes to snapshot before-reset
 *   clone SERIAL NAME NEW MAC IP HOSTNAME     NAME "": as it is now; "" for what is not known of NEW
 *   copy SERIAL NAME DIR                      into the new directory nodes/DIR, .copy-…; the reply has the sequence number of that instant
 *   switch SERIAL DIR SEQUENCE force|- keep|- nodes/DIR instead of the node's changes, if there were none since SEQUENCE; keep: before-rebase
 *   adopt DIR - NEW MAC IP HOSTNAME           nodes/DIR, .copy-…, which nobody has open, becomes the new node's
 *   follow                                    what rows of snapshots ask for */
#pragma once

#include "tree.h"

struct nodeops {
    struct tree *tree;
    const struct tree_changes *changes; /* NULL: nobody has mounted it */
    int64_t tidied;                     /* when nodeops_tidy() looked: nanoseconds since 1970 */
};

#define NODEOPS_COPY ".copy-" /* directories in nodes/ that a command copies into, and holds locked (flock) while it needs them */

/* The reply; caller frees. NULL: no memory. One call at a time; `request` is taken apart. */
char *nodeops_run(struct nodeops *ops, char *request);

/* At the start: what killed processes have left. */
void nodeops_start(struct nodeops *ops);
/* Makes what new rows of snapshots ask for, removes what rows deleted; cheap when there is nothing to do. */
void nodeops_follow(struct nodeops *ops);
/* Puts away copies whose command was killed. Cheap, to be called now and then; not while nodeops_run() works. */
void nodeops_tidy(struct nodeops *ops);
/* Removes from the disk what is out of use; may take long. */
void nodeops_sweep(struct nodeops *ops);
