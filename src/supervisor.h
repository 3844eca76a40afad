/* supervisor: the process that a mount begins with, and that lets it outlive its daemon.
 *
 * It keeps /dev/fuse, the store's claim and the handover open, starts a daemon, and when that dies the next one, which takes
 * over: the kernel sends again what was in flight (Linux 6.9), and nobody who uses the mount sees more than a pause. On older
 * kernels it unmounts and mounts again. It touches neither the mount nor the databases. */
#pragma once

#include "daemon.h"

/* Stays until the mount has ended, as daemon_serve(), with options->foreground; else starts a process that does, and returns
 * when its mount is usable. 0 or negative errno, already logged. No database of the store may be open: they do not survive
 * fork(2). */
int supervisor_run(const struct daemon_options *options);

/* Asks the supervisor to end the daemon and to start the next one out of the program that the caller is running. Returns when
 * that one serves: 0, or negative errno, already logged. `store` is where the daemon has announced itself. */
struct store;
struct store_daemon;
int supervisor_replace(struct store *store, const char *mountpoint);

/* Is there somebody to start the next daemon after this one? */
bool supervisor_lives(const struct store_daemon *daemon);
