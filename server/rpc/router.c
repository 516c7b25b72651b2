/* SPDX-License-Identifier: Apache-2.0 */
/* What becomes of a call, and what its caller gets:
 *
 *     waits          in its caller, which a connection does as lookahead.h says
 *     published      a record, charged to the caller; requests also stand in the caller's table
 *     answered       outcome, record and charge gone
 *     deadline       TIMEOUT, table entry gone; record and charge stay until answered
 *     `queue` over   the same, if it has not started
 *     cancelled      not started: CANCELLED, as with `queue`; else the abort flag, and all stays
 *                    until answered
 *     caller gone    abort flag; the record, charged to no caller, until answered
 *
 * A task called by notification has a record for which no caller waits, and no abort flag when its
 * caller goes: a notification does not say that its caller stays. The flag follows when its caller
 * has been gone for notification_max_ms.
 */
#include "server/rpc/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "fastpath/host/pool.h"
#include "server/config/setting.h"

enum {
    COLLECT_BATCH = 64,
    COLLECT_MAX = 1024, /* a turn: then sockets have their turn again */
    NAME_SHOWN_MAX = 64,
    RETRY_MAX_MS = 60000,
};

int knit_router_init(struct knit_router *router, struct knit_turn *turn,
    struct knit_pool_session *session, const struct knit_registry *registry)
{
    uint32_t slots = session->geometry.slots;
    int r;

    *router = (struct knit_router){.turn = turn,
        .session = session,
        .registry = registry,
        .slots = slots,
        .next_ns = UINT64_MAX};
    r = knit_share_init(&router->share, session->session, &session->geometry);
    router->records = calloc(slots, sizeof(*router->records));
    return router->records != NULL ? r : -ENOMEM;
}

void knit_router_fini(struct knit_router *router)
{
    free(router->records);
    router->records = NULL;
    knit_share_fini(&router->share);
}

static struct knit_session *session_of(const struct knit_router *router)
{
    return router->session->session;
}

/* One of the slots that count in the caller's share is free. */
static void uncharge(struct knit_caller *caller)
{
    knit_share_note_end(&caller->router->share, caller);
    knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
}

void knit_router_release(struct knit_caller *caller, uint32_t slot)
{
    knit_session_release(session_of(caller->router), slot);
    caller->router->share.has_freed = true;
    uncharge(caller);
}

/* ---- refusing ------------------------------------------------------------------------------ */

/* A notification has no response. */
static void refuse(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_failure *failure)
{
    if (message->kind == KNIT_MESSAGE_REQUEST)
        caller->ops->refuse(caller, message->msgid, failure);
    else
        KNIT_COUNT(caller->turn, notifications_dropped);
}

static void refuse_code(
    struct knit_caller *caller, const struct knit_message *message, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    refuse(caller, message, &failure);
}

static void refuse_unknown(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_router *router = caller->router;
    const struct knit_registry_task *nearest = NULL;
    struct knit_span name = message->method.name;
    char text[2 * NAME_SHOWN_MAX + KNIT_NAME_BYTES_MAX + 64];

    if (name.bytes == NULL) {
        (void)snprintf(text, sizeof(text), "there is no task of the number %llu",
            (unsigned long long)message->method.id);
    } else {
        int shown = name.len < NAME_SHOWN_MAX ? (int)name.len : NAME_SHOWN_MAX;

        if (name.len <= KNIT_NAME_BYTES_MAX && message->kind == KNIT_MESSAGE_REQUEST)
            nearest = knit_suggest_task(&router->suggest, router->registry,
                (const char *)name.bytes, name.len, knit_clock_ns());
        if (nearest != NULL)
            (void)snprintf(text, sizeof(text), "there is no task '%.*s'; the nearest is '%s'",
                shown, (const char *)name.bytes, nearest->name);
        else
            (void)snprintf(
                text, sizeof(text), "there is no task '%.*s'", shown, (const char *)name.bytes);
    }
    refuse_code(caller, message, KNIT_UNKNOWN_TASK, text);
}

static void refuse_too_large(struct knit_caller *caller, const struct knit_message *message)
{
    uint64_t limit = caller->turn->settings->call_max_bytes;
    struct knit_failure failure;
    char text[96];

    (void)snprintf(text, sizeof(text),
        "the arguments are %zu bytes, %llu are allowed (call_max_bytes)", message->params.len,
        (unsigned long long)limit);
    failure = knit_failure(KNIT_TOO_LARGE, text);
    failure.limit = limit;
    failure.actual = message->params.len;
    refuse(caller, message, &failure);
}

