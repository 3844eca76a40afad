/* fsck_names: checks of names, whiteouts, link counts, and the shape of the tree. In this order: each stage trusts what
 * those before it have checked. */
#pragma once

#include "fsck_check.h"

/* Inode rows that cannot be: numbers never given out, modes without a type. */
void fsck_names_rows(struct fsck_check *check);
/* Each row of dirent by itself. */
void fsck_names_dirents(struct fsck_check *check);
/* Directories with more than one name or in a circle, names of what is over. */
void fsck_names_tree(struct fsck_check *check);
/* Inodes without a name. */
void fsck_names_lost(struct fsck_check *check);
/* Link counts. */
void fsck_names_links(struct fsck_check *check);
