/* SPDX-License-Identifier: Apache-2.0 */
/* From a message to a lane. The usual call is a request of the task that its caller named last,
 * with a timeout or without any option, for which there is room: publish_usual() asks all that can
 * end or delay a call and publishes it, or does nothing. Then the general way asks again, by the
 * same functions, and says what is the matter.
 */
#include "server/rpc/router_private.h"

#include <stdlib.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/session_inline.h"
#include "server/config/setting.h"
#include "server/rpc/hold.h"
#include "server/rpc/keyed.h"
#include "server/rpc/late.h"
#include "server/rpc/permit.h"
#include "server/rpc/references.h"
#include "server/rpc/refusal.h"
#include "server/rpc/reports.h"
#include "server/rpc/task.h"

/* A message on its way. */
struct way {
    struct knit_caller *caller;
    const struct knit_message *message;
    uint64_t since_ns; /* when it was read */
    const struct knit_options *options;
    const struct knit_registry_task *task;
    struct knit_key *key; /* that this call begins, until it is published; NULL: none */
};

/* ---- publishing ---------------------------------------------------------------------------- */

/* By the caller's timeout and the task's. */
static inline uint64_t deadline_of(
    const struct knit_registry_task *task, uint64_t timeout_ns, uint64_t since_ns)
{
    uint64_t span_ns = timeout_ns;

    if (task->timeout_ms != 0 && task->timeout_ms * UINT64_C(1000000) < span_ns)
        span_ns = task->timeout_ms * UINT64_C(1000000);
    return span_ns == KNIT_OPTION_NONE ? UINT64_MAX : knit_router_after(since_ns, span_ns);
}

/* It is started at once or not at all. */
static bool must_not_wait(const struct knit_options *options)
{
    return options->queue_ns == 0;
}

/* It must have started by then. One that must not wait is published when a worker is free, which
 * gets a moment to claim it. */
static uint64_t queue_deadline_of(const struct knit_options *options, uint64_t since_ns)
{
    if (must_not_wait(options))
        return knit_router_after(knit_clock_ns(), KNIT_AT_ONCE_NS);
    return options->queue_ns == KNIT_OPTION_NONE ? UINT64_MAX
                                                 : knit_router_after(since_ns, options->queue_ns);
}

/* A start behind it is in vain: the call cannot end in time. But who gets something else than
 * TIMEOUT at the deadline may get it there. */
static uint64_t start_by_of(uint64_t deadline_ns, uint32_t work_ns, bool has_late)
{
    if (deadline_ns == UINT64_MAX || has_late)
        return deadline_ns;
    return deadline_ns > work_ns ? deadline_ns - work_ns : 0;
}

void knit_router_look(struct knit_caller *caller, const struct knit_message *message,
    uint64_t since_ns, struct knit_outlook *ret_outlook)
{
    const struct knit_registry_task *task;
    struct knit_options options;
    uint64_t deadline_ns, queue_deadline_ns;
    const char *reason;
    bool has_late;

    *ret_outlook = (struct knit_outlook){.due_ns = UINT64_MAX, .start_by_ns = UINT64_MAX};
    if (knit_options_decode(message->options, &options, &reason) != 0)
        return;
    task = knit_task_find(caller, &message->method);
    /* One that it may not run looks as one that there is not. */
    if (task == NULL || !knit_permit_task(caller, task->id))
        return;
    ret_outlook->work_ns = knit_backlog_work_ns(caller->router, task->id);
    if (must_not_wait(&options)) {
        ret_outlook->due_ns = 0;
        return;
    }
    deadline_ns = deadline_of(task, options.timeout_ns, since_ns);
    queue_deadline_ns = queue_deadline_of(&options, since_ns);
    has_late = deadline_ns != UINT64_MAX && knit_late_has(&options, task);
    ret_outlook->start_by_ns = start_by_of(deadline_ns, ret_outlook->work_ns, has_late);
    if (queue_deadline_ns < ret_outlook->start_by_ns)
        ret_outlook->start_by_ns = queue_deadline_ns;
    ret_outlook->has_late = has_late && deadline_ns <= queue_deadline_ns;
    ret_outlook->due_ns = deadline_ns < queue_deadline_ns ? deadline_ns : queue_deadline_ns;
}

