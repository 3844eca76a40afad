/* store: the directory that holds everything (DESIGN.md, "The store"): its layout, its version, its locks.
 *
 *   catalog.db   images/<name>/{rootfs/,index.db}   nodes/<serial>/{delta.db,objects/}   images.lock   daemon */
#pragma once

#include <stdbool.h>
#include <sys/types.h>

#include "catalog.h"

struct store {
    char *path;              /* absolute */
    int fd;                  /* the directory itself, O_PATH never: *at() calls start here */
    struct catalog *catalog; /* open for reading and writing */
};

/* --store's value, else $COPPICE_STORE, else /var/lib/coppice. */
const char *store_default_path(const char *option);

/* Makes an empty store at `path` (a missing or empty directory). Logs its failures. */
int store_create(const char *path);

/* Opens an existing store, refuses one made by a newer version, and removes what an import or removal that was killed
 * left behind. Logs its failures. Caller closes. SQLite's locks do not survive fork(2): a child that goes on opens its
 * own. */
int store_open(struct store **ret_store, const char *path);
void store_close(struct store *store);
static inline void store_close_cleanup(struct store **store) { store_close(*store); }
#define _cleanup_store_ __attribute__((cleanup(store_close_cleanup)))

/* Whoever makes or removes an image holds this lock (shared) for the whole work: without it, store_open() takes an
 * entry of images/ that has no row in the catalog for a leftover. The descriptor that holds it until closed, or negative
 * errno. */
int store_lock_images(struct store *store);

/* What a running daemon tells about itself in STORE/daemon, a file it holds locked (flock(2)) all its life. */
struct store_daemon {
    pid_t pid;
    pid_t supervisor; /* its parent, who starts the next one; 0: none */
    char mountpoint[4096];
    char options[256];
};

/* Claims the store for this daemon: 0, -EBUSY (logged, with the other's pid and mountpoint) when another holds it,
 * or negative errno. The claim ends with the process; *ret_fd keeps it. */
int store_claim(struct store *store, int *ret_fd);
/* Writes who holds the claim. */
int store_announce(int claim_fd, const struct store_daemon *daemon);
/* 1 and *ret_daemon: a daemon runs on this store (pid 0: it has not announced itself yet); 0: none; negative errno. */
int store_running(struct store *store, struct store_daemon *ret_daemon);
/* Of the daemon that runs, else of the last one that did: where its nodes' roots are. -ENOENT: it was never mounted. */
int store_last_daemon(struct store *store, struct store_daemon *ret_daemon);
