/* SPDX-License-Identifier: Apache-2.0 */
/* Handles are cut from chunks that live as long as the session, so starting a call allocates
 * nothing once a session is warm, and closing it finds every one. Deadlines are not sorted: a lower
 * bound of them all is kept, and the list is looked through only when that has passed, which for
 * calls that end in time is hardly ever.
 */
#include "clients/lib/handle.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/error.h"
#include "clients/lib/lost.h"
#include "clients/lib/members.h"
#include "fastpath/worker/inliner.h"
#include "proto/cancel.h"
#include "proto/failure.h"
#include "proto/limits.h"
#include "proto/printed.h"

enum {
    HANDLES_CHUNK = 64,
    COLLECT_MAX = 16,
    ERROR_BYTES_MAX = 16 * 1024 * 1024,
};

#define TIMEOUT_PASSED "the call's timeout has passed"
#define CANCELLED      "the call was cancelled by its caller"

struct knit_handle_chunk {
    struct knit_handle_chunk *next;
    struct knit_handle handle[HANDLES_CHUNK];
};

/* ---- life ---- */

void knit_handles_init(struct knit_handles *handles, struct knit *session, const uint8_t *alive)
{
    *handles = (struct knit_handles){.session = session,
        .alive = alive,
        .next_deadline_ns = UINT64_MAX,
        .stream = &handles->lost,
        .lost_code = KNIT_DISCONNECTED};
    knit_transport_init_plain(&handles->lost.transport, -1);
    TAILQ_INIT(&handles->timed);
    TAILQ_INIT(&handles->ready);
    TAILQ_INIT(&handles->fresh);
    TAILQ_INIT(&handles->sets);
    knit_promises_init(&handles->promises);
    knit_buffer_init(&handles->error, ERROR_BYTES_MAX);
}

/* While all sources are there still. */
static void end_promises(struct knit_handles *handles)
{
    struct knit_handle_chunk *chunk;

    for (chunk = handles->chunks; knit_promises_has_any(&handles->promises) && chunk != NULL;
         chunk = chunk->next)
        for (int i = 0; i < HANDLES_CHUNK; i++)
            if ((chunk->handle[i].flags & (KNIT_HANDLE_PROMISED | KNIT_HANDLE_REFERRING)) != 0)
                knit_promise_end(&chunk->handle[i]);
}

void knit_handles_fini(struct knit_handles *handles)
{
    struct knit_handle_chunk *chunk, *next;

    while (!TAILQ_EMPTY(&handles->sets))
        knit_handle_set_free(TAILQ_FIRST(&handles->sets));
    end_promises(handles);
    for (chunk = handles->chunks; chunk != NULL; chunk = next) {
        next = chunk->next;
        for (int i = 0; i < HANDLES_CHUNK; i++) {
            knit_aligned_copies_free(&chunk->handle[i].aligned_copies);
            if ((chunk->handle[i].flags & KNIT_HANDLE_HEAP) != 0)
                free(chunk->handle[i].heap);
            if ((chunk->handle[i].flags & KNIT_HANDLE_WATCHED) != 0)
                (void)knit_watcher_free(chunk->handle[i].watcher, &handles->fresh);
            if ((chunk->handle[i].flags & KNIT_HANDLE_LATE) != 0)
                free((void *)chunk->handle[i].late.bytes);
            if ((chunk->handle[i].flags & KNIT_HANDLE_RETRIED) != 0)
                knit_retry_forget(&chunk->handle[i]);
        }
        free(chunk);
    }
    handles->chunks = NULL;
    knit_handles_free_reasons(handles);
    knit_buffer_fini(&handles->error);
}

struct knit_handle *knit_handles_grow(struct knit_handles *handles)
{
    struct knit_handle_chunk *chunk = calloc(1, sizeof(*chunk));

    if (chunk == NULL)
        return NULL;
    chunk->next = handles->chunks;
    handles->chunks = chunk;
    for (int i = HANDLES_CHUNK; i-- > 0;) {
        chunk->handle[i].handles = handles;
        chunk->handle[i].next_spare = handles->spare;
        handles->spare = &chunk->handle[i];
    }
    return handles->spare;
}

/* ---- starting ---- */

