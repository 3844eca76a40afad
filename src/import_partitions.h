/* import_partitions: what a disk image is divided into, as libblkid reads it: MBR, GPT, or one file system alone. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "progress.h"

struct import_partition {
    int number;         /* as in /dev/mmcblk0p2; 0: the whole image */
    int64_t start, size; /* bytes */
    /* What blkid(8) calls it; "" where it has none. */
    char type[32];       /* of the file system: "ext4", "vfat"; "": none that is known */
    char uuid[64], label[64], part_uuid[64], part_label[64];
};

struct import_partitions {
    struct import_partition *items;
    size_t count;
};

/* Are these first bytes of a file those of a disk image? A tar archive is none, nor is what nobody knows. */
bool import_partitions_are_in(const void *head, size_t size);

/* Reads those of the image at `fd`. Every one lies inside the file. Logs its failures. Caller frees. */
int import_partitions_read(struct import_partitions *ret_partitions, int fd, const char *source,
                           struct progress *progress);
void import_partitions_free(struct import_partitions *partitions);

/* Does the first field of an fstab line mean this one? UUID=, LABEL=, PARTUUID=, PARTLABEL=, and the device by number. */
bool import_partition_is(const struct import_partition *partition, const char *spec);

/* "partition 2 (ext4)" for messages, "its ext4 file system" of a whole image, into a static buffer. */
const char *import_partition_name(const struct import_partition *partition);
