/* damage: what of a node's root is missing or cannot be read: told once for each file, by its path, since a caller
 * who gets -EIO tries again.
 *
 * `delta`: as view_lock() returned it, if the caller holds that lock; NULL: it does not. */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "inomap.h"

struct delta;
struct view;

/* Part of struct view. */
struct damage {
    pthread_mutex_t lock; /* guards told; a leaf */
    struct inomap told;
};

void damage_init(struct damage *damage);
void damage_clear(struct damage *damage);

/* "WHAT: reason" of the inode, without a reason when `error` is 0: -EIO. An error of the moment (no memory, no descriptors, no
 * room, busy) is returned as it is and not told. */
int damage_found(struct view *view, struct delta *delta, uint64_t ino, int error, const char *what, ...)
    __attribute__((format(printf, 5, 6)));

/* A change of the node's rows failed with `error`: told if that is damage, and nothing else was told of the node. Lock held. */
void damage_of_change(struct view *view, struct delta *delta, int error);
