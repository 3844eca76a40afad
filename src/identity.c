#include "identity.h"

#include <endian.h>
#include <nettle/hmac.h>
#include <string.h>

static void derive(const uint8_t key[32], const char *purpose, uint8_t *ret_subkey, size_t size)
{
    struct hmac_sha256_ctx hmac;

    hmac_sha256_set_key(&hmac, 32, key);
    hmac_sha256_update(&hmac, strlen(purpose), (const uint8_t *)purpose);
    hmac_sha256_digest(&hmac, size, ret_subkey);
}

void identity_init(struct identity *identity, const uint8_t key[32])
{
    uint8_t subkey[16];

    derive(key, "nodeid", subkey, sizeof(subkey));
    blowfish_set_key(&identity->nodeid, sizeof(subkey), subkey);
    derive(key, "generation", subkey, sizeof(subkey));
    blowfish_set_key(&identity->generation, sizeof(subkey), subkey);
    derive(key, "name", (uint8_t *)identity->slot_key, sizeof(identity->slot_key));
}

static uint64_t encrypt(const struct blowfish_ctx *key, uint64_t value)
{
    uint64_t block = htobe64(value);

    blowfish_encrypt(key, sizeof(block), (uint8_t *)&block, (const uint8_t *)&block);
    return be64toh(block);
}

static uint64_t decrypt(const struct blowfish_ctx *key, uint64_t value)
{
    uint64_t block = htobe64(value);

    blowfish_decrypt(key, sizeof(block), (uint8_t *)&block, (const uint8_t *)&block);
    return be64toh(block);
}

static uint64_t pack(struct identity_file file)
{
    return (uint64_t)file.node << IDENTITY_INO_BITS | file.ino;
}

/* 0 and 1 mean something to the kernel. Walking on along the cycle until another value comes keeps the mapping a
 * permutation of the rest. */
static int is_reserved(uint64_t nodeid)
{
    return nodeid <= 1;
}

uint64_t identity_nodeid(const struct identity *identity, struct identity_file file)
{
    uint64_t nodeid = pack(file);

    do nodeid = encrypt(&identity->nodeid, nodeid);
    while (is_reserved(nodeid));
    return nodeid;
}

struct identity_file identity_file(const struct identity *identity, uint64_t nodeid)
{
    do nodeid = decrypt(&identity->nodeid, nodeid);
    while (is_reserved(nodeid));
    return (struct identity_file){.node = nodeid >> IDENTITY_INO_BITS, .ino = nodeid & IDENTITY_INO_MAX};
}

uint32_t identity_generation(const struct identity *identity, struct identity_file file)
{
    uint32_t generation = encrypt(&identity->generation, pack(file));

    return generation ? generation : 1;
}

uint64_t identity_st_ino(struct identity_file file)
{
    return pack(file);
}

static inline uint64_t rotate(uint64_t x, int bits)
{
    return x << bits | x >> (64 - bits);
}

/* SipHash-2-4 (Aumasson, Bernstein 2012): short inputs, keyed, and in no library that is at hand. */
static inline void sip_round(uint64_t v[4])
{
    v[0] += v[1];
    v[1] = rotate(v[1], 13) ^ v[0];
    v[0] = rotate(v[0], 32);
    v[2] += v[3];
    v[3] = rotate(v[3], 16) ^ v[2];
    v[0] += v[3];
    v[3] = rotate(v[3], 21) ^ v[0];
    v[2] += v[1];
    v[1] = rotate(v[1], 17) ^ v[2];
    v[2] = rotate(v[2], 32);
}

static inline void sip_word(uint64_t v[4], uint64_t word)
{
    v[3] ^= word;
    sip_round(v);
    sip_round(v);
    v[0] ^= word;
}

uint32_t identity_name_hash(const struct identity *identity, const char *name, size_t length)
{
    const uint64_t *k = identity->slot_key;
    uint64_t v[4] = {k[0] ^ 0x736f6d6570736575, k[1] ^ 0x646f72616e646f6d, k[0] ^ 0x6c7967656e657261,
                     k[1] ^ 0x7465646279746573};
    uint64_t word;
    size_t i;

    for (i = 0; i + 8 <= length; i += 8) {
        memcpy(&word, name + i, 8);
        sip_word(v, le64toh(word));
    }
    word = 0;
    memcpy(&word, name + i, length - i);
    sip_word(v, le64toh(word) | (uint64_t)length << 56);
    v[2] ^= 0xff;
    for (i = 0; i < 4; i++) sip_round(v);
    return v[0] ^ v[1] ^ v[2] ^ v[3];
}

uint32_t identity_fsid(const uint8_t key[32], uint32_t node)
{
    uint32_t store;

    derive(key, "fsid", (uint8_t *)&store, sizeof(store));
    store = be32toh(store) >> (IDENTITY_NODE_BITS + 1);
    return (store ? store : 1) << IDENTITY_NODE_BITS | node;
}
