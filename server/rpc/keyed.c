/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that ends frees its waiters, in whatever function it is told something: a waiter leaves
 * all lists before its caller is told anything.
 */
#include "server/rpc/keyed.h"

#include <errno.h>
#include <stdlib.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/state.h"
#include "proto/cancel.h"
#include "proto/limits.h"
#include "server/config/setting.h"
#include "server/rpc/late.h"
#include "server/rpc/references.h"
#include "server/rpc/refusal.h"
#include "server/rpc/router_private.h"

enum { NO_SLOT = -1 };

/* A request that waits for an outcome. */
struct knit_keyed_waiter {
    struct knit_key_waiter in_keys; /* the first member */
    LIST_ENTRY(knit_keyed_waiter) in_caller, in_loop;
    struct knit_due due;
    struct knit_caller *caller;
    struct knit_late *late; /* what it gets in place of TIMEOUT; NULL = that */
    uint32_t msgid;
    int64_t slot; /* of the call that it began, until that ends */
    bool prints;
};

/* A call that this loop runs. */
struct run {
    struct knit_key *key;               /* NULL: there is none in the slot */
    struct knit_keyed_waiter *beginner; /* NULL: it has left */
};

struct knit_keyed {
    struct knit_caller keeper; /* the first member */
    struct knit_keys *keys;
    struct run *runs; /* [record_count], by slot */
    struct knit_dues dues;
    LIST_HEAD(, knit_keyed_waiter) waiters;
};

/* ---- waiters --------------------------------------------------------------------------------- */

/* It is in no list of the window. */
static void free_waiter(struct knit_keyed *keyed, struct knit_keyed_waiter *waiter)
{
    LIST_REMOVE(waiter, in_caller);
    LIST_REMOVE(waiter, in_loop);
    knit_dues_remove(&keyed->dues, &waiter->due);
    if (waiter->slot != NO_SLOT)
        keyed->runs[waiter->slot].beginner = NULL;
    free(waiter->late);
    free(waiter);
}

static struct knit_keyed_waiter *find_waiter(const struct knit_caller *caller, uint32_t msgid)
{
    struct knit_keyed_waiter *waiter;

    LIST_FOREACH(waiter, &caller->keyed, in_caller)
    if (waiter->msgid == msgid)
        return waiter;
    return NULL;
}

/* NULL: out of memory. */
static struct knit_keyed_waiter *new_waiter(const struct knit_keyed_request *request)
{
    struct knit_keyed_waiter *waiter = calloc(1, sizeof(*waiter));

    if (waiter == NULL)
        return NULL;
    if (knit_late_has(request->options, request->task)) {
        waiter->late = knit_late_new(request->options, request->task);
        if (waiter->late == NULL) {
            free(waiter);
            return NULL;
        }
    }
    waiter->in_keys.loop = request->caller->turn->loop;
    waiter->caller = request->caller;
    waiter->msgid = request->message->msgid;
    waiter->slot = NO_SLOT;
    waiter->prints = request->options->output;
    return waiter;
}

static void drop_new(struct knit_keyed_waiter *waiter)
{
    free(waiter->late);
    free(waiter);
}

/* The window has it. False: out of memory, and its caller has ended. */
static bool enter(const struct knit_keyed_request *request, struct knit_keyed_waiter *waiter)
{
    struct knit_caller *caller = request->caller;

    LIST_INSERT_HEAD(&caller->keyed, waiter, in_caller);
    LIST_INSERT_HEAD(&caller->router->keyed->waiters, waiter, in_loop);
    if (knit_in_flight_add(&caller->calls, waiter->msgid, KNIT_SLOT_KEYED) != 0) {
        caller->ops->close_without_memory(caller);
        return false;
    }
    knit_references_keep_its_own(caller, request->message);
    return true;
}

