/* doctor_nfs: the NFS server, asked as the node would ask it. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "doctor.h"
#include "export.h"
#include "io.h"
#include "log.h"
#include "nfs_probe.h"
#include "service.h"

#define FILE_MOST (64u << 20)
#define ETAB "/var/lib/nfs/etab"

/* ---- the services ---- */

/* r: what nfs_probe_port() said. */
static bool say_port(struct doctor *d, const char *what, int r, unsigned port)
{
    if (r == 0) doctor_say(d, DOCTOR_OK, NULL, "port %u", port);
    else if (r == -ENOENT)
        doctor_say(d, DOCTOR_WRONG, "systemctl restart nfs-server", "rpcbind knows no %s, version 3 over TCP", what);
    else doctor_say(d, DOCTOR_UNKNOWN, NULL, "without rpcbind nobody finds it");
    return r == 0;
}

void doctor_rpcbind(struct doctor *d)
{
    uint16_t port;
    int r = nfs_probe_port(doctor_server(d), NFS_PROBE_NFSD, &port);

    if (r == 0 || r == -ENOENT) doctor_say(d, DOCTOR_OK, NULL, "%s:111 answers", doctor_server(d));
    else d->no_rpcbind = true;
    if (d->no_rpcbind)
        doctor_say(d, DOCTOR_WRONG, "systemctl start rpcbind", "%s:111 does not answer: %s", doctor_server(d),
                   log_reason(r));
}

void doctor_mountd(struct doctor *d)
{
    uint16_t port = 0;
    int r = d->no_rpcbind ? -ECONNREFUSED : nfs_probe_port(doctor_server(d), NFS_PROBE_MOUNTD, &port);

    say_port(d, "mountd", r, port);
}

void doctor_nfsd(struct doctor *d)
{
    uint16_t port = 0;
    int r = d->no_rpcbind ? -ECONNREFUSED : nfs_probe_port(doctor_server(d), NFS_PROBE_NFSD, &port);

    say_port(d, "NFS server", r, port);
}

/* ---- exported to the node alone ---- */

/* nfs-utils escapes in its table what ends a word, and no more. */
static char *etab_path(const char *path)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);

    if (!out) return NULL;
    for (const char *c = path; *c; c++)
        if (strchr(" \t\n\\", *c)) fprintf(out, "\\%03o", *c);
        else putc(*c, out);
    if (fclose(out) == 0) return text;
    free(text);
    return NULL;
}

/* The options of "PATH\tCLIENT(OPTIONS)" in what exportfs has told the kernel; NULL: there is no such line. */
static char *exported_options(const char *path, const char *client)
{
    _cleanup_free_ char *text = NULL, *escaped = etab_path(path),
                        *begin = escaped ? io_format("%s\t%s(", escaped, client) : NULL;
    char *rest;

    if (!begin || service_read(ETAB, &text) < 0) return NULL;
    rest = text;
    for (char *line; (line = strsep(&rest, "\n"));)
        if (strncmp(line, begin, strlen(begin)) == 0)
            return io_format(",%.*s,", (int)strcspn(line + strlen(begin), ")"), line + strlen(begin));
    return NULL;
}

struct search {
    const char *path, *ip;
    bool allowed; /* what holds the path is exported to the address, or to a network, which may hold it */
};

static int look_at_export(const char *path, const char *client, void *data)
{
    struct search *s = data;
    size_t length = strlen(path);

    if (strncmp(s->path, path, length) != 0 || (s->path[length] != '/' && s->path[length])) return 0;
    if (strcmp(client, "*") == 0 || strcmp(client, s->ip) == 0 || strchr(client, '/')) s->allowed = true;
    return 0;
}

/* Another server than the kernel's has no table here, but every one has a list. */
static void say_by_list(struct doctor *d)
{
    _cleanup_free_ char *mend = io_format("%s exports --install", d->options->program);
    struct search search = {.path = d->path, .ip = d->node->ip};
    int r = nfs_probe_exports(doctor_server(d), look_at_export, &search);

    if (r < 0) doctor_say(d, DOCTOR_UNKNOWN, NULL, "the server's list of exports: %s", log_reason(r));
    /* Some leave out what the one that asks may not mount. */
    else if (!search.allowed)
        doctor_say(d, DOCTOR_UNKNOWN, mend, "not in the server's list for %s, as this machine is told", d->node->ip);
    else
        doctor_say(d, DOCTOR_UNKNOWN, NULL,
                   "in the server's list for %s: what that would read cannot be told from here", d->node->ip);
}

/* What exportfs was told of the node, which this machine may not mount. True: it is right. */
static bool check_own_export(struct doctor *d)
{
    _cleanup_free_ char *mend = io_format("%s exports --install", d->options->program);
    _cleanup_free_ char *options = d->node->ip ? exported_options(d->path, d->node->ip) : NULL;

    if (d->node->ip && access(ETAB, F_OK) < 0) say_by_list(d);
    else if (!d->node->ip)
        doctor_say(d, DOCTOR_WRONG, mend, "%s is not exported to this machine, and the node's ip is not known",
                   d->path);
    else if (!options) doctor_say(d, DOCTOR_WRONG, mend, "%s is not exported to %s", d->path, d->node->ip);
    else if (!strstr(options, ",rw,")) doctor_say(d, DOCTOR_WRONG, mend, "exported to %s read-only", d->node->ip);
    else if (!strstr(options, ",no_root_squash,"))
        doctor_say(d, DOCTOR_WRONG, mend, "root is squashed for %s: no_root_squash is missing", d->node->ip);
    else return true;
    return false;
}

