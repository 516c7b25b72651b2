/* SPDX-License-Identifier: Apache-2.0 */
/* What lane*.c share: the private memory of a worker's lane and of its sessions.
 *
 *   lane_turn.c     turns: serve the home rings
 *   lane_poll.h     which sessions are looked at
 *   lane_flows.c    whose turn it is, of several principals
 *   lane_reserve.c  workers that long calls of one of them leave free
 *   lane_idle.c     the home rings are empty: spin, steal, park
 *   lane_classes.c  the order of the rings of one session
 *   lane_steal.c    calls of other lanes
 *   lane_park.c     falling asleep
 *   lane_session.c  sessions that come and go
 *   lane_serve.h    the loop over the calls of one ring,
 *   lane_steps.h    and its steps, as inline functions
 *   lane_call.c     what is not usual in a call
 *   lane_reply.c    its answer, or its deferred reply
 *   lane_finish.c   answers of calls whose job returned before
 *   lane_wake.c     callers and siblings that are woken
 */
#pragma once

#include <pthread.h>

#include <knitting/code.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/cell.h"
#include "fastpath/lane/core.h"
#include "fastpath/lane/cursor.h"
#include "fastpath/lane/deficit.h"
#include "fastpath/lane/lane.h"
#include "fastpath/lane/lane_flows.h"
#include "fastpath/lane/lane_poll.h"
#include "fastpath/lane/lane_reserve.h"
#include "fastpath/lane/reply_arena.h"
#include "fastpath/lane/state.h"

/* A call that was READY for so long while this worker was idle may be stolen from a living worker.
 * Longer than the time between two claims with short tasks, far below what a person or a deadline
 * notices. */
#define KNIT_STEAL_AFTER_NS 5000u

/* A task that takes longer than this on average is not "short": before it starts, callers that wait
 * for earlier answers are woken, and a parked sibling is woken for the calls queued behind it. */
#define KNIT_SHORT_NS 2000u

#define KNIT_SWEEP_TURN  16u /* blocks looked at in a turn to send a deferred reply */
#define KNIT_STEAL_RINGS 64u /* read in one scan while spinning; before parking, all are */

/* A result without room in the arena. Nothing more is claimed of its session until it is sent. */
struct knit_deferred_reply {
    bool any;
    uint32_t slot;
    uint64_t gen, run; /* run: of its meta */
    uint32_t status;
    unsigned char *bytes;
    size_t len;
    struct knit_finished *finished; /* whose bytes these are; NULL: they are the lane's */
};

/* Of the rings of this worker's lane in one session, see lane_classes.c. */
struct knit_aging {
    uint8_t
        passed[KNIT_CLASSES_MAX]; /* calls of rings before it that were served while it had some */
    bool is_pinned_next;          /* of NORMAL and PINNED, which take turns */
};

/* A session as this worker serves it. */
struct knit_worker_session {
    struct knit_cursor home; /* of this worker's own lane */
    struct knit_deficit deficit;
    struct knit_lane_flow *flow;
    struct knit_deferred_reply deferred;
    struct knit_finished *behind, **behind_end; /* outcomes that wait for the deferred reply */
    struct knit_lane_session in;                /* as attached */
    struct knit_cursor *cursor;                 /* [classes][lanes], of all rings but that one */
    struct knit_aging aging;
    uint32_t other_rings; /* bits of those that its geometry has, but NORMAL */
    struct knit_reply_arena arena;
    _Atomic uint32_t *completions;   /* [cells], of the worker's own lane */
    struct knit_lane_line *own_line; /* of the same */
    uint64_t completion_tail;
    uint64_t running;    /* the board's word, without the slot */
    uint64_t reply_meta; /* of a reply cell, without the length */
    uint64_t result_max; /* longest outcome it can be given */
    bool has_answers;    /* answered since the last look whether its caller sleeps */
    bool is_evicted;
    bool is_held;   /* its next call at home has to wait, see lane_reserve.h */
    uint32_t wakes; /* by its bell, since wakes_since_ns */
    uint64_t wakes_since_ns, wakes_consumed;
};

/* A session to be served, or the id of one not to be served any more. */
struct knit_handover {
    struct knit_handover *next;
    struct knit_worker_session *in; /* NULL: detach `id` */
    uint64_t id;
};

