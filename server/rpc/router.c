/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a call that has come so far (router_call.c), and what its caller gets:
 *
 *     waits          in its caller, which a connection does as lookahead.h says
 *     published      a record, charged to the caller; requests also stand in the caller's table
 *     answered       outcome, record and charge gone
 *     deadline       TIMEOUT, or what is in its place (late.h), table entry gone; record and charge
 *                    stay until answered
 *     `queue` over   the same, if it has not started
 *     cancelled      not started, or with a reason: CANCELLED, as at a deadline; else the abort
 *                    flag, and all stays until answered
 *     caller gone    abort flag; the record, charged to no caller, until answered
 *
 * A task called by notification has a record for which no caller waits, and no abort flag when its
 * caller goes: a notification does not say that its caller stays. The flag follows when its caller
 * has been gone for notification_max_ms.
 */
#include "server/rpc/router.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/session_inline.h"
#include "proto/cancel.h"
#include "proto/progress.h"
#include "server/base/stage.h"
#include "server/config/setting.h"
#include "server/rpc/hold.h"
#include "server/rpc/keyed.h"
#include "server/rpc/late.h"
#include "server/rpc/references.h"
#include "server/rpc/reports.h"
#include "server/rpc/router_private.h"

enum {
    INLINED_MAX = 256,  /* calls that wait for the loop itself; further ones go to workers */
    COLLECT_MAX = 1024, /* a turn: then sockets have their turn again */
    /* Of the response to a small result: its head, and a cell's body in whole words. */
    SMALL_ROOM = KNIT_MESSAGE_RESPONSE_HEAD_MAX + KNIT_CELL_WORDS * 8,
};

int knit_router_init(struct knit_router *router, struct knit_turn *turn,
    struct knit_host_own_session *session, const struct knit_registry *registry)
{
    uint32_t slots = session->geometry.slots;
    int r;

    *router = (struct knit_router){.turn = turn,
        .session = session,
        .registry = registry,
        .epoch = knit_registry_epoch(registry),
        .slots = slots,
        .record_count = slots,
        .next_ns = UINT64_MAX};
    router->ids = knit_reports_seed();
    knit_asked_init(&router->asked);
    TAILQ_INIT(&router->references);
    TAILQ_INIT(&router->due_references);
    TAILQ_INIT(&router->kept_until);
    r = knit_share_init(&router->share, session->session, &session->geometry);
    router->share.flows.lane_weight = session->weight;
    router->records = calloc(slots, sizeof(*router->records));
    router->charges = calloc((size_t)slots + INLINED_MAX, sizeof(*router->charges));
    return router->records != NULL && router->charges != NULL ? r : -ENOMEM;
}

void knit_router_fini(struct knit_router *router)
{
    knit_reports_fini(router);
    knit_keyed_fini(router);
    router->inliner = knit_inliner_free(router->inliner);
    for (uint32_t slot = 0; router->records != NULL && slot < router->record_count; slot++)
        free(router->records[slot].late);
    free(router->records);
    router->records = NULL;
    free(router->charges);
    router->charges = NULL;
    knit_dues_fini(&router->bound_dues);
    knit_share_fini(&router->share);
}

/* One of the slots that count in the caller's share is free. */
static void uncharge(struct knit_caller *caller)
{
    knit_share_note_end(&caller->router->share, caller);
    knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
}

void knit_router_release(struct knit_caller *caller, uint32_t slot)
{
    knit_session_release(knit_router_session(caller->router), slot);
    caller->router->share.has_freed = true;
    uncharge(caller);
}

/* ---- early ends ---------------------------------------------------------------------------- */

/* Arguments leave the arena with the answer; of a caller that is gone they count until then. */
static void give_back_arguments(struct knit_router *router, const struct knit_record *record)
{
    router->share.argument_bytes -= record->argument_bytes;
    if (record->charged_to != NULL)
        record->charged_to->account.argument_bytes -= record->argument_bytes;
}

