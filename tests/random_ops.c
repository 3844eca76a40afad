#include "random_ops.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/falloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#include "check.h"
#include "made_acl.h"
#include "made_tree.h"

enum { SIDES = 2, SLOTS = 6, PATH = 3000, NOTES = 40, NOTE = 240, DEEPEST = 5, LARGEST = 300000, PIECE = 40000 };

struct random_ops {
    const char *roots[SIDES];
    uint64_t state;
    long count;
    bool is_agreed;
    int slots[SLOTS][SIDES]; /* files kept open on both sides; -1: none */
    char notes[NOTES][NOTE];
    char *buffers[SIDES];
};

/* ---- numbers ---- */

uint64_t random_next(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

uint64_t random_below(uint64_t *state, uint64_t below)
{
    return (random_next(state) >> 16) % below;
}

uint64_t random_seed(void)
{
    const char *asked = getenv("COPPICE_RANDOM_SEED");
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    uint64_t seed = asked ? strtoull(asked, NULL, 10) : (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
    print_message("COPPICE_RANDOM_SEED=%lu\n", seed);
    return seed ? seed : 1;
}

double random_seconds(double usual)
{
    const char *asked = getenv("COPPICE_RANDOM_SECONDS");
    return asked ? atof(asked) : usual;
}

static uint64_t below(struct random_ops *ops, uint64_t limit)
{
    return random_below(&ops->state, limit);
}
static bool one_in(struct random_ops *ops, uint64_t chances)
{
    return below(ops, chances) == 0;
}

/* Sizes and offsets: mostly small, often near a border of blocks. */
static uint64_t some_size(struct random_ops *ops, uint64_t most)
{
    uint64_t size = below(ops, 3) == 0 ? below(ops, 600) : below(ops, most);
    if (one_in(ops, 3)) size = (size / 4096) * 4096 + below(ops, 3);
    return size > most ? most : size;
}

/* ---- notes and agreement ---- */

__attribute__((format(printf, 2, 3))) static void note(struct random_ops *ops, const char *format, ...)
{
    char *to = ops->notes[ops->count % NOTES];
    int length = snprintf(to, NOTE, "%ld: ", ops->count);
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(to + length, NOTE - (size_t)length, format, arguments);
    va_end(arguments);
    for (char *c = to; *c; c++)
        if ((unsigned char)*c < ' ' || (unsigned char)*c > '~') *c = '?';
}

void random_ops_print(const struct random_ops *ops)
{
    long first = ops->count < NOTES ? 0 : ops->count - NOTES + 1;
    for (long i = first; i <= ops->count; i++)
        if (ops->notes[i % NOTES][0]) print_error("  %s\n", ops->notes[i % NOTES]);
}

static void disagree(struct random_ops *ops, const char *format, ...) __attribute__((format(printf, 2, 3)));
static void disagree(struct random_ops *ops, const char *format, ...)
{
    char text[300];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    print_error("operation %ld: %s\n", ops->count, text);
    ops->is_agreed = false;
}

struct outcome {
    long value;
    int error;
};

static void judge(struct random_ops *ops, const struct outcome outcomes[SIDES])
{
    if (outcomes[0].value == outcomes[1].value && outcomes[0].error == outcomes[1].error) return;
    disagree(ops, "%ld (%s), not %ld (%s)", outcomes[1].value, strerror(outcomes[1].error), outcomes[0].value,
             strerror(outcomes[0].error));
}

/* The call, in which `side` is 0 and then 1, ends alike on both sides. */
#define ON_BOTH(ops, call)                                                      \
    do {                                                                        \
        struct outcome outcomes_[SIDES];                                        \
        for (int side = 0; side < SIDES; side++) {                              \
            errno = 0;                                                          \
            long value_ = (call);                                               \
            outcomes_[side] = (struct outcome){value_, value_ < 0 ? errno : 0}; \
        }                                                                       \
        judge(ops, outcomes_);                                                  \
    } while (0)

/* ---- paths ---- */

static const char *on(const struct random_ops *ops, int side, const char *path)
{
    static char paths[4][PATH + 1200];
    static unsigned turn;
    char *to = paths[turn++ % 4];
    snprintf(to, sizeof(paths[0]), "%s/%s", ops->roots[side], path);
    return to;
}

/* An entry that does not depend on the order in which the directory lists them. False: it is empty. */
static bool pick_entry(struct random_ops *ops, const char *directory_path, char ret_name[256])
{
    uint64_t salt = random_next(&ops->state), best = UINT64_MAX;
    DIR *directory = opendir(on(ops, 0, directory_path));
    bool found = false;
    for (struct dirent *entry; directory && (entry = readdir(directory));) {
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
        uint64_t hash = salt;
        for (const char *c = entry->d_name; *c; c++) hash = (hash ^ (unsigned char)*c) * 1099511628211u;
        hash ^= hash >> 29;
        if (found && hash >= best) continue;
        best = hash, found = true;
        strcpy(ret_name, entry->d_name);
    }
    if (directory) closedir(directory);
    return found;
}

static mode_t type_of(const struct random_ops *ops, const char *path)
{
    struct stat st;
    return lstat(on(ops, 0, path), &st) < 0 ? 0 : st.st_mode & S_IFMT;
}

static off_t size_of(const struct random_ops *ops, const char *path)
{
    struct stat st;
    return lstat(on(ops, 0, path), &st) < 0 ? 0 : st.st_size;
}

/* Walks down from the root until it meets `type` (0: any) and a coin says so. False: found nothing of the kind. */
static bool pick(struct random_ops *ops, mode_t type, char ret_path[PATH])
{
    for (int attempt = 0; attempt < 6; attempt++) {
        ret_path[0] = '\0';
        for (int depth = 0; depth < DEEPEST; depth++) {
            char name[256];
            size_t length = strlen(ret_path);
            if (!pick_entry(ops, length ? ret_path : ".", name)) break;
            snprintf(ret_path + length, PATH - length, "%s%s", length ? "/" : "", name);
            mode_t found = type_of(ops, ret_path);
            if ((type == 0 || found == type) && (found != S_IFDIR || one_in(ops, 3))) return true;
            if (found != S_IFDIR) break;
        }
        if (ret_path[0] && (type == 0 || type_of(ops, ret_path) == type)) return true;
    }
    return false;
}

/* A name that may or may not be there, in a directory that is. */
static void pick_new(struct random_ops *ops, char ret_path[PATH])
{
    if (one_in(ops, 4) || !pick(ops, S_IFDIR, ret_path)) ret_path[0] = '\0';
    size_t length = strlen(ret_path);
    snprintf(ret_path + length, PATH - length, "%sname_%lu", length ? "/" : "", below(ops, 12));
}

/* ---- operations on names ---- */

static int open_on(const struct random_ops *ops, int side, const char *path, int flags, mode_t mode)
{
    return open(on(ops, side, path), flags | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC, mode);
}

static long closed(int fd, long value)
{
    int error = errno;
    if (fd >= 0) close(fd);
    errno = error;
    return value;
}

static long create_on(struct random_ops *ops, int side, const char *path, mode_t mode, size_t size)
{
    int fd = open_on(ops, side, path, O_CREAT | O_EXCL | O_WRONLY, mode);
    if (fd < 0) return -1;
    made_fill((uint64_t)ops->count, 0, ops->buffers[side], size);
    return closed(fd, write(fd, ops->buffers[side], size));
}

static void op_create(struct random_ops *ops)
{
    char path[PATH];
    pick_new(ops, path);
    mode_t mode = (mode_t)below(ops, 01000);
    size_t size = some_size(ops, one_in(ops, 8) ? LARGEST : PIECE);
    note(ops, "create %s %o %zu", path, mode, size);
    ON_BOTH(ops, create_on(ops, side, path, mode, size));
}

static void op_mkdir(struct random_ops *ops)
{
    char path[PATH];
    pick_new(ops, path);
    mode_t mode = (mode_t)(below(ops, 02000) | (one_in(ops, 4) ? S_ISGID : 0));
    note(ops, "mkdir %s %o", path, mode);
    ON_BOTH(ops, mkdir(on(ops, side, path), mode));
}

static void op_mknod(struct random_ops *ops)
{
    static const mode_t types[] = {S_IFIFO, S_IFSOCK, S_IFCHR, S_IFBLK, S_IFREG};
    char path[PATH];
    pick_new(ops, path);
    mode_t mode = types[below(ops, 5)] | (mode_t)below(ops, 01000);
    dev_t device = makedev(below(ops, 300), below(ops, 100000));
    note(ops, "mknod %s %o %lx", path, mode, device);
    ON_BOTH(ops, mknod(on(ops, side, path), mode, device));
}

static void op_symlink(struct random_ops *ops)
{
    char path[PATH], target[PATH];
    pick_new(ops, path);
    size_t length = 1 + below(ops, one_in(ops, 5) ? PATH - 2 : 80);
    memset(target, 'a' + (int)below(ops, 26), length);
    target[length] = '\0';
    note(ops, "symlink %s of %zu", path, length);
    ON_BOTH(ops, symlink(target, on(ops, side, path)));
}

static void op_link(struct random_ops *ops)
{
    char from[PATH], to[PATH];
    if (!pick(ops, one_in(ops, 5) ? 0 : S_IFREG, from)) return;
    pick_new(ops, to);
    note(ops, "link %s %s", from, to);
    ON_BOTH(ops, link(on(ops, side, from), on(ops, side, to)));
}

static void op_unlink(struct random_ops *ops)
{
    char path[PATH];
    if (!pick(ops, one_in(ops, 8) ? S_IFDIR : 0, path)) return;
    note(ops, "unlink %s", path);
    ON_BOTH(ops, unlink(on(ops, side, path)));
}

static void op_rmdir(struct random_ops *ops)
{
    char path[PATH];
    if (!pick(ops, one_in(ops, 8) ? 0 : S_IFDIR, path)) return;
    note(ops, "rmdir %s", path);
    ON_BOTH(ops, rmdir(on(ops, side, path)));
}

static void op_rename(struct random_ops *ops)
{
    static const unsigned flags[] = {0, 0, 0, RENAME_NOREPLACE, RENAME_EXCHANGE, RENAME_WHITEOUT};
    char from[PATH], to[PATH];
    if (!pick(ops, one_in(ops, 3) ? S_IFDIR : 0, from)) return;
    unsigned flag = flags[below(ops, 6)];
    bool to_existing = flag == RENAME_EXCHANGE || one_in(ops, 3);
    if (!to_existing || !pick(ops, one_in(ops, 2) ? type_of(ops, from) : 0, to)) pick_new(ops, to);
    /* ext4 moves the old directory's times even when such a rename fails because the new one is not empty. */
    if (flag == RENAME_WHITEOUT && type_of(ops, to) == S_IFDIR) flag = 0;
    note(ops, "rename %s %s %x", from, to, flag);
    ON_BOTH(ops, renameat2(AT_FDCWD, on(ops, side, from), AT_FDCWD, on(ops, side, to), flag));
}

/* ---- operations on attributes ---- */

static void op_chmod(struct random_ops *ops)
{
    char path[PATH];
    mode_t mode = (mode_t)below(ops, 010000);
    if (!pick(ops, one_in(ops, 3) ? S_IFDIR : S_IFREG, path)) return;
    note(ops, "chmod %s %o", path, mode);
    ON_BOTH(ops, chmod(on(ops, side, path), mode));
}

static void op_chown(struct random_ops *ops)
{
    static const uid_t ids[] = {0, MADE_UID, MADE_GID, 1000, 4000000000u, (uid_t)-1};
    char path[PATH];
    uid_t uid = ids[below(ops, 6)], gid = ids[below(ops, 6)];
    if (!pick(ops, 0, path)) return;
    note(ops, "chown %s %u %u", path, uid, gid);
    ON_BOTH(ops, lchown(on(ops, side, path), uid, gid));
}

static void op_utimens(struct random_ops *ops)
{
    char path[PATH];
    struct timespec times[2] = {{.tv_nsec = UTIME_OMIT},
                                {(time_t)below(ops, MADE_TIMES_END), (long)below(ops, 1000000000)}};
    if (!pick(ops, 0, path)) return;
    note(ops, "utimens %s %ld.%09ld", path, times[1].tv_sec, times[1].tv_nsec);
    ON_BOTH(ops, utimensat(AT_FDCWD, on(ops, side, path), times, AT_SYMLINK_NOFOLLOW));
}

static void op_setxattr(struct random_ops *ops)
{
    static const int flags[] = {0, 0, 0, XATTR_CREATE, XATTR_REPLACE};
    char path[PATH], name[32], value[60];
    if (!pick(ops, 0, path)) return;
    snprintf(name, sizeof(name), "%s.name_%lu", one_in(ops, 3) ? "trusted" : "user", below(ops, 3));
    size_t size = below(ops, sizeof(value));
    int flag = flags[below(ops, 5)];
    made_fill((uint64_t)ops->count, 0, value, sizeof(value));
    note(ops, "setxattr %s %s %zu %d", path, name, size, flag);
    ON_BOTH(ops, lsetxattr(on(ops, side, path), name, value, size, flag));
}

static void op_removexattr(struct random_ops *ops)
{
    char path[PATH], names[8192];
    if (!pick(ops, 0, path)) return;
    ssize_t size = llistxattr(on(ops, 0, path), names, sizeof(names));
    const char *name = size > 0 ? names : "user.name_0";
    for (const char *at = names; size > 0 && at < names + size; at += strlen(at) + 1)
        if (strncmp(at, "user.", 5) == 0) name = at;
    note(ops, "removexattr %s %s", path, name);
    ON_BOTH(ops, lremovexattr(on(ops, side, path), name));
}

static void op_setacl(struct random_ops *ops)
{
    struct made_acl acl;
    char path[PATH];
    size_t size = made_acl_for_user(&acl, MADE_UID, (unsigned)below(ops, 8), (unsigned)below(ops, 8),
                                    (unsigned)below(ops, 8), (unsigned)below(ops, 8));
    bool is_default = one_in(ops, 2);
    if (!pick(ops, is_default || one_in(ops, 3) ? S_IFDIR : S_IFREG, path)) return;
    note(ops, "acl %s %s", path, is_default ? "default" : "access");
    ON_BOTH(ops, setxattr(on(ops, side, path), is_default ? ACL_DEFAULT_NAME : ACL_ACCESS_NAME, &acl, size, 0));
}

/* ---- operations on contents ---- */

static long write_on(struct random_ops *ops, int side, int fd, size_t size, off_t offset)
{
    if (fd < 0) return -1;
    made_fill((uint64_t)ops->count, 0, ops->buffers[side], size);
    return offset < 0 ? write(fd, ops->buffers[side], size) : pwrite(fd, ops->buffers[side], size, offset);
}

static long opened_write_on(struct random_ops *ops, int side, const char *path, int flags, size_t size, off_t offset)
{
    int fd = open_on(ops, side, path, flags, 0);
    return closed(fd, write_on(ops, side, fd, size, offset));
}

static void op_write(struct random_ops *ops)
{
    char path[PATH];
    if (!pick(ops, S_IFREG, path)) return;
    size_t size = some_size(ops, PIECE);
    off_t offset = one_in(ops, 4) ? -1 : (off_t)some_size(ops, LARGEST);
    int flags =
        O_WRONLY | (offset < 0 ? O_APPEND : 0) | (one_in(ops, 10) ? O_TRUNC : 0) | (one_in(ops, 20) ? O_SYNC : 0);
    note(ops, "write %s %zu at %ld flags %o", path, size, offset, flags);
    ON_BOTH(ops, opened_write_on(ops, side, path, flags, size, offset));
}

static long truncate_on(struct random_ops *ops, int side, const char *path, off_t size)
{
    int fd = open_on(ops, side, path, O_WRONLY, 0);
    return closed(fd, fd < 0 ? -1 : ftruncate(fd, size));
}

static void op_truncate(struct random_ops *ops)
{
    char path[PATH];
    if (!pick(ops, S_IFREG, path)) return;
    off_t size = (off_t)some_size(ops, LARGEST);
    note(ops, "truncate %s %ld", path, size);
    ON_BOTH(ops, truncate_on(ops, side, path, size));
}

static long allocate_on(struct random_ops *ops, int side, const char *path, int mode, off_t offset, off_t size)
{
    int fd = open_on(ops, side, path, O_WRONLY, 0);
    return closed(fd, fd < 0 ? -1 : fallocate(fd, mode, offset, size));
}

static void op_fallocate(struct random_ops *ops)
{
    static const int modes[] = {0, FALLOC_FL_KEEP_SIZE, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
                                FALLOC_FL_ZERO_RANGE, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE};
    char path[PATH];
    if (!pick(ops, S_IFREG, path)) return;
    int mode = modes[below(ops, 5)];
    off_t offset = (off_t)some_size(ops, LARGEST), size = 1 + (off_t)some_size(ops, LARGEST / 2);
    /* Whether a hole punched behind the end moves the mtime depends on the kernel's version. */
    if (mode & FALLOC_FL_PUNCH_HOLE && offset >= size_of(ops, path)) return;
    note(ops, "fallocate %s %x %ld+%ld", path, mode, offset, size);
    ON_BOTH(ops, allocate_on(ops, side, path, mode, offset, size));
}

static long map_on(struct random_ops *ops, int side, const char *path, uint64_t place)
{
    int fd = open_on(ops, side, path, O_RDWR, 0);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) < 0 || st.st_size == 0) return closed(fd, -1);
    size_t size = (size_t)st.st_size, at = place % size, length = size - at < 5000 ? size - at : 5000;
    char *map = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (map == MAP_FAILED) return closed(fd, -2);
    made_fill((uint64_t)ops->count, 0, map + at, length);
    long result = msync(map, size, MS_SYNC);
    munmap(map, size);
    return closed(fd, result);
}