int knit_handle_start_on_stream(struct knit_handle *handle, const char *method,
    struct knit_span params, const struct knit_options *options)
{
    int code =
        knit_stream_start(handle->handles->stream, method, params, options, handle, &handle->slot);

    if (code == KNIT_OK) {
        handle->flags |= KNIT_HANDLE_BY_STREAM;
        handle->stream = handle->handles->stream;
    }
    return code;
}

static enum knit_ring ring_of(const struct knit_handle *handle)
{
    return (handle->flags & KNIT_HANDLE_PINNED) != 0       ? KNIT_RING_PINNED
           : (handle->flags & KNIT_HANDLE_URGENT) != 0     ? KNIT_RING_URGENT
           : (handle->flags & KNIT_HANDLE_BACKGROUND) != 0 ? KNIT_RING_BACKGROUND
                                                           : KNIT_RING_NORMAL;
}

int knit_handle_start_on_lanes(
    struct knit_handle *handle, uint32_t task, struct knit_span params, bool at_once)
{
    struct knit_session_call call = {.task = task,
        .deadline_ns = handle->deadline_ns,
        .lane = KNIT_LANE_ANY,
        .ring = ring_of(handle),
        .payload = params.bytes,
        .len = params.len,
        .user = handle};
    struct knit_trace trace;
    int code;

    if (call.ring == KNIT_RING_PINNED)
        call.lane = knit_lanes_place(handle->handles->lanes, handle->affinity);

    /* A cell has one deadline, the earlier of the two. The session checks both as well. */
    if (handle->start_by_ns != UINT64_MAX &&
        (call.deadline_ns == 0 || handle->start_by_ns < call.deadline_ns)) {
        call.deadline_ns = handle->start_by_ns;
        call.flags = KNIT_CELL_START_BY;
        handle->flags |= KNIT_HANDLE_QUEUE;
    }
    if ((handle->flags & KNIT_HANDLE_OUTPUT) != 0)
        call.flags |= KNIT_CELL_OUTPUT;
    if ((handle->flags & KNIT_HANDLE_WATCHED) != 0)
        call.flags |= KNIT_CELL_PROGRESS;
    if ((handle->flags & KNIT_HANDLE_TRACED) != 0 &&
        knit_trace_parse(knit_span(handle->trace, KNIT_TRACE_BYTES), &trace)) {
        call.flags |= KNIT_CELL_TRACED;
        call.trace = &trace;
    }
    code = knit_lanes_start(handle->handles->lanes, &call, at_once, &handle->slot);

    if (code == KNIT_OK)
        handle->flags |= KNIT_HANDLE_BY_LANES;
    return code;
}

bool knit_handle_watch(struct knit_handle *handle)
{
    handle->watcher = knit_watcher_new(handle);
    if (handle->watcher == NULL)
        return false;
    handle->flags |= KNIT_HANDLE_WATCHED;
    return true;
}

void knit_handle_set_progress(struct knit_handle *handle,
    void (*on_progress)(
        struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user),
    void *user)
{
    if ((handle->flags & KNIT_HANDLE_WATCHED) != 0)
        knit_watcher_set_callback(handle->watcher, &handle->handles->fresh, on_progress, user);
}

void knit_handle_set_deadline(struct knit_handle *handle, uint64_t deadline_ns)
{
    struct knit_handles *handles = handle->handles;

    handle->deadline_ns = deadline_ns;
    handle->flags |= KNIT_HANDLE_TIMED;
    TAILQ_INSERT_TAIL(&handles->timed, handle, entry);
    if (deadline_ns != 0 && deadline_ns < handles->next_deadline_ns)
        handles->next_deadline_ns = deadline_ns;
    if (handle->start_by_ns < handles->next_deadline_ns)
        handles->next_deadline_ns = handle->start_by_ns;
}

void knit_handle_set_callback(
    struct knit_handle *handle, void (*on_done)(struct knit_handle *handle, void *user), void *user)
{
    struct knit_handle_list *ready = &handle->handles->ready;

