#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "fault_tree.h"
#include "random_ops.h"

enum { FILES_AT_MOST = 24, DIRS_AT_MOST = 7, DEEPEST = 3, NAMES = 16 };

static bool is_of(mode_t mode, mode_t type)
{
    return (mode & S_IFMT) == type;
}

/* An entry of this type (0: any but directories), NULL when there is none. */
static const struct entry *some_entry(const struct fault_model *m, uint64_t *state, mode_t type)
{
    const struct entry *chosen = NULL;
    uint64_t seen = 0;
    for (int i = 0; i < m->entries_count; i++) {
        const struct entry *e = &m->entries[i];
        if (e->file < 0) continue;
        mode_t mode = m->files[e->file].mode;
        if (type ? !is_of(mode, type) : is_of(mode, S_IFDIR)) continue;
        if (random_below(state, ++seen) == 0) chosen = e;
    }
    return chosen;
}

static int count_entries(const struct fault_model *m, mode_t type)
{
    int count = 0;
    for (int i = 0; i < m->entries_count; i++) {
        const struct entry *e = &m->entries[i];
        count += e->file >= 0 && is_of(m->files[e->file].mode, S_IFDIR) == (type == S_IFDIR);
    }
    return count;
}

static int some_dir(const struct fault_model *m, uint64_t *state)
{
    const struct entry *e = random_below(state, 3) ? some_entry(m, state, S_IFDIR) : NULL;
    return e ? e->file : 0;
}

static bool is_empty(const struct fault_model *m, int dir)
{
    for (int i = 0; i < m->entries_count; i++)
        if (m->entries[i].file >= 0 && m->entries[i].parent == dir) return false;
    return true;
}

static bool is_inside(const struct fault_model *m, int dir, int above)
{
    for (; dir != 0; dir = fault_tree_entry_of(m, dir)->parent)
        if (dir == above) return true;
    return false;
}

/* A path where nothing is. */
static bool free_path(const struct fault_model *m, uint64_t *state, char letter, char path[48], int *ret_dir)
{
    char name[16];
    *ret_dir = some_dir(m, state);
    snprintf(name, sizeof(name), "%c%u", letter, (unsigned)random_below(state, NAMES));
    fault_tree_path(m, *ret_dir, name, path);
    return !fault_tree_find(m, *ret_dir, name);
}

static bool choose_new(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    int dir;
    if (count_entries(m, 0) >= FILES_AT_MOST || !free_path(m, state, 'f', op->path, &dir)) return false;
    if (op->kind == FAULT_SYMLINK) snprintf(op->other, sizeof(op->other), "to/%u", (unsigned)random_below(state, 1000));
    return true;
}

static bool choose_link(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    int dir;
    const struct entry *e = some_entry(m, state, S_IFREG);
    if (!e || count_entries(m, 0) >= FILES_AT_MOST || !free_path(m, state, 'f', op->other, &dir)) return false;
    fault_tree_path(m, e->parent, e->name, op->path);
    return true;
}

static bool choose_mkdir(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    int dir;
    if (count_entries(m, S_IFDIR) >= DIRS_AT_MOST || !free_path(m, state, 'd', op->path, &dir)) return false;
    return fault_tree_depth(m, dir) + 1 < DEEPEST;
}

static bool choose_rmdir(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    const struct entry *e = some_entry(m, state, S_IFDIR);
    if (!e || !is_empty(m, e->file)) return false;
    fault_tree_path(m, e->parent, e->name, op->path);
    return true;
}

static bool choose_rename_dir(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    int dir;
    const struct entry *e = some_entry(m, state, S_IFDIR);
    if (!e || !free_path(m, state, 'd', op->other, &dir) || is_inside(m, dir, e->file)) return false;
    /* Only where nothing gets too deep. */
    if (fault_tree_depth(m, dir) > fault_tree_depth(m, e->parent)) return false;
    fault_tree_path(m, e->parent, e->name, op->path);
    return true;
}

static bool choose_rename(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    int dir;
    if (random_below(state, 5) == 0) return choose_rename_dir(m, state, op);
    const struct entry *e = some_entry(m, state, 0), *over = some_entry(m, state, 0);
    if (!e) return false;
    fault_tree_path(m, e->parent, e->name, op->path);
    if (random_below(state, 2)) return free_path(m, state, 'f', op->other, &dir);
    fault_tree_path(m, over->parent, over->name, op->other);
    return over != e;
}

static uint64_t some_length(uint64_t *state)
{
    static const uint64_t limits[] = {100, 600, 5000, 5000, 20000, 70000};
    return 1 + random_below(state, limits[random_below(state, 6)]);
}

