#include "template_write.h"

#include <errno.h>
#include <limits.h>
#include <string.h>
#include <sys/stat.h>

#include "content.h"
#include "io.h"
#include "names.h"

#define MAX_LINKS 40 /* as path_resolution(7) */
#define NEW_MODE 0644
#define NEW_DIRECTORY_MODE 0755

static const struct names_caller root = {0, 0, 022};

/* The rest of a path under way, symlinks put in. */
struct walk {
    struct view *view;
    uint64_t dir;
    char *rest;
    int links;
};

static int follow_link(struct walk *walk, uint64_t ino, const char *rest)
{
    char target[PATH_MAX], *joined;
    int r = inode_readlink(walk->view, ino, target, sizeof(target));

    if (r < 0) return r;
    if (++walk->links > MAX_LINKS) return -ELOOP;
    joined = io_format("%s/%s", target, rest);
    if (!joined) return -ENOMEM;
    if (*target == '/') walk->dir = DELTA_ROOT;
    free(walk->rest);
    walk->rest = joined;
    return 1;
}

/* One step down; 1: walk->rest is a new path. */
static int enter(struct walk *walk, const char *name, const char *rest)
{
    struct stat st;
    uint64_t ino;
    int r = names_lookup(walk->view, walk->dir, name, &ino);

    if (r == -ENOENT)
        r = names_make(walk->view, &root, walk->dir, name, S_IFDIR | NEW_DIRECTORY_MODE, 0, &ino);
    if (r == 0) r = inode_stat(walk->view, ino, &st);
    if (r < 0) return r;
    if (S_ISLNK(st.st_mode)) return follow_link(walk, ino, rest);
    if (!S_ISDIR(st.st_mode)) return -ENOTDIR;
    walk->dir = ino;
    return 0;
}

/* Makes walk->dir the directory that holds the path's last part. */
static int walk_down(struct walk *walk)
{
    char *at = walk->rest + strspn(walk->rest, "/"), *cut;

    while ((cut = strchr(at, '/'))) {
        char *rest = cut + strspn(cut, "/");
        int r;

        *cut = '\0';
        r = *at ? enter(walk, at, rest) : 0;
        if (r < 0) return r;
        at = r > 0 ? walk->rest + strspn(walk->rest, "/") : rest;
    }
    return 0;
}

static int set_mode(struct view *view, uint64_t ino, int mode)
{
    struct stat st = {.st_mode = mode};
    const struct inode_change change = {&st, INODE_MODE};

    return mode < 0 ? 0 : inode_change(view, ino, &change);
}

/* A file of one name only is written over: NFS clients keep their handles of it. */
static int clear_way(struct view *view, struct template_written *written)
{
    struct stat st;
    int r = names_lookup(view, written->dir, written->name, &written->ino);

    if (r == 0) r = inode_stat(view, written->ino, &st);
    if (r < 0) return r;
    if (S_ISDIR(st.st_mode)) return -EISDIR;
    if (S_ISREG(st.st_mode) && st.st_nlink == 1) return content_truncate(view, written->ino, 0, NULL);
    r = names_unlink(view, written->dir, written->name);
    return r < 0 ? r : -ENOENT;
}

static int put_file(struct view *view, const struct template_file *file, struct template_written *written)
{
    int r = clear_way(view, written), mode = file->mode;

    if (r == -ENOENT) {
        if (mode < 0) mode = NEW_MODE;
        r = names_make(view, &root, written->dir, written->name, S_IFREG | NEW_MODE, 0, &written->ino);
    }
    if (r == 0 && file->size > 0) r = content_write(view, written->ino, file->body, file->size, 0);
    return r < 0 ? r : set_mode(view, written->ino, mode);
}

static int remove_file(struct view *view, struct template_written *written)
{
    int r = names_lookup(view, written->dir, written->name, &written->ino);

    if (r == 0) r = names_unlink(view, written->dir, written->name);
    return r == -ENOENT ? 0 : r;
}

int template_write(struct view *view, const struct template_file *file, struct template_written *ret_written)
{
    struct walk walk = {.view = view, .dir = DELTA_ROOT, .rest = io_format("%s", file->path)};
    const char *cut = strrchr(file->path, '/');
    int r = walk.rest ? walk_down(&walk) : -ENOMEM;

    free(walk.rest);
    *ret_written = (struct template_written){.dir = walk.dir, .name = cut ? cut + 1 : file->path};
    if (r < 0) return r;
    return file->body ? put_file(view, file, ret_written) : remove_file(view, ret_written);
}
