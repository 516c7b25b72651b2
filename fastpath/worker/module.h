/* SPDX-License-Identifier: Apache-2.0 */
/* Modules in a worker: load, check, number their tasks, run their hooks.
 *
 * A module is loaded from the copy that its pool made of it, and known by its path: to the
 * sentences here, to dladdr() and debuggers, to its hook.
 *
 * Each refusal is one sentence that begins with the file: "/a/b.so: task add: ...". Tasks are
 * numbered in the order of modules and, within a module, of names, so that ids do not depend on the
 * order in which a linker puts sections.
 *
 * The tasks of the program itself are a module without a file. A process has one instance of a
 * file: pools whose workers are threads of it share the module, its variables and its table of
 * functions, which is stored when all checks of the first of them have passed.
 *
 * Threads: one thread of a process at a time loads; hooks may run on several; afterwards all is
 * read-only. Modules are never unloaded, because threads and handlers that they started could still
 * run. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/module.h>

#include "fastpath/control/registry.h"
#include "proto/sentence.h"

enum {
    KNIT_MODULE_E_REFUSED = 1, /* the sentence names module and reason */
};

struct knit_modules;

/* Called before each step that runs a module's own code: "loading /a/b.so". May be NULL. */
typedef void knit_module_step(void *arg, const char *text);

/* What a module is loaded from (image.h). */
struct knit_module_copy {
    int fd;
    bool is_frozen; /* else it is the file at its path, if that has the copy's bytes */
};

struct knit_module_loading {
    const struct knit_module *program; /* comes before those of the paths; NULL = none */
    const char *const *paths;
    const struct knit_module_copy *copies; /* [count]; NULL = the files as they are */
    uint32_t count;
    uint32_t epoch;
    const struct knit_api *api; /* handed to each module */
    knit_module_step *on_step;
    void *arg;
};

/* The copies are not used any more afterwards. Returns 0, KNIT_MODULE_E_REFUSED with ret_why
 * filled, -ENOMEM. */
KNIT_MUST_CHECK int knit_modules_load(const struct knit_module_loading *loading,
    struct knit_modules **ret_modules, struct knit_sentence *ret_why);
struct knit_modules *knit_modules_free(struct knit_modules *modules);

/* Run the hooks in the order of modules; of `loading`, on_step is told before each. Returns 0 or
 * KNIT_MODULE_E_REFUSED. */
KNIT_MUST_CHECK int knit_modules_bootstrap(struct knit_modules *modules,
    const struct knit_bootstrap *info, const struct knit_module_loading *loading,
    struct knit_sentence *ret_why);

const struct knit_registry *knit_modules_registry(const struct knit_modules *modules);

/* The function of a task; id < knit_registry_count(). */
typedef int knit_module_run(struct knit_call *call);
knit_module_run *knit_modules_run(const struct knit_modules *modules, uint32_t id);

/* What a task's declaration has as `user`; by id. */
void *const *knit_modules_users(const struct knit_modules *modules);
