/* SPDX-License-Identifier: Apache-2.0 */
/* What lane.c (turns, stealing, parking) and lane_call.c (one call: take, run, answer) share, and
 * nobody else. */
#pragma once

#include <pthread.h>

#include "fastpath/lane/arena.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/cursor.h"
#include "fastpath/lane/lane.h"

/* A call that stood unclaimed for so long while somebody was idle may be stolen from a living
 * worker. Longer than the way from one claim to the next through short tasks, far below what a
 * person or a deadline notices. */
#define KNIT_STEAL_AFTER_NS 5000u

/* A task that takes longer than this on average is not "short": whoever waits for the answers
 * before it is woken first, and a parked sibling is called for what is queued behind it. */
#define KNIT_SHORT_NS 2000u

/* A result that found no room in the arena. Nothing more is claimed of its session until it went
 * out. */
struct knit_deferred_reply {
    bool any;
    uint32_t slot;
    uint64_t gen;
    uint32_t status;
    unsigned char *bytes;
    size_t len;
};

/* A session as this worker serves it. */
struct knit_worker_session {
    struct knit_cursor *home; /* in `cursor`, of this worker's lane */
    struct knit_deferred_reply deferred;
    struct knit_lane_session in;
    struct knit_cursor *cursor; /* [lanes] */
    struct knit_arena *arena;
    uint64_t arena_limit;
    /* Blocks that callers have not released yet, oldest first. */
    uint64_t *block;      /* [slots]; KNIT_NO_BLOCK = none */
    uint64_t *block_gen;  /* [slots] */
    uint32_t *block_next; /* [slots], a list of those that have one */
    uint32_t *block_before;
    uint32_t block_head, block_tail;
    uint32_t block_at; /* where the next sweep begins; NO_SLOT: at the head */
    uint64_t completion_tail;
    bool has_answers; /* answered since its caller was last looked at */
    bool is_evicted;
    uint32_t bell_seen;
    int bell_word;  /* among those that were slept on last; 0 = it was not */
    uint32_t wakes; /* of its bell that woke us, since wakes_since_ns */
    uint64_t wakes_since_ns, wakes_consumed;
    uint32_t last_slot; /* answered last; with the one before, a guess at the next */
    uint32_t slot_step;
};

/* A session on its way in, or an id on its way out. */
struct knit_handover {
    struct knit_handover *next;
    struct knit_worker_session *in; /* NULL: detach `id` */
    uint64_t id;
};

struct knit_lane {
    struct knit_lane_options options;
    struct knit_worker_session *sessions[KNIT_LANE_SESSIONS_MAX];
    struct knit_worker_session *answered[KNIT_LANE_SESSIONS_MAX]; /* those that have answers */
    uint32_t session_count, answered_count;
    uint32_t turn_from;      /* session that comes first this turn */
    uint32_t steal_from;     /* ring that the next scan begins with */
    uint32_t park;           /* our park word, as we wrote it last */
    uint32_t *notified_park; /* [lanes]: sibling's park word last rung */
    uint32_t *mean_ns;       /* [65536]: mean run of each task; 0 = not known */
    struct knit_busy_line *busy;
    uint64_t calls;
    struct knit_spin spin;
    unsigned char *copy; /* arguments of sessions that are not trusted */
    size_t copy_size;
    /* The job that runs. */
    struct knit_worker_session *current;
    uint64_t room; /* block reserved for its outcome, or KNIT_NO_BLOCK */
    struct knit_job job;
    /* From other threads. */
    pthread_mutex_t mutex;
    struct knit_handover *handovers, **handovers_end;
    uint32_t attached; /* under the mutex: sessions served or on their way in */
    _Atomic bool has_handover, is_stopping;
    _Atomic uint32_t where; /* enum knit_lane_where */
    bool was_long;       /* the call that ended last was not short, or somebody visited meanwhile */
    bool was_visited;    /* since this thread is away */
    uint32_t turns;      /* with calls, since others' rings were looked at */
    uint64_t scanned_ns; /* when they were, by a turn with calls */
};

/* Where the worker's thread is, for another thread that wants to take sessions in and out. */
enum knit_lane_where {
    KNIT_LANE_HERE,    /* among the sessions: nobody else touches them */
    KNIT_LANE_AWAY,    /* in a task that is not short: it needs none but `current` */
    KNIT_LANE_VISITED, /* the same, and somebody is among the sessions meanwhile */
};

/* The first READY call of that ring. False: it has none, or the session was evicted for what lies
 * there. */
bool knit_lane_find(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, struct knit_ready_call *ret);

/* Claims what was found, runs it, answers. False: another owner was first. */
bool knit_lane_call(struct knit_lane *lane, struct knit_worker_session *session,
    struct knit_cursor *cursor, const struct knit_ready_call *ready);

/* Sends a kept result if there is room now; looks at up to `most` blocks for ones that were
 * released. True: it went out. */
bool knit_lane_send_deferred(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most);
/* A block in use, newest in the list. */
void knit_lane_note_block(
    struct knit_worker_session *session, uint32_t slot, uint64_t gen, uint64_t block);

/* Look whether callers sleep on what was answered, and wake them. */
void knit_lane_wake_callers(struct knit_lane *lane);

/* Wake one parked sibling, to steal. */
void knit_lane_wake_sibling(struct knit_lane *lane);

/* Around the run of a task that is not short. What is handed over meanwhile is applied at once. */
void knit_lane_leave(struct knit_lane *lane);
void knit_lane_return(struct knit_lane *lane);

void knit_lane_evict(
    struct knit_lane *lane, struct knit_worker_session *session, const char *reason);

/* Nothing may be claimed of it. */
static inline bool knit_worker_session_is_shut(const struct knit_worker_session *session)
{
    /* relaxed: who claims in the moment it closes answers CANCELLED; prepare() looks again. */
    return session->is_evicted || session->deferred.any ||
           atomic_load_explicit(&session->in.reply.state->state, memory_order_relaxed) !=
               KNIT_STATE_OPEN;
}
