#include "fsck_objects.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "commit.h"
#include "io.h"
#include "object.h"

#define LL(x) ((long long)(x))
#define POLL_MS 100

struct numbers {
    uint64_t *number;
    size_t count, room;
};

static int add(struct numbers *n, uint64_t number)
{
    if (n->count == n->room) {
        size_t room = n->room ? n->room * 2 : 256;
        uint64_t *grown = reallocarray(n->number, room, sizeof(*grown));

        if (!grown) return -ENOMEM;
        n->number = grown;
        n->room = room;
    }
    n->number[n->count++] = number;
    return 0;
}

static int compare(const void *a, const void *b)
{
    const uint64_t *left = a, *right = b;

    return (*left > *right) - (*left < *right);
}

/* Every object that a row speaks of now, in order. */
static int spoken_of(struct fsck_check *c, struct numbers *n)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(c->model.db, &s, "SELECT object FROM inode WHERE object > 0 UNION "
                       "SELECT source FROM chunk WHERE source > 1 UNION SELECT source FROM undo WHERE source > 1 ORDER BY 1");

    n->count = 0;
    while (r == 0 && (r = db_step(s)) > 0) r = add(n, db_int(s, 0));
    return r;
}

/* ---- rows without objects ---- */

/* Asked after the object was looked for: an object goes, or becomes shorter, only when its row has before. */
static bool is_still_spoken_of(struct fsck_check *c, const struct fsck_item *item, int64_t length)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(c->model.db, &s, "SELECT 1 FROM inode WHERE ino = :ino AND object = :object AND size > :length");

    if (r < 0) return true;
    db_bind_int(s, ":ino", item->row.ino);
    db_bind_int(s, ":object", item->row.object);
    db_bind_int(s, ":length", length);
    return db_step(s) != 0;
}

static int lengthen(struct fsck_check *c, const struct delta_inode *row)
{
    _cleanup_close_ int fd = object_open(c->objects_fd, row->object, O_RDWR);

    if (fd < 0) return fd;
    return ftruncate(fd, row->size) < 0 ? -errno : commit_object(fd, true);
}

/* What was never synced may be shorter after a power cut: see recovery.h. */
static void check_length(struct fsck_check *c, const struct fsck_item *item, int64_t length)
{
    const struct delta_inode *row = &item->row;
    int r;

    if (length >= LL(row->size) || row->grown || !is_still_spoken_of(c, item, length)) return;
    if (!fsck_found(c, row->ino, "the rest reads as zeros", "object %lld has %lld bytes of %lld", LL(row->object), LL(length),
                    LL(row->size)))
        return;
    r = lengthen(c, row);
    if (r < 0 && !c->error) c->error = r;
}

static void check_object(struct fsck_check *c, struct fsck_item *item)
{
    struct stat st;
    int r = object_stat(c->objects_fd, item->row.object, &st);
    bool parts = item->chunks > 0;

    if (r == 0 && S_ISREG(st.st_mode)) {
        check_length(c, item, st.st_size);
        return;
    }
    if (r < 0 && r != -ENOENT) {
        fsck_found(c, item->row.ino, NULL, "object %lld cannot be looked at: %s", LL(item->row.object), strerror(-r));
        return;
    }
    if (!is_still_spoken_of(c, item, -1) || (item->fresh && !c->commit)) return;
    if (!fsck_found(c, item->row.ino, parts ? "what it had of its own reads as zeros" : "emptied",
                    "its contents are lost, object %lld is %s", LL(item->row.object), r ? "missing" : "no file"))
        return;
    fsck_exec(c, "UPDATE inode SET object = NULL, size = iif(:parts, size, 0) WHERE ino = :ino", ":parts", (int64_t)parts,
              ":ino", (int64_t)item->row.ino, NULL);
}

static int compare_objects(const void *a, const void *b)
{
    const struct fsck_item *const *left = a, *const *right = b;

    return ((*left)->row.object > (*right)->row.object) - ((*left)->row.object < (*right)->row.object);
}

static void check_shared(struct fsck_check *c, const struct fsck_item **users, size_t count)
{
    qsort(users, count, sizeof(*users), compare_objects);
    for (size_t i = 1; i < count; i++)
        if (users[i]->row.object == users[i - 1]->row.object)
            fsck_found(c, users[i]->row.ino, NULL, "has its contents in object %lld, as inode %lld has",
                       LL(users[i]->row.object), LL(users[i - 1]->row.ino));
}

