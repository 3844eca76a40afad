/* import_stream: the members of a tar archive, and the certainty that none is missing.
 *
 * libarchive takes an archive that ends between two members for a whole one, and does not look at what comes after
 * the last. So its bytes come from one reader that is read to its end (import_bytes.h), and the members from a second
 * on top. */
#pragma once

#include <stdint.h>
#include <sys/types.h>

#include "progress.h"

struct archive_entry;
struct import_bytes;
struct import_stream;

/* `bytes` stay the caller's. `source` is their name for messages, and lives as long as the stream. Logs its failures. */
int import_stream_open(struct import_stream **ret_stream, struct import_bytes *bytes, const char *source,
                       struct progress *progress);
void import_stream_close(struct import_stream *stream);

/* 1 and the next member, which lives until the next call; 0: the end, and the archive is whole; negative errno
 * (logged). */
int import_stream_next(struct import_stream *stream, struct archive_entry **ret_entry);

/* 1 and the next piece of the member's contents; pieces that are missing are holes; 0: no more; negative errno
 * (logged). */
int import_stream_data(struct import_stream *stream, const void **ret_data, size_t *ret_size, int64_t *ret_offset);
