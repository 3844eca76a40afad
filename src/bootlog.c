#include "bootlog.h"

#include <ctype.h>
#include <errno.h>
#include <glob.h>
#include <poll.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>

#include "io.h"
#include "service.h"

/* ---- lines ---- */

static void copy(char *to, size_t size, const char *from, size_t length)
{
    snprintf(to, size, "%.*s", (int)(length < size ? length : size - 1), from);
}

/* "Nov 22 20:03:10 host dnsmasq-dhcp[53]: rest": the rest of a line of that program; NULL: another's. */
static const char *rest_of(const char *line, const char *program, struct bootlog_event *e)
{
    const char *at = strstr(line, program);
    const char *end = at ? strstr(at, ": ") : NULL;

    if (!end || (at > line && at[-1] != ' ')) return NULL;
    size_t length = (size_t)(at - line);
    /* Without the host name, which syslog puts in between. */
    if (length > 15 && isalpha((unsigned char)line[0])) length = 15;
    while (length > 0 && line[length - 1] == ' ') length--;
    copy(e->when, sizeof(e->when), line, length);
    return end + 2;
}

static bool is_mac(const char *text, size_t length)
{
    if (length != 17) return false;
    for (size_t i = 0; i < 17; i++)
        if (i % 3 == 2 ? text[i] != ':' : !isxdigit((unsigned char)text[i])) return false;
    return true;
}

static bool is_ip(const char *text, size_t length)
{
    return length >= 7 && length <= 15 && strspn(text, "0123456789.") == length;
}

/* "DHCPACK(eth0) 10.9.0.20 b8:27:eb:42:32:c8 pi7", "PXE(eth0) b8:27:eb:42:32:c8 proxy" */
static bool parse_exchange(const char *text, struct bootlog_event *e)
{
    static const struct {
        const char *name;
        enum bootlog_kind kind;
    } kinds[] = {
        {"DHCPDISCOVER(", BOOTLOG_ASKED}, {"DHCPREQUEST(", BOOTLOG_ASKED}, {"DHCPOFFER(", BOOTLOG_ANSWERED},
        {"DHCPACK(", BOOTLOG_ANSWERED},   {"PXE(", BOOTLOG_ANSWERED},
    };
    bool known = false;

    for (size_t i = 0; i < sizeof(kinds) / sizeof(*kinds) && !known; i++) {
        known = strncmp(text, kinds[i].name, strlen(kinds[i].name)) == 0;
        e->kind = kinds[i].kind;
    }
    for (const char *word = text; known && *word;) {
        size_t length = strcspn(word, " \n");

        if (is_mac(word, length)) copy(e->mac, sizeof(e->mac), word, length);
        else if (is_ip(word, length)) copy(e->ip, sizeof(e->ip), word, length);
        word += length;
        word += strspn(word, " \n");
    }
    return known && e->mac[0];
}

static bool parse_dhcp(const char *text, struct bootlog_event *e)
{
    static const char class[] = "vendor class: ", uuid[] = "client-machine-id";
    size_t digits = strspn(text, "0123456789");
    const char *at;

    if (digits == 0 || digits >= sizeof(e->xid) || text[digits] != ' ') return false;
    copy(e->xid, sizeof(e->xid), text, digits);
    text += digits + 1;
    if (strncmp(text, class, strlen(class)) == 0) {
        e->kind = BOOTLOG_CLASS;
        copy(e->text, sizeof(e->text), text + strlen(class), strcspn(text + strlen(class), "\n"));
        return true;
    }
    at = strstr(text, uuid);
    if (at) {
        e->kind = BOOTLOG_UUID;
        at += strlen(uuid);
        at += strspn(at, " ");
        copy(e->text, sizeof(e->text), at, strcspn(at, "\n"));
        return true;
    }
    return parse_exchange(text, e);
}