/* Of an inlined call that has ended otherwise than by its task: nothing comes of it any more. */
static void close_inlined(struct knit_router *router, uint32_t slot)
{
    struct knit_record *record = &router->records[slot];
    struct knit_caller *charged_to = record->charged_to;

    router->outstanding--;
    give_back_arguments(router, record);
    knit_router_give_back_quota(router, record);
    knit_router_uncount(router, record);
    knit_hold_end(router, slot);
    free(record->late);
    *record = (struct knit_record){.caller = NULL};
    if (charged_to != NULL)
        uncharge(charged_to);
}

/* What the session does with a slot, with any record's. */

static bool settle(struct knit_router *router, uint32_t slot, int *ret_started)
{
    if (!knit_router_is_inlined(router, slot))
        return knit_session_settle(knit_router_session(router), slot, ret_started);
    *ret_started = (int)knit_inliner_remove(router->inliner, slot - router->slots);
    return true;
}

static bool cancel(struct knit_router *router, uint32_t slot)
{
    int started;

    return knit_router_is_inlined(router, slot)
               ? settle(router, slot, &started)
               : knit_session_cancel(knit_router_session(router), slot);
}

static bool withdraw(struct knit_router *router, uint32_t slot)
{
    int started;

    return knit_router_is_inlined(router, slot)
               ? settle(router, slot, &started)
               : knit_session_withdraw(knit_router_session(router), slot);
}

/* The same of a call whose caller goes. */
static void leave_inlined(struct knit_router *router, uint32_t slot)
{
    int started;

    (void)settle(router, slot, &started);
    close_inlined(router, slot);
}

void knit_router_forget(struct knit_caller *caller)
{
    struct knit_router *router = caller->router;
    uint64_t max_ms = caller->turn->settings->notification_max_ms;

    if (knit_reports_are_on(router))
        knit_reports_forget(caller);
    knit_share_part(&router->share, caller);
    knit_references_forget(caller);
    knit_keyed_forget(caller);
    knit_asked_forget(caller);
    /* What is left of the account are outcomes that the caller has not released yet. */
    for (uint32_t slot = 0; slot < router->record_count && caller->account.slots > 0; slot++) {
        struct knit_record *record = &router->records[slot];
        const bool is_request = record->caller == caller;

        if (record->charged_to != caller)
            continue;
        if (is_request)
            knit_router_abort(router, slot);
        else if (max_ms != 0 && record->abort_ns == 0)
            record->abort_ns = knit_router_after(knit_clock_ns(), max_ms * UINT64_C(1000000));
        knit_router_lower_to_abort(router, record);
        knit_router_keep_quota(router, record);
        if (is_request)
            record->caller = NULL;
        record->charged_to = NULL;
        caller->account.slots--;
        caller->account.argument_bytes -= record->argument_bytes;
        if (is_request && knit_router_is_inlined(router, slot))
            leave_inlined(router, slot);
    }
    knit_in_flight_fini(&caller->calls);
}

/* No caller waits for the record's call any more. */
static inline void detach_caller(struct knit_record *record)
{
    struct knit_caller *caller = record->caller;

    (void)knit_in_flight_remove(&caller->calls, record->msgid);
    record->caller = NULL;
    knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
}

/* The call is settled: its outcome is given now. */
static void finish_early(
    struct knit_router *router, uint32_t slot, struct knit_failure *failure, int started)
{
    struct knit_record *record = &router->records[slot];
    struct knit_caller *caller = record->caller;
    uint32_t msgid = record->msgid;

    failure->started = (enum knit_started)started;
    detach_caller(record);
    record->is_settled = true;
    if ((record->extras & KNIT_RECORD_SOURCE) != 0)
        knit_references_note_failure(caller, msgid, failure);
    if (knit_router_is_inlined(router, slot))
        close_inlined(router, slot);
    caller->ops->refuse(caller, msgid, failure);
}

static struct knit_late *take_late(struct knit_record *record)
{
    struct knit_late *late = record->late;

    record->late = NULL;
    return late;
}

/* The same at its deadline, for one with something else than TIMEOUT. */
static void finish_late(
    struct knit_router *router, uint32_t slot, struct knit_failure *failure, int started)
{
    struct knit_record *record = &router->records[slot];
    struct knit_caller *caller = record->caller;
    struct knit_late *late = take_late(record);
    uint32_t msgid = record->msgid;

