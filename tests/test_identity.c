#include "scratch.h"

#include <endian.h>
#include <string.h>

#include "dice.h"
#include "identity.h"

static const uint8_t first_key[32] = "one secret of thirty-two bytes.";
static const uint8_t second_key[32] = "one secret of thirty-two bytes!";

static struct identity identity_of(const uint8_t key[32])
{
    struct identity identity;

    identity_init(&identity, key);
    return identity;
}

static struct identity_file unpack(uint64_t block)
{
    return (struct identity_file){.node = block >> IDENTITY_INO_BITS, .ino = block & IDENTITY_INO_MAX};
}

static void assert_round_trip(const struct identity *identity, struct identity_file file)
{
    uint64_t nodeid = identity_nodeid(identity, file);
    struct identity_file back = identity_file(identity, nodeid);

    assert_true(nodeid > 1);
    assert_int_equal(back.node, file.node);
    assert_int_equal(back.ino, file.ino);
}

static void test_round_trip(void **state)
{
    static const uint64_t inos[] = {2, 3, 15, 16, 0xffffffff, 0x100000000, IDENTITY_INO_MAX - 1, IDENTITY_INO_MAX};
    static const uint32_t nodes[] = {0, 1, 2, 0xffff, (1u << IDENTITY_NODE_BITS) - 2, (1u << IDENTITY_NODE_BITS) - 1};
    struct identity identity = identity_of(first_key);
    struct dice dice = dice_new();

    (void)state;
    /* (0, 0) is no file and (0, 1) the root of the mount, whose nodeid is the kernel's. */
    for (size_t n = 1; n < sizeof(nodes) / sizeof(*nodes); n++) {
        assert_round_trip(&identity, (struct identity_file){nodes[n], 0});
        assert_round_trip(&identity, (struct identity_file){nodes[n], 1});
    }
    for (size_t n = 0; n < sizeof(nodes) / sizeof(*nodes); n++)
        for (size_t i = 0; i < sizeof(inos) / sizeof(*inos); i++)
            assert_round_trip(&identity, (struct identity_file){nodes[n], inos[i]});
    for (int i = 0; i < 200000; i++) assert_round_trip(&identity, unpack(dice_roll(&dice)));
}

/* Every nodeid the kernel may send means one file, known or not. */
static void test_every_nodeid_is_of_one_file(void **state)
{
    struct identity identity = identity_of(first_key);
    struct dice dice = dice_new();

    (void)state;
    assert_int_equal(identity_nodeid(&identity, identity_file(&identity, 2)), 2);
    assert_int_equal(identity_nodeid(&identity, identity_file(&identity, UINT64_MAX)), UINT64_MAX);
    for (int i = 0; i < 100000; i++) {
        uint64_t nodeid = dice_roll(&dice) | 2;

        assert_int_equal(identity_nodeid(&identity, identity_file(&identity, nodeid)), nodeid);
    }
}

/* The files whose nodeids would be 0 and 1. */
static void test_reserved_nodeids_are_passed_over(void **state)
{
    struct identity identity = identity_of(first_key);

    (void)state;
    for (uint64_t reserved = 0; reserved < 2; reserved++) {
        uint64_t block = htobe64(reserved);

        blowfish_decrypt(&identity.nodeid, sizeof(block), (uint8_t *)&block, (const uint8_t *)&block);
        assert_round_trip(&identity, unpack(be64toh(block)));
    }
}

static int compare(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;

    return (x > y) - (x < y);
}

static void test_no_two_files_have_one_nodeid(void **state)
{
    enum { COUNT = 1000000, NODES = 40 };
    struct identity identity = identity_of(first_key);
    uint64_t *ids = test_calloc(COUNT, sizeof(*ids));

    (void)state;
    for (uint64_t i = 0; i < COUNT; i++)
        ids[i] = identity_nodeid(&identity, (struct identity_file){i % NODES, i / NODES});
    qsort(ids, COUNT, sizeof(*ids), compare);
    for (size_t i = 1; i < COUNT; i++) assert_true(ids[i - 1] < ids[i]);
    test_free(ids);
}

