#include "object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define NAME_SIZE 24 /* of any 64-bit number */

static const char *name_of(char name[NAME_SIZE], uint64_t id)
{
    snprintf(name, NAME_SIZE, "%llu", (unsigned long long)id);
    return name;
}

int object_open(int objects_fd, uint64_t id, int flags)
{
    char name[NAME_SIZE];
    int fd = openat(objects_fd, name_of(name, id), flags | O_NOFOLLOW | O_CLOEXEC, 0600);

    return fd < 0 ? -errno : fd;
}

int object_create(int objects_fd, uint64_t id)
{
    int fd = object_open(objects_fd, id, O_RDWR | O_CREAT | O_EXCL);

    if (fd < 0) return fd;
    close(fd);
    return 0;
}

bool object_is_name(const char *text, uint64_t *ret_id)
{
    char name[NAME_SIZE];

    *ret_id = strtoull(text, NULL, 10);
    return strcmp(text, name_of(name, *ret_id)) == 0;
}

int object_unlink(int objects_fd, uint64_t id)
{
    char name[NAME_SIZE];

    return unlinkat(objects_fd, name_of(name, id), 0) < 0 ? -errno : 0;
}

int object_stat(int objects_fd, uint64_t id, struct stat *ret_stat)
{
    char name[NAME_SIZE];

    return fstatat(objects_fd, name_of(name, id), ret_stat, AT_SYMLINK_NOFOLLOW) < 0 ? -errno : 0;
}
