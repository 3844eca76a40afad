#include "parcel_member.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sysmacros.h>

#include "content.h"
#include "dirent.h"
#include "import_acl.h"
#include "io.h"
#include "names.h"
#include "parcel.h"
#include "xattr.h"

static const struct names_caller root = {0};

/* ---- directories' times: what is done in one changes them ---- */

static int note(struct parcel_member *m, uint64_t dir)
{
    struct parcel_late *late;
    int r;

    if (inomap_get(&m->index, dir)) return 0;
    late = reallocarray(m->late, m->count + 1, sizeof(*late));
    if (!late) return -ENOMEM;
    m->late = late;
    late[m->count].ino = dir;
    r = inode_stat(m->view, dir, &late[m->count].stat);
    return r < 0 ? r : inomap_add(&m->index, dir, ++m->count);
}

int parcel_member_finish(struct parcel_member *m)
{
    for (size_t i = 0; i < m->count; i++) {
        struct inode_change change = {&m->late[i].stat, INODE_MTIME};
        int r = inode_change(m->view, m->late[i].ino, &change);

        if (r < 0 && r != -ESTALE) return r; /* a later member may have removed it */
    }
    return 0;
}

void parcel_member_clear(struct parcel_member *m)
{
    free(m->late);
    inomap_clear(&m->index);
}

/* ---- removing ---- */

static int remove_name(struct parcel_member *m, uint64_t dir, const char *name, bool of_image);

static int remove_names(struct parcel_member *m, uint64_t dir, bool of_image)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};

    for (;;) {
        struct delta *d = view_lock(m->view);
        int r = dirent_next(m->view, d, dir, e.cookie, &e);

        view_unlock(d);
        if (r > 0) r = remove_name(m, dir, e.name, of_image);
        else return r;
        if (r < 0) return r;
    }
}

/* With all in it. `of_image`: what the tar has brought stays. */
static int remove_name(struct parcel_member *m, uint64_t dir, const char *name, bool of_image)
{
    struct stat st;
    uint64_t ino;
    int r = names_lookup(m->view, dir, name, &ino);

    if (r == -ENOENT) return 0;
    if (r == 0) r = inode_stat(m->view, ino, &st);
    if (r < 0 || (of_image && !view_image_ino(m->view, ino))) return r;
    if (!S_ISDIR(st.st_mode)) return names_unlink(m->view, dir, name);
    r = remove_names(m, ino, of_image);
    if (r == 0) r = names_rmdir(m->view, dir, name);
    return of_image && r == -ENOTEMPTY ? 0 : r;
}

/* ---- attributes ---- */

static bool is_wanted(const struct disk_xattrs *xattrs, const char *name)
{
    for (size_t i = 0; i < xattrs->count; i++)
        if (strcmp(xattrs->items[i].name, name) == 0) return true;
    return false;
}

/* Those that the image's directory has, or that were inherited. */
static int remove_xattrs(struct view *v, uint64_t ino, const struct disk_xattrs *wanted)
{
    _cleanup_free_ char *names = malloc(XATTR_SIZE);
    ssize_t size = names ? xattr_list(v, ino, names, XATTR_SIZE) : -ENOMEM;

    for (const char *name = names; size > 0 && name < names + size; name += strlen(name) + 1) {
        int r = is_wanted(wanted, name) ? 0 : xattr_remove(v, ino, name);

        if (r < 0) return r;
    }
    return size < 0 ? size : 0;
}

static int set_xattrs(struct view *v, uint64_t ino, const struct disk_xattrs *xattrs)
{
    int r = 0;

    for (size_t i = 0; r == 0 && i < xattrs->count; i++)
        if (strcmp(xattrs->items[i].name, PARCEL_IMAGE) != 0)
            r = xattr_set(v, ino, xattrs->items[i].name, xattrs->items[i].value, xattrs->items[i].size, 0);
    return r;
}

static int set_attributes(struct parcel_member *m, uint64_t ino, struct archive_entry *entry, const struct stat *st)
{
    _cleanup_disk_xattrs_ struct disk_xattrs xattrs = {0};
    struct inode_change owner = {st, INODE_UID | INODE_GID | (S_ISLNK(st->st_mode) ? 0 : INODE_MODE)}, time = {st, INODE_MTIME};
    int r = import_xattrs(entry, &xattrs);

    if (r == 0) r = remove_xattrs(m->view, ino, &xattrs);
    if (r == 0) r = inode_change(m->view, ino, &owner);
    if (r == 0) r = set_xattrs(m->view, ino, &xattrs);
    if (r < 0) return r;
    if (!S_ISDIR(st->st_mode)) return inode_change(m->view, ino, &time);
    r = note(m, ino);
    if (r == 0) m->late[inomap_get(&m->index, ino) - 1].stat.st_mtim = st->st_mtim;
    return r;
}

/* ---- members ---- */

