#include "import_bytes.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "import_log.h"
#include "io.h"
#include "log.h"

#define BLOCK_SIZE (256 * 1024)
/* libarchive's error for "not of any format I know", which its headers do not name. */
#define FORMAT_ERROR EILSEQ

struct import_bytes {
    struct archive *archive;
    const char *source;
    struct progress *progress;
    char *member;       /* NULL: the source itself */
    char *head;         /* what was read ahead; freed when it was handed out */
    size_t head_size;
    const void *next;   /* a piece that did not fit into the head any more */
    size_t next_size;
    int64_t next_offset;
    int64_t source_size; /* 0: not known */
    int64_t end;
    const char *error;
    bool is_head_read, is_at_end;
};

/* libarchive has no words for some ends that come too early. */
static const char *reason_of(struct archive *archive)
{
    const char *reason = archive_error_string(archive);

    return reason ? reason : "it ends early";
}

static int damaged(struct import_bytes *bytes)
{
    return import_failed(bytes->progress, -EBADMSG, "%s: truncated or damaged archive: %s", bytes->source,
                         reason_of(bytes->archive));
}

static bool is_seekable(int fd)
{
    return lseek(fd, 0, SEEK_CUR) >= 0;
}

/* The reader of .zip looks for its signature at a file's end, where a tar archive may have one by chance: it is asked
 * only where the beginning has one, too. */
static void choose_formats(struct import_bytes *bytes, int fd)
{
    unsigned char magic[6] = {0};

    archive_read_support_filter_all(bytes->archive);
    archive_read_support_format_raw(bytes->archive);
    if (!is_seekable(fd)) {
        archive_read_support_format_zip_streamable(bytes->archive);
        return;
    }
    lseek(fd, 0, SEEK_SET);
    if (io_pread(fd, magic, sizeof(magic), 0) < (ssize_t)sizeof(magic)) return;
    if (memcmp(magic, "PK\3\4", 4) == 0) archive_read_support_format_zip_seekable(bytes->archive);
    if (memcmp(magic, "7z\xbc\xaf\x27\x1c", 6) == 0) archive_read_support_format_7zip(bytes->archive);
}

static bool is_disk_name(struct archive_entry *entry)
{
    const char *name = archive_entry_pathname(entry);
    size_t length = name ? strlen(name) : 0;

    return archive_entry_filetype(entry) == AE_IFREG && length > 4 && strcasecmp(name + length - 4, ".img") == 0;
}

/* 1: the next disk image of the archive. */
static int find_member(struct import_bytes *bytes, struct archive_entry **ret_entry)
{
    int r;

    while ((r = archive_read_next_header(bytes->archive, ret_entry)) != ARCHIVE_EOF) {
        if (r < ARCHIVE_WARN) return -EBADMSG;
        if (is_disk_name(*ret_entry)) return 1;
    }
    return 0;
}

static bool is_raw(struct import_bytes *bytes)
{
    return (archive_format(bytes->archive) & ARCHIVE_FORMAT_BASE_MASK) == ARCHIVE_FORMAT_RAW;
}

static int choose_member(struct import_bytes *bytes, struct archive_entry *entry)
{
    int r = is_disk_name(entry) ? 1 : find_member(bytes, &entry);

    if (r < 0) return damaged(bytes);
    if (r == 0) return import_failed(bytes->progress, -EINVAL, "%s: holds no disk image (*.img)", bytes->source);
    bytes->member = strdup(archive_entry_pathname(entry));
    bytes->end = archive_entry_size(entry);
    return bytes->member ? 0 : import_failed(bytes->progress, -ENOMEM, "%s: %s", bytes->source, log_reason(-ENOMEM));
}

static int open_archive(struct import_bytes *bytes, int fd)
{
    struct archive_entry *entry;
    int r;

    choose_formats(bytes, fd);
    r = archive_read_open_fd(bytes->archive, fd, BLOCK_SIZE);
    if (r >= ARCHIVE_WARN) r = archive_read_next_header(bytes->archive, &entry);
    if (r >= ARCHIVE_WARN && r != ARCHIVE_EOF) return is_raw(bytes) ? 0 : choose_member(bytes, entry);
    /* The raw format takes everything but nothing. */
    if (r == ARCHIVE_EOF || archive_errno(bytes->archive) == FORMAT_ERROR)
        return import_failed(bytes->progress, -EBADMSG, "%s: is empty", bytes->source);
    return damaged(bytes);
}

