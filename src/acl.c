#include "acl.h"

#include <endian.h>
#include <errno.h>
#include <stdint.h>
#include <string.h>

#include "xattr.h"

#define VERSION 2

enum { USER_OBJ = 1, USER = 2, GROUP_OBJ = 4, GROUP = 8, MASK = 16, OTHER = 32 };

struct entry {
    uint16_t tag, perm; /* little endian, as all here */
    uint32_t id;
};

struct acl {
    uint32_t version;
    struct entry entries[(XATTR_SIZE - sizeof(uint32_t)) / sizeof(struct entry)];
};

static size_t count(size_t size)
{
    return (size - sizeof(uint32_t)) / sizeof(struct entry);
}

static bool is_acl(const struct acl *acl, size_t size)
{
    return size >= sizeof(uint32_t) && size <= XATTR_SIZE && (size - sizeof(uint32_t)) % sizeof(struct entry) == 0 &&
           le32toh(acl->version) == VERSION;
}

static struct entry *find(struct acl *acl, size_t size, uint16_t tag)
{
    for (size_t i = 0; i < count(size); i++)
        if (le16toh(acl->entries[i].tag) == tag) return &acl->entries[i];
    return NULL;
}

/* Where the mode's group bits live: in the mask, if there is one. */
static struct entry *group_entry(struct acl *acl, size_t size)
{
    struct entry *mask = find(acl, size, MASK);

    return mask ? mask : find(acl, size, GROUP_OBJ);
}

static void set_perm(struct entry *e, uint32_t perm)
{
    if (e) e->perm = htole16(perm & 7);
}

static uint32_t get_perm(const struct entry *e)
{
    return e ? le16toh(e->perm) & 7 : 0;
}

static uint32_t permissions(struct acl *acl, size_t size)
{
    return get_perm(find(acl, size, USER_OBJ)) << 6 | get_perm(group_entry(acl, size)) << 3 |
           get_perm(find(acl, size, OTHER));
}

static void set_permissions(struct acl *acl, size_t size, uint32_t mode)
{
    set_perm(find(acl, size, USER_OBJ), mode >> 6);
    set_perm(group_entry(acl, size), mode >> 3);
    set_perm(find(acl, size, OTHER), mode);
}

/* 1, 0: none. */
static int load(struct view *v, struct delta *d, const struct inode *inode, const char *name, struct acl *acl, size_t *ret_size)
{
    int r = xattr_load(v, d, inode, name, acl, sizeof(*acl), ret_size);

    if (r <= 0) return r;
    return is_acl(acl, *ret_size) ? 1 : -EIO;
}

int acl_chmod(struct view *v, struct delta *d, const struct inode *inode)
{
    struct acl acl;
    size_t size;
    int r = load(v, d, inode, ACL_ACCESS, &acl, &size);

    if (r <= 0) return r;
    set_permissions(&acl, size, inode->row.mode);
    return delta_set_xattr(d, inode->row.ino, ACL_ACCESS, &acl, size);
}

/* The created object's permissions are what both the caller's mode and the ACL allow (acl(5), "Object creation"). */
int acl_inherit(struct view *v, struct delta *d, const struct inode *dir, struct inode *inode, mode_t umask)
{
    struct acl acl;
    size_t size;
    int r = S_ISLNK(inode->row.mode) ? 0 : load(v, d, dir, ACL_DEFAULT, &acl, &size);

    if (r < 0) return r;
    if (r == 0) {
        if (!S_ISLNK(inode->row.mode)) inode->row.mode &= ~(umask & 0777);
        return 0;
    }
    if (S_ISDIR(inode->row.mode)) r = delta_set_xattr(d, inode->row.ino, ACL_DEFAULT, &acl, size);
    if (r < 0) return r;
    inode->row.mode &= permissions(&acl, size) | ~0777u;
    set_permissions(&acl, size, inode->row.mode);
    return count(size) > 3 ? delta_set_xattr(d, inode->row.ino, ACL_ACCESS, &acl, size) : 0;
}

int acl_to_mode(const void *value, size_t size, uint32_t *mode)
{
    struct acl acl;

    if (size > sizeof(acl)) return -EINVAL;
    memcpy(&acl, value, size);
    if (!is_acl(&acl, size)) return -EINVAL;
    *mode = (*mode & ~0777u) | permissions(&acl, size);
    return count(size) <= 3;
}
