/* cmd_rebase: rebase. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "cmd.h"
#include "io.h"
#include "log.h"
#include "rebase.h"
#include "roots.h"
#include "template_write.h"

struct call {
    struct store *store;
    const char *serial, *image;
    bool dry_run, force;
    struct catalog_node node;
};

/* What a node's changes are at a moment: the same later means that nobody has changed them. */
struct state {
    pid_t daemon;         /* 0: none runs, */
    struct stat files[2]; /* and this is what there is on the disk */
    char *sequence;       /* the daemon's */
};

static int look(struct call *c, struct state *s)
{
    static const char *const names[] = {"delta.db", "delta.db-wal"};
    struct store_daemon daemon = {0};
    int r = store_running(c->store, &daemon);

    if (r < 0) return r;
    s->daemon = r ? daemon.pid : 0;
    for (int i = 0; i < 2; i++) {
        _cleanup_free_ char *path = io_format("nodes/%s/%s", c->serial, names[i]);

        s->files[i] = (struct stat){0};
        if (!path) return -ENOMEM;
        if (fstatat(c->store->fd, path, &s->files[i], AT_SYMLINK_NOFOLLOW) < 0 && errno != ENOENT) return -errno;
    }
    return 0;
}

static bool is_same(const struct state *a, const struct state *b)
{
    if (a->daemon != b->daemon) return false;
    for (int i = 0; i < 2 && !a->daemon; i++)
        if (a->files[i].st_ino != b->files[i].st_ino || a->files[i].st_size != b->files[i].st_size ||
            memcmp(&a->files[i].st_mtim, &b->files[i].st_mtim, sizeof(struct timespec)) != 0) return false;
    return true;
}

/* The node's personal files, as templates write them on that image. */
static int render(struct call *c, struct view *view, bool tell)
{
    _cleanup_files_ struct template_files files = {0};
    int r = template_files(&files, c->store, &c->node, image_name(view->image));

    for (size_t i = 0; r == 0 && i < files.count; i++) {
        struct template_written written;

        if (files.items[i].error && tell) log_warning("%s", files.items[i].error);
        if (!files.items[i].error) r = template_write(view, &files.items[i], &written);
        if (r < 0) log_error("node %s: template %s: %s", c->serial, files.items[i].path, log_reason(r));
    }
    return r;
}

static void print(const struct call *c, const struct rebase_result *result)
{
    for (size_t i = 0; i < result->count; i++) {
        printf("%s: %s\n", result->conflicts[i].path, result->conflicts[i].what);
        if (result->conflicts[i].is_packages)
            log_warning("node %s: packages were changed by the node and in image %s: %s is the node's, and does not tell of the new image's; "
                        "have the package manager of the node put them right", c->serial, c->image, result->conflicts[i].path);
    }
    printf("node %s %s on image %s: %zu changes kept, %zu conflicts\n", c->serial, c->dry_run ? "would stand" : "stands", c->image,
           result->kept, result->count);
}

static int check_image(struct call *c)
{
    struct catalog_image image = {0};
    int r = catalog_image(c->store->catalog, c->image, &image);

    catalog_image_free(&image);
    if (r == -ENOENT) log_error("image %s: no such image in %s; 'coppice image list' shows them", c->image, c->store->path);
    else if (r < 0) log_error("image %s: %s", c->image, log_reason(r));
    return r;
}

static int change_over(struct call *c, struct roots_copy *to, const struct state *before)
{
    struct state now;
    int r = look(c, &now);

    if (r < 0) log_error("node %s: %s", c->serial, log_reason(r));
    if (r == 0 && !is_same(before, &now)) {
        log_error("node %s: it was changed meanwhile, or mounted; try again", c->serial);
        return -EAGAIN;
    }
    if (r == 0) r = check_image(c); /* nothing has kept it from being removed meanwhile */
    return r < 0 ? r : cmd_operate(c->store, NULL, "switch", c->serial, to->name, now.daemon ? before->sequence : "0",
                                   c->force ? "force" : "-", "keep", NULL);
}

static int prepare(struct call *c, struct roots_copy *node, struct roots_copy *base, struct roots_copy *to)
{
    int r = roots_copy_take(node);

    if (r == 0 && strcmp(image_name(node->view->image), c->image) == 0) {
        log_error("node %s: it stands on image %s already", c->serial, c->image);
        return -EEXIST;
    }
    if (r == 0) r = roots_copy_make(base, image_name(node->view->image), NULL);
    if (r == 0) r = roots_copy_make(to, c->image, node);
    if (r < 0) {
        log_error("node %s: cannot be taken to image %s: %s", c->serial, c->image, log_reason(r));
        return r;
    }
    r = render(c, base->view, false);
    return r < 0 ? r : render(c, to->view, true);
}

static int run(struct call *c, struct rebase_result *result)
{
    _cleanup_roots_ struct roots *roots = NULL;
    _cleanup_roots_copy_ struct roots_copy node = ROOTS_COPY_NONE, base = ROOTS_COPY_NONE, to = ROOTS_COPY_NONE;
    struct state before = {0};
    _cleanup_free_ char *sequence = NULL;
    int r = roots_open(&roots, c->store);

    if (r == 0) r = roots_copy_name(&node, roots);
    if (r == 0) r = roots_copy_name(&base, roots);
    if (r == 0) r = roots_copy_name(&to, roots);
    if (r == 0) r = cmd_operate(c->store, &sequence, "copy", c->serial, "", node.name, NULL);
    before.sequence = sequence;
    if (r == 0) r = look(c, &before);
    if (r == 0) r = prepare(c, &node, &base, &to);
    if (r == 0) r = rebase(c->serial, node.view, base.view, to.view, result);
    if (r < 0 || c->dry_run) return r;
    r = roots_copy_finish(&to);
    if (r < 0) log_error("node %s: its new changes cannot be written: %s", c->serial, log_reason(r));
    return r < 0 ? r : change_over(c, &to, &before);
}

static int check(struct call *c)
{
    int r = catalog_node(c->store->catalog, c->serial, &c->node);

    if (r == -ENOENT) log_error("node %s: no such node in %s; 'coppice node list' shows them", c->serial, c->store->path);
    else if (r < 0) log_error("node %s: %s", c->serial, log_reason(r));
    return r < 0 ? r : check_image(c);
}

int cmd_rebase(struct cmd *cmd)
{
    _cleanup_store_ struct store *store = NULL;
    struct rebase_result result = {0};
    struct call c = {0};
    const struct cmd_option options[] = {{.name = "dry-run", .flag = &c.dry_run}, {.name = "force", .flag = &c.force}, {0}};
    int r;

    if (!cmd_parse(cmd, options)) return cmd->status;
    c.serial = cmd->operands[0];
    c.image = cmd->operands[1];
    if (store_open(&store, cmd->store) < 0) return CMD_FAILED;
    c.store = store;
    r = check(&c);
    if (r == 0) r = run(&c, &result);
    if (r == 0) print(&c, &result);
    rebase_result_free(&result);
    catalog_node_free(&c.node);
    return r < 0 ? CMD_FAILED : CMD_DONE;
}