/* It waits no more, and gets an error of its own; the call goes on. */
static void leave(struct knit_keyed_waiter *waiter, const struct knit_failure *failure)
{
    struct knit_caller *caller = waiter->caller;
    struct knit_keyed *keyed = caller->router->keyed;
    const uint32_t msgid = waiter->msgid;

    knit_keys_drop(keyed->keys, &waiter->in_keys);
    free_waiter(keyed, waiter);
    (void)knit_in_flight_remove(&caller->calls, msgid);
    knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
    if (caller->references != NULL)
        knit_references_note_failure(caller, msgid, failure);
    caller->ops->refuse(caller, msgid, failure);
}

/* ---- outcomes -------------------------------------------------------------------------------- */

static struct knit_span bytes_of(const struct knit_keys_outcome *outcome)
{
    return knit_span(outcome->bytes, outcome->len);
}

/* A request has an outcome of the window's. late: what it gets in place of TIMEOUT, or NULL. */
static void give(const struct knit_keyed_waiter *waiter, const struct knit_keys_outcome *outcome)
{
    struct knit_caller *caller = waiter->caller;
    const struct knit_session_outcome plain = {
        .status = outcome->is_error ? KNIT_STATUS_ERROR : KNIT_STATUS_RESULT,
        .payload = outcome->bytes,
        .len = outcome->len};
    struct knit_failure failure;

    if (waiter->late != NULL && outcome->is_error &&
        knit_failure_decode(bytes_of(outcome), &failure) == 0 && failure.code == KNIT_TIMEOUT) {
        knit_late_answer(caller, waiter->msgid, waiter->late, &failure);
        return;
    }
    if (caller->references != NULL)
        knit_references_note_outcome(caller, waiter->msgid, &plain, waiter->prints);
    caller->ops->deliver(caller, waiter->msgid, &plain);
}

/* The waiter is in no list of the window. */
static void finish(struct knit_keyed *keyed, struct knit_keyed_waiter *waiter)
{
    struct knit_caller *caller = waiter->caller;
    struct knit_keys_outcome *outcome = waiter->in_keys.outcome;
    struct knit_keyed_waiter own = *waiter;

    waiter->late = NULL;
    free_waiter(keyed, waiter);
    (void)knit_in_flight_remove(&caller->calls, own.msgid);
    knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
    if (outcome == NULL)
        caller->ops->close_without_memory(caller);
    else
        give(&own, outcome);
    free(own.late);
    knit_keys_release(keyed->keys, outcome);
}

void knit_keyed_take(struct knit_router *router)
{
    struct knit_keyed *keyed = router->keyed;
    struct knit_key_waiter *waiter;

    while (keyed != NULL && (waiter = knit_keys_take(keyed->keys, router->turn->loop)) != NULL)
        finish(keyed, (struct knit_keyed_waiter *)waiter);
}

/* A call that this loop runs has ended. */
static void end(struct knit_keyed *keyed, uint32_t slot, bool is_error, struct knit_span bytes)
{
    struct knit_router *router = keyed->keeper.router;
    struct run run = keyed->runs[slot];
    struct knit_keys_ending ending = {.outcome = knit_keys_outcome_new(is_error, bytes),
        .is_kept = true,
        .loop = router->turn->loop,
        .now_ns = router->turn->now_ns};
    struct knit_failure failure;

    keyed->runs[slot] = (struct run){0};
    if (run.beginner != NULL)
        run.beginner->slot = NO_SLOT;
    /* Read from the copy: the bytes may lie where others can write. */
    if (is_error && ending.outcome != NULL &&
        knit_failure_decode(bytes_of(ending.outcome), &failure) == 0)
        ending.is_kept = failure.started != KNIT_STARTED_NO;
    knit_keys_end(keyed->keys, run.key, &ending);
    router->turn->needs_sweep = true;
    knit_keyed_take(router);
}

void knit_keyed_end(struct knit_router *router, const struct knit_session_outcome *outcome)
{
    end(router->keyed, outcome->slot, outcome->status != KNIT_STATUS_RESULT,
        knit_span(outcome->payload, outcome->len));
}

