/* longpath: paths of any length, where the kernel takes PATH_MAX bytes at a time. */
#pragma once

/* io_open_beneath() for an existing file. `path` may be longer than PATH_MAX; it is cut up by the call. */
int longpath_open(int dirfd, char *path, int flags);
