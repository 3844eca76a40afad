#include "fsck_model.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "inode.h"
#include "io.h"

#define DEPTH_MAX 4096 /* of a path that is printed */

void fsck_model_free(struct fsck_model *m)
{
    free(m->items);
    free(m->dirents);
    free(m->chunks);
    free(m->text);
    *m = (struct fsck_model){0};
}

static int grow(void *array_pointer, size_t *room, size_t need, size_t element)
{
    void **array = array_pointer;
    size_t wanted = *room < 256 ? 256 : *room * 2;
    void *grown;

    if (need <= *room) return 0;
    if (wanted < need) wanted = need;
    grown = reallocarray(*array, wanted, element);
    if (!grown) return -ENOMEM;
    *array = grown;
    *room = wanted;
    return 0;
}

uint32_t fsck_model_image_ino(const struct fsck_model *m, uint64_t ino)
{
    if (ino == DELTA_ROOT) return 1;
    if (ino <= m->image_base + 1 || ino > m->image_base + m->image_count) return 0;
    return ino - m->image_base;
}

uint64_t fsck_model_ino(const struct fsck_model *m, uint32_t image_ino)
{
    return image_ino == 1 ? DELTA_ROOT : m->image_base + image_ino;
}

/* ---- reading ---- */

static int load_view(struct fsck_model *m)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(m->db, &s, "SELECT image_count, image_base, shift, next_ino FROM view");

    if (r == 0) r = db_step(s);
    if (r <= 0) return r < 0 ? r : -EIO;
    m->image_count = m->image ? image_count(m->image) : db_int(s, 0);
    m->image_base = db_int(s, 1);
    m->shift = db_int(s, 2);
    m->next_ino = db_int(s, 3);
    return 0;
}

static int add_item(struct fsck_model *m, const struct delta_inode *row, bool stored)
{
    int r = grow(&m->items, &m->item_room, m->item_count + 1, sizeof(*m->items));

    if (r < 0) return r;
    m->items[m->item_count++] = (struct fsck_item){.row = *row, .stored = stored, .content = -1};
    return 0;
}

static int add_image(struct fsck_model *m)
{
    for (uint32_t ino = 1; m->image && ino <= m->image_count; ino++) {
        const struct image_inode *i = image_inode(m->image, ino);
        struct delta_inode row = inode_of_image(i, fsck_model_ino(m, ino), ino, fsck_model_ino(m, i->parent));
        int r = add_item(m, &row, false);

        if (r < 0) return r;
    }
    return 0;
}

static void read_row(db_stmt *s, struct delta_inode *row)
{
    *row = (struct delta_inode){
        .ino = db_int(s, 0),
        .image_ino = db_int(s, 1),
        .mode = db_int(s, 2),
        .uid = db_int(s, 3),
        .gid = db_int(s, 4),
        .rdev = db_int(s, 5),
        .nlink = db_int(s, 6),
        .size = db_int(s, 7),
        .atime = db_int(s, 8),
        .mtime = db_int(s, 9),
        .ctime = db_int(s, 10),
        .parent = db_int(s, 11),
        .object = db_is_null(s, 12) ? DELTA_NO_OBJECT : db_int(s, 12),
        .chunked = db_int(s, 13),
        .grown = db_int(s, 14),
    };
}

static int load_inodes(struct fsck_model *m)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(m->db, &s, "SELECT ino, image_ino, mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, parent, "
                                  "object, chunked, grown FROM inode ORDER BY ino");

    while (r == 0 && (r = db_step(s)) > 0) {
        struct delta_inode row;
        uint32_t image_ino;

        read_row(s, &row);
        image_ino = m->image ? fsck_model_image_ino(m, row.ino) : 0;
        r = 0;
        if (image_ino) {
            m->items[image_ino - 1].row = row;
            m->items[image_ino - 1].stored = true;
        } else {
            r = add_item(m, &row, true);
        }
    }
    return r;
}

static int compare_items(const void *a, const void *b)
{
    const struct fsck_item *left = a, *right = b;

    return (left->row.ino > right->row.ino) - (left->row.ino < right->row.ino);
}

