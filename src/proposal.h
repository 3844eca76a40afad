/* proposal: the templates that an image needs so that its nodes can boot from NFS and are told apart, found by reading it. */
#pragma once

#include <stddef.h>

struct proposal {
    char *path;      /* from the root */
    char *body;      /* of a template; NULL: the nodes do not have the file */
    int mode;        /* digits as for chmod(1); -1: the image's */
    const char *why; /* for people: "its root comes over NFS" */
};

struct proposals {
    struct proposal *items;
    size_t count;
};

/* `boot` is the image's boot directory, relative to its root. In path order. Reads only. Files of more than 1 MiB and with bytes of
 * zero are left alone. */
int proposals_make(struct proposals *ret_proposals, int rootfs_fd, const char *boot);
void proposals_free(struct proposals *proposals);
