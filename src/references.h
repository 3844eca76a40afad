/* references: how often the kernel refers to each inode, counted as the FUSE protocol wants it (look-ups up, FORGET down), in
 * memory that outlives the daemon: a file without a name stays as long as the kernel has it open.
 *
 * An inode is (node, number as it leaves the daemon). A daemon that dies between counting and answering leaves a count too
 * high, never one too low: such an inode stays until the next mount. Thread-safe. */
#pragma once

#include "handover.h"

/* For handover_open() and handover_close(). */
int references_open(struct handover *handover);
void references_close(struct handover *handover);

/* One more; -ENOMEM or another negative errno. */
int references_add(struct handover *handover, uint32_t node, uint64_t ino);
/* `count` less, to 0 at the least; what is left. */
uint64_t references_sub(struct handover *handover, uint32_t node, uint64_t ino, uint64_t count);
uint64_t references_get(struct handover *handover, uint32_t node, uint64_t ino);

/* The numbers of the node's inodes that the kernel refers to: a list that the caller frees; negative errno. Walks through all. */
int references_list(struct handover *handover, uint32_t node, uint64_t **ret_inos, size_t *ret_count);

/* Inodes that the kernel refers to. Walks through all. */
size_t references_total(struct handover *handover);
