/* cmd_snapshot: snapshot create, list, delete, prune; reset. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "catalog_snapshot.h"
#include "cmd.h"
#include "io.h"
#include "log.h"
#include "table.h"

#define DAY (24 * 60 * 60)

static int check_node(struct store *store, const char *serial)
{
    struct catalog_node node = {0};
    int r = catalog_node(store->catalog, serial, &node);

    catalog_node_free(&node);
    if (r == -ENOENT) log_error("node %s: no such node in %s; 'coppice node list' shows them", serial, store->path);
    else if (r < 0) log_error("node %s: %s", serial, log_reason(r));
    return r;
}

/* The catalog speaks to users of the sqlite3 shell: without its table. */
static int refused(struct store *store, const char *serial, const char *name, int r)
{
    const char *message = catalog_message(store->catalog);

    if (r == -ENOENT) message = "no such snapshot; 'coppice snapshot list' shows them";
    else if (r == -EEXIST) message = "exists already";
    else if (r != -EINVAL) message = log_reason(r);
    else if (strncmp(message, "snapshot: ", 10) == 0) message += 10;
    log_error("node %s: snapshot %s: %s", serial, name, message);
    return CMD_FAILED;
}

int cmd_snapshot_create(struct cmd *cmd)
{
    const char *note = NULL;
    const struct cmd_option options[] = {{.name = "note", .value = &note}, {0}};
    _cleanup_store_ struct store *store = NULL;

    if (!cmd_parse(cmd, options)) return cmd->status;
    const char *serial = cmd->operands[0], *name = cmd->operands[1];
    if (store_open(&store, cmd->store) < 0 || check_node(store, serial) < 0) return CMD_FAILED;
    if (cmd_operate(store, NULL, "snapshot", serial, name, note ? note : "", NULL) < 0) return CMD_FAILED;
    printf("snapshot %s of node %s made\n", name, serial);
    return CMD_DONE;
}

static const struct table_column columns[] = {
    {.key = "node", .title = "NODE"},
    {.key = "name", .title = "NAME"},
    {.key = "made", .title = "MADE", .type = TABLE_TIME},
    {.key = "image", .title = "IMAGE"},
    {.key = "automatic", .title = "AUTOMATIC", .type = TABLE_FLAG},
    {.key = "note", .title = "NOTE"},
    {0},
};

static int add_row(const struct catalog_snapshot *row, void *data)
{
    struct table *table = data;

    table_text(table, row->node);
    table_text(table, row->name);
    if (row->made) table_number(table, row->made);
    else table_null(table);
    table_text(table, row->image);
    table_number(table, row->automatic);
    table_text(table, row->note);
    return 0;
}

int cmd_snapshot_list(struct cmd *cmd)
{
    bool json = false;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {0}};
    _cleanup_store_ struct store *store = NULL;
    _cleanup_table_ struct table *table = table_new(columns);
    int r;

    if (!cmd_parse(cmd, options)) return cmd->status;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    if (cmd->operands[0] && check_node(store, cmd->operands[0]) < 0) return CMD_FAILED;
    r = catalog_snapshots(store->catalog, cmd->operands[0], add_row, table);
    if (r >= 0) return cmd_printed(table_list(table, json, "no snapshots yet: coppice snapshot create SERIAL NAME"));
    log_error("snapshots of %s: %s", store->path, log_reason(r));
    return CMD_FAILED;
}

int cmd_snapshot_delete(struct cmd *cmd)
{
    const struct cmd_option options[] = {{0}};
    _cleanup_store_ struct store *store = NULL;
    int r;

    if (!cmd_parse(cmd, options)) return cmd->status;
    const char *serial = cmd->operands[0], *name = cmd->operands[1];
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    r = catalog_remove_snapshot(store->catalog, serial, name);
    if (r < 0) return refused(store, serial, name, r);
    if (cmd_operate(store, NULL, "follow", NULL) < 0) return CMD_FAILED;
    printf("snapshot %s of node %s deleted\n", name, serial);
    return CMD_DONE;
}

/* ---- prune ---- */

struct pruning {
    struct store *store;
    const char *serial;
    char (*names)[256]; /* oldest first */
    int64_t *made;
    size_t count;
};

