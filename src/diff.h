/* diff: in what two roots differ, path by path.
 *
 * An inode that neither has changed, or both have the same row of, is the same without a look at its contents; others are
 * compared by their attributes, and where these are equal by their bytes. So a file that was only opened for writing, or changed
 * and changed back, is no difference, and one whose times were changed is. */
#pragma once

#include <stdbool.h>

#include "inode.h"

enum {
    DIFF_CONTENTS = 1 << 0, /* or a symlink's target, or a device's number. May be the same bytes, if a file was written anew */
    DIFF_MODE = 1 << 1,
    DIFF_OWNER = 1 << 2,
    DIFF_TIME = 1 << 3,
    DIFF_XATTRS = 1 << 4, /* POSIX ACLs among them */
    DIFF_LINKS = 1 << 5,  /* how many names it has: that alone is no change of it */
};

struct diff_entry {
    char change;      /* 'A' new, 'D' gone, 'M' modified, 'T' of another type, 0 the same */
    unsigned what;    /* DIFF_*; without 'A', 'D' and 'T' */
    const char *path; /* "/etc/hosts"; "/" for the root */
    const struct inode *old, *new; /* NULL: there is none */
    bool replaced;    /* a directory, which is another one than that of the same path */
    bool covered;     /* something above it is new, gone or replaced */
};

/* Calls back for each path of one or both, "/" first, directories before what they hold, names in byte order. A directory whose
 * times alone differ is 'M' only with `strict`; other lines tell what was done in it. `old` NULL: everything is new. `path`: where
 * to begin, NULL at the root; -ENOENT: neither has it. A negative return of `fn` ends the walk. Nobody may write either view. */
struct diff {
    struct view *old, *new;
    bool strict;
    int (*fn)(const struct diff_entry *entry, void *data);
    void *data;
};
int diff_run(const struct diff *diff, const char *path);
