/* SPDX-License-Identifier: Apache-2.0 */
/* Handles: where they come from, how they get their one outcome, where they go.
 *
 * They are cut from chunks that live as long as the session, so starting a call allocates nothing
 * once a session is warm, and knit_close() finds every one. Deadlines are not sorted: the session
 * keeps a lower bound of them all and looks through the list only when that has passed, which for
 * calls that end in time means hardly ever.
 */
#include "clients/lib/client.h"

#include <stdlib.h>
#include <string.h>

static struct knit_handle *grow(struct knit *k)
{
    struct knit_handle_chunk *chunk = calloc(1, sizeof(*chunk));

    if (chunk == NULL)
        return NULL;
    chunk->next = k->chunks;
    k->chunks = chunk;
    for (int i = 0; i < KNIT_HANDLES_CHUNK; i++) {
        chunk->handle[i].k = k;
        TAILQ_INSERT_TAIL(&k->spare, &chunk->handle[i], entry);
    }
    return TAILQ_FIRST(&k->spare);
}

struct knit_handle *knit_handle_new(struct knit *k)
{
    struct knit_handle *handle = TAILQ_FIRST(&k->spare);

    if (handle == NULL)
        handle = grow(k);
    if (handle == NULL)
        return NULL;
    TAILQ_REMOVE(&k->spare, handle, entry);
    handle->state = KNIT_HANDLE_WAITING;
    handle->via = KNIT_VIA_NOTHING;
    handle->is_timed = handle->is_ready = handle->is_held = handle->is_error =
        handle->is_cancelled = false;
    handle->code = 0;
    handle->deadline_ns = 0;
    handle->start_by_ns = UINT64_MAX;
    handle->signature = NULL;
    handle->on_done = NULL;
    handle->heap = NULL;
    handle->outcome = knit_span(NULL, 0);
    return handle;
}

void knit_handle_set_deadline(struct knit_handle *handle, uint64_t deadline_ns)
{
    struct knit *k = handle->k;

    handle->deadline_ns = deadline_ns;
    handle->is_timed = true;
    TAILQ_INSERT_TAIL(&k->timed, handle, entry);
    if (deadline_ns != 0 && deadline_ns < k->next_deadline_ns)
        k->next_deadline_ns = deadline_ns;
    if (handle->start_by_ns < k->next_deadline_ns)
        k->next_deadline_ns = handle->start_by_ns;
}

static void leave_lists(struct knit_handle *handle)
{
    struct knit *k = handle->k;

    if (handle->is_timed)
        TAILQ_REMOVE(&k->timed, handle, entry);
    if (handle->is_ready)
        TAILQ_REMOVE(&k->ready, handle, entry);
    handle->is_timed = handle->is_ready = false;
}

static void end(struct knit_handle *handle, bool is_error)
{
    leave_lists(handle);
    handle->state = KNIT_HANDLE_DONE;
    handle->is_error = is_error;
    if (handle->on_done != NULL) {
        handle->is_ready = true;
        TAILQ_INSERT_TAIL(&handle->k->ready, handle, entry);
    }
}

void knit_handle_fail(
    struct knit_handle *handle, int code, enum knit_started started, const char *reason)
{
    handle->code = code;
    handle->started = (uint8_t)started;
    handle->reason = reason;
    end(handle, true);
}

void knit_handle_finish(struct knit_handle *handle, bool is_error, const void *bytes, size_t len)
{
    void *place = handle->answer.body;

    if (len > sizeof(handle->answer.body)) {
        place = handle->heap = malloc(len);
        if (place == NULL) {
            knit_handle_fail(
                handle, KNIT_INTERNAL, KNIT_STARTED_YES, "not enough memory to keep the outcome");
            return;
        }
    }
    memcpy(place, bytes, len);
    handle->outcome = knit_span(place, len);
    end(handle, is_error);
}

void knit_handle_finish_in_place(
    struct knit_handle *handle, bool is_error, struct knit_span outcome, bool is_held)
{
    handle->is_held = is_held;
    handle->outcome = outcome;
    end(handle, is_error);
}

/* ---- answers by stream ---- */

static void on_answer(void *user, bool is_error, struct knit_span outcome, void *heap)
{
    struct knit_handle *handle = user;

    if (heap == NULL) {
        knit_handle_finish(handle, is_error, outcome.bytes, outcome.len);
        return;
    }
    handle->heap = heap;
    handle->outcome = outcome;
    end(handle, is_error);
}

static void on_broken(void *user, enum knit_started started, const char *reason)
{
    knit_handle_fail(user, KNIT_DISCONNECTED, started, reason);
}

const struct knit_stream_callbacks knit_handle_stream_callbacks = {
    .on_answer = on_answer,
    .on_broken = on_broken,
};

