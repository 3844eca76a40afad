#include "fault_store.h"

#include <dirent.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mount.h>
#include <sys/pidfd.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "check.h"
#include "harness.h"

#define NODE "node-a"
enum { START_SECONDS = 30, TURNS = 16 };

static struct {
    char directory[512];
    char mountpoint[600];
    pid_t daemon; /* 0: none */
    int seconds;  /* that the test may take */
} here;

/* ---- directory, watchdog ---- */

static void remove_directory(void)
{
    harness_run(NULL, "rm", "-rf", "--one-file-system", "--", here.directory, NULL);
}

/* Begun before the private namespace: sees the plain directory, and what the mounts held is gone with them. */
static void watch(int test)
{
    struct pollfd wait = {.fd = test, .events = POLLIN};
    if (poll(&wait, 1, here.seconds * 1000) == 0) {
        pidfd_send_signal(test, SIGKILL, NULL, 0);
        poll(&wait, 1, 10000);
    }
    for (int i = 0; i < 50 && access(here.directory, F_OK) == 0; i++) {
        remove_directory();
        usleep(100000);
    }
}

void fault_store_begin(int seconds)
{
    const char *parent = getenv("TMPDIR");
    umask(0022);
    snprintf(here.directory, sizeof(here.directory), "%s/coppice-fault-XXXXXX", parent ? parent : "/tmp");
    must_hold(mkdtemp(here.directory), "%s: %s", here.directory, strerror(errno));
    here.seconds = seconds;
    harness_start_watchdog(watch);
    must(unshare(CLONE_NEWNS));
    must(mount(NULL, "/", NULL, MS_REC | MS_PRIVATE, NULL));
    snprintf(here.mountpoint, sizeof(here.mountpoint), "%s/mnt", here.directory);
    must(mkdir(here.mountpoint, 0755));
    must(mkdir(fault_store_source(), 0755));
}

void fault_store_stop(void)
{
    if (here.daemon) fault_store_kill();
    fault_store_detach();
}

void fault_store_end(void)
{
    fault_store_stop();
    remove_directory();
}

/* ---- paths ---- */

static char *next_path(void)
{
    static _Thread_local char paths[TURNS][1400];
    static _Thread_local unsigned turn;
    return paths[turn++ % TURNS];
}

#define RETURN_PATH(base)                                               \
    char *path = next_path();                                           \
    int length = snprintf(path, 1400, "%s/", base);                     \
    va_list arguments;                                                  \
    va_start(arguments, format);                                        \
    vsnprintf(path + length, 1400 - (size_t)length, format, arguments); \
    va_end(arguments);                                                  \
    return path

const char *fault_store_directory(void)
{
    return here.directory;
}
const char *fault_store_beside(const char *format, ...)
{
    RETURN_PATH(here.directory);
}
const char *fault_store_at(const char *format, ...)
{
    char root[700];
    snprintf(root, sizeof(root), "%s/system/" NODE "/rootfs", here.mountpoint);
    RETURN_PATH(root);
}
const char *fault_store_root(const char *serial)
{
    char *path = next_path();
    snprintf(path, 1400, "%s/system/%s/rootfs", here.mountpoint, serial);
    return path;
}
const char *fault_store_source(void)
{
    return fault_store_beside("source");
}

/* ---- the store ---- */

static const char *binary(void)
{
    const char *path = getenv("COPPICE");
    return path ? path : "coppice";
}

