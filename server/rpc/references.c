/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that ends frees all of this while it is used, in whatever function it is told something:
 * who has told it anything looks at caller->references again.
 */
#include "server/rpc/references.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "proto/buffer.h"
#include "proto/cancel.h"
#include "proto/limits.h"
#include "proto/options.h"
#include "proto/text.h"
#include "proto/types.h"
#include "proto/walk.h"
#include "proto/writer.h"
#include "server/config/setting.h"
#include "server/rpc/kept.h"
#include "server/rpc/keyed.h"
#include "server/rpc/refusal.h"
#include "server/rpc/reports.h"
#include "server/rpc/router_private.h"

enum { TURN_NS = 1000000 }; /* of a loop's turn, for each kind of work here */

/* ---- requests that wait -------------------------------------------------------------------- */

/* Of a caller that has ended while this one stood in no list. */
static void free_left(const struct knit_caller *caller, struct knit_bound *bound)
{
    struct knit_router *router = caller->router;

    knit_dues_remove(&router->bound_dues, &bound->due);
    knit_kept_count(caller, -bound->size);
    router->waiting--;
    KNIT_COUNT(router->turn, references_over);
    free(bound);
}

/* One that stands in no list. */
static void free_bound(struct knit_references *references, struct knit_bound *bound)
{
    for (uint32_t i = 0; i < bound->count; i++) {
        bound->hole[i].kept->holes--;
        knit_kept_free_if_unused(references, bound->hole[i].kept);
    }
    references->bytes -= bound->size;
    free_left(references->caller, bound);
}

/* It ends without having been a call. */
static void end(struct knit_references *references, struct knit_bound *bound,
    const struct knit_failure *failure)
{
    struct knit_caller *caller = references->caller;
    uint32_t msgid = bound->message.msgid;

    knit_bound_leave_list(references, bound);
    (void)knit_in_flight_remove(&caller->calls, msgid);
    free_bound(references, bound);
    knit_references_note_failure(caller, msgid, failure);
    caller->ops->refuse(caller, msgid, failure);
    if (caller->references != NULL)
        knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
}

static void end_code(
    struct knit_references *references, struct knit_bound *bound, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    failure.started = KNIT_STARTED_NO;
    end(references, bound, &failure);
}

/* ---- putting results in place -------------------------------------------------------------- */

/* The root of a chain of failures is the cause of each: so errors do not grow along it. */
static void fail_by(struct knit_references *references, struct knit_bound *bound, uint32_t index,
    const struct knit_kept *why)
{
    struct knit_failure failure, root;
    struct knit_buffer copy;
    char text[400];

    knit_buffer_init(&copy, KNIT_MESSAGE_BYTES_MAX);
    if (knit_buffer_append(&copy, why->bytes.bytes, why->bytes.len) != 0 ||
        knit_failure_decode(knit_buffer_span(&copy), &root) != 0)
        root = knit_failure(KNIT_INTERNAL, "not enough memory");
    (void)snprintf(text, sizeof(text), "argument %u, the result of request %u, has failed: %.*s",
        index + 1, why->msgid, (int)knit_text_cut(root.message.bytes, root.message.len, 256),
        (const char *)root.message.bytes);
    failure = knit_failure(KNIT_DEPENDENCY, text);
    failure.cause = root.code == KNIT_DEPENDENCY && root.cause.bytes != NULL
                        ? root.cause
                        : knit_buffer_span(&copy);
    end(references, bound, &failure);
    knit_buffer_fini(&copy);
}

/* Of all results; too large before they are, for a short request may name large ones. */
static bool fits(const struct knit_bound *bound, size_t most)
{
    for (uint32_t i = 0; i < bound->count; i++) {
        if (bound->hole[i].kept->bytes.len > most)
            return false;
        most -= bound->hole[i].kept->bytes.len;
    }
    return true;
}

