/* keeper: threads that look after every node's view a few times a second: what has waited long enough is committed, WALs
 * are kept short, views of nodes that are gone are ended.
 *
 * A thread that waits for a slow disk keeps back no other node: those who follow pass it by, and another is begun when a round is
 * not through in time. */
#pragma once

#include <stdint.h>

struct keeper;
struct tree;

/* `tree` is borrowed; commit_age in seconds. */
int keeper_start(struct keeper **ret_keeper, struct tree *tree, int64_t commit_age);
/* Waits for their end. NULL is allowed. */
void keeper_stop(struct keeper *keeper);