    failure->started = (enum knit_started)started;
    detach_caller(record);
    record->is_settled = true;
    if (knit_router_is_inlined(router, slot))
        close_inlined(router, slot);
    knit_late_answer(caller, msgid, late, failure);
    free(late);
}

void knit_router_give_up(struct knit_router *router)
{
    const struct knit_failure failure = knit_failure(KNIT_SHUTDOWN, "the pool is shut down");

    for (uint32_t slot = 0; slot < router->record_count; slot++) {
        struct knit_caller *caller = router->records[slot].caller;
        uint32_t msgid = router->records[slot].msgid;

        if (caller == NULL)
            continue;
        detach_caller(&router->records[slot]);
        caller->ops->refuse(caller, msgid, &failure);
    }
    knit_references_give_up(router);
    knit_keyed_give_up(router);
}

bool knit_router_cancel(struct knit_caller *caller, uint32_t msgid, struct knit_span reason)
{
    struct knit_router *router = caller->router;
    struct knit_failure failure;
    int started = KNIT_STARTED_NO;
    uint32_t slot;

    if (!knit_in_flight_find(&caller->calls, msgid, &slot))
        return false;
    KNIT_COUNT(caller->turn, calls_cancelled);
    if (slot == KNIT_SLOT_BOUND) {
        knit_references_cancel(caller, msgid, reason);
        return true;
    }
    if (slot == KNIT_SLOT_KEYED) {
        knit_keyed_cancel(caller, msgid, reason);
        return true;
    }
    /* A call that has not started will not start, so its caller need not wait for a worker. With a
     * reason it does not wait for the task either. */
    if (!knit_router_is_inlined(router, slot))
        knit_session_tell(knit_router_session(router), slot, knit_cancel_text(reason));
    if (reason.bytes != NULL ? settle(router, slot, &started) : cancel(router, slot)) {
        failure = knit_cancel_failure(reason);
        finish_early(router, slot, &failure, started);
    }
    return true;
}

void knit_router_stop(struct knit_router *router, uint32_t slot, uint64_t gen)
{
    struct knit_failure failure =
        knit_failure(KNIT_CANCELLED, "stopped by an operator before it was started");

    if (slot < router->slots && router->records[slot].caller != NULL &&
        knit_session_gen_of(knit_router_session(router), slot) == gen && withdraw(router, slot))
        finish_early(router, slot, &failure, KNIT_STARTED_NO);
}

/* Unless it has been answered in this very moment: then that is its outcome. */
static void time_out(struct knit_router *router, uint32_t slot)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, "the call's timeout has passed");
    int started;

    if (!settle(router, slot, &started))
        return;
    if (router->records[slot].late != NULL)
        finish_late(router, slot, &failure, started);
    else
        finish_early(router, slot, &failure, started);
    KNIT_COUNT(router->turn, calls_timed_out);
}

/* Its time in the queue is over: what has started goes on. */
static void time_out_queued(struct knit_router *router, uint32_t slot)
{
    struct knit_failure failure =
        knit_failure(KNIT_TIMEOUT, "the call waited in the queue for as long as it may");

    router->records[slot].queue_deadline_ns = UINT64_MAX;
    if (!withdraw(router, slot))
        return;
    finish_early(router, slot, &failure, KNIT_STARTED_NO);
    KNIT_COUNT(router->turn, calls_timed_out);
}

/* No caller waits for it. */
static void abandon(struct knit_router *router, uint32_t slot)
{
    struct knit_record *record = &router->records[slot];

    if (record->abort_ns != 0 && record->abort_ns <= router->turn->now_ns) {
        record->abort_ns = 0;
        knit_router_abort(router, slot);
    }
    knit_router_lower_to_abort(router, record);
}

/* One with a key goes on without its connection as long as another request waits for it. */
static void abandon_keyed(struct knit_router *router, uint32_t slot)
{
    struct knit_record *record = &router->records[slot];
    uint64_t max_ms = router->turn->settings->notification_max_ms;

    if (record->abort_ns <= router->turn->now_ns && knit_keyed_is_awaited(router, slot))
        record->abort_ns = knit_router_after(router->turn->now_ns, max_ms * UINT64_C(1000000));
    abandon(router, slot);
}

