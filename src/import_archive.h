/* import_archive: unpacks a tar archive into the tree of a new image. */
#pragma once

#include "progress.h"

/* The members of `fd`, a tar archive in any compression, go into the empty directory `rootfs_fd`; a member that
 * would lie outside it, or be reached through a symlink, is refused. `source` is the archive's name for messages.
 * Logs its failures. */
int import_archive(int fd, const char *source, int rootfs_fd, struct progress *progress);