    if ((handle->flags & KNIT_HANDLE_IN_SET) != 0)
        knit_handle_leave_set(handle);
    handle->on_done = on_done;
    handle->user = user;
    handle->flags &= ~(uint32_t)KNIT_HANDLE_CALLBACK;
    if (on_done != NULL)
        handle->flags |= KNIT_HANDLE_CALLBACK;
    if ((handle->flags & KNIT_HANDLE_READY) != 0 && on_done == NULL) {
        TAILQ_REMOVE(ready, handle, entry);
        handle->flags &= ~(uint32_t)KNIT_HANDLE_READY;
    } else if ((handle->flags & (KNIT_HANDLE_DONE | KNIT_HANDLE_READY)) == KNIT_HANDLE_DONE &&
               on_done != NULL) {
        TAILQ_INSERT_TAIL(ready, handle, entry);
        handle->flags |= KNIT_HANDLE_READY;
    }
}

void knit_handle_take_ready(struct knit_handle *handle)
{
    TAILQ_REMOVE(&handle->handles->ready, handle, entry);
    handle->flags &= ~(uint32_t)(KNIT_HANDLE_READY | KNIT_HANDLE_CALLBACK);
}

void knit_handle_cancel(struct knit_handle *handle)
{
    handle->flags |= KNIT_HANDLE_CANCELLED;
    if ((handle->flags & KNIT_HANDLE_PROMISED) != 0)
        knit_handle_fail(handle, KNIT_CANCELLED, KNIT_STARTED_NO, CANCELLED);
    else if ((handle->flags & KNIT_HANDLE_BY_LANES) != 0)
        knit_lanes_cancel(handle->handles->lanes, handle->slot);
    else if ((handle->flags & KNIT_HANDLE_BY_INLINER) != 0)
        knit_inliner_cancel(handle->handles->inliner, handle->slot);
    else if ((handle->flags & KNIT_HANDLE_REFERRING) != 0 &&
             knit_stream_take_back(handle->stream, handle->slot))
        knit_handle_fail(handle, KNIT_CANCELLED, KNIT_STARTED_NO, CANCELLED);
    else
        (void)knit_stream_cancel(handle->stream, handle->slot, knit_span(NULL, 0));
}

/* ---- outcomes ---- */

void knit_handle_leave_lists(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;

    if ((handle->flags & KNIT_HANDLE_TIMED) != 0)
        TAILQ_REMOVE(&handles->timed, handle, entry);
    if ((handle->flags & KNIT_HANDLE_READY) != 0)
        TAILQ_REMOVE(&handles->ready, handle, entry);
    handle->flags &= ~(uint32_t)(KNIT_HANDLE_TIMED | KNIT_HANDLE_READY);
}

/* To who wants to know that it is done. */
static void announce(struct knit_handle *handle)
{
    if ((handle->flags & KNIT_HANDLE_RETRIED) != 0 && knit_retry_again(handle))
        return;
    /* What an error has to say of earlier attempts stays. */
    if ((handle->flags & KNIT_HANDLE_RETRIED) != 0 && !handle->retry->may_have_started)
        knit_retry_forget(handle);
    if ((handle->flags & KNIT_HANDLE_REFERRING) != 0 && knit_promise_is_refused(handle)) {
        knit_promise_wait_again(handle);
        return;
    }
    if ((handle->flags & (KNIT_HANDLE_PROMISED | KNIT_HANDLE_REFERRING)) != 0)
        knit_promise_end(handle);
    if ((handle->flags & KNIT_HANDLE_SOURCE) != 0)
        knit_promises_note(handle);
    if ((handle->flags & (KNIT_HANDLE_CALLBACK | KNIT_HANDLE_IN_SET)) == 0)
        return;
    if ((handle->flags & KNIT_HANDLE_IN_SET) != 0) {
        knit_handle_finish_in_set(handle);
        return;
    }
    handle->flags |= KNIT_HANDLE_READY;
    TAILQ_INSERT_TAIL(&handle->handles->ready, handle, entry);
}

static void uncount(struct knit_handle *handle)
{
    if ((handle->flags & KNIT_HANDLE_COUNTED) == 0)
        return;
    handle->flags &= ~(uint32_t)KNIT_HANDLE_COUNTED;
    knit_inliner_uncount(handle->handles->inliner, handle->prepared->task_id);
}