/* The params as they are sent. Returns 0, KNIT_WRITER_E_*, -ENOMEM. */
static int fill(const struct knit_bound *bound, struct knit_buffer *params)
{
    struct knit_writer writer;
    struct knit_walk walk;
    struct knit_item item;
    uint32_t hole = 0;

    if (!fits(bound, params->max))
        return KNIT_WRITER_E_FULL;
    knit_writer_init(&writer, params);
    if (knit_walk_array(&walk, bound->message.params) != 0)
        return KNIT_WRITER_E_RAW;
    knit_writer_array(&writer, (uint32_t)walk.left);
    for (uint32_t i = 0; knit_walk_next(&walk, &item) == 0; i++) {
        const struct knit_span value = hole < bound->count && bound->hole[hole].index == i
                                           ? knit_buffer_span(&bound->hole[hole++].kept->bytes)
                                           : item.raw;

        knit_writer_value(&writer, value.bytes, value.len);
    }
    return knit_writer_end(&writer);
}

static void refuse_filled(struct knit_references *references, struct knit_bound *bound, int r)
{
    if (r < 0)
        end_code(references, bound, KNIT_INTERNAL, "not enough memory for the arguments");
    else if (r == KNIT_WRITER_E_TOO_DEEP)
        end_code(
            references, bound, KNIT_TOO_DEEP, "with their results the arguments nest too deep");
    else if (r == KNIT_WRITER_E_FULL)
        end_code(references, bound, KNIT_TOO_LARGE,
            "with their results the arguments are larger than is allowed (call_max_bytes)");
    else
        end_code(references, bound, KNIT_BAD_ARGUMENT, knit_writer_reason(r));
}

/* With its results it is a call like others. False: there is no room for it, or its caller has
 * ended. */
static bool publish(
    struct knit_references *references, struct knit_bound *bound, const struct knit_buffer *params)
{
    struct knit_caller *caller = references->caller;
    struct knit_message message = bound->message;
    bool had_waited = caller->has_waited, is_done;

    message.params = knit_buffer_span(params);
    knit_bound_leave_list(references, bound);
    (void)knit_in_flight_remove(&caller->calls, message.msgid);
    caller->has_waited = true;
    is_done = knit_router_route(caller, &message, bound->since_ns);
    caller->has_waited = had_waited;
    if (caller->references == NULL) {
        free_left(caller, bound);
        return false;
    }
    if (is_done) {
        free_bound(references, bound);
        return true;
    }
    TAILQ_INSERT_HEAD(&references->ready, bound, entry);
    if (knit_in_flight_add(&caller->calls, message.msgid, KNIT_SLOT_BOUND) != 0)
        caller->ops->close_without_memory(caller);
    return false;
}

/* One that is ready. The same. */
static bool bring(struct knit_references *references, struct knit_bound *bound)
{
    struct knit_buffer params;
    bool is_done = true;
    int r;

    for (uint32_t i = 0; i < bound->count; i++) {
        if (!bound->hole[i].kept->is_done || !bound->hole[i].kept->is_error)
            continue;
        fail_by(references, bound, bound->hole[i].index, bound->hole[i].kept);
        return true;
    }
    knit_buffer_init(&params, references->caller->turn->settings->call_max_bytes);
    r = fill(bound, &params);
    if (r != 0)
        refuse_filled(references, bound, r);
    else
        is_done = publish(references, bound, &params);
    knit_buffer_fini(&params);
    return is_done;
}

/* What is left when its time is over goes on in the next turn. */
static void bring_until(struct knit_caller *caller, uint64_t until_ns)
{
    struct knit_bound *bound;

    while (
        caller->references != NULL && (bound = TAILQ_FIRST(&caller->references->ready)) != NULL) {
        if (knit_clock_ns() >= until_ns) {
            knit_references_make_due(caller->references);
            return;
        }
        if (!bring(caller->references, bound))
            return;
    }
}

void knit_references_resume(struct knit_caller *caller)
{
    bring_until(caller, knit_clock_ns() + TURN_NS);
}

/* By turns: who is not ready when the time is over comes after the others. */
void knit_references_run(struct knit_router *router)
{
    const uint64_t until_ns = knit_clock_ns() + TURN_NS;
    struct knit_references *references;

    while (
        (references = TAILQ_FIRST(&router->due_references)) != NULL && knit_clock_ns() < until_ns) {
        TAILQ_REMOVE(&router->due_references, references, in_due);
        references->is_due = false;
        bring_until(references->caller, until_ns);
    }
}

