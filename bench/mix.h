/* SPDX-License-Identifier: Apache-2.0 */
/* What a load calls: one task or a mix of several, with arguments and what to expect back.
 *
 *     echo:64           a bin of 64 bytes; the same bytes are expected
 *     echo:64t          a text of 64 bytes
 *     empty             no arguments
 *     primes_below(9)   integers
 *     echo:64*9,sleep(1)*1
 *                       a mix: nine in ten calls are the first
 *
 * Each bin has its call's number in the first eight bytes (if it is as long), a text has it in
 * eight letters, so an answer of another call is noticed.
 *
 * Threads: built once; then every thread has a struct knit_mix_argument of its own.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { KNIT_MIX_TASKS_MAX = 16, KNIT_MIX_NAME_MAX = 128 };

struct knit_mix_task {
    char name[KNIT_MIX_NAME_MAX + 1];
    uint64_t until;  /* of the weights, added up */
    uint8_t *params; /* one msgpack array */
    size_t len;
    size_t body; /* where the bin's or text's bytes begin in params, 0 = neither */
    bool is_text;
    bool echoes; /* the result is the argument */
};

struct knit_mix {
    uint32_t count;
    struct knit_mix_task tasks[KNIT_MIX_TASKS_MAX];
    const char *flaw; /* when parsing failed: static text */
};

/* False: mix->flaw names the error in the text. */
bool knit_mix_init(struct knit_mix *mix, const char *text);
void knit_mix_fini(struct knit_mix *mix);

/* A thread's own copy of the arguments, which it stamps. */
struct knit_mix_argument {
    const struct knit_mix *mix;
    uint8_t *params[KNIT_MIX_TASKS_MAX];
    uint64_t random;
};

bool knit_mix_argument_init(
    struct knit_mix_argument *argument, const struct knit_mix *mix, uint64_t seed);
void knit_mix_argument_fini(struct knit_mix_argument *argument);

/* The task of the next call, by weight. */
uint32_t knit_mix_choose(struct knit_mix_argument *argument);

/* The params of call `number`, valid until the next call of this function. */
const void *knit_mix_params(
    struct knit_mix_argument *argument, uint32_t task, uint64_t number, size_t *ret_len);

/* Whether that is what call `number` had to return. `whole`: check every byte. */
bool knit_mix_check(const struct knit_mix_argument *argument, uint32_t task, uint64_t number,
    const void *result, size_t len, bool whole);
