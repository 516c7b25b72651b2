/* SPDX-License-Identifier: Apache-2.0 */
/* What happens to a call when, and who is told:
 *
 *     waits          see lookahead.h: deadline or `queue` over: response TIMEOUT, never published
 *     published      a record, and (requests) an entry in the connection's table
 *     answered       response, both gone
 *     deadline       response TIMEOUT, entry gone; the record stays, its slot a further one of the
 *                    connection, until answered
 *     `queue` over   the same, if it has not started
 *     cancelled      not started: response CANCELLED, as with `queue`; else the abort flag, and
 *                    both stay until answered
 *     caller gone    abort flag; the record without a connection until answered
 *
 * A task called by notification has a record without a connection from the start, and no abort
 * flag when its caller goes: nobody said that the caller would wait for it.
 */
#include "server/rpc/router.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "server/daemon/loop.h"
#include "server/net/connection.h"
#include "server/net/lookahead.h"
#include "server/net/output.h"
#include "server/rpc/method.h"

enum {
    COLLECT_BATCH = 64,
    COLLECT_MAX = 1024, /* a turn: then sockets have their turn again */
    CALLS_A_TURN = 16,  /* of a connection that waited, while others wait too */
    SHARE = 2,          /* a connection may have so many slots for each that is free, ... */
    RESERVE_PART = 16,  /* ... but for this part of all, which is for connections without any */
    NAME_SHOWN_MAX = 64,
};

int knit_router_init(struct knit_router *router, struct knit_loop *loop, struct knit_pool *pool)
{
    static const enum knit_balancer balancers[] = {
        [KNIT_BALANCER_CHOICE_ROBIN_ROUND] = KNIT_BALANCER_ROUND_ROBIN,
        [KNIT_BALANCER_CHOICE_FIRST_IDLE] = KNIT_BALANCER_FIRST_IDLE,
        [KNIT_BALANCER_CHOICE_RANDOM_LANE] = KNIT_BALANCER_RANDOM,
        [KNIT_BALANCER_CHOICE_FIRST_IDLE_OR_RANDOM] = KNIT_BALANCER_FIRST_IDLE_OR_RANDOM};
    const struct knit_settings *settings = loop->turn.settings;
    struct knit_session_options options = {.balancer = balancers[settings->balancer],
        .spin_us = 0,
        .report_settled = true,
        .random_seed = loop->turn.now_ns + loop->turn.loop};
    int r;

    *router = (struct knit_router){.loop = loop, .next_ns = UINT64_MAX};
    TAILQ_INIT(&router->waiting);
    TAILQ_INIT(&router->waiting_arena);
    TAILQ_INIT(&router->lookahead);
    router->records = calloc(settings->slots, sizeof(*router->records));
    if (!router->records)
        return -ENOMEM;
    r = knit_pool_session_open(pool, (uint32_t)settings->slots, &options, &router->session);
    if (r != 0) {
        knit_router_fini(router, pool);
        return r;
    }
    router->slots = (uint32_t)settings->slots;
    router->registry = knit_pool_registry(pool);
    return 0;
}

void knit_router_fini(struct knit_router *router, struct knit_pool *pool)
{
    router->session = knit_pool_session_close(pool, router->session);
    free(router->records);
    router->records = NULL;
}

static struct knit_session *session_of(const struct knit_router *router)
{
    return router->session->session;
}

uint32_t knit_router_outstanding(const struct knit_router *router)
{
    return router->slots - knit_session_slots_free(session_of(router)) - router->pinned;
}

void knit_router_release(struct knit_router *router, uint32_t slot)
{
    knit_session_release(session_of(router), slot);
}

/* ---- refusing ------------------------------------------------------------------------------ */

/* Notifications have nobody to tell. */
static void refuse(struct knit_connection *connection, const struct knit_message *message,
    const struct knit_failure *failure)
{
    if (message->kind == KNIT_MESSAGE_REQUEST)
        knit_output_failure(connection, message->msgid, failure);
    else
        KNIT_COUNT(&connection->loop->turn, notifications_dropped);
}

