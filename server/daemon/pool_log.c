/* SPDX-License-Identifier: Apache-2.0 */
/* What goes wrong is always logged; ordinary events only where [log] debug asks for them. */
#include "server/daemon/pool_log.h"

#include <stdio.h>

#include "fastpath/host/pool.h"
#include "server/base/log.h"
#include "server/config/setting.h"

static const char *task_name(struct knit_host *pool, uint32_t task)
{
    const struct knit_registry_task *entry = pool != NULL && task != KNIT_HOST_TASK_NONE
                                                 ? knit_registry_at(knit_host_registry(pool), task)
                                                 : NULL;

    return entry != NULL ? entry->name : "none";
}

void knit_pool_log_output(struct knit_log *log, struct knit_host *pool,
    const struct knit_host_event *from, const struct knit_log_field *line, bool truncated)
{
    struct knit_trace_texts trace;

    knit_trace_write(&from->trace, &trace);
    /* The line is last, so that it leaves room for the others. */
    knit_log(log, KNIT_LOG_INFO, "task output", KNIT_LOG_NUMBER("lane", from->lane),
        KNIT_LOG_NUMBER("pid", from->pid), KNIT_LOG_TEXT("task", task_name(pool, from->task)),
        KNIT_LOG_NUMBER("call", from->call), KNIT_LOG_TEXT("truncated", truncated ? "yes" : "no"),
        KNIT_LOG_MAYBE("trace", trace.id), KNIT_LOG_MAYBE("span", trace.span), *line);
}

void knit_pool_log_lane(struct knit_log *log, struct knit_host *pool, uint32_t lane)
{
    struct knit_host_lane_stats stats;

    knit_host_lane_stats(pool, lane, &stats);
    knit_log(log, KNIT_LOG_DEBUG, "lane", KNIT_LOG_NUMBER("lane", lane),
        KNIT_LOG_NUMBER("calls", stats.calls), KNIT_LOG_NUMBER("stolen", stats.stolen),
        KNIT_LOG_NUMBER("parks", stats.parks), KNIT_LOG_NUMBER("deaths", stats.deaths));
}

static void log_worker(struct knit_log *log, enum knit_log_level level, const char *message,
    const struct knit_host_event *event)
{
    const char *reason = event->text != NULL ? event->text : "";
    const struct knit_log_field fields[] = {{NULL}, KNIT_LOG_NUMBER("lane", event->lane),
        KNIT_LOG_NUMBER("pid", event->pid), KNIT_LOG_TEXT("reason", reason)};

    knit_log_write(log, level, message, fields, reason[0] != '\0' ? 3 : 2);
}

static void log_death(
    struct knit_log *log, struct knit_host *pool, const struct knit_host_event *event)
{
    knit_log(log, KNIT_LOG_WARNING, "worker died", KNIT_LOG_NUMBER("lane", event->lane),
        KNIT_LOG_NUMBER("pid", event->pid), KNIT_LOG_TEXT("reason", event->text),
        KNIT_LOG_NUMBER("lost_calls", event->lost),
        KNIT_LOG_TEXT("task", task_name(pool, event->task)));
}

static void log_relaying(struct knit_log *log, const struct knit_host_event *event)
{
    knit_log(log, KNIT_LOG_WARNING,
        "futex_waitv is refused to workers: the daemon wakes them in place of callers over shared "
        "memory, which is slower; Linux before 5.16 and filters of containers refuse it",
        KNIT_LOG_TEXT("reason", event->text));
}

static void log_quarantine(
    struct knit_log *log, struct knit_host *pool, const struct knit_host_event *event)
{
    if (event->kind == KNIT_HOST_TASK_LIFTED)
        knit_log(log, KNIT_LOG_INFO, "task is served again",
            KNIT_LOG_TEXT("task", task_name(pool, event->task)));
    else
        knit_log(log, KNIT_LOG_ERROR, "task quarantined: workers die in it",
            KNIT_LOG_TEXT("task", task_name(pool, event->task)),
            KNIT_LOG_NUMBER("signal", event->signal));
}

/* The peer is written as in lines about its connection. */
static void log_evicted(struct knit_log *log, const struct knit_host_event *event)
{
    char peer[64];

    (void)snprintf(peer, sizeof(peer), "uid:%u,pid:%d", (unsigned)event->uid, (int)event->pid);
    knit_log(log, KNIT_LOG_WARNING, "session ended: its memory broke the protocol",
        KNIT_LOG_NUMBER("session", event->session), KNIT_LOG_TEXT("reason", event->text),
        KNIT_LOG_TEXT("peer", peer));
}

/* Which call a worker runs, and whose. Of those by sockets the session is a loop's, whose
 * connections the host does not know: by its address `$/calls` tells. */
#define LOG_CALL(event, caller)                                                                    \
    KNIT_LOG_UNLESS_0("session", (event)->session),                                                \
        {(event)->session != 0 ? "slot" : NULL, NULL, 0, (event)->slot},                           \
        KNIT_LOG_UNLESS_0("generation", (event)->gen),                                             \
        KNIT_LOG_MAYBE("principal", (caller)->principal),                                          \
        KNIT_LOG_MAYBE("trace", (caller)->trace.id), KNIT_LOG_MAYBE("span", (caller)->trace.span)

struct caller {
    char principal[32]; /* "": not known */
    struct knit_trace_texts trace;
};

static struct caller caller_of(const struct knit_host_event *event)
{
    struct caller caller = {.principal = ""};

    if (event->is_foreign)
        (void)snprintf(caller.principal, sizeof(caller.principal), "uid:%u", (unsigned)event->uid);
    knit_trace_write(&event->trace, &caller.trace);
    return caller;
}

