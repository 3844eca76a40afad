/* fsck_image: an image's tree against its index. */
#pragma once

#include "fsck_report.h"

struct image;

/* Names, types, sizes, times, devices, where symlinks lead, and with --contents the digests of the import. What the tree has
 * of owners and permissions does not matter, as nodes see those of the index. */
void fsck_image(struct fsck *fsck, const char *name, struct image *image);
