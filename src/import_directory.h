/* import_directory: copies a directory tree into the tree of a new image. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>

#include "progress.h"

struct import_directory {
    const char *source;    /* its path, for messages */
    int source_fd;         /* open for reading */
    int rootfs_fd;         /* an empty directory: what is copied into */
    int store_fd, work_fd; /* directories that must not be met on the way: the store, and where rootfs lies */
    struct progress *progress;
};

/* Everything but what is mounted below the source, of which the mount points are copied, empty. Logs its failures. */
int import_directory(const struct import_directory *import);
