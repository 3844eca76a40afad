/* fsck_check: one delta under examination: the findings about it, and the changes that repair them.
 *
 * A stage goes over the model; where a repair was made the model is read again before the next stage. All of it is in one
 * read transaction, or with repairs one operation of the delta's own commit module. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fsck_model.h"
#include "fsck_report.h"

struct commit;

struct fsck_check {
    struct fsck *fsck;
    const char *where; /* for messages */
    const char *image; /* the name of the image beneath */
    int objects_fd;    /* of what the rows speak of */
    struct fsck_model model;
    struct commit *commit; /* NULL: nothing is repaired */
    bool again;            /* the look afterwards: what can be repaired should not be there any more */
    bool salvaged;         /* rows may have been lost: an object without one is somebody's contents */
    int64_t fixes;         /* made in this stage */
    int error;             /* of the first repair that failed */
};

/* Reports; true: repair it now. `done`: what the repair does, as a past participle; NULL: there is none. */
bool fsck_found(struct fsck_check *check, uint64_t ino, const char *done, const char *format, ...)
    __attribute__((format(printf, 4, 5)));
/* The same about a name in a directory. */
bool fsck_found_name(struct fsck_check *check, const struct fsck_name *name, const char *done, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* Runs a statement with its integers by name: (check, sql, ":ino", ino, NULL). A failure ends up in check->error. */
void fsck_exec(struct fsck_check *check, const char *sql, ...) __attribute__((sentinel));

/* Gives the name a row, in place of one that it has. ino 0: a whiteout. */
void fsck_put_name(struct fsck_check *check, uint64_t dir, const char *name, size_t length, uint64_t ino, uint8_t type);

/* Gives an inode of the image the row that a copy-up would give it, if it has none. */
void fsck_materialize(struct fsck_check *check, struct fsck_item *item);

/* A number never used before; 0 when there are none, or a failure before. */
uint64_t fsck_new_ino(struct fsck_check *check);

/* Puts the inode into lost+found of the root, which is made when it is not there. `type`: DT_*. */
void fsck_keep(struct fsck_check *check, uint64_t ino, uint8_t type, const char *prefix);
