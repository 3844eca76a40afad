/* fsck: checks a store, and repairs of a node's changes what can be kept.
 *
 * On a mounted store it only reads: each database in one read transaction of its own, and what rows say of objects is asked
 * again before it is called damage, as the daemon makes and removes objects meanwhile. Repairing holds the claim on the
 * store, so that no daemon runs. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* One line for the user. */
struct fsck_finding {
    const char *where; /* "node a", "image base", "catalog" */
    const char *path;  /* in the node or image, "?" when it has none; NULL: not about a file */
    uint64_t ino;      /* 0: not about an inode */
    const char *what;
    const char *done;  /* what was done about it; NULL: nothing was */
};

struct fsck_options {
    bool repair;
    bool contents;      /* also reads every file of the images */
    const char *serial; /* this node alone; NULL: everything */
    void (*print)(const struct fsck_finding *finding, void *data);
    void *data;
};

struct fsck_result {
    int64_t nodes, images; /* looked at */
    int64_t files;         /* of images, whose contents were compared */
    int64_t undigested;    /* of images, whose import has kept no digest */
    int64_t repaired, left;
};

/* 0: it ran, and the result says what it found. Negative errno: it could not (logged). */
int fsck_run(const char *store_path, const struct fsck_options *options, struct fsck_result *ret_result);
