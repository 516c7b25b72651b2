/* SPDX-License-Identifier: Apache-2.0 */
/* Ids are splitmix64 of a sequence that begins at random: they need to be different, not secret.
 *
 * Reports lie in one array, which grows; so a report is known by its index, and a pointer to one is
 * good until the next begins. A task that there is not is kept by its name, cut. */
#include "server/rpc/reports.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "fastpath/lane/state.h"
#include "fastpath/lane/trace.h"
#include "proto/options.h"
#include "proto/text.h"
#include "server/report/access_log.h"
#include "server/report/ended_call.h"
#include "server/report/exporter.h"
#include "server/rpc/router_private.h"
#include "server/rpc/task.h"

enum {
    REPORTS_MIN = 256,
    NAME_MAX_BYTES = 64,
    ERROR_MAX_BYTES = 4096, /* of a longer one the code alone is read */
};

#define NO_REPORT UINT32_MAX
#define NO_SLOT   UINT32_MAX

struct report {
    struct knit_caller *caller;            /* NULL: of a notification's, it has gone, ... */
    struct knit_principal *principal;      /* ... and this is held */
    const struct knit_registry_task *task; /* NULL: there is none of that name */
    uint64_t since_ns, run_ns;
    uint32_t next; /* of those that are free */
    uint32_t msgid, slot, argument_bytes;
    uint32_t code; /* that was noted; 0 = none */
    enum knit_started started;
    bool is_notification, has_trace;
    uint8_t name_len;
    struct knit_trace trace;
    uint8_t parent[8];
    char name[NAME_MAX_BYTES];
    char peer[sizeof((struct knit_caller *)0)->peer]; /* of a caller that has gone */
};

struct knit_reports {
    struct knit_access_log *access; /* NULL: there is none, as the next */
    struct knit_exporter *exporter;
    struct report *items;
    uint32_t capacity, free;
    uint32_t *by_slot; /* [record_count] */
    uint32_t trying;   /* the notification that is on its way */
};

/* What is known of an outcome. */
struct ending {
    bool is_gone;
    uint32_t code;
    enum knit_started started;
    struct knit_span reason;
    uint64_t result_bytes;
};

/* ---- ids ----------------------------------------------------------------------------------- */

uint64_t knit_reports_seed(void)
{
    uint64_t seed;

    if (getrandom(&seed, sizeof(seed), 0) != (ssize_t)sizeof(seed))
        seed = knit_clock_ns();
    return seed;
}

