#include "inomap.h"

#include <errno.h>
#include <stdlib.h>

static size_t home(const struct inomap *map, uint64_t ino)
{
    return (ino * UINT64_C(0x9e3779b97f4a7c15)) >> 20 & map->mask;
}

static struct inomap_slot *find(const struct inomap *map, uint64_t ino)
{
    size_t i = home(map, ino);

    while (map->slots[i].ino && map->slots[i].ino != ino) i = (i + 1) & map->mask;
    return &map->slots[i];
}

static int resize(struct inomap *map, size_t size)
{
    struct inomap old = *map;
    struct inomap_slot *slots = calloc(size, sizeof(*slots));

    if (!slots) return -ENOMEM;
    map->slots = slots;
    map->mask = size - 1;
    for (size_t i = 0; old.slots && i <= old.mask; i++)
        if (old.slots[i].ino) *find(map, old.slots[i].ino) = old.slots[i];
    free(old.slots);
    return 0;
}

void inomap_clear(struct inomap *map)
{
    free(map->slots);
    *map = (struct inomap){0};
}

uint64_t inomap_get(const struct inomap *map, uint64_t ino)
{
    return map->slots ? find(map, ino)->count : 0;
}

int inomap_add(struct inomap *map, uint64_t ino, uint64_t count)
{
    struct inomap_slot *slot;

    if (!map->slots || map->used * 4 > map->mask * 3) {
        int r = resize(map, map->slots ? (map->mask + 1) * 2 : 64);

        if (r < 0) return r;
    }
    slot = find(map, ino);
    if (!slot->ino) {
        slot->ino = ino;
        map->used++;
    }
    slot->count += count;
    return 0;
}

/* Moves later members of the probe sequence up, so that no tombstones are needed. */
static void erase(struct inomap *map, size_t hole)
{
    for (size_t i = (hole + 1) & map->mask; map->slots[i].ino; i = (i + 1) & map->mask) {
        size_t distance = (i - home(map, map->slots[i].ino)) & map->mask;

        if (distance < ((i - hole) & map->mask)) continue;
        map->slots[hole] = map->slots[i];
        hole = i;
    }
    map->slots[hole] = (struct inomap_slot){0};
    map->used--;
}

uint64_t inomap_sub(struct inomap *map, uint64_t ino, uint64_t count)
{
    struct inomap_slot *slot = map->slots ? find(map, ino) : NULL;

    if (!slot || !slot->ino) return 0;
    if (slot->count > count) return slot->count -= count;
    erase(map, slot - map->slots);
    return 0;
}
