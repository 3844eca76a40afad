/* import_fat: copies a FAT file system out of a disk image where the kernel cannot mount one, by mcopy of mtools. */
#pragma once

#include <stdint.h>

#include "progress.h"

struct import_fat {
    const char *source; /* the image's name, and the partition's, for messages */
    const char *partition;
    int fd; /* of the image */
    int64_t start;
    int to_fd; /* an empty directory: what is copied into */
    struct progress *progress;
};

/* Everything in it, with what a mount would show: owner root, mode 0755, times as if they were UTC. Logs its failures;
 * -ENOENT: there is no mcopy. */
int import_fat(const struct import_fat *fat);