static void op_map(struct random_ops *ops)
{
    char path[PATH];
    if (!pick(ops, S_IFREG, path)) return;
    uint64_t place = below(ops, LARGEST);
    note(ops, "mmap %s %lu", path, place);
    ON_BOTH(ops, map_on(ops, side, path, place));
}

static long copy_on(struct random_ops *ops, int side, const char *from, const char *to, loff_t in, loff_t out,
                    size_t size)
{
    int a = open_on(ops, side, from, O_RDONLY, 0), b = a < 0 ? -1 : open_on(ops, side, to, O_WRONLY, 0);
    long total = b < 0 ? -1 : 0;
    for (ssize_t copied = 1; b >= 0 && copied > 0 && size > 0;) {
        copied = copy_file_range(a, &in, b, &out, size, 0);
        if (copied < 0) total = -1;
        if (copied > 0) total += copied, size -= (size_t)copied;
    }
    closed(b, 0);
    return closed(a, total);
}

static void op_copy(struct random_ops *ops)
{
    char from[PATH], to[PATH];
    if (!pick(ops, S_IFREG, from) || !pick(ops, S_IFREG, to)) return;
    loff_t in = (loff_t)some_size(ops, LARGEST), out = (loff_t)some_size(ops, LARGEST);
    size_t size = some_size(ops, LARGEST / 3);
    note(ops, "copy %s %s %zu from %ld to %ld", from, to, size, in, out);
    ON_BOTH(ops, copy_on(ops, side, from, to, in, out, size));
}

