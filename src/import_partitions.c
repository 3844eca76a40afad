#include "import_partitions.h"

#include <blkid/blkid.h>
#include <ctype.h>
#include <endian.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "import_log.h"
#include "io.h"
#include "log.h"

#define SECTOR 512
/* The last two bytes of a boot sector, MBR or FAT (UEFI specification 2.10, 5.2.1). */
#define BOOT_SIGN_AT 510
#define BOOT_SIGN "\x55\xaa"
/* The header of a GPT (5.3.2): its sign, and the number of the sector where its copy ends the disk. */
#define GPT_SIGN_AT SECTOR
#define GPT_SIGN "EFI PART"
#define GPT_LAST_AT (SECTOR + 32)
/* Of a tar header (POSIX pax), in both its forms. */
#define TAR_SIGN_AT 257
#define TAR_SIGN "ustar"

struct sign {
    size_t at;
    const char *bytes;
    size_t size;
};

static bool has_sign(const char *head, size_t size, const struct sign *sign)
{
    return size >= sign->at + sign->size && memcmp(head + sign->at, sign->bytes, sign->size) == 0;
}

bool import_partitions_are_in(const void *head, size_t size)
{
    static const struct sign tar = {TAR_SIGN_AT, TAR_SIGN, 5};
    static const struct sign signs[] = {
        {BOOT_SIGN_AT, BOOT_SIGN, 2}, {GPT_SIGN_AT, GPT_SIGN, 8},     {1024 + 56, "\x53\xef", 2}, /* ext2, 3, 4 */
        {65536 + 64, "_BHRfS_M", 8},  {1024, "\x10\x20\xf5\xf2", 4}, /* btrfs, f2fs */
        {0, "XFSB", 4},               {0, "hsqs", 4},                 {1024, "\xe2\xe1\xf5\xe0", 4}, /* erofs */
    };

    if (has_sign(head, size, &tar)) return false;
    for (size_t i = 0; i < sizeof(signs) / sizeof(*signs); i++)
        if (has_sign(head, size, &signs[i])) return true;
    return false;
}

struct reader {
    const char *source;
    struct progress *progress;
    int fd;
    int64_t size; /* of the file */
};

static void copy_value(blkid_probe probe, const char *name, char *buffer, size_t size)
{
    const char *value;

    if (blkid_probe_lookup_value(probe, name, &value, NULL) < 0) value = "";
    snprintf(buffer, size, "%s", value);
}

static int no_memory(const struct reader *reader)
{
    return import_failed(reader->progress, -ENOMEM, "%s: %s", reader->source, log_reason(-ENOMEM));
}

/* What file system is in it. Two that contradict each other: none. */
static int probe_type(const struct reader *reader, struct import_partition *partition)
{
    blkid_probe probe = blkid_new_probe();

    if (!probe) return no_memory(reader);
    if (blkid_probe_set_device(probe, reader->fd, partition->start, partition->size) == 0) {
        blkid_probe_enable_superblocks(probe, true);
        blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE | BLKID_SUBLKS_UUID | BLKID_SUBLKS_LABEL);
        if (blkid_do_safeprobe(probe) == 0) {
            copy_value(probe, "TYPE", partition->type, sizeof(partition->type));
            copy_value(probe, "UUID", partition->uuid, sizeof(partition->uuid));
            copy_value(probe, "LABEL", partition->label, sizeof(partition->label));
        }
    }
    blkid_free_probe(probe);
    return 0;
}

static int add(struct import_partitions *partitions, const struct reader *reader,
               const struct import_partition *partition)
{
    struct import_partition *grown =
        reallocarray(partitions->items, partitions->count + 1, sizeof(*partitions->items));

    if (!grown) return no_memory(reader);
    partitions->items = grown;
    partitions->items[partitions->count] = *partition;
    return probe_type(reader, &partitions->items[partitions->count++]);
}

static int add_partition(struct import_partitions *partitions, const struct reader *reader, blkid_partition found)
{
    struct import_partition partition = {
        .number = blkid_partition_get_partno(found),
        .start = blkid_partition_get_start(found) * SECTOR,
        .size = blkid_partition_get_size(found) * SECTOR,
    };
    const char *uuid = blkid_partition_get_uuid(found), *label = blkid_partition_get_name(found);

    if (blkid_partition_is_extended(found) || partition.size == 0) return 0;
    if (partition.start > reader->size || partition.size > reader->size - partition.start)
        return import_failed(reader->progress, -EINVAL,
                             "%s: truncated or damaged: partition %d ends at byte %lld, the file at byte %lld",
                             reader->source, partition.number, (long long)(partition.start + partition.size),
                             (long long)reader->size);
    snprintf(partition.part_uuid, sizeof(partition.part_uuid), "%s", uuid ? uuid : "");
    snprintf(partition.part_label, sizeof(partition.part_label), "%s", label ? label : "");
    return add(partitions, reader, &partition);
}

