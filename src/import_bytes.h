/* import_bytes: the bytes that an import is made of, whatever they are compressed with or packed in.
 *
 * Any compression that libarchive undoes, and the disk image (*.img) inside a .zip or .7z file. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "progress.h"

struct import_bytes;

/* What a file must be told by: enough for a tar header, a partition table, and where ext4, btrfs and xfs sign. */
#define IMPORT_BYTES_HEAD (72 * 1024)

/* `fd` stays the caller's, and is read from its start when it can be. `source` is its name for messages, and lives as
 * long as the bytes. Logs its failures. */
int import_bytes_open(struct import_bytes **ret_bytes, int fd, const char *source, struct progress *progress);
void import_bytes_close(struct import_bytes *bytes);
static inline void import_bytes_cleanup(struct import_bytes **bytes) { import_bytes_close(*bytes); }
#define _cleanup_bytes_ __attribute__((cleanup(import_bytes_cleanup)))

/* The first bytes, at most IMPORT_BYTES_HEAD, again and again; they stay to be read. */
const void *import_bytes_head(const struct import_bytes *bytes, size_t *ret_size);

/* 1 and the next piece, which begins where the last one ended or after a hole; 0: the end; negative errno: not logged,
 * import_bytes_error() tells why. */
int import_bytes_next(struct import_bytes *bytes, const void **ret_data, size_t *ret_size, int64_t *ret_offset);
/* NULL: nothing went wrong here. */
const char *import_bytes_error(const struct import_bytes *bytes);

/* The file as it lies there: nothing packs or compresses it. */
bool import_bytes_is_plain(const struct import_bytes *bytes);
/* It was taken out of a .zip or .7z file, where nothing but a disk image is looked for. */
bool import_bytes_is_member(const struct import_bytes *bytes);
/* Bytes that the last piece ended at, once the end is known. Of a member: what its archive says. */
int64_t import_bytes_size(const struct import_bytes *bytes);

/* After the end: is there another disk image in the archive? 1 and its name, 0, or negative errno. */
int import_bytes_other(struct import_bytes *bytes, const char **ret_name);
const char *import_bytes_member(const struct import_bytes *bytes); /* the name in the archive; NULL: no archive */
