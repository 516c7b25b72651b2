/* SPDX-License-Identifier: Apache-2.0 */
/* Calls with arguments that are handles: from the end of a source to the start of the call. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/choose.h"
#include "clients/lib/handle_inline.h"
#include "clients/lib/lost.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "proto/failure.h"
#include "proto/limits.h"
#include "proto/walk.h"
#include "proto/writer.h"

enum {
    PARAMS_MAX = 1024 * 1024 * 1024,
    REFERENCES_MAX = 16, /* of a call, as PROTOCOL.md has it */
};

/* ---- life ---- */

/* With the last hole its source is like any other handle; one that its caller has freed goes when
 * the list of those is gone through. */
static void leave_hole(struct knit_hole *hole)
{
    struct knit_handle *source = hole->source;
    struct knit_promises *promises;

    if (source == NULL)
        return;
    hole->source = NULL;
    LIST_REMOVE(hole, entry);
    if (!LIST_EMPTY(&source->holes))
        return;
    source->flags &= ~(uint32_t)KNIT_HANDLE_SOURCE;
    if ((source->flags & KNIT_HANDLE_DISOWNED) == 0)
        return;
    promises = &source->handles->promises;
    source->next_spare = promises->unwanted;
    promises->unwanted = source;
}

static void leave_holes(struct knit_promise *promise)
{
    for (uint32_t i = 0; i < promise->count; i++)
        leave_hole(&promise->holes[i]);
}

static void enter_hole(struct knit_hole *hole, struct knit_handle *source)
{
    struct knit_promise *promise = hole->promise;

    if ((source->flags & KNIT_HANDLE_SOURCE) == 0)
        LIST_INIT(&source->holes);
    source->flags |= KNIT_HANDLE_SOURCE;
    LIST_INSERT_HEAD(&source->holes, hole, entry);
    hole->source = source;
    promise->missing += (source->flags & KNIT_HANDLE_WAITING) != 0;
    promise->has_failed |= (source->flags & KNIT_HANDLE_ERROR) != 0;
}

struct knit_promise *knit_promise_new(struct knit_span params, struct knit_handle *const *sources,
    const uint32_t *indexes, uint32_t count)
{
    struct knit_promise *promise = calloc(1, sizeof(*promise) + count * sizeof(promise->holes[0]));

    if (promise == NULL)
        return NULL;
    promise->options = knit_options();
    knit_buffer_init(&promise->params, PARAMS_MAX);
    knit_buffer_init(&promise->texts, PARAMS_MAX);
    if (knit_buffer_append(&promise->params, params.bytes, params.len) != 0) {
        knit_promise_free(promise);
        return NULL;
    }
    promise->count = count;
    for (uint32_t i = 0; i < count; i++) {
        promise->holes[i] = (struct knit_hole){.promise = promise, .index = indexes[i]};
        enter_hole(&promise->holes[i], sources[i]);
    }
    return promise;
}

static void leave_list(struct knit_promise *promise)
{
    if (promise->in != NULL)
        TAILQ_REMOVE(promise->in, promise, entry);
    promise->in = NULL;
}

static void enter_list(struct knit_promise *promise, struct knit_promise_list *list)
{
    leave_list(promise);
    TAILQ_INSERT_TAIL(list, promise, entry);
    promise->in = list;
}

void knit_promise_free(struct knit_promise *promise)
{
    if (promise == NULL)
        return;
    leave_list(promise);
    leave_holes(promise);
    knit_buffer_fini(&promise->params);
    knit_buffer_fini(&promise->texts);
    free(promise);
}

/* Of those that the daemon is asked only once: queue_max was looked at, and the end of the timeout
 * is the handle's. */