void knit_router_time_out(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_options options;
    struct way way = {.caller = caller, .message = message, .options = &options};
    const char *reason;

    if (knit_options_decode(message->options, &options, &reason) != 0)
        options = knit_options();
    way.task = knit_task_find(caller, &message->method);
    if (way.task != NULL)
        knit_refuse_late(caller, message, way.options, way.task, KNIT_ROUTER_WAITED);
    else
        knit_refuse_overdue(caller, message, KNIT_ROUTER_WAITED);
}

/* What the message's arguments take of the request arena. */
static uint32_t argument_bytes_of(const struct knit_message *message)
{
    return message->params.len > KNIT_SLAB_BYTES ? (uint32_t)message->params.len : 0;
}

void knit_router_stop_waiting(struct knit_caller *caller)
{
    knit_share_leave(&caller->router->share, caller);
    knit_caller_unpause(caller, KNIT_PAUSE_SLOT | KNIT_PAUSE_IN_FLIGHT);
}

static uint32_t lane_for(const struct knit_router *router, const struct knit_options *options)
{
    if (options->affinity == KNIT_OPTION_NONE)
        return KNIT_LANE_ANY;
    return knit_session_place(router->share.session, options->affinity);
}

/* When a notification that is published now ends if it has not before; 0 = never. */
static uint64_t abort_of(const struct knit_caller *caller)
{
    uint64_t max_ms = caller->turn->settings->notification_max_ms;

    return caller->gone_ns != 0 && max_ms != 0
               ? knit_router_after(caller->gone_ns, max_ms * UINT64_C(1000000))
               : 0;
}

/* The call is published. Without memory for a request's entry it is aborted and its caller
 * ended. */
static void remember(struct way *way, struct knit_record *record, uint32_t slot)
{
    struct knit_caller *caller = way->caller;
    struct knit_router *router = caller->router;

    knit_router_count(router, record);
    if (knit_reports_are_on(router)) {
        knit_reports_publish(caller, way->message, slot);
        record->extras |= KNIT_RECORD_REPORTED;
    }
    if (caller->has_waited)
        knit_backlog_note_wait(caller, record->task, way->since_ns);
    if (knit_quota_is_limited(&caller->principal->quota)) {
        knit_quota_take(&caller->principal->quota, way->message->params.len, caller->turn->now_ns);
        knit_limited_note_call(&router->share.limited, caller);
        record->extras |= KNIT_RECORD_QUOTA;
    }
    knit_share_note_call(
        &router->share, caller, record->task, record->argument_bytes, &router->charges[slot]);
    knit_hold_note_call(caller, record, slot);
    router->outstanding++;
    if (way->key != NULL) {
        knit_keyed_publish(router, way->key, record->msgid, record, slot);
        way->key = NULL;
    } else if (way->message->kind != KNIT_MESSAGE_REQUEST) {
        knit_router_lower_to_abort(router, record);
    } else if (knit_in_flight_add(&caller->calls, record->msgid, slot) != 0) {
        router->records[slot] = *record;
        knit_router_abort(router, slot);
        caller->ops->close_without_memory(caller);
        return;
    } else {
        record->caller = caller;
        knit_router_lower_next(router, record);
        if (way->options->keep != KNIT_OPTION_NONE && way->options->keep != 0)
            knit_references_keep(caller, record->msgid, way->options->keep);
        if (caller->references != NULL && knit_references_want(caller, record->msgid))
            record->extras |= KNIT_RECORD_SOURCE;
    }
    router->records[slot] = *record;
}

/* A notification's outcome goes nowhere. */
static uint32_t flags_of(const struct knit_message *message, const struct knit_options *options)
{
    return (options->output && message->kind == KNIT_MESSAGE_REQUEST ? KNIT_CELL_OUTPUT : 0) |
           (options->progress && message->kind == KNIT_MESSAGE_REQUEST ? KNIT_CELL_PROGRESS : 0);
}

/* What a call waits for that could not be published. */
static uint32_t queue_for(int r, uint32_t lane)
{
    if (r == KNIT_SESSION_E_ARENA_FULL)
        return KNIT_SHARE_WAITING_ARENA;
    return r == KNIT_SESSION_E_CROWDED && lane != KNIT_LANE_ANY ? KNIT_SHARE_WAITING_LANE + lane
                                                                : KNIT_SHARE_WAITING_SLOT;
}