static long read_on(struct random_ops *ops, int side, int fd, size_t size, off_t offset)
{
    return fd < 0 ? -1 : pread(fd, ops->buffers[side], size, offset);
}

static void compare_buffers(struct random_ops *ops, size_t size)
{
    if (ops->is_agreed && memcmp(ops->buffers[0], ops->buffers[1], size) != 0) disagree(ops, "other bytes read");
}

static void op_read(struct random_ops *ops)
{
    char path[PATH];
    if (!pick(ops, S_IFREG, path)) return;
    size_t size = some_size(ops, LARGEST);
    off_t offset = (off_t)some_size(ops, LARGEST);
    note(ops, "read %s %zu at %ld", path, size, offset);
    for (int side = 0; side < SIDES; side++) memset(ops->buffers[side], 0, LARGEST);
    int fds[SIDES] = {open_on(ops, 0, path, O_RDONLY, 0), open_on(ops, 1, path, O_RDONLY, 0)};
    ON_BOTH(ops, read_on(ops, side, fds[side], size, offset));
    for (int side = 0; side < SIDES; side++) closed(fds[side], 0);
    compare_buffers(ops, LARGEST);
}

/* ---- files kept open, with and without a name ---- */

static void op_keep_open(struct random_ops *ops)
{
    char path[PATH];
    int *slot = ops->slots[below(ops, SLOTS)];
    for (int side = 0; side < SIDES; side++) slot[side] = (int)closed(slot[side], -1);
    if (!pick(ops, S_IFREG, path)) return;
    note(ops, "keep open %s", path);
    ON_BOTH(ops, (slot[side] = open_on(ops, side, path, O_RDWR, 0)) < 0 ? -1 : 0);
}

