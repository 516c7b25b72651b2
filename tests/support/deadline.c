/* SPDX-License-Identifier: Apache-2.0 */
/* The one place under tests/ that pauses. The pause is short enough not to be seen in a test's run
 * time and long enough to leave the CPU to the other side, which on a machine of two cores is often
 * what the test waits for.
 */
#include "tests/support/deadline.h"

#include <limits.h>
#include <stdlib.h>
#include <time.h>

enum { PAUSE_NS = 200 * 1000, NS_PER_MS = 1000 * 1000, SLOWDOWN_MAX = 1000 };

uint64_t knit_deadline_now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000 * NS_PER_MS + (uint64_t)now.tv_nsec;
}

static uint64_t slowdown(void)
{
    const char *text = getenv("KNIT_TEST_SLOWDOWN");
    char *end;
    unsigned long factor;

    if (text == NULL)
        return 1;
    factor = strtoul(text, &end, 10);
    return end != text && *end == '\0' && factor >= 1 && factor <= SLOWDOWN_MAX ? factor : 1;
}

uint64_t knit_deadline_stretched_ns(uint64_t bound_ns)
{
    return bound_ns * slowdown();
}

uint64_t knit_deadline_in_ms(uint32_t timeout_ms)
{
    return knit_deadline_now_ns() + knit_deadline_stretched_ns((uint64_t)timeout_ms * NS_PER_MS);
}

bool knit_deadline_pause(uint64_t deadline_ns)
{
    const struct timespec pause = {.tv_nsec = PAUSE_NS};

    if (knit_deadline_now_ns() >= deadline_ns)
        return false;
    nanosleep(&pause, NULL);
    return true;
}

int knit_deadline_left_ms(uint64_t deadline_ns)
{
    uint64_t now_ns = knit_deadline_now_ns(), left_ms;

    if (now_ns >= deadline_ns)
        return 0;
    left_ms = (deadline_ns - now_ns + NS_PER_MS - 1) / NS_PER_MS;
    return left_ms > INT_MAX ? INT_MAX : (int)left_ms;
}
