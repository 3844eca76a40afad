/* delta_create: makes a node's directory with an empty delta.db on the disk.
 *
 * The file is made under another name, so that a delta.db that is there is whole. */
#pragma once

#include "delta.h"

/* nodes_fd/SERIAL/, `path` being that directory's path; durable when it returns. */
int delta_create(int nodes_fd, const char *path, const char *serial, const struct delta_base *base);