bool knit_router_is_full(const struct knit_router *router)
{
    uint64_t most = router->turn->settings->queue_max;

    return most > 0 && router->outstanding + router->waiting >= most;
}

struct knit_failure knit_router_overloaded(const struct knit_router *router)
{
    struct knit_failure failure = knit_failure(
        KNIT_OVERLOADED, "more calls are queued than the server wants to queue (queue_max)");
    uint64_t wait_ns =
        router->interval_ns * ((router->outstanding + (uint64_t)router->waiting) / 2 + 1);

    failure.retry_after_ms =
        wait_ns / 1000000 < RETRY_MAX_MS ? wait_ns / 1000000 + 1 : RETRY_MAX_MS;
    failure.limit = router->turn->settings->queue_max;
    KNIT_COUNT(router->turn, calls_overloaded);
    return failure;
}

static void refuse_overloaded(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_failure failure = knit_router_overloaded(caller->router);

    refuse(caller, message, &failure);
}

/* It may not wait at all, and would have to. */
static void refuse_waiting(struct knit_caller *caller, const struct knit_message *message)
{
    KNIT_COUNT(caller->turn, calls_overloaded);
    refuse_code(caller, message, KNIT_OVERLOADED, KNIT_ROUTER_NO_WORKER_FREE);
}

static void refuse_overdue(
    struct knit_caller *caller, const struct knit_message *message, const char *text)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, text);

    failure.started = KNIT_STARTED_NO;
    KNIT_COUNT(caller->turn, calls_timed_out);
    refuse(caller, message, &failure);
}

/* ---- publishing ---------------------------------------------------------------------------- */

static const struct knit_registry_task *find_task(
    const struct knit_registry *registry, const struct knit_method *method)
{
    if (method->name.bytes != NULL)
        return method->name.len <= KNIT_NAME_BYTES_MAX
                   ? knit_registry_find(
                         registry, (const char *)method->name.bytes, method->name.len)
                   : NULL;
    return method->id <= UINT32_MAX ? knit_registry_at(registry, (uint32_t)method->id) : NULL;
}

/* now + span without passing the end of time, which is no deadline. */
static uint64_t deadline_after(uint64_t now_ns, uint64_t span_ns)
{
    return span_ns < UINT64_MAX - now_ns ? now_ns + span_ns : UINT64_MAX;
}

static uint64_t deadline_of(
    const struct knit_registry_task *task, const struct knit_options *options, uint64_t since_ns)
{
    uint64_t span_ns = options->timeout_ns;

    if (task->timeout_ms != 0 && task->timeout_ms * UINT64_C(1000000) < span_ns)
        span_ns = task->timeout_ms * UINT64_C(1000000);
    return span_ns == KNIT_OPTION_NONE ? UINT64_MAX : deadline_after(since_ns, span_ns);
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
        return deadline_after(knit_clock_ns(), KNIT_AT_ONCE_NS);
    return options->queue_ns == KNIT_OPTION_NONE ? UINT64_MAX
                                                 : deadline_after(since_ns, options->queue_ns);
}

uint64_t knit_router_deadline(
    const struct knit_router *router, const struct knit_message *message, uint64_t since_ns)
{
    const struct knit_registry_task *task;
    struct knit_options options;
    uint64_t deadline_ns, queue_deadline_ns;
    const char *reason;

    if (knit_options_decode(message->options, &options, &reason) != 0)
        return UINT64_MAX;
    task = find_task(router->registry, &message->method);
    if (task == NULL)
        return UINT64_MAX;
    if (must_not_wait(&options))
        return 0;
    deadline_ns = deadline_of(task, &options, since_ns);
    queue_deadline_ns = queue_deadline_of(&options, since_ns);
    return deadline_ns < queue_deadline_ns ? deadline_ns : queue_deadline_ns;
}

/* What the message's arguments take of the request arena. */
static uint32_t argument_bytes_of(const struct knit_message *message)
{
    return message->params.len > KNIT_INLINE_MAX ? (uint32_t)message->params.len : 0;
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
    return (uint32_t)((options->affinity * UINT64_C(0x9e3779b97f4a7c15)) >> 33) %
           router->share.lanes;
}

static void lower_next(struct knit_router *router, const struct knit_record *record)
{
    if (record->deadline_ns < router->next_ns)
        router->next_ns = record->deadline_ns;
    if (record->queue_deadline_ns < router->next_ns)
        router->next_ns = record->queue_deadline_ns;
}

