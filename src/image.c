#include "image.h"

#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "image_load.h"
#include "io.h"
#include "log.h"
#include "longpath.h"

static void image_free(struct image *image)
{
    if (!image) return;
    if (image->rootfs_fd >= 0) close(image->rootfs_fd);
    free(image->name);
    free(image->inodes);
    free(image->entries);
    free(image->directories);
    free(image->xattrs);
    free(image->table);
    free(image->names);
    free(image->targets);
    free(image->xattr_data);
    free(image->reported);
    free(image);
}

static void image_free_cleanup(struct image **image)
{
    image_free(*image);
}

static int open_rootfs(int images_fd, const char *name)
{
    _cleanup_close_ int fd = io_open_beneath(images_fd, name, O_PATH | O_DIRECTORY, 0);
    int rootfs_fd;

    if (fd < 0) return fd;
    rootfs_fd = io_open_beneath(fd, "rootfs", O_RDONLY | O_DIRECTORY, 0);
    if (rootfs_fd != -ENOENT && rootfs_fd != -ENOTDIR) return rootfs_fd;
    log_error("image %s: its tree is missing", name);
    return -EIO;
}

int image_open(struct image **ret_image, int images_fd, const char *images_path, const char *name)
{
    __attribute__((cleanup(image_free_cleanup))) struct image *image = calloc(1, sizeof(*image));
    _cleanup_free_ char *index_path = io_format("%s/%s/index.db", images_path, name);
    int r;

    if (!image || !index_path) return -ENOMEM;
    image->references = 1;
    image->rootfs_fd = open_rootfs(images_fd, name);
    if (image->rootfs_fd < 0) return image->rootfs_fd;
    image->name = strdup(name);
    if (!image->name) return -ENOMEM;
    r = image_load(image, index_path);
    if (r < 0) return r;
    image->reported = calloc(image->inode_count / CHAR_BIT + 1, 1);
    if (!image->reported) return -ENOMEM;
    *ret_image = io_take(image);
    return 0;
}

struct image *image_ref(struct image *image)
{
    atomic_fetch_add(&image->references, 1);
    return image;
}

void image_unref(struct image *image)
{
    if (image && atomic_fetch_sub(&image->references, 1) == 1) image_free(image);
}

const char *image_name(const struct image *image)
{
    return image->name;
}

uint32_t image_count(const struct image *image)
{
    return image->inode_count;
}

size_t image_memory(const struct image *image)
{
    return sizeof(*image) + image->inode_count * sizeof(*image->inodes) + image->entry_count * sizeof(*image->entries) +
           image->directory_count * sizeof(*image->directories) + image->xattr_count * sizeof(*image->xattrs) +
           image->table_size * sizeof(*image->table) + image->names_size + image->targets_size + image->xattr_size +
           image->inode_count / CHAR_BIT + 1;
}

const struct image_inode *image_inode(const struct image *image, uint32_t ino)
{
    return ino >= 1 && ino <= image->inode_count ? &image->inodes[ino - 1] : NULL;
}

int64_t image_lookup(const struct image *image, uint32_t parent, const char *name, size_t length)
{
    return (int64_t)image->table[image_slot(image, parent, name, length)] - 1;
}

const struct image_entry *image_entry(const struct image *image, uint32_t index)
{
    return index < image->entry_count ? &image->entries[index] : NULL;
}

/* The first attribute of the inode, or the end of the array. */
static size_t first_xattr(const struct image *image, uint32_t ino)
{
    size_t low = 0, high = image->xattr_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (image->xattrs[middle].ino < ino) low = middle + 1;
        else high = middle;
    }
    return low;
}

int image_xattrs(const struct image *image, uint32_t ino, image_xattr_fn fn, void *data)
{
    const struct image_inode *inode = image_inode(image, ino);

    if (!inode || !inode->has_xattrs) return 0;
    for (size_t i = first_xattr(image, ino); i < image->xattr_count && image->xattrs[i].ino == ino; i++) {
        const char *name = image->xattr_data + image->xattrs[i].name;
        int r = fn(name, name + strlen(name) + 1, image->xattrs[i].size, data);

        if (r != 0) return r;
    }
    return 0;
}

int image_readlink(const struct image *image, uint32_t ino, char *buffer, size_t size)
{
    const struct image_inode *inode = image_inode(image, ino);

    if (!inode) return -ENOENT;
    if (!S_ISLNK(inode->mode)) return -EINVAL;
    if (inode->size >= size) return -ENAMETOOLONG;
    memcpy(buffer, image->targets + inode->parent, inode->size + 1);
    return inode->size;
}

/* The entry that names a directory; the root has none. */
static const struct image_entry *directory_entry(const struct image *image, uint32_t ino)
{
    size_t low = 0, high = image->directory_count;

    while (low < high) {
        size_t middle = low + (high - low) / 2;

        if (image->directories[middle].ino < ino) low = middle + 1;
        else high = middle;
    }
    if (low == image->directory_count || image->directories[low].ino != ino) return NULL;
    return &image->entries[image->directories[low].entry];
}

/* Where an entry lies, relative to the root. Caller frees; NULL: no memory. */
static char *path_of(const struct image *image, const struct image_entry *last)
{
    size_t length = 0;
    char *path;

    for (const struct image_entry *entry = last; entry; entry = directory_entry(image, entry->parent))
        length += entry->length + 1;
    path = malloc(length);
    if (!path) return NULL;
    for (const struct image_entry *entry = last; entry; entry = directory_entry(image, entry->parent)) {
        path[--length] = entry == last ? '\0' : '/';
        length -= entry->length;
        memcpy(path + length, entry->name, entry->length);
    }
    return path;
}

int image_damaged(struct image *image, uint32_t ino, const char *what)
{
    unsigned char bit = 1u << ino % CHAR_BIT;
    _cleanup_free_ char *path = NULL;

    if (atomic_fetch_or(&image->reported[ino / CHAR_BIT], bit) & bit) return -EIO;
    path = path_of(image, &image->entries[image->inodes[ino - 1].first_entry]);
    log_error("image %s: %s: %s", image->name, path ? path : "?", what);
    return -EIO;
}

/* Failures that say something of the tree, not of the moment. */
static bool is_gone(int r)
{
    return r == -ENOENT || r == -ENOTDIR || r == -ELOOP || r == -EXDEV || r == -ENXIO || r == -EISDIR || r == -EIO;
}

int image_open_file(struct image *image, uint32_t ino)
{
    const struct image_inode *inode = image_inode(image, ino);
    _cleanup_close_ int fd = -1;
    _cleanup_free_ char *path = NULL;
    struct stat st;

    if (!inode) return -ENOENT;
    if (!S_ISREG(inode->mode)) return -EINVAL;
    path = path_of(image, &image->entries[inode->first_entry]);
    if (!path) return -ENOMEM;
    /* O_NONBLOCK: a fifo put in the file's place must not hold up the daemon. */
    fd = longpath_open(image->rootfs_fd, path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
    if (is_gone(fd)) return image_damaged(image, ino, log_reason(fd));
    if (fd < 0) return fd;
    if (fstat(fd, &st) < 0) return -errno;
    if (!S_ISREG(st.st_mode)) return image_damaged(image, ino, "is no regular file any more");
    if ((uint64_t)st.st_size != inode->size || image_time(st.st_mtim) != inode->mtime)
        return image_damaged(image, ino, "was changed since its import");
    return io_take_fd(fd);
}
