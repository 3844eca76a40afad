/* fault_store: a store with a node, whose daemon a test may kill and whose file system it may take away.
 *
 * Everything is in a private mount namespace and below one directory under $TMPDIR (or /tmp): mounts end with the
 * test program, its children are killed with it, and a process of its own removes the directory after it, and kills
 * it after `seconds`. */
#pragma once

#include <stdbool.h>
#include <sys/resource.h>
#include <sys/types.h>

/* Fails the fixture that calls; the first is called once, before any thread. */
void fault_store_begin(int seconds);
void fault_store_end(void);

const char *fault_store_directory(void); /* on the disk's own file system */
const char *fault_store_beside(const char *format, ...) __attribute__((format(printf, 1, 2)));
const char *fault_store_source(void); /* an image's tree, still empty */
/* "NODE/…" below the mount, in a buffer of its own for each thread, overwritten by the 16th call after. */
const char *fault_store_at(const char *format, ...) __attribute__((format(printf, 1, 2)));

const char *fault_store_root(const char *serial); /* of another node, as the above */

/* Makes a store in directory `where`, with the image and the node. The others run coppice on it, mounted or not. */
void fault_store_make(const char *where);
void fault_store_add_node(const char *where, const char *serial);
void fault_store_snapshot(const char *where, const char *serial, const char *name);
void fault_store_clone(const char *where, const char *snapshot, const char *serial); /* a node as SERIAL@NAME was */

/* Mounts the store in `where`; options NULL: none. False, and the daemon's words printed, when it did not come up. */
bool fault_store_mount(const char *where, const char *options);
/* The same under a supervisor, whom the functions below mean then. */
bool fault_store_mount_supervised(const char *where, const char *options);
/* The same with a limit for the daemon alone. */
bool fault_store_mount_limited(const char *where, int resource, rlim_t limit);
/* False when the daemon did not end well. */
bool fault_store_umount(void);
void fault_store_kill(void);   /* the daemon, by SIGKILL, and returns when it is dead */
void fault_store_detach(void); /* the dead mount */
void fault_store_stop(void);   /* both, if there is anything */
/* What the daemon has said so far; caller frees. */
char *fault_store_words(void);

/* A copy of each node's database, of which SQLite and a few questions say whether it is sound: false, and printed,
 * if not. Nothing may be mounted from `where`. */
bool fault_store_is_sound(const char *where);
/* What `coppice fsck` says of the store in `where`, mounted or not: false, and printed, unless it is clean. */
bool fault_store_is_clean(const char *where);
/* The same with --repair: false, and printed, when something is left. */
bool fault_store_repair(const char *where);
/* Objects that no row speaks of. */
int fault_store_strays(const char *where);