/* ---- requests that come -------------------------------------------------------------------- */

#define NO_ROOM "there is no room to keep the request until its arguments are there"

/* What of it refers to other calls. */
struct found {
    uint32_t count;
    uint32_t index[KNIT_REFERENCES_MAX];
    uint32_t msgid[KNIT_REFERENCES_MAX];
};

/* Returns NULL, or why it is refused. */
static const char *find_references(const struct knit_message *message, struct found *ret)
{
    struct knit_walk walk;
    struct knit_item item;
    struct knit_head head;

    ret->count = 0;
    if (knit_walk_array(&walk, message->params) != 0)
        return NULL;
    for (uint32_t i = 0; knit_walk_next(&walk, &item) == 0; i++) {
        if (item.head.type != KNIT_HEAD_EXT || item.head.ext != KNIT_EXT_RESULT)
            continue;
        if (knit_head_read(item.body.bytes, item.body.len, &head) != 0 ||
            head.type != KNIT_HEAD_UINT || head.size != item.body.len || head.value > UINT32_MAX)
            return "a reference to a result is the msgid of a request";
        if (ret->count == KNIT_REFERENCES_MAX)
            return "a call refers to the results of 16 others at most";
        ret->index[ret->count] = i;
        ret->msgid[ret->count++] = (uint32_t)head.value;
    }
    return NULL;
}

/* The outcome that is meant; NULL: there is none, or no room for it. */
static struct knit_kept *find_meant(
    struct knit_references *references, uint32_t msgid, bool *ret_is_there)
{
    struct knit_caller *caller = references->caller;
    struct knit_kept *kept;
    uint32_t slot;

    *ret_is_there = knit_in_flight_find(&caller->calls, msgid, &slot);
    if (*ret_is_there) {
        if (slot != KNIT_SLOT_BOUND && slot != KNIT_SLOT_KEYED)
            caller->router->records[slot].extras |= KNIT_RECORD_SOURCE;
        return knit_kept_expect(references, msgid);
    }
    kept = knit_kept_find(references, msgid, true);
    if (kept == NULL || kept->uses == 0)
        return NULL;
    kept->uses--;
    return kept;
}

static void copy_span(uint8_t **at, struct knit_span *span)
{
    if (span->bytes == NULL || span->len == 0)
        return;
    memcpy(*at, span->bytes, span->len);
    span->bytes = *at;
    *at += span->len;
}

/* NULL: no memory, or too much is kept. */
static struct knit_bound *copy_request(
    struct knit_references *references, const struct knit_message *message)
{
    const size_t size = sizeof(struct knit_bound) + message->method.name.len + message->params.len +
                        message->options.len;
    struct knit_bound *bound;
    uint8_t *at;

    if (!knit_kept_charge(references, size))
        return NULL;
    bound = malloc(size);
    if (bound == NULL) {
        knit_kept_uncharge(references, size);
        return NULL;
    }
    *bound = (struct knit_bound){.references = references, .message = *message, .size = size};
    at = bound->bytes;
    copy_span(&at, &bound->message.method.name);
    copy_span(&at, &bound->message.params);
    copy_span(&at, &bound->message.options);
    references->caller->router->waiting++;
    KNIT_COUNT(references->caller->turn, references_bound);
    TAILQ_INSERT_TAIL(&references->waiting, bound, entry);
    return bound;
}

void knit_references_keep_its_own(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_options options;
    const char *reason;

    if (message->options.bytes != NULL &&
        knit_options_decode(message->options, &options, &reason) == 0 &&
        options.keep != KNIT_OPTION_NONE && options.keep != 0)
        knit_references_keep(caller, message->msgid, options.keep);
}

static void refuse_unknown(
    struct knit_references *references, struct knit_bound *bound, uint32_t index, uint32_t msgid)
{
    struct knit_failure failure;
    char text[128];

    (void)snprintf(text, sizeof(text),
        "argument %u refers to request %u, which is not in flight and not kept", index + 1, msgid);
    failure = knit_failure(KNIT_DEPENDENCY, text);
    failure.unknown = msgid;
    end(references, bound, &failure);
}

