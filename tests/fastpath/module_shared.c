/* SPDX-License-Identifier: Apache-2.0 */
/* A module for workers that are threads of one process: counts what happens in its one memory. */
#include <stdatomic.h>
#include <unistd.h>

#include <knitting/task.h>

static _Atomic int64_t hooks, calls;
static _Atomic uint32_t kind;

static int count_hooks(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)ret_message, (void)message_size;
    atomic_store_explicit(&kind, info->kind, memory_order_relaxed);
    atomic_fetch_add_explicit(&hooks, 1, memory_order_relaxed);
    return 0;
}

KNIT_MODULE_BOOTSTRAP("1.0", count_hooks);

KNIT_TASK(shared_hooks, "shared_hooks() -> int", .doc = "How often the hook has run.")
{
    return knit_return_int(call, atomic_load_explicit(&hooks, memory_order_relaxed));
}

KNIT_TASK(shared_kind, "shared_kind() -> int", .doc = "What the hook was told.")
{
    return knit_return_int(call, (int64_t)atomic_load_explicit(&kind, memory_order_relaxed));
}

KNIT_TASK(shared_calls, "shared_calls() -> int", .doc = "How often this was called.")
{
    return knit_return_int(call, atomic_fetch_add_explicit(&calls, 1, memory_order_relaxed) + 1);
}

KNIT_TASK(shared_thread, "shared_thread() -> int", .flags = KNIT_TASK_INLINE_SAFE,
    .doc = "The thread that it ran on.")
{
    return knit_return_int(call, gettid());
}
