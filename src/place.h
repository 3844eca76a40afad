/* place: where in a node's root an inode is, for messages. Looks through all names of the delta: not for requests. */
#pragma once

#include <stdint.h>

struct delta;
struct view;

/* "/etc/hostname", as the node sees it; NULL: it has no name that can be found, or no memory. Says nothing of damage on the way.
 * Lock held; caller frees. */
char *place_of(struct view *view, struct delta *delta, uint64_t ino);
