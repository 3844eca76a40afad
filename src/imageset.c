#include "imageset.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fdcache.h"

struct imageset_item {
    struct image *image;
    struct imageset_item *next;
};

void imageset_init(struct imageset *set, int images_fd, const char *images_path)
{
    *set = (struct imageset){.path = images_path, .fd = images_fd};
    pthread_mutex_init(&set->lock, NULL);
}

void imageset_free(struct imageset *set, struct fdcache *files)
{
    while (set->items) {
        struct imageset_item *i = set->items;

        set->items = i->next;
        fdcache_drop_owner(files, i->image);
        image_unref(i->image);
        free(i);
    }
    pthread_mutex_destroy(&set->lock);
}

static int add(struct imageset *set, const char *name, struct imageset_item **ret_item)
{
    struct imageset_item *i = calloc(1, sizeof(*i));
    int r = i ? image_open(&i->image, set->fd, set->path, name) : -ENOMEM;

    if (r < 0) {
        free(i);
        return r;
    }
    i->next = set->items;
    *ret_item = set->items = i;
    return 0;
}

int imageset_get(struct imageset *set, const char *name, struct image **ret_image)
{
    struct imageset_item *i;
    int r = 0;

    pthread_mutex_lock(&set->lock);
    for (i = set->items; i && strcmp(image_name(i->image), name) != 0;) i = i->next;
    if (!i) r = add(set, name, &i);
    if (r == 0) *ret_image = image_ref(i->image);
    pthread_mutex_unlock(&set->lock);
    return r;
}