/* What becomes of a call that the session has not taken. False: it waits. */
static bool settle_unpublished(const struct way *way, int r, uint32_t lane)
{
    struct knit_caller *caller = way->caller;

    switch (r) {
    case KNIT_SESSION_E_FULL:
    case KNIT_SESSION_E_ARENA_FULL:
    case KNIT_SESSION_E_BUSY:
    case KNIT_SESSION_E_CROWDED:
        if (!must_not_wait(way->options)) {
            knit_share_wait(&caller->router->share, caller, queue_for(r, lane));
            return false;
        }
        knit_refuse_waiting(caller, way->message);
        break;
    case KNIT_SESSION_E_TOO_LARGE:
        knit_refuse_too_large(caller, way->message);
        break;
    case KNIT_SESSION_E_DRAINING:
        knit_refuse_with(caller, way->message, KNIT_DRAINING, "the server is shutting down");
        break;
    case KNIT_SESSION_E_CLOSED:
        knit_refuse_with(caller, way->message, KNIT_SHUTDOWN, "the pool is shut down");
        break;
    default:
        knit_refuse_with(caller, way->message, KNIT_INTERNAL, "the call could not be published");
    }
    return true;
}

/* What its caller gets at the deadline, if that is not TIMEOUT. False: out of memory, and its
 * caller is ended. */
static bool remember_late(const struct way *way, struct knit_record *record)
{
    if (record->deadline_ns == UINT64_MAX || way->message->kind != KNIT_MESSAGE_REQUEST ||
        way->key != NULL || !knit_late_has(way->options, way->task))
        return true;
    record->late = knit_late_new(way->options, way->task);
    if (record->late == NULL)
        way->caller->ops->close_without_memory(way->caller);
    return record->late != NULL;
}

/* What its caller looks at while it runs, wants begun at once or on a lane of its choice, is for
 * workers. */
static bool goes_inline(const struct way *way, uint32_t lane)
{
    struct knit_router *router = way->caller->router;

    return router->inliner != NULL && lane == KNIT_LANE_ANY && !must_not_wait(way->options) &&
           !way->options->output && !way->options->progress &&
           knit_inliner_takes(router->inliner, way->task->id);
}

static void publish_inline(
    struct way *way, struct knit_record *record, const struct knit_trace *trace)
{
    struct knit_router *router = way->caller->router;
    const struct knit_inliner_call call = {.task = way->task->id,
        .deadline_ns = record->deadline_ns == UINT64_MAX ? 0 : record->deadline_ns,
        .params = way->message->params,
        .trace = trace};
    uint32_t place;

    if (knit_inliner_add(router->inliner, &call, &place) != 0) {
        free(record->late);
        knit_refuse_with(
            way->caller, way->message, KNIT_INTERNAL, "the call could not be published");
        return;
    }
    remember(way, record, router->slots + place);
    KNIT_COUNT(way->caller->turn, calls_published);
}

/* It has waited, and what is left of its timeout is less than it takes: a worker would run it for
 * nobody. True: it is refused. */
static bool refuse_spent(const struct way *way, const struct knit_record *record)
{
    struct knit_router *router = way->caller->router;
    const uint32_t work_ns = knit_backlog_work_ns(router, record->task);
    struct knit_failure failure;

    if (!way->caller->has_waited || record->deadline_ns == UINT64_MAX ||
        !knit_backlog_has_spent(router,
            start_by_of(record->deadline_ns, work_ns, knit_late_has(way->options, way->task)),
            &failure))
        return false;
    knit_refuse_call(way->caller, way->message, &failure);
    return true;
}

