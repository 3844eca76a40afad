#include "import_acl.h"

#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <errno.h>
#include <grp.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <pwd.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"

struct acl {
    struct posix_acl_xattr_entry *entries;
    size_t count;
};

static int tag_of(int archive_tag)
{
    switch (archive_tag) {
    case ARCHIVE_ENTRY_ACL_USER_OBJ: return ACL_USER_OBJ;
    case ARCHIVE_ENTRY_ACL_USER: return ACL_USER;
    case ARCHIVE_ENTRY_ACL_GROUP_OBJ: return ACL_GROUP_OBJ;
    case ARCHIVE_ENTRY_ACL_GROUP: return ACL_GROUP;
    case ARCHIVE_ENTRY_ACL_MASK: return ACL_MASK;
    case ARCHIVE_ENTRY_ACL_OTHER: return ACL_OTHER;
    default: return -EINVAL;
    }
}

/* The number of a named user or group: the archive's own, else this machine's. Programs write the number as name
 * when they know no name. */
static int64_t id_of(int tag, int qualifier, const char *name)
{
    const struct passwd *user;
    const struct group *group;
    uint32_t number;
    char end;

    if (tag != ACL_USER && tag != ACL_GROUP) return (uint32_t)ACL_UNDEFINED_ID;
    if (qualifier != -1) return (uint32_t)qualifier;
    if (!name) return -EINVAL;
    if (strspn(name, "0123456789") == strlen(name) && sscanf(name, "%10u%c", &number, &end) == 1) return number;
    if (tag == ACL_USER) return (user = getpwnam(name)) ? (int64_t)user->pw_uid : -EINVAL;
    return (group = getgrnam(name)) ? (int64_t)group->gr_gid : -EINVAL;
}

/* The kernel takes entries in the order of their tags only, which are numbered for that. */
static int compare(const void *a, const void *b)
{
    const struct posix_acl_xattr_entry *left = a, *right = b;
    uint16_t left_tag = le16toh(left->e_tag), right_tag = le16toh(right->e_tag);
    uint32_t left_id = le32toh(left->e_id), right_id = le32toh(right->e_id);

    if (left_tag != right_tag) return left_tag < right_tag ? -1 : 1;
    return (left_id > right_id) - (left_id < right_id);
}

static int add(struct acl *acl, int archive_tag, int permissions, int qualifier, const char *name)
{
    int tag = tag_of(archive_tag);
    int64_t id = id_of(tag, qualifier, name);
    void *grown;

    if (tag < 0 || id < 0) return -EINVAL;
    grown = reallocarray(acl->entries, acl->count + 1, sizeof(*acl->entries));
    if (!grown) return -ENOMEM;
    acl->entries = grown;
    acl->entries[acl->count++] = (struct posix_acl_xattr_entry){htole16(tag), htole16(permissions & 7), htole32(id)};
    return 0;
}

static int read_entries(struct archive_entry *entry, int type, struct acl *acl)
{
    int found_type, permissions, tag, qualifier;
    const char *name;

    archive_entry_acl_reset(entry, type);
    while (archive_entry_acl_next(entry, type, &found_type, &permissions, &tag, &qualifier, &name) == ARCHIVE_OK) {
        int r = add(acl, tag, permissions, qualifier, name);

        if (r < 0) return r;
    }
    return 0;
}

static int add_xattr(struct disk_xattrs *xattrs, const char *name, struct acl *acl)
{
    size_t size = acl->count * sizeof(*acl->entries);
    _cleanup_free_ struct posix_acl_xattr_header *value = malloc(sizeof(*value) + size);

    if (!value) return -ENOMEM;
    qsort(acl->entries, acl->count, sizeof(*acl->entries), compare);
    value->a_version = htole32(POSIX_ACL_XATTR_VERSION);
    memcpy(value + 1, acl->entries, size);
    return disk_xattrs_add(xattrs, name, value, sizeof(*value) + size);
}

static int convert(struct archive_entry *entry, int type, const char *name, struct disk_xattrs *xattrs)
{
    struct acl acl = {0};
    int r;

    if (!(archive_entry_acl_types(entry) & type)) return 0;
    r = read_entries(entry, type, &acl);
    if (r == 0 && acl.count) r = add_xattr(xattrs, name, &acl);
    free(acl.entries);
    return r;
}

int import_acl(struct archive_entry *entry, struct disk_xattrs *xattrs)
{
    int r = convert(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, "system.posix_acl_access", xattrs);

    return r < 0 ? r : convert(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, "system.posix_acl_default", xattrs);
}

int import_xattrs(struct archive_entry *entry, struct disk_xattrs *xattrs)
{
    const char *name;
    const void *value;
    size_t size;

    archive_entry_xattr_reset(entry);
    while (archive_entry_xattr_next(entry, &name, &value, &size) == ARCHIVE_OK) {
        int r = name && disk_xattrs_is_kept(name) ? disk_xattrs_add(xattrs, name, value, size) : 0;

        if (r < 0) return r;
    }
    return import_acl(entry, xattrs);
}
