#include "import_unpack.h"

#include <errno.h>
#include <linux/fs.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include "import_log.h"
#include "io.h"
#include "log.h"

#define PAGE 4096
#define STRETCH (16 << 20)

struct unpacking {
    const char *source;
    struct progress *progress;
    int fd;
    int64_t written;
};

static int failed(const struct unpacking *unpacking, int r)
{
    if (r != -ENOSPC) return import_failed(unpacking->progress, r, "%s: %s", unpacking->source, log_reason(r));
    return import_failed(unpacking->progress, r,
                         "%s: no room to unpack it: the store's disk is full after %lld MiB of it", unpacking->source,
                         (long long)unpacking->written >> 20);
}

static int make_file(const struct unpacking *unpacking, int dirfd)
{
    static const char name[] = "disk.img";
    int fd = openat(dirfd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);

    if (fd >= 0) return fd;
    /* Not every file system can do that. */
    fd = openat(dirfd, name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) return failed(unpacking, -errno);
    unlinkat(dirfd, name, 0);
    return fd;
}

static bool is_zero(const char *data, size_t size)
{
    return size == 0 || (data[0] == 0 && memcmp(data, data + 1, size - 1) == 0);
}

static int write_run(struct unpacking *unpacking, const char *data, size_t size, int64_t offset)
{
    int r = size ? io_pwrite(unpacking->fd, data, size, offset) : 0;

    if (r < 0) return failed(unpacking, r);
    unpacking->written += size;
    return 0;
}

/* Writes what is not zero, page by page of the file. */
static int write_piece(struct unpacking *unpacking, const char *data, size_t size, int64_t offset)
{
    size_t begin = 0, at = 0;

    while (at < size) {
        size_t page = PAGE - (offset + at) % PAGE, here = page < size - at ? page : size - at;

        if (is_zero(data + at, here)) {
            int r = write_run(unpacking, data + begin, at - begin, offset + begin);

            if (r < 0) return r;
            begin = at + here;
        }
        at += here;
    }
    return write_run(unpacking, data + begin, size - begin, offset + begin);
}

static int unpack_all(struct unpacking *unpacking, struct import_bytes *bytes)
{
    const void *data;
    size_t size;
    int64_t offset;
    int r;

    while ((r = import_bytes_next(bytes, &data, &size, &offset)) > 0) {
        r = write_piece(unpacking, data, size, offset);
        if (r < 0) return r;
        progress_add(unpacking->progress, 0, size);
    }
    if (r < 0)
        return import_failed(unpacking->progress, r, "%s: truncated or damaged: %s", unpacking->source,
                             import_bytes_error(bytes));
    return ftruncate(unpacking->fd, import_bytes_size(bytes)) < 0 ? failed(unpacking, -errno) : 0;
}

static int check_alone(const struct unpacking *unpacking, struct import_bytes *bytes)
{
    const char *other;
    int r = import_bytes_other(bytes, &other);

    if (r == 0) return 0;
    if (r < 0) return import_failed(unpacking->progress, r, "%s: truncated or damaged archive", unpacking->source);
    return import_failed(unpacking->progress, -EINVAL, "%s: holds two disk images, %s and %s; unpack it, and import one",
                         unpacking->source, import_bytes_member(bytes), other);
}

int import_unpack(struct import_bytes *bytes, const char *source, int dirfd, struct progress *progress)
{
    struct unpacking unpacking = {.source = source, .progress = progress};
    int r;

    unpacking.fd = make_file(&unpacking, dirfd);
    if (unpacking.fd < 0) return unpacking.fd;
    r = unpack_all(&unpacking, bytes);
    if (r == 0) r = check_alone(&unpacking, bytes);
    if (r == 0) return unpacking.fd;
    close(unpacking.fd);
    return r;
}

static int copy_data(struct unpacking *unpacking, int from_fd, off_t offset, off_t end, off_t size)
{
    while (offset < end) {
        off_t stretch = end - offset < STRETCH ? end - offset : STRETCH;
        int r = io_copy(from_fd, offset, unpacking->fd, offset, stretch);

        if (r < 0) return failed(unpacking, r);
        offset += stretch;
        unpacking->written += stretch;
        progress_at(unpacking->progress, offset, size);
        progress_add(unpacking->progress, 0, stretch);
    }
    return 0;
}

static int copy_all(struct unpacking *unpacking, int from_fd)
{
    struct stat st;
    off_t hole = 0;

    if (ioctl(unpacking->fd, FICLONE, from_fd) == 0) return 0;
    if (fstat(from_fd, &st) < 0 || ftruncate(unpacking->fd, st.st_size) < 0) return failed(unpacking, -errno);
    while (hole < st.st_size) {
        off_t data = lseek(from_fd, hole, SEEK_DATA);
        int r;

        if (data < 0 && errno == ENXIO) return 0;
        if (data < 0) return failed(unpacking, -errno);
        hole = lseek(from_fd, data, SEEK_HOLE);
        if (hole < 0) return failed(unpacking, -errno);
        r = copy_data(unpacking, from_fd, data, hole, st.st_size);
        if (r < 0) return r;
    }
    return 0;
}

int import_unpack_copy(int from_fd, const char *source, int dirfd, struct progress *progress)
{
    struct unpacking unpacking = {.source = source, .progress = progress};
    int r;

    unpacking.fd = make_file(&unpacking, dirfd);
    if (unpacking.fd < 0) return unpacking.fd;
    r = copy_all(&unpacking, from_fd);
    if (r == 0) return unpacking.fd;
    close(unpacking.fd);
    return r;
}