static uint64_t next_id(struct knit_router *router)
{
    uint64_t id = router->ids += UINT64_C(0x9e3779b97f4a7c15);

    id = (id ^ id >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    id = (id ^ id >> 27) * UINT64_C(0x94d049bb133111eb);
    id ^= id >> 31;
    return id != 0 ? id : 1;
}

/* The call is a child of that span, by a span of its own. False: it is part of no trace. */
static bool identify(struct knit_router *router, struct knit_span text,
    struct knit_trace *ret_trace, uint8_t ret_parent[8])
{
    uint64_t id;

    if (text.bytes == NULL || !knit_trace_parse(text, ret_trace))
        return false;
    memcpy(ret_parent, ret_trace->span, sizeof(ret_trace->span));
    id = next_id(router);
    memcpy(ret_trace->span, &id, sizeof(id));
    return true;
}

/* ---- the array ------------------------------------------------------------------------------- */

static bool grow(struct knit_reports *reports)
{
    const uint32_t before = reports->capacity;
    const uint32_t capacity = before == 0 ? REPORTS_MIN : before * 2;
    struct report *items = NULL;

    if (before < KNIT_REPORTS_MAX)
        items = reallocarray(reports->items, capacity, sizeof(*items));
    if (items == NULL)
        return false;
    reports->items = items;
    reports->capacity = capacity;
    for (uint32_t i = before; i < capacity; i++)
        items[i].next = i + 1 < capacity ? i + 1 : NO_REPORT;
    reports->free = before;
    return true;
}

/* NO_REPORT: there are too many, or there is no memory. */
static uint32_t take_report(struct knit_reports *reports)
{
    uint32_t index;

    if (reports->free == NO_REPORT && !grow(reports))
        return NO_REPORT;
    index = reports->free;
    reports->free = reports->items[index].next;
    return index;
}

/* That of a call on its way, or of a request in flight. */
static uint32_t find(const struct knit_caller *caller, const struct knit_message *message)
{
    uint32_t index;

    if (message->kind != KNIT_MESSAGE_REQUEST)
        return caller->router->reports->trying;
    return knit_in_flight_find(&caller->reported, message->msgid, &index) ? index : NO_REPORT;
}

/* ---- ends ---------------------------------------------------------------------------------- */

static enum knit_ran_by ran_by(
    const struct knit_router *router, const struct report *report, const struct ending *ending)
{
    if (ending->code != 0 && ending->started == KNIT_STARTED_NO)
        return KNIT_RAN_NOWHERE;
    if (report->slot != NO_SLOT)
        return knit_router_is_inlined(router, report->slot) ? KNIT_RAN_BY_INLINER
                                                            : KNIT_RAN_BY_WORKER;
    return ending->code == 0 || ending->started == KNIT_STARTED_YES ? KNIT_RAN_BY_KEY
                                                                    : KNIT_RAN_NOWHERE;
}

static struct knit_span task_of(const struct report *report)
{
    return report->task != NULL ? knit_span(report->task->name, report->task->name_len)
                                : knit_span(report->name, report->name_len);
}

/* Of a call whose worker may say anything about itself. */
static struct knit_ended_call describe(
    const struct knit_router *router, const struct report *report, const struct ending *ending)
{
    const struct knit_caller *caller = report->caller;
    struct knit_ended_call call = {
        .principal = caller != NULL ? caller->principal->name : report->principal->name,
        .peer = caller != NULL ? caller->peer : report->peer,
        .task = task_of(report),
        .is_notification = report->is_notification,
        .is_gone = ending->is_gone,
        .code = ending->code,
        .reason = ending->reason,
        .ran_by = ending->is_gone ? KNIT_RAN_NOWHERE : ran_by(router, report, ending),
        .took_ns = knit_clock_ns() - report->since_ns,
        .run_ns = report->run_ns,
        .argument_bytes = report->argument_bytes,
        .result_bytes = ending->result_bytes,
        .trace = report->has_trace ? &report->trace : NULL,
        .parent = report->parent};

    if (call.run_ns > call.took_ns)
        call.run_ns = call.took_ns;
    if (call.ran_by == KNIT_RAN_NOWHERE || call.ran_by == KNIT_RAN_BY_KEY)
        call.run_ns = 0;
    call.knows_run = !ending->is_gone && (call.run_ns != 0 || call.ran_by == KNIT_RAN_NOWHERE ||
                                             call.ran_by == KNIT_RAN_BY_KEY);
    return call;
}

/* It is said, and forgotten but for its number. */
static void end(struct knit_router *router, uint32_t index, const struct ending *ending)
{
    struct knit_reports *reports = router->reports;
    struct report *report = &reports->items[index];
    const struct knit_ended_call call = describe(router, report, ending);

    if (reports->access != NULL)
        knit_access_log_put(reports->access, router->turn->loop, &call);
    if (reports->exporter != NULL && knit_exporter_wants(&call))
        (void)knit_exporter_put(reports->exporter, router->turn->loop, &call);
    if (report->slot != NO_SLOT)
        reports->by_slot[report->slot] = NO_REPORT;
    knit_principals_drop(router->turn->principals, report->principal);
    report->next = reports->free;
    reports->free = index;
}

static struct ending ending_of(const struct knit_failure *failure)
{
    return (struct ending){
        .code = failure->code, .started = failure->started, .reason = failure->message};
}

/* From a copy, since others may write the payload. The failure points into it. */
static struct ending read_error(
    const struct knit_session_outcome *outcome, uint8_t copy[ERROR_MAX_BYTES])
{
    const struct knit_span payload = knit_span(outcome->payload, outcome->len);
    struct knit_failure failure = knit_failure(KNIT_INTERNAL, "");
    uint32_t code;

    if (outcome->status == KNIT_STATUS_ERROR && payload.len <= ERROR_MAX_BYTES) {
        memcpy(copy, payload.bytes, payload.len);
        if (knit_failure_decode(knit_span(copy, payload.len), &failure) != 0)
            failure = knit_failure(KNIT_INTERNAL, "");
    } else if (outcome->status == KNIT_STATUS_ERROR) {
        code = knit_failure_code(payload);
        failure = knit_failure(code != 0 ? code : KNIT_INTERNAL, "");
    }
    return ending_of(&failure);
}

static void end_with(
    struct knit_router *router, uint32_t index, const struct knit_session_outcome *outcome)
{
    uint8_t copy[ERROR_MAX_BYTES];
    struct ending ending = {.result_bytes = outcome->len, .started = KNIT_STARTED_YES};

    if (outcome->status != KNIT_STATUS_RESULT)
        ending = read_error(outcome, copy);
    end(router, index, &ending);
}

/* A request is no longer reported by its number. NO_REPORT: it never was. */
static uint32_t take_out(struct knit_caller *caller, uint32_t msgid)
{
    uint32_t index;

    if (!knit_in_flight_find(&caller->reported, msgid, &index))
        return NO_REPORT;
    (void)knit_in_flight_remove(&caller->reported, msgid);
    return index;
}

void knit_reports_end_outcome(
    struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome)
{
    const uint32_t index = take_out(caller, msgid);

    if (index != NO_REPORT)
        end_with(caller->router, index, outcome);
}

void knit_reports_end_result(struct knit_caller *caller, uint32_t msgid, struct knit_span result)
{
    const uint32_t index = take_out(caller, msgid);
    struct ending ending = {.result_bytes = result.len, .started = KNIT_STARTED_YES};
    const struct report *report;

    if (index == NO_REPORT)
        return;
    report = &caller->router->reports->items[index];
    if (report->code != 0) {
        ending.code = report->code;
        ending.started = report->started;
    }
    end(caller->router, index, &ending);
}

void knit_reports_end_failure(
    struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    const uint32_t index = take_out(caller, msgid);
    const struct ending ending = ending_of(failure);

    if (index != NO_REPORT)
        end(caller->router, index, &ending);
}

void knit_reports_note_failure(
    struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure)
{
    uint32_t index;

    if (!knit_in_flight_find(&caller->reported, msgid, &index))
        return;
    caller->router->reports->items[index].code = failure->code;
    caller->router->reports->items[index].started = failure->started;
}

/* ---- begins -------------------------------------------------------------------------------- */

static void note_task(
    struct report *report, struct knit_caller *caller, const struct knit_method *method)
{
    report->task = knit_task_find(caller, method);
    report->name_len = 0;
    if (report->task != NULL || method->name.bytes == NULL)
        return;
    report->name_len =
        (uint8_t)knit_text_cut(method->name.bytes, method->name.len, sizeof(report->name));
    memcpy(report->name, method->name.bytes, report->name_len);
}

static void note_trace(
    struct report *report, struct knit_router *router, const struct knit_message *message)
{
    struct knit_options options;
    const char *reason;

    report->has_trace = message->options.bytes != NULL &&
                        knit_options_decode(message->options, &options, &reason) == 0 &&
                        identify(router, options.trace, &report->trace, report->parent);
}

/* Nothing will be said of one more call. Whether it had a trace nobody looks. */
static void count_dropped(struct knit_router *router)
{
    if (router->reports->access != NULL)
        KNIT_COUNT(router->turn, access_dropped);
}

static uint32_t new_report(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    struct knit_router *router = caller->router;
    const uint32_t index = take_report(router->reports);
    struct report *report;

    if (index == NO_REPORT) {
        count_dropped(router);
        return NO_REPORT;
    }
    report = &router->reports->items[index];
    report->caller = caller;
    report->principal = NULL;
    report->since_ns = since_ns;
    report->run_ns = 0;
    report->msgid = message->msgid;
    report->slot = NO_SLOT;
    report->argument_bytes = (uint32_t)message->params.len;
    report->code = 0;
    report->is_notification = message->kind != KNIT_MESSAGE_REQUEST;
    note_task(report, caller, &message->method);
    note_trace(report, router, message);
    return index;
}

static void free_report(struct knit_reports *reports, uint32_t index)
{
    reports->items[index].next = reports->free;
    reports->free = index;
}

void knit_reports_begin(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    struct knit_reports *reports = caller->router->reports;
    uint32_t index = find(caller, message);

    if (index != NO_REPORT)
        return;
    index = new_report(caller, message, since_ns);
    if (index == NO_REPORT)
        return;
    if (message->kind != KNIT_MESSAGE_REQUEST) {
        reports->trying = index;
    } else if (knit_in_flight_add(&caller->reported, message->msgid, index) != 0) {
        free_report(reports, index);
        count_dropped(caller->router);
    }
}

void knit_reports_leave(struct knit_router *router)
{
    struct knit_reports *reports = router->reports;

    if (reports->trying != NO_REPORT)
        free_report(reports, reports->trying);
    reports->trying = NO_REPORT;
}

const struct knit_trace *knit_reports_trace(struct knit_caller *caller,
    const struct knit_message *message, struct knit_span text, struct knit_trace *ret_trace)
{
    struct knit_router *router = caller->router;
    uint32_t index = NO_REPORT;
    uint8_t parent[8];

    if (router->reports != NULL)
        index = find(caller, message);
    if (index == NO_REPORT)
        return identify(router, text, ret_trace, parent) ? ret_trace : NULL;
    *ret_trace = router->reports->items[index].has_trace ? router->reports->items[index].trace
                                                         : knit_trace_none;
    return ret_trace;
}

void knit_reports_name(const struct knit_caller *caller, const struct knit_message *message,
    struct knit_trace_texts *ret_texts)
{
    const uint32_t index = knit_reports_are_on(caller->router) ? find(caller, message) : NO_REPORT;
    struct knit_trace trace = knit_trace_none;
    struct knit_options options;
    const char *reason;

    if (index != NO_REPORT && caller->router->reports->items[index].has_trace) {
        knit_trace_write(&caller->router->reports->items[index].trace, ret_texts);
        return;
    }
    if (message->options.bytes == NULL ||
        knit_options_decode(message->options, &options, &reason) != 0 ||
        options.trace.bytes == NULL || !knit_trace_parse(options.trace, &trace))
        trace = knit_trace_none;
    knit_trace_write(&trace, ret_texts);
    ret_texts->span[0] = '\0';
}

void knit_reports_publish(
    struct knit_caller *caller, const struct knit_message *message, uint32_t slot)
{
    struct knit_reports *reports = caller->router->reports;
    const uint32_t index = find(caller, message);

    reports->by_slot[slot] = index;
    if (index == NO_REPORT)
        return;
    reports->items[index].slot = slot;
    if (message->kind != KNIT_MESSAGE_REQUEST)
        reports->trying = NO_REPORT;
}

void knit_reports_refuse(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_failure *failure)
{
    struct knit_reports *reports = caller->router->reports;
    const struct ending ending = ending_of(failure);

    knit_reports_begin(caller, message, caller->turn->now_ns);
    if (reports->trying != NO_REPORT)
        end(caller->router, reports->trying, &ending);
    reports->trying = NO_REPORT;
}

void knit_reports_refuse_unread(struct knit_caller *caller, const struct knit_message *message,
    uint64_t since_ns, const struct knit_failure *failure)
{
    const uint32_t index = new_report(caller, message, since_ns);
    const struct ending ending = ending_of(failure);

    if (index != NO_REPORT)
        end(caller->router, index, &ending);
}

/* ---- slots --------------------------------------------------------------------------------- */

void knit_reports_note_run(struct knit_router *router, uint32_t slot, uint64_t run_ns)
{
    const uint32_t index = router->reports->by_slot[slot];

    if (index != NO_REPORT)
        router->reports->items[index].run_ns = run_ns;
}

void knit_reports_note_answer(
    struct knit_router *router, const struct knit_session_outcome *outcome)
{
    const uint32_t index = router->reports->by_slot[outcome->slot];

    if (index == NO_REPORT)
        return;
    if (!knit_router_is_inlined(router, outcome->slot))
        router->reports->items[index].run_ns =
            knit_session_run_ns(knit_router_session(router), outcome->slot);
    if (router->reports->items[index].is_notification)
        end_with(router, index, outcome);
}

void knit_reports_end_slot(
    struct knit_router *router, uint32_t slot, const struct knit_failure *failure)
{
    const uint32_t index = router->reports->by_slot[slot];
    const struct ending ending = ending_of(failure);

    if (index != NO_REPORT)
        end(router, index, &ending);
}

/* ---- callers that go ------------------------------------------------------------------------- */

/* Its notifications go on. */
static void orphan(struct knit_router *router, struct report *report)
{
    report->principal = report->caller->principal;
    knit_principals_hold(router->turn->principals, report->principal);
    memcpy(report->peer, report->caller->peer, sizeof(report->peer));
    report->caller = NULL;
}

void knit_reports_forget(struct knit_caller *caller)
{
    static const struct ending gone = {.is_gone = true};
    struct knit_router *router = caller->router;
    struct knit_reports *reports = router->reports;

    for (uint32_t i = 0; i < caller->reported.capacity; i++)
        if (caller->reported.entries[i].slot_plus_one != 0)
            end(router, caller->reported.entries[i].slot_plus_one - 1, &gone);
    knit_in_flight_fini(&caller->reported);
    for (uint32_t slot = 0; slot < router->record_count; slot++) {
        const uint32_t index = reports->by_slot[slot];

        if (index != NO_REPORT && reports->items[index].caller == caller)
            orphan(router, &reports->items[index]);
    }
}

/* ---- beginning, turns, end ------------------------------------------------------------------ */

int knit_reports_add(struct knit_router *router)
{
    struct knit_reports *reports;

    if (router->backend->access_log == NULL && router->backend->exporter == NULL)
        return 0;
    reports = calloc(1, sizeof(*reports));
    if (reports == NULL)
        return -ENOMEM;
    reports->access = router->backend->access_log;
    reports->exporter = router->backend->exporter;
    reports->free = reports->trying = NO_REPORT;
    reports->by_slot = malloc(router->record_count * sizeof(*reports->by_slot));
    if (reports->by_slot == NULL) {
        free(reports);
        return -ENOMEM;
    }
    memset(reports->by_slot, 0xff, router->record_count * sizeof(*reports->by_slot));
    router->reports = reports;
    return 0;
}

void knit_reports_turn(struct knit_router *router)
{
    const struct knit_reports *reports = router->reports;
    struct knit_counters *counters = &router->turn->counters;

    if (reports->access != NULL)
        knit_counter_add(&counters->access_dropped,
            knit_access_log_hand_over(reports->access, router->turn->loop));
    if (reports->exporter != NULL)
        knit_counter_add(&counters->spans_dropped,
            knit_exporter_hand_over(reports->exporter, router->turn->loop));
}

void knit_reports_fini(struct knit_router *router)
{
    const struct knit_failure failure = knit_failure(KNIT_SHUTDOWN, "the pool is shut down");
    struct knit_reports *reports = router->reports;

    if (reports == NULL)
        return;
    for (uint32_t slot = 0; slot < router->record_count; slot++)
        knit_reports_end_slot(router, slot, &failure);
    knit_reports_turn(router);
    free(reports->by_slot);
    free(reports->items);
    free(reports);
    router->reports = NULL;
}
