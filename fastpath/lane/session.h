/* SPDX-License-Identifier: Apache-2.0 */
/* The caller's side of the lanes: publish calls, wake workers, collect outcomes, release them.
 *
 * The daemon's event loops and the client library both use it. A session borrows the views it is
 * given (segment.h maps them) and keeps everything that it must trust in private memory: slots,
 * generations, the metadata of its request arena, ring tails. What it reads from the pool is loaded
 * once, checked against private bounds, then used: a faulty pool can make calls fail but cannot
 * make this code read or write outside its mappings.
 *
 * The life of a call, as LAYOUT.md names it: knit_session_publish() FREE -> READY, a worker CLAIMED
 * -> ANSWERED, knit_session_collect() reads the answer and, when it came inline, frees the slot at
 * once; one that lies in the slot's slab or in an arena block is read in place until
 * knit_session_release().
 *
 * Threads: one session belongs to one thread at a time. Nothing blocks but knit_session_wait().
 * Limits: geometry.slots calls between publish and release. */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/balancer.h"
#include "fastpath/lane/emit.h"
#include "fastpath/lane/layout.h"
#include "proto/trace.h"

enum {
    KNIT_SESSION_E_FULL = 1,       /* no free slot: collect or release some, then again */
    KNIT_SESSION_E_ARENA_FULL = 2, /* no room for the argument now: the same helps */
    KNIT_SESSION_E_TOO_LARGE = 3,  /* the argument is over the session's limit for one call */
    KNIT_SESSION_E_CLOSED = 4,     /* the pool closed or evicted the session */
    KNIT_SESSION_E_TIMEOUT = 5,    /* knit_session_wait(): nothing came in time */
    KNIT_SESSION_E_DRAINING = 6,   /* the pool is being shut down: it serves what is published */
    KNIT_SESSION_E_BUSY = 7,       /* knit_session_publish_at_once(): no lane is idle */
    KNIT_SESSION_E_CROWDED = 8,    /* options.depth_ns: the lanes hold enough; collect some */
};

#define KNIT_LANE_ANY UINT32_MAX
#define KNIT_SLOT_ANY UINT32_MAX

struct knit_session_options {
    enum knit_balancer balancer;
    bool steal; /* the pool's workers steal: wake a second one when calls queue up */
    uint64_t argument_max_bytes; /* of one argument; 0 = an eighth of the request arena */
    /* How much work of this session a lane may hold, the call that runs included, by the means of
     * the tasks; two calls in any case, and no more where a mean is not known or above half of it.
     * So a caller that has queues of its own decides late which call is next. 0 = what fits. */
    uint32_t depth_ns;
    /* Looks of knit_session_wait() before it reads the clock; 0 = 64, UINT32_MAX = none. Then it
     * spins for spin_us at most, adapts below that, and looks twice alone where no spin has paid
     * for long; then it sleeps. */
    uint32_t poll_turns;
    uint32_t spin_us;
    uint64_t random_seed; /* for the random balancers; 0 is replaced */
    int bell_fd; /* readable when an armed session is woken; -1 when only waited for; borrowed */
    bool report_settled; /* a collect reports when the slots of settled calls are free */
    bool bell_is_socket; /* else a pipe that only this session reads and that does not block */
    /* How a parked worker is woken, in a pool whose workers cannot sleep on the sessions' bells
     * (LAYOUT.md, "Without futex_waitv"). Both unset: by this session's bell. */
    bool asks_host; /* by the host, asked through host_fd: an eventfd; borrowed */
    int host_fd;
    const struct knit_pool_view *pool; /* in the host itself: by the lane's bell; borrowed */
};

/* For what knit_session_publish_at_once() published and no worker has claimed by then. */
#define KNIT_AT_ONCE_NS 2000000u

struct knit_session_call {
    uint32_t task; /* id in the registry's epoch */
    uint32_t epoch;
    uint32_t flags;       /* bits of the geometry's features */
    uint64_t deadline_ns; /* CLOCK_MONOTONIC; 0 = none. An expired call is not started. */
    uint32_t lane;        /* KNIT_LANE_ANY, or the lane it must go to, modulo the lanes */
    enum knit_ring ring;  /* NORMAL if the geometry lacks it */
    /* Of which it is a part, or knit_trace_none, with KNIT_CELL_TRACED: then its run is measured.
     * NULL: it is not observed. */
    const struct knit_trace *trace;
    const void *payload; /* the params array's msgpack; copied before return */
    size_t len;
    void *user; /* handed back with the outcome */
};

