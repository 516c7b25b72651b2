/* SPDX-License-Identifier: Apache-2.0 */
/* One function for each method, found in a table. Each gets a request or a notification; answer()
 * and refuse() know that a notification has no response.
 */
#include "server/rpc/method.h"

#include <stdio.h>
#include <string.h>

#include "config.h"
#include "fastpath/host/describe.h"
#include "fastpath/host/pool.h"
#include "proto/cancel.h"
#include "proto/check.h"
#include "proto/head.h"
#include "proto/hello.h"
#include "proto/tasks.h"
#include "proto/text.h"
#include "proto/walk.h"
#include "server/admin/stats.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/rpc/asked.h"
#include "server/rpc/attach.h"
#include "server/rpc/identify.h"
#include "server/rpc/permit.h"
#include "server/rpc/router.h"
#include "server/rpc/stop.h"
#include "server/rpc/takeover.h"
#include "server/rpc/why.h"

static void answer(
    struct knit_caller *caller, const struct knit_message *message, struct knit_span result)
{
    if (message->kind == KNIT_MESSAGE_REQUEST)
        caller->ops->reply(caller, message->msgid, result);
}

static void refuse(
    struct knit_caller *caller, const struct knit_message *message, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    if (message->kind == KNIT_MESSAGE_REQUEST)
        caller->ops->refuse(caller, message->msgid, &failure);
    else
        KNIT_COUNT(caller->turn, notifications_dropped);
}

/* ---- $/hello ------------------------------------------------------------------------------- */

/* What it may have in flight for as long as no other caller takes slots. */
static uint64_t in_flight_of(const struct knit_caller *caller)
{
    uint64_t max = caller->turn->settings->in_flight_max;
    uint64_t share = knit_share_alone(caller->router->slots);

    return share < max ? share : max;
}

static void hello(struct knit_caller *caller, const struct knit_message *message)
{
    const struct knit_settings *settings = caller->turn->settings;
    const struct knit_router_backend *backend = caller->router->backend;
    struct knit_buffer *scratch = &caller->turn->scratch;
    struct knit_hello_reply reply = {.server = knit_span_text("knittingd"),
        .version = knit_span_text(KNIT_VERSION),
        .protocol = KNIT_PROTOCOL_VERSION,
        .epoch = knit_registry_epoch(caller->router->registry),
        .message_bytes = settings->message_max_bytes,
        .call_bytes = settings->call_max_bytes,
        .depth = KNIT_DEPTH_MAX,
        .in_flight = in_flight_of(caller),
        .output_bytes = settings->output_max_bytes,
        .workers = caller->router->session->geometry.lanes};
    struct knit_hello hello;
    const char *reason;

    if (knit_hello_decode(message->params, &hello, &reason) != 0) {
        refuse(caller, message, KNIT_BAD_ARGUMENT, reason);
        return;
    }
    caller->form = KNIT_FAILURE_FULL;
    (void)snprintf(caller->name, sizeof(caller->name), "%.*s",
        (int)knit_text_cut(hello.name.bytes, hello.name.len, sizeof(caller->name) - 1),
        (const char *)hello.name.bytes);
    if (hello.token.bytes != NULL && !knit_identify_by_token(caller, message, hello.token))
        return;
    reply.principal = knit_span_text(caller->principal->name);
    if (backend != NULL && backend->instance != NULL)
        reply.instance = knit_span_text(backend->instance);
    reply.feature[reply.feature_count++] = knit_span_text("affinity");
    reply.feature[reply.feature_count++] = knit_span_text("cancel");
    reply.feature[reply.feature_count++] = knit_span_text("cancel_reason");
    reply.feature[reply.feature_count++] = knit_span_text("keep");
    if (caller->router->keyed != NULL)
        reply.feature[reply.feature_count++] = knit_span_text("key");
    reply.feature[reply.feature_count++] = knit_span_text("on_timeout");
    reply.feature[reply.feature_count++] = knit_span_text("output");
    reply.feature[reply.feature_count++] = knit_span_text("priority");
    reply.feature[reply.feature_count++] = knit_span_text("progress");
    reply.feature[reply.feature_count++] = knit_span_text("queue");
    reply.feature[reply.feature_count++] = knit_span_text("queue_max");
    reply.feature[reply.feature_count++] = knit_span_text("references");
    reply.feature[reply.feature_count++] = knit_span_text("timeout");
    if (caller->takes_descriptors)
        reply.feature[reply.feature_count++] = knit_span_text("attach");
    knit_buffer_reset(scratch);
    if (knit_hello_reply_put(scratch, &reply) != 0)
        caller->ops->close_without_memory(caller);
    else
        answer(caller, message, knit_buffer_span(scratch));
}

