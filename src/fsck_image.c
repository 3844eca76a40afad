#include "fsck_image.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "db.h"
#include "image.h"
#include "image_digest.h"
#include "image_load.h"
#include "io.h"
#include "listing.h"
#include "log.h"
#include "longpath.h"
#include "progress.h"

#define READ_SIZE (256 * 1024)
#define TARGET_MAX 4096

struct walk {
    struct fsck *fsck;
    char *where;
    struct image *image;
    int rootfs_fd;
    dev_t device;
    uint32_t *entry; /* of directory ino at [ino - 1]: its entry */
    bool *lost;      /* the directory is not there: nothing is said of what was in it */
    struct db *index; /* with --contents */
    db_stmt *digest;
    void *buffer; /* READ_SIZE bytes */
    struct progress progress;
};

/* The directory at hand. */
struct place {
    uint32_t ino;
    int fd;
    char *path; /* "" for the root */
    struct listing listing;
};

__attribute__((format(printf, 4, 5))) static void complain(struct walk *w, const struct place *p, const struct image_entry *e,
                                                           const char *format, ...)
{
    _cleanup_free_ char *path = NULL, *what = NULL;
    va_list arguments;

    va_start(arguments, format);
    if (vasprintf(&what, format, arguments) < 0) what = NULL;
    va_end(arguments);
    if (e) path = io_format("/%s%s%.*s", p->path, *p->path ? "/" : "", e->length, e->name);
    else path = io_format("/%s", p->path);
    progress_erase(&w->progress);
    fsck_report(w->fsck, &(struct fsck_finding){.where = w->where, .path = path ? path : "?", .what = what ? what : "?"});
}

/* Relative to the root, as longpath_open() wants it. Caller frees. */
static char *path_of(const struct walk *w, uint32_t ino)
{
    char *path = io_format("%s", "");

    for (; path && ino != 1; ino = image_inode(w->image, ino)->parent) {
        const struct image_entry *e = image_entry(w->image, w->entry[ino - 1]);
        char *longer = io_format("%.*s%s%s", e->length, e->name, *path ? "/" : "", path);

        free(path);
        path = longer;
    }
    return path;
}

/* ---- one file ---- */

/* 1: the import kept one. */
static int due_digest(struct walk *w, uint32_t ino, uint8_t ret_digest[IMAGE_DIGEST_SIZE])
{
    const void *due;
    size_t size = 0;
    int r;

    db_bind_int(w->digest, ":ino", ino);
    r = db_step(w->digest);
    if (r < 0) return r;
    due = r > 0 ? db_blob(w->digest, 0, &size) : NULL;
    if (size == IMAGE_DIGEST_SIZE) memcpy(ret_digest, due, size);
    db_reset(w->digest);
    return size == IMAGE_DIGEST_SIZE;
}

