#include "fuse_ops.h"

#include <errno.h>
#include <fuse_lowlevel.h>
#include <linux/fuse.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>

#include "asker.h"
#include "content.h"
#include "dirent.h"
#include "io.h"
#include "log.h"
#include "names.h"
#include "replay.h"
#include "xattr.h"

/* The daemon is the only one who writes: what the kernel knows stays true until the daemon says otherwise. */
#define FOREVER 1e9

#define MAX_TRANSFER CHANNEL_TRANSFER
#define NAME_LENGTH 255

static struct fuse_ops *ops(fuse_req_t req)
{
    return fuse_req_userdata(req);
}

static struct tree *tree(fuse_req_t req)
{
    return ops(req)->tree;
}

/* The protocol's edge: errors become positive here, and nowhere else. */
static void reply(fuse_req_t req, int result)
{
    fuse_reply_err(req, result < 0 ? -result : 0);
}

static struct names_caller caller(fuse_req_t req)
{
    const struct fuse_ctx *ctx = fuse_req_ctx(req);

    return (struct names_caller){.uid = ctx->uid, .gid = ctx->gid, .umask = ctx->umask};
}

/* A file inside a view. Above them all is read-only. */
static int get_in_view(fuse_req_t req, fuse_ino_t nodeid, struct tree_file *ret)
{
    int r = tree_get(tree(req), nodeid, ret);

    return r < 0 ? r : ret->kind == TREE_VIEW ? 0 : -EROFS;
}

static struct tree_file in_same_view(const struct tree_file *file, uint64_t ino)
{
    return (struct tree_file){.kind = TREE_VIEW, .node = file->node, .view = file->view, .ino = ino};
}

/* Fills in what LOOKUP and its like answer, and counts the kernel's reference, first: what nobody refers to may end at any
 * moment. tree_forget() if the answer never gets there. */
static int fill_entry(fuse_req_t req, const struct tree_file *file, struct fuse_entry_param *e)
{
    double timeout = tree_lasts(file) ? FOREVER : 0;
    int r;

    *e = (struct fuse_entry_param){
        .ino = tree_nodeid(tree(req), file),
        .generation = tree_generation(tree(req), file),
        .attr_timeout = timeout,
        /* Asked for each time, so that it can be refused: see refuses(). */
        .entry_timeout = file->kind == TREE_NODE && tree_is_confined(tree(req)) ? 0 : timeout,
    };
    r = tree_refer(file);
    if (r < 0) return r;
    r = tree_stat(tree(req), file, &e->attr);
    if (r < 0) tree_forget(tree(req), e->ino, 1);
    return r;
}

/* nfsd takes ETIMEDOUT for "later", anything unexpected for a stale handle. */
static int lookup_error(int error)
{
    bool is_passing = error == -EBUSY || error == -ENOMEM || error == -EMFILE || error == -ENFILE || error == -ENOSPC;

    return is_passing ? -ETIMEDOUT : error;
}

static void reply_filled(fuse_req_t req, struct fuse_entry_param *e)
{
    struct tree *t = tree(req);

    if (fuse_reply_entry(req, e) < 0) tree_forget(t, e->ino, 1);
}

static void reply_entry(fuse_req_t req, const struct tree_file *file)
{
    struct fuse_entry_param e;
    int r = fill_entry(req, file, &e);

    if (r < 0) reply(req, lookup_error(r));
    else reply_filled(req, &e);
}

/* A view lasts: a name that is not there will not come without the kernel's knowledge. */
static void reply_missing(fuse_req_t req, const struct tree_file *dir)
{
    struct fuse_entry_param e = {.entry_timeout = FOREVER};

    if (dir->kind == TREE_VIEW) fuse_reply_entry(req, &e);
    else reply(req, -ENOENT);
}

