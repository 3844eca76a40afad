#include "tree_rows.h"

#include <errno.h>
#include <stdio.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "bootname.h"
#include "catalog.h"
#include "fdcache.h"
#include "imageset.h"
#include "inode.h"
#include "io.h"
#include "log.h"
#include "references.h"
#include "room.h"
#include "store.h"
#include "template.h"
#include "tree_replace.h"

#define FIRST_NODE 3 /* cookies of directories up here: 1 and 2 are the dots */

/* Inode numbers above the views: of node 0, and of each node beside its root. */
enum { INO_SYSTEM = 2, INO_TFTPBOOT = 3, INO_NODE = 2, INO_BOOT_LINK = 3, INO_TFTP_LINK = 4, INO_SERIAL_LINK = 5 };

/* ---- views ---- */

/* From the first look into it on a node stands on this image, whatever the default becomes: nodeids were given out. */
static int bind(struct tree *t, uint32_t number, const char *image)
{
    int r;

    pthread_mutex_lock(&t->catalog_lock);
    r = catalog_bind_node(t->store->catalog, number, image);
    if (r < 0) log_error("catalog: node %u could not be bound to image %s: %s", number, image, log_reason(r));
    pthread_mutex_unlock(&t->catalog_lock);
    return r;
}

int tree_open_view(struct tree_node *node)
{
    struct tree *t = node->tree;
    _cleanup_free_ char *name = NULL, *serial = NULL;
    struct image *image = NULL;
    struct view *view = NULL;
    int r;

    pthread_rwlock_rdlock(&t->lock);
    serial = io_format("%s", node->serial);
    pthread_rwlock_unlock(&t->lock);
    if (!serial) return -ENOMEM;
    r = tree_carry_on(node, serial);
    if (r < 0) return r;
    pthread_rwlock_rdlock(&t->lock);
    name = node->image ? io_format("%s", node->image) : NULL;
    pthread_rwlock_unlock(&t->lock);
    if (!name) return -ENOENT;
    r = bind(t, node->number, name);
    if (r == 0) r = imageset_get(&t->images, name, &image);
    if (r == 0) r = view_open(&view, &t->shared, node->number, serial, image);
    image_unref(image);
    if (r == 0) r = template_render_node(view, t->store, &t->catalog_lock, NULL, NULL);
    if (r < 0) view_close(io_take(view));
    if (r >= 0) {
        atomic_store(&node->unwritten, r);
        atomic_store(&node->view, view);
        r = 0;
    }
    /* "No image" is the catalog's news alone; what is missing beneath is damage. */
    return r == -ENOENT ? -EIO : r;
}

/* NULL: it is not open. */
static struct view *hold_open_view(struct tree_node *node)
{
    struct view *view;

    pthread_rwlock_rdlock(&node->tree->lock);
    view = atomic_load(&node->view);
    if (view) atomic_fetch_add(&node->view_users, 1);
    pthread_rwlock_unlock(&node->tree->lock);
    return view;
}

int tree_hold_view(struct tree_node *node, struct view **ret_view)
{
    while (!(*ret_view = hold_open_view(node))) {
        int r = 0;

        pthread_mutex_lock(&node->open_lock);
        if (!atomic_load(&node->view)) r = tree_open_view(node);
        pthread_mutex_unlock(&node->open_lock);
        if (r < 0) return r;
    }
    return 0;
}

/* ---- from nodeids to files and back ---- */

static int64_t seconds(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec;
}

static struct tree_node *hold(struct tree_node *node)
{
    atomic_fetch_add(&node->users, 1);
    return node;
}

struct tree_node *tree_hold_number(struct tree *t, uint32_t number)
{
    struct tree_node *node = NULL;

    pthread_rwlock_rdlock(&t->lock);
    if (number < t->room) node = t->nodes[number];
    if (node && node->gone) node = NULL;
    if (node) hold(node);
    pthread_rwlock_unlock(&t->lock);
    return node;
}

/* The node of this number whether gone or not, held; NULL. */
static struct tree_node *hold_any(struct tree *t, uint32_t number, bool *ret_gone)
{
    struct tree_node *node;