/* ---- the keeper ------------------------------------------------------------------------------ */

/* What the call emits goes to who began it. msgid: its slot. */
static void on_emit(
    struct knit_caller *caller, uint32_t msgid, struct knit_span value, uint32_t count)
{
    const struct knit_keyed_waiter *beginner = ((struct knit_keyed *)caller)->runs[msgid].beginner;

    if (beginner != NULL && beginner->caller->ops->emit != NULL)
        beginner->caller->ops->emit(beginner->caller, beginner->msgid, value, count);
}

/* It ends early: at its deadline, or since the pool does. */
static void on_refuse(
    struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    struct knit_buffer error;

    knit_buffer_init(&error, KNIT_MESSAGE_BYTES_MAX);
    (void)knit_failure_put(&error, failure, KNIT_FAILURE_COMPACT);
    end((struct knit_keyed *)caller, msgid, true, knit_buffer_span(&error));
    knit_buffer_fini(&error);
}

/* It brings no messages, and has outcomes by knit_keyed_end(). */
static const struct knit_caller_ops keeper_ops = {.emit = on_emit, .refuse = on_refuse};

int knit_keyed_add(
    struct knit_router *router, struct knit_keys *keys, void (*wake)(void *arg), void *arg)
{
    struct knit_keyed *keyed = calloc(1, sizeof(*keyed));

    if (keyed == NULL)
        return -ENOMEM;
    keyed->runs = calloc(router->record_count, sizeof(*keyed->runs));
    if (keyed->runs == NULL) {
        free(keyed);
        return -ENOMEM;
    }
    keyed->keeper = (struct knit_caller){
        .ops = &keeper_ops, .router = router, .turn = router->turn, .peer = "keys"};
    keyed->keys = keys;
    knit_keys_enter(keys, router->turn->loop, wake, arg);
    router->keyed = keyed;
    return 0;
}

void knit_keyed_fini(struct knit_router *router)
{
    struct knit_keyed *keyed = router->keyed;

    if (keyed == NULL)
        return;
    knit_keys_leave(keyed->keys, router->turn->loop);
    knit_dues_fini(&keyed->dues);
    free(keyed->runs);
    free(keyed);
    router->keyed = NULL;
}

/* ---- requests that come ---------------------------------------------------------------------- */

static void refuse(
    const struct knit_keyed_request *request, enum knit_keys_verdict verdict, uint64_t retry_ms)
{
    struct knit_caller *caller = request->caller;
    struct knit_failure failure;

    if (verdict == KNIT_KEYS_FULL) {
        failure = knit_failure(
            KNIT_QUOTA, "there is no room for another key: each is kept for 60 s after its call");
        failure.retry_after_ms = retry_ms;
    } else if (verdict == KNIT_KEYS_LOST) {
        failure = knit_failure(KNIT_DUPLICATE,
            "the call of this key has ended, and its outcome was too large to be kept");
        failure.started = KNIT_STARTED_YES;
    } else {
        failure = knit_failure(KNIT_DUPLICATE,
            "the key is that of another call: of another task, or with other arguments");
    }
    KNIT_COUNT(caller->turn, keys_refused);
    knit_refuse_call(caller, request->message, &failure);
}

/* The outcome is there already. */
static void repeat(const struct knit_keyed_request *request, struct knit_keyed_waiter *waiter,
    struct knit_keys_outcome *outcome)
{
    struct knit_caller *caller = request->caller;

    KNIT_COUNT(caller->turn, keys_repeated);
    knit_references_keep_its_own(caller, request->message);
    give(waiter, outcome);
    knit_keys_release(caller->router->keyed->keys, outcome);
}

