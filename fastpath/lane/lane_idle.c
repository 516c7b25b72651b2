/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker does whose home rings are empty: spin, steal (lane_steal.c), and in the end park
 * (lane_park.c). */
#include "fastpath/lane/lane_steal.h"

#include <sched.h>

#define TIGHT_SPIN_NS 2000u /* then pause_ns lie between two looks of a spin */

/* The slot of the answer that lies so many behind the next one. */
static uint32_t slot_before(const struct knit_worker_session *session, uint64_t back)
{
    const uint64_t position = session->completion_tail - back;

    /* relaxed: this worker, or a dead one, has written it. */
    return knit_completion_slot(atomic_load_explicit(
        &session->completions[position & (session->in.geometry.cells - 1)], memory_order_relaxed));
}

/* Fetches the lines of the next answer into this core's cache while there is nothing to do. The
 * guess is that its slot is as far from the last one as that from the one before. */
static void prefetch_answer(const struct knit_lane *lane)
{
    const struct knit_worker_session *session;
    uint32_t slot;

    if (lane->session_count == 0)
        return;
    session = lane->sessions[0];
    slot = 2 * slot_before(session, 1) - slot_before(session, 2);
    if (slot >= session->in.geometry.slots)
        slot = 0;
    __builtin_prefetch(&session->in.reply.reply[slot], 1, 3);
    __builtin_prefetch(&session->in.reply.reply[slot].body[KNIT_HEAD_WORDS], 1, 3);
    __builtin_prefetch(&session->in.reply.claim[slot], 1, 3);
}

/* When the kernel knows of no shared cache, as on many virtual machines, a woken thread stays on
 * the core it slept on. A caller and a worker that meet on one core then stay there: each call
 * costs a context switch, and other cores are idle. So a worker that has met its caller there for
 * long, or whose spins have failed for long, moves to another core of those it is allowed. */
static void step_aside(void)
{
    cpu_set_t allowed, others;
    int cpu = sched_getcpu();
    if (cpu < 0 || cpu >= CPU_SETSIZE || sched_getaffinity(0, sizeof(allowed), &allowed) != 0)
        return;
    others = allowed;
    CPU_CLR(cpu, &others);
    if (CPU_COUNT(&others) == 0)
        return;
    if (sched_setaffinity(0, sizeof(others), &others) == 0)
        (void)sched_setaffinity(0, sizeof(allowed), &allowed);
}

static void look_at_core(struct knit_lane *lane)
{
    if (knit_core_look(&lane->core))
        /* relaxed: a hint. */
        atomic_store_explicit(&lane->options.board.park[lane->options.index].core,
            lane->core.number, memory_order_relaxed);
}

/* After a park. True: no spin has succeeded for long, or none was tried. */
static bool gave_up(struct knit_lane *lane)
{
    if (!lane->shares_core)
        return knit_spin_failed(&lane->spin);
    return ++lane->shared % KNIT_SPIN_RETRY == 0;
}

void knit_lane_idle(struct knit_lane *lane)
{
    uint64_t start, steal_at;
    uint32_t spin_ns;
    bool tries_again;
    int looks;

    atomic_store_explicit(&lane->busy->running, 0, memory_order_relaxed);
    lane->round += KNIT_ROUNDS_MAX;
    prefetch_answer(lane);
    look_at_core(lane);
    start = knit_clock_ns();
    knit_lane_publish_flows(lane, start);
    steal_at = start;
    /* A caller waits for this core, or may, when no spin has succeeded for long. */
    spin_ns = lane->shares_core ? 0 : lane->spin.now_ns;
    looks = spin_ns == 0 ? 1 : 16;
    for (;;) {
        uint64_t now;

        for (int i = 0; i < looks; i++) {
            if (knit_lane_has_home_work(lane, false)) {
                knit_spin_paid(&lane->spin);
                return;
            }
            knit_bell_pause();
        }
        now = knit_clock_ns();
        if (knit_lane_has_requests(lane))
            return;
        if (knit_lane_send_any_deferred(lane, KNIT_SWEEP_TURN)) {
            knit_lane_wake_callers(lane);
            return;
        }
        if (now >= steal_at) {
            const enum knit_lane_stealable got =
                knit_lane_scan_others(lane, KNIT_STEAL_RINGS, true);

            if (got == KNIT_STEAL_NOW) {
                knit_lane_wake_callers(lane);
                return;
            }
            if (got == KNIT_STEAL_NOTHING)
                knit_lane_flows_forget(&lane->flows);
            steal_at = now + KNIT_STEAL_AFTER_NS;
        }
        if (now - start >= spin_ns)
            break;
        if (now - start > TIGHT_SPIN_NS) {
            while (knit_clock_ns() - now < lane->options.pause_ns)
                knit_bell_pause();
        }
    }
    if (lane->shares_core && knit_core_yield(&lane->core) && knit_lane_has_home_work(lane, true))
        return;
    tries_again = gave_up(lane);
    knit_lane_park(lane);
    if (tries_again && !lane->core.is_only)
        step_aside();
}