/* flags: what is said of the outcome. */
static void end(struct knit_handle *handle, uint32_t flags)
{
    const uint32_t told = KNIT_HANDLE_CALLBACK | KNIT_HANDLE_IN_SET | KNIT_HANDLE_SOURCE |
                          KNIT_HANDLE_PROMISED | KNIT_HANDLE_REFERRING | KNIT_HANDLE_RETRIED;

    knit_handle_leave_lists(handle);
    uncount(handle);
    handle->flags = (handle->flags & ~(uint32_t)KNIT_HANDLE_WAITING) | KNIT_HANDLE_DONE | flags;
    if ((handle->flags & told) != 0)
        announce(handle);
}

void knit_handle_fail(
    struct knit_handle *handle, int code, enum knit_started started, const char *reason)
{
    handle->code = code;
    handle->started = (uint8_t)started;
    handle->reason = reason;
    end(handle, KNIT_HANDLE_ERROR);
}

/* An outcome that came; whether it is an error, and the flags of its place. */
static void finish_at(
    struct knit_handle *handle, bool is_error, struct knit_span outcome, uint32_t place)
{
    handle->code = 0;
    handle->outcome = outcome;
    end(handle, place | (is_error ? KNIT_HANDLE_ERROR : 0));
}

void knit_handle_finish_copied(struct knit_handle *handle, bool is_error, struct knit_span outcome)
{
    bool is_small = outcome.len <= sizeof(handle->body);
    void *place = is_small ? handle->body : malloc(outcome.len);

    if (place == NULL) {
        knit_handle_fail(
            handle, KNIT_INTERNAL, KNIT_STARTED_YES, "not enough memory to keep the outcome");
        return;
    }
    memcpy(place, outcome.bytes, outcome.len);
    handle->heap = place;
    finish_at(handle, is_error, knit_span(place, outcome.len), is_small ? 0 : KNIT_HANDLE_HEAP);
}

/* What the last of several attempts says of itself is not true of all of them. */
static void tell_of_attempts(const struct knit_handle *handle, struct knit_error *ret_error)
{
    if ((handle->flags & KNIT_HANDLE_RETRIED) != 0 && handle->retry->may_have_started &&
        ret_error != NULL && ret_error->started == KNIT_STARTED_NO)
        ret_error->started = KNIT_STARTED_UNKNOWN;
}

int knit_handle_outcome(
    struct knit_handle *handle, struct knit_error *ret_error, struct knit_span *ret_result)
{
    int code;

    bool is_error = (handle->flags & KNIT_HANDLE_ERROR) != 0;

    if ((handle->flags & KNIT_HANDLE_WAITING) != 0)
        return KNIT_PENDING;
    if (!is_error && (handle->flags & KNIT_HANDLE_OUTPUT) != 0) {
        struct knit_span output;

        if (knit_printed_split(handle->outcome, ret_result, &output) != 0)
            return knit_error_make(ret_error, KNIT_BAD_RESULT, KNIT_STARTED_YES,
                "the pool does not know the option output");
        return KNIT_OK;
    }
    if (!is_error) {
        *ret_result = handle->outcome;
        return KNIT_OK;
    }
    code = handle->code != 0 ? knit_error_make(ret_error, handle->code,
                                   (enum knit_started)handle->started, "%s", handle->reason)
                             : knit_error_read(&handle->handles->error, handle->outcome, ret_error);
    tell_of_attempts(handle, ret_error);
    if (handle->prepared != NULL)
        knit_error_set_task(ret_error, handle->prepared->task);
    return code;
}

bool knit_handle_output(struct knit_handle *handle, struct knit_span *ret_text, bool *ret_is_cut)
{
    const uint32_t wanted = KNIT_HANDLE_DONE | KNIT_HANDLE_OUTPUT;
    struct knit_span output = {NULL, 0}, result;
    struct knit_failure failure;

    if ((handle->flags & wanted) != wanted)
        return false;
    if ((handle->flags & KNIT_HANDLE_ERROR) == 0)
        return knit_printed_split(handle->outcome, &result, &output) == 0 &&
               knit_printed_read(output, ret_text, ret_is_cut) == 0;
    return handle->code == 0 && knit_failure_decode(handle->outcome, &failure) == 0 &&
           failure.output.bytes != NULL &&
           knit_printed_read(failure.output, ret_text, ret_is_cut) == 0;
}

