#include "scratch.h"

#include <string.h>

#include "dice.h"
#include "inomap.h"

enum { INOS = 3000 };

/* Counts by index; the inode numbers are spread as they are in use: dense, and high. */
struct model {
    uint64_t inos[INOS], counts[INOS];
};

static void model_init(struct model *model, struct dice *dice)
{
    memset(model, 0, sizeof(*model));
    for (size_t i = 0; i < INOS; i++) model->inos[i] = i % 2 ? i + 1 : (dice_roll(dice) >> 20 << 12) + i + 1;
}

static void assert_same(const struct inomap *map, const struct model *model)
{
    size_t used = 0;

    for (size_t i = 0; i < INOS; i++) {
        assert_int_equal(inomap_get(map, model->inos[i]), model->counts[i]);
        used += model->counts[i] > 0;
    }
    assert_int_equal(map->used, used);
}

static void step(struct inomap *map, struct model *model, struct dice *dice, bool growing)
{
    size_t i = dice_below(dice, INOS);
    uint64_t count = 1 + dice_below(dice, 3), left;

    if (dice_below(dice, 10) < (growing ? 7 : 3)) {
        assert_int_equal(inomap_add(map, model->inos[i], count), 0);
        model->counts[i] += count;
    } else {
        left = model->counts[i] > count ? model->counts[i] - count : 0;
        assert_int_equal(inomap_sub(map, model->inos[i], count), left);
        model->counts[i] = left;
    }
    assert_int_equal(inomap_get(map, model->inos[i]), model->counts[i]);
}

static void test_random(void **state)
{
    static struct model model;
    struct dice dice = dice_new();
    struct inomap map = {0};

    (void)state;
    model_init(&model, &dice);
    for (int i = 0; i < 300000; i++) {
        step(&map, &model, &dice, i / 50000 % 2 == 0);
        if (i % 5000 == 0) assert_same(&map, &model);
    }
    assert_same(&map, &model);
    inomap_clear(&map);
    memset(model.counts, 0, sizeof(model.counts));
    assert_same(&map, &model);
}

static void test_empty(void **state)
{
    struct inomap map = {0};

    (void)state;
    assert_int_equal(inomap_get(&map, 1), 0);
    assert_int_equal(inomap_sub(&map, 1, 1), 0);
    inomap_clear(&map);
    assert_int_equal(inomap_add(&map, 1, 2), 0);
    assert_int_equal(inomap_sub(&map, 2, 1), 0);
    assert_int_equal(inomap_sub(&map, 1, 5), 0);
    assert_int_equal(map.used, 0);
    assert_int_equal(inomap_get(&map, 1), 0);
    inomap_clear(&map);
    assert_null(map.slots);
}

static void test_growth_keeps_everything(void **state)
{
    struct inomap map = {0};

    (void)state;
    for (uint64_t i = 1; i <= 100000; i++) {
        assert_int_equal(inomap_add(&map, i << 12, i), 0);
        assert_true(map.used < map.mask + 1); /* a search must meet a free slot */
    }
    assert_int_equal(map.used, 100000);
    for (uint64_t i = 1; i <= 100000; i++) assert_int_equal(inomap_get(&map, i << 12), i);
    inomap_clear(&map);
}

static size_t slot_in_empty_map(uint64_t ino)
{
    struct inomap map = {0};
    size_t slot = 0;

    assert_int_equal(inomap_add(&map, ino, 1), 0);
    while (map.slots[slot].ino != ino) slot++;
    inomap_clear(&map);
    return slot;
}

/* Numbers that all belong into the last three slots of the table: probes run around its end. */
static void collect_colliding(uint64_t *inos, size_t count)
{
    uint64_t ino = 1;

    for (size_t n = 0; n < count; ino++)
        if (slot_in_empty_map(ino) >= 61) inos[n++] = ino;
}

static void test_erase_among_collisions(void **state)
{
    enum { COUNT = 40 };
    struct dice dice = dice_new();
    uint64_t inos[COUNT];

    (void)state;
    collect_colliding(inos, COUNT);
    for (int round = 0; round < 500; round++) {
        struct inomap map = {0};

        for (size_t i = 0; i < COUNT; i++) assert_int_equal(inomap_add(&map, inos[i], i + 1), 0);
        for (size_t left = COUNT; left > 0; left--) {
            size_t out = dice_below(&dice, left);
            uint64_t ino = inos[out];

            assert_int_equal(inomap_sub(&map, ino, UINT64_MAX), 0);
            assert_int_equal(map.used, left - 1);
            inos[out] = inos[left - 1];
            inos[left - 1] = ino;
            for (size_t i = 0; i < COUNT; i++) assert_int_equal(inomap_get(&map, inos[i]) > 0, i < left - 1);
        }
        inomap_clear(&map);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_empty),
        cmocka_unit_test(test_random),
        cmocka_unit_test(test_growth_keeps_everything),
        cmocka_unit_test(test_erase_among_collisions),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
