#include "image_digest.h"

#include <nettle/sha2.h>

#include "io.h"
#include "progress.h"

_Static_assert(IMAGE_DIGEST_SIZE == SHA256_DIGEST_SIZE, "a digest is SHA-256");

int image_digest(int fd, void *buffer, size_t size, struct progress *progress, uint8_t ret_digest[IMAGE_DIGEST_SIZE])
{
    struct sha256_ctx sha;
    off_t offset = 0;
    ssize_t n;

    sha256_init(&sha);
    while ((n = io_pread(fd, buffer, size, offset)) > 0) {
        sha256_update(&sha, n, buffer);
        offset += n;
        progress_add(progress, 0, n);
    }
    sha256_digest(&sha, IMAGE_DIGEST_SIZE, ret_digest);
    return n;
}
