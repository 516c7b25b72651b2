/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in the pool and in the modules differ, because the pool has more modules. */
#include "fastpath/worker/inline_tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/worker/task_api.h"
#include "fastpath/worker/thread.h"

struct knit_inline_tasks {
    struct knit_modules *modules;
    const struct knit_registry *pool;
    uint32_t count;
    uint32_t own[]; /* [count] */
};

static bool is_same_signature(
    const struct knit_registry_task *one, const struct knit_registry_task *other)
{
    return strcmp(knit_signature_text(one->signature), knit_signature_text(other->signature)) == 0;
}

static uint32_t find_own(
    const struct knit_registry *registry, const struct knit_registry_task *task)
{
    const struct knit_registry_task *own = knit_registry_find(registry, task->name, task->name_len);

    return own != NULL && (own->flags & KNIT_TASK_INLINE_SAFE) != 0 && own->hard_timeout_ms == 0 &&
                   is_same_signature(own, task)
               ? own->id
               : KNIT_INLINE_ISOLATED;
}

static int load(const struct knit_inline_tasks_options *options, struct knit_inline_tasks *tasks,
    struct knit_sentence *ret_why)
{
    const struct knit_module_loading loading = {.program = options->program,
        .paths = options->modules,
        .count = options->module_count,
        .epoch = KNIT_REGISTRY_EPOCH_FIRST,
        .api = knit_task_api()};
    const struct knit_bootstrap info = {
        .text = options->bootstrap != NULL ? options->bootstrap : "",
        .index = options->workers,
        .total = options->workers,
        .kind = KNIT_WORKER_INLINE};
    int error = knit_thread_load(&loading, &tasks->modules, ret_why);

    return error == 0 ? knit_modules_bootstrap(tasks->modules, &info, &loading, ret_why) : error;
}

int knit_inline_tasks_open(const struct knit_inline_tasks_options *options,
    struct knit_inline_tasks **ret_tasks, struct knit_sentence *ret_why)
{
    const uint32_t count = knit_registry_count(options->pool);
    struct knit_inline_tasks *tasks =
        calloc(1, sizeof(*tasks) + (size_t)count * sizeof(tasks->own[0]));
    int error;

    if (tasks == NULL)
        return -ENOMEM;
    tasks->pool = options->pool;
    tasks->count = count;
    error = load(options, tasks, ret_why);
    if (error != 0) {
        (void)knit_inline_tasks_close(tasks);
        return error;
    }
    for (uint32_t id = 0; id < count; id++)
        tasks->own[id] =
            find_own(knit_modules_registry(tasks->modules), knit_registry_at(options->pool, id));
    *ret_tasks = tasks;
    return 0;
}

struct knit_inline_tasks *knit_inline_tasks_close(struct knit_inline_tasks *tasks)
{
    if (tasks == NULL)
        return NULL;
    (void)knit_modules_free(tasks->modules);
    free(tasks);
    return NULL;
}

const struct knit_modules *knit_inline_tasks_modules(const struct knit_inline_tasks *tasks)
{
    return tasks->modules;
}

uint32_t knit_inline_tasks_count(const struct knit_inline_tasks *tasks)
{
    return tasks->count;
}

uint32_t knit_inline_tasks_find(const struct knit_inline_tasks *tasks, uint32_t task)
{
    return task < tasks->count ? tasks->own[task] : KNIT_INLINE_ISOLATED;
}

const struct knit_registry_task *knit_inline_tasks_isolated(const struct knit_inline_tasks *tasks)
{
    for (uint32_t id = 0; id < tasks->count; id++) {
        if (tasks->own[id] == KNIT_INLINE_ISOLATED)
            return knit_registry_at(tasks->pool, id);
    }
    return NULL;
}
