/* dnsmasq: its configuration: TFTP out of tftpboot/, the boot ROM's PXE answer, DHCP or not, leases of known nodes. */
#pragma once

#include "catalog.h"

#define DNSMASQ_CONF "/etc/dnsmasq.d/coppice.conf"
#define DNSMASQ_HOSTS "/etc/coppice/dhcp-hosts" /* dhcp-hostsdir: one file for each node with mac and ip, named by its serial */

enum dnsmasq_dhcp {
    DNSMASQ_AS_SET, /* as the catalog's setting `dhcp` says; without one, proxy where a network is known, else none */
    DNSMASQ_NONE,   /* another configuration file has the dhcp-range */
    DNSMASQ_PROXY,  /* another server gives the addresses */
    DNSMASQ_FULL,
};

struct dnsmasq_options {
    const char *mountpoint;
    const char *network; /* "10.55.0.0/24"; NULL: the catalog's setting */
    enum dnsmasq_dhcp dhcp;
};

/* The setting's word for it, "none", "proxy" or "full", and back; DNSMASQ_AS_SET for another word. */
const char *dnsmasq_dhcp_name(enum dnsmasq_dhcp dhcp);
enum dnsmasq_dhcp dnsmasq_dhcp_from(const char *name);

/* The text of DNSMASQ_CONF. Caller frees. -EINVAL: there is no usable network for that kind of DHCP. */
int dnsmasq_text(struct catalog *catalog, const struct dnsmasq_options *options, char **ret_text);

/* The text of a node's file in DNSMASQ_HOSTS; NULL: it needs none (*ret_text), as its mac or ip is not known. Caller frees. */
int dnsmasq_host(const struct catalog_node *node, char **ret_text);

/* Makes DNSMASQ_HOSTS agree with the catalog: 1 changed something, 0 all was so, negative errno (logged). */
int dnsmasq_install_hosts(struct catalog *catalog);

/* Writes both, asks `dnsmasq --test` before where there is one, and tells the service. 0 or negative errno, logged. */
int dnsmasq_install(struct catalog *catalog, const struct dnsmasq_options *options);
