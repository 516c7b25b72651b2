/* SPDX-License-Identifier: Apache-2.0 */
/* How a module, or a program with tasks of its own, declares them: the first half of
 * <knitting/task.h>, which has the functions that tasks call.
 *
 * Threads: any. Nothing here blocks. */
#pragma once

#include <stddef.h>

#include <knitting/module.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The table, set before the first task runs; one per module or program, not exported. Weak, so that
 * each file of it may bring the definition along. */
__attribute__((weak, visibility("hidden"))) const struct knit_api *knit_api;

/* Tasks find each other through a section of pointers that the linker gathers. It has no function's
 * name: where both are used, an assembler takes the section for the function. */
extern const struct knit_task *const __start_knit_task_entries[]
    __attribute__((visibility("hidden"), weak));
extern const struct knit_task *const __stop_knit_task_entries[]
    __attribute__((visibility("hidden"), weak));

/* `retain` keeps a task that nothing refers to from being collected (--gc-sections). */
#ifdef __has_attribute
#if __has_attribute(retain)
#define KNIT_TASK_ENTRY __attribute__((used, retain, section("knit_task_entries")))
#endif
#endif
#ifndef KNIT_TASK_ENTRY
#define KNIT_TASK_ENTRY __attribute__((used, section("knit_task_entries")))
#endif

/* KNIT_LINK_TASK(function): at file scope, has the linker take the file of that KNIT_TASK() out of
 * a static library, from which it takes only what something names; without such a file the link
 * fails. Another way is to link the library with --whole-archive. */
#define KNIT_LINK_TASK(function)                                                                   \
    extern const struct knit_task *const function##_task_entry                                     \
        __attribute__((visibility("hidden")));                                                     \
    __attribute__((used)) static const void *const function##_task_link = &function##_task_entry

/* Once in each module, at file scope. KNIT_MODULE_BOOTSTRAP names a hook as well, KNIT_MODULE_LIST
 * the function that gives the tasks of a module which has no KNIT_TASK() (struct knit_module). */
#define KNIT_MODULE(version_text)                 KNIT_MODULE_LIST(version_text, NULL, NULL)
#define KNIT_MODULE_BOOTSTRAP(version_text, hook) KNIT_MODULE_LIST(version_text, hook, NULL)
#define KNIT_MODULE_LIST(version_text, hook, list_tasks)                                           \
    extern __attribute__((visibility("default"))) const struct knit_module knit_module;            \
    const struct knit_module knit_module = {KNIT_MODULE_ABI, sizeof(struct knit_module),           \
        sizeof(struct knit_task), 0, version_text, __start_knit_task_entries,                      \
        __stop_knit_task_entries, &knit_api, hook, list_tasks}

/* Between these, C++ compilers do not warn of members that are left out, which are 0. */
#define KNIT_IN_PART                                                                               \
    _Pragma("GCC diagnostic push")                                                                 \
        _Pragma("GCC diagnostic ignored \"-Wmissing-field-initializers\"")
#define KNIT_IN_WHOLE _Pragma("GCC diagnostic pop")

/* KNIT_TASK(name, signature, further members of struct knit_task...) { body }: the body sees
 * `call`. A task whose name is not a C identifier is declared with KNIT_TASK_AS(function,
 * "its.name", signature, ...). */
#define KNIT_TASK(function, ...)               KNIT_TASK_AS(function, #function, __VA_ARGS__)
#define KNIT_TASK_AS(function, name_text, ...) KNIT_TASK_AS_(function, name_text, __VA_ARGS__, )
#define KNIT_TASK_AS_(function, name_text, signature_text, ...)                                    \
    static int function##_run(struct knit_call *call);                                             \
    KNIT_IN_PART                                                                                   \
    static const struct knit_task function##_task = {                                              \
        .name = name_text, .signature = signature_text, .run = function##_run, __VA_ARGS__};       \
    KNIT_IN_WHOLE                                                                                  \
    /* Weak, so that two files may have functions of one name. */                                  \
    extern __attribute__((weak, visibility("hidden")))                                             \
    const struct knit_task *const function##_task_entry;                                           \
    KNIT_TASK_ENTRY const struct knit_task *const function##_task_entry = &function##_task;        \
    static int function##_run(struct knit_call *call __attribute__((unused)))

/* The tasks of the program, or of the shared library, whose code calls this: for a pool of its own.
 * Each has a section of its own, and this is compiled into each. */
static inline const struct knit_module *knit_own_tasks(void)
{
    static const struct knit_module own = {KNIT_MODULE_ABI, sizeof(struct knit_module),
        sizeof(struct knit_task), 0, "", __start_knit_task_entries, __stop_knit_task_entries,
        &knit_api, NULL, NULL};

    return &own;
}

#ifdef __cplusplus
}
#endif
