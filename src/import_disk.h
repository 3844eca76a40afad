/* import_disk: brings a disk image (.img) into the tree of a new image: the root file system of the partition that has
 * one, and on it the boot partitions, where the image's own fstab mounts them. */
#pragma once

#include "import_bytes.h"

struct import_disk {
    const char *source; /* for messages */
    const char *name;   /* of the image, for the progress line */
    struct import_bytes *bytes;
    int source_fd;         /* a file that lies there plain is not unpacked */
    int rootfs_fd;         /* an empty directory: what is copied into */
    int store_fd, work_fd; /* the store, and a directory on the same file system as rootfs for what is temporary */
    int partition;         /* which has the root; 0: the one that looks like one */
    struct progress *progress;
};

/* Logs its failures. */
int import_disk(const struct import_disk *disk);
