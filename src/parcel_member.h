/* parcel_member: one member of a tar of differences after the other becomes a change of a root. */
#pragma once

#include "inode.h"

struct archive_entry;

struct parcel_member {
    struct view *view;
    int (*contents)(void *data, struct view *view, uint64_t ino); /* writes those of the member at hand */
    void *data;
    struct inomap index; /* of directories whose mtime is to be set at the end: into `late`, from 1 */
    struct parcel_late {
        uint64_t ino;
        struct stat stat;
    } *late;
    size_t count;
};

/* -EINVAL: a name with "..", an owner out of range, an ACL of somebody unknown. */
int parcel_member_apply(struct parcel_member *m, struct archive_entry *entry);
int parcel_member_write(struct view *view, uint64_t ino, const void *data, size_t size, uint64_t offset);
int parcel_member_finish(struct parcel_member *m);
void parcel_member_clear(struct parcel_member *m);
