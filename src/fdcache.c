#include "fdcache.h"

#include <errno.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <unistd.h>

#define SHARDS 16
#define BUCKETS 256 /* in each shard */

struct fdcache_entry {
    const void *owner;
    uint64_t id;
    int fd;
    unsigned users;
    bool dropped; /* no longer in the table: the last user frees it */
    struct fdcache_entry *chain;
    struct fdcache_entry *newer, *older;
};

struct shard {
    pthread_mutex_t lock; /* guards all below and the entries in it; nothing is locked under it */
    struct fdcache_entry *buckets[BUCKETS];
    struct fdcache_entry use; /* ring: use.older is the most recently used, use.newer the least */
    size_t count;
};

struct fdcache {
    size_t shard_capacity;
    struct shard shards[SHARDS];
};

struct fdcache *fdcache_new(size_t capacity)
{
    struct fdcache *cache = calloc(1, sizeof(*cache));

    if (!cache) return NULL;
    cache->shard_capacity = capacity / SHARDS + 1;
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];

        pthread_mutex_init(&s->lock, NULL);
        s->use.newer = s->use.older = &s->use;
    }
    return cache;
}

/* Without a lock: closing the last descriptor of a deleted file waits for its disk. `chain` leads to the next. */
static void free_entries(struct fdcache_entry *entry)
{
    while (entry) {
        struct fdcache_entry *next = entry->chain;

        close(entry->fd);
        free(entry);
        entry = next;
    }
}

static uint64_t hash(const void *owner, uint64_t id)
{
    return (((uintptr_t)owner >> 4) + id) * UINT64_C(0x9e3779b97f4a7c15);
}

static struct shard *shard_of(struct fdcache *cache, const void *owner, uint64_t id)
{
    return &cache->shards[hash(owner, id) >> 60];
}

static struct fdcache_entry **bucket_of(struct shard *s, const void *owner, uint64_t id)
{
    return &s->buckets[hash(owner, id) >> 52 & (BUCKETS - 1)];
}

static struct fdcache_entry **find(struct shard *s, const void *owner, uint64_t id)
{
    struct fdcache_entry **e = bucket_of(s, owner, id);

    while (*e && ((*e)->owner != owner || (*e)->id != id)) e = &(*e)->chain;
    return e;
}

static void ring_remove(struct fdcache_entry *e)
{
    e->newer->older = e->older;
    e->older->newer = e->newer;
}

static void ring_add(struct shard *s, struct fdcache_entry *e)
{
    e->newer = &s->use;
    e->older = s->use.older;
    s->use.older->newer = e;
    s->use.older = e;
}

/* Onto the list of those to be freed, unless somebody uses it: then he frees it. */
static void take_out(struct shard *s, struct fdcache_entry **link, struct fdcache_entry **unused)
{
    struct fdcache_entry *e = *link;

    *link = e->chain;
    ring_remove(e);
    s->count--;
    e->dropped = true;
    if (e->users > 0) return;
    e->chain = *unused;
    *unused = e;
}

static void trim(struct shard *s, size_t capacity, struct fdcache_entry **unused)
{
    while (s->count > capacity) {
        struct fdcache_entry *oldest = s->use.newer;

        take_out(s, find(s, oldest->owner, oldest->id), unused);
    }
}

static int take(struct shard *s, struct fdcache_entry *e, struct fdcache_entry **ret_entry)
{
    ring_remove(e);
    ring_add(s, e);
    e->users++;
    *ret_entry = e;
    return e->fd;
}

int fdcache_get(struct fdcache *cache, const void *owner, uint64_t id, fdcache_open_fn open_fn, void *data,
                struct fdcache_entry **ret_entry)
{
    struct shard *s = shard_of(cache, owner, id);
    struct fdcache_entry *e, **found, *unused = NULL;
    int fd;

    pthread_mutex_lock(&s->lock);
    e = *find(s, owner, id);
    fd = e ? take(s, e, ret_entry) : -1;
    pthread_mutex_unlock(&s->lock);
    if (e) return fd;

    fd = open_fn(data, id);
    if (fd < 0) return fd;
    e = calloc(1, sizeof(*e));
    if (!e) {
        close(fd);
        return -ENOMEM;
    }
    *e = (struct fdcache_entry){.owner = owner, .id = id, .fd = fd};

    pthread_mutex_lock(&s->lock);
    found = find(s, owner, id);
    if (*found) { /* another thread was faster */
        unused = e;
        e = *found;
    } else {
        *found = e;
        ring_add(s, e);
        s->count++;
    }
    fd = take(s, e, ret_entry);
    trim(s, cache->shard_capacity, &unused);
    pthread_mutex_unlock(&s->lock);
    free_entries(unused);
    return fd;
}

void fdcache_put(struct fdcache *cache, struct fdcache_entry *entry)
{
    struct shard *s = shard_of(cache, entry->owner, entry->id);

    pthread_mutex_lock(&s->lock);
    bool last = --entry->users == 0 && entry->dropped;
    pthread_mutex_unlock(&s->lock);
    if (!last) return;
    entry->chain = NULL;
    free_entries(entry);
}

void fdcache_drop(struct fdcache *cache, const void *owner, uint64_t id)
{
    struct shard *s = shard_of(cache, owner, id);
    struct fdcache_entry **e, *unused = NULL;

    pthread_mutex_lock(&s->lock);
    e = find(s, owner, id);
    if (*e) take_out(s, e, &unused);
    pthread_mutex_unlock(&s->lock);
    free_entries(unused);
}

void fdcache_drop_owner(struct fdcache *cache, const void *owner)
{
    for (int i = 0; i < SHARDS; i++) {
        struct shard *s = &cache->shards[i];
        struct fdcache_entry *unused = NULL;

        pthread_mutex_lock(&s->lock);
        for (int b = 0; b < BUCKETS; b++)
            for (struct fdcache_entry **e = &s->buckets[b]; *e;)
                if ((*e)->owner == owner) take_out(s, e, &unused);
                else e = &(*e)->chain;
        pthread_mutex_unlock(&s->lock);
        free_entries(unused);
    }
}

void fdcache_free(struct fdcache *cache)
{
    if (!cache) return;
    for (int i = 0; i < SHARDS; i++) {
        struct fdcache_entry *unused = NULL;

        trim(&cache->shards[i], 0, &unused);
        free_entries(unused);
        pthread_mutex_destroy(&cache->shards[i].lock);
    }
    free(cache);
}