bool knit_promise_take_options(struct knit_promise *promise, const struct knit_options *options)
{
    struct knit_buffer *texts = &promise->texts;

    promise->options = *options;
    promise->options.queue_max = KNIT_OPTION_NONE;
    promise->options.substitute = (struct knit_substitute){0};
    knit_buffer_reset(texts);
    if (knit_buffer_append(texts, options->key.bytes, options->key.len) != 0 ||
        knit_buffer_append(texts, options->trace.bytes, options->trace.len) != 0)
        return false;
    if (options->key.bytes != NULL)
        promise->options.key = knit_span(texts->bytes, options->key.len);
    if (options->trace.bytes != NULL)
        promise->options.trace = knit_span(texts->bytes + options->key.len, options->trace.len);
    return true;
}

/* ---- waiting ---- */

/* Until then it waits for nothing else. */
static void delay(struct knit_promise *promise)
{
    struct knit_handles *handles = promise->handle->handles;

    enter_list(promise, &handles->promises.delayed);
    if (promise->due_ns < handles->next_deadline_ns)
        handles->next_deadline_ns = promise->due_ns;
}

uint64_t knit_promises_expire(struct knit_promises *promises, uint64_t now_ns)
{
    struct knit_promise *promise, *next;
    uint64_t next_ns = UINT64_MAX;

    for (promise = TAILQ_FIRST(&promises->delayed); promise != NULL; promise = next) {
        next = TAILQ_NEXT(promise, entry);
        if (promise->due_ns <= now_ns)
            enter_list(promise, &promises->due);
        else if (promise->due_ns < next_ns)
            next_ns = promise->due_ns;
    }
    return next_ns;
}

static void note(struct knit_promise *promise)
{
    if (promise->due_ns != 0 && promise->in == NULL) {
        delay(promise);
        return;
    }
    if (promise->in == NULL && promise->handle != NULL && !knit_promise_is_open(promise))
        enter_list(promise, &promise->handle->handles->promises.due);
}

void knit_promise_wait(struct knit_promise *promise, struct knit_handle *handle)
{
    promise->handle = handle;
    handle->promise = promise;
    handle->flags |= KNIT_HANDLE_PROMISED;
    handle->handles->promises.count++;
    note(promise);
}

/* Its place is there for others that wait at the server. */
static void give_place(struct knit_promise *promise, struct knit_stream *stream)
{
    if (promise->has_place)
        knit_stream_remove_place(stream);
    promise->has_place = false;
}

static void stop_referring(struct knit_handle *handle)
{
    handle->flags &= ~(uint32_t)KNIT_HANDLE_REFERRING;
    handle->handles->promises.referring--;
    give_place(handle->promise, handle->stream);
}

void knit_promise_end(struct knit_handle *handle)
{
    if ((handle->flags & KNIT_HANDLE_REFERRING) != 0)
        stop_referring(handle);
    else
        handle->handles->promises.count--;
    if (handle->promise->is_shelved) {
        handle->handles->promises.shelved--;
        handle->handles->promises.shelved_bytes -= handle->promise->params.len;
        handle->promise->is_shelved = false;
    }
    handle->flags &= ~(uint32_t)KNIT_HANDLE_PROMISED;
    knit_promise_free(handle->promise);
}

void knit_promises_note(struct knit_handle *source)
{
    struct knit_hole *hole;

    LIST_FOREACH(hole, &source->holes, entry)
    {
        hole->promise->missing--;
        hole->promise->has_failed |= (source->flags & KNIT_HANDLE_ERROR) != 0;
        note(hole->promise);
    }
}

/* Nobody hears of it any more. */
void knit_handle_disown(struct knit_handle *source)
{
    if ((source->flags & KNIT_HANDLE_DISOWNED) != 0)
        return;
    knit_handle_set_callback(source, NULL, NULL);
    knit_handle_set_progress(source, NULL, NULL);
    source->flags |= KNIT_HANDLE_DISOWNED;
}

/* ---- results in place of holes ---- */

/* What lies in a lane can change while it is read: it is copied first. Returns 0 with *copy, to be
 * freed, or -ENOMEM. */
static int copy_held(const struct knit_handle *source, struct knit_span *outcome, void **copy)
{
    *copy = NULL;
    if ((source->flags & KNIT_HANDLE_HELD) == 0)
        return 0;
    *copy = malloc(outcome->len);
    if (*copy == NULL)
        return -ENOMEM;
    memcpy(*copy, outcome->bytes, outcome->len);
    outcome->bytes = *copy;
    return 0;
}

