#include "image_load.h"

#include <dirent.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "db.h"
#include "io.h"
#include "log.h"

/* Marks a directory in loader.links as named. */
#define NAMED 0x80000000u
#define COUNT_MAX 0x7fffffff
#define TARGET_MAX 4095
#define XATTR_NAME_MAX 255
#define XATTR_SIZE_MAX 65536

struct loader {
    struct image *image;
    struct db *db;
    uint32_t *links;                                           /* of each inode, as counted from the entries */
    size_t inode_room, entry_room, directory_room, xattr_room; /* elements allocated */
    size_t names_room, targets_room, xattr_data_room;
};

static int damaged(struct loader *loader, const char *what, int64_t where)
{
    log_error("image %s: index.db: damaged: %s (%lld)", loader->image->name, what, (long long)where);
    return -EIO;
}

static int failed(struct loader *loader, int r)
{
    const char *message = loader->db ? db_message(loader->db) : log_reason(r);

    log_error("image %s: index.db: %s", loader->image->name, r == -ENOMEM ? log_reason(r) : message);
    return r == -ENOMEM ? r : -EIO;
}

static int reserve(void *array_pointer, size_t *room, size_t need, size_t element)
{
    void **array = array_pointer;
    size_t wanted = *room < 64 ? 64 : *room + *room / 2;
    void *grown;

    if (need <= *room) return 0;
    if (wanted < need) wanted = need;
    grown = reallocarray(*array, wanted, element);
    if (!grown) return -ENOMEM;
    *array = grown;
    *room = wanted;
    return 0;
}

static void trim(void *array_pointer, size_t count, size_t element)
{
    void **array = array_pointer;
    void *trimmed = count ? reallocarray(*array, count, element) : NULL;

    if (trimmed) *array = trimmed;
}

static bool is_type(int64_t mode)
{
    static const bool known[16] = {[1] = 1, [2] = 1, [4] = 1, [6] = 1, [8] = 1, [10] = 1, [12] = 1};

    return mode >= 0 && mode <= 0xffff && known[mode >> 12];
}

static bool in_range(int64_t value, int64_t low, int64_t high)
{
    return value >= low && value <= high;
}

static bool is_directory(const struct image *image, int64_t ino)
{
    return in_range(ino, 1, image->inode_count) && S_ISDIR(image->inodes[ino - 1].mode);
}

static int check_format(struct loader *loader)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = db_prepare(loader->db, &statement, "PRAGMA user_version");
    int64_t format;

    if (r < 0) return failed(loader, r);
    r = db_step(statement);
    if (r < 0) return failed(loader, r);
    format = r ? db_int(statement, 0) : 0;
    if (format == IMAGE_FORMAT) return 0;
    if (format < IMAGE_FORMAT) return damaged(loader, "unknown format", format);
    log_error("image %s: index.db: made by a newer version of coppice (format %lld)", loader->image->name,
              (long long)format);
    return -EIO;
}

static int load_target(struct loader *loader, struct image_inode *inode, db_stmt *statement, int column)
{
    struct image *image = loader->image;
    size_t size;
    const char *target = db_blob(statement, column, &size);
    int r;

    if (!in_range(size, 1, TARGET_MAX) || size != inode->size || memchr(target, '\0', size))
        return damaged(loader, "target of a symlink", image->inode_count);
    if (image->targets_size + size >= UINT32_MAX) return damaged(loader, "too many symlinks", image->inode_count);
    r = reserve(&image->targets, &loader->targets_room, image->targets_size + size + 1, 1);
    if (r < 0) return failed(loader, r);
    inode->parent = image->targets_size;
    memcpy(image->targets + image->targets_size, target, size);
    image->targets[image->targets_size + size] = '\0';
    image->targets_size += size + 1;
    return 0;
}

/* The columns of INODES. */
enum { INO, MODE, UID, GID, RDEV, NLINK, SIZE, BLOCKS, MTIME, CTIME, PARENT, TARGET };
#define INODES                                                                                       \
    "SELECT ino, mode, uid, gid, rdev, nlink, size, blocks, mtime, ctime, parent, target FROM inode" \
    " ORDER BY ino"

