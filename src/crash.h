/* crash: which request a daemon was working on when it crashed. One that crashes each daemon would end the mount: it comes again to
 * the next one (replay.h). A daemon that was killed (SIGKILL) accuses no request. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct handover;

/* From now on the fatal signals of a fault in the program note the crashing thread's request in the handover, and then do what they
 * did before. */
void crash_watch(struct handover *handover);
/* For each thread once: so that also one whose stack is full can note it. */
void crash_watch_thread(void);

/* Two daemons have crashed on this request, by its number in the protocol. */
bool crash_is_proven(const struct handover *handover, uint64_t unique);