struct knit_session_outcome {
    void *user;
    uint32_t slot;
    uint32_t lane;   /* that answered */
    uint32_t status; /* KNIT_STATUS_RESULT, _ERROR or _BROKEN (a pool that broke the protocol) */
    bool held;       /* the payload is the slab or a block: call knit_session_release(slot) */
    size_t len;
    const void *payload; /* `body` below, or what the pool could still change */
    uint64_t body[KNIT_CELL_WORDS];
};

/* What a call that runs has emitted last. */
struct knit_session_value {
    void *user; /* of the call */
    uint32_t slot;
    struct knit_emitted emitted; /* the pool's bytes, which are not checked */
};

struct knit_session_counters {
    uint64_t wakes, sleeps, rescans;
};

struct knit_session;

/* geometry has passed knit_geometry_check() and the views lie in mappings of its size. `request` is
 * mapped writable. Picks up generations from the reply segment, so that a session may be opened on
 * segments in use before. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_session_new(const struct knit_geometry *geometry,
    const struct knit_request_view *request, const struct knit_reply_view *reply,
    const struct knit_board_view *board, const struct knit_session_options *options,
    struct knit_session **ret);
struct knit_session *knit_session_free(struct knit_session *session); /* NULL ok; returns NULL */

/* What to add to this process's CLOCK_MONOTONIC to have the host's; 0 at first. */
void knit_session_set_clock_shift(struct knit_session *session, int64_t shift_ns);

/* Publish one call. The worker may start it at once if it is awake; a parked one is only woken by
 * the next knit_session_flush(), which every waiting or arming entry does by itself: so a batch
 * costs one wake. Returns 0, E_FULL, E_ARENA_FULL, E_TOO_LARGE, E_CLOSED, E_DRAINING, E_CROWDED. On
 * anything but 0 nothing happened. */
KNIT_MUST_CHECK int knit_session_publish(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot);

/* The lane to which calls of that affinity go, in the ring PINNED. */
uint32_t knit_session_place(const struct knit_session *session, uint64_t affinity);

/* The same, to a lane that is idle: the board shows its worker serving and running no call, and
 * none of this session's calls is queued there. E_BUSY: there is none, or call->lane is not.
 * Whether the worker claims it at once is not sure; see knit_session_withdraw(). */
KNIT_MUST_CHECK int knit_session_publish_at_once(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot);

/* The same without copying: reserve room in the request arena, fill it, publish it with
 * call->payload set to that room and call->len at most what was reserved; or cancel. Writing there
 * after the publish changes what the task sees. */
KNIT_MUST_CHECK int knit_session_reserve(struct knit_session *session, size_t len, void **ret_room);
KNIT_MUST_CHECK int knit_session_publish_reserved(
    struct knit_session *session, const struct knit_session_call *call, uint32_t *ret_slot);
void knit_session_unreserve(struct knit_session *session, void *room);

/* Wake the parked workers that are needed for what was published. Cheap when there is nothing to
 * do. */
void knit_session_flush(struct knit_session *session);

/* After a flush whose caller does something else now, and neither waits nor arms for long: calls
 * that nobody has claimed after a moment may stand behind a long call, of whichever session; then a
 * parked worker is woken, which steals them. */
void knit_session_part(struct knit_session *session);

/* Outcomes in the order the lanes announced them, at most max; returns how many. Never blocks.
 * Polling alone does not finish every call: one that is queued behind a long or a stopped task goes
 * to another worker only when its caller waits or arms, so do one of these from time to time. */
size_t knit_session_collect(
    struct knit_session *session, struct knit_session_outcome *outcomes, size_t max);

/* The outcome of one slot's call if it is answered: one load when it is not. True once for each
 * call. */
KNIT_MUST_CHECK bool knit_session_collect_slot(
    struct knit_session *session, uint32_t slot, struct knit_session_outcome *ret);

/* Look at the values of the slot's call, which was published with KNIT_CELL_PROGRESS just now: what
 * it emits ends a wait and wakes an armed session, as an outcome does. False: out of memory. */
bool knit_session_watch(struct knit_session *session, uint32_t slot);

/* The last value of each call that is watched, where it was not given yet. on_value may abort and
 * settle calls, and must not publish or collect. */
void knit_session_take_values(struct knit_session *session,
    void (*on_value)(void *arg, const struct knit_session_value *value), void *arg);

