/* rebase_file: one file of a view compared with one of another view, and made as one of another view is. */
#pragma once

#include "view.h"
#include "inode.h"

/* One file. */
struct rebase_file {
    struct view *view;
    uint64_t ino;
};

int rebase_file_get(struct rebase_file file, struct inode *ret_inode);
/* 1: types, permissions, owners, attributes and contents are the same; of directories all but their names. */
int rebase_file_same(struct rebase_file a, struct rebase_file b);

/* `to` gets contents of the regular file `from`. `is_base`: what the image has of `to` are the bytes that the image has of `from`, and only
 * what differs from them is kept. Objects are shared. */
int rebase_file_fill(struct rebase_file from, struct rebase_file to, bool is_base);
/* Owners, permissions, extended attributes and times. */
int rebase_file_dress(struct rebase_file from, struct rebase_file to);
