/* recovery: what a delta needs after its daemon or its machine died: rows reach the disk before the contents they speak
 * of (see commit.h), and what is missing is told by the objects themselves.
 *
 * An object is sparse, and a file system shows data only where data is (ext4 data=ordered, XFS and btrfs write data before
 * the extent that shows it). So where an object has a hole, a superseded chunk shows again; where it has data, the data was written whole pages
 * at a time, where nothing was before (chunk_clear_beneath), and counts. An object whose file has grown without fsync may be
 * shorter than the file: the rest is zeros. After a mere death of the daemon all data is there. */
#pragma once

struct delta;

/* Called before anything else uses the delta. When it returns, all that the delta shows is durable, also what a dead daemon has
 * left in the page cache. */
int recovery_run(struct delta *delta);

/* Then: removes objects that no inode has. They were made, or their inodes ended, when the daemon died. Costs a look at each
 * object's name and, if there is one, at each inode. Where not all inodes can be read, nothing is removed (logged). */
void recovery_sweep(struct delta *delta);
