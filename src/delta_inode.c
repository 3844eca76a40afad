/* The rows of table inode. Those used last are kept as they stand in the open transaction: what is undone is forgotten. */
#include <stdlib.h>

#include "delta_rows.h"

#define KEPT 64 /* rows, each in the place that its number has */

static struct delta_inode *place_of(struct delta *d, uint64_t ino)
{
    return &d->kept[ino % KEPT];
}

static struct delta_inode *find(struct delta *d, uint64_t ino)
{
    return d->kept && ino && place_of(d, ino)->ino == ino ? place_of(d, ino) : NULL; /* 0: an empty place */
}

/* Without memory nothing is kept. */
static void keep(struct delta *d, const struct delta_inode *inode)
{
    if (!d->kept) d->kept = calloc(KEPT, sizeof(*d->kept));
    if (d->kept) *place_of(d, inode->ino) = *inode;
}

void delta_inode_forget(struct delta *d, uint64_t ino)
{
    struct delta_inode *kept = find(d, ino);

    if (kept) kept->ino = 0;
}

void delta_inode_forget_all(struct delta *d)
{
    free(d->kept);
    d->kept = NULL;
}

static int read_row(struct delta *d, uint64_t ino, struct delta_inode *i)
{
    db_stmt *s;
    int r = delta_use_for(d, GET_INODE, &s, ino);

    if (r == 0) r = db_step(s);
    if (r <= 0) return r;
    *i = (struct delta_inode){
        .ino = ino,
        .image_ino = db_int(s, 0),
        .mode = db_int(s, 1),
        .uid = db_int(s, 2),
        .gid = db_int(s, 3),
        .rdev = db_int(s, 4),
        .nlink = db_int(s, 5),
        .size = db_int(s, 6),
        .atime = db_int(s, 7),
        .mtime = db_int(s, 8),
        .ctime = db_int(s, 9),
        .parent = db_int(s, 10),
        .object = db_is_null(s, 11) ? DELTA_NO_OBJECT : db_int(s, 11),
        .chunked = db_int(s, 12),
        .grown = db_int(s, 13),
    };
    db_reset(s);
    return 1;
}

int delta_get_inode(struct delta *d, uint64_t ino, struct delta_inode *ret_inode)
{
    const struct delta_inode *kept = find(d, ino);
    int r;

    if (kept) {
        *ret_inode = *kept;
        return 1;
    }
    r = read_row(d, ino, ret_inode);
    if (r > 0) keep(d, ret_inode);
    return r;
}

static void bind_contents(db_stmt *s, const struct delta_inode *i)
{
    db_bind_int(s, ":size", i->size);
    db_bind_int(s, ":mtime", i->mtime);
    db_bind_int(s, ":ctime", i->ctime);
    if (i->object == DELTA_NO_OBJECT) db_bind_null(s, ":object");
    else db_bind_int(s, ":object", i->object);
    db_bind_int(s, ":chunked", i->chunked);
}

static int write_inode(struct delta *d, enum delta_statement which, const struct delta_inode *i)
{
    db_stmt *s;
    int r = delta_use_for(d, which, &s, i->ino);

    if (r < 0) return r;
    bind_contents(s, i);
    db_bind_int(s, ":image_ino", i->image_ino);
    db_bind_int(s, ":mode", i->mode);
    db_bind_int(s, ":uid", i->uid);
    db_bind_int(s, ":gid", i->gid);
    db_bind_int(s, ":rdev", i->rdev);
    db_bind_int(s, ":nlink", i->nlink);
    db_bind_int(s, ":atime", i->atime);
    db_bind_int(s, ":parent", i->parent);
    db_bind_int(s, ":grown", i->grown);
    return db_run(s);
}

int delta_add_inode(struct delta *d, const struct delta_inode *inode)
{
    int r = write_inode(d, ADD_INODE, inode);

    if (r == 0) keep(d, inode);
    return r;
}

int delta_set_inode(struct delta *d, const struct delta_inode *inode)
{
    int r = write_inode(d, SET_INODE, inode);

    if (r == 0) keep(d, inode);
    return r;
}

int delta_set_contents(struct delta *d, const struct delta_inode *i)
{
    struct delta_inode *kept = find(d, i->ino);
    db_stmt *s;
    int r = delta_use_for(d, SET_CONTENTS, &s, i->ino);

    if (r < 0) return r;
    bind_contents(s, i);
    r = db_run(s);
    if (r < 0 || !kept) return r;
    kept->size = i->size;
    kept->mtime = i->mtime;
    kept->ctime = i->ctime;
    kept->object = i->object;
    kept->chunked = i->chunked;
    return 0;
}
