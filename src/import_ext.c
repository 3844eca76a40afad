#include "import_ext.h"

#include <errno.h>
#include <ext2fs/ext2fs.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "import_attrs.h"
#include "import_log.h"
#include "io.h"
#include "linkmap.h"
#include "log.h"
#include "longpath.h"

#define STRETCH (1 << 20)

struct reader {
    const struct import_ext *ext;
    ext2_filsys fs;
    int to_fd;
    struct linkmap linkmap;
    char **links; /* first names of files that have several, by the map's number - 1 */
    size_t link_count;
    char *buffer; /* of STRETCH bytes */
    int64_t done, total; /* bytes */
};

/* The file at hand. */
struct source {
    ext2_ino_t ino;
    struct ext2_inode_large inode;
    char *path;       /* relative to the root; "." */
    const char *name; /* its last part */
};

/* One entry of a directory, kept until all of it is read. */
struct names {
    struct name {
        ext2_ino_t ino;
        char *name;
    } *items;
    size_t count, room;
    bool is_full;
};

static int failed(const struct reader *reader, const struct source *source, int r, const char *reason)
{
    return import_failed(reader->ext->progress, r, "%s: %s: %s: %s", reader->ext->source,
                         import_partition_name(reader->ext->partition), source->path, reason);
}

static int failed_errno(const struct reader *reader, const struct source *source, int r)
{
    return failed(reader, source, r, log_reason(r));
}

static int failed_ext(const struct reader *reader, const struct source *source, errcode_t error)
{
    return failed(reader, source, -EIO, error_message(error));
}

static errcode_t open_fs(const struct import_ext *ext, int flags, ext2_filsys *ret_fs)
{
    char path[64], options[64];

    initialize_ext2_error_table();
    snprintf(path, sizeof(path), "/proc/self/fd/%d", ext->fd);
    snprintf(options, sizeof(options), "offset=%lld", (long long)ext->partition->start);
    return ext2fs_open2(path, options, EXT2_FLAG_64BITS | flags, 0, 0, unix_io_manager, ret_fs);
}

int import_ext_check(const struct import_ext *ext, bool *ret_is_dirty)
{
    ext2_filsys fs;
    errcode_t error = open_fs(ext, EXT2_FLAG_SUPER_ONLY | EXT2_FLAG_SOFTSUPP_FEATURES, &fs);
    uint64_t size;

    if (error)
        return import_failed(ext->progress, -EIO, "%s: %s: %s", ext->source, import_partition_name(ext->partition),
                             error_message(error));
    size = ext2fs_blocks_count(fs->super) * fs->blocksize;
    *ret_is_dirty = ext2fs_has_feature_journal_needs_recovery(fs->super);
    ext2fs_free(fs);
    if (size <= (uint64_t)ext->partition->size) return 0;
    return import_failed(ext->progress, -EINVAL,
                         "%s: truncated or damaged: %s has a file system of %llu bytes in %lld", ext->source,
                         import_partition_name(ext->partition), (unsigned long long)size,
                         (long long)ext->partition->size);
}

bool import_ext_has(const struct import_ext *ext, const char *path)
{
    ext2_filsys fs;
    ext2_ino_t ino;
    bool has;

    if (open_fs(ext, 0, &fs) != 0) return false;
    has = ext2fs_namei_follow(fs, EXT2_ROOT_INO, EXT2_ROOT_INO, path, &ino) == 0;
    ext2fs_free(fs);
    return has;
}

/* ---- attributes ---- */

/* linux/fs/ext4/ext4.h, ext4_decode_extra_time: the lowest two bits of the extra word continue the seconds. */
static struct timespec time_of(const struct ext2_inode_large *inode)
{
    struct timespec time = {.tv_sec = (int32_t)inode->i_mtime};

    if (EXT2_GOOD_OLD_INODE_SIZE + (size_t)inode->i_extra_isize <
        offsetof(struct ext2_inode_large, i_mtime_extra) + sizeof(inode->i_mtime_extra))
        return time;
    time.tv_sec += (int64_t)(inode->i_mtime_extra & 3) << 32;
    time.tv_nsec = inode->i_mtime_extra >> 2;
    return time;
}

struct adding {
    struct disk_xattrs *xattrs;
    struct ext2_xattr_handle *handle;
    int r;
};

