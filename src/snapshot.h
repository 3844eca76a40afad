/* snapshot: a node's changes as they were at one instant: delta.db and objects/ in a directory of their own, which nobody
 * writes any more. Contents are shared with the node by hard links; whoever writes them later makes new objects.
 *
 * A snapshot is filled under a name that begins with a dot, and then published, so that one that is there is whole. */
#pragma once

#include <stdint.h>

#include "view.h"

/* Fills the new directory parent_fd/NAME, whose parent's path is parent_path, with what the view shows now. The node stops
 * for the moment in which that is decided, not while it is copied. *ret_sequence: see commit_newest(); may be NULL. */
int snapshot_take(struct view *view, int parent_fd, const char *parent_path, const char *name, uint64_t *ret_sequence);

/* The same from another snapshot, from_fd/FROM. */
int snapshot_copy(int from_fd, const char *from, int parent_fd, const char *parent_path, const char *name);

/* parent_fd/TEMPORARY, filled, gets its name, durably. */
int snapshot_publish(int parent_fd, const char *temporary, const char *name);

/* Makes a snapshot out of a node's delta.db and objects/ that have just gone out of use. */
int snapshot_seal(const char *parent_path, const char *name);

/* Makes a filled directory a node's own again, before it is opened: nodeids get higher numbers by `shift` than they ever had, and
 * its objects are not written. */
int snapshot_unseal(const char *parent_path, const char *name, uint64_t shift);

/* It gives out no number below `next`. */
int snapshot_reserve(const char *parent_path, const char *name, uint64_t next);

/* An empty delta instead, for a node that stands on `base`. */
int snapshot_blank(int parent_fd, const char *parent_path, const char *name, const struct delta_base *base, uint64_t shift);

/* What it stands on and what it was given out; caller frees base.image. -ENOENT; -EIO: damaged. */
struct snapshot_info {
    char *image;
    uint32_t image_count;
    uint64_t shift, reserved; /* no number above their sum has left the daemon */
    bool blank;               /* it does not differ from the image */
};
int snapshot_look(int parent_fd, const char *parent_path, const char *name, struct snapshot_info *ret_info);