static void test_generation_is_never_zero(void **state)
{
    struct identity identity = identity_of(first_key);
    struct dice dice = dice_new();

    (void)state;
    for (int i = 0; i < 200000; i++) assert_true(identity_generation(&identity, unpack(dice_roll(&dice))) != 0);
    /* Chosen so that the 32 bits used are 0. */
    for (uint64_t high = 0; high < 100; high++) {
        uint64_t block = htobe64(high << 32);

        blowfish_decrypt(&identity.generation, sizeof(block), (uint8_t *)&block, (const uint8_t *)&block);
        assert_true(identity_generation(&identity, unpack(be64toh(block))) != 0);
    }
}

/* What is handed out must come out the same after every restart: fixed values, whoever computes them. */
static void test_same_key_same_results(void **state)
{
    struct identity one = identity_of(first_key), same = identity_of(first_key), other = identity_of(second_key);
    struct dice dice = dice_new();
    int equal = 0;

    (void)state;
    for (int i = 0; i < 10000; i++) {
        struct identity_file file = unpack(dice_roll(&dice));

        assert_int_equal(identity_nodeid(&one, file), identity_nodeid(&same, file));
        assert_int_equal(identity_generation(&one, file), identity_generation(&same, file));
        equal += identity_nodeid(&one, file) == identity_nodeid(&other, file);
        equal += identity_generation(&one, file) == identity_generation(&other, file);
    }
    assert_in_range(equal, 0, 2);
    assert_int_equal(identity_name_hash(&one, "etc", 3), identity_name_hash(&same, "etc", 3));
    assert_int_not_equal(identity_name_hash(&one, "etc", 3), identity_name_hash(&other, "etc", 3));
}

/* A nodeid tells nothing of its generation, nor of its neighbour. */
static void test_results_do_not_follow_from_each_other(void **state)
{
    struct identity identity = identity_of(first_key);
    int bits = 0;

    (void)state;
    for (uint64_t i = 0; i < 10000; i++) {
        struct identity_file file = {1, i}, next = {1, i + 1};
        uint64_t nodeid = identity_nodeid(&identity, file);

        assert_int_not_equal((uint32_t)nodeid, identity_generation(&identity, file));
        bits += __builtin_popcountll(nodeid ^ identity_nodeid(&identity, next));
    }
    assert_in_range(bits / 10000, 31, 33);
}

static void test_st_ino_is_plain(void **state)
{
    (void)state;
    assert_int_equal(identity_st_ino((struct identity_file){0, 1}), 1);
    assert_int_equal(identity_st_ino((struct identity_file){1, 1}), (UINT64_C(1) << 44) + 1);
    assert_int_equal(identity_st_ino((struct identity_file){(1u << 20) - 1, IDENTITY_INO_MAX}), UINT64_MAX);
}

/* SipHash-2-4 of the bytes 00 01 02 …, key 00 01 … 0f: length 15 from the paper, the rest computed apart. */
static void test_name_hash_is_siphash(void **state)
{
    static const struct {
        size_t length;
        uint64_t hash;
    } vectors[] = {
        {0, 0x726fdb47dd0e0e31},  {1, 0x74f839c593dc67fd},  {2, 0x0d6c8009d9a94f5a},   {3, 0x85676696d7fb7e2d},
        {4, 0xcf2794e0277187b7},  {5, 0x18765564cd99a68d},  {6, 0xcbc9466e58fee3ce},   {7, 0xab0200f58b01d137},
        {8, 0x93f5f5799a932462},  {15, 0xa129ca6149be45e5}, {16, 0x3f2acc7f57c29bdb},  {63, 0x958a324ceb064572},
        {255, 0xa9c169fec74db21a},
    };
    struct identity identity = {0};
    uint8_t bytes[255];

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++) bytes[i] = i;
    identity.slot_key[0] = 0x0706050403020100;
    identity.slot_key[1] = 0x0f0e0d0c0b0a0908;
    for (size_t i = 0; i < sizeof(vectors) / sizeof(*vectors); i++)
        assert_int_equal(identity_name_hash(&identity, (const char *)bytes, vectors[i].length),
                         (uint32_t)vectors[i].hash);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_round_trip),
        cmocka_unit_test(test_every_nodeid_is_of_one_file),
        cmocka_unit_test(test_reserved_nodeids_are_passed_over),
        cmocka_unit_test(test_no_two_files_have_one_nodeid),
        cmocka_unit_test(test_generation_is_never_zero),
        cmocka_unit_test(test_same_key_same_results),
        cmocka_unit_test(test_results_do_not_follow_from_each_other),
        cmocka_unit_test(test_st_ino_is_plain),
        cmocka_unit_test(test_name_hash_is_siphash),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
