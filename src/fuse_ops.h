/* fuse_ops: requests of the kernel's FUSE client (linux/fuse.h), decoded, answered by the tree and its views, encoded. */
#pragma once

#include <stdbool.h>

#include "tree.h"

struct fuse_lowlevel_ops;
struct fuse_session;

/* The user data of the session. */
struct fuse_ops {
    struct tree *tree;
    int store_fd; /* whose file system statfs(2) shows */
    /* Called when the kernel has agreed on the protocol: from then on requests are answered. */
    void (*ready)(void *data);
    void *ready_data;
};

/* To be passed to fuse_session_new(). */
extern const struct fuse_lowlevel_ops fuse_ops_table;

/* Makes the kernel forget what the tree says has changed; to be called without any lock. */
struct tree_changes fuse_ops_changes(struct fuse_session *session);
