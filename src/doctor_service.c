/* doctor_service: what serves the node: dnsmasq and the NFS server, asked as the node would ask. */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "bootname.h"
#include "dnsmasq.h"
#include "doctor.h"
#include "export.h"
#include "io.h"
#include "log.h"
#include "nfs_probe.h"
#include "owner.h"
#include "service.h"
#include "tftp_probe.h"

#define FILE_MOST (64u << 20)

static bool is_unreachable(int r)
{
    return r == -ECONNREFUSED || r == -ETIMEDOUT || r == -ENETUNREACH || r == -EHOSTUNREACH;
}

/* ---- configuration ---- */

/* Is what is installed what the catalog says? NULL: `text` could not be made. */
static void compare_installed(struct doctor *d, const char *path, const char *text, const char *command)
{
    _cleanup_free_ char *installed = NULL, *mend = io_format("%s %s --install", d->options->program, command);
    _cleanup_free_ char *other = NULL, *umount = NULL;
    bool is_other;
    int r = d->mountpoint ? owner_other(path, d->mountpoint, &is_other, &other) : 0;

    if (r == 0) r = service_read(path, &installed);
    if (other) {
        umount = io_format("coppice umount '%s' && %s", other, mend);
        doctor_say(d, DOCTOR_WRONG, umount, "%s serves the mount on %s", path, other);
        return;
    }
    if (!text) doctor_say(d, DOCTOR_UNKNOWN, mend, "what %s should say is not known", path);
    else if (r == -ENOENT || r == -ENOTDIR) doctor_say(d, DOCTOR_WRONG, mend, "%s is not there", path);
    else if (r < 0) doctor_say(d, DOCTOR_UNKNOWN, NULL, "%s: %s", path, log_reason(r));
    else if (strcmp(installed, text) != 0) doctor_say(d, DOCTOR_WRONG, mend, "%s is not what the catalog says", path);
    else doctor_say(d, DOCTOR_OK, NULL, "%s is what the catalog says", path);
}

void doctor_dnsmasq(struct doctor *d)
{
    const struct dnsmasq_options options = {.mountpoint = d->mountpoint};
    _cleanup_free_ char *text = NULL;

    if (d->mountpoint) dnsmasq_text(d->options->store->catalog, &options, &text);
    compare_installed(d, DNSMASQ_CONF, text, "dnsmasq");
}

void doctor_exports(struct doctor *d)
{
    _cleanup_free_ char *text = NULL, *mend = io_format("%s exports --network CIDR --install", d->options->program);
    int lines = 1;

    if (d->mountpoint) export_text(d->options->store->catalog, d->mountpoint, NULL, &text, &lines);
    if (lines) compare_installed(d, EXPORT_PATH, text, "exports");
    else doctor_say(d, DOCTOR_WRONG, mend, "nobody to export to: no node with an image has an ip, and no network is set");
}

/* Does any process of this network namespace listen there? From /proc/net/udp, as neither answers a stranger. */
static bool listens(unsigned port)
{
    FILE *file = fopen("/proc/net/udp", "re");
    char line[256];
    unsigned local;
    bool found = false;

    while (file && !found && fgets(line, sizeof(line), file))
        found = sscanf(line, " %*u: %*8x:%4x", &local) == 1 && local == port;
    if (file) fclose(file);
    return found;
}

void doctor_listening(struct doctor *d)
{
    static const char *const mend = "systemctl restart dnsmasq";
    bool dhcp = listens(67), tftp = listens(69);

    if (dhcp && tftp) doctor_say(d, DOCTOR_OK, NULL, "somebody on the ports of DHCP and TFTP");
    else if (!dhcp && !tftp) doctor_say(d, DOCTOR_WRONG, mend, "nobody listens on the ports of DHCP (67) and TFTP (69)");
    else if (!tftp) doctor_say(d, DOCTOR_WRONG, mend, "nobody listens on the port of TFTP (69)");
    else doctor_say(d, DOCTOR_WRONG, mend, "nobody listens on the port of DHCP (67): there is no dhcp-range");
}