static void log_slow(
    struct knit_log *log, struct knit_host *pool, const struct knit_host_event *event)
{
    const struct caller caller = caller_of(event);

    knit_log(log, KNIT_LOG_WARNING, "task runs for long", KNIT_LOG_NUMBER("lane", event->lane),
        KNIT_LOG_NUMBER("pid", event->pid), KNIT_LOG_TEXT("task", task_name(pool, event->task)),
        KNIT_LOG_NUMBER("age_ms", event->age_ms), LOG_CALL(event, &caller));
}

static void log_overrun(
    struct knit_log *log, struct knit_host *pool, const struct knit_host_event *event)
{
    const struct caller caller = caller_of(event);

    knit_log(log, KNIT_LOG_WARNING, "task ran into its hard timeout",
        KNIT_LOG_NUMBER("lane", event->lane), KNIT_LOG_NUMBER("pid", event->pid),
        KNIT_LOG_TEXT("task", task_name(pool, event->task)),
        KNIT_LOG_NUMBER("hard_timeout_ms", event->limit_ms), LOG_CALL(event, &caller));
}

static void log_denied(
    struct knit_log *log, struct knit_host *pool, const struct knit_host_event *event)
{
    char peer[64], principal[32];

    (void)snprintf(principal, sizeof(principal), "uid:%u", (unsigned)event->uid);
    (void)snprintf(peer, sizeof(peer), "uid:%u,pid:%d", (unsigned)event->uid, (int)event->pid);
    knit_log(log, KNIT_LOG_WARNING, "denied", KNIT_LOG_TEXT("principal", principal),
        KNIT_LOG_TEXT("task", task_name(pool, event->task)),
        KNIT_LOG_NUMBER("session", event->session), KNIT_LOG_TEXT("peer", peer));
}

/* Callers and tasks bring these about at will. False: too many of its kind have a line. */
static bool may_say(struct knit_log *log, const struct knit_host_event *event)
{
    const enum knit_host_event_kind kind = event->kind;

    if ((kind == KNIT_HOST_WORKER_STARTED && event->is_replacement) ||
        kind == KNIT_HOST_WORKER_DIED || kind == KNIT_HOST_WORKER_REFUSED)
        return knit_log_may(log, KNIT_LOG_WORKER);
    if (kind == KNIT_HOST_HARD_TIMEOUT || kind == KNIT_HOST_TASK_SLOW)
        return knit_log_may(log, KNIT_LOG_TASK);
    if (kind == KNIT_HOST_SESSION_EVICTED)
        return knit_log_may(log, KNIT_LOG_EVICTED);
    return kind != KNIT_HOST_CALL_DENIED || knit_log_may(log, KNIT_LOG_DENIED);
}

void knit_pool_log_event(struct knit_log *log, struct knit_host *pool, unsigned debug_bits,
    const struct knit_host_event *event)
{
    if (!may_say(log, event))
        return;
    switch (event->kind) {
    case KNIT_HOST_WORKER_STARTED:
        if (event->is_replacement || debug_bits & KNIT_DEBUG_LIFECYCLE)
            log_worker(log, event->is_replacement ? KNIT_LOG_INFO : KNIT_LOG_DEBUG,
                event->is_replacement ? "worker replaced" : "worker started", event);
        break;
    case KNIT_HOST_WORKER_DIED:
        log_death(log, pool, event);
        if (pool != NULL && debug_bits & KNIT_DEBUG_LANE)
            knit_pool_log_lane(log, pool, event->lane);
        break;
    case KNIT_HOST_WORKER_REFUSED:
        log_worker(log, KNIT_LOG_ERROR, "worker could not start", event);
        break;
    case KNIT_HOST_WORKER_STOPPED:
        if (debug_bits & KNIT_DEBUG_LIFECYCLE)
            log_worker(log, KNIT_LOG_DEBUG, "worker stopped", event);
        break;
    case KNIT_HOST_WORKER_LEFT:
        log_worker(log, KNIT_LOG_ERROR, "worker left behind", event);
        break;
    case KNIT_HOST_HARD_TIMEOUT:
        log_overrun(log, pool, event);
        break;
    case KNIT_HOST_TASK_SLOW:
        log_slow(log, pool, event);
        break;
    case KNIT_HOST_TASK_QUARANTINED:
    case KNIT_HOST_TASK_LIFTED:
        log_quarantine(log, pool, event);
        break;
    case KNIT_HOST_SESSION_EVICTED:
        log_evicted(log, event);
        break;
    case KNIT_HOST_CALL_DENIED:
        log_denied(log, pool, event);
        break;
    case KNIT_HOST_SESSION_DAMAGED:
        knit_log(log, KNIT_LOG_ERROR, "shared memory of an event loop is damaged",
            KNIT_LOG_NUMBER("session", event->session), KNIT_LOG_TEXT("reason", event->text));
        break;
    case KNIT_HOST_DEGRADED:
        knit_log(log, event->is_degraded ? KNIT_LOG_ERROR : KNIT_LOG_INFO,
            event->is_degraded ? "degraded: workers die faster than they work"
                               : "no longer degraded",
            KNIT_LOG_NUMBER("lane", event->lane));
        break;
    case KNIT_HOST_UNCONFINED:
        knit_log(log, KNIT_LOG_WARNING, "workers are not confined in full",
            KNIT_LOG_TEXT("reason", event->text));
        break;
    case KNIT_HOST_RELAYING:
        log_relaying(log, event);
        break;
    case KNIT_HOST_OUTPUT_DROPPED:
        knit_log(log, KNIT_LOG_WARNING, "task output was dropped",
            KNIT_LOG_NUMBER("lines", event->lost), KNIT_LOG_NUMBER("bytes", event->bytes));
        break;
    case KNIT_HOST_STOPPED:
        break;
    }
}