static bool publish(struct way *way, uint32_t lane, uint32_t argument_bytes)
{
    struct knit_caller *caller = way->caller;
    struct knit_session *session = knit_router_session(caller->router);
    const struct knit_message *message = way->message;
    struct knit_record record = {.charged_to = caller,
        .deadline_ns = deadline_of(way->task, way->options->timeout_ns, way->since_ns),
        .queue_deadline_ns = queue_deadline_of(way->options, way->since_ns),
        .abort_ns = abort_of(caller),
        .msgid = message->msgid,
        .task = way->task->id,
        .argument_bytes = argument_bytes};
    struct knit_session_call call = {.task = way->task->id,
        .epoch = caller->router->epoch,
        .deadline_ns = record.deadline_ns == UINT64_MAX ? 0 : record.deadline_ns,
        .flags = flags_of(message, way->options),
        .lane = lane,
        .ring = lane != KNIT_LANE_ANY ? KNIT_RING_PINNED : KNIT_RING_NORMAL,
        .payload = message->params.bytes,
        .len = message->params.len};
    struct knit_trace traced;
    uint32_t slot;
    int r;

    if (knit_record_is_timed_out(&record, caller->turn->now_ns)) {
        knit_refuse_late(way->caller, way->message, way->options, way->task, KNIT_ROUTER_WAITED);
        return true;
    }
    if (knit_record_is_overdue(&record, caller->turn->now_ns)) {
        knit_refuse_overdue(caller, message, KNIT_ROUTER_WAITED);
        return true;
    }
    if (refuse_spent(way, &record) || !remember_late(way, &record))
        return true;
    if (way->options->trace.bytes != NULL || knit_reports_are_on(caller->router))
        call.trace = knit_reports_trace(caller, message, way->options->trace, &traced);
    if (call.trace != NULL)
        call.flags |= KNIT_CELL_TRACED;
    if (goes_inline(way, lane)) {
        publish_inline(way, &record, call.trace);
        return true;
    }
    if (lane == KNIT_LANE_ANY && knit_hold_must_wait(caller, &record))
        r = KNIT_SESSION_E_CROWDED;
    else if (must_not_wait(way->options))
        r = knit_session_publish_at_once(session, &call, &slot);
    else
        r = knit_session_publish(session, &call, &slot);
    if (r != 0) {
        knit_hold_give_back(caller, &record);
        free(record.late);
        return settle_unpublished(way, r, lane);
    }
    if ((call.flags & KNIT_CELL_PROGRESS) != 0 && knit_session_watch(session, slot))
        record.extras |= KNIT_RECORD_WATCHED;
    record.prints = (call.flags & KNIT_CELL_OUTPUT) != 0;
    remember(way, &record, slot);
    if (must_not_wait(way->options))
        knit_session_flush(session);
    KNIT_COUNT(caller->turn, calls_published);
    return true;
}

/* Whether it is a call only if it is the first one with its key. */
static bool is_keyed(const struct way *way)
{
    return way->options->key.bytes != NULL && way->caller->router->keyed != NULL;
}

/* Everything for which a call is refused though there is room for it. True: it is. */
static bool refuse_bad_call(struct way *way)
{
    struct knit_caller *caller = way->caller;
    const struct knit_message *message = way->message;
    struct knit_failure failure;

    if (way->options->epoch != KNIT_OPTION_NONE && way->options->epoch != caller->router->epoch) {
        knit_refuse_with(caller, message, KNIT_STALE_EPOCH,
            "the tasks have changed since that epoch; read $/tasks again");
        return true;
    }
    way->task = knit_task_find(caller, &message->method);
    if (way->task == NULL) {
        knit_refuse_unknown(caller, message);
        return true;
    }
    if (!knit_permit_task(caller, way->task->id)) {
        knit_permit_refuse_task(caller, message, way->task);
        return true;
    }
    if (!is_keyed(way) && knit_quota_is_limited(&caller->principal->quota) &&
        !knit_quota_waits(&caller->principal->quota) && knit_refuse_over_quota(caller, message))
        return true;
    if (message->params.len > caller->turn->settings->call_max_bytes) {
        knit_refuse_too_large(caller, message);
        return true;
    }
    if (way->options->timeout_ns == 0) {
        knit_refuse_late(way->caller, way->message, way->options, way->task, "the timeout is 0");
        return true;
    }
    if (!caller->has_waited && knit_router_is_full(caller->router)) {
        knit_refuse_overloaded(caller, message);
        return true;
    }
    if (!caller->has_waited &&
        knit_call_is_beyond(caller, way->options, caller->calls.count, &failure)) {
        knit_refuse_call(caller, message, &failure);
        return true;
    }
    return false;
}

/* Refuses one that may not wait for its limits. False: it waits. */
static bool settle_over_limit(const struct way *way)
{
    struct knit_caller *caller = way->caller;

    if (!must_not_wait(way->options)) {
        knit_share_wait_for_limit(&caller->router->share, caller);
        return false;
    }
    if (!knit_refuse_over_quota(caller, way->message))
        knit_refuse_waiting(caller, way->message);
    return true;
}

/* False: nothing is left to be done for it. */
static bool begin_keyed(struct way *way)
{
    const struct knit_keyed_request request = {.caller = way->caller,
        .message = way->message,
        .options = way->options,
        .task = way->task,
        .since_ns = way->since_ns};

    way->key = knit_keyed_begin(&request);
    return way->key != NULL;
}

