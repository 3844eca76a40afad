/* doctor_service: what serves the node: what nfsd and dnsmasq are told, and dnsmasq, asked as the node would ask. */
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
#include "owner.h"
#include "service.h"
#include "tftp_probe.h"

#define FILE_MOST (64u << 20)

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
    _cleanup_free_ char *reset = io_format("%s reset %s", d->options->program, d->node->serial);
    char tail[BOOTNAME_TAIL];
    struct stat st;

    bootname_tail(d->node->serial, tail);
    if (!name && !tail[0]) {
        doctor_say(d, DOCTOR_WRONG, mend, "its MAC is not known, and its serial is no board's: there is no link to its files");
        return;
    }
    path = io_format("%s/tftpboot/%s", d->mountpoint, name ? name : tail);
    if (!path || stat(path, &st) < 0) doctor_say(d, DOCTOR_WRONG, reset, "%s: %s", path, log_reason(errno));
    else if (!name) doctor_say(d, DOCTOR_UNKNOWN, mend, "%s: enough for a Pi 4 or 5; a Pi 3 is known by its MAC, which is not set", path);
    else doctor_say(d, DOCTOR_OK, NULL, "%s", path);
}

static void say_tftp(struct doctor *d, const char *path, int r)
{
    _cleanup_free_ char *install = io_format("%s dnsmasq --install", d->options->program);
    _cleanup_free_ char *readable = io_format("chmod -R a+rX '%s/%s'", d->path, d->boot);

    if (doctor_is_unreachable(r))
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
        _cleanup_free_ char *fsck = io_format("%s fsck", d->options->program);
        doctor_say(d, DOCTOR_WRONG, fsck, "%s/%s: %s", d->path, own, log_reason(r));
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
