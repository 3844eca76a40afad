#include "harness.h"

#include <fcntl.h>
#include <fts.h>
#include <grp.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "made_tree.h"

/* Sanitizers make everything slower; cmake/CoppiceTests.cmake gives as much more. */
#if defined(__SANITIZE_THREAD__) || defined(__SANITIZE_ADDRESS__)
enum { SLOWER = 3 };
#else
enum { SLOWER = 1 };
#endif
enum { RUN_SECONDS = 60 * SLOWER, TEST_SECONDS = 120 * SLOWER - 5, PATHS = 64 };

int harness_slower(void)
{
    return SLOWER;
}

static struct {
    char directory[1024];
    char store[1200];
    char mountpoint[1200];
    char source[1200];
    char log[1200];
    char roots[HARNESS_NODES][1400];
    const char *mount_options;
    bool is_local;
    pid_t owner; /* the test program: its children must not take anything down */
} harness;

static const char *const serials[HARNESS_NODES] = {"node-a", "node-b"};

bool harness_is_local(void)
{
    return harness.is_local;
}
const char *harness_directory(void)
{
    return harness.directory;
}
const char *harness_store(void)
{
    return harness.store;
}
const char *harness_mountpoint(void)
{
    return harness.mountpoint;
}
const char *harness_source(void)
{
    return harness.source;
}
const char *harness_serial(int node)
{
    return serials[node];
}
const char *harness_root(int node)
{
    return harness.roots[node];
}

void harness_needs_mount(void)
{
    if (harness.is_local) skip();
}

/* ---- paths ---- */

static char *next_path(void)
{
    static _Thread_local char paths[PATHS][4608];
    static _Thread_local unsigned turn;
    return paths[turn++ % PATHS];
}

static const char *path_below(const char *base, const char *format, va_list arguments)
{
    char *path = next_path();
    int length = snprintf(path, 4608, "%s/", base);
    vsnprintf(path + length, 4608 - (size_t)length, format, arguments);
    return path;
}

#define RETURN_PATH_BELOW(base)                             \
    va_list arguments;                                      \
    va_start(arguments, format);                            \
    const char *path = path_below(base, format, arguments); \
    va_end(arguments);                                      \
    return path

const char *harness_at(int node, const char *format, ...)
{
    RETURN_PATH_BELOW(harness.roots[node]);
}
const char *harness_on_mount(const char *format, ...)
{
    RETURN_PATH_BELOW(harness.mountpoint);
}
const char *harness_beside(const char *format, ...)
{
    RETURN_PATH_BELOW(harness.directory);
}

/* ---- programs ---- */

double harness_seconds(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec / 1e9;
}

/* Waits for the process to end: 0, or -1 after `seconds`. */
static int wait_for_end(pid_t pid, int seconds)
{
    int fd = pidfd_open(pid, 0);
    if (fd < 0) return errno == ESRCH ? 0 : -1;
    struct pollfd wait = {.fd = fd, .events = POLLIN};
    int ended = poll(&wait, 1, seconds * 1000);
    close(fd);
    return ended == 1 ? 0 : -1;
}

