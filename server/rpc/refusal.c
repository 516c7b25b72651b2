/* SPDX-License-Identifier: Apache-2.0 */
/* A refusal that is worth a second try says when: `retry_after_ms` is a guess from how fast the
 * loop's calls have ended, and how many there are. */
#include "server/rpc/refusal.h"

#include <stdio.h>
#include <stdlib.h>

#include "server/config/setting.h"
#include "server/rpc/late.h"
#include "server/rpc/permit.h"
#include "server/rpc/references.h"
#include "server/rpc/reports.h"
#include "server/rpc/router.h"

enum {
    RETRY_MAX_MS = 60000,
    RETRY_IN_FLIGHT_MAX_MS = 10000, /* it may end earlier than in the mean */
};

bool knit_refuse_may_say(struct knit_caller *caller, const struct knit_failure *failure)
{
    if (failure->code == KNIT_QUOTA)
        return knit_turn_may_say(caller->turn, KNIT_LOG_QUOTA);
    return failure->code == KNIT_OVERLOADED && knit_turn_may_say(caller->turn, KNIT_LOG_OVERLOADED);
}

/* As the caller names it, or by its number. */
static struct knit_span task_of(
    const struct knit_caller *caller, const struct knit_message *message)
{
    const uint64_t id = message->method.id;
    const struct knit_registry_task *task = NULL;

    if (message->method.name.bytes != NULL)
        return message->method.name;
    if (id <= UINT32_MAX)
        task = knit_registry_at(caller->router->registry, (uint32_t)id);
    return task != NULL ? knit_span(task->name, task->name_len) : knit_span_text("none");
}

void knit_refuse_say(const struct knit_caller *caller, const struct knit_message *message,
    const struct knit_failure *failure)
{
    const struct knit_span task = task_of(caller, message);
    struct knit_trace_texts trace;

    knit_reports_name(caller, message, &trace);
    knit_log(caller->turn->log, KNIT_LOG_WARNING, "call refused",
        KNIT_LOG_TEXT("code", failure->code == KNIT_QUOTA ? "QUOTA" : "OVERLOADED"),
        KNIT_LOG_BYTES("reason", (const char *)failure->message.bytes, failure->message.len),
        KNIT_LOG_TEXT("principal", caller->principal->name),
        KNIT_LOG_BYTES("task", (const char *)task.bytes, task.len),
        KNIT_LOG_NUMBER("limit", failure->limit), KNIT_LOG_CALLER(caller),
        KNIT_LOG_MAYBE("trace", trace.id), KNIT_LOG_MAYBE("span", trace.span));
}

/* The others are counted where they are found out. */
static void count(struct knit_turn *turn, uint32_t code)
{
    switch (code) {
    case KNIT_UNKNOWN_TASK:
        KNIT_COUNT(turn, calls_unknown);
        break;
    case KNIT_TOO_LARGE:
        KNIT_COUNT(turn, calls_too_large);
        break;
    case KNIT_BAD_ARGUMENT:
    case KNIT_STALE_EPOCH:
        KNIT_COUNT(turn, calls_malformed);
        break;
    case KNIT_DRAINING:
    case KNIT_SHUTDOWN:
        KNIT_COUNT(turn, calls_draining);
        break;
    default:
        break;
    }
}

void knit_refuse_call(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_failure *failure)
{
    count(caller->turn, failure->code);
    if (knit_refuse_may_say(caller, failure))
        knit_refuse_say(caller, message, failure);
    if (message->kind != KNIT_MESSAGE_REQUEST) {
        KNIT_COUNT(caller->turn, notifications_dropped);
        if (knit_reports_are_on(caller->router))
            knit_reports_refuse(caller, message, failure);
        return;
    }
    knit_references_keep_its_own(caller, message);
    if (caller->references != NULL)
        knit_references_note_failure(caller, message->msgid, failure);
    caller->ops->refuse(caller, message->msgid, failure);
}

void knit_refuse_with(
    struct knit_caller *caller, const struct knit_message *message, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    knit_refuse_call(caller, message, &failure);
}

void knit_refuse_unknown(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_router *router = caller->router;
    char text[KNIT_SUGGEST_TEXT_MAX];

    if (!knit_permit_knows(caller, &message->method)) {
        knit_permit_refuse_task(caller, message, NULL);
        return;
    }
    knit_suggest_explain(&router->suggest, router->registry, &message->method,
        message->kind == KNIT_MESSAGE_REQUEST && knit_permit_sees_all(caller), text);
    knit_refuse_with(caller, message, KNIT_UNKNOWN_TASK, text);
}

void knit_refuse_too_large(struct knit_caller *caller, const struct knit_message *message)
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
    knit_refuse_call(caller, message, &failure);
}

/* With a guess of when it is worth to try again: when the wait is over, give or take a quarter, so
 * that those who are refused together do not come back together. */
struct knit_failure knit_router_overload(
    const struct knit_router *router, const char *text, uint64_t wait_ns)
{
    struct knit_failure failure = knit_failure(KNIT_OVERLOADED, text);
    /* 2^64 divided by the golden ratio; of the product the highest byte. */
    uint64_t random =
        knit_counter_read(&router->turn->counters.calls_overloaded) * 0x9e3779b97f4a7c15u >> 56;
    uint64_t wait_ms = wait_ns / 1000000;

    if (wait_ms > RETRY_MAX_MS)
        wait_ms = RETRY_MAX_MS;
    failure.retry_after_ms = wait_ms * 3 / 4 + wait_ms * random / 512 + 1;
    KNIT_COUNT(router->turn, calls_overloaded);
    return failure;
}