/* The call runs. */
static void join(const struct knit_keyed_request *request, struct knit_keyed_waiter *waiter)
{
    struct knit_router *router = request->caller->router;

    KNIT_COUNT(router->turn, keys_joined);
    if (!enter(request, waiter) || request->options->timeout_ns == KNIT_OPTION_NONE)
        return;
    waiter->due.ns = knit_router_after(request->since_ns, request->options->timeout_ns);
    if (waiter->due.ns < router->next_ns)
        router->next_ns = waiter->due.ns;
    if (knit_dues_add(&router->keyed->dues, &waiter->due) != 0)
        request->caller->ops->close_without_memory(request->caller);
}

/* This request is the call. NULL: its caller has ended. */
static struct knit_key *start(const struct knit_keyed_request *request,
    struct knit_keyed_waiter *waiter, struct knit_key *key)
{
    const struct knit_keys_ending none = {
        .loop = request->caller->turn->loop, .now_ns = request->caller->turn->now_ns};

    if (enter(request, waiter))
        return key;
    knit_keys_end(request->caller->router->keyed->keys, key, &none);
    return NULL;
}

/* One more call of its principal is refused; one that is there already may have filled the limit
 * itself. */
static bool is_over_quota(const struct knit_caller *caller)
{
    const struct knit_quota *quota = &caller->principal->quota;
    struct knit_quota_over over;

    return knit_quota_is_limited(quota) && !knit_quota_waits(quota) &&
           knit_quota_is_over(quota, caller->turn->now_ns, &over);
}

struct knit_key *knit_keyed_begin(const struct knit_keyed_request *request)
{
    struct knit_caller *caller = request->caller;
    const struct knit_keys_call call = {.principal = caller->principal->name,
        .key = request->options->key,
        .task = knit_span(request->task->name, request->task->name_len),
        .params = request->message->params,
        .output = request->options->output,
        .may_not_begin = is_over_quota(caller)};
    struct knit_keyed_waiter *waiter = new_waiter(request);
    enum knit_keys_verdict verdict;
    struct knit_keys_answer answer;

    if (waiter == NULL) {
        caller->ops->close_without_memory(caller);
        return NULL;
    }
    verdict = knit_keys_begin(
        caller->router->keyed->keys, &call, &waiter->in_keys, caller->turn->now_ns, &answer);
    if (verdict == KNIT_KEYS_NEW)
        return start(request, waiter, answer.key);
    if (verdict == KNIT_KEYS_RUNNING) {
        join(request, waiter);
        return NULL;
    }
    if (verdict == KNIT_KEYS_DONE)
        repeat(request, waiter, answer.outcome);
    else if (verdict == KNIT_KEYS_NO_MEMORY)
        caller->ops->close_without_memory(caller);
    else if (verdict != KNIT_KEYS_ABSENT)
        refuse(request, verdict, answer.retry_ms);
    drop_new(waiter);
    /* Other loops may have given back meanwhile what was taken. */
    return verdict == KNIT_KEYS_ABSENT && !knit_refuse_over_quota(caller, request->message)
               ? knit_keyed_begin(request)
               : NULL;
}

void knit_keyed_publish(struct knit_router *router, struct knit_key *key, uint32_t msgid,
    struct knit_record *record, uint32_t slot)
{
    struct knit_keyed *keyed = router->keyed;
    struct knit_keyed_waiter *waiter = find_waiter(record->charged_to, msgid);

    if (waiter != NULL)
        waiter->slot = slot;
    keyed->runs[slot] = (struct run){.key = key, .beginner = waiter};
    record->caller = &keyed->keeper;
    record->msgid = slot;
    record->extras |= KNIT_RECORD_KEYED;
    knit_router_lower_next(router, record);
    knit_router_lower_to_abort(router, record);
}

void knit_keyed_withdraw(
    struct knit_caller *caller, struct knit_key *key, const struct knit_message *message)
{
    const struct knit_failure failure = knit_failure(
        KNIT_OVERLOADED, "the call of this key that was begun elsewhere did not find room");
    struct knit_keyed *keyed = caller->router->keyed;
    struct knit_keyed_waiter *waiter = find_waiter(caller, message->msgid);
    struct knit_keys_ending ending = {.loop = caller->turn->loop, .now_ns = caller->turn->now_ns};
    struct knit_buffer error;

