#include "object.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "io.h"

#define NAME_SIZE 24 /* of any 64-bit number */

static const char *name_of(char name[NAME_SIZE], uint64_t id)
{
    snprintf(name, NAME_SIZE, "%llu", (unsigned long long)id);
    return name;
}

int object_open(int objects_fd, uint64_t id, int flags)
{
    char name[NAME_SIZE];
    /* O_NONBLOCK: a fifo put in the object's place must not hold up the daemon. */
    _cleanup_close_ int fd = openat(objects_fd, name_of(name, id), flags | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY | O_CLOEXEC, 0600);
    struct stat st;

    if (fd < 0) return -errno;
    if (fstat(fd, &st) < 0) return -errno;
    return S_ISREG(st.st_mode) ? io_take_fd(fd) : -EUCLEAN;
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

static int copy(int objects_fd, uint64_t id, int to_objects_fd)
{
    _cleanup_close_ int from = object_open(objects_fd, id, O_RDONLY), to = -1;
    struct stat st;

    if (from < 0) return from;
    if (fstat(from, &st) < 0) return -errno;
    to = object_open(to_objects_fd, id, O_RDWR | O_CREAT | O_EXCL);
    if (to < 0) return to;
    if (ftruncate(to, st.st_size) < 0) return -errno;
    for (off_t end, start = lseek(from, 0, SEEK_DATA); start >= 0; start = lseek(from, end, SEEK_DATA)) {
        int r;

        end = lseek(from, start, SEEK_HOLE);
        if (end < 0) return -errno;
        r = io_copy(from, start, to, start, end - start);
        if (r < 0) return r;
    }
    return errno == ENXIO ? 0 : -errno;
}

int object_share(int objects_fd, uint64_t id, int to_objects_fd)
{
    char name[NAME_SIZE];

    name_of(name, id);
    if (linkat(objects_fd, name, to_objects_fd, name, 0) == 0) return 0;
    return errno == EMLINK ? copy(objects_fd, id, to_objects_fd) : -errno;
}
