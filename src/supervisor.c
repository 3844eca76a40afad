#include "supervisor.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "handover.h"
#include "io.h"
#include "log.h"
#include "store.h"

#define READY_VARIABLE "COPPICE_READY_FD"
#define REPLACE_SIGNAL SIGUSR2

/* A daemon that lives shorter than QUICK_MS after it began to serve, or never serves, so many times in a row, will not do
 * better the next time. */
#define QUICK_MS 250
#define QUICK_DEATHS 5
#define PAUSE_MS 50   /* before the third, and twice that before the next, and so on */
#define ORDERLY_MS 1000 /* that a daemon has to end when it is replaced */
#define REPLACE_SECONDS 20
#define LOOK_MS 500 /* how often a daemon is looked at that may be dead and not end */

struct supervisor {
    const struct daemon_options *options;
    struct handover *handover;
    int waiting; /* for the mount: a pipe; -1: nobody */
    int claim, device, signals;
    int program, previous; /* O_PATH; previous: -1, or what runs if `program` does not */
    sigset_t mask;         /* of before */
    pid_t daemon;
    int ready;             /* pipe from the daemon; -1 when it serves */
    int64_t since;         /* milliseconds: when it began to serve; 0: not yet */
    int64_t deadline;      /* when it is killed; 0: never */
    int stuck;             /* looks that found it dead and not ended */
    int deaths;            /* quick ones in a row */
    bool has_served;       /* any daemon of this mount */
    bool in_background, ending, replacing;
    bool has_moved; /* it is a new mount that nobody has told the NFS server of */
};

static int64_t milliseconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * INT64_C(1000) + now.tv_nsec / 1000000;
}

/* ---- in the background ---- */

static const char **daemon_arguments(const struct daemon_options *o, const char *how, const char **argv)
{
    int i = 0;

    argv[i++] = "coppice";
    argv[i++] = "--store";
    argv[i++] = o->store;
    argv[i++] = "mount";
    argv[i++] = how;
    if (o->text) argv[i++] = "-o";
    if (o->text) argv[i++] = o->text;
    argv[i++] = o->mountpoint;
    argv[i] = NULL;
    return argv;
}

static void run_in_background(const struct daemon_options *o, int ready)
{
    const char *argv[9];
    char variable[16];

    snprintf(variable, sizeof(variable), "%d", ready);
    setenv(READY_VARIABLE, variable, 1);
    setsid();
    execv("/proc/self/exe", (char *const *)daemon_arguments(o, "-f", argv));
    log_error("%s: the daemon could not be started: %s", o->mountpoint, log_reason(errno));
    _exit(1);
}

static int start_in_background(const struct daemon_options *o)
{
    _cleanup_close_ int reader = -1;
    int pipe_fds[2], status = 0;
    ssize_t n;
    char byte;
    pid_t pid;

    if (pipe(pipe_fds) < 0) return -errno;
    reader = pipe_fds[0];
    pid = fork();
    if (pid == 0) {
        close(reader);
        run_in_background(o, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    if (pid < 0) return -errno;
    do n = read(reader, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1) return 0;
    /* It has said why, unless it was killed. */
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) log_error("%s: the supervisor was killed by signal %d", o->mountpoint, WTERMSIG(status));
    return -ECHILD;
}

static int take_waiting(void)
{
    const char *text = getenv(READY_VARIABLE);
    int fd = text ? atoi(text) : -1;

    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    unsetenv(READY_VARIABLE);
    return fd;
}

/* ---- one daemon ---- */

static void run_daemon(const struct supervisor *s, int ready)
{
    const struct daemon_descriptors passed = {
        .ready = ready,
        .claim = s->claim,
        .device = s->device,
        .handover = s->handover->fd,
        .in_background = s->in_background,
        .is_next = s->has_served,
    };
    const char *argv[9];

    sigprocmask(SIG_SETMASK, &s->mask, NULL);
    daemon_pass(&passed);
    execveat(s->program, "", (char *const *)daemon_arguments(s->options, "-d", argv), environ, AT_EMPTY_PATH);
    log_error("%s: the daemon could not be started: %s", s->options->mountpoint, log_reason(errno));
    _exit(1);
}

static int start_daemon(struct supervisor *s)
{
    int pipe_fds[2];

    if (pipe2(pipe_fds, O_CLOEXEC) < 0) return -errno;
    s->daemon = fork();
    if (s->daemon == 0) run_daemon(s, pipe_fds[1]);
    close(pipe_fds[1]);
    s->ready = pipe_fds[0];
    s->since = s->deadline = 0;
    s->stuck = 0;
    return s->daemon < 0 ? -errno : 0;
}

/* sd_notify(3), "Notes": one datagram to the socket that systemd names. */
static void tell_systemd(void)
{
    struct sockaddr_un to = {.sun_family = AF_UNIX};
    const char *path = getenv("NOTIFY_SOCKET");
    _cleanup_close_ int fd = -1;

    if (!path || (path[0] != '/' && path[0] != '@') || strlen(path) >= sizeof(to.sun_path)) return;
    memcpy(to.sun_path, path, strlen(path));
    if (path[0] == '@') to.sun_path[0] = '\0';
    fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&to,
                         offsetof(struct sockaddr_un, sun_path) + strlen(path)) < 0)
        log_warning("%s: could not be told that the mount is ready: %s", path, log_reason(errno));
}

