#include "linkmap.h"

#include <errno.h>
#include <stdlib.h>

/* The slot of the file, or the free one where it would be. */
static struct linkmap_slot *find(const struct linkmap *map, dev_t dev, ino_t ino)
{
    uint64_t hash = ((uint64_t)ino ^ (uint64_t)dev << 40) * 0x9e3779b97f4a7c15u;
    size_t i = (hash >> 32) & (map->size - 1);

    while (map->slots[i].number && (map->slots[i].ino != ino || map->slots[i].dev != dev))
        i = (i + 1) & (map->size - 1);
    return &map->slots[i];
}

uint32_t linkmap_get(const struct linkmap *map, dev_t dev, ino_t ino)
{
    return map->slots ? find(map, dev, ino)->number : 0;
}

static int grow(struct linkmap *map)
{
    struct linkmap grown = {.used = map->used, .size = map->size ? map->size * 2 : 256};

    grown.slots = calloc(grown.size, sizeof(*grown.slots));
    if (!grown.slots) return -ENOMEM;
    for (size_t i = 0; i < map->size; i++) {
        const struct linkmap_slot *slot = &map->slots[i];

        if (slot->number) *find(&grown, slot->dev, slot->ino) = *slot;
    }
    free(map->slots);
    *map = grown;
    return 0;
}

int linkmap_put(struct linkmap *map, dev_t dev, ino_t ino, uint32_t number)
{
    if (map->used * 2 >= map->size) {
        int r = grow(map);

        if (r < 0) return r;
    }
    *find(map, dev, ino) = (struct linkmap_slot){dev, ino, number};
    map->used++;
    return 0;
}

void linkmap_free(struct linkmap *map)
{
    free(map->slots);
    *map = (struct linkmap){0};
}