/* As its caller gets it. Returns 0, -ENOMEM, -EINVAL. */
static int put_result(struct knit_writer *writer, struct knit_handle *source)
{
    struct knit_span result = knit_span(NULL, 0);
    void *copy;

    if (knit_handle_outcome(source, NULL, &result) != KNIT_OK)
        return -EINVAL;
    if (copy_held(source, &result, &copy) != 0)
        return -ENOMEM;
    knit_writer_value(writer, result.bytes, result.len);
    free(copy);
    return 0;
}

/* A reference, where the source is in flight. */
static int put_argument(struct knit_writer *writer, struct knit_handle *source)
{
    if ((source->flags & KNIT_HANDLE_WAITING) == 0)
        return put_result(writer, source);
    knit_writer_reference(writer, knit_stream_msgid(source->stream, source->slot));
    return 0;
}

/* The arguments as they are sent. Returns 0, KNIT_WRITER_E_*, -ENOMEM, -EINVAL. */
static int write_params(struct knit_promise *promise, struct knit_buffer *params)
{
    struct knit_hole *hole = promise->holes, *end = hole + promise->count;
    struct knit_writer writer;
    struct knit_item item;
    struct knit_walk walk;
    int r = 0, error;

    if (knit_walk_array(&walk, knit_buffer_span(&promise->params)) != 0)
        return -EINVAL;
    knit_writer_init(&writer, params);
    knit_writer_array(&writer, (uint32_t)walk.left);
    for (uint32_t i = 0; r == 0 && knit_walk_next(&walk, &item) == 0; i++) {
        if (hole < end && hole->index == i)
            r = put_argument(&writer, (hole++)->source);
        else
            knit_writer_value(&writer, item.raw.bytes, item.raw.len);
    }
    error = knit_writer_end(&writer);
    return r != 0 ? r : error;
}

/* ---- failing ---- */

/* Append the error, in full, that an outcome is. */
static void put_cause(struct knit_buffer *cause, const struct knit_handle *source)
{
    struct knit_span outcome = source->outcome;
    struct knit_failure failure;
    void *copy;

    if (source->code == 0) {
        if (copy_held(source, &outcome, &copy) == 0)
            (void)knit_failure_convert(cause, outcome, KNIT_FAILURE_FULL);
        free(copy);
        return;
    }
    failure = knit_failure((uint32_t)source->code, source->reason);
    failure.started = (enum knit_started)source->started;
    failure.origin = KNIT_ORIGIN_CLIENT;
    (void)knit_failure_put(cause, &failure, KNIT_FAILURE_FULL);
}

/* Of a chain the cause is the error with which it began: so each has all that is known, and errors
 * do not grow with the chain. */
static void fail_by(struct knit_handle *handle, const struct knit_hole *hole)
{
    const struct knit_handle *source = hole->source;
    struct knit_failure failure, why;
    struct knit_buffer cause;
    char text[512];

    knit_buffer_init(&cause, PARAMS_MAX);
    put_cause(&cause, source);
    if (knit_failure_decode(knit_buffer_span(&cause), &why) != 0)
        why = knit_failure(KNIT_INTERNAL, "not enough memory");
    (void)snprintf(text, sizeof(text), "argument %u, the result of '%.128s', has failed: %.*s",
        hole->index + 1, source->prepared->task, why.message.len < 256 ? (int)why.message.len : 256,
        (const char *)why.message.bytes);
    failure = knit_failure(KNIT_DEPENDENCY, text);
    failure.origin = KNIT_ORIGIN_CLIENT;
    failure.cause = why.code == KNIT_DEPENDENCY && why.cause.bytes != NULL
                        ? why.cause
                        : knit_buffer_span(&cause);
    knit_handle_fail_with(handle, &failure, "an argument has failed");
    knit_buffer_fini(&cause);
}