static void expire(struct knit_router *router)
{
    uint64_t now_ns = router->turn->now_ns;

    if (now_ns < router->next_ns)
        return;
    router->next_ns = UINT64_MAX;
    for (uint32_t slot = 0; slot < router->record_count; slot++) {
        struct knit_record *record = &router->records[slot];

        if (record->caller == NULL) {
            abandon(router, slot);
            continue;
        }
        if (record->abort_ns != 0)
            abandon_keyed(router, slot);
        if (record->deadline_ns <= now_ns)
            time_out(router, slot);
        else if (record->queue_deadline_ns <= now_ns)
            time_out_queued(router, slot);
        if (record->caller != NULL)
            knit_router_lower_next(router, record);
    }
    knit_references_expire(router);
    knit_keyed_expire(router);
}

/* ---- outcomes ------------------------------------------------------------------------------ */

/* Goes to the caller that waits for the call, if it is as a value may be: workers wrote it. */
static void emit(void *arg, const struct knit_session_value *value)
{
    struct knit_router *router = arg;
    const struct knit_record *record = &router->records[value->slot];
    struct knit_caller *caller = record->caller;
    struct knit_span bytes = knit_span(value->emitted.body, value->emitted.len);

    if (caller != NULL && caller->ops->emit != NULL && knit_progress_check(bytes))
        caller->ops->emit(caller, record->msgid, bytes, value->emitted.count);
}

/* Of a call that is watched, and collected just now. */
static void emit_last(struct knit_router *router, uint32_t slot)
{
    struct knit_session_value value;

    if (knit_session_last_value(knit_router_session(router), slot, &value))
        emit(router, &value);
}

/* Whether a worker has found the call's deadline over. A long error, which has what the task
 * printed, lies in memory that others can write. */
static bool is_timeout(const struct knit_session_outcome *outcome)
{
    return outcome->status != KNIT_STATUS_RESULT &&
           knit_failure_code(knit_span(outcome->payload, outcome->len)) == KNIT_TIMEOUT;
}

/* A call that has something else than TIMEOUT came back as that. */
static void deliver_late(struct knit_caller *caller, uint32_t msgid, const struct knit_late *late,
    const struct knit_session_outcome *outcome)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, "the call's timeout has passed"), own;

    failure.origin = KNIT_ORIGIN_WORKER;
    if (outcome->held)
        failure.started = KNIT_STARTED_YES;
    else if (knit_failure_decode(knit_span(outcome->payload, outcome->len), &own) == 0)
        failure.started = own.started;
    knit_late_answer(caller, msgid, late, &failure);
    if (outcome->held)
        knit_router_release(caller, outcome->slot);
}

static void deliver(struct knit_router *router, const struct knit_session_outcome *outcome)
{
    struct knit_record *record = &router->records[outcome->slot];
    struct knit_late *late = take_late(record);
    struct knit_caller *caller, *charged_to;

    if ((record->extras & KNIT_RECORD_WATCHED) != 0)
        emit_last(router, outcome->slot);
    if ((record->extras & KNIT_RECORD_REPORTED) != 0)
        knit_reports_note_answer(router, outcome);
    caller = record->caller;
    charged_to = record->charged_to;
    router->outstanding--;
    give_back_arguments(router, record);
    knit_router_give_back_quota(router, record);
    knit_router_uncount(router, record);
    knit_hold_end(router, outcome->slot);
    record->charged_to = NULL;
    record->abort_ns = 0;
    /* A settled one was counted when it was settled. */
    if (!record->is_settled && outcome->status == KNIT_STATUS_RESULT)
        KNIT_COUNT(router->turn, calls_answered);
    else if (!record->is_settled)
        KNIT_COUNT(router->turn, calls_failed);
    if (caller != NULL && (record->extras & KNIT_RECORD_KEYED) != 0) {
        record->caller = NULL;
        knit_keyed_end(router, outcome);
    } else if (caller != NULL) {
        if (!outcome->held)
            knit_share_note_end(&router->share, caller);
        detach_caller(record);
        if ((record->extras & KNIT_RECORD_SOURCE) != 0 && !(late != NULL && is_timeout(outcome)))
            knit_references_note_outcome(caller, record->msgid, outcome, record->prints);
        if (late != NULL && is_timeout(outcome))
            deliver_late(caller, record->msgid, late, outcome);
        else
            caller->ops->deliver(caller, record->msgid, outcome);
        free(late);
        return;
    }
    free(late);
    if (outcome->held)
        knit_session_release(knit_router_session(router), outcome->slot);
    if (charged_to != NULL)
        uncharge(charged_to);
}