/* The caller puts *ret. */
static int find(fuse_req_t req, const struct tree_file *dir, const char *name, struct tree_file *ret)
{
    struct tree_file self = {0};
    uint64_t ino;
    int r;

    if (strlen(name) > NAME_LENGTH) return -ENAMETOOLONG; /* the kernel passes on up to 1024 bytes */
    if (dir->kind != TREE_VIEW || (dir->ino == DELTA_ROOT && strcmp(name, "..") == 0))
        return tree_lookup(tree(req), dir, name, ret);
    r = names_lookup(dir->view, dir->ino, name, &ino);
    if (r < 0) return r;
    r = tree_lookup(tree(req), dir, ".", &self);
    *ret = self;
    ret->ino = ino;
    return r;
}

/* One handle can be guessed: the mount's own root is nodeid 1 in every FUSE mount, and nfsd takes it in the name of any
 * export. The kernel knows the way from there to system/ by itself; but names in it are asked for each time (fill_entry),
 * and here a node would go on to another's root. ENOMEM, which nfsd tells the client as "later": after any other error
 * the kernel would drop what it has of that name, which others use. */
static bool refuses(fuse_req_t req, const struct tree_file *dir, const char *name)
{
    return dir->kind == TREE_SYSTEM && strcmp(name, ".") != 0 && strcmp(name, "..") != 0 && asker_is_nfsd(fuse_req_ctx(req)->pid) &&
           tree_is_confined(tree(req));
}

static void reply_found(fuse_req_t req, const struct tree_file *dir, const char *name, const struct tree_file *file)
{
    bool is_name = dir->kind == TREE_VIEW && strcmp(name, ".") != 0 && strcmp(name, "..") != 0;
    struct fuse_entry_param e;
    int r = fill_entry(req, file, &e);

    if (r == -ESTALE && is_name) r = names_explain(dir->view, dir->ino, name);
    if (r < 0) reply(req, lookup_error(r));
    else reply_filled(req, &e);
}

static void op_lookup(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    _cleanup_file_ struct tree_file dir = {0}, file = {0};
    int r = tree_get(tree(req), parent, &dir);

    /* A node whose changes cannot be read just now: whoever holds a handle asks again. */
    if (r == -EIO && strcmp(name, ".") == 0) r = -ETIMEDOUT;
    if (r == 0 && refuses(req, &dir, name)) {
        reply(req, -ENOMEM);
        return;
    }
    if (r == 0) r = find(req, &dir, name, &file);
    if (r == -ENOENT) reply_missing(req, &dir);
    else if (r < 0) reply(req, lookup_error(r));
    else reply_found(req, &dir, name, &file);
}

static void op_forget(fuse_req_t req, fuse_ino_t nodeid, uint64_t count)
{
    tree_forget(tree(req), nodeid, count);
    fuse_reply_none(req);
}

static void op_forget_multi(fuse_req_t req, size_t count, struct fuse_forget_data *forgets)
{
    for (size_t i = 0; i < count; i++) tree_forget(tree(req), forgets[i].ino, forgets[i].nlookup);
    fuse_reply_none(req);
}

static void reply_attr(fuse_req_t req, const struct tree_file *file)
{
    struct stat st;
    int r = tree_stat(tree(req), file, &st);

    if (r < 0) reply(req, r);
    else fuse_reply_attr(req, &st, tree_lasts(file) ? FOREVER : 0);
}

static void op_getattr(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file file = {0};
    int r = tree_get(tree(req), nodeid, &file);

    (void)fi;
    if (r < 0) reply(req, r);
    else reply_attr(req, &file);
}

