/* fdcache: descriptors kept open between requests, since an open of ours carries no state.
 *
 * A file is (owner, id): a node's delta and an object, or an image and an inode. Thread-safe; its locks are held
 * neither over open(2) nor while a descriptor is in use. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct fdcache;
struct fdcache_entry;

/* Opens the file on a miss: a descriptor, which the cache then owns, or negative errno. */
typedef int (*fdcache_open_fn)(void *data, uint64_t id);

struct fdcache *fdcache_new(size_t capacity); /* NULL: ENOMEM */
void fdcache_free(struct fdcache *cache);

/* The descriptor, usable until fdcache_put(*ret_entry), or negative errno. */
int fdcache_get(struct fdcache *cache, const void *owner, uint64_t id, fdcache_open_fn open, void *data,
                struct fdcache_entry **ret_entry);
void fdcache_put(struct fdcache *cache, struct fdcache_entry *entry);

/* Forgets one file, or all of an owner: closed when nobody uses them any more. */
void fdcache_drop(struct fdcache *cache, const void *owner, uint64_t id);
void fdcache_drop_owner(struct fdcache *cache, const void *owner);
