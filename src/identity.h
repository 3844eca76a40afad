/* identity: nodeids and generations as they go over the wire (DESIGN.md, "Identity").
 *
 * A file is (node, ino): the node's number from the catalog and the inode's number in that node. Its nodeid is
 * a keyed 64-bit permutation of the two, its generation a keyed function of them: both come out the same after
 * every restart, and neither can be guessed from another (2^-64 for nodeids, times 2^-32). */
#pragma once

#include <nettle/blowfish.h>
#include <stdint.h>

#define IDENTITY_NODE_BITS 20
#define IDENTITY_INO_BITS 44
#define IDENTITY_INO_MAX ((UINT64_C(1) << IDENTITY_INO_BITS) - 1)

struct identity {
    struct blowfish_ctx nodeid;
    struct blowfish_ctx generation;
    uint64_t slot_key[2]; /* of identity_slot() */
};

struct identity_file {
    uint32_t node; /* 0: the tree above the nodes' roots */
    uint64_t ino;
};

/* Derives every subkey from the store's 32 secret bytes. */
void identity_init(struct identity *identity, const uint8_t key[32]);

/* Never 0 or 1 (FUSE_ROOT_ID). */
uint64_t identity_nodeid(const struct identity *identity, struct identity_file file);
struct identity_file identity_file(const struct identity *identity, uint64_t nodeid);

/* Never 0, which is the root's. */
uint32_t identity_generation(const struct identity *identity, struct identity_file file);

/* st_ino: unique in the mount and plain, so that tools find it short; no secret. */
uint64_t identity_st_ino(struct identity_file file);

/* A keyed hash of a name: names that collide cannot be chosen by who does not know the key. */
uint32_t identity_name_hash(const struct identity *identity, const char *name, size_t length);

/* fsid of an NFS export (exports(5)), the same for ever: of a node's root, or with node 0 of all of them. The lower 20
 * bits are the node's number, so that no two exports of a store share one; those above are of this store, never 0, so
 * that it is none of the small numbers given by hand. A plain number, as one with an inode number in it (a UUID's handle
 * has) is never found again by mountd on a 32-bit server; below 2^31, as exportfs writes it down signed. */
uint32_t identity_fsid(const uint8_t key[32], uint32_t node);