static int to_change(int to_set)
{
    static const int bits[][2] = {
        {FUSE_SET_ATTR_MODE, INODE_MODE},       {FUSE_SET_ATTR_UID, INODE_UID},
        {FUSE_SET_ATTR_GID, INODE_GID},         {FUSE_SET_ATTR_ATIME, INODE_ATIME},
        {FUSE_SET_ATTR_MTIME, INODE_MTIME},     {FUSE_SET_ATTR_ATIME_NOW, INODE_ATIME | INODE_ATIME_NOW},
        {FUSE_SET_ATTR_MTIME_NOW, INODE_MTIME | INODE_MTIME_NOW},
    };
    int set = 0;

    for (size_t i = 0; i < sizeof(bits) / sizeof(*bits); i++)
        if (to_set & bits[i][0]) set |= bits[i][1];
    return set;
}

/* chown(path, -1, -1) clears set-id bits too, but comes as a request that names nothing (fs/fuse/dir.c, fuse_setattr). So does
 * what precedes a write of somebody else's, which clears them itself; and of neither has the kernel checked whose file it is. */
static bool is_owner_s_chown_to_nobody(fuse_req_t req, const struct tree_file *file, int to_set)
{
    uid_t uid = fuse_req_ctx(req)->uid;
    struct stat st;

    return to_set == 0 && (uid == 0 || (inode_stat(file->view, file->ino, &st) == 0 && st.st_uid == uid));
}

static int change_attributes(fuse_req_t req, const struct tree_file *file, const struct stat *st, int to_set)
{
    struct inode_change change = {.stat = st, .set = to_change(to_set)};

    if (channel_kills_ids() || is_owner_s_chown_to_nobody(req, file, to_set)) change.set |= INODE_KILL_IDS;
    if (!(to_set & FUSE_SET_ATTR_SIZE)) return inode_change(file->view, file->ino, &change);
    return content_truncate(file->view, file->ino, st->st_size, change.set ? &change : NULL);
}

static void op_setattr(fuse_req_t req, fuse_ino_t nodeid, struct stat *st, int to_set, struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file file = {0};
    int r = get_in_view(req, nodeid, &file);

    (void)fi;
    if (r == 0 && !replay_begin(&(uint64_t){0})) r = change_attributes(req, &file, st, to_set);
    if (r < 0) reply(req, r);
    else reply_attr(req, &file);
}

static void op_readlink(fuse_req_t req, fuse_ino_t nodeid)
{
    _cleanup_file_ struct tree_file file = {0};
    char target[4096];
    int r = tree_get(tree(req), nodeid, &file);

    if (r == 0 && file.kind == TREE_VIEW) r = inode_readlink(file.view, file.ino, target, sizeof(target));
    else if (r == 0) r = tree_readlink(tree(req), &file, target, sizeof(target));
    if (r < 0) reply(req, r);
    else fuse_reply_readlink(req, target);
}

static int make(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev, struct tree_file *dir,
                struct tree_file *ret)
{
    struct names_caller who = caller(req);
    uint64_t ino;
    int r = get_in_view(req, parent, dir);

    if (r == 0 && !replay_begin(&ino)) r = names_make(dir->view, &who, dir->ino, name, mode, rdev, &ino);
    if (r == 0) *ret = in_same_view(dir, ino);
    return r;
}

static void op_mknod(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode, dev_t rdev)
{
    _cleanup_file_ struct tree_file dir = {0};
    struct tree_file file;
    int r = make(req, parent, name, mode, rdev, &dir, &file);

    if (r < 0) reply(req, r);
    else reply_entry(req, &file);
}

static void op_mkdir(fuse_req_t req, fuse_ino_t parent, const char *name, mode_t mode)
{
    op_mknod(req, parent, name, (mode & ~S_IFMT) | S_IFDIR, 0);
}

#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
static void op_tmpfile(fuse_req_t req, fuse_ino_t parent, mode_t mode, struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file dir = {0};
    struct names_caller who = caller(req);
    struct tree *t = tree(req);
    struct fuse_entry_param e;
    struct tree_file file;
    uint64_t ino;
    int r = get_in_view(req, parent, &dir);

    if (r == 0) r = names_make_unnamed(dir.view, &who, dir.ino, (mode & ~S_IFMT) | S_IFREG, &ino);
    if (r == 0) {
        file = in_same_view(&dir, ino);
        r = fill_entry(req, &file, &e);
        view_forget(dir.view, ino, 1); /* the reply's reference is counted in the entry */
    }
    fi->keep_cache = 1;
    if (r < 0) reply(req, r);
    else if (fuse_reply_create(req, &e, fi) < 0) tree_forget(t, e.ino, 1);
}
#endif