/* When a notification that is published now ends if it has not before; 0 = never. */
static uint64_t abort_of(const struct knit_caller *caller)
{
    uint64_t max_ms = caller->turn->settings->notification_max_ms;

    return caller->gone_ns != 0 && max_ms != 0
               ? deadline_after(caller->gone_ns, max_ms * UINT64_C(1000000))
               : 0;
}

static void lower_to_abort(struct knit_router *router, const struct knit_record *record)
{
    if (record->abort_ns != 0 && record->abort_ns < router->next_ns)
        router->next_ns = record->abort_ns;
}

/* The call is published. Without memory for a request's entry it is aborted and its caller
 * ended. */
static void remember(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_record *record, uint32_t slot)
{
    struct knit_router *router = caller->router;

    knit_share_note_call(&router->share, caller, record->argument_bytes);
    router->outstanding++;
    router->records[slot] = *record;
    if (message->kind != KNIT_MESSAGE_REQUEST) {
        lower_to_abort(router, record);
        return;
    }
    if (knit_in_flight_add(&caller->calls, message->msgid, slot) != 0) {
        knit_session_abort(session_of(router), slot);
        caller->ops->close_without_memory(caller);
        return;
    }
    router->records[slot].caller = caller;
    lower_next(router, record);
}

/* A notification's outcome goes nowhere. */
static uint32_t flags_of(const struct knit_message *message, const struct knit_options *options)
{
    return (options->affinity != KNIT_OPTION_NONE ? KNIT_CELL_PINNED : 0) |
           (options->output && message->kind == KNIT_MESSAGE_REQUEST ? KNIT_CELL_OUTPUT : 0);
}

/* What a call waits for that could not be published. */
static uint32_t queue_for(int r, uint32_t lane)
{
    if (r == KNIT_SESSION_E_ARENA_FULL)
        return KNIT_SHARE_WAITING_ARENA;
    return r == KNIT_SESSION_E_CROWDED && lane != KNIT_LANE_ANY ? KNIT_SHARE_WAITING_LANE + lane
                                                                : KNIT_SHARE_WAITING_SLOT;
}

static bool publish(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_registry_task *task, const struct knit_options *options, uint64_t since_ns)
{
    struct knit_router *router = caller->router;
    struct knit_record record = {.charged_to = caller,
        .deadline_ns = deadline_of(task, options, since_ns),
        .queue_deadline_ns = queue_deadline_of(options, since_ns),
        .abort_ns = abort_of(caller),
        .msgid = message->msgid,
        .task = task->id,
        .argument_bytes = argument_bytes_of(message)};
    struct knit_session_call call = {.task = task->id,
        .epoch = knit_registry_epoch(router->registry),
        .deadline_ns = record.deadline_ns == UINT64_MAX ? 0 : record.deadline_ns,
        .flags = flags_of(message, options),
        .lane = lane_for(router, options),
        .payload = message->params.bytes,
        .len = message->params.len};
    uint32_t slot;
    int r;

    if (record.deadline_ns <= caller->turn->now_ns ||
        record.queue_deadline_ns < caller->turn->now_ns ||
        (record.abort_ns != 0 && record.abort_ns <= caller->turn->now_ns)) {
        refuse_overdue(caller, message, "the call waited for a slot for as long as it may");
        return true;
    }
    r = must_not_wait(options) ? knit_session_publish_at_once(session_of(router), &call, &slot)
                               : knit_session_publish(session_of(router), &call, &slot);
    if (r == KNIT_SESSION_E_FULL || r == KNIT_SESSION_E_ARENA_FULL || r == KNIT_SESSION_E_BUSY ||
        r == KNIT_SESSION_E_CROWDED) {
        if (must_not_wait(options)) {
            refuse_waiting(caller, message);
            return true;
        }
        knit_share_wait(&router->share, caller, queue_for(r, call.lane));
        return false;
    }
    if (r == KNIT_SESSION_E_TOO_LARGE) {
        refuse_too_large(caller, message);
    } else if (r == KNIT_SESSION_E_DRAINING) {
        refuse_code(caller, message, KNIT_DRAINING, "the server is shutting down");
    } else if (r == KNIT_SESSION_E_CLOSED) {
        refuse_code(caller, message, KNIT_SHUTDOWN, "the pool is shut down");
    } else if (r != 0) {
        refuse_code(caller, message, KNIT_INTERNAL, "the call could not be published");
    } else {
        remember(caller, message, &record, slot);
        if (must_not_wait(options))
            knit_session_flush(session_of(router));
        KNIT_COUNT(caller->turn, calls_published);
    }
    return true;
}

