#include "daemon.h"

#include <cap-ng.h>
#include <errno.h>
#include <fuse_lowlevel.h>
#include <malloc.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "apply.h"
#include "control.h"
#include "crash.h"
#include "fuse_ops.h"
#include "ground.h"
#include "handover.h"
#include "io.h"
#include "keeper.h"
#include "log.h"
#include "nodeops.h"
#include "store.h"
#include "watch.h"
#include "workers.h"

#define DESCRIPTORS_VARIABLE "COPPICE_DESCRIPTORS"
#define SYNC_AGE 5          /* seconds until what needs no commit of its own is committed all the same */
#define READ_AHEAD_KB "1024"
#define BUFFER_LEAST (256 << 10) /* bytes: larger ones go back to the kernel when they are freed */
/* Each keeps two megabytes for transfers. */
static const struct workers_limits limits = {.most = 256, .ready = 4, .kept = 12};

struct daemon {
    const struct daemon_options *options;
    struct daemon_descriptors descriptors;
    struct store *store;
    struct handover *handover;
    struct tree *tree;
    struct fuse_session *session; /* owns the device */
    struct fuse_ops ops;
    int device;
    struct keeper *keeper;
    struct watch *watch;
    struct apply *apply; /* NULL: without */
    struct control *control;
    struct tree_changes changes;
    struct nodeops nodeops;
    int64_t followed; /* the catalog's version that nodeops has seen */
};

/* ---- what the supervisor passes on ---- */

void daemon_pass(const struct daemon_descriptors *passed)
{
    const int fds[] = {passed->ready, passed->claim, passed->device, passed->handover};
    char text[80];

    for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++) fcntl(fds[i], F_SETFD, 0);
    snprintf(text, sizeof(text), "%d,%d,%d,%d,%d,%d", fds[0], fds[1], fds[2], fds[3], passed->in_background, passed->is_next);
    setenv(DESCRIPTORS_VARIABLE, text, 1);
}

bool daemon_is_passed_a_mount(void)
{
    return getenv(DESCRIPTORS_VARIABLE) != NULL;
}

static void take_descriptors(struct daemon_descriptors *d)
{
    const char *text = getenv(DESCRIPTORS_VARIABLE);
    int in_background = 0, is_next = 0;

    *d = (struct daemon_descriptors){-1, -1, -1, -1, false, false};
    if (text)
        sscanf(text, "%d,%d,%d,%d,%d,%d", &d->ready, &d->claim, &d->device, &d->handover, &in_background, &is_next);
    d->in_background = in_background;
    d->is_next = is_next;
    const int fds[] = {d->ready, d->claim, d->device, d->handover};
    for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
        if (fds[i] >= 0) fcntl(fds[i], F_SETFD, FD_CLOEXEC);
    unsetenv(DESCRIPTORS_VARIABLE);
}

void daemon_detach(void)
{
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    log_to_syslog();
    for (int fd = 0; null >= 0 && fd < 3; fd++) dup2(null, fd);
    if (null > 2) close(null);
}

