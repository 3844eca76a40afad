/* handover: what one daemon of a mount leaves to the next, in memory that outlives it.
 *
 * A memfd, which the supervisor keeps open and every daemon of the mount maps in turn: how kernel and daemon agreed on the
 * protocol, which requests were being executed (replay.h), and how often the kernel refers to each inode
 * (references.h). A daemon may die between any two instructions: whatever is written here is right at every moment, or
 * wrong on the side that harms nothing. */
#pragma once

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define HANDOVER_SLOTS 1024

/* One request that is being executed, or was when its daemon died: see replay.c. */
struct handover_slot {
    _Atomic uint32_t state;
    _Atomic uint32_t generation; /* of the daemon that wrote it */
    _Atomic uint64_t unique;     /* the kernel's number of the request */
    uint64_t batch;              /* of the node's delta, that it is part of */
    uint64_t result;             /* what the answer is made of */
    _Atomic uint32_t node;
    uint32_t unused;
};

/* A request on which daemons have crashed: see crash.h. */
#define HANDOVER_SUSPECTS 4
struct handover_suspect {
    uint64_t unique; /* 0: none */
    uint64_t crashes;
};

/* Where in the memfd a table of references lies. */
struct handover_area {
    uint64_t offset;
    uint64_t count; /* of its entries, a power of two */
};

/* The memfd's first bytes. A change of their meaning raises HANDOVER_VERSION. */
#define HANDOVER_VERSION 2
struct handover_page {
    uint64_t magic;
    uint32_t version;
    uint32_t generation;  /* of the daemon that runs: they count from 1 */
    uint32_t init_size;   /* bytes of init; 0: not agreed yet */
    uint32_t can_resend;  /* the kernel knows FUSE_NOTIFY_RESEND (Linux 6.9) */
    uint64_t agreed;      /* FUSE_INIT flags of the answer */
    uint8_t init[256];    /* the kernel's FUSE_INIT request */
    _Atomic uint32_t area; /* which of the two is in use */
    uint32_t unused;
    struct handover_area areas[2];
    struct handover_suspect suspects[HANDOVER_SUSPECTS];
    struct handover_slot slots[HANDOVER_SLOTS];
};

struct handover_reference {
    uint64_t key; /* 0: free */
    uint64_t count;
};

struct handover {
    int fd;
    struct handover_page *page;
    pthread_mutex_t lock; /* guards the table of references; a leaf */
    struct handover_reference *table;
    size_t room, used; /* entries; those with a key */
};

/* Maps the memfd `fd`, which the result owns then, or a new one for -1. -EPROTO: written by another version. */
int handover_open(struct handover **ret_handover, int fd);
void handover_close(struct handover *handover);

/* A daemon begins: what is there was left by those before it. */
void handover_begin(struct handover *handover);
