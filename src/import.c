#include "import.h"

#include <errno.h>
#include <fnmatch.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#include "commit.h"
#include "db.h"
#include "image_index.h"
#include "import_archive.h"
#include "import_bytes.h"
#include "import_directory.h"
#include "import_disk.h"
#include "import_log.h"
#include "import_partitions.h"
#include "io.h"
#include "listing.h"
#include "log.h"
#include "progress.h"
#include "rootdir.h"
#include "template.h"

#define NAME_SIZE_MAX 64

struct import {
    struct store *store;
    const struct import_options *options;
    const struct import_maker *maker; /* NULL: there is a source to read */
    const char *name;
    char *source; /* for messages and the catalog */
    int source_fd, lock_fd, images_fd, work_fd, rootfs_fd;
    char work[32]; /* the name in images_fd of the directory that becomes the image; "": not made */
    char what[NAME_SIZE_MAX + 32];
    struct progress progress;
    struct image_totals totals;
};

static int failed(struct import *import, int r)
{
    return import_failed(&import->progress, r, "image %s: %s", import->name, log_reason(r));
}

static int failed_source(struct import *import, int r, const char *reason)
{
    return import_failed(&import->progress, r, "%s: %s", import->source, reason);
}

static bool is_name_valid(const char *name)
{
    size_t length = strlen(name);

    return length >= 1 && length <= NAME_SIZE_MAX && name[0] != '.' && name[0] != '-' &&
           name[strspn(name, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-")] == '\0';
}

static int check_name(struct import *import)
{
    struct catalog_image image;
    int r;

    if (!is_name_valid(import->name))
        return import_failed(NULL, -EINVAL,
                             "image '%s': a name must be 1-64 of A-Z a-z 0-9 . _ - and not start with . or -",
                             import->name);
    r = catalog_image(import->store->catalog, import->name, &image);
    if (r == -ENOENT) return 0;
    if (r < 0) return failed(import, r);
    catalog_image_free(&image);
    return import_failed(NULL, -EEXIST, "image %s: there is one of this name already", import->name);
}

/* Directories hold a mount of ours that would be copied into itself, or not at all. */
static int check_mount(struct import *import)
{
    struct store_daemon daemon;
    size_t length = strlen(import->source);

    if (store_running(import->store, &daemon) != 1) return 0;
    if (strncmp(daemon.mountpoint, import->source, length) != 0) return 0;
    if (length > 1 && daemon.mountpoint[length] != '/' && daemon.mountpoint[length] != '\0') return 0;
    return import_failed(NULL, -EINVAL, "%s: the mount %s lies inside it", import->source, daemon.mountpoint);
}

static int open_stdin(struct import *import)
{
    import->source = strdup("standard input");
    if (!import->source) return failed(import, -ENOMEM);
    if (isatty(STDIN_FILENO)) return failed_source(import, -EINVAL, "is a terminal, not an archive");
    import->source_fd = fcntl(STDIN_FILENO, F_DUPFD_CLOEXEC, 3);
    return import->source_fd < 0 ? failed_source(import, -errno, log_reason(errno)) : 0;
}

static int open_source(struct import *import, const char *source)
{
    if (strcmp(source, "-") == 0) return open_stdin(import);
    import->source = realpath(source, NULL);
    if (!import->source) return import_failed(NULL, -errno, "%s: %s", source, log_reason(errno));
    import->source_fd = open(import->source, O_RDONLY | O_NOCTTY | O_CLOEXEC);
    return import->source_fd < 0 ? failed_source(import, -errno, log_reason(errno)) : 0;
}

static int make_work(struct import *import)
{
    uint64_t number;

    if (getrandom(&number, sizeof(number), 0) != sizeof(number)) return -EIO;
    snprintf(import->work, sizeof(import->work), ".import-%016llx", (unsigned long long)number);
    if (mkdirat(import->images_fd, import->work, 0700) < 0) {
        import->work[0] = '\0';
        return -errno;
    }
    import->work_fd = io_open_beneath(import->images_fd, import->work, O_RDONLY | O_DIRECTORY, 0);
    if (import->work_fd < 0) return import->work_fd;
    /* A default ACL of the store's is not the image's. */
    if (fremovexattr(import->work_fd, "system.posix_acl_default") < 0 && errno != ENODATA && errno != EOPNOTSUPP)
        return -errno;
    if (mkdirat(import->work_fd, "rootfs", 0700) < 0) return -errno;
    import->rootfs_fd = io_open_beneath(import->work_fd, "rootfs", O_RDONLY | O_DIRECTORY, 0);
    return import->rootfs_fd < 0 ? import->rootfs_fd : 0;
}

static int open_images(struct import *import)
{
    int r;

    import->lock_fd = store_lock_images(import->store);
    if (import->lock_fd < 0) return failed(import, import->lock_fd);
    import->images_fd = io_open_beneath(import->store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    if (import->images_fd < 0) return failed(import, import->images_fd);
    r = make_work(import);
    return r < 0 ? failed(import, r) : 0;
}

static int copy_directory(struct import *import)
{
    const struct import_directory directory = {
        .source = import->source,
        .source_fd = import->source_fd,
        .rootfs_fd = import->rootfs_fd,
        .store_fd = import->store->fd,
        .work_fd = import->work_fd,
        .progress = &import->progress,
    };
    int r = check_mount(import);

    return r < 0 ? r : import_directory(&directory);
}

static bool is_disk(const struct import_bytes *bytes)
{
    size_t size;
    const void *head = import_bytes_head(bytes, &size);

    return import_bytes_is_member(bytes) || import_partitions_are_in(head, size);
}

static int unpack_file(struct import *import)
{
    _cleanup_bytes_ struct import_bytes *bytes = NULL;
    struct import_disk disk = {
        .source = import->source,
        .name = import->name,
        .source_fd = import->source_fd,
        .rootfs_fd = import->rootfs_fd,
        .store_fd = import->store->fd,
        .work_fd = import->work_fd,
        .partition = import->options->partition,
        .progress = &import->progress,
    };
    int r = import_bytes_open(&bytes, import->source_fd, import->source, &import->progress);

    if (r < 0) return r;
    disk.bytes = bytes;
    if (is_disk(bytes)) return import_disk(&disk);
    if (import->options->partition) return failed_source(import, -EINVAL, "is no disk image, and has no partitions");
    return import_archive(bytes, import->source, import->rootfs_fd, &import->progress);
}

static int fill_rootfs(struct import *import)
{
    struct stat st;

    if (fstat(import->source_fd, &st) < 0) return failed_source(import, -errno, log_reason(errno));
    if (S_ISDIR(st.st_mode)) return copy_directory(import);
    if (S_ISCHR(st.st_mode) || S_ISSOCK(st.st_mode))
        return failed_source(import, -EINVAL, "neither a directory nor an archive");
    return unpack_file(import);
}

static int write_index(struct import *import)
{
    _cleanup_free_ char *path = io_format("%s/images/%s/index.db", import->store->path, import->work);
    int64_t files = import->progress.files;
    int r;

    if (!path) return failed(import, -ENOMEM);
    snprintf(import->what, sizeof(import->what), "indexing %s", import->name);
    progress_restart(&import->progress, import->what, files);
    r = image_index_build(import->rootfs_fd, path, &import->progress, &import->totals);
    if (r < 0) return r;
    return import->totals.files > 1 ? 0 : failed_source(import, -EINVAL, "is empty");
}

static void warn_if_incomplete(struct import *import)
{
    static const char *const signs[] = {
        "sbin/init", "init", "usr/lib/systemd/systemd", "lib/systemd/systemd", "bin/sh", "bin/bash", "bin/busybox",
    };

    for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++)
        if (rootdir_has(import->rootfs_fd, signs[i])) return;
    progress_erase(&import->progress);
    log_warning("image %s: looks incomplete: it has neither an init nor a shell", import->name);
}

/* What a Raspberry Pi's firmware, a PC's boot ROM or U-Boot reads is at /boot/firmware in newer systems, at /boot in older ones. */
static const char *find_boot(struct import *import)
{
    static const char *const patterns[] = {"start*.elf", "bootcode.bin", "config.txt", "cmdline.txt", "pxelinux.0", "*.efi", "boot.scr*", "extlinux"};
    _cleanup_listing_ struct listing listing = {0};
    _cleanup_close_ int fd = io_open_beneath(import->rootfs_fd, "boot/firmware", O_RDONLY | O_DIRECTORY, 0);

    if (fd < 0 || listing_read(&listing, fd) < 0) return "boot";
    for (size_t i = 0; i < listing.count; i++)
        for (size_t j = 0; j < sizeof(patterns) / sizeof(*patterns); j++)
            if (fnmatch(patterns[j], listing.items[i].name, 0) == 0) return "boot/firmware";
    return "boot";
}

static int publish(struct import *import)
{
    int r = commit_publish(import->images_fd, import->work, import->name);

    if (r == -ENOTEMPTY || r == -EEXIST)
        return import_failed(&import->progress, -EEXIST, "image %s: there is one of this name already", import->name);
    return r < 0 ? failed(import, r) : 0;
}

static int propose(struct import *import, const char *boot)
{
    struct proposals *proposals = import->options->proposals;
    int r = proposals ? proposals_make(proposals, import->rootfs_fd, boot) : 0;

    return r < 0 ? failed(import, r) : 0;
}

static int add_templates(struct import *import)
{
    const struct proposals *proposals = import->options->proposals;
    int r = import->maker ? template_copy(import->store, import->maker->parent, import->name) : 0;

    for (size_t i = 0; proposals && r == 0 && i < proposals->count; i++) {
        const struct proposal *proposal = &proposals->items[i];
        const struct template_row row = {
            .image = import->name,
            .path = proposal->path,
            .mode = proposal->mode,
            .body = proposal->body,
            .size = proposal->body ? strlen(proposal->body) : 0,
        };

        r = template_put(import->store, &row);
    }
    return r;
}

/* The image and its templates, or none of them. */
static int add_row(struct import *import)
{
    const char *boot = find_boot(import);
    struct catalog *catalog = import->store->catalog;
    struct catalog_image image = {
        .name = (char *)import->name,
        .source = import->source,
        .boot = (char *)boot,
        .files = import->totals.files,
        .bytes = import->totals.bytes,
    };
    int r = propose(import, boot);

    if (r < 0) return r;
    r = db_exec(catalog_db(catalog), "BEGIN IMMEDIATE");
    if (r == 0) r = catalog_add_image(catalog, &image);
    if (r == 0) r = add_templates(import);
    if (r == 0) r = db_commit(catalog_db(catalog));
    if (r == 0) return catalog_changed(catalog, 0, true);
    import_failed(&import->progress, r, "image %s: %s", import->name,
                  r == -ENOSPC ? log_reason(r) : catalog_message(catalog));
    db_exec(catalog_db(catalog), "ROLLBACK");
    return r;
}

/* The tree may have its name already: it has the work's name no more then. */
static void remove_work(struct import *import)
{
    struct stat st;
    const char *name = import->work;

    if (!*name) return;
    if (fstatat(import->images_fd, name, &st, AT_SYMLINK_NOFOLLOW) < 0 && errno == ENOENT) name = import->name;
    if (io_remove_tree(import->images_fd, name) < 0)
        log_warning("%s/images/%s: cannot be removed; the next command will", import->store->path, name);
}

static int fill(struct import *import)
{
    const struct import_maker *maker = import->maker;

    return maker ? maker->fill(import->rootfs_fd, &import->progress, maker->data) : fill_rootfs(import);
}

static int name_maker(struct import *import)
{
    import->source = io_format("%s", import->maker->source);
    return import->source ? 0 : failed(import, -ENOMEM);
}

static int run(struct import *import, const char *source)
{
    int r = check_name(import);

    if (r == 0) r = import->maker ? name_maker(import) : open_source(import, source);
    if (r == 0) r = open_images(import);
    if (r == 0) r = fill(import);
    if (r == 0) r = write_index(import);
    if (r == 0) r = publish(import);
    if (r == 0) r = add_row(import);
    if (r == 0) warn_if_incomplete(import);
    return r;
}

static void release(struct import *import)
{
    const int fds[] = {import->source_fd, import->rootfs_fd, import->work_fd, import->images_fd, import->lock_fd};

    for (size_t i = 0; i < sizeof(fds) / sizeof(*fds); i++)
        if (fds[i] >= 0) close(fds[i]);
    free(import->source);
}

static int make(struct import *import, const char *source)
{
    int r;

    import->source_fd = import->lock_fd = import->images_fd = import->work_fd = import->rootfs_fd = -1;
    snprintf(import->what, sizeof(import->what), "importing %.*s", NAME_SIZE_MAX, import->name);
    progress_begin(&import->progress, import->what);
    r = run(import, source);
    progress_erase(&import->progress);
    if (r < 0) remove_work(import);
    release(import);
    return r;
}

static const struct import_options no_options;

int import_image(struct store *store, const char *name, const char *source, const struct import_options *options)
{
    struct import import = {.store = store, .options = options ? options : &no_options, .name = name};

    return make(&import, source);
}

int import_made(struct store *store, const char *name, const struct import_maker *maker)
{
    struct import import = {.store = store, .options = &no_options, .maker = maker, .name = name};

    return make(&import, NULL);
}

static int remove_row(struct store *store, const char *name)
{
    _cleanup_free_ char *users = NULL;
    int r = catalog_remove_image(store->catalog, name, &users);

    if (r == -ENOENT) log_error("image %s: there is none of this name", name);
    else if (r == -EBUSY) log_error("image %s: in use by node %s", name, users ? users : "?");
    else if (r < 0) log_error("image %s: %s", name, catalog_message(store->catalog));
    return r;
}

/* The name is free for another import at once, however long the tree takes. */
static int remove_files(struct store *store, const char *name)
{
    _cleanup_close_ int images_fd = io_open_beneath(store->fd, "images", O_RDONLY | O_DIRECTORY, 0);
    char scrapped[NAME_SIZE_MAX + 32];

    if (images_fd < 0) return images_fd;
    snprintf(scrapped, sizeof(scrapped), ".removed-%d-%s", (int)getpid(), name);
    if (renameat(images_fd, name, images_fd, scrapped) < 0) return errno == ENOENT ? 0 : -errno;
    return io_remove_tree(images_fd, scrapped);
}

int import_remove(struct store *store, const char *name)
{
    _cleanup_close_ int lock_fd = store_lock_images(store);
    int r;

    if (lock_fd < 0) {
        log_error("image %s: %s", name, log_reason(lock_fd));
        return lock_fd;
    }
    r = remove_row(store, name);
    if (r < 0) return r;
    r = remove_files(store, name);
    if (r < 0) log_error("%s/images/%s: %s", store->path, name, log_reason(r));
    return r;
}