    pthread_rwlock_rdlock(&t->lock);
    node = number < t->room ? t->nodes[number] : NULL;
    if (node) {
        hold(node);
        *ret_gone = node->gone;
    }
    pthread_rwlock_unlock(&t->lock);
    return node;
}

void tree_put(struct tree_file *file)
{
    if (file->view) tree_release_view(file->node);
    if (file->node) tree_release(file->node);
    *file = (struct tree_file){0};
}

static int get_top(uint64_t ino, struct tree_file *ret)
{
    if (ino == INO_SYSTEM) ret->kind = TREE_SYSTEM;
    else if (ino == INO_TFTPBOOT) ret->kind = TREE_TFTPBOOT;
    else return -ESTALE;
    return 0;
}

static int get_in_view(struct tree_file *file, uint64_t ino)
{
    int r;

    file->kind = TREE_VIEW;
    file->ino = ino;
    r = tree_hold_view(file->node, &file->view);
    if (r < 0) return r == -ENOENT ? -ESTALE : r;
    atomic_store_explicit(&file->node->used, seconds(), memory_order_relaxed);
    file->ino = view_unwire(file->view, ino);
    return file->ino ? 0 : -ESTALE;
}

int tree_get(struct tree *t, uint64_t nodeid, struct tree_file *ret)
{
    struct identity_file id = nodeid == 1 ? (struct identity_file){0} : identity_file(&t->identity, nodeid);
    int r = 0;

    *ret = (struct tree_file){.kind = TREE_ROOT};
    if (nodeid == 1) return 0;
    if (id.node == 0) return get_top(id.ino, ret);
    ret->node = tree_hold_number(t, id.node);
    if (!ret->node) return -ESTALE;
    if (id.ino == INO_NODE) ret->kind = TREE_NODE;
    else if (id.ino == INO_BOOT_LINK) ret->kind = TREE_BOOT_LINK;
    else if (id.ino == INO_TFTP_LINK) ret->kind = TREE_TFTP_LINK;
    else if (id.ino == INO_SERIAL_LINK) ret->kind = TREE_SERIAL_LINK;
    else r = get_in_view(ret, id.ino);
    if (r < 0) tree_put(ret);
    return r;
}

static struct identity_file identity_of(const struct tree_file *file)
{
    uint32_t node = file->node ? file->node->number : 0;

    switch (file->kind) {
    case TREE_ROOT: break;
    case TREE_SYSTEM: return (struct identity_file){0, INO_SYSTEM};
    case TREE_TFTPBOOT: return (struct identity_file){0, INO_TFTPBOOT};
    case TREE_NODE: return (struct identity_file){node, INO_NODE};
    case TREE_BOOT_LINK: return (struct identity_file){node, INO_BOOT_LINK};
    case TREE_TFTP_LINK: return (struct identity_file){node, INO_TFTP_LINK};
    case TREE_SERIAL_LINK: return (struct identity_file){node, INO_SERIAL_LINK};
    case TREE_VIEW: return view_wire(file->view, file->ino);
    }
    return (struct identity_file){0, 1};
}

uint64_t tree_nodeid(const struct tree *t, const struct tree_file *file)
{
    return file->kind == TREE_ROOT ? 1 : identity_nodeid(&t->identity, identity_of(file));
}

uint32_t tree_generation(const struct tree *t, const struct tree_file *file)
{
    return file->kind == TREE_ROOT ? 0 : identity_generation(&t->identity, identity_of(file));
}

static bool is_link(enum tree_kind kind)
{
    return kind == TREE_BOOT_LINK || kind == TREE_TFTP_LINK || kind == TREE_SERIAL_LINK;
}

bool tree_lasts(const struct tree_file *file)
{
    bool has_image;

    if (file->kind != TREE_NODE) return !is_link(file->kind);
    /* Two names appear in it with the first image. */
    pthread_rwlock_rdlock(&file->node->tree->lock);
    has_image = file->node->boot != NULL;
    pthread_rwlock_unlock(&file->node->tree->lock);
    return has_image;
}

int tree_refer(const struct tree_file *file)
{
    return file->kind == TREE_VIEW ? view_refer(file->view, file->ino) : 0;
}