static int add_xattr(char *name, char *raw, size_t raw_size, void *data)
{
    struct adding *adding = data;
    void *value;
    size_t size;

    (void)raw, (void)raw_size;
    if (!disk_xattrs_is_kept(name)) return 0;
    /* Not the one handed in: ACLs lie on the disk in a form of their own. */
    if (ext2fs_xattr_get(adding->handle, name, &value, &size) != 0) adding->r = -EIO;
    else adding->r = disk_xattrs_add(adding->xattrs, name, value, size);
    if (adding->r != -EIO) ext2fs_free_mem(&value);
    return adding->r < 0 ? XATTR_ABORT : 0;
}

static int read_xattrs(const struct reader *reader, const struct source *source, struct disk_xattrs *xattrs)
{
    struct adding adding = {.xattrs = xattrs};
    errcode_t error = ext2fs_xattrs_open(reader->fs, source->ino, &adding.handle);

    if (error) return failed_ext(reader, source, error);
    error = ext2fs_xattrs_read(adding.handle);
    if (!error) error = ext2fs_xattrs_iterate(adding.handle, add_xattr, &adding);
    ext2fs_xattrs_close(&adding.handle);
    if (error) return failed_ext(reader, source, error);
    return adding.r < 0 ? failed_errno(reader, source, adding.r) : 0;
}

static int keep_attrs(const struct reader *reader, const struct source *source, int to, const char *name)
{
    _cleanup_import_attrs_ struct import_attrs attrs = {
        .mode = source->inode.i_mode,
        .uid = inode_uid(source->inode),
        .gid = inode_gid(source->inode),
        .mtime = time_of(&source->inode),
    };
    const char *what;
    int r = read_xattrs(reader, source, &attrs.xattrs);

    if (r < 0) return r;
    r = import_attrs_apply(&attrs, to, name, &what);
    if (r == 0) return 0;
    return import_failed(reader->ext->progress, r, "%s: %s: cannot keep its %s: %s", reader->ext->source, source->path,
                         what, log_reason(r));
}

/* ---- contents ---- */

/* Are there bytes on the disk for this block of the file? */
static errcode_t is_data(const struct reader *reader, const struct source *source, blk64_t block, bool *ret_is_data)
{
    struct ext2_inode *inode = (struct ext2_inode *)&source->inode;
    blk64_t physical = 0;
    int flags = 0;
    errcode_t error = ext2fs_bmap2(reader->fs, source->ino, inode, NULL, 0, block, &flags, &physical);

    *ret_is_data = physical != 0 && !(flags & BMAP_RET_UNINIT);
    return error;
}

static int copy_stretch(struct reader *reader, const struct source *source, ext2_file_t file, int to,
                        uint64_t offset, size_t size)
{
    while (size > 0) {
        unsigned got;
        errcode_t error = ext2fs_file_llseek(file, offset, EXT2_SEEK_SET, NULL);
        int r;

        if (!error) error = ext2fs_file_read(file, reader->buffer, size < STRETCH ? size : STRETCH, &got);
        if (error) return failed_ext(reader, source, error);
        if (got == 0) return failed_errno(reader, source, -EIO);
        r = io_pwrite(to, reader->buffer, got, offset);
        if (r < 0) return failed_errno(reader, source, r);
        reader->done += got;
        progress_at(reader->ext->progress, reader->done, reader->total);
        progress_add(reader->ext->progress, 0, got);
        offset += got;
        size -= got;
    }
    return 0;
}

static int copy_blocks(struct reader *reader, const struct source *source, ext2_file_t file, int to,
                       uint64_t size)
{
    uint64_t block_size = reader->fs->blocksize, count = (size + block_size - 1) / block_size, begin = 0;
    bool in_data = false, now = false;

    for (uint64_t block = 0; block <= count; block++) {
        errcode_t error = block < count ? is_data(reader, source, block, &now) : 0;
        uint64_t end = block * block_size < size ? block * block_size : size;
        int r = 0;

        if (error) return failed_ext(reader, source, error);
        if (block == count) now = false;
        if (in_data && !now) r = copy_stretch(reader, source, file, to, begin, end - begin);
        if (r < 0) return r;
        if (!in_data && now) begin = end;
        in_data = now;
    }
    return 0;
}

