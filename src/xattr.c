#include "xattr.h"

#include <errno.h>
#include <string.h>
#include <sys/xattr.h>

#include "acl.h"

/* The handle by which overlayfs, mounted over directories of a root, finds what it copied a file from. What it opens by a handle
 * on FUSE it then takes for stale: a name it has none, by which the kernel could ask anew (d_revalidate in fs/fuse/dir.c). It goes
 * on without where this is refused so (ovl_set_origin_fh in fs/overlayfs/copy_up.c). */
#define OVERLAY_ORIGIN "trusted.overlay.origin"

struct search {
    const char *name;
    void *buffer;
    size_t size, length;
};

static int match(const char *name, const void *value, size_t size, void *data)
{
    struct search *s = data;

    if (strcmp(name, s->name) != 0) return 0;
    s->length = size;
    if (s->size) memcpy(s->buffer, value, size < s->size ? size : s->size);
    return 1;
}

/* 1 and the length, of which as much as fits is in buffer. */
static int find(struct view *v, struct delta *d, const struct inode *inode, struct search *s)
{
    if (inode->stored) {
        int r = delta_get_xattr(d, inode->row.ino, s->name, s->buffer, s->size, &s->length);

        return r < 0 ? damage_found(v, d, inode->row.ino, r, "its attributes") : r;
    }
    return inode->row.image_ino ? image_xattrs(v->image, inode->row.image_ino, match, s) : 0;
}

int xattr_load(struct view *v, struct delta *d, const struct inode *inode, const char *name, void *buffer, size_t size,
               size_t *ret_size)
{
    struct search s = {.name = name, .buffer = buffer, .size = size};
    int r = find(v, d, inode, &s);

    *ret_size = s.length;
    return r > 0 && s.length > size ? -EIO : r;
}

static bool is_supported(const char *name)
{
    static const char *const spaces[] = {"user.", "trusted.", "security."};

    for (size_t i = 0; i < sizeof(spaces) / sizeof(*spaces); i++)
        if (strncmp(name, spaces[i], strlen(spaces[i])) == 0) return true;
    return strcmp(name, ACL_ACCESS) == 0 || strcmp(name, ACL_DEFAULT) == 0;
}

ssize_t xattr_get(struct view *v, uint64_t ino, const char *name, void *buffer, size_t size)
{
    struct search s = {.name = name, .buffer = buffer, .size = size};
    struct delta *d = view_lock(v);
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    if (r == 0 && !is_supported(name)) r = -EOPNOTSUPP;
    if (r == 0) r = find(v, d, &inode, &s);
    view_unlock(d);
    if (r <= 0) return r < 0 ? r : -ENODATA;
    return size && s.length > size ? -ERANGE : (ssize_t)s.length;
}

/* What xattr(7) leaves to the file system. */
static int check(struct view *v, struct delta *d, const struct inode *inode, const char *name, size_t size, int flags)
{
    struct search s = {.name = name};
    int r;

    if (!is_supported(name)) return -EOPNOTSUPP;
    if (strcmp(name, OVERLAY_ORIGIN) == 0) return -EPERM;
    if (size > XATTR_SIZE) return -E2BIG;
    if (strcmp(name, ACL_DEFAULT) == 0 && !S_ISDIR(inode->row.mode)) return -EACCES;
    r = find(v, d, inode, &s);
    if (r < 0) return r;
    if (r == 0 && flags & XATTR_REPLACE) return -ENODATA;
    return r > 0 && flags & XATTR_CREATE ? -EEXIST : 0;
}

static int set(struct view *v, struct delta *d, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
    bool in_mode = false;
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    if (r == 0) r = check(v, d, &inode, name, size, flags);
    if (r < 0) return r;
    if (strcmp(name, ACL_ACCESS) == 0) {
        r = acl_to_mode(value, size, &inode.row.mode);
        if (r < 0) return r;
        in_mode = r > 0;
        if (flags & XATTR_KILL_SGID) inode.row.mode &= ~S_ISGID;
    }
    r = inode_put_changed(v, d, &inode);
    if (r < 0) return r;
    r = in_mode ? delta_remove_xattr(d, ino, name) : delta_set_xattr(d, ino, name, value, size);
    return r < 0 ? r : 0;
}

int xattr_set(struct view *v, uint64_t ino, const char *name, const void *value, size_t size, int flags)
{
    struct delta *d;
    int r = view_check_room(v, size);

    if (r == 0) r = view_begin(v, &d);
    return r < 0 ? r : view_end(v, d, set(v, d, ino, name, value, size, flags), VIEW_METADATA);
}

static int unset(struct view *v, struct delta *d, uint64_t ino, const char *name)
{
    struct search s = {.name = name};
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    if (r == 0 && !is_supported(name)) r = -EOPNOTSUPP;
    if (r == 0) r = find(v, d, &inode, &s);
    if (r == 0 && strncmp(name, "system.posix_acl_", 17) == 0) return 0; /* as ext4: no ACL is what was asked for */
    if (r <= 0) return r < 0 ? r : -ENODATA;
    r = inode_put_changed(v, d, &inode);
    if (r == 0) r = delta_remove_xattr(d, ino, name);
    return r < 0 ? r : 0;
}

int xattr_remove(struct view *v, uint64_t ino, const char *name)
{
    struct delta *d;
    int r = view_begin(v, &d);

    return r < 0 ? r : view_end(v, d, unset(v, d, ino, name), VIEW_METADATA);
}

static int append(const char *name, const void *value, size_t value_size, void *data)
{
    struct search *s = data;
    size_t size = strlen(name) + 1;

    (void)value;
    (void)value_size;
    if (s->length + size <= s->size) memcpy((char *)s->buffer + s->length, name, size);
    s->length += size;
    return 0;
}

static int list_stored(struct view *v, struct delta *d, uint64_t ino, struct search *s)
{
    int r = delta_xattrs(d, ino, append, s);

    return r < 0 ? damage_found(v, d, ino, r, "its attributes") : r;
}

ssize_t xattr_list(struct view *v, uint64_t ino, char *buffer, size_t size)
{
    struct search s = {.buffer = buffer, .size = size};
    struct delta *d = view_lock(v);
    struct inode inode;
    int r = inode_get(v, d, ino, &inode);

    if (r == 0 && inode.stored) r = list_stored(v, d, ino, &s);
    else if (r == 0 && inode.row.image_ino) r = image_xattrs(v->image, inode.row.image_ino, append, &s);
    view_unlock(d);
    if (r < 0) return r;
    return size && s.length > size ? -ERANGE : (ssize_t)s.length;
}
