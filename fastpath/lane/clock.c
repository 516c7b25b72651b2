/* SPDX-License-Identifier: Apache-2.0 */
/* A thread that is interrupted between two readings sees its clocks too far apart, so a pair is
 * read until its monotonic readings are close together.
 */
#include "fastpath/lane/clock.h"

#include <time.h>

#include "fastpath/lane/bell.h"

enum {
    CLOSE_NS = 20000,
    PAIRS_MAX = 64, /* then the closest one has to do */
};

static uint64_t day_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

uint64_t knit_clock_difference(void)
{
    uint64_t difference = 0, least = UINT64_MAX;

    for (int i = 0; i < PAIRS_MAX && least > CLOSE_NS; i++) {
        uint64_t before = knit_clock_ns(), day = day_ns(), took = knit_clock_ns() - before;

        if (took < least) {
            least = took;
            difference = day - (before + took / 2);
        }
    }
    return difference;
}

bool knit_clock_is_near(int64_t shift, int64_t other)
{
    uint64_t apart = (uint64_t)shift - (uint64_t)other;

    return apart < KNIT_CLOCK_NEAR_NS || -apart < KNIT_CLOCK_NEAR_NS;
}

bool knit_clock_shift(uint64_t before, uint64_t after, uint64_t host, int64_t *ret_shift)
{
    int64_t shift = (int64_t)(after - host);

    if (!knit_clock_is_near((int64_t)before, (int64_t)after))
        return false;
    *ret_shift = knit_clock_is_near(shift, 0) ? 0 : shift;
    return true;
}

uint64_t knit_clock_shifted(uint64_t at_ns, int64_t shift)
{
    if (shift < 0)
        return at_ns > -(uint64_t)shift ? at_ns + (uint64_t)shift : 1;
    return at_ns < UINT64_MAX - (uint64_t)shift ? at_ns + (uint64_t)shift : UINT64_MAX;
}
