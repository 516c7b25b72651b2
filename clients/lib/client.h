/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a session and of its handles, shared by the files of the library.
 *
 * A session always has a stream: the connection itself for knit:// and unix://, lease and control
 * connection for shm://. With shm:// it has lanes as well, and tasks are called through those;
 * methods of the protocol ("$/...") always take the stream. Each handle remembers which way its
 * call went. That is all the abstraction two transports need.
 *
 * Life of a handle:
 *
 *     FREE -> WAITING    knit_handle_new(), by starting a call
 *     WAITING -> DONE    knit_handle_finish*(), once: by answer, deadline or a lost connection
 *     any -> FREE        knit_handle_drop(), by the caller
 *
 * It stands in at most one list: `spare` while FREE, `timed` while WAITING with a deadline, `ready`
 * while DONE with a callback to run.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include <knitting/knitting.h>

#include "clients/lib/error.h"
#include "clients/lib/lanes.h"
#include "clients/lib/poll_fd.h"
#include "clients/lib/shape.h"
#include "clients/lib/stream.h"
#include "fastpath/lane/session.h"
#include "proto/buffer.h"
#include "proto/message.h"
#include "proto/span.h"

enum {
    KNIT_CONNECT_MS_DEFAULT = 10 * 1000,
    /* How long after a deadline a stream's caller still waits for the daemon's own, more exact
       TIMEOUT before the library gives one. */
    KNIT_STREAM_GRACE_MS = 20,
    /* A waiting caller of lanes looks at its answers and its control connection this often. */
    KNIT_LEASE_LOOK_MS = 50,
};

enum knit_handle_state { KNIT_HANDLE_FREE, KNIT_HANDLE_WAITING, KNIT_HANDLE_DONE };
enum knit_handle_via { KNIT_VIA_NOTHING, KNIT_VIA_STREAM, KNIT_VIA_LANES };

struct knit_handle {
    struct knit *k;
    TAILQ_ENTRY(knit_handle) entry;
    uint8_t state;
    uint8_t via;
    bool is_timed;
    bool is_ready;
    bool is_held; /* the outcome lies in the block of `slot`, which must be released */
    bool is_error;
    bool is_cancelled;
    uint8_t started; /* of an error the library made */
    int code;        /* of such an error; 0: `outcome` has it, or it is a result */
    const char *reason;
    uint32_t slot;                  /* of the lanes' session, or place in the stream's table */
    uint64_t deadline_ns;           /* 0 = none */
    uint64_t start_by_ns;           /* through lanes: UINT64_MAX = none, or it has started */
    const char *signature;          /* NULL: started raw */
    const struct knit_shape *shape; /* of it, as long as the session's shapes are of that age */
    uint64_t shape_age;
    void (*on_done)(struct knit_handle *handle, void *user);
    void *user;
    struct knit_span outcome;           /* msgpack of the result or the error */
    struct knit_lent *lent;             /* elements that did not lie aligned there */
    void *heap;                         /* where the outcome lies, if that must be freed */
    struct knit_session_outcome answer; /* as the lanes gave it; small outcomes lie in its body */
};

TAILQ_HEAD(knit_handle_list, knit_handle);

enum { KNIT_HANDLES_CHUNK = 64 };

struct knit_handle_chunk {
    struct knit_handle_chunk *next;
    struct knit_handle handle[KNIT_HANDLES_CHUNK];
};

struct knit {
    uint8_t *alive; /* a page that fork() clears: 0 in a child */
    bool would_block;
    bool is_calling_back;
    uint32_t admin_ms; /* how long the protocol's own questions may take */
    struct knit_stream stream;
    struct knit_lanes *lanes; /* NULL: no lanes */
    struct knit_poll_fd poll_fd;

    struct knit_handle_chunk *chunks;
    struct knit_handle_list spare;
    struct knit_handle_list timed;
    struct knit_handle_list ready;
    uint64_t next_deadline_ns; /* no deadline in `timed` is earlier; UINT64_MAX = none */
    uint64_t next_look_ns;     /* when waiting for lanes looks at the stream again */

    struct knit_handle *last;  /* the blocking call whose results were lent */
    struct knit_handle *stats; /* likewise of knit_stats() */
    struct knit_shapes shapes; /* of the signatures that were used last */
    struct knit_buffer params; /* scratch: the arguments of the call that starts */
    struct knit_buffer error;  /* bytes that the last error's data and details point into */
};

/* Whether the session is this process's and lives. 0, or the code, with *ret_error filled. */
int knit_client_check(struct knit *k, struct knit_error *ret_error);

/* Send what was started, settle what was answered and what has expired. Never waits. */
void knit_client_progress(struct knit *k);

/* Sleep until there may be progress on that way, at most until until_ns (UINT64_MAX = no limit).
 * handle: for whom, NULL = for anybody. */
void knit_client_wait(
    struct knit *k, enum knit_handle_via via, struct knit_handle *handle, uint64_t until_ns);

/* Turn and sleep until the handle is done. Returns KNIT_OK, or KNIT_PENDING when it is late. */
int knit_client_await(struct knit_handle *handle, uint64_t until_ns);

/* One request of the protocol's own, answered. The result is borrowed from the handle, which is the
 * caller's to drop. Returns KNIT_OK, or the code of the error. */
int knit_client_admin_call(struct knit *k, const char *method, struct knit_span params,
    uint64_t until_ns, struct knit_handle **ret_handle, struct knit_span *ret_result,
    struct knit_error *ret_error);

/* Run the callbacks that are due. Does nothing inside a callback. */
void knit_client_call_back(struct knit *k);

/* Make the descriptor of knit_fd() tell the truth, after anything that may have changed it. */
void knit_client_update_poll_fd(struct knit *k);

/* The end of a function that took turns: callbacks, and the session's descriptor as it must be. */
static inline void knit_client_end_turn(struct knit *k)
{
    if (!TAILQ_EMPTY(&k->ready))
        knit_client_call_back(k);
    if (knit_poll_fd_is_open(&k->poll_fd))
        knit_client_update_poll_fd(k);
}

/* ---- handle.c ---- */

/* How a session's stream gives handles, its requests' users, their outcomes. */
extern const struct knit_stream_callbacks knit_handle_stream_callbacks;

/* NULL: out of memory. */
struct knit_handle *knit_handle_new(struct knit *k);
/* deadline_ns 0 = none, and then only start_by_ns is watched. */
void knit_handle_set_deadline(struct knit_handle *handle, uint64_t deadline_ns);

/* Give the outcome: copied; in place, in the handle's own answer or (held) in a lane's block; or
 * made by the library, `reason` being text that outlives the handle. */
void knit_handle_finish(struct knit_handle *handle, bool is_error, const void *bytes, size_t len);
void knit_handle_finish_in_place(
    struct knit_handle *handle, bool is_error, struct knit_span outcome, bool is_held);
void knit_handle_fail(
    struct knit_handle *handle, int code, enum knit_started started, const char *reason);

/* Let go of it, whatever its state. */
void knit_handle_drop(struct knit_handle *handle);

/* Settle what has expired by now_ns. */
void knit_handle_expire(struct knit *k, uint64_t now_ns);

/* KNIT_OK and the result; KNIT_PENDING; or the error's code. */
int knit_handle_outcome(
    struct knit_handle *handle, struct knit_error *ret_error, struct knit_span *ret_result);

void knit_handles_fini(struct knit *k);
