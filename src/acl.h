/* acl: POSIX ACLs as the kernel keeps them in extended attributes (acl(5), linux/posix_acl_xattr.h). The kernel checks
 * permissions by them; what changes together with them - modes, inheritance - is done here, as ext4 does it.
 *
 * All functions: within view_begin() and view_end(). */
#pragma once

#include "inode.h"

#define ACL_ACCESS "system.posix_acl_access"
#define ACL_DEFAULT "system.posix_acl_default"

/* The mode of a stored inode was changed: so is its access ACL, if it has one. */
int acl_chmod(struct view *view, struct delta *delta, const struct inode *inode);

/* Gives a new inode (number known, not yet written) what its directory's default ACL says; without one, applies umask to its mode. */
int acl_inherit(struct view *view, struct delta *delta, const struct inode *dir, struct inode *inode, mode_t umask);

/* An access ACL is being set: puts its permissions into the mode. 1: the mode says it all, no attribute need be kept;
 * 0: keep it; -EINVAL: no ACL. */
int acl_to_mode(const void *value, size_t size, uint32_t *mode);
