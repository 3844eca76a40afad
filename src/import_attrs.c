#include "import_attrs.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

int import_attrs_read(struct import_attrs *ret_attrs, int dirfd, const char *name, const struct stat *st)
{
    *ret_attrs = (struct import_attrs){
        .mode = st->st_mode,
        .uid = st->st_uid,
        .gid = st->st_gid,
        .mtime = st->st_mtim,
    };
    return disk_xattrs_read(&ret_attrs->xattrs, dirfd, name);
}

int import_attrs_apply(const struct import_attrs *attrs, int dirfd, const char *name, const char **ret_what)
{
    /* What was read last is nobody's business in an image. */
    struct timespec times[2] = {attrs->mtime, attrs->mtime};
    int r;

    *ret_what = "owner";
    if (fchownat(dirfd, name, attrs->uid, attrs->gid, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    *ret_what = "mode";
    if (!S_ISLNK(attrs->mode) && fchmodat(dirfd, name, attrs->mode & 07777, 0) < 0) return -errno;
    r = disk_xattrs_apply(&attrs->xattrs, dirfd, name, ret_what);
    if (r < 0) return r;
    *ret_what = "time";
    return utimensat(dirfd, name, times, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}

void import_attrs_free(struct import_attrs *attrs)
{
    disk_xattrs_free(&attrs->xattrs);
}