/* Opens carry no state: the kernel need not ask again (DESIGN.md, "FUSE"). */
static void op_open(fuse_req_t req, fuse_ino_t nodeid, struct fuse_file_info *fi)
{
    (void)nodeid;
    (void)fi;
    reply(req, -ENOSYS);
}

static void op_symlink(fuse_req_t req, const char *target, fuse_ino_t parent, const char *name)
{
    _cleanup_file_ struct tree_file dir = {0};
    struct names_caller who = caller(req);
    struct tree_file file;
    uint64_t ino;
    int r = get_in_view(req, parent, &dir);

    if (r == 0 && !replay_begin(&ino)) r = names_symlink(dir.view, &who, dir.ino, name, target, &ino);
    if (r < 0) {
        reply(req, r);
        return;
    }
    file = in_same_view(&dir, ino);
    reply_entry(req, &file);
}

static void remove_name(fuse_req_t req, fuse_ino_t parent, const char *name,
                        int (*remove)(struct view *, uint64_t, const char *))
{
    _cleanup_file_ struct tree_file dir = {0};
    int r = get_in_view(req, parent, &dir);

    if (r == 0 && !replay_begin(&(uint64_t){0})) r = remove(dir.view, dir.ino, name);
    reply(req, r);
}

static void op_unlink(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, names_unlink);
}

static void op_rmdir(fuse_req_t req, fuse_ino_t parent, const char *name)
{
    remove_name(req, parent, name, names_rmdir);
}

/* Two files that one operation concerns: each node's names and links are its own. */
static int get_both(fuse_req_t req, fuse_ino_t a, fuse_ino_t b, struct tree_file *file_a, struct tree_file *file_b)
{
    int r = get_in_view(req, a, file_a);

    if (r == 0) r = get_in_view(req, b, file_b);
    return r == 0 && file_a->view != file_b->view ? -EXDEV : r;
}

static void op_rename(fuse_req_t req, fuse_ino_t parent, const char *name, fuse_ino_t new_parent, const char *new_name,
                      unsigned flags)
{
    _cleanup_file_ struct tree_file from = {0}, to = {0};
    struct names_caller who = caller(req);
    int r = get_both(req, parent, new_parent, &from, &to);

    if (r == 0 && !replay_begin(&(uint64_t){0}))
        r = names_rename(from.view, &who, from.ino, name, to.ino, new_name, flags);
    reply(req, r);
}

static void op_link(fuse_req_t req, fuse_ino_t nodeid, fuse_ino_t new_parent, const char *new_name)
{
    _cleanup_file_ struct tree_file file = {0}, dir = {0};
    int r = get_both(req, nodeid, new_parent, &file, &dir);

    if (r == 0 && !replay_begin(&(uint64_t){0})) r = names_link(file.view, file.ino, dir.ino, new_name);
    if (r < 0) reply(req, r);
    else reply_entry(req, &file);
}

/* ---- contents ---- */

static pthread_key_t buffer_key;
static pthread_once_t buffer_once = PTHREAD_ONCE_INIT;

static void make_buffer_key(void)
{
    pthread_key_create(&buffer_key, free);
}

/* One for each thread, as long as it lives: a fresh megabyte costs more than the read. */
static char *transfer_buffer(void)
{
    char *buffer;

    pthread_once(&buffer_once, make_buffer_key);
    buffer = pthread_getspecific(buffer_key);
    if (!buffer && (buffer = malloc(MAX_TRANSFER))) pthread_setspecific(buffer_key, buffer);
    return buffer;
}

