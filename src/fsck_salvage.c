#include "fsck_salvage.h"

#include <errno.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "commit.h"
#include "db.h"
#include "delta.h"
#include "io.h"
#include "schema.h"

#define KEPT_MAX 1000
#define SHELL_MISSING 127
/* Above every number of a view whose row is lost: no handle that a client still has may mean another file. */
#define SHIFT_UNKNOWN (INT64_C(1) << 40)
#define INO_STEP 65536

/* Only rows whose values can be what the column says: the pages of others may have been read as these. */
static const char *const copies[] = {
    "INSERT OR IGNORE INTO main.view(id, image, image_count, image_base, shift, next_ino) "
    "SELECT id, image, image_count, image_base, shift, next_ino FROM old.view "
    "WHERE id = 1 AND typeof(image) = 'text' AND image_base > 0 AND shift >= 0 AND next_ino > 0",
    "INSERT OR IGNORE INTO main.inode SELECT ino, image_ino, mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, parent, "
    "object, chunked, ifnull(object, 0) > 0 FROM old.inode WHERE mode BETWEEN 0 AND 65535 AND size >= 0 AND nlink >= 0 AND ino > 0",
    "INSERT OR IGNORE INTO main.dirent SELECT parent, slot, name, ino, type FROM old.dirent "
    "WHERE typeof(name) = 'blob' AND length(name) BETWEEN 1 AND 255",
    "INSERT OR IGNORE INTO main.content SELECT ino, data FROM old.content WHERE typeof(data) = 'blob'",
    "INSERT OR IGNORE INTO main.chunk SELECT ino, start, \"end\", source FROM old.chunk",
    "INSERT OR IGNORE INTO main.undo SELECT ino, start, \"end\", source FROM old.undo",
    "INSERT OR IGNORE INTO main.fresh SELECT ino, size FROM old.fresh",
    "INSERT OR IGNORE INTO main.xattr SELECT ino, name, value FROM old.xattr",
};

extern char **environ;

static int recover(const char *from, const char *to)
{
    static const char script[] = "command -v sqlite3 >/dev/null || exit 127\n"
                                 "sqlite3 -readonly \"$1\" '.recover --ignore-freelist' | sqlite3 \"$2\"";
    char *const argv[] = {"sh", "-c", (char *)script, "sh", (char *)from, (char *)to, NULL};
    posix_spawn_file_actions_t actions;
    pid_t pid;
    int status, r;

    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 1, "/dev/null", O_WRONLY, 0);
    posix_spawn_file_actions_addopen(&actions, 2, "/dev/null", O_WRONLY, 0); /* every row that does not fit */
    r = posix_spawnp(&pid, "sh", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    if (r != 0) return -r;
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    /* That some rows could not be put in is no failure; having no file at all is. */
    if (WIFEXITED(status) && WEXITSTATUS(status) == SHELL_MISSING) return -ENOENT;
    return access(to, R_OK) < 0 ? -EIO : 0;
}

static int attach(struct db *db, const char *path)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(db, &s, "ATTACH :path AS old");

    if (r < 0) return r;
    db_bind_text(s, ":path", path);
    return db_run(s);
}

/* The row of table view is made up where it was lost; numbers start above all that are in use. */
static int complete_view(struct db *db, const struct fsck_salvage_base *base)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r;

    if (base->image) {
        r = db_prepare(db, &s, "INSERT OR IGNORE INTO view(id, image, image_count, image_base, shift, next_ino) "
                               "VALUES(1, :image, :count, :base, :shift, :base + :count + 1)");
        if (r < 0) return r;
        db_bind_text(s, ":image", base->image);
        db_bind_int(s, ":count", base->image_count);
        db_bind_int(s, ":base", DELTA_FIRST);
        db_bind_int(s, ":shift", SHIFT_UNKNOWN);
        r = db_run(s);
        if (r < 0) return r;
        db_finish(io_take(s));
    }
    r = db_prepare(db, &s, "UPDATE view SET next_ino = max(next_ino, :step + (SELECT ifnull(max(ino), 0) FROM inode), "
                           ":step + (SELECT ifnull(max(object), 0) FROM inode))");
    if (r < 0) return r;
    db_bind_int(s, ":step", INO_STEP);
    r = db_run(s);
    if (r < 0 || db_changes(db) != 1) return r < 0 ? r : -ENODATA;
    return db_exec(db, "UPDATE view SET frozen = next_ino"); /* snapshots may share any of them */
}

