/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's side of the lanes: claim calls one at a time, run them, answer, steal, wake callers,
 * park.
 *
 * A struct knit_lane belongs to one worker (process or thread) and serves one lane of every session
 * it was given. It trusts nothing in a request segment: every word is loaded once and checked
 * against private numbers. A session whose memory breaks the protocol is evicted: it is not served
 * any more, and the other sessions go on.
 *
 * The loop of a worker is
 *
 *     while (knit_lane_turn(lane) != KNIT_LANE_STOPPED)
 *         ;
 *
 * where a turn serves the home rings, steals when they are empty, and spins and parks when there is
 * nothing to steal either. Sessions come and go between turns, and during a call that is not short,
 * through knit_lane_attach()/_detach() from a second thread.
 *
 * Threads: knit_lane_turn() and the answering functions on the worker's thread alone; attach,
 * detach, stop, wake from any one other thread (a mutex guards what is handed over).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/rights.h"
#include "proto/head.h"
#include "proto/trace.h"

enum { KNIT_LANE_RUNNING = 0, KNIT_LANE_STOPPED = 1 };

#define KNIT_LANE_SESSIONS_MAX 124u /* futex_waitv takes 128 words; the lane's own bell is one */

/* Of a job: CANCELLED, since the host asks it to stop. */
enum { KNIT_JOB_STOPPED = -1 };

/* A claimed call while it runs. Borrowed by the runner until it returns. */
struct knit_job {
    uint64_t session;    /* id */
    uint64_t ctrl, meta; /* of its cell: see the functions below */
    uint64_t deadline_ns;
    const void *payload; /* private copy, or in place when the session is trusted; KNIT_HEAD_SPARE
                            bytes behind them may be read */
    size_t result_max;   /* longest outcome this session can be given */
    /* 0: run it. Else KNIT_CANCELLED, KNIT_TIMEOUT, KNIT_SHUTDOWN, KNIT_DENIED, KNIT_INTERNAL or
     * KNIT_JOB_STOPPED: fill in that error; the call is not started. */
    int refusal;
    bool wants_output;   /* what the task prints belongs to the outcome */
    bool wants_progress; /* somebody looks at the values that it emits */
    bool is_traced;      /* `trace` is of it, and its times are noted */
    bool was_refused;    /* set by the runner: the task did not run */
    /* Where the outcome goes. The runner sets these; payload lies in `body`, in room given by
     * knit_lane_room(), or anywhere else that stays valid until the runner is called again. */
    const void *result;
    uint32_t status, result_len;
    _Alignas(8) unsigned char body[KNIT_INLINE_MAX + KNIT_HEAD_SPARE];
    struct knit_trace trace;
};

static inline uint32_t knit_job_slot(const struct knit_job *job)
{
    return knit_ctrl_slot(job->ctrl);
}

static inline uint64_t knit_job_gen(const struct knit_job *job)
{
    return knit_ctrl_gen(job->ctrl);
}

static inline uint32_t knit_job_task(const struct knit_job *job)
{
    return knit_meta_task(job->meta);
}

/* Bytes of the payload. */
static inline uint32_t knit_job_len(const struct knit_job *job)
{
    return knit_meta_len(job->meta);
}

/* The result_len of a job whose outcome comes later, by knit_lane_finish(). */
#define KNIT_JOB_DEFERRED UINT32_MAX

/* Such an outcome; its bytes stay until on_finished. */
struct knit_finished {
    struct knit_finished *next; /* the lane's */
    uint64_t session;           /* id */
    uint64_t gen;
    uint32_t slot;
    uint32_t status;
    const void *bytes;
    size_t len;
};

/* Runs one job, or makes the error of its refusal, and fills in the outcome. Not called again
 * before it returned. */
typedef void knit_lane_run(void *arg, struct knit_job *job);

struct knit_lane;
struct knit_worker_session;

/* Serves up to `most` calls of the session's home ring; returns how many. */
typedef uint32_t knit_lane_serve_run(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most);

/* The one that calls options.run for each. */
knit_lane_serve_run knit_lane_serve;

struct knit_lane_options {
    uint32_t index; /* of the lane */
    uint32_t lanes;
    uint32_t owner; /* this worker's id, not NONE, not HOST */
    struct knit_board_view board;
    struct knit_pool_view pool;
    struct knit_rights_view rights; /* needed where a session has a `right`, or loops call too */
    bool steal;
    uint32_t spin_us;  /* longest spin before parking; adapts below that; 0 = none */
    uint32_t pause_ns; /* of one pause in a spin; 0 = none */
    uint32_t park_ms;  /* longest sleep; 0 = no limit. The protocol needs none. */
    bool has_one_bell; /* it can sleep on one word only: the lane's bell, which the host notifies in
                          the callers' place */
    uint64_t result_max_bytes;   /* one outcome; 0 = a lane's whole reply arena */
    uint64_t argument_max_bytes; /* of one call; 0 = a session's whole request arena */
    knit_lane_run *run;
    knit_lane_serve_run
        *serve; /* does the same in one function with the loop (lane_serve.h); NULL =
                                   knit_lane_serve */
    void *run_arg;
    /* With run_arg, on the worker's thread: the lane lets go of the job that was deferred. */
    void (*on_deferred)(void *arg);
    /* With run_arg, on any thread: the outcome is written, or its session has gone. */
    void (*on_finished)(void *arg, struct knit_finished *finished);
    /* With run_arg, on the worker's thread, while it retires: no outcome is to come. */
    bool (*is_over)(void *arg);
    /* On the worker's thread, between jobs: this session broke the protocol and is not served any
     * more. */
    void (*on_evict)(void *arg, uint64_t session, const char *reason);
    /* The same: a call was refused, since its caller may not run the task. NULL: nobody wants to
     * know. */
    void (*on_denied)(void *arg, uint64_t session, uint32_t task);
    /* After knit_lane_detach(), on either thread: the lane uses no pointer into this session any
     * more; unmap it and acknowledge. */
    void (*on_detached)(void *arg, uint64_t session);
    void *event_arg; /* of the last three */
};

