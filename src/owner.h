/* owner: which mount a file belongs to that coppice writes for nfsd or dnsmasq. A machine has one of each, and two mounts
 * would write over each other in turns: the one that is there keeps it. */
#pragma once

#include <stdbool.h>

/* The comment that names the owner, a line with its end. NULL: no memory. Caller frees. */
char *owner_line(const char *mountpoint);

/* Does the file name another mount? Then *ret_other is that one when it is mounted, else NULL; caller frees. A file
 * that is not there or names nobody is anybody's. Negative errno: -ENOMEM. */
int owner_other(const char *path, const char *mountpoint, bool *ret_is_other, char **ret_other);

/* -EBUSY, logged: the file belongs to another mount, which is there. */
int owner_check(const char *path, const char *mountpoint);