static long stat_on(int fd, struct stat *ret_st)
{
    memset(ret_st, 0, sizeof(*ret_st));
    return fstat(fd, ret_st);
}

static void op_use_open(struct random_ops *ops)
{
    const int *slot = ops->slots[below(ops, SLOTS)];
    if (slot[0] < 0) return;
    struct stat st[SIDES];
    size_t size = some_size(ops, PIECE);
    off_t offset = (off_t)some_size(ops, LARGEST);
    uint64_t what = below(ops, 5);
    note(ops, "use open %lu %zu at %ld", what, size, offset);
    for (int side = 0; side < SIDES; side++) memset(ops->buffers[side], 0, LARGEST);
    if (what == 0)
        ON_BOTH(ops, write_on(ops, side, slot[side], size, offset));
    else if (what == 1)
        ON_BOTH(ops, ftruncate(slot[side], offset));
    else if (what == 2)
        ON_BOTH(ops, fchmod(slot[side], (mode_t)(size & 0777)));
    else
        ON_BOTH(ops, read_on(ops, side, slot[side], size, offset));
    if (what > 2) compare_buffers(ops, size);
    ON_BOTH(ops, stat_on(slot[side], &st[side]));
    bool is_same = st[0].st_size == st[1].st_size && st[0].st_nlink == st[1].st_nlink && st[0].st_mode == st[1].st_mode;
    if (!is_same)
        disagree(ops, "mode %o, not %o; size %ld, not %ld; nlink %lu, not %lu", st[1].st_mode, st[0].st_mode, st[1].st_size,
                 st[0].st_size, st[1].st_nlink, st[0].st_nlink);
}