/* Of a call that is not refused for what it is. False: it has to wait. */
static bool try_publish(struct way *way)
{
    struct knit_caller *caller = way->caller;
    struct knit_share *share = &caller->router->share;
    const bool begins = is_keyed(way) && way->key == NULL;
    uint32_t argument_bytes = argument_bytes_of(way->message), lane, queue;
    bool is_admitted;

    if (knit_share_is_over_limit(share, caller))
        return settle_over_limit(way);
    if (knit_flow_of(&share->flows, caller) == NULL) {
        caller->ops->close_without_memory(caller);
        return true;
    }
    lane = lane_for(caller->router, way->options);
    queue = knit_share_must_wait(share, caller, argument_bytes, lane);
    if (queue == KNIT_SHARE_NOT_WAITING && begins && !knit_share_has_arena(share, argument_bytes))
        queue = KNIT_SHARE_WAITING_ARENA;
    is_admitted = knit_share_admits(share, &caller->account, argument_bytes);
    if (is_admitted && queue == KNIT_SHARE_NOT_WAITING)
        return (begins && !begin_keyed(way)) || publish(way, lane, argument_bytes);
    if (must_not_wait(way->options)) {
        knit_refuse_waiting(caller, way->message);
        return true;
    }
    if (is_admitted) {
        knit_share_wait(share, caller, queue);
    } else {
        caller->pauses |= KNIT_PAUSE_IN_FLIGHT;
        KNIT_COUNT(caller->turn, waits_for_slot);
    }
    return false;
}

static bool publish_keyed(struct way *way)
{
    bool is_done;

    /* To compare it with others takes as long as its arguments are: one that has waited, which may
     * be tried often, begins when there is room. */
    if ((!way->caller->has_waited || must_not_wait(way->options)) && !begin_keyed(way))
        return true;
    is_done = try_publish(way);
    if (way->key != NULL)
        knit_keyed_withdraw(way->caller, way->key, way->message);
    return is_done;
}

/* Publishes or refuses; false: it has to wait. */
static bool route(struct way *way)
{
    if (refuse_bad_call(way))
        return true;
    return is_keyed(way) ? publish_keyed(way) : try_publish(way);
}

/* Not inlined, because the options would cost calls without any. */
static __attribute__((noinline)) bool route_with_options(struct way *way)
{
    struct knit_options options;
    const char *reason;

    if (knit_options_decode(way->message->options, &options, &reason) != 0) {
        knit_refuse_with(way->caller, way->message, KNIT_BAD_ARGUMENT, reason);
        return true;
    }
    way->options = &options;
    return route(way);
}

static bool is_at_most_in_flight(const struct knit_caller *caller)
{
    return caller->calls.count >= caller->turn->settings->in_flight_max;
}

bool knit_router_route(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    struct way way = {.caller = caller,
        .message = message,
        .since_ns = since_ns,
        .options = &knit_options_default};

    return message->options.bytes == NULL ? route(&way) : route_with_options(&way);
}

/* Whether there may be one more call of the caller. False: *ret_verdict. */
static bool may_call(struct knit_caller *caller, const struct knit_message *message,
    uint64_t since_ns, enum knit_router_verdict *ret_verdict)
{
    struct knit_outlook outlook;
    uint32_t slot;

    *ret_verdict = KNIT_ROUTER_DONE;
    if (message->kind == KNIT_MESSAGE_REQUEST &&
        knit_in_flight_find(&caller->calls, message->msgid, &slot)) {
        *ret_verdict = KNIT_ROUTER_TWICE;
        return false;
    }
    if (knit_router_drains_for(caller)) {
        knit_refuse_with(caller, message, KNIT_DRAINING, "the server is shutting down");
        return false;
    }
    if (!is_at_most_in_flight(caller))
        return true;
    knit_router_look(caller, message, since_ns, &outlook);
    if (outlook.due_ns == 0) {
        knit_refuse_waiting(caller, message);
        return false;
    }
    caller->pauses |= KNIT_PAUSE_IN_FLIGHT;
    *ret_verdict = KNIT_ROUTER_LATER;
    return false;
}

bool knit_router_admits(struct knit_caller *caller, const struct knit_message *message,
    uint64_t since_ns, enum knit_router_verdict *ret_verdict)
{
    struct knit_options options;
    struct way way = {
        .caller = caller, .message = message, .since_ns = since_ns, .options = &options};
    const char *reason;

    if (!may_call(caller, message, since_ns, ret_verdict))
        return false;
    if (knit_options_decode(message->options, &options, &reason) != 0) {
        knit_refuse_with(caller, message, KNIT_BAD_ARGUMENT, reason);
        return false;
    }
    return !refuse_bad_call(&way);
}

