/* random_ops: one seeded sequence of operations done on two trees, whose results must agree call by call.
 *
 * Both trees begin equal. A path never leads through a symlink, so that nothing outside of the trees is reached. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

struct random_ops;

/* `expected` and `found` are borrowed. Fails the test when there is no memory. */
struct random_ops *random_ops_new(const char *expected, const char *found, uint64_t seed);
void random_ops_free(struct random_ops *ops);

/* One operation on both trees. False when they did not agree: the last operations are then printed. */
bool random_ops_step(struct random_ops *ops);
long random_ops_count(const struct random_ops *ops);
/* Closes the files that operations keep open: before an unmount. */
void random_ops_close(struct random_ops *ops);
/* The last operations, for whoever finds a difference later. */
void random_ops_print(const struct random_ops *ops);

/* A seed from $COPPICE_RANDOM_SEED, else from the clock, printed; and $COPPICE_RANDOM_SECONDS. */
uint64_t random_seed(void);
double random_seconds(double usual);

/* The next of a sequence of numbers; the state is not 0. */
uint64_t random_next(uint64_t *state);
/* 0 … below - 1. */
uint64_t random_below(uint64_t *state, uint64_t below);