/* ---- $/ping -------------------------------------------------------------------------------- */

static void pong(struct knit_caller *caller, const struct knit_message *message)
{
    static const uint8_t nil = 0xc0;
    struct knit_walk walk;
    struct knit_item item;
    struct knit_check_flaw flaw;

    if (knit_check_value(message->params.bytes, message->params.len, KNIT_DEPTH_MAX, &flaw) != 0)
        refuse(caller, message, KNIT_BAD_ARGUMENT, flaw.reason);
    else if (knit_walk_array(&walk, message->params) == 0 && knit_walk_next(&walk, &item) == 0)
        answer(caller, message, item.raw);
    else
        answer(caller, message, knit_span(&nil, 1));
}

/* ---- $/tasks ------------------------------------------------------------------------------- */

/* Those that the caller may run, of the ids from `first` on: as many as `most`, and the id behind
 * the last that was looked at. */
static uint32_t choose_tasks(const struct knit_caller *caller, uint64_t first, uint64_t most,
    uint32_t ids[KNIT_TASKS_PAGE_MAX], uint64_t *ret_next)
{
    const uint64_t count = knit_registry_count(caller->router->registry);
    uint32_t chosen = 0;

    for (*ret_next = first; *ret_next < count && chosen < most; ++*ret_next)
        if (knit_permit_task(caller, (uint32_t)*ret_next))
            ids[chosen++] = (uint32_t)*ret_next;
    while (*ret_next < count && !knit_permit_task(caller, (uint32_t)*ret_next))
        ++*ret_next;
    return chosen;
}

static void list_tasks(struct knit_caller *caller, const struct knit_message *message)
{
    const struct knit_registry *registry = caller->router->registry;
    const struct knit_router_backend *backend = caller->router->backend;
    struct knit_buffer *scratch = &caller->turn->scratch;
    uint64_t count = knit_registry_count(registry), first, next;
    uint32_t ids[KNIT_TASKS_PAGE_MAX], page;
    struct knit_tasks_query query;
    const char *reason;

    if (knit_tasks_query_decode(message->params, &query, &reason) != 0) {
        refuse(caller, message, KNIT_BAD_ARGUMENT, reason);
        return;
    }
    first = query.after == KNIT_TASKS_FIRST ? 0 : query.after + 1;
    page = choose_tasks(caller, first < count ? first : count, query.limit, ids, &next);
    knit_buffer_reset(scratch);
    (void)knit_tasks_page_put_head(scratch, knit_registry_epoch(registry), next < count, page);
    for (uint32_t i = 0; i < page; i++) {
        struct knit_task_entry entry;

        /* A router over lanes alone has no pool. */
        knit_host_describe_task(
            backend != NULL ? backend->pool : NULL, knit_registry_at(registry, ids[i]), &entry);
        (void)knit_tasks_page_put_entry(scratch, &entry);
    }
    if (scratch->error != 0)
        caller->ops->close_without_memory(caller);
    else
        answer(caller, message, knit_buffer_span(scratch));
}

/* ---- $/lift, $/drain ----------------------------------------------------------------------- */

/* The name that the params hold, alone. */
static bool read_name(struct knit_span params, struct knit_span *ret_name)
{
    struct knit_walk walk;
    struct knit_item item;

    return knit_walk_array(&walk, params) == 0 && walk.left == 1 &&
           knit_walk_next(&walk, &item) == 0 && knit_item_utf8(&item, ret_name);
}

static void refuse_unknown(
    struct knit_caller *caller, const struct knit_message *message, struct knit_span name)
{
    char text[KNIT_NAME_BYTES_MAX + 64];
    int shown = (int)knit_text_cut(name.bytes, name.len, KNIT_NAME_BYTES_MAX);

    (void)snprintf(text, sizeof(text), "$/lift: there is no task '%.*s'", shown,
        name.len > 0 ? (const char *)name.bytes : "");
    refuse(caller, message, KNIT_UNKNOWN_TASK, text);
}

static void lift(struct knit_caller *caller, const struct knit_message *message)
{
    static const uint8_t truths[] = {0xc2, 0xc3};
    const struct knit_registry_task *task = NULL;
    struct knit_span name;
    bool was_quarantined;

    if (!read_name(message->params, &name)) {
        refuse(caller, message, KNIT_BAD_ARGUMENT, "$/lift: expected [name of a task]");
        return;
    }
    task = knit_registry_find(caller->router->registry, (const char *)name.bytes, name.len);
    if (task == NULL) {
        refuse_unknown(caller, message, name);
        return;
    }
    was_quarantined = knit_host_lift(caller->router->backend->pool, task->id);
    answer(caller, message, knit_span(&truths[was_quarantined], 1));
}

