/* SPDX-License-Identifier: Apache-2.0 */
/* Calls whose task has returned and whose outcome comes later, from any thread of the process.
 *
 * knit_deferred_new() makes a second call object of the one that runs: with its arguments, copied,
 * buffers of its own, and without a lane. Whoever has its token opens it, uses it as a task uses
 * its call, and closes it; if it has an outcome then, that is handed to the lane. One thread at a
 * time has it open. The claim stays the worker's all the while, so when the process dies the host
 * answers these calls as it does the one that runs (recovery.h).
 *
 * A token is a number, of a place and of its use. One that is used again when the call is over, or
 * never was, finds nothing: that is counted, and nothing else happens. So threads may race for the
 * outcome, and a pointer that somebody kept does no harm.
 *
 * What is over for nobody waits for it, or for its hard timeout, is seen to by a thread that starts
 * with the first call that is deferred: it answers the call, and has the lane retire, because the
 * process holds a thread now that will not end.
 *
 * The table is one for the process. A mutex guards it; no lane's own is taken inside of it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/module.h>

#include "fastpath/worker/call.h"
#include "proto/span.h"

/* Those of one worker. Zeroed but for what is set before its first call. */
struct knit_deferreds {
    uint32_t max;            /* at once; 0 = none is deferred */
    uint32_t abort_grace_ms; /* 0 = no limit */
    struct knit_lane *lane;
    _Atomic uint64_t *late;            /* counts those that are completed in vain; or NULL */
    uint32_t count;                    /* in the table; under the mutex, as the next */
    uint32_t handing;                  /* threads that hand an outcome to the lane */
    struct knit_deferred_call *newest; /* of the task that runs; the worker's thread's */
};

/* The call that runs is deferred: it takes no outcome any more. NULL: there are too many, or there
 * is no memory, or it has its outcome; nothing happened. */
struct knit_deferred *knit_deferred_new(struct knit_call *call);

/* Its task has returned. text: what it printed, where its caller wants that; else absent. */
void knit_deferred_keep_output(
    struct knit_deferreds *deferreds, struct knit_span text, bool is_cut);
/* The lane lets go of the job: from now on the outcome may be handed to it. */
void knit_deferred_let_go(struct knit_deferreds *deferreds);

/* The call of a token, for this thread until it is closed. NULL: there is none that waits for its
 * outcome and is not open. */
struct knit_call *knit_deferred_open(struct knit_deferred *token);
/* Returns the code that the call ended with, KNIT_OK while it has not. */
int knit_deferred_close(struct knit_call *call);

/* Of a token: true also when the call is over. */
bool knit_deferred_aborted(const struct knit_deferred *token);

/* Of a call that is open. */
bool knit_deferred_call_aborted(const struct knit_call *call);

/* As knit_lane_reason(): of a token, and of a call that is open. */
size_t knit_deferred_reason(const struct knit_deferred *token, char *ret_text);
size_t knit_deferred_call_reason(const struct knit_call *call, char *ret_text);
bool knit_deferred_call_cancelled(const struct knit_call *call);
void knit_deferred_emit(const struct knit_call *call, struct knit_span value);

/* A knit_lane_options.on_finished: the lane has written the outcome, or dropped it. */
void knit_deferred_on_finished(void *arg, struct knit_finished *finished);

/* The lane uses the session no more, and its memory goes. */
void knit_deferred_close_session(struct knit_deferreds *deferreds, uint64_t session);

/* No caller waits for any of them. */
bool knit_deferred_is_over(struct knit_deferreds *deferreds);

/* The worker ends: no call is deferred any more, and no thread hands its outcome over. Before its
 * lane is freed. */
void knit_deferred_fini(struct knit_deferreds *deferreds);