void tree_forget(struct tree *t, uint64_t nodeid, uint64_t count)
{
    struct identity_file id = identity_file(&t->identity, nodeid);
    bool gone;
    struct tree_node *node = nodeid != 1 ? hold_any(t, id.node, &gone) : NULL; /* gone nodes too: they may come back */
    struct view *view = node ? hold_open_view(node) : NULL;
    bool is_counted = nodeid != 1 && id.node && (id.ino == DELTA_ROOT || id.ino >= DELTA_FIRST);
    uint64_t ino = view && is_counted ? view_unwire(view, id.ino) : 0;

    if (ino) view_forget(view, ino, count);
    else if (is_counted) references_sub(t->shared.handover, id.node, id.ino, count);
    if (view) tree_release_view(node);
    if (node) tree_release(node);
}

/* ---- above the views ---- */

int tree_stat(struct tree *t, const struct tree_file *file, struct stat *st)
{
    bool link = is_link(file->kind);
    char target[4096];
    int length = 0;

    if (file->kind == TREE_VIEW) return inode_stat(file->view, file->ino, st);
    if (link) length = tree_readlink(t, file, target, sizeof(target));
    if (length < 0) return length;
    pthread_rwlock_rdlock(&t->lock);
    *st = (struct stat){
        .st_ino = identity_st_ino(identity_of(file)),
        .st_mode = link ? S_IFLNK | 0777 : S_IFDIR | 0555,
        .st_nlink = 1, /* of directories too: subdirectories are not counted */
        .st_size = link ? length : 4096,
        .st_blksize = 4096,
        .st_mtim = {.tv_sec = t->changed / 1000000000, .tv_nsec = t->changed % 1000000000},
    };
    pthread_rwlock_unlock(&t->lock);
    st->st_atim = st->st_ctim = st->st_mtim;
    return 0;
}

/* What the node is called as a file of that kind; NULL: it has no such file. lock held. */
static const char *name_as(const struct tree_node *node, enum tree_kind kind)
{
    if (!node || node->gone) return NULL;
    if (kind == TREE_NODE) return node->serial;
    if (kind == TREE_TFTP_LINK) return node->mac_name;
    return node->tail[0] ? node->tail : NULL;
}

static int find_node(struct tree *t, enum tree_kind kind, const char *name, struct tree_file *ret)
{
    pthread_rwlock_rdlock(&t->lock);
    for (uint32_t i = 0; i < t->room && !ret->node; i++) {
        const char *own = name_as(t->nodes[i], kind);

        if (own && strcmp(own, name) == 0) ret->node = hold(t->nodes[i]);
    }
    pthread_rwlock_unlock(&t->lock);
    ret->kind = kind;
    return ret->node ? 0 : -ENOENT;
}

struct tree_node *tree_hold_serial(struct tree *t, const char *serial)
{
    struct tree_file found = {0};

    return tree_refresh(t) < 0 || find_node(t, TREE_NODE, serial, &found) < 0 ? NULL : found.node;
}

static int find_in_node(const struct tree_file *dir, const char *name, struct tree_file *ret)
{
    bool has_image;
    int r = 0;

    pthread_rwlock_rdlock(&dir->node->tree->lock);
    has_image = dir->node->boot != NULL;
    pthread_rwlock_unlock(&dir->node->tree->lock);
    if (!has_image) return -ENOENT;
    *ret = (struct tree_file){.kind = TREE_BOOT_LINK, .node = hold(dir->node)};
    if (strcmp(name, "rootfs") == 0) r = get_in_view(ret, DELTA_ROOT);
    else if (strcmp(name, "boot") != 0) r = -ENOENT;
    if (r < 0) tree_put(ret);
    return r;
}

static int find_parent(const struct tree_file *dir, struct tree_file *ret)
{
    if (dir->kind == TREE_NODE) *ret = (struct tree_file){.kind = TREE_SYSTEM};
    else if (dir->kind == TREE_VIEW) *ret = (struct tree_file){.kind = TREE_NODE, .node = hold(dir->node)};
    else *ret = (struct tree_file){.kind = TREE_ROOT};
    return 0;
}

