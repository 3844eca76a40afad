/* cmd_fsck: fsck, with the exit codes of fsck(8). */
#include <stdio.h>

#include "cmd.h"
#include "fsck.h"
#include "table.h"

enum { FSCK_REPAIRED = 1, FSCK_LEFT = 4, FSCK_FAILED = 8, FSCK_USAGE = 16 };

static const struct table_column columns[] = {
    {.key = "where", .title = "WHERE"},
    {.key = "path", .title = "PATH"},
    {.key = "inode", .title = "INODE", .type = TABLE_NUMBER},
    {.key = "found", .title = "FOUND"},
    {.key = "done", .title = "DONE"},
    {0},
};

static void print_line(const struct fsck_finding *finding, void *data)
{
    (void)data;
    printf("%s: ", finding->where);
    if (finding->path) printf("%s: ", finding->path);
    if (finding->ino) printf("inode %llu: ", (unsigned long long)finding->ino);
    fputs(finding->what, stdout);
    if (finding->done) printf("; %s", finding->done);
    putchar('\n');
    fflush(stdout);
}

static void add_row(const struct fsck_finding *finding, void *data)
{
    struct table *table = data;
    table_text(table, finding->where);
    table_text(table, finding->path);
    if (finding->ino) {
        table_number(table, (int64_t)finding->ino);
    } else {
        table_null(table);
    }
    table_text(table, finding->what);
    table_text(table, finding->done);
}

static void print_count(int64_t count, const char *one, const char *many)
{
    printf("%lld %s", (long long)count, count == 1 ? one : many);
}

static void print_summary(const struct fsck_options *options, const struct fsck_result *result)
{
    print_count(result->nodes, "node with changes", "nodes with changes");
    if (!options->serial) fputs(", ", stdout), print_count(result->images, "image", "images");
    if (options->contents) fputs(" (contents of ", stdout), print_count(result->files, "file)", "files)");
    fputs(" checked: ", stdout);
    if (result->repaired == 0 && result->left == 0) fputs("clean", stdout);
    if (result->repaired) printf("%lld repaired", (long long)result->repaired);
    if (result->left) printf("%s%lld left", result->repaired ? ", " : "", (long long)result->left);
    putchar('\n');
    if (result->undigested) {
        print_count(result->undigested, "file was", "files were");
        puts(" imported without a digest: contents not compared");
    }
}

int cmd_fsck(struct cmd *cmd)
{
    bool repair = false, contents = false, json = false;
    const struct cmd_option options[] = {{.name = "repair", .flag = &repair},
                                         {.name = "contents", .flag = &contents},
                                         {.name = "json", .flag = &json},
                                         {0}};
    if (!cmd_parse(cmd, options)) return cmd->status == CMD_USAGE ? FSCK_USAGE : cmd->status;

    _cleanup_table_ struct table *table = json ? table_new(columns) : NULL;
    struct fsck_options wanted = {.repair = repair,
                                  .contents = contents,
                                  .serial = cmd->operands[0],
                                  .print = json ? add_row : print_line,
                                  .data = table};
    struct fsck_result result = {0};
    int r = fsck_run(cmd->store, &wanted, &result);
    if (json && cmd_printed(table_list(table, true, "")) != CMD_DONE) return FSCK_FAILED;
    if (r < 0) return FSCK_FAILED;
    if (!json) print_summary(&wanted, &result);
    return result.left ? FSCK_LEFT : result.repaired ? FSCK_REPAIRED : CMD_DONE;
}