struct knit_lane {
    struct knit_lane_options options;
    struct knit_worker_session *sessions[KNIT_LANE_SESSIONS_MAX];
    struct knit_worker_session *answered[KNIT_LANE_SESSIONS_MAX]; /* those with has_answers */
    uint32_t session_count, answered_count;
    struct knit_poll poll; /* which of the sessions are looked at */
    uint32_t turn_from;    /* session that is first in the next turn */
    uint32_t round;        /* of the sessions' deficits */
    struct knit_lane_flows flows;
    struct knit_lane_reserve reserve;
    uint32_t took_ns;                 /* what the run took that was measured last */
    uint32_t steal_place;             /* session, */
    uint32_t steal_lane;              /* and lane of it, that are first in the next scan */
    uint32_t park;                    /* own park word, as written last */
    uint32_t deferred_count;          /* of sessions with a deferred reply */
    uint64_t others[KNIT_LANE_WORDS]; /* bits of the other lanes */
    const _Atomic uint64_t *occupied[KNIT_LANE_SESSIONS_MAX]; /* words of the sessions by place */
    struct futex_waitv bells[1 + KNIT_LANE_SESSIONS_MAX]; /* the lane's own, then the sessions' */
    uint32_t searches;                                    /* for a parked sibling */
    uint32_t *park_notified;       /* [lanes]: park word of each sibling last notified */
    uint32_t *mean_ns;             /* [KNIT_TASKS]: mean run of each task; 0 = not known */
    uint32_t inline_max, slab_max; /* longest argument in a cell, and in a slab */
    uint32_t unmeasured;    /* which call of short tasks from now on is measured, 1 = the next */
    uint32_t drawn, passed; /* that as it was drawn; such calls before it that none stands for */
    struct knit_busy_line *busy;
    uint64_t calls;
    struct knit_spin spin;
    struct knit_core core; /* its number stands on the board too */
    uint32_t shared;       /* idle times at once with a caller that needs this core */
    bool shares_core;      /* one that was answered last waits, or waited, on this core */
    unsigned char *copy;   /* arguments of sessions that are not trusted */
    size_t copy_size;
    /* The job that runs. */
    struct knit_worker_session *current;
    uint64_t room; /* block allocated for its outcome, or KNIT_NO_BLOCK */
    uint64_t run;  /* how long it took, for its answer's meta; 0 = not measured */
    struct knit_job job;
    /* Out of its cell, or out of its slab where that may not be read in place; at last
     * KNIT_HEAD_SPARE. */
    uint64_t argument[KNIT_SLAB_BYTES / 8 + 2];
    /* Shared with other threads. The mutex guards the next five. */
    pthread_mutex_t mutex;
    struct knit_handover *handovers, **handovers_end;
    struct knit_finished *finished, **finished_end;
    uint32_t attached;            /* sessions served or to be served */
    _Atomic bool has_handover;    /* or an outcome that was finished */
    _Atomic uint32_t is_stopping; /* enum knit_lane_end */
    _Atomic uint32_t where;       /* see lane_session.c */
    bool is_untidy;      /* the job took more than its slot: a room, a copy of its argument */
    bool was_long;       /* the last call was not short, or sessions came or went during it */
    bool was_visited;    /* sessions came or went since `where` is AWAY */
    uint32_t turns;      /* with calls, since the last scan of other lanes' rings */
    uint64_t scanned_ns; /* time of the last such scan between calls */
};

/* It was served; before a long call, and now and then, that is published. */
static inline void knit_lane_note_flow(struct knit_lane *lane, struct knit_lane_flow *flow)
{
    if (lane->reserve.seen[0] == flow || lane->reserve.seen[1] == flow)
        return;
    lane->reserve.seen[1] = lane->reserve.seen[0];
    lane->reserve.seen[0] = flow;
}

enum knit_lane_end { KNIT_LANE_GOES_ON, KNIT_LANE_RETIRES, KNIT_LANE_STOPS };

/* Writes the outcomes of a list; returns those that wait for the end of the call that runs. */
struct knit_finished *knit_lane_write_finished(struct knit_lane *lane, struct knit_finished *list);

/* The session goes, and those that wait for room with it. */
void knit_lane_drop_finished(struct knit_lane *lane, struct knit_worker_session *session);

/* Keeps a reply until there is room. */
void knit_lane_hold_reply(struct knit_lane *lane, struct knit_worker_session *session,
    const struct knit_deferred_reply *reply);

/* The deferred reply is sent. False: there is another one behind it. */
bool knit_lane_end_held_reply(struct knit_lane *lane, struct knit_worker_session *session);

struct knit_lane_answer;
void knit_lane_answer_with_block(
    struct knit_worker_session *session, const struct knit_lane_answer *answer, uint64_t block);

/* The first READY call of that ring. False: it has none, or the session was evicted for a bad
 * cell. */
