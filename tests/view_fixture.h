/* view_fixture: a small image, made here, and a node's view of it, without FUSE.
 *
 *   sizes/<bytes>      0, 1, 4095, 4096, 4097, 16384, 16385, 300000 bytes of view_fixture_fill(), seed: the size
 *   sparse             200,000 bytes, of which [65536, 70000) and [131072, 131073) are data, seed 77
 *   links/a, links/b, linked   one inode of 5,000 bytes, seed 5000
 *   symlinks/short, symlinks/dangling, fifo
 *   tree/from_file, tree/from_dir/inner, tree/to_file, tree/to_empty/, tree/to_full/inner, and other/ with the same
 *   xattrs/file        user.color=red, user.shape=round
 *   acl/               a default ACL: named user 1000 rwx, mask rwx, others nothing
 *   listed                with an access ACL: named user 1000 r
 *   empty/ */
#pragma once

#include <sys/stat.h>

#include "fdcache.h"
#include "identity.h"
#include "image.h"
#include "inode.h"
#include "names.h"
#include "room.h"
#include "scratch.h"
#include "view.h"

enum { VIEW_FIXTURE_SPARSE = 200000 };

struct view_fixture {
    void *scratch; /* see scratch_setup() */
    struct identity identity;
    struct room room;
    struct view_shared shared; /* not sync */
    struct image *image;
    struct view *view; /* open between view_fixture_open() and view_fixture_close() */
    char serial[64];
};

/* cmocka's group set-up and tear-down: *state is a struct view_fixture without a view. */
int view_fixture_setup(void **state);
int view_fixture_teardown(void **state);

/* The view of a node, with the changes it has, if any. */
struct view *view_fixture_open(struct view_fixture *fixture, const char *serial);
void view_fixture_close(struct view_fixture *fixture);
/* Closed and opened again, at a new mount or by the next daemon of the same one. */
struct view *view_fixture_reopen(struct view_fixture *fixture);
struct view *view_fixture_hand_over(struct view_fixture *fixture);

/* "<scratch>/nodes/<serial>/<name>", as scratch_path(). */
const char *view_fixture_path(struct view_fixture *fixture, const char *name);

/* Contents of files: never a zero byte, so that a hole shows. */
void view_fixture_fill(uint64_t seed, uint64_t offset, void *buffer, size_t size);

extern const struct names_caller view_fixture_caller; /* root, umask 022 */

/* The inode of a path in the view; fails the test when there is none. view_fixture_has(): or not. */
uint64_t view_fixture_find(struct view *view, const char *path);
bool view_fixture_has(struct view *view, const char *path, uint64_t *ret_ino);
struct stat view_fixture_stat(struct view *view, uint64_t ino);

/* inode_change() */
int view_fixture_change(struct view *view, uint64_t ino, const struct stat *stat, int set);

/* The whole tree in itself: types and link counts, "..", look-ups of everything that is listed, cookies. */
void view_fixture_check(struct view *view);
