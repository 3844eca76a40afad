/* import: brings an image into the store, whole or not at all, and takes it out again. */
#pragma once

#include "progress.h"
#include "proposal.h"
#include "store.h"

struct import_options {
    int partition;               /* of a disk image: which one has the root; 0: the one that looks like one */
    struct proposals *proposals; /* templates that the image needs: filled in, and added; NULL: it is left alone */
};

/* Makes the image `name` of `source`: a directory, a tar archive or a disk image in any compression, or "-", one of the
 * two on standard input. `options` may be NULL. Until the last step nothing of it can be seen; what a killed import leaves is swept by the next
 * store_open(). Shows progress on a terminal. Logs one line when it fails: 0 or negative errno, -EEXIST for a name
 * in use. */
int import_image(struct store *store, const char *name, const char *source, const struct import_options *options);

/* An image that is made by other means: `fill` fills the empty directory, and logs its failures. Templates of image `parent` are
 * its own, too. */
struct import_maker {
    const char *source; /* for the catalog */
    const char *parent;
    int (*fill)(int rootfs_fd, struct progress *progress, void *data);
    void *data;
};
int import_made(struct store *store, const char *name, const struct import_maker *maker);

/* Takes the image out of the catalog, then its tree off the disk. -EBUSY: nodes stand on it; -ENOENT. Logs its
 * failures. */
int import_remove(struct store *store, const char *name);
