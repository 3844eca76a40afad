#include "rootdir.h"

#include <errno.h>
#include <linux/openat2.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "io.h"

int rootdir_open(int root_fd, const char *path, int flags)
{
    struct open_how how = {.flags = flags | O_CLOEXEC, .resolve = RESOLVE_IN_ROOT | RESOLVE_NO_MAGICLINKS};
    int fd;

    /* A rename or mount anywhere on the machine while a ".." was being resolved. */
    do fd = syscall(SYS_openat2, root_fd, path, &how, sizeof(how));
    while (fd < 0 && (errno == EAGAIN || errno == EINTR));
    return fd < 0 ? -errno : fd;
}

bool rootdir_has(int root_fd, const char *path)
{
    _cleanup_close_ int fd = rootdir_open(root_fd, path, O_PATH);

    return fd >= 0;
}

int rootdir_read(int root_fd, const char *path, size_t most, char **ret_text, size_t *ret_size)
{
    _cleanup_close_ int fd = rootdir_open(root_fd, path, O_RDONLY | O_NONBLOCK | O_NOCTTY);
    _cleanup_free_ char *text = NULL;
    struct stat st;
    ssize_t n;

    if (fd < 0) return fd;
    if (fstat(fd, &st) < 0) return -errno;
    if (!S_ISREG(st.st_mode)) return -EINVAL;
    if ((size_t)st.st_size > most) return -EFBIG;
    text = malloc(st.st_size + 1);
    if (!text) return -ENOMEM;
    n = io_pread(fd, text, st.st_size, 0);
    if (n < 0) return n;
    text[n] = '\0';
    *ret_size = n;
    *ret_text = io_take(text);
    return 0;
}
