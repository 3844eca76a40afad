/* import_ext: ext2, ext3 and ext4 inside a file, read by libext2fs: where the kernel has no loop device for us. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "import_partitions.h"
#include "progress.h"

struct import_ext {
    const char *source; /* the image's name, for messages */
    int fd;             /* of the image */
    const struct import_partition *partition;
    struct progress *progress;
};

/* What the superblock says. Logs its failures; the file system must lie inside its partition. */
int import_ext_check(const struct import_ext *ext, bool *ret_is_dirty);

/* Copies all of it into the empty directory `to_fd`, with everything that import_directory() keeps. Its journal must be
 * empty. Logs its failures. */
int import_ext_copy(const struct import_ext *ext, int to_fd);

/* Is there such a name, symlinks followed inside? */
bool import_ext_has(const struct import_ext *ext, const char *path);
