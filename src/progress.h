/* progress: one line on the terminal that tells how far long work has come; nothing where standard error is none.
 *
 * Every function takes NULL for "do not show any". Not thread-safe. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    const char *what;     /* "importing NAME": begins the line. Belongs to the caller, lives as long as the work */
    int64_t files, bytes; /* dealt with so far */
    int64_t done, total;  /* a share of the work in any unit; total 0: not known */
    int64_t began, drawn; /* milliseconds of CLOCK_MONOTONIC; drawn 0: not since the last restart */
    bool shown;           /* standard error is a terminal */
    bool on_screen;       /* there is a line to erase */
};

void progress_begin(struct progress *progress, const char *what);

/* Begins another stretch of the same work: counts and clock start again. */
void progress_restart(struct progress *progress, const char *what, int64_t total);

/* So much more is dealt with. Draws the line, five times a second at the most. */
void progress_add(struct progress *progress, int64_t files, int64_t bytes);

/* `done` of `total` is behind us. */
void progress_at(struct progress *progress, int64_t done, int64_t total);

/* Erases the line: before a message, and at the end. The next progress_add() draws it again. */
void progress_erase(struct progress *progress);

/* The line as it stands `now`. For progress_add() and its test. */
void progress_format(const struct progress *progress, int64_t now, char *buffer, size_t size);
