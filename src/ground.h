/* ground: what the file system that a store lies on does with what no fsync has confirmed. Recovery builds on blocks of a page at
 * most, that show only with their bytes, and on flushes (DESIGN, "Why each page is old or new after a power cut"). */
#pragma once

#include <stddef.h>

struct statvfs;

/* What is wrong with it for that, in words; NULL: nothing that is known. `options`: of the mount, as mountinfo has them. */
const char *ground_fault(const struct statvfs *disk, const char *options);

/* Warns of the file system of `fd`, by the store's path. What cannot be found out is passed over. */
void ground_check(int fd, const char *path);
