/* cmd_diff: diff. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "cmd.h"
#include "cmd_root.h"
#include "diff.h"
#include "io.h"
#include "log.h"
#include "table.h"

struct output {
    struct table *table; /* NULL: plain lines */
    int64_t counts[4], before[4], after[4];
};

static const char changes[] = "ADMT";

static const struct table_column columns[] = {
    {.key = "change", .title = "CHANGE"}, {.key = "type"},
    {.key = "what", .title = "WHAT"},     {.key = "before", .title = "BEFORE", .type = TABLE_BYTES},
    {.key = "after", .title = "AFTER", .type = TABLE_BYTES}, {.key = "path", .title = "PATH"},
    {0},
};

/* A line stays a line, and every name is told from every other: as in C. */
static void print_path(const char *path)
{
    for (const unsigned char *at = (const unsigned char *)path; *at; at++) {
        if (*at == '\\') fputs("\\\\", stdout);
        else if (*at < ' ' || *at == 0x7f) printf("\\%03o", *at);
        else putchar(*at);
    }
}

static const char *type_name(uint32_t mode)
{
    switch (mode & S_IFMT) {
    case S_IFDIR: return "directory";
    case S_IFREG: return "file";
    case S_IFLNK: return "symlink";
    case S_IFCHR: return "character device";
    case S_IFBLK: return "block device";
    case S_IFIFO: return "fifo";
    default: return "socket";
    }
}

static void add_what(struct table *table, unsigned what)
{
    static const char *const names[] = {"contents", "mode", "owner", "time", "xattrs"};
    char text[64] = "";

    for (int i = 0; i < 5; i++) {
        if (!(what & 1U << i)) continue;
        if (*text) strcat(text, ",");
        strcat(text, names[i]);
    }
    table_text(table, *text ? text : NULL);
}

static int64_t size_of(const struct inode *i)
{
    return i && !S_ISDIR(i->row.mode) ? (int64_t)i->row.size : 0;
}

static void add_size(struct table *table, const struct inode *i)
{
    if (i && !S_ISDIR(i->row.mode)) table_number(table, i->row.size);
    else table_null(table);
}

static int print_entry(const struct diff_entry *e, void *data)
{
    struct output *out = data;
    const char change[] = {e->change, '\0'};
    int i;

    if (!e->change) return 0;
    i = strchr(changes, e->change) - changes;
    out->counts[i]++;
    out->before[i] += size_of(e->old);
    out->after[i] += size_of(e->new);
    if (!out->table) {
        printf("%s ", change);
        print_path(e->path);
        return putchar('\n') == EOF ? -errno : 0;
    }
    table_text(out->table, change);
    table_text(out->table, type_name((e->new ? e->new : e->old)->row.mode));
    add_what(out->table, e->what);
    add_size(out->table, e->old);
    add_size(out->table, e->new);
    table_text(out->table, e->path);
    return 0;
}

static void print_sum(const struct output *out)
{
    static const char *const names[] = {"added", "deleted", "modified", "of another type"};
    char before[TABLE_BYTES_MAX], after[TABLE_BYTES_MAX];

    for (int i = 0; i < 4; i++)
        if (out->counts[i])
            printf("%lld %s: %s before, %s after\n", (long long)out->counts[i], names[i], table_bytes(out->before[i], before),
                   table_bytes(out->after[i], after));
}

static int run(struct cmd *cmd, struct view *old, struct view *new, bool stat, bool json)
{
    _cleanup_table_ struct table *table = stat || json ? table_new(columns) : NULL;
    struct output out = {.table = table};
    struct diff diff = {.old = old, .new = new, .fn = print_entry, .data = &out};
    const char *path = cmd->operands[1];
    int r = diff_run(&diff, path);

    if (r == -ENOENT) log_error("node %s: %s: there is no such path, neither before nor now", cmd->operands[0], path);
    else if (r == -EINVAL) log_error("node %s: %s: wants a path without '.' and '..'", cmd->operands[0], path);
    else if (r < 0) log_error("node %s: cannot be compared: %s", cmd->operands[0], log_reason(r));
    if (r < 0) return CMD_FAILED;
    if (table) r = table_list(table, json, "no difference");
    if (r == 0 && stat && !json) print_sum(&out);
    return cmd_printed(r);
}

int cmd_diff(struct cmd *cmd)
{
    const char *from = NULL;
    bool stat = false, json = false;
    const struct cmd_option options[] = {
        {.name = "from", .value = &from}, {.name = "stat", .flag = &stat}, {.name = "json", .flag = &json}, {0}};
    _cleanup_store_ struct store *store = NULL;
    _cleanup_root_ struct cmd_root root = {.copy = ROOTS_COPY_NONE};
    struct view *old = NULL;
    int r, status = CMD_FAILED;

    if (!cmd_parse(cmd, options)) return cmd->status;
    if (store_open(&store, cmd->store) < 0 || cmd_root_open(&root, store, cmd->operands[0]) < 0) return CMD_FAILED;
    if (from) {
        r = cmd_root_snapshot(&root, store, cmd->operands[0], from, &old);
    } else {
        r = roots_image_view(root.roots, root.view, &old);
        if (r < 0) log_error("node %s: its image cannot be read: %s", cmd->operands[0], log_reason(r));
    }
    if (r == 0) status = run(cmd, old, root.view, stat, json);
    view_close(old);
    return status;
}
