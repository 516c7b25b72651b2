/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting in tests: for a condition, up to a deadline, never for a fixed time.
 *
 *     assert_true(KNIT_WAIT_UNTIL(knit_ring_is_empty(&ring), 2000));
 *
 * The condition is evaluated repeatedly with a short pause in between, so a test takes as long as
 * the event that it waits for and no longer. The bound only ends a test that has already failed:
 * make it ten times what a slow machine needs. $KNIT_TEST_SLOWDOWN multiplies every bound, for runs
 * under valgrind and sanitizers.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

/* CLOCK_MONOTONIC. */
uint64_t knit_deadline_now_ns(void);

/* The instant that lies timeout_ms from now, stretched by $KNIT_TEST_SLOWDOWN. */
uint64_t knit_deadline_in_ms(uint32_t timeout_ms);

/* A bound for what a test measures, stretched as deadlines are. */
uint64_t knit_deadline_stretched_ns(uint64_t bound_ns);

/* False once the instant has come; otherwise pauses for a moment first, so that the process that is
 * waited for gets the CPU. */
bool knit_deadline_pause(uint64_t deadline_ns);

/* Milliseconds left, 0 when none, for calls that take a timeout such as poll(). */
int knit_deadline_left_ms(uint64_t deadline_ns);

/* Whether the condition came true within timeout_ms. It is evaluated once more after the deadline,
 * so that a test whose process was not scheduled for a while does not fail for that. */
#define KNIT_WAIT_UNTIL(condition, timeout_ms)                                                     \
    __extension__({                                                                                \
        uint64_t knit_until_ns = knit_deadline_in_ms(timeout_ms);                                  \
        bool knit_met = (condition);                                                               \
        while (!knit_met && knit_deadline_pause(knit_until_ns))                                    \
            knit_met = (condition);                                                                \
        knit_met || (condition);                                                                   \
    })