static bool fail_if_one_has(struct knit_promise *promise, struct knit_handle *handle)
{
    const uint32_t failed = KNIT_HANDLE_DONE | KNIT_HANDLE_ERROR;

    for (uint32_t i = 0; promise->has_failed && i < promise->count; i++) {
        if ((promise->holes[i].source->flags & failed) != failed)
            continue;
        fail_by(handle, &promise->holes[i]);
        return true;
    }
    return false;
}

bool knit_promise_fill(struct knit_promise *promise, struct knit_handle *handle)
{
    struct knit_buffer params;
    int r;

    if (promise->count == 0)
        return true;
    if (fail_if_one_has(promise, handle))
        return false;
    knit_buffer_init(&params, PARAMS_MAX);
    r = write_params(promise, &params);
    if (r == 0) {
        knit_buffer_fini(&promise->params);
        promise->params = params;
        leave_holes(promise);
        return true;
    }
    knit_buffer_fini(&params);
    if (r < 0)
        knit_handle_fail(handle, KNIT_INTERNAL, KNIT_STARTED_NO,
            r == -ENOMEM ? "not enough memory for the arguments" : "a result cannot be read");
    else if (r == KNIT_WRITER_E_TOO_DEEP)
        knit_handle_fail(
            handle, KNIT_TOO_DEEP, KNIT_STARTED_NO, "with its results the arguments nest too deep");
    else if (r == KNIT_WRITER_E_FULL)
        knit_handle_fail(handle, KNIT_TOO_LARGE, KNIT_STARTED_NO,
            "with its results the arguments are too large");
    else
        knit_handle_fail(handle, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "the result of another call is not one well-formed value");
    return false;
}

/* ---- starting ---- */

/* What is left of a time that ends then. */
static uint64_t left_ns(uint64_t end_ns, uint64_t now_ns)
{
    if (end_ns == 0 || end_ns == UINT64_MAX)
        return KNIT_OPTION_NONE;
    return end_ns > now_ns ? end_ns - now_ns : 0;
}

static int start_on_stream(
    struct knit_handle *handle, struct knit_promise *promise, struct knit_span params)
{
    struct knit_options *options = &promise->options;
    const uint64_t now_ns =
        handle->deadline_ns != 0 || handle->start_by_ns != UINT64_MAX ? knit_clock_ns() : 0;
    const char *reason;

    options->timeout_ns = left_ns(handle->deadline_ns, now_ns);
    options->queue_ns = left_ns(handle->start_by_ns, now_ns);
    if ((handle->flags & KNIT_HANDLE_LATE) != 0 &&
        knit_substitute_decode(handle->late, &options->substitute, NULL, &reason) != 0)
        options->substitute = (struct knit_substitute){0};
    if (options->key.bytes != NULL)
        knit_handles_note_key(handle->handles, options->key);
    return knit_handle_start_on_stream(
        handle, handle->prepared->task, params, knit_options_is_empty(options) ? NULL : options);
}

/* By the number that the task has now; of one that is not listed the daemon says why. */
static int start_on_lanes(struct knit_handle *handle, struct knit_promise *promise)
{
    struct knit_lanes *lanes = handle->handles->lanes;
    const struct knit_prepared *prepared = handle->prepared;
    const struct knit_span params = knit_buffer_span(&promise->params);
    const struct knit_registry_task *task =
        prepared->is_of_protocol ? NULL : knit_lanes_look_up(lanes, prepared->task);

    if (task != NULL)
        return knit_handle_start_here(handle, task->id, params, false);
    if (knit_lanes_local(lanes) != NULL || prepared->typed != NULL)
        return KNIT_STALE_EPOCH;
    promise->options.output = (handle->flags & KNIT_HANDLE_OUTPUT) != 0;
    promise->options.progress = (handle->flags & KNIT_HANDLE_WATCHED) != 0;
    return start_on_stream(handle, promise, params);
}

