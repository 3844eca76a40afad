#include "delta_upgrade.h"

#include <errno.h>
#include <stddef.h>

#include "db.h"

/* The step from each version to the next, by number; each ends with its PRAGMA user_version. */
static const char *const steps[] = {
    [1] = "ALTER TABLE inode ADD COLUMN grown INTEGER NOT NULL DEFAULT 0;"
          "CREATE INDEX grown ON inode(ino) WHERE grown = 1;"
          "UPDATE inode SET grown = 1 WHERE object > 0;"
          "PRAGMA user_version = 2",
    [2] = "CREATE TABLE progress(id INTEGER PRIMARY KEY CHECK (id = 1), batch INTEGER NOT NULL) STRICT;"
          "INSERT INTO progress(id, batch) VALUES (1, 0);"
          "PRAGMA user_version = 3",
    [3] = "ALTER TABLE view ADD COLUMN frozen INTEGER NOT NULL DEFAULT 0;"
          "PRAGMA user_version = 4",
};

static int read_version(struct db *db, int *ret_version)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(db, &s, "PRAGMA user_version");

    if (r == 0) r = db_step(s);
    if (r <= 0) return r < 0 ? r : -EIO;
    *ret_version = db_int(s, 0);
    return 0;
}

int delta_upgrade(struct db *db)
{
    int version, r = read_version(db, &version);

    if (r < 0 || version == DELTA_FORMAT) return r;
    if (version > DELTA_FORMAT) return -EPROTO;
    if (version < 1) return -EIO;
    r = db_begin(db);
    for (; r == 0 && version < DELTA_FORMAT; version++) r = db_exec(db, steps[version]);
    if (r == 0) r = db_commit(db);
    return r == 0 ? db_sync(db) : r;
}