/* "sent PATH to IP", "file PATH not found for IP", "failed sending PATH to IP", "cannot access PATH: reason" */
static bool parse_tftp(const char *text, struct bootlog_event *e)
{
    static const struct {
        const char *before, *after;
        enum bootlog_kind kind;
    } forms[] = {
        {"sent ", " to ", BOOTLOG_SENT},
        {"file ", " not found for ", BOOTLOG_MISSING},
        {"failed sending ", " to ", BOOTLOG_REFUSED},
        {"cannot access ", ": ", BOOTLOG_REFUSED},
    };

    for (size_t i = 0; i < sizeof(forms) / sizeof(*forms); i++) {
        const char *path = text + strlen(forms[i].before), *after = NULL;

        if (strncmp(text, forms[i].before, strlen(forms[i].before)) != 0) continue;
        /* The last one: a path may hold anything. */
        for (const char *at = path; (at = strstr(at, forms[i].after)); at++) after = at;
        if (!after) continue;
        e->kind = forms[i].kind;
        copy(e->text, sizeof(e->text), path, (size_t)(after - path));
        after += strlen(forms[i].after);
        if (is_ip(after, strcspn(after, " \n"))) copy(e->ip, sizeof(e->ip), after, strcspn(after, " \n"));
        return true;
    }
    return false;
}

/* "authenticated mount request from 10.9.0.20:812 for /mnt/cluster/system/… (/mnt/cluster/system)" */
static bool parse_mountd(const char *text, struct bootlog_event *e)
{
    static const char request[] = "authenticated mount request from ";
    const char *path;

    if (strncmp(text, request, strlen(request)) != 0) return false;
    text += strlen(request);
    path = strstr(text, " for ");
    if (!path) return false;
    e->kind = BOOTLOG_MOUNTED;
    copy(e->ip, sizeof(e->ip), text, strcspn(text, ": "));
    copy(e->text, sizeof(e->text), path + 5, strcspn(path + 5, " \n"));
    return true;
}

bool bootlog_parse(const char *line, struct bootlog_event *ret_event)
{
    const char *rest;

    *ret_event = (struct bootlog_event){0};
    if ((rest = rest_of(line, "dnsmasq-dhcp", ret_event))) return parse_dhcp(rest, ret_event);
    if ((rest = rest_of(line, "dnsmasq-tftp", ret_event))) return parse_tftp(rest, ret_event);
    if ((rest = rest_of(line, "rpc.mountd", ret_event)) || (rest = rest_of(line, "mountd", ret_event)))
        return parse_mountd(rest, ret_event);
    return false;
}

void bootlog_path_serial(const char *path, char ret_serial[9])
{
    const char *slash = strrchr(path, '/');

    ret_serial[0] = '\0';
    if (!slash || slash - path < 8 || (slash - path > 8 && slash[-9] != '/')) return;
    for (int i = 0; i < 8; i++)
        if (!isxdigit((unsigned char)slash[i - 8])) return;
    copy(ret_serial, 9, slash - 8, 8);
}

void bootlog_uuid_serial(const char *uuid, char ret_serial[9])
{
    unsigned b[17];
    int count = 0, used;

    ret_serial[0] = '\0';
    for (const char *at = uuid; count < 17 && sscanf(at, "%2x%n", &b[count], &used) == 1; at += used + 1) {
        count++;
        if (at[used] != ':') break;
    }
    if (count < 13) return;
    for (int i = 1; i < 5; i++)
        if (b[i] != b[i + 4] || b[i] != b[i + 8]) return;
    if (b[1] == b[2] && b[1] == b[3] && b[1] == b[4]) return;
    snprintf(ret_serial, 9, "%02x%02x%02x%02x", b[4], b[3], b[2], b[1]);
}

/* ---- where they come from ---- */

struct bootlog {
    FILE *file;
    pid_t journal; /* journalctl, which writes into `file`; 0: it is a file */
    bool follow;
    char *name;
    char *line;
    size_t room;
};

/* The value of log-facility in one file of dnsmasq's, when it is a file. */
static char *facility_in(const char *path)
{
    static const char option[] = "log-facility=";
    _cleanup_free_ char *text = NULL;
    const char *at;

    if (service_read(path, &text) < 0) return NULL;
    at = strncmp(text, option, strlen(option)) == 0 ? text : strstr(text, "\nlog-facility=");
    if (!at) return NULL;
    at = strchr(at, '=') + 1;
    return *at == '/' ? io_format("%.*s", (int)strcspn(at, " \t\n#"), at) : NULL;
}