/* Lets go of the terminal, and tells whoever waits. */
static void tell_ready(struct daemon *d)
{
    if (d->descriptors.in_background) daemon_detach();
    if (d->descriptors.ready < 0) return;
    if (write(d->descriptors.ready, "", 1) < 0) log_warning("%s: nobody waited for the mount", d->options->mountpoint);
    close(io_take_fd(d->descriptors.ready));
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

/* ---- commands ---- */

static char *answer(void *data, char *request)
{
    struct daemon *d = data;

    return nodeops_run(&d->nodeops, request);
}

static void follow(void *data)
{
    struct daemon *d = data;
    int64_t version = tree_version(d->tree);

    nodeops_tidy(&d->nodeops);
    if (version == d->followed) return;
    if (d->followed == 0) nodeops_start(&d->nodeops);
    else nodeops_follow(&d->nodeops);
    d->followed = version;
}

static void sweep(void *data)
{
    struct daemon *d = data;

    nodeops_sweep(&d->nodeops);
}

static int listen_to_commands(struct daemon *d)
{
    const struct control_server server = {.answer = answer, .tick = follow, .sweep = sweep, .data = d};

    d->nodeops = (struct nodeops){.tree = d->tree, .changes = &d->changes};
    return control_start(&d->control, d->store->fd, &server);
}

static ssize_t take_request(void *data, void *buffer)
{
    struct daemon *d = data;

    return channel_receive(&d->ops.channel, d->device, buffer, CHANNEL_BUFFER);
}

static void answer_request(void *data, void *buffer, size_t size)
{
    const struct fuse_buf request = {.mem = buffer, .size = size};

    fuse_session_process_buf(((struct daemon *)data)->session, &request);
}

static bool is_over(void *data)
{
    return fuse_session_exited(((struct daemon *)data)->session);
}

/* -ENODEV: it was unmounted. */
static int serve_requests(struct daemon *d)
{
    const struct workers_job job = {
        .take = take_request, .answer = answer_request, .is_over = is_over, .buffer_size = CHANNEL_BUFFER, .data = d};
    int r = workers_run(&job, &limits);

    return r == -ENODEV ? 0 : r;
}

static int serve(struct daemon *d)
{
    int r;

    d->changes = fuse_ops_changes(d->session);
    raise_read_ahead(d->options->mountpoint);
    r = keeper_start(&d->keeper, d->tree, d->options->sync ? SYNC_AGE : d->options->interval);
    if (r == 0) r = watch_start(&d->watch, d->tree, d->store->path, &d->changes);
    if (r == 0) r = listen_to_commands(d);
    if (r == 0 && d->options->apply) r = apply_start(&d->apply, d->store->path, d->options->mountpoint);
    return r < 0 ? r : serve_requests(d);
}

/* The mount's source is the store, which tells whoever unmounts it whom to wait for. */
static int mount_device(const struct daemon *d, int device)
{
    const char *mountpoint = d->options->mountpoint;
    char options[128];
    struct stat st;
    int r;

    if (stat(mountpoint, &st) < 0) return -errno;
    snprintf(options, sizeof(options), "fd=%d,rootmode=%o,user_id=%u,group_id=%u,default_permissions,allow_other", device,
             st.st_mode & S_IFMT, geteuid(), getegid());
    r = mount(d->store->path, mountpoint, "fuse.coppice", 0, options) < 0 ? -errno : 0;
    if (r < 0) log_error("%s: cannot be mounted: %s", mountpoint, log_reason(r));
    return r;
}

static int announce(struct daemon *d)
{
    struct store_daemon text = {.pid = getpid()};

    if (d->descriptors.ready >= 0) text.supervisor = getppid();
    snprintf(text.mountpoint, sizeof(text.mountpoint), "%s", d->options->mountpoint);
    snprintf(text.options, sizeof(text.options), "%s", d->options->text ? d->options->text : "sync");
    return store_announce(d->descriptors.claim, &text);
}

/* The descriptor is the session's from here on. */
static int make_session(struct daemon *d)
{
    char *argv[] = {"coppice", NULL};
    struct fuse_args args = FUSE_ARGS_INIT(1, argv);

    d->ops = (struct fuse_ops){.tree = d->tree, .store_fd = d->store->fd, .channel.handover = d->handover};
    d->session = fuse_session_new(&args, &fuse_ops_table, sizeof(fuse_ops_table), &d->ops);
    fuse_opt_free_args(&args);
    if (!d->session) return -EIO;
    d->ops.session = d->session;
    d->device = io_take_fd(d->descriptors.device);
    return channel_attach(d->session, d->device);
}

/* What the mounted daemon still needs: reading files of the image that belong to others; writing into a store that does; without
 * a supervisor, unmounting. What -o apply runs is root's again. */
static int drop_capabilities(const struct daemon *d)
{
    struct stat st;

    if (fstat(d->store->fd, &st) < 0) return -errno;
    capng_clear(CAPNG_SELECT_CAPS);
    capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_READ_SEARCH);
    if (st.st_uid != geteuid()) capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_DAC_OVERRIDE);
    if (d->options->alone && d->descriptors.ready < 0)
        capng_update(CAPNG_ADD, CAPNG_EFFECTIVE | CAPNG_PERMITTED, CAP_SYS_ADMIN);
    if (capng_apply(CAPNG_SELECT_CAPS) == 0) return 0;
    log_error("capabilities could not be dropped");
    return -EPERM;
}

