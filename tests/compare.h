/* compare: two trees side by side, as a user of either sees them. */
#pragma once

enum compare_flags {
    COMPARE_TIMES = 1, /* modification times are equal */
    /* Where either side's is before MADE_TIMES_END they are equal: what was set stays, what changed is newer. */
    COMPARE_OLD_TIMES = 2,
};

/* Names, types, modes, owners, link counts and which names are links of each other, device numbers, sizes, contents,
 * targets, extended attributes, and per `flags` times. The number of differences; the first 20 are printed. */
int compare_trees(const char *expected, const char *found, unsigned flags);
