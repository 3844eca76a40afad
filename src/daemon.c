#include "daemon.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "apply.h"
#include "fuse_ops.h"
#include "io.h"
#include "keeper.h"
#include "log.h"
#include "store.h"
#include "watch.h"

#define READY_VARIABLE "COPPICE_READY_FD"
#define SYNC_AGE 5          /* seconds until what needs no commit of its own is committed all the same */
#define READ_AHEAD_KB "1024"
#define MAX_THREADS 256 /* as many requests may wait for one slow disk, and the next still be served */
#define IDLE_THREADS 16 /* each keeps a megabyte for transfers */

struct daemon {
    const struct daemon_options *options;
    struct store *store;
    struct tree *tree;
    struct fuse_session *session;
    int ready_fd; /* of the process that waits for the mount; -1: none */
    struct keeper *keeper;
    struct watch *watch;
    struct apply *apply; /* NULL: without */
};

/* ---- starting it in the background ---- */

static void run_child(const struct daemon_options *o, int ready_fd)
{
    char variable[16];
    const char *argv[] = {"coppice", "--store", o->store, "mount", "-f", "-o", o->text ? o->text : "", o->mountpoint, NULL};

    if (!o->text) {
        argv[5] = o->mountpoint;
        argv[6] = NULL;
    }
    snprintf(variable, sizeof(variable), "%d", ready_fd);
    setenv(READY_VARIABLE, variable, 1);
    setsid();
    execv("/proc/self/exe", (char *const *)argv);
    log_error("%s: the daemon could not be started: %s", o->mountpoint, log_reason(errno));
    _exit(1);
}

static int start_child(const struct daemon_options *o)
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
        run_child(o, pipe_fds[1]);
    }
    close(pipe_fds[1]);
    if (pid < 0) return -errno;
    do n = read(reader, &byte, 1);
    while (n < 0 && errno == EINTR);
    if (n == 1) return 0;
    /* It has said why, unless it was killed. */
    waitpid(pid, &status, 0);
    if (WIFSIGNALED(status)) log_error("%s: the daemon was killed by signal %d", o->mountpoint, WTERMSIG(status));
    return -ECHILD;
}

static int take_ready_fd(void)
{
    const char *text = getenv(READY_VARIABLE);
    int fd = text ? atoi(text) : -1;

    if (fd >= 0) fcntl(fd, F_SETFD, FD_CLOEXEC);
    unsetenv(READY_VARIABLE);
    return fd;
}

/* Lets go of the terminal and of whoever waits. */
static void tell_ready(void *data)
{
    struct daemon *d = data;
    int null;

    if (d->ready_fd < 0) return;
    log_to_syslog();
    null = open("/dev/null", O_RDWR | O_CLOEXEC);
    for (int fd = 0; null >= 0 && fd < 3; fd++) dup2(null, fd);
    if (null > 2) close(null);
    if (write(d->ready_fd, "", 1) < 0) log_warning("%s: nobody waited for the mount", d->options->mountpoint);
    close(d->ready_fd);
    d->ready_fd = -1;
}

/* ---- serving ---- */

/* The kernel reads 128 KiB ahead of a reader on a FUSE mount, too little to hide a disk's latency. */
static void raise_read_ahead(const char *mountpoint)
{
    char path[64];
    struct statx st;

    /* Nobody serves yet: what the kernel does not know must not be asked for. */
    if (statx(AT_FDCWD, mountpoint, AT_STATX_DONT_SYNC, 0, &st) < 0) return;
    snprintf(path, sizeof(path), "/sys/class/bdi/%u:%u/read_ahead_kb", st.stx_dev_major, st.stx_dev_minor);
    _cleanup_close_ int fd = open(path, O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, READ_AHEAD_KB, strlen(READ_AHEAD_KB)) < 0)
        log_debug("%s: read-ahead could not be raised: %s", mountpoint, log_reason(errno));
}