#define MUST_RUN(...)                                                                  \
    do {                                                                               \
        char *output_ = NULL;                                                          \
        int status_ = harness_run(&output_, __VA_ARGS__, NULL);                        \
        if (status_ != 0) print_error(#__VA_ARGS__ ": exit %d: %s", status_, output_); \
        free(output_);                                                                 \
        assert_int_equal(status_, 0);                                                  \
    } while (0)

static const char *store_in(const char *where)
{
    char *path = next_path();
    snprintf(path, 1400, "%s/store", where);
    return path;
}

void fault_store_make(const char *where)
{
    const char *store = store_in(where);
    MUST_RUN(binary(), "--store", store, "init");
    MUST_RUN(binary(), "--store", store, "image", "import", "base", fault_store_source(), "--no-templates");
    fault_store_add_node(where, NODE);
}

void fault_store_add_node(const char *where, const char *serial)
{
    MUST_RUN(binary(), "--store", store_in(where), "node", "add", serial);
}

void fault_store_clone(const char *where, const char *snapshot, const char *serial)
{
    MUST_RUN(binary(), "--store", store_in(where), "node", "add", serial, "--from", snapshot);
}

void fault_store_snapshot(const char *where, const char *serial, const char *name)
{
    MUST_RUN(binary(), "--store", store_in(where), "snapshot", "create", serial, name);
}

/* ---- the daemon ---- */

struct limit {
    int resource; /* -1: none */
    rlim_t value;
};

static void become_daemon(const char *store, const char *how, const char *options, const struct limit *limit)
{
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    int words = open(fault_store_beside("words"), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    dup2(words, 1);
    dup2(words, 2);
    struct rlimit value = {limit->value, limit->value};
    if (limit->resource >= 0) setrlimit((__rlimit_resource_t)limit->resource, &value);
    execlp(binary(), binary(), "--store", store, "mount", how, "-o", options ? options : "sync", here.mountpoint,
           NULL);
    fprintf(stderr, "%s: %s\n", binary(), strerror(errno));
    _exit(127);
}

char *fault_store_words(void)
{
    char *text = NULL;
    return harness_run(&text, "tail", "-n", "30", fault_store_beside("words"), NULL) == 0 ? text : strdup("");
}

static bool is_up(dev_t beneath)
{
    struct stat st;
    return stat(here.mountpoint, &st) == 0 && st.st_dev != beneath;
}

static bool wait_until_up(dev_t beneath)
{
    double end = harness_seconds() + START_SECONDS;
    while (harness_seconds() < end) {
        if (is_up(beneath)) return true;
        if (waitpid(here.daemon, NULL, WNOHANG) == here.daemon) {
            here.daemon = 0;
            break;
        }
        usleep(2000);
    }
    char *words = fault_store_words();
    print_error("the daemon did not come up: %s\n", words);
    free(words);
    return false;
}

static bool mount_with(const char *where, const char *how, const char *options, struct limit limit)
{
    struct stat beneath;
    const char *store = store_in(where);
    must(stat(here.mountpoint, &beneath));
    fflush(NULL);
    here.daemon = must(fork());
    if (here.daemon == 0) become_daemon(store, how, options, &limit);
    return wait_until_up(beneath.st_dev);
}

bool fault_store_mount(const char *where, const char *options)
{
    return mount_with(where, "-d", options, (struct limit){.resource = -1});
}

bool fault_store_mount_supervised(const char *where, const char *options)
{
    return mount_with(where, "-f", options, (struct limit){.resource = -1});
}

bool fault_store_mount_limited(const char *where, int resource, rlim_t value)
{
    return mount_with(where, "-d", NULL, (struct limit){resource, value});
}

bool fault_store_umount(void)
{
    int status = 0;
    /* What a thread has just closed the kernel lets go of in a moment. */
    for (int i = 0; umount2(here.mountpoint, 0) < 0; i++) {
        must_hold(errno == EBUSY && i < 100, "umount: %s", strerror(errno));
        usleep(10000);
    }
    must(waitpid(here.daemon, &status, 0));
    here.daemon = 0;
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) print_error("the daemon ended with status %#x\n", status);
    return WIFEXITED(status) && WEXITSTATUS(status) == 0;
}

void fault_store_kill(void)
{
    kill(here.daemon, SIGKILL);
    must(waitpid(here.daemon, NULL, 0));
    here.daemon = 0;
}

void fault_store_detach(void)
{
    while (umount2(here.mountpoint, MNT_DETACH) == 0) continue;
}

/* ---- the database, from outside ---- */

/* SQLite, closing a database, moves its WAL into it: the copy's, not the one that is tested. */
static const char *copy_database(const char *where, const char *serial)
{
    const char *copy = fault_store_beside("copy");
    char *command = next_path();
    snprintf(command, 1400, "rm -rf '%s' && mkdir '%s' && cp %s/store/nodes/%s/delta.db* '%s'", copy, copy, where, serial,
             copy);
    MUST_RUN("sh", "-c", command);
    return fault_store_beside("copy/delta.db");
}

static const char sound_sql[] =
    "PRAGMA integrity_check;"
    "SELECT 'name ' || CAST(name AS TEXT) || ' of inode ' || ino || ', which is not there' FROM dirent, view"
    "  WHERE ino > image_base + image_count AND ino NOT IN (SELECT ino FROM inode);"
    "SELECT 'inode ' || i.ino || ' says ' || nlink || ' names' FROM inode i, view"
    "  WHERE i.ino > image_base + image_count AND mode & 0xf000 <> 0x4000"
    "  AND nlink <> (SELECT count(*) FROM dirent d WHERE d.ino = i.ino);"
    "SELECT 'contents of inode ' || ino || ', which is not there' FROM content WHERE ino NOT IN (SELECT ino FROM "
    "inode);"
    "SELECT 'attribute of inode ' || ino || ', which is not there' FROM xattr WHERE ino NOT IN (SELECT ino FROM inode);"
    "SELECT 'chunks of inode ' || a.ino || ' overlap' FROM chunk a, chunk b"
    "  WHERE a.ino = b.ino AND a.start < b.start AND a.\"end\" > b.start;";

static bool is_sound(const char *where, const char *serial)
{
    char *output = NULL, *path = next_path();
    snprintf(path, 1400, "%s/store/nodes/%s/delta.db", where, serial);
    if (access(path, F_OK) < 0) return true; /* the node has changed nothing */
    int status = harness_run(&output, "sqlite3", "-bail", copy_database(where, serial), sound_sql, NULL);
    bool is_sound = status == 0 && output && strcmp(output, "ok\n") == 0;
    if (!is_sound) print_error("%s: delta.db, sqlite3's exit %d: %s\n", serial, status, output);
    free(output);
    return is_sound;
}

bool fault_store_is_sound(const char *where)
{
    char path[800];
    bool are_sound = true;
    snprintf(path, sizeof(path), "%s/store/nodes", where);
    DIR *nodes = opendir(path);
    for (struct dirent *e; nodes && (e = readdir(nodes));)
        if (e->d_name[0] != '.') are_sound = is_sound(where, e->d_name) && are_sound;
    if (nodes) closedir(nodes);
    return are_sound;
}

static bool fsck(const char *where, const char *option, int most)
{
    char *output = NULL;
    int status = harness_run(&output, binary(), "--store", store_in(where), "fsck", option, NULL);
    if (status > most) print_error("fsck, exit %d: %s\n", status, output);
    free(output);
    return status <= most;
}

bool fault_store_is_clean(const char *where)
{
    return fsck(where, NULL, 0);
}

bool fault_store_repair(const char *where)
{
    return fsck(where, "--repair", 1);
}

int fault_store_strays(const char *where)
{
    char *output = NULL, path[800];
    int strays = 0;
    harness_run(&output, "sqlite3", copy_database(where, NODE), "SELECT '/' || object || '/' FROM inode WHERE object > 0",
                NULL);
    snprintf(path, sizeof(path), "%s/store/nodes/" NODE "/objects", where);
    DIR *stream = opendir(path);
    for (struct dirent *e; stream && output && (e = readdir(stream));) {
        char name[300];
        snprintf(name, sizeof(name), "/%s/", e->d_name);
        strays += e->d_name[0] != '.' && !strstr(output, name);
    }
    if (stream) closedir(stream);
    free(output);
    return strays;
}
