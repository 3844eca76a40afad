/* image_digest: what index.db keeps of a file's contents: their SHA-256. */
#pragma once

#include <stddef.h>
#include <stdint.h>

struct progress;

#define IMAGE_DIGEST_SIZE 32

/* Of all bytes from the start; `buffer` is for reading, `progress` may be NULL. */
int image_digest(int fd, void *buffer, size_t size, struct progress *progress, uint8_t ret_digest[IMAGE_DIGEST_SIZE]);
