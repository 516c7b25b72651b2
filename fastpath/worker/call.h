/* SPDX-License-Identifier: Apache-2.0 */
/* The call that a worker runs, as runner, outcome and task API share it. It is what tasks hold as
 * the opaque struct knit_call of the module ABI.
 *
 * Threads: the worker's main thread, except what task.h allows others. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <knitting/build.h>
#include <knitting/module.h>

#include "fastpath/control/registry.h"
#include "fastpath/lane/lane.h"
#include "fastpath/worker/module.h"
#include "proto/buffer.h"
#include "proto/signature.h"
#include "proto/span.h"

/* Where an argument behind those in `args` was last found, so that a walk over all of them in order
 * is not quadratic. */
struct knit_call_place {
    uint32_t index; /* 0 = none was found yet */
    size_t off;
    struct knit_head head; /* as it was last read */
};

/* What each call needs of its task, in one line. */
struct knit_hot_task {
    _Alignas(KNIT_LINE) knit_module_run *run;
    const struct knit_registry_task *task;
    const _Atomic uint8_t *mark;
    uint64_t hard_ns; /* its hard timeout; 0 = none */
    struct knit_precheck precheck;
};

static_assert(sizeof(struct knit_hot_task) == KNIT_LINE, "one line a task");

/* An argument in which typed arrays did not lie aligned, copied. */
struct knit_call_copy {
    struct knit_call_copy *next;
    uint32_t index;
    struct knit_builder builder;
};

/* What there is for a call that no lane brought: a thread of its caller's runs it. */
struct knit_call_inlined {
    void (*emit)(void *arg, struct knit_span value);
    bool (*is_over)(void *arg); /* the pool shuts down */
    void *arg;
};

struct knit_call {
    struct knit_job *job;
    const struct knit_hot_task *hot;
    struct knit_lane *lane;        /* whose job it is; NULL: results never go into its arena */
    struct knit_call_copy *copies; /* of arguments, until the call ends; or NULL */
    struct knit_buffer results;    /* that fit neither cell nor arena */
    struct knit_buffer errors;     /* apart, so that a result is never in their way */
    int code;                      /* of the error, if it ended with one */
    bool is_placed;                /* room for a result was given to the task, which fills it */
    bool is_used;                  /* the buffers, copies, is_placed or refused_bytes were */
    size_t refused_bytes;          /* of a room that was too large; 0 = none was refused */
    struct knit_span whole;        /* the placed result, head included */
    struct knit_buffer fixed;      /* over the job's body or over the lane's room */
    struct knit_signature_args args;
    struct knit_call_place *found;           /* in the runner: getters have a const call */
    void *const *users;                      /* knit_modules_users() */
    struct knit_deferreds *deferreds;        /* where it may be deferred; or NULL */
    struct knit_deferred_call *deferred;     /* it is one of these; or NULL */
    const struct knit_call_inlined *inlined; /* or NULL */
};

/* It has an outcome. */
static inline bool knit_call_is_settled(const struct knit_call *call)
{
    return call->job->result != NULL;
}

/* What it ended with. */
static inline int knit_call_code(const struct knit_call *call)
{
    return call->job->status == KNIT_STATUS_RESULT ? KNIT_OK : call->code;
}

static inline void knit_call_free_copies(struct knit_call *call)
{
    while (call->copies != NULL) {
        struct knit_call_copy *next = call->copies->next;

        knit_builder_free(&call->copies->builder);
        free(call->copies);
        call->copies = next;
    }
}
