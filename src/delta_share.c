#include <errno.h>

#include "delta_rows.h"

bool delta_is_shared(const struct delta *d, int64_t object)
{
    return object > DELTA_IN_ROW && (uint64_t)object < d->frozen;
}

uint64_t delta_frozen(const struct delta *d)
{
    return d->frozen;
}

/* Should the batch be undone, more objects than need be are taken for shared, which costs copies alone. */
int delta_freeze(struct delta *d)
{
    db_stmt *s;
    int r = delta_use(d, FREEZE, &s);

    if (r < 0) return r;
    db_bind_int(s, ":next", d->next_ino);
    r = db_run(s);
    if (r == 0) d->frozen = d->next_ino;
    return r;
}

int delta_next_source(struct delta *d, uint64_t ino, uint64_t after, uint64_t *ret_source)
{
    db_stmt *s;
    int r = delta_use_for(d, NEXT_SOURCE, &s, ino);

    if (r < 0) return r;
    db_bind_int(s, ":source", after < DELTA_SOURCE_ROW ? DELTA_SOURCE_ROW : after);
    r = db_step(s);
    if (r <= 0) return r < 0 ? r : -EIO;
    r = !db_is_null(s, 0);
    *ret_source = db_int(s, 0);
    db_reset(s);
    return r;
}

int delta_is_settled(struct delta *d, uint64_t ino)
{
    db_stmt *s;
    int r = delta_use_for(d, UNSETTLED, &s, ino);

    if (r == 0) r = db_step(s);
    if (r < 0) return r;
    db_reset(s);
    return r == 0;
}

int delta_is_empty(struct delta *d)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(d->db, &s, "SELECT NOT EXISTS (SELECT 1 FROM inode) AND NOT EXISTS (SELECT 1 FROM dirent)");

    if (r == 0) r = db_step(s);
    return r > 0 ? db_int(s, 0) : r;
}