/* A stage in which the record's caller has room for a small result; NULL: there is none, or no
 * caller, which may have ended just now. */
static inline struct knit_stage *stage_of(const struct knit_record *record)
{
    struct knit_caller *caller = record->caller;

    if (caller == NULL)
        return NULL;
    if (caller->stage != NULL && KNIT_STAGE_BYTES - caller->stage->len >= SMALL_ROOM)
        return caller->stage;
    if (caller->ops->begin_stage == NULL || caller->ops->begin_stage(caller) == NULL)
        return NULL;
    return record->caller != NULL ? caller->stage : NULL;
}

/* A result that lies in its cell, straight from there into the message to its caller. False: it is
 * something else, or there is no place for it, and nothing was done. */
static inline bool deliver_small(struct knit_router *router, uint32_t slot)
{
    struct knit_record *record = &router->records[slot];
    struct knit_stage *stage = stage_of(record);
    size_t head_len, len;
    uint32_t lane;
    uint8_t *to;

    if (stage == NULL || record->argument_bytes != 0 || record->extras != 0 || record->late != NULL)
        return false;
    to = stage->bytes + stage->len;
    head_len = knit_message_pack_response_head(to, record->msgid);
    if (!knit_session_take_result(knit_router_session(router), slot, to + head_len, &len, &lane))
        return false;
    stage->len += head_len + len;
    router->outstanding--;
    knit_hold_end(router, slot);
    record->charged_to = NULL;
    KNIT_COUNT(router->turn, calls_answered);
    knit_share_note_end(&router->share, record->caller);
    detach_caller(record);
    return true;
}

/* Small results of a lane, until there are none. True: something else was in their way. Not
 * inlined, because what the caller keeps would take the registers of this loop. */
static __attribute__((noinline)) bool collect_lane(
    struct knit_router *router, struct knit_session_lane *lane, size_t *count)
{
    struct knit_session *session = knit_router_session(router);
    uint32_t slot;
    int lead = -1;

    while (*count < COLLECT_MAX && (lead = knit_session_next_slot(session, lane, &slot)) == 0) {
        if (!deliver_small(router, slot))
            return true;
        lane->completion_next++;
        ++*count;
    }
    return lead > 0;
}

/* The same of all lanes where there may be some. */
static bool collect_small(struct knit_router *router, size_t *count)
{
    struct knit_session *session = knit_router_session(router);
    const uint32_t lanes = session->geometry.lanes;
    bool has_other = knit_session_must_scan(session);
    uint32_t strays;
    bool all = knit_session_begin_look(session, &strays);

    for (uint32_t i = 0; (i = knit_session_next_lane(session, i, all)) < lanes; i++)
        has_other |= collect_lane(router, &session->lanes[i], count);
    knit_session_end_look(session, strays, all, !has_other && *count < COLLECT_MAX);
    return has_other;
}

static size_t collect(struct knit_router *router)
{
    struct knit_session *session = knit_router_session(router);
    struct knit_session_outcome outcome;
    size_t total = 0;

    while (collect_small(router, &total) && total < COLLECT_MAX &&
           knit_session_collect(session, &outcome, 1) > 0) {
        deliver(router, &outcome);
        total++;
    }
    return total;
}

/* ---- calls that the loop runs ---------------------------------------------------------------- */

/* Nobody waits for it. */
static void close_unawaited(struct knit_router *router, uint32_t slot, struct knit_failure *failure,
    enum knit_started started)
{
    failure->started = started;
    if ((router->records[slot].extras & KNIT_RECORD_REPORTED) != 0)
        knit_reports_end_slot(router, slot, failure);
    close_inlined(router, slot);
}