static int load_dirents(struct fsck_model *m)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(m->db, &s, "SELECT parent, slot, name, ino, type FROM dirent ORDER BY parent, slot");

    while (r == 0 && (r = db_step(s)) > 0) {
        size_t length;
        const void *name = db_blob(s, 2, &length);

        r = grow(&m->dirents, &m->dirent_room, m->dirent_count + 1, sizeof(*m->dirents));
        if (r == 0) r = grow(&m->text, &m->text_room, m->text_size + length + 1, 1);
        if (r < 0) return r;
        if (length) memcpy(m->text + m->text_size, name, length);
        m->dirents[m->dirent_count++] = (struct fsck_dirent){.parent = db_int(s, 0),
                                                             .slot = db_int(s, 1),
                                                             .ino = db_int(s, 3),
                                                             .type = db_int(s, 4),
                                                             .length = length,
                                                             .name = m->text_size};
        m->text_size += length;
    }
    return r;
}

static int load_contents(struct fsck_model *m)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(m->db, &s, "SELECT ino, length(data) FROM content");

    while (r == 0 && (r = db_step(s)) > 0) {
        struct fsck_item *item = fsck_model_find(m, db_int(s, 0));

        if (item) item->content = db_int(s, 1);
        r = 0;
    }
    return r;
}

static int load_fresh(struct fsck_model *m)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(m->db, &s, "SELECT ino FROM fresh");

    while (r == 0 && (r = db_step(s)) > 0) {
        struct fsck_item *item = fsck_model_find(m, db_int(s, 0));

        if (item) item->fresh = true;
        r = 0;
    }
    return r;
}

static int load_chunks(struct fsck_model *m)
{
    _cleanup_stmt_ db_stmt *s = NULL;
    int r = db_prepare(m->db, &s, "SELECT ino, start, \"end\", source FROM chunk ORDER BY ino, start");

    while (r == 0 && (r = db_step(s)) > 0) {
        struct fsck_item *item = fsck_model_find(m, db_int(s, 0));

        r = grow(&m->chunks, &m->chunk_room, m->chunk_count + 1, sizeof(*m->chunks));
        if (r < 0) return r;
        if (item && item->chunks++ == 0) item->chunk = m->chunk_count;
        m->chunks[m->chunk_count++] = (struct fsck_chunk){db_int(s, 0), db_int(s, 1), db_int(s, 2), db_int(s, 3)};
    }
    return r;
}

int fsck_model_load(struct fsck_model *m, struct db *db, const struct identity *identity, struct image *image)
{
    int r;

    *m = (struct fsck_model){.db = db, .identity = identity, .image = image};
    r = load_view(m);
    if (r == 0) r = add_image(m);
    if (r == 0) r = load_inodes(m);
    /* Rows of numbers that were never given out may stand before the image's. */
    if (r == 0 && m->item_count) qsort(m->items, m->item_count, sizeof(*m->items), compare_items);
    if (r == 0) r = load_dirents(m);
    if (r == 0) r = load_contents(m);
    if (r == 0) r = load_fresh(m);
    return r == 0 ? load_chunks(m) : r;
}

/* ---- asking ---- */

struct fsck_item *fsck_model_find(const struct fsck_model *m, uint64_t ino)
{
    struct fsck_item key = {.row.ino = ino};

    return m->item_count ? bsearch(&key, m->items, m->item_count, sizeof(key), compare_items) : NULL;
}

struct fsck_item *fsck_model_live(const struct fsck_model *m, uint64_t ino)
{
    struct fsck_item *item = fsck_model_find(m, ino);

    return item && item->row.mode ? item : NULL;
}

bool fsck_model_in_image(const struct fsck_model *m, uint64_t dir, const char *name, size_t length)
{
    uint32_t image_dir = m->image ? fsck_model_image_ino(m, dir) : 0;

    return image_dir && length <= 255 && image_lookup(m->image, image_dir, name, length) >= 0;
}

/* The first row of the directory from this slot on. */
static size_t first_dirent(const struct fsck_model *m, uint64_t parent, uint32_t slot)
{
    size_t low = 0, high = m->dirent_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;
        const struct fsck_dirent *e = &m->dirents[middle];

        if (e->parent < parent || (e->parent == parent && e->slot < slot)) low = middle + 1;
        else high = middle;
    }
    return low;
}

