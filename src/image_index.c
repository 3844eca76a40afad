#include "image_index.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "db.h"
#include "image_digest.h"
#include "image_load.h"
#include "io.h"
#include "linkmap.h"
#include "listing.h"
#include "log.h"
#include "longpath.h"
#include "schema.h"
#include "disk_xattrs.h"

#define READ_SIZE (256 * 1024)
/* A file with more holes than this gets no digest: a /var/log/lastlog can have 300 GiB of them. */
#define HOLES_MAX (1ll << 30)
#define INODES_MAX 0x7ffffffe

#define INSERT_INODE                                                                                          \
    "INSERT INTO inode(ino, mode, uid, gid, rdev, nlink, size, blocks, mtime, ctime, parent, target, digest)" \
    " VALUES(:ino, :mode, :uid, :gid, :rdev, :nlink, :size, :blocks, :mtime, :ctime, :parent, :target, :digest)"
#define INSERT_DIRENT "INSERT INTO dirent(parent, cookie, name, ino, type) VALUES(:parent, :cookie, :name, :ino, :type)"
#define INSERT_XATTR "INSERT INTO xattr(ino, name, value) VALUES(:ino, :name, :value)"
#define ADD_LINKS "UPDATE inode SET nlink = nlink + :more WHERE ino = :ino"

/* A directory that was found; its entries are read when its turn comes, so all of one are numbered together. */
struct pending {
    char *name;
    uint32_t ino;
    uint32_t above; /* its parent's place in the queue */
};

struct builder {
    int rootfs_fd;
    dev_t device;
    struct db *db;
    db_stmt *insert_inode, *insert_dirent, *insert_xattr;
    struct progress *progress;
    struct image_totals totals;
    struct linkmap linkmap;
    uint32_t *more_links; /* of ino at [ino - 1]: names beyond the first, directories within */
    struct pending *queue;
    size_t inode_count, inode_room, queue_count, queue_room;
    unsigned char *buffer; /* READ_SIZE bytes */
};

/* The entry at hand: one name in one directory. */
struct found {
    int dirfd;
    uint32_t parent;  /* its inode */
    size_t above;     /* its place in the queue */
    const char *path; /* the directory's, for messages */
    const char *name;
    struct stat st;
};

static int failed_db(struct builder *builder, int r)
{
    progress_erase(builder->progress);
    log_error("index of the image: %s", r == -ENOSPC ? log_reason(r) : db_message(builder->db));
    return r;
}

static int failed(struct builder *builder, const char *name, int r)
{
    progress_erase(builder->progress);
    log_error("index of the image: %s: %s", name, log_reason(r));
    return r;
}

static int failed_at(struct builder *builder, const struct found *found, int r)
{
    progress_erase(builder->progress);
    log_error("index of the image: %s/%s: %s", found->path, found->name, log_reason(r));
    return r;
}

static int64_t rdev_of(const struct stat *st)
{
    return S_ISCHR(st->st_mode) || S_ISBLK(st->st_mode) ? (int64_t)st->st_rdev : 0;
}

