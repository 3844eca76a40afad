/* workers: the threads that answer requests.
 *
 * Each takes a request, answers it, takes the next. A request may have to wait for a disk, and whoever waits must not keep the
 * others' requests waiting: so a thread that has taken one calls another unless somebody still waits for requests. The rest are
 * parked, and the last one to park is called first: its stack and its buffer are still in the processor's caches, where the kernel,
 * did they all wait for requests, would wake the one that has slept longest. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

/* What they work for. */
struct workers_job {
    /* Waits for a request and reads it into `buffer`, of buffer_size bytes: its size, or negative errno. -EINTR when a signal has ended
     * the wait, and nothing was taken. */
    ssize_t (*take)(void *data, void *buffer);
    void (*answer)(void *data, void *buffer, size_t size);
    bool (*is_over)(void *data); /* nothing more is to be taken */
    size_t buffer_size;
    void *data;
};

struct workers_limits {
    unsigned most;  /* threads: as many requests may wait at once, but for one, and the next still be taken */
    unsigned ready; /* of them wait for requests */
    unsigned kept;  /* of them are parked when there is nothing to do; more than that end */
};

/* Serves until the job is over, or cannot go on because `take` has failed; what was taken is answered first. To be called by the thread
 * that gets the process's signals, which are to make the job over. 0, or what `take` failed with. */
int workers_run(const struct workers_job *job, const struct workers_limits *limits);
