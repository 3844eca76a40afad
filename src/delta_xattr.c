#include "delta_rows.h"

static int use_xattr(struct delta *d, enum delta_statement which, db_stmt **ret, uint64_t ino, const char *name)
{
    int r = delta_use_for(d, which, ret, ino);

    if (r == 0) db_bind_text(*ret, ":name", name);
    return r;
}

int delta_get_xattr(struct delta *d, uint64_t ino, const char *name, void *buffer, size_t size, size_t *ret_length)
{
    db_stmt *s;
    int r = use_xattr(d, GET_XATTR, &s, ino, name);

    return r < 0 ? r : delta_read_blob(s, buffer, size, ret_length);
}

int delta_set_xattr(struct delta *d, uint64_t ino, const char *name, const void *value, size_t size)
{
    db_stmt *s;
    int r = use_xattr(d, SET_XATTR, &s, ino, name);

    if (r < 0) return r;
    db_bind_blob(s, ":value", value, size);
    return db_run(s);
}

int delta_remove_xattr(struct delta *d, uint64_t ino, const char *name)
{
    db_stmt *s;
    int r = use_xattr(d, REMOVE_XATTR, &s, ino, name);

    if (r == 0) r = db_run(s);
    return r < 0 ? r : db_changes(d->db) > 0;
}

int delta_xattrs(struct delta *d, uint64_t ino, delta_xattr_fn fn, void *data)
{
    db_stmt *s;
    int r = delta_use_for(d, LIST_XATTRS, &s, ino);

    if (r < 0) return r;
    while ((r = db_step(s)) > 0) {
        size_t size;
        const void *value = db_blob(s, 1, &size);

        r = fn(db_text(s, 0), value, size, data);
        if (r != 0) break;
    }
    db_reset(s);
    return r;
}
