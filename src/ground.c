#include "ground.h"

#include <errno.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include "io.h"
#include "log.h"

#define BLOCK_MOST 4096 /* content.h's page: a larger block shows whole where a part of it was written */

static bool has_option(const char *options, const char *option)
{
    size_t length = strlen(option);

    for (const char *at = options; (at = strstr(at, option)); at += length)
        if ((at == options || at[-1] == ',') && (at[length] == ',' || at[length] == '\0')) return true;
    return false;
}

const char *ground_fault(const struct statvfs *disk, const char *options)
{
    if (has_option(options, "nobarrier") || has_option(options, "barrier=0"))
        return "it is mounted without barriers, so that a power cut may take back what was answered";
    if (has_option(options, "data=writeback"))
        return "it is mounted with data=writeback, so that files may hold anything after a power cut";
    if (disk->f_frsize > BLOCK_MOST)
        return "its blocks are larger than 4096 bytes, so that what was written without fsync may read as zeros after a power cut";
    return NULL;
}

/* The options of the file system, the last words of its line in mountinfo(5); "" where no line is of this device. */
static char *read_options(dev_t dev)
{
    FILE *file = fopen("/proc/self/mountinfo", "re");
    _cleanup_free_ char *line = NULL;
    unsigned major, minor;
    size_t room = 0;
    char *found = NULL;

    while (file && !found && getline(&line, &room, file) > 0) {
        const char *last;

        if (sscanf(line, "%*u %*u %u:%u", &major, &minor) != 2 || makedev(major, minor) != dev) continue;
        line[strcspn(line, "\n")] = '\0';
        last = strrchr(line, ' ');
        if (last) found = io_format("%s", last + 1);
    }
    if (file) fclose(file);
    return found ? found : io_format("%s", "");
}

void ground_check(int fd, const char *path)
{
    _cleanup_free_ char *options = NULL;
    struct statvfs disk;
    const char *fault;
    struct stat st;

    if (fstat(fd, &st) < 0 || fstatvfs(fd, &disk) < 0 || !(options = read_options(st.st_dev))) return;
    fault = ground_fault(&disk, options);
    if (fault) log_warning("%s: its file system is none for a store: %s", path, fault);
}
