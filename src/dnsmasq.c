#include "dnsmasq.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "io.h"
#include "log.h"
#include "network.h"
#include "owner.h"
#include "service.h"

static const char *const dhcp_names[] = {[DNSMASQ_NONE] = "none", [DNSMASQ_PROXY] = "proxy", [DNSMASQ_FULL] = "full"};

const char *dnsmasq_dhcp_name(enum dnsmasq_dhcp dhcp)
{
    return dhcp_names[dhcp];
}

enum dnsmasq_dhcp dnsmasq_dhcp_from(const char *name)
{
    for (enum dnsmasq_dhcp dhcp = DNSMASQ_NONE; name && dhcp <= DNSMASQ_FULL; dhcp++)
        if (strcmp(name, dhcp_names[dhcp]) == 0) return dhcp;
    return DNSMASQ_AS_SET;
}

/* ---- the options ---- */

/* A comma ends a value, and '#' the line, unless quoted. */
static void write_quoted(FILE *out, const char *path)
{
    static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789/._-+";
    bool quote = path[strspn(path, plain)] != '\0';

    if (quote) fputc('"', out);
    for (; *path; path++) {
        if (*path == '"' || *path == '\\') fputc('\\', out);
        fputc(*path, out);
    }
    if (quote) fputc('"', out);
}

/* Addresses for machines without a row: the upper half of the network. dnsmasq itself leaves out those that a row
 * names. */
static int write_range(FILE *out, const struct network *network, enum dnsmasq_dhcp dhcp)
{
    uint32_t size = ~network->mask + 1, first = network->address + size / 2, last = network->address + size - 2;

    if (dhcp == DNSMASQ_PROXY) {
        fprintf(out, "dhcp-range=%s,proxy,%s\n", network_text(network->address), network_text(network->mask));
        return 0;
    }
    if (network->bits < 1 || network->bits > 30) return -EINVAL;
    fprintf(out, "dhcp-range=%s,%s,%s,12h\n", network_text(first), network_text(last), network_text(network->mask));
    return 0;
}

static int write_dhcp(FILE *out, const char *network, enum dnsmasq_dhcp dhcp)
{
    struct network parsed;

    if (dhcp == DNSMASQ_AS_SET) dhcp = network ? DNSMASQ_PROXY : DNSMASQ_NONE;
    if (dhcp == DNSMASQ_NONE) return 0;
    if (!network || network_parse(network, &parsed) < 0) return -EINVAL;
    return write_range(out, &parsed, dhcp);
}

static void write_rest(FILE *out, const char *mountpoint)
{
    _cleanup_free_ char *root = io_format("%s/tftpboot", mountpoint);

    /* No failing: dnsmasq starts before the mount, and a router needs its DHCP and DNS meanwhile. */
    fputs("log-dhcp\nenable-tftp\ntftp-no-fail\ntftp-root=", out);
    write_quoted(out, root ? root : "");
    /* Below it, a machine whose MAC has a link is served from there, any other from the root itself. */
    fputs("\ntftp-unique-root=mac\n"
          /* A PC whose ROM is iPXE takes the first service of the menu that a Raspberry Pi waits for. */
          "dhcp-userclass=set:ipxe,iPXE\n"
          "pxe-prompt=tag:ipxe,\"\",0\n"
          "pxe-service=tag:ipxe,x86PC,\"PC\",pxelinux\n"
          "pxe-service=0,\"Raspberry Pi Boot\"\n"
          "dhcp-hostsdir=" DNSMASQ_HOSTS "\n", out);
}

static int write_options(FILE *out, struct catalog *catalog, const struct dnsmasq_options *o)
{
    _cleanup_free_ char *network = NULL, *dhcp = NULL, *owner = owner_line(o->mountpoint);
    int r = catalog_setting(catalog, "network", &network);

    if (r == 0) r = catalog_setting(catalog, "dhcp", &dhcp);
    if (r < 0) return r;
    fprintf(out, "# Written by coppice from its catalog; see 'coppice dnsmasq --help'.\n%s", owner ? owner : "");
    r = write_dhcp(out, o->network ? o->network : network, o->dhcp ? o->dhcp : dnsmasq_dhcp_from(dhcp));
    if (r == 0) write_rest(out, o->mountpoint);
    return r;
}

int dnsmasq_text(struct catalog *catalog, const struct dnsmasq_options *options, char **ret_text)
{
    char *text = NULL;
    size_t size;
    FILE *out = open_memstream(&text, &size);
    int r;

    if (!out) return -ENOMEM;
    r = write_options(out, catalog, options);
    if (fclose(out) != 0 && r == 0) r = -ENOMEM;
    if (r < 0) {
        free(text);
        return r;
    }
    *ret_text = text;
    return 0;
}

