#include "fsck_names.h"

#include <dirent.h>
#include <string.h>
#include <sys/stat.h>

#define LL(x) ((long long)(x))

static bool has_type(uint32_t mode)
{
    static const bool known[16] = {[1] = 1, [2] = 1, [4] = 1, [6] = 1, [8] = 1, [10] = 1, [12] = 1};

    return mode <= 0xffff && known[mode >> 12];
}

/* ---- rows ---- */

static bool is_number_possible(const struct fsck_model *m, const struct fsck_item *item)
{
    uint64_t ino = item->row.ino;

    if (ino == DELTA_ROOT || fsck_model_image_ino(m, ino)) return true;
    return ino > m->image_base + m->image_count && ino < m->next_ino;
}

static void remove_inode(struct fsck_check *c, uint64_t ino)
{
    fsck_exec(c, "DELETE FROM inode WHERE ino = :ino", ":ino", (int64_t)ino, NULL);
}

static void check_row(struct fsck_check *c, struct fsck_item *item)
{
    struct fsck_model *m = &c->model;
    struct delta_inode *row = &item->row;
    uint32_t own = m->image ? fsck_model_image_ino(m, row->ino) : 0;

    if (!is_number_possible(m, item)) {
        if (row->ino > m->next_ino && row->ino < m->next_ino + (UINT64_C(1) << 40)) {
            if (fsck_found(c, row->ino, "raised", "the next number to be given out is below it"))
                fsck_exec(c, "UPDATE view SET next_ino = max(next_ino, :ino + 65536)", ":ino", (int64_t)row->ino, NULL);
            return;
        }
        if (fsck_found(c, row->ino, "removed", "a number that was never given out")) remove_inode(c, row->ino);
        row->mode = 0;
        return;
    }
    if (row->mode == 0) {
        if (own || !m->image) return;
        if (fsck_found(c, row->ino, "removed", "is over, and no inode of the image")) remove_inode(c, row->ino);
        return;
    }
    if (!has_type(row->mode)) {
        if (fsck_found(c, row->ino, "made a regular file", "no type: mode %o", row->mode))
            fsck_exec(c, "UPDATE inode SET mode = :mode WHERE ino = :ino", ":mode", (int64_t)(S_IFREG | (row->mode & 07777)),
                      ":ino", (int64_t)row->ino, NULL);
        row->mode = S_IFREG | (row->mode & 07777);
    }
    if (m->image && row->image_ino && row->image_ino != own) {
        if (fsck_found(c, row->ino, "cleared", "says it was inode %u of the image", row->image_ino))
            fsck_exec(c, "UPDATE inode SET image_ino = :own WHERE ino = :ino", ":own", (int64_t)own, ":ino",
                      (int64_t)row->ino, NULL);
        row->image_ino = own;
    }
}

void fsck_names_rows(struct fsck_check *c)
{
    for (size_t i = 0; i < c->model.item_count; i++)
        if (c->model.items[i].stored) check_row(c, &c->model.items[i]);
}

/* ---- names ---- */

