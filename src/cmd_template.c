/* cmd_template: template list, show, set, absent, remove; node render. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "io.h"
#include "log.h"
#include "table.h"
#include "template.h"

#define BODY_MOST (16 << 20)

static int failed(const struct store *store, int r)
{
    log_error("templates of %s: %s", store->path, log_reason(r));
    return CMD_FAILED;
}

static const char *whose(const char *image)
{
    return image ? image : "every image";
}

static const char *without_slash(const char *path)
{
    return path + strspn(path, "/");
}

static bool is_same(const char *a, const char *b)
{
    return a && b ? strcmp(a, b) == 0 : a == b;
}

/* ---- list, show ---- */

static const struct table_column list_columns[] = {
    {.key = "image", .title = "IMAGE"},
    {.key = "path", .title = "PATH"},
    {.key = "mode", .title = "MODE", .type = TABLE_NUMBER},
    {.key = "absent", .title = "ABSENT", .type = TABLE_FLAG},
    {.key = "size", .title = "SIZE", .type = TABLE_BYTES},
    {0},
};

static int list_row(const struct template_row *row, void *data)
{
    struct table *table = data;
    table_text(table, row->image);
    table_text(table, row->path);
    if (row->mode < 0) table_null(table);
    else table_number(table, row->mode);
    table_number(table, row->body == NULL);
    table_number(table, (int64_t)row->size);
    return 0;
}

