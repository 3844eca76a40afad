/* import_log: the one line that says why an import failed. */
#pragma once

#include "progress.h"

/* Logs, with the progress line out of the way and without the control characters that a file's name may hold;
 * returns `error`. */
int import_failed(struct progress *progress, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