/* ---- TFTP ---- */

void doctor_link(struct doctor *d)
{
    _cleanup_free_ char *name = bootname_mac(d->node->mac), *path = NULL;
    _cleanup_free_ char *mend = io_format("%s node set %s --mac MAC", d->options->program, d->node->serial);
    char tail[BOOTNAME_TAIL];
    struct stat st;

    bootname_tail(d->node->serial, tail);
    if (!name && !tail[0]) {
        doctor_say(d, DOCTOR_WRONG, mend, "its MAC is not known, and its serial is no board's: there is no link to its files");
        return;
    }
    path = io_format("%s/tftpboot/%s", d->mountpoint, name ? name : tail);
    if (!path || stat(path, &st) < 0) doctor_say(d, DOCTOR_WRONG, NULL, "%s: %s", path, log_reason(errno));
    else if (!name) doctor_say(d, DOCTOR_UNKNOWN, mend, "%s: enough for a Pi 4 or 5; a Pi 3 is known by its MAC, which is not set", path);
    else doctor_say(d, DOCTOR_OK, NULL, "%s", path);
}

static void say_tftp(struct doctor *d, const char *path, int r)
{
    _cleanup_free_ char *install = io_format("%s dnsmasq --install", d->options->program);
    _cleanup_free_ char *readable = io_format("chmod -R a+rX '%s/%s'", d->path, d->boot);

    if (is_unreachable(r))
        doctor_say(d, DOCTOR_WRONG, "systemctl restart dnsmasq", "%s:69 does not answer: %s", doctor_server(d), log_reason(r));
    else if (r == -EACCES) doctor_say(d, DOCTOR_WRONG, readable, "%s: the server may not read it", path);
    else if (r == -ENOENT) doctor_say(d, DOCTOR_WRONG, install, "%s: the server does not find it", path);
    else doctor_say(d, DOCTOR_WRONG, install, "%s: %s", path, log_reason(r));
}

void doctor_tftp(struct doctor *d)
{
    const char *first = doctor_first_file(d);
    _cleanup_free_ char *name = bootname_mac(d->node->mac), *path = NULL, *own = NULL, *data = NULL, *read = NULL;
    char tail[BOOTNAME_TAIL];
    size_t own_size, read_size;
    int r;

    bootname_tail(d->node->serial, tail);
    if (!first || (!name && !tail[0])) {
        doctor_say(d, DOCTOR_UNKNOWN, NULL, "there is no bootcode.bin or start4.elf to ask for");
        return;
    }
    own = io_format("%s/%s", d->boot, first);
    path = io_format("%s/%s", name ? name : tail, first);
    r = doctor_read(d, own, &data, &own_size);
    if (r < 0) {
        doctor_say(d, DOCTOR_WRONG, NULL, "%s/%s: %s", d->path, own, log_reason(r));
        return;
    }
    r = tftp_probe_read(doctor_server(d), path, FILE_MOST, &read, &read_size);
    if (r < 0) {
        say_tftp(d, path, r);
        return;
    }
    _cleanup_free_ char *mend = io_format("%s dnsmasq --install", d->options->program);
    if (own_size != read_size || memcmp(data, read, own_size) != 0)
        doctor_say(d, DOCTOR_WRONG, mend, "%s: the server has another file of that name", path);
    else doctor_say(d, DOCTOR_OK, NULL, "%s, %zu bytes as in the view", path, read_size);
}

/* ---- NFS ---- */

/* r: what nfs_probe_port() said. */
static bool say_port(struct doctor *d, const char *what, int r, unsigned port)
{
    if (r == 0) doctor_say(d, DOCTOR_OK, NULL, "port %u", port);
    else if (r == -ENOENT) doctor_say(d, DOCTOR_WRONG, "systemctl restart nfs-server", "rpcbind knows no %s, version 3 over TCP", what);
    else doctor_say(d, DOCTOR_UNKNOWN, NULL, "without rpcbind nobody finds it");
    return r == 0;
}