/* 1: *ret_digest is the file's; 0: it has none. */
static int digest_file(struct builder *builder, const struct found *found, uint8_t ret_digest[IMAGE_DIGEST_SIZE])
{
    _cleanup_close_ int fd = -1;
    int r;

    if (!S_ISREG(found->st.st_mode)) return 0;
    if (found->st.st_size - found->st.st_blocks * 512 > HOLES_MAX) return 0;
    fd = openat(found->dirfd, found->name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return -errno;
    r = image_digest(fd, builder->buffer, READ_SIZE, builder->progress, ret_digest);
    return r < 0 ? r : 1;
}

static void bind_stat(db_stmt *statement, const struct stat *st)
{
    db_bind_int(statement, ":mode", st->st_mode);
    db_bind_int(statement, ":uid", st->st_uid);
    db_bind_int(statement, ":gid", st->st_gid);
    db_bind_int(statement, ":rdev", rdev_of(st));
    db_bind_int(statement, ":nlink", S_ISDIR(st->st_mode) ? 2 : 1);
    db_bind_int(statement, ":size", st->st_size);
    db_bind_int(statement, ":blocks", st->st_blocks);
    db_bind_int(statement, ":mtime", image_time(st->st_mtim));
    db_bind_int(statement, ":ctime", image_time(st->st_ctim));
}

static int insert_inode(struct builder *builder, const struct found *found, uint32_t ino)
{
    db_stmt *insert = builder->insert_inode;
    uint8_t digest[IMAGE_DIGEST_SIZE];
    ssize_t target_size = 0;
    int has_digest = digest_file(builder, found, digest), r;

    if (has_digest < 0) return failed_at(builder, found, has_digest);
    bind_stat(insert, &found->st);
    db_bind_int(insert, ":ino", ino);
    db_bind_int(insert, ":parent", S_ISDIR(found->st.st_mode) ? found->parent : 0);
    db_bind_null(insert, ":target");
    db_bind_null(insert, ":digest");
    if (has_digest) db_bind_blob(insert, ":digest", digest, sizeof(digest));
    if (S_ISLNK(found->st.st_mode)) {
        target_size = readlinkat(found->dirfd, found->name, (char *)builder->buffer, READ_SIZE);
        if (target_size < 0) return failed_at(builder, found, -errno);
        db_bind_blob(insert, ":target", builder->buffer, target_size);
        db_bind_int(insert, ":size", target_size);
    }
    r = db_run(insert);
    return r < 0 ? failed_db(builder, r) : 0;
}

static int insert_xattrs(struct builder *builder, const struct found *found, uint32_t ino)
{
    _cleanup_disk_xattrs_ struct disk_xattrs xattrs = {0};
    int r = disk_xattrs_read(&xattrs, found->dirfd, found->name);

    if (r < 0) return failed_at(builder, found, r);
    for (size_t i = 0; i < xattrs.count; i++) {
        db_bind_int(builder->insert_xattr, ":ino", ino);
        db_bind_text(builder->insert_xattr, ":name", xattrs.items[i].name);
        db_bind_blob(builder->insert_xattr, ":value", xattrs.items[i].value, xattrs.items[i].size);
        r = db_run(builder->insert_xattr);
        if (r < 0) return failed_db(builder, r);
    }
    return 0;
}

static int enqueue(struct builder *builder, const struct found *found, uint32_t ino)
{
    struct pending *pending;

    if (builder->queue_count == builder->queue_room) {
        size_t room = builder->queue_room ? builder->queue_room * 2 : 256;
        void *grown = reallocarray(builder->queue, room, sizeof(*builder->queue));

        if (!grown) return failed_at(builder, found, -ENOMEM);
        builder->queue = grown;
        builder->queue_room = room;
    }
    pending = &builder->queue[builder->queue_count];
    *pending = (struct pending){.name = strdup(found->name), .ino = ino, .above = found->above};
    if (!pending->name) return failed_at(builder, found, -ENOMEM);
    builder->queue_count++;
    return 0;
}

static int take_number(struct builder *builder, uint32_t *ret_ino)
{
    if (builder->inode_count == builder->inode_room) {
        size_t room = builder->inode_room ? builder->inode_room * 2 : 1024;
        void *grown = reallocarray(builder->more_links, room, sizeof(*builder->more_links));

        if (!grown) return -ENOMEM;
        builder->more_links = grown;
        builder->inode_room = room;
    }
    if (builder->inode_count == INODES_MAX) return -EFBIG;
    builder->more_links[builder->inode_count++] = 0;
    *ret_ino = builder->inode_count;
    return 0;
}

static void count(struct builder *builder, const struct stat *st)
{
    builder->totals.files++;
    if (S_ISREG(st->st_mode)) builder->totals.bytes += st->st_size;
    progress_add(builder->progress, 1, 0);
    progress_at(builder->progress, builder->totals.files, builder->progress ? builder->progress->total : 0);
}

static int add_inode(struct builder *builder, const struct found *found, uint32_t *ret_ino)
{
    int r = take_number(builder, ret_ino);

    if (r < 0) return failed_at(builder, found, r);
    r = insert_inode(builder, found, *ret_ino);
    if (r == 0) r = insert_xattrs(builder, found, *ret_ino);
    if (r < 0) return r;
    count(builder, &found->st);
    if (S_ISDIR(found->st.st_mode)) return enqueue(builder, found, *ret_ino);
    if (found->st.st_nlink < 2) return 0;
    r = linkmap_put(&builder->linkmap, found->st.st_dev, found->st.st_ino, *ret_ino);
    return r < 0 ? failed_at(builder, found, r) : 0;
}

static int insert_dirent(struct builder *builder, const struct found *found, uint32_t ino, int64_t cookie)
{
    db_stmt *insert = builder->insert_dirent;
    int r;

    db_bind_int(insert, ":parent", found->parent);
    db_bind_int(insert, ":cookie", cookie);
    db_bind_blob(insert, ":name", found->name, strlen(found->name));
    db_bind_int(insert, ":ino", ino);
    db_bind_int(insert, ":type", IFTODT(found->st.st_mode));
    r = db_run(insert);
    return r < 0 ? failed_db(builder, r) : 0;
}

static int add_entry(struct builder *builder, struct found *found, int64_t cookie)
{
    bool is_directory, is_link;
    uint32_t ino = 0;
    int r;

    if (fstatat(found->dirfd, found->name, &found->st, AT_SYMLINK_NOFOLLOW) < 0)
        return failed_at(builder, found, -errno);
    is_directory = S_ISDIR(found->st.st_mode);
    if (!is_directory && found->st.st_nlink > 1)
        ino = linkmap_get(&builder->linkmap, found->st.st_dev, found->st.st_ino);
    is_link = ino != 0;
    if (!is_link) {
        r = add_inode(builder, found, &ino);
        if (r < 0) return r;
    }
    if (is_link) builder->more_links[ino - 1]++;
    if (is_directory) builder->more_links[found->parent - 1]++;
    return insert_dirent(builder, found, ino, cookie);
}

/* The path of a directory in the queue, relative to the root. Caller frees; NULL: no memory. */
static char *path_of(const struct builder *builder, size_t place)
{
    size_t length = 0;
    char *path;

    if (place == 0) return strdup(".");
    for (size_t i = place; i > 0; i = builder->queue[i].above) length += strlen(builder->queue[i].name) + 1;
    path = malloc(length);
    if (!path) return NULL;
    for (size_t i = place; i > 0; i = builder->queue[i].above) {
        size_t size = strlen(builder->queue[i].name);

        path[--length] = i == place ? '\0' : '/';
        length -= size;
        memcpy(path + length, builder->queue[i].name, size);
    }
    return path;
}

static int read_directory(struct builder *builder, size_t place)
{
    _cleanup_listing_ struct listing listing = {0};
    _cleanup_free_ char *path = path_of(builder, place);
    _cleanup_close_ int fd = -1;
    struct found found = {.parent = builder->queue[place].ino, .above = place};
    struct stat st;
    int r;

    if (!path) return failed(builder, builder->queue[place].name, -ENOMEM);
    fd = longpath_open(builder->rootfs_fd, path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    if (fd < 0) return failed(builder, path, fd);
    if (fstat(fd, &st) < 0) return failed(builder, path, -errno);
    if (st.st_dev != builder->device) return 0; /* what is mounted here is not the image */
    r = listing_read(&listing, fd);
    if (r < 0) return failed(builder, path, r);
    found.dirfd = fd;
    found.path = path;
    for (size_t i = 0; i < listing.count; i++) {
        found.name = listing.items[i].name;
        r = add_entry(builder, &found, i + 1);
        if (r < 0) return r;
    }
    return 0;
}

static int add_root(struct builder *builder)
{
    struct found found = {.dirfd = builder->rootfs_fd, .parent = 1, .path = ".", .name = "."};
    uint32_t ino;

    if (fstat(builder->rootfs_fd, &found.st) < 0) return failed(builder, ".", -errno);
    builder->device = found.st.st_dev;
    return add_inode(builder, &found, &ino);
}

static int write_links(struct builder *builder)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = db_prepare(builder->db, &statement, ADD_LINKS);

    for (size_t i = 0; r == 0 && i < builder->inode_count; i++) {
        if (builder->more_links[i] == 0) continue;
        db_bind_int(statement, ":ino", i + 1);
        db_bind_int(statement, ":more", builder->more_links[i]);
        r = db_run(statement);
    }
    return r < 0 ? failed_db(builder, r) : 0;
}

/* No journal: whoever asked for the index throws it away when it was not finished. */
static int open_index(struct builder *builder, const char *path)
{
    int r = db_open(&builder->db, path, DB_CREATE);

    if (r < 0) return failed(builder, path, r);
    r = db_exec(builder->db, "PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE;"
                             "PRAGMA cache_size = -65536");
    if (r == 0) r = db_begin(builder->db);
    if (r == 0) r = db_exec(builder->db, schema_image);
    if (r == 0) r = db_prepare(builder->db, &builder->insert_inode, INSERT_INODE);
    if (r == 0) r = db_prepare(builder->db, &builder->insert_dirent, INSERT_DIRENT);
    if (r == 0) r = db_prepare(builder->db, &builder->insert_xattr, INSERT_XATTR);
    return r < 0 ? failed_db(builder, r) : 0;
}

/* What leaving WAL mode may have left beside the file, which is read alone from now on. */
static int remove_companions(const char *path)
{
    static const char *const suffixes[] = {"-wal", "-shm"};

    for (size_t i = 0; i < 2; i++) {
        _cleanup_free_ char *companion = io_format("%s%s", path, suffixes[i]);

        if (!companion) return -ENOMEM;
        if (unlink(companion) < 0 && errno != ENOENT) return -errno;
    }
    return 0;
}

static int build(struct builder *builder, const char *path)
{
    int r = open_index(builder, path);

    builder->buffer = malloc(READ_SIZE);
    if (r == 0 && !builder->buffer) r = failed(builder, path, -ENOMEM);
    if (r == 0) r = add_root(builder);
    /* The queue grows while it is worked off. */
    for (size_t i = 0; r == 0 && i < builder->queue_count; i++) r = read_directory(builder, i);
    if (r == 0) r = write_links(builder);
    if (r < 0) return r;
    r = db_commit(builder->db);
    return r < 0 ? failed_db(builder, r) : 0;
}

static void release(struct builder *builder)
{
    db_close(builder->db);
    for (size_t i = 0; i < builder->queue_count; i++) free(builder->queue[i].name);
    free(builder->queue);
    free(builder->more_links);
    free(builder->buffer);
    linkmap_free(&builder->linkmap);
}

int image_index_build(int rootfs_fd, const char *index_path, struct progress *progress, struct image_totals *ret_totals)
{
    struct builder builder = {.rootfs_fd = rootfs_fd, .progress = progress};
    int r = build(&builder, index_path);

    if (r == 0) *ret_totals = builder.totals;
    release(&builder);
    if (r < 0) return r;
    r = remove_companions(index_path);
    if (r < 0) log_error("%s: %s", index_path, log_reason(r));
    return r;
}

int image_build(int rootfs_fd, const char *index_path, struct image_totals *ret_totals)
{
    return image_index_build(rootfs_fd, index_path, NULL, ret_totals);
}