static const char *explain(const struct knit_handle *handle, int code)
{
    switch (code) {
    case KNIT_TOO_LARGE:
        return "with its results the arguments are larger than is allowed (call_max_bytes)";
    case KNIT_STALE_EPOCH:
        return "the tasks have changed while the call waited";
    case KNIT_DRAINING:
        return "the server is shutting down";
    case KNIT_SHUTDOWN:
        return "the pool is shut down";
    case KNIT_DISCONNECTED:
        return knit_handles_has_lease(handle->handles)
                   ? "the pool has closed this session"
                   : knit_handles_keep_reason(handle->handles, handle->handles->stream->reason);
    default:
        return "not enough memory to start the call";
    }
}

/* Its key is known by one run of the server alone, and that is not there any more. */
static bool is_stranded(const struct knit_handle *handle)
{
    return (handle->flags & KNIT_HANDLE_RETRIED) != 0 && handle->retry->instance != 0 &&
           handle->retry->instance != handle->handles->stream->instance;
}

/* By lanes nobody else asks for the limit of a call that is made again. It counts itself. */
static bool is_beyond(const struct knit_handle *handle)
{
    const struct knit_options *options = &handle->promise->options;

    return handle->handles->lanes != NULL && options->queue_max != KNIT_OPTION_NONE &&
           knit_handles_in_flight(handle->handles) > options->queue_max;
}

/* Its arguments are there. False: there is no room for it. */
static bool start(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;
    struct knit_promise *promise = handle->promise;
    const bool is_local = knit_lanes_local(handles->lanes) != NULL;
    int code;

    if (handles->several != NULL)
        knit_handles_choose_again(handle);
    if (handles->returns && (!knit_handles_has_lease(handles) || knit_handles_is_leaving(handles)))
        return false;
    if (knit_handles_has_lease(handles) && is_stranded(handle)) {
        if (knit_retry_waits_for_instance(handle)) {
            delay(promise);
            return true;
        }
        handle->retry->attempts = UINT32_MAX;
        knit_handle_fail(handle, KNIT_DISCONNECTED, KNIT_STARTED_UNKNOWN,
            "the server was another one when the connection was there again");
        return true;
    }
    if (is_beyond(handle)) {
        knit_handle_overload(handle, promise->options.queue_max, 1);
        return true;
    }
    code = handles->lanes != NULL && promise->options.key.bytes == NULL
               ? start_on_lanes(handle, promise)
               : start_on_stream(handle, promise, knit_buffer_span(&promise->params));
    if (code == KNIT_WOULD_BLOCK && knit_handles_has_lease(handles))
        return false;
    if (code == KNIT_WOULD_BLOCK || code == KNIT_DISCONNECTED)
        code = knit_handles_has_lease(handles) ? KNIT_DISCONNECTED : handles->lost_code;
    if (is_local && (code == KNIT_DRAINING || code == KNIT_DISCONNECTED))
        code = KNIT_SHUTDOWN;
    if (code != KNIT_OK) {
        knit_handle_fail(handle, code, KNIT_STARTED_NO, explain(handle, code));
        return true;
    }
    knit_promise_end(handle);
    /* From now on the daemon sees to that. */
    if (knit_handle_via(handle) == KNIT_VIA_STREAM)
        handle->start_by_ns = UINT64_MAX;
    return true;
}

/* What is freed may be the last that needs another. */
static void drop_unwanted(struct knit_handles *handles)
{
    struct knit_promises *promises = &handles->promises;
    struct knit_handle *handle;

    while ((handle = promises->unwanted) != NULL) {
        promises->unwanted = handle->next_spare;
        knit_handle_drop(handle);
    }
}

static void start_those_of(struct knit_promise_list *list)
{
    struct knit_promise *promise;

    while ((promise = TAILQ_FIRST(list)) != NULL && start(promise->handle))
        ;
}

/* Where it waits for room. */
static struct knit_promise_list *list_for(
    struct knit_promises *promises, const struct knit_promise *promise)
{
    return promises->keys != NULL && promise->options.key.bytes != NULL ? &promises->keyed
                                                                        : &promises->blocked;
}

