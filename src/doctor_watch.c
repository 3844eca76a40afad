/* doctor_watch: looks on while boards boot, and says how far each came. */
#include <arpa/inet.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bootlog.h"
#include "bootname.h"
#include "doctor.h"
#include "io.h"
#include "log.h"

#define BOARDS_MAX 64
#define NFS_PORT 2049
#define QUIET 15 /* seconds after which it is said how far a board came */

/* In the order in which a boot takes them. */
enum stage { STAGE_NONE, STAGE_ASKED, STAGE_ANSWERED, STAGE_FIRST, STAGE_FIRMWARE, STAGE_KERNEL, STAGE_NFS, STAGE_MOUNTED };

struct board {
    char mac[18], ip[16];
    char last[64];    /* file sent */
    char missing[64]; /* file asked for and not found */
    char refused[64]; /* file that dnsmasq could not read */
    enum stage stage;
    time_t seen;
    bool told; /* how far it came, since it was seen */
};

struct watch {
    const struct doctor_options *options;
    struct catalog_node node; /* the one to look at; serial NULL: whoever boots */
    char tail[BOOTNAME_TAIL];
    char xid[16]; /* of an exchange that a boot ROM began */
    struct board board[BOARDS_MAX];
    int count;
};

static volatile sig_atomic_t interrupted;

static void interrupt(int signal)
{
    (void)signal;
    interrupted = 1;
}

static time_t now(void)
{
    struct timespec t;

    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec;
}

static void set(char *to, size_t size, const char *text)
{
    size_t length = strnlen(text, size - 1);

    memcpy(to, text, length);
    to[length] = '\0';
}

/* ---- which board ---- */

static struct board *find(struct watch *w, const char *mac, const char *ip)
{
    for (int i = 0; i < w->count; i++) {
        struct board *b = &w->board[i];

        if ((*mac && strcmp(b->mac, mac) == 0) || (!*mac && *ip && strcmp(b->ip, ip) == 0)) return b;
    }
    return NULL;
}

static struct board *find_or_add(struct watch *w, const char *mac, const char *ip)
{
    struct board *b = find(w, mac, ip);

    if (!b && w->count == BOARDS_MAX) return NULL;
    if (!b) {
        b = &w->board[w->count++];
        set(b->mac, sizeof(b->mac), mac);
    }
    if (*ip) set(b->ip, sizeof(b->ip), ip);
    return b;
}

/* Is it the node that was asked for? With a MAC the row's decides, without one its address. */
static bool concerns(const struct watch *w, const struct bootlog_event *e)
{
    char serial[9];

    if (!w->node.serial) return true;
    if (w->node.mac && e->mac[0]) return strcmp(w->node.mac, e->mac) == 0;
    if (w->node.ip && e->ip[0] && strcmp(w->node.ip, e->ip) == 0) return true;
    bootlog_path_serial(e->text, serial);
    if (w->tail[0] && strcmp(serial, w->tail) == 0) return true;
    if (strstr(e->text, w->node.serial)) return true;
    for (int i = 0; i < w->count; i++)
        if (e->ip[0] && strcmp(w->board[i].ip, e->ip) == 0) return true;
    return !w->node.mac && !w->node.ip && e->mac[0];
}

/* ---- what it says of a board ---- */

static const char *name_of(const struct board *b)
{
    return b->mac[0] ? b->mac : b->ip;
}

static void say(const struct board *b, const char *what, const char *text)
{
    char when[16];
    time_t t = time(NULL);
    struct tm local;

    strftime(when, sizeof(when), "%H:%M:%S", localtime_r(&t, &local));
    printf("%s  %-17s  %s%s%s\n", when, name_of(b), what, *text ? " " : "", text);
    fflush(stdout);
}

