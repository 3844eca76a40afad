/* cmd_parcel: node export, and node add --from-file. */
#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "cmd_root.h"
#include "io.h"
#include "log.h"
#include "parcel.h"

static const char *filter_of(const char *file)
{
    static const struct {
        const char *end, *filter;
    } filters[] = {{".gz", "gzip"}, {".tgz", "gzip"}, {".xz", "xz"}, {".zst", "zstd"}};
    size_t length = strlen(file);

    for (size_t i = 0; i < sizeof(filters) / sizeof(*filters); i++) {
        size_t end = strlen(filters[i].end);

        if (length > end && strcmp(file + length - end, filters[i].end) == 0) return filters[i].filter;
    }
    return NULL;
}

/* A file without a name, of which a kill leaves nothing; where the file system has none, one that is called PART. */
static int open_part(const char *part, bool *ret_is_nameless)
{
    _cleanup_free_ char *copy = strdup(part);
    int fd = copy ? open(dirname(copy), O_WRONLY | O_TMPFILE | O_CLOEXEC, 0600) : -1;

    *ret_is_nameless = fd >= 0;
    return fd >= 0 ? fd : open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
}

/* linkat(2) does not replace what is there: so it is PART for the moment until it is renamed. */
static int give_name(int fd, bool is_nameless, const char *part, const char *file)
{
    char path[32];

    snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
    if (is_nameless && unlink(part) < 0 && errno != ENOENT) return -errno;
    if (is_nameless && linkat(AT_FDCWD, path, AT_FDCWD, part, AT_SYMLINK_FOLLOW) < 0) return -errno;
    return rename(part, file) < 0 ? -errno : 0;
}

/* It has its name when it is whole. */
static int write_file(struct parcel *parcel, const char *file)
{
    _cleanup_free_ char *part = io_format("%s.part", file);
    _cleanup_close_ int fd = -1;
    bool is_nameless = false, is_written;
    int r = 0;

    fd = parcel->fd = part ? open_part(part, &is_nameless) : -ENOMEM;
    if (fd < 0) r = part ? -errno : -ENOMEM;
    is_written = r == 0 && (r = parcel_write(parcel)) == 0; /* which says itself what failed */
    if (is_written) r = give_name(fd, is_nameless, part, file);
    if (r < 0 && (fd < 0 || is_written)) log_error("%s: %s", file, log_reason(r));
    if (r < 0 && fd >= 0) unlink(part);
    return r;
}

static int export(const char *file, struct view *view, struct view *image)
{
    struct parcel parcel = {.view = view, .image = image, .name = file, .filter = filter_of(file), .fd = STDOUT_FILENO};

    if (strcmp(file, "-") != 0) return write_file(&parcel, file);
    parcel.name = "standard output";
    return parcel_write(&parcel);
}

int cmd_node_export(struct cmd *cmd)
{
    bool delta = false;
    const struct cmd_option options[] = {{.name = "delta", .flag = &delta}, {0}};
    _cleanup_store_ struct store *store = NULL;
    _cleanup_root_ struct cmd_root root = {.copy = ROOTS_COPY_NONE};
    struct view *image = NULL;
    int r = 0;

    if (!cmd_parse(cmd, options)) return cmd->status;
    if (strcmp(cmd->operands[1], "-") == 0 && isatty(STDOUT_FILENO))
        return cmd_usage_error(cmd, "'-': a tar is not for a terminal");
    if (store_open(&store, cmd->store) < 0 || cmd_root_open(&root, store, cmd->operands[0]) < 0) return CMD_FAILED;
    if (delta) r = roots_image_view(root.roots, root.view, &image);
    if (r < 0) log_error("node %s: its image cannot be read: %s", cmd->operands[0], log_reason(r));
    if (r == 0) r = export(cmd->operands[1], root.view, image);
    view_close(image);
    return r < 0 ? CMD_FAILED : CMD_DONE;
}

/* ---- node add --from-file ---- */

/* The image below: the one that the user names, else the one that the tar does, if it is still as it was there. */
static const char *choose_image(struct store *store, const struct parcel_reader *reader, const char *file, const char *wanted)
{
    uint32_t count;
    const char *named = parcel_image(reader, &count), *name = wanted ? wanted : named;
    struct catalog_image row = {0};
    int r = name ? catalog_image(store->catalog, name, &row) : -EINVAL;

    catalog_image_free(&row);
    if (r == 0) return name;
    if (!name) log_error("%s: it does not say over which image it was made; --image NAME does", file);
    else if (r == -ENOENT) log_error("%s: image %s: no such image; 'coppice image list' shows them", file, name);
    else log_error("image %s: %s", name, log_reason(r));
    return NULL;
}

/* Its number of files tells most images of one name apart. */
static int check_image(const struct parcel_reader *reader, const char *file, const struct view *view, bool wanted)
{
    uint32_t count;

    if (wanted || !parcel_image(reader, &count) || count == image_count(view->image)) return 0;
    log_error("%s: it was made over another image %s, of %u files; --image %s takes this one all the same", file,
              image_name(view->image), count, image_name(view->image));
    return -EINVAL;
}

static int fill_copy(struct roots_copy *copy, struct parcel_reader *reader, const char *file, const char *image, bool wanted)
{
    int r = roots_copy_make(copy, image, NULL);

    if (r < 0) log_error("%s: a root on image %s cannot be made: %s", file, image, log_reason(r));
    if (r == 0) r = check_image(reader, file, copy->view, wanted);
    if (r == 0) r = parcel_apply(reader, copy->view);
    view_close(io_take(copy->view));
    return r;
}

static int adopt(struct store *store, const struct catalog_node *node, const char *file, struct parcel_reader *reader,
                 const char *wanted)
{
    const char *image = choose_image(store, reader, file, wanted);
    _cleanup_roots_ struct roots *roots = NULL;
    _cleanup_roots_copy_ struct roots_copy copy = ROOTS_COPY_NONE;
    int r = image ? roots_open(&roots, store) : -EINVAL;

    if (r == 0) r = roots_copy_name(&copy, roots);
    if (r == 0) r = fill_copy(&copy, reader, file, image, wanted != NULL);
    if (r < 0) return r;
    return cmd_operate(store, NULL, "adopt", copy.name, "", node->serial, node->mac ? node->mac : "", node->ip ? node->ip : "",
                       node->hostname ? node->hostname : "", NULL);
}

int cmd_parcel_add(struct store *store, const struct catalog_node *node, const char *file, const char *image)
{
    _cleanup_parcel_ struct parcel_reader *reader = NULL;
    bool piped = strcmp(file, "-") == 0;
    _cleanup_close_ int fd = piped ? dup(STDIN_FILENO) : open(file, O_RDONLY | O_CLOEXEC);
    int r = 0;

    if (fd < 0) {
        log_error("%s: %s", file, log_reason(-errno));
        return CMD_FAILED;
    }
    r = parcel_open(&reader, fd, piped ? "standard input" : file);
    if (r == 0) r = adopt(store, node, file, reader, image);
    return r < 0 ? CMD_FAILED : CMD_DONE;
}