static bool are_numbers_in_range(db_stmt *row)
{
    return is_type(db_int(row, MODE)) && in_range(db_int(row, UID), 0, UINT32_MAX - 1) &&
           in_range(db_int(row, GID), 0, UINT32_MAX - 1) && db_int(row, RDEV) >= 0 &&
           in_range(db_int(row, NLINK), 1, COUNT_MAX) && db_int(row, SIZE) >= 0 && db_int(row, BLOCKS) >= 0;
}

/* Only the root holds itself. A parent is among the inodes loaded so far, which rules out cycles. */
static bool is_parent_valid(const struct image *image, int64_t ino, uint32_t mode, int64_t parent)
{
    if (!S_ISDIR(mode)) return ino != 1 && parent == 0;
    if (ino == 1) return parent == 1;
    return is_directory(image, parent);
}

static int load_inode(struct loader *loader, db_stmt *row)
{
    struct image *image = loader->image;
    int64_t ino = db_int(row, INO), parent = db_int(row, PARENT);
    struct image_inode *inode;
    int r;

    if (ino != (int64_t)image->inode_count + 1 || ino > COUNT_MAX) return damaged(loader, "number of an inode", ino);
    if (!are_numbers_in_range(row)) return damaged(loader, "attributes of inode", ino);
    if (!is_parent_valid(image, ino, db_int(row, MODE), parent)) return damaged(loader, "parent of inode", ino);
    r = reserve(&image->inodes, &loader->inode_room, ino, sizeof(*image->inodes));
    if (r < 0) return failed(loader, r);

    inode = &image->inodes[image->inode_count++];
    *inode = (struct image_inode){
        .size = db_int(row, SIZE),
        .blocks = db_int(row, BLOCKS),
        .mtime = db_int(row, MTIME),
        .ctime = db_int(row, CTIME),
        .rdev = db_int(row, RDEV),
        .mode = db_int(row, MODE),
        .uid = db_int(row, UID),
        .gid = db_int(row, GID),
        .nlink = db_int(row, NLINK),
        .parent = parent,
    };
    return S_ISLNK(inode->mode) ? load_target(loader, inode, row, TARGET) : 0;
}

static int load_inodes(struct loader *loader)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = db_prepare(loader->db, &statement, INODES);

    if (r < 0) return failed(loader, r);
    while ((r = db_step(statement)) > 0) {
        r = load_inode(loader, statement);
        if (r < 0) return r;
    }
    if (r < 0) return failed(loader, r);
    return loader->image->inode_count ? 0 : damaged(loader, "no inodes", 0);
}

static bool is_name_valid(const char *name, size_t length)
{
    if (!in_range(length, 1, 255)) return false;
    if (memchr(name, '/', length) || memchr(name, '\0', length)) return false;
    return !(name[0] == '.' && (length == 1 || (length == 2 && name[1] == '.')));
}

/* Counts the name for what it names. */
static bool count_link(struct loader *loader, uint32_t index)
{
    struct image *image = loader->image;
    const struct image_entry *entry = &image->entries[index];
    struct image_inode *inode = &image->inodes[entry->ino - 1];
    uint32_t *links = &loader->links[entry->ino - 1];

    if (!S_ISDIR(inode->mode)) {
        if ((*links)++ == 0) inode->first_entry = index;
        return true;
    }
    if (inode->parent != entry->parent || (*links & NAMED)) return false;
    *links |= NAMED;
    loader->links[entry->parent - 1]++;
    return true;
}

static int add_directory(struct loader *loader, uint32_t index)
{
    struct image *image = loader->image;
    size_t count = image->directory_count;
    int r = reserve(&image->directories, &loader->directory_room, count + 1, sizeof(*image->directories));

    if (r < 0) return failed(loader, r);
    image->directories[image->directory_count++] = (struct image_directory){image->entries[index].ino, index};
    return 0;
}

static int add_entry(struct loader *loader, const struct image_entry *entry)
{
    struct image *image = loader->image;
    size_t index = image->entry_count, offset = image->names_size;
    int r = reserve(&image->entries, &loader->entry_room, index + 1, sizeof(*image->entries));

    if (r == 0) r = reserve(&image->names, &loader->names_room, offset + entry->length, 1);
    if (r < 0) return failed(loader, r);
    memcpy(image->names + offset, entry->name, entry->length);
    image->names_size += entry->length;
    image->entries[index] = *entry;
    image->entry_count++;
    if (!count_link(loader, index)) return damaged(loader, "second name of directory", entry->ino);
    return entry->type == DT_DIR ? add_directory(loader, index) : 0;
}