static int fill(struct db *db, const char *recovered, const struct fsck_salvage_base *base)
{
    int r = attach(db, recovered);

    if (r == 0) r = db_begin(db);
    if (r == 0) r = db_exec(db, schema_delta);
    if (r < 0) return r;
    /* A table whose description is lost is lost. */
    for (size_t i = 0; i < sizeof(copies) / sizeof(*copies); i++)
        if (db_exec(db, copies[i]) == -ENOSPC) return -ENOSPC;
    r = complete_view(db, base);
    if (r == 0) r = db_commit(db);
    return r == 0 ? db_sync(db) : r;
}

static int fill_file(const char *path, const char *recovered, const struct fsck_salvage_base *base)
{
    _cleanup_db_ struct db *db = NULL;
    int r = db_open(&db, path, DB_CREATE);

    if (r == 0) r = fill(db, recovered, base);
    return r == 0 ? db_checkpoint(db, NULL, NULL) : r;
}

static void clear(int fd, const char *name)
{
    static const char *const suffixes[] = {"", "-wal", "-shm", "-journal"};

    for (size_t i = 0; i < 4; i++) {
        _cleanup_free_ char *file = io_format("%s%s", name, suffixes[i]);

        if (file) unlinkat(fd, file, 0);
    }
}

/* A second name for the damaged file and its WAL. */
static int keep(int fd, char **ret_kept)
{
    for (int i = 1; i < KEPT_MAX; i++) {
        _cleanup_free_ char *name = io_format("delta.damaged-%d.db", i), *wal = io_format("delta.damaged-%d.db-wal", i);

        if (!name || !wal) return -ENOMEM;
        if (linkat(fd, "delta.db", fd, name, 0) < 0) {
            if (errno == EEXIST) continue;
            return -errno;
        }
        if (linkat(fd, "delta.db-wal", fd, wal, 0) < 0 && errno != ENOENT) return -errno;
        *ret_kept = io_take(name);
        return 0;
    }
    return -EEXIST;
}

/* The old WAL would be taken for the new file's: it goes first. A death in between leaves the damaged file, to be salvaged again,
 * and the WAL beside it under its other name. */
static int replace(int fd, char **ret_kept)
{
    int r = keep(fd, ret_kept);

    if (r < 0) return r;
    unlinkat(fd, "delta.new-wal", 0);
    unlinkat(fd, "delta.new-shm", 0);
    unlinkat(fd, "delta.db-wal", 0);
    unlinkat(fd, "delta.db-shm", 0);
    return commit_rename(fd, "delta.new", "delta.db");
}

int fsck_salvage(const char *dir, const struct fsck_salvage_base *base, char **ret_kept)
{
    _cleanup_free_ char *damaged = io_format("%s/delta.db", dir), *recovered = io_format("%s/delta.recovered", dir);
    _cleanup_free_ char *made = io_format("%s/delta.new", dir);
    _cleanup_close_ int fd = io_open_plain(dir, O_RDONLY | O_DIRECTORY, 0);
    struct stat st;
    int r;

    if (!damaged || !recovered || !made) return -ENOMEM;
    if (fd < 0) return fd;
    if (fstatat(fd, "delta.db", &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    if (!S_ISREG(st.st_mode)) return -ELOOP;
    clear(fd, "delta.recovered");
    clear(fd, "delta.new");
    r = recover(damaged, recovered);
    if (r == 0) r = fill_file(made, recovered, base);
    clear(fd, "delta.recovered");
    if (r == 0) r = replace(fd, ret_kept);
    if (r < 0) clear(fd, "delta.new");
    return r;
}