/* libblkid takes no GPT that ends behind the file's end, and sees the one protective partition of the MBR instead. */
static int check_gpt(const struct reader *reader, const char *table)
{
    static const struct sign gpt = {GPT_SIGN_AT, GPT_SIGN, 8};
    char head[2 * SECTOR];
    ssize_t n = io_pread(reader->fd, head, sizeof(head), 0);
    uint64_t last;

    if (n < 0 || !has_sign(head, n, &gpt) || strcmp(table, "gpt") == 0) return 0;
    memcpy(&last, head + GPT_LAST_AT, sizeof(last));
    last = le64toh(last);
    if (last >= (uint64_t)reader->size / SECTOR)
        return import_failed(reader->progress, -EINVAL,
                             "%s: truncated or damaged: its partition table is of a disk of %llu bytes, it has %lld",
                             reader->source, (unsigned long long)(last + 1) * SECTOR, (long long)reader->size);
    return import_failed(reader->progress, -EINVAL, "%s: its partition table (GPT) is damaged", reader->source);
}

static int read_table(struct import_partitions *partitions, const struct reader *reader, blkid_probe probe)
{
    const struct import_partition whole = {.size = reader->size};
    blkid_partlist list = blkid_probe_get_partitions(probe);
    blkid_parttable table = list ? blkid_partlist_get_table(list) : NULL;
    int r = check_gpt(reader, table ? blkid_parttable_get_type(table) : "");

    if (r < 0) return r;
    if (!table) return add(partitions, reader, &whole);
    for (int i = 0; r == 0 && i < blkid_partlist_numof_partitions(list); i++)
        r = add_partition(partitions, reader, blkid_partlist_get_partition(list, i));
    return r;
}

int import_partitions_read(struct import_partitions *ret_partitions, int fd, const char *source,
                           struct progress *progress)
{
    struct reader reader = {.source = source, .progress = progress, .fd = fd};
    struct import_partitions partitions = {0};
    blkid_probe probe = blkid_new_probe();
    struct stat st;
    int r;

    if (!probe) return no_memory(&reader);
    if (fstat(fd, &st) < 0 || blkid_probe_set_device(probe, fd, 0, 0) < 0) {
        r = import_failed(progress, -EIO, "%s: cannot be read: %s", source, log_reason(errno ? errno : EIO));
    } else {
        reader.size = blkid_probe_get_size(probe);
        blkid_probe_enable_superblocks(probe, false);
        blkid_probe_enable_partitions(probe, true);
        r = read_table(&partitions, &reader, probe);
    }
    blkid_free_probe(probe);
    if (r < 0) import_partitions_free(&partitions);
    else *ret_partitions = partitions;
    return r;
}

void import_partitions_free(struct import_partitions *partitions)
{
    free(partitions->items);
    *partitions = (struct import_partitions){0};
}

static bool is_tag(const char *spec, const char *tag, const char *value)
{
    size_t length = strlen(tag);
    char text[64];

    if (strncmp(spec, tag, length) != 0 || !*value) return false;
    spec += length;
    if (*spec == '"') spec++;
    snprintf(text, sizeof(text), "%.*s", (int)strcspn(spec, "\""), spec);
    return strcasecmp(text, value) == 0;
}

/* The number at the end of /dev/mmcblk0p1, /dev/sda1, /dev/vda1; 0 of anything else. */
static int device_number(const char *spec)
{
    const char *end = spec + strlen(spec), *digits = end;

    if (strncmp(spec, "/dev/", 5) != 0 || strchr(spec + 5, '/')) return 0;
    while (digits > spec && isdigit((unsigned char)digits[-1])) digits--;
    return digits < end ? atoi(digits) : 0;
}

bool import_partition_is(const struct import_partition *partition, const char *spec)
{
    return is_tag(spec, "UUID=", partition->uuid) || is_tag(spec, "LABEL=", partition->label) ||
           is_tag(spec, "PARTUUID=", partition->part_uuid) || is_tag(spec, "PARTLABEL=", partition->part_label) ||
           (partition->number && device_number(spec) == partition->number);
}

const char *import_partition_name(const struct import_partition *partition)
{
    static char name[80];
    const char *type = *partition->type ? partition->type : "nothing known";

    if (partition->number) snprintf(name, sizeof(name), "partition %d (%s)", partition->number, type);
    else snprintf(name, sizeof(name), "its %s file system", type);
    return name;
}