    if (waiter != NULL) {
        knit_keys_drop(keyed->keys, &waiter->in_keys);
        free_waiter(keyed, waiter);
        (void)knit_in_flight_remove(&caller->calls, message->msgid);
    }
    knit_buffer_init(&error, KNIT_MESSAGE_BYTES_MAX);
    if (knit_failure_put(&error, &failure, KNIT_FAILURE_COMPACT) == 0)
        ending.outcome = knit_keys_outcome_new(true, knit_buffer_span(&error));
    knit_keys_end(keyed->keys, key, &ending);
    knit_buffer_fini(&error);
}

/* ---- ends that are the request's own --------------------------------------------------------- */

bool knit_keyed_is_awaited(struct knit_router *router, uint32_t slot)
{
    return knit_keys_is_awaited(router->keyed->keys, router->keyed->runs[slot].key);
}

void knit_keyed_cancel(struct knit_caller *caller, uint32_t msgid, struct knit_span reason)
{
    struct knit_keyed_waiter *waiter = find_waiter(caller, msgid);
    struct knit_failure failure = knit_cancel_failure(reason);

    failure.started = KNIT_STARTED_UNKNOWN;
    if (waiter != NULL)
        leave(waiter, &failure);
}

/* It has waited for another's call as long as it may. */
static void time_out(struct knit_keyed_waiter *waiter)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, "the call's timeout has passed");
    struct knit_caller *caller = waiter->caller;
    struct knit_keyed *keyed = caller->router->keyed;
    struct knit_late *late = waiter->late;
    const uint32_t msgid = waiter->msgid;

    KNIT_COUNT(caller->turn, calls_timed_out);
    failure.started = KNIT_STARTED_UNKNOWN;
    if (late == NULL) {
        leave(waiter, &failure);
        return;
    }
    waiter->late = NULL;
    knit_keys_drop(keyed->keys, &waiter->in_keys);
    free_waiter(keyed, waiter);
    (void)knit_in_flight_remove(&caller->calls, msgid);
    knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
    knit_late_answer(caller, msgid, late, &failure);
    free(late);
}

void knit_keyed_expire(struct knit_router *router)
{
    struct knit_keyed *keyed = router->keyed;
    struct knit_due *due;

    if (keyed == NULL)
        return;
    while ((due = knit_dues_first(&keyed->dues)) != NULL && due->ns <= router->turn->now_ns)
        time_out((struct knit_keyed_waiter *)(void *)((char *)due -
                                                      offsetof(struct knit_keyed_waiter, due)));
    if (knit_dues_next_ns(&keyed->dues) < router->next_ns)
        router->next_ns = knit_dues_next_ns(&keyed->dues);
}

void knit_keyed_sweep(struct knit_router *router)
{
    if (router->keyed != NULL && knit_keys_expire(router->keyed->keys, router->turn->now_ns) > 0)
        router->turn->needs_sweep = true;
}

bool knit_keyed_has_waiters(const struct knit_router *router)
{
    return router->keyed != NULL && !LIST_EMPTY(&router->keyed->waiters);
}

void knit_keyed_give_up(struct knit_router *router)
{
    const struct knit_failure failure = knit_failure(KNIT_SHUTDOWN, "the pool is shut down");

    while (knit_keyed_has_waiters(router))
        leave(LIST_FIRST(&router->keyed->waiters), &failure);
}

void knit_keyed_forget(struct knit_caller *caller)
{
    struct knit_keyed *keyed = caller->router->keyed;
    struct knit_keyed_waiter *waiter;

    while ((waiter = LIST_FIRST(&caller->keyed)) != NULL) {
        knit_keys_drop(keyed->keys, &waiter->in_keys);
        free_waiter(keyed, waiter);
    }
}
