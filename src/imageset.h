/* imageset: the images in use, each read once and shared by the views that stand on it. */
#pragma once

#include <pthread.h>

#include "image.h"

struct fdcache;

struct imageset {
    pthread_mutex_t lock; /* guards the list; nothing is taken under it */
    struct imageset_item *items;
    const char *path; /* STORE/images, borrowed as the descriptor is */
    int fd;
};

void imageset_init(struct imageset *set, int images_fd, const char *images_path);
/* Gives up all of them, and their files in `files`. */
void imageset_free(struct imageset *set, struct fdcache *files);

/* As image_open(); the caller holds a reference. */
int imageset_get(struct imageset *set, const char *name, struct image **ret_image);