static enum knit_router_verdict try_call(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    enum knit_router_verdict verdict;

    if (!may_call(caller, message, since_ns, &verdict))
        return verdict;
    if (!knit_router_route(caller, message, since_ns))
        return KNIT_ROUTER_LATER;
    if (message->kind == KNIT_MESSAGE_REQUEST)
        KNIT_COUNT(caller->turn, requests);
    else
        KNIT_COUNT(caller->turn, notifications);
    return KNIT_ROUTER_DONE;
}

/* Not inlined, because the usual call does not come here. */
static __attribute__((noinline)) enum knit_router_verdict call_generally(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    struct knit_router *router = caller->router;
    enum knit_router_verdict verdict;

    if (!knit_reports_are_on(router))
        return try_call(caller, message, since_ns);
    knit_reports_begin(caller, message, since_ns);
    verdict = try_call(caller, message, since_ns);
    knit_reports_leave(router);
    return verdict;
}

/* Whether nothing but the lanes can delay a call that fits a cell, or end it. */
static inline bool is_free_to_call(const struct knit_caller *caller, size_t len)
{
    const struct knit_router *router = caller->router;

    return !router->is_draining && !is_at_most_in_flight(caller) && len <= KNIT_INLINE_MAX &&
           len <= caller->turn->settings->call_max_bytes && !knit_router_is_full(router) &&
           knit_share_must_wait(&router->share, caller, 0, KNIT_LANE_ANY) ==
               KNIT_SHARE_NOT_WAITING &&
           knit_share_admits(&router->share, &caller->account, 0);
}

/* False: it is not the usual call, and nothing was done. */
static inline bool publish_usual(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    struct knit_router *router = caller->router;
    struct knit_in_flight_entry *place;
    const struct knit_registry_task *task;
    uint64_t timeout_ns = KNIT_OPTION_NONE, deadline_ns;
    struct knit_session_call call;
    uint32_t slot;

    if (message->kind != KNIT_MESSAGE_REQUEST || !knit_in_flight_has_room(&caller->calls))
        return false;
    place = knit_in_flight_probe(&caller->calls, message->msgid);
    task = knit_task_named(caller, &message->method);
    if (place->slot_plus_one != 0 || task == NULL ||
        !is_free_to_call(caller, message->params.len) || !knit_permit_task(caller, task->id) ||
        knit_quota_is_limited(&caller->principal->quota) ||
        (task->timeout_ms != 0 && task->on_timeout.bytes != NULL) ||
        caller->flow_of != caller->principal || knit_hold_may_be_long(caller, task->id) ||
        knit_router_may_inline(router, task->id))
        return false;
    if (message->options.bytes != NULL) {
        timeout_ns = knit_options_timeout_alone(message->options);
        if (timeout_ns == KNIT_OPTION_NONE)
            return false;
    }
    deadline_ns = deadline_of(task, timeout_ns, since_ns);
    if (deadline_ns <= caller->turn->now_ns)
        return false;
    call = (struct knit_session_call){.task = task->id,
        .epoch = router->epoch,
        .deadline_ns = deadline_ns == UINT64_MAX ? 0 : deadline_ns,
        .lane = KNIT_LANE_ANY,
        .payload = message->params.bytes,
        .len = message->params.len};
    if (__builtin_expect(!knit_session_try_publish(knit_router_session(router), &call, &slot), 0))
        return false;
    knit_share_note_call(&router->share, caller, task->id, 0, &router->charges[slot]);
    if (__builtin_expect(caller->has_waited, 0))
        knit_backlog_note_wait(caller, task->id, since_ns);
    router->outstanding++;
    router->records[slot] = (struct knit_record){.caller = caller,
        .charged_to = caller,
        .deadline_ns = deadline_ns,
        .queue_deadline_ns = UINT64_MAX,
        .msgid = message->msgid,
        .task = task->id};
    knit_in_flight_fill(&caller->calls, place, message->msgid, slot);
    if (deadline_ns < router->next_ns)
        router->next_ns = deadline_ns;
    KNIT_COUNT(caller->turn, calls_published);
    KNIT_COUNT(caller->turn, requests);
    return true;
}

enum knit_router_verdict knit_router_call(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    if (__builtin_expect(!knit_reports_are_on(caller->router), 1) &&
        publish_usual(caller, message, since_ns))
        return KNIT_ROUTER_DONE;
    return call_generally(caller, message, since_ns);
}
