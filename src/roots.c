#include "roots.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/file.h>

#include "catalog.h"
#include "fdcache.h"
#include "handover.h"
#include "imageset.h"
#include "io.h"
#include "nodeops.h"
#include "room.h"
#include "snapshot.h"
#include "store.h"

#define OPEN_FILES 64
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
    s->shared.files = fdcache_new(OPEN_FILES);
    s->shared.room = &s->room;
    s->shared.nodes_fd = s->nodes_fd;
    s->shared.nodes_path = s->nodes_path;
    if (!s->nodes_path || !s->images_path || !s->shared.files) return -ENOMEM;
    return room_init(&s->room, s->nodes_fd);
}

int roots_open(struct roots **ret_roots, struct store *store)
{
    _cleanup_roots_ struct roots *s = calloc(1, sizeof(*s));
    int r;

    if (!s) return -ENOMEM;
    s->nodes_fd = s->images_fd = -1;
    r = fill(s, store);
    if (r == 0) *ret_roots = io_take(s);
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

char *roots_copy_name(void)
{
    return io_format(NODEOPS_COPY "%d", (int)getpid());
}

int roots_hold(struct roots *s, const char *copy)
{
    _cleanup_close_ int fd = io_open_beneath(s->nodes_fd, copy, O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0) return fd;
    return flock(fd, LOCK_EX | LOCK_NB) < 0 ? -errno : io_take_fd(fd);
}

void roots_discard(struct roots *s, const char *copy)
{
    io_remove_tree(s->nodes_fd, copy);
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

int roots_create(struct roots *s, const char *copy, const char *name, struct view **ret_view)
{
    struct delta_base base = {.image = name};
    struct image *image;
    int r = imageset_get(&s->images, name, &image);

    if (r < 0) return r;
    base.image_count = image_count(image);
    r = snapshot_blank(s->nodes_fd, s->nodes_path, copy, &base, 0);
    if (r == 0) r = view_open(ret_view, &s->shared, 0, copy, image);
    image_unref(image);
    return r;
}
