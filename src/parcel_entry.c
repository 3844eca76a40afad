#include "parcel_entry.h"

#include <archive.h>
#include <archive_entry.h>
#include <endian.h>
#include <errno.h>
#include <linux/posix_acl.h>
#include <linux/posix_acl_xattr.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "acl.h"
#include "content.h"
#include "io.h"
#include "xattr.h"

#define SMALL 65536 /* holes in smaller files are not looked for */
#define NS INT64_C(1000000000)

static int tag_of(uint16_t tag)
{
    switch (tag) {
    case ACL_USER_OBJ: return ARCHIVE_ENTRY_ACL_USER_OBJ;
    case ACL_USER: return ARCHIVE_ENTRY_ACL_USER;
    case ACL_GROUP_OBJ: return ARCHIVE_ENTRY_ACL_GROUP_OBJ;
    case ACL_GROUP: return ARCHIVE_ENTRY_ACL_GROUP;
    case ACL_MASK: return ARCHIVE_ENTRY_ACL_MASK;
    case ACL_OTHER: return ARCHIVE_ENTRY_ACL_OTHER;
    default: return -EINVAL;
    }
}

static int add_acl(struct archive_entry *entry, int type, const void *value, size_t size)
{
    const struct posix_acl_xattr_entry *e = (const void *)((const char *)value + sizeof(struct posix_acl_xattr_header));
    size_t count = size < sizeof(struct posix_acl_xattr_header) ? 0 : (size - sizeof(struct posix_acl_xattr_header)) / sizeof(*e);

    for (size_t i = 0; i < count; i++) {
        int tag = tag_of(le16toh(e[i].e_tag));
        bool named = tag == ARCHIVE_ENTRY_ACL_USER || tag == ARCHIVE_ENTRY_ACL_GROUP;

        if (tag < 0) return tag;
        if (archive_entry_acl_add_entry(entry, type, le16toh(e[i].e_perm), tag, named ? (int)le32toh(e[i].e_id) : -1, NULL) < ARCHIVE_WARN)
            return -ENOMEM;
    }
    return 0;
}

static int add_xattr(struct archive_entry *entry, const char *name, const void *value, size_t size)
{
    if (strcmp(name, ACL_ACCESS) == 0) return add_acl(entry, ARCHIVE_ENTRY_ACL_TYPE_ACCESS, value, size);
    if (strcmp(name, ACL_DEFAULT) == 0) return add_acl(entry, ARCHIVE_ENTRY_ACL_TYPE_DEFAULT, value, size);
    archive_entry_xattr_add_entry(entry, name, value, size);
    return 0;
}

static int add_xattrs(struct archive_entry *entry, struct view *v, uint64_t ino)
{
    _cleanup_free_ char *names = malloc(XATTR_SIZE), *value = malloc(XATTR_SIZE);
    ssize_t size = names && value ? xattr_list(v, ino, names, XATTR_SIZE) : -ENOMEM;

    for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        ssize_t n = xattr_get(v, ino, name, value, XATTR_SIZE);
        int r = n < 0 ? n : add_xattr(entry, name, value, n);

        if (r < 0) return r;
    }
    return size < 0 ? size : 0;
}

int parcel_entry_fill(struct archive_entry *entry, struct view *v, const struct inode *i)
{
    const struct delta_inode *row = &i->row;
    int64_t seconds = row->mtime / NS, rest = row->mtime % NS;
    char target[4097];
    int r;

    if (rest < 0) {
        rest += NS;
        seconds--;
    }
    archive_entry_set_mode(entry, row->mode);
    archive_entry_set_uid(entry, row->uid);
    archive_entry_set_gid(entry, row->gid);
    archive_entry_set_mtime(entry, seconds, rest);
    archive_entry_set_size(entry, S_ISREG(row->mode) ? row->size : 0);
    if (S_ISCHR(row->mode) || S_ISBLK(row->mode)) archive_entry_set_rdev(entry, row->rdev);
    if (S_ISLNK(row->mode)) {
        r = inode_readlink(v, row->ino, target, sizeof(target));
        if (r < 0) return r;
        archive_entry_copy_symlink(entry, target);
    }
    return add_xattrs(entry, v, row->ino);
}

int parcel_entry_add_holes(struct archive_entry *entry, struct view *v, const struct inode *i)
{
    uint64_t size = i->row.size, at = 0;
    int parts = 0;

    if (size < SMALL) return 0;
    while (at < size) {
        off_t start = content_seek(v, i->row.ino, at, SEEK_DATA), end;

        if (start == -ENXIO) break;
        end = start < 0 ? start : content_seek(v, i->row.ino, start, SEEK_HOLE);
        if (end < 0) return end;
        if (start == 0 && (uint64_t)end >= size) return 0;
        archive_entry_sparse_add_entry(entry, start, end - start);
        parts++;
        at = end;
    }
    if (parts == 0) archive_entry_sparse_add_entry(entry, 0, 0);
    return 0;
}
