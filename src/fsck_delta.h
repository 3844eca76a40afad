/* fsck_delta: one delta with its objects, of a node or of a snapshot. */
#pragma once

#include "fsck_report.h"

struct image;

struct fsck_delta {
    const char *where;   /* for messages: "node a" */
    const char *dir;     /* path of what holds delta.db and objects/ */
    const char *serial;  /* of the node whose changes these are, for repairing; NULL: read only, whatever was asked for */
    const char *base;    /* the image the catalog says it stands on; NULL: not known */
    struct image *image; /* that image; NULL: cannot be read (reported) */
};

/* Checks, and repairs if that was asked for. A directory without delta.db has no changes. */
void fsck_delta(struct fsck *fsck, const struct fsck_delta *delta);