int cmd_template_list(struct cmd *cmd)
{
    bool json = false;
    const struct cmd_option options[] = {{.name = "json", .flag = &json}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    _cleanup_table_ struct table *table = table_new(list_columns);
    int r = template_rows(store, list_row, table);
    if (r < 0) return failed(store, r);
    return cmd_printed(table_list(table, json, "no templates: coppice template set PATH FILE"));
}

static int show_row(const struct template_row *row, void *data)
{
    const struct template_row *wanted = data;
    if (!is_same(row->image, wanted->image) || strcmp(row->path, wanted->path) != 0) return 0;
    if (row->body) fwrite(row->body, 1, row->size, stdout);
    return 1;
}

static int no_such_template(const struct template_row *wanted)
{
    log_error("template %s of %s: no such template; 'coppice template list' shows them", wanted->path,
              whose(wanted->image));
    return CMD_FAILED;
}

int cmd_template_show(struct cmd *cmd)
{
    struct template_row wanted = {0};
    const struct cmd_option options[] = {{.name = "image", .value = &wanted.image}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    wanted.path = without_slash(cmd->operands[0]);

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    int r = template_rows(store, show_row, &wanted);
    if (r < 0) return failed(store, r);
    return r == 0 ? no_such_template(&wanted) : CMD_DONE;
}

/* ---- set, absent, remove ---- */

static int put(struct store *store, const struct template_row *row)
{
    int r = template_put(store, row);
    if (r == 0) return CMD_DONE;
    log_error("template %s: %s", row->path, r == -EINVAL ? catalog_message(store->catalog) : log_reason(r));
    return CMD_FAILED;
}

static int read_all(FILE *file, char **ret_body, size_t *ret_size)
{
    _cleanup_free_ char *body = malloc(BODY_MOST + 1);
    if (!body) return -ENOMEM;
    *ret_size = fread(body, 1, BODY_MOST + 1, file);
    if (ferror(file)) return -errno;
    if (*ret_size > BODY_MOST) return -EFBIG;
    body[*ret_size] = '\0';
    *ret_body = io_take(body);
    return 0;
}

static int read_body(const char *source, char **ret_body, size_t *ret_size)
{
    FILE *file = strcmp(source, "-") == 0 ? stdin : fopen(source, "re");
    int r = file ? read_all(file, ret_body, ret_size) : -errno;
    if (file && file != stdin) fclose(file);
    if (r < 0) log_error("%s: %s", source, log_reason(r));
    return r;
}

static bool read_mode(const char *text, int *ret_mode)
{
    if (strlen(text) < 3 || strlen(text) > 4 || text[strspn(text, "01234567")]) return false;
    *ret_mode = atoi(text);
    return true;
}

int cmd_template_set(struct cmd *cmd)
{
    const char *mode = NULL;
    struct template_row row = {.mode = -1};
    const struct cmd_option options[] = {
        {.name = "image", .value = &row.image}, {.name = "mode", .value = &mode}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    if (mode && !read_mode(mode, &row.mode))
        return cmd_usage_error(cmd, "--mode: '%s' is no mode like 644 or 4755", mode);
    row.path = without_slash(cmd->operands[0]);

    _cleanup_store_ struct store *store = NULL;
    _cleanup_free_ char *body = NULL;
    if (store_open(&store, cmd->store) < 0 || read_body(cmd->operands[1], &body, &row.size) < 0) return CMD_FAILED;
    row.body = body;
    int status = put(store, &row);
    if (status == CMD_DONE) printf("template %s of %s set\n", row.path, whose(row.image));
    return status;
}

int cmd_template_absent(struct cmd *cmd)
{
    struct template_row row = {.mode = -1};
    const struct cmd_option options[] = {{.name = "image", .value = &row.image}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    row.path = without_slash(cmd->operands[0]);

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    int status = put(store, &row);
    if (status == CMD_DONE) printf("nodes of %s will have no %s\n", whose(row.image), row.path);
    return status;
}

int cmd_template_remove(struct cmd *cmd)
{
    struct template_row row = {0};
    const struct cmd_option options[] = {{.name = "image", .value = &row.image}, {0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    row.path = without_slash(cmd->operands[0]);

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    int r = template_remove(store, row.image, row.path);
    if (r == -ENOENT) return no_such_template(&row);
    if (r < 0) return failed(store, r);
    printf("template %s of %s removed\n", row.path, whose(row.image));
    return CMD_DONE;
}

/* ---- node render ---- */

static void print_file(const struct template_file *file)
{
    if (file->mode < 0) printf("==> %s%s <==\n", file->path, file->body ? "" : " is removed");
    else printf("==> %s (mode %04o) <==\n", file->path, file->mode);
    if (file->body) fwrite(file->body, 1, file->size, stdout);
    if (file->size > 0 && file->body[file->size - 1] != '\n') putchar('\n');
}

/* One file: its bytes and nothing else. */
static int print_files(const struct template_files *files, const char *node, const char *path)
{
    int status = CMD_DONE;
    bool found = false;
    for (size_t i = 0; i < files->count; i++) {
        const struct template_file *file = &files->items[i];
        if (path && strcmp(file->path, path) != 0) continue;
        found = true;
        if (file->error) {
            log_error("%s", file->error);
            status = CMD_FAILED;
        } else if (!path) {
            print_file(file);
        } else if (file->body) {
            fwrite(file->body, 1, file->size, stdout);
        }
    }
    if (!path || found) return status;
    log_error("node %s: no template writes %s; 'coppice template list' shows them", node, path);
    return CMD_FAILED;
}

int cmd_node_render(struct cmd *cmd)
{
    const struct cmd_option options[] = {{0}};
    if (!cmd_parse(cmd, options)) return cmd->status;
    const char *serial = cmd->operands[0], *path = cmd->operands[1] ? without_slash(cmd->operands[1]) : NULL;

    _cleanup_store_ struct store *store = NULL;
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    _cleanup_files_ struct template_files files = {0};
    struct catalog_node node = {0};
    int r = catalog_node(store->catalog, serial, &node);
    if (r == 0 && node.base) r = template_files(&files, store, &node, node.base);
    bool has_image = node.base != NULL;
    catalog_node_free(&node);
    if (r == 0 && has_image) return print_files(&files, serial, path);
    if (r == -ENOENT) log_error("node %s: no such node in %s; 'coppice node list' shows them", serial, store->path);
    else if (r == 0) log_error("node %s: it has no image yet", serial);
    else log_error("node %s: %s", serial, log_reason(r));
    return CMD_FAILED;
}
