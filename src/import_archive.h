/* import_archive: unpacks a tar archive into the tree of a new image. */
#pragma once

#include "progress.h"

struct import_bytes;

/* The members of a tar archive go into the empty directory `rootfs_fd`; a member that would lie outside it, or be reached
 * through a symlink, is refused. `source` is the archive's name for messages. Logs its failures. */
int import_archive(struct import_bytes *bytes, const char *source, int rootfs_fd, struct progress *progress);
