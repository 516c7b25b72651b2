/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that were started: how each waits, and how it gets its one outcome.
 *
 * A session has a stream, which carries the protocol's own methods ("$/...") and, for knit:// and
 * unix://, its calls too. With shm:// it also has lanes, and calls go through these. Each handle
 * remembers which way its call went; that is all the abstraction two ways need.
 *
 * Life of a handle:
 *     FREE -> WAITING    knit_handle_new()
 *     WAITING -> DONE    once: by an answer, a deadline or a lost connection
 *     any -> FREE        knit_handle_drop(), by the caller
 *
 * It stands in at most one list: `spare` while FREE, `timed` while WAITING with a deadline, `ready`
 * while DONE with a callback to run. Or it is in a set, which has it in place of a callback.
 *
 * One word of flags says all of that, and which of the other members count: those that no flag
 * names hold what the last call left there. So a usual call, which waits without a deadline and
 * ends in a small result, writes and asks little more than this word.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/knitting.h>

#include "clients/lib/handle_flags.h"
#include "clients/lib/lanes.h"
#include "clients/lib/prepared.h"
#include "clients/lib/promise.h"
#include "clients/lib/stream.h"
#include "clients/lib/watcher.h"
#include "proto/buffer.h"
#include "proto/span.h"
#include "proto/substitute.h"

struct knit_handle {
    struct knit_handles *handles;   /* all of its session */
    uint32_t flags;                 /* of enum knit_handle_flag */
    uint32_t slot;                  /* of the lanes' session; place: in a stream, in the inliner */
    struct knit_prepared *prepared; /* what it is a call of; NULL: the protocol's own */
    struct knit_span outcome;       /* DONE: msgpack of the result or the error */
    struct knit_aligned_copy *aligned_copies; /* of elements that lie unaligned in it; or NULL */
    union {
        struct knit_handle *next_spare; /* free */
        size_t place_in_set;            /* in a set: while it waits, */
        struct knit_handle *next_done;  /* and when it is done */
    };
    TAILQ_ENTRY(knit_handle) entry;
    uint64_t deadline_ns; /* 0 = none; this and the next are begin_call()'s, then of TIMED */
    uint64_t start_by_ns; /* through lanes: UINT64_MAX = none, or it has started */
    union {
        void (*on_done)(struct knit_handle *handle, void *user);
        struct knit_set *set;
    };
    void *user;
    union {
        void *heap;                 /* HEAP */
        struct knit_lanes *held_in; /* HELD */
    };
    struct knit_watcher *watcher; /* of what the task emits */
    uint64_t affinity;            /* PINNED */
    struct knit_span late;        /* a map of substitute.h, to be freed */
    struct knit_promise *promise; /* PROMISED, REFERRING: its arguments */
    struct knit_retry *retry;     /* RETRIED: what it was sent with */
    struct knit_stream *stream;   /* BY_STREAM: the connection that it was sent on */
    struct knit_hole_list holes;  /* SOURCE: the arguments that its result is */
    int code;                     /* of an error that the library made; 0: `outcome` has it */
    uint8_t started;
    const char *reason;
    uint64_t body[KNIT_CELL_WORDS];   /* where small outcomes lie */
    char trace[KNIT_TRACE_BYTES + 1]; /* TRACED */
};

TAILQ_HEAD(knit_handle_list, knit_handle);

struct knit_handles {
    struct knit *session;         /* whose they are */
    const uint8_t *alive;         /* 0 in a forked child: stream and lanes are its parent's */
    struct knit_lanes *lanes;     /* NULL: none */
    struct knit_inliner *inliner; /* of a pool of this process; NULL: none */
    struct knit_handle *spare;
    struct knit_handle_list timed, ready;
    struct knit_watcher_list fresh;    /* those with a value for a callback */
    uint64_t next_deadline_ns;         /* no deadline in `timed` is earlier; UINT64_MAX = none */
    struct knit_stream *stream;        /* the one that calls take; or, where there is none: */
    struct knit_stream lost, *several; /* closed, with the reason; all, or NULL: `stream` alone */
    struct knit_lanes *lost_lanes;     /* results are read there still; by `next` */
    struct knit_kept_reason *kept_reasons;
    bool returns, is_leaving;        /* calls wait for another connection; the lanes take no more */
    bool lacks_any, has_local_lease; /* choose.h; by a pool of this process: there is no stream */
    int lost_code;                   /* of what ends with the lease */
    struct knit_handle_chunk *chunks;
    TAILQ_HEAD(, knit_set) sets;
    struct knit_promises promises;
    struct knit_buffer error; /* bytes that the last error's data and details point into */
};