/* For the time of the probe this machine may mount it as the node may. */
static int open_as_guest(struct doctor *d, struct nfs_probe **ret_probe)
{
    _cleanup_free_ char *options = export_options(d->options->store->catalog, d->node);
    _cleanup_free_ char *export = io_format("%s:%s", doctor_server(d), d->path);
    int r = options && export ? service_run((char *[]){"exportfs", "-o", options, export, NULL}, NULL) : -ENOMEM;

    if (r != 0) return r < 0 ? r : -EACCES;
    return nfs_probe_open(ret_probe, doctor_server(d), d->path);
}

static void close_as_guest(struct doctor *d)
{
    _cleanup_free_ char *export = io_format("%s:%s", doctor_server(d), d->path);

    if (export) service_run((char *[]){"exportfs", "-u", export, NULL}, NULL);
}

/* ---- the root ---- */

/* READ of cmdline.txt, or of another file that every root has, against what the view has. */
static bool check_read(struct doctor *d, struct nfs_probe *probe)
{
    _cleanup_free_ char *cmdline = io_format("%s/cmdline.txt", d->boot);
    const char *const paths[] = {cmdline, "etc/hostname", "etc/passwd", "etc/os-release"};

    for (size_t i = 0; i < sizeof(paths) / sizeof(*paths) && cmdline; i++) {
        _cleanup_free_ char *own = NULL, *read = NULL;
        size_t own_size, read_size;

        if (doctor_read(d, paths[i], &own, &own_size) < 0) continue;
        int r = nfs_probe_read(probe, paths[i], FILE_MOST, &read, &read_size);
        if (r == 0 && own_size == read_size && memcmp(own, read, own_size) == 0) return true;
        if (r == -ENOTDIR || r == -EINVAL) continue; /* a link stands in the way, which the probe does not follow */
        doctor_say(d, DOCTOR_WRONG, "systemctl restart nfs-server", "%s is read by NFS as something else: %s", paths[i],
                   r < 0 ? log_reason(r) : "another content");
        return false;
    }
    return true;
}

/* Is root root? A new file in /tmp tells. */
static bool check_write(struct doctor *d, struct nfs_probe *probe)
{
    _cleanup_free_ char *mend = io_format("%s exports --install", d->options->program);
    uint32_t uid = 0;
    int r = nfs_probe_write(probe, "tmp", &uid);

    if (r == -ENOENT) r = nfs_probe_write(probe, ".", &uid);
    if (r == -EROFS) doctor_say(d, DOCTOR_WRONG, mend, "exported read-only");
    else if (r < 0) doctor_say(d, DOCTOR_WRONG, mend, "root cannot write in its /tmp: %s", log_reason(r));
    else if (uid != 0) doctor_say(d, DOCTOR_WRONG, mend, "root is squashed to uid %u: no_root_squash is missing", uid);
    return r == 0 && uid == 0;
}

/* GETATTR, LOOKUP, READ, a write and its removal. */
static void check_mounted(struct doctor *d, struct nfs_probe *probe, const char *how)
{
    _cleanup_free_ char *mend = io_format("%s exports --install", d->options->program);
    struct nfs_probe_attributes root;
    int r = nfs_probe_root(probe, &root);

    if (r < 0) doctor_say(d, DOCTOR_WRONG, mend, "%s cannot be mounted: %s", d->path, log_reason(r));
    else if (!S_ISDIR(root.mode)) doctor_say(d, DOCTOR_WRONG, mend, "%s is not a directory over NFS", d->path);
    else if (check_read(d, probe) && check_write(d, probe))
        doctor_say(d, DOCTOR_OK, NULL, "%s %smounted, read and written as root over NFS 3", d->path, how);
}

static void check_node_alone(struct doctor *d)
{
    _cleanup_free_ char *how = io_format("exported to %s; ", d->node->ip ? d->node->ip : "");
    struct nfs_probe *probe = NULL;

    if (!how || !check_own_export(d)) return;
    if (open_as_guest(d, &probe) == 0) check_mounted(d, probe, how);
    else doctor_say(d, DOCTOR_OK, NULL, "%s %sread and write are not tried from here", d->path, how);
    nfs_probe_close(probe);
    close_as_guest(d);
}

void doctor_nfs_root(struct doctor *d)
{
    _cleanup_probe_ struct nfs_probe *probe = NULL;
    _cleanup_free_ char *mend = io_format("%s exports --install", d->options->program);
    int r = d->no_rpcbind ? -ECONNREFUSED : nfs_probe_open(&probe, doctor_server(d), d->path);

    if (r == 0) check_mounted(d, probe, "");
    else if (r == -EACCES || r == -EPERM) check_node_alone(d);
    else if (doctor_is_unreachable(r)) doctor_say(d, DOCTOR_UNKNOWN, NULL, "the NFS server cannot be reached");
    else doctor_say(d, DOCTOR_WRONG, mend, "%s cannot be mounted: %s", d->path, log_reason(r));
}