static void op_read(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file file = {0};
    char *buffer = transfer_buffer();
    ssize_t n = get_in_view(req, nodeid, &file);

    (void)fi;
    if (!buffer) n = -ENOMEM;
    if (n == 0) n = content_read(file.view, file.ino, buffer, size < MAX_TRANSFER ? size : MAX_TRANSFER, offset);
    if (n < 0) reply(req, n);
    else fuse_reply_buf(req, buffer, n);
}

/* The kernel looks at set-id bits in what it has cached, which a WRITE does not refresh. */
static int clear_ids(fuse_req_t req, fuse_ino_t nodeid, const struct tree_file *file)
{
    int r = inode_clear_ids(file->view, file->ino);

    if (r > 0) fuse_lowlevel_notify_inval_inode(ops(req)->session, nodeid, -1, 0);
    return r < 0 ? r : 0;
}

/* These requests have no flag that says so. */
static int clear_ids_of_others(fuse_req_t req, fuse_ino_t nodeid, const struct tree_file *file)
{
    return fuse_req_ctx(req)->uid == 0 ? 0 : clear_ids(req, nodeid, file);
}

static int write_once(const struct tree_file *file, const char *buffer, size_t size, off_t offset)
{
    int r = content_write(file->view, file->ino, buffer, size, offset);

    if (r == 0) replay_done();
    return r;
}

static void op_write(fuse_req_t req, fuse_ino_t nodeid, const char *buffer, size_t size, off_t offset,
                     struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file file = {0};
    int r = get_in_view(req, nodeid, &file);

    (void)fi;
    if (r == 0 && channel_kills_ids()) r = clear_ids(req, nodeid, &file);
    if (r == 0 && !replay_begin(&(uint64_t){0})) r = write_once(&file, buffer, size, offset);
    if (r < 0) reply(req, r);
    else fuse_reply_write(req, size);
}

static void op_fsync(fuse_req_t req, fuse_ino_t nodeid, int data_only, struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file file = {0};
    int r = tree_get(tree(req), nodeid, &file);

    (void)fi;
    if (r == 0 && file.kind == TREE_VIEW) r = content_sync(file.view, file.ino, data_only);
    reply(req, r);
}

static void op_fallocate(fuse_req_t req, fuse_ino_t nodeid, int mode, off_t offset, off_t length, struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file file = {0};
    int r = get_in_view(req, nodeid, &file);

    (void)fi;
    if (r == 0) r = clear_ids_of_others(req, nodeid, &file);
    if (r == 0) r = content_allocate(file.view, file.ino, mode, offset, length);
    reply(req, r);
}

static void op_lseek(fuse_req_t req, fuse_ino_t nodeid, off_t offset, int whence, struct fuse_file_info *fi)
{
    _cleanup_file_ struct tree_file file = {0};
    off_t r = get_in_view(req, nodeid, &file);

    (void)fi;
    if (r == 0) r = content_seek(file.view, file.ino, offset, whence);
    if (r < 0) reply(req, r);
    else fuse_reply_lseek(req, r);
}

static ssize_t copy_range(const struct tree_file *from, off_t from_offset, const struct tree_file *to, off_t to_offset,
                          size_t length, char *buffer)
{
    size_t done = 0;

    while (done < length) {
        size_t size = length - done < MAX_TRANSFER ? length - done : MAX_TRANSFER;
        ssize_t n = content_read(from->view, from->ino, buffer, size, from_offset + done);
        int r = n > 0 ? content_write(to->view, to->ino, buffer, n, to_offset + done) : n;

        if (r < 0) return done ? (ssize_t)done : r;
        if (n == 0) break;
        done += n;
    }
    return done;
}

