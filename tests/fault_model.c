#include "fault_tree.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "made_tree.h"

static void *grown(void *array, int count, int *room, size_t size)
{
    if (count < *room) return array;
    *room = *room ? *room * 2 : 32;
    array = realloc(array, (size_t)*room * size);
    if (!array) abort();
    return array;
}

static int add_file(struct fault_model *m, mode_t mode)
{
    m->files = grown(m->files, m->count, &m->room, sizeof(*m->files));
    m->files[m->count] = (struct file){.mode = mode, .value_length = -1};
    if (S_ISREG(mode) && !(m->files[m->count].bytes = calloc(1, FAULT_FILE_MAX))) abort();
    return m->count++;
}

static void add_entry(struct fault_model *m, int parent, const char *name, int file)
{
    int i = 0;
    while (i < m->entries_count && m->entries[i].file >= 0) i++;
    if (i == m->entries_count) {
        m->entries = grown(m->entries, m->entries_count, &m->entries_room, sizeof(*m->entries));
        m->entries_count++;
    }
    m->entries[i] = (struct entry){.parent = parent, .file = file};
    snprintf(m->entries[i].name, sizeof(m->entries[i].name), "%s", name);
}

struct fault_model *fault_model_new(void)
{
    struct fault_model *m = calloc(1, sizeof(*m));
    if (!m) abort();
    add_file(m, S_IFDIR | 0755);
    return m;
}

static void clear_file(struct file *f)
{
    free(f->target);
    free(f->bytes);
    free(f->old);
    *f = (struct file){.value_length = -1};
}

void fault_model_free(struct fault_model *m)
{
    if (!m) return;
    for (int i = 0; i < m->count; i++) clear_file(&m->files[i]);
    free(m->files);
    free(m->entries);
    free(m);
}

static void copy_file(struct file *to, const struct file *from)
{
    *to = *from;
    if (from->target && !(to->target = strdup(from->target))) abort();
    if (from->bytes) {
        if (!(to->bytes = calloc(1, FAULT_FILE_MAX))) abort();
        memcpy(to->bytes, from->bytes, from->size);
    }
    to->old_room = to->old_count;
    to->old = NULL;
    if (to->old_count == 0) return;
    if (!(to->old = malloc(to->old_count * sizeof(*to->old)))) abort();
    memcpy(to->old, from->old, to->old_count * sizeof(*to->old));
}

struct fault_model *fault_model_clone(const struct fault_model *model)
{
    struct fault_model *m = malloc(sizeof(*m));
    if (!m) abort();
    *m = *model;
    m->files = malloc((size_t)m->room * sizeof(*m->files));
    m->entries = m->entries_room ? malloc((size_t)m->entries_room * sizeof(*m->entries)) : NULL;
    if (!m->files || (m->entries_room && !m->entries)) abort();
    for (int i = 0; i < m->count; i++) copy_file(&m->files[i], &model->files[i]);
    if (m->entries) memcpy(m->entries, model->entries, (size_t)m->entries_count * sizeof(*m->entries));
    return m;
}

void fault_model_keep_old(struct fault_model *m, unsigned unit)
{
    m->unit = unit;
}

void fault_model_know_sizes(struct fault_model *m)
{
    m->knows_sizes = true;
}

/* ---- paths ---- */

struct entry *fault_tree_find(const struct fault_model *m, int parent, const char *name)
{
    for (int i = 0; i < m->entries_count; i++) {
        struct entry *e = &m->entries[i];
        if (e->file >= 0 && e->parent == parent && strcmp(e->name, name) == 0) return e;
    }
    return NULL;
}

/* The entry of the path, NULL if there is none; *ret_parent and *ret_name, as far as the way there exists. */
struct entry *fault_tree_resolve(const struct fault_model *m, const char *path, int *ret_parent, char ret_name[16])
{
    char copy[48], *rest = copy, *word = copy;
    struct entry *e = NULL;
    int parent = 0;
    snprintf(copy, sizeof(copy), "%s", path);
    while ((word = strsep(&rest, "/"))) {
        e = fault_tree_find(m, parent, word);
        if (rest && !e) return NULL;
        if (rest) parent = e->file;
        else snprintf(ret_name, 16, "%s", word);
    }
    *ret_parent = parent;
    return e;
}

static struct entry *must_find(const struct fault_model *m, const char *path)
{
    int parent;
    char name[16];
    struct entry *e = fault_tree_resolve(m, path, &parent, name);
    if (!e) {
        fprintf(stderr, "the model has no %s\n", path);
        abort();
    }
    return e;
}

