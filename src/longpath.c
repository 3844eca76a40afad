#include "longpath.h"

#include <errno.h>
#include <limits.h>
#include <string.h>

#include "io.h"

int longpath_open(int dirfd, char *path, int flags)
{
    _cleanup_close_ int held = -1;

    while (strlen(path) >= PATH_MAX) {
        char *cut = memrchr(path, '/', PATH_MAX - 1);
        int next;

        if (!cut) return -ENAMETOOLONG;
        *cut = '\0';
        next = io_open_beneath(held >= 0 ? held : dirfd, path, O_PATH | O_DIRECTORY, 0);
        if (next < 0) return next;
        if (held >= 0) close(held);
        held = next;
        path = cut + 1;
    }
    return io_open_beneath(held >= 0 ? held : dirfd, path, flags, 0);
}
