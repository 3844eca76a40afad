/* import_mount: a file system inside a file, mounted for this process alone.
 *
 * A loop device and a mount that hangs nowhere (fsmount(2), Linux 5.2): both are gone when the last descriptor is
 * closed, however the process ends. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct import_mount {
    const char *type; /* as in /proc/filesystems */
    int fd;           /* of the file; writable where a journal is to be replayed */
    int64_t start, size;
    bool replay;      /* the journal, which changes the file: without, what it holds back is not seen */
};

/* The root directory's descriptor, read-only, without devices to open. -ENODEV: this kernel has no such file system;
 * -EPERM, -ENXIO: it has no loop device for us. `reason` is what the kernel says, "" for nothing. Does not log. */
int import_mount(const struct import_mount *mount, char *reason, size_t size);
