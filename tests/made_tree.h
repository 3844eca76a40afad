/* made_tree: a root file system with one of everything, the same at each call, that serves the tests as image.
 *
 *   sizes/<bytes>        regular files of 0 B … 5 MiB, contents made_fill(bytes, …)
 *   sparse/              holes at the head, in the middle, at the tail, all over
 *   links/               hard links of one inode in two directories
 *   symlinks/            relative, absolute, dangling, looping, 4,095 bytes long
 *   special/             fifo, socket, character and block device
 *   modes/               set-id, sticky, unreadable, foreign owners
 *   xattrs/, acls/       user.*, trusted.*, security.capability; access and default lists
 *   names/               255 odd bytes
 *   deep/d/…/file        40 levels
 *   many/                MADE_MANY entries of several kinds
 *   empty/               an empty directory
 *   tree/, victims/      something to move and something to delete
 *   boot/, etc/, usr/    as every root has */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

enum { MADE_MANY = 2000, MADE_DEEP = 40 };
#define MADE_LARGE (5 << 20)
#define MADE_LARGE_NAME "sizes/5242880"

/* The user and group that own what root does not, and that unprivileged tests run as. */
enum { MADE_UID = 12345, MADE_GID = 12346 };

/* Fills an existing empty directory. A failure fails the calling test or fixture. */
void made_tree(const char *path);

/* Gives everything under `path`, and itself, a modification time in 1980-2000, computed from its relative path. So a
 * time after that says that something has changed it. */
void made_tree_set_times(const char *path);
#define MADE_TIMES_END 978307200 /* 2001-01-01 */

/* Contents: each byte follows from the seed and its offset. */
void made_fill(uint64_t seed, uint64_t offset, void *buffer, size_t size);
bool made_matches(uint64_t seed, uint64_t offset, const void *buffer, size_t size);

/* A new file of made contents. */
void made_file(const char *path, uint64_t seed, uint64_t size, mode_t mode);
/* The file's contents are those: its size, every byte. Fails the test otherwise. */
void made_check_file(const char *path, uint64_t seed, uint64_t size);
