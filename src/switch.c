#include "switch.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "commit.h"
#include "db.h"
#include "io.h"
#include "log.h"
#include "snapshot.h"

#define GONE_PREFIX ".gone-"
#define KEEP_PREFIX "keep@"

static int open_node(const struct switch_place *p)
{
    return io_open_beneath(p->nodes_fd, p->serial, O_RDONLY | O_DIRECTORY, 0);
}

static bool exists(int fd, const char *name)
{
    return faccessat(fd, name, F_OK, AT_SYMLINK_NOFOLLOW) == 0;
}

int switch_discard(int parent_fd, const char *name, int nodes_fd, const char *serial)
{
    _cleanup_free_ char *gone = io_format(GONE_PREFIX "%s-%d-%lld", serial, (int)getpid(), (long long)io_now());

    if (!gone) return -ENOMEM;
    return renameat(parent_fd, name, nodes_fd, gone) < 0 && errno != ENOENT ? -errno : 0;
}

int switch_sweep(int nodes_fd)
{
    int fd = io_open_beneath(nodes_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);
    int r = 0;

    if (!directory) return fd < 0 ? fd : -ENOMEM;
    for (struct dirent *e; r == 0 && (e = readdir(directory));)
        if (strncmp(e->d_name, GONE_PREFIX, strlen(GONE_PREFIX)) == 0) r = io_remove_tree(nodes_fd, e->d_name);
    closedir(directory);
    return r;
}

int switch_prepare(const struct switch_place *p, const char *keep)
{
    _cleanup_free_ char *old = keep ? io_format(SWITCH_NEW "/" KEEP_PREFIX "%s", keep) : io_format(SWITCH_NEW "/gone");
    _cleanup_close_ int node = open_node(p);
    int r = node;

    if (!old) return -ENOMEM;
    if (node < 0) return node;
    if (keep && (r = io_mkdir(node, "snapshots", 0700)) < 0) return r;
    r = io_mkdir(node, old, 0700);
    return r < 0 ? r : commit_publish_delta(node, SWITCH_NEW, SWITCH_NEW);
}

int switch_begin(const struct switch_place *p)
{
    _cleanup_close_ int node = open_node(p);

    if (node < 0) return node;
    /* switch_prepare() has synced it; the names that were written since are for a daemon that comes after a kill, not after a power cut. */
    if (renameat(node, SWITCH_NEW, node, "switch") < 0) return -errno;
    return commit_object(node, true);
}

/* The entry whose name says where the old changes go. */
static int find_old(int fd, char ret_name[256])
{
    int copy = io_open_beneath(fd, ".", O_RDONLY | O_DIRECTORY, 0);
    DIR *directory = copy < 0 ? NULL : fdopendir(copy);
    int r = -ENOENT;

    if (!directory) return copy < 0 ? copy : -ENOMEM;
    for (struct dirent *e; r < 0 && (e = readdir(directory));) {
        if (strcmp(e->d_name, "gone") != 0 && strncmp(e->d_name, KEEP_PREFIX, strlen(KEEP_PREFIX)) != 0) continue;
        snprintf(ret_name, 256, "%s", e->d_name);
        r = 0;
    }
    closedir(directory);
    return r;
}

/* Moves a file or directory from `from` to `to`, if it is not there already. */
static int move(int from, const char *name, int to)
{
    if (!exists(from, name) || exists(to, name)) return 0;
    return renameat(from, name, to, name) < 0 ? -errno : 0;
}

/* Each is out of the way before the new one takes its name, and that there is a new one says that it is not done yet. The WAL goes
 * with its database, first, as a database without it is another. */
static int exchange(int node, int new, int old)
{
    static const char *const files[] = {"delta.db-wal", "delta.db-shm", "delta.db"};
    int r = 0;

    if (exists(new, "objects")) {
        if (old >= 0) r = move(node, "objects", old);
        if (r == 0 && renameat(new, "objects", node, "objects") < 0) r = -errno;
    }
    if (r < 0 || !exists(new, "delta.db")) return r;
    for (int i = 0; i < 3 && r == 0 && old >= 0; i++) r = move(node, files[i], old);
    return r == 0 && renameat(new, "delta.db", node, "delta.db") < 0 ? -errno : r;
}

