/* import_acl: POSIX ACLs from an archive's entries into the attributes that the kernel keeps them in; and the other attributes. */
#pragma once

#include "disk_xattrs.h"

struct archive_entry;

/* Adds system.posix_acl_access and system.posix_acl_default where the member has such. -EINVAL: an ACL that names a
 * user or group without a number whom this machine does not know. */
int import_acl(struct archive_entry *entry, struct disk_xattrs *xattrs);

/* Adds all that are kept, ACLs too. */
int import_xattrs(struct archive_entry *entry, struct disk_xattrs *xattrs);