const struct entry *fault_tree_entry_of(const struct fault_model *m, int dir)
{
    for (int i = 0; i < m->entries_count; i++)
        if (m->entries[i].file == dir) return &m->entries[i];
    return NULL;
}

int fault_tree_depth(const struct fault_model *m, int dir)
{
    int depth = 0;
    for (; dir != 0; dir = fault_tree_entry_of(m, dir)->parent) depth++;
    return depth;
}

void fault_tree_path(const struct fault_model *m, int dir, const char *name, char path[48])
{
    char tail[48];
    snprintf(path, 48, "%s", name);
    for (; dir != 0; dir = fault_tree_entry_of(m, dir)->parent) {
        memcpy(tail, path, 48);
        snprintf(path, 48, "%.15s/%.31s", fault_tree_entry_of(m, dir)->name, tail);
    }
}

/* ---- doing it to the model ---- */

static void keep_unit(struct file *f, uint64_t start, unsigned unit)
{
    if (f->old_count == f->old_room) {
        f->old_room = f->old_room ? f->old_room * 2 : 16;
        if (!(f->old = realloc(f->old, f->old_room * sizeof(*f->old)))) abort();
    }
    struct old_unit *u = &f->old[f->old_count++];
    u->start = start;
    memcpy(u->bytes, f->bytes + start, unit);
}

static void keep_size(struct file *f, uint64_t size)
{
    for (size_t i = 0; i < f->old_sizes_count; i++)
        if (f->old_sizes[i] == size) return;
    if (f->old_sizes_count == sizeof(f->old_sizes) / sizeof(*f->old_sizes)) abort();
    f->old_sizes[f->old_sizes_count++] = size;
}

static void forget_old(struct file *f)
{
    f->old_count = f->old_sizes_count = 0;
}

static void write_bytes(struct fault_model *m, struct file *f, const struct fault_op *op)
{
    uint64_t end = op->offset + op->length;
    struct fault_op part;
    if (m->unit) {
        uint64_t from = op->offset < f->size ? op->offset : f->size;
        for (uint64_t u = from - from % m->unit; u < end; u += m->unit) keep_unit(f, u, m->unit);
        if (end > f->size) keep_size(f, f->size);
        if (fault_op_first_part(op, &part) && part.offset + part.length > f->size) keep_size(f, part.offset + part.length);
    }
    made_fill(op->seed, op->offset, f->bytes + op->offset, op->length);
    if (end > f->size) f->size = end;
    if (f->size > FAULT_ROW_MAX) f->is_large = true;
    if (op->is_synced) forget_old(f);
}

static void punch_bytes(struct fault_model *m, struct file *f, const struct fault_op *op)
{
    uint64_t end = op->offset + op->length;
    if (end > f->size) end = f->size;
    if (op->offset >= end) return;
    for (uint64_t u = op->offset - op->offset % (m->unit ? m->unit : 1); m->unit && u < end; u += m->unit)
        keep_unit(f, u, m->unit);
    memset(f->bytes + op->offset, 0, end - op->offset);
}

/* Answered, the size is on the disk, and with it all that lies within. */
static void truncate_bytes(struct fault_model *m, struct file *f, uint64_t size, bool is_answered)
{
    if (size < f->size) memset(f->bytes + size, 0, f->size - size);
    for (size_t i = 0; i < f->old_count; i++) {
        struct old_unit *u = &f->old[i];
        uint64_t keep = size <= u->start ? 0 : size - u->start;
        if (keep < m->unit) memset(u->bytes + keep, 0, m->unit - keep);
    }
    if (is_answered) f->old_sizes_count = 0;
    f->size = size;
    f->is_large = size > FAULT_ROW_MAX || (f->is_large && size > 0);
}

static void drop_file_without_name(struct fault_model *m, int file)
{
    for (int i = 0; i < m->entries_count; i++)
        if (m->entries[i].file == file) return;
    clear_file(&m->files[file]);
}

static void remove_entry(struct fault_model *m, struct entry *e)
{
    int file = e->file;
    e->file = -1;
    drop_file_without_name(m, file);
}

static void rename_entry(struct fault_model *m, const struct fault_op *op)
{
    int parent;
    char name[16];
    struct entry *from = must_find(m, op->path), *to = fault_tree_resolve(m, op->other, &parent, name);
    int file = from->file;
    if (to && to->file == file) return; /* two names of one file: rename(2) does nothing */
    from->file = -1;
    if (to) remove_entry(m, to);
    add_entry(m, parent, name, file);
}

