/* import: brings an image into the store, whole or not at all, and takes it out again. */
#pragma once

#include "store.h"

/* Makes the image `name` of `source`: a directory, a tar archive in any compression, or "-", an archive on standard
 * input. Until the last step nothing of it can be seen; what a killed import leaves is swept by the next
 * store_open(). Shows progress on a terminal. Logs one line when it fails: 0 or negative errno, -EEXIST for a name
 * in use. */
int import_image(struct store *store, const char *name, const char *source);

/* Takes the image out of the catalog, then its tree off the disk. -EBUSY: nodes stand on it; -ENOENT. Logs its
 * failures. */
int import_remove(struct store *store, const char *name);
