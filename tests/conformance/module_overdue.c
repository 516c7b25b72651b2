/* SPDX-License-Identifier: Apache-2.0 */
/* A task with a hard timeout whose call is deferred and has no outcome. */
#include <knitting/deferred.h>

KNIT_MODULE("1.0");

KNIT_TASK(overdue, "overdue() -> nil", .hard_timeout_ms = 200)
{
    if (knit_defer(call) == NULL)
        return knit_fail(call, 1, "too many");
    return 0;
}
