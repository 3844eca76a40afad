#include "import_disk.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

#include "import_log.h"
#include "import_partitions.h"
#include "import_unpack.h"
#include "import_volume.h"
#include "io.h"
#include "log.h"
#include "rootdir.h"

#define FSTAB_MOST (1 << 20)
#define BOOTS_MAX 8

/* A partition that belongs on the root. */
struct boot {
    const struct import_partition *partition;
    char place[256]; /* "/boot/firmware" */
};

struct importing {
    const struct import_disk *disk;
    int fd;            /* of the image, unpacked */
    bool is_private;   /* the file is ours, and nobody else sees it */
    char what[96];     /* the progress line's beginning */
    struct import_partitions partitions;
    const struct import_partition *root;
    struct boot boots[BOOTS_MAX];
    size_t boot_count;
};

static int failed(const struct importing *importing, int r)
{
    return import_failed(importing->disk->progress, r, "%s: %s", importing->disk->source, log_reason(r));
}

static void begin(struct importing *importing, const char *what)
{
    snprintf(importing->what, sizeof(importing->what), "%s %s", what, importing->disk->name);
    progress_restart(importing->disk->progress, importing->what, 0);
}

/* ---- the file ---- */

static int get_file(struct importing *importing)
{
    const struct import_disk *disk = importing->disk;

    if (import_bytes_is_plain(disk->bytes) && lseek(disk->source_fd, 0, SEEK_CUR) >= 0) {
        importing->fd = fcntl(disk->source_fd, F_DUPFD_CLOEXEC, 3);
        return importing->fd < 0 ? failed(importing, -errno) : 0;
    }
    begin(importing, "unpacking");
    importing->fd = import_unpack(disk->bytes, disk->source, disk->work_fd, disk->progress);
    importing->is_private = true;
    return importing->fd < 0 ? importing->fd : 0;
}

static int get_private(struct importing *importing)
{
    const struct import_disk *disk = importing->disk;
    int fd;

    begin(importing, "copying");
    fd = import_unpack_copy(importing->fd, disk->source, disk->work_fd, disk->progress);
    if (fd < 0) return fd;
    close(importing->fd);
    importing->fd = fd;
    importing->is_private = true;
    return 0;
}

/* ---- volumes ---- */

/* The file is copied first where the file system must be mended. */
static int open_volume(struct importing *importing, const struct import_partition *partition,
                       struct import_volume *volume)
{
    int r;

    *volume = (struct import_volume){
        .source = importing->disk->source,
        .partition = partition,
        .disk_fd = importing->fd,
        .progress = importing->disk->progress,
    };
    r = import_volume_open(volume, importing->is_private);
    if (r != -ENOTUNIQ) return r;
    r = get_private(importing);
    if (r < 0) return r;
    volume->disk_fd = importing->fd;
    return import_volume_open(volume, true);
}

static int cannot_mount(const struct importing *importing, const struct import_partition *partition)
{
    return import_failed(importing->disk->progress, -ENODEV, "%s: %s: this kernel cannot mount a file system of this type",
                         importing->disk->source, import_partition_name(partition));
}

/* What there is, for a message. */
static void describe(const struct importing *importing, char *text, size_t size)
{
    size_t used = 0;

    *text = '\0';
    for (size_t i = 0; i < importing->partitions.count && used < size; i++)
        used += snprintf(text + used, size - used, "%s%s", i ? ", " : "",
                         import_partition_name(&importing->partitions.items[i]));
}

static int no_root(const struct importing *importing)
{
    char text[512];

    describe(importing, text, sizeof(text));
    return import_failed(importing->disk->progress, -EINVAL, "%s: no root file system found in it, but %s",
                         importing->disk->source, *text ? text : "an empty partition table");
}

static int two_roots(const struct importing *importing, const struct import_partition *other)
{
    return import_failed(importing->disk->progress, -EINVAL,
                         "%s: partitions %d and %d both hold a root file system; choose one with --partition N",
                         importing->disk->source, importing->root->number, other->number);
}

/* 1: there is a root on it. */
static int is_root(struct importing *importing, const struct import_partition *partition)
{
    struct import_volume volume;
    int r = open_volume(importing, partition, &volume);

    if (r < 0) return r;
    r = import_volume_is_root(&volume);
    import_volume_close(&volume);
    return r;
}