/* Everything that can be wrong with a call whatever else is in flight. True: it is refused. */
static bool refuse_bad_call(struct knit_caller *caller, const struct knit_message *message,
    struct knit_options *ret_options, const struct knit_registry_task **ret_task)
{
    const struct knit_router *router = caller->router;
    const char *reason;

    if (knit_options_decode(message->options, ret_options, &reason) != 0) {
        refuse_code(caller, message, KNIT_BAD_ARGUMENT, reason);
        return true;
    }
    if (ret_options->epoch != KNIT_OPTION_NONE &&
        ret_options->epoch != knit_registry_epoch(router->registry)) {
        refuse_code(caller, message, KNIT_STALE_EPOCH,
            "the tasks have changed since that epoch; read $/tasks again");
        return true;
    }
    *ret_task = find_task(router->registry, &message->method);
    if (*ret_task == NULL) {
        refuse_unknown(caller, message);
        return true;
    }
    reason = knit_principal_refuses_call(&caller->principal, (*ret_task)->id);
    if (reason != NULL) {
        refuse_code(caller, message, KNIT_DENIED, reason);
        return true;
    }
    if (message->params.len > caller->turn->settings->call_max_bytes) {
        refuse_too_large(caller, message);
        return true;
    }
    if (ret_options->timeout_ns == 0) {
        refuse_overdue(caller, message, "the timeout is 0");
        return true;
    }
    return false;
}

/* Publishes or refuses; false: it has to wait. */
static bool route(struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    struct knit_router *router = caller->router;
    uint32_t argument_bytes = argument_bytes_of(message);
    const struct knit_registry_task *task;
    struct knit_options options;
    uint32_t queue;

    if (refuse_bad_call(caller, message, &options, &task))
        return true;
    if (!caller->has_waited && knit_router_is_full(router)) {
        refuse_overloaded(caller, message);
        return true;
    }
    queue =
        knit_share_must_wait(&router->share, caller, argument_bytes, lane_for(router, &options));
    if (must_not_wait(&options) &&
        (queue != KNIT_SHARE_NOT_WAITING ||
            !knit_share_admits(&router->share, &caller->account, argument_bytes))) {
        refuse_waiting(caller, message);
        return true;
    }
    if (!knit_share_admits(&router->share, &caller->account, argument_bytes)) {
        caller->pauses |= KNIT_PAUSE_IN_FLIGHT;
        KNIT_COUNT(caller->turn, waits_for_slot);
        return false;
    }
    if (queue != KNIT_SHARE_NOT_WAITING) {
        knit_share_wait(&router->share, caller, queue);
        return false;
    }
    return publish(caller, message, task, &options, since_ns);
}

bool knit_router_call(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    if (caller->router->is_draining) {
        refuse_code(caller, message, KNIT_DRAINING, "the server is shutting down");
        return true;
    }
    if (caller->calls.count >= caller->turn->settings->in_flight_max) {
        if (knit_router_deadline(caller->router, message, since_ns) == 0) {
            refuse_waiting(caller, message);
            return true;
        }
        caller->pauses |= KNIT_PAUSE_IN_FLIGHT;
        return false;
    }
    if (!route(caller, message, since_ns))
        return false;
    if (message->kind == KNIT_MESSAGE_REQUEST)
        KNIT_COUNT(caller->turn, requests);
    else
        KNIT_COUNT(caller->turn, notifications);
    return true;
}

/* ---- early ends ---------------------------------------------------------------------------- */

/* Arguments leave the arena with the answer; of a caller that is gone they count until then. */
static void give_back_arguments(struct knit_router *router, const struct knit_record *record)
{
    router->share.argument_bytes -= record->argument_bytes;
    if (record->charged_to != NULL)
        record->charged_to->account.argument_bytes -= record->argument_bytes;
}

void knit_router_forget(struct knit_caller *caller)
{
    struct knit_router *router = caller->router;
    uint64_t max_ms = caller->turn->settings->notification_max_ms;

    knit_share_leave(&router->share, caller);
    /* What is left of the account are outcomes that the caller has not released yet. */
    for (uint32_t slot = 0; slot < router->slots && caller->account.slots > 0; slot++) {
        struct knit_record *record = &router->records[slot];

        if (record->charged_to != caller)
            continue;
        if (record->caller != NULL)
            knit_session_abort(session_of(router), slot);
        else if (max_ms != 0 && record->abort_ns == 0)
            record->abort_ns = deadline_after(knit_clock_ns(), max_ms * UINT64_C(1000000));
        lower_to_abort(router, record);
        record->caller = NULL;
        record->charged_to = NULL;
        caller->account.slots--;
        caller->account.argument_bytes -= record->argument_bytes;
    }
    knit_in_flight_fini(&caller->calls);
}

