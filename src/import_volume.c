#include "import_volume.h"

#include <errno.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "import_directory.h"
#include "import_ext.h"
#include "import_fat.h"
#include "import_log.h"
#include "import_mount.h"
#include "io.h"
#include "log.h"
#include "rootdir.h"

static bool is_one_of(const char *type, const char *const *types)
{
    while (*types && strcmp(type, *types) != 0) types++;
    return *types != NULL;
}

static bool is_ext(const struct import_partition *partition)
{
    static const char *const types[] = {"ext2", "ext3", "ext4", NULL};

    return is_one_of(partition->type, types);
}

static bool is_fat(const struct import_partition *partition)
{
    return strcmp(partition->type, "vfat") == 0;
}

bool import_volume_may_be_root(const struct import_partition *partition)
{
    static const char *const types[] = {"btrfs", "f2fs", "xfs", "squashfs", "erofs", NULL};

    return is_ext(partition) || is_one_of(partition->type, types);
}

bool import_volume_may_be_boot(const struct import_partition *partition)
{
    return is_fat(partition) || import_volume_may_be_root(partition);
}

static struct import_ext ext_of(const struct import_volume *volume)
{
    return (struct import_ext){
        .source = volume->source,
        .fd = volume->disk_fd,
        .partition = volume->partition,
        .progress = volume->progress,
    };
}

static int failed(const struct import_volume *volume, int r, const char *reason)
{
    return import_failed(volume->progress, r, "%s: %s: %s", volume->source, import_partition_name(volume->partition),
                         reason);
}

/* 1: its journal holds what is not in its place yet. */
static int check(const struct import_volume *volume)
{
    const struct import_ext ext = ext_of(volume);
    bool is_dirty = false;
    int r = is_ext(volume->partition) ? import_ext_check(&ext, &is_dirty) : 0;

    return r < 0 ? r : is_dirty;
}

/* No means of mounting it, which is no reason to give up. */
static int without_mount(const struct import_volume *volume, int r, bool is_dirty)
{
    if (is_fat(volume->partition)) return 0;
    if (!is_ext(volume->partition))
        return r == -ENODEV ? r : failed(volume, r, "needs a loop device, and this system has none for us");
    if (is_dirty)
        return failed(volume, -EINVAL,
                      "was not unmounted, and this system cannot mount it to mend that; 'e2fsck -p' on a copy does");
    return 0;
}

int import_volume_open(struct import_volume *volume, bool is_private)
{
    const struct import_partition *partition = volume->partition;
    struct import_mount mount = {
        .type = is_ext(partition) ? "ext4" : partition->type,
        .fd = volume->disk_fd,
        .start = partition->start,
        .size = partition->size,
    };
    char reason[256];
    int r = check(volume);

    volume->root_fd = -1;
    if (r < 0) return r;
    mount.replay = r > 0;
    if (mount.replay && !is_private) return -ENOTUNIQ;
    r = import_mount(&mount, reason, sizeof(reason));
    if (r >= 0) volume->root_fd = r;
    if (r >= 0) return 0;
    if (r == -ENODEV || r == -ENXIO || r == -EPERM) return without_mount(volume, r, mount.replay);
    return failed(volume, r, *reason ? reason : log_reason(r));
}

void import_volume_close(struct import_volume *volume)
{
    if (volume->root_fd >= 0) close(volume->root_fd);
    volume->root_fd = -1;
}

static bool has(const struct import_volume *volume, const char *path)
{
    const struct import_ext ext = ext_of(volume);

    if (volume->root_fd >= 0) return rootdir_has(volume->root_fd, path);
    return is_ext(volume->partition) && import_ext_has(&ext, path);
}

bool import_volume_is_root(const struct import_volume *volume)
{
    static const char *const signs[] = {"/sbin/init", "/usr/sbin/init", "/etc/os-release", "/usr/lib/os-release",
                                        "/bin/sh",    "/usr/bin/sh"};

    if (!has(volume, "/etc")) return false;
    for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++)
        if (has(volume, signs[i])) return true;
    return false;
}

int import_volume_copy(const struct import_volume *volume, int to_fd, int store_fd, int work_fd)
{
    const struct import_ext ext = ext_of(volume);
    const struct import_fat fat = {
        .source = volume->source,
        .partition = import_partition_name(volume->partition),
        .fd = volume->disk_fd,
        .start = volume->partition->start,
        .to_fd = to_fd,
        .progress = volume->progress,
    };
    const struct import_directory directory = {
        .source = volume->source,
        .source_fd = volume->root_fd,
        .rootfs_fd = to_fd,
        .store_fd = store_fd,
        .work_fd = work_fd,
        .progress = volume->progress,
    };

    if (volume->root_fd >= 0) return import_directory(&directory);
    return is_fat(volume->partition) ? import_fat(&fat) : import_ext_copy(&ext, to_fd);
}

int64_t import_volume_used(const struct import_volume *volume)
{
    struct statvfs st;

    if (volume->root_fd < 0 || fstatvfs(volume->root_fd, &st) < 0) return 0;
    return (int64_t)(st.f_blocks - st.f_bfree) * st.f_frsize;
}
