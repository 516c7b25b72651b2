/* SPDX-License-Identifier: Apache-2.0 */
/* Random numbers that a failing run can be repeated with.
 *
 * knit_random_init() takes its seed from $KNIT_TEST_SEED or else from the system, and prints it:
 * the line "seed 1234, repeat with KNIT_TEST_SEED=1234" in a failing test's log is all that is
 * needed. The same seed gives the same numbers on every machine. Not for secrets. One struct
 * belongs to one thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct knit_random {
    uint64_t seed;
    uint64_t state;
};

void knit_random_init(struct knit_random *random);

/* A stream of its own, for a second thread or process; nothing is printed. */
void knit_random_init_seeded(struct knit_random *random, uint64_t seed);

uint64_t knit_random_u64(struct knit_random *random);

/* 0 .. bound - 1; bound is not 0. */
uint64_t knit_random_below(struct knit_random *random, uint64_t bound);

/* True once in `one_in` times. */
bool knit_random_chance(struct knit_random *random, uint64_t one_in);

void knit_random_bytes(struct knit_random *random, void *ret_bytes, size_t len);
