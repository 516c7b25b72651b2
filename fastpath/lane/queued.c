/* SPDX-License-Identifier: Apache-2.0 */
/* Rings are walked as the host's sweep walks them (recovery.c), but nothing is claimed and no word
 * is written. A bad cell ends the walk of its ring: workers judge the session. */
#include "fastpath/lane/queued.h"

#include "fastpath/lane/cursor.h"

/* Goes on as long as it returns true. */
typedef bool visit(void *arg, const struct knit_queued *call);

static bool walk_ring(
    struct knit_cursor *cursor, uint32_t lane, uint32_t *steps, visit *on_call, void *arg)
{
    struct knit_ready_call ready;

    while (knit_cursor_find(cursor, steps, &ready) == KNIT_CELL_READY) {
        const struct knit_queued call = {
            lane, ready.head.slot, knit_meta_task(ready.head.meta), knit_ctrl_gen(ready.head.ctrl)};

        if (!on_call(arg, &call))
            return false;
        cursor->q++;
        --*steps;
    }
    return true;
}

/* steps: cells that may be read, counted down. */
static void walk(
    const struct knit_host_session_view *session, uint32_t *steps, visit *on_call, void *arg)
{
    uint32_t used;

    /* A session whose request segment is not sealed has no request view. */
    if (session->request.header == NULL)
        return;
    used = knit_rings_used(&session->geometry, &session->request);
    for (uint32_t lane = 0; lane < session->geometry.lanes; lane++) {
        for (uint32_t ring = 0; ring < KNIT_CLASSES_MAX; ring++) {
            struct knit_cursor cursor;

            if ((used >> ring & 1) == 0)
                continue;
            knit_cursor_begin(
                &cursor, &session->geometry, &session->request, &session->reply, lane, ring);
            if (!walk_ring(&cursor, lane, steps, on_call, arg))
                return;
        }
    }
}

struct listing {
    struct knit_queued *calls;
    uint32_t count, max;
};

static bool note(void *arg, const struct knit_queued *call)
{
    struct listing *listing = arg;

    if (listing->count < listing->max)
        listing->calls[listing->count] = *call;
    listing->count++;
    return true;
}

uint32_t knit_queued_list(const struct knit_host_session_view *session, uint32_t *steps,
    struct knit_queued *ret_calls, uint32_t max)
{
    struct listing listing = {.calls = ret_calls, .max = max};

    walk(session, steps, note, &listing);
    return listing.count;
}

static bool count(void *arg, const struct knit_queued *call)
{
    uint64_t *calls = arg;

    calls[knit_runs_row(call->task)]++;
    return true;
}

void knit_queued_count(
    const struct knit_host_session_view *session, uint32_t *steps, uint64_t calls[KNIT_RUN_ROWS])
{
    walk(session, steps, count, calls);
}

struct search {
    uint32_t slot;
    uint64_t gen;
    bool is_found;
};

static bool compare(void *arg, const struct knit_queued *call)
{
    struct search *search = arg;

    search->is_found = call->slot == search->slot && call->gen == search->gen;
    return !search->is_found;
}

bool knit_queued_has(const struct knit_host_session_view *session, uint32_t slot, uint64_t gen)
{
    struct search search = {.slot = slot, .gen = gen};
    uint32_t steps = KNIT_QUEUED_CELLS;

    walk(session, &steps, compare, &search);
    return search.is_found;
}