/* Without stream and lanes. alive: read whenever a handle is dropped, so it outlives them. */
void knit_handles_init(struct knit_handles *handles, struct knit *session, const uint8_t *alive);

/* Frees all handles, but neither stream nor lanes. */
void knit_handles_fini(struct knit_handles *handles);

/* How a stream gives handles, which are its requests' users, their outcomes. */
extern const struct knit_stream_callbacks knit_handle_stream_callbacks;

/* The stream is the session's lease too: by its end, daemon and caller learn of each other's. */
static inline bool knit_handles_has_lease(const struct knit_handles *handles)
{
    return knit_stream_is_open(handles->stream) || handles->has_local_lease;
}

static inline enum knit_handle_via knit_handle_via(const struct knit_handle *handle)
{
    return (enum knit_handle_via)(
        handle->flags & (KNIT_HANDLE_BY_STREAM | KNIT_HANDLE_BY_LANES | KNIT_HANDLE_BY_INLINER));
}

/* More spare ones; NULL: out of memory. */
struct knit_handle *knit_handles_grow(struct knit_handles *handles);

/* NULL: out of memory. */
KNIT_ALWAYS_INLINE struct knit_handle *knit_handle_new(struct knit_handles *handles)
{
    struct knit_handle *handle = handles->spare;

    if (handle == NULL)
        handle = knit_handles_grow(handles);
    if (handle == NULL)
        return NULL;
    handles->spare = handle->next_spare;
    handle->flags = KNIT_HANDLE_WAITING;
    handle->prepared = NULL;
    return handle;
}

/* Send the handle's call one way or the other. They return what knit_stream_start() and
 * knit_lanes_start() return. */
KNIT_MUST_CHECK int knit_handle_start_on_stream(struct knit_handle *handle, const char *method,
    struct knit_span params, const struct knit_options *options);
KNIT_MUST_CHECK int knit_handle_start_on_lanes(
    struct knit_handle *handle, uint32_t task, struct knit_span params, bool at_once);

/* knit_handle_start_on_lanes() for a call without deadlines and options; true: KNIT_OK. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_handle_try_start_on_lanes(
    struct knit_handle *handle, struct knit_lanes *lanes, uint64_t head, struct knit_span params)
{
    const struct knit_session_call call = {
        .payload = params.bytes, .len = params.len, .user = handle};

    if (!knit_lanes_try_start(lanes, &call, head, &handle->slot))
        return false;
    handle->flags = KNIT_HANDLE_USUAL_WAITING;
    return true;
}

/* The same for a call whose caller waits at once: it is flushed too. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_handle_try_send_on_lanes(struct knit_handle *handle,
    struct knit_lanes *lanes, uint64_t head, struct knit_span params, unsigned known)
{
    const struct knit_session_call call = {
        .payload = params.bytes, .len = params.len, .user = handle};

    if (!knit_lanes_try_send(lanes, &call, head, known, &handle->slot))
        return false;
    handle->flags = KNIT_HANDLE_USUAL_WAITING;
    return true;
}

/* What the task emits is to be seen; before the start. False: out of memory. */
KNIT_MUST_CHECK bool knit_handle_watch(struct knit_handle *handle);

/* The callback for that; NULL = no more. */
void knit_handle_set_progress(struct knit_handle *handle,
    void (*on_progress)(
        struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user),
    void *user);

/* Note what calls in the lanes have emitted. */
void knit_handles_take_values(struct knit_handles *handles);

/* Watch deadline_ns (0 = none) and start_by_ns. */
void knit_handle_set_deadline(struct knit_handle *handle, uint64_t deadline_ns);

/* on_done is called once the outcome is there; NULL = no more. */
void knit_handle_set_callback(struct knit_handle *handle,
    void (*on_done)(struct knit_handle *handle, void *user), void *user);