static void op_copy_file_range(fuse_req_t req, fuse_ino_t from_nodeid, off_t from_offset, struct fuse_file_info *from_fi,
                               fuse_ino_t to_nodeid, off_t to_offset, struct fuse_file_info *to_fi, size_t length, int flags)
{
    _cleanup_file_ struct tree_file from = {0}, to = {0};
    char *buffer = transfer_buffer();
    ssize_t n = get_in_view(req, from_nodeid, &from);

    (void)from_fi;
    (void)to_fi;
    (void)flags;
    if (n == 0) n = get_in_view(req, to_nodeid, &to);
    if (n == 0 && !buffer) n = -ENOMEM;
    /* A reply holds 32 bits; the caller asks again for the rest. */
    if (length > 1u << 30) length = 1u << 30;
    if (n == 0) n = clear_ids_of_others(req, to_nodeid, &to);
    if (n == 0) n = copy_range(&from, from_offset, &to, to_offset, length, buffer);
    if (n < 0) reply(req, n);
    else fuse_reply_write(req, n);
}

static void op_statfs(fuse_req_t req, fuse_ino_t nodeid)
{
    struct statvfs st;

    (void)nodeid;
    if (fstatvfs(ops(req)->store_fd, &st) < 0) {
        reply(req, -errno);
        return;
    }
    st.f_namemax = NAME_LENGTH;
    fuse_reply_statfs(req, &st);
}

/* ---- directories ---- */

struct listing {
    fuse_req_t req;
    char *buffer;
    size_t size, used;
    bool plus;
};

/* 1: added; 0: no room left. `file` is what the name means; for "." and ".." the kernel takes no reference. */
static int list_add(struct listing *l, const struct tree_file *file, const char *name, uint8_t type, uint32_t cookie)
{
    bool dots = cookie <= DIRENT_COOKIE_DOTS;
    struct fuse_entry_param e = {0};
    size_t room = l->size - l->used, need;
    int r = 0;

    if (l->plus && !dots) r = fill_entry(l->req, file, &e);
    if (r == -ESTALE) return r;
    /* One damaged inode does not hide the others: its name is listed, its look-up will say what is wrong. */
    if (r < 0) e = (struct fuse_entry_param){0};
    if (r < 0 || !l->plus || dots) {
        struct stat st;

        r = file->kind == TREE_VIEW ? 0 : tree_stat(tree(l->req), file, &st);
        if (r < 0) return r;
        e.attr.st_mode = file->kind == TREE_VIEW ? (mode_t)type << 12 : st.st_mode;
        e.attr.st_ino = file->kind == TREE_VIEW ? identity_st_ino(view_wire(file->view, file->ino)) : st.st_ino;
    }
    need = l->plus ? fuse_add_direntry_plus(l->req, l->buffer + l->used, room, name, &e, cookie)
                   : fuse_add_direntry(l->req, l->buffer + l->used, room, name, &e.attr, cookie);
    if (need > room) {
        if (e.ino) tree_forget(tree(l->req), e.ino, 1);
        return 0;
    }
    l->used += need;
    return 1;
}

static int list_dots(struct listing *l, const struct tree_file *dir, uint32_t *cookie)
{
    static const char *const names[] = {".", ".."};

    for (; *cookie < DIRENT_COOKIE_DOTS; ++*cookie) {
        _cleanup_file_ struct tree_file file = {0};
        int r = find(l->req, dir, names[*cookie], &file);

        if (r == 0) r = list_add(l, &file, names[*cookie], S_IFDIR >> 12, *cookie + 1);
        if (r <= 0) return r;
    }
    return 1;
}

static int list_view(struct listing *l, const struct tree_file *dir, uint32_t cookie)
{
    struct dirent_entry entry;
    int r;

    for (;;) {
        struct delta *d = view_lock(dir->view);

        r = dirent_next(dir->view, d, dir->ino, cookie, &entry);
        view_unlock(d);
        if (r <= 0) return r;
        struct tree_file file = in_same_view(dir, entry.ino);
        r = list_add(l, &file, entry.name, entry.type, entry.cookie);
        if (r < 0 && r != -ESTALE) return r; /* ESTALE: removed since */
        if (r == 0) return 0;
        cookie = entry.cookie;
    }
}

