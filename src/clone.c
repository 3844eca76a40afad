#include "clone.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "catalog_snapshot.h"
#include "commit.h"
#include "io.h"
#include "switch.h"

#define MARK ".unborn"

struct move {
    int nodes_fd;
    const char *from, *to;
};

static int put_in_place(void *data)
{
    struct move *m = data;

    if (renameat2(m->nodes_fd, m->from, m->nodes_fd, m->to, RENAME_NOREPLACE) < 0) return -errno;
    return commit_object(m->nodes_fd, true);
}

int clone_prepare(int nodes_fd, const char *name)
{
    _cleanup_free_ char *mark = io_format("%s/" MARK, name);
    int r = mark ? io_mkdir(nodes_fd, mark, 0700) : -ENOMEM;

    return r < 0 ? r : commit_publish_delta(nodes_fd, name, name);
}

int clone_add(const struct clone_place *place, const char *name, const struct catalog_node *row, const char *image)
{
    struct move move = {place->nodes_fd, name, row->serial};
    int r = catalog_add_clone(place->catalog, row, image, put_in_place, &move);
    int settled = clone_settle(place, row->serial);

    return r < 0 ? r : settled;
}

/* A number is bound to an image by the commit that adds the clone, else when the node is first looked into, which comes after this:
 * so of a directory with a mark it tells whether the row was committed. */
static int is_born(const struct clone_place *place, const char *serial)
{
    _cleanup_free_ char *image = NULL;
    int r = catalog_bound_image(place->catalog, serial, &image);

    if (r == -ENOENT) return 0;
    return r < 0 ? r : image != NULL;
}

int clone_settle(const struct clone_place *place, const char *serial)
{
    _cleanup_free_ char *mark = io_format("%s/" MARK, serial);
    int r;

    if (!mark) return -ENOMEM;
    if (faccessat(place->nodes_fd, mark, F_OK, AT_SYMLINK_NOFOLLOW) < 0) return 0;
    r = is_born(place, serial);
    if (r < 0) return r;
    if (r == 0) return switch_discard(place->nodes_fd, serial, place->nodes_fd, serial);
    return unlinkat(place->nodes_fd, mark, AT_REMOVEDIR) < 0 && errno != ENOENT ? -errno : 0;
}