static void set_value(struct file *f, const struct fault_op *op)
{
    f->value_length = (ssize_t)(op->seed % 200);
    made_fill(op->seed, 0, f->value, (size_t)f->value_length);
}

static void make_entry(struct fault_model *m, const struct fault_op *op, int file)
{
    int parent;
    char name[16];
    fault_tree_resolve(m, op->path, &parent, name);
    add_entry(m, parent, name, file);
}

static void link_entry(struct fault_model *m, const struct fault_op *op)
{
    int parent;
    char name[16];
    fault_tree_resolve(m, op->other, &parent, name);
    add_entry(m, parent, name, must_find(m, op->path)->file);
}

static void make_symlink(struct fault_model *m, const struct fault_op *op)
{
    int file = add_file(m, S_IFLNK | 0777);
    if (!(m->files[file].target = strdup(op->other))) abort();
    make_entry(m, op, file);
}

void fault_model_apply(struct fault_model *m, const struct fault_op *op)
{
    switch (op->kind) {
    case FAULT_CREATE: return make_entry(m, op, add_file(m, S_IFREG | 0644));
    case FAULT_MKDIR: return make_entry(m, op, add_file(m, S_IFDIR | 0755));
    case FAULT_SYMLINK: return make_symlink(m, op);
    case FAULT_LINK: return link_entry(m, op);
    case FAULT_RENAME: return rename_entry(m, op);
    case FAULT_UNLINK:
    case FAULT_RMDIR: return remove_entry(m, must_find(m, op->path));
    default: break;
    }
    struct file *f = &m->files[must_find(m, op->path)->file];
    switch (op->kind) {
    case FAULT_WRITE: return write_bytes(m, f, op);
    case FAULT_TRUNCATE: return truncate_bytes(m, f, op->length, op->acked);
    case FAULT_ALLOCATE:
        if (op->offset + op->length > f->size) truncate_bytes(m, f, op->offset + op->length, op->acked);
        return;
    case FAULT_PUNCH: return punch_bytes(m, f, op);
    case FAULT_FSYNC: return forget_old(f);
    case FAULT_CHMOD: f->mode = (f->mode & S_IFMT) | op->mode; return;
    case FAULT_SETXATTR: return set_value(f, op);
    default: f->value_length = -1;
    }
}

void fault_model_apply_late_write(struct fault_model *m, const struct fault_op *op)
{
    struct fault_op late = *op;
    late.is_synced = false;
    if (op->file >= m->count || !m->files[op->file].bytes) return;
    struct file *f = &m->files[op->file];
    uint64_t size = f->size;
    if (op->kind == FAULT_WRITE) write_bytes(m, f, &late);
    if (op->kind == FAULT_PUNCH) punch_bytes(m, f, &late);
    f->size = size;
}

bool fault_model_writes_in_parts(const struct fault_model *m, const struct fault_op *op)
{
    struct fault_op part;
    if (op->kind == FAULT_PUNCH) return true;
    if (op->kind != FAULT_WRITE) return false;
    return m->files[op->file].is_large || fault_op_first_part(op, &part) || op->offset + op->length > FAULT_ROW_MAX;
}

/* ---- reading a tree ---- */

#define because(...) (snprintf(ret_why, room, __VA_ARGS__), false)

static bool read_bytes(struct file *f, const char *path, char *ret_why, size_t room)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return because("%s: open: %s", path, strerror(errno));
    ssize_t n = pread(fd, f->bytes, FAULT_FILE_MAX, 0);
    int error = errno;
    close(fd);
    if (n < 0) return because("%s: read: %s", path, strerror(error));
    return (uint64_t)n == f->size || because("%s: %zd bytes could be read of %lu", path, n, f->size);
}

static bool read_target(struct file *f, const char *path, char *ret_why, size_t room)
{
    f->target = calloc(1, 128);
    if (!f->target) abort();
    return readlink(path, f->target, 127) >= 0 || because("%s: readlink: %s", path, strerror(errno));
}

static bool read_file(struct fault_model *m, int file, const char *path, const struct stat *st, char *ret_why,
                      size_t room)
{
    struct file *f = &m->files[file];
    f->ino = st->st_ino;
    f->size = S_ISREG(st->st_mode) ? (uint64_t)st->st_size : 0;
    f->is_large = f->size > FAULT_ROW_MAX;
    f->value_length = S_ISREG(st->st_mode) ? getxattr(path, FAULT_ATTRIBUTE, f->value, sizeof(f->value)) : -1;
    if (f->value_length < 0 && S_ISREG(st->st_mode) && errno != ENODATA)
        return because("%s: getxattr: %s", path, strerror(errno));
    if (f->size > FAULT_FILE_MAX) return because("%s: its size is %lu", path, f->size);
    if (S_ISREG(st->st_mode)) return read_bytes(f, path, ret_why, room);
    return !S_ISLNK(st->st_mode) || read_target(f, path, ret_why, room);
}

