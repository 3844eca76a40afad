#include "store.h"

#include <dirent.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>

#include "io.h"
#include "log.h"

#define DEFAULT_PATH "/var/lib/coppice"

/* A new store's catalog is written in here and moved out when it is whole: its presence makes the store. */
#define NEW_CATALOG ".catalog-new"

/* How often a claim is tried, 10 ms apart: store_running() of another process holds the lock for a moment. */
#define CLAIM_TRIES 20

const char *store_default_path(const char *option)
{
    const char *environment = getenv("COPPICE_STORE");

    if (option && *option) return option;
    return environment && *environment ? environment : DEFAULT_PATH;
}

static void closedir_cleanup(DIR **directory)
{
    if (*directory) closedir(*directory);
}
#define _cleanup_dir_ __attribute__((cleanup(closedir_cleanup)))

static bool is_dots(const char *name)
{
    return strcmp(name, ".") == 0 || strcmp(name, "..") == 0;
}

static DIR *open_directory(int dirfd, const char *name)
{
    int fd = openat(dirfd, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
    DIR *directory = fd < 0 ? NULL : fdopendir(fd);

    if (fd >= 0 && !directory) close(fd);
    return directory;
}

/* 1: nothing is in it but names of `ignored`, a list that ends with NULL. */
static int holds_only(int dirfd, const char *name, const char *const *ignored)
{
    _cleanup_dir_ DIR *directory = open_directory(dirfd, name);
    struct dirent *entry;

    if (!directory) return -errno;
    while (errno = 0, (entry = readdir(directory))) {
        const char *const *known = ignored;

        if (is_dots(entry->d_name)) continue;
        while (*known && strcmp(*known, entry->d_name) != 0) known++;
        if (!*known) return 0;
    }
    return errno ? -errno : 1;
}

/* Is there nothing that a new store would be mixed with? An init that was interrupted may go on; a file system of its
 * own may hold its lost+found. */
static int is_free(int fd)
{
    static const char *const leftovers[] = {"lost+found", "images", "nodes", NEW_CATALOG, NULL};
    static const char *const none[] = {NULL};
    int r = holds_only(fd, ".", leftovers);

    if (r <= 0) return r;
    r = holds_only(fd, "images", none);
    if (r <= 0 && r != -ENOENT) return r;
    r = holds_only(fd, "nodes", none);
    return r == -ENOENT ? 1 : r;
}

static int make_catalog(int fd, const char *path)
{
    _cleanup_free_ char *catalog = io_format("%s/" NEW_CATALOG "/catalog.db", path);
    int r;

    if (!catalog) return -ENOMEM;
    r = io_remove_tree(fd, NEW_CATALOG);
    if (r < 0) return r;
    r = io_mkdir(fd, NEW_CATALOG, 0700);
    if (r < 0) return r;
    r = catalog_create(catalog);
    if (r < 0) return r;
    if (renameat2(fd, NEW_CATALOG "/catalog.db", fd, "catalog.db", RENAME_NOREPLACE) < 0) return -errno;
    /* The store stands now; what is left here would only lie about. */
    io_remove_tree(fd, NEW_CATALOG);
    return 0;
}

static int furnish(int fd, const char *path)
{
    int r;

    if (fchmod(fd, 0700) < 0) return -errno;
    r = io_mkdir(fd, "images", 0755);
    if (r < 0) return r;
    r = io_mkdir(fd, "nodes", 0700);
    if (r < 0) return r;
    return make_catalog(fd, path);
}

static void unfurnish(int fd)
{
    io_remove_tree(fd, NEW_CATALOG);
    unlinkat(fd, "images", AT_REMOVEDIR);
    unlinkat(fd, "nodes", AT_REMOVEDIR);
}

/* Makes the store in an open directory. Two that do so at once: the lock on the directory keeps them apart. */
static int create_in(int fd, const char *path)
{
    int r;

    if (flock(fd, LOCK_EX) < 0) return -errno;
    if (faccessat(fd, "catalog.db", F_OK, 0) == 0) {
        log_error("%s: is already a store", path);
        return -EEXIST;
    }
    r = is_free(fd);
    if (r == 0) {
        log_error("%s: the directory is not empty", path);
        return -ENOTEMPTY;
    }
    if (r > 0) r = furnish(fd, path);
    if (r < 0) {
        log_error("%s: cannot make a store: %s", path, log_reason(r));
        unfurnish(fd);
    }
    return r;
}

int store_create(const char *path)
{
    _cleanup_free_ char *real = NULL;
    _cleanup_close_ int fd = -1;
    bool made = mkdir(path, 0700) == 0;
    int r;

    if (!made && errno != EEXIST) {
        r = -errno;
        log_error("%s: cannot make the directory: %s", path, log_reason(r));
        return r;
    }
    real = realpath(path, NULL);
    fd = real ? open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
    if (fd < 0) {
        r = -errno;
        log_error("%s: cannot make a store: %s", path, log_reason(r));
        return r;
    }
    r = create_in(fd, real);
    if (r < 0 && made) rmdir(path);
    return r;
}

static int open_root(struct store *store, const char *path)
{
    int r;

    store->fd = open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    store->path = store->fd >= 0 ? realpath(path, NULL) : NULL;
    if (store->path) return 0;
    r = -errno;
    if (r == -ENOENT) log_error("%s: there is no store; 'coppice init' makes one", path);
    else if (r == -ENOTDIR) log_error("%s: is not a store: not a directory", path);
    else log_error("%s: cannot open the store: %s", path, log_reason(r));
    return r;
}

static void log_catalog_error(const char *path, int r)
{
    switch (r) {
    case -ENOENT: log_error("%s: is not a store: it has no catalog.db", path); break;
    case -EINVAL: log_error("%s: is not a store: catalog.db is no catalog of coppice", path); break;
    case -EPROTO: log_error("%s: was made by a newer version of coppice", path); break;
    case -EIO: log_error("%s: catalog.db cannot be read, or is no catalog", path); break;
    default: log_error("%s: cannot open catalog.db: %s", path, log_reason(r));
    }
}

static int open_catalog(struct store *store)
{
    _cleanup_free_ char *path = io_format("%s/catalog.db", store->path);
    int r = path ? catalog_open(&store->catalog, path) : -ENOMEM;

    if (r < 0) log_catalog_error(store->path, r);
    return r;
}

static int open_lock(struct store *store, const char *name)
{
    int fd = openat(store->fd, name, O_RDWR | O_CREAT | O_NOFOLLOW | O_CLOEXEC, 0600);

    return fd < 0 ? -errno : fd;
}

int store_lock_images(struct store *store)
{
    _cleanup_close_ int fd = open_lock(store, "images.lock");
    int r;

    if (fd < 0) return fd;
    do r = flock(fd, LOCK_SH);
    while (r < 0 && errno == EINTR);
    return r < 0 ? -errno : io_take_fd(fd);
}

static int sweep_entry(struct store *store, int images_fd, const char *name)
{
    struct catalog_image image;
    int r = catalog_image(store->catalog, name, &image);

    if (r == 0) catalog_image_free(&image);
    if (r != -ENOENT) return r;
    r = catalog_needs_image(store->catalog, name);
    if (r > 0) log_warning("%s/images/%s: is in use, but the catalog has no row for it; left alone", store->path, name);
    if (r != 0) return r < 0 ? r : 0;
    r = io_remove_tree(images_fd, name);
    if (r < 0) log_warning("%s/images/%s: cannot remove what is left of it: %s", store->path, name, log_reason(r));
    return 0;
}

/* Whoever makes or removes images holds the lock shared all that time: alone with it, an entry without a row is a
 * leftover; unless nodes stand on it, when it is the row that was lost. */
static int sweep_images(struct store *store)
{
    _cleanup_close_ int lock = open_lock(store, "images.lock");
    _cleanup_dir_ DIR *images = NULL;
    struct dirent *entry;

    if (lock < 0) return lock;
    if (flock(lock, LOCK_EX | LOCK_NB) < 0) return errno == EWOULDBLOCK ? 0 : -errno;
    images = open_directory(store->fd, "images");
    if (!images) return -errno;
    while (errno = 0, (entry = readdir(images))) {
        int r = is_dots(entry->d_name) ? 0 : sweep_entry(store, dirfd(images), entry->d_name);

        if (r < 0) return r;
    }
    return -errno;
}

int store_open(struct store **ret_store, const char *path)
{
    _cleanup_store_ struct store *store = calloc(1, sizeof(*store));
    int r;

    if (!store) return -ENOMEM;
    store->fd = -1;
    r = open_root(store, path);
    if (r < 0) return r;
    r = open_catalog(store);
    if (r < 0) return r;
    r = sweep_images(store);
    if (r < 0) {
        log_error("%s/images: cannot be cleaned up: %s", store->path, log_reason(r));
        return r;
    }
    *ret_store = io_take(store);
    return 0;
}

void store_close(struct store *store)
{
    if (!store) return;
    catalog_close(store->catalog);
    if (store->fd >= 0) close(store->fd);
    free(store->path);
    free(store);
}

/* STORE/daemon: its and the supervisor's pid, the mountpoint, the options, a line each. Only a mountpoint may hold line ends of its own. */
static void parse_daemon(char *text, struct store_daemon *ret_daemon)
{
    char *mountpoint = strchr(text, '\n');
    char *options;
    size_t length = strlen(text);

    *ret_daemon = (struct store_daemon){0};
    if (!mountpoint || text[length - 1] != '\n') return;
    text[length - 1] = '\0';
    options = strrchr(text, '\n');
    if (!options || options == mountpoint) return;
    *options++ = '\0';
    sscanf(text, "%d %d", &ret_daemon->pid, &ret_daemon->supervisor);
    snprintf(ret_daemon->mountpoint, sizeof(ret_daemon->mountpoint), "%s", mountpoint + 1);
    snprintf(ret_daemon->options, sizeof(ret_daemon->options), "%s", options);
}

static int read_daemon(int fd, struct store_daemon *ret_daemon)
{
    char text[sizeof(struct store_daemon) + 64];
    ssize_t n = io_pread(fd, text, sizeof(text) - 1, 0);

    if (n < 0) return n;
    text[n] = '\0';
    parse_daemon(text, ret_daemon);
    return 0;
}

static int lock_claim(int fd)
{
    for (int tries = 0; tries < CLAIM_TRIES; tries++) {
        if (flock(fd, LOCK_EX | LOCK_NB) == 0) return 0;
        if (errno != EWOULDBLOCK && errno != EINTR) return -errno;
        nanosleep(&(struct timespec){.tv_nsec = 10 * 1000 * 1000}, NULL);
    }
    return -EBUSY;
}

static void log_claimed(struct store *store, int fd)
{
    struct store_daemon other;

    if (read_daemon(fd, &other) < 0 || other.pid == 0) log_error("%s: is in use by another daemon", store->path);
    else log_error("%s: is in use by daemon %d, mounted at %s", store->path, (int)other.pid, other.mountpoint);
}

int store_claim(struct store *store, int *ret_fd)
{
    _cleanup_close_ int fd = open_lock(store, "daemon");
    int r = fd < 0 ? fd : lock_claim(fd);

    if (r == -EBUSY) {
        log_claimed(store, fd);
        return r;
    }
    /* What the last daemon told is no longer true. */
    if (r == 0 && ftruncate(fd, 0) < 0) r = -errno;
    if (r < 0) {
        log_error("%s/daemon: cannot be locked: %s", store->path, log_reason(r));
        return r;
    }
    *ret_fd = io_take_fd(fd);
    return 0;
}

int store_announce(int claim_fd, const struct store_daemon *daemon)
{
    _cleanup_free_ char *text = io_format("%d %d\n%s\n%s\n", (int)daemon->pid, (int)daemon->supervisor, daemon->mountpoint, daemon->options);
    size_t length;
    int r;

    if (!text) return -ENOMEM;
    length = strlen(text);
    r = io_pwrite(claim_fd, text, length, 0);
    if (r < 0) return r;
    return ftruncate(claim_fd, length) < 0 ? -errno : 0;
}

int store_running(struct store *store, struct store_daemon *ret_daemon)
{
    _cleanup_close_ int fd = openat(store->fd, "daemon", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int r;

    if (fd < 0) return errno == ENOENT ? 0 : -errno;
    if (flock(fd, LOCK_SH | LOCK_NB) == 0) return 0;
    if (errno != EWOULDBLOCK) return -errno;
    r = read_daemon(fd, ret_daemon);
    return r < 0 ? r : 1;
}

int store_last_daemon(struct store *store, struct store_daemon *ret_daemon)
{
    _cleanup_close_ int fd = openat(store->fd, "daemon", O_RDONLY | O_NOFOLLOW | O_CLOEXEC);
    int r = fd < 0 ? -errno : read_daemon(fd, ret_daemon);

    if (r < 0) return r;
    return ret_daemon->mountpoint[0] ? 0 : -ENOENT;
}
