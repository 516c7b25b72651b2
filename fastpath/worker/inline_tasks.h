/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of a pool that may run in its host: those that are marked inline-safe, in the modules
 * that were named for it, which are loaded into this process.
 *
 * The pool's own registry says what callers name; a task counts as the same one where name and
 * signature are. All others are isolated: not marked, in another module, or with a hard timeout,
 * which only a worker can be held to.
 *
 * Threads: open and close on one; read-only between the two, and any may read.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/control/registry.h"
#include "fastpath/worker/module.h"
#include "proto/sentence.h"

struct knit_inline_tasks;

struct knit_inline_tasks_options {
    const struct knit_registry *pool;  /* all tasks; borrowed for as long as these are */
    const struct knit_module *program; /* tasks of the program itself; NULL = none */
    const char *const *modules;        /* absolute paths, module_count of them */
    uint32_t module_count;
    const char *bootstrap; /* text for the modules' hooks, which run once, on this thread */
    uint32_t workers;
};

/* Returns 0; above 0 with a sentence about the modules; -ENOMEM. */
KNIT_MUST_CHECK int knit_inline_tasks_open(const struct knit_inline_tasks_options *options,
    struct knit_inline_tasks **ret_tasks, struct knit_sentence *ret_why);

/* NULL is allowed; returns NULL. Modules stay loaded. */
struct knit_inline_tasks *knit_inline_tasks_close(struct knit_inline_tasks *tasks);

const struct knit_modules *knit_inline_tasks_modules(const struct knit_inline_tasks *tasks);

/* How many the pool has. */
uint32_t knit_inline_tasks_count(const struct knit_inline_tasks *tasks);

#define KNIT_INLINE_ISOLATED UINT32_MAX

/* Of a task by its number in the pool: that in the modules, or KNIT_INLINE_ISOLATED. */
uint32_t knit_inline_tasks_find(const struct knit_inline_tasks *tasks, uint32_t task);

/* The first that is isolated; NULL: none is. */
const struct knit_registry_task *knit_inline_tasks_isolated(const struct knit_inline_tasks *tasks);