/* ---- the end of waiting ---- */

/* True: the server has seen nothing of the request and never will. */
static bool withdraw_request(struct knit_handle *handle)
{
    struct knit_stream *stream = &handle->k->stream;

    if (knit_stream_take_back(stream, handle->slot))
        return true;
    (void)knit_stream_cancel(stream, handle->slot);
    knit_stream_forget(stream, handle->slot);
    return false;
}

/* In a forked child only the child's memory is freed: lanes and stream are the parent's. */
void knit_handle_drop(struct knit_handle *handle)
{
    struct knit *k = handle->k;
    bool is_ours = *k->alive != 0;

    if (handle->state == KNIT_HANDLE_FREE)
        return;
    if (handle->state == KNIT_HANDLE_WAITING && is_ours) {
        if (handle->via == KNIT_VIA_STREAM) {
            (void)withdraw_request(handle);
        } else if (handle->via == KNIT_VIA_LANES) {
            knit_lanes_forget(k->lanes, handle);
        }
    }
    if (handle->is_held && is_ours)
        knit_lanes_release(k->lanes, handle);
    leave_lists(handle);
    if (handle->lent != NULL)
        knit_lent_free(&handle->lent);
    if (handle->heap != NULL)
        free(handle->heap);
    handle->heap = NULL;
    handle->state = KNIT_HANDLE_FREE;
    TAILQ_INSERT_HEAD(&k->spare, handle, entry);
}

static void expire(struct knit_handle *handle, uint64_t now_ns)
{
    const char *reason = "the call's timeout has passed";
    struct knit *k = handle->k;
    enum knit_started started = KNIT_STARTED_UNKNOWN;

    if (handle->via == KNIT_VIA_LANES) {
        if (handle->deadline_ns == 0 || now_ns < handle->deadline_ns) {
            reason = "the call waited in the queue for as long as it may";
            if (knit_lanes_has_started(k->lanes, handle)) {
                handle->start_by_ns = UINT64_MAX;
                return;
            }
        }
        if (knit_lanes_settle(k->lanes, handle, &started))
            knit_handle_fail(handle, KNIT_TIMEOUT, started, reason);
        return;
    }
    if (withdraw_request(handle))
        started = KNIT_STARTED_NO;
    knit_handle_fail(handle, KNIT_TIMEOUT, started, reason);
}

/* When something is due: the end of the call, or of its time in the queue.
 * The daemon's own TIMEOUT says more than the library can know of a call that went by the stream;
 * it gets a little time to arrive. */
static uint64_t due_ns(const struct knit_handle *handle)
{
    uint64_t grace_ns =
        handle->via == KNIT_VIA_STREAM ? (uint64_t)KNIT_STREAM_GRACE_MS * 1000000 : 0;
    uint64_t at_ns = handle->deadline_ns != 0 ? handle->deadline_ns + grace_ns : UINT64_MAX;

    return handle->start_by_ns < at_ns ? handle->start_by_ns : at_ns;
}

void knit_handle_expire(struct knit *k, uint64_t now_ns)
{
    struct knit_handle *handle, *next;
    uint64_t next_deadline_ns = UINT64_MAX;

    if (now_ns < k->next_deadline_ns)
        return;
    for (handle = TAILQ_FIRST(&k->timed); handle != NULL; handle = next) {
        uint64_t at_ns = due_ns(handle);

        next = TAILQ_NEXT(handle, entry);
        if (now_ns >= at_ns) {
            expire(handle, now_ns);
            at_ns = handle->state == KNIT_HANDLE_WAITING ? due_ns(handle) : 0;
        }
        if (now_ns < at_ns && at_ns < next_deadline_ns)
            next_deadline_ns = at_ns;
    }
    k->next_deadline_ns = next_deadline_ns;
}

int knit_handle_outcome(
    struct knit_handle *handle, struct knit_error *ret_error, struct knit_span *ret_result)
{
    if (handle->state == KNIT_HANDLE_WAITING)
        return KNIT_PENDING;
    if (!handle->is_error) {
        *ret_result = handle->outcome;
        return KNIT_OK;
    }
    if (handle->code != 0)
        return knit_error_make(
            ret_error, handle->code, (enum knit_started)handle->started, "%s", handle->reason);
    return knit_error_read(&handle->k->error, handle->outcome, ret_error);
}

void knit_handles_fini(struct knit *k)
{
    struct knit_handle_chunk *chunk, *next;

    for (chunk = k->chunks; chunk != NULL; chunk = next) {
        next = chunk->next;
        for (int i = 0; i < KNIT_HANDLES_CHUNK; i++) {
            knit_lent_free(&chunk->handle[i].lent);
            free(chunk->handle[i].heap);
        }
        free(chunk);
    }
    k->chunks = NULL;
}
