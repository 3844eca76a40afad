#include "parcel.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <string.h>
#include <sys/stat.h>

#include "content.h"
#include "diff.h"
#include "io.h"
#include "log.h"
#include "parcel_entry.h"

#define BLOCK 262144

struct writer {
    const struct parcel *parcel;
    struct archive *archive;
    struct archive_entry *entry;
    char *block;
    struct inomap wanted; /* inodes of more than one name, of which one is in it: so are all of them */
    struct inomap first;  /* by inode: which of `paths` is its first name, from 1 */
    char **paths;
    size_t count;
    int sockets;
};

static int failed(const struct writer *w, const char *path, int r)
{
    const char *reason = archive_error_string(w->archive);

    if (r == -EIO && reason) log_error("%s: %s: %s", w->parcel->name, path, reason);
    else log_error("%s: %s: %s", w->parcel->name, path, log_reason(r));
    return r;
}

static bool has_links(const struct inode *i)
{
    return !S_ISDIR(i->row.mode) && i->row.nlink > 1;
}

static bool is_in(const struct writer *w, const struct diff_entry *e)
{
    if (!e->new) return false;
    return e->change || e->what || e->covered || (has_links(e->new) && inomap_get(&w->wanted, e->new->row.ino));
}

static int find_links(const struct diff_entry *e, void *data)
{
    struct writer *w = data;

    return is_in(w, e) && has_links(e->new) ? inomap_add(&w->wanted, e->new->row.ino, 1) : 0;
}

static int put_header(struct writer *w, const char *path)
{
    int r = archive_write_header(w->archive, w->entry);

    if (r == ARCHIVE_WARN) log_warning("%s: %s: %s", w->parcel->name, path, archive_error_string(w->archive));
    return r < ARCHIVE_WARN ? failed(w, path, -EIO) : 0;
}

static int put_contents(struct writer *w, const struct diff_entry *e)
{
    uint64_t size = e->new->row.size;

    for (uint64_t offset = 0; offset < size;) {
        size_t length = size - offset < BLOCK ? size - offset : BLOCK;
        ssize_t n = content_read(w->parcel->view, e->new->row.ino, w->block, length, offset);

        if (n <= 0) return failed(w, e->path, n < 0 ? n : -ENODATA);
        if (archive_write_data(w->archive, w->block, n) < 0) return failed(w, e->path, -EIO);
        offset += n;
    }
    return 0;
}

/* The inode's first name; NULL: this is it, which is remembered. */
static int first_name(struct writer *w, const struct diff_entry *e, const char **ret_path)
{
    uint64_t number = inomap_get(&w->first, e->new->row.ino);
    char **paths;

    *ret_path = number ? w->paths[number - 1] : NULL;
    if (number) return 0;
    paths = reallocarray(w->paths, w->count + 1, sizeof(*paths));
    if (!paths) return -ENOMEM;
    w->paths = paths;
    paths[w->count] = strdup(e->path + 1);
    if (!paths[w->count]) return -ENOMEM;
    return inomap_add(&w->first, e->new->row.ino, ++w->count);
}

/* An empty file of that name beside `path`, or in it. */
static int put_mark(struct writer *w, const char *path, bool gone)
{
    const char *base = strrchr(path, '/') + 1;
    _cleanup_free_ char *mark = gone ? io_format("%.*s" PARCEL_GONE "%s", (int)(base - path - 1), path + 1, base)
                                     : io_format("%s/" PARCEL_OPAQUE, path + 1);

    if (!mark) return -ENOMEM;
    archive_entry_clear(w->entry);
    archive_entry_copy_pathname(w->entry, mark);
    archive_entry_set_mode(w->entry, S_IFREG | 0600);
    archive_entry_set_size(w->entry, 0);
    archive_entry_set_mtime(w->entry, 0, 0);
    return put_header(w, path);
}

static int check_name(const struct writer *w, const char *path)
{
    if (!w->parcel->image || strncmp(strrchr(path, '/') + 1, PARCEL_GONE, strlen(PARCEL_GONE)) != 0) return 0;
    log_error("%s: %s: a layer cannot hold names that begin with '" PARCEL_GONE "'", w->parcel->name, path);
    return -EINVAL;
}