static int run(char **ret_output, char *const argv[])
{
    char name[] = "/tmp/coppice-output-XXXXXX";
    int output = mkostemp(name, O_CLOEXEC);
    if (output < 0) return 127;
    unlink(name);

    pid_t pid = fork();
    if (pid == 0) {
        int null = open("/dev/null", O_RDONLY);
        dup2(null, 0);
        dup2(output, 1);
        dup2(output, 2);
        execvp(argv[0], argv);
        fprintf(stderr, "%s: %s\n", argv[0], strerror(errno));
        _exit(127);
    }
    if (wait_for_end(pid, RUN_SECONDS) < 0) kill(pid, SIGKILL);
    int status = 0;
    waitpid(pid, &status, 0);

    if (ret_output) {
        struct stat st = {0};
        fstat(output, &st);
        char *text = calloc(1, (size_t)st.st_size + 1);
        if (text && pread(output, text, (size_t)st.st_size, 0) < 0) text[0] = '\0';
        *ret_output = text;
    }
    close(output);
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int collect(char *argv[], int count, int limit, va_list arguments)
{
    while (count < limit - 1 && (argv[count] = va_arg(arguments, char *))) count++;
    argv[count] = NULL;
    return count;
}

int harness_run(char **ret_output, const char *program, ...)
{
    char *argv[32] = {(char *)program};
    va_list arguments;
    va_start(arguments, program);
    collect(argv, 1, 32, arguments);
    va_end(arguments);
    return run(ret_output, argv);
}

static char *binary(void)
{
    char *path = getenv("COPPICE");
    return path ? path : "coppice";
}

int harness_coppice(char **ret_output, const char *argument, ...)
{
    char *argv[32] = {binary(), "--store", harness.store, (char *)argument};
    va_list arguments;
    va_start(arguments, argument);
    collect(argv, 4, 32, arguments);
    va_end(arguments);
    return run(ret_output, argv);
}

/* A command without which no test makes sense. */
#define MUST_RUN(...)                                                                             \
    do {                                                                                          \
        char *output_ = NULL;                                                                     \
        int status_ = harness_coppice(&output_, __VA_ARGS__, NULL);                               \
        if (status_ != 0) print_error("coppice " #__VA_ARGS__ ": exit %d: %s", status_, output_); \
        free(output_);                                                                            \
        assert_int_equal(status_, 0);                                                             \
    } while (0)

int harness_sql(char **ret_output, const char *statements)
{
    const char *catalog = harness_beside("store/catalog.db");
    return harness_run(ret_output, "sqlite3", "-bail", "-cmd", ".timeout 5000", catalog, statements, NULL);
}

int harness_as(uid_t uid, gid_t gid, int (*body)(void *data), void *data)
{
    fflush(NULL);
    pid_t pid = must(fork());
    if (pid == 0) {
        if (uid != 0 && (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0))
            _exit(255);
        _exit(body(data));
    }
    int status = 0;
    must(waitpid(pid, &status, 0));
    if (!WIFEXITED(status)) fail_msg("child of uid %d ended by signal %d", (int)uid, WTERMSIG(status));
    return WEXITSTATUS(status);
}

/* ---- the daemon and its mount ---- */

/* Its command line names the private store: a number that another process has by now, or a zombie, is not it. */
static bool is_daemon(int pid)
{
    char path[64], line[8192] = "";
    snprintf(path, sizeof(path), "/proc/%d/cmdline", pid);
    FILE *file = fopen(path, "re");
    size_t length = file ? fread(line, 1, sizeof(line) - 1, file) : 0;
    if (file) fclose(file);
    return length > 0 && memmem(line, length, harness.store, strlen(harness.store));
}

pid_t harness_daemon_pid(void)
{
    FILE *file = fopen(harness_beside("store/daemon"), "re");
    if (!file) return 0;
    int pid = 0;
    int found = fscanf(file, "%d", &pid);
    fclose(file);
    return found == 1 && pid > 1 && is_daemon(pid) ? pid : 0;
}

static int parent_of(int pid)
{
    char path[64], line[512];
    int parent = 0;
    snprintf(path, sizeof(path), "/proc/%d/stat", pid);
    FILE *file = fopen(path, "re");
    if (file && fgets(line, sizeof(line), file) && strrchr(line, ')')) sscanf(strrchr(line, ')'), ") %*c %d", &parent);
    if (file) fclose(file);
    return parent;
}

pid_t harness_supervisor_pid(void)
{
    pid_t pid = harness_daemon_pid();
    int parent = pid ? parent_of(pid) : 0;
    return parent > 1 && is_daemon(parent) ? parent : 0;
}

/* Its supervisor first, which would start the next one. */
static void kill_daemon(void)
{
    pid_t supervisor = harness_supervisor_pid(), pid = harness_daemon_pid();
    if (supervisor) kill(supervisor, SIGKILL);
    if (supervisor) wait_for_end(supervisor, 10);
    if (pid) kill(pid, SIGKILL);
    if (pid) wait_for_end(pid, 10);
}

static void detach_mount(void)
{
    while (umount2(harness.mountpoint, MNT_DETACH) == 0) {}
}

void harness_mount(void)
{
    if (harness.is_local) return;
    char *argv[] = {binary(), "--store", harness.store, "mount", harness.mountpoint, NULL, NULL, NULL};
    if (harness.mount_options) {
        argv[4] = "-o";
        argv[5] = (char *)harness.mount_options;
        argv[6] = harness.mountpoint;
    }
    char *output = NULL;
    int status = run(&output, argv);
    if (status != 0) print_error("coppice mount: exit %d: %s", status, output);
    free(output);
    assert_int_equal(status, 0);
    must_hold(harness_daemon_pid() > 0, "no daemon's pid in STORE/daemon");
}

void harness_umount(void)
{
    if (harness.is_local) return harness_drop_caches();
    pid_t pid = harness_daemon_pid();
    MUST_RUN("umount", harness.mountpoint);
    must_hold(pid == 0 || wait_for_end(pid, 20) == 0, "the daemon is there 20 s after umount");
}

void harness_remount(void)
{
    harness_umount();
    harness_mount();
}

void harness_kill_daemon(void)
{
    if (harness.is_local) return harness_drop_caches();
    must_hold(harness_daemon_pid() > 0, "no daemon to kill");
    kill_daemon();
    detach_mount();
}

void harness_drop_caches(void)
{
    sync();
    int fd = open("/proc/sys/vm/drop_caches", O_WRONLY | O_CLOEXEC);
    if (fd < 0 || write(fd, "3", 1) != 1) print_message("drop_caches: %s\n", strerror(errno));
    close(fd);
}

int64_t harness_disk_usage(const char *path)
{
    char *paths[] = {(char *)path, NULL};
    FTS *walk = fts_open(paths, FTS_PHYSICAL | FTS_NOCHDIR, NULL);
    int64_t bytes = 0;
    for (FTSENT *entry; walk && (entry = fts_read(walk));)
        if (entry->fts_info != FTS_DP && entry->fts_statp) bytes += entry->fts_statp->st_blocks * 512;
    if (walk) fts_close(walk);
    return bytes;
}

/* ---- start and stop ---- */

static void remove_directory(void)
{
    char *argv[] = {"rm", "-rf", "--one-file-system", "--", harness.directory, NULL};
    run(NULL, argv);
}

static void take_down_hard(void)
{
    kill_daemon();
    detach_mount();
    remove_directory();
}

static int allowed_seconds(void)
{
    const char *random = getenv("COPPICE_RANDOM_SECONDS");
    int asked = random ? atoi(random) + 90 : 0;
    return asked > TEST_SECONDS ? asked : TEST_SECONDS;
}

static void watch(int parent_fd)
{
    struct pollfd parent = {.fd = parent_fd, .events = POLLIN};
    int ended = poll(&parent, 1, allowed_seconds() * 1000);
    if (access(harness.directory, F_OK) < 0) return;
    if (ended == 0) {
        /* A request that the daemon never answers makes the test unkillable: the daemon goes first. */
        kill_daemon();
        detach_mount();
        pidfd_send_signal(parent_fd, SIGKILL, NULL, 0);
        poll(&parent, 1, 10000);
    }
    take_down_hard();
}

void harness_start_watchdog(void (*watch_over)(int test))
{
    int self = must(pidfd_open(getpid(), 0));
    fflush(NULL);
    pid_t pid = must(fork());
    if (pid == 0) {
        setsid();
        if (fork() != 0) _exit(0);
        signal(SIGTERM, SIG_IGN);
        signal(SIGINT, SIG_IGN);
        int null = open("/dev/null", O_RDWR);
        for (int fd = 0; fd < 3; fd++) dup2(null, fd);
        if (chdir("/") == 0) watch_over(self);
        _exit(0);
    }
    must(waitpid(pid, NULL, 0));
    close(self);
}

static void make_directory(void)
{
    const char *local = getenv("COPPICE_TEST_ROOT");
    const char *parent = local ? local : getenv("TMPDIR");
    harness.is_local = local != NULL;
    snprintf(harness.directory, sizeof(harness.directory), "%s/coppice-test-XXXXXX", parent ? parent : "/tmp");
    must_hold(mkdtemp(harness.directory), "%s: %s", harness.directory, strerror(errno));
    must(chmod(harness.directory, 0755));
    snprintf(harness.store, sizeof(harness.store), "%s/store", harness.directory);
    snprintf(harness.mountpoint, sizeof(harness.mountpoint), "%s/mnt", harness.directory);
    snprintf(harness.source, sizeof(harness.source), "%s/source", harness.directory);
    must(mkdir(harness.mountpoint, 0755));
}

static void make_image(const char *path, const struct harness_options *options)
{
    must(mkdir(path, 0755));
    made_tree(path);
    if (options && options->extra) options->extra(path);
    made_tree_set_times(path);
}

static void start_local(const struct harness_options *options)
{
    for (int node = 0; node < HARNESS_NODES; node++) {
        snprintf(harness.roots[node], sizeof(harness.roots[node]), "%s/%s", harness.directory, serials[node]);
        make_image(harness.roots[node], options);
    }
}

static void start_mounted(void)
{
    MUST_RUN("init");
    MUST_RUN("image", "import", HARNESS_IMAGE, harness.source, "--no-templates");
    harness_mount();
    for (int node = 0; node < HARNESS_NODES; node++) {
        snprintf(harness.roots[node], sizeof(harness.roots[node]), "%s/system/%s/rootfs", harness.mountpoint,
                 serials[node]);
        MUST_RUN("node", "add", serials[node]);
    }
}

void harness_start(const struct harness_options *options)
{
    umask(0022);
    harness.owner = getpid();
    harness.mount_options = options ? options->mount_options : NULL;
    make_directory();
    harness_start_watchdog(watch);
    make_image(harness.source, options);
    if (harness.is_local)
        start_local(options);
    else
        start_mounted();
}

void harness_stop(void)
{
    if (harness.owner != getpid() || harness.directory[0] == '\0') return;
    must(chdir("/"));
    pid_t pid = harness_daemon_pid();
    int status = pid ? harness_coppice(NULL, "umount", harness.mountpoint, NULL) : 0;
    bool is_gone = pid == 0 || wait_for_end(pid, 20) == 0;
    take_down_hard();
    harness.directory[0] = '\0';
    must_hold(status == 0 && is_gone, "umount: exit %d, daemon %s", status, is_gone ? "gone" : "still there");
}

int harness_setup(void **state)
{
    (void)state;
    harness_start(NULL);
    return 0;
}

int harness_teardown(void **state)
{
    (void)state;
    harness_stop();
    return 0;
}
