/* fuzz: what the fuzzers share. Each fuzz_NAME.c has libFuzzer's one function; linked to libFuzzer (COPPICE_FUZZ, clang)
 * or to driver.c (any compiler, with sanitizers).
 *
 * An input may be refused in any way; it must not crash, hang, leak, or be taken for what it is not. */
#pragma once

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* A directory of this process's own, removed at its end; messages of the program are off from then on. */
const char *fuzz_directory(void);
/* "<directory>/<name>"; the last eight stay valid. */
const char *fuzz_path(const char *name);
/* A new file there with these bytes. */
void fuzz_put(const char *name, const void *data, size_t size);
/* A file without a name with these bytes; the caller closes it. */
int fuzz_file(const void *data, size_t size);
/* An empty directory; what was in it before is gone. The descriptor is the caller's. */
int fuzz_empty(const char *name);

/* What must be so: a finding when it is not. */
#define fuzz_must(condition) ((condition) ? (void)0 : fuzz_fail(#condition, __FILE__, __LINE__))
void fuzz_fail(const char *what, const char *file, int line) __attribute__((noreturn));
