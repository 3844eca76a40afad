#include "diff.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "diff_inode.h"
#include "dirent.h"
#include "io.h"
#include "names.h"

struct walk {
    const struct diff *diff;
    char *path;
    size_t length, room;
};

/* The names in a directory, in byte order. */
struct name {
    char *text;
    uint64_t ino;
};
struct list {
    struct name *names;
    size_t count, room;
};

static void list_clear(struct list *l)
{
    for (size_t i = 0; i < l->count; i++) free(l->names[i].text);
    free(l->names);
}
#define _cleanup_list_ __attribute__((cleanup(list_clear)))

static int list_add(struct list *l, const struct dirent_entry *e)
{
    if (l->count == l->room) {
        size_t room = l->room ? l->room * 2 : 32;
        void *names = reallocarray(l->names, room, sizeof(*l->names));

        if (!names) return -ENOMEM;
        l->names = names;
        l->room = room;
    }
    char *text = strndup(e->name, e->length);
    if (!text) return -ENOMEM;
    l->names[l->count++] = (struct name){text, e->ino};
    return 0;
}

static int compare(const void *a, const void *b)
{
    return strcmp(((const struct name *)a)->text, ((const struct name *)b)->text);
}

static int list_read(struct list *l, struct view *v, uint64_t dir)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    struct delta *d = view_lock(v);
    int r;

    while ((r = dirent_next(v, d, dir, e.cookie, &e)) > 0 && (r = list_add(l, &e)) == 0) continue;
    view_unlock(d);
    if (l->count) qsort(l->names, l->count, sizeof(*l->names), compare);
    return r;
}

static int load(struct view *v, uint64_t ino, struct inode *ret)
{
    struct delta *d = view_lock(v);
    int r = inode_get(v, d, ino, ret);

    view_unlock(d);
    return r == -ESTALE ? -EIO : r; /* a name that means nothing */
}

static int push(struct walk *w, const char *name)
{
    size_t length = strlen(name), need = w->length + length + 2;

    if (need > w->room) {
        char *path = realloc(w->path, need * 2);

        if (!path) return -ENOMEM;
        w->path = path;
        w->room = need * 2;
    }
    if (w->length == 0 || w->path[w->length - 1] != '/') w->path[w->length++] = '/';
    memcpy(w->path + w->length, name, length + 1);
    w->length += length;
    return 0;
}

static int visit(struct walk *w, uint64_t old_ino, uint64_t new_ino, bool covered);

static int descend(struct walk *w, const struct diff_entry *e, bool covered)
{
    _cleanup_list_ struct list old = {0}, new = {0};
    size_t length = w->length, i = 0, j = 0;
    int r = 0;

    if (e->old && S_ISDIR(e->old->row.mode)) r = list_read(&old, w->diff->old, e->old->row.ino);
    if (r == 0 && e->new && S_ISDIR(e->new->row.mode)) r = list_read(&new, w->diff->new, e->new->row.ino);
    while (r == 0 && (i < old.count || j < new.count)) {
        int order = i == old.count ? 1 : j == new.count ? -1 : compare(&old.names[i], &new.names[j]);
        const struct name *a = order <= 0 ? &old.names[i++] : NULL, *b = order >= 0 ? &new.names[j++] : NULL;

        r = push(w, a ? a->text : b->text);
        if (r == 0) r = visit(w, a ? a->ino : 0, b ? b->ino : 0, covered);
        w->length = length;
        w->path[length] = '\0';
    }
    return r;
}

static int classify(const struct walk *w, struct diff_entry *e)
{
    const struct diff *f = w->diff;
    unsigned telling = ~DIFF_LINKS;
    int r;

    e->change = !e->old ? 'A' : !e->new ? 'D' : (e->old->row.mode ^ e->new->row.mode) & S_IFMT ? 'T' : 0;
    if (e->change) return 0;
    r = diff_inode(f->old, e->old, f->new, e->new, &e->what);
    if (r < 0) return r;
    if (S_ISDIR(e->new->row.mode)) {
        e->replaced = f->old->image != f->new->image ? false : e->old->row.ino != e->new->row.ino;
        if (!f->strict) telling &= ~DIFF_TIME;
    }
    if (e->what & telling) e->change = 'M';
    return 0;
}

static int visit(struct walk *w, uint64_t old_ino, uint64_t new_ino, bool covered)
{
    struct diff_entry e = {.path = w->path, .covered = covered};
    struct inode old, new;
    int r = old_ino ? load(w->diff->old, old_ino, &old) : 0;

    if (r == 0 && new_ino) r = load(w->diff->new, new_ino, &new);
    if (r < 0) return r;
    if (old_ino) e.old = &old;
    if (new_ino) e.new = &new;
    r = classify(w, &e);
    if (r == 0) r = w->diff->fn(&e, w->diff->data);
    if (r < 0) return r;
    return descend(w, &e, covered || e.replaced || (e.change && e.change != 'M'));
}

/* 0 and 0: there is no such path. */
static int resolve(struct view *v, const char *path, uint64_t *ret_ino)
{
    _cleanup_free_ char *copy = strdup(path);
    char *rest = copy, *name;
    int r = copy ? 0 : -ENOMEM;

    *ret_ino = v ? DELTA_ROOT : 0;
    while (v && r == 0 && (name = strsep(&rest, "/")))
        if (*name) r = names_lookup(v, *ret_ino, name, ret_ino);
    if (r == 0) return 0;
    *ret_ino = 0;
    return r == -ENOENT || r == -ENOTDIR ? 0 : r;
}

static int start(struct walk *w, const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    char *rest = copy, *name;
    int r = copy ? push(w, "") : -ENOMEM;

    while (r == 0 && (name = strsep(&rest, "/"))) {
        if (strcmp(name, ".") == 0 || strcmp(name, "..") == 0) return -EINVAL;
        if (*name) r = push(w, name);
    }
    return r;
}

int diff_run(const struct diff *diff, const char *path)
{
    struct walk w = {.diff = diff};
    uint64_t old, new;
    int r = start(&w, path ? path : "");

    if (r == 0) r = resolve(diff->old, w.path, &old);
    if (r == 0) r = resolve(diff->new, w.path, &new);
    if (r == 0) r = old || new ? visit(&w, old, new, false) : -ENOENT;
    free(w.path);
    return r;
}