static int load_entry(struct loader *loader, db_stmt *row)
{
    struct image *image = loader->image;
    int64_t parent = db_int(row, 0), cookie = db_int(row, 1), ino = db_int(row, 3), type = db_int(row, 4);
    size_t length;
    const char *name = db_blob(row, 2, &length);
    struct image_inode *directory;

    if (!is_directory(image, parent)) return damaged(loader, "entry in what is no directory", parent);
    directory = &image->inodes[parent - 1];
    if (image->entry_count && image->entries[image->entry_count - 1].parent > parent)
        return damaged(loader, "order of entries", parent);
    if (image->entry_count >= COUNT_MAX || cookie != (int64_t)directory->entries + 1)
        return damaged(loader, "order of entries", parent);
    if (!is_name_valid(name, length)) return damaged(loader, "name in directory", parent);
    if (!in_range(ino, 2, image->inode_count)) return damaged(loader, "entry without an inode", ino);
    if (type != (int64_t)IFTODT(image->inodes[ino - 1].mode)) return damaged(loader, "type of an entry", ino);

    if (directory->entries++ == 0) directory->first_entry = image->entry_count;
    return add_entry(loader, &(struct image_entry){name, length, type, ino, parent});
}

static int load_entries(struct loader *loader)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = db_prepare(loader->db, &statement,
                       "SELECT parent, cookie, name, ino, type FROM dirent"
                       " ORDER BY parent, cookie");

    if (r < 0) return failed(loader, r);
    loader->links = calloc(loader->image->inode_count, sizeof(*loader->links));
    if (!loader->links) return failed(loader, -ENOMEM);
    while ((r = db_step(statement)) > 0) {
        r = load_entry(loader, statement);
        if (r < 0) return r;
    }
    return r < 0 ? failed(loader, r) : 0;
}

static int check_links(struct loader *loader)
{
    struct image *image = loader->image;

    for (size_t i = 0; i < image->inode_count; i++) {
        const struct image_inode *inode = &image->inodes[i];
        uint32_t links = loader->links[i];

        if (S_ISDIR(inode->mode)) {
            if (i > 0 && !(links & NAMED)) return damaged(loader, "directory without a name", i + 1);
            links = (links & ~NAMED) + 2;
        }
        if (links != inode->nlink) return damaged(loader, "link count of inode", i + 1);
    }
    return 0;
}

static uint64_t hash(uint32_t parent, const char *name, size_t length)
{
    const uint64_t prime = 0x9e3779b97f4a7c15u;
    uint64_t h = parent * prime ^ length;

    while (length > 0) {
        size_t n = length < 8 ? length : 8;
        uint64_t word = 0;

        memcpy(&word, name, n);
        h = (h ^ word) * prime;
        h ^= h >> 32;
        name += n;
        length -= n;
    }
    return h * prime;
}

size_t image_slot(const struct image *image, uint32_t parent, const char *name, size_t length)
{
    size_t slot = ((hash(parent, name, length) >> 32) * image->table_size) >> 32;

    while (image->table[slot]) {
        const struct image_entry *entry = &image->entries[image->table[slot] - 1];

        if (entry->parent == parent && entry->length == length && memcmp(entry->name, name, length) == 0) break;
        if (++slot == image->table_size) slot = 0;
    }
    return slot;
}

/* While the names were read, their blob moved: only now can the entries point into it. */
static void point_to_names(struct image *image)
{
    const char *name = image->names;

    for (size_t i = 0; i < image->entry_count; i++) {
        image->entries[i].name = name;
        name += image->entries[i].length;
    }
}

static int fill_table(struct loader *loader)
{
    struct image *image = loader->image;

    image->table_size = image->entry_count * 2 + 1;
    image->table = calloc(image->table_size, sizeof(*image->table));
    if (!image->table) return failed(loader, -ENOMEM);
    for (size_t i = 0; i < image->entry_count; i++) {
        const struct image_entry *entry = &image->entries[i];
        size_t slot = image_slot(image, entry->parent, entry->name, entry->length);

        if (image->table[slot]) return damaged(loader, "two entries of one name in directory", entry->parent);
        image->table[slot] = i + 1;
    }
    return 0;
}