static void refuse_code(struct knit_connection *connection, const struct knit_message *message,
    uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    refuse(connection, message, &failure);
}

static void refuse_unknown(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_loop *loop = connection->loop;
    const struct knit_registry_task *nearest = NULL;
    struct knit_span name = message->method.name;
    char text[2 * NAME_SHOWN_MAX + KNIT_NAME_BYTES_MAX + 64];

    if (!name.bytes) {
        (void)snprintf(text, sizeof(text), "there is no task of the number %llu",
            (unsigned long long)message->method.id);
    } else {
        int shown = name.len < NAME_SHOWN_MAX ? (int)name.len : NAME_SHOWN_MAX;

        if (name.len <= KNIT_NAME_BYTES_MAX && message->kind == KNIT_MESSAGE_REQUEST)
            nearest = knit_suggest_task(&loop->suggest, loop->router.registry,
                (const char *)name.bytes, name.len, knit_clock_ns());
        if (nearest)
            (void)snprintf(text, sizeof(text), "there is no task '%.*s'; the nearest is '%s'",
                shown, (const char *)name.bytes, nearest->name);
        else
            (void)snprintf(
                text, sizeof(text), "there is no task '%.*s'", shown, (const char *)name.bytes);
    }
    refuse_code(connection, message, KNIT_UNKNOWN_TASK, text);
}

static void refuse_too_large(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_failure failure =
        knit_failure(KNIT_TOO_LARGE, "the arguments are larger than a call may carry");

    failure.limit = connection->loop->turn.settings->call_max_bytes;
    failure.actual = message->params.len;
    refuse(connection, message, &failure);
}

static void refuse_overloaded(
    struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_router *router = &connection->loop->router;
    struct knit_failure failure =
        knit_failure(KNIT_OVERLOADED, "more calls are queued than the server wants to queue");
    uint64_t wait_ns = router->interval_ns * (knit_router_outstanding(router) / 2 + 1);

    failure.retry_after_ms = wait_ns / 1000000 + 1;
    failure.limit = connection->loop->turn.settings->queue_max;
    KNIT_COUNT(&connection->loop->turn, calls_overloaded);
    refuse(connection, message, &failure);
}

static void refuse_overdue(
    struct knit_connection *connection, const struct knit_message *message, const char *text)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, text);

    failure.started = KNIT_STARTED_NO;
    KNIT_COUNT(&connection->loop->turn, calls_timed_out);
    refuse(connection, message, &failure);
}

/* ---- publishing ---------------------------------------------------------------------------- */