struct knit_lane_session {
    uint64_t id;
    struct knit_geometry geometry;
    struct knit_request_view request; /* may be mapped read-only */
    struct knit_reply_view reply;     /* mapped writable */
    int bell_fd; /* to wake an event loop: see knit_bell_notify(); borrowed; -1 = none */
    bool bell_is_pipe;
    bool trusted; /* arguments are read in place */
    /* Which tasks it may run; NULL = all. */
    const struct knit_right *right;
    uint64_t flow; /* sessions of one number share what one gets (lane_flows.h) */
    const struct knit_weight *weight; /* of the flow; NULL = 1 */
    /* Arena bytes that the replies of all lanes together may touch, see reply_arena.h. 0 = no
     * limit. */
    uint64_t reply_budget_bytes;
};

KNIT_MUST_CHECK int knit_lane_new(const struct knit_lane_options *options, struct knit_lane **ret);
struct knit_lane *knit_lane_free(struct knit_lane *lane);

/* One turn. Returns RUNNING, or STOPPED after knit_lane_stop(). May sleep. */
int knit_lane_turn(struct knit_lane *lane);

/* Hand a session over; it is served from the next turn on. The blocks that answered replies name
 * stay in use, so a replacement continues where a dead worker stopped. Returns 0, -ENOMEM, or
 * -ENOSPC above KNIT_LANE_SESSIONS_MAX. From another thread. */
KNIT_MUST_CHECK int knit_lane_attach(
    struct knit_lane *lane, const struct knit_lane_session *session);

/* Stop serving a session, now or at the next turn: a job of it that runs now ends first (and sees
 * knit_lane_aborted() once the host has closed the session). options.on_detached is called when it
 * is done, for unknown ids too. Returns 0 or -ENOMEM. From another thread. */
KNIT_MUST_CHECK int knit_lane_detach(struct knit_lane *lane, uint64_t session);

/* The worker's next turn returns STOPPED, after the job that runs; wakes it. From another
 * thread. */
void knit_lane_stop(struct knit_lane *lane);
/* Make a sleeping worker look again. From another thread. */
void knit_lane_wake(struct knit_lane *lane);

/* The worker claims nothing more, and a turn returns STOPPED when no outcome is to come. What is in
 * its rings is stolen, or waits for its replacement. From another thread. */
void knit_lane_retire(struct knit_lane *lane);
bool knit_lane_is_retiring(const struct knit_lane *lane);

/* The outcome of a job that was deferred, once the lane has let go of it. It is written at the next
 * turn; while a task runs that is not short, at once, but for what needs a block in the arena of
 * that task's session. From any thread. */
void knit_lane_finish(struct knit_lane *lane, struct knit_finished *finished);

/* Of a job that is deferred: what its session was attached with, while it is; until when it may
 * take, 0 = as long as it likes. While it runs. */
const struct knit_lane_session *knit_lane_session_of(const struct knit_lane *lane);
uint64_t knit_lane_hard_ns(const struct knit_lane *lane);

/* The same as the next three, from any thread, of a session that is attached. */
bool knit_lane_is_cancelled_at(const struct knit_lane_session *in, uint32_t slot, uint64_t gen);
bool knit_lane_is_stopped_at(const struct knit_lane_session *in, uint32_t slot, uint64_t gen);
bool knit_lane_is_served_at(const struct knit_lane_session *in);
void knit_lane_emit_at(
    const struct knit_lane_session *in, uint32_t slot, uint64_t gen, struct knit_span value);

/* Why its caller gave it up, as text of at most KNIT_VALUE_MAX bytes. Returns its length, 0: it has
 * not, or did not say. */
size_t knit_lane_reason_at(
    const struct knit_lane_session *in, uint32_t slot, uint64_t gen, char *ret_text);

/* Only while `job` runs: has its caller given up, has the host asked it to stop, has its session
 * closed? Some loads. */
bool knit_lane_aborted(const struct knit_lane *lane, const struct knit_job *job);
/* The first of the three alone, and the second. */
bool knit_lane_cancelled(const struct knit_lane *lane, const struct knit_job *job);
bool knit_lane_stopped(const struct knit_lane *lane, const struct knit_job *job);
/* Why. */
size_t knit_lane_reason(const struct knit_lane *lane, const struct knit_job *job, char *ret_text);

/* Only while `job` runs: its caller can read this value, of 1 to KNIT_VALUE_MAX bytes, in place of
 * the one before, and is woken for it if it sleeps. */
void knit_lane_emit(
    struct knit_lane *lane, const struct knit_job *job, const void *value, size_t len);

/* Only while `job` runs: room of len bytes for its outcome in the slot's slab or in the reply
 * arena, so that large results are written once. NULL above the limit or when there is no room now:
 * then use private memory, and the lane copies when there is room. One room a job; what an earlier
 * call gave may not be used any more. Set job->result to it, or into it, to use it. */
void *knit_lane_room(struct knit_lane *lane, struct knit_job *job, size_t len);