static void choose_write(const struct file *f, uint64_t *state, struct fault_op *op)
{
    unsigned where = (unsigned)random_below(state, 10);
    op->length = some_length(state);
    op->offset = random_below(state, f->size + 1);
    if (where < 3) op->offset = f->size, op->is_append = random_below(state, 2);
    else if (where < 5) op->offset -= op->offset % FAULT_PAGE;
    else if (where == 5) op->offset = f->size + random_below(state, 9000);
    else if (where == 6) op->offset = 0;
    if (random_below(state, 8) == 0) op->length = (op->length + FAULT_PAGE) & ~(uint64_t)(FAULT_PAGE - 1);
    if (op->offset >= FAULT_FILE_MAX) op->offset = FAULT_FILE_MAX - 1, op->is_append = false;
    if (op->offset + op->length > FAULT_FILE_MAX) op->length = FAULT_FILE_MAX - op->offset;
    if (op->is_append && f->size >= FAULT_FILE_MAX) op->is_append = false;
    op->is_synced = random_below(state, 8) == 0;
}

/* A small file that gets room for more has an object from then on, whatever is there after a death: not here. */
static void choose_range(const struct file *f, uint64_t *state, struct fault_op *op)
{
    uint64_t most = f->is_large ? FAULT_FILE_MAX : FAULT_ROW_MAX;
    op->offset = random_below(state, f->size + 1);
    op->length = some_length(state);
    if (random_below(state, 2)) op->offset -= op->offset % FAULT_PAGE;
    if (op->offset >= most) op->offset = most - 1;
    if (op->offset + op->length > most) op->length = most - op->offset;
}

static uint64_t some_size(const struct file *f, uint64_t *state)
{
    switch (random_below(state, 4)) {
    case 0: return 0;
    case 1: return random_below(state, FAULT_FILE_MAX / 2);
    default: return random_below(state, f->size + 1);
    }
}

static bool choose_on_file(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    const struct entry *e = some_entry(m, state, S_IFREG);
    if (!e) return false;
    const struct file *f = &m->files[e->file];
    op->file = e->file;
    fault_tree_path(m, e->parent, e->name, op->path);
    if (op->kind == FAULT_WRITE) choose_write(f, state, op);
    if (op->kind == FAULT_TRUNCATE) op->length = some_size(f, state);
    if (op->kind == FAULT_ALLOCATE || op->kind == FAULT_PUNCH) choose_range(f, state, op);
    if (op->kind == FAULT_CHMOD) op->mode = 0600 | (mode_t)random_below(state, 0200);
    return op->kind != FAULT_REMOVEXATTR || f->value_length >= 0;
}

static bool choose_unlink(const struct fault_model *m, uint64_t *state, struct fault_op *op)
{
    const struct entry *e = some_entry(m, state, 0);
    if (!e) return false;
    fault_tree_path(m, e->parent, e->name, op->path);
    return true;
}

static const struct {
    bool (*choose)(const struct fault_model *m, uint64_t *state, struct fault_op *op);
    unsigned weight;
} choices[FAULT_KINDS] = {
    [FAULT_CREATE] = {choose_new, 12},         [FAULT_WRITE] = {choose_on_file, 34},
    [FAULT_TRUNCATE] = {choose_on_file, 8},    [FAULT_FSYNC] = {choose_on_file, 5},
    [FAULT_ALLOCATE] = {choose_on_file, 3},    [FAULT_PUNCH] = {choose_on_file, 5},
    [FAULT_RENAME] = {choose_rename, 9},       [FAULT_LINK] = {choose_link, 4},
    [FAULT_UNLINK] = {choose_unlink, 9},       [FAULT_MKDIR] = {choose_mkdir, 4},
    [FAULT_RMDIR] = {choose_rmdir, 3},         [FAULT_SYMLINK] = {choose_new, 2},
    [FAULT_CHMOD] = {choose_on_file, 3},       [FAULT_SETXATTR] = {choose_on_file, 4},
    [FAULT_REMOVEXATTR] = {choose_on_file, 1},
};

static enum fault_kind some_kind(uint64_t *state)
{
    unsigned total = 0, kind = 0;
    for (int i = 0; i < FAULT_KINDS; i++) total += choices[i].weight;
    uint64_t place = random_below(state, total);
    while (place >= choices[kind].weight) place -= choices[kind++].weight;
    return (enum fault_kind)kind;
}

void fault_model_choose(const struct fault_model *m, uint64_t *state, bool writes, struct fault_op *ret_op)
{
    bool is_write = writes && random_below(state, 50) != 0;
    do {
        enum fault_kind kind = is_write ? FAULT_WRITE : some_kind(state);
        *ret_op = (struct fault_op){.kind = kind, .seed = 1 + random_below(state, 1000000)};
    } while (!choices[ret_op->kind].choose(m, state, ret_op));
    if (is_write) ret_op->is_synced = false;
}
