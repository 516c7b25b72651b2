/* SPDX-License-Identifier: Apache-2.0 */
/* A board, a pool segment, sessions and workers without a supervisor, for tests of the lane
 * protocol alone.
 *
 * Workers are threads of the test over one mapping of every segment, which is what ThreadSanitizer
 * can see, or driven by hand, a turn at a time. Their runner understands a few tasks; see enum
 * lanes_task.
 */
#pragma once

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/lane.h"
#include "fastpath/lane/layout.h"
#include "fastpath/lane/segment.h"
#include "fastpath/lane/session.h"

enum lanes_task {
    LANES_ECHO,  /* the argument comes back */
    LANES_COUNT, /* the argument is a u32 index: executions[index] rises, and it comes back */
    LANES_SPIN,  /* the argument is a u32 of microseconds to be busy */
    LANES_GATE,  /* waits until lanes.gate opens */
    LANES_ROOM,  /* as ECHO, but within the second room in the arena that it asks for */
    LANES_DEFER, /* as ECHO, but the outcome is what lanes_finish() takes from lanes.deferred */
    LANES_EMIT,  /* emits one byte, 7, and then is as GATE */
    LANES_TRACE, /* its trace comes back, or nothing */
};

#define LANES_DEFERRED_MAX 4096u
/* What lanes_collect() takes at once: all slots of a session of those tests. */
#define LANES_COLLECTED_MAX 256u

/* A call that was deferred, whose bytes are a copy of its argument. */
struct lanes_deferred {
    struct knit_finished finished;
    struct knit_lane *lane;
};

#define LANES_ROOM_SKIPS   32u /* of the room, before what LANES_ROOM writes */
#define LANES_WORKERS_MAX  130u
#define LANES_SESSIONS_MAX 124u

struct lanes_session {
    struct knit_geometry geometry;
    struct knit_mapping request_mapping, reply_mapping;
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_session *session;
    uint64_t flow; /* what workers are told of it, */
    struct knit_weight weight;
    int bell_fd;     /* what the caller polls */
    int bell_end_fd; /* what workers notify */
};

struct lanes {
    uint32_t lanes;
    bool steal;
    bool report_settled; /* of sessions added from then on, */
    uint32_t depth_ns;   /* and this too */
    uint32_t spin_us;
    struct knit_mapping board_mapping, pool_mapping;
    struct knit_board_view board;
    struct knit_pool_view pool;
    struct knit_tally waiting, long_calls; /* what loops say (places.h) */
    struct knit_lane *worker[LANES_WORKERS_MAX];
    pthread_t thread[LANES_WORKERS_MAX];
    bool is_running[LANES_WORKERS_MAX];
    struct lanes_session session[LANES_SESSIONS_MAX];
    uint32_t sessions;
    uint32_t denied;              /* features that sessions are not granted from now on */
    _Atomic uint32_t *executions; /* for LANES_COUNT */
    uint32_t executions_count;
    _Atomic uint32_t gate;
    _Atomic uint32_t at_gate;
    _Atomic uint32_t evictions, detached, refused;
    pthread_mutex_t mutex; /* of the next two */
    struct lanes_deferred *deferred[LANES_DEFERRED_MAX];
    uint32_t deferred_count;
    _Atomic uint32_t finished;   /* outcomes that lanes have done with */
    _Atomic uint32_t to_come;    /* and those that they have not */
    const void *_Atomic payload; /* of the call that ran last */
    _Atomic bool saw_watched;    /* somebody looked at the values of that call */
};

/* spin_us 0: workers park at once. */
void lanes_init(struct lanes *lanes, uint32_t count, bool steal, uint32_t spin_us);
/* start: value that ring positions and generations begin at, for tests of wrapping. */
struct lanes_session *lanes_add_session(
    struct lanes *lanes, uint32_t slots, uint64_t arena_bytes, uint64_t start);
/* A worker object for the lane, with all sessions, driven by hand with knit_lane_turn(): how many
 * calls that serves is up to the clock, and with none it sleeps a millisecond. */
void lanes_add_worker(struct lanes *lanes, uint32_t index, uint32_t owner);
/* The same on a thread of its own. */
void lanes_start_worker(struct lanes *lanes, uint32_t index, uint32_t owner);
/* The worker gets that session, the first being 0, again; its id is the next number. */
void lanes_attach(struct lanes *lanes, uint32_t index, uint32_t session);
void lanes_stop_worker(struct lanes *lanes, uint32_t index);
/* Opens the gate and stops the workers. Also for lanes that have ended or never began. */
void lanes_fini(struct lanes *lanes);

/* A call of that task, for any lane. */
struct knit_session_call lanes_call(uint32_t task, const void *payload, size_t len);

/* For a worker driven by hand, that of lane 0. Publish a call of that task, which gets us: one, or
 * as many as there are slots free; a turn; how many outcomes there are, which it takes. */
uint32_t lanes_publish(struct knit_session *session, uint32_t lane, uint32_t task, uint32_t us);
void lanes_fill(struct knit_session *session, uint32_t task, uint32_t us);
void lanes_turn(struct lanes *lanes);
size_t lanes_collect(struct knit_session *session);
/* The calls of a task take so long, below KNIT_SHORT_NS / 2, and none is measured. */
void lanes_pretend(struct lanes *lanes, uint32_t task, uint32_t ns);

/* Takes one of the calls that were deferred, the oldest if `first`; NULL: there is none. */
struct lanes_deferred *lanes_take_deferred(struct lanes *lanes, bool first);
/* Hands its outcome over. */
void lanes_finish(struct lanes_deferred *deferred);

/* Waits for the outcome of that slot's call, and fails the test when none comes. */
void lanes_wait_for(
    struct knit_session *session, uint32_t slot, struct knit_session_outcome *ret_outcome);
