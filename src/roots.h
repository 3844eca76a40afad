/* roots: nodes' roots as a command opens them by itself, beside the daemon: snapshots, images without any change, and copies:
 * directories nodes/.copy-… (see nodeops.h), filled by the daemon or made here, which the command holds locked. What it leaves
 * when it is killed, the next daemon or command removes. */
#pragma once

#include "view.h"

struct roots;
struct store;

/* Logs its failures. The store is borrowed. */
int roots_open(struct roots **ret_roots, struct store *store);
void roots_close(struct roots *roots); /* after all views */
static inline void roots_close_cleanup(struct roots **roots) { roots_close(*roots); }
#define _cleanup_roots_ __attribute__((cleanup(roots_close_cleanup)))

/* nodes/DIRECTORY, a snapshot, for reading. -ENOENT. Caller closes by view_close(). */
int roots_view(struct roots *roots, const char *directory, struct view **ret_view);
/* The image below a view, as it is for a node that has changed nothing. Caller closes by view_close(). */
int roots_image_view(struct roots *roots, struct view *view, struct view **ret_view);

/* A copy of this command's own. Starts as ROOTS_COPY_NONE, and may be cleared at any time. */
struct roots_copy {
    struct roots *roots;
    char name[64];     /* below nodes/ */
    int hold;          /* its lock */
    struct view *view; /* of it, once it is taken or made */
};
#define ROOTS_COPY_NONE {.hold = -1}

/* A name that nobody has; nothing is made yet. */
int roots_copy_name(struct roots_copy *copy, struct roots *roots);
/* What operation `copy` has put there, for reading. */
int roots_copy_take(struct roots_copy *copy);
/* A new root without changes, for writing. Its numbers begin above those of `other` (NULL: anywhere), whose objects may be linked
 * into it. Durable when it was finished, or closed and adopted. -ENOENT: no such image. */
int roots_copy_make(struct roots_copy *copy, const char *image, const struct roots_copy *other);
/* Its changes are in delta.db alone, which is closed: a node can be switched to them. */
int roots_copy_finish(struct roots_copy *copy);
/* Removes it, unless it has been taken away. */
void roots_copy_clear(struct roots_copy *copy);
#define _cleanup_roots_copy_ __attribute__((cleanup(roots_copy_clear)))
