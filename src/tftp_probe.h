/* tftp_probe: reads a file by TFTP (RFC 1350, blksize of RFC 2348), as a board's boot ROM does. */
#pragma once

#include <stddef.h>

/* At most `most` bytes. -ENOENT, -EACCES: what the server says; -ECONNREFUSED: there is none; -ETIMEDOUT: it does not
 * answer, or the file takes more than a minute; -EFBIG: the file is longer. Caller frees. */
int tftp_probe_read(const char *server, const char *path, size_t most, char **ret_data, size_t *ret_size);
