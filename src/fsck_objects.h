/* fsck_objects: objects that rows speak of, and objects that no row speaks of. */
#pragma once

#include "fsck_check.h"

/* On a mounted store not to be called inside a transaction: what the daemon changed meanwhile is told by asking again. */
void fsck_objects(struct fsck_check *check);
