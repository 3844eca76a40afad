/* fsck_model: the rows of one delta over their image, in memory, as of one moment: which inodes there are, and which names
 * they have in the view. Nothing in the rows is trusted. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "db.h"
#include "delta.h"
#include "identity.h"
#include "image.h"

struct fsck_item {
    struct delta_inode row; /* of an inode of the image without a row: as its row would be */
    int64_t content;        /* bytes in its row of table content; -1: it has none */
    size_t chunk, chunks;   /* its first one in model.chunks, and their number */
    bool stored;            /* it has a row */
    bool fresh;             /* in table fresh: recovery deals with its object */
    uint8_t walk;           /* see fsck_names.c */
    uint32_t names, subdirs; /* as counted by fsck_model_count() */
    uint64_t dir;            /* a directory that has a name for it; 0: none has */
    uint32_t dirent;         /* that name's place in model.dirents, plus 1; 0: it is the image's */
    uint8_t length;          /* of `name` */
    const char *name;        /* not terminated */
};

struct fsck_dirent {
    uint64_t parent, ino;
    uint32_t slot;
    uint8_t type;
    bool gone;     /* found to be wrong: as if it were not there */
    size_t length; /* of the name, which may be too long */
    size_t name;   /* its place in model.text */
};

struct fsck_chunk {
    uint64_t ino;
    int64_t start, end, source;
};

struct fsck_model {
    struct db *db;               /* borrowed */
    const struct identity *identity;
    struct image *image;         /* borrowed; NULL: cannot be read, and what stands on it is not checked */
    uint64_t image_base, next_ino, shift;
    uint32_t image_count;
    struct fsck_item *items;     /* by number: the image's inodes first */
    struct fsck_dirent *dirents; /* by parent and slot */
    struct fsck_chunk *chunks;   /* by inode and start */
    char *text;
    size_t item_count, item_room, dirent_count, dirent_room, chunk_count, chunk_room, text_size, text_room;
};

/* Reads it all; the caller has a transaction open. -EIO: SQLite could not read it (not logged). Free it in any case. */
int fsck_model_load(struct fsck_model *model, struct db *db, const struct identity *identity, struct image *image);
void fsck_model_free(struct fsck_model *model);

/* The inode of this number, or NULL; and one that is not over. */
struct fsck_item *fsck_model_find(const struct fsck_model *model, uint64_t ino);
struct fsck_item *fsck_model_live(const struct fsck_model *model, uint64_t ino);

/* The image's inode behind the number, or 0. */
uint32_t fsck_model_image_ino(const struct fsck_model *model, uint64_t ino);
uint64_t fsck_model_ino(const struct fsck_model *model, uint32_t image_ino);
/* Has the image this name in this directory of the view? */
bool fsck_model_in_image(const struct fsck_model *model, uint64_t dir, const char *name, size_t length);

/* A name as the view shows it. */
struct fsck_name {
    uint64_t dir, ino;
    const char *name;
    uint8_t length;
    uint32_t dirent; /* as in fsck_item */
};
/* Every name of the view, in directories that are not over; a return that is not 0 ends the walk and is returned. */
typedef int (*fsck_name_fn)(struct fsck_model *model, const struct fsck_name *name, void *data);
int fsck_model_names(struct fsck_model *model, fsck_name_fn fn, void *data);

/* Counts names and subdirectories, and notes for each inode one name: of a directory the one in its row's parent if there is one. */
void fsck_model_count(struct fsck_model *model);

/* Where it lies, from the names noted; "?" if that leads nowhere. Caller frees; NULL: no memory. */
char *fsck_model_path(const struct fsck_model *model, uint64_t ino);
char *fsck_model_path_in(const struct fsck_model *model, uint64_t dir, const char *name, size_t length);
