/* fsck_salvage: what can be read of a delta.db that SQLite calls damaged, in a new one.
 *
 * Reading is the sqlite3 shell's work (its .recover looks at every page, also at those that nothing points to any more). */
#pragma once

#include <stdint.h>

/* What is known of the delta without its file. */
struct fsck_salvage_base {
    const char *image; /* NULL: not known */
    uint32_t image_count;
};

/* `dir` is the directory of delta.db. The damaged file and its WAL stay there as *ret_kept (delta.damaged-N.db), which the
 * caller frees. -ENOENT: there is no sqlite3 shell. On failure nothing has changed. */
int fsck_salvage(const char *dir, const struct fsck_salvage_base *base, char **ret_kept);
