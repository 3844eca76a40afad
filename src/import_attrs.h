/* import_attrs: what an import carries over of a file besides its contents. */
#pragma once

#include <stdint.h>
#include <sys/stat.h>
#include <time.h>

#include "disk_xattrs.h"

struct import_attrs {
    mode_t mode; /* type and permissions */
    uid_t uid;
    gid_t gid;
    struct timespec mtime;
    struct disk_xattrs xattrs;
};

/* Those of `name` in the directory at `dirfd`; `st` is what fstatat(2) says of it. Caller frees. */
int import_attrs_read(struct import_attrs *ret_attrs, int dirfd, const char *name, const struct stat *st);

/* Gives them to `name` in `dirfd`, symlinks not followed; "." is the directory. Its contents, or a directory's
 * entries, are there already: writing would change the time, drop set-id bits and capabilities, and let a default
 * ACL be inherited. On failure *ret_what tells what could not be set. */
int import_attrs_apply(const struct import_attrs *attrs, int dirfd, const char *name, const char **ret_what);

void import_attrs_free(struct import_attrs *attrs);
#define _cleanup_import_attrs_ __attribute__((cleanup(import_attrs_free)))
