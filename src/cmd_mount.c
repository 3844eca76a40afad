/* cmd_mount: mount, umount. */
#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <time.h>

#include "apply.h"
#include "cmd.h"
#include "daemon.h"
#include "io.h"
#include "log.h"
#include "supervisor.h"

#define ASYNC_SECONDS 5
#define ASYNC_LONGEST 3600
#define PATIENCE_SECONDS 2
#define RELEASE_SECONDS 30
#define HOLDERS_MAX 10

/* "async=SECONDS": false when it is not a number from 1 to ASYNC_LONGEST. */
static bool read_seconds(const char *text, unsigned *ret_seconds)
{
    char *end;
    errno = 0;
    unsigned long seconds = strtoul(text, &end, 10);
    if (*text < '0' || *text > '9' || *end || errno || seconds < 1 || seconds > ASYNC_LONGEST) return false;
    *ret_seconds = (unsigned)seconds;
    return true;
}

static int read_option(const struct cmd *cmd, const char *word, struct daemon_options *options)
{
    if (strcmp(word, "sync") == 0) {
        options->sync = true;
        options->interval = 0;
        return CMD_DONE;
    }
    if (strcmp(word, "apply") == 0) {
        options->apply = true;
        return CMD_DONE;
    }
    if (strncmp(word, "async", 5) != 0 || (word[5] && word[5] != '='))
        return cmd_usage_error(cmd, "-o %s: no such option; there are sync, async, async=SECONDS and apply", word);
    options->sync = false;
    options->interval = ASYNC_SECONDS;
    if (word[5] && !read_seconds(word + 6, &options->interval))
        return cmd_usage_error(cmd, "-o %s: SECONDS is a number from 1 to %d", word, ASYNC_LONGEST);
    return CMD_DONE;
}

static int read_options(const struct cmd *cmd, const char *list, struct daemon_options *options)
{
    _cleanup_free_ char *words = io_format("%s", list);
    char *rest = words;
    for (char *word; (word = strsep(&rest, ","));) {
        int status = *word ? read_option(cmd, word, options) : CMD_DONE;
        if (status != CMD_DONE) return status;
    }
    return CMD_DONE;
}

/* /proc/self/mountinfo writes blanks, tabs, newlines and backslashes as \ooo. */
static void decode_octal(char *text)
{
    char *to = text;
    for (const char *from = text; *from; to++) {
        if (from[0] == '\\' && from[1] && from[2] && from[3]) {
            *to = (char)((from[1] - '0') << 6 | (from[2] - '0') << 3 | (from[3] - '0'));
            from += 4;
        } else {
            *to = *from++;
        }
    }
    *to = '\0';
}

struct mount {
    char type[64];
    char source[PATH_MAX];
};

/* One line of mountinfo: "36 35 98:0 /root MOUNTPOINT options tags… - TYPE SOURCE options" */
static bool read_mount(char *line, const char *mountpoint, struct mount *ret_mount)
{
    char *field = line;
    for (int i = 0; i < 4 && field; i++) field = strchr(field, ' ') ? strchr(field, ' ') + 1 : NULL;
    char *rest = field ? strchr(field, ' ') : NULL;
    if (!rest) return false;
    *rest++ = '\0';
    decode_octal(field);
    char *tail = strstr(rest, " - ");
    if (!tail || strcmp(field, mountpoint) != 0) return false;
    if (sscanf(tail, " - %63s %4095s", ret_mount->type, ret_mount->source) != 2) return false;
    decode_octal(ret_mount->source);
    return true;
}

/* 1 and *ret_mount: what is mounted there, the topmost; 0: nothing; negative errno. */
static int find_mount(const char *mountpoint, struct mount *ret_mount)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    if (!file) return -errno;
    int found = 0;
    char *line = NULL;
    size_t room = 0;
    while (getline(&line, &room, file) > 0) {
        if (read_mount(line, mountpoint, ret_mount)) found = 1;
    }
    free(line);
    fclose(file);
    return found;
}

/* As realpath(3), but does not touch the last component, which may be a mount whose daemon has died. */
static char *resolve(const char *path)
{
    char *real = realpath(path, NULL);
    if (real || errno != ENOTCONN) return real;
    _cleanup_free_ char *copy = io_format("%s", path);
    size_t length = copy ? strlen(copy) : 0;
    while (length > 1 && copy[length - 1] == '/') copy[--length] = '\0';
    char *slash = copy ? strrchr(copy, '/') : NULL;
    const char *name = slash ? slash + 1 : copy;
    if (!copy || strcmp(name, "..") == 0 || strcmp(name, ".") == 0) return NULL;
    if (slash) *slash = '\0';
    _cleanup_free_ char *parent = realpath(!slash ? "." : slash == copy ? "/" : copy, NULL);
    if (!parent) return NULL;
    return io_format("%s/%s", strcmp(parent, "/") == 0 ? "" : parent, name);
}

static bool is_inside(const char *path, const char *directory)
{
    size_t length = strcmp(directory, "/") == 0 ? 0 : strlen(directory);
    return strncmp(path, directory, length) == 0 && (path[length] == '/' || path[length] == '\0');
}