static int name_image(struct writer *w)
{
    const struct image *image = w->parcel->view->image;
    _cleanup_free_ char *text = io_format("%u %s", image_count(image), image_name(image));

    if (text) archive_entry_xattr_add_entry(w->entry, PARCEL_IMAGE, text, strlen(text));
    return text ? 0 : -ENOMEM;
}

static int put_file(struct writer *w, const struct diff_entry *e)
{
    struct view *v = w->parcel->view;
    const char *first = NULL;
    int r = check_name(w, e->path);

    if (r == 0 && has_links(e->new) && (r = first_name(w, e, &first)) < 0) return failed(w, e->path, r);
    if (r < 0) return r;
    archive_entry_clear(w->entry);
    archive_entry_copy_pathname(w->entry, e->path[1] ? e->path + 1 : "./");
    r = parcel_entry_fill(w->entry, v, e->new);
    if (r == 0 && !first && S_ISREG(e->new->row.mode)) r = parcel_entry_add_holes(w->entry, v, e->new);
    if (r < 0) return failed(w, e->path, r);
    if (first) archive_entry_copy_hardlink(w->entry, first);
    if (first) archive_entry_unset_size(w->entry);
    if (!e->path[1] && w->parcel->image && (r = name_image(w)) < 0) return failed(w, e->path, r);
    r = put_header(w, e->path);
    return r == 0 && !first && S_ISREG(e->new->row.mode) ? put_contents(w, e) : r;
}

static int put(const struct diff_entry *e, void *data)
{
    struct writer *w = data;
    int r;

    if (!e->new) return e->covered ? 0 : put_mark(w, e->path, true);
    if (e->path[1] && !is_in(w, e)) return 0;
    if (S_ISSOCK(e->new->row.mode)) {
        w->sockets++;
        return 0;
    }
    r = put_file(w, e);
    return r == 0 && e->replaced ? put_mark(w, e->path, false) : r;
}

static int write_all(struct writer *w)
{
    struct diff diff = {.old = w->parcel->image, .new = w->parcel->view, .strict = true, .data = w};
    int r = 0;

    diff.fn = find_links;
    if (diff.old) r = diff_run(&diff, NULL);
    diff.fn = put;
    if (r == 0) r = diff_run(&diff, NULL);
    if (r == 0 && archive_write_close(w->archive) < ARCHIVE_WARN) r = failed(w, "/", -EIO);
    if (w->sockets) log_warning("%s: %d sockets left out: a tar cannot hold them", w->parcel->name, w->sockets);
    return r;
}

/* Names are bytes, whatever the locale. */
static int open_archive(struct writer *w)
{
    struct archive *a = w->archive;

    if (w->parcel->filter && archive_write_add_filter_by_name(a, w->parcel->filter) < ARCHIVE_WARN) return -EIO;
    if (archive_write_set_format_pax(a) != ARCHIVE_OK) return -EIO;
    if (archive_write_set_format_option(a, "pax", "hdrcharset", "BINARY") != ARCHIVE_OK) return -EIO;
    archive_write_set_bytes_per_block(a, 65536);
    archive_write_set_bytes_in_last_block(a, 1);
    return archive_write_open_fd(a, w->parcel->fd) != ARCHIVE_OK ? -EIO : 0;
}

int parcel_write(const struct parcel *parcel)
{
    struct writer w = {.parcel = parcel, .archive = archive_write_new(), .entry = archive_entry_new(), .block = malloc(BLOCK)};
    int r = w.archive && w.entry && w.block ? open_archive(&w) : -ENOMEM;

    if (r < 0) failed(&w, "/", r);
    else r = write_all(&w);
    if (w.archive) archive_write_free(w.archive);
    if (w.entry) archive_entry_free(w.entry);
    for (size_t i = 0; i < w.count; i++) free(w.paths[i]);
    free(w.paths);
    free(w.block);
    inomap_clear(&w.wanted);
    inomap_clear(&w.first);
    return r;
}
