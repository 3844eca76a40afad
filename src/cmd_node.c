/* cmd_node: node add, list, show, set, remove. */
#include <ctype.h>
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "bootname.h"
#include "cmd.h"
#include "io.h"
#include "log.h"
#include "pending.h"
#include "table.h"

/* nodes/.purge-<serial>-<pid>: changes being deleted. */
#define PURGE_PREFIX ".purge-"

/* The values given on the command line; NULL: not given, "": to be cleared. */
struct wishes {
    const char *mac, *ip, *hostname, *image;
};

#define WISH_OPTIONS(wishes)                                                                                     \
    {                                                                                                            \
        {.name = "mac", .value = &(wishes).mac}, {.name = "ip", .value = &(wishes).ip},                          \
            {.name = "hostname", .value = &(wishes).hostname}, {.name = "image", .value = &(wishes).image}, {0}, \
    }

/* Is it a name that can be looked for below nodes/? */
static bool is_serial(const char *text)
{
    return *text && *text != '.' && *text != '-' && !strchr(text, '/');
}

static int no_such_node(const struct store *store, const char *serial)
{
    if (is_serial(serial) && cmd_node_bytes(store, serial) > 0) {
        log_error("node %s: no such node, but changes it made are kept in %s/nodes/%s; add it again to reach them",
                  serial, store->path, serial);
    } else {
        log_error("node %s: no such node in %s; 'coppice node list' shows them", serial, store->path);
    }
    return CMD_FAILED;
}

static int report_node(const struct store *store, const char *serial, int r)
{
    if (r == -ENOENT) return no_such_node(store, serial);
    log_error("node %s: %s", serial, log_reason(r));
    return CMD_FAILED;
}

/* B8-27-EB-42-32-C8 as the catalog wants it; "" for what is no MAC. */
static void normalise_mac(const char *text, char ret_mac[18])
{
    for (size_t i = 0; i < 17; i++) {
        bool separator = i % 3 == 2;
        unsigned char c = (unsigned char)text[i];
        if (separator ? c != ':' && c != '-' : !isxdigit(c)) {
            ret_mac[0] = '\0';
            return;
        }
        ret_mac[i] = separator ? ':' : (char)tolower(c);
    }
    ret_mac[text[17] ? 0 : 17] = '\0';
}

/* A value for a column: '' is NULL. The row that is handed to the catalog only borrows it. */
static char *column(const char *wish)
{
    return *wish ? (char *)wish : NULL;
}

static void apply_wishes(struct catalog_node *node, const struct wishes *wishes, char mac[18])
{
    if (wishes->mac) {
        normalise_mac(wishes->mac, mac);
        /* What is no MAC is for the catalog to refuse, in its own words. */
        node->mac = column(*mac ? mac : wishes->mac);
    }
    if (wishes->ip) node->ip = column(wishes->ip);
    if (wishes->hostname) node->hostname = column(wishes->hostname);
    if (wishes->image) node->image = column(wishes->image);
}

static bool is_same(const char *a, const char *b)
{
    return a && b && strcmp(a, b) == 0;
}

/* Whose value it is that a row may not have a second time. */
static int find_owner(const struct catalog_node *node, void *data)
{
    const struct catalog_node *wanted = data;
    bool same_mac = is_same(node->mac, wanted->mac), same_ip = is_same(node->ip, wanted->ip);
    if (strcmp(node->serial, wanted->serial) == 0 || !(same_mac || same_ip)) return 0;
    log_error("node %s: %s %s is node %s's", wanted->serial, same_mac ? "MAC" : "IP address",
              same_mac ? node->mac : node->ip, node->serial);
    return 1;
}

/* The catalog speaks to users of the sqlite3 shell: without its column's table, and without the query it proposes. */
static char *refusal_text(struct catalog *catalog)
{
    const char *message = catalog_message(catalog);
    if (strncmp(message, "node.", 5) == 0) message += 5;
    const char *hint = strstr(message, "; see SELECT");
    return io_format("%.*s", (int)(hint ? (size_t)(hint - message) : strlen(message)), message);
}