static int list_top(struct listing *l, const struct tree_file *dir, uint32_t cookie)
{
    for (;;) {
        struct tree_entry entry = {0};
        int r = tree_next(tree(l->req), dir, cookie, &entry);

        if (r <= 0) return r;
        r = list_add(l, &entry.file, entry.name, 0, entry.cookie);
        tree_put(&entry.file);
        if (r <= 0) return r;
        cookie = entry.cookie;
    }
}

static int list(struct listing *l, fuse_ino_t nodeid, uint64_t offset)
{
    _cleanup_file_ struct tree_file dir = {0};
    uint32_t cookie = offset;
    int r = tree_get(tree(l->req), nodeid, &dir);

    if (r < 0) return r;
    if (offset > INT32_MAX) return -EINVAL;
    r = list_dots(l, &dir, &cookie);
    if (r <= 0) return r;
    return dir.kind == TREE_VIEW ? list_view(l, &dir, cookie) : list_top(l, &dir, cookie);
}

/* The answer did not get there: nobody learned of what it holds. */
static void forget_listed(struct tree *t, const struct listing *l)
{
    for (size_t at = 0; l->plus && at < l->used;) {
        const struct fuse_direntplus *e = (const void *)(l->buffer + at);

        if (e->entry_out.nodeid) tree_forget(t, e->entry_out.nodeid, 1);
        at += FUSE_DIRENTPLUS_SIZE(e);
    }
}

static void read_directory(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, bool plus)
{
    struct listing l = {.req = req, .buffer = transfer_buffer(), .size = size < MAX_TRANSFER ? size : MAX_TRANSFER, .plus = plus};
    struct tree *t = tree(req); /* the request ends with its answer */
    int r = l.buffer ? list(&l, nodeid, offset) : -ENOMEM;

    /* What was found before a failure is delivered; the next request runs into it again. */
    if (r < 0 && l.used == 0) reply(req, r);
    else if (fuse_reply_buf(req, l.buffer, l.used) < 0) forget_listed(t, &l);
}

static void op_readdir(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
    (void)fi;
    read_directory(req, nodeid, size, offset, false);
}

static void op_readdirplus(fuse_req_t req, fuse_ino_t nodeid, size_t size, off_t offset, struct fuse_file_info *fi)
{
    (void)fi;
    read_directory(req, nodeid, size, offset, true);
}

/* ---- extended attributes ---- */

static void op_setxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, const char *value, size_t size, int flags)
{
    _cleanup_file_ struct tree_file file = {0};
    int r = get_in_view(req, nodeid, &file);

    if (channel_kills_ids()) flags |= XATTR_KILL_SGID;
    if (r == 0 && !replay_begin(&(uint64_t){0})) r = xattr_set(file.view, file.ino, name, value, size, flags);
    reply(req, r);
}

static void reply_xattr(fuse_req_t req, ssize_t n, const char *buffer, size_t size)
{
    if (n < 0) reply(req, n);
    else if (size == 0) fuse_reply_xattr(req, n);
    else fuse_reply_buf(req, buffer, n);
}

static void op_getxattr(fuse_req_t req, fuse_ino_t nodeid, const char *name, size_t size)
{
    _cleanup_file_ struct tree_file file = {0};
    char *buffer = transfer_buffer();
    ssize_t n = tree_get(tree(req), nodeid, &file);

    if (n == 0 && file.kind != TREE_VIEW) n = -ENODATA;
    if (!buffer) n = -ENOMEM;
    if (size > MAX_TRANSFER) size = MAX_TRANSFER;
    if (n == 0) n = xattr_get(file.view, file.ino, name, buffer, size);
    reply_xattr(req, n, buffer, size);
}

