/* fault_dir: a directory whose disk makes mistakes: a FUSE mount that passes everything on to another directory, and fails or
 * delays what it is told to. Served by a process of its own. */
#pragma once

#include <stdbool.h>

struct fault_dir;

/* What becomes of reading, of writing (making a file longer included), and of fsync: 0, or an errno. */
struct fault_dir_mistakes {
    int read, write, sync;
    int read_ms; /* that each read takes */
    const char *only; /* a part of the path of those concerned; NULL: all files */
};

/* Mounts `beneath`, an existing directory, at `where`, which exists too. Called before other threads are begun. */
struct fault_dir *fault_dir_mount(const char *beneath, const char *where);
void fault_dir_umount(struct fault_dir *dir);

/* From now on. Mistakes already made stay made. */
void fault_dir_set(struct fault_dir *dir, const struct fault_dir_mistakes *mistakes);
/* How many there were. */
unsigned fault_dir_count(const struct fault_dir *dir);