static int copy_regular(struct reader *reader, const struct source *source, int to)
{
    _cleanup_close_ int fd = openat(to, source->name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    struct ext2_inode *inode = (struct ext2_inode *)&source->inode;
    uint64_t size = EXT2_I_SIZE(&source->inode);
    ext2_file_t file;
    errcode_t error;
    int r;

    if (fd < 0 || ftruncate(fd, size) < 0) return failed_errno(reader, source, -errno);
    error = ext2fs_file_open2(reader->fs, source->ino, inode, 0, &file);
    if (error) return failed_ext(reader, source, error);
    if (inode->i_flags & EXT4_INLINE_DATA_FL) r = copy_stretch(reader, source, file, fd, 0, size);
    else r = copy_blocks(reader, source, file, fd, size);
    ext2fs_file_close(file);
    return r;
}

static int make_symlink(const struct reader *reader, const struct source *source, int to)
{
    struct ext2_inode *inode = (struct ext2_inode *)&source->inode;
    uint64_t size = EXT2_I_SIZE(&source->inode);
    char target[PATH_MAX];
    unsigned got = 0;
    ext2_file_t file;
    errcode_t error = 0;

    if (size >= sizeof(target)) return failed_errno(reader, source, -ENAMETOOLONG);
    if (ext2fs_is_fast_symlink(inode)) {
        memcpy(target, inode->i_block, got = size);
    } else {
        error = ext2fs_file_open2(reader->fs, source->ino, inode, 0, &file);
        if (!error) error = ext2fs_file_read(file, target, size, &got);
        if (file) ext2fs_file_close(file);
    }
    if (error) return failed_ext(reader, source, error);
    target[got] = '\0';
    return symlinkat(target, to, source->name) < 0 ? failed_errno(reader, source, -errno) : 0;
}

/* linux/fs/ext4/inode.c, ext4_iget: the first word in the old form, else the second in the new one. */
static dev_t device_of(const struct ext2_inode_large *inode)
{
    uint32_t old = inode->i_block[0], new = inode->i_block[1];

    if (old) return makedev(old >> 8 & 0xff, old & 0xff);
    return makedev(new >> 8 & 0xfff, (new & 0xff) | (new >> 12 & 0xfff00));
}

static int make_special(const struct reader *reader, const struct source *source, int to)
{
    bool is_device = S_ISCHR(source->inode.i_mode) || S_ISBLK(source->inode.i_mode);
    dev_t device = is_device ? device_of(&source->inode) : 0;

    if (mknodat(to, source->name, source->inode.i_mode, device) == 0) return 0;
    return failed_errno(reader, source, -errno);
}

/* ---- the tree ---- */

static int link_first(const struct reader *reader, const struct source *source, uint32_t number, int to)
{
    _cleanup_free_ char *first = strdup(reader->links[number - 1]);
    _cleanup_close_ int fd = -1;

    if (!first) return failed_errno(reader, source, -ENOMEM);
    fd = longpath_open(reader->to_fd, first, O_PATH | O_NOFOLLOW);
    if (fd < 0) return failed_errno(reader, source, fd);
    return linkat(fd, "", to, source->name, AT_EMPTY_PATH) < 0 ? failed_errno(reader, source, -errno) : 0;
}

static int remember_link(struct reader *reader, const struct source *source)
{
    char **grown = reallocarray(reader->links, reader->link_count + 1, sizeof(*grown));

    if (!grown) return failed_errno(reader, source, -ENOMEM);
    reader->links = grown;
    reader->links[reader->link_count] = strdup(source->path);
    if (!reader->links[reader->link_count]) return failed_errno(reader, source, -ENOMEM);
    reader->link_count++;
    if (linkmap_put(&reader->linkmap, 0, source->ino, reader->link_count) < 0)
        return failed_errno(reader, source, -ENOMEM);
    return 0;
}

static int copy_file(struct reader *reader, const struct source *source, int to)
{
    uint32_t number = source->inode.i_links_count > 1 ? linkmap_get(&reader->linkmap, 0, source->ino) : 0;
    int r;

    if (number) return link_first(reader, source, number, to);
    if (S_ISREG(source->inode.i_mode)) r = copy_regular(reader, source, to);
    else if (S_ISLNK(source->inode.i_mode)) r = make_symlink(reader, source, to);
    else r = make_special(reader, source, to);
    if (r == 0) r = keep_attrs(reader, source, to, source->name);
    return r < 0 || source->inode.i_links_count < 2 ? r : remember_link(reader, source);
}

static int note_name(ext2_ino_t dir, int entry, struct ext2_dir_entry *found, int offset, int block_size, char *buffer,
                     void *data)
{
    struct names *names = data;
    size_t length = ext2fs_dirent_name_len(found);

    (void)dir, (void)entry, (void)offset, (void)block_size, (void)buffer;
    if (length == 0 || (length == 1 && found->name[0] == '.') || (length == 2 && memcmp(found->name, "..", 2) == 0))
        return 0;
    if (names->count == names->room) {
        size_t room = names->room ? names->room * 2 : 64;
        void *grown = reallocarray(names->items, room, sizeof(*names->items));

        names->is_full = !grown;
        if (!grown) return DIRENT_ABORT;
        names->items = grown;
        names->room = room;
    }
    names->items[names->count] = (struct name){found->inode, strndup(found->name, length)};
    if (!names->items[names->count].name) names->is_full = true;
    names->count++;
    return names->is_full ? DIRENT_ABORT : 0;
}

static void free_names(struct names *names)
{
    for (size_t i = 0; i < names->count; i++) free(names->items[i].name);
    free(names->items);
}

static int copy_entries(struct reader *reader, const struct source *directory, int to);

static int copy_directory(struct reader *reader, const struct source *source, int to)
{
    _cleanup_close_ int fd = -1;
    int r;

    if (mkdirat(to, source->name, 0700) < 0) return failed_errno(reader, source, -errno);
    fd = io_open_beneath(to, source->name, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return failed_errno(reader, source, fd);
    r = copy_entries(reader, source, fd);
    return r < 0 ? r : keep_attrs(reader, source, fd, ".");
}

static int read_inode(const struct reader *reader, struct source *source)
{
    errcode_t error = ext2fs_read_inode_full(reader->fs, source->ino, (struct ext2_inode *)&source->inode,
                                             sizeof(source->inode));

    return error ? failed_ext(reader, source, error) : 0;
}

static int copy_entry(struct reader *reader, const struct source *directory, const struct name *name, int to)
{
    bool at_root = strcmp(directory->path, ".") == 0;
    _cleanup_free_ char *path = io_format("%s%s%s", at_root ? "" : directory->path, at_root ? "" : "/", name->name);
    struct source source = {.ino = name->ino, .path = path, .name = name->name};
    int r;

    if (!path) return failed_errno(reader, directory, -ENOMEM);
    r = read_inode(reader, &source);
    if (r < 0) return r;
    progress_add(reader->ext->progress, 1, 0);
    return S_ISDIR(source.inode.i_mode) ? copy_directory(reader, &source, to) : copy_file(reader, &source, to);
}

static int copy_entries(struct reader *reader, const struct source *directory, int to)
{
    struct names names = {0};
    errcode_t error = ext2fs_dir_iterate2(reader->fs, directory->ino, 0, NULL, note_name, &names);
    int r = 0;

    if (error) r = failed_ext(reader, directory, error);
    else if (names.is_full) r = failed_errno(reader, directory, -ENOMEM);
    for (size_t i = 0; r == 0 && i < names.count; i++) r = copy_entry(reader, directory, &names.items[i], to);
    free_names(&names);
    return r;
}

static int copy_root(struct reader *reader)
{
    struct source root = {.ino = EXT2_ROOT_INO, .path = ".", .name = "."};
    struct ext2_super_block *super = reader->fs->super;
    int r = read_inode(reader, &root);

    reader->total = (ext2fs_blocks_count(super) - ext2fs_free_blocks_count(super)) * reader->fs->blocksize;
    if (r == 0) r = copy_entries(reader, &root, reader->to_fd);
    return r < 0 ? r : keep_attrs(reader, &root, reader->to_fd, ".");
}

int import_ext_copy(const struct import_ext *ext, int to_fd)
{
    struct reader reader = {.ext = ext, .to_fd = to_fd, .buffer = malloc(STRETCH)};
    struct source root = {.path = "."};
    errcode_t error = open_fs(ext, 0, &reader.fs);
    int r;

    io_raise_nofile(); /* each level of the tree holds a descriptor */
    if (error) r = failed_ext(&reader, &root, error);
    else r = reader.buffer ? copy_root(&reader) : failed_errno(&reader, &root, -ENOMEM);
    for (size_t i = 0; i < reader.link_count; i++) free(reader.links[i]);
    free(reader.links);
    linkmap_free(&reader.linkmap);
    free(reader.buffer);
    if (!error) ext2fs_free(reader.fs);
    return r;
}
