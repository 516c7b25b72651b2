/* SPDX-License-Identifier: Apache-2.0 */
/* A task with a hard timeout, which workers that are threads cannot have. */
#include <knitting/task.h>

KNIT_MODULE("1.0");

KNIT_TASK(
    limited, "limited(ms: int) -> nil", .doc = "Ignores all but its end.", .hard_timeout_ms = 200)
{
    uint64_t end_ns = knit_now_ns(call) + (uint64_t)knit_arg_int(call, 0) * 1000000;

    while (knit_now_ns(call) < end_ns)
        ;
    return knit_return_nil(call);
}
