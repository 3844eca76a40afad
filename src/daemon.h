/* daemon: one process that serves one store on one mountpoint. */
#pragma once

#include <stdbool.h>

struct daemon_options {
    const char *store;      /* path */
    const char *mountpoint; /* absolute */
    bool foreground;
    bool sync;              /* else commits are at most `interval` apart */
    unsigned interval;      /* seconds */
    bool apply;             /* see apply.h */
    const char *text;       /* the options as the user gave them, for `coppice status` and the daemon's own command line; NULL: none */
};

/* Serves until it is unmounted or told to end (SIGTERM, SIGINT) with `foreground`; else starts a process that does,
 * and returns when its mount is usable. 0 or negative errno, already logged. No database of the store may be open: they do not survive fork(2). */
int daemon_run(const struct daemon_options *options);
