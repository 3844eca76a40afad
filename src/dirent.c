#include "dirent.h"

#include <errno.h>
#include <string.h>

#define COOKIE_IMAGE 3u
#define COOKIE_DELTA (1u << 30)

static bool is_changed(struct view *v, struct delta *d, uint64_t dir)
{
    return d && (!view_image_ino(v, dir) || inomap_get(&v->changed_dirs, dir));
}

/* A directory that is not the image's has all its names in the delta. */
static bool in_image(struct view *v, uint64_t dir, const char *name, size_t length)
{
    uint32_t image_dir = view_image_ino(v, dir);

    return image_dir && image_lookup(v->image, image_dir, name, length) >= 0;
}

int dirent_find(struct view *v, struct delta *d, uint64_t dir, const char *name, size_t length, struct dirent_found *ret)
{
    uint32_t image_dir = view_image_ino(v, dir);
    int64_t index;

    if (is_changed(v, d, dir)) {
        struct delta_dirent row;
        int r = delta_get_dirent(d, dir, name, length, &row);

        if (r < 0) return damage_found(v, d, dir, r, "its names");
        if (r > 0) {
            *ret = (struct dirent_found){row.ino, row.type};
            return row.ino != 0;
        }
    }
    index = image_dir ? image_lookup(v->image, image_dir, name, length) : -1;
    if (index < 0) return 0;
    *ret = (struct dirent_found){view_ino(v, image_entry(v->image, index)->ino), image_entry(v->image, index)->type};
    return 1;
}

static int mark(struct view *v, uint64_t dir)
{
    return !view_image_ino(v, dir) || inomap_get(&v->changed_dirs, dir) ? 0 : inomap_add(&v->changed_dirs, dir, 1);
}

int dirent_set(struct view *v, struct delta *d, uint64_t dir, const char *name, size_t length, uint64_t ino, uint8_t type)
{
    int r = mark(v, dir);

    return r < 0 ? r : delta_set_dirent(d, dir, name, length, ino, type);
}

int dirent_remove(struct view *v, struct delta *d, uint64_t dir, const char *name, size_t length)
{
    if (in_image(v, dir, name, length)) return dirent_set(v, d, dir, name, length, 0, 0);
    return delta_remove_dirent(d, dir, name, length);
}

int dirent_is_empty(struct view *v, struct delta *d, uint64_t dir)
{
    uint32_t image_dir = view_image_ino(v, dir);
    const struct image_inode *i = image_dir ? image_inode(v->image, image_dir) : NULL;
    int r = is_changed(v, d, dir) ? delta_has_live_dirent(d, dir) : 0;

    if (r != 0) return r < 0 ? damage_found(v, d, dir, r, "its names") : 0;
    for (uint32_t n = 0; i && n < i->entries; n++) {
        const struct image_entry *e = image_entry(v->image, i->first_entry + n);
        struct dirent_found found;

        r = dirent_find(v, d, dir, e->name, e->length, &found);
        if (r != 0) return r < 0 ? r : 0;
    }
    return 1;
}

static int next_in_image(struct view *v, struct delta *d, uint64_t dir, uint32_t cookie, struct dirent_entry *ret)
{
    uint32_t image_dir = view_image_ino(v, dir);
    const struct image_inode *i = image_dir ? image_inode(v->image, image_dir) : NULL;
    uint32_t n = cookie < COOKIE_IMAGE ? 0 : cookie - COOKIE_IMAGE + 1;

    for (; i && n < i->entries; n++) {
        const struct image_entry *e = image_entry(v->image, i->first_entry + n);
        struct dirent_found found = {view_ino(v, e->ino), e->type};
        int r = is_changed(v, d, dir) ? dirent_find(v, d, dir, e->name, e->length, &found) : 1;

        if (r < 0) return r;
        if (r == 0) continue;
        *ret = (struct dirent_entry){
            .ino = found.ino, .cookie = COOKIE_IMAGE + n, .type = found.type, .length = e->length};
        memcpy(ret->name, e->name, e->length);
        return 1;
    }
    return 0;
}

static int next_in_delta(struct view *v, struct delta *d, uint64_t dir, uint32_t cookie, struct dirent_entry *ret)
{
    uint32_t slot = cookie < COOKIE_DELTA ? 0 : cookie - COOKIE_DELTA + 1;
    struct delta_dirent row;
    int r;

    while ((r = delta_next_dirent(d, dir, slot, &row)) > 0) {
        slot = row.slot + 1;
        if (row.ino == 0 || in_image(v, dir, row.name, row.length)) continue;
        *ret = (struct dirent_entry){
            .ino = row.ino, .cookie = COOKIE_DELTA + row.slot, .type = row.type, .length = row.length};
        memcpy(ret->name, row.name, row.length + 1);
        return 1;
    }
    return r < 0 ? damage_found(v, d, dir, r, "its names") : 0;
}

int dirent_next(struct view *v, struct delta *d, uint64_t dir, uint32_t cookie, struct dirent_entry *ret)
{
    int r = cookie < COOKIE_DELTA ? next_in_image(v, d, dir, cookie, ret) : 0;

    if (r != 0 || !is_changed(v, d, dir)) return r;
    return next_in_delta(v, d, dir, cookie, ret);
}
