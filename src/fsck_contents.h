/* fsck_contents: checks of what hangs on inodes: bytes in rows, chunks, objects, and rows that hang on nothing. */
#pragma once

#include "fsck_check.h"

/* Sizes, rows of table content, chunks. */
void fsck_contents_rows(struct fsck_check *check);
/* Rows of inodes that are not there. */
void fsck_contents_leftovers(struct fsck_check *check);
