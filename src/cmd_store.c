/* cmd_store: the store as a whole: init, status. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "cmd.h"
#include "io.h"
#include "log.h"
#include "network.h"
#include "table.h"
#include "template.h"

int cmd_check_network(const struct cmd *cmd, const char *text)
{
    struct network network;
    int r = network_parse(text, &network);
    if (r == 0) return CMD_DONE;
    if (r == -EINVAL)
        return cmd_usage_error(cmd, "--network: '%s' is not an IPv4 network such as 10.55.0.0/24", text);
    return cmd_usage_error(cmd, "--network: '%s' has host bits set; the network is %s/%d", text,
                           network_text(network.address), network.bits);
}

static int save_setting(struct store *store, const char *name, const char *value)
{
    int r = value ? catalog_set_setting(store->catalog, name, value) : 0;
    if (r < 0) log_error("store %s: %s cannot be saved: %s", store->path, name, log_reason(r));
    return r;
}

int cmd_init(struct cmd *cmd)
{
    const char *server = NULL, *network = NULL;
    const struct cmd_option options[] = {
        {.name = "server", .value = &server}, {.name = "network", .value = &network}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (server && !network_is_address(server)) return cmd_usage_error(cmd, "--server: '%s' is not an IPv4 address", server);
    if (network && cmd_check_network(cmd, network) != CMD_DONE) return CMD_USAGE;

    _cleanup_store_ struct store *store = NULL;
    if (store_create(cmd->store) < 0 || store_open(&store, cmd->store) < 0) return CMD_FAILED;
    if (save_setting(store, "server", server) < 0 || save_setting(store, "network", network) < 0) return CMD_FAILED;
    printf("store made in %s; next: %s image import NAME SOURCE\n", store->path, cmd->program);
    return CMD_DONE;
}

struct totals {
    struct store *store;
    int64_t images, nodes;
    int64_t changed, changed_bytes; /* nodes that have changes */
    int64_t kept, kept_bytes;       /* changes of nodes that have been removed */
};

static int count_image(const struct catalog_image *image, void *data)
{
    (void)image;
    ((struct totals *)data)->images++;
    return 0;
}

static int count_node(const struct catalog_node *node, void *data)
{
    (void)node;
    ((struct totals *)data)->nodes++;
    return 0;
}

static int count_changes(const char *serial, int64_t bytes, void *data)
{
    struct totals *totals = data;
    struct catalog_node node = {0};
    int r = catalog_node(totals->store->catalog, serial, &node);
    if (r < 0 && r != -ENOENT) return r;
    if (r == -ENOENT) {
        totals->kept++;
        totals->kept_bytes += bytes;
        return 0;
    }
    totals->changed++;
    totals->changed_bytes += bytes;
    catalog_node_free(&node);
    return 0;
}

static int count_all(struct totals *totals)
{
    int r = catalog_images(totals->store->catalog, count_image, totals);
    if (r >= 0) r = catalog_nodes(totals->store->catalog, count_node, totals);
    if (r >= 0) r = cmd_changes(totals->store, count_changes, totals);
    return r;
}

static const struct table_column status_columns[] = {
    {.key = "store", .title = "store"},
    {.key = "disk_used", .title = "disk used", .type = TABLE_BYTES},
    {.key = "disk_free", .title = "disk free", .type = TABLE_BYTES},
    {.key = "mounted", .title = "mounted", .type = TABLE_FLAG},
    {.key = "mountpoint", .title = "mounted on", .optional = true},
    {.key = "options", .title = "options", .optional = true},
    {.key = "pid", .title = "process", .type = TABLE_NUMBER, .optional = true},
    {.key = "since", .title = "since", .type = TABLE_TIME, .optional = true},
    {.key = "images", .title = "images", .type = TABLE_NUMBER},
    {.key = "default_image", .title = "default image"},
    {.key = "nodes", .title = "nodes", .type = TABLE_NUMBER},
    {.key = "nodes_changed", .title = "nodes with changes", .type = TABLE_NUMBER},
    {.key = "changes", .title = "changes", .type = TABLE_BYTES},
    {.key = "removed_nodes", .title = "removed nodes", .type = TABLE_NUMBER, .optional = true},
    {.key = "removed_changes", .title = "their changes", .type = TABLE_BYTES, .optional = true},
    {.key = "unwritten", .title = "files not written", .type = TABLE_NUMBER, .optional = true},
    {.key = "unwritten_why", .title = "why", .optional = true},
    {0},
};

static int add_disk(struct table *table, const struct store *store)
{
    struct statvfs disk;
    if (fstatvfs(store->fd, &disk) < 0) return -errno;
    table_text(table, store->path);
    table_number(table, (int64_t)((disk.f_blocks - disk.f_bfree) * disk.f_frsize));
    table_number(table, (int64_t)(disk.f_bavail * disk.f_frsize));
    return 0;
}

/* The daemon writes its file once, when it has mounted. */
static void add_since(struct table *table, const struct store *store)
{
    struct stat status;
    if (fstatat(store->fd, "daemon", &status, AT_SYMLINK_NOFOLLOW) < 0) {
        table_null(table);
        return;
    }
    table_number(table, status.st_mtime);
}

static int add_mount(struct table *table, struct store *store)
{
    struct store_daemon daemon;
    int r = store_running(store, &daemon);
    if (r < 0) return r;
    /* Claimed but not announced: a daemon about to mount, or a purge. */
    bool mounted = r == 1 && daemon.pid != 0;
    table_number(table, mounted);
    if (!mounted) {
        for (int i = 0; i < 4; i++) table_null(table);
        return 0;
    }
    table_text(table, daemon.mountpoint);
    table_text(table, daemon.options);
    table_number(table, daemon.pid);
    add_since(table, store);
    return 0;
}

static int find_default(const struct catalog_image *image, void *data)
{
    if (image->is_default) table_text(data, image->name);
    return image->is_default;
}

static int add_contents(struct table *table, struct store *store)
{
    struct totals totals = {.store = store};
    int r = count_all(&totals);
    if (r < 0) return r;
    table_number(table, totals.images);
    r = catalog_images(store->catalog, find_default, table);
    if (r < 0) return r;
    if (r == 0) table_null(table);
    table_number(table, totals.nodes);
    table_number(table, totals.changed);
    table_number(table, totals.changed_bytes);
    table_number(table, totals.kept);
    table_number(table, totals.kept_bytes);
    return 0;
}

struct unwritten {
    int64_t count;
    char *why;
};

static int add_failure(const struct template_failure *failure, void *data)
{
    struct unwritten *unwritten = data;
    char *why = io_format("%s%s%s", unwritten->why ? unwritten->why : "", unwritten->why ? "; " : "", failure->error);
    if (!why) return -ENOMEM;
    free(unwritten->why);
    unwritten->why = why;
    unwritten->count++;
    return 0;
}

/* Nodes' own files, for want of a value. */
static int add_unwritten(struct table *table, struct store *store)
{
    struct unwritten unwritten = {0};
    int r = template_failures(store, NULL, add_failure, &unwritten);
    table_number(table, unwritten.count);
    table_text(table, unwritten.why);
    free(unwritten.why);
    return r;
}

int cmd_status(struct cmd *cmd)
{
    bool json = false;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    _cleanup_table_ struct table *table = table_new(status_columns);
    int r = add_disk(table, store);
    if (r == 0) r = add_mount(table, store);
    if (r == 0) r = add_contents(table, store);
    if (r == 0) r = add_unwritten(table, store);
    if (r == 0) return cmd_printed(table_show(table, json));
    log_error("store %s: %s", store->path, log_reason(r));
    return CMD_FAILED;
}
