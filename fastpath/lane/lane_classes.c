/* SPDX-License-Identifier: Apache-2.0 */
/* The order of the rings of one session: urgent calls, then normal and pinned ones by turns, then
 * background ones.
 *
 * Nothing starves: a call of a later ring is served after KNIT_AGE_CALLS of earlier ones, or when
 * it has been the next of its ring for KNIT_AGE_NS. Either alone would let one starve: counts
 * behind tasks of seconds, time behind tasks of a microsecond. Of several such the one that has
 * stood longest comes first, a call of the first ring among them: where all tasks take long, each
 * ring has one that has stood for so long, and the last of them would keep out those before it. No
 * time stands in the cell: callers read no clock, and the worker stamps what it sees.
 *
 * This is the order of one session's calls. Sessions share the worker's time before it, by what
 * they are charged (deficit.h), so no caller gains by calling its calls urgent.
 *
 * A session that has never published in another ring than NORMAL does not come here. Of one that
 * has, calls of NORMAL are served by the loop of lane_serve.h still, as many as the other rings
 * leave to it; what is published meanwhile in a ring before it waits for these.
 */
#include "fastpath/lane/lane_classes.h"

#include "fastpath/lane/board.h"

#define KNIT_AGE_CALLS 16u
#define KNIT_AGE_NS    100000000u
#define LOOKS_MAX      8u /* at rings in which another owner was first */

bool knit_lane_has_aged(struct knit_cursor *cursor, uint64_t now)
{
    if (cursor->stood_ns == 0 || cursor->stood_q != (uint16_t)cursor->q) {
        cursor->stood_q = (uint16_t)cursor->q;
        cursor->stood_ns = now;
        return false;
    }
    return now - cursor->stood_ns >= KNIT_AGE_NS;
}

bool knit_lane_has_classes(struct knit_lane *lane, struct knit_worker_session *session)
{
    const uint32_t used = knit_rings_used(&session->in.geometry, &session->in.request);

    for (uint32_t ring = KNIT_RING_NORMAL + 1; ring < KNIT_CLASSES_MAX; ring++) {
        if ((used >> ring & 1) != 0 &&
            knit_cursor_peek(knit_lane_cursor(lane, session, lane->options.index, ring)))
            return true;
    }
    return false;
}

bool knit_lane_has_more(
    struct knit_lane *lane, struct knit_worker_session *session, struct knit_cursor *cursor)
{
    const uint32_t used = knit_rings_used(&session->in.geometry, &session->in.request);
    uint32_t from, rings;

    if (used == 1u << KNIT_RING_NORMAL)
        return knit_cursor_peek(cursor);
    from = knit_lane_of(lane, session, cursor);
    rings = used;
    if (!knit_board_is_vacant(&lane->options.board, from))
        rings &= ~(1u << KNIT_RING_PINNED);
    for (uint32_t ring = 0; ring < KNIT_CLASSES_MAX; ring++) {
        if ((rings >> ring & 1) != 0 &&
            knit_cursor_peek(knit_lane_cursor(lane, session, from, ring)))
            return true;
    }
    return false;
}

/* The rings of a session in which there are calls, in their order. */
struct choice {
    enum knit_ring ring[KNIT_CLASSES_MAX];
    uint32_t count;
    uint32_t at; /* the one that is served, by its place */
};

static void find_rings(
    struct knit_lane *lane, struct knit_worker_session *session, struct choice *ret)
{
    const bool is_pinned_next = session->aging.is_pinned_next;
    const enum knit_ring order[KNIT_CLASSES_MAX] = {KNIT_RING_URGENT,
        is_pinned_next ? KNIT_RING_PINNED : KNIT_RING_NORMAL,
        is_pinned_next ? KNIT_RING_NORMAL : KNIT_RING_PINNED, KNIT_RING_BACKGROUND};
    const uint32_t used = knit_rings_used(&session->in.geometry, &session->in.request);