static int find_root(struct importing *importing)
{
    const struct import_partition *unreadable = NULL;

    for (size_t i = 0; i < importing->partitions.count; i++) {
        const struct import_partition *partition = &importing->partitions.items[i];
        int r = import_volume_may_be_root(partition) ? is_root(importing, partition) : 0;

        if (r == -ENODEV) unreadable = partition;
        else if (r < 0) return r;
        if (r <= 0) continue;
        if (importing->root) return two_roots(importing, partition);
        importing->root = partition;
    }
    if (importing->root) return 0;
    return unreadable ? cannot_mount(importing, unreadable) : no_root(importing);
}

static int take_root(struct importing *importing)
{
    const struct import_disk *disk = importing->disk;
    int r = 0;

    for (size_t i = 0; i < importing->partitions.count; i++)
        if (importing->partitions.items[i].number == disk->partition) importing->root = &importing->partitions.items[i];
    if (!importing->root)
        return import_failed(disk->progress, -EINVAL, "%s: has no partition %d", disk->source, disk->partition);
    if (import_volume_may_be_root(importing->root)) r = is_root(importing, importing->root);
    if (r == -ENODEV) return cannot_mount(importing, importing->root);
    if (r != 0) return r < 0 ? r : 0;
    return import_failed(disk->progress, -EINVAL, "%s: %s holds no root file system", disk->source,
                         import_partition_name(importing->root));
}

/* ---- copying ---- */

static int check_room(const struct importing *importing, const struct import_volume *volume)
{
    const struct import_disk *disk = importing->disk;
    int64_t used = import_volume_used(volume), room;
    struct statvfs st;

    if (fstatvfs(disk->work_fd, &st) < 0) return failed(importing, -errno);
    room = (int64_t)st.f_bavail * st.f_frsize;
    if (used <= room) return 0;
    return import_failed(disk->progress, -ENOSPC, "%s: its root needs %lld MiB, and the store's disk has %lld MiB free",
                         disk->source, ((long long)used >> 20) + 1, (long long)room >> 20);
}

static int copy(struct importing *importing, const struct import_partition *partition, int to_fd)
{
    const struct import_disk *disk = importing->disk;
    struct import_volume volume;
    int r = open_volume(importing, partition, &volume);

    if (r == -ENODEV) return cannot_mount(importing, partition);
    if (r < 0) return r;
    r = check_room(importing, &volume);
    if (r == 0) r = import_volume_copy(&volume, to_fd, disk->store_fd, disk->work_fd);
    import_volume_close(&volume);
    return r;
}

static int copy_root(struct importing *importing)
{
    begin(importing, "importing");
    return copy(importing, importing->root, importing->disk->rootfs_fd);
}

/* ---- where boot partitions belong ---- */

static bool is_boot_place(const char *place)
{
    return strcmp(place, "/boot") == 0 || strncmp(place, "/boot/", 6) == 0 || strcmp(place, "/efi") == 0;
}

static const struct import_partition *find_partition(const struct importing *importing, const char *spec)
{
    for (size_t i = 0; i < importing->partitions.count; i++)
        if (import_partition_is(&importing->partitions.items[i], spec)) return &importing->partitions.items[i];
    return NULL;
}

static void add_boot(struct importing *importing, const struct import_partition *partition, const char *place)
{
    struct boot *boot = &importing->boots[importing->boot_count];
    size_t length = strlen(place);

    if (!partition || partition == importing->root || importing->boot_count == BOOTS_MAX) return;
    while (length > 1 && place[length - 1] == '/') length--;
    if (length >= sizeof(boot->place)) return;
    boot->partition = partition;
    snprintf(boot->place, sizeof(boot->place), "%.*s", (int)length, place);
    importing->boot_count++;
}