/* The most that can be said of why it came no further. */
static const char *advice(const struct board *b)
{
    if (b->refused[0]) return "a file may not be read by dnsmasq's user; coppice doctor has the command";
    switch (b->stage) {
    case STAGE_ASKED: return "nobody answered: is there a dhcp-range for its network? 'coppice dnsmasq' prints one";
    case STAGE_ANSWERED:
        return "never asked for a file: the answer lacked \"Raspberry Pi Boot\", or another DHCP server's came first";
    case STAGE_FIRST:
        return b->missing[0] ? "never got start.elf: is it in its boot directory?"
                             : "never asked for start.elf: a Pi 3's boot ROM sometimes stops here; switch it off and on";
    case STAGE_FIRMWARE: return "never got a kernel: is the one that config.txt names in its boot directory?";
    case STAGE_KERNEL: return "never came to the NFS server: look at cmdline.txt, 'coppice doctor' does";
    case STAGE_NFS: return "spoke to the NFS server, which has not told of a mount";
    default: return "";
    }
}

static void tell_how_far(struct board *b)
{
    static const char *const stages[] = {
        [STAGE_ASKED] = "asked DHCP", [STAGE_ANSWERED] = "got an address", [STAGE_FIRST] = "got",
        [STAGE_FIRMWARE] = "got its firmware, last", [STAGE_KERNEL] = "got a kernel, last",
        [STAGE_NFS] = "reached the NFS server", [STAGE_MOUNTED] = "mounted its root",
    };
    const char *last = b->stage >= STAGE_FIRST && b->stage <= STAGE_KERNEL ? b->last : "";
    _cleanup_free_ char *missing = b->missing[0] && b->stage < STAGE_NFS ? io_format("; asked for %s, which is not there", b->missing) : NULL;
    _cleanup_free_ char *text = io_format("asked DHCP%s%s%s%s%s%s%s", b->stage > STAGE_ASKED ? ", " : "",
                                          b->stage > STAGE_ASKED ? stages[b->stage] : "", *last ? " " : "", last,
                                          missing ? missing : "", *advice(b) ? ": " : "", advice(b));

    say(b, "so far:", text ? text : "");
    b->told = true;
}

static void reach(struct board *b, enum stage stage)
{
    if (stage > b->stage || stage == STAGE_ASKED) b->stage = stage;
    b->seen = now();
    b->told = false;
}

static bool begins(const char *name, const char *prefix)
{
    return strncmp(name, prefix, strlen(prefix)) == 0;
}

static enum stage stage_of(const char *name)
{
    if (begins(name, "kernel") || begins(name, "vmlinu") || begins(name, "initr")) return STAGE_KERNEL;
    if (begins(name, "start")) return STAGE_FIRMWARE;
    return STAGE_FIRST;
}

/* A boot begins anew: what the one before came to is no longer true. */
static void begin_boot(struct board *b)
{
    if (b->stage >= STAGE_FIRST) tell_how_far(b);
    if (b->stage >= STAGE_ANSWERED) b->last[0] = b->missing[0] = b->refused[0] = '\0';
}

static void take_file(struct board *b, const struct bootlog_event *e)
{
    const char *name = strrchr(e->text, '/') ? strrchr(e->text, '/') + 1 : e->text;

    switch (e->kind) {
    case BOOTLOG_SENT:
        reach(b, stage_of(name));
        set(b->last, sizeof(b->last), name);
        if (strcmp(b->missing, name) == 0) b->missing[0] = '\0';
        say(b, "got", name);
        break;
    case BOOTLOG_MISSING:
        reach(b, STAGE_ANSWERED);
        /* A board asks for many files that need not be there. */
        if (begins(name, "start") || begins(name, "bootcode") || begins(name, "fixup") || begins(name, "kernel"))
            set(b->missing, sizeof(b->missing), name);
        say(b, "asked for", name);
        break;
    default:
        reach(b, STAGE_ANSWERED);
        set(b->refused, sizeof(b->refused), name);
        say(b, "could not be given", name);
    }
}