static void check_digest(struct walk *w, const struct place *p, const struct image_entry *e, const char *name)
{
    uint8_t due[IMAGE_DIGEST_SIZE], found[IMAGE_DIGEST_SIZE];
    _cleanup_close_ int fd = -1;
    int r = due_digest(w, e->ino, due);

    if (r < 0) return complain(w, p, e, "its digest cannot be read: %s", db_message(w->index));
    if (r == 0) {
        w->fsck->result.undigested++;
        return;
    }
    fd = openat(p->fd, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    r = fd < 0 ? -errno : image_digest(fd, w->buffer, READ_SIZE, &w->progress, found);
    if (r < 0) return complain(w, p, e, "cannot be read: %s", log_reason(r));
    w->fsck->result.files++;
    if (memcmp(found, due, sizeof(due)) != 0) complain(w, p, e, "its contents were changed since the import");
}

static void check_regular(struct walk *w, const struct place *p, const struct image_entry *e, const char *name,
                          const struct stat *st)
{
    const struct image_inode *i = image_inode(w->image, e->ino);

    if (image_entry(w->image, i->first_entry) != e) return; /* another name of a file that was or will be checked */
    if ((uint64_t)st->st_size != i->size)
        return complain(w, p, e, "has %lld bytes, not %llu", (long long)st->st_size, (unsigned long long)i->size);
    if (image_time(st->st_mtim) != i->mtime) complain(w, p, e, "was modified since the import");
    if (w->digest) check_digest(w, p, e, name);
}

static void check_target(struct walk *w, const struct place *p, const struct image_entry *e, const char *name)
{
    char due[TARGET_MAX], found[TARGET_MAX];
    ssize_t length = readlinkat(p->fd, name, found, sizeof(found));
    int r = image_readlink(w->image, e->ino, due, sizeof(due));

    if (r < 0 || length != r || memcmp(due, found, r) != 0) complain(w, p, e, "leads elsewhere than at the import");
}

static void check_entry(struct walk *w, const struct place *p, const struct image_entry *e)
{
    const struct image_inode *i = image_inode(w->image, e->ino);
    _cleanup_free_ char *name = io_format("%.*s", e->length, e->name);
    struct stat st;

    if (!name) return complain(w, p, e, "%s", log_reason(-ENOMEM));
    if (fstatat(p->fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) {
        int r = -errno;

        if (S_ISDIR(i->mode)) w->lost[e->ino - 1] = true;
        if (r == -ENOENT) return complain(w, p, e, "is missing");
        return complain(w, p, e, "cannot be looked at: %s", log_reason(r));
    }
    if ((st.st_mode & S_IFMT) != (i->mode & S_IFMT)) {
        if (S_ISDIR(i->mode)) w->lost[e->ino - 1] = true;
        return complain(w, p, e, "is of another type than at the import");
    }
    if (S_ISREG(i->mode)) check_regular(w, p, e, name, &st);
    else if (S_ISLNK(i->mode)) check_target(w, p, e, name);
    else if ((S_ISCHR(i->mode) || S_ISBLK(i->mode)) && st.st_rdev != i->rdev) complain(w, p, e, "is another device");
    progress_add(&w->progress, 1, 0);
}

/* ---- one directory ---- */

static void check_place(struct walk *w, struct place *p)
{
    const struct image_inode *dir = image_inode(w->image, p->ino);
    struct stat st;

    if (fstat(p->fd, &st) == 0 && st.st_dev != w->device) return complain(w, p, NULL, "something is mounted on it");
    if (listing_read(&p->listing, p->fd) < 0) return complain(w, p, NULL, "cannot be read");
    for (uint32_t n = 0; n < dir->entries; n++) check_entry(w, p, image_entry(w->image, dir->first_entry + n));
    for (size_t n = 0; n < p->listing.count; n++) {
        const char *name = p->listing.items[n].name;
        struct image_entry extra = {.name = name, .length = strlen(name)};

        if (image_lookup(w->image, p->ino, name, extra.length) < 0) complain(w, p, &extra, "was not there at the import");
    }
}

static void check_directory(struct walk *w, uint32_t ino)
{
    struct place p = {.ino = ino, .fd = -1};
    _cleanup_free_ char *cut = NULL;

    if (w->lost[image_inode(w->image, ino)->parent - 1]) w->lost[ino - 1] = true;
    if (w->lost[ino - 1]) return;
    p.path = path_of(w, ino);
    cut = p.path ? io_format("%s", *p.path ? p.path : ".") : NULL;
    p.fd = cut ? longpath_open(w->rootfs_fd, cut, O_RDONLY | O_DIRECTORY | O_NOFOLLOW) : -ENOMEM;
    if (p.fd >= 0) check_place(w, &p);
    else if (p.path) complain(w, &p, NULL, "cannot be opened: %s", log_reason(p.fd));
    if (p.fd >= 0) close(p.fd);
    listing_free(&p.listing);
    free(p.path);
}

/* ---- the whole ---- */

static int prepare_index(struct walk *w, const char *name)
{
    _cleanup_free_ char *path = io_format("%s/%s/index.db", w->fsck->images_path, name);
    db_stmt *s;
    int r = path ? db_open_immutable(&w->index, path) : -ENOMEM;

    if (r == 0) r = db_prepare(w->index, &s, "PRAGMA integrity_check(5)");
    while (r == 0 && (r = db_step(s)) > 0) {
        r = 0;
        if (strcmp(db_text(s, 0), "ok") != 0) fsck_complain(w->fsck, w->where, "index.db: %s", db_text(s, 0));
    }
    if (r == 0 && w->fsck->options->contents)
        r = db_prepare(w->index, &w->digest, "SELECT digest FROM inode WHERE ino = :ino");
    return r;
}

static int prepare(struct walk *w, const char *name)
{
    _cleanup_free_ char *tree = io_format("%s/rootfs", name);
    uint32_t count = image_count(w->image);
    struct stat st;
    int r = prepare_index(w, name);

    w->rootfs_fd = tree ? io_open_beneath(w->fsck->images_fd, tree, O_RDONLY | O_DIRECTORY, 0) : -ENOMEM;
    w->entry = calloc(count, sizeof(*w->entry));
    w->lost = calloc(count, sizeof(*w->lost));
    w->buffer = malloc(READ_SIZE);
    if (!w->entry || !w->lost || !w->buffer) return -ENOMEM;
    if (r < 0) return r;
    if (w->rootfs_fd < 0) return w->rootfs_fd;
    if (fstat(w->rootfs_fd, &st) < 0) return -errno;
    w->device = st.st_dev;
    for (uint32_t n = 0; image_entry(w->image, n); n++)
        if (image_entry(w->image, n)->type == DT_DIR) w->entry[image_entry(w->image, n)->ino - 1] = n;
    return 0;
}

void fsck_image(struct fsck *f, const char *name, struct image *image)
{
    struct walk w = {.fsck = f, .where = io_format("image %s", name), .image = image, .rootfs_fd = -1};
    _cleanup_free_ char *what = io_format("checking %s", name);
    int r;

    progress_begin(&w.progress, what ? what : "checking");
    r = w.where ? prepare(&w, name) : -ENOMEM;
    if (r < 0) fsck_complain(f, w.where ? w.where : "image", "cannot be checked: %s", log_reason(r));
    for (uint32_t ino = 1; r == 0 && ino <= image_count(image); ino++)
        if (S_ISDIR(image_inode(image, ino)->mode)) check_directory(&w, ino);
    progress_erase(&w.progress);
    db_close(w.index);
    if (w.rootfs_fd >= 0) close(w.rootfs_fd);
    free(w.entry);
    free(w.lost);
    free(w.buffer);
    free(w.where);
}
