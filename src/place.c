#include "place.h"

#include <limits.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "view.h"

/* One name of an inode. */
struct name {
    uint64_t dir;
    size_t length;
    char text[256];
};

static bool find_in_delta(struct delta *d, uint64_t ino, struct name *name)
{
    struct delta_dirent e;

    if (!d || delta_find_name(d, ino, &name->dir, &e) <= 0) return false;
    name->length = e.length;
    memcpy(name->text, e.name, e.length);
    return true;
}

/* The image's name shows in the view, unless a row says something else. */
static bool shows(struct delta *d, const struct name *name)
{
    struct delta_dirent e;

    return !d || delta_get_dirent(d, name->dir, name->text, name->length, &e) == 0;
}

static bool find_in_image(struct view *v, struct delta *d, uint64_t ino, struct name *name)
{
    uint32_t image_ino = view_image_ino(v, ino);
    const struct image_entry *e;

    for (uint32_t i = 0; image_ino && (e = image_entry(v->image, i)); i++) {
        if (e->ino != image_ino) continue;
        name->dir = view_ino(v, e->parent);
        name->length = e->length;
        memcpy(name->text, e->name, e->length);
        if (shows(d, name)) return true;
    }
    return false;
}

/* From its end; false: no room. */
static bool put_before(char *path, size_t *at, const struct name *name)
{
    if (*at < name->length + 1) return false;
    *at -= name->length;
    memcpy(path + *at, name->text, name->length);
    path[--*at] = '/';
    return true;
}

char *place_of(struct view *v, struct delta *d, uint64_t ino)
{
    char path[PATH_MAX]; /* each name takes some of it: rows in a circle come to an end, too */
    size_t at = sizeof(path) - 1;
    struct name name;

    path[at] = '\0';
    if (ino == DELTA_ROOT) return strdup("/");
    for (; ino != DELTA_ROOT; ino = name.dir)
        if ((!find_in_delta(d, ino, &name) && !find_in_image(v, d, ino, &name)) || !put_before(path, &at, &name)) return NULL;
    return strdup(path + at);
}
