#include "service.h"

#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "io.h"
#include "log.h"

#define RUN_SECONDS 30
#define OUTPUT_MAX 65536
#define FILE_MAX (16 << 20)

extern char **environ;

/* ---- files ---- */

int service_read(const char *path, char **ret_text)
{
    _cleanup_close_ int fd = open(path, O_RDONLY | O_CLOEXEC);
    _cleanup_free_ char *text = NULL;
    struct stat st;

    if (fd < 0 || fstat(fd, &st) < 0) return -errno;
    if (!S_ISREG(st.st_mode)) return -EINVAL;
    if (st.st_size > FILE_MAX) return -EFBIG;
    text = calloc(1, (size_t)st.st_size + 1);
    if (!text) return -ENOMEM;
    ssize_t n = io_pread(fd, text, (size_t)st.st_size, 0);
    if (n < 0) return (int)n;
    text[n] = '\0';
    *ret_text = io_take(text);
    return 0;
}

static int make_parents(const char *path)
{
    _cleanup_free_ char *copy = io_format("%s", path);

    if (!copy) return -ENOMEM;
    for (char *slash = strchr(copy + 1, '/'); slash; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        if (mkdir(copy, 0755) < 0 && errno != EEXIST) return -errno;
        *slash = '/';
    }
    return 0;
}

/* The temporary name begins with a dot and has no suffix that a service looks for: none reads it half written. */
static int write_new(const char *path, const char *text)
{
    const char *name = strrchr(path, '/') + 1;
    _cleanup_free_ char *temporary = io_format("%.*s.%s.new", (int)(name - path), path, name);
    _cleanup_close_ int fd = -1;
    int r;

    if (!temporary) return -ENOMEM;
    fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_NOFOLLOW | O_CLOEXEC, 0644);
    if (fd < 0) return -errno;
    r = fchmod(fd, 0644) < 0 ? -errno : io_write(fd, text, strlen(text));
    if (r == 0 && rename(temporary, path) < 0) r = -errno;
    if (r < 0) unlink(temporary);
    return r;
}

int service_write(const char *path, const char *text)
{
    _cleanup_free_ char *old = NULL;
    int r;

    if (service_read(path, &old) == 0 && strcmp(old, text) == 0) return 0;
    r = make_parents(path);
    if (r == 0) r = write_new(path, text);
    if (r < 0) log_error("%s: cannot be written: %s", path, log_reason(r));
    return r < 0 ? r : 1;
}

int service_remove(const char *path)
{
    if (unlink(path) == 0) return 1;
    if (errno == ENOENT || errno == ENOTDIR) return 0;
    int r = -errno;
    log_error("%s: cannot be removed: %s", path, log_reason(r));
    return r;
}

/* ---- programs ---- */

static int spawn(char *const argv[], int output, pid_t *ret_pid)
{
    posix_spawn_file_actions_t actions;
    posix_spawnattr_t attributes;
    sigset_t none;
    int r;

    sigemptyset(&none);
    posix_spawnattr_init(&attributes);
    posix_spawnattr_setsigmask(&attributes, &none);
    posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETSIGMASK);
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_addopen(&actions, 0, "/dev/null", O_RDONLY, 0);
    posix_spawn_file_actions_adddup2(&actions, output, 1);
    posix_spawn_file_actions_adddup2(&actions, output, 2);
    r = -posix_spawnp(ret_pid, argv[0], &actions, &attributes, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    posix_spawnattr_destroy(&attributes);
    return r;
}

