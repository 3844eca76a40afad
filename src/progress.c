#include "progress.h"

#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#define REDRAW_MS 200

static int64_t now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

void progress_begin(struct progress *progress, const char *what)
{
    if (!progress) return;
    *progress = (struct progress){.shown = isatty(STDERR_FILENO)};
    progress_restart(progress, what, 0);
}

void progress_restart(struct progress *progress, const char *what, int64_t total)
{
    if (!progress) return;
    progress->what = what;
    progress->files = progress->bytes = progress->done = 0;
    progress->total = total;
    progress->began = now_ms();
    progress->drawn = 0;
}

static void format_bytes(double bytes, char *buffer, size_t size)
{
    static const char *const units[] = {"B", "KiB", "MiB", "GiB", "TiB"};
    size_t unit = 0;

    for (; bytes >= 1024 && unit < 4; unit++) bytes /= 1024;
    snprintf(buffer, size, unit ? "%.1f %s" : "%.0f %s", bytes, units[unit]);
}

static void format_left(const struct progress *progress, double seconds, char *buffer, size_t size)
{
    double share = progress->total > 0 ? (double)progress->done / progress->total : 0;
    long left;

    buffer[0] = '\0';
    /* The first second tells too little to foretell the rest. */
    if (share <= 0 || seconds < 1) return;
    if (share > 1) share = 1;
    left = seconds * (1 - share) / share + 0.5;
    if (left >= 3600)
        snprintf(buffer, size, ", %.0f %%, %ld:%02ld:%02ld left", share * 100, left / 3600, left / 60 % 60, left % 60);
    else snprintf(buffer, size, ", %.0f %%, %ld:%02ld left", share * 100, left / 60, left % 60);
}

void progress_format(const struct progress *progress, int64_t now, char *buffer, size_t size)
{
    double seconds = (now - progress->began) / 1000.0;
    char bytes[32], rate[32], left[64];

    format_bytes(progress->bytes, bytes, sizeof(bytes));
    format_bytes(seconds > 0 ? progress->bytes / seconds : 0, rate, sizeof(rate));
    format_left(progress, seconds, left, sizeof(left));
    snprintf(buffer, size, "%s: %lld files, %s, %s/s%s", progress->what, (long long)progress->files, bytes, rate, left);
}

static void draw(struct progress *progress, int64_t now)
{
    struct winsize window = {0};
    char line[256];
    size_t width = 79;

    progress_format(progress, now, line, sizeof(line));
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) == 0 && window.ws_col > 1) width = window.ws_col - 1;
    if (width < sizeof(line)) line[width] = '\0';
    dprintf(STDERR_FILENO, "\r%s\033[K", line);
    progress->drawn = now;
    progress->on_screen = true;
}

void progress_add(struct progress *progress, int64_t files, int64_t bytes)
{
    int64_t now;

    if (!progress) return;
    progress->files += files;
    progress->bytes += bytes;
    if (!progress->shown) return;
    now = now_ms();
    if (now - progress->drawn >= REDRAW_MS) draw(progress, now);
}

void progress_at(struct progress *progress, int64_t done, int64_t total)
{
    if (!progress) return;
    progress->done = done;
    progress->total = total;
}

void progress_erase(struct progress *progress)
{
    if (!progress || !progress->on_screen) return;
    dprintf(STDERR_FILENO, "\r\033[K");
    progress->on_screen = false;
}