static int read_piece(struct import_bytes *bytes, const void **ret_data, size_t *ret_size, int64_t *ret_offset)
{
    la_int64_t offset = 0;
    int r;

    if (bytes->is_at_end) return 0;
    do r = archive_read_data_block(bytes->archive, ret_data, ret_size, &offset);
    while (r == ARCHIVE_OK && *ret_size == 0);
    *ret_offset = offset;
    progress_at(bytes->progress, archive_filter_bytes(bytes->archive, -1), bytes->source_size);
    if (r == ARCHIVE_EOF) bytes->is_at_end = true;
    if (r == ARCHIVE_EOF) return 0;
    if (r == ARCHIVE_OK || r == ARCHIVE_WARN) return 1;
    bytes->error = reason_of(bytes->archive);
    return -EBADMSG;
}

/* Until it is full, or a piece does not fit or does not follow. What fails now fails again in import_bytes_next(). */
static void read_head(struct import_bytes *bytes)
{
    while (bytes->head_size < IMPORT_BYTES_HEAD) {
        const void *data;
        size_t size, room = IMPORT_BYTES_HEAD - bytes->head_size;
        int64_t offset;

        if (read_piece(bytes, &data, &size, &offset) <= 0) return;
        if (offset == (int64_t)bytes->head_size) {
            size_t used = size < room ? size : room;

            memcpy(bytes->head + bytes->head_size, data, used);
            bytes->head_size += used;
            data = (const char *)data + used;
            size -= used;
            offset += used;
        }
        bytes->next = data;
        bytes->next_size = size;
        bytes->next_offset = offset;
        if (size > 0) return;
    }
}

int import_bytes_open(struct import_bytes **ret_bytes, int fd, const char *source, struct progress *progress)
{
    struct import_bytes *bytes = calloc(1, sizeof(*bytes));
    struct stat st;
    int r;

    if (!bytes) return import_failed(progress, -ENOMEM, "%s: %s", source, log_reason(-ENOMEM));
    bytes->source = source;
    bytes->progress = progress;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) bytes->source_size = st.st_size;
    bytes->archive = archive_read_new();
    bytes->head = malloc(IMPORT_BYTES_HEAD);
    if (bytes->archive && bytes->head) r = open_archive(bytes, fd);
    else r = import_failed(progress, -ENOMEM, "%s: %s", source, log_reason(-ENOMEM));
    if (r < 0) {
        import_bytes_close(bytes);
        return r;
    }
    read_head(bytes);
    *ret_bytes = bytes;
    return 0;
}

void import_bytes_close(struct import_bytes *bytes)
{
    if (!bytes) return;
    archive_read_free(bytes->archive);
    free(bytes->member);
    free(bytes->head);
    free(bytes);
}

const void *import_bytes_head(const struct import_bytes *bytes, size_t *ret_size)
{
    *ret_size = bytes->head_size;
    return bytes->head;
}

static int next_piece(struct import_bytes *bytes, const void **ret_data, size_t *ret_size, int64_t *ret_offset)
{
    if (!bytes->is_head_read) {
        bytes->is_head_read = true;
        *ret_data = bytes->head;
        *ret_size = bytes->head_size;
        *ret_offset = 0;
        if (bytes->head_size > 0) return 1;
    }
    if (bytes->next_size > 0) {
        *ret_data = bytes->next;
        *ret_size = bytes->next_size;
        *ret_offset = bytes->next_offset;
        bytes->next_size = 0;
        return 1;
    }
    return bytes->error ? -EBADMSG : read_piece(bytes, ret_data, ret_size, ret_offset);
}

int import_bytes_next(struct import_bytes *bytes, const void **ret_data, size_t *ret_size, int64_t *ret_offset)
{
    int r = next_piece(bytes, ret_data, ret_size, ret_offset);

    if (r > 0 && *ret_offset + (int64_t)*ret_size > bytes->end) bytes->end = *ret_offset + *ret_size;
    return r;
}

const char *import_bytes_error(const struct import_bytes *bytes)
{
    return bytes->error;
}

bool import_bytes_is_plain(const struct import_bytes *bytes)
{
    return !bytes->member && archive_filter_count(bytes->archive) == 1;
}

bool import_bytes_is_member(const struct import_bytes *bytes)
{
    return bytes->member != NULL;
}

int64_t import_bytes_size(const struct import_bytes *bytes)
{
    return bytes->end;
}

const char *import_bytes_member(const struct import_bytes *bytes)
{
    return bytes->member;
}

int import_bytes_other(struct import_bytes *bytes, const char **ret_name)
{
    struct archive_entry *entry;
    int r = bytes->member ? find_member(bytes, &entry) : 0;

    if (r > 0) *ret_name = archive_entry_pathname(entry);
    return r;
}