static int start(struct daemon *d)
{
    int r = 0;

    if (!d->handover->page->init_size) r = mount_device(d, d->device);
    if (r == 0) r = drop_capabilities(d);
    if (r == 0) r = channel_start(&d->ops.channel, d->session, d->device);
    if (r == 0) r = announce(d);
    if (r == 0) tell_ready(d);
    return r;
}

static volatile sig_atomic_t is_handing_over;

/* To the process: this thread may be one that no SIGTERM reaches. */
static void hand_over(int number)
{
    (void)number;
    is_handing_over = 1;
    kill(getpid(), SIGTERM);
}

/* The watch may be waiting for an answer that only the end of the connection gives. */
static void end_connection(const struct daemon *d)
{
    struct pollfd device = {.fd = d->device};
    int null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (poll(&device, 1, 0) == 0) umount2(d->options->mountpoint, MNT_DETACH | UMOUNT_NOFOLLOW); /* else it was unmounted */
    if (null >= 0) dup2(null, d->device);
    if (null >= 0) close(null);
}

static int start_and_serve(struct daemon *d)
{
    int r;

    signal(DAEMON_HANDOVER_SIGNAL, hand_over);
    if (fuse_set_signal_handlers(d->session) < 0) return -EIO;
    r = start(d);
    if (r == 0) r = serve(d);
    if (!is_handing_over) end_connection(d);
    watch_stop(d->watch);
    control_stop(d->control);
    keeper_stop(d->keeper);
    apply_stop(d->apply);
    fuse_remove_signal_handlers(d->session);
    return r;
}

/* Without a supervisor, all that one would pass on. */
static int take_all(struct daemon *d)
{
    struct daemon_descriptors *fds = &d->descriptors;
    bool is_alone = fds->claim < 0;
    int r = is_alone ? store_claim(d->store, &fds->claim) : 0;

    if (is_alone && r == 0) fds->device = open("/dev/fuse", O_RDWR | O_CLOEXEC);
    if (r == 0 && fds->device < 0) r = -errno;
    if (r < 0) {
        if (fds->claim >= 0) log_error("/dev/fuse: %s", log_reason(r));
        return r;
    }
    r = handover_open(&d->handover, io_take_fd(fds->handover));
    if (r < 0) log_error("%s: cannot be taken over: %s", d->options->mountpoint, log_reason(r));
    if (r == 0) handover_begin(d->handover);
    if (r == 0) crash_watch(d->handover);
    return r;
}

static int run(struct daemon *d)
{
    int r = store_open(&d->store, d->options->store);

    if (r == 0 && !d->descriptors.is_next) ground_check(d->store->fd, d->store->path);
    if (r == 0) r = take_all(d);
    if (r == 0) r = tree_open(&d->tree, d->store, d->handover, d->options->sync);
    if (r == 0) r = make_session(d);
    if (r == 0) r = start_and_serve(d);
    tree_close(d->tree);
    if (d->session) fuse_session_destroy(d->session);
    handover_close(d->handover);
    store_close(d->store);
    return r;
}

int daemon_serve(const struct daemon_options *options)
{
    struct daemon d = {.options = options};

    take_descriptors(&d.descriptors);
    prctl(PR_SET_NAME, "coppice"); /* it was run by descriptor, and would be called by its number */
    umask(0);
    log_without_repeats();
    mallopt(M_MMAP_THRESHOLD, BUFFER_LEAST); /* once one was freed, malloc(3) would keep buffers that threads have left for ever */
    signal(SIGXFSZ, SIG_IGN); /* a limit on file sizes is the caller's error, not the daemon's end */
    if (d.descriptors.in_background && d.descriptors.is_next) log_to_syslog(); /* there is no terminal any more */
    if (d.descriptors.in_background && chdir("/") < 0) return -errno;
    return run(&d);
}
