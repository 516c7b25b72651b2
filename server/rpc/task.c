/* SPDX-License-Identifier: Apache-2.0 */
/* By name in the registry's table, or by number. */
#include "server/rpc/task.h"

#include "proto/limits.h"

/* Not inlined: callers name the same task again and again. */
static __attribute__((noinline)) const struct knit_registry_task *look_up(
    struct knit_caller *caller, const struct knit_method *method)
{
    const struct knit_registry *registry = caller->router->registry;
    const struct knit_registry_task *task;

    if (method->name.bytes == NULL)
        return method->id <= UINT32_MAX ? knit_registry_at(registry, (uint32_t)method->id) : NULL;
    if (method->name.len > KNIT_NAME_BYTES_MAX)
        return NULL;
    task = knit_registry_find(registry, (const char *)method->name.bytes, method->name.len);
    if (task != NULL) {
        caller->named = task;
        caller->named_epoch = caller->router->epoch;
    }
    return task;
}

const struct knit_registry_task *knit_task_find(
    struct knit_caller *caller, const struct knit_method *method)
{
    const struct knit_registry_task *task = knit_task_named(caller, method);

    return task != NULL ? task : look_up(caller, method);
}
