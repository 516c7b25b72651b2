/* SPDX-License-Identifier: Apache-2.0 */
/* SplitMix64 (Steele, Lea, Flood: "Fast splittable pseudorandom number generators", 2014): eight
 * bytes of state, any seed is a good one, and the numbers pass the usual statistical batteries,
 * which is more than tests need.
 */
#include "tests/support/random.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

__extension__ typedef unsigned __int128 wide;

static uint64_t seed_of_this_run(void)
{
    const char *text = getenv("KNIT_TEST_SEED");
    char *end;
    uint64_t seed = 0;

    if (text != NULL && *text) {
        seed = strtoull(text, &end, 0);
        if (*end == '\0')
            return seed;
        fprintf(stderr, "KNIT_TEST_SEED: '%s' is not a number, ignored\n", text);
    }
    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        abort();
    return seed;
}

void knit_random_init(struct knit_random *random)
{
    knit_random_init_seeded(random, seed_of_this_run());
    fprintf(stderr, "seed %" PRIu64 ", repeat with KNIT_TEST_SEED=%" PRIu64 "\n", random->seed,
        random->seed);
}

void knit_random_init_seeded(struct knit_random *random, uint64_t seed)
{
    *random = (struct knit_random){.seed = seed, .state = seed};
}

uint64_t knit_random_u64(struct knit_random *random)
{
    uint64_t mixed = random->state += 0x9e3779b97f4a7c15u;

    mixed = (mixed ^ (mixed >> 30)) * 0xbf58476d1ce4e5b9u;
    mixed = (mixed ^ (mixed >> 27)) * 0x94d049bb133111ebu;
    return mixed ^ (mixed >> 31);
}

uint64_t knit_random_below(struct knit_random *random, uint64_t bound)
{
    /* The high half of a wide product: without the bias of `%` for small bounds, and without a
     * division. */
    return (uint64_t)(((wide)knit_random_u64(random) * bound) >> 64);
}

bool knit_random_chance(struct knit_random *random, uint64_t one_in)
{
    return knit_random_below(random, one_in) == 0;
}

void knit_random_bytes(struct knit_random *random, void *ret_bytes, size_t len)
{
    unsigned char *at = ret_bytes;

    while (len > 0) {
        uint64_t word = knit_random_u64(random);
        size_t part = len < sizeof(word) ? len : sizeof(word);

        memcpy(at, &word, part);
        at += part;
        len -= part;
    }
}