static void say_ready(struct supervisor *s)
{
    if (!s->has_served) tell_systemd();
    if (s->waiting < 0) return;
    daemon_detach();
    if (write(s->waiting, "", 1) < 0) log_warning("%s: nobody waited for the mount", s->options->mountpoint);
    close(io_take_fd(s->waiting));
}

/* NFS clients go on when the kernel's server looks for the exported paths anew. Nobody waits: it may look into the mount. */
static void refresh_exports(const struct supervisor *s)
{
    if (fork() != 0) return;
    sigprocmask(SIG_SETMASK, &s->mask, NULL);
    execlp("exportfs", "exportfs", "-f", NULL);
    _exit(127); /* no NFS server here */
}

/* The daemon's pipe: a byte, or its end. */
static void read_ready(struct supervisor *s)
{
    char byte;

    if (read(s->ready, &byte, 1) == 1) {
        s->since = milliseconds();
        if (s->previous >= 0) close(io_take_fd(s->previous));
        if (s->has_moved) refresh_exports(s);
        s->has_moved = false;
        say_ready(s);
        s->has_served = true;
    }
    close(io_take_fd(s->ready));
}

/* The program is the one that asks: the new one, wherever it lies. */
static void begin_replacing(struct supervisor *s, pid_t who)
{
    _cleanup_free_ char *path = io_format("/proc/%d/exe", (int)who);
    int program = path ? open(path, O_PATH | O_CLOEXEC) : -1;

    if (program < 0 || s->replacing || s->ending || !s->since) {
        if (program >= 0) close(program);
        log_warning("%s: cannot be replaced now", s->options->mountpoint);
        return;
    }
    if (s->previous >= 0) close(s->previous);
    s->previous = s->program;
    s->program = program;
    s->replacing = true;
    s->deadline = milliseconds() + ORDERLY_MS;
    kill(s->daemon, DAEMON_HANDOVER_SIGNAL);
}

