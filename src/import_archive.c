#include "import_archive.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "import_acl.h"
#include "import_attrs.h"
#include "import_log.h"
#include "import_stream.h"
#include "io.h"
#include "log.h"
#include "longpath.h"

/* Attributes of a directory, given to it when everything is in it. */
struct late {
    char *path;
    struct import_attrs attrs;
};

struct unpacker {
    const char *source;
    int rootfs_fd;
    struct progress *progress;
    struct import_stream *stream;
    struct late *late;
    size_t late_count, late_room;
    char *parent_path; /* the directory that parent_fd is open on: members come in the order of directories */
    int parent_fd;
};

/* The member at hand. */
struct member {
    struct archive_entry *entry;
    const char *given; /* its name as in the archive, for messages */
    char *base;        /* the last component of its cleaned path */
    int parent_fd;     /* belongs to the unpacker */
};

static int refused(struct unpacker *unpacker, const struct member *member, int error, const char *reason)
{
    return import_failed(unpacker->progress, error, "%s: member '%s': %s", unpacker->source,
                         member->given ? member->given : "", reason);
}

static int failed(struct unpacker *unpacker, const struct member *member, int r)
{
    return refused(unpacker, member, r, log_reason(r));
}

/* NULL, or why the component must not be in a name. */
static const char *component_fault(const char *component, size_t length)
{
    if (length == 2 && memcmp(component, "..", 2) == 0) return "'..' in its name";
    return length > NAME_MAX ? "a name longer than 255 bytes" : NULL;
}

/* Into *ret_clean without empty and "." components, "." when nothing is left. NULL, or why the name is refused. */
static const char *clean_path(const char *path, char **ret_clean)
{
    size_t used = 0;
    char *clean;

    if (!path || !*path) return "no name";
    if (*path == '/') return "an absolute name";
    clean = *ret_clean = malloc(strlen(path) + 2);
    if (!clean) return log_reason(-ENOMEM);
    while (*path) {
        size_t length = strcspn(path, "/");
        const char *fault = component_fault(path, length);

        if (fault) return fault;
        if (length > 1 || (length == 1 && *path != '.')) {
            if (used) clean[used++] = '/';
            memcpy(clean + used, path, length);
            used += length;
        }
        path += length;
        path += *path == '/';
    }
    strcpy(clean + used, used ? "" : ".");
    return NULL;
}

static void forget_parent(struct unpacker *unpacker)
{
    if (unpacker->parent_fd >= 0) close(unpacker->parent_fd);
    unpacker->parent_fd = -1;
    free(io_take(unpacker->parent_path));
}

static int add_late(struct unpacker *unpacker, const char *path, struct import_attrs *attrs)
{
    struct late *late;

    if (unpacker->late_count == unpacker->late_room) {
        size_t room = unpacker->late_room ? unpacker->late_room * 2 : 256;
        void *grown = reallocarray(unpacker->late, room, sizeof(*unpacker->late));

        if (!grown) return -ENOMEM;
        unpacker->late = grown;
        unpacker->late_room = room;
    }
    late = &unpacker->late[unpacker->late_count];
    late->path = strdup(path);
    if (!late->path) return -ENOMEM;
    late->attrs = *attrs;
    *attrs = (struct import_attrs){0};
    unpacker->late_count++;
    return 0;
}

/* A directory that the archive has names in before it has the directory, or without having it. */
static int add_implied(struct unpacker *unpacker, const char *path)
{
    struct import_attrs attrs = {.mode = S_IFDIR | 0755};

    clock_gettime(CLOCK_REALTIME, &attrs.mtime);
    return add_late(unpacker, path, &attrs);
}