void doctor_rpcbind(struct doctor *d)
{
    uint16_t port;
    int r = nfs_probe_port(doctor_server(d), NFS_PROBE_NFSD, &port);

    if (r == 0 || r == -ENOENT) doctor_say(d, DOCTOR_OK, NULL, "%s:111 answers", doctor_server(d));
    else doctor_say(d, DOCTOR_WRONG, "systemctl start rpcbind", "%s:111 does not answer: %s", doctor_server(d), log_reason(r));
}

void doctor_mountd(struct doctor *d)
{
    uint16_t port = 0;
    int r = nfs_probe_port(doctor_server(d), NFS_PROBE_MOUNTD, &port);

    say_port(d, "mountd", r, port);
}

void doctor_nfsd(struct doctor *d)
{
    uint16_t port = 0;
    int r = nfs_probe_port(doctor_server(d), NFS_PROBE_NFSD, &port);

    say_port(d, "NFS server", r, port);
}

struct search {
    const char *path, *ip;
    bool listed;  /* the node's root, or what holds it */
    bool allowed; /* to its address */
};

/* Only the node's own address and "everybody" are told from a list; a network or a name may hold it, too. */
static int look_at_export(const char *path, const char *client, void *data)
{
    struct search *s = data;
    size_t length = strlen(path);

    if (strncmp(s->path, path, length) != 0 || (s->path[length] != '/' && s->path[length])) return 0;
    s->listed = true;
    if (strcmp(client, "*") == 0 || (s->ip && strcmp(client, s->ip) == 0) || strchr(client, '/')) s->allowed = true;
    return 0;
}

/* This machine may not mount it; may the node? */
static void say_refused(struct doctor *d)
{
    _cleanup_free_ char *mend = io_format("%s exports --install", d->options->program);
    struct search search = {.path = d->path, .ip = d->node->ip};
    int r = nfs_probe_exports(doctor_server(d), look_at_export, &search);

    if (r == 0 && search.allowed && d->node->ip)
        doctor_say(d, DOCTOR_UNKNOWN, NULL, "exported to %s alone: what it would read cannot be told from here", d->node->ip);
    else if (r == 0 && search.listed)
        doctor_say(d, DOCTOR_WRONG, mend, "exported, but not to %s", d->node->ip ? d->node->ip : "this machine, and its ip is not known");
    else doctor_say(d, DOCTOR_WRONG, mend, "%s is not exported", d->path);
}

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
        doctor_say(d, DOCTOR_WRONG, NULL, "%s is read by NFS as something else: %s", paths[i], r < 0 ? log_reason(r) : "another content");
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

void doctor_nfs_root(struct doctor *d)
{
    _cleanup_probe_ struct nfs_probe *probe = NULL;
    _cleanup_free_ char *mend = io_format("%s exports --install", d->options->program);
    struct nfs_probe_attributes root;
    int r = nfs_probe_open(&probe, doctor_server(d), d->path);

    if (r == -EACCES || r == -EPERM) {
        say_refused(d);
        return;
    }
    if (is_unreachable(r)) {
        doctor_say(d, DOCTOR_UNKNOWN, NULL, "the NFS server cannot be reached");
        return;
    }
    if (r == 0) r = nfs_probe_root(probe, &root);
    if (r < 0) doctor_say(d, DOCTOR_WRONG, mend, "%s cannot be mounted: %s", d->path, log_reason(r));
    else if (!S_ISDIR(root.mode)) doctor_say(d, DOCTOR_WRONG, mend, "%s is not a directory over NFS", d->path);
    else if (check_read(d, probe) && check_write(d, probe))
        doctor_say(d, DOCTOR_OK, NULL, "%s mounted, read and written as root over NFS 3", d->path);
}
