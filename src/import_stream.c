#include "import_stream.h"

#include <archive.h>
#include <archive_entry.h>
#include <errno.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "import_bytes.h"
#include "import_log.h"
#include "io.h"
#include "log.h"

/* The end of a tar archive is marked by two blocks of zeros; one is enough for most programs. */
#define TAR_BLOCK 512
/* libarchive's error for "not of any format I know", which its headers do not name. */
#define FORMAT_ERROR EILSEQ

struct import_stream {
    struct import_bytes *bytes; /* the caller's */
    struct archive *members;    /* reads from bytes */
    const char *source;
    struct progress *progress;
    locale_t locale, outer_locale;
    int64_t member_end; /* where the last member ended, in uncompressed bytes */
    bool has_member, is_at_end;
};

static int damaged(struct import_stream *stream)
{
    const char *reason = import_bytes_error(stream->bytes);

    if (!reason) reason = archive_error_string(stream->members);
    /* libarchive has no words for some ends that come too early. */
    return import_failed(stream->progress, -EBADMSG, "%s: truncated or damaged archive: %s", stream->source,
                         reason ? reason : "it ends early");
}

/* Called by stream->members for more bytes of the archive. */
static la_ssize_t read_bytes(struct archive *members, void *data, const void **ret_block)
{
    struct import_stream *stream = data;
    int64_t offset;
    size_t size = 0;
    int r;

    if (stream->is_at_end) return 0;
    r = import_bytes_next(stream->bytes, ret_block, &size, &offset);
    if (r == 0) stream->is_at_end = true;
    if (r >= 0) return r > 0 ? (la_ssize_t)size : 0;
    archive_set_error(members, EBADMSG, "%s", import_bytes_error(stream->bytes));
    return -1;
}

static int open_members(struct import_stream *stream)
{
    archive_read_support_format_tar(stream->members);
    if (archive_read_open(stream->members, stream, NULL, read_bytes, NULL) >= ARCHIVE_WARN) return 0;
    if (archive_errno(stream->members) == FORMAT_ERROR)
        return import_failed(stream->progress, -EBADMSG, "%s: no tar archive", stream->source);
    return damaged(stream);
}

int import_stream_open(struct import_stream **ret_stream, struct import_bytes *bytes, const char *source,
                       struct progress *progress)
{
    struct import_stream *stream = calloc(1, sizeof(*stream));
    int r;

    if (!stream) return import_failed(progress, -ENOMEM, "%s: %s", source, log_reason(-ENOMEM));
    stream->bytes = bytes;
    stream->source = source;
    stream->progress = progress;
    /* In a UTF-8 locale libarchive composes the characters of pax names: "e" and an accent would become one letter, and
     * two files might get one name. In this one, names stay the bytes they are. */
    stream->locale = newlocale(LC_CTYPE_MASK, "C", NULL);
    stream->outer_locale = uselocale(stream->locale);
    stream->members = archive_read_new();
    if (stream->members && stream->locale) r = open_members(stream);
    else r = import_failed(progress, -ENOMEM, "%s: %s", source, log_reason(-ENOMEM));
    if (r < 0) import_stream_close(stream);
    else *ret_stream = stream;
    return r;
}

void import_stream_close(struct import_stream *stream)
{
    if (!stream) return;
    archive_read_free(stream->members);
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