static int report_refusal(struct store *store, struct catalog_node *node, int r)
{
    if (r == -EEXIST && catalog_nodes(store->catalog, find_owner, node) == 1) return CMD_FAILED;
    if (r != -EEXIST && r != -EINVAL) return report_node(store, node->serial, r);
    _cleanup_free_ char *text = refusal_text(store->catalog);
    log_error("node %s: %s", node->serial, text && *text ? text : log_reason(r));
    return CMD_FAILED;
}

/* Asked first: the name that was given says more than the constraint can. */
static int check_image(const struct store *store, const struct catalog_node *node)
{
    struct catalog_image image = {0};
    int r = node->image ? catalog_image(store->catalog, node->image, &image) : 0;
    catalog_image_free(&image);
    if (r == 0) return 0;
    log_error("node %s: image %s: %s", node->serial, node->image, r == -ENOENT ? "no such image" : log_reason(r));
    return r;
}

/* Where a new node's root is to be found, or what stands in the way. */
static void print_root(const struct cmd *cmd, struct store *store, const struct catalog_node *node)
{
    struct store_daemon daemon;
    if (!node->base) {
        printf("it has no image yet: %s image import NAME SOURCE\n", cmd->program);
    } else if (store_running(store, &daemon) == 1 && daemon.mountpoint[0]) {
        printf("its root is %s/system/%s/rootfs\n", daemon.mountpoint, node->serial);
    } else {
        printf("to reach its root: %s mount MOUNTPOINT\n", cmd->program);
    }
}

static int print_added(const struct cmd *cmd, struct store *store, const char *serial)
{
    struct catalog_node node = {0};
    int r = catalog_node(store->catalog, serial, &node);
    if (r < 0) return report_node(store, serial, r);
    int64_t bytes = cmd_node_bytes(store, serial);
    char size[TABLE_BYTES_MAX];
    printf("node %s added", serial);
    if (bytes) printf(" with its earlier changes (%s)", table_bytes(bytes, size));
    fputs("; ", stdout);
    print_root(cmd, store, &node);
    catalog_node_free(&node);
    return CMD_DONE;
}

static int add_node(struct cmd *cmd, struct store *store, struct catalog_node *node)
{
    struct catalog_node found = {0};
    if (catalog_node(store->catalog, node->serial, &found) == 0) {
        catalog_node_free(&found);
        log_error("node %s: exists already; 'coppice node set' changes it", node->serial);
        return CMD_FAILED;
    }
    if (check_image(store, node) < 0) return CMD_FAILED;
    int r = catalog_add_node(store->catalog, node);
    if (r < 0) return report_refusal(store, node, r);
    return print_added(cmd, store, node->serial);
}

static int read_pending(struct store *store, const char *log, struct pending *pending)
{
    int r = pending_read(pending, store->catalog, log);
    if (r >= 0) return CMD_DONE;
    if (r == -ENOENT && !log)
        log_error("dnsmasq's log: not found, neither a log-facility nor the journal; --log FILE names it");
    else
        log_error("%s: cannot be read: %s", log ? log : "dnsmasq's log", log_reason(r));
    return CMD_FAILED;
}

/* Who asked to boot with that MAC: its serial as far as it told, else a name made of its MAC. */
static int add_pending(struct cmd *cmd, struct store *store, struct catalog_node *node, const char *log)
{
    _cleanup_pending_ struct pending pending = {0};
    if (read_pending(store, log, &pending) != CMD_DONE) return CMD_FAILED;
    const struct pending_machine *machine = node->mac ? pending_find(&pending, node->mac) : NULL;
    if (!machine) {
        log_error("%s: no machine of that MAC has asked to boot and has no row; see 'coppice node pending'", node->mac);
        return CMD_FAILED;
    }
    _cleanup_free_ char *name = machine->serial[0] ? io_format("%s", machine->serial) : bootname_mac(machine->mac);
    if (!node->serial) node->serial = name;
    return add_node(cmd, store, node);
}