/* The callback of one in `ready` is about to be called. */
void knit_handle_take_ready(struct knit_handle *handle);

/* Ask for the end of a call that waits. */
void knit_handle_cancel(struct knit_handle *handle);

/* End one that waits now, with that reason (cancel.h), unless it has been answered. */
void knit_handle_abort(struct knit_handle *handle, struct knit_span reason);

/* Keep what it ends with when its timeout is over. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_handle_keep_late(
    struct knit_handle *handle, const struct knit_substitute *substitute);

/* Give the outcome that it has then. */
void knit_handle_time_out(
    struct knit_handle *handle, enum knit_started started, const char *reason);

/* Calls that have no outcome yet; gives one its outcome for which there are too many others. */
uint32_t knit_handles_in_flight(const struct knit_handles *handles);
void knit_handle_overload(struct knit_handle *handle, uint64_t limit, uint64_t retry_ms);

/* Give it an outcome that is copied. */
void knit_handle_finish_copied(struct knit_handle *handle, bool is_error, struct knit_span outcome);

/* Give the outcome: an error with more to say than the next. reason: its text without memory. */
void knit_handle_fail_with(
    struct knit_handle *handle, const struct knit_failure *failure, const char *reason);

/* Give the outcome: an error of the library's own. `reason` outlives the handle. */
void knit_handle_fail(
    struct knit_handle *handle, int code, enum knit_started started, const char *reason);

/* It is spare from now on. */
KNIT_ALWAYS_INLINE void knit_handle_push_spare(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;

    handle->flags = 0;
    handle->next_spare = handles->spare;
    handles->spare = handle;
}

/* knit_handle_drop() for one with a small result. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_handle_try_drop(struct knit_handle *handle)
{
    if (handle->flags != KNIT_HANDLE_USUAL_DONE || handle->aligned_copies != NULL)
        return false;
    knit_handle_push_spare(handle);
    knit_prepared_release(handle->prepared);
    return true;
}

/* Whether one that ended in a small result can be used for another call of the same prepared call
 * as if it had been dropped and were new. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_handle_is_spent(
    const struct knit_handle *handle, const struct knit_prepared *prepared)
{
    return handle->flags == KNIT_HANDLE_USUAL_DONE && handle->prepared == prepared &&
           handle->aligned_copies == NULL;
}

/* Free it in any state. A call that waits is cancelled, and its answer dropped. */
void knit_handle_drop(struct knit_handle *handle);

/* knit_handle_outcome() of one with a small result. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_handle_try_outcome(
    const struct knit_handle *handle, struct knit_span *ret_result)
{
    if (handle->flags != KNIT_HANDLE_USUAL_DONE)
        return false;
    *ret_result = handle->outcome;
    return true;
}

/* KNIT_OK and the result; KNIT_PENDING; or the error's code. */
KNIT_MUST_CHECK int knit_handle_outcome(
    struct knit_handle *handle, struct knit_error *ret_error, struct knit_span *ret_result);

/* What the task of a handle that is done has printed. False: its outcome has none. */
KNIT_MUST_CHECK bool knit_handle_output(
    struct knit_handle *handle, struct knit_span *ret_text, bool *ret_is_cut);

/* Give handles whose calls were answered through lanes their outcomes. */
void knit_handles_collect(struct knit_handles *handles);

/* knit_handle_collect() of a usual call that waits, if its small result has come. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_handle_try_take(
    struct knit_handle *handle, struct knit_lanes *lanes)
{
    size_t len;

    if (!knit_lanes_try_collect(lanes, handle->slot, handle->body, &len))
        return false;
    handle->outcome = knit_span(handle->body, len);
    handle->flags = KNIT_HANDLE_USUAL_DONE;
    return true;
}

/* The same for any handle. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_handle_try_collect(struct knit_handle *handle)
{
    return handle->flags == KNIT_HANDLE_USUAL_WAITING &&
           knit_handle_try_take(handle, handle->handles->lanes);
}

/* The same for one handle that waits. Whether it is done now. */
bool knit_handle_collect(struct knit_handle *handle);

/* Settle what has expired by now_ns. */
void knit_handles_expire(struct knit_handles *handles, uint64_t now_ns);
