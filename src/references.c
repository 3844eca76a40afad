#include "references.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "identity.h"

/* An open hash table in one of the two areas. An entry whose count is 0 keeps its key, so that nothing ever moves: such
 * entries go when the living ones are copied into a new table, which then takes the old one's place by one store. */
#define ROOM_LEAST 1024

static uint64_t key_of(uint32_t node, uint64_t ino)
{
    return (uint64_t)node << IDENTITY_INO_BITS | ino;
}

static size_t slot_of(uint64_t key, size_t room)
{
    return (key * UINT64_C(0x9e3779b97f4a7c15) >> 20) & (room - 1);
}

/* The entry of the key, or the free one where it belongs. */
static struct handover_reference *find(struct handover_reference *table, size_t room, uint64_t key)
{
    size_t i = slot_of(key, room);

    while (table[i].key && table[i].key != key) i = (i + 1) & (room - 1);
    return &table[i];
}

static int map_table(int fd, const struct handover_area *area, struct handover_reference **ret)
{
    void *memory = mmap(NULL, area->count * sizeof(**ret), PROT_READ | PROT_WRITE, MAP_SHARED, fd, area->offset);

    if (memory == MAP_FAILED) return -errno;
    *ret = memory;
    return 0;
}

/* A new table behind the end of the file, of zeros. */
static int make_table(struct handover *h, size_t room, struct handover_area *area, struct handover_reference **ret)
{
    const off_t page = sysconf(_SC_PAGESIZE);
    struct stat st;

    if (fstat(h->fd, &st) < 0) return -errno;
    *area = (struct handover_area){.offset = (st.st_size + page - 1) / page * page, .count = room};
    if (ftruncate(h->fd, area->offset + room * sizeof(**ret)) < 0) return -errno;
    return map_table(h->fd, area, ret);
}

/* From here on the other area is the table; what the old one held is given back. */
static void switch_to(struct handover *h, const struct handover_area *area, struct handover_reference *table, size_t used)
{
    struct handover_page *page = h->page;
    uint32_t which = !atomic_load(&page->area);
    struct handover_area old = page->areas[!which];

    page->areas[which] = *area;
    atomic_store(&page->area, which);
    if (h->table) munmap(h->table, old.count * sizeof(*table));
    if (old.count) fallocate(h->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, old.offset, old.count * sizeof(*table));
    h->table = table;
    h->room = area->count;
    h->used = used;
}

static size_t living(const struct handover *h)
{
    size_t count = 0;

    for (size_t i = 0; i < h->room; i++) count += h->table[i].count > 0;
    return count;
}

static int rebuild(struct handover *h)
{
    struct handover_reference *table = NULL;
    struct handover_area area;
    size_t used = living(h), room = ROOM_LEAST;
    int r;

    while (room < used * 3) room *= 2;
    r = make_table(h, room, &area, &table);
    if (r < 0) return r;
    for (size_t i = 0; i < h->room; i++)
        if (h->table[i].count) *find(table, room, h->table[i].key) = h->table[i];
    switch_to(h, &area, table, used);
    return 0;
}

int references_open(struct handover *h)
{
    const struct handover_area *area = &h->page->areas[atomic_load(&h->page->area)];
    int r;

    if (!area->count) return rebuild(h);
    r = map_table(h->fd, area, &h->table);
    if (r < 0) return r;
    h->room = area->count;
    for (size_t i = 0; i < h->room; i++) h->used += h->table[i].key != 0;
    return 0;
}

void references_close(struct handover *h)
{
    if (h->table) munmap(h->table, h->room * sizeof(*h->table));
    h->table = NULL;
}

/* lock held. */
static int add(struct handover *h, uint64_t key)
{
    struct handover_reference *entry = find(h->table, h->room, key);

    if (entry->key) {
        entry->count++;
        return 0;
    }
    if (h->used + 1 > h->room / 4 * 3) {
        int r = rebuild(h);

        if (r < 0) return r;
        entry = find(h->table, h->room, key);
    }
    entry->count = 1;
    atomic_signal_fence(memory_order_seq_cst);
    entry->key = key;
    h->used++;
    return 0;
}

int references_add(struct handover *h, uint32_t node, uint64_t ino)
{
    int r;

    pthread_mutex_lock(&h->lock);
    r = add(h, key_of(node, ino));
    pthread_mutex_unlock(&h->lock);
    return r;
}

uint64_t references_sub(struct handover *h, uint32_t node, uint64_t ino, uint64_t count)
{
    struct handover_reference *entry;
    uint64_t left;

    pthread_mutex_lock(&h->lock);
    entry = find(h->table, h->room, key_of(node, ino));
    if (entry->key) entry->count -= count < entry->count ? count : entry->count;
    left = entry->key ? entry->count : 0;
    pthread_mutex_unlock(&h->lock);
    return left;
}

uint64_t references_get(struct handover *h, uint32_t node, uint64_t ino)
{
    return references_sub(h, node, ino, 0);
}

size_t references_total(struct handover *h)
{
    size_t count;

    pthread_mutex_lock(&h->lock);
    count = living(h);
    pthread_mutex_unlock(&h->lock);
    return count;
}

int references_list(struct handover *h, uint32_t node, uint64_t **ret_inos, size_t *ret_count)
{
    uint64_t *inos;
    size_t count = 0;

    pthread_mutex_lock(&h->lock);
    inos = calloc(h->used + 1, sizeof(*inos));
    for (size_t i = 0; inos && i < h->room; i++)
        if (h->table[i].count && h->table[i].key >> IDENTITY_INO_BITS == node) inos[count++] = h->table[i].key & IDENTITY_INO_MAX;
    pthread_mutex_unlock(&h->lock);
    *ret_inos = inos;
    *ret_count = count;
    return inos ? 0 : -ENOMEM;
}
