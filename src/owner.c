#include "owner.h"

#include <errno.h>
#include <mntent.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "io.h"
#include "log.h"
#include "service.h"

#define BEGIN "# For the mount on "

char *owner_line(const char *mountpoint)
{
    char *line = NULL;
    size_t size;
    FILE *out = open_memstream(&line, &size);

    if (!out) return NULL;
    fputs(BEGIN, out);
    for (const char *c = mountpoint; *c; c++)
        if (*c == '\n' || *c == '\\') fprintf(out, "\\%03o", *c);
        else putc(*c, out);
    putc('\n', out);
    if (fclose(out) == 0) return line;
    free(line);
    return NULL;
}

/* Which of the mounts that are there does the line name? NULL: none. */
static char *find_mount(const char *line)
{
    FILE *mounts = setmntent("/proc/self/mounts", "re");
    char *found = NULL;

    for (struct mntent *entry; mounts && !found && (entry = getmntent(mounts));) {
        _cleanup_free_ char *own = strcmp(entry->mnt_type, "fuse.coppice") == 0 ? owner_line(entry->mnt_dir) : NULL;

        if (own && strncmp(line, own, strlen(own)) == 0) found = io_format("%s", entry->mnt_dir);
    }
    if (mounts) endmntent(mounts);
    return found;
}

int owner_other(const char *path, const char *mountpoint, bool *ret_is_other, char **ret_other)
{
    _cleanup_free_ char *text = NULL, *own = owner_line(mountpoint);
    const char *line;

    *ret_is_other = false;
    *ret_other = NULL;
    if (!own) return -ENOMEM;
    if (service_read(path, &text) < 0) return 0;
    line = strstr(text, BEGIN);
    if (!line || strncmp(line, own, strlen(own)) == 0) return 0;
    *ret_is_other = true;
    *ret_other = find_mount(line);
    return 0;
}

int owner_check(const char *path, const char *mountpoint)
{
    _cleanup_free_ char *other = NULL;
    bool is_other;
    int r = owner_other(path, mountpoint, &is_other, &other);

    if (r < 0 || !other) return r;
    log_error("%s: serves the mount on %s, and a machine serves one; 'coppice umount %s' ends that", path, other,
              other);
    return -EBUSY;
}