/* In order. False: one of them is to nothing, and the request has ended. */
static bool bind_all(
    struct knit_references *references, struct knit_bound *bound, const struct found *found)
{
    struct knit_kept *kept;
    bool is_there;

    for (uint32_t i = 0; i < found->count; i++) {
        kept = find_meant(references, found->msgid[i], &is_there);
        if (kept == NULL) {
            knit_references_keep_its_own(references->caller, &bound->message);
            if (is_there)
                end_code(references, bound, KNIT_QUOTA, NO_ROOM);
            else
                refuse_unknown(references, bound, found->index[i], found->msgid[i]);
            return false;
        }
        kept->holes++;
        bound->hole[bound->count].index = found->index[i];
        bound->hole[bound->count++].kept = kept;
        bound->missing += !kept->is_done;
    }
    return true;
}

/* False: no memory. */
static bool watch_deadline(struct knit_references *references, struct knit_bound *bound)
{
    struct knit_router *router = references->caller->router;

    if (bound->due.ns == 0 || bound->due.ns == UINT64_MAX)
        return true;
    if (bound->due.ns < router->next_ns)
        router->next_ns = bound->due.ns;
    return knit_dues_add(&router->bound_dues, &bound->due) == 0;
}

/* It is neither refused nor one of a msgid in use. */
static void take(struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns,
    const struct found *found)
{
    struct knit_references *references = knit_kept_begin(caller);
    struct knit_outlook outlook;
    struct knit_bound *bound;
    bool is_kept;

    bound = references != NULL ? copy_request(references, message) : NULL;
    if (bound == NULL) {
        knit_refuse_with(caller, message, KNIT_QUOTA, NO_ROOM);
        return;
    }
    bound->since_ns = since_ns;
    bound->priority = knit_router_priority(message, &is_kept);
    knit_router_look(caller, message, since_ns, &outlook);
    bound->due.ns = outlook.due_ns;
    bound->has_late = outlook.has_late;
    if (!bind_all(references, bound, found))
        return;
    if (knit_in_flight_add(&caller->calls, message->msgid, KNIT_SLOT_BOUND) != 0) {
        caller->ops->close_without_memory(caller);
        return;
    }
    if (is_kept)
        knit_references_keep_its_own(caller, message);
    if (bound->missing > 0 && bound->due.ns == 0) {
        end_code(references, bound, KNIT_OVERLOADED, "an argument of the call is not there yet");
        return;
    }
    if (!watch_deadline(references, bound)) {
        end_code(references, bound, KNIT_INTERNAL, "not enough memory for the call's deadline");
        return;
    }
    for (uint32_t i = 0; i < bound->count && !bound->is_ready; i++)
        if (bound->missing == 0 || (bound->hole[i].kept->is_done && bound->hole[i].kept->is_error))
            knit_bound_make_ready(references, bound);
    knit_references_resume(caller);
}

enum knit_router_verdict knit_references_call(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns)
{
    enum knit_router_verdict verdict;
    const char *reason;
    struct found found;

    /* A notification has none: its worker refuses what looks like one. */
    if (message->kind != KNIT_MESSAGE_REQUEST)
        return knit_router_call(caller, message, since_ns);
    reason = find_references(message, &found);
    if (reason == NULL && found.count == 0)
        return knit_router_call(caller, message, since_ns);
    if (knit_reports_are_on(caller->router))
        knit_reports_begin(caller, message, since_ns);
    if (!knit_router_admits(caller, message, since_ns, &verdict))
        return verdict;
    KNIT_COUNT(caller->turn, requests);
    if (reason != NULL)
        knit_refuse_with(caller, message, KNIT_BAD_ARGUMENT, reason);
    else
        take(caller, message, since_ns, &found);
    return KNIT_ROUTER_DONE;
}

/* ---- ends ---------------------------------------------------------------------------------- */

static struct knit_bound *find_bound(struct knit_references *references, uint32_t msgid)
{
    struct knit_bound *bound;

    TAILQ_FOREACH(bound, &references->waiting, entry)
    {
        if (bound->message.msgid == msgid)
            return bound;
    }
    TAILQ_FOREACH(bound, &references->ready, entry)
    {
        if (bound->message.msgid == msgid)
            return bound;
    }
    return NULL;
}