static void begin_ending(struct supervisor *s)
{
    /* First, so that no request is left that nobody answers. It may be unmounted already. */
    if (!s->ending) umount2(s->options->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
    if (!s->ending) close(io_take_fd(s->device));
    s->ending = true;
    kill(s->daemon, SIGTERM);
}

/* The daemon is not the only child: see refresh_exports(). */
static bool reap(const struct supervisor *s, int *ret_status)
{
    int status;

    for (pid_t pid; (pid = waitpid(-1, &status, WNOHANG)) > 0;) {
        if (pid != s->daemon) continue;
        *ret_status = status;
        return true;
    }
    return false;
}

/* True: the daemon has ended, and this is its status. */
static bool take_signal(struct supervisor *s, int *ret_status)
{
    struct signalfd_siginfo info;

    if (read(s->signals, &info, sizeof(info)) != sizeof(info)) return false;
    if (info.ssi_signo == REPLACE_SIGNAL) begin_replacing(s, info.ssi_pid);
    else if (info.ssi_signo != SIGCHLD) begin_ending(s);
    else return reap(s, ret_status);
    return false;
}

static int patience(const struct supervisor *s)
{
    int64_t left = s->deadline - milliseconds();

    if (!s->deadline || left > LOOK_MS) return LOOK_MS;
    return left > 0 ? left : 0;
}

/* Its first thread has ended, and another one cannot: it tells the kernel to forget something, and waits for a lock of the kernel's that
 * is held by whoever waits for an answer of the daemon. The next daemon gives that answer, and then this one ends, too. */
static bool is_stuck(const struct supervisor *s)
{
    _cleanup_free_ char *path = io_format("/proc/%d/stat", (int)s->daemon);
    _cleanup_close_ int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    char text[256];
    ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
    const char *name_end;

    if (n <= 0) return false;
    text[n] = '\0';
    name_end = strrchr(text, ')');
    return name_end && strncmp(name_end, ") Z", 3) == 0;
}

/* Nothing has happened for some time. True: the daemon is to be passed by. */
static bool look(struct supervisor *s)
{
    if (s->deadline && milliseconds() >= s->deadline) {
        kill(s->daemon, SIGKILL);
        s->deadline = 0;
    }
    s->stuck = is_stuck(s) ? s->stuck + 1 : 0;
    return s->stuck == 2;
}

static int wait_for_daemon(struct supervisor *s)
{
    int status = 0;

    for (;;) {
        struct pollfd fds[] = {{.fd = s->signals, .events = POLLIN}, {.fd = s->ready, .events = POLLIN}};
        int n = poll(fds, 2, patience(s));

        if (n == 0 && look(s)) {
            if (s->ready >= 0) close(io_take_fd(s->ready));
            return SIGKILL; /* as wait(2) would say it */
        }
        if (n <= 0) continue;
        if (fds[1].revents) read_ready(s);
        if (fds[0].revents && take_signal(s, &status)) break;
    }
    if (s->ready >= 0) read_ready(s);
    if (s->ready >= 0) close(io_take_fd(s->ready));
    return status;
}

/* ---- one after the other ---- */

static int open_mount(struct supervisor *s)
{
    s->device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (s->device < 0) {
        int r = -errno;

        log_error("/dev/fuse: %s", log_reason(r));
        return r;
    }
    return handover_open(&s->handover, -1);
}

/* What a kernel cannot send again nobody will answer: those who wait get an error, and what is asked from now on an answer. */
static int mount_again(struct supervisor *s)
{
    umount2(s->options->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
    close(s->device);
    handover_close(s->handover);
    s->handover = NULL;
    s->has_moved = true;
    return open_mount(s);
}

static void pause_ms(int64_t ms)
{
    nanosleep(&(struct timespec){.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000}, NULL);
}

/* Not too often in a row. */
static bool may_try_again(struct supervisor *s)
{
    bool is_quick = !s->since || milliseconds() - s->since < QUICK_MS;

    s->deaths = is_quick ? s->deaths + 1 : 0;
    if (s->deaths > 1) pause_ms(PAUSE_MS << (s->deaths - 2));
    return s->deaths < QUICK_DEATHS;
}

static void log_death(const struct supervisor *s, int status)
{
    if (WIFSIGNALED(status))
        log_warning("%s: the daemon was killed by signal %d, the next one goes on", s->options->mountpoint, WTERMSIG(status));
    else log_warning("%s: the daemon failed, the next one goes on", s->options->mountpoint);
}

/* The new program does not serve: the one before it did. */
static void go_back(struct supervisor *s)
{
    log_error("%s: the new program does not run, the one before it goes on", s->options->mountpoint);
    close(s->program);
    s->program = io_take_fd(s->previous);
}

static int give_up(struct supervisor *s)
{
    log_error("%s: the daemon died %d times in a row, the mount is given up; 'coppice umount' clears it",
              s->options->mountpoint, QUICK_DEATHS);
    return -ECHILD;
}

/* After the daemon ended: 1 to start the next one; 0: the mount is over; negative errno. */
static int next(struct supervisor *s, int status)
{
    bool is_well = WIFEXITED(status) && WEXITSTATUS(status) == 0;

    if (s->replacing) {
        s->replacing = false;
        return is_well || s->handover->page->can_resend ? 1 : mount_again(s) < 0 ? -EIO : 1;
    }
    if (s->ending || is_well) return 0;
    if (!s->has_served) return -ECHILD; /* it has said why */
    if (!s->since && s->previous >= 0) {
        go_back(s);
        return 1;
    }
    log_death(s, status);
    if (!may_try_again(s)) return give_up(s);
    if (s->handover->page->can_resend) return 1;
    return mount_again(s) < 0 ? -EIO : 1;
}

/* Whoever still uses the mount gets ENOTCONN when the last descriptor of the device is closed. */
static void end_mount(struct supervisor *s)
{
    struct pollfd device = {.fd = s->device};

    if (s->device < 0 || (poll(&device, 1, 0) == 1 && device.revents & POLLERR)) return; /* was unmounted */
    umount2(s->options->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW);
}

static int supervise(struct supervisor *s)
{
    int r = 1;

    while (r == 1) {
        r = start_daemon(s);
        if (r == 0) r = next(s, wait_for_daemon(s));
    }
    if (r == 0) end_mount(s);
    return r;
}

static int open_signals(struct supervisor *s)
{
    sigset_t set;

    sigemptyset(&set);
    for (size_t i = 0; i < 5; i++) sigaddset(&set, (int[]){SIGCHLD, SIGTERM, SIGINT, SIGHUP, REPLACE_SIGNAL}[i]);
    sigprocmask(SIG_BLOCK, &set, &s->mask);
    s->signals = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    return s->signals < 0 ? -errno : 0;
}

static int claim_store(struct supervisor *s)
{
    _cleanup_store_ struct store *store = NULL;
    int r = store_open(&store, s->options->store);

    return r < 0 ? r : store_claim(store, &s->claim);
}

int supervisor_run(const struct daemon_options *options)
{
    struct supervisor s = {.options = options, .claim = -1, .device = -1, .signals = -1, .program = -1, .previous = -1, .ready = -1};
    int r;

    if (!options->foreground) return start_in_background(options);
    s.waiting = take_waiting();
    s.in_background = s.waiting >= 0;
    r = claim_store(&s);
    if (r == 0) r = open_mount(&s);
    if (r == 0) r = open_signals(&s);
    if (r == 0) s.program = open("/proc/self/exe", O_PATH | O_CLOEXEC);
    if (r == 0) r = supervise(&s);
    handover_close(s.handover);
    return r;
}

/* ---- the other side of a replacement ---- */

static bool is_parent(pid_t pid, pid_t parent)
{
    _cleanup_free_ char *path = io_format("/proc/%d/stat", (int)pid);
    FILE *file = path ? fopen(path, "re") : NULL;
    char line[512] = "";
    int found = 0;

    if (!file) return false;
    if (fgets(line, sizeof(line), file)) {
        const char *end = strrchr(line, ')'); /* of the name, which may hold anything */
        if (end) sscanf(end, ") %*c %d", &found);
    }
    fclose(file);
    return found == parent;
}

bool supervisor_lives(const struct store_daemon *daemon)
{
    return daemon->supervisor > 0 && is_parent(daemon->pid, daemon->supervisor);
}

static bool runs_this_program(pid_t pid)
{
    _cleanup_free_ char *path = io_format("/proc/%d/exe", (int)pid);
    struct stat own, other;

    return path && stat("/proc/self/exe", &own) == 0 && stat(path, &other) == 0 && own.st_dev == other.st_dev &&
           own.st_ino == other.st_ino;
}

static int wait_for_next(struct store *store, const char *mountpoint, pid_t before)
{
    struct store_daemon now;

    for (int i = 0; i < REPLACE_SECONDS * 50; i++) {
        int r = store_running(store, &now);

        if (r == 0) break;
        if (r == 1 && now.pid > 0 && now.pid != before) {
            if (runs_this_program(now.pid)) return 0;
            log_error("%s: this program could not take over, the one before it goes on; its log says why", mountpoint);
            return -ECHILD;
        }
        pause_ms(20);
    }
    log_error("%s: the next daemon did not begin to serve", mountpoint);
    return -ETIMEDOUT;
}

int supervisor_replace(struct store *store, const char *mountpoint)
{
    struct store_daemon now;
    int r = store_running(store, &now);

    if (r < 0) return r;
    if (r == 0 || strcmp(now.mountpoint, mountpoint) != 0) {
        log_error("%s: is not served by a daemon of this store", mountpoint);
        return -ENOENT;
    }
    if (!supervisor_lives(&now)) {
        log_error("%s: daemon %d has no supervisor; 'coppice umount' and 'coppice mount' give it one", mountpoint,
                  (int)now.pid);
        return -ESRCH;
    }
    if (kill(now.supervisor, REPLACE_SIGNAL) < 0) return -errno;
    return wait_for_next(store, mountpoint, now.pid);
}
