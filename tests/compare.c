#include "compare.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

#include "check.h"
#include "made_tree.h"

enum { SHOWN = 20, ATTRIBUTE_NAMES = 65536 };

/* One of the names of an inode with several: both sides must agree which names belong together. */
struct linked {
    ino_t expected, found;
    char *path;
};

struct comparison {
    unsigned flags;
    int differences;
    struct linked *links;
    size_t link_count;
};

/* A directory open on both sides. `path` is relative to the roots, for messages. */
struct pair {
    int expected, found;
    const char *path;
};

__attribute__((format(printf, 3, 4))) static void differ(struct comparison *c, const char *path, const char *format,
                                                         ...)
{
    if (c->differences++ >= SHOWN) return;
    char text[600];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    print_error("differs: %.300s: %s\n", path[0] ? path : ".", text);
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Sorted names without "." and ".."; NULL-terminated; NULL with errno on failure. */
static char **read_names(int directory)
{
    int fd = openat(directory, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *stream = fd < 0 ? NULL : fdopendir(fd);
    if (!stream) return NULL;
    size_t count = 0, room = 64;
    char **names = calloc(room, sizeof(char *));
    for (struct dirent *entry; (errno = 0, entry = readdir(stream));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        if (count + 1 == room) names = realloc(names, (room *= 2) * sizeof(char *));
        names[count++] = strdup(entry->d_name);
    }
    int error = errno;
    closedir(stream);
    names[count] = NULL;
    qsort(names, count, sizeof(char *), by_name);
    errno = error;
    return names;
}

static void free_names(char **names)
{
    for (char **name = names; name && *name; name++) free(*name);
    free(names);
}

/* ---- attributes ---- */

static bool is_old(const struct stat *st)
{
    return st->st_mtim.tv_sec < MADE_TIMES_END;
}

static void compare_times(struct comparison *c, const char *path, const struct stat *a, const struct stat *b)
{
    bool is_wanted = c->flags & COMPARE_TIMES || (c->flags & COMPARE_OLD_TIMES && (is_old(a) || is_old(b)));
    if (is_wanted && (a->st_mtim.tv_sec != b->st_mtim.tv_sec || a->st_mtim.tv_nsec != b->st_mtim.tv_nsec))
        differ(c, path, "mtime %ld.%09ld, not %ld.%09ld", b->st_mtim.tv_sec, b->st_mtim.tv_nsec, a->st_mtim.tv_sec,
               a->st_mtim.tv_nsec);
}

static void compare_stat(struct comparison *c, const char *path, const struct stat *a, const struct stat *b)
{
    if (a->st_mode != b->st_mode) differ(c, path, "mode %o, not %o", b->st_mode, a->st_mode);
    if (a->st_uid != b->st_uid) differ(c, path, "uid %u, not %u", b->st_uid, a->st_uid);
    if (a->st_gid != b->st_gid) differ(c, path, "gid %u, not %u", b->st_gid, a->st_gid);
    if (a->st_nlink != b->st_nlink) differ(c, path, "nlink %lu, not %lu", b->st_nlink, a->st_nlink);
    bool has_size = S_ISREG(a->st_mode) || S_ISLNK(a->st_mode);
    if (has_size && a->st_size != b->st_size) differ(c, path, "size %ld, not %ld", b->st_size, a->st_size);
    bool is_device = S_ISCHR(a->st_mode) || S_ISBLK(a->st_mode);
    if (is_device && a->st_rdev != b->st_rdev) differ(c, path, "rdev %lx, not %lx", b->st_rdev, a->st_rdev);
    compare_times(c, path, a, b);
}

static void compare_links(struct comparison *c, const char *path, const struct stat *a, const struct stat *b)
{
    if (S_ISDIR(a->st_mode) || (a->st_nlink < 2 && b->st_nlink < 2)) return;
    for (size_t i = 0; i < c->link_count; i++) {
        struct linked *known = &c->links[i];
        if ((known->expected == a->st_ino) == (known->found == b->st_ino)) continue;
        differ(c, path, "%s of %s", known->expected == a->st_ino ? "no longer a link" : "a link", known->path);
        return;
    }
    c->links = realloc(c->links, (c->link_count + 1) * sizeof(c->links[0]));
    c->links[c->link_count++] = (struct linked){a->st_ino, b->st_ino, strdup(path)};
}

/* The l*xattr calls know no directory descriptor; /proc/self/fd leads to it. */
static const char *through_proc(char *buffer, size_t size, int directory, const char *name)
{
    snprintf(buffer, size, "/proc/self/fd/%d/%s", directory, name);
    return buffer;
}

static bool has_name(const char *list, ssize_t size, const char *name)
{
    for (const char *at = list; at < list + size; at += strlen(at) + 1)
        if (strcmp(at, name) == 0) return true;
    return false;
}

static void compare_xattrs(struct comparison *c, const struct pair *in, const char *name, const char *path)
{
    static char lists[2][ATTRIBUTE_NAMES], values[2][65536];
    char a[400], b[400];
    through_proc(a, sizeof(a), in->expected, name);
    through_proc(b, sizeof(b), in->found, name);
    ssize_t size_a = llistxattr(a, lists[0], ATTRIBUTE_NAMES), size_b = llistxattr(b, lists[1], ATTRIBUTE_NAMES);
    if (size_a < 0 || size_b < 0) return differ(c, path, "listxattr: %s", strerror(errno));
    for (const char *at = lists[1]; at < lists[1] + size_b; at += strlen(at) + 1)
        if (!has_name(lists[0], size_a, at)) differ(c, path, "xattr %s is there", at);
    for (const char *at = lists[0]; at < lists[0] + size_a; at += strlen(at) + 1) {
        ssize_t length_a = lgetxattr(a, at, values[0], sizeof(values[0]));
        ssize_t length_b = lgetxattr(b, at, values[1], sizeof(values[1]));
        if (length_b < 0)
            differ(c, path, "xattr %s: %s", at, strerror(errno));
        else if (length_a != length_b || memcmp(values[0], values[1], (size_t)length_a) != 0)
            differ(c, path, "xattr %s has another value (%zd bytes, not %zd)", at, length_b, length_a);
    }
}

/* ---- contents ---- */

static off_t next_data(int fd, off_t offset, off_t end)
{
    off_t data = lseek(fd, offset, SEEK_DATA);
    return data >= 0 ? data : errno == ENXIO ? end : offset;
}

/* Where either side has data next: what is a hole on both needs no reading. */
static off_t next_of_either(int a, int b, off_t offset)
{
    struct stat st;
    if (fstat(a, &st) < 0 || offset >= st.st_size) return offset;
    off_t data_a = next_data(a, offset, st.st_size), data_b = next_data(b, offset, st.st_size);
    return data_a < data_b ? data_a : data_b;
}

static void compare_contents(struct comparison *c, const struct pair *in, const char *name, const char *path)
{
    static char buffers[2][1 << 17];
    int a = openat(in->expected, name, O_RDONLY | O_CLOEXEC | O_NOATIME);
    int b = openat(in->found, name, O_RDONLY | O_CLOEXEC | O_NOATIME);
    for (off_t offset = 0; a >= 0 && b >= 0;) {
        offset = next_of_either(a, b, offset);
        ssize_t size_a = pread(a, buffers[0], sizeof(buffers[0]), offset);
        ssize_t size_b = pread(b, buffers[1], sizeof(buffers[1]), offset);
        if (size_a < 0 || size_b < 0 || size_a != size_b) {
            differ(c, path, "read at %ld: %zd, not %zd", offset, size_b, size_a);
            break;
        }
        if (size_a == 0) break;
        if (memcmp(buffers[0], buffers[1], (size_t)size_a) != 0) {
            ssize_t at = 0;
            while (buffers[0][at] == buffers[1][at]) at++;
            differ(c, path, "byte %ld is %02x, not %02x", offset + at, buffers[1][at] & 0xff, buffers[0][at] & 0xff);
            break;
        }
        offset += size_a;
    }
    if (a < 0 || b < 0) differ(c, path, "open: %s", strerror(errno));
    if (a >= 0) close(a);
    if (b >= 0) close(b);
}

static void compare_targets(struct comparison *c, const struct pair *in, const char *name, const char *path)
{
    char a[4200] = "", b[4200] = "";
    ssize_t size_a = readlinkat(in->expected, name, a, sizeof(a) - 1);
    ssize_t size_b = readlinkat(in->found, name, b, sizeof(b) - 1);
    if (size_a != size_b || strcmp(a, b) != 0)
        differ(c, path, "target '%.100s' (%zd), not '%.100s' (%zd)", b, size_b, a, size_a);
}

/* ---- the walk ---- */

static void compare_directories(struct comparison *c, const struct pair *in);

static void compare_below(struct comparison *c, const struct pair *in, const char *name, const char *path)
{
    struct pair below = {openat(in->expected, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                         openat(in->found, name, O_RDONLY | O_DIRECTORY | O_CLOEXEC), path};
    if (below.expected >= 0 && below.found >= 0)
        compare_directories(c, &below);
    else
        differ(c, path, "open: %s", strerror(errno));
    if (below.expected >= 0) close(below.expected);
    if (below.found >= 0) close(below.found);
}

static void compare_entry(struct comparison *c, const struct pair *in, const char *name)
{
    char *path = NULL;
    if (asprintf(&path, "%s%s%s", in->path, in->path[0] ? "/" : "", name) < 0) return;
    struct stat a, b;
    if (fstatat(in->expected, name, &a, AT_SYMLINK_NOFOLLOW) < 0)
        differ(c, path, "stat of what is expected: %s", strerror(errno));
    else if (fstatat(in->found, name, &b, AT_SYMLINK_NOFOLLOW) < 0)
        differ(c, path, "stat: %s", strerror(errno));
    else {
        compare_stat(c, path, &a, &b);
        compare_links(c, path, &a, &b);
        compare_xattrs(c, in, name, path);
        if (S_ISREG(a.st_mode) && S_ISREG(b.st_mode)) compare_contents(c, in, name, path);
        if (S_ISLNK(a.st_mode) && S_ISLNK(b.st_mode)) compare_targets(c, in, name, path);
        if (S_ISDIR(a.st_mode) && S_ISDIR(b.st_mode)) compare_below(c, in, name, path);
    }
    free(path);
}

static void compare_directories(struct comparison *c, const struct pair *in)
{
    char **a = read_names(in->expected), **b = read_names(in->found);
    if (!a || !b || errno) differ(c, in->path, "readdir: %s", strerror(errno));
    for (size_t i = 0, j = 0; a && b && (a[i] || b[j]);) {
        int order = !a[i] ? 1 : !b[j] ? -1 : strcmp(a[i], b[j]);
        if (order == 0)
            compare_entry(c, in, a[i++]), j++;
        else if (order < 0)
            differ(c, in->path, "lacks '%s'", a[i++]);
        else if (j > 0 && strcmp(b[j], b[j - 1]) == 0)
            differ(c, in->path, "lists '%s' twice", b[j++]);
        else
            differ(c, in->path, "has '%s'", b[j++]);
    }
    free_names(a);
    free_names(b);
}

int compare_trees(const char *expected, const char *found, unsigned flags)
{
    struct comparison c = {.flags = flags};
    struct pair roots = {open(expected, O_RDONLY | O_DIRECTORY | O_CLOEXEC),
                         open(found, O_RDONLY | O_DIRECTORY | O_CLOEXEC), ""};
    if (roots.expected < 0 || roots.found < 0)
        differ(&c, found, "open: %s", strerror(errno));
    else {
        struct stat a, b;
        if (fstat(roots.expected, &a) == 0 && fstat(roots.found, &b) == 0) compare_stat(&c, "", &a, &b);
        compare_xattrs(&c, &roots, ".", "");
        compare_directories(&c, &roots);
    }
    if (roots.expected >= 0) close(roots.expected);
    if (roots.found >= 0) close(roots.found);
    for (size_t i = 0; i < c.link_count; i++) free(c.links[i].path);
    free(c.links);
    if (c.differences > SHOWN) print_error("… and %d more\n", c.differences - SHOWN);
    return c.differences;
}