static bool is_name_valid(const char *name, size_t length)
{
    if (length < 1 || length > 255 || memchr(name, '/', length) || memchr(name, '\0', length)) return false;
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

static void remove_dirent(struct fsck_check *c, struct fsck_dirent *e)
{
    fsck_exec(c, "DELETE FROM dirent WHERE parent = :parent AND slot = :slot", ":parent", (int64_t)e->parent, ":slot",
              (int64_t)e->slot, NULL);
}

static struct fsck_name name_of(const struct fsck_check *c, const struct fsck_dirent *e)
{
    return (struct fsck_name){.dir = e->parent,
                              .ino = e->ino,
                              .name = c->model.text + e->name,
                              .length = e->length > 255 ? 255 : e->length};
}

#define REMOVE(...)                                                                   \
    do {                                                                              \
        if (fsck_found_name(c, &name, "removed", __VA_ARGS__)) remove_dirent(c, e);   \
        e->gone = true;                                                               \
        return;                                                                       \
    } while (0)

static bool has_earlier_twin(const struct fsck_check *c, const struct fsck_dirent *e)
{
    for (const struct fsck_dirent *other = e; other-- > c->model.dirents;) {
        if (other->parent != e->parent || other->slot >> 4 != e->slot >> 4) return false;
        if (!other->gone && other->length == e->length &&
            memcmp(c->model.text + other->name, c->model.text + e->name, e->length) == 0)
            return true;
    }
    return false;
}

/* A name whose inode is not there: without its row the image's file of this name would show again. */
static void check_dangling(struct fsck_check *c, struct fsck_dirent *e, const struct fsck_name *name)
{
    bool in_image = fsck_model_in_image(&c->model, e->parent, name->name, name->length);

    if (fsck_found_name(c, name, "removed", "its inode is not there")) {
        if (in_image) fsck_put_name(c, e->parent, name->name, name->length, 0, 0);
        else remove_dirent(c, e);
    }
    if (in_image) e->ino = 0;
    else e->gone = true;
}

static void check_dirent(struct fsck_check *c, struct fsck_dirent *e)
{
    const struct fsck_item *dir = fsck_model_live(&c->model, e->parent), *item;
    struct fsck_name name = name_of(c, e);

    if (!is_name_valid(name.name, e->length)) REMOVE("no possible name, of %zu bytes", e->length);
    if (!dir) REMOVE("in directory %llu, which is not there", LL(e->parent));
    if (!S_ISDIR(dir->row.mode)) REMOVE("in what is no directory");
    if (e->slot >> 4 != delta_first_slot(c->model.identity, name.name, name.length) >> 4) {
        if (fsck_found_name(c, &name, "moved", "in slot %u, where nobody looks for it", e->slot)) {
            remove_dirent(c, e);
            fsck_put_name(c, e->parent, name.name, name.length, e->ino, e->type);
        }
        return;
    }
    if (has_earlier_twin(c, e)) REMOVE("the same name twice");
    if (e->ino == 0) {
        if (!fsck_model_in_image(&c->model, e->parent, name.name, name.length)) REMOVE("a whiteout that hides nothing");
        return;
    }
    item = fsck_model_live(&c->model, e->ino);
    if (!item) return check_dangling(c, e, &name);
    if (e->type == IFTODT(item->row.mode)) return;
    if (fsck_found_name(c, &name, "corrected", "of type %u, its inode of type %u", e->type, IFTODT(item->row.mode)))
        fsck_exec(c, "UPDATE dirent SET type = :type WHERE parent = :parent AND slot = :slot", ":type",
                  (int64_t)IFTODT(item->row.mode), ":parent", (int64_t)e->parent, ":slot", (int64_t)e->slot, NULL);
}

void fsck_names_dirents(struct fsck_check *c)
{
    fsck_model_count(&c->model); /* for paths */
    for (size_t i = 0; i < c->model.dirent_count; i++) check_dirent(c, &c->model.dirents[i]);
}

/* ---- the tree ---- */

/* Takes a name away: by a whiteout where the image has it. */
static void remove_name(struct fsck_check *c, const struct fsck_name *name)
{
    if (fsck_model_in_image(&c->model, name->dir, name->name, name->length))
        fsck_put_name(c, name->dir, name->name, name->length, 0, 0);
    else
        remove_dirent(c, &c->model.dirents[name->dirent - 1]);
}

/* The name of an inode that is over (a row's was dealt with before), or one name of a directory too many. */
static int check_name(struct fsck_model *m, const struct fsck_name *name, void *data)
{
    struct fsck_check *c = data;
    const struct fsck_item *item = fsck_model_find(m, name->ino);
    bool is_over = !item || !item->row.mode, is_second, is_root;

    is_second = !is_over && S_ISDIR(item->row.mode) && item->names > 1 &&
                (item->dir != name->dir || item->dirent != name->dirent || item->name != name->name);
    is_root = name->ino == DELTA_ROOT;
    if (!is_over && !is_second && !is_root) return 0;
    if (fsck_found_name(c, name, "removed",
                        is_over ? "its inode is over" : is_root ? "a name of the root" : "another name of a directory"))
        remove_name(c, name);
    return 0;
}

enum { UNKNOWN, UNDER_WAY, GOOD };

/* Follows the names upwards: NULL when they lead to the root or to something without a name, else a directory in the
 * circle. */
static struct fsck_item *find_circle(struct fsck_model *m, struct fsck_item *from)
{
    struct fsck_item *item = from, *circle = NULL;

    while (item && item->walk == UNKNOWN && item->row.ino != DELTA_ROOT && item->dir) {
        item->walk = UNDER_WAY;
        item = fsck_model_find(m, item->dir);
    }
    if (item && item->walk == UNDER_WAY) circle = item;
    for (item = from; item && item->walk != GOOD; item = item->dir ? fsck_model_find(m, item->dir) : NULL) {
        if (item->walk == UNKNOWN) break;
        item->walk = GOOD;
    }
    return circle;
}

static void check_parent(struct fsck_check *c, struct fsck_item *item)
{
    uint64_t due = item->row.ino == DELTA_ROOT ? DELTA_ROOT : item->dir;

    if (!due || item->row.parent == due) return;
    if (!fsck_found(c, item->row.ino, "corrected", "says it lies in directory %llu", LL(item->row.parent))) return;
    fsck_materialize(c, item);
    fsck_exec(c, "UPDATE inode SET parent = :dir WHERE ino = :ino", ":dir", (int64_t)due, ":ino", (int64_t)item->row.ino,
              NULL);
}

void fsck_names_tree(struct fsck_check *c)
{
    struct fsck_model *m = &c->model;

    fsck_model_count(m);
    fsck_model_names(m, check_name, c);
    for (size_t i = 0; i < m->item_count; i++) {
        struct fsck_item *item = &m->items[i], *circle;
        struct fsck_name name;

        if (!S_ISDIR(item->row.mode)) continue;
        circle = find_circle(m, item);
        if (circle) {
            name = (struct fsck_name){circle->dir, circle->row.ino, circle->name, circle->length, circle->dirent};
            circle->dir = 0; /* no path leads out of it */
            if (fsck_found(c, circle->row.ino, "taken out", "directories in a circle")) remove_name(c, &name);
        }
        check_parent(c, item);
    }
}

/* ---- without a name ---- */

static void lose(struct fsck_check *c, struct fsck_item *item)
{
    uint64_t ino = item->row.ino;

    if (!item->stored) {
        if (!fsck_found(c, ino, "ended", "inode of the image without a name, and without the row that says so")) return;
        fsck_exec(c,
                  "INSERT INTO inode(ino, image_ino, mode, uid, gid, rdev, nlink, size, atime, mtime, ctime, parent, chunked) "
                  "VALUES(:ino, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0)",
                  ":ino", (int64_t)ino, NULL);
        return;
    }
    if (!fsck_found(c, ino, "put into lost+found", "has lost its name")) return;
    fsck_keep(c, ino, IFTODT(item->row.mode), "#");
    if (!S_ISDIR(item->row.mode))
        fsck_exec(c, "UPDATE inode SET nlink = 1 WHERE ino = :ino", ":ino", (int64_t)ino, NULL);
}

void fsck_names_lost(struct fsck_check *c)
{
    struct fsck_model *m = &c->model;

    fsck_model_count(m);
    for (size_t i = 0; i < m->item_count; i++) {
        struct fsck_item *item = &m->items[i];

        if (!item->row.mode || item->row.ino == DELTA_ROOT || item->names) continue;
        /* nlink 0: in use when its last name went, and swept at the next mount. */
        if (item->row.nlink > 0) lose(c, item);
    }
}

void fsck_names_links(struct fsck_check *c)
{
    struct fsck_model *m = &c->model;

    fsck_model_count(m);
    for (size_t i = 0; i < m->item_count; i++) {
        struct fsck_item *item = &m->items[i];
        bool is_dir = S_ISDIR(item->row.mode);
        bool is_named = item->names || item->row.ino == DELTA_ROOT;
        uint32_t due = !is_named ? 0 : is_dir ? 2 + item->subdirs : item->names;

        if (!item->row.mode || item->row.nlink == due || (!is_named && item->row.nlink > 0)) continue;
        if (!fsck_found(c, item->row.ino, "corrected", "link count %u, not %u", item->row.nlink, due)) continue;
        fsck_materialize(c, item);
        fsck_exec(c, "UPDATE inode SET nlink = :links WHERE ino = :ino", ":links", (int64_t)due, ":ino",
                  (int64_t)item->row.ino, NULL);
    }
}
