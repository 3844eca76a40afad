/* snap_store: what tests of killed snapshot commands ask of the one store of fault_store.h, in its directory "s". */
#pragma once

#include <stdbool.h>

#define SNAP_NODE "node-a" /* fault_store's */

const char *snap_store_where(void);
const char *snap_store_binary(void);
/* What the catalog answers, its first line, in a buffer that the next call overwrites. */
const char *snap_store_ask(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Below STORE/nodes. */
bool snap_store_has(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* `coppice WORDS…`, up to the first NULL, succeeds. */
void snap_store_coppice(const char *a, const char *b, const char *c, const char *d, const char *e);
/* A snapshot cannot be looked into: a new node of it can. */
void snap_store_look_into(const char *snapshot, const char *serial);
/* Until the daemon has put away what a killed process left; fails the test when it does not. */
void snap_store_wait_until_swept(int round);
