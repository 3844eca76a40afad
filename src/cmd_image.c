/* cmd_image: image import, promote, list, show, default, remove. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "import.h"
#include "io.h"
#include "log.h"
#include "promote.h"
#include "roots.h"
#include "table.h"

static int report_image(const struct store *store, const char *name, int r)
{
    if (r == -ENOENT) {
        log_error("image %s: no such image in %s; 'coppice image list' shows them", name, store->path);
    } else {
        log_error("image %s: %s", name, log_reason(r));
    }
    return CMD_FAILED;
}

/* 1 to 999. */
static bool read_number(const char *text, int *ret_number)
{
    char end;
    return strlen(text) <= 3 && sscanf(text, "%d%c", ret_number, &end) == 1 && *ret_number > 0;
}

static void print_proposals(const struct proposals *proposals)
{
    if (proposals->count == 0) return;
    puts("files that its nodes have otherwise (coppice template list; --no-templates: none):");
    for (size_t i = 0; i < proposals->count; i++) {
        const struct proposal *proposal = &proposals->items[i];
        printf("  %s %s: %s\n", proposal->body ? "changed" : "removed", proposal->path, proposal->why);
    }
}

int cmd_image_import(struct cmd *cmd)
{
    const char *partition = NULL;
    bool no_templates = false;
    struct proposals proposals = {0};
    struct import_options wishes = {0};
    const struct cmd_option options[] = {
        {.name = "partition", .value = &partition}, {.name = "no-templates", .flag = &no_templates}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (partition && !read_number(partition, &wishes.partition))
        return cmd_usage_error(cmd, "--partition: '%s' is no partition's number, like 2", partition);
    if (!no_templates) wishes.proposals = &proposals;
    const char *name = cmd->operands[0];

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0 || import_image(store, name, cmd->operands[1], &wishes) < 0)
        return CMD_FAILED;
    struct catalog_image image = {0};
    int r = catalog_image(store->catalog, name, &image);
    if (r < 0) return report_image(store, name, r);
    char size[TABLE_BYTES_MAX];
    printf("image %s imported: %jd files, %s%s\n", name, (intmax_t)image.files, table_bytes(image.bytes, size),
           image.is_default ? "; it is the default image" : "");
    catalog_image_free(&image);
    print_proposals(&proposals);
    proposals_free(&proposals);
    return CMD_DONE;
}

/* The node's changes, copied, into an image. */
static int promote_copy(struct store *store, const char *name, const char *serial, const char *snapshot, const char *source,
                        struct promote_kept *ret_kept)
{
    _cleanup_roots_ struct roots *roots = NULL;
    _cleanup_roots_copy_ struct roots_copy copy = ROOTS_COPY_NONE;
    struct view *parent = NULL;
    int r = roots_open(&roots, store);
    if (r == 0) r = roots_copy_name(&copy, roots);
    if (r == 0) r = cmd_operate(store, NULL, "copy", serial, snapshot, copy.name, NULL);
    if (r < 0) return r;
    r = roots_copy_take(&copy);
    if (r == 0) r = roots_image_view(roots, copy.view, &parent);
    if (r < 0) log_error("node %s: its changes cannot be read: %s", serial, log_reason(r));
    else r = promote(store, name, copy.view, parent, serial, source, ret_kept);
    view_close(parent);
    return r;
}