/* The same for the slot's call, which was watched, and collected just now: nothing follows. */
KNIT_MUST_CHECK bool knit_session_last_value(
    struct knit_session *session, uint32_t slot, struct knit_session_value *ret);

/* Whether any call is, or was lately. */
bool knit_session_is_watching(const struct knit_session *session);

/* Release a held outcome: its payload may not be read any more, and the slot is free. */
void knit_session_release(struct knit_session *session, uint32_t slot);

/* The generation of the slot's call, or its last one: of its calls, which one it is. */
uint64_t knit_session_gen_of(const struct knit_session *session, uint32_t slot);

/* Set the call's abort flag: a queued call is answered CANCELLED, a running one sees
 * knit_aborted(). The outcome still comes. Idempotent. */
void knit_session_abort(struct knit_session *session, uint32_t slot);

/* Before an abort: why. The first KNIT_VALUE_MAX bytes of a text, cut where a character begins; the
 * first reason of a call stays. */
void knit_session_tell(struct knit_session *session, uint32_t slot, struct knit_span reason);

/* Whether a worker has claimed the slot's call, which is published and not collected. An answered
 * call has started. False may be out of date when it is returned; only after
 * knit_session_settle() does it stay false. */
bool knit_session_has_started(const struct knit_session *session, uint32_t slot);

/* End the call for its user if no worker has claimed it: true, and then it never runs; the rest is
 * as with knit_session_settle(). False: it goes on. It runs, or is answered, or is refused with
 * TIMEOUT in this very moment; its outcome comes, and a later abort or settle has its effect. */
KNIT_MUST_CHECK bool knit_session_withdraw(struct knit_session *session, uint32_t slot);

/* The same with knit_session_abort(): what is not claimed is settled and never runs, what runs sees
 * its abort. */
KNIT_MUST_CHECK bool knit_session_cancel(struct knit_session *session, uint32_t slot);

/* End the call for its user before the answer (deadline passed, abort with a reason): aborts it and
 * drops the answer when it comes; the slot is in use until then. With report_settled a collect then
 * gives an outcome of which only `slot` is valid. ret_started: KNIT_STARTED_NO guarantees that the
 * call never runs. False: it is answered already; collect it instead. */
KNIT_MUST_CHECK bool knit_session_settle(
    struct knit_session *session, uint32_t slot, int *ret_started);

/* The argument of a call that was published and that no worker has claimed, settled or not: good
 * until the next publish. False: it is not there. */
KNIT_MUST_CHECK bool knit_session_argument(
    const struct knit_session *session, uint32_t slot, struct knit_span *ret_argument);

/* Block until the slot's call (or, with KNIT_SLOT_ANY, any call) is answered: spins, then sleeps.
 * until_ns: CLOCK_MONOTONIC. Callers with a control socket pass at most 50 ms and look at it
 * between. Returns 0 (collect now), E_TIMEOUT, E_CLOSED. May return 0 early. */
int knit_session_wait(struct knit_session *session, uint32_t slot, uint64_t until_ns);

/* Whether a worker of calls in flight looked for them on the core of this thread last: then a spin
 * would only keep it from them. */
KNIT_MUST_CHECK bool knit_session_shares_core(struct knit_session *session);

/* For event loops. Arm: true when it is safe to sleep on bell_fd; false when there is something to
 * collect at once. Disarm after waking, and whenever bell_fd is readable: reads all bytes from it.
 * A wake-up may come late, when the session is not armed any more. */
bool knit_session_arm(struct knit_session *session);
bool knit_session_is_armed(const struct knit_session *session);
void knit_session_disarm(struct knit_session *session);

/* Calls published and neither collected nor settled. Zombies (settled, not yet answered) do not
 * count. */
uint32_t knit_session_in_flight(const struct knit_session *session);
uint32_t knit_session_slots_free(const struct knit_session *session);

/* Whether a call like the one that was crowded out last would find room: in a lane that has a
 * worker, or in this one (modulo the lanes). */
bool knit_session_has_room(const struct knit_session *session);
bool knit_session_has_room_in(const struct knit_session *session, uint32_t lane);

/* Calls that were deferred count for nothing in their lanes: before asking for room. */
void knit_session_note_deferrals(struct knit_session *session);

/* From now on lanes are filled with as much as fits. */
void knit_session_fill_lanes(struct knit_session *session);
bool knit_session_is_closed(const struct knit_session *session);
const struct knit_session_counters *knit_session_counters(const struct knit_session *session);
