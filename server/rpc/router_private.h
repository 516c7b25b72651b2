/* SPDX-License-Identifier: Apache-2.0 */
/* What router*.c share: the session behind a router, and its earliest deadline, which is lowered
 * whenever a record gets one.
 */
#pragma once

#include "fastpath/host/pool.h"
#include "fastpath/lane/session.h"
#include "server/policy/principals.h"
#include "server/rpc/router.h"

static inline struct knit_session *knit_router_session(const struct knit_router *router)
{
    return router->session->session;
}

/* A request of a task: whether it may be one now. False: *ret_verdict, after it was refused or with
 * its caller paused. */
KNIT_MUST_CHECK bool knit_router_admits(struct knit_caller *caller,
    const struct knit_message *message, uint64_t since_ns, enum knit_router_verdict *ret_verdict);

/* Publish or refuse one that was admitted; false: it has to wait, and its caller is paused. */
KNIT_MUST_CHECK bool knit_router_route(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns);

/* Whether the record is of a call that the loop runs itself. */
static inline bool knit_router_is_inlined(const struct knit_router *router, uint32_t slot)
{
    return slot >= router->slots;
}

/* Whether calls of the task are counted by the inliner, and may be its own. */
static inline bool knit_router_may_inline(const struct knit_router *router, uint32_t task)
{
    return router->inliner != NULL && knit_inliner_has(router->inliner, task);
}

static inline void knit_router_count(struct knit_router *router, struct knit_record *record)
{
    if (!knit_router_may_inline(router, record->task))
        return;
    knit_inliner_count(router->inliner, record->task);
    record->extras |= KNIT_RECORD_COUNTED;
}

static inline void knit_router_uncount(struct knit_router *router, struct knit_record *record)
{
    if ((record->extras & KNIT_RECORD_COUNTED) != 0)
        knit_inliner_uncount(router->inliner, record->task);
    record->extras &= (uint8_t)~KNIT_RECORD_COUNTED;
}

/* It is none of the calls in flight of its principal any more. */
static inline void knit_router_give_back_quota(
    struct knit_router *router, struct knit_record *record)
{
    struct knit_principal *principal =
        record->charged_to != NULL ? record->charged_to->principal : record->left_by;

    if ((record->extras & KNIT_RECORD_QUOTA) == 0)
        return;
    record->extras &= (uint8_t)~KNIT_RECORD_QUOTA;
    knit_quota_give_back(&principal->quota, router->turn->now_ns);
    knit_limited_note_end(&router->share.limited, principal);
    if (record->charged_to == NULL)
        knit_principals_drop(router->turn->principals, principal);
}

/* Its caller goes, and the call goes on: it counts until its end. */
static inline void knit_router_keep_quota(struct knit_router *router, struct knit_record *record)
{
    if ((record->extras & KNIT_RECORD_QUOTA) == 0)
        return;
    record->left_by = record->charged_to->principal;
    knit_principals_hold(router->turn->principals, record->left_by);
}

/* It must not begin any more. */
static inline bool knit_record_is_overdue(const struct knit_record *record, uint64_t now_ns)
{
    return record->deadline_ns <= now_ns || record->queue_deadline_ns < now_ns ||
           (record->abort_ns != 0 && record->abort_ns <= now_ns);
}

/* Its timeout is over, and was first. */
static inline bool knit_record_is_timed_out(const struct knit_record *record, uint64_t now_ns)
{
    return record->deadline_ns <= now_ns && record->deadline_ns <= record->queue_deadline_ns;
}

/* Nobody waits for the call. */
static inline void knit_router_abort(struct knit_router *router, uint32_t slot)
{
    if (knit_router_is_inlined(router, slot))
        knit_inliner_cancel(router->inliner, slot - router->slots);
    else
        knit_session_abort(knit_router_session(router), slot);
}

/* now + span without passing the end of time, which is no deadline. */
static inline uint64_t knit_router_after(uint64_t now_ns, uint64_t span_ns)
{
    return span_ns < UINT64_MAX - now_ns ? now_ns + span_ns : UINT64_MAX;
}

/* The router's next deadline is no later than the record's. */
static inline void knit_router_lower_next(
    struct knit_router *router, const struct knit_record *record)
{
    if (record->deadline_ns < router->next_ns)
        router->next_ns = record->deadline_ns;
    if (record->queue_deadline_ns < router->next_ns)
        router->next_ns = record->queue_deadline_ns;
}

/* Nor than when a record without a caller is aborted. */
static inline void knit_router_lower_to_abort(
    struct knit_router *router, const struct knit_record *record)
{
    if (record->abort_ns != 0 && record->abort_ns < router->next_ns)
        router->next_ns = record->abort_ns;
}
