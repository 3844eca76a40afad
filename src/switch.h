/* switch: a node's changes are replaced by others as one step, which is done or not done after a kill or a power cut.
 *
 * What comes in their place is filled in nodes/SERIAL/.switch/ (see snapshot.h), together with an empty directory whose name
 * says where the old ones go: "gone", or "keep@NAME" for snapshot NAME. Renaming .switch to switch is the step; what is left to do
 * then is done by whoever opens the node next. The node's view is closed while switch_begin() and those that follow run. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct switch_place {
    int nodes_fd;
    const char *nodes_path, *serial;
};

/* The directory that is to be filled, below nodes/SERIAL. */
#define SWITCH_NEW ".switch"

/* It is filled: says where the old changes go (NULL: nowhere) and brings it to the disk. */
int switch_prepare(const struct switch_place *place, const char *keep);

/* The step. */
int switch_begin(const struct switch_place *place);

/* Carries on with one that was begun, after a kill too: 1 and what the changes are now (caller frees image), 0 when there is none.
 * switch_end() when the catalog knows of it. */
struct snapshot_info;
int switch_carry_on(const struct switch_place *place, struct snapshot_info *ret_info);
int switch_end(const struct switch_place *place);

/* From then on until switch_forget() it is there as SWITCH_DONE, for a daemon that has to tell the kernel (outdated.h). 1: it is there,
 * or one was begun and is not ended. */
#define SWITCH_DONE "switched"
int switch_is_left(const struct switch_place *place);
int switch_forget(const struct switch_place *place);

/* Moves parent_fd/NAME out of the way at once; sweep_gone() removes what was moved. A missing name is no error. */
int switch_discard(int parent_fd, const char *name, int nodes_fd, const char *serial);

/* Removes what switch_discard() has moved away. Takes as long as it takes. */
int switch_sweep(int nodes_fd);
