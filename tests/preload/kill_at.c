/* Preloaded (LD_PRELOAD) into coppice by tests that kill it between two steps: see kill_at.h. */
#include "kill_at.h"

#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <unistd.h>

static struct kill_at *aim;

__attribute__((constructor)) static void begin(void)
{
    const char *path = getenv(KILL_AT_FILE);
    int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
    void *memory = fd < 0 ? MAP_FAILED : mmap(NULL, sizeof(*aim), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

    if (fd >= 0) close(fd);
    if (memory != MAP_FAILED) aim = memory;
}

static void step(const char *call)
{
    int64_t at = aim ? atomic_load(&aim->at) : 0;

    if (!at || atomic_fetch_add(&aim->steps, 1) + 1 != at) return;
    snprintf(aim->call, sizeof(aim->call), "%s", call);
    atomic_store(&aim->fired, 1);
    kill(getpid(), SIGKILL);
    pause();
}

#define STEP(type, name, parameters, ...)                                             \
    type name parameters;                                                             \
    type name parameters                                                              \
    {                                                                                 \
        static type(*next) parameters;                                                \
        if (!next) next = (type(*) parameters)dlsym(RTLD_NEXT, #name);                \
        step(#name);                                                                  \
        return next(__VA_ARGS__);                                                     \
    }

STEP(int, rename, (const char *from, const char *to), from, to)
STEP(int, renameat, (int from_fd, const char *from, int to_fd, const char *to), from_fd, from, to_fd, to)
STEP(int, renameat2, (int from_fd, const char *from, int to_fd, const char *to, unsigned flags), from_fd, from, to_fd, to, flags)
STEP(int, link, (const char *from, const char *to), from, to)
STEP(int, linkat, (int from_fd, const char *from, int to_fd, const char *to, int flags), from_fd, from, to_fd, to, flags)
STEP(int, unlink, (const char *path), path)
STEP(int, unlinkat, (int fd, const char *path, int flags), fd, path, flags)
STEP(int, mkdirat, (int fd, const char *path, mode_t mode), fd, path, mode)
STEP(int, fsync, (int fd), fd)
STEP(int, fdatasync, (int fd), fd)
STEP(int, syncfs, (int fd), fd)
STEP(int, mkdir, (const char *path, mode_t mode), path, mode)
STEP(int, ftruncate, (int fd, off_t size), fd, size)
STEP(int, ftruncate64, (int fd, off64_t size), fd, size)
STEP(ssize_t, pwrite, (int fd, const void *data, size_t size, off_t offset), fd, data, size, offset)
STEP(ssize_t, pwrite64, (int fd, const void *data, size_t size, off64_t offset), fd, data, size, offset)
STEP(ssize_t, write, (int fd, const void *data, size_t size), fd, data, size)
