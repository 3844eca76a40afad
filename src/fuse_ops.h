/* fuse_ops: requests of the kernel's FUSE client (linux/fuse.h), decoded, answered by the tree and its views, encoded. */
#pragma once

#include <stdbool.h>

#include "channel.h"
#include "tree.h"

struct fuse_lowlevel_ops;
struct fuse_session;

/* The user data of the session. */
struct fuse_ops {
    struct tree *tree;
    int store_fd; /* whose file system statfs(2) shows */
    struct fuse_session *session;
    struct channel channel;
};

/* To be passed to fuse_session_new(). */
extern const struct fuse_lowlevel_ops fuse_ops_table;

/* Makes the kernel forget what the tree says has changed; to be called without any lock. */
struct tree_changes fuse_ops_changes(struct fuse_session *session);