static void op_listxattr(fuse_req_t req, fuse_ino_t nodeid, size_t size)
{
    _cleanup_file_ struct tree_file file = {0};
    char *buffer = transfer_buffer();
    ssize_t n = tree_get(tree(req), nodeid, &file);

    if (!buffer) n = -ENOMEM;
    if (size > MAX_TRANSFER) size = MAX_TRANSFER;
    if (n == 0 && file.kind == TREE_VIEW) n = xattr_list(file.view, file.ino, buffer, size);
    reply_xattr(req, n, buffer, size);
}

static void op_removexattr(fuse_req_t req, fuse_ino_t nodeid, const char *name)
{
    _cleanup_file_ struct tree_file file = {0};
    int r = get_in_view(req, nodeid, &file);

    if (r == 0 && !replay_begin(&(uint64_t){0})) r = xattr_remove(file.view, file.ino, name);
    reply(req, r);
}

/* ---- the session ---- */

/* See DESIGN.md, "FUSE": no state in fh, so opens need no request; times and sizes are the daemon's alone. */
static void op_init(void *data, struct fuse_conn_info *conn)
{
    const unsigned wanted = FUSE_CAP_EXPORT_SUPPORT | FUSE_CAP_EXPLICIT_INVAL_DATA | FUSE_CAP_CACHE_SYMLINKS |
                            FUSE_CAP_READDIRPLUS | FUSE_CAP_PARALLEL_DIROPS |
                            FUSE_CAP_ASYNC_READ | FUSE_CAP_ASYNC_DIO | FUSE_CAP_POSIX_ACL | FUSE_CAP_DONT_MASK |
                            FUSE_CAP_NO_OPEN_SUPPORT | FUSE_CAP_NO_OPENDIR_SUPPORT;
    (void)data;
    conn->want = conn->capable & wanted;
    conn->max_write = MAX_TRANSFER;
    conn->max_readahead = MAX_TRANSFER;
    conn->max_background = 192; /* below the number of threads: read-ahead from a slow disk leaves some to others */
    conn->congestion_threshold = 144;
    conn->time_gran = 1;
}

static void forget_list(void *session, uint64_t dir)
{
    fuse_lowlevel_notify_inval_inode(session, dir, 0, 0);
}

static void forget_name(void *session, uint64_t dir, const char *name, uint64_t root)
{
    fuse_lowlevel_notify_inval_entry(session, dir, name, strlen(name));
    fuse_lowlevel_notify_inval_inode(session, root, 0, 0);
}

struct tree_changes fuse_ops_changes(struct fuse_session *session)
{
    return (struct tree_changes){.list = forget_list, .name = forget_name, .expire = channel_expire_name, .data = session};
}

const struct fuse_lowlevel_ops fuse_ops_table = {
    .init = op_init,
    .lookup = op_lookup,
    .forget = op_forget,
    .forget_multi = op_forget_multi,
    .getattr = op_getattr,
    .setattr = op_setattr,
    .readlink = op_readlink,
    .mknod = op_mknod,
    .mkdir = op_mkdir,
#if FUSE_VERSION >= FUSE_MAKE_VERSION(3, 17)
    .tmpfile = op_tmpfile,
#endif
    .open = op_open,
    .opendir = op_open,
    .symlink = op_symlink,
    .unlink = op_unlink,
    .rmdir = op_rmdir,
    .rename = op_rename,
    .link = op_link,
    .read = op_read,
    .write = op_write,
    .fsync = op_fsync,
    .fsyncdir = op_fsync,
    .fallocate = op_fallocate,
    .lseek = op_lseek,
    .copy_file_range = op_copy_file_range,
    .statfs = op_statfs,
    .readdir = op_readdir,
    .readdirplus = op_readdirplus,
    .setxattr = op_setxattr,
    .getxattr = op_getxattr,
    .listxattr = op_listxattr,
    .removexattr = op_removexattr,
};
