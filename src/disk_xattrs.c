#include "disk_xattrs.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/xattr.h>

#include "io.h"

/* The way to a file by a directory's descriptor: Linux before 6.13 has no calls that take one with a name. */
#define VIA_PROC_SIZE (NAME_MAX + 64)

static int via_proc(char *buffer, int dirfd, const char *name)
{
    int length = snprintf(buffer, VIA_PROC_SIZE, "/proc/self/fd/%d/%s", dirfd, name);

    return length < VIA_PROC_SIZE ? 0 : -ENAMETOOLONG;
}

bool disk_xattrs_is_kept(const char *name)
{
    return strncmp(name, "security.", 9) == 0 || strncmp(name, "trusted.", 8) == 0 || strncmp(name, "user.", 5) == 0 ||
           strcmp(name, "system.posix_acl_access") == 0 || strcmp(name, "system.posix_acl_default") == 0;
}

static int read_names(char **ret_names, const char *path)
{
    for (;;) {
        ssize_t size = llistxattr(path, NULL, 0);
        _cleanup_free_ char *names = NULL;

        if (size < 0) return errno == EOPNOTSUPP ? 0 : -errno;
        if (size == 0) return 0;
        names = malloc(size);
        if (!names) return -ENOMEM;
        size = llistxattr(path, names, size);
        if (size >= 0) *ret_names = io_take(names);
        if (size >= 0 || errno != ERANGE) return size < 0 ? -errno : (int)size;
    }
}

static int read_value(struct disk_xattrs *xattrs, const char *path, const char *name)
{
    for (;;) {
        ssize_t size = lgetxattr(path, name, NULL, 0);
        _cleanup_free_ void *value = NULL;

        if (size < 0) return errno == ENODATA ? 0 : -errno;
        value = malloc(size + 1);
        if (!value) return -ENOMEM;
        size = lgetxattr(path, name, value, size);
        if (size >= 0) return disk_xattrs_add(xattrs, name, value, size);
        if (errno != ERANGE) return errno == ENODATA ? 0 : -errno;
    }
}

int disk_xattrs_read(struct disk_xattrs *ret_xattrs, int dirfd, const char *name)
{
    _cleanup_disk_xattrs_ struct disk_xattrs xattrs = {0};
    _cleanup_free_ char *names = NULL;
    char path[VIA_PROC_SIZE];
    int size, r;

    *ret_xattrs = (struct disk_xattrs){0};
    r = via_proc(path, dirfd, name);
    if (r < 0) return r;
    size = read_names(&names, path);
    if (size < 0) return size;
    for (const char *next = names; next && next < names + size; next += strlen(next) + 1) {
        r = disk_xattrs_is_kept(next) ? read_value(&xattrs, path, next) : 0;
        if (r < 0) return r;
    }
    *ret_xattrs = xattrs;
    xattrs = (struct disk_xattrs){0};
    return 0;
}

static struct disk_xattrs_item *find_or_append(struct disk_xattrs *xattrs, const char *name)
{
    struct disk_xattrs_item *grown;

    for (size_t i = 0; i < xattrs->count; i++)
        if (strcmp(xattrs->items[i].name, name) == 0) return &xattrs->items[i];
    grown = reallocarray(xattrs->items, xattrs->count + 1, sizeof(*grown));
    if (!grown) return NULL;
    xattrs->items = grown;
    grown[xattrs->count] = (struct disk_xattrs_item){.name = strdup(name)};
    return grown[xattrs->count].name ? &grown[xattrs->count++] : NULL;
}

int disk_xattrs_add(struct disk_xattrs *xattrs, const char *name, const void *value, size_t size)
{
    struct disk_xattrs_item *item = find_or_append(xattrs, name);
    void *copy = malloc(size + 1);

    if (!item || !copy) {
        free(copy);
        return -ENOMEM;
    }
    if (size) memcpy(copy, value, size);
    free(item->value);
    item->value = copy;
    item->size = size;
    return 0;
}

int disk_xattrs_apply(const struct disk_xattrs *xattrs, int dirfd, const char *name, const char **ret_name)
{
    char path[VIA_PROC_SIZE];
    int r = via_proc(path, dirfd, name);

    for (size_t i = 0; i < xattrs->count; i++) {
        const struct disk_xattrs_item *item = &xattrs->items[i];

        *ret_name = item->name;
        if (r < 0) return r;
        if (lsetxattr(path, item->name, item->value, item->size, 0) < 0) return -errno;
    }
    return 0;
}

void disk_xattrs_free(struct disk_xattrs *xattrs)
{
    for (size_t i = 0; i < xattrs->count; i++) {
        free(xattrs->items[i].name);
        free(xattrs->items[i].value);
    }
    free(xattrs->items);
    *xattrs = (struct disk_xattrs){0};
}
