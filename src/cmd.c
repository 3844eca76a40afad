#include "cmd.h"

#include <dirent.h>
#include <errno.h>
#include <fts.h>
#include <getopt.h>
#include <search.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "io.h"
#include "log.h"

#define OPTIONS_MAX 8
/* Values of long options for getopt_long(3), beyond every letter. */
#define LONG_BASE 256
#define LONG_HELP 512

static void print_name(FILE *out, const struct command *command)
{
    fprintf(out, "%s%s%s", command->name, command->sub ? " " : "", command->sub ? command->sub : "");
}

int cmd_usage_error(const struct cmd *cmd, const char *format, ...)
{
    _cleanup_free_ char *message = NULL;
    va_list arguments;
    va_start(arguments, format);
    if (vasprintf(&message, format, arguments) < 0) message = NULL;
    va_end(arguments);
    const struct command *command = cmd->command;
    log_error("%s%s%s: %s", command->name, command->sub ? " " : "", command->sub ? command->sub : "",
              message ? message : "wrong usage");
    fputs("try 'coppice ", stderr);
    print_name(stderr, command);
    fputs(" --help'\n", stderr);
    return CMD_USAGE;
}

void cmd_help(const struct command *command)
{
    fputs("usage: coppice [--store DIR] ", stdout);
    print_name(stdout, command);
    printf("%s%s\n\n", *command->usage ? " " : "", command->usage);
    if (command->help) {
        fputs(command->help, stdout);
    } else {
        printf("%s.\n", command->summary);
    }
    printf("\nexample:\n    coppice %s\n", command->example);
}

/* The n-th operand that the usage names outside brackets, from 0: *ret_length bytes; NULL: there are no more. */
static const char *operand_name(const char *usage, int n, size_t *ret_length)
{
    int depth = 0;
    for (const char *at = usage; *at;) {
        size_t word = strcspn(at, " ");
        bool outside = depth == 0 && *at != '[';
        for (size_t i = 0; i < word; i++) depth += at[i] == '[' ? 1 : at[i] == ']' ? -1 : 0;
        if (outside && word > 0 && n-- == 0) {
            *ret_length = word;
            return at;
        }
        at += word;
        at += strspn(at, " ");
    }
    return NULL;
}

/* Bracketed words, which are no options and follow nothing: "[SERIAL]". */
static int optional_operands(const char *usage)
{
    int count = 0;
    for (const char *at = usage; (at = strchr(at, '[')); at++) {
        size_t word = strcspn(at, " ");
        count += at[1] != '-' && at[word - 1] == ']' && (at == usage || at[-1] == ' ');
    }
    return count;
}

static bool take_operands(struct cmd *cmd)
{
    int given = cmd->argc - optind, wanted = 0, most;
    size_t length;
    while (operand_name(cmd->command->usage, wanted, &length)) wanted++;
    cmd->operands = cmd->argv + optind;
    if (given < wanted) {
        const char *name = operand_name(cmd->command->usage, given, &length);
        cmd->status = cmd_usage_error(cmd, "%.*s is missing", (int)length, name);
        return false;
    }
    most = wanted + optional_operands(cmd->command->usage);
    if (given > most) {
        cmd->status = cmd_usage_error(cmd, "'%s' is one argument too many", cmd->operands[most]);
        return false;
    }
    return true;
}

/* What getopt_long(3) stumbled over: a short option has its letter in optopt, a known long one its value. */
static int option_error(const struct cmd *cmd, const struct cmd_option *options, bool missing)
{
    const char *word = cmd->argv[optind - 1];
    const char *reason = missing ? "needs a value" : "no such option";
    if (optopt >= LONG_BASE) {
        const char *name = optopt == LONG_HELP ? "help" : options[optopt - LONG_BASE].name;
        return cmd_usage_error(cmd, "--%s: %s", name, missing ? reason : "takes no value");
    }
    if (optopt) return cmd_usage_error(cmd, "-%c: %s", optopt, reason);
    return cmd_usage_error(cmd, "%.*s: %s", (int)strcspn(word, "="), word, reason);
}

