#include "import_fat.h"

#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "import_log.h"
#include "io.h"
#include "listing.h"
#include "log.h"

#define POLL_MS 100
#define FAT_MODE 0755

static int failed(const struct import_fat *fat, int r, const char *reason)
{
    return import_failed(fat->progress, r, "%s: %s: %s", fat->source, fat->partition, reason);
}

/* What mcopy says is in the language of the place; the names that it makes are to be UTF-8. */
static char *const environment[] = {
    "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LC_ALL=C.UTF-8",
    "TZ=UTC",
    "MTOOLS_SKIP_CHECK=1",
    "MTOOLSRC=/dev/null",
    NULL,
};

static int spawn(const struct import_fat *fat, int errors_fd, pid_t *ret_pid)
{
    _cleanup_free_ char *image = io_format("/proc/self/fd/%d@@%lld", fat->fd, (long long)fat->start);
    _cleanup_free_ char *to = io_format("/proc/self/fd/%d/", fat->to_fd);
    char *argv[] = {"mcopy", "-i", image, "-snmQ", "::", to, NULL};
    posix_spawn_file_actions_t actions;
    int r;

    if (!image || !to) return -ENOMEM;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, errors_fd, STDOUT_FILENO);
    posix_spawn_file_actions_adddup2(&actions, errors_fd, STDERR_FILENO);
    /* To itself: not closed on exec. */
    posix_spawn_file_actions_adddup2(&actions, fat->fd, fat->fd);
    posix_spawn_file_actions_adddup2(&actions, fat->to_fd, fat->to_fd);
    r = posix_spawnp(ret_pid, "mcopy", &actions, NULL, argv, environment);
    posix_spawn_file_actions_destroy(&actions);
    return -r;
}

/* The last line that mcopy printed. */
static void read_reason(int errors_fd, char *reason, size_t size)
{
    char text[4096];
    ssize_t n = io_pread(errors_fd, text, sizeof(text) - 1, 0);
    char *line;

    snprintf(reason, size, "mcopy failed");
    if (n <= 0) return;
    while (n > 0 && text[n - 1] == '\n') n--;
    text[n] = '\0';
    line = strrchr(text, '\n');
    if (n > 0) snprintf(reason, size, "mcopy: %.200s", line ? line + 1 : text);
}

static int copy_out(const struct import_fat *fat, int errors_fd)
{
    int r, status = -1;
    char reason[300];
    pid_t pid;

    r = spawn(fat, errors_fd, &pid);
    if (r == -ENOENT)
        return failed(fat, r, "this kernel cannot mount it, and there is no mcopy; apt-get install mtools");
    if (r < 0) return failed(fat, r, log_reason(r));
    progress_add(fat->progress, 1, 0);
    do r = waitpid(pid, &status, 0);
    while (r < 0 && errno == EINTR);
    if (r == pid && WIFEXITED(status) && WEXITSTATUS(status) == 0) return 0;
    read_reason(errors_fd, reason, sizeof(reason));
    return failed(fat, -EIO, reason);
}

static int set_modes(const struct import_fat *fat, int dirfd);

static int set_mode(const struct import_fat *fat, int dirfd, const char *name)
{
    _cleanup_close_ int child = -1;
    struct stat st;

    if (fstatat(dirfd, name, &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    if (fchownat(dirfd, name, 0, 0, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    if (fchmodat(dirfd, name, FAT_MODE, 0) < 0) return -errno;
    progress_add(fat->progress, 1, st.st_size);
    if (!S_ISDIR(st.st_mode)) return 0;
    child = io_open_beneath(dirfd, name, O_RDONLY | O_DIRECTORY, 0);
    return child < 0 ? child : set_modes(fat, child);
}

static int set_modes(const struct import_fat *fat, int dirfd)
{
    _cleanup_listing_ struct listing listing = {0};
    int r = listing_read(&listing, dirfd);

    for (size_t i = 0; r == 0 && i < listing.count; i++) r = set_mode(fat, dirfd, listing.items[i].name);
    return r;
}

int import_fat(const struct import_fat *fat)
{
    _cleanup_close_ int errors_fd = memfd_create("mcopy", MFD_CLOEXEC);
    struct timespec times[2] = {{0}, {0}};
    int r;

    if (errors_fd < 0) return failed(fat, -errno, log_reason(errno));
    r = copy_out(fat, errors_fd);
    if (r < 0) return r;
    r = set_modes(fat, fat->to_fd);
    /* A FAT root directory has no time of its own; the kernel shows 1970. */
    if (r == 0 && fchmod(fat->to_fd, FAT_MODE) < 0) r = -errno;
    if (r == 0 && futimens(fat->to_fd, times) < 0) r = -errno;
    return r < 0 ? failed(fat, r, log_reason(r)) : 0;
}
