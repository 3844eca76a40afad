#include "import_stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

#include "import_log.h"
#include "io.h"
#include "log.h"

#define BLOCK_SIZE (256 * 1024)
/* The end of a tar archive is marked by two blocks of zeros; one is enough for most programs. */
#define TAR_BLOCK 512
/* libarchive's error for "not of any format I know", which its headers do not name. */
#define FORMAT_ERROR EILSEQ

struct import_stream {
    struct archive *bytes;   /* undoes the compression */
    struct archive *members; /* reads from bytes */
    const char *source;
    struct progress *progress;
    locale_t locale, outer_locale;
    int64_t size;       /* of the source, 0: not known */
    int64_t member_end; /* where the last member ended, in uncompressed bytes */
    bool has_member, is_at_end;
};

/* libarchive has no words for some ends that come too early. */
static const char *reason_of(struct archive *archive)
{
    const char *reason = archive_error_string(archive);

    return reason ? reason : "it ends early";
}

static int damaged(struct import_stream *stream)
{
    struct archive *at_fault = archive_error_string(stream->bytes) ? stream->bytes : stream->members;

    return import_failed(stream->progress, -EBADMSG, "%s: truncated or damaged archive: %s", stream->source,
                         reason_of(at_fault));
}

static void show_progress(struct import_stream *stream)
{
    progress_at(stream->progress, archive_filter_bytes(stream->bytes, -1), stream->size);
}

/* Called by stream->members for more bytes of the archive. */
static la_ssize_t read_bytes(struct archive *members, void *data, const void **ret_block)
{
    struct import_stream *stream = data;
    la_int64_t offset;
    size_t size = 0;
    int r;

    if (stream->is_at_end) return 0;
    do r = archive_read_data_block(stream->bytes, ret_block, &size, &offset);
    while (r == ARCHIVE_OK && size == 0);
    show_progress(stream);
    if (r == ARCHIVE_EOF) stream->is_at_end = true;
    if (r == ARCHIVE_EOF) return 0;
    if (r == ARCHIVE_OK || r == ARCHIVE_WARN) return size;
    archive_set_error(members, archive_errno(stream->bytes), "%s", reason_of(stream->bytes));
    return -1;
}

static int open_bytes(struct import_stream *stream, int fd)
{
    struct archive_entry *entry;
    int r;

    archive_read_support_filter_all(stream->bytes);
    archive_read_support_format_raw(stream->bytes);
    r = archive_read_open_fd(stream->bytes, fd, BLOCK_SIZE);
    if (r >= ARCHIVE_WARN) r = archive_read_next_header(stream->bytes, &entry);
    if (r >= ARCHIVE_WARN && r != ARCHIVE_EOF) return 0;
    /* The raw format takes everything but nothing. */
    if (r == ARCHIVE_EOF || archive_errno(stream->bytes) == FORMAT_ERROR)
        return import_failed(stream->progress, -EBADMSG, "%s: is empty", stream->source);
    return damaged(stream);
}

static int open_members(struct import_stream *stream)
{
    archive_read_support_format_tar(stream->members);
    if (archive_read_open(stream->members, stream, NULL, read_bytes, NULL) >= ARCHIVE_WARN) return 0;
    if (archive_errno(stream->members) == FORMAT_ERROR)
        return import_failed(stream->progress, -EBADMSG, "%s: no tar archive", stream->source);
    return damaged(stream);
}

int import_stream_open(struct import_stream **ret_stream, int fd, const char *source, struct progress *progress)
{
    struct import_stream *stream = calloc(1, sizeof(*stream));
    struct stat st;
    int r;

    if (!stream) return import_failed(progress, -ENOMEM, "%s: %s", source, log_reason(-ENOMEM));
    stream->source = source;
    stream->progress = progress;
    if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode)) stream->size = st.st_size;
    /* In a UTF-8 locale libarchive composes the characters of pax names: "e" and an accent would become one letter, and
     * two files might get one name. In this one, names stay the bytes they are. */
    stream->locale = newlocale(LC_CTYPE_MASK, "C", NULL);
    stream->outer_locale = uselocale(stream->locale);
    stream->bytes = archive_read_new();
    stream->members = archive_read_new();
    if (!stream->bytes || !stream->members || !stream->locale)
        r = import_failed(progress, -ENOMEM, "%s: %s", source, log_reason(-ENOMEM));
    else r = open_bytes(stream, fd);
    if (r == 0) r = open_members(stream);
    if (r < 0) import_stream_close(stream);
    else *ret_stream = stream;
    return r;
}

void import_stream_close(struct import_stream *stream)
{
    if (!stream) return;
    archive_read_free(stream->members);
    archive_read_free(stream->bytes);
    uselocale(stream->outer_locale);
    if (stream->locale) freelocale(stream->locale);
    free(stream);
}

/* What follows the end of the archive is padding; a truncated compression shows there too. */
static int drain(struct import_stream *stream)
{
    const void *block;

    while (!stream->is_at_end)
        if (read_bytes(stream->members, stream, &block) < 0) return damaged(stream);
    return 0;
}

static int finish(struct import_stream *stream)
{
    if (archive_filter_bytes(stream->members, 0) - stream->member_end < TAR_BLOCK)
        return import_failed(stream->progress, -EBADMSG, "%s: truncated archive: its end marker is missing",
                             stream->source);
    return drain(stream);
}

static int end_member(struct import_stream *stream)
{
    if (!stream->has_member) return 0;
    stream->has_member = false;
    if (archive_read_data_skip(stream->members) < ARCHIVE_WARN) return damaged(stream);
    stream->member_end = archive_filter_bytes(stream->members, 0);
    return 0;
}

int import_stream_next(struct import_stream *stream, struct archive_entry **ret_entry)
{
    int r = end_member(stream);

    if (r < 0) return r;
    r = archive_read_next_header(stream->members, ret_entry);
    if (r == ARCHIVE_EOF) return finish(stream);
    /* Warnings are of names that are not in the locale's character set, which is how it should be. */
    if (r < ARCHIVE_WARN) {
        if (!archive_format(stream->members) && archive_errno(stream->members) == FORMAT_ERROR)
            return import_failed(stream->progress, -EBADMSG, "%s: no tar archive", stream->source);
        return damaged(stream);
    }
    stream->has_member = true;
    return 1;
}

int import_stream_data(struct import_stream *stream, const void **ret_data, size_t *ret_size, int64_t *ret_offset)
{
    la_int64_t offset = 0;
    int r = archive_read_data_block(stream->members, ret_data, ret_size, &offset);

    if (r == ARCHIVE_EOF) return 0;
    if (r < ARCHIVE_WARN) return damaged(stream);
    *ret_offset = offset;
    return 1;
}
