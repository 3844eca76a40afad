#include "room.h"

#include <errno.h>
#include <stdatomic.h>
#include <sys/resource.h>
#include <sys/statvfs.h>
#include <time.h>

/* The reserve: a share of the disk within bounds, which yield on a very small one. */
#define SHARE 32
#define LEAST (UINT64_C(8) << 20)
#define MOST (UINT64_C(32) << 20)
#define SMALL 4

#define ASK_NS INT64_C(100000000)
#define OTHERS (INT64_C(64) << 20) /* what other programs may take in that time */
#define ROWS 16384                 /* what an operation adds to a database, beside its bytes */

#define WAL_MOST (UINT64_C(4000) * 4096) /* so that its index stays in one piece of shared memory, made at opening */
#define WAL_TIGHT (UINT64_C(1) << 20)    /* enough for many deletions, where the disk has not a block left */

static int64_t now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC_COARSE, &now);
    return now.tv_sec * INT64_C(1000000000) + now.tv_nsec;
}

static uint64_t reserve_of(uint64_t disk)
{
    uint64_t reserve = disk / SHARE;

    if (reserve < LEAST) reserve = LEAST;
    if (reserve > MOST) reserve = MOST;
    return reserve > disk / SMALL ? disk / SMALL : reserve;
}

static int ask(struct room *room, int64_t *ret_available)
{
    struct statvfs st;

    if (fstatvfs(room->fd, &st) < 0) return -errno;
    *ret_available = (int64_t)(st.f_bavail * st.f_frsize) - (int64_t)room->reserve;
    room->tight = *ret_available < (int64_t)room->reserve;
    room->spare = *ret_available - OTHERS;
    room->asked = now_ns();
    return 0;
}

int room_init(struct room *room, int fd)
{
    struct rlimit limit;
    struct statvfs st;

    if (fstatvfs(fd, &st) < 0) return -errno;
    *room = (struct room){.fd = fd, .reserve = reserve_of((uint64_t)st.f_blocks * st.f_frsize), .file_limit = UINT64_MAX};
    if (getrlimit(RLIMIT_FSIZE, &limit) == 0 && limit.rlim_cur != RLIM_INFINITY) room->file_limit = limit.rlim_cur;
    return 0;
}

static bool is_fresh(const struct room *room)
{
    return room->asked != 0 && now_ns() - room->asked < ASK_NS;
}

int room_take(struct room *room, uint64_t bytes)
{
    int64_t more, available;
    int r;

    if (bytes > INT64_MAX / 2) return -ENOSPC;
    more = bytes + ROWS;
    if (is_fresh(room) && atomic_fetch_sub(&room->spare, more) >= more) return 0;
    r = ask(room, &available);
    if (r < 0) return r;
    atomic_fetch_sub(&room->spare, more);
    return available >= (int64_t)bytes ? 0 : -ENOSPC;
}

bool room_is_tight(struct room *room)
{
    int64_t available;

    if (!is_fresh(room)) ask(room, &available);
    return room->tight;
}

uint64_t room_for_wal(struct room *room)
{
    uint64_t most = room->reserve < LEAST || room_is_tight(room) ? WAL_TIGHT : WAL_MOST;

    if (most > room->reserve / 4) most = room->reserve / 4;
    return most > room->file_limit / 2 ? room->file_limit / 2 : most;
}

bool room_limits_files(const struct room *room)
{
    return room->file_limit != UINT64_MAX;
}

int room_check_file(const struct room *room, uint64_t bytes)
{
    return !room_limits_files(room) || bytes <= room->file_limit - room->file_limit / 8 ? 0 : -ENOSPC;
}
