/* cmd: what the commands share: the entry in the command table, its arguments, its exit codes.
 *
 * main.c holds the table; each cmd_*.c runs one group of commands. Results go to standard output; a failure is one
 * line on standard error, a wrong usage one line and where to read on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "store.h"

enum { CMD_DONE = 0, CMD_FAILED = 1, CMD_USAGE = 2 };

struct cmd;

struct command {
    const char *name;
    const char *sub;             /* "import" of "image import"; NULL when the name is all */
    const char *usage;           /* "NAME [SERIAL] [--json]": words outside brackets are the operands, all of them required;
                                    a bracketed word may follow them */
    const char *summary;         /* one line, without a full stop */
    const char *help;            /* what it does and its options, lines ending with \n; NULL: the summary says all */
    const char *example;         /* arguments after "coppice " */
    int (*run)(struct cmd *cmd); /* exit code */
};

/* One call of one command. */
struct cmd {
    const struct command *command;
    const char *store;   /* path of the store */
    const char *program; /* how the user calls coppice on this store: "coppice" or "coppice --store DIR" */
    int argc;
    char **argv;     /* argv[0] is the last word of the command's name */
    char **operands; /* from cmd_parse(): as many as `usage` names, and NULL after the last one given */
    int status;      /* from cmd_parse(): the exit code when it returns false */
};

/* An option is a flag or takes a value; a value not given stays as it is. The list ends with a name of NULL. */
struct cmd_option {
    const char *name; /* long; "" for none */
    char letter;      /* short; 0 for none */
    bool *flag;       /* one of the two is set */
    const char **value;
};

/* Reads options and operands by getopt_long(3) and answers --help. False: return cmd->status at once. */
bool cmd_parse(struct cmd *cmd, const struct cmd_option *options);

/* "coppice: message" and where to read on, on standard error. Returns CMD_USAGE. */
int cmd_usage_error(const struct cmd *cmd, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints usage, help and example on standard output. */
void cmd_help(const struct command *command);

/* Does one of the operations of nodeops.h, whose fields follow, up to NULL: by the daemon, or here where none runs. What went wrong
 * is logged. *ret_text: what came with "ok"; caller frees; may be NULL. */
int cmd_operate(struct store *store, char **ret_text, const char *operation, ...) __attribute__((sentinel));

/* Says what went wrong in printing a table; the exit code for table_list() and table_show(). */
int cmd_printed(int r);

/* Bytes on disk of nodes/<serial>: what the node differs from its image by. 0: nothing kept. */
int64_t cmd_node_bytes(const struct store *store, const char *serial);

/* The serials that nodes/ holds changes of, with a row or without. A negative return of `fn` ends the walk. */
typedef int (*cmd_changes_fn)(const char *serial, int64_t bytes, void *data);
int cmd_changes(const struct store *store, cmd_changes_fn fn, void *data);

/* CMD_USAGE, and said so, when --network's value is no IPv4 network. */
int cmd_check_network(const struct cmd *cmd, const char *network);

/* Adds the node with the root that a tar of differences makes; image NULL: the one it names. CMD_FAILED, and said why. */
int cmd_parcel_add(struct store *store, const struct catalog_node *node, const char *file, const char *image);

int cmd_init(struct cmd *cmd);
int cmd_status(struct cmd *cmd);
int cmd_fsck(struct cmd *cmd);

int cmd_image_import(struct cmd *cmd);
int cmd_image_promote(struct cmd *cmd);
int cmd_image_list(struct cmd *cmd);
int cmd_image_show(struct cmd *cmd);
int cmd_image_default(struct cmd *cmd);
int cmd_image_remove(struct cmd *cmd);

int cmd_node_add(struct cmd *cmd);
int cmd_node_list(struct cmd *cmd);
int cmd_node_show(struct cmd *cmd);
int cmd_node_set(struct cmd *cmd);
int cmd_node_remove(struct cmd *cmd);
int cmd_node_pending(struct cmd *cmd);
int cmd_node_export(struct cmd *cmd);
int cmd_node_render(struct cmd *cmd);

int cmd_template_list(struct cmd *cmd);
int cmd_template_show(struct cmd *cmd);
int cmd_template_set(struct cmd *cmd);
int cmd_template_absent(struct cmd *cmd);
int cmd_template_remove(struct cmd *cmd);

int cmd_snapshot_create(struct cmd *cmd);
int cmd_snapshot_list(struct cmd *cmd);
int cmd_snapshot_delete(struct cmd *cmd);
int cmd_snapshot_prune(struct cmd *cmd);
int cmd_reset(struct cmd *cmd);
int cmd_diff(struct cmd *cmd);
int cmd_rebase(struct cmd *cmd);

int cmd_mount(struct cmd *cmd);
int cmd_umount(struct cmd *cmd);

int cmd_exports(struct cmd *cmd);
int cmd_dnsmasq(struct cmd *cmd);
int cmd_doctor(struct cmd *cmd);
