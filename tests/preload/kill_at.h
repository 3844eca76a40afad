/* kill_at: what the preloaded library and the test that aims it share, in a file that both map.
 *
 * Steps are the calls that change names or wait for the disk, and what is written: before the `at`-th of them since it was armed, by
 * whichever thread, the process ends as by kill -9. */
#pragma once

#include <stdatomic.h>
#include <stdint.h>

#define KILL_AT_FILE "COPPICE_KILL_AT" /* in the environment of whoever is to be killed: the path of the file */

struct kill_at {
    _Atomic int64_t at;    /* 0: not armed */
    _Atomic int64_t steps; /* since it was armed */
    _Atomic int64_t fired;
    char call[32];         /* the one before which it ended */
};
