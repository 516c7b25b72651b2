/* SPDX-License-Identifier: Apache-2.0 */
/* Two tasks that sleep: what calls of one take says nothing of the other's mean. */
#include <stdint.h>
#include <time.h>

#include <knitting/task.h>

KNIT_MODULE("1.0");

static int sleep_for(struct knit_call *call)
{
    const int64_t ms = knit_arg_int(call, 0);
    const struct timespec nap = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&nap, NULL);
    return knit_return_nil(call);
}

KNIT_TASK(nap, "nap(ms: int) -> nil")
{
    return sleep_for(call);
}

KNIT_TASK(other_nap, "other_nap(ms: int) -> nil")
{
    return sleep_for(call);
}
