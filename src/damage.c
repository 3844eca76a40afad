#include "damage.h"

#include <errno.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>

#include "io.h"
#include "log.h"
#include "place.h"
#include "view.h"

#define MOST 50 /* files of one node: whoever wants to know of all runs fsck */

void damage_init(struct damage *damage)
{
    pthread_mutex_init(&damage->lock, NULL);
}

void damage_clear(struct damage *damage)
{
    inomap_clear(&damage->told);
    pthread_mutex_destroy(&damage->lock);
}

static bool is_passing(int error)
{
    static const int passing[] = {ENOMEM, EMFILE, ENFILE, EINTR, EAGAIN, EBUSY, ENOSPC, EDQUOT, EFBIG, ETIMEDOUT};

    for (size_t i = 0; i < sizeof(passing) / sizeof(*passing); i++)
        if (error == -passing[i]) return true;
    return false;
}

/* How many were told before this one; -1: it was told. */
static int note(struct damage *damage, uint64_t ino)
{
    int before = -1;

    pthread_mutex_lock(&damage->lock);
    if (damage->told.used <= MOST && inomap_get(&damage->told, ino) == 0) {
        before = damage->told.used;
        inomap_add(&damage->told, ino, 1);
    }
    pthread_mutex_unlock(&damage->lock);
    return before;
}

/* Of rows SQLite knows more than the number. */
static const char *reason_of(struct delta *d, int error)
{
    return d && error == -EIO ? delta_message(d) : log_reason(error);
}

static void tell(struct view *v, struct delta *d, uint64_t ino, const char *what, const char *reason)
{
    struct delta *locked = d ? NULL : view_lock(v);
    _cleanup_free_ char *path = place_of(v, d ? d : locked, ino);

    view_unlock(locked);
    if (path) log_error("node %s: %s: %s%s", v->serial, path, what, reason);
    else log_error("node %s: inode %llu: %s%s", v->serial, (unsigned long long)ino, what, reason);
}

int damage_found(struct view *v, struct delta *d, uint64_t ino, int error, const char *format, ...)
{
    char what[100], reason[200];
    va_list arguments;
    int before;

    if (is_passing(error)) return error;
    snprintf(reason, sizeof(reason), "%s%s", error ? ": " : "", error ? reason_of(d, error) : ""); /* looking for the path has SQLite forget it */
    before = note(&v->damage, ino);
    if (before < 0) return -EIO;
    if (before == MOST) {
        log_error("node %s: more of its files are damaged, which 'coppice fsck %s' lists", v->serial, v->serial);
        return -EIO;
    }
    va_start(arguments, format);
    vsnprintf(what, sizeof(what), format, arguments);
    va_end(arguments);
    tell(v, d, ino, what, reason);
    return -EIO;
}

void damage_of_change(struct view *v, struct delta *d, int error)
{
    if (error != -EIO) return;
    pthread_mutex_lock(&v->damage.lock);
    bool is_first = v->damage.told.used == 0;
    pthread_mutex_unlock(&v->damage.lock);
    if (is_first) log_error("node %s: a change failed: %s", v->serial, delta_message(d));
}