static void op_stat(struct random_ops *ops)
{
    char path[PATH];
    struct stat st[SIDES] = {0};
    pick_new(ops, path);
    note(ops, "stat %s", path);
    ON_BOTH(ops, lstat(on(ops, side, path), &st[side]));
    if (st[0].st_mode != st[1].st_mode || st[0].st_nlink != st[1].st_nlink)
        disagree(ops, "mode %o, not %o", st[1].st_mode, st[0].st_mode);
}

/* ---- the sequence ---- */

static const struct {
    void (*run)(struct random_ops *ops);
    unsigned weight;
} operations[] = {
    {op_create, 10},     {op_mkdir, 6},   {op_mknod, 3},     {op_symlink, 3},  {op_link, 5},      {op_unlink, 6},
    {op_rmdir, 3},       {op_rename, 14}, {op_chmod, 4},     {op_chown, 3},    {op_utimens, 4},   {op_setxattr, 5},
    {op_removexattr, 2}, {op_setacl, 2},  {op_write, 14},    {op_truncate, 6}, {op_fallocate, 6}, {op_map, 3},
    {op_copy, 4},        {op_read, 6},    {op_keep_open, 4}, {op_use_open, 8}, {op_stat, 6},
};

struct random_ops *random_ops_new(const char *expected, const char *found, uint64_t seed)
{
    struct random_ops *ops = calloc(1, sizeof(*ops));
    assert_non_null(ops);
    ops->roots[0] = expected, ops->roots[1] = found;
    ops->state = seed ? seed : 1;
    ops->is_agreed = true;
    memset(ops->slots, -1, sizeof(ops->slots));
    for (int side = 0; side < SIDES; side++) {
        ops->buffers[side] = malloc(LARGEST + PIECE);
        assert_non_null(ops->buffers[side]);
    }
    return ops;
}

void random_ops_close(struct random_ops *ops)
{
    for (int slot = 0; slot < SLOTS; slot++)
        for (int side = 0; side < SIDES; side++) ops->slots[slot][side] = (int)closed(ops->slots[slot][side], -1);
}

void random_ops_free(struct random_ops *ops)
{
    if (!ops) return;
    random_ops_close(ops);
    for (int side = 0; side < SIDES; side++) free(ops->buffers[side]);
    free(ops);
}

long random_ops_count(const struct random_ops *ops)
{
    return ops->count;
}

bool random_ops_step(struct random_ops *ops)
{
    unsigned total = 0, chosen = 0;
    for (size_t i = 0; i < sizeof(operations) / sizeof(operations[0]); i++) total += operations[i].weight;
    uint64_t place = below(ops, total);
    while (place >= operations[chosen].weight) place -= operations[chosen++].weight;
    ops->count++;
    ops->notes[ops->count % NOTES][0] = '\0';
    operations[chosen].run(ops);
    if (!ops->is_agreed) random_ops_print(ops);
    return ops->is_agreed;
}