static int collect(const struct catalog_snapshot *row, void *data)
{
    struct pruning *p = data;

    if (!row->made) return 0;
    char(*names)[256] = reallocarray(p->names, p->count + 1, sizeof(*names));
    if (!names) return -ENOMEM;
    p->names = names;
    int64_t *made = reallocarray(p->made, p->count + 1, sizeof(*made));
    if (!made) return -ENOMEM;
    p->made = made;
    snprintf(names[p->count], sizeof(*names), "%s", row->name);
    made[p->count++] = row->made;
    return 0;
}

/* Either rule keeps a snapshot. */
static int remove_old(struct pruning *p, long keep, long days)
{
    int64_t since = days >= 0 ? time(NULL) - days * DAY : INT64_MAX;
    size_t newest = keep > 0 ? keep : 0;
    int removed = 0;

    for (size_t i = 0; i < p->count; i++) {
        if (i + newest >= p->count || p->made[i] >= since) continue;
        int r = catalog_remove_snapshot(p->store->catalog, p->serial, p->names[i]);
        if (r < 0 && r != -ENOENT) {
            refused(p->store, p->serial, p->names[i], r);
            return r;
        }
        printf("snapshot %s of node %s deleted\n", p->names[i], p->serial);
        removed++;
    }
    return removed;
}

static bool read_count(const char *text, long *ret_count)
{
    char *end;

    *ret_count = -1;
    if (!text) return true;
    errno = 0;
    *ret_count = strtol(text, &end, 10);
    return *text && !*end && errno == 0 && *ret_count >= 0 && *ret_count <= 1000000;
}

int cmd_snapshot_prune(struct cmd *cmd)
{
    const char *keep_text = NULL, *days_text = NULL;
    const struct cmd_option options[] = {
        {.name = "keep", .value = &keep_text}, {.name = "keep-days", .value = &days_text}, {0}};
    _cleanup_store_ struct store *store = NULL;
    long keep, days;
    int r;

    if (!cmd_parse(cmd, options)) return cmd->status;
    if (!keep_text && !days_text) return cmd_usage_error(cmd, "--keep or --keep-days is missing");
    if (!read_count(keep_text, &keep)) return cmd_usage_error(cmd, "--keep: '%s' is no number", keep_text);
    if (!read_count(days_text, &days)) return cmd_usage_error(cmd, "--keep-days: '%s' is no number", days_text);
    if (store_open(&store, cmd->store) < 0 || check_node(store, cmd->operands[0]) < 0) return CMD_FAILED;
    struct pruning p = {.store = store, .serial = cmd->operands[0]};
    r = catalog_snapshots(store->catalog, p.serial, collect, &p);
    if (r == 0) r = remove_old(&p, keep, days);
    else log_error("node %s: its snapshots cannot be read: %s", p.serial, log_reason(r));
    if (r > 0) r = cmd_operate(store, NULL, "follow", NULL);
    else if (r == 0) printf("node %s: nothing to delete\n", p.serial);
    free(p.names);
    free(p.made);
    return r < 0 ? CMD_FAILED : CMD_DONE;
}

/* ---- reset ---- */

int cmd_reset(struct cmd *cmd)
{
    const char *to = NULL;
    bool force = false, discard = false;
    const struct cmd_option options[] = {
        {.name = "to", .value = &to}, {.name = "force", .flag = &force}, {.name = "discard", .flag = &discard}, {0}};
    _cleanup_store_ struct store *store = NULL;

    if (!cmd_parse(cmd, options)) return cmd->status;
    if (to && !*to) return cmd_usage_error(cmd, "--to: needs the name of a snapshot");
    if (store_open(&store, cmd->store) < 0 || check_node(store, cmd->operands[0]) < 0) return CMD_FAILED;
    if (cmd_operate(store, NULL, "reset", cmd->operands[0], to ? to : "", force ? "force" : "-", discard ? "-" : "keep", NULL) < 0)
        return CMD_FAILED;
    printf("node %s reset to %s%s\n", cmd->operands[0], to ? "snapshot " : "its image", to ? to : "");
    return CMD_DONE;
}