void knit_promises_run(struct knit_handles *handles)
{
    struct knit_promises *promises = &handles->promises;
    struct knit_promise *promise;

    start_those_of(&promises->keyed);
    start_those_of(&promises->blocked);
    while ((promise = TAILQ_FIRST(&promises->due)) != NULL) {
        struct knit_promise_list *list = list_for(promises, promise);

        if (!knit_promise_fill(promise, promise->handle))
            continue;
        if (!TAILQ_EMPTY(list) || !start(promise->handle))
            enter_list(promise, list);
    }
    drop_unwanted(handles);
}

/* ---- references ---- */

/* Whether each source that has no outcome is in flight on the same connection, and these are not
 * too many. */
static bool may_refer(const struct knit_promise *promise, const struct knit_handle *handle)
{
    const struct knit_handles *handles = handle->handles;
    uint32_t count = 0;

    if (!handles->stream->takes_references || handles->lanes != NULL ||
        handle->prepared->is_of_protocol)
        return false;
    for (uint32_t i = 0; i < promise->count; i++) {
        const struct knit_handle *source = promise->holes[i].source;

        if ((source->flags & KNIT_HANDLE_WAITING) == 0)
            continue;
        if (knit_handle_via(source) != KNIT_VIA_STREAM || source->stream != handles->stream ||
            source->prepared->is_of_protocol || ++count > REFERENCES_MAX)
            return false;
    }
    return true;
}

static bool send_references(struct knit_promise *promise, struct knit_handle *handle)
{
    struct knit_buffer params;
    bool is_sent;

    knit_buffer_init(&params, PARAMS_MAX);
    is_sent = write_params(promise, &params) == 0 &&
              start_on_stream(handle, promise, knit_buffer_span(&params)) == KNIT_OK;
    knit_buffer_fini(&params);
    return is_sent;
}

bool knit_promise_refer(struct knit_promise *promise, struct knit_handle *handle)
{
    struct knit_stream *stream = handle->handles->stream;

    if (!may_refer(promise, handle))
        return false;
    promise->has_place = knit_stream_add_place(stream);
    if (!promise->has_place && !knit_stream_is_idle_by_half(stream))
        return false;
    if (!send_references(promise, handle)) {
        give_place(promise, stream);
        return false;
    }
    /* From now on the daemon sees to that. */
    promise->start_by_ns = handle->start_by_ns;
    handle->start_by_ns = UINT64_MAX;
    handle->promise = promise;
    handle->flags |= KNIT_HANDLE_REFERRING;
    handle->handles->promises.referring++;
    return true;
}

/* QUOTA is said of room that the library needs none of. */
bool knit_promise_is_refused(const struct knit_handle *handle)
{
    struct knit_failure failure;

    return (handle->flags & KNIT_HANDLE_ERROR) != 0 && handle->code == 0 &&
           knit_failure_decode(handle->outcome, &failure) == 0 &&
           failure.started == KNIT_STARTED_NO &&
           (failure.code == KNIT_DEPENDENCY || failure.code == KNIT_QUOTA);
}

void knit_promise_wait_again(struct knit_handle *handle)
{
    const uint32_t over = KNIT_HANDLE_DONE | KNIT_HANDLE_ERROR | KNIT_HANDLE_HEAP;
    struct knit_promise *promise = handle->promise;

    stop_referring(handle);
    if ((handle->flags & KNIT_HANDLE_HEAP) != 0)
        free(handle->heap);
    handle->flags &= ~(over | (uint32_t)KNIT_HANDLE_BY_STREAM);
    handle->flags |= KNIT_HANDLE_WAITING;
    handle->start_by_ns = promise->start_by_ns;
    if (handle->deadline_ns != 0 || handle->start_by_ns != UINT64_MAX)
        knit_handle_set_deadline(handle, handle->deadline_ns);
    knit_promise_wait(promise, handle);
    /* Its caller did not wait for that. */
    if ((handle->flags & KNIT_HANDLE_CANCELLED) != 0)
        knit_handle_cancel(handle);
}