static void take_event(struct watch *w, const struct bootlog_event *e)
{
    bool of_rom = e->xid[0] && strcmp(e->xid, w->xid) == 0;
    struct board *b;

    if (e->kind == BOOTLOG_CLASS) {
        set(w->xid, sizeof(w->xid), begins(e->text, "PXEClient") ? e->xid : "");
        return;
    }
    if (e->kind == BOOTLOG_UUID || !concerns(w, e)) return;
    if (e->xid[0] && !of_rom) return; /* the kernel's own DHCP, or a machine that does not boot */
    b = find_or_add(w, e->mac, e->ip);
    if (!b) return;
    if (e->kind == BOOTLOG_ASKED) {
        begin_boot(b);
        reach(b, STAGE_ASKED);
        say(b, "asked", "DHCP");
    } else if (e->kind == BOOTLOG_ANSWERED) {
        reach(b, STAGE_ANSWERED);
        say(b, "was answered", e->ip);
    } else if (e->kind == BOOTLOG_MOUNTED) {
        reach(b, STAGE_MOUNTED);
        say(b, "mounted", e->text);
    } else {
        take_file(b, e);
    }
}

/* Connections to the NFS server, for where mountd's log is not to be had. */
static void look_at_connections(struct watch *w)
{
    FILE *file = fopen("/proc/net/tcp", "re");
    unsigned local, remote, state;
    char line[256], ip[INET_ADDRSTRLEN];

    while (file && fgets(line, sizeof(line), file)) {
        if (sscanf(line, " %*u: %*8x:%4x %8x:%*4x %2x", &local, &remote, &state) != 3) continue;
        if (local != NFS_PORT || state != 1) continue; /* 1: established */
        inet_ntop(AF_INET, &(struct in_addr){remote}, ip, sizeof(ip));
        struct board *b = find(w, "", ip);
        if (!b || b->stage >= STAGE_NFS || b->stage < STAGE_FIRST) continue;
        reach(b, STAGE_NFS);
        say(b, "reached the NFS server", "");
    }
    if (file) fclose(file);
}

static void tell_quiet(struct watch *w)
{
    for (int i = 0; i < w->count; i++)
        if (!w->board[i].told && now() - w->board[i].seen >= QUIET) tell_how_far(&w->board[i]);
}

static void follow(struct watch *w, struct bootlog *log, int seconds)
{
    struct bootlog_event event;
    time_t end = now() + seconds;

    while (!interrupted && (seconds == 0 || now() < end)) {
        if (bootlog_next(log, 500, &event) == 1) {
            take_event(w, &event);
            continue;
        }
        look_at_connections(w);
        tell_quiet(w);
    }
    for (int i = 0; i < w->count; i++)
        if (!w->board[i].told) tell_how_far(&w->board[i]);
    if (w->count == 0) printf("no board has asked to boot\n");
}

int doctor_watch(const struct doctor_options *options, const char *log_path, int seconds)
{
    struct watch *w = calloc(1, sizeof(*w));
    struct sigaction action = {.sa_handler = interrupt};
    struct bootlog *log = NULL;
    int r = w ? 0 : -ENOMEM;

    if (r == 0 && options->serial) r = catalog_node(options->store->catalog, options->serial, &w->node);
    if (r < 0) {
        log_error("node %s: %s", options->serial, r == -ENOENT ? "no such node; 'coppice node list' shows them" : log_reason(r));
        free(w);
        return r;
    }
    w->options = options;
    if (w->node.serial) bootname_tail(w->node.serial, w->tail);
    r = bootlog_open(&log, log_path, true);
    if (r < 0) {
        log_error("%s: %s", log_path ? log_path : "dnsmasq's log", r == -ENOENT && !log_path ? "not found; --log FILE names it" : log_reason(r));
    } else {
        printf("following %s; switch the board on\n", bootlog_name(log));
        fflush(stdout);
        sigaction(SIGINT, &action, NULL);
        sigaction(SIGTERM, &action, NULL);
        follow(w, log, seconds);
    }
    bootlog_close(log);
    catalog_node_free(&w->node);
    free(w);
    return r;
}