static int check_new(struct store *store, const char *serial)
{
    struct catalog_node found = {0};
    int r = catalog_node(store->catalog, serial, &found);
    catalog_node_free(&found);
    if (r == 0) log_error("node %s: exists already", serial);
    return r == 0 ? -EEXIST : 0;
}

static int add_file(struct cmd *cmd, struct store *store, const struct catalog_node *node, const char *file)
{
    if (check_new(store, node->serial) < 0) return CMD_FAILED;
    int status = cmd_parcel_add(store, node, file, node->image);
    return status == CMD_DONE ? print_added(cmd, store, node->serial) : status;
}

/* SERIAL or SERIAL@SNAPSHOT. */
static int add_clone(struct cmd *cmd, struct store *store, const struct catalog_node *node, const char *from)
{
    const char *at = strchr(from, '@');
    _cleanup_free_ char *serial = io_format("%.*s", (int)strcspn(from, "@"), from);
    if (check_new(store, node->serial) < 0) return CMD_FAILED;
    if (!serial || (at && !at[1])) return cmd_usage_error(cmd, "--from: wants SERIAL or SERIAL@SNAPSHOT");
    if (cmd_operate(store, NULL, "clone", serial, at ? at + 1 : "", node->serial, node->mac ? node->mac : "",
                    node->ip ? node->ip : "", node->hostname ? node->hostname : "", NULL) < 0)
        return CMD_FAILED;
    return print_added(cmd, store, node->serial);
}