/* Too many calls are there; the wait is over when half of them have ended. */
static struct knit_failure make_overloaded(
    const struct knit_router *router, const char *text, uint64_t limit)
{
    struct knit_failure failure = knit_router_overload(router, text,
        router->interval_ns * ((router->outstanding + (uint64_t)router->waiting) / 2 + 1));

    failure.limit = limit;
    return failure;
}

struct knit_failure knit_router_overloaded(const struct knit_router *router)
{
    return make_overloaded(router,
        "more calls are queued than the server wants to queue (queue_max)",
        router->turn->settings->queue_max);
}

bool knit_call_is_beyond(const struct knit_caller *caller, const struct knit_options *options,
    uint64_t in_flight, struct knit_failure *ret_failure)
{
    if (options->queue_max == KNIT_OPTION_NONE || in_flight < options->queue_max)
        return false;
    *ret_failure = make_overloaded(caller->router,
        "as many calls are in flight as its option queue_max allows", options->queue_max);
    ret_failure->actual = in_flight;
    return true;
}

static bool is_beyond_its_own(struct knit_caller *caller, const struct knit_message *message,
    uint64_t in_flight, struct knit_failure *ret_failure)
{
    struct knit_options options;
    const char *reason;

    return message->kind == KNIT_MESSAGE_REQUEST && message->options.bytes != NULL &&
           knit_options_decode(message->options, &options, &reason) == 0 &&
           knit_call_is_beyond(caller, &options, in_flight, ret_failure);
}

uint8_t knit_router_priority(const struct knit_message *message, bool *ret_is_kept)
{
    struct knit_options options;
    const char *reason;

    *ret_is_kept = false;
    if (knit_options_decode(message->options, &options, &reason) != 0)
        return KNIT_PRIORITY_NORMAL;
    *ret_is_kept = options.keep != KNIT_OPTION_NONE && options.keep != 0;
    return options.priority;
}

bool knit_router_refuses(struct knit_caller *caller, const struct knit_message *message,
    uint64_t in_flight, const struct knit_outlook *outlook, struct knit_failure *ret_failure)
{
    struct knit_router *router = caller->router;

    if (knit_router_is_full(router)) {
        *ret_failure = knit_router_overloaded(router);
        return true;
    }
    return is_beyond_its_own(caller, message, in_flight, ret_failure) ||
           knit_backlog_refuses(caller, outlook, ret_failure);
}

void knit_refuse_overloaded(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_failure failure = knit_router_overloaded(caller->router);

    knit_refuse_call(caller, message, &failure);
}

static uint64_t retry_ms(const struct knit_quota_over *over)
{
    const uint64_t guess_ms = over->guess_ns / 1000000;

    if (over->wait_ns != 0)
        return over->wait_ns / 1000000 + 1;
    return (guess_ms < RETRY_IN_FLIGHT_MAX_MS ? guess_ms : RETRY_IN_FLIGHT_MAX_MS) + 1;
}

bool knit_refuse_over_quota(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_failure failure;
    struct knit_quota_over over;
    char text[96];

    if (!knit_quota_is_over(&caller->principal->quota, caller->turn->now_ns, &over))
        return false;
    (void)snprintf(text, sizeof(text), "the caller is over its limit of %llu (%s)",
        (unsigned long long)over.limit, over.name);
    failure = knit_failure(KNIT_QUOTA, text);
    failure.limit = over.limit;
    failure.retry_after_ms = retry_ms(&over);
    KNIT_COUNT(caller->turn, calls_over_quota);
    knit_refuse_call(caller, message, &failure);
    return true;
}

void knit_refuse_waiting(struct knit_caller *caller, const struct knit_message *message)
{
    KNIT_COUNT(caller->turn, calls_overloaded);
    knit_refuse_with(caller, message, KNIT_OVERLOADED, KNIT_ROUTER_NO_WORKER_FREE);
}

void knit_refuse_overdue(
    struct knit_caller *caller, const struct knit_message *message, const char *text)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, text);

    failure.started = KNIT_STARTED_NO;
    KNIT_COUNT(caller->turn, calls_timed_out);
    knit_refuse_call(caller, message, &failure);
}

void knit_refuse_late(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_options *options, const struct knit_registry_task *task, const char *text)
{
    struct knit_failure failure = knit_failure(KNIT_TIMEOUT, text);
    struct knit_late *late;

    if (message->kind != KNIT_MESSAGE_REQUEST || !knit_late_has(options, task)) {
        knit_refuse_overdue(caller, message, text);
        return;
    }
    failure.started = KNIT_STARTED_NO;
    KNIT_COUNT(caller->turn, calls_timed_out);
    knit_references_keep_its_own(caller, message);
    late = knit_late_new(options, task);
    if (late != NULL)
        knit_late_answer(caller, message->msgid, late, &failure);
    else
        caller->ops->close_without_memory(caller);
    free(late);
}