static void check_rows(struct fsck_check *c)
{
    _cleanup_free_ const struct fsck_item **users = calloc(c->model.item_count + 1, sizeof(*users));
    size_t count = 0;

    for (size_t i = 0; i < c->model.item_count; i++) {
        struct fsck_item *item = &c->model.items[i];

        if (!item->stored || !S_ISREG(item->row.mode) || item->row.object <= 0) continue;
        check_object(c, item);
        if (users) users[count++] = item;
    }
    if (users) check_shared(c, users, count);
}

/* ---- objects without rows ---- */

static int list_objects(struct fsck_check *c, struct numbers *n)
{
    int fd = openat(c->objects_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC), r = 0;
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    struct dirent *e;

    if (!directory) {
        r = -errno;
        if (fd >= 0) close(fd);
        return r;
    }
    while (r == 0 && (e = readdir(directory))) {
        char *end;
        uint64_t number = strtoull(e->d_name, &end, 10);

        if (e->d_name[0] == '.') continue;
        if (*end || number == 0) fsck_found(c, 0, NULL, "objects/%s: no object's name", e->d_name);
        else r = add(n, number);
    }
    closedir(directory);
    return r;
}

/* Leaves those that exist and that no row speaks of. */
static int keep_strays(struct fsck_check *c, struct numbers *n)
{
    struct numbers known = {0};
    int r = spoken_of(c, &known);
    size_t left = 0;

    for (size_t i = 0; r == 0 && i < n->count; i++) {
        struct stat st;

        if (known.count && bsearch(&n->number[i], known.number, known.count, sizeof(uint64_t), compare)) continue;
        if (object_stat(c->objects_fd, n->number[i], &st) == 0) n->number[left++] = n->number[i];
    }
    if (r == 0) n->count = left;
    free(known.number);
    return r;
}

/* The daemon makes an object before its row and removes it some time after: those are not meant. */
static int wait_for_daemon(struct fsck_check *c, struct numbers *n)
{
    int64_t end = c->fsck->grace / POLL_MS;
    int r = 0;

    if (!c->fsck->mounted) return 0;
    if (c->fsck->grace < 0) n->count = 0;
    for (int64_t i = 0; r == 0 && n->count && i < end; i++) {
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
        r = keep_strays(c, n);
    }
    return r;
}

/* Its row may be among those that could not be read. */
static void keep_object(struct fsck_check *c, uint64_t object)
{
    struct stat st = {0};
    int64_t now = io_now();
    uint64_t ino = fsck_new_ino(c);

    object_stat(c->objects_fd, object, &st);
    fsck_exec(c,
              "INSERT INTO inode(ino, image_ino, mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, parent, object, chunked) "
              "VALUES(:ino, 0, :mode, 0, 0, 0, 1, :size, :now, :now, :now, 0, :object, 0)",
              ":ino", (int64_t)ino, ":mode", (int64_t)(S_IFREG | 0600), ":size", (int64_t)st.st_size, ":now", now, ":object",
              (int64_t)object, NULL);
    fsck_keep(c, ino, DT_REG, "contents-");
}

static void check_stray(struct fsck_check *c, uint64_t object)
{
    const char *done = c->salvaged ? "put into lost+found" : "removed";

    if (!fsck_found(c, 0, done, "object %lld, which no row speaks of", LL(object))) return;
    if (c->salvaged) {
        keep_object(c, object);
    } else {
        int r = commit_drops_object(c->commit, object);

        if (r < 0 && !c->error) c->error = r;
    }
}

static void check_strays(struct fsck_check *c)
{
    struct numbers n = {0};
    int r = list_objects(c, &n);

    if (r == 0) r = keep_strays(c, &n);
    if (r == 0 && n.count) r = wait_for_daemon(c, &n);
    if (r < 0) fsck_found(c, 0, NULL, "its objects cannot be listed: %s", strerror(-r));
    for (size_t i = 0; r == 0 && i < n.count; i++) check_stray(c, n.number[i]);
    free(n.number);
}

void fsck_objects(struct fsck_check *c)
{
    check_rows(c);
    check_strays(c);
}
