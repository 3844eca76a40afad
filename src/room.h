/* room: how much of the disk may still be taken.
 *
 * Some of it is kept free for what makes room, as deleting writes to the database too. The kernel is asked at most ten
 * times a second as long as the disk is far from full: what is taken in between is counted, and what other programs may
 * take meanwhile is allowed for. Thread-safe, without locks. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct room {
    int fd; /* anything on the file system; borrowed */
    uint64_t reserve;    /* bytes kept free */
    uint64_t file_limit; /* RLIMIT_FSIZE; UINT64_MAX: none */
    _Atomic int64_t asked; /* CLOCK_MONOTONIC in nanoseconds; 0: never */
    _Atomic int64_t spare; /* bytes that may be taken without asking again */
    _Atomic bool tight;
};

int room_init(struct room *room, int fd);

/* So many bytes are about to be added; -ENOSPC when that would leave less than the reserve. */
int room_take(struct room *room, uint64_t bytes);

/* Little more than the reserve is left: what can be given back to the disk should be. */
bool room_is_tight(struct room *room);

/* How long a database's WAL may become, in bytes: a part of the reserve, which takes it once more when it is moved. */
uint64_t room_for_wal(struct room *room);

bool room_limits_files(const struct room *room);
/* -ENOSPC when a file of so many bytes in use would leave too little of the limit on files for deleting. */
int room_check_file(const struct room *room, uint64_t bytes);
