/* dice: pseudo-random numbers for tests, the same again for the same seed (splitmix64, Steele, Lea, Flood 2014). */
#pragma once

#include <stdint.h>
#include <stdlib.h>
#include <time.h>

#include "scratch.h"

struct dice {
    uint64_t state;
};

/* A new seed each time, which is printed, or that of $COPPICE_TEST_SEED. */
static inline struct dice dice_new(void)
{
    const char *given = getenv("COPPICE_TEST_SEED");
    uint64_t seed = given ? strtoull(given, NULL, 0) : (uint64_t)time(NULL) * 1000003 + (uint64_t)clock();

    print_message("COPPICE_TEST_SEED=%llu\n", (unsigned long long)seed);
    return (struct dice){seed};
}

static inline uint64_t dice_roll(struct dice *dice)
{
    uint64_t z = dice->state += UINT64_C(0x9e3779b97f4a7c15);

    z = (z ^ z >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ z >> 27) * UINT64_C(0x94d049bb133111eb);
    return z ^ z >> 31;
}

/* 0 … end - 1 */
static inline uint64_t dice_below(struct dice *dice, uint64_t end)
{
    return dice_roll(dice) % end;
}

/* True once in `times`, on average. */
static inline bool dice_once_in(struct dice *dice, uint64_t times)
{
    return dice_below(dice, times) == 0;
}
