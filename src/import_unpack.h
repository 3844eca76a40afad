/* import_unpack: a disk image as a file that can be mounted: unpacked, or a copy of the user's own. */
#pragma once

#include "import_bytes.h"

/* A file without a name in the directory `dirfd`, which is gone when the descriptor is closed; blocks of zeros are holes.
 * Logs its failures. */
int import_unpack(struct import_bytes *bytes, const char *source, int dirfd, struct progress *progress);

/* The same, of a file that lies there as it is. */
int import_unpack_copy(int from_fd, const char *source, int dirfd, struct progress *progress);