static int compare_directories(const void *a, const void *b)
{
    const struct image_directory *left = a, *right = b;

    return (left->ino > right->ino) - (left->ino < right->ino);
}

static bool is_after_last(const struct image *image, int64_t ino, const char *name)
{
    const struct image_xattr *last;

    if (image->xattr_count == 0) return true;
    last = &image->xattrs[image->xattr_count - 1];
    if (last->ino != ino) return last->ino < ino;
    return strcmp(image->xattr_data + last->name, name) < 0;
}

static int add_xattr(struct loader *loader, uint32_t ino, const char *name, const void *value, size_t size)
{
    struct image *image = loader->image;
    size_t length = strlen(name) + 1;
    int r = reserve(&image->xattrs, &loader->xattr_room, image->xattr_count + 1, sizeof(*image->xattrs));

    if (r == 0) r = reserve(&image->xattr_data, &loader->xattr_data_room, image->xattr_size + length + size, 1);
    if (r < 0) return failed(loader, r);
    image->xattrs[image->xattr_count++] = (struct image_xattr){ino, size, image->xattr_size};
    memcpy(image->xattr_data + image->xattr_size, name, length);
    if (size) memcpy(image->xattr_data + image->xattr_size + length, value, size);
    image->xattr_size += length + size;
    image->inodes[ino - 1].has_xattrs = true;
    return 0;
}

static int load_xattr(struct loader *loader, db_stmt *row)
{
    int64_t ino = db_int(row, 0);
    const char *name = db_text(row, 1);
    size_t size;
    const void *value = db_blob(row, 2, &size);

    if (!in_range(ino, 1, loader->image->inode_count)) return damaged(loader, "xattr without an inode", ino);
    if (!name || !in_range(strlen(name), 1, XATTR_NAME_MAX) || size > XATTR_SIZE_MAX)
        return damaged(loader, "xattr of inode", ino);
    if (!is_after_last(loader->image, ino, name)) return damaged(loader, "order of the xattrs of inode", ino);
    return add_xattr(loader, ino, name, value, size);
}

static int load_xattrs(struct loader *loader)
{
    _cleanup_stmt_ db_stmt *statement = NULL;
    int r = db_prepare(loader->db, &statement, "SELECT ino, name, value FROM xattr ORDER BY ino, name");

    if (r < 0) return failed(loader, r);
    while ((r = db_step(statement)) > 0) {
        r = load_xattr(loader, statement);
        if (r < 0) return r;
    }
    return r < 0 ? failed(loader, r) : 0;
}

static void trim_all(struct image *image)
{
    trim(&image->inodes, image->inode_count, sizeof(*image->inodes));
    trim(&image->entries, image->entry_count, sizeof(*image->entries));
    trim(&image->directories, image->directory_count, sizeof(*image->directories));
    trim(&image->xattrs, image->xattr_count, sizeof(*image->xattrs));
    trim(&image->names, image->names_size, 1);
    trim(&image->targets, image->targets_size, 1);
    trim(&image->xattr_data, image->xattr_size, 1);
}

static int load_all(struct loader *loader)
{
    struct image *image = loader->image;
    int r = check_format(loader);

    if (r == 0) r = load_inodes(loader);
    if (r == 0) r = load_entries(loader);
    if (r == 0) r = check_links(loader);
    if (r == 0) r = load_xattrs(loader);
    if (r < 0) return r;
    trim_all(image);
    point_to_names(image);
    if (image->directories)
        qsort(image->directories, image->directory_count, sizeof(*image->directories), compare_directories);
    return fill_table(loader);
}

int image_load(struct image *image, const char *index_path)
{
    struct loader loader = {.image = image};
    _cleanup_db_ struct db *db = NULL;
    int r = db_open_immutable(&db, index_path);

    if (r < 0) return failed(&loader, r);
    loader.db = db;
    r = load_all(&loader);
    free(loader.links);
    return r;
}
