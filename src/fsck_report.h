/* fsck_report: what the parts of fsck share: the findings, counted and passed on, and what is being checked. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fsck.h"
#include "identity.h"

struct fsck {
    const struct fsck_options *options;
    struct fsck_result result;
    const char *store; /* its path */
    int nodes_fd, images_fd;
    char *nodes_path, *images_path;
    struct identity identity;
    bool mounted;  /* a daemon runs */
    int64_t grace; /* milliseconds after which the daemon has removed an object that no row speaks of; -1: nobody knows */
};

/* Counts the finding and prints it. */
void fsck_report(struct fsck *fsck, const struct fsck_finding *finding);

/* The same for what is about no file, and was not repaired. */
void fsck_complain(struct fsck *fsck, const char *where, const char *format, ...) __attribute__((format(printf, 3, 4)));
