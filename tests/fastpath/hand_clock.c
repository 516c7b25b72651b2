/* SPDX-License-Identifier: Apache-2.0 */
/* See hand_clock.h. The linker sends each call of clock_gettime() to __wrap_clock_gettime() here,
 * and calls the C library's __real_clock_gettime(); so does that of the lane's own knit_clock_ns().
 */
#include "tests/fastpath/hand_clock.h"

#include <assert.h>
#include <stdbool.h>
#include <time.h>

#define NS_PER_S 1000000000u

static bool is_started;
static uint64_t now_ns;

/* Names that the linker makes. NOLINTBEGIN(bugprone-reserved-identifier) */
int __real_clock_gettime(clockid_t clock, struct timespec *ret);
int __wrap_clock_gettime(clockid_t clock, struct timespec *ret);

int __wrap_clock_gettime(clockid_t clock, struct timespec *ret)
{
    if (!is_started || clock != CLOCK_MONOTONIC)
        return __real_clock_gettime(clock, ret);
    now_ns += HAND_CLOCK_LOOK_NS;
    *ret = (struct timespec){(time_t)(now_ns / NS_PER_S), (long)(now_ns % NS_PER_S)};
    return 0;
}

/* From what the machine's says, so that moments before it have passed and sleeps until later ones
 * end. */
void hand_clock_start(void)
{
    struct timespec now;

    (void)__real_clock_gettime(CLOCK_MONOTONIC, &now);
    now_ns = (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
    is_started = true;
}
/* NOLINTEND(bugprone-reserved-identifier) */

void hand_clock_stop(void)
{
    is_started = false;
}

void hand_clock_pass(uint64_t ns)
{
    assert(is_started);
    now_ns += ns;
}