/* Opens `path` one component after the other and makes those that are missing. */
static int make_parents(struct unpacker *unpacker, char *path)
{
    _cleanup_close_ int fd = io_open_beneath(unpacker->rootfs_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    char *end = path;

    while (fd >= 0 && end) {
        char *component = end;
        int next;

        end = strchr(component, '/');
        if (end) *end = '\0';
        if (mkdirat(fd, component, 0700) == 0) {
            int r = add_implied(unpacker, path);

            if (r < 0) return r;
        } else if (errno != EEXIST) {
            return -errno;
        }
        next = io_open_beneath(fd, component, O_RDONLY | O_DIRECTORY, 0);
        if (end) *end++ = '/';
        close(fd);
        fd = next;
    }
    return io_take_fd(fd);
}

static int open_parent(struct unpacker *unpacker, const char *path)
{
    _cleanup_free_ char *copy = strdup(path);
    int fd;

    if (!copy) return -ENOMEM;
    fd = longpath_open(unpacker->rootfs_fd, copy, O_RDONLY | O_DIRECTORY);
    if (fd != -ENOENT) return fd;
    strcpy(copy, path);
    return make_parents(unpacker, copy);
}

/* Makes unpacker->parent_fd the directory `path`. */
static int enter_parent(struct unpacker *unpacker, const char *path)
{
    if (unpacker->parent_path && strcmp(unpacker->parent_path, path) == 0) return 0;
    forget_parent(unpacker);
    unpacker->parent_fd = open_parent(unpacker, path);
    if (unpacker->parent_fd < 0) return unpacker->parent_fd;
    unpacker->parent_path = strdup(path);
    return unpacker->parent_path ? 0 : -ENOMEM;
}

static int refused_parent(struct unpacker *unpacker, const struct member *member, int r)
{
    if (r == -ELOOP) return refused(unpacker, member, r, "is reached through a symbolic link");
    if (r == -ENOTDIR) return refused(unpacker, member, r, "lies below what is no directory");
    return failed(unpacker, member, r);
}

/* Cuts "a/b" into "a", which is returned, and "b"; "b" into "." and "b". */
static const char *split_path(char *path, char **ret_base)
{
    char *cut = strrchr(path, '/');

    *ret_base = cut ? cut + 1 : path;
    if (!cut) return ".";
    *cut = '\0';
    return path;
}

static int read_attrs(struct unpacker *unpacker, const struct member *member, struct import_attrs *attrs)
{
    struct archive_entry *entry = member->entry;
    int64_t uid = archive_entry_uid(entry), gid = archive_entry_gid(entry);
    int r;

    *attrs = (struct import_attrs){
        .mode = archive_entry_filetype(entry) | (archive_entry_perm(entry) & 07777),
        .uid = uid,
        .gid = gid,
        .mtime = {.tv_sec = archive_entry_mtime(entry), .tv_nsec = archive_entry_mtime_nsec(entry)},
    };
    if (uid < 0 || uid >= UINT32_MAX || gid < 0 || gid >= UINT32_MAX)
        return refused(unpacker, member, -EINVAL, "its owner is out of range");
    r = import_xattrs(entry, &attrs->xattrs);
    if (r == -EINVAL) return refused(unpacker, member, r, "its ACL names a user or group that is not known here");
    return r < 0 ? failed(unpacker, member, r) : 0;
}

static int apply(struct unpacker *unpacker, const char *path, const struct import_attrs *attrs, int dirfd,
                 const char *name)
{
    const char *what;
    int r = import_attrs_apply(attrs, dirfd, name, &what);

    if (r == 0) return 0;
    return import_failed(unpacker->progress, r, "%s: member '%s': cannot keep its %s: %s", unpacker->source, path, what,
                         log_reason(r));
}

/* A later member replaces an earlier one of its name, unless that is a directory with names in it. */
static int clear_way(const struct member *member)
{
    if (unlinkat(member->parent_fd, member->base, 0) == 0 || errno == ENOENT) return 0;
    if (errno != EISDIR) return -errno;
    return unlinkat(member->parent_fd, member->base, AT_REMOVEDIR) == 0 ? 0 : -errno;
}

static int make_directory(struct unpacker *unpacker, const struct member *member)
{
    int r = io_mkdir(member->parent_fd, member->base, 0700);

    if (r == -ENOTDIR) r = clear_way(member);
    else return r < 0 ? failed(unpacker, member, r) : 0;
    if (r == 0) r = io_mkdir(member->parent_fd, member->base, 0700);
    return r < 0 ? failed(unpacker, member, r) : 0;
}

static int write_pieces(struct unpacker *unpacker, const struct member *member, int fd)
{
    const void *data;
    size_t size;
    int64_t offset;
    int r;

    while ((r = import_stream_data(unpacker->stream, &data, &size, &offset)) > 0) {
        r = size ? io_pwrite(fd, data, size, offset) : 0;
        if (r < 0) return failed(unpacker, member, r);
        progress_add(unpacker->progress, 0, size);
    }
    return r;
}

static int write_regular(struct unpacker *unpacker, const struct member *member)
{
    _cleanup_close_ int fd = openat(member->parent_fd, member->base, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    int r;

    if (fd < 0) return failed(unpacker, member, -errno);
    r = write_pieces(unpacker, member, fd);
    if (r < 0) return r;
    /* The last piece may be a hole. */
    return ftruncate(fd, archive_entry_size(member->entry)) < 0 ? failed(unpacker, member, -errno) : 0;
}

static int make_symlink(const struct member *member)
{
    const char *target = archive_entry_symlink(member->entry);

    if (!target || !*target) return -EINVAL;
    return symlinkat(target, member->parent_fd, member->base) < 0 ? -errno : 0;
}

static int make_special(const struct member *member)
{
    struct archive_entry *entry = member->entry;
    dev_t device = makedev(archive_entry_rdevmajor(entry), archive_entry_rdevminor(entry));

    return mknodat(member->parent_fd, member->base, archive_entry_filetype(entry) | 0600, device) < 0 ? -errno : 0;
}

static int make_file(struct unpacker *unpacker, const struct member *member)
{
    int r = clear_way(member);

    if (r == -ENOTEMPTY) return refused(unpacker, member, r, "the archive has a directory of this name");
    if (r < 0) return failed(unpacker, member, r);
    switch (archive_entry_filetype(member->entry)) {
    case AE_IFREG: return write_regular(unpacker, member);
    case AE_IFLNK: r = make_symlink(member); break;
    case AE_IFCHR:
    case AE_IFBLK:
    case AE_IFIFO:
    case AE_IFSOCK: r = make_special(member); break;
    default: return refused(unpacker, member, -EINVAL, "its type is not known");
    }
    return r < 0 ? failed(unpacker, member, r) : 0;
}

static int make_member(struct unpacker *unpacker, const struct member *member, const char *path)
{
    _cleanup_import_attrs_ struct import_attrs attrs = {0};
    bool is_directory = archive_entry_filetype(member->entry) == AE_IFDIR;
    int r = read_attrs(unpacker, member, &attrs);

    if (r < 0) return r;
    r = is_directory ? make_directory(unpacker, member) : make_file(unpacker, member);
    if (r < 0) return r;
    if (!is_directory) return apply(unpacker, member->given, &attrs, member->parent_fd, member->base);
    r = add_late(unpacker, path, &attrs);
    return r < 0 ? failed(unpacker, member, r) : 0;
}

static int refused_link(struct unpacker *unpacker, const struct member *member, const char *target, int r)
{
    _cleanup_free_ char *reason = NULL;

    if (r == -ENOENT) reason = io_format("hard link to '%s', which the archive does not hold before it", target);
    else if (r == -ELOOP) reason = io_format("hard link to '%s', which is reached through a symbolic link", target);
    else reason = io_format("hard link to '%s': %s", target, log_reason(r));
    return refused(unpacker, member, r, reason ? reason : log_reason(r));
}

static int link_to(struct unpacker *unpacker, const struct member *member, char *target_path)
{
    char *base;
    const char *directory = split_path(target_path, &base);
    _cleanup_free_ char *copy = strdup(directory);
    _cleanup_close_ int fd = -1;
    struct stat st;
    int r;

    if (!copy) return -ENOMEM;
    fd = longpath_open(unpacker->rootfs_fd, copy, O_RDONLY | O_DIRECTORY);
    if (fd < 0) return fd;
    if (fstatat(fd, base, &st, AT_SYMLINK_NOFOLLOW) < 0) return -errno;
    r = clear_way(member);
    if (r < 0) return r;
    return linkat(fd, base, member->parent_fd, member->base, 0) < 0 ? -errno : 0;
}

static int make_link(struct unpacker *unpacker, const struct member *member, const char *path, const char *target)
{
    _cleanup_free_ char *target_path = NULL, *reason = NULL;
    const char *fault = clean_path(target, &target_path);
    int r = 0;

    if (fault) {
        reason = io_format("hard link to '%s': %s", target, fault);
        return refused(unpacker, member, -EINVAL, reason ? reason : fault);
    }
    if (strcmp(target_path, path) != 0) r = link_to(unpacker, member, target_path);
    return r < 0 ? refused_link(unpacker, member, target, r) : 0;
}

static int unpack_root(struct unpacker *unpacker, const struct member *member)
{
    _cleanup_import_attrs_ struct import_attrs attrs = {0};
    int r;

    if (archive_entry_filetype(member->entry) != AE_IFDIR || archive_entry_hardlink(member->entry))
        return refused(unpacker, member, -EINVAL, "the root must be a directory");
    r = read_attrs(unpacker, member, &attrs);
    if (r < 0) return r;
    r = add_late(unpacker, ".", &attrs);
    return r < 0 ? failed(unpacker, member, r) : 0;
}

static int unpack_member(struct unpacker *unpacker, struct archive_entry *entry)
{
    struct member member = {.entry = entry, .given = archive_entry_pathname(entry)};
    const char *target = archive_entry_hardlink(entry);
    _cleanup_free_ char *path = NULL, *parts = NULL;
    const char *fault = clean_path(member.given, &path);
    int r;

    if (fault) return refused(unpacker, &member, -EINVAL, fault);
    progress_add(unpacker->progress, 1, 0);
    if (strcmp(path, ".") == 0) return unpack_root(unpacker, &member);
    parts = strdup(path);
    if (!parts) return failed(unpacker, &member, -ENOMEM);
    r = enter_parent(unpacker, split_path(parts, &member.base));
    if (r < 0) return refused_parent(unpacker, &member, r);
    member.parent_fd = unpacker->parent_fd;
    return target ? make_link(unpacker, &member, path, target) : make_member(unpacker, &member, path);
}

static int apply_late(struct unpacker *unpacker, const struct late *late)
{
    _cleanup_free_ char *copy = strdup(late->path);
    _cleanup_close_ int fd = -1;

    if (!copy) return import_failed(unpacker->progress, -ENOMEM, "%s: %s", unpacker->source, log_reason(-ENOMEM));
    fd = longpath_open(unpacker->rootfs_fd, copy, O_RDONLY | O_DIRECTORY | O_NOFOLLOW);
    /* A later member may have taken the directory's place. */
    if (fd == -ENOENT || fd == -ENOTDIR || fd == -ELOOP) return 0;
    if (fd < 0)
        return import_failed(unpacker->progress, fd, "%s: %s: %s", unpacker->source, late->path, log_reason(fd));
    return apply(unpacker, late->path, &late->attrs, fd, ".");
}

static int unpack_all(struct unpacker *unpacker)
{
    struct archive_entry *entry;
    int r = add_implied(unpacker, ".");

    if (r < 0) return import_failed(unpacker->progress, r, "%s: %s", unpacker->source, log_reason(r));
    while ((r = import_stream_next(unpacker->stream, &entry)) > 0) {
        r = unpack_member(unpacker, entry);
        if (r < 0) return r;
    }
    for (size_t i = 0; r == 0 && i < unpacker->late_count; i++) r = apply_late(unpacker, &unpacker->late[i]);
    return r;
}

static void release(struct unpacker *unpacker)
{
    for (size_t i = 0; i < unpacker->late_count; i++) {
        free(unpacker->late[i].path);
        import_attrs_free(&unpacker->late[i].attrs);
    }
    free(unpacker->late);
    forget_parent(unpacker);
    import_stream_close(unpacker->stream);
}

int import_archive(struct import_bytes *bytes, const char *source, int rootfs_fd, struct progress *progress)
{
    struct unpacker unpacker = {.source = source, .rootfs_fd = rootfs_fd, .progress = progress, .parent_fd = -1};
    int r = import_stream_open(&unpacker.stream, bytes, source, progress);

    if (r == 0) r = unpack_all(&unpacker);
    release(&unpacker);
    return r;
}
