/* import_volume: the file system of one partition, by whatever means there are of reading it: a mount, else libext2fs for
 * ext2-4 and mcopy for FAT. */
#pragma once

#include <stdbool.h>

#include "import_partitions.h"

struct import_volume {
    const char *source; /* for messages */
    const struct import_partition *partition;
    int disk_fd; /* borrowed */
    int root_fd; /* of the mount; -1: not mounted */
    struct progress *progress;
};

/* Is it a file system that a root may be on? */
bool import_volume_may_be_root(const struct import_partition *partition);
/* ... that boot files may be on? */
bool import_volume_may_be_boot(const struct import_partition *partition);

/* Fills in root_fd. `is_private`: the disk's file may be written, as for a journal. -ENOTUNIQ: its journal must be
 * replayed and the file is not private, nothing is logged; -ENODEV, *not* logged either: there is no means for this
 * type. Other failures are logged. */
int import_volume_open(struct import_volume *volume, bool is_private);
void import_volume_close(struct import_volume *volume);

bool import_volume_is_root(const struct import_volume *volume);

/* Copies all of it into the empty directory `to_fd`. `store_fd` and `work_fd` as in import_directory(). Logs its failures. */
int import_volume_copy(const struct import_volume *volume, int to_fd, int store_fd, int work_fd);

/* Bytes that are in use; 0: not known. */
int64_t import_volume_used(const struct import_volume *volume);