int tree_lookup(struct tree *t, const struct tree_file *dir, const char *name, struct tree_file *ret)
{
    *ret = (struct tree_file){0};
    if (strcmp(name, ".") == 0) {
        *ret = *dir;
        if (ret->node) hold(ret->node);
        if (ret->view) atomic_fetch_add(&ret->node->view_users, 1);
        return 0;
    }
    if (is_link(dir->kind)) return -ENOTDIR;
    if (strcmp(name, "..") == 0) return find_parent(dir, ret);
    if (dir->kind == TREE_NODE) return find_in_node(dir, name, ret);
    if (dir->kind == TREE_ROOT) {
        ret->kind = strcmp(name, "system") == 0 ? TREE_SYSTEM : TREE_TFTPBOOT;
        if (ret->kind == TREE_TFTPBOOT && strcmp(name, "tftpboot") != 0) return -ENOENT;
        tree_refresh(t); /* what it holds may have changed, and its times tell the kernel so */
        return 0;
    }
    if (tree_refresh(t) < 0) return -ETIMEDOUT;
    if (dir->kind == TREE_SYSTEM) return find_node(t, TREE_NODE, name, ret);
    if (find_node(t, TREE_TFTP_LINK, name, ret) == 0) return 0;
    return find_node(t, TREE_SERIAL_LINK, name, ret);
}

bool tree_is_confined(struct tree *t)
{
    int r;

    pthread_mutex_lock(&t->catalog_lock);
    r = catalog_has_addresses(t->store->catalog);
    pthread_mutex_unlock(&t->catalog_lock);
    return r != 0;
}

int tree_readlink(struct tree *t, const struct tree_file *file, char *buffer, size_t size)
{
    const struct tree_node *node = file->node;
    int length = -EINVAL;

    pthread_rwlock_rdlock(&t->lock);
    if (file->kind == TREE_BOOT_LINK && node->boot) length = snprintf(buffer, size, "rootfs/%s", node->boot);
    if (file->kind == TREE_TFTP_LINK || file->kind == TREE_SERIAL_LINK)
        length = snprintf(buffer, size, "../system/%s/boot/", node->serial);
    pthread_rwlock_unlock(&t->lock);
    return length;
}

/* The fixed names of the two upper levels, in cookie order. */
static int next_fixed(struct tree *t, const struct tree_file *dir, uint32_t cookie, struct tree_entry *ret)
{
    static const char *const names[][2] = {{"system", "tftpboot"}, {"rootfs", "boot"}};
    uint32_t index = cookie < 3 ? 0 : cookie - 2;

    for (; index < 2; index++) {
        int r;

        snprintf(ret->name, sizeof(ret->name), "%s", names[dir->kind == TREE_NODE][index]);
        ret->cookie = index + 3;
        r = tree_lookup(t, dir, ret->name, &ret->file);
        if (r != -ENOENT) return r < 0 ? r : 1;
    }
    return 0;
}

/* Nodes in the order of their numbers, which are their cookies above `first`. */
static int next_node(struct tree *t, enum tree_kind kind, uint32_t first, uint32_t cookie, struct tree_entry *ret)
{
    uint32_t i = cookie < first ? 0 : cookie - first + 1;
    bool found = false;

    pthread_rwlock_rdlock(&t->lock);
    for (; i < t->room && !found; i++) {
        const char *name = name_as(t->nodes[i], kind);

        if (!name) continue;
        ret->file = (struct tree_file){.kind = kind, .node = hold(t->nodes[i])};
        ret->cookie = i + first;
        snprintf(ret->name, sizeof(ret->name), "%s", name);
        found = true;
    }
    pthread_rwlock_unlock(&t->lock);
    return found;
}

int tree_next(struct tree *t, const struct tree_file *dir, uint32_t cookie, struct tree_entry *ret)
{
    if (dir->kind == TREE_ROOT || dir->kind == TREE_NODE) return next_fixed(t, dir, cookie, ret);
    if (dir->kind != TREE_SYSTEM && dir->kind != TREE_TFTPBOOT) return -ENOTDIR;
    if (cookie <= 2 && tree_refresh(t) < 0) return -ETIMEDOUT;
    atomic_store(&t->listed, true);
    if (dir->kind == TREE_SYSTEM) return next_node(t, TREE_NODE, FIRST_NODE, cookie, ret);
    if (cookie < FIRST_NODE + TREE_MAX_NODES && next_node(t, TREE_TFTP_LINK, FIRST_NODE, cookie, ret)) return 1;
    return next_node(t, TREE_SERIAL_LINK, FIRST_NODE + TREE_MAX_NODES, cookie, ret);
}

