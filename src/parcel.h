/* parcel: a node's root as a tar (pax, by libarchive): all of it, or what it differs from its image by, as an OCI image layer:
 * whole files, ".wh.NAME" for a name that is gone, ".wh..wh..opq" in a directory that shows nothing of the image's.
 * https://github.com/opencontainers/image-spec/blob/main/layer.md */
#pragma once

#include "view.h"

struct parcel {
    struct view *view;
    struct view *image;  /* for what differs from it; NULL: all */
    const char *name;    /* of what it is written to, for messages */
    const char *filter;  /* libarchive's name of a compression; NULL: none */
    int fd;
};

#define PARCEL_IMAGE "user.coppice.image" /* attribute of the root in a tar of differences: the number of files in the image, its name */
#define PARCEL_GONE ".wh."
#define PARCEL_OPAQUE ".wh..wh..opq"

/* Logs what goes wrong, and warns of sockets, which a tar cannot hold. */
int parcel_write(const struct parcel *parcel);

/* Reads a tar of differences from `fd`, in any compression; `name` is for messages. All log what goes wrong. */
struct parcel_reader;
int parcel_open(struct parcel_reader **ret_reader, int fd, const char *name);
void parcel_close(struct parcel_reader *reader);
static inline void parcel_close_cleanup(struct parcel_reader **reader) { parcel_close(*reader); }
#define _cleanup_parcel_ __attribute__((cleanup(parcel_close_cleanup)))
/* What it says it was made over: an image's name and how many files that has; NULL: it says nothing. */
const char *parcel_image(const struct parcel_reader *reader, uint32_t *ret_count);
/* Makes the view, which nobody else uses, show it. */
int parcel_apply(struct parcel_reader *reader, struct view *view);
