/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that were started: how each waits, and how it gets its one outcome.
 *
 * A session has a stream, which carries the protocol's own methods ("$/...") and, for knit:// and
 * unix://, its calls too. With shm:// it also has lanes, and calls go through these. Each handle
 * remembers which way its call went; that is all the abstraction two ways need.
 *
 * Life of a handle:
 *
 *     FREE -> WAITING    knit_handle_new()
 *     WAITING -> DONE    once: by an answer, a deadline or a lost connection
 *     any -> FREE        knit_handle_drop(), by the caller
 *
 * It stands in at most one list: `spare` while FREE, `timed` while WAITING with a deadline, `ready`
 * while DONE with a callback to run.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/knitting.h>

#include "clients/lib/lanes.h"
#include "clients/lib/prepared.h"
#include "clients/lib/stream.h"
#include "proto/buffer.h"
#include "proto/span.h"

enum {
    /* How long after a deadline a stream's caller still waits for the daemon's own, more exact
       TIMEOUT before the library gives one. */
    KNIT_STREAM_GRACE_MS = 20,
};

enum knit_handle_state { KNIT_HANDLE_FREE, KNIT_HANDLE_WAITING, KNIT_HANDLE_DONE };
enum knit_handle_via { KNIT_VIA_NOTHING, KNIT_VIA_STREAM, KNIT_VIA_LANES };

struct knit_handle {
    struct knit_handles *handles; /* all of its session */
    TAILQ_ENTRY(knit_handle) entry;
    uint8_t state;
    uint8_t via;
    bool is_timed;
    bool is_ready;
    bool is_held; /* the outcome lies in the block of `slot`, which must be released */
    bool is_error;
    bool is_cancelled;
    bool wants_output; /* what the task prints comes with the outcome */
    uint8_t started;   /* of an error the library made */
    int code;          /* of such an error; 0: `outcome` has it, or it is a result */
    const char *reason;
    uint32_t slot;                  /* of the lanes' session, or place in the stream's table */
    uint64_t deadline_ns;           /* 0 = none */
    uint64_t start_by_ns;           /* through lanes: UINT64_MAX = none, or it has started */
    struct knit_prepared *prepared; /* what it is a call of; NULL: the protocol's own */
    void (*on_done)(struct knit_handle *handle, void *user);
    void *user;
    struct knit_span outcome;                 /* msgpack of the result or the error */
    struct knit_aligned_copy *aligned_copies; /* of elements that lie unaligned in `outcome` */
    void *heap;                               /* where the outcome lies, if that must be freed */
    struct knit_session_outcome answer; /* as the lanes gave it; small outcomes lie in its body */
};

TAILQ_HEAD(knit_handle_list, knit_handle);

struct knit_handles {
    struct knit *session; /* whose they are */
    const uint8_t *alive; /* 0 in a forked child: stream and lanes are its parent's */
    struct knit_stream stream;
    struct knit_lanes *lanes; /* NULL: none */

    struct knit_handle_chunk *chunks;
    struct knit_handle_list spare;
    struct knit_handle_list timed;
    struct knit_handle_list ready;
    uint64_t next_deadline_ns; /* no deadline in `timed` is earlier; UINT64_MAX = none */
    struct knit_buffer error;  /* bytes that the last error's data and details point into */
};

/* The stream is for the caller to open, and the lanes to attach. alive: read whenever a handle is
 * dropped, so it outlives them. */
void knit_handles_init(struct knit_handles *handles, struct knit *session, const uint8_t *alive);

/* Frees all handles, but neither stream nor lanes. */
void knit_handles_fini(struct knit_handles *handles);

/* How a stream gives handles, which are its requests' users, their outcomes. */
extern const struct knit_stream_callbacks knit_handle_stream_callbacks;

/* The stream is the session's lease too: by its end, daemon and caller learn of each other's. */
static inline bool knit_handles_has_lease(const struct knit_handles *handles)
{
    return knit_stream_is_open(&handles->stream);
}

/* NULL: out of memory. */
struct knit_handle *knit_handle_new(struct knit_handles *handles);

/* Send the handle's call one way or the other. They return what knit_stream_start() and
 * knit_lanes_start() return. */
KNIT_MUST_CHECK int knit_handle_start_on_stream(struct knit_handle *handle, const char *method,
    struct knit_span params, const struct knit_options *options);
KNIT_MUST_CHECK int knit_handle_start_on_lanes(
    struct knit_handle *handle, uint32_t task, struct knit_span params, bool at_once);

/* Watch deadline_ns (0 = none) and start_by_ns. */
void knit_handle_set_deadline(struct knit_handle *handle, uint64_t deadline_ns);

/* Ask for the end of a call that waits. */
void knit_handle_cancel(struct knit_handle *handle);

/* Give the outcome: an error of the library's own. `reason` outlives the handle. */
void knit_handle_fail(
    struct knit_handle *handle, int code, enum knit_started started, const char *reason);

/* Free it in any state. A call that waits is cancelled, and its answer dropped. */
void knit_handle_drop(struct knit_handle *handle);

/* KNIT_OK and the result; KNIT_PENDING; or the error's code. */
KNIT_MUST_CHECK int knit_handle_outcome(
    struct knit_handle *handle, struct knit_error *ret_error, struct knit_span *ret_result);

/* What the task of a handle that is done has printed. False: its outcome has none. */
KNIT_MUST_CHECK bool knit_handle_output(
    struct knit_handle *handle, struct knit_span *ret_text, bool *ret_is_cut);

/* Give handles whose calls were answered through lanes their outcomes. */
void knit_handles_collect(struct knit_handles *handles);

/* The same for one handle that waits. Whether it is done now. */
bool knit_handle_collect(struct knit_handle *handle);

/* The lease is gone: give calls in the lanes their answers, or else the stream's reason. */
void knit_handles_disconnect(struct knit_handles *handles);

/* Settle what has expired by now_ns. */
void knit_handles_expire(struct knit_handles *handles, uint64_t now_ns);
