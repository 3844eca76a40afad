#include "rebase_file.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "content.h"
#include "io.h"
#include "object.h"
#include "xattr.h"

#define PIECE (256 * 1024)

static uint64_t min(uint64_t a, uint64_t b)
{
    return a < b ? a : b;
}

int rebase_file_get(struct rebase_file f, struct inode *ret)
{
    struct delta *d = view_lock(f.view);
    int r = inode_get(f.view, d, f.ino, ret);

    view_unlock(d);
    return r;
}

/* ---- comparing ---- */

static bool is_whole_chunk(struct rebase_file f, const struct inode *inode)
{
    struct delta *d = view_lock(f.view);
    struct delta_chunk chunk;
    bool is_whole = inode->row.object == DELTA_NO_OBJECT && delta_next_chunk(d, f.ino, 0, &chunk) > 0 &&
                    chunk.source == DELTA_SOURCE_IMAGE && chunk.start == 0 && chunk.end >= inode->row.size;

    view_unlock(d);
    return is_whole && image_inode(f.view->image, inode->row.image_ino)->size == inode->row.size;
}

/* The image's file whose contents are the inode's; 0: none. */
static uint32_t origin(struct rebase_file f, const struct inode *inode)
{
    if (!inode->row.image_ino) return 0;
    return !inode->stored || is_whole_chunk(f, inode) ? inode->row.image_ino : 0;
}

static int same_bytes(struct rebase_file a, struct rebase_file b, uint64_t size)
{
    _cleanup_free_ char *one = malloc(PIECE), *other = malloc(PIECE);
    int same = 1;

    if (!one || !other) return -ENOMEM;
    for (uint64_t at = 0; same && at < size; at += PIECE) {
        uint64_t length = min(size - at, PIECE);
        ssize_t n = content_read(a.view, a.ino, one, length, at), m = n < 0 ? n : content_read(b.view, b.ino, other, length, at);

        if (n < 0 || m < 0) return n < 0 ? (int)n : (int)m;
        same = n == m && memcmp(one, other, n) == 0;
        if (n == 0) break;
    }
    return same;
}

static int same_contents(struct rebase_file a, struct rebase_file b, const struct inode *i, const struct inode *j)
{
    uint32_t origin_a, origin_b;

    if (i->row.size != j->row.size) return 0;
    if (i->row.size == 0) return 1;
    origin_a = origin(a, i);
    origin_b = origin(b, j);
    if (origin_a && origin_a == origin_b && strcmp(image_name(a.view->image), image_name(b.view->image)) == 0) return 1;
    return same_bytes(a, b, i->row.size);
}

static int same_target(struct rebase_file a, struct rebase_file b)
{
    char one[PATH_MAX], other[PATH_MAX];
    int r = inode_readlink(a.view, a.ino, one, sizeof(one));

    if (r >= 0) r = inode_readlink(b.view, b.ino, other, sizeof(other));
    return r < 0 ? r : strcmp(one, other) == 0;
}

/* The names, each ended by NUL; NULL and 0: there are none. */
static int list_xattrs(struct rebase_file f, char **ret_names)
{
    ssize_t length = xattr_list(f.view, f.ino, NULL, 0);

    *ret_names = length > 0 ? malloc(length) : NULL;
    if (length > 0 && !*ret_names) return -ENOMEM;
    return length > 0 ? xattr_list(f.view, f.ino, *ret_names, length) : length;
}

/* 1: whatever `a` has `b` has, too. */
static int has_xattrs(struct rebase_file a, struct rebase_file b)
{
    _cleanup_free_ char *names = NULL, *one = malloc(XATTR_SIZE), *other = malloc(XATTR_SIZE);
    int length = list_xattrs(a, &names);

    if (!one || !other) return -ENOMEM;
    for (const char *name = names; length > 0 && name < names + length; name += strlen(name) + 1) {
        ssize_t n = xattr_get(a.view, a.ino, name, one, XATTR_SIZE), m = xattr_get(b.view, b.ino, name, other, XATTR_SIZE);

        if (m == -ENODATA) return 0;
        if (n < 0 || m < 0) return n < 0 ? n : m;
        if (n != m || memcmp(one, other, n) != 0) return 0;
    }
    return length < 0 ? length : 1;
}

int rebase_file_same(struct rebase_file a, struct rebase_file b)
{
    struct inode i, j;
    int r = rebase_file_get(a, &i);

    if (r == 0) r = rebase_file_get(b, &j);
    if (r < 0) return r;
    if (i.row.mode != j.row.mode || i.row.uid != j.row.uid || i.row.gid != j.row.gid) return 0;
    if ((S_ISCHR(i.row.mode) || S_ISBLK(i.row.mode)) && i.row.rdev != j.row.rdev) return 0;
    r = has_xattrs(a, b);
    if (r > 0) r = has_xattrs(b, a);
    if (r <= 0) return r;
    if (S_ISREG(i.row.mode)) return same_contents(a, b, &i, &j);
    return S_ISLNK(i.row.mode) ? same_target(a, b) : 1;
}

/* ---- copying ---- */

/* What the rows of a file say of its contents. */
struct contents {
    struct delta_chunk *chunks;
    size_t count;
    char row[CONTENT_ROW_MAX];
    size_t row_size;
    bool has_row, needs_image;
};

