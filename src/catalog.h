/* catalog: catalog.db, the owner's interface: images, nodes, settings (schema/catalog.sql).
 *
 * The sqlite3 shell writes it too, at any moment. So nothing here is cached by the module; whoever caches asks
 * catalog_version() first. Not thread-safe: one user at a time. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct catalog;

int catalog_create(const char *path);
int catalog_open(struct catalog **ret_catalog, const char *path); /* -EPROTO: made by a newer version; -EINVAL: no catalog */
void catalog_close(struct catalog *catalog);

/* What SQLite said of the last refusal ("CHECK constraint failed: mac must be …"), without its prefix. */
const char *catalog_message(struct catalog *catalog);

/* For a module that has tables of its own in it (template.c): the connection; and what follows after a transaction on it
 * ended with `error`: the message, or, if wanted, durability. Returns `error`, or what went wrong now. */
struct db;
struct db *catalog_db(struct catalog *catalog);
int catalog_changed(struct catalog *catalog, int error, bool durable);
/* The same for what the daemon keeps in it for itself, and need not read again: catalog_version() stays. Otherwise the first look into
 * each of a thousand roots would have all their rows read anew. */
int catalog_noted(struct catalog *catalog, int error, bool durable);

/* Changes whenever anyone has changed the catalog. */
int catalog_version(struct catalog *catalog, int64_t *ret_version);

/* The store's secret, 32 bytes, from which nodeids are made (DESIGN.md, "Identity"). */
int catalog_key(struct catalog *catalog, uint8_t ret_key[32]);

/* Settings: name → value. *ret_value is NULL when there is none; caller frees. */
int catalog_setting(struct catalog *catalog, const char *name, char **ret_value);

/* 1: a node has an address, and then each export is one node's root (export.h); 0: none has. */
int catalog_has_addresses(struct catalog *catalog);
int catalog_set_setting(struct catalog *catalog, const char *name, const char *value);

struct catalog_image {
    char *name;
    char *source;    /* what it was imported from, for show */
    char *boot;      /* its boot directory, relative to its root: "boot" or "boot/firmware" */
    int64_t added;   /* seconds since 1970 */
    int64_t files;   /* inodes */
    int64_t bytes;   /* of regular files, apparent */
    bool is_default;
};

struct catalog_node {
    char *serial;
    char *mac;        /* NULL: not known */
    char *ip;         /* NULL: not known */
    char *hostname;   /* NULL: not given */
    char *image;      /* NULL: the default image */
    char *base;       /* the image its view stands on: what its delta was begun on, else image, else the default; NULL: no image yet */
    int64_t number;   /* its share of every nodeid: 1 … 2^20-1, never reused */
    int64_t added;    /* seconds since 1970 */
};

void catalog_image_free(struct catalog_image *image);
void catalog_node_free(struct catalog_node *node);

/* Call back for each row in name order; a non-zero return ends the walk and is returned. The row lives during the call only. */
typedef int (*catalog_image_fn)(const struct catalog_image *image, void *data);
typedef int (*catalog_node_fn)(const struct catalog_node *node, void *data);
int catalog_images(struct catalog *catalog, catalog_image_fn fn, void *data);
int catalog_nodes(struct catalog *catalog, catalog_node_fn fn, void *data);

/* Of nodes that have no row any more. */
typedef int (*catalog_gone_fn)(int64_t number, const char *serial, void *data);
int catalog_gone_nodes(struct catalog *catalog, catalog_gone_fn fn, void *data);

/* One row, -ENOENT when there is none. Contents belong to the caller: catalog_image_free(), catalog_node_free(). */
int catalog_image(struct catalog *catalog, const char *name, struct catalog_image *ret_image);
int catalog_node(struct catalog *catalog, const char *serial, struct catalog_node *ret_node);

int catalog_add_image(struct catalog *catalog, const struct catalog_image *image);
/* -EBUSY: nodes stand on it; *ret_users then lists up to ten of them with commas. Caller frees. */
int catalog_remove_image(struct catalog *catalog, const char *name, char **ret_users);

/* serial, mac, ip, hostname, image of `node` are used. -EEXIST, -EINVAL: see catalog_message(). */
int catalog_add_node(struct catalog *catalog, const struct catalog_node *node);
/* Replaces mac, ip, hostname and image of the row. */
int catalog_set_node(struct catalog *catalog, const struct catalog_node *node);
int catalog_remove_node(struct catalog *catalog, const char *serial);

/* The node stands on `image` from now on, whatever the default becomes. Needs no sync of its own: a row that changes the default or
 * the image comes later in the same WAL, so a power cut that takes this back takes that back too. */
int catalog_bind_node(struct catalog *catalog, int64_t number, const char *image);
/* 1: nodes or the default name this image, whether it has a row or not. */
int catalog_needs_image(struct catalog *catalog, const char *name);
/* The image its changes stand on, whether it has a row or not; NULL: none yet. -ENOENT: no such node. Caller frees. */
int catalog_bound_image(struct catalog *catalog, const char *serial, char **ret_image);
/* A node without a row gives up its number and its bound image; its next row gets a new number. */
int catalog_forget_node(struct catalog *catalog, const char *serial);
