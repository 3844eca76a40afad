/* cmd_export: what nfsd and dnsmasq are told: exports, dnsmasq. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "apply.h"
#include "cmd.h"
#include "dnsmasq.h"
#include "export.h"
#include "io.h"
#include "log.h"

/* What both commands take. */
struct target {
    const char *network, *mountpoint;
    bool install;
    struct store_daemon daemon;
};

/* Where the view is: as the user says, else where it is mounted. */
static int find_mountpoint(const struct cmd *cmd, struct store *store, struct target *target)
{
    if (target->mountpoint) {
        if (target->mountpoint[0] == '/') return CMD_DONE;
        return cmd_usage_error(cmd, "--mountpoint: '%s' is not an absolute path", target->mountpoint);
    }
    if (store_running(store, &target->daemon) == 1 && target->daemon.mountpoint[0]) {
        target->mountpoint = target->daemon.mountpoint;
        return CMD_DONE;
    }
    log_error("store %s: is not mounted; --mountpoint DIR says where it will be", store->path);
    return CMD_FAILED;
}

static int save(struct store *store, const char *name, const char *value)
{
    int r = value ? catalog_set_setting(store->catalog, name, value) : 0;
    if (r < 0) log_error("store %s: %s cannot be saved: %s", store->path, name, log_reason(r));
    return r;
}

static int open_target(const struct cmd *cmd, struct target *target, struct store **ret_store)
{
    if (target->network && cmd_check_network(cmd, target->network) != CMD_DONE) return CMD_USAGE;
    if (store_open(ret_store, cmd->store) < 0) return CMD_FAILED;
    return find_mountpoint(cmd, *ret_store, target);
}

static int install_exports(struct store *store, const struct target *target)
{
    if (save(store, "network", target->network) < 0) return CMD_FAILED;
    if (apply_exports(store->catalog, target->mountpoint, target->network, true) < 0) return CMD_FAILED;
    printf("%s written\n", EXPORT_PATH);
    return CMD_DONE;
}

int cmd_exports(struct cmd *cmd)
{
    struct target target = {0};
    const struct cmd_option options[] = {{.name = "network", .value = &target.network},
                                         {.name = "mountpoint", .value = &target.mountpoint},
                                         {.name = "install", .flag = &target.install},
                                         {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    int status = open_target(cmd, &target, &store);
    if (status != CMD_DONE) return status;
    _cleanup_free_ char *text = NULL;
    int lines, r = export_text(store->catalog, target.mountpoint, target.network, &text, &lines);
    if (r < 0) {
        log_error("store %s: %s", store->path, log_reason(r));
        return CMD_FAILED;
    }
    if (lines == 0) {
        log_error("store %s: there is nobody to export to: no node with an image has an ip, and no --network is known",
                  store->path);
        return CMD_FAILED;
    }
    if (target.install) return install_exports(store, &target);
    fputs(text, stdout);
    return CMD_DONE;
}

static int print_host(const struct catalog_node *node, void *data)
{
    (void)data;
    _cleanup_free_ char *text = NULL;
    int r = dnsmasq_host(node, &text);
    if (text) printf("# %s/%s: %s", DNSMASQ_HOSTS, node->serial, text);
    return r;
}

static int print_dnsmasq(struct store *store, const struct dnsmasq_options *options)
{
    _cleanup_free_ char *text = NULL;
    int r = dnsmasq_text(store->catalog, options, &text);
    if (r == 0) fputs(text, stdout);
    if (r == 0) r = catalog_nodes(store->catalog, print_host, NULL);
    if (r == 0) return CMD_DONE;
    log_error("dnsmasq: %s", r == -EINVAL ? "DHCP needs --network, such as 10.55.0.0/24" : log_reason(r));
    return CMD_FAILED;
}

static int install_dnsmasq(struct store *store, const struct dnsmasq_options *options)
{
    if (dnsmasq_install(store->catalog, options) < 0) return CMD_FAILED;
    if (save(store, "network", options->network) < 0) return CMD_FAILED;
    if (options->dhcp && save(store, "dhcp", dnsmasq_dhcp_name(options->dhcp)) < 0) return CMD_FAILED;
    printf("%s written\n", DNSMASQ_CONF);
    return CMD_DONE;
}

int cmd_dnsmasq(struct cmd *cmd)
{
    struct target target = {0};
    const char *dhcp = NULL;
    const struct cmd_option options[] = {{.name = "network", .value = &target.network},
                                         {.name = "dhcp", .value = &dhcp},
                                         {.name = "mountpoint", .value = &target.mountpoint},
                                         {.name = "install", .flag = &target.install},
                                         {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (dhcp && !dnsmasq_dhcp_from(dhcp))
        return cmd_usage_error(cmd, "--dhcp: '%s' is none of full, proxy and none", dhcp);

    _cleanup_store_ struct store *store = NULL;
    int status = open_target(cmd, &target, &store);
    if (status != CMD_DONE) return status;
    struct dnsmasq_options wanted = {.mountpoint = target.mountpoint, .network = target.network};
    wanted.dhcp = dhcp ? dnsmasq_dhcp_from(dhcp) : target.network ? DNSMASQ_FULL : DNSMASQ_AS_SET;
    return target.install ? install_dnsmasq(store, &wanted) : print_dnsmasq(store, &wanted);
}