static int serve(struct daemon *d)
{
    const struct tree_changes changes = fuse_ops_changes(d->session);
    struct fuse_loop_config *config = fuse_loop_cfg_create();
    int r;

    if (!config) return -ENOMEM;
    fuse_loop_cfg_set_max_threads(config, MAX_THREADS);
    fuse_loop_cfg_set_idle_threads(config, IDLE_THREADS);
    raise_read_ahead(d->options->mountpoint);
    r = keeper_start(&d->keeper, d->tree, d->options->sync ? SYNC_AGE : d->options->interval);
    if (r == 0) r = watch_start(&d->watch, d->tree, d->store->path, &changes);
    if (r == 0 && d->options->apply) r = apply_start(&d->apply, d->store->path, d->options->mountpoint);
    if (r == 0) {
        r = fuse_session_loop_mt(d->session, config);
        /* The number of the signal that ended it is no failure. */
        if (r > 0) r = 0;
    }
    fuse_loop_cfg_destroy(config);
    return r;
}

static int mount_and_serve(struct daemon *d)
{
    int r;

    if (fuse_set_signal_handlers(d->session) < 0) return -EIO;
    r = fuse_session_mount(d->session, d->options->mountpoint) < 0 ? -EIO : 0;
    if (r < 0) log_error("%s: cannot be mounted", d->options->mountpoint);
    if (r == 0) {
        r = serve(d);
        /* In this order: the watch may be waiting for an answer that only the end of the connection gives. */
        fuse_session_unmount(d->session);
        watch_stop(d->watch);
        keeper_stop(d->keeper);
        apply_stop(d->apply);
    }
    fuse_remove_signal_handlers(d->session);
    return r;
}

/* The mount's source is the store, which tells whoever unmounts it whom to wait for. A comma would end the option. */
static char *session_options(const char *store)
{
    char *text = io_format("allow_other,default_permissions,suid,dev,subtype=coppice,fsname=%s", store);

    for (const char *c = store; text && *c; c++) {
        if (*c != ',' && *c != '\\') continue;
        free(text);
        return io_format("allow_other,default_permissions,suid,dev,subtype=coppice,fsname=coppice");
    }
    return text;
}

static int make_session(struct daemon *d, struct fuse_ops *ops)
{
    _cleanup_free_ char *options = session_options(d->store->path);
    char *argv[] = {"coppice", "-o", options, NULL};
    struct fuse_args args = FUSE_ARGS_INIT(3, argv);

    if (!options) return -ENOMEM;
    *ops = (struct fuse_ops){.tree = d->tree, .store_fd = d->store->fd, .ready = tell_ready, .ready_data = d};
    d->session = fuse_session_new(&args, &fuse_ops_table, sizeof(fuse_ops_table), ops);
    fuse_opt_free_args(&args);
    return d->session ? 0 : -EIO;
}

static int announce(struct daemon *d, int claim)
{
    struct store_daemon text = {.pid = getpid()};

    snprintf(text.mountpoint, sizeof(text.mountpoint), "%s", d->options->mountpoint);
    snprintf(text.options, sizeof(text.options), "%s", d->options->text ? d->options->text : "sync");
    return store_announce(claim, &text);
}

static int run(struct daemon *d)
{
    _cleanup_close_ int claim = -1;
    struct fuse_ops ops;
    int r = store_open(&d->store, d->options->store);

    if (r == 0) r = store_claim(d->store, &claim);
    if (r == 0) r = announce(d, claim);
    if (r == 0) r = tree_open(&d->tree, d->store, d->options->sync);
    if (r == 0) r = make_session(d, &ops);
    if (r == 0) r = mount_and_serve(d);
    if (d->session) fuse_session_destroy(d->session);
    tree_close(d->tree);
    store_close(d->store);
    return r;
}

int daemon_run(const struct daemon_options *options)
{
    struct daemon d = {.options = options, .ready_fd = -1};

    if (!options->foreground) return start_child(options);
    d.ready_fd = take_ready_fd();
    umask(0);
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is the caller's error, not the daemon's end */
    if (d.ready_fd >= 0 && chdir("/") < 0) return -errno;
    return run(&d);
}
