/* fault_disk: a disk that writes down every write and every flush, and can be made again as a power cut would have
 * left it.
 *
 * The disk is a file in memory, a file system on it is mounted by a loop device. While it records, the loop
 * device stands on a file of a FUSE mount of its own, served by a process that applies and logs each request before
 * it answers. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fault_disk;

/* True when loop devices are to be had here. */
bool fault_disk_is_possible(void);

/* A disk with an empty file system on it, of so many bytes at least; freed when it is not mounted. The file system is ext4, or
 * $COPPICE_DISK: xfs, btrfs, ext4:1024 or xfs:1024 (its blocks' bytes). */
struct fault_disk *fault_disk_new(size_t bytes);
void fault_disk_free(struct fault_disk *disk);

/* True for a file system that never writes in place. */
bool fault_disk_copies(void);

/* Bytes of a page that the file system writes as one: its block, at most a page. */
unsigned fault_disk_block(void);

/* Mounts the disk's file system at the directory. False, and printed, when it cannot be. */
bool fault_disk_mount(struct fault_disk *disk, const char *where);
/* When nothing uses it any more. */
void fault_disk_umount(struct fault_disk *disk, const char *where);

/* Begins to write down; `file` is an existing file to put the FUSE mount on. Called before other threads are begun.
 * The end: the disk forgets its recorded writes, but for the cuts. Recorded again, it forgets the first record. */
void fault_disk_record(struct fault_disk *disk, const char *file);
void fault_disk_record_end(struct fault_disk *disk);
/* A recorded disk answers no more, until it is thawed. */
void fault_disk_freeze(struct fault_disk *disk, bool is_frozen);

/* How many writes and flushes there were, plus one, so that it begins above 0; from any thread. An entry that is in
 * the log when this is read has a moment less than it. */
uint64_t fault_disk_moment(void *disk);
/* True when the log's entry before the moment is a flush. */
bool fault_disk_is_flush(const struct fault_disk *disk, uint64_t moment);

/* What the power cut leaves of the writes since the last flush: each write with `chance` in 256 of being there; of
 * a torn one each sector of 512 bytes by itself. */
struct fault_cut {
    uint64_t moment, seed;
    unsigned chance;
    bool is_torn;
};

/* Sets the disk `to`, of the same size, to what the cut leaves of `from`. */
void fault_disk_cut(const struct fault_disk *from, const struct fault_cut *cut, struct fault_disk *to);