int cmd_node_add(struct cmd *cmd)
{
    struct wishes wishes = {0};
    const char *pending = NULL, *log = NULL, *from = NULL, *file = NULL;
    const struct cmd_option options[] = {{.name = "mac", .value = &wishes.mac},
                                         {.name = "ip", .value = &wishes.ip},
                                         {.name = "hostname", .value = &wishes.hostname},
                                         {.name = "image", .value = &wishes.image},
                                         {.name = "pending", .value = &pending},
                                         {.name = "log", .value = &log},
                                         {.name = "from", .value = &from},
                                         {.name = "from-file", .value = &file},
                                         {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (from && (pending || wishes.image)) return cmd_usage_error(cmd, "--from: goes with neither --image nor --pending");
    if (file && (pending || from)) return cmd_usage_error(cmd, "--from-file: goes with neither --from nor --pending");
    if (!pending && !cmd->operands[0]) return cmd_usage_error(cmd, "SERIAL is missing");
    if (pending && wishes.mac) return cmd_usage_error(cmd, "--mac: --pending says it already");

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    char mac[18];
    struct catalog_node node = {.serial = cmd->operands[0]};
    if (pending) wishes.mac = pending;
    apply_wishes(&node, &wishes, mac);
    if (from) return add_clone(cmd, store, &node, from);
    if (file) return add_file(cmd, store, &node, file);
    return pending ? add_pending(cmd, store, &node, log) : add_node(cmd, store, &node);
}

static const struct table_column pending_columns[] = {
    {.key = "mac", .title = "MAC"},   {.key = "serial", .title = "SERIAL"}, {.key = "ip", .title = "IP"},
    {.key = "asked", .title = "ASKED"}, {.key = "file", .title = "LAST FILE"}, {0},
};

static const char *told(const char *text)
{
    return *text ? text : NULL;
}

int cmd_node_pending(struct cmd *cmd)
{
    bool json = false;
    const char *log = NULL;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {.name = "log", .value = &log}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    _cleanup_pending_ struct pending pending = {0};
    if (read_pending(store, log, &pending) != CMD_DONE) return CMD_FAILED;
    _cleanup_table_ struct table *table = table_new(pending_columns);
    for (size_t i = 0; i < pending.count; i++) {
        const struct pending_machine *machine = &pending.machine[i];
        table_text(table, machine->mac);
        table_text(table, told(machine->serial));
        table_text(table, told(machine->ip));
        table_text(table, told(machine->when));
        table_text(table, told(machine->file));
    }
    return cmd_printed(table_list(table, json, "no machine without a row has asked to boot"));
}

static const struct table_column list_columns[] = {
    {.key = "serial", .title = "SERIAL"},
    {.key = "mac", .title = "MAC"},
    {.key = "ip", .title = "IP"},
    {.key = "hostname", .title = "HOSTNAME"},
    {.key = "image"},
    {.key = "base", .title = "IMAGE"},
    {.key = "changes", .title = "CHANGES", .type = TABLE_BYTES},
    {0},
};

struct list {
    const struct store *store;
    struct table *table;
};

static void add_names(struct table *table, const struct catalog_node *node)
{
    table_text(table, node->serial);
    table_text(table, node->mac);
    table_text(table, node->ip);
    table_text(table, node->hostname);
    table_text(table, node->image);
    table_text(table, node->base);
}

static int list_node(const struct catalog_node *node, void *data)
{
    struct list *list = data;
    add_names(list->table, node);
    table_number(list->table, cmd_node_bytes(list->store, node->serial));
    return 0;
}

int cmd_node_list(struct cmd *cmd)
{
    bool json = false;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    _cleanup_table_ struct table *table = table_new(list_columns);
    int r = catalog_nodes(store->catalog, list_node, &(struct list){store, table});
    if (r >= 0) return cmd_printed(table_list(table, json, "no nodes yet: coppice node add SERIAL"));
    log_error("nodes of %s: %s", store->path, log_reason(r));
    return CMD_FAILED;
}

static const struct table_column show_columns[] = {
    {.key = "serial", .title = "serial"},
    {.key = "mac", .title = "mac"},
    {.key = "ip", .title = "ip"},
    {.key = "hostname", .title = "hostname"},
    {.key = "image"},
    {.key = "base", .title = "image"},
    {.key = "added", .title = "added", .type = TABLE_TIME},
    {.key = "changes", .title = "changes", .type = TABLE_BYTES},
    {.key = "path", .title = "kept in"},
    {.key = "root", .title = "root"},
    {0},
};

static int show_node(struct store *store, const struct catalog_node *node, bool json)
{
    struct store_daemon daemon;
    bool mounted = store_running(store, &daemon) == 1 && daemon.mountpoint[0];
    _cleanup_table_ struct table *table = table_new(show_columns);
    _cleanup_free_ char *path = io_format("%s/nodes/%s", store->path, node->serial);
    _cleanup_free_ char *root = mounted ? io_format("%s/system/%s/rootfs", daemon.mountpoint, node->serial) : NULL;
    add_names(table, node);
    table_number(table, node->added);
    table_number(table, cmd_node_bytes(store, node->serial));
    table_text(table, path);
    table_text(table, root);
    return cmd_printed(table_show(table, json));
}

int cmd_node_show(struct cmd *cmd)
{
    bool json = false;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    struct catalog_node node = {0};
    int r = catalog_node(store->catalog, cmd->operands[0], &node);
    if (r < 0) return report_node(store, cmd->operands[0], r);
    int status = show_node(store, &node, json);
    catalog_node_free(&node);
    return status;
}

int cmd_node_set(struct cmd *cmd)
{
    struct wishes wishes = {0};
    const struct cmd_option options[] = WISH_OPTIONS(wishes);
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (!wishes.mac && !wishes.ip && !wishes.hostname && !wishes.image)
        return cmd_usage_error(cmd, "one of --mac, --ip, --hostname, --image is missing");

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    struct catalog_node node = {0};
    int r = catalog_node(store->catalog, cmd->operands[0], &node);
    if (r < 0) return report_node(store, cmd->operands[0], r);
    char mac[18];
    struct catalog_node wanted = node;
    apply_wishes(&wanted, &wishes, mac);
    int status = CMD_FAILED;
    if (!wishes.image || check_image(store, &wanted) == 0) {
        r = catalog_set_node(store->catalog, &wanted);
        status = r < 0 ? report_refusal(store, &wanted, r) : CMD_DONE;
    }
    if (status == CMD_DONE) printf("node %s changed\n", node.serial);
    catalog_node_free(&node);
    return status;
}

/* The store as long as the caller keeps *ret_claim: no daemon comes up and opens what is being deleted. */
static int claim_for_purge(struct store *store, const char *serial, int *ret_claim)
{
    struct store_daemon daemon;
    int r = store_running(store, &daemon);
    if (r == 1) {
        log_error("node %s: cannot be purged while the store is mounted on %s (process %d)", serial,
                  daemon.mountpoint[0] ? daemon.mountpoint : "?", (int)daemon.pid);
        return -EBUSY;
    }
    if (r == 0) return store_claim(store, ret_claim);
    log_error("store %s: %s", store->path, log_reason(r));
    return r;
}

/* This purge's tree, and what one that was killed has left. The caller holds the claim, so no other is under way. */
static int remove_doomed(int nodes)
{
    int fd = io_open_beneath(nodes, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    if (!directory) return fd < 0 ? fd : -ENOMEM;
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(directory));) {
        if (strncmp(entry->d_name, PURGE_PREFIX, strlen(PURGE_PREFIX)) == 0)
            r = io_remove_tree(nodes, entry->d_name);
    }
    closedir(directory);
    return r;
}

/* Renamed first, so that the view finds the changes whole or not at all. */
static int purge_changes(const struct store *store, const char *serial)
{
    _cleanup_close_ int nodes = io_open_beneath(store->fd, "nodes", O_RDONLY | O_DIRECTORY, 0);
    if (nodes < 0) return nodes;
    _cleanup_free_ char *doomed = io_format(PURGE_PREFIX "%s-%d", serial, (int)getpid());
    if (!doomed) return -ENOMEM;
    /* The number goes first: whatever is killed after this, the serial comes back with another, and no old handle
     * means a new file. */
    int r = catalog_forget_node(store->catalog, serial);
    if (r < 0) return r;
    if (renameat(nodes, serial, nodes, doomed) < 0 && errno != ENOENT) return -errno;
    return remove_doomed(nodes);
}

static int remove_and_purge(struct store *store, const char *serial)
{
    _cleanup_close_ int claim = -1;
    if (claim_for_purge(store, serial, &claim) < 0) return CMD_FAILED;
    int64_t bytes = cmd_node_bytes(store, serial);
    int r = catalog_remove_node(store->catalog, serial);
    if (r < 0) return report_node(store, serial, r);
    r = purge_changes(store, serial);
    if (r < 0) {
        log_error("node %s: removed, but its changes could not be deleted: %s", serial, log_reason(r));
        return CMD_FAILED;
    }
    char size[TABLE_BYTES_MAX];
    printf("node %s removed", serial);
    if (bytes) printf(", its changes (%s) deleted", table_bytes(bytes, size));
    putchar('\n');
    return CMD_DONE;
}

static int remove_row(struct store *store, const char *serial)
{
    int r = catalog_remove_node(store->catalog, serial);
    if (r < 0) return report_node(store, serial, r);
    int64_t bytes = cmd_node_bytes(store, serial);
    char size[TABLE_BYTES_MAX];
    printf("node %s removed", serial);
    if (bytes) {
        printf("; its changes (%s) stay in %s/nodes/%s: add it again to find them", table_bytes(bytes, size),
               store->path, serial);
    }
    putchar('\n');
    return CMD_DONE;
}

int cmd_node_remove(struct cmd *cmd)
{
    bool purge = false;
    const struct cmd_option options[] = {{.name = "purge", .flag = &purge}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    const char *serial = cmd->operands[0];

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    struct catalog_node node = {0};
    int r = catalog_node(store->catalog, serial, &node);
    catalog_node_free(&node);
    if (r < 0) return report_node(store, serial, r);
    return purge ? remove_and_purge(store, serial) : remove_row(store, serial);
}