static char *find_file(void)
{
    static const char *const usual[] = {"/var/log/dnsmasq.log", "/var/log/daemon.log", "/var/log/syslog",
                                        "/var/log/messages"};
    char *found = facility_in("/etc/dnsmasq.conf");
    glob_t files;

    if (!found && glob("/etc/dnsmasq.d/*", 0, NULL, &files) == 0) {
        for (size_t i = 0; i < files.gl_pathc && !found; i++) found = facility_in(files.gl_pathv[i]);
        globfree(&files);
    }
    if (found || access("/run/systemd/journal", F_OK) == 0) return found;
    for (size_t i = 0; i < sizeof(usual) / sizeof(*usual); i++)
        if (access(usual[i], R_OK) == 0) return io_format("%s", usual[i]);
    return NULL;
}

static int open_journal(struct bootlog *log)
{
    char *argv[] = {"journalctl", "--boot", "--output=short", "--no-pager", "--quiet", "-t", "dnsmasq-dhcp", "-t",
                    "dnsmasq-tftp", "-t", "rpc.mountd", log->follow ? "--follow" : NULL, "--lines=0", NULL};
    int ends[2];

    if (pipe2(ends, O_CLOEXEC) < 0) return -errno;
    log->journal = fork();
    if (log->journal == 0) {
        dup2(ends[1], 1);
        execvp(argv[0], argv);
        _exit(127);
    }
    close(ends[1]);
    log->name = io_format("the journal");
    log->file = fdopen(ends[0], "r");
    /* What lies in a buffer would not wake poll(2). */
    if (log->file && log->follow) setvbuf(log->file, NULL, _IONBF, 0);
    return log->journal > 0 && log->file ? 0 : -ENOMEM;
}

static int open_file(struct bootlog *log, const char *path)
{
    log->name = io_format("%s", path);
    log->file = fopen(path, "re");
    if (!log->file) return -errno;
    if (log->follow && fseeko(log->file, 0, SEEK_END) < 0) return -errno;
    return log->name ? 0 : -ENOMEM;
}

int bootlog_open(struct bootlog **ret_log, const char *path, bool follow)
{
    _cleanup_free_ char *found = path ? io_format("%s", path) : find_file();
    struct bootlog *log = calloc(1, sizeof(*log));
    int r;

    if (!log) return -ENOMEM;
    log->follow = follow;
    if (found) r = open_file(log, found);
    else r = access("/run/systemd/journal", F_OK) == 0 ? open_journal(log) : -ENOENT;
    if (r < 0) bootlog_close(log);
    else *ret_log = log;
    return r;
}

void bootlog_close(struct bootlog *log)
{
    if (!log) return;
    if (log->file) fclose(log->file);
    if (log->journal > 0) {
        kill(log->journal, SIGTERM);
        waitpid(log->journal, NULL, 0);
    }
    free(log->line);
    free(log->name);
    free(log);
}

const char *bootlog_name(const struct bootlog *log)
{
    return log->name;
}

/* A log that was cut to be kept small is read from its beginning. */
static void notice_rotation(struct bootlog *log)
{
    struct stat now, open;

    if (log->journal || stat(log->name, &now) < 0 || fstat(fileno(log->file), &open) < 0) return;
    if (now.st_ino == open.st_ino && ftello(log->file) <= open.st_size) return;
    FILE *file = fopen(log->name, "re");
    if (!file) return;
    fclose(log->file);
    log->file = file;
}

/* More may have been written to a file whose end was reached. */
static bool wait_for_more(struct bootlog *log, int milliseconds)
{
    struct pollfd more = {.fd = fileno(log->file), .events = POLLIN};

    if (log->journal) return poll(&more, 1, milliseconds) == 1 && !(more.revents & (POLLHUP | POLLERR));
    nanosleep(&(struct timespec){.tv_nsec = 100 * 1000000L}, NULL);
    notice_rotation(log);
    clearerr(log->file);
    return true;
}

int bootlog_next(struct bootlog *log, int milliseconds, struct bootlog_event *ret_event)
{
    for (;;) {
        /* A line that is still being written stays for the next time. */
        off_t start = log->journal ? 0 : ftello(log->file);
        bool waits = log->journal && log->follow;

        if (waits && !wait_for_more(log, milliseconds)) return 0;
        ssize_t n = getline(&log->line, &log->room, log->file);
        if (n > 0 && (log->line[n - 1] == '\n' || log->journal)) {
            if (bootlog_parse(log->line, ret_event)) return 1;
            continue;
        }
        if (n > 0 && fseeko(log->file, start, SEEK_SET) < 0) return 0;
        if (!log->follow || log->journal || milliseconds <= 0 || !wait_for_more(log, milliseconds)) return 0;
        milliseconds -= 100;
    }
}
