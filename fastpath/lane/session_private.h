/* SPDX-License-Identifier: Apache-2.0 */
/* What session*.c share: the session's private memory.
 *
 * A slot is this session's place for one call. Which call: its generation, one more than the last.
 * The state of a call is not stored in shared memory; it is read from three words, of which the
 * caller writes the first (LAYOUT.md has the table of states):
 *
 *     ring cell's ctrl    generation g is published  (the caller, release)
 *     claim[slot]         generation g is claimed    (workers and host, CAS)
 *     reply[slot].word    generation g is answered   (its owner, or the host after the reap)
 *
 * Threads: as the session: one at a time.
 */
#pragma once

#include "fastpath/lane/arena.h"
#include "fastpath/lane/balancer.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/board.h"
#include "fastpath/lane/core.h"
#include "fastpath/lane/lane_bits.h"
#include "fastpath/lane/line.h"
#include "fastpath/lane/rings.h"
#include "fastpath/lane/session.h"
#include "fastpath/lane/state.h"

/* In place of a block, while a call is published: its argument lies in the slot's slab. */
#define KNIT_IN_SLAB (KNIT_NO_BLOCK - 1)

enum knit_slot_state {
    KNIT_SLOT_FREE,
    KNIT_SLOT_IN_FLIGHT, /* published, its outcome is wanted */
    KNIT_SLOT_ZOMBIE,    /* published, its outcome was given early and the answer will be dropped */
    KNIT_SLOT_HELD,      /* answered; the user still reads slab or block */
};

struct knit_session_slot {
    uint64_t
        gen24; /* of the call it carries, or carried last; where ctrl, claim and word have it */
    void *user;
    uint64_t block;      /* of the argument in the request arena, or KNIT_NO_BLOCK */
    uint32_t lane;       /* it was published to; while free or held: that answered last */
    uint32_t next;       /* free list */
    uint32_t work_ns;    /* what the call takes, estimated; while published */
    uint16_t block_lane; /* held: the lane in whose arena the reply's block lies */
    uint8_t state;       /* enum knit_slot_state */
    bool has_block;      /* held: the reply lies in a block, not in the slab */
};

/* A call whose values are looked at. */
struct knit_session_watch {
    uint64_t gen;
    uint64_t seen; /* word of the last value that was given; 0: none was */
    uint32_t slot;
};

/* A ring that this session publishes to. */
struct knit_session_ring {
    struct knit_request_cell *cell;        /* of the next publish */
    struct knit_request_cell *begin, *end; /* [cells] */
    uint32_t tag;                          /* of the lap in which `cell` lies */
};

/* The session's private part of a lane. */
struct knit_session_lane {
    struct knit_session_ring normal;
    _Atomic uint32_t *completion_ring; /* [cells] */
    _Atomic uint64_t *occupied;        /* where the lane's bit is, */
    uint64_t bit;                      /* and which one */
    uint64_t completion_next;          /* position of the completion read next */
    uint32_t index;
    uint32_t park_notified; /* park word last notified */
    uint32_t last_slot;     /* published last */
    uint32_t flushed_slot;  /* published last before the last flush, */
    uint64_t flushed_gen;   /* in its generation */
    uint32_t free_head;     /* free slots that this lane answered last, the last one first */
    bool is_dirty;          /* published to since the last flush */
};

struct knit_session {
    uint64_t id; /* as the board names it */
    struct knit_geometry geometry;
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;
    struct knit_session_options options;
    struct knit_balance balance;
    struct knit_arena *arena;
    struct knit_session_slot *slots;
    struct knit_session_lane *lanes;
    struct knit_session_ring *others;    /* [classes - 1][lanes]: the rings but NORMAL */
    struct knit_session_lane *only_lane; /* NULL: there are several */
    uint32_t classes;                    /* as in the request segment */
    uint32_t *queued;                    /* [lanes]: published there, not yet answered */
    uint64_t *work_ns;   /* [lanes]: what these take, estimated; NULL without options.depth_ns */
    uint32_t next_ns;    /* estimate for the call that is published, or was crowded out last */
    uint32_t dirty;      /* how many lanes are dirty */
    uint32_t dirty_lane; /* one of them */
    uint32_t free, zombies, held; /* slots in these states; all others are in flight */
    uint32_t rescan;              /* last value acted on */
    uint32_t arm;                 /* last arm number used */
    uint32_t crowded_flushes;     /* that found calls queued behind others */
    uint32_t searches;            /* for a parked worker */
    uint32_t scan_from; /* slot at which a scan of all continues; KNIT_NO_SLOT: there is none */
    uint32_t deferrals; /* value when the calls that are deferred were looked for last */
    uint32_t strays;    /* value at the last look at all lanes */
    uint32_t looks;     /* for completions; UINT32_MAX: the next one is at all lanes */
    uint32_t completion_lane; /* lane whose completions are read next */
    uint32_t until_stamp;     /* calls, with the next one that bears its time */
    int64_t clock_shift_ns;   /* from this clock to the host's */
    struct knit_core core;    /* its number stands in the request segment too */
    bool is_armed;
    uint64_t
        unread_left; /* calls that may be collected by slot before completions are passed over */
    struct knit_spin spin;
    struct knit_session_counters counters;
    struct knit_session_watch *watches; /* [slots]; NULL: none was watched yet */
    uint32_t watch_count;
};

/* That ring of the lane, which is not NORMAL. */
static inline struct knit_session_ring *knit_session_other_ring(
    const struct knit_session *session, uint32_t lane, enum knit_ring ring)
{
    return &session->others[(size_t)(ring - 1) * session->geometry.lanes + lane];
}

