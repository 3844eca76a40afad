/* template_write: puts one file into a view, or takes it out, as its node would do itself. */
#pragma once

#include <stdint.h>

#include "template.h"

/* The directory in which it was done, and the file; 0: there is none. */
struct template_written {
    uint64_t dir, ino;
    const char *name; /* the last part of file->path */
};

/* Symlinks above it are followed inside the root; a file that is a symlink itself, or has other names, is replaced, and
 * any other keeps its owner and attributes. Not on the disk yet: see view_sync(). */
int template_write(struct view *view, const struct template_file *file, struct template_written *ret_written);
