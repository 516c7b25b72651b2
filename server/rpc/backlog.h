/* SPDX-License-Identifier: Apache-2.0 */
/* How long a call that has to wait would wait, and whether it is refused for that now, while its
 * caller can still do something else.
 *
 * What is before a call is work in nanoseconds, by the means of the tasks: what waits in callers,
 * what the lanes hold, and what waits in the other loops. Where several principals wait that is no
 * more than what its own has, and what the others get meanwhile (flow.h): so nobody is refused for
 * what another has sent. The workers share it. The call is refused
 * as OVERLOADED when it would begin later than the operator wants calls to begin (queue_delay_ms),
 * than its caller waits (option `queue`), or too late to end within its timeout. Without
 * queue_delay_ms none is. A call for which there is room in the lanes is never refused, so wrong
 * means shut nobody out: each run corrects them.
 *
 * It is off unless it is given: a program that keeps hundreds of calls in flight waits for them,
 * and not reading is enough to bound it; and a timeout is over when it is over, not when it seems
 * too short. The alternative, 20 ms for all, refuses most of such a batch. There is no allowance
 * for bursts: a limit that holds for some of the time is none that one can plan with. Nor is the
 * oldest call dropped when its turn comes, as CoDel does: its caller has waited by then.
 *
 * Calls through shared memory are not seen here: their rings are their bound, and the time of the
 * workers is shared with them (fastpath/lane/deficit.h).
 *
 * Threads: its loop's; other loops read what waits.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

struct knit_caller;
struct knit_failure;
struct knit_message;
struct knit_router;

struct knit_backlog {
    uint64_t waiting_ns; /* work of the calls that wait in their callers */
    uint64_t lanes_ns;   /* work in the lanes when they were looked at last, */
    uint64_t looked_ns;  /* in the turn of that time; 0 = never */
};

/* What is known of a request before it has a slot. */
struct knit_outlook {
    uint64_t due_ns;      /* it is overdue then; 0 = it may not wait; UINT64_MAX = never, or bad */
    uint64_t start_by_ns; /* a later start is in vain; UINT64_MAX = none is */
    uint32_t work_ns;     /* what it takes, estimated */
    bool has_late;        /* at due_ns its caller gets something else than TIMEOUT */
};

/* What a call of the task takes. */
uint32_t knit_backlog_work_ns(const struct knit_router *router, uint32_t task);

/* So many more of the caller's calls, and their work, wait from now on; or, if it is less, do no
 * longer. */
void knit_backlog_add(struct knit_caller *caller, int32_t calls, int64_t more_ns);

/* The caller begins to wait for its limits, so what waits in it is in nobody's way; and does no
 * longer. */
void knit_backlog_withdraw(struct knit_caller *caller);
void knit_backlog_return(struct knit_caller *caller);

/* Whether a call that has to wait is refused, and what its caller is told, which is counted. */
KNIT_MUST_CHECK bool knit_backlog_refuses(const struct knit_caller *caller,
    const struct knit_outlook *outlook, struct knit_failure *ret_failure);

/* The same when it has waited and has its turn: what is left of its time is too short. */
KNIT_MUST_CHECK bool knit_backlog_has_spent(
    struct knit_router *router, uint64_t start_by_ns, struct knit_failure *ret_failure);

/* A call of the task has come to a lane that was read at since_ns and waited. */
void knit_backlog_note_wait(const struct knit_caller *caller, uint32_t task, uint64_t since_ns);