/* ---- outcomes that come by stream ---- */

static void on_answer(void *user, bool is_error, struct knit_span outcome, void *heap)
{
    struct knit_handle *handle = user;

    if (heap == NULL) {
        knit_handle_finish_copied(handle, is_error, outcome);
        return;
    }
    handle->heap = heap;
    finish_at(handle, is_error, outcome, KNIT_HANDLE_HEAP);
}

static void on_broken(void *user, enum knit_started started, const char *reason)
{
    struct knit_handle *handle = user;

    if (started == KNIT_STARTED_NO && knit_handle_wait_for_another(handle))
        return;
    knit_handle_fail(
        handle, KNIT_DISCONNECTED, started, knit_handles_keep_reason(handle->handles, reason));
}

static void on_progress(void *user, const struct knit_progress *progress)
{
    struct knit_handle *handle = user;

    if ((handle->flags & KNIT_HANDLE_WATCHED) != 0)
        knit_watcher_note(
            handle->watcher, &handle->handles->fresh, progress->value, progress->count);
}

const struct knit_stream_callbacks knit_handle_stream_callbacks = {
    .on_answer = on_answer,
    .on_progress = on_progress,
    .on_broken = on_broken,
};

/* ---- outcomes that come through lanes ---- */

static void on_value(void *arg, const struct knit_session_value *value)
{
    struct knit_handles *handles = arg;
    struct knit_handle *handle = value->user;

    knit_watcher_note(handle->watcher, &handles->fresh,
        knit_span(value->emitted.body, value->emitted.len), value->emitted.count);
}

void knit_handles_take_values(struct knit_handles *handles)
{
    knit_session_take_values(handles->lanes->session, on_value, handles);
}

/* Its outcome has come, and what it emitted last is still there. */
static __attribute__((noinline)) void take_last_value(struct knit_handle *handle, uint32_t slot)
{
    struct knit_session_value value;

    if (!knit_session_last_value(handle->handles->lanes->session, slot, &value))
        return;
    value.user = handle;
    on_value(handle->handles, &value);
}

/* A worker found the timeout over. True: the call has something else than TIMEOUT, and got it. */
static __attribute__((noinline)) bool finish_late(
    struct knit_handle *handle, const struct knit_session_outcome *outcome)
{
    struct knit_span error = knit_span(outcome->payload, outcome->len);
    enum knit_started started = KNIT_STARTED_YES;
    struct knit_failure failure;

    if (outcome->status == KNIT_STATUS_RESULT || (handle->flags & KNIT_HANDLE_QUEUE) != 0 ||
        knit_failure_code(error) != KNIT_TIMEOUT)
        return false;
    /* A long one has what the task printed, and lies where others can write. */
    if (!outcome->held && knit_failure_decode(error, &failure) == 0)
        started = failure.started;
    knit_handle_time_out(handle, started, TIMEOUT_PASSED);
    if (outcome->held)
        knit_lanes_release(handle->handles->lanes, outcome->slot);
    return true;
}

static void finish(struct knit_handle *handle, const struct knit_session_outcome *outcome)
{
    struct knit_lanes *lanes = handle->handles->lanes;
    bool is_error = outcome->status != KNIT_STATUS_RESULT;
    struct knit_span payload = knit_span(outcome->payload, outcome->len);

    if ((handle->flags & KNIT_HANDLE_WATCHED) != 0)
        take_last_value(handle, outcome->slot);
    if ((handle->flags & KNIT_HANDLE_LATE) != 0 && finish_late(handle, outcome))
        return;
    /* Before it has the outcome, by which it may begin anew. */
    if (is_error)
        knit_lanes_note_error(lanes, payload);
    if (outcome->held && (handle->flags & KNIT_HANDLE_SOURCE) == 0 &&
        knit_lanes_try_hold(lanes, outcome->len)) {
        handle->held_in = lanes;
        finish_at(handle, is_error, payload, KNIT_HANDLE_HELD);
    } else {
        knit_handle_finish_copied(handle, is_error, payload);
        if (outcome->held)
            knit_lanes_release(lanes, outcome->slot);
    }
}

