#include "diff_inode.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "content.h"
#include "diff.h"
#include "io.h"
#include "xattr.h"

#define BLOCK 65536

/* Inodes of one image that neither view has a row of. */
static bool is_untouched(struct view *old, const struct inode *a, struct view *new, const struct inode *b)
{
    return old->image == new->image && !a->stored && !b->stored && a->row.image_ino == b->row.image_ino;
}

static unsigned compare_rows(const struct delta_inode *a, const struct delta_inode *b)
{
    unsigned what = 0;

    if (a->mode != b->mode) what |= DIFF_MODE;
    if (a->uid != b->uid || a->gid != b->gid) what |= DIFF_OWNER;
    if (a->mtime != b->mtime) what |= DIFF_TIME;
    if (!S_ISDIR(a->mode) && a->nlink != b->nlink) what |= DIFF_LINKS;
    if (!S_ISDIR(a->mode) && a->size != b->size) what |= DIFF_CONTENTS;
    if ((S_ISCHR(a->mode) || S_ISBLK(a->mode)) && a->rdev != b->rdev) what |= DIFF_CONTENTS;
    return what;
}

/* ---- contents ---- */

/* 1: all of the file shows the image's bytes. Unequal sizes are told already. */
static int is_of_image(struct view *v, const struct inode *i)
{
    struct delta *d;
    struct delta_chunk chunk;
    int r;

    if (!i->row.image_ino || i->row.object != DELTA_NO_OBJECT) return 0;
    if (!i->stored || i->row.size == 0) return 1;
    d = view_lock(v);
    r = i->row.chunked ? delta_next_chunk(d, i->row.ino, 0, &chunk) : 0;
    view_unlock(d);
    return r > 0 ? chunk.start == 0 && chunk.end >= i->row.size && chunk.source == DELTA_SOURCE_IMAGE : r;
}

/* 1: the two views have one object, which is not written any more. Its rows have not changed either, as every change of
 * contents is one of ctime. */
static int is_one_object(struct view *old, const struct delta_inode *a, struct view *new, const struct delta_inode *b)
{
    _cleanup_view_file_ struct view_file left = {0}, right = {0};
    struct stat x, y;
    int p, q;

    if (a->ino != b->ino || a->object <= DELTA_IN_ROW || a->object != b->object || a->ctime != b->ctime) return 0;
    p = view_open_object(old, a->ino, a->object, &left);
    q = view_open_object(new, b->ino, b->object, &right);
    if (p < 0 || q < 0) return p < 0 ? p : q;
    if (fstat(p, &x) < 0 || fstat(q, &y) < 0) return -errno;
    return x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static int is_shared(struct view *old, const struct inode *a, struct view *new, const struct inode *b)
{
    int r;

    if (old->image == new->image && a->row.image_ino == b->row.image_ino) {
        r = is_of_image(old, a);
        if (r > 0) r = is_of_image(new, b);
        if (r != 0) return r;
    }
    return is_one_object(old, &a->row, new, &b->row);
}

/* 1: other bytes. */
static int compare_bytes(struct view *old, const struct delta_inode *a, struct view *new, const struct delta_inode *b)
{
    _cleanup_free_ char *left = malloc(BLOCK), *right = malloc(BLOCK);

    if (!left || !right) return -ENOMEM;
    for (uint64_t offset = 0; offset < a->size; offset += BLOCK) {
        ssize_t n = content_read(old, a->ino, left, BLOCK, offset), m = content_read(new, b->ino, right, BLOCK, offset);

        if (n < 0 || m < 0) return n < 0 ? n : m;
        if (n != m || memcmp(left, right, n) != 0) return 1;
    }
    return 0;
}

static int compare_targets(struct view *old, const struct delta_inode *a, struct view *new, const struct delta_inode *b)
{
    char left[4097], right[4097];
    int n = inode_readlink(old, a->ino, left, sizeof(left)), m = inode_readlink(new, b->ino, right, sizeof(right));

    if (n < 0 || m < 0) return n < 0 ? n : m;
    return strcmp(left, right) != 0;
}

/* 1: other contents, or likely so: reading what is listed in any case would tell little. */
static int compare_contents(struct view *old, const struct inode *a, struct view *new, const struct inode *b, unsigned what)
{
    int r;

    if (what & DIFF_CONTENTS) return 0;
    if (S_ISLNK(a->row.mode)) return compare_targets(old, &a->row, new, &b->row);
    if (!S_ISREG(a->row.mode)) return 0;
    r = is_shared(old, a, new, b);
    if (r != 0) return r < 0 ? r : 0;
    return what & DIFF_TIME ? a->row.size > 0 : compare_bytes(old, &a->row, new, &b->row);
}

/* ---- extended attributes ---- */

static int list(struct view *v, uint64_t ino, char **ret_names, size_t *ret_size)
{
    ssize_t size = xattr_list(v, ino, NULL, 0);

    if (size < 0) return size;
    *ret_names = malloc(size + 1);
    if (!*ret_names) return -ENOMEM;
    size = size ? xattr_list(v, ino, *ret_names, size) : 0;
    *ret_size = size > 0 ? size : 0;
    return size < 0 ? size : 0;
}

/* 1: one of a's is missing in b or has another value. */
static int is_unlike(struct view *old, uint64_t a, struct view *new, uint64_t b, const char *names, size_t size)
{
    _cleanup_free_ char *left = malloc(XATTR_SIZE), *right = malloc(XATTR_SIZE);

    if (!left || !right) return -ENOMEM;
    for (const char *name = names; name < names + size; name += strlen(name) + 1) {
        ssize_t n = xattr_get(old, a, name, left, XATTR_SIZE), m = xattr_get(new, b, name, right, XATTR_SIZE);

        if (m == -ENODATA) return 1;
        if (n < 0 || m < 0) return n < 0 ? n : m;
        if (n != m || memcmp(left, right, n) != 0) return 1;
    }
    return 0;
}

static int compare_xattrs(struct view *old, uint64_t a, struct view *new, uint64_t b)
{
    _cleanup_free_ char *left = NULL, *right = NULL;
    size_t left_size, right_size;
    int r = list(old, a, &left, &left_size);

    if (r == 0) r = list(new, b, &right, &right_size);
    if (r < 0) return r;
    if (left_size != right_size) return 1;
    return left_size ? is_unlike(old, a, new, b, left, left_size) : 0;
}

int diff_inode(struct view *old, const struct inode *a, struct view *new, const struct inode *b, unsigned *ret_what)
{
    unsigned what;
    int r;

    *ret_what = 0;
    if (is_untouched(old, a, new, b)) return 0;
    what = compare_rows(&a->row, &b->row);
    r = compare_contents(old, a, new, b, what);
    if (r > 0) what |= DIFF_CONTENTS;
    if (r >= 0) r = compare_xattrs(old, a->row.ino, new, b->row.ino);
    if (r > 0) what |= DIFF_XATTRS;
    *ret_what = what;
    return r < 0 ? r : 0;
}