static const struct knit_registry_task *find_task(
    const struct knit_registry *registry, const struct knit_method *method)
{
    if (method->name.bytes)
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

/* It must have started by then. */
static uint64_t queue_deadline_of(const struct knit_options *options, uint64_t since_ns)
{
    return options->queue_ns == KNIT_OPTION_NONE ? UINT64_MAX
                                                 : deadline_after(since_ns, options->queue_ns);
}

uint64_t knit_router_deadline(
    const struct knit_connection *connection, const struct knit_message *message, uint64_t since_ns)
{
    const struct knit_registry_task *task;
    struct knit_options options;
    uint64_t deadline_ns, queue_deadline_ns;
    const char *reason;

    if (message->kind != KNIT_MESSAGE_REQUEST || knit_method_is_ours(message) ||
        knit_options_decode(message->options, &options, &reason) != 0)
        return UINT64_MAX;
    task = find_task(connection->loop->router.registry, &message->method);
    if (!task)
        return UINT64_MAX;
    deadline_ns = deadline_of(task, &options, since_ns);
    queue_deadline_ns = queue_deadline_of(&options, since_ns);
    return deadline_ns < queue_deadline_ns ? deadline_ns : queue_deadline_ns;
}

/* What the message's arguments take of the request arena. */
static uint32_t argument_bytes_of(const struct knit_message *message)
{
    return message->params.len > KNIT_INLINE_MAX ? (uint32_t)message->params.len : 0;
}

/* The queue in which others wait before this one, or 0 when it is its turn: nobody does, or it is
 * resumed and has not had its share. */
static uint16_t must_queue(
    const struct knit_connection *connection, const struct knit_message *message)
{
    const struct knit_router *router = &connection->loop->router;

    if (router->resumed == connection && router->turns_left > 0)
        return 0;
    if (!TAILQ_EMPTY(&router->waiting))
        return KNIT_IN_WAITING;
    if (!TAILQ_EMPTY(&router->waiting_arena) && argument_bytes_of(message) > 0)
        return KNIT_IN_WAITING_ARENA;
    return 0;
}

static struct knit_waiting *queue_of(struct knit_router *router, uint16_t list)
{
    return list == KNIT_IN_WAITING ? &router->waiting : &router->waiting_arena;
}

static void leave_waiting(struct knit_connection *connection)
{
    uint16_t list = connection->lists & (KNIT_IN_WAITING | KNIT_IN_WAITING_ARENA);

    if (list != 0)
        TAILQ_REMOVE(queue_of(&connection->loop->router, list), connection, in_waiting);
    connection->lists &= (uint16_t)~list;
}

void knit_router_stop_waiting(struct knit_connection *connection)
{
    leave_waiting(connection);
    knit_connection_unpause(connection, KNIT_PAUSE_SLOT | KNIT_PAUSE_IN_FLIGHT);
}

static void wait_in(struct knit_connection *connection, uint16_t list)
{
    struct knit_router *router = &connection->loop->router;

    knit_connection_pause(connection, KNIT_PAUSE_SLOT);
    if (connection->lists & list)
        return;
    leave_waiting(connection);
    TAILQ_INSERT_TAIL(queue_of(router, list), connection, in_waiting);
    connection->lists |= list;
    KNIT_COUNT(&connection->loop->turn, waits_for_slot);
}

/* Alone a connection gets five eighths of what there is. The more connections fill up their shares
 * the smaller each is, and some stays free for whoever comes. One that has none waits like
 * everybody, for there is nothing of its own that could become free. */
static bool may_take(uint64_t own, uint64_t taken, uint64_t all)
{
    uint64_t reserve = all / RESERVE_PART, free = taken < all ? all - taken : 0;

    return own == 0 || (free > reserve && own < SHARE * (free - reserve));
}

static bool has_share(const struct knit_connection *connection, const struct knit_message *message)
{
    const struct knit_router *router = &connection->loop->router;
    uint32_t free = knit_session_slots_free(session_of(router));

    return may_take(connection->calls.count + connection->extra_slots, router->slots - free,
               router->slots) &&
           (argument_bytes_of(message) == 0 ||
               may_take(connection->argument_bytes, router->argument_bytes,
                   router->session->geometry.request_arena_bytes));
}

/* The first number that has_share() turns down. */
uint32_t knit_router_share(const struct knit_router *router)
{
    uint32_t shared = router->slots - router->slots / RESERVE_PART;

    return (SHARE * shared + SHARE) / (SHARE + 1);
}

void knit_router_give_back(struct knit_connection *connection)
{
    connection->extra_slots--;
    knit_connection_unpause(connection, KNIT_PAUSE_IN_FLIGHT);
}

static uint32_t lane_for(const struct knit_options *options)
{
    if (options->affinity == KNIT_OPTION_NONE)
        return KNIT_LANE_ANY;
    return (uint32_t)((options->affinity * UINT64_C(0x9e3779b97f4a7c15)) >> 33);
}

/* A request's entry; without memory for it the call, which runs already, is aborted and forgotten
 * and its connection closed. */
static void remember(struct knit_connection *connection, const struct knit_message *message,
    struct knit_record record, uint32_t slot)
{
    struct knit_router *router = &connection->loop->router;

    if (message->kind == KNIT_MESSAGE_REQUEST) {
        if (knit_in_flight_add(&connection->calls, message->msgid, slot) != 0) {
            knit_session_abort(session_of(router), slot);
            knit_connection_close(connection);
        } else {
            record.connection = connection;
            if (record.deadline_ns < router->next_ns)
                router->next_ns = record.deadline_ns;
            if (record.queue_deadline_ns < router->next_ns)
                router->next_ns = record.queue_deadline_ns;
        }
    }
    if (message->kind == KNIT_MESSAGE_NOTIFICATION) {
        record.charged_to = connection;
        connection->extra_slots++;
    }
    /* Whoever closed the connection just now has forgotten this call as well. */
    router->argument_bytes += record.argument_bytes;
    if (record.connection || record.charged_to)
        connection->argument_bytes += record.argument_bytes;
    router->records[slot] = record;
}

static bool publish(struct knit_connection *connection, const struct knit_message *message,
    const struct knit_registry_task *task, const struct knit_options *options)
{
    struct knit_loop *loop = connection->loop;
    struct knit_router *router = &loop->router;
    uint64_t since_ns = knit_lookahead_since_ns(connection);
    struct knit_record record = {.deadline_ns = deadline_of(task, options, since_ns),
        .queue_deadline_ns = queue_deadline_of(options, since_ns),
        .msgid = message->msgid,
        .task = task->id,
        .argument_bytes = argument_bytes_of(message),
        .is_taken = true};
    struct knit_session_call call = {.task = task->id,
        .epoch = knit_registry_epoch(router->registry),
        .deadline_ns = record.deadline_ns == UINT64_MAX ? 0 : record.deadline_ns,
        .lane = lane_for(options),
        .payload = message->params.bytes,
        .len = message->params.len};
    uint32_t slot;
    int r;

    /* Not for want of workers but in the input: one that is new has a `queue` of 0 still. */
    if (record.deadline_ns <= loop->turn.now_ns || record.queue_deadline_ns < loop->turn.now_ns) {
        refuse_overdue(connection, message, "the call waited for a slot for as long as it may");
        return true;
    }
    r = knit_session_publish(session_of(router), &call, &slot);
    if (r == KNIT_SESSION_E_FULL || r == KNIT_SESSION_E_ARENA_FULL) {
        wait_in(connection, r == KNIT_SESSION_E_FULL ? KNIT_IN_WAITING : KNIT_IN_WAITING_ARENA);
        return false;
    }
    if (r == KNIT_SESSION_E_TOO_LARGE) {
        refuse_too_large(connection, message);
    } else if (r == KNIT_SESSION_E_CLOSED) {
        refuse_code(connection, message, KNIT_SHUTDOWN, "the pool is shut down");
    } else if (r != 0) {
        refuse_code(connection, message, KNIT_INTERNAL, "the call could not be published");
    } else {
        remember(connection, message, record, slot);
        if (router->resumed == connection && router->turns_left > 0)
            router->turns_left--;
        KNIT_COUNT(&loop->turn, calls_published);
    }
    return true;
}

/* Publishes or refuses; false: it has to wait. */
static bool route(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_loop *loop = connection->loop;
    struct knit_router *router = &loop->router;
    uint64_t queue_max = loop->turn.settings->queue_max;
    const struct knit_registry_task *task;
    struct knit_options options;
    const char *reason;
    uint16_t queue;

    if (knit_options_decode(message->options, &options, &reason) != 0) {
        refuse_code(connection, message, KNIT_BAD_ARGUMENT, reason);
        return true;
    }
    if (options.epoch != KNIT_OPTION_NONE &&
        options.epoch != knit_registry_epoch(router->registry)) {
        refuse_code(connection, message, KNIT_STALE_EPOCH,
            "the tasks have changed since that epoch; read $/tasks again");
        return true;
    }
    task = find_task(router->registry, &message->method);
    if (!task) {
        refuse_unknown(connection, message);
        return true;
    }
    if (message->params.len > loop->turn.settings->call_max_bytes) {
        refuse_too_large(connection, message);
        return true;
    }
    if (options.timeout_ns == 0) {
        refuse_overdue(connection, message, "the timeout is 0");
        return true;
    }
    if (queue_max > 0 && knit_router_outstanding(router) >= queue_max) {
        refuse_overloaded(connection, message);
        return true;
    }
    if (!has_share(connection, message)) {
        knit_connection_pause(connection, KNIT_PAUSE_IN_FLIGHT);
        KNIT_COUNT(&loop->turn, waits_for_slot);
        return false;
    }
    queue = must_queue(connection, message);
    if (queue != 0) {
        wait_in(connection, queue);
        return false;
    }
    return publish(connection, message, task, &options);
}

bool knit_router_call(struct knit_connection *connection, const struct knit_message *message)
{
    if (!route(connection, message))
        return false;
    if (message->kind == KNIT_MESSAGE_REQUEST)
        KNIT_COUNT(&connection->loop->turn, requests);
    else
        KNIT_COUNT(&connection->loop->turn, notifications);
    return true;
}

/* ---- early ends ---------------------------------------------------------------------------- */

void knit_router_forget(struct knit_connection *connection)
{
    struct knit_router *router = &connection->loop->router;
    struct knit_in_flight *calls = &connection->calls;

    leave_waiting(connection);
    for (uint32_t i = 0; i < calls->capacity && calls->count > 0; i++) {
        uint32_t slot = calls->entries[i].slot_plus_one - 1;

        if (calls->entries[i].slot_plus_one == 0)
            continue;
        router->records[slot].connection = NULL;
        knit_session_abort(session_of(router), slot);
    }
    knit_in_flight_fini(calls);
    for (uint32_t i = 0; i < router->slots && connection->extra_slots > 0; i++) {
        if (!router->records[i].is_taken || router->records[i].charged_to != connection)
            continue;
        router->records[i].charged_to = NULL;
        connection->extra_slots--;
    }
}

/* The record's call is no longer the connection's. */
static void detach_record(struct knit_record *record)
{
    struct knit_connection *connection = record->connection;

    (void)knit_in_flight_remove(&connection->calls, record->msgid);
    record->connection = NULL;
    knit_connection_unpause(connection, KNIT_PAUSE_IN_FLIGHT);
}

/* Gives the call its outcome now, unless it has been answered in this very moment: then that is its
 * outcome. Returns whether it did. */
static bool settle(struct knit_router *router, uint32_t slot, uint32_t code, const char *text)
{
    struct knit_record *record = &router->records[slot];
    struct knit_connection *connection = record->connection;
    struct knit_failure failure = knit_failure(code, text);
    uint32_t msgid = record->msgid;
    int started;

    if (!knit_session_settle(session_of(router), slot, &started))
        return false;
    failure.started = (enum knit_started)started;
    detach_record(record);
    record->is_settled = true;
    record->charged_to = connection;
    connection->extra_slots++;
    knit_output_failure(connection, msgid, &failure);
    return true;
}

void knit_router_give_up(struct knit_router *router)
{
    const struct knit_failure failure = knit_failure(KNIT_SHUTDOWN, "the pool is shut down");

    for (uint32_t slot = 0; slot < router->slots; slot++) {
        struct knit_connection *connection = router->records[slot].connection;
        uint32_t msgid = router->records[slot].msgid;

        if (!connection)
            continue;
        detach_record(&router->records[slot]);
        knit_output_failure(connection, msgid, &failure);
    }
}

bool knit_router_cancel(struct knit_connection *connection, uint32_t msgid)
{
    struct knit_router *router = &connection->loop->router;
    uint32_t slot;

    if (!knit_in_flight_find(&connection->calls, msgid, &slot))
        return false;
    KNIT_COUNT(&connection->loop->turn, calls_cancelled);
    /* What has not started will not start, so its caller need not wait for a worker to say so. */
    if (knit_session_has_started(session_of(router), slot) ||
        !settle(router, slot, KNIT_CANCELLED, "the call was cancelled by its caller"))
        knit_session_abort(session_of(router), slot);
    return true;
}

static void time_out(struct knit_router *router, uint32_t slot, const char *text)
{
    if (settle(router, slot, KNIT_TIMEOUT, text))
        KNIT_COUNT(&router->loop->turn, calls_timed_out);
}

static void expire(struct knit_router *router)
{
    uint64_t now_ns = router->loop->turn.now_ns;

    if (now_ns < router->next_ns)
        return;
    router->next_ns = UINT64_MAX;
    knit_lookahead_expire(router);
    for (uint32_t slot = 0; slot < router->slots; slot++) {
        struct knit_record *record = &router->records[slot];

        if (!record->is_taken || !record->connection)
            continue;
        if (record->queue_deadline_ns != UINT64_MAX &&
            knit_session_has_started(session_of(router), slot))
            record->queue_deadline_ns = UINT64_MAX;
        if (record->deadline_ns <= now_ns)
            time_out(router, slot, "the call's timeout has passed");
        else if (record->queue_deadline_ns <= now_ns)
            time_out(router, slot, "the call waited in the queue for as long as it may");
        if (!record->is_taken || !record->connection)
            continue;
        if (record->deadline_ns < router->next_ns)
            router->next_ns = record->deadline_ns;
        if (record->queue_deadline_ns < router->next_ns)
            router->next_ns = record->queue_deadline_ns;
    }
}

/* ---- outcomes ------------------------------------------------------------------------------ */

static void give_back_arguments(struct knit_router *router, const struct knit_record *record)
{
    struct knit_connection *owner = record->connection ? record->connection : record->charged_to;

    router->argument_bytes -= record->argument_bytes;
    if (owner)
        owner->argument_bytes -= record->argument_bytes;
}

static void deliver(struct knit_router *router, const struct knit_session_outcome *outcome)
{
    struct knit_record *record = &router->records[outcome->slot];
    struct knit_connection *connection = record->connection;

    record->is_taken = false;
    give_back_arguments(router, record);
    /* A settled one was counted when it was. */
    if (!record->is_settled && outcome->status == KNIT_STATUS_RESULT)
        KNIT_COUNT(&router->loop->turn, calls_answered);
    else if (!record->is_settled)
        KNIT_COUNT(&router->loop->turn, calls_failed);
    if (!connection) {
        if (record->charged_to)
            knit_router_give_back(record->charged_to);
        if (outcome->held)
            knit_router_release(router, outcome->slot);
        return;
    }
    detach_record(record);
    knit_output_outcome(connection, record->msgid, outcome);
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
    uint64_t now_ns = router->loop->turn.now_ns;
    uint64_t interval_ns = (now_ns - router->collected_ns) / count;

    router->interval_ns = (router->interval_ns * 7 + interval_ns) / 8;
    router->collected_ns = now_ns;
}

/* Those who waited go on in turn, as long as that brings calls into the lanes. */
static void resume_queue(struct knit_router *router, uint16_t list)
{
    struct knit_waiting *queue = queue_of(router, list);
    struct knit_connection *connection;
    uint32_t rounds = 0;

    while (rounds++ < router->slots && knit_session_slots_free(session_of(router)) > 0 &&
           (connection = TAILQ_FIRST(queue))) {
        leave_waiting(connection);
        connection->pauses &= (uint8_t)~KNIT_PAUSE_SLOT;
        router->resumed = connection;
        router->turns_left = CALLS_A_TURN;
        knit_connection_resume(connection);
        router->resumed = NULL;
        /* It came for what there is none of: it is first again, and nobody else gets any. */
        if (router->turns_left == CALLS_A_TURN && connection->lists & list) {
            TAILQ_REMOVE(queue, connection, in_waiting);
            TAILQ_INSERT_HEAD(queue, connection, in_waiting);
            break;
        }
    }
}

/* By turns, for either queue could take all slots that come free. */
static void resume_waiting(struct knit_router *router)
{
    router->is_arenas_turn = !router->is_arenas_turn;
    resume_queue(router, router->is_arenas_turn ? KNIT_IN_WAITING_ARENA : KNIT_IN_WAITING);
    resume_queue(router, router->is_arenas_turn ? KNIT_IN_WAITING : KNIT_IN_WAITING_ARENA);
}

size_t knit_router_turn(struct knit_router *router)
{
    size_t count;

    /* Workers wake while we look at what others have answered. */
    knit_session_flush(session_of(router));
    count = collect(router);
    if (count > 0)
        measure(router, count);
    expire(router);
    if (!TAILQ_EMPTY(&router->waiting) || !TAILQ_EMPTY(&router->waiting_arena)) {
        resume_waiting(router);
        knit_session_flush(session_of(router));
    }
    knit_lookahead_turn(router);
    return count;
}