static void drain(struct knit_caller *caller, const struct knit_message *message)
{
    static const uint8_t truths[] = {0xc2, 0xc3};
    const struct knit_router_backend *backend = caller->router->backend;
    bool is_first = !caller->router->is_draining;

    if (is_first && !backend->on_drain(backend->arg, caller->takes_over)) {
        refuse(caller, message, KNIT_OVERLOADED, "$/drain: the daemon does not keep up; try again");
        return;
    }
    if (is_first)
        knit_log(caller->turn->log, KNIT_LOG_INFO, "asked to drain", KNIT_LOG_CALLER(caller));
    answer(caller, message, knit_span(&truths[is_first], 1));
}

/* ---- $/cancel, $/stats --------------------------------------------------------------------- */

bool knit_method_cancels(
    const struct knit_message *message, uint32_t *ret_msgid, struct knit_span *ret_reason)
{
    return message->kind != KNIT_MESSAGE_RESPONSE &&
           knit_span_is(message->method.name, "$/cancel") &&
           knit_cancel_decode(message->params, ret_msgid, ret_reason);
}

static void cancel(struct knit_caller *caller, const struct knit_message *message)
{
    static const uint8_t nil = 0xc0;
    struct knit_span reason;
    uint32_t msgid;

    if (!knit_method_cancels(message, &msgid, &reason)) {
        refuse(caller, message, KNIT_BAD_ARGUMENT, "$/cancel: expected [msgid, reason]");
        return;
    }
    (void)knit_router_cancel(caller, msgid, reason);
    answer(caller, message, knit_span(&nil, 1));
}

static void stats(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_buffer *scratch = &caller->turn->scratch;
    struct knit_stats stats;

    knit_stats_collect(caller->router->backend->stats, &stats);
    knit_buffer_reset(scratch);
    if (knit_stats_put(scratch, &stats) != 0)
        refuse(caller, message, KNIT_INTERNAL, "the statistics could not be encoded");
    else
        answer(caller, message, knit_buffer_span(scratch));
}

static const struct {
    const char *name;
    void (*handle)(struct knit_caller *caller, const struct knit_message *message);
    bool is_question;      /* a notification that asks would get no answer */
    bool is_for_operators; /* where there is no policy */
} methods[] = {
    {"$/ping", pong, true, false},
    {"$/cancel", cancel, false, false},
    {"$/hello", hello, false, false},
    {"$/tasks", list_tasks, true, false},
    {"$/stats", stats, true, false},
    {"$/calls", knit_asked_calls, true, true},
    {"$/sessions", knit_asked_sessions, true, true},
    {"$/stop", knit_stop_handle, true, true},
    {"$/kill", knit_kill_handle, true, true},
    {"$/lift", lift, false, true},
    {"$/drain", drain, false, true},
    {"$/takeover", knit_takeover_handle, false, true},
    {"$/reload", knit_asked_reload, true, true},
    {"$/why", knit_why_handle, true, true},
    {"$/attach", knit_attach_handle, false, false},
    {"$/attached", knit_attach_confirm, false, false},
};

bool knit_method_is_question(const struct knit_message *message)
{
    if (message->kind != KNIT_MESSAGE_REQUEST)
        return false;
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++)
        if (knit_span_is(message->method.name, methods[i].name))
            return methods[i].is_question;
    return false;
}

void knit_method_handle(struct knit_caller *caller, const struct knit_message *message)
{
    for (size_t i = 0; i < sizeof(methods) / sizeof(methods[0]); i++) {
        if (knit_span_is(message->method.name, methods[i].name)) {
            if (message->kind != KNIT_MESSAGE_REQUEST && methods[i].is_question)
                KNIT_COUNT(caller->turn, notifications_dropped);
            else if (!knit_permit_method(caller, methods[i].name, methods[i].is_for_operators))
                knit_permit_refuse(caller, message, methods[i].name);
            else
                methods[i].handle(caller, message);
            return;
        }
    }
    refuse(caller, message, KNIT_UNKNOWN_TASK,
        "the protocol has no such method; there are $/hello, $/ping, $/tasks, $/cancel, $/stats, "
        "$/calls, $/sessions, $/stop, $/kill, $/lift, $/drain, $/takeover, $/reload, $/why, "
        "$/attach and $/attached");
}