static int known_file(const struct fault_model *m, ino_t ino)
{
    for (int i = 1; i < m->count; i++)
        if (m->files[i].ino == ino) return i;
    return -1;
}

static bool read_dir(struct fault_model *m, int dir, const char *path, char *ret_why, size_t room);

static bool read_entry(struct fault_model *m, int dir, const char *path, const char *name, char *ret_why, size_t room)
{
    struct stat st;
    char below[1600];
    snprintf(below, sizeof(below), "%s/%s", path, name);
    if (strlen(name) > 15) return because("%s: nobody made this", below);
    if (lstat(below, &st) < 0) return because("%s: listed, but lstat: %s", below, strerror(errno));
    int file = S_ISDIR(st.st_mode) ? -1 : known_file(m, st.st_ino);
    bool is_new = file < 0;
    if (is_new) file = add_file(m, st.st_mode);
    add_entry(m, dir, name, file);
    if (is_new && !read_file(m, file, below, &st, ret_why, room)) return false;
    return !S_ISDIR(st.st_mode) || read_dir(m, file, below, ret_why, room);
}

static bool read_dir(struct fault_model *m, int dir, const char *path, char *ret_why, size_t room)
{
    DIR *stream = opendir(path);
    if (!stream) return because("%s: opendir: %s", path, strerror(errno));
    bool is_good = true;
    errno = 0;
    for (struct dirent *e; is_good && (e = readdir(stream));) {
        if (strcmp(e->d_name, ".") == 0 || strcmp(e->d_name, "..") == 0) continue;
        is_good = read_entry(m, dir, path, e->d_name, ret_why, room);
        errno = 0;
    }
    if (is_good && errno) is_good = because("%s: readdir: %s", path, strerror(errno));
    closedir(stream);
    return is_good;
}

struct fault_model *fault_model_read(const char *path, char *ret_why, size_t room)
{
    struct fault_model *m = fault_model_new();
    if (read_dir(m, 0, path, ret_why, room)) return m;
    fault_model_free(m);
    return NULL;
}

/* ---- comparing ---- */

static bool is_cut_at(const unsigned char *bytes, const unsigned char *found, size_t cut, size_t length)
{
    if (memcmp(bytes, found, cut) != 0) return false;
    while (cut < length && found[cut] == 0) cut++;
    return cut == length;
}

/* What a file grew by may be missing from a page whose other bytes arrived: the object's length is written by
 * itself. */
static bool version_may_be(const struct file *f, const unsigned char *bytes, const unsigned char *found, uint64_t start,
                           size_t length)
{
    if (memcmp(bytes, found, length) == 0) return true;
    for (size_t i = 0; i < f->old_sizes_count; i++) {
        uint64_t size = f->old_sizes[i];
        if (size > start && size < start + length && is_cut_at(bytes, found, size - start, length)) return true;
    }
    return false;
}

static bool may_be(const struct file *f, const struct file *found, uint64_t start, size_t length)
{
    if (version_may_be(f, f->bytes + start, found->bytes + start, start, length)) return true;
    for (size_t i = 0; i < f->old_count; i++)
        if (f->old[i].start == start && version_may_be(f, f->old[i].bytes, found->bytes + start, start, length))
            return true;
    return false;
}

static bool size_may_be(const struct fault_model *m, const struct file *f, uint64_t size)
{
    if (f->size == size) return true;
    for (size_t i = 0; !m->knows_sizes && i < f->old_sizes_count; i++)
        if (f->old_sizes[i] == size) return true;
    return false;
}

static const char *described(const unsigned char *bytes, size_t length)
{
    size_t zeros = 0;
    while (zeros < length && bytes[zeros] == 0) zeros++;
    return zeros == length ? "zeros" : "other bytes";
}

static bool same_bytes(const struct fault_model *m, const struct file *f, const struct file *found, const char *path,
                       char *ret_why, size_t room)
{
    uint64_t unit = m->unit ? m->unit : FAULT_SECTOR;
    if (!size_may_be(m, f, found->size)) return because("%s: its size is %lu, not %lu", path, found->size, f->size);
    for (uint64_t at = 0; at < found->size; at += unit) {
        size_t length = found->size - at < unit ? found->size - at : unit;
        if (!may_be(f, found, at, length))
            return because("%s: %s at %lu+%zu of %lu, that were never there", path,
                           described(found->bytes + at, length), at, length, found->size);
    }
    return true;
}