/* A name that is taken, by whatever came in between, is not lost for it. */
static int keep_as(const struct switch_place *p, int node, int new, const char *old, const char *name)
{
    _cleanup_free_ char *path = io_format("%s/%s/switch", p->nodes_path, p->serial);
    _cleanup_free_ char *other = io_format("%s-%lld", name, (long long)(io_now() / 1000000000));
    _cleanup_free_ char *file = io_format("%s/delta.db", old);
    _cleanup_close_ int snapshots = -1;
    int r;

    if (!path || !other || !file) return -ENOMEM;
    if (!exists(new, file)) return switch_discard(new, old, p->nodes_fd, p->serial); /* there were no changes */
    r = snapshot_seal(path, old);
    if (r < 0) return r;
    snapshots = io_open_beneath(node, "snapshots", O_RDONLY | O_DIRECTORY, 0);
    if (snapshots < 0) return snapshots;
    if (renameat2(new, old, snapshots, name, RENAME_NOREPLACE) < 0)
        r = renameat2(new, old, snapshots, other, RENAME_NOREPLACE) < 0 ? -errno : 0;
    return r < 0 ? r : commit_object(snapshots, true);
}

static int put_away(const struct switch_place *p, int node, int new, const char *old)
{
    if (strncmp(old, KEEP_PREFIX, strlen(KEEP_PREFIX)) == 0)
        return keep_as(p, node, new, old, old + strlen(KEEP_PREFIX));
    return switch_discard(new, old, p->nodes_fd, p->serial);
}

static int carry_on(const struct switch_place *p, int node, int new)
{
    _cleanup_close_ int old = -1;
    char name[256] = "";
    int r = find_old(new, name);

    if (r == 0) old = io_open_beneath(new, name, O_RDONLY | O_DIRECTORY, 0);
    if (r < 0 && r != -ENOENT) return r;
    if (r == 0 && old < 0) return old;
    r = exchange(node, new, old);
    if (r == 0 && old >= 0) r = put_away(p, node, new, name);
    return r < 0 ? r : commit_object(node, true);
}

int switch_carry_on(const struct switch_place *p, struct snapshot_info *ret_info)
{
    _cleanup_close_ int node = open_node(p), new = -1;
    int r;

    if (node < 0) return node == -ENOENT ? 0 : node;
    new = io_open_beneath(node, "switch", O_RDONLY | O_DIRECTORY, 0);
    if (new < 0) return new == -ENOENT ? 0 : new;
    r = carry_on(p, node, new);
    if (r == 0) r = snapshot_look(p->nodes_fd, p->nodes_path, p->serial, ret_info);
    if (r < 0) {
        log_error("node %s: its changes are being replaced, and that cannot go on: %s", p->serial, log_reason(r));
        return r == -ENOENT ? -EIO : r;
    }
    return 1;
}

int switch_end(const struct switch_place *p)
{
    _cleanup_close_ int node = open_node(p);
    int r = node < 0 ? node : io_remove_tree(node, SWITCH_DONE);

    if (r < 0) return r;
    return renameat(node, "switch", node, SWITCH_DONE) < 0 && errno != ENOENT ? -errno : 0;
}

int switch_is_left(const struct switch_place *p)
{
    _cleanup_close_ int node = open_node(p);

    if (node < 0) return node == -ENOENT ? 0 : node;
    return exists(node, SWITCH_DONE) || exists(node, "switch");
}

int switch_forget(const struct switch_place *p)
{
    _cleanup_close_ int node = open_node(p);

    if (node < 0) return node == -ENOENT ? 0 : node;
    return io_remove_tree(node, SWITCH_DONE);
}