static int read_contents(struct rebase_file f, struct contents *c)
{
    struct delta *d = view_lock(f.view);
    struct delta_chunk chunk = {0};
    int r = d ? delta_get_content(d, f.ino, c->row, sizeof(c->row), &c->row_size) : -EINVAL;

    c->has_row = r > 0;
    while (r >= 0 && (r = delta_next_chunk(d, f.ino, chunk.end, &chunk)) > 0) {
        struct delta_chunk *grown = reallocarray(c->chunks, c->count + 1, sizeof(*grown));

        if (!grown) r = -ENOMEM;
        else (c->chunks = grown)[c->count++] = chunk;
        c->needs_image |= chunk.source == DELTA_SOURCE_IMAGE;
    }
    view_unlock(d);
    return r;
}

static int share(struct rebase_file from, struct rebase_file to, int64_t object)
{
    int r = object_share(delta_objects_fd(atomic_load(&from.view->delta)), object, delta_objects_fd(atomic_load(&to.view->delta)));

    return r == -EEXIST ? 0 : r;
}

static int share_all(struct rebase_file from, struct rebase_file to, const struct inode *inode, const struct contents *c)
{
    int r = inode->row.object > 0 ? share(from, to, inode->row.object) : 0;

    for (size_t i = 0; r == 0 && i < c->count; i++)
        if (c->chunks[i].source > DELTA_SOURCE_ROW) r = share(from, to, c->chunks[i].source);
    return r;
}

static int put_contents(struct rebase_file to, struct delta *d, const struct inode *from, const struct contents *c)
{
    struct inode inode;
    int r = inode_get(to.view, d, to.ino, &inode);

    if (r == 0) r = inode_put(to.view, d, &inode);
    if (r == 0) r = delta_clear_inode(d, to.ino);
    inode.row.size = from->row.size;
    inode.row.object = from->row.object;
    inode.row.chunked = from->row.chunked;
    if (r == 0) r = inode_put(to.view, d, &inode);
    if (r == 0 && c->has_row) r = delta_set_content(d, to.ino, c->row, c->row_size);
    for (size_t i = 0; r == 0 && i < c->count; i++) r = delta_add_chunk(d, to.ino, &c->chunks[i]);
    return r;
}

/* Rows as they are, and links to objects. */
static int adopt(struct rebase_file from, struct rebase_file to, const struct inode *inode, const struct contents *c)
{
    struct delta *d;
    int r = view_begin(to.view, &d);

    if (r == 0) r = view_end(to.view, d, put_contents(to, d, inode, c), VIEW_LAZY);
    return r < 0 ? r : share_all(from, to, inode, c);
}

static int copy_range(struct rebase_file from, struct rebase_file to, char *buffer, uint64_t at, uint64_t end)
{
    while (at < end) {
        ssize_t n = content_read(from.view, from.ino, buffer, min(end - at, PIECE), at);
        int r = n > 0 ? content_write(to.view, to.ino, buffer, n, at) : n < 0 ? (int)n : -EIO;

        if (r < 0) return r;
        at += n;
    }
    return 0;
}

static int copy(struct rebase_file from, struct rebase_file to, uint64_t size)
{
    _cleanup_free_ char *buffer = malloc(PIECE);
    int r = buffer ? content_truncate(to.view, to.ino, 0, NULL) : -ENOMEM;

    for (uint64_t at = 0; r == 0 && at < size;) {
        off_t data = content_seek(from.view, from.ino, at, SEEK_DATA), hole;

        if (data == -ENXIO) break;
        hole = data < 0 ? data : content_seek(from.view, from.ino, data, SEEK_HOLE);
        r = hole < 0 ? (int)hole : copy_range(from, to, buffer, data, min(hole, size));
        at = hole;
    }
    return r < 0 ? r : content_truncate(to.view, to.ino, size, NULL);
}

int rebase_file_fill(struct rebase_file from, struct rebase_file to, bool is_base)
{
    struct contents c = {0};
    struct inode inode;
    int r = rebase_file_get(from, &inode);

    if (r == 0 && inode.stored) r = read_contents(from, &c);
    if (r == 0 && inode.stored && (is_base || !c.needs_image)) r = adopt(from, to, &inode, &c);
    else if (r == 0) r = copy(from, to, inode.row.size);
    free(c.chunks);
    return r;
}

static int drop_xattrs(struct rebase_file f)
{
    _cleanup_free_ char *names = NULL;
    int length = list_xattrs(f, &names), r = 0;

    for (const char *name = names; r == 0 && length > 0 && name < names + length; name += strlen(name) + 1)
        r = xattr_remove(f.view, f.ino, name);
    return length < 0 ? length : r;
}

static int copy_xattrs(struct rebase_file from, struct rebase_file to)
{
    _cleanup_free_ char *names = NULL, *value = malloc(XATTR_SIZE);
    int length = list_xattrs(from, &names), r = value ? 0 : -ENOMEM;

    for (const char *name = names; r == 0 && length > 0 && name < names + length; name += strlen(name) + 1) {
        ssize_t size = xattr_get(from.view, from.ino, name, value, XATTR_SIZE);

        r = size < 0 ? (int)size : xattr_set(to.view, to.ino, name, value, size, 0);
    }
    return length < 0 ? length : r;
}

/* Owners first, as a change of theirs takes the set-id bits and capabilities away. */
int rebase_file_dress(struct rebase_file from, struct rebase_file to)
{
    struct stat st = {0};
    struct inode_change owners = {&st, INODE_UID | INODE_GID}, rest = {&st, INODE_MODE | INODE_ATIME | INODE_MTIME};
    int r = inode_stat(from.view, from.ino, &st);

    if (r == 0) r = inode_change(to.view, to.ino, &owners);
    if (r == 0) r = drop_xattrs(to);
    if (r == 0) r = copy_xattrs(from, to);
    if (S_ISLNK(st.st_mode)) rest.set &= ~INODE_MODE;
    return r < 0 ? r : inode_change(to.view, to.ino, &rest);
}