void knit_handles_collect(struct knit_handles *handles)
{
    struct knit_session_outcome outcomes[COLLECT_MAX];
    size_t count;

    do {
        count = knit_lanes_collect(handles->lanes, outcomes, COLLECT_MAX);
        for (size_t i = 0; i < count; i++)
            finish(outcomes[i].user, &outcomes[i]);
    } while (count == COLLECT_MAX);
}

bool knit_handle_collect(struct knit_handle *handle)
{
    struct knit_session_outcome outcome;

    if (knit_handle_try_collect(handle))
        return true;
    if (!knit_lanes_collect_slot(handle->handles->lanes, handle->slot, &outcome))
        return false;
    finish(handle, &outcome);
    return true;
}

void knit_handles_disconnect(struct knit_handles *handles)
{
    knit_handles_collect(handles);
    for (struct knit_handle_chunk *chunk = handles->chunks; chunk != NULL; chunk = chunk->next) {
        for (int i = 0; i < HANDLES_CHUNK; i++)
            knit_handle_disconnect(&chunk->handle[i]);
    }
}

/* ---- the end of waiting ---- */

/* True: the server has seen nothing of the request and never will. */
static bool withdraw_request(struct knit_handle *handle, struct knit_span reason)
{
    struct knit_stream *stream = handle->stream;

    if (knit_stream_take_back(stream, handle->slot))
        return true;
    (void)knit_stream_cancel(stream, handle->slot, reason);
    knit_stream_forget(stream, handle->slot);
    return false;
}

static void withdraw(struct knit_handle *handle)
{
    enum knit_started started;

    if (knit_handle_via(handle) == KNIT_VIA_STREAM)
        (void)withdraw_request(handle, knit_span(NULL, 0));
    else if (knit_handle_via(handle) == KNIT_VIA_INLINER)
        (void)knit_inliner_remove(handle->handles->inliner, handle->slot);
    /* An answer that came first is collected, and given back with the handle. */
    else if (knit_handle_via(handle) == KNIT_VIA_LANES &&
             !knit_lanes_settle(handle->handles->lanes, handle->slot, &started))
        (void)knit_handle_collect(handle);
}

static void release_held(const struct knit_handle *handle)
{
    struct knit_lanes *lanes = handle->held_in;

    knit_lanes_release_held(lanes, handle->slot, handle->outcome.len);
    if (lanes->is_lost && lanes->held == 0)
        knit_handles_sweep_lanes(handle->handles);
}

/* In a forked child only the child's memory is freed: lanes and stream are the parent's. */
void knit_handle_drop(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;
    bool is_ours = *handles->alive != 0;

    if (handle->flags == 0 || knit_handle_try_drop(handle))
        return;
    if ((handle->flags & KNIT_HANDLE_IN_SET) != 0)
        knit_handle_leave_set(handle);
    if ((handle->flags & KNIT_HANDLE_SOURCE) != 0) {
        knit_handle_disown(handle);
        return;
    }
    if ((handle->flags & (KNIT_HANDLE_PROMISED | KNIT_HANDLE_REFERRING)) != 0)
        knit_promise_end(handle);
    if ((handle->flags & KNIT_HANDLE_WAITING) != 0 && is_ours)
        withdraw(handle);
    uncount(handle);
    if ((handle->flags & KNIT_HANDLE_HELD) != 0 && is_ours)
        release_held(handle);
    knit_handle_leave_lists(handle);
    if (handle->aligned_copies != NULL)
        knit_aligned_copies_free(&handle->aligned_copies);
    if ((handle->flags & KNIT_HANDLE_HEAP) != 0)
        free(handle->heap);
    if ((handle->flags & KNIT_HANDLE_WATCHED) != 0)
        (void)knit_watcher_free(handle->watcher, &handles->fresh);
    if ((handle->flags & KNIT_HANDLE_LATE) != 0)
        free((void *)handle->late.bytes);
    if ((handle->flags & KNIT_HANDLE_RETRIED) != 0)
        knit_retry_forget(handle);
    if (handle->prepared != NULL)
        knit_prepared_release(handle->prepared);
    knit_handle_push_spare(handle);
}