/* As getopt_long(3) wants them; a ':' in front tells a missing value from an unknown option. */
static void option_tables(const struct cmd_option *options, struct option *names, char *letters)
{
    size_t count = 0;
    *letters++ = ':';
    for (size_t i = 0; options[i].name; i++) {
        int takes = options[i].value ? required_argument : no_argument;
        if (*options[i].name) names[count++] = (struct option){options[i].name, takes, NULL, LONG_BASE + (int)i};
        if (!options[i].letter) continue;
        *letters++ = options[i].letter;
        if (takes) *letters++ = ':';
    }
    names[count++] = (struct option){"help", no_argument, NULL, LONG_HELP};
    names[count] = (struct option){0};
    *letters++ = 'h';
    *letters = '\0';
}

static void set_option(const struct cmd_option *options, int found)
{
    for (size_t i = 0; options[i].name; i++) {
        if (found != LONG_BASE + (int)i && found != options[i].letter) continue;
        if (options[i].flag) *options[i].flag = true;
        if (options[i].value) *options[i].value = optarg;
    }
}

bool cmd_parse(struct cmd *cmd, const struct cmd_option *options)
{
    struct option names[OPTIONS_MAX + 2];
    char letters[2 * OPTIONS_MAX + 4];
    option_tables(options, names, letters);
    opterr = 0;
    optind = 0; /* glibc: begin anew, main has parsed its own options */
    for (int found; (found = getopt_long(cmd->argc, cmd->argv, letters, names, NULL)) != -1;) {
        if (found == 'h' || found == LONG_HELP) {
            cmd_help(cmd->command);
            cmd->status = CMD_DONE;
            return false;
        }
        if (found == '?' || found == ':') {
            cmd->status = option_error(cmd, options, found == ':');
            return false;
        }
        set_option(options, found);
    }
    return take_operands(cmd);
}

int cmd_printed(int r)
{
    if (r == 0) return CMD_DONE;
    log_error("standard output: %s", log_reason(r));
    return CMD_FAILED;
}

static int compare_ino(const void *a, const void *b)
{
    ino_t x = (ino_t)(uintptr_t)a, y = (ino_t)(uintptr_t)b;
    return (x > y) - (x < y);
}

static void keep_ino(void *ino)
{
    (void)ino;
}

/* True the first time it is asked about a file that has several names: snapshots share objects by hard links. */
static bool is_counted_here(void **seen, const struct stat *status)
{
    void *key = (void *)(uintptr_t)status->st_ino;
    if (S_ISDIR(status->st_mode) || status->st_nlink < 2) return true;
    if (tfind(key, seen, compare_ino)) return false;
    tsearch(key, seen, compare_ino);
    return true;
}

int64_t cmd_node_bytes(const struct store *store, const char *serial)
{
    _cleanup_free_ char *path = io_format("%s/nodes/%s", store->path, serial);
    FTS *walk = path ? fts_open((char *[]){path, NULL}, FTS_PHYSICAL | FTS_NOCHDIR, NULL) : NULL;
    if (!walk) return 0;
    void *seen = NULL;
    int64_t bytes = 0;
    for (FTSENT *entry; (entry = fts_read(walk));) {
        /* A file that is gone by now counts nothing; a directory comes a second time when it is left. */
        if (entry->fts_info == FTS_NS || entry->fts_info == FTS_DP || !is_counted_here(&seen, entry->fts_statp))
            continue;
        bytes += (int64_t)entry->fts_statp->st_blocks * 512;
    }
    tdestroy(seen, keep_ino);
    fts_close(walk);
    return bytes;
}

int cmd_changes(const struct store *store, cmd_changes_fn fn, void *data)
{
    int fd = io_open_beneath(store->fd, "nodes", O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return fd;
    DIR *nodes = fdopendir(fd);
    if (!nodes) {
        int r = -errno;
        close(fd);
        return r;
    }
    int r = 0;
    for (struct dirent *entry; r == 0 && (entry = readdir(nodes));) {
        if (entry->d_name[0] == '.') continue;
        r = fn(entry->d_name, cmd_node_bytes(store, entry->d_name), data);
    }
    closedir(nodes);
    return r;
}
