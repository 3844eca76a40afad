/* replay: requests that a dead daemon had taken from the kernel and not answered come again to the next one (Linux 6.9,
 * FUSE_NOTIFY_RESEND). What was executed already must not be executed twice.
 *
 * Each thread notes what it executes, before that becomes part of the database: the request, the node, the number of the
 * batch, and what the answer is made of. The delta holds the number of the last batch that was committed (table
 * progress), so the next daemon knows of each note whether it came true. An operation that fails changes nothing and may
 * be tried again. Reads and the like need none of this.
 *
 * All functions but replay_resolve() are about the request that the calling thread works on. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct handover;

/* The thread has taken this request from the kernel; `unique` as in its header. */
void replay_take(struct handover *handover, uint64_t unique);
/* It has been answered. */
void replay_answered(void);

/* The number of the request that the thread works on, 0: none. Also from a signal handler. */
uint64_t replay_current(void);

/* The operation begins. True: a daemon before this one has executed it, and *ret_result is what it noted. To be called when the
 * node's delta is open. */
bool replay_begin(uint64_t *ret_result);
/* What the answer will be made of. */
void replay_result(uint64_t result);
/* The operation is complete with this batch, which is not committed yet: true when the batch's number is to be
 * committed with it. Nothing where no operation has begun. */
bool replay_note(uint32_t node, uint64_t batch);
/* The batch failed. */
void replay_failed(void);
/* The operation is complete for whoever outlives the daemon, be it part of a batch or not. */
void replay_done(void);

/* The node's delta was opened, and batches up to this one were committed. */
void replay_resolve(struct handover *handover, uint32_t node, uint64_t batch);