static int count_links(const struct fault_model *m, int file)
{
    int links = 0;
    for (int i = 0; i < m->entries_count; i++) links += m->entries[i].file == file;
    return links;
}

static bool same_attributes(const struct file *f, const struct file *found, const char *path, char *ret_why,
                            size_t room)
{
    if (f->mode != found->mode) return because("%s: its mode is %o, not %o", path, found->mode, f->mode);
    if (f->value_length != found->value_length)
        return because("%s: its attribute has %zd bytes, not %zd", path, found->value_length, f->value_length);
    if (f->value_length > 0 && memcmp(f->value, found->value, (size_t)f->value_length) != 0)
        return because("%s: its attribute has another value", path);
    if (f->target && strcmp(f->target, found->target) != 0) return because("%s: leads to %s", path, found->target);
    return true;
}

struct comparison {
    const struct fault_model *expected, *found;
    bool contents;
    int *twins; /* number in `found` of each file of `expected`, 0: not met yet */
};

static bool same_file(struct comparison *c, const struct entry *e, const struct entry *found, char *ret_why,
                      size_t room)
{
    char path[48];
    const struct file *f = &c->expected->files[e->file], *twin = &c->found->files[found->file];
    fault_tree_path(c->expected, e->parent, e->name, path);
    if (c->twins[e->file] && c->twins[e->file] != found->file)
        return because("%s: is not the file it was linked to", path);
    if (c->twins[e->file]) return true;
    c->twins[e->file] = found->file;
    if (!same_attributes(f, twin, path, ret_why, room)) return false;
    if (!S_ISDIR(f->mode) && count_links(c->expected, e->file) != count_links(c->found, found->file))
        return because("%s: has %d names, not %d", path, count_links(c->found, found->file),
                       count_links(c->expected, e->file));
    return !c->contents || !S_ISREG(f->mode) || same_bytes(c->expected, f, twin, path, ret_why, room);
}

static bool same_dir(struct comparison *c, int dir, int found_dir, char *ret_why, size_t room)
{
    char path[48];
    for (int i = 0; i < c->expected->entries_count; i++) {
        const struct entry *e = &c->expected->entries[i], *found;
        if (e->file < 0 || e->parent != dir) continue;
        fault_tree_path(c->expected, dir, e->name, path);
        if (!(found = fault_tree_find(c->found, found_dir, e->name))) return because("%s: is not there", path);
        if (!same_file(c, e, found, ret_why, room)) return false;
        if (S_ISDIR(c->expected->files[e->file].mode) && !same_dir(c, e->file, found->file, ret_why, room))
            return false;
    }
    for (int i = 0; i < c->found->entries_count; i++) {
        const struct entry *e = &c->found->entries[i];
        if (e->file < 0 || e->parent != found_dir) continue;
        fault_tree_path(c->found, found_dir, e->name, path);
        if (!fault_tree_find(c->expected, dir, e->name)) return because("%s: should not be there", path);
    }
    return true;
}

static struct comparison compare(const struct fault_model *expected, const struct fault_model *found, bool contents)
{
    struct comparison c = {expected, found, contents, calloc((size_t)expected->count, sizeof(*c.twins))};
    if (!c.twins) abort();
    return c;
}

bool fault_model_agrees(const struct fault_model *expected, const struct fault_model *found, bool contents,
                        char *ret_why, size_t room)
{
    struct comparison c = compare(expected, found, contents);
    bool is_same = same_dir(&c, 0, 0, ret_why, room);
    free(c.twins);
    return is_same;
}

static void adopt_bytes(struct file *f, const struct file *found)
{
    if (!S_ISREG(f->mode)) return;
    memcpy(f->bytes, found->bytes, FAULT_FILE_MAX);
    f->size = found->size;
    forget_old(f);
}

void fault_model_adopt(struct fault_model *m, const struct fault_model *found)
{
    char why[256];
    struct comparison c = compare(m, found, false);
    if (!same_dir(&c, 0, 0, why, sizeof(why))) abort();
    for (int i = 1; i < m->count; i++)
        if (c.twins[i]) adopt_bytes(&m->files[i], &found->files[c.twins[i]]);
    free(c.twins);
    m->unit = 0;
}