/* ---- the life of the mount ---- */

/* Requests that still hold the node go on first; the next tick tries again. */
static void end_view(struct tree_node *node)
{
    struct view *view = NULL;

    pthread_mutex_lock(&node->open_lock);
    pthread_rwlock_wrlock(&node->tree->lock);
    if (node->gone && atomic_load(&node->users) == 0 && atomic_load(&node->view_users) == 0) view = atomic_exchange(&node->view, NULL);
    pthread_rwlock_unlock(&node->tree->lock);
    view_close(view);
    pthread_mutex_unlock(&node->open_lock);
}

int tree_open(struct tree **ret_tree, struct store *store, struct handover *handover, bool sync)
{
    struct tree *t = calloc(1, sizeof(*t));
    uint8_t key[32];
    int r;

    if (!t) return -ENOMEM;
    t->store = store;
    t->version = -1;
    pthread_mutex_init(&t->catalog_lock, NULL);
    pthread_rwlock_init(&t->lock, NULL);
    t->images_path = io_format("%s/images", store->path);
    t->nodes_path = io_format("%s/nodes", store->path);
    t->images_fd = io_open_beneath(store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    t->nodes_fd = io_open_beneath(store->fd, "nodes", O_RDONLY | O_DIRECTORY, 0);
    imageset_init(&t->images, t->images_fd, t->images_path);
    t->shared = (struct view_shared){
        .identity = &t->identity,
        .files = fdcache_new(io_raise_nofile() / 2),
        .room = &t->disk,
        .handover = handover,
        .nodes_fd = t->nodes_fd,
        .nodes_path = t->nodes_path,
        .sync = sync,
    };
    r = catalog_key(store->catalog, key);
    if (r == 0 && (t->images_fd < 0 || t->nodes_fd < 0)) r = -ENOENT;
    if (r == 0) r = room_init(&t->disk, t->nodes_fd);
    if (r == 0 && (!t->images_path || !t->nodes_path || !t->shared.files)) r = -ENOMEM;
    if (r == 0) {
        identity_init(&t->identity, key);
        r = tree_refresh(t);
    }
    if (r < 0) {
        log_error("%s: cannot be served: %s", store->path, log_reason(r));
        tree_close(t);
        return r;
    }
    *ret_tree = t;
    return 0;
}

void tree_close(struct tree *t)
{
    if (!t) return;
    for (uint32_t i = 0; i < t->room; i++)
        if (t->nodes[i]) view_close(atomic_load(&t->nodes[i]->view));
    tree_rows_free(t);
    imageset_free(&t->images, t->shared.files);
    fdcache_free(t->shared.files);
    if (t->images_fd >= 0) close(t->images_fd);
    if (t->nodes_fd >= 0) close(t->nodes_fd);
    pthread_mutex_destroy(&t->catalog_lock);
    pthread_rwlock_destroy(&t->lock);
    free(t->images_path);
    free(t->nodes_path);
    free(t);
}

uint32_t tree_room(struct tree *t)
{
    uint32_t room;

    pthread_rwlock_rdlock(&t->lock);
    room = t->room;
    pthread_rwlock_unlock(&t->lock);
    return room;
}

static void tell_name(struct tree *t, uint32_t number, const char *serial, const struct tree_changes *changes)
{
    struct tree_file system = {.kind = TREE_SYSTEM};
    struct identity_file root = {.node = number, .ino = DELTA_ROOT};

    changes->name(changes->data, tree_nodeid(t, &system), serial, identity_nodeid(&t->identity, root));
}

static void tell_gone(struct tree *t, struct tree_node *node, const struct tree_changes *changes)
{
    _cleanup_free_ char *serial = NULL;

    if (node->told) return;
    node->told = true;
    pthread_rwlock_rdlock(&t->lock);
    serial = io_format("%s", node->serial);
    pthread_rwlock_unlock(&t->lock);
    if (serial) tell_name(t, node->number, serial, changes);
}

struct gone_nodes {
    struct gone_node {
        uint32_t number;
        char *serial;
    } *nodes;
    size_t count;
};

static int note_gone(int64_t number, const char *serial, void *data)
{
    struct gone_nodes *gone = data;
    struct gone_node *nodes = reallocarray(gone->nodes, gone->count + 1, sizeof(*nodes));

    if (!nodes) return -ENOMEM;
    gone->nodes = nodes;
    nodes[gone->count].serial = io_format("%s", serial);
    if (!nodes[gone->count].serial) return -ENOMEM;
    nodes[gone->count++].number = number;
    return 0;
}

/* What the kernel has from the daemon before, and whose row went before this one looked. */
static void tell_gone_before(struct tree *t, const struct tree_changes *changes)
{
    struct gone_nodes gone = {0};

    pthread_mutex_lock(&t->catalog_lock);
    catalog_gone_nodes(t->store->catalog, note_gone, &gone);
    pthread_mutex_unlock(&t->catalog_lock);
    for (size_t i = 0; i < gone.count; i++) {
        tell_name(t, gone.nodes[i].number, gone.nodes[i].serial, changes);
        free(gone.nodes[i].serial);
    }
    free(gone.nodes);
}

/* The kernel keeps the targets of symlinks until it is told. */
static void tell_link(struct tree *t, const struct tree_node *node, const struct tree_changes *changes)
{
    struct identity_file link = {.node = node->number, .ino = INO_BOOT_LINK};

    changes->list(changes->data, identity_nodeid(&t->identity, link));
}

/* A kept listing goes after a moment even when nothing has changed: then one that is read just after a row was written, before
 * the word of it is here, is seldom an old one. */
static void tell_lists(struct tree *t, const struct tree_changes *changes)
{
    struct tree_file dirs[] = {{.kind = TREE_SYSTEM}, {.kind = TREE_TFTPBOOT}};

    pthread_mutex_lock(&t->catalog_lock);
    bool told = t->told_version == t->version;
    t->told_version = t->version;
    pthread_mutex_unlock(&t->catalog_lock);
    if (atomic_exchange(&t->listed, false)) told = false;
    for (int i = 0; !told && i < 2; i++) changes->list(changes->data, tree_nodeid(t, &dirs[i]));
}

/* What stood in the way may have been put right by the change of the catalog. */
static void retry_templates(struct tree *t, struct tree_node *node, const struct tree_changes *changes)
{
    struct view *view;
    int r;

    if (atomic_load(&node->unwritten) == 0 || node->tried == t->told_version) return;
    view = hold_open_view(node);
    if (!view) return;
    node->tried = t->told_version;
    r = template_render_node(view, t->store, &t->catalog_lock, changes->name, changes->data);
    if (r >= 0) atomic_store(&node->unwritten, r);
    tree_release_view(node);
}

void tree_follow(struct tree *t, const struct tree_changes *changes)
{
    uint32_t count;

    tree_refresh(t);
    if (!t->followed) tell_gone_before(t, changes);
    t->followed = true;
    tell_lists(t, changes);
    count = tree_room(t);
    for (uint32_t i = 0; i < count; i++) {
        bool gone;
        struct tree_node *node = hold_any(t, i, &gone);

        if (!node) continue;
        if (gone) tell_gone(t, node, changes);
        else node->told = false;
        if (!gone) retry_templates(t, node, changes);
        if (atomic_exchange(&node->link_changed, false)) tell_link(t, node, changes);
        atomic_fetch_sub(&node->users, 1);
    }
}

void tree_tidy(struct tree *t, uint32_t number, int64_t commit_age)
{
    struct timespec now;
    struct view *view;
    bool gone;
    struct tree_node *node = hold_any(t, number, &gone);

    if (!node) return;
    if (!atomic_exchange(&node->tidied, true)) {
        clock_gettime(CLOCK_MONOTONIC, &now);
        view = hold_open_view(node);
        if (view) view_tidy(view, now.tv_sec, commit_age);
        if (view) tree_release_view(node);
        atomic_store(&node->tidied, false);
    }
    atomic_fetch_sub(&node->users, 1);
    if (gone) end_view(node);
}

int64_t tree_version(struct tree *t)
{
    int64_t version;

    pthread_mutex_lock(&t->catalog_lock);
    version = t->version;
    pthread_mutex_unlock(&t->catalog_lock);
    return version + 1;
}
