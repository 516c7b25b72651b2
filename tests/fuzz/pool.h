/* SPDX-License-Identifier: Apache-2.0 */
/* The memory of a pool for fuzz targets, and a simulated machine around it.
 *
 * Segments lie in the heap, where AddressSanitizer sees the first byte beside them. They are
 * allocated once and reset for each input.
 *
 * The linker replaces clock_gettime() by this clock and syscall() by these futexes: each read of
 * the clock takes a microsecond, a sleep ends at once, woken or timed out. So one thread can be all
 * workers and callers, one after the other, and an input has the same effect each time. A peer may
 * step in at each read of the clock, before each sleep, and before each load of a shared word in
 * the sources that step.h is included into.
 *
 * Inputs are read front to back; what is read behind their end is 0.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "fastpath/lane/layout.h"

enum {
    POOL_LANES = 3,
    POOL_SLOTS = 5,
    POOL_CELLS = 32,
    POOL_REQUEST_ARENA = 2 * KNIT_PAGE,
    POOL_REPLY_ARENA = 6 * KNIT_PAGE, /* more than one outcome of a page for each slot */
    POOL_SESSIONS = 2,
};

struct pool_session {
    struct knit_geometry geometry;
    unsigned char *request_base, *reply_base;
    size_t request_bytes, reply_bytes;
    struct knit_request_view request;
    struct knit_reply_view reply;
};

struct pool {
    struct knit_board_view board;
    struct knit_pool_view pool;
    unsigned char *board_base, *pool_base;
    size_t board_bytes, pool_bytes;
    struct pool_session session[POOL_SESSIONS];
};

/* The state after `start` calls in each ring and each slot. It is the same memory each time. */
struct pool *pool_begin(uint64_t start);

/* Starts worth trying: the beginning, and shortly before something wraps. */
uint64_t pool_start(uint8_t number);

/* ---- the machine ---- */

struct machine {
    uint64_t now_ns;
    /* Called at each read of the clock and before each sleep; NULL = no peer steps in. */
    void (*on_step)(void *arg);
    /* Called before each load and exchange where step.h is included; NULL = no peer steps in. */
    void (*on_access)(void *arg);
    void *arg;
    uint32_t wakes, sleeps;
};

extern struct machine machine;

/* ---- the input ---- */

struct input {
    const uint8_t *bytes;
    size_t len, at;
};

bool input_is_over(const struct input *input);
uint8_t input_u8(struct input *input);
uint64_t input_u64(struct input *input);
/* 0 .. bound - 1, bound at most 256 */
uint32_t input_below(struct input *input, uint32_t bound);
/* A value instead of `now`: the ends of the range, one bit or one step from it, or any. */
uint64_t input_word(struct input *input, uint64_t now);
/* Writes input_word() into that word, or into any aligned word of that memory. */
void input_write32(struct input *input, _Atomic uint32_t *word);
void input_write64(struct input *input, _Atomic uint64_t *word);
void input_write_within(struct input *input, unsigned char *base, size_t bytes);
