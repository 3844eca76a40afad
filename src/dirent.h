/* dirent: the names in one directory of a view: the image's entries, hidden or replaced or joined by rows of the delta.
 *
 * All functions: lock held (see inode.h); what changes names: within begin and end. */
#pragma once

#include <stdbool.h>

#include "view.h"

struct dirent_found {
    uint64_t ino;
    uint8_t type;
};

/* 1 and *ret_found, 0 when the directory has no such name. */
int dirent_find(struct view *view, struct delta *delta, uint64_t dir, const char *name, size_t length,
                struct dirent_found *ret_found);

/* Makes the name mean `ino`, whatever it meant. -ENOSPC: see delta_set_dirent(). */
int dirent_set(struct view *view, struct delta *delta, uint64_t dir, const char *name, size_t length, uint64_t ino, uint8_t type);
/* Removes the name: by a whiteout where the image has it. */
int dirent_remove(struct view *view, struct delta *delta, uint64_t dir, const char *name, size_t length);

/* 1 when the directory has no names. */
int dirent_is_empty(struct view *view, struct delta *delta, uint64_t dir);

/* Cookies, the same for ever: 1 ".", 2 "..", from 3 the image's entries in their order, from 2^30 the delta's in slot order.
 * An entry of the image that a row gives another inode keeps its cookie. All < 2^31, what NFS and 32-bit programs can carry. */
struct dirent_entry {
    uint64_t ino;
    uint32_t cookie;
    uint8_t type;
    uint8_t length;
    char name[256];
};

/* The entry after `cookie` (0: from the start; "." and ".." are the caller's): 1, or 0 at the end. */
int dirent_next(struct view *view, struct delta *delta, uint64_t dir, uint32_t cookie, struct dirent_entry *ret_entry);
#define DIRENT_COOKIE_DOTS 2
