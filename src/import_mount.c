#include "import_mount.h"

#include <errno.h>
#include <linux/loop.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>

#include "io.h"

/* Another program may take a free loop device between the question and the answer. */
#define LOOP_TRIES 32

/* Options that keep a file system from writing to a device that is read-only, or from refusing it. */
static const struct option {
    const char *type, *key, *value; /* value NULL: a flag */
    bool unless_replay;
} options[] = {
    {"ext4", "noload", NULL, true},
    {"xfs", "norecovery", NULL, true},
    {"xfs", "nouuid", NULL, false},
    {"btrfs", "rescue", "nologreplay", true},
    {"f2fs", "norecovery", NULL, true},
    /* As mcopy gives them: times as they lie there, names in UTF-8; owner and modes are the same in every mount. */
    {"vfat", "tz", "UTC", false},
    {"vfat", "utf8", "1", false},
    {"vfat", "uid", "0", false},
    {"vfat", "gid", "0", false},
    {"vfat", "umask", "0022", false},
};

static int configure(int control, const struct import_mount *mount, char path[32])
{
    struct loop_config config = {
        .fd = mount->fd,
        .info =
            {
                .lo_offset = mount->start,
                .lo_sizelimit = mount->size,
                .lo_flags = LO_FLAGS_AUTOCLEAR | (mount->replay ? 0 : LO_FLAGS_READ_ONLY),
            },
    };
    int number = ioctl(control, LOOP_CTL_GET_FREE), fd, r = 0;

    if (number < 0) return -errno;
    snprintf(path, 32, "/dev/loop%d", number);
    fd = open(path, (mount->replay ? O_RDWR : O_RDONLY) | O_CLOEXEC);
    if (fd < 0) return -errno;
    if (ioctl(fd, LOOP_CONFIGURE, &config) < 0) r = -errno;
    if (r == 0) return fd;
    close(fd);
    return r;
}

static int open_loop(const struct import_mount *mount, char path[32])
{
    _cleanup_close_ int control = open("/dev/loop-control", O_RDWR | O_CLOEXEC);
    int fd = control < 0 ? -errno : -EBUSY;

    for (int tries = 0; fd == -EBUSY && tries < LOOP_TRIES; tries++) fd = configure(control, mount, path);
    /* Whatever is missing, it is for want of a loop device. */
    return fd < 0 && fd != -EPERM && fd != -EACCES ? -ENXIO : fd < 0 ? -EPERM : fd;
}

static int set_options(int context, const struct import_mount *mount, const char *path)
{
    if (fsconfig(context, FSCONFIG_SET_STRING, "source", path, 0) < 0) return -errno;
    if (fsconfig(context, FSCONFIG_SET_FLAG, "ro", NULL, 0) < 0) return -errno;
    for (size_t i = 0; i < sizeof(options) / sizeof(*options); i++) {
        const struct option *option = &options[i];
        unsigned command = option->value ? FSCONFIG_SET_STRING : FSCONFIG_SET_FLAG;

        if (strcmp(option->type, mount->type) != 0 || (option->unless_replay && mount->replay)) continue;
        if (fsconfig(context, command, option->key, option->value, 0) < 0) return -errno;
    }
    return 0;
}

/* fsopen(2): messages are read from its descriptor, each with a letter for its level in front. */
static void read_reason(int context, char *reason, size_t size)
{
    char text[256];
    ssize_t n = read(context, text, sizeof(text) - 1);

    if (n <= 2) return;
    text[n] = '\0';
    text[strcspn(text, "\n")] = '\0';
    snprintf(reason, size, "%s", text + 2);
}

int import_mount(const struct import_mount *mount, char *reason, size_t size)
{
    _cleanup_close_ int context = fsopen(mount->type, FSOPEN_CLOEXEC), loop = -1, handle = -1;
    char path[32];
    int fd, r;

    *reason = '\0';
    if (context < 0) return -errno;
    loop = open_loop(mount, path);
    if (loop < 0) return loop;
    r = set_options(context, mount, path);
    if (r == 0 && fsconfig(context, FSCONFIG_CMD_CREATE, NULL, NULL, 0) < 0) r = -errno;
    if (r < 0) {
        read_reason(context, reason, size);
        return r == -ENODEV || r == -ENXIO ? -EIO : r;
    }
    handle = fsmount(context, FSMOUNT_CLOEXEC, MOUNT_ATTR_RDONLY | MOUNT_ATTR_NODEV | MOUNT_ATTR_NOSUID);
    if (handle < 0) return -errno;
    /* It hangs nowhere, and would be gone with its own descriptor (as O_PATH, which cannot be read from): one of its root
     * directory keeps it. */
    fd = openat(handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}