void knit_references_cancel(struct knit_caller *caller, uint32_t msgid, struct knit_span reason)
{
    struct knit_bound *bound =
        caller->references != NULL ? find_bound(caller->references, msgid) : NULL;
    struct knit_failure failure;

    if (bound == NULL)
        return;
    failure = knit_cancel_failure(reason);
    failure.started = KNIT_STARTED_NO;
    end(caller->references, bound, &failure);
}

/* Its caller gets what it has said. */
static void time_out(struct knit_references *references, struct knit_bound *bound)
{
    struct knit_caller *caller = references->caller;
    struct knit_message message = bound->message;

    KNIT_COUNT(caller->turn, calls_timed_out);
    if (!bound->has_late) {
        end_code(references, bound, KNIT_TIMEOUT,
            bound->is_ready ? KNIT_ROUTER_WAITED
                            : "the call waited for its arguments for as long as it may");
        return;
    }
    knit_bound_leave_list(references, bound);
    (void)knit_in_flight_remove(&caller->calls, message.msgid);
    knit_router_time_out(caller, &message);
    if (caller->references == NULL) {
        free_left(caller, bound);
        return;
    }
    free_bound(references, bound);
    knit_caller_unpause(caller, KNIT_PAUSE_IN_FLIGHT);
}

static struct knit_bound *bound_of(struct knit_due *due)
{
    return (struct knit_bound *)(void *)((char *)due - offsetof(struct knit_bound, due));
}

static void expire_bound(struct knit_router *router, uint64_t until_ns)
{
    struct knit_dues *dues = &router->bound_dues;

    while (knit_dues_next_ns(dues) <= router->turn->now_ns && knit_clock_ns() < until_ns) {
        struct knit_bound *bound = bound_of(knit_dues_first(dues));

        time_out(bound->references, bound);
    }
    if (knit_dues_next_ns(dues) < router->next_ns)
        router->next_ns = knit_dues_next_ns(dues);
}

static void expire_kept(struct knit_router *router, uint64_t until_ns)
{
    struct knit_kept *kept;

    while ((kept = TAILQ_FIRST(&router->kept_until)) != NULL &&
           kept->until_ns <= router->turn->now_ns && knit_clock_ns() < until_ns)
        knit_kept_end_uses(kept);
    if (kept != NULL && kept->until_ns < router->next_ns)
        router->next_ns = kept->until_ns;
}

/* What is left when the time is over is due in the next turn. */
void knit_references_expire(struct knit_router *router)
{
    const uint64_t until_ns = knit_clock_ns() + TURN_NS;

    expire_bound(router, until_ns);
    expire_kept(router, until_ns);
}

static struct knit_bound *first(const struct knit_references *references)
{
    struct knit_bound *bound = TAILQ_FIRST(&references->ready);

    return bound != NULL ? bound : TAILQ_FIRST(&references->waiting);
}

void knit_references_give_up(struct knit_router *router)
{
    struct knit_references *references, *next;

    for (references = TAILQ_FIRST(&router->references); references != NULL; references = next) {
        struct knit_caller *caller = references->caller;
        struct knit_bound *bound;

        next = TAILQ_NEXT(references, in_router);
        while (caller->references != NULL && (bound = first(references)) != NULL)
            end_code(references, bound, KNIT_SHUTDOWN, "the pool is shut down");
    }
}

void knit_references_forget(struct knit_caller *caller)
{
    struct knit_references *references = caller->references;
    struct knit_bound *bound;
    struct knit_kept *kept;

    if (references == NULL)
        return;
    while ((bound = first(references)) != NULL) {
        knit_bound_leave_list(references, bound);
        free_bound(references, bound);
    }
    while ((kept = LIST_FIRST(&references->kept)) != NULL)
        knit_kept_free(references, kept);
    if (references->is_due)
        TAILQ_REMOVE(&caller->router->due_references, references, in_due);
    TAILQ_REMOVE(&caller->router->references, references, in_router);
    caller->references = NULL;
    free(references);
}
