/* names: the operations that change what is called what: one transaction each.
 *
 * The kernel has checked permissions, and types where it could; what another client may have changed since is checked
 * again here. Results are durable as the mount promises when a function returns. */
#pragma once

#include "inode.h"

struct names_caller {
    uid_t uid;
    gid_t gid;
    mode_t umask; /* not yet applied to modes: see acl_inherit() */
};

/* The inode of that name. "." and ".." too, for any inode (".." of anything but a directory is -ENOTDIR). -ENOENT, -ESTALE. */
int names_lookup(struct view *view, uint64_t dir, const char *name, uint64_t *ret_ino);

/* What was found by a name turned out to be over (-ESTALE): -EIO, and told, if the name is there and what it means is not. */
int names_explain(struct view *view, uint64_t dir, const char *name);

/* A new regular file, directory, device, fifo or socket, by the type in `mode`; -EEXIST. */
int names_make(struct view *view, const struct names_caller *caller, uint64_t dir, const char *name, mode_t mode, dev_t rdev,
               uint64_t *ret_ino);

/* A new file without a name, as O_TMPFILE makes it, referred to once (view_refer). It ends with view_forget(), unless
 * names_link() has given it a name. */
int names_make_unnamed(struct view *view, const struct names_caller *caller, uint64_t dir, mode_t mode, uint64_t *ret_ino);

int names_symlink(struct view *view, const struct names_caller *caller, uint64_t dir, const char *name, const char *target,
                  uint64_t *ret_ino);
int names_link(struct view *view, uint64_t ino, uint64_t dir, const char *name);
int names_unlink(struct view *view, uint64_t dir, const char *name);
int names_rmdir(struct view *view, uint64_t dir, const char *name);

/* flags of renameat2(2): RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT. */
int names_rename(struct view *view, const struct names_caller *caller, uint64_t from_dir, const char *from, uint64_t to_dir,
                 const char *to, unsigned flags);
