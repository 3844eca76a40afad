/* scratch: what unit tests need around them: a directory of their own, paths in it, other programs. */
#pragma once

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <setjmp.h>
#include <cmocka.h>

/* cmocka's group set-up and tear-down: *state is the path of a new directory, removed with all that is in it. */
int scratch_setup(void **state);
int scratch_teardown(void **state);

/* "<directory>/<name>" in a static buffer; the last eight stay valid. */
const char *scratch_path(void **state, const char *name);

/* Mounts an empty tmpfs of so many KiB on a new directory, in a mount namespace of this process's own: it goes with the
 * process at the latest. The test is skipped when it may not. */
void scratch_tmpfs(void **state, const char *name, unsigned size);
void scratch_unmount(void **state, const char *name);

/* A file with this text. */
void scratch_write(const char *path, const char *text);

/* Runs a shell command: its exit status; standard output and error go into `output`, cut to `size`, without the last
 * line end. */
int scratch_run(char *output, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

/* Every fdatasync(2) of the process comes by here, SQLite's too: how many were of a WAL; when set, all fail with
 * EDQUOT. */
extern int scratch_wal_syncs;
extern bool scratch_fail_sync;

/* When set, fdatasync(2) and fsync(2) do nothing: for tests of many steps that are not about the disk. */
extern bool scratch_skip_sync;

/* Seconds of CLOCK_MONOTONIC. */
double scratch_seconds(void);
