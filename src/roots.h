/* roots: nodes' roots as a command opens them by itself, beside the daemon: snapshots, copies made for it (nodeops.h), images
 * without any change; and new ones that no node has yet. */
#pragma once

#include "view.h"

struct roots;
struct store;

/* The store is borrowed. */
int roots_open(struct roots **ret_roots, struct store *store);
void roots_close(struct roots *roots); /* after all views */
static inline void roots_close_cleanup(struct roots **roots) { roots_close(*roots); }
#define _cleanup_roots_ __attribute__((cleanup(roots_close_cleanup)))

/* The name for a copy that this process may make; caller frees. NULL: no memory. */
char *roots_copy_name(void);
/* The copy stays while the descriptor is open (flock), which the caller closes before roots_discard(). */
int roots_hold(struct roots *roots, const char *copy);
void roots_discard(struct roots *roots, const char *copy);

/* nodes/DIRECTORY, a snapshot or a copy, for reading. -ENOENT. Caller closes by view_close(). */
int roots_view(struct roots *roots, const char *directory, struct view **ret_view);
/* The image below a view, as it is for a node that has changed nothing. */
int roots_image_view(struct roots *roots, struct view *view, struct view **ret_view);
/* A new root in nodes/COPY, for writing. Durable when it was closed and published: see nodeops "adopt". -ENOENT: no such image. */
int roots_create(struct roots *roots, const char *copy, const char *image, struct view **ret_view);
