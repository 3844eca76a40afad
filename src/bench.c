#include "bench.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/random.h>

#include "catalog.h"
#include "fdcache.h"
#include "handover.h"
#include "io.h"
#include "log.h"
#include "nodeops.h"
#include "snapshot.h"
#include "store.h"

static int open_all(struct bench *b)
{
    uint8_t key[32];
    int r = catalog_key(b->store->catalog, key);

    if (r < 0) return r;
    identity_init(&b->identity, key);
    b->images_path = io_format("%s/images", b->store->path);
    b->nodes_path = io_format("%s/nodes", b->store->path);
    b->images_fd = io_open_beneath(b->store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    b->nodes_fd = io_open_beneath(b->store->fd, "nodes", O_RDONLY | O_DIRECTORY, 0);
    if (b->images_fd < 0) return b->images_fd;
    if (b->nodes_fd < 0) return b->nodes_fd;
    r = room_init(&b->room, b->nodes_fd);
    if (r == 0) r = handover_open(&b->shared.handover, -1);
    b->shared.identity = &b->identity;
    b->shared.room = &b->room;
    b->shared.files = fdcache_new(io_raise_nofile() / 4);
    b->shared.nodes_fd = b->nodes_fd;
    b->shared.nodes_path = b->nodes_path;
    if (r == 0 && (!b->images_path || !b->nodes_path || !b->shared.files)) r = -ENOMEM;
    return r;
}

int bench_open(struct bench *b, struct store *store)
{
    int r;

    *b = (struct bench){.store = store, .images_fd = -1, .nodes_fd = -1};
    r = open_all(b);
    if (r < 0) log_error("%s: cannot be worked in: %s", store->path, log_reason(r));
    return r;
}

void bench_close(struct bench *b)
{
    if (b->shared.files) fdcache_free(b->shared.files);
    if (b->shared.handover) handover_close(b->shared.handover);
    if (b->images_fd >= 0) close(b->images_fd);
    if (b->nodes_fd >= 0) close(b->nodes_fd);
    free(b->images_path);
    free(b->nodes_path);
}

int bench_name(struct bench_view *v, struct bench *bench)
{
    uint64_t number;

    *v = (struct bench_view){.bench = bench, .lock_fd = -1};
    if (getrandom(&number, sizeof(number), 0) != sizeof(number)) return -EIO;
    snprintf(v->name, sizeof(v->name), NODEOPS_COPY "%016llx", (unsigned long long)number);
    return 0;
}

static int lock(struct bench_view *v)
{
    v->lock_fd = io_open_beneath(v->bench->nodes_fd, v->name, O_RDONLY | O_DIRECTORY, 0);
    if (v->lock_fd < 0) return v->lock_fd;
    if (flock(v->lock_fd, LOCK_EX | LOCK_NB) < 0) return -errno;
    /* A daemon that has just started may have taken it for a leftover. */
    return faccessat(v->bench->nodes_fd, v->name, F_OK, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

int bench_take(struct bench_view *v)
{
    struct bench *b = v->bench;
    struct snapshot_info info = {0};
    int r = lock(v);

    if (r == 0) r = snapshot_look(b->nodes_fd, b->nodes_path, v->name, &info);
    if (r == 0) r = image_open(&v->image, b->images_fd, b->images_path, info.image);
    if (r == 0) r = view_open_sealed(&v->view, &b->shared, v->name, v->image);
    free(info.image);
    return r == -ENOENT ? -EIO : r;
}

/* A delta that begins its numbers behind those of the other. */
static int make_behind(struct bench_view *v, const struct bench_view *other)
{
    struct bench *b = v->bench;
    struct delta_base base = {.image = image_name(v->image), .image_count = image_count(v->image)};
    int r = snapshot_blank(b->nodes_fd, b->nodes_path, v->name, &base, 0);

    return r < 0 ? r : snapshot_reserve(b->nodes_path, v->name, delta_reserved(atomic_load(&other->view->delta)));
}

int bench_make(struct bench_view *v, const char *image, const struct bench_view *other)
{
    struct bench *b = v->bench;
    int r = image_open(&v->image, b->images_fd, b->images_path, image);

    if (r < 0) return r;
    r = other ? make_behind(v, other) : io_mkdir(b->nodes_fd, v->name, 0700);
    if (r == 0) r = lock(v);
    return r < 0 ? r : view_open(&v->view, &b->shared, 0, v->name, v->image);
}

int bench_finish(struct bench_view *v)
{
    struct delta *d;
    int r = view_begin(v->view, &d); /* without changes there would be no delta */

    if (r == 0) r = view_end(v->view, d, 0, VIEW_LAZY);
    if (r == 0) r = view_sync(v->view);
    view_close(io_take(v->view));
    return r < 0 ? r : snapshot_seal(v->bench->nodes_path, v->name);
}

void bench_clear(struct bench_view *v)
{
    view_close(v->view);
    image_unref(v->image);
    if (*v->name) io_remove_tree(v->bench->nodes_fd, v->name);
    if (v->lock_fd >= 0) close(v->lock_fd);
}
