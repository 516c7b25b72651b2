/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that take longer than somebody waits, and say in every way what comes then; and how many of
 * them ran. */
#include <time.h>

#include <knitting/task.h>

KNIT_MODULE("1");

static int64_t ran, finished;

/* Until it is told to stop, or the time has passed; then its result is what it was given. */
static int stay(struct knit_call *call, int64_t ms)
{
    uint64_t end_ns = knit_now_ns(call) + (uint64_t)ms * 1000000;
    const struct timespec pause = {0, 200000}; /* before it looks again */

    ran++;
    while (knit_now_ns(call) < end_ns) {
        if (knit_aborted(call))
            return knit_return_aborted(call);
        nanosleep(&pause, NULL);
    }
    finished++;
    return knit_return_int(call, ms);
}

KNIT_TASK(hold, "hold(ms: int) -> int?")
{
    return stay(call, knit_arg_int(call, 0));
}

/* Does not look whether anybody waits. */
KNIT_TASK(busy, "busy(ms: int) -> int")
{
    uint64_t end_ns = knit_now_ns(call) + (uint64_t)knit_arg_int(call, 0) * 1000000;

    ran++;
    while (knit_now_ns(call) < end_ns)
        continue;
    return knit_return_int(call, knit_arg_int(call, 0));
}

KNIT_TASK(count, "count() -> int")
{
    return knit_return_int(call, ran);
}

KNIT_TASK(finished_count, "finished_count() -> int")
{
    return knit_return_int(call, finished);
}

static const struct knit_on_timeout seven = {
    .value = "\x07", .value_len = 1, .maybe = true, .error = "not this"};
static const struct knit_on_timeout nothing = {.maybe = true, .error = "nor this"};
static const struct knit_on_timeout words = {
    .error = "too slow", .error_data = "\x91\x05", .error_data_len = 2};

KNIT_TASK(late_value, "late_value(ms: int) -> int", .timeout_ms = 200, .on_timeout = &seven)
{
    return stay(call, knit_arg_int(call, 0));
}

KNIT_TASK(late_maybe, "late_maybe(ms: int) -> int?", .timeout_ms = 30, .on_timeout = &nothing)
{
    return stay(call, knit_arg_int(call, 0));
}

KNIT_TASK(late_error, "late_error(ms: int) -> int", .timeout_ms = 30, .on_timeout = &words)
{
    return stay(call, knit_arg_int(call, 0));
}
