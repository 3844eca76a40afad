/* fault_model: what a small tree of files should look like after a list of operations, and whether one does.
 *
 * A model made with `unit` 0 knows one truth. With a unit of bytes it also keeps what data could read as instead
 * while no fsync has confirmed it: each unit of a file as before any write since, and each size. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fault_op.h"

struct fault_model;

/* An empty tree; fault_model_read(): the tree as it is there now, NULL and a message when it cannot be read. Free
 * each. */
struct fault_model *fault_model_new(void);
struct fault_model *fault_model_read(const char *path, char *ret_why, size_t room);
struct fault_model *fault_model_clone(const struct fault_model *model);
void fault_model_free(struct fault_model *model);

/* From now on what is written may, until it is synced, read as before in any unit of so many bytes. */
void fault_model_keep_old(struct fault_model *model, unsigned unit);
/* And no file may have another size than the model's. */
void fault_model_know_sizes(struct fault_model *model);

/* Something that can be done now, by dice; `state` as random_next() has it. With `writes`: nearly always a write
 * that nothing syncs. */
void fault_model_choose(const struct fault_model *model, uint64_t *state, bool writes, struct fault_op *ret_op);
/* Does it to the model. */
void fault_model_apply(struct fault_model *model, const struct fault_op *op);
/* What the operation does to bytes in place (a write, a hole; else nothing), if the file is there: on a model that lacks
 * the operations between. No file gets longer by it. */
void fault_model_apply_late_write(struct fault_model *model, const struct fault_op *op);
/* True for a write whose bytes may come in parts when it is cut off: they are not all in one row, or in one
 * request. */
bool fault_model_writes_in_parts(const struct fault_model *model, const struct fault_op *op);

/* False: *ret_why says where the found tree differs. Without `contents`: names and attributes alone, no sizes. */
bool fault_model_agrees(const struct fault_model *expected, const struct fault_model *found, bool contents,
                        char *ret_why, size_t room);

/* The two agree: what could read as old or new becomes what was found. */
void fault_model_adopt(struct fault_model *model, const struct fault_model *found);