/* Does a row say what the image's name means, as the daemon would look for it? */
static bool is_replaced(const struct fsck_model *m, uint64_t dir, const struct image_entry *entry)
{
    uint32_t slot = delta_first_slot(m->identity, entry->name, entry->length);

    for (size_t i = first_dirent(m, dir, slot); i < m->dirent_count; i++) {
        const struct fsck_dirent *e = &m->dirents[i];

        if (e->parent != dir || e->slot > slot + DELTA_SLOTS_PER_HASH - 1) return false;
        if (!e->gone && e->length == entry->length && memcmp(m->text + e->name, entry->name, e->length) == 0) return true;
    }
    return false;
}

static bool has_dirents(const struct fsck_model *m, uint64_t dir)
{
    size_t i = first_dirent(m, dir, 0);

    return i < m->dirent_count && m->dirents[i].parent == dir;
}

static bool is_live_dir(const struct fsck_model *m, uint64_t ino)
{
    const struct fsck_item *item = fsck_model_live(m, ino);

    return item && S_ISDIR(item->row.mode);
}

static int image_names(struct fsck_model *m, fsck_name_fn fn, void *data)
{
    for (uint32_t ino = 1; m->image && ino <= m->image_count; ino++) {
        const struct image_inode *i = image_inode(m->image, ino);
        uint64_t dir = fsck_model_ino(m, ino);
        bool changed;

        if (!S_ISDIR(i->mode) || !is_live_dir(m, dir)) continue;
        changed = has_dirents(m, dir);
        for (uint32_t n = 0; n < i->entries; n++) {
            const struct image_entry *e = image_entry(m->image, i->first_entry + n);
            int r;

            if (changed && is_replaced(m, dir, e)) continue;
            r = fn(m, &(struct fsck_name){dir, fsck_model_ino(m, e->ino), e->name, e->length, 0}, data);
            if (r != 0) return r;
        }
    }
    return 0;
}

int fsck_model_names(struct fsck_model *m, fsck_name_fn fn, void *data)
{
    int r = image_names(m, fn, data);

    for (size_t i = 0; r == 0 && i < m->dirent_count; i++) {
        const struct fsck_dirent *e = &m->dirents[i];

        if (e->gone || e->ino == 0 || e->length > 255 || !is_live_dir(m, e->parent)) continue;
        r = fn(m, &(struct fsck_name){e->parent, e->ino, m->text + e->name, e->length, i + 1}, data);
    }
    return r;
}

static int count_name(struct fsck_model *m, const struct fsck_name *name, void *data)
{
    struct fsck_item *item = fsck_model_find(m, name->ino), *dir = fsck_model_find(m, name->dir);

    (void)data;
    if (!item) return 0;
    if (S_ISDIR(item->row.mode)) dir->subdirs++;
    if (item->names++ > 0 && item->row.parent != name->dir) return 0;
    item->dir = name->dir;
    item->name = name->name;
    item->length = name->length;
    item->dirent = name->dirent;
    return 0;
}

void fsck_model_count(struct fsck_model *m)
{
    for (size_t i = 0; i < m->item_count; i++) {
        m->items[i].names = m->items[i].subdirs = 0;
        m->items[i].dir = 0;
    }
    fsck_model_names(m, count_name, NULL);
}

/* A name may hold what would break the line. */
static void prepend(char **path, const char *name, size_t length)
{
    _cleanup_free_ char *printed = malloc(length + 1);
    char *longer = NULL;

    if (printed && *path) {
        for (size_t i = 0; i < length; i++) printed[i] = (unsigned char)name[i] < ' ' || name[i] == 127 ? '?' : name[i];
        printed[length] = '\0';
        longer = io_format("/%s%s", printed, *path);
    }
    free(*path);
    *path = longer;
}

char *fsck_model_path_in(const struct fsck_model *m, uint64_t dir, const char *name, size_t length)
{
    char *path = io_format("%s", "");

    if (length) prepend(&path, name, length);
    for (int depth = 0; dir != DELTA_ROOT && path; depth++) {
        const struct fsck_item *item = fsck_model_find(m, dir);

        if (!item || !item->dir || depth > DEPTH_MAX) {
            prepend(&path, "?", 1);
            return path;
        }
        prepend(&path, item->name, item->length);
        dir = item->dir;
    }
    if (path && !*path) prepend(&path, "", 0);
    return path;
}

char *fsck_model_path(const struct fsck_model *m, uint64_t ino)
{
    return fsck_model_path_in(m, ino, NULL, 0);
}
