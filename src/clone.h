/* clone: a node that begins with another one's changes. nodes/NEW gets its name before the catalog's row is committed; a mark in it
 * says so until then. A process that is killed between the two has added nothing: its directory must not become the changes of
 * whatever node gets that serial later. */
#pragma once

#include "catalog.h"

struct clone_place {
    int nodes_fd;
    struct catalog *catalog; /* its lock is held */
};

/* nodes/NAME is filled: marks it and brings it to the disk. May take long; needs no lock. */
int clone_prepare(int nodes_fd, const char *name);

/* nodes/NAME becomes the changes of the new node `row`, which stands on `image`. -EEXIST, -EINVAL:
 * see catalog_message(); -ENOTEMPTY: see catalog_add_clone(). */
int clone_add(const struct clone_place *place, const char *name, const struct catalog_node *row, const char *image);

/* Before nodes/SERIAL is used: removes the mark where the row was committed, else the directory. */
int clone_settle(const struct clone_place *place, const char *serial);