    ret->count = 0;
    for (uint32_t i = 0; i < KNIT_CLASSES_MAX; i++) {
        const enum knit_ring ring = order[i];

        if ((used >> ring & 1) != 0 &&
            knit_cursor_peek(knit_lane_cursor(lane, session, lane->options.index, ring)))
            ret->ring[ret->count++] = ring;
        else
            session->aging.passed[ring] = 0;
    }
}

/* The first one; or of those that have waited for too long, the one that has for longest. */
static bool choose(struct knit_lane *lane, struct knit_worker_session *session, struct choice *ret)
{
    uint64_t now, oldest_ns = UINT64_MAX;

    find_rings(lane, session, ret);
    ret->at = 0;
    if (ret->count < 2)
        return ret->count != 0;
    now = knit_clock_ns();
    for (uint32_t i = 0; i < ret->count; i++) {
        const enum knit_ring ring = ret->ring[i];
        struct knit_cursor *cursor = knit_lane_cursor(lane, session, lane->options.index, ring);

        if ((knit_lane_has_aged(cursor, now) || session->aging.passed[ring] >= KNIT_AGE_CALLS) &&
            cursor->stood_ns < oldest_ns) {
            oldest_ns = cursor->stood_ns;
            ret->at = i;
        }
    }
    return true;
}

/* So many calls of NORMAL may follow each other: where only later rings have calls, as many as
 * these have to let pass. */
static uint32_t burst_of(const struct knit_worker_session *session, const struct choice *choice)
{
    uint32_t most = choice->count > 1 ? KNIT_AGE_CALLS : UINT32_MAX;

    if (choice->at > 0)
        return 1;
    for (uint32_t i = 1; i < choice->count; i++) {
        const uint32_t passed = session->aging.passed[choice->ring[i]];

        if (choice->ring[i] == KNIT_RING_PINNED)
            return 1;
        if (most > KNIT_AGE_CALLS - passed)
            most = KNIT_AGE_CALLS - passed;
    }
    return most;
}

static void note_served(
    struct knit_worker_session *session, const struct choice *choice, uint32_t count)
{
    struct knit_aging *aging = &session->aging;
    const enum knit_ring served = choice->ring[choice->at];

    for (uint32_t i = choice->at + 1; i < choice->count; i++) {
        uint8_t *passed = &aging->passed[choice->ring[i]];

        *passed = (uint8_t)(*passed + count < KNIT_AGE_CALLS ? *passed + count : KNIT_AGE_CALLS);
    }
    aging->passed[served] = 0;
    if (served == KNIT_RING_NORMAL || served == KNIT_RING_PINNED)
        aging->is_pinned_next = served == KNIT_RING_NORMAL;
}

/* One call of a ring but NORMAL. False: it has none, or another owner was first. */
static bool serve_next(
    struct knit_lane *lane, struct knit_worker_session *session, struct knit_cursor *cursor)
{
    struct knit_ready_call ready;

    if (!knit_lane_find(lane, session, cursor, &ready))
        return false;
    session->is_held =
        knit_lane_holds(lane, session, cursor, knit_meta_task(ready.head.meta), true);
    return !session->is_held && knit_lane_call(lane, session, cursor, &ready);
}

uint32_t knit_lane_serve_classes(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most)
{
    uint32_t answers = 0, looks = 0;
    struct choice choice;

    while (answers < most && looks < LOOKS_MAX && knit_deficit_has_credit(&session->deficit) &&
           !lane->was_long && !session->is_held && !knit_worker_session_is_shut(session) &&
           choose(lane, session, &choice)) {
        const enum knit_ring ring = choice.ring[choice.at];
        uint32_t got, burst;

        if (ring == KNIT_RING_NORMAL) {
            burst = burst_of(session, &choice);
            got =
                lane->options.serve(lane, session, burst < most - answers ? burst : most - answers);
        } else {
            got = serve_next(
                lane, session, knit_lane_cursor(lane, session, lane->options.index, ring));
        }
        looks += got == 0;
        answers += got;
        if (got > 0)
            note_served(session, &choice, got);
    }
    return answers;
}
