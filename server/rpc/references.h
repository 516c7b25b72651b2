/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments that are results of other calls of the same caller: references, by ext 40.
 *
 * A reference is bound when its request has its turn: to the call of that msgid that is in flight,
 * or else to what option `keep` has kept of one. From then on its caller may use the msgid again.
 * The request leaves the input: it is copied, counts among its caller's calls in flight, and has no
 * slot, while those behind it go on. So a chain of calls that came together takes one round trip.
 * When all of its results are there the call is one as if it had come just now with these for
 * arguments, and waits for its share like others (share.h), before the requests behind it;
 * of those with their results an urgent one comes first, and lets no other one starve.
 *
 * A result is kept once for all who refer to it, and put in its places when the call is tried, so a
 * result that is an argument of a thousand calls takes the memory of one. What is kept of a caller,
 * requests and results, has a limit, and so has what is kept of all callers of a tenant, and of all
 * of a loop; what is beyond is QUOTA, for the request that comes, or for those that wait for the
 * result.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/code.h>

#include "proto/failure.h"
#include "proto/message.h"
#include "proto/span.h"
#include "server/rpc/router.h"

/* In place of a slot, in the table of a caller's calls in flight. */
#define KNIT_SLOT_BOUND (UINT32_MAX - 1)

enum {
    KNIT_REFERENCES_MAX = 16,        /* of a call */
    KNIT_REFERENCES_KEPT_S = 10,     /* how long the option keeps an outcome */
    KNIT_REFERENCES_ENTRIES = 1024,  /* outcomes kept of a caller */
    KNIT_REFERENCES_FACTOR = 4,      /* times call_max_bytes: what is kept of a caller, */
    KNIT_REFERENCES_TENANT_PART = 4, /* and of all of a tenant, of input_max_bytes for a loop */
};

/* A request that holds references, or might. The same verdicts as knit_router_call(). */
KNIT_MUST_CHECK enum knit_router_verdict knit_references_call(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns);

/* A request is published: its outcome is kept for so many references. */
void knit_references_keep(struct knit_caller *caller, uint32_t msgid, uint64_t uses);

/* The same by the request's option, if it has that: also one that is refused before it is in flight
 * is what later references to its number mean, and not one that had the number before. */
void knit_references_keep_its_own(struct knit_caller *caller, const struct knit_message *message);

/* Whether the outcome of a request in flight is of interest. */
bool knit_references_want(const struct knit_caller *caller, uint32_t msgid);

/* A request has its outcome; those that are not of interest are none of theirs. The error is one in
 * any form, and neither of the two may change while it is read. */
void knit_references_note_result(
    struct knit_caller *caller, uint32_t msgid, struct knit_span result);
void knit_references_note_error(struct knit_caller *caller, uint32_t msgid, struct knit_span error);
void knit_references_note_failure(
    struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure);
/* Either of them, of a call. It is copied first where others can write. prints: a result comes with
 * what the task printed. */
void knit_references_note_outcome(struct knit_caller *caller, uint32_t msgid,
    const struct knit_session_outcome *outcome, bool prints);

/* `$/cancel` of a request that is bound. */
void knit_references_cancel(struct knit_caller *caller, uint32_t msgid, struct knit_span reason);

/* The caller may go on: what has its results is brought before its input is. */
void knit_references_resume(struct knit_caller *caller);

/* At the end of a turn: what has its results now. */
void knit_references_run(struct knit_router *router);

/* Ends what is overdue, and lowers the router's next deadline. */
void knit_references_expire(struct knit_router *router);

/* The pool has stopped: all that waits ends in SHUTDOWN. */
void knit_references_give_up(struct knit_router *router);

/* The caller is going. */
void knit_references_forget(struct knit_caller *caller);