/* Its time was over before it began, or before its task returned. */
static void end_late(struct knit_router *router, uint32_t slot, enum knit_started started)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, "the call's timeout has passed");
    const struct knit_record *record = &router->records[slot];

    if (record->caller == NULL)
        close_unawaited(router, slot, &failure, started);
    else if (record->late != NULL)
        finish_late(router, slot, &failure, (int)started);
    else
        finish_early(router, slot, &failure, (int)started);
    KNIT_COUNT(router->turn, calls_timed_out);
}

static void on_inlined(void *arg, void *user, const struct knit_inlined *inlined)
{
    struct knit_router *router = arg;
    const struct knit_session_outcome outcome = {.slot = router->slots + inlined->place,
        .status = inlined->is_error ? KNIT_STATUS_ERROR : KNIT_STATUS_RESULT,
        .payload = inlined->outcome.bytes,
        .len = inlined->outcome.len};

    (void)user;
    if (knit_reports_are_on(router))
        knit_reports_note_run(router, outcome.slot, inlined->run_ns);
    if (inlined->is_late)
        end_late(router, outcome.slot, inlined->started);
    else
        deliver(router, &outcome);
}

/* Callers that look at values have theirs from workers. */
static void on_inline_value(void *arg, void *user, struct knit_span value, uint32_t count)
{
    (void)arg, (void)user, (void)value, (void)count;
}

static bool has_ended(void *arg)
{
    return knit_session_is_closed(knit_router_session(arg));
}

int knit_router_add_inliner(struct knit_router *router, const struct knit_inline_tasks *tasks)
{
    const struct knit_settings *settings = router->turn->settings;
    const struct knit_inliner_options options = {.tasks = tasks,
        .marks = knit_host_marks(router->backend->pool),
        .settings = {.at = (enum knit_inliner_at)settings->inliner_position,
            .batch = settings->inliner_batch != 0 ? (uint32_t)settings->inliner_batch : 1,
            .threshold = (uint32_t)settings->inliner_dispatch_threshold},
        .workers = router->session->geometry.lanes,
        .places = INLINED_MAX,
        .result_max_bytes = settings->call_max_bytes,
        .on_end = on_inlined,
        .on_value = on_inline_value,
        .is_over = has_ended,
        .arg = router};
    struct knit_record *records =
        realloc(router->records, ((size_t)router->slots + INLINED_MAX) * sizeof(*records));

    if (records == NULL)
        return -ENOMEM;
    memset(records + router->slots, 0, INLINED_MAX * sizeof(*records));
    router->records = records;
    router->record_count = router->slots + INLINED_MAX;
    return knit_inliner_new(&options, &router->inliner);
}

/* ---- turns ----------------------------------------------------------------------------------- */

static void measure(struct knit_router *router, size_t count)
{
    uint64_t now_ns = router->turn->now_ns;
    uint64_t interval_ns = (now_ns - router->collected_ns) / count, last_ns = router->interval_ns;

    if (router->collected_ns != 0)
        router->interval_ns = last_ns != 0 ? (last_ns * 7 + interval_ns) / 8 : interval_ns;
    /* How long nobody called says nothing about how fast the workers are. */
    router->collected_ns = router->outstanding > 0 ? now_ns : 0;
}

size_t knit_router_turn(struct knit_router *router)
{
    size_t count;

    /* Workers wake while the answers of others are collected. */
    knit_session_flush(knit_router_session(router));
    if (knit_session_is_watching(knit_router_session(router)))
        knit_session_take_values(knit_router_session(router), emit, router);
    if (knit_router_has_inline(router))
        (void)knit_inliner_turn(router->inliner);
    count = collect(router);
    if (count > 0)
        measure(router, count);
    expire(router);
    if (!TAILQ_EMPTY(&router->due_references)) {
        knit_references_run(router);
        knit_session_flush(knit_router_session(router));
    }
    knit_session_note_deferrals(knit_router_session(router));
    if (router->turn->now_ns >= router->share.limited.next_ns) {
        knit_limited_resume(&router->share.limited, router->turn, router->is_draining);
        knit_session_flush(knit_router_session(router));
    }
    if (knit_share_resume(&router->share, KNIT_SHARE_TURN_NS))
        knit_session_flush(knit_router_session(router));
    return count;
}