void knit_handle_abort(struct knit_handle *handle, struct knit_span reason)
{
    enum knit_started started = KNIT_STARTED_UNKNOWN;
    struct knit_failure failure = knit_cancel_failure(reason);

    if (knit_handle_via(handle) == KNIT_VIA_LANES)
        knit_session_tell(handle->handles->lanes->session, handle->slot, knit_cancel_text(reason));
    if (knit_handle_via(handle) == KNIT_VIA_LANES &&
        !knit_lanes_settle(handle->handles->lanes, handle->slot, &started)) {
        (void)knit_handle_collect(handle);
        return;
    }
    if (knit_handle_via(handle) == KNIT_VIA_INLINER)
        started = knit_inliner_remove(handle->handles->inliner, handle->slot);
    if ((handle->flags & KNIT_HANDLE_PROMISED) != 0 ||
        (knit_handle_via(handle) == KNIT_VIA_STREAM && withdraw_request(handle, reason)))
        started = KNIT_STARTED_NO;
    failure.started = started;
    failure.origin = KNIT_ORIGIN_CLIENT;
    knit_handle_fail_with(handle, &failure, CANCELLED);
}

/* Whether it has not started, and never will. */
static bool is_withdrawn(struct knit_handle *handle)
{
    if (knit_handle_via(handle) == KNIT_VIA_INLINER)
        return knit_inliner_withdraw(handle->handles->inliner, handle->slot);
    return (handle->flags & KNIT_HANDLE_PROMISED) != 0 ||
           knit_lanes_withdraw(handle->handles->lanes, handle->slot);
}

static void expire(struct knit_handle *handle, uint64_t now_ns)
{
    const char *reason = TIMEOUT_PASSED;
    enum knit_started started = KNIT_STARTED_UNKNOWN;

    if (handle->deadline_ns == 0 || now_ns < handle->deadline_ns) {
        handle->start_by_ns = UINT64_MAX;
        if (is_withdrawn(handle))
            knit_handle_fail(handle, KNIT_TIMEOUT, KNIT_STARTED_NO,
                "the call waited in the queue for as long as it may");
        return;
    }
    if (knit_handle_via(handle) == KNIT_VIA_LANES) {
        if (knit_lanes_settle(handle->handles->lanes, handle->slot, &started))
            knit_handle_time_out(handle, started, reason);
        return;
    }
    if (knit_handle_via(handle) == KNIT_VIA_INLINER)
        started = knit_inliner_remove(handle->handles->inliner, handle->slot);
    else if ((handle->flags & KNIT_HANDLE_PROMISED) != 0 ||
             withdraw_request(handle, knit_span(NULL, 0)))
        started = KNIT_STARTED_NO;
    knit_handle_time_out(handle, started, reason);
}

/* When something is due: the end of the call, or of its time in the queue. The daemon's own TIMEOUT
 * says more than the library can know of a call that went by the stream; it gets a little time to
 * arrive. */
static uint64_t due_ns(const struct knit_handle *handle)
{
    uint64_t grace_ns =
        knit_handle_via(handle) == KNIT_VIA_STREAM ? (uint64_t)KNIT_STREAM_GRACE_MS * 1000000 : 0;
    uint64_t at_ns = handle->deadline_ns != 0 ? handle->deadline_ns + grace_ns : UINT64_MAX;

    return handle->start_by_ns < at_ns ? handle->start_by_ns : at_ns;
}

void knit_handles_expire(struct knit_handles *handles, uint64_t now_ns)
{
    struct knit_handle *handle, *next;
    uint64_t next_deadline_ns;

    if (now_ns < handles->next_deadline_ns)
        return;
    next_deadline_ns = knit_promises_expire(&handles->promises, now_ns);
    for (handle = TAILQ_FIRST(&handles->timed); handle != NULL; handle = next) {
        uint64_t at_ns = due_ns(handle);

        next = TAILQ_NEXT(handle, entry);
        if (now_ns >= at_ns) {
            expire(handle, now_ns);
            at_ns = (handle->flags & KNIT_HANDLE_WAITING) != 0 ? due_ns(handle) : 0;
        }
        if (now_ns < at_ns && at_ns < next_deadline_ns)
            next_deadline_ns = at_ns;
    }
    handles->next_deadline_ns = next_deadline_ns;
}