/* Calls of a task with such a mean, or none, take no short way into a lane in a session with a
 * depth: whose calls these are is asked then, and how long they run. */
#define KNIT_SESSION_SHORT_NS 100000u

/* What a call counts in a session with a depth. The board's word is another process's and may be
 * anything; two calls fit a lane whatever it says. */
static inline uint32_t knit_session_estimate_of(
    const struct knit_session *session, uint32_t mean_ns)
{
    uint32_t most_ns = session->options.depth_ns / 2;

    return mean_ns == 0 || mean_ns > most_ns ? most_ns : mean_ns;
}

static inline uint32_t knit_session_estimate(const struct knit_session *session, uint32_t task)
{
    return knit_session_estimate_of(session, knit_board_mean_ns(&session->board, task));
}

/* The generation of the slot's call, or its last one. */
static inline uint64_t knit_session_gen(const struct knit_session *session, uint32_t index)
{
    return session->slots[index].gen24 >> KNIT_GEN_SHIFT;
}

/* The slot's call is answered; one load. */
static inline bool knit_session_is_answered(const struct knit_session *session, uint32_t index)
{
    const struct knit_session_slot *slot = &session->slots[index];
    /* A1, acquire: the outcome's bytes. */
    uint64_t word = atomic_load_explicit(&session->reply.reply[index].word, memory_order_acquire);
    return (word ^ slot->gen24) >> KNIT_GEN_SHIFT == 0;
}

/* How long the call of the slot ran whose answer was taken last, as its worker says, which may be
 * anything; 0 = not measured. Until the next publish. */
static inline uint64_t knit_session_run_ns(const struct knit_session *session, uint32_t index)
{
    /* relaxed: A1 made it visible. */
    return knit_meta_run_ns(
        atomic_load_explicit(&session->reply.reply[index].meta, memory_order_relaxed));
}

/* Whether a call that is watched has emitted a value which was not given yet. */
bool knit_session_has_values(const struct knit_session *session);

/* Published, and its answer not read yet. */
static inline bool knit_session_is_pending(const struct knit_session *session, uint32_t index)
{
    uint8_t state = session->slots[index].state;
    return state == KNIT_SLOT_IN_FLIGHT || state == KNIT_SLOT_ZOMBIE;
}

/* The first lane from `from` on where this session has calls, or, with `all`, any lane;
 * geometry.lanes or beyond: there is none. */
static inline uint32_t knit_session_next_lane(
    const struct knit_session *session, uint32_t from, bool all)
{
    return knit_lane_bits_next(session->request.occupied, from, session->geometry.lanes, all);
}

/* Begins a look at completions: those of all lanes, or where this session has calls
 * (knit_session_next_lane()). A call that was stolen is answered in another lane; the thief says
 * so. A task can write that word, so now and then it is not asked. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_session_begin_look(
    struct knit_session *session, uint32_t *ret_strays)
{
    /* N2, acquire: the completions of stolen calls. */
    *ret_strays = atomic_load_explicit(session->reply.strays, memory_order_acquire);
    return ++session->looks % KNIT_BITS_DOUBTED == 0 || *ret_strays != session->strays;
}

/* Ends that look. is_over: all completions were read that were to be; else the next look is at no
 * fewer lanes. */
KNIT_ALWAYS_INLINE void knit_session_end_look(
    struct knit_session *session, uint32_t strays, bool all, bool is_over)
{
    if (is_over)
        session->strays = strays;
    else if (all)
        session->looks = UINT32_MAX;
}

/* How far the lane's next completion is ahead, see knit_completion_lead(); from 0 on *ret_entry can
 * be used or was overwritten. */
static inline int knit_session_next_completion(
    const struct knit_session *session, const struct knit_session_lane *lane, uint32_t *ret_entry)
{
    const uint32_t cells = session->geometry.cells;
    /* N1, acquire: the reply word that the entry is about. */
    *ret_entry = atomic_load_explicit(
        &lane->completion_ring[lane->completion_next & (cells - 1)], memory_order_acquire);
    return knit_completion_lead(*ret_entry, lane->completion_next, cells);
}

/* The lane whose free slot a call to this one takes: its own, while it has some. The session has a
 * free slot. */
KNIT_ALWAYS_INLINE struct knit_session_lane *knit_session_free_in(
    struct knit_session *session, struct knit_session_lane *lane)
{
    while (__builtin_expect(lane->free_head == KNIT_NO_SLOT, 0))
        lane = &session->lanes[lane->index + 1 < session->geometry.lanes ? lane->index + 1 : 0];
    return lane;
}

/* Draws which call bears its time first. */
void knit_session_begin_stamps(struct knit_session *session);
/* It is the turn of this call to bear when it was published, and another's is drawn. body_len: of
 * what lies in the cell. Returns the flag as it goes into meta, or 0. */
uint64_t knit_session_stamp(
    struct knit_session *session, struct knit_request_cell *cell, size_t body_len);

/* Wakes the lane's worker if it is parked and this park was not notified before. W1 lies before.
 * True: a wake-up was sent. */
bool knit_session_wake_lane(struct knit_session *session, uint32_t index);

/* Before this session sleeps: a call that no worker has claimed may sit behind a long task; a
 * parked worker of another lane is woken to steal it. The call's own lane does not help, even when
 * it is announced as parked: its worker may have seen the call at its last look, claimed another
 * one first, and be running that. */
void knit_session_wake_for_unclaimed(struct knit_session *session);
