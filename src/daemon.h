/* daemon: one process that serves one store on one mountpoint: alone, or for a supervisor (supervisor.h), which keeps what
 * the next daemon needs when this one ends. */
#pragma once

#include <signal.h>
#include <stdbool.h>

struct daemon_options {
    const char *store;      /* path */
    const char *mountpoint; /* absolute */
    bool foreground;        /* the supervisor stays there; else it starts a process of its own */
    bool alone;             /* no supervisor */
    bool sync;              /* else commits are at most `interval` apart */
    unsigned interval;      /* seconds */
    bool apply;             /* see apply.h */
    const char *text;       /* the options as the user gave them, for `coppice status` and the daemon's own command line; NULL: none */
};

/* What the supervisor opens once, and all daemons use in turn. */
struct daemon_descriptors {
    int ready;    /* a pipe: one byte when requests are answered */
    int claim;    /* of the store: see store_claim() */
    int device;   /* /dev/fuse */
    int handover; /* see handover_open() */
    bool in_background;
    bool is_next; /* a daemon has served this mount before */
};

/* In a child that is about to run the program again: these go with it. */
void daemon_pass(const struct daemon_descriptors *passed);
/* This process is that program: the mount may be there already, and waits for an answer if it is touched. */
bool daemon_is_passed_a_mount(void);

/* Tells the daemon to end so that the next one can go on; SIGTERM is the end of the mount. */
#define DAEMON_HANDOVER_SIGNAL SIGUSR1

/* Serves until it is unmounted or told to end (SIGTERM, SIGINT). Takes over the mount that it was passed, else mounts.
 * 0 or negative errno, already logged. No database of the store may be open. */
int daemon_serve(const struct daemon_options *options);

/* Lets go of the terminal; what is logged from here on goes to syslog. */
void daemon_detach(void);
