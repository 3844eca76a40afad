/* bench: where a command works on copies of a node's changes, beside the daemon: views of its own, on directories nodes/.copy-…
 * (see nodeops.h), which it holds locked. What it leaves when it is killed, the next daemon or command removes. */
#pragma once

#include "room.h"
#include "view.h"

struct store;

struct bench {
    struct store *store;
    struct identity identity;
    struct room room;
    struct view_shared shared;
    int images_fd, nodes_fd;
    char *images_path, *nodes_path;
};

/* Logs its failures. The store is borrowed. */
int bench_open(struct bench *bench, struct store *store);
void bench_close(struct bench *bench);
#define _cleanup_bench_ __attribute__((cleanup(bench_close)))

/* One directory of it. */
struct bench_view {
    struct bench *bench;
    char name[64];
    int lock_fd;
    struct image *image;
    struct view *view;
};

/* A name that nobody has; nothing is made yet. */
int bench_name(struct bench_view *v, struct bench *bench);
/* What operation `copy` has put there, for reading. */
int bench_take(struct bench_view *v);
/* A new one without changes, for writing, on this image. Its numbers begin above those of `other` (NULL: anywhere), whose objects may be
 * linked into it. -ENOENT: there is no such image. */
int bench_make(struct bench_view *v, const char *image, const struct bench_view *other);
/* Its changes are in delta.db alone, which is closed: they can be switched to. */
int bench_finish(struct bench_view *v);
/* Removes it, unless it has been taken away. */
void bench_clear(struct bench_view *v);
#define _cleanup_bench_view_ __attribute__((cleanup(bench_clear)))
