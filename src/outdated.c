#include "outdated.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "dirent.h"
#include "io.h"
#include "names.h"
#include "references.h"
#include "tree_rows.h"

#define FILE_NAME "names" /* each with its NUL */
#define PER_LOOK 32       /* inodes told between two looks at the clock */

void outdated_clear(struct outdated *o)
{
    free(o->names);
    *o = (struct outdated){0};
}

static int add(struct outdated *o, const char *name)
{
    if (o->count % 64 == 0) {
        char(*names)[256] = reallocarray(o->names, o->count + 64, sizeof(*names));

        if (!names) return -ENOMEM;
        o->names = names;
    }
    snprintf(o->names[o->count++], sizeof(*o->names), "%s", name);
    return 0;
}

int outdated_note(struct outdated *o, struct view *v)
{
    struct dirent_entry e = {.cookie = DIRENT_COOKIE_DOTS};
    struct delta *d = view_lock(v);
    int r;

    while ((r = dirent_next(v, d, DELTA_ROOT, e.cookie, &e)) > 0) {
        r = add(o, e.name);
        if (r < 0) break;
    }
    view_unlock(d);
    return r;
}

static FILE *open_file(int nodes_fd, const char *directory, int flags, const char *mode)
{
    _cleanup_free_ char *path = io_format("%s/" FILE_NAME, directory);
    int fd = path ? io_open_beneath(nodes_fd, path, flags, 0600) : -ENOMEM;
    FILE *file = fd < 0 ? NULL : fdopen(fd, mode);

    if (fd < 0) errno = -fd;
    else if (!file) close(fd);
    return file;
}

int outdated_save(const struct outdated *o, int nodes_fd, const char *directory)
{
    FILE *file = open_file(nodes_fd, directory, O_WRONLY | O_CREAT | O_TRUNC, "w");

    if (!file) return -errno;
    for (size_t i = 0; i < o->count; i++) fwrite(o->names[i], strlen(o->names[i]) + 1, 1, file);
    return fclose(file) < 0 ? -errno : 0;
}

int outdated_load(struct outdated *o, int nodes_fd, const char *directory)
{
    FILE *file = open_file(nodes_fd, directory, O_RDONLY, "r");
    _cleanup_free_ char *name = NULL;
    size_t room = 0;
    int r = 0;

    if (!file) return errno == ENOENT ? 0 : -errno;
    while (r == 0 && getdelim(&name, &room, '\0', file) > 0) r = add(o, name);
    fclose(file);
    return r;
}

static uint64_t nodeid_of(const struct tree_node *node, uint64_t ino)
{
    return identity_nodeid(&node->tree->identity, (struct identity_file){.node = node->number, .ino = ino});
}

void outdated_tell_names(const struct outdated *o, const struct tree_node *node, const struct tree_changes *changes)
{
    uint64_t root = nodeid_of(node, DELTA_ROOT);

    for (size_t i = 0; i < o->count; i++) changes->expire(changes->data, root, o->names[i]);
    changes->list(changes->data, root);
}

int outdated_forget_names(const struct outdated *o, const struct tree_node *node, struct view *v, const struct tree_changes *changes)
{
    uint64_t root = nodeid_of(node, DELTA_ROOT), ino;
    int r = 0;

    for (size_t i = 0; i < o->count && (r == 0 || r == -ENOENT); i++) {
        r = names_lookup(v, DELTA_ROOT, o->names[i], &ino);
        if (r == -ENOENT) changes->name(changes->data, root, o->names[i], root);
    }
    return r == -ENOENT ? 0 : r;
}

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

int outdated_tell_inodes(const struct tree_node *node, const struct tree_changes *changes, int milliseconds)
{
    int64_t end = now_ms() + milliseconds;
    _cleanup_free_ uint64_t *inos = NULL;
    size_t count = 0;
    int r = references_list(node->tree->shared.handover, node->number, &inos, &count);

    for (size_t i = 0; r == 0 && i < count; i++) {
        if (milliseconds >= 0 && i % PER_LOOK == 0 && now_ms() > end) return 0;
        changes->list(changes->data, nodeid_of(node, inos[i]));
    }
    return r < 0 ? r : 1;
}
