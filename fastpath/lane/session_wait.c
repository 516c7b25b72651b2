/* SPDX-License-Identifier: Apache-2.0 */
/* Waiting for outcomes: spin, announce, sleep; or arm an event loop.
 *
 * Edges:
 *   W2 sleep  fence between `waiting` and the look at the replies; with the fence between answer
 *             and the load of `waiting` (wake.h)
 */
#include "fastpath/lane/session_private.h"

#include <errno.h>

#include "fastpath/lane/board.h"

/* Whether there may be something to collect: never false while there is. */
static bool is_ready(const struct knit_session *session, uint32_t index)
{
    const uint32_t lanes = session->geometry.lanes;
    bool all;

    if (session->work_ns != NULL &&
        atomic_load_explicit(session->reply.deferrals, memory_order_acquire) != session->deferrals)
        return true;
    if (__builtin_expect(session->watch_count != 0, 0) && knit_session_has_values(session))
        return true;
    if (index != KNIT_SLOT_ANY)
        return session->slots[index].state != KNIT_SLOT_IN_FLIGHT ||
               knit_session_is_answered(session, index);
    /* Unread completions are of calls that were collected by slot. */
    if (session->free + session->held == session->geometry.slots)
        return false;
    if (session->scan_from != KNIT_NO_SLOT || atomic_load_explicit(&session->reply.state->rescan,
                                                  memory_order_acquire) != session->rescan)
        return true;
    /* N2, acquire: as in knit_session_begin_look(). */
    if (atomic_load_explicit(session->reply.strays, memory_order_acquire) != session->strays)
        return true;
    all = session->looks == UINT32_MAX;
    for (uint32_t i = 0; (i = knit_session_next_lane(session, i, all)) < lanes; i++) {
        uint32_t entry;
        if (knit_session_next_completion(session, &session->lanes[i], &entry) >= 0)
            return true;
    }
    return false;
}

/* Fetches the lines of the next publish into this core's cache during the spin. */
static void prefetch_next(const struct knit_session *session, uint32_t index)
{
    uint32_t lane = index != KNIT_SLOT_ANY ? session->slots[index].lane : 0;
    struct knit_request_cell *cell = session->lanes[lane].normal.cell;
    __builtin_prefetch(cell, 1, 3);
    __builtin_prefetch(&cell->body[KNIT_HEAD_WORDS], 1, 3);
}

/* The second line of an answer is written before the first, so both can travel at once. */
static void prefetch_spill(const struct knit_session *session, uint32_t index)
{
    if (index != KNIT_SLOT_ANY)
        __builtin_prefetch(&session->reply.reply[index].body[KNIT_HEAD_WORDS], 0, 3);
}

/* The core that this thread runs on; workers read it too. */
static uint32_t look_at_core(struct knit_session *session)
{
    if (knit_core_look(&session->core))
        /* relaxed: a hint. */
        atomic_store_explicit(session->request.core, session->core.number, memory_order_relaxed);
    return session->core.number;
}

bool knit_session_shares_core(struct knit_session *session)
{
    const uint32_t core = look_at_core(session);

    for (uint32_t i = 0;
         core != 0 && (i = knit_session_next_lane(session, i, false)) < session->geometry.lanes;
         i++) {
        if (session->queued[i] > 0 && knit_board_core(&session->board, i) == core)
            return true;
    }
    return false;
}

/* The same for the worker of one slot's lane. */
static bool shares_core_for(struct knit_session *session, uint32_t index)
{
    uint32_t core;

    if (index == KNIT_SLOT_ANY)
        return knit_session_shares_core(session);
    core = look_at_core(session);
    return core != 0 && knit_board_core(&session->board, session->slots[index].lane) == core;
}

static bool spin_until_ready(struct knit_session *session, uint32_t index)
{
    /* Few when no spin has succeeded for long: the worker may need this core. */
    const uint32_t most = session->options.poll_turns,
                   looks = session->spin.now_ns == 0 && most > 2 ? 2 : most;
    uint64_t until;
    for (uint32_t i = 0; i < looks; i++) {
        if (is_ready(session, index))
            return true;
        prefetch_spill(session, index);
        knit_bell_pause();
    }
    if (session->spin.now_ns == 0)
        return false;
    until = knit_clock_ns() + session->spin.now_ns;
    do {
        for (int i = 0; i < 32; i++) {
            if (is_ready(session, index)) {
                knit_spin_paid(&session->spin);
                return true;
            }
            prefetch_spill(session, index);
            knit_bell_pause();
        }
    } while (knit_clock_ns() < until);
    return false;
}

/* After a sleep. If no worker has ended it, one that was stopped may not have said what it
 * answered. */
static void note_sleep(struct knit_session *session, uint32_t kind)
{
    /* relaxed: no more than a reason to look. */
    if (atomic_load_explicit(session->reply.notified, memory_order_relaxed) !=
        (session->arm << 1 | kind))
        session->looks = UINT32_MAX;
}

/* Announces a sleep. kind: 1 futex, 0 event loop. False: there is something to collect, and the
 * announcement is withdrawn. */
static bool announce(struct knit_session *session, uint32_t index, uint32_t kind)
{
    session->arm = session->arm % 0x7fffffff + 1;
    atomic_store_explicit(session->request.waiting, session->arm << 1 | kind, memory_order_relaxed);
    knit_bell_fence(); /* W2 */
    if (!is_ready(session, index))
        return true;
    atomic_store_explicit(session->request.waiting, 0, memory_order_relaxed);
    return false;
}

int knit_session_wait(struct knit_session *session, uint32_t index, uint64_t until_ns)
{
    bool may_spin;

    knit_session_flush(session);
    prefetch_next(session, index);
    may_spin = !shares_core_for(session, index);
    if (may_spin ? spin_until_ready(session, index)
                 : knit_core_yield(&session->core) && is_ready(session, index))
        return 0;
    for (;;) {
        uint32_t notified;
        int got;

        knit_session_wake_for_unclaimed(session);
        /* Loaded before the announcement: a waker changes it after having read that. */
        notified = atomic_load_explicit(session->reply.notified, memory_order_acquire);
        if (!announce(session, index, 1))
            break;
        if (may_spin)
            (void)knit_spin_failed(&session->spin);
        session->counters.sleeps++;
        got = knit_bell_wait(session->reply.notified, notified, until_ns);
        atomic_store_explicit(session->request.waiting, 0, memory_order_relaxed);
        note_sleep(session, 1);
        if (is_ready(session, index))
            break;
        if (knit_session_is_closed(session))
            return KNIT_SESSION_E_CLOSED;
        if (got == ETIMEDOUT || (until_ns != 0 && knit_clock_ns() >= until_ns))
            return KNIT_SESSION_E_TIMEOUT;
    }
    return 0;
}

bool knit_session_arm(struct knit_session *session)
{
    knit_session_flush(session);
    knit_session_wake_for_unclaimed(session);
    session->is_armed = announce(session, KNIT_SLOT_ANY, 0);
    return session->is_armed;
}

bool knit_session_is_armed(const struct knit_session *session)
{
    return session->is_armed;
}

void knit_session_disarm(struct knit_session *session)
{
    if (session->is_armed) {
        atomic_store_explicit(session->request.waiting, 0, memory_order_relaxed);
        note_sleep(session, 0);
    }
    session->is_armed = false;
    knit_bell_swallow(session->options.bell_fd, !session->options.bell_is_socket);
}