/* ---- known nodes ---- */

int dnsmasq_host(const struct catalog_node *node, char **ret_text)
{
    *ret_text = NULL;
    if (!node->mac || !node->ip) return 0;
    /* The first label: dnsmasq's own domain makes the rest. */
    int length = node->hostname ? (int)strcspn(node->hostname, ".") : 0;
    *ret_text = io_format("%s,%s%s%.*s\n", node->mac, node->ip, length ? "," : "", length, node->hostname ? node->hostname : "");
    return *ret_text ? 0 : -ENOMEM;
}

static int write_host(const struct catalog_node *node, void *data)
{
    _cleanup_free_ char *text = NULL, *path = io_format(DNSMASQ_HOSTS "/%s", node->serial);
    bool *changed = data;
    int r = path ? dnsmasq_host(node, &text) : -ENOMEM;

    if (r < 0 || !text) return r;
    r = service_write(path, text);
    if (r > 0) *changed = true;
    return r < 0 ? r : 0;
}

static int remove_host(struct catalog *catalog, const char *serial)
{
    struct catalog_node node = {0};
    _cleanup_free_ char *text = NULL, *path = io_format(DNSMASQ_HOSTS "/%s", serial);
    int r = path ? catalog_node(catalog, serial, &node) : -ENOMEM;

    if (r == 0) r = dnsmasq_host(&node, &text);
    catalog_node_free(&node);
    if (r < 0 && r != -ENOENT) return r;
    return text ? 0 : service_remove(path);
}

static int remove_hosts(struct catalog *catalog, bool *ret_changed)
{
    DIR *directory = opendir(DNSMASQ_HOSTS);
    int r = 0;

    if (!directory) return errno == ENOENT ? 0 : -errno;
    for (struct dirent *entry; r >= 0 && (entry = readdir(directory));) {
        if (entry->d_name[0] == '.') continue;
        r = remove_host(catalog, entry->d_name);
        if (r > 0) *ret_changed = true;
    }
    closedir(directory);
    return r < 0 ? r : 0;
}

int dnsmasq_install_hosts(struct catalog *catalog)
{
    bool changed = false;
    int r;

    /* dnsmasq does not start without the directory. */
    if (mkdir("/etc/coppice", 0755) < 0 && errno != EEXIST) return -errno;
    if (mkdir(DNSMASQ_HOSTS, 0755) < 0 && errno != EEXIST) return -errno;
    r = remove_hosts(catalog, &changed);
    if (r == 0) r = catalog_nodes(catalog, write_host, &changed);
    if (r < 0) log_error("%s: the nodes' leases could not be written: %s", DNSMASQ_HOSTS, log_reason(r));
    return r < 0 ? r : changed;
}

/* ---- installing ---- */

/* A configuration that dnsmasq refuses would end it at its next start, and with it the network's DHCP and DNS. */
static int test_text(const char *text)
{
    _cleanup_close_ int fd = memfd_create("coppice.conf", MFD_CLOEXEC);
    _cleanup_free_ char *path = io_format("/proc/%d/fd/%d", getpid(), fd), *output = NULL;
    int r = fd < 0 ? -errno : !path ? -ENOMEM : io_write(fd, text, strlen(text));

    if (r == 0) r = service_run((char *[]){"dnsmasq", "--test", "-C", path, NULL}, &output);
    if (r == 0 || r == 127) return 0; /* it may run elsewhere */
    log_error("%s: dnsmasq refuses it: %s", DNSMASQ_CONF, r < 0 ? log_reason(r) : output ? output : "");
    return r < 0 ? r : -EINVAL;
}

int dnsmasq_install(struct catalog *catalog, const struct dnsmasq_options *options)
{
    _cleanup_free_ char *text = NULL;
    int hosts, conf, r = owner_check(DNSMASQ_CONF, options->mountpoint);

    if (r < 0) return r;
    r = dnsmasq_text(catalog, options, &text);
    if (r < 0) {
        log_error("%s: %s", DNSMASQ_CONF, r == -EINVAL ? "DHCP needs a network, such as 10.55.0.0/24" : log_reason(r));
        return r;
    }
    hosts = dnsmasq_install_hosts(catalog);
    if (hosts < 0) return hosts;
    r = test_text(text);
    if (r < 0) return r;
    conf = service_write(DNSMASQ_CONF, text);
    if (conf < 0) return conf;
    if (conf > 0) return service_tell_dnsmasq(SERVICE_OPTIONS);
    return hosts > 0 ? service_tell_dnsmasq(SERVICE_HOSTS) : 0;
}
