#include "fuzz.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "log.h"

static char directory[1024];

void fuzz_fail(const char *what, const char *file, int line)
{
    fprintf(stderr, "%s:%d: not %s\n", file, line, what);
    abort();
}

static void remove_directory(void)
{
    io_remove_tree(AT_FDCWD, directory);
}

const char *fuzz_directory(void)
{
    const char *temporary = getenv("TMPDIR");

    if (*directory) return directory;
    snprintf(directory, sizeof(directory), "%s/coppice-fuzz-XXXXXX", temporary ? temporary : "/tmp");
    fuzz_must(mkdtemp(directory));
    atexit(remove_directory);
    log_set_level((enum log_level)-1);
    return directory;
}

const char *fuzz_path(const char *name)
{
    static char paths[8][2048];
    static unsigned next;
    char *path = paths[next++ % 8];

    snprintf(path, sizeof(paths[0]), "%s/%s", fuzz_directory(), name);
    return path;
}

void fuzz_put(const char *name, const void *data, size_t size)
{
    _cleanup_close_ int fd = open(fuzz_path(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);

    fuzz_must(fd >= 0);
    fuzz_must(io_write(fd, data, size) == 0);
}

int fuzz_file(const void *data, size_t size)
{
    int fd = memfd_create("fuzz", MFD_CLOEXEC);

    fuzz_must(fd >= 0);
    fuzz_must(io_write(fd, data, size) == 0);
    fuzz_must(lseek(fd, 0, SEEK_SET) == 0);
    return fd;
}

int fuzz_empty(const char *name)
{
    const char *path = fuzz_path(name);
    int fd;

    io_remove_tree(AT_FDCWD, path);
    fuzz_must(mkdir(path, 0700) == 0);
    fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    fuzz_must(fd >= 0);
    return fd;
}