/* In the order of the file, which is the one in which they are mounted. */
static int read_fstab(struct importing *importing)
{
    _cleanup_free_ char *text = NULL;
    struct mntent entry;
    char line[4096];
    size_t size;
    FILE *file;
    int r = rootdir_read(importing->disk->rootfs_fd, "/etc/fstab", FSTAB_MOST, &text, &size);

    if (r < 0 || size == 0) return r < 0 && r != -ENOENT ? failed(importing, r) : 0;
    file = fmemopen(text, size, "r");
    if (!file) return failed(importing, -errno);
    while (getmntent_r(file, &entry, line, sizeof(line)))
        if (is_boot_place(entry.mnt_dir))
            add_boot(importing, find_partition(importing, entry.mnt_fsname), entry.mnt_dir);
    fclose(file);
    return 0;
}

/* The image's fstab does not tell: a FAT partition in front of the root is where the board's ROM looks. */
static void guess_boot(struct importing *importing)
{
    const char *place = rootdir_has(importing->disk->rootfs_fd, "/boot/firmware") ? "/boot/firmware" : "/boot";

    for (size_t i = 0; i < importing->partitions.count && importing->boot_count == 0; i++)
        if (strcmp(importing->partitions.items[i].type, "vfat") == 0)
            add_boot(importing, &importing->partitions.items[i], place);
}

/* ---- boot partitions ---- */

/* The directory that holds `place`, made as far as it is missing. */
static int open_parent(const struct importing *importing, char *place, const char **ret_name)
{
    int fd = io_open_beneath(importing->disk->rootfs_fd, ".", O_RDONLY | O_DIRECTORY, 0);
    char *at = place + 1, *cut;

    while (fd >= 0 && (cut = strchr(at, '/'))) {
        int next;

        *cut = '\0';
        if (mkdirat(fd, at, 0755) < 0 && errno != EEXIST) {
            next = -errno;
        } else {
            next = rootdir_open(importing->disk->rootfs_fd, place, O_RDONLY | O_DIRECTORY);
        }
        *cut = '/';
        close(fd);
        fd = next;
        at = cut + 1;
    }
    *ret_name = at;
    return fd;
}

/* As a mount would, it hides what the root has there; the directory around it keeps its time. */
static int put_in_place(const struct importing *importing, const char *staging, struct boot *boot)
{
    const char *name;
    _cleanup_close_ int parent_fd = open_parent(importing, boot->place, &name);
    struct stat st;
    int r;

    if (parent_fd < 0) return parent_fd;
    if (fstat(parent_fd, &st) < 0) return -errno;
    r = io_remove_tree(parent_fd, name);
    if (r < 0) return r;
    if (renameat(importing->disk->work_fd, staging, parent_fd, name) < 0) return -errno;
    return futimens(parent_fd, (struct timespec[2]){st.st_mtim, st.st_mtim}) < 0 ? -errno : 0;
}

static int copy_boot(struct importing *importing, struct boot *boot)
{
    static const char staging[] = "boot";
    const struct import_disk *disk = importing->disk;
    _cleanup_close_ int fd = -1;
    int r;

    if (mkdirat(disk->work_fd, staging, 0755) < 0) return failed(importing, -errno);
    fd = io_open_beneath(disk->work_fd, staging, O_RDONLY | O_DIRECTORY, 0);
    if (fd < 0) return failed(importing, fd);
    r = copy(importing, boot->partition, fd);
    if (r < 0) return r;
    r = put_in_place(importing, staging, boot);
    if (r == 0) return 0;
    return import_failed(disk->progress, r, "%s: its %s cannot be put at %s: %s", disk->source,
                         import_partition_name(boot->partition), boot->place, log_reason(r));
}

static int copy_boots(struct importing *importing)
{
    int r = read_fstab(importing);

    if (r < 0) return r;
    if (importing->boot_count == 0) guess_boot(importing);
    for (size_t i = 0; r == 0 && i < importing->boot_count; i++) r = copy_boot(importing, &importing->boots[i]);
    return r;
}

int import_disk(const struct import_disk *disk)
{
    struct importing importing = {.disk = disk, .fd = -1};
    int r = get_file(&importing);

    if (r == 0) r = import_partitions_read(&importing.partitions, importing.fd, disk->source, disk->progress);
    if (r == 0) r = disk->partition ? take_root(&importing) : find_root(&importing);
    if (r == 0) r = copy_root(&importing);
    if (r == 0) r = copy_boots(&importing);
    import_partitions_free(&importing.partitions);
    if (importing.fd >= 0) close(importing.fd);
    return r;
}