static const char *served_fault(struct store *store)
{
    struct store_daemon daemon;
    if (store_running(store, &daemon) == 1 && daemon.pid > 0 && daemon.supervisor > 0 && !supervisor_lives(&daemon))
        return "is a coppice mount whose supervisor has died; 'coppice umount' and 'coppice mount' give it a new one";
    return "is a coppice mount already";
}

/* NULL when a daemon may mount there, else the reason why not. */
static const char *mountpoint_fault(struct store *store, const char *mountpoint, int error)
{
    struct mount mount;
    struct stat status;
    if (mountpoint && find_mount(mountpoint, &mount) == 1) {
        if (strcmp(mount.type, "fuse.coppice") != 0) return "is a mount point already";
        return stat(mountpoint, &status) < 0 && errno == ENOTCONN
                   ? "is the mount of a coppice that has died; 'coppice umount' clears it"
                   : served_fault(store);
    }
    if (!mountpoint) return log_reason(error);
    if (stat(mountpoint, &status) < 0) return log_reason(errno);
    if (!S_ISDIR(status.st_mode)) return log_reason(ENOTDIR);
    if (is_inside(mountpoint, store->path)) return "lies inside the store";
    if (is_inside(store->path, mountpoint)) return "holds the store, which the mount would hide";
    return NULL;
}

/* Says what stands in the way. The store is closed again on return, as the daemon wants it. */
static int check_mount(const char *path, const char *operand, char **ret_store, char **ret_mountpoint)
{
    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, path) < 0) return CMD_FAILED;
    _cleanup_free_ char *mountpoint = resolve(operand);
    const char *fault = mountpoint_fault(store, mountpoint, errno);
    _cleanup_free_ char *absolute = fault ? NULL : io_format("%s", store->path);
    if (!fault && !absolute) fault = log_reason(ENOMEM);
    if (fault) {
        log_error("mountpoint %s: %s", operand, fault);
        return CMD_FAILED;
    }
    *ret_store = io_take(absolute);
    *ret_mountpoint = io_take(mountpoint);
    return CMD_DONE;
}

static int replace(const struct cmd *cmd)
{
    _cleanup_free_ char *mountpoint = resolve(cmd->operands[0]);
    _cleanup_store_ struct store *store = NULL;
    if (!mountpoint) {
        log_error("%s: %s", cmd->operands[0], log_reason(errno));
        return CMD_FAILED;
    }
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    return supervisor_replace(store, mountpoint) < 0 ? CMD_FAILED : CMD_DONE;
}

/* The mount may be there already, and nobody but this process to answer who looks at it. */
static int serve_for_supervisor(const struct cmd *cmd, struct daemon_options *daemon)
{
    daemon->store = cmd->store;
    daemon->mountpoint = cmd->operands[0];
    return daemon_serve(daemon) < 0 ? CMD_FAILED : CMD_DONE;
}

int cmd_mount(struct cmd *cmd)
{
    struct daemon_options daemon = {.sync = true};
    bool is_replacing = false;
    const struct cmd_option options[] = {{.name = "", .letter = 'f', .flag = &daemon.foreground},
                                         {.name = "", .letter = 'd', .flag = &daemon.alone},
                                         {.name = "", .letter = 'o', .value = &daemon.text},
                                         {.name = "replace", .flag = &is_replacing},
                                         {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (daemon.text && read_options(cmd, daemon.text, &daemon) != CMD_DONE) return CMD_USAGE;
    if (is_replacing && (daemon.foreground || daemon.alone || daemon.text))
        return cmd_usage_error(cmd, "--replace: takes no other option; the mount keeps those it has");
    if (is_replacing) return replace(cmd);
    if (daemon_is_passed_a_mount()) return serve_for_supervisor(cmd, &daemon);

    _cleanup_free_ char *store = NULL, *mountpoint = NULL;
    if (check_mount(cmd->store, cmd->operands[0], &store, &mountpoint) != CMD_DONE) return CMD_FAILED;
    daemon.store = store;
    daemon.mountpoint = mountpoint;
    return (daemon.alone ? daemon_serve : supervisor_run)(&daemon) < 0 ? CMD_FAILED : CMD_DONE;
}

static bool link_leads_into(const char *link, const char *mountpoint)
{
    char target[PATH_MAX];
    ssize_t length = readlink(link, target, sizeof target - 1);
    if (length < 0) return false;
    target[length] = '\0';
    return is_inside(target, mountpoint);
}

static bool has_open_file(const char *pid, const char *mountpoint)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "/proc/%s/fd", pid);
    DIR *files = opendir(path);
    if (!files) return false;
    bool found = false;
    for (struct dirent *entry; !found && (entry = readdir(files));) {
        snprintf(path, sizeof path, "/proc/%s/fd/%s", pid, entry->d_name);
        found = link_leads_into(path, mountpoint);
    }
    closedir(files);
    return found;
}

