/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that may run in a pool's host, and one that may not. Where a call ran is said by its
 * process and thread. */
#include <knitting/deferred.h>

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static int return_place(struct knit_call *call)
{
    KNIT_BUILDER(answer);

    knit_put_array(answer, 2);
    knit_put_int(answer, getpid());
    knit_put_int(answer, gettid());
    return knit_return_built(call, answer);
}

static int remember_kind(const struct knit_bootstrap *info, char *ret_message, size_t message_size);

KNIT_MODULE_BOOTSTRAP("1.0", remember_kind);

static uint32_t kind;

static int remember_kind(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)ret_message;
    (void)message_size;
    if (info->kind == KNIT_WORKER_INLINE)
        kind = info->index == info->total ? info->kind : 99;
    return 0;
}

KNIT_TASK(spot, "spot() -> (int, int)", .flags = KNIT_TASK_INLINE_SAFE,
    .doc = "Process and thread that it ran in.")
{
    return return_place(call);
}

KNIT_TASK(isolated_spot, "isolated_spot() -> (int, int)")
{
    return return_place(call);
}

KNIT_TASK(hooked, "hooked() -> int", .flags = KNIT_TASK_INLINE_SAFE,
    .doc = "The kind of worker that the host's hook was told.")
{
    return knit_return_int(call, kind);
}

/* The time of the calls behind it passes meanwhile. */
KNIT_TASK(spot_busy, "spot_busy(ms: int) -> (int, int)", .flags = KNIT_TASK_INLINE_SAFE)
{
    const uint64_t end_ns = knit_now_ns(call) + (uint64_t)knit_arg_int(call, 0) * 1000000;

    while (knit_now_ns(call) < end_ns)
        ;
    return return_place(call);
}

KNIT_TASK(spot_echo, "spot_echo(value: any) -> any", .flags = KNIT_TASK_INLINE_SAFE)
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, value, len);
}

KNIT_TASK(spot_fail, "spot_fail(code: int, message: str) -> nil", .flags = KNIT_TASK_INLINE_SAFE)
{
    char text[64] = "";
    size_t len;
    const char *message = knit_arg_bytes(call, 1, &len);

    memcpy(text, message, len < sizeof(text) ? len : sizeof(text) - 1);
    return knit_fail(call, knit_arg_int(call, 0), text);
}

KNIT_TASK(spot_liar, "spot_liar() -> int", .flags = KNIT_TASK_INLINE_SAFE)
{
    return knit_return_str(call, "no number", 9);
}

/* Aborted by its deadline alone, where its caller's thread runs it. */
KNIT_TASK(spot_obey, "spot_obey() -> nil", .flags = KNIT_TASK_INLINE_SAFE)
{
    const struct timespec pause = {.tv_nsec = 200000}; /* before it looks again */

    while (!knit_aborted(call))
        (void)nanosleep(&pause, NULL);
    return knit_return_aborted(call);
}

KNIT_TASK(spot_emit, "spot_emit(count: int) -> (int, int)", .flags = KNIT_TASK_INLINE_SAFE)
{
    for (int64_t i = 0; i < knit_arg_int(call, 0); i++)
        (void)knit_progress_int(call, i);
    return return_place(call);
}

KNIT_TASK(spot_print, "spot_print() -> (int, int)", .flags = KNIT_TASK_INLINE_SAFE)
{
    (void)puts("printed");
    (void)fflush(stdout);
    return return_place(call);
}

KNIT_TASK(spot_defer, "spot_defer() -> int", .flags = KNIT_TASK_INLINE_SAFE)
{
    struct knit_deferred *token = knit_defer(call);

    if (token == NULL)
        return knit_fail(call, 1, "cannot be deferred");
    (void)knit_deferred_return_int(token, 7);
    return 0;
}
