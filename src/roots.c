#include "roots.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>

#include "catalog.h"
#include "fdcache.h"
#include "handover.h"
#include "imageset.h"
#include "io.h"
#include "log.h"
#include "nodeops.h"
#include "room.h"
#include "snapshot.h"
#include "store.h"

#define NOBODY ".none" /* no node has this serial, so no change of it is found */

struct roots {
    struct view_shared shared;
    struct identity identity;
    struct room room;
    struct imageset images;
    char *nodes_path, *images_path;
    int nodes_fd, images_fd;
};

static int fill(struct roots *s, struct store *store)
{
    uint8_t key[32];
    int r = catalog_key(store->catalog, key);

    if (r == 0) r = handover_open(&s->shared.handover, -1);
    if (r < 0) return r;
    identity_init(&s->identity, key);
    s->nodes_path = io_format("%s/nodes", store->path);
    s->images_path = io_format("%s/images", store->path);
    s->nodes_fd = io_open_beneath(store->fd, "nodes", O_RDONLY | O_DIRECTORY, 0);
    s->images_fd = io_open_beneath(store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    if (s->nodes_fd < 0) return s->nodes_fd;
    if (s->images_fd < 0) return s->images_fd;
    imageset_init(&s->images, s->images_fd, s->images_path);
    s->shared.identity = &s->identity;
    s->shared.files = fdcache_new(io_raise_nofile() / 4);
    s->shared.room = &s->room;
    s->shared.nodes_fd = s->nodes_fd;
    s->shared.nodes_path = s->nodes_path;
    if (!s->nodes_path || !s->images_path || !s->shared.files) return -ENOMEM;
    return room_init(&s->room, s->nodes_fd);
}

int roots_open(struct roots **ret_roots, struct store *store)
{
    _cleanup_roots_ struct roots *s = calloc(1, sizeof(*s));
    int r = -ENOMEM;

    if (s) {
        s->nodes_fd = s->images_fd = -1;
        r = fill(s, store);
    }
    if (r < 0) log_error("%s: nodes' roots cannot be opened: %s", store->path, log_reason(r));
    else *ret_roots = io_take(s);
    return r;
}

void roots_close(struct roots *s)
{
    if (!s) return;
    if (s->shared.files) {
        imageset_free(&s->images, s->shared.files);
        fdcache_free(s->shared.files);
    }
    if (s->shared.handover) handover_close(s->shared.handover);
    if (s->nodes_fd >= 0) close(s->nodes_fd);
    if (s->images_fd >= 0) close(s->images_fd);
    free(s->nodes_path);
    free(s->images_path);
    free(s);
}

int roots_view(struct roots *s, const char *directory, struct view **ret_view)
{
    struct snapshot_info info;
    struct image *image;
    int r = snapshot_look(s->nodes_fd, s->nodes_path, directory, &info);

    if (r < 0) return r;
    r = imageset_get(&s->images, info.image, &image);
    free(info.image);
    if (r < 0) return r;
    r = view_open_sealed(ret_view, &s->shared, directory, image);
    image_unref(image);
    return r;
}

int roots_image_view(struct roots *s, struct view *view, struct view **ret_view)
{
    return view_open(ret_view, &s->shared, 0, NOBODY, view->image);
}

int roots_copy_name(struct roots_copy *copy, struct roots *roots)
{
    uint64_t number;

    *copy = (struct roots_copy){.roots = roots, .hold = -1};
    if (getrandom(&number, sizeof(number), 0) != sizeof(number)) return -EIO;
    snprintf(copy->name, sizeof(copy->name), NODEOPS_COPY "%016llx", (unsigned long long)number);
    return 0;
}

static int hold(struct roots_copy *copy)
{
    copy->hold = io_open_beneath(copy->roots->nodes_fd, copy->name, O_RDONLY | O_DIRECTORY, 0);
    if (copy->hold < 0) return copy->hold;
    if (flock(copy->hold, LOCK_EX | LOCK_NB) < 0) return -errno;
    /* A daemon that has just started may have taken it for a leftover. */
    return faccessat(copy->roots->nodes_fd, copy->name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int roots_copy_take(struct roots_copy *copy)
{
    int r = hold(copy);

    if (r == 0) r = roots_view(copy->roots, copy->name, &copy->view);
    return r == -ENOENT ? -EIO : r;
}

static int make_on(struct roots_copy *copy, struct image *image, const struct roots_copy *other)
{
    struct roots *s = copy->roots;
    struct delta_base base = {.image = image_name(image), .image_count = image_count(image)};
    int r = snapshot_blank(s->nodes_fd, s->nodes_path, copy->name, &base, 0);

    if (r == 0 && other) r = snapshot_reserve(s->nodes_path, copy->name, delta_reserved(atomic_load(&other->view->delta)));
    if (r == 0) r = hold(copy);
    return r < 0 ? r : view_open(&copy->view, &s->shared, 0, copy->name, image);
}

int roots_copy_make(struct roots_copy *copy, const char *name, const struct roots_copy *other)
{
    struct image *image;
    int r = imageset_get(&copy->roots->images, name, &image);

    if (r < 0) return r;
    r = make_on(copy, image, other);
    image_unref(image);
    return r;
}

int roots_copy_finish(struct roots_copy *copy)
{
    int r = view_sync(copy->view);

    view_close(io_take(copy->view));
    return r < 0 ? r : snapshot_seal(copy->roots->nodes_path, copy->name);
}

void roots_copy_clear(struct roots_copy *copy)
{
    view_close(copy->view);
    if (*copy->name) io_remove_tree(copy->roots->nodes_fd, copy->name);
    if (copy->hold >= 0) close(copy->hold);
}