/* No caller waits for the record's call any more. */
static void detach_caller(struct knit_record *record)
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
    caller->ops->refuse(caller, msgid, failure);
}

void knit_router_give_up(struct knit_router *router)
{
    const struct knit_failure failure = knit_failure(KNIT_SHUTDOWN, "the pool is shut down");

    for (uint32_t slot = 0; slot < router->slots; slot++) {
        struct knit_caller *caller = router->records[slot].caller;
        uint32_t msgid = router->records[slot].msgid;

        if (caller == NULL)
            continue;
        detach_caller(&router->records[slot]);
        caller->ops->refuse(caller, msgid, &failure);
    }
}

bool knit_router_cancel(struct knit_caller *caller, uint32_t msgid)
{
    struct knit_router *router = caller->router;
    uint32_t slot;

    if (!knit_in_flight_find(&caller->calls, msgid, &slot))
        return false;
    KNIT_COUNT(caller->turn, calls_cancelled);
    /* A call that has not started will not start, so its caller need not wait for a worker. */
    if (knit_session_cancel(session_of(router), slot)) {
        struct knit_failure failure =
            knit_failure(KNIT_CANCELLED, "the call was cancelled by its caller");

        finish_early(router, slot, &failure, KNIT_STARTED_NO);
    }
    return true;
}

/* Unless it has been answered in this very moment: then that is its outcome. */
static void time_out(struct knit_router *router, uint32_t slot)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, "the call's timeout has passed");
    int started;

    if (!knit_session_settle(session_of(router), slot, &started))
        return;
    finish_early(router, slot, &failure, started);
    KNIT_COUNT(router->turn, calls_timed_out);
}

/* Its time in the queue is over: what has started goes on. */
static void time_out_queued(struct knit_router *router, uint32_t slot)
{
    struct knit_failure failure =
        knit_failure(KNIT_TIMEOUT, "the call waited in the queue for as long as it may");

    router->records[slot].queue_deadline_ns = UINT64_MAX;
    if (!knit_session_withdraw(session_of(router), slot))
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
        knit_session_abort(session_of(router), slot);
    }
    lower_to_abort(router, record);
}

static void expire(struct knit_router *router)
{
    uint64_t now_ns = router->turn->now_ns;

    if (now_ns < router->next_ns)
        return;
    router->next_ns = UINT64_MAX;
    for (uint32_t slot = 0; slot < router->slots; slot++) {
        struct knit_record *record = &router->records[slot];

        if (record->caller == NULL) {
            abandon(router, slot);
            continue;
        }
        if (record->deadline_ns <= now_ns)
            time_out(router, slot);
        else if (record->queue_deadline_ns <= now_ns)
            time_out_queued(router, slot);
        if (record->caller != NULL)
            lower_next(router, record);
    }
}

/* ---- outcomes ------------------------------------------------------------------------------ */

static void deliver(struct knit_router *router, const struct knit_session_outcome *outcome)
{
    struct knit_record *record = &router->records[outcome->slot];
    struct knit_caller *caller = record->caller, *charged_to = record->charged_to;

    router->outstanding--;
    give_back_arguments(router, record);
    record->charged_to = NULL;
    record->abort_ns = 0;
    /* A settled one was counted when it was settled. */
    if (!record->is_settled && outcome->status == KNIT_STATUS_RESULT)
        KNIT_COUNT(router->turn, calls_answered);
    else if (!record->is_settled)
        KNIT_COUNT(router->turn, calls_failed);
    if (caller != NULL) {
        if (!outcome->held)
            knit_share_note_end(&router->share, caller);
        detach_caller(record);
        caller->ops->deliver(caller, record->msgid, outcome);
        return;
    }
    if (outcome->held)
        knit_session_release(session_of(router), outcome->slot);
    if (charged_to != NULL)
        uncharge(charged_to);
}

static size_t collect(struct knit_router *router)
{
    struct knit_session_outcome outcomes[COLLECT_BATCH];
    size_t total = 0, count;

    do {
        count = knit_session_collect(session_of(router), outcomes, COLLECT_BATCH);
        for (size_t i = 0; i < count; i++)
            deliver(router, &outcomes[i]);
        total += count;
    } while (count == COLLECT_BATCH && total < COLLECT_MAX);
    return total;
}

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
    knit_session_flush(session_of(router));
    count = collect(router);
    if (count > 0)
        measure(router, count);
    expire(router);
    if (knit_share_resume(&router->share, KNIT_SHARE_TURN_NS))
        knit_session_flush(session_of(router));
    return count;
}