static int read_stat(struct archive_entry *entry, struct stat *ret)
{
    int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);

    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX) return -EINVAL;
    *ret = (struct stat){
        .st_mode = archive_entry_filetype(entry) | (archive_entry_perm(entry) & 07777),
        .st_uid = uid,
        .st_gid = gid,
        .st_size = archive_entry_size(entry),
        .st_mtim = {.tv_sec = archive_entry_mtime(entry), .tv_nsec = archive_entry_mtime_nsec(entry)},
        .st_rdev = makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry)),
    };
    return 0;
}

/* The directory of the last component, made where it is missing; *ret_base is in `path`, which is cut up; "" for the root. */
static int find_parent(struct parcel_member *m, char *path, uint64_t *ret_dir, char **ret_base)
{
    char *component, *base = NULL;

    *ret_dir = DELTA_ROOT;
    if (*path == '/') return -EINVAL;
    while ((component = strsep(&path, "/"))) {
        uint64_t parent = *ret_dir;
        int r = 0;

        if (!*component || strcmp(component, ".") == 0) continue;
        if (strcmp(component, "..") == 0) return -EINVAL;
        if (base) r = names_lookup(m->view, parent, base, ret_dir);
        if (r == -ENOENT && (r = note(m, parent)) == 0)
            r = names_make(m->view, &root, parent, base, S_IFDIR | 0755, 0, ret_dir);
        if (r < 0) return r;
        base = component;
    }
    *ret_base = base ? base : (char *)"";
    return 0;
}

static int make(struct parcel_member *m, uint64_t dir, const char *base, struct archive_entry *entry, const struct stat *st)
{
    uint64_t ino;
    int r;

    if (S_ISLNK(st->st_mode)) r = names_symlink(m->view, &root, dir, base, archive_entry_symlink(entry), &ino);
    else r = names_make(m->view, &root, dir, base, st->st_mode, st->st_rdev, &ino);
    if (r == 0 && S_ISREG(st->st_mode)) r = m->contents(m->data, m->view, ino);
    if (r == 0 && S_ISREG(st->st_mode)) r = content_truncate(m->view, ino, st->st_size, NULL);
    return r < 0 ? r : set_attributes(m, ino, entry, st);
}

static int make_link(struct parcel_member *m, uint64_t dir, const char *base, const char *target)
{
    _cleanup_free_ char *path = strdup(target);
    uint64_t target_dir, ino, there;
    char *target_base;
    int r = path ? find_parent(m, path, &target_dir, &target_base) : -ENOMEM;

    if (r == 0) r = names_lookup(m->view, target_dir, *target_base ? target_base : ".", &ino);
    if (r < 0) return r;
    if (names_lookup(m->view, dir, base, &there) == 0 && there == ino) return 0;
    r = remove_name(m, dir, base, false);
    return r < 0 ? r : names_link(m->view, ino, dir, base);
}

/* 1: the base name was a mark, and is dealt with. */
static int take_mark(struct parcel_member *m, uint64_t dir, const char *base)
{
    size_t length = strlen(PARCEL_GONE);
    int r;

    if (strncmp(base, PARCEL_GONE, length) != 0) return 0;
    if (strcmp(base, PARCEL_OPAQUE) == 0) r = remove_names(m, dir, true);
    else r = base[length] == '\0' || base[length] == '.' ? -EINVAL : remove_name(m, dir, base + length, false);
    return r < 0 ? r : 1;
}

static int put_in(struct parcel_member *m, uint64_t dir, const char *base, struct archive_entry *entry)
{
    const char *target = archive_entry_hardlink(entry);
    struct stat st, there;
    uint64_t ino;
    int r = note(m, dir);

    if (r == 0) r = take_mark(m, dir, base);
    if (r != 0) return r < 0 ? r : 0;
    if (target) return make_link(m, dir, base, target);
    r = read_stat(entry, &st);
    if (r < 0) return r;
    if (S_ISDIR(st.st_mode) && names_lookup(m->view, dir, base, &ino) == 0 && inode_stat(m->view, ino, &there) == 0 &&
        S_ISDIR(there.st_mode))
        return set_attributes(m, ino, entry, &st);
    r = remove_name(m, dir, base, false);
    return r < 0 ? r : make(m, dir, base, entry, &st);
}

int parcel_member_apply(struct parcel_member *m, struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    _cleanup_free_ char *path = name ? strdup(name) : NULL;
    struct stat st;
    uint64_t dir;
    char *base;
    int r = path ? find_parent(m, path, &dir, &base) : -EINVAL;

    if (r < 0) return r;
    if (*base) return put_in(m, dir, base, entry);
    r = read_stat(entry, &st);
    return r < 0 ? r : S_ISDIR(st.st_mode) ? set_attributes(m, DELTA_ROOT, entry, &st) : -EINVAL;
}

int parcel_member_write(struct view *v, uint64_t ino, const void *data, size_t size, uint64_t offset)
{
    return content_write(v, ino, data, size, offset);
}