/* Until the end of the process, which must not hold up the caller for ever. */
static int wait_for(pid_t pid)
{
    _cleanup_close_ int fd = pidfd_open(pid, 0);
    struct pollfd ended = {.fd = fd, .events = POLLIN};
    bool late = fd >= 0 && poll(&ended, 1, RUN_SECONDS * 1000) == 0;
    int status = 0;

    if (late) kill(pid, SIGKILL);
    while (waitpid(pid, &status, 0) < 0)
        if (errno != EINTR) return -errno;
    if (late) return -ETIMEDOUT;
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* A file, as a pipe would stay open in what the program leaves running. */
static int open_output(void)
{
    int fd = memfd_create("output", MFD_CLOEXEC);

    return fd < 0 ? -errno : fd;
}

static char *read_output(int fd)
{
    char *text = calloc(1, OUTPUT_MAX + 1);
    ssize_t n = text ? io_pread(fd, text, OUTPUT_MAX, 0) : 0;

    if (text && n >= 0) text[n] = '\0';
    return text;
}

int service_run(char *const argv[], char **ret_output)
{
    _cleanup_close_ int output = open_output();
    pid_t pid;
    int r = output < 0 ? output : spawn(argv, output, &pid);

    if (ret_output) *ret_output = NULL;
    if (r == -ENOENT) return 127;
    if (r == 0) r = wait_for(pid);
    if (ret_output && output >= 0) *ret_output = read_output(output);
    return r;
}

/* Runs it and says what went wrong; 0 or negative errno. */
static int run_or_say(char *const argv[])
{
    _cleanup_free_ char *output = NULL;
    int r = service_run(argv, &output);

    if (r == 0) return 0;
    if (r < 0) log_error("%s: %s", argv[0], log_reason(r));
    else if (r == 127) log_error("%s: not found; is its package installed?", argv[0]);
    else log_error("%s: exit status %d: %.*s", argv[0], r, output ? (int)strcspn(output, "\n") : 0, output ? output : "");
    return r < 0 ? r : -EIO;
}

/* ---- services ---- */

int service_export(void)
{
    return run_or_say((char *[]){"exportfs", "-ra", NULL});
}

static bool is_dnsmasq(int pid)
{
    _cleanup_free_ char *path = io_format("/proc/%d/comm", pid);
    char name[32] = "";
    FILE *file = path ? fopen(path, "re") : NULL;

    if (!file) return false;
    if (!fgets(name, sizeof(name), file)) name[0] = '\0';
    fclose(file);
    return strcmp(name, "dnsmasq\n") == 0;
}

static int read_pid(const char *path)
{
    FILE *file = fopen(path, "re");
    int pid = 0;

    if (!file) return 0;
    if (fscanf(file, "%d", &pid) != 1) pid = 0;
    fclose(file);
    return pid > 1 && is_dnsmasq(pid) ? pid : 0;
}

int service_dnsmasq_pid(void)
{
    static const char *const patterns[] = {"/run/dnsmasq/*.pid", "/run/dnsmasq*.pid", "/var/run/dnsmasq*/*.pid"};
    int pid = 0;

    for (size_t i = 0; i < sizeof(patterns) / sizeof(*patterns) && !pid; i++) {
        glob_t found;

        if (glob(patterns[i], 0, NULL, &found) != 0) continue;
        for (size_t j = 0; j < found.gl_pathc && !pid; j++) pid = read_pid(found.gl_pathv[j]);
        globfree(&found);
    }
    return pid;
}

static int tell_options(int pid)
{
    if (access("/run/systemd/system", F_OK) == 0)
        return run_or_say((char *[]){"systemctl", "try-restart", "dnsmasq.service", NULL});
    if (!pid) return 0;
    if (access("/etc/init.d/dnsmasq", X_OK) == 0) return run_or_say((char *[]){"/etc/init.d/dnsmasq", "restart", NULL});
    log_warning("dnsmasq (process %d): was not started by a service manager; restart it to make it read its options", pid);
    return 0;
}

int service_tell_dnsmasq(enum service_change change)
{
    int pid = service_dnsmasq_pid();

    if (change == SERVICE_OPTIONS) return tell_options(pid);
    if (!pid || kill(pid, SIGHUP) == 0) return 0;
    int r = -errno;
    log_error("dnsmasq (process %d): cannot be told to read its hosts: %s", pid, log_reason(r));
    return r;
}
