#include "cmd_root.h"

#include <errno.h>
#include <string.h>

#include "catalog_snapshot.h"
#include "cmd.h"
#include "io.h"
#include "log.h"

static char *serial_of(const char *name)
{
    return io_format("%.*s", (int)strcspn(name, "@"), name);
}

static int check_snapshot(struct store *store, const char *serial, const char *snapshot)
{
    struct catalog_snapshot row = {0};
    int r = catalog_snapshot(store->catalog, serial, snapshot, &row);

    if (r == 0 && !row.made) r = -EAGAIN;
    catalog_snapshot_free(&row);
    if (r == -ENOENT) log_error("node %s: snapshot %s: no such snapshot; 'coppice snapshot list' shows them", serial, snapshot);
    else if (r == -EAGAIN) log_error("node %s: snapshot %s: it is still to be made", serial, snapshot);
    else if (r < 0) log_error("node %s: snapshot %s: %s", serial, snapshot, log_reason(r));
    return r;
}

static int open_snapshot(struct roots *roots, struct store *store, const char *serial, const char *snapshot, struct view **ret_view)
{
    _cleanup_free_ char *directory = io_format("%s/snapshots/%s", serial, snapshot);
    int r = directory ? check_snapshot(store, serial, snapshot) : -ENOMEM;

    if (r < 0) return r;
    r = roots_view(roots, directory, ret_view);
    if (r < 0) log_error("node %s: snapshot %s: cannot be read: %s", serial, snapshot, log_reason(r));
    return r;
}

static int open_copy(struct cmd_root *root, struct store *store, const char *serial)
{
    int r = roots_copy_name(&root->copy, root->roots);
    if (r == 0) r = cmd_operate(store, NULL, "copy", serial, "", root->copy.name, NULL);
    if (r < 0) return r;
    r = roots_copy_take(&root->copy);
    root->view = root->copy.view;
    if (r < 0) log_error("node %s: cannot be read: %s", serial, log_reason(r));
    return r;
}

int cmd_root_open(struct cmd_root *root, struct store *store, const char *name)
{
    _cleanup_free_ char *serial = serial_of(name);
    const char *at = strchr(name, '@');
    int r = serial ? 0 : -ENOMEM;

    *root = (struct cmd_root){.copy = ROOTS_COPY_NONE};
    if (r == 0) r = roots_open(&root->roots, store);
    if (r == 0 && !at) return open_copy(root, store, serial);
    if (r == 0) r = open_snapshot(root->roots, store, serial, at + 1, &root->snapshot);
    root->view = root->snapshot;
    return r;
}

int cmd_root_snapshot(struct cmd_root *root, struct store *store, const char *name, const char *snapshot, struct view **ret_view)
{
    _cleanup_free_ char *serial = serial_of(name);

    return serial ? open_snapshot(root->roots, store, serial, snapshot, ret_view) : -ENOMEM;
}

void cmd_root_clear(struct cmd_root *root)
{
    view_close(root->snapshot);
    roots_copy_clear(&root->copy);
    roots_close(root->roots);
}
