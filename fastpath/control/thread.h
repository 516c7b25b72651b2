/* SPDX-License-Identifier: Apache-2.0 */
/* Workers that are threads of the host's own process.
 *
 * Host and worker do not include each other: whoever opens a pool hands the host this table
 * (worker/thread.h has it), as it hands it the path of a worker program for processes. What the
 * host does with either is the same. It tells a thread by a call what it sends a process as a
 * message, and reads from both the same reports (control.h): LOADING, FAILED, READY, DETACHED,
 * EVICTED. A queue of messages for both directions was rejected: the lane has functions for another
 * thread already, which answer at once, and a queue would need room that may be short.
 *
 * A crew is what the workers of one pool share: the tasks. They are loaded once, by open_crew().
 *
 * Nothing ends a thread from outside. One that does not come back is left behind: it keeps its own
 * structures and the crew, which it frees if it ends after all, and the pool's segments, which stay
 * mapped for ever.
 *
 * Threads: stop, attach and detach from any thread, under the pool's mutex; the rest from the
 * dispatching one. Nothing blocks but open_crew(), which runs constructors of modules.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>
#include <knitting/module.h>

#include "fastpath/control/control.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/lane.h"
#include "proto/sentence.h"

struct knit_crew;
struct knit_thread;

struct knit_crew_options {
    const struct knit_module *program; /* tasks of the program itself; NULL = none */
    const char *const *modules;        /* paths, module_count of them */
    uint32_t module_count;
    const char *bootstrap; /* text for the modules' hooks */
};

struct knit_thread_options {
    struct knit_crew *crew;
    uint64_t host; /* whose worker it is, by its number: knit_thread_host() on the thread */
    uint32_t deferred_max;
    /* How it runs tasks, and on_ functions with their argument, are set by the worker. */
    struct knit_lane_options lane;
};

struct knit_thread_kind {
    /* Returns 0; not 0 with a sentence: above 0 about the tasks, -errno. */
    int (*open_crew)(const struct knit_crew_options *options, struct knit_crew **ret_crew,
        struct knit_sentence *ret_why);
    /* Frees it when its last worker has ended. NULL is allowed; returns NULL. */
    struct knit_crew *(*close_crew)(struct knit_crew *crew);
    const struct knit_registry *(*registry)(const struct knit_crew *crew);

    /* Starts a worker, with all signals blocked: hooks of modules, then READY, or FAILED. Returns 0
     * or -errno. */
    int (*start)(const struct knit_thread_options *options, struct knit_thread **ret_thread);
    /* Readable when there is a report. */
    int (*fd)(const struct knit_thread *thread);
    /* Returns as knit_control_read_report() does; KNIT_CONTROL_E_CLOSED: it has come to its end. */
    int (*read_report)(struct knit_thread *thread, struct knit_control_message *ret_message);
    /* Of a worker that has reported READY. The session's memory and bell are used until DETACHED is
     * reported. Returns 0, -ENOMEM, -ENOSPC. */
    int (*attach)(struct knit_thread *thread, const struct knit_lane_session *session);
    int (*detach)(struct knit_thread *thread, uint64_t session);
    /* It ends after the call that it runs. */
    void (*stop)(struct knit_thread *thread);
    /* True: its thread exists no more, and *thread is freed and NULL. False: it has not ended
     * within some milliseconds. ret_by_task: a task or a hook ended it. */
    bool (*reap)(struct knit_thread **thread, bool *ret_by_task);
    /* It is left behind: nothing of it may be used afterwards, nothing that it uses be freed. */
    void (*leave)(struct knit_thread *thread);
};