static bool holds_mount(const char *pid, const char *mountpoint)
{
    static const char *const links[] = {"cwd", "root", "exe"};
    char path[PATH_MAX];
    for (size_t i = 0; i < sizeof links / sizeof *links; i++) {
        snprintf(path, sizeof path, "/proc/%s/%s", pid, links[i]);
        if (link_leads_into(path, mountpoint)) return true;
    }
    return has_open_file(pid, mountpoint);
}

/* "bash (812)" */
static void print_process(FILE *out, const char *pid)
{
    char path[PATH_MAX], name[64] = "?";
    snprintf(path, sizeof path, "/proc/%s/comm", pid);
    FILE *file = fopen(path, "re");
    if (file && !fgets(name, sizeof name, file)) name[0] = '\0';
    if (file) fclose(file);
    name[strcspn(name, "\n")] = '\0';
    fprintf(out, "%s (%s)", name, pid);
}

/* "bash (812), vi (813)": who holds the mount, "" when none is found. NULL when out of memory. Caller frees. */
static char *mount_holders(const char *mountpoint)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    DIR *processes = out ? opendir("/proc") : NULL;
    int count = 0;
    for (struct dirent *entry; processes && (entry = readdir(processes));) {
        if (entry->d_name[0] < '1' || entry->d_name[0] > '9' || !holds_mount(entry->d_name, mountpoint)) continue;
        if (count == HOLDERS_MAX) {
            fputs(" and others", out);
            break;
        }
        if (count++) fputs(", ", out);
        print_process(out, entry->d_name);
    }
    if (processes) closedir(processes);
    if (out) fclose(out);
    return text;
}

static int report_busy(const char *mountpoint)
{
    _cleanup_free_ char *holders = mount_holders(mountpoint);
    if (holders && *holders) {
        log_error("%s: in use by %s", mountpoint, holders);
    } else {
        log_error("%s: in use, by no process that can be seen; is it exported by NFS or mounted elsewhere?",
                  mountpoint);
    }
    return CMD_FAILED;
}

/* The store that was mounted: its daemon may have named it as the mount's source. NULL: not to be found. */
static struct store *mounted_store(const struct cmd *cmd, const struct mount *mount)
{
    const char *path = mount->source[0] == '/' ? mount->source : cmd->store;
    _cleanup_free_ char *catalog = io_format("%s/catalog.db", path);
    struct store *store = NULL;
    if (!catalog || access(catalog, F_OK) < 0 || store_open(&store, path) < 0) return NULL;
    return store;
}

/* The kernel lets go of the mount before the daemon has written its last and let go of the store. It does not at all while
 * another mount namespace (a container started meanwhile) has a copy of the mount: then the daemon is told. */
static int wait_for_release(struct store *store, const char *mountpoint)
{
    struct store_daemon daemon;
    for (int i = 0; i < RELEASE_SECONDS * 50; i++) {
        if (store_running(store, &daemon) != 1 || strcmp(daemon.mountpoint, mountpoint) != 0) return CMD_DONE;
        if (i == PATIENCE_SECONDS * 50 && daemon.pid > 0) kill(daemon.pid, SIGTERM);
        nanosleep(&(struct timespec){.tv_nsec = 20 * 1000 * 1000}, NULL);
    }
    log_error("%s: unmounted, but process %d still holds the store %s after %d seconds", mountpoint, (int)daemon.pid,
              store->path, RELEASE_SECONDS);
    return CMD_FAILED;
}

/* nfsd holds what it exports. With -o apply the exports are the mount's own: they go with it, and come back with it. */
static bool take_back_exports(struct store *store, const char *mountpoint)
{
    struct store_daemon daemon;
    if (store_running(store, &daemon) != 1 || strcmp(daemon.mountpoint, mountpoint) != 0) return false;
    _cleanup_free_ char *options = io_format(",%s,", daemon.options);
    return options && strstr(options, ",apply,") && apply_unexport(mountpoint) > 0;
}

static int unmount(const struct cmd *cmd, const char *mountpoint, const struct mount *mount)
{
    _cleanup_store_ struct store *store = mounted_store(cmd, mount);
    bool unexported = store && take_back_exports(store, mountpoint);
    if (umount2(mountpoint, UMOUNT_NOFOLLOW) < 0) {
        int error = errno;
        if (unexported) apply_exports(store->catalog, mountpoint, NULL, true);
        if (error == EBUSY) return report_busy(mountpoint);
        log_error("%s: cannot be unmounted: %s", mountpoint, log_reason(error));
        return CMD_FAILED;
    }
    return store ? wait_for_release(store, mountpoint) : CMD_DONE;
}

int cmd_umount(struct cmd *cmd)
{
    const struct cmd_option options[] = {{0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    struct mount mount;
    _cleanup_free_ char *mountpoint = resolve(cmd->operands[0]);
    int r = mountpoint ? find_mount(mountpoint, &mount) : -errno;
    if (r == 1 && strcmp(mount.type, "fuse.coppice") == 0) return unmount(cmd, mountpoint, &mount);
    if (r < 0) {
        log_error("%s: %s", cmd->operands[0], log_reason(r));
    } else {
        log_error("%s: is not a coppice mount", cmd->operands[0]);
    }
    return CMD_FAILED;
}
