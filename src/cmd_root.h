/* cmd_root: a node's root for a command that reads it: SERIAL as it is in this instant, SERIAL@NAME as it was at a snapshot. */
#pragma once

#include "roots.h"
#include "store.h"

struct cmd_root {
    struct roots *roots;
    struct roots_copy copy; /* for SERIAL: made for this */
    struct view *snapshot;  /* for SERIAL@NAME */
    struct view *view;      /* the one of the two that is there */
};

/* What goes wrong is logged. After it failed, too, the caller clears. */
int cmd_root_open(struct cmd_root *root, struct store *store, const char *name);
/* Another snapshot of the node, whatever stands behind an @ in `name`; the caller closes it. */
int cmd_root_snapshot(struct cmd_root *root, struct store *store, const char *name, const char *snapshot, struct view **ret_view);
void cmd_root_clear(struct cmd_root *root);
#define _cleanup_root_ __attribute__((cleanup(cmd_root_clear)))
