/* image_index: writes index.db for an unpacked tree, once, at its import. */
#pragma once

#include "image.h"
#include "progress.h"

/* image_build() that shows how far it is; `progress` may be NULL. A partly written index_path is left behind on
 * failure. */
int image_index_build(int rootfs_fd, const char *index_path, struct progress *progress,
                      struct image_totals *ret_totals);
