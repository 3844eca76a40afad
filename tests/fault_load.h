/* fault_load: several threads change files, each below a directory of its own, and write down what they began and
 * what was answered; later it is told whether what is there now can have come of that.
 *
 * Moments are numbers that only grow, from a clock of the caller's: a time, or a place in a disk's log. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

enum { FAULT_THREADS = 4 };

struct fault_load;

/* Adds to an image's tree the files that the threads find: "load/<thread>/…". */
void fault_load_fill_image(const char *image);

/* `source`: the image's tree, as it was imported. `moment` is called from all threads; its numbers begin above 0. */
struct fault_load *fault_load_new(const char *source, uint64_t seed, uint64_t (*moment)(void *data), void *data);
void fault_load_free(struct fault_load *load);

/* What the threads do: each ends after so many operations (0: never), or when it gets no answer. */
struct fault_plan {
    unsigned operations;
    bool writes; /* nearly nothing but writes that nothing syncs */
};

/* Starts the threads on a node's root. */
void fault_load_start(struct fault_load *load, const char *root, const struct fault_plan *plan);
/* Each thread ends after the operation it is at. */
void fault_load_stop(struct fault_load *load);
/* Errors are what is to be expected from now on. */
void fault_load_expect_death(struct fault_load *load);
/* And those of files that are there no more, as whoever resets a node's root sees it. */
void fault_load_expect_replacement(struct fault_load *load);
/* Waits for the threads' end. False, and printed, when one met an error that nothing excuses. */
bool fault_load_join(struct fault_load *load);
/* Operations answered in all. */
long fault_load_count(const struct fault_load *load);

/* Each of the four: false, and printed with the last operations, when the tree at `root` does not follow from
 * them.
 *
 * Every operation that was answered is there; those that were not wholly or not at all. What is there becomes
 * what the next fault_load_start() goes on from. */
bool fault_load_check_all(struct fault_load *load, const char *root);
/* A tree that was copied at one instant after `moment`: what was answered until then is there, of what came later the first
 * operations of each thread. Changes nothing of what the others look at. */
bool fault_load_check_copy(struct fault_load *load, const char *root, uint64_t moment);
/* As it must be after a power cut at `moment`: as the first, but bytes not synced may, in units of so many bytes,
 * be old. Goes on only with `goes_on`: else other cuts of the same run can be looked at. */
bool fault_load_check_cut(struct fault_load *load, const char *root, uint64_t moment, unsigned unit, bool goes_on);
/* The same of a mount that commits at an interval: what was answered before a sync, of whatever thread, is there, and of what came
 * later the first operations of each thread; bytes written may be there even so. Never goes on. */
bool fault_load_check_async_cut(struct fault_load *load, const char *root, uint64_t moment, unsigned unit);