KNIT_MUST_CHECK bool knit_lane_find(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, struct knit_ready_call *ret);

/* Claims the call that was found, runs it, answers it. False: another owner was first. */
bool knit_lane_call(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, const struct knit_ready_call *ready);

/* Sends the deferred reply if there is room now; looks at up to `most` blocks for released ones.
 * True: it was sent. */
bool knit_lane_send_deferred(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most);

/* The same for each session that has one. True: any was sent. */
bool knit_lane_send_any_deferred(struct knit_lane *lane, uint32_t most);

/* Wake the callers that sleep on what was answered since the last call of this. */
void knit_lane_wake_callers(struct knit_lane *lane);

/* Wake one parked sibling, to steal. */
void knit_lane_wake_sibling(struct knit_lane *lane);

/* Before and after the run of a task that is not short. Sessions that are handed over during it are
 * taken in or out at once. */
void knit_lane_leave(struct knit_lane *lane);
void knit_lane_return(struct knit_lane *lane);

/* Take in and out what was handed over: on the worker's thread, not during a call. */
void knit_lane_apply_handovers(struct knit_lane *lane);

struct knit_worker_session *knit_worker_session_free(struct knit_worker_session *session);

/* Serve the session no more; options.on_evict reports it. */
void knit_lane_evict(
    struct knit_lane *lane, struct knit_worker_session *session, const char *reason);

/* Nothing may be claimed of it. */
static inline bool knit_worker_session_is_shut(const struct knit_worker_session *session)
{
    /* relaxed: a call that is claimed at the moment of the close is answered SHUTDOWN, because
     * may_start() loads the state again. */
    return session->is_evicted || session->deferred.any ||
           !knit_state_is_served(knit_state_of(
               atomic_load_explicit(&session->in.reply.state->state, memory_order_relaxed)));
}

/* Its caller has published in other rings than NORMAL. */
static inline bool knit_worker_session_has_classes(const struct knit_worker_session *session)
{
    /* relaxed: as in knit_rings_used(). */
    return (atomic_load_explicit(session->in.request.classes, memory_order_relaxed) &
               session->other_rings) != 0;
}

/* Whether one of the rings but NORMAL of this worker's lane has something; NORMAL has nothing. */
bool knit_lane_has_classes(struct knit_lane *lane, struct knit_worker_session *session);

/* The session at that place has something for this worker. If not, it may become cold. */
static inline bool knit_lane_has_something(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t place)
{
    const struct knit_request_cell *cell;
    uint64_t ctrl;

    if ((knit_cursor_peek_cell(&session->home, &cell, &ctrl) && !session->is_evicted) ||
        session->deferred.any) {
        lane->poll.is_recent[place] = true;
        return true;
    }
    lane->poll.cell[place] = (struct knit_poll_cell){&cell->ctrl, ctrl};
    /* K1, acquire: what was published in other rings before ctrl became this. */
    atomic_thread_fence(memory_order_acquire);
    if (__builtin_expect(knit_worker_session_has_classes(session), 0) && !session->is_evicted &&
        knit_lane_has_classes(lane, session)) {
        lane->poll.is_recent[place] = true;
        return true;
    }
    return false;
}

/* One look, of cold sessions too with `all`: a home ring has something. */
static inline bool knit_lane_has_home_work(struct knit_lane *lane, bool all)
{
    bool any = false;

    knit_poll_compare(&lane->poll, all);
    for (uint32_t i = 0; i < lane->poll.hot_count; i++) {
        const uint32_t place = lane->poll.hot[i];
        struct knit_worker_session *session = lane->sessions[place];

        if (knit_lane_has_something(lane, session, place) &&
            !knit_worker_session_is_shut(session) && !session->is_held)
            any = true;
    }
    return any;
}

/* Another thread wants something of the worker's. */
static inline bool knit_lane_has_requests(const struct knit_lane *lane)
{
    return atomic_load_explicit(&lane->has_handover, memory_order_acquire) ||
           atomic_load_explicit(&lane->is_stopping, memory_order_acquire);
}

/* When the home rings are empty: spins, steals, parks. */
void knit_lane_idle(struct knit_lane *lane);

/* The park word's next value. What is loaded after this is not older than the announcement. */
void knit_lane_announce(struct knit_lane *lane, uint32_t state);

/* The sessions of the lane have changed. */
void knit_lane_begin_bells(struct knit_lane *lane);
/* That session wakes this worker no more. */
void knit_lane_mute_bell(struct knit_lane *lane, const struct knit_worker_session *session);

/* Sleeps until there may be something to do; not at all if there is. */
void knit_lane_park(struct knit_lane *lane);
