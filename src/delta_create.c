#include "delta_create.h"

#include <errno.h>
#include <unistd.h>

#include "commit.h"
#include "db.h"
#include "io.h"
#include "schema.h"

static int fill_new(struct db *db, const struct delta_base *base)
{
    db_stmt *s;
    int r = db_begin(db);

    if (r == 0) r = db_exec(db, schema_delta);
    if (r == 0)
        r = db_prepare(db, &s, "INSERT INTO view(id, image, image_count, image_base, shift, next_ino) "
                               "VALUES(1, :image, :count, :base, 0, :next)");
    if (r < 0) return r;
    db_bind_text(s, ":image", base->image);
    db_bind_int(s, ":count", base->image_count);
    db_bind_int(s, ":base", DELTA_FIRST);
    db_bind_int(s, ":next", DELTA_FIRST + (int64_t)base->image_count + 1);
    r = db_run(s);
    return r == 0 ? db_commit(db) : r;
}

int delta_create(int nodes_fd, const char *path, const char *serial, const struct delta_base *base)
{
    _cleanup_free_ char *temporary = io_format("%s/delta.new", path);
    _cleanup_close_ int fd = -1;
    struct db *db = NULL;
    int r;

    if (!temporary) return -ENOMEM;
    r = io_mkdir(nodes_fd, serial, 0700);
    if (r < 0) return r;
    fd = io_open_beneath(nodes_fd, serial, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return fd;
    r = io_mkdir(fd, "objects", 0700);
    if (r < 0) return r;
    for (int i = 0; i < 3; i++)
        unlinkat(fd, (const char *[]){"delta.new", "delta.new-wal", "delta.new-shm"}[i], 0);
    r = db_open(&db, temporary, DB_DRAFT);
    if (r == 0) r = fill_new(db, base);
    if (r == 0) r = db_checkpoint(db, NULL, NULL);
    db_close(db);
    if (r < 0) return r;
    unlinkat(fd, "delta.new-wal", 0);
    unlinkat(fd, "delta.new-shm", 0);
    r = commit_rename(fd, "delta.new", "delta.db");
    return r < 0 ? r : commit_object(nodes_fd, true);
}