int cmd_image_promote(struct cmd *cmd)
{
    const struct cmd_option options[] = {{0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    const char *name = cmd->operands[0], *from = cmd->operands[1], *at = strchr(from, '@');
    if (at && !at[1]) return cmd_usage_error(cmd, "'%s': wants SERIAL or SERIAL@SNAPSHOT", from);

    _cleanup_store_ struct store *store = NULL;
    struct promote_kept kept = {0};
    _cleanup_free_ char *serial = io_format("%.*s", (int)strcspn(from, "@"), from);
    _cleanup_free_ char *source = io_format("node %s", from);
    if (!serial || !source || store_open(&store, cmd->store) < 0) return CMD_FAILED;
    struct catalog_image image = {0};
    if (catalog_image(store->catalog, name, &image) == 0) {
        catalog_image_free(&image);
        log_error("image %s: there is one of this name already", name);
        return CMD_FAILED;
    }
    if (promote_copy(store, name, serial, at ? at + 1 : "", source, &kept) < 0) {
        promote_kept_free(&kept);
        return CMD_FAILED;
    }
    int r = catalog_image(store->catalog, name, &image);
    char size[TABLE_BYTES_MAX];
    if (r == 0) printf("image %s made of %s: %jd files, %s\n", name, source, (intmax_t)image.files, table_bytes(image.bytes, size));
    catalog_image_free(&image);
    if (kept.count > 0) puts("left out, as they are the node's own:");
    for (size_t i = 0; i < kept.count; i++) printf("  %s\n", kept.paths[i]);
    promote_kept_free(&kept);
    return r < 0 ? report_image(store, name, r) : CMD_DONE;
}

struct users {
    const char *image;
    int64_t count;
};

static int count_user(const struct catalog_node *node, void *data)
{
    struct users *users = data;
    if (node->base && strcmp(node->base, users->image) == 0) users->count++;
    return 0;
}

/* Nodes whose root stands on the image, or negative errno. */
static int64_t image_users(const struct store *store, const char *name)
{
    struct users users = {.image = name};
    int r = catalog_nodes(store->catalog, count_user, &users);
    return r < 0 ? r : users.count;
}

static const struct table_column list_columns[] = {
    {.key = "name", .title = "NAME"},
    {.key = "default", .title = "DEFAULT", .type = TABLE_FLAG},
    {.key = "files", .title = "FILES", .type = TABLE_NUMBER},
    {.key = "size", .title = "SIZE", .type = TABLE_BYTES},
    {.key = "added", .title = "ADDED", .type = TABLE_TIME},
    {.key = "nodes", .title = "NODES", .type = TABLE_NUMBER},
    {0},
};

struct list {
    const struct store *store;
    struct table *table;
};

static int list_image(const struct catalog_image *image, void *data)
{
    struct list *list = data;
    int64_t users = image_users(list->store, image->name);
    if (users < 0) return (int)users;
    table_text(list->table, image->name);
    table_number(list->table, image->is_default);
    table_number(list->table, image->files);
    table_number(list->table, image->bytes);
    table_number(list->table, image->added);
    table_number(list->table, users);
    return 0;
}

int cmd_image_list(struct cmd *cmd)
{
    bool json = false;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    _cleanup_table_ struct table *table = table_new(list_columns);
    int r = catalog_images(store->catalog, list_image, &(struct list){store, table});
    if (r >= 0) return cmd_printed(table_list(table, json, "no images yet: coppice image import NAME SOURCE"));
    log_error("images of %s: %s", store->path, log_reason(r));
    return CMD_FAILED;
}

static const struct table_column show_columns[] = {
    {.key = "name", .title = "name"},
    {.key = "default", .title = "default", .type = TABLE_FLAG},
    {.key = "source", .title = "source"},
    {.key = "boot", .title = "boot"},
    {.key = "files", .title = "files", .type = TABLE_NUMBER},
    {.key = "size", .title = "size", .type = TABLE_BYTES},
    {.key = "added", .title = "added", .type = TABLE_TIME},
    {.key = "nodes", .title = "nodes", .type = TABLE_NUMBER},
    {.key = "path", .title = "path"},
    {0},
};

static int show_image(const struct store *store, const struct catalog_image *image, bool json)
{
    _cleanup_table_ struct table *table = table_new(show_columns);
    _cleanup_free_ char *path = io_format("%s/images/%s/rootfs", store->path, image->name);
    int64_t users = image_users(store, image->name);
    if (users < 0) return report_image(store, image->name, (int)users);
    table_text(table, image->name);
    table_number(table, image->is_default);
    table_text(table, image->source);
    table_text(table, image->boot);
    table_number(table, image->files);
    table_number(table, image->bytes);
    table_number(table, image->added);
    table_number(table, users);
    table_text(table, path);
    return cmd_printed(table_show(table, json));
}

int cmd_image_show(struct cmd *cmd)
{
    bool json = false;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    struct catalog_image image = {0};
    int r = catalog_image(store->catalog, cmd->operands[0], &image);
    if (r < 0) return report_image(store, cmd->operands[0], r);
    int status = show_image(store, &image, json);
    catalog_image_free(&image);
    return status;
}

int cmd_image_default(struct cmd *cmd)
{
    const struct cmd_option options[] = {{0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    const char *name = cmd->operands[0];

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    struct catalog_image image = {0};
    int r = catalog_image(store->catalog, name, &image);
    if (r == 0) r = catalog_set_setting(store->catalog, "default_image", name);
    catalog_image_free(&image);
    if (r < 0) return report_image(store, name, r);
    printf("image %s is the default image\n", name);
    return CMD_DONE;
}

int cmd_image_remove(struct cmd *cmd)
{
    const struct cmd_option options[] = {{0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0 || import_remove(store, cmd->operands[0]) < 0) return CMD_FAILED;
    printf("image %s removed\n", cmd->operands[0]);
    return CMD_DONE;
}
