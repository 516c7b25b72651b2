/* SPDX-License-Identifier: Apache-2.0 */
/* Between a client's handles and a session of the lanes: which task has which number, and how many
 * results may be read in place.
 *
 * Tasks have numbers in the lanes, so the registry is fetched once, before the first call, and
 * again when a name is missing from it or an answer says that the numbers have changed.
 */
#include "clients/lib/lanes.h"

#include <stdlib.h>
#include <string.h>

#include <knitting/knitting.h>

#include "clients/lib/error.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/clock.h"
#include "fastpath/lane/state.h"
#include "proto/failure.h"

enum {
    /* Results stay in place up to this part of the slots and of a lane's arena; further ones are
       copied. So a caller that keeps its results for long still has slots for further calls, and
       mostly room for their results. Not always: when the lanes together have used up their budget,
       a lane has no more room than one largest result needs, and then a result that is held there
       makes the next one of that size wait until it is freed. */
    HELD_PART = 4,
};

struct knit_lanes *knit_lanes_new(const struct knit_lanes_options *options)
{
    struct knit_lanes *lanes = calloc(1, sizeof(*lanes));

    if (lanes == NULL)
        return NULL;
    lanes->options = *options;
    lanes->session = options->session;
    lanes->age = 1;
    return lanes;
}

static void free_registry(struct knit_lanes *lanes)
{
    if (!lanes->options.source->lends_registry)
        (void)knit_registry_free(lanes->registry);
}

struct knit_lanes *knit_lanes_free(struct knit_lanes *lanes, bool is_ours)
{
    if (lanes == NULL)
        return NULL;
    free_registry(lanes);
    lanes->options.source->free(&lanes->options, is_ours);
    free(lanes);
    return NULL;
}

/* ---- tasks ---- */

static void grow_older(struct knit_lanes *lanes)
{
    if (++lanes->age == 0)
        lanes->age = 1;
}

void knit_lanes_take_registry(struct knit_lanes *lanes, struct knit_registry *registry)
{
    free_registry(lanes);
    lanes->registry = registry;
    lanes->epoch = registry != NULL ? knit_registry_epoch(registry) : 0;
    lanes->is_stale = false;
    grow_older(lanes);
}

void knit_lanes_follow(struct knit_lanes *lanes, uint32_t age)
{
    lanes->age = age;
    grow_older(lanes);
}

int knit_lanes_fetch_registry(
    struct knit_lanes *lanes, uint64_t until_ns, struct knit_error *ret_error)
{
    struct knit_registry *registry = NULL;
    int code;

    /* They stay here when they are lost meanwhile. */
    lanes->held++;
    code =
        lanes->options.source->fetch_registry(lanes->options.arg, until_ns, &registry, ret_error);
    lanes->held--;
    if (code == KNIT_OK && lanes->is_lost) {
        (void)knit_registry_free(registry);
        code = knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO,
            "the connection was lost while the tasks were asked for");
    }
    if (code != KNIT_OK)
        return code;
    knit_lanes_take_registry(lanes, registry);
    return KNIT_OK;
}

const struct knit_registry_task *knit_lanes_look_up(
    const struct knit_lanes *lanes, const char *task)
{
    return lanes->registry != NULL && !lanes->is_stale
               ? knit_registry_find(lanes->registry, task, strlen(task))
               : NULL;
}

int knit_lanes_find(struct knit_lanes *lanes, const char *task, uint32_t wait_ms,
    const struct knit_registry_task **ret_task, struct knit_error *ret_error)
{
    size_t len = strlen(task);
    const struct knit_registry_task *found = knit_lanes_look_up(lanes, task);
    int code;

    if (found == NULL) {
        code = knit_lanes_fetch_registry(
            lanes, knit_clock_ns() + (uint64_t)wait_ms * 1000000, ret_error);
        if (code != KNIT_OK)
            return code;
        if (lanes->registry != NULL)
            found = knit_registry_find(lanes->registry, task, len);
    }
    if (found == NULL) {
        const struct knit_registry_task *near =
            lanes->registry != NULL ? knit_registry_nearest(lanes->registry, task, len) : NULL;

        return knit_error_make(ret_error, KNIT_UNKNOWN_TASK, KNIT_STARTED_NO,
            near != NULL ? "there is no task '%s'; the nearest is '%s'" : "there is no task '%s'",
            task, near != NULL ? near->name : "");
    }
    *ret_task = found;
    return KNIT_OK;
}

void knit_lanes_note_error(struct knit_lanes *lanes, struct knit_span error)
{
    struct knit_failure failure;

    if (knit_failure_decode(error, &failure) == 0 && failure.code == KNIT_STALE_EPOCH) {
        lanes->is_stale = true;
        grow_older(lanes);
    }
}

/* ---- calls ---- */

uint64_t knit_lanes_argument_max(const struct knit_lanes *lanes)
{
    return lanes->options.argument_max;
}

void knit_lanes_set_clock_shift(struct knit_lanes *lanes, int64_t shift_ns)
{
    lanes->clock_shift_ns = shift_ns;
    knit_session_set_clock_shift(lanes->session, shift_ns);
}

int knit_lanes_start(
    struct knit_lanes *lanes, struct knit_session_call *call, bool at_once, uint32_t *ret_slot)
{
    int r;

    call->epoch = lanes->epoch;
    if (lanes->clock_shift_ns != 0 && call->deadline_ns != 0)
        call->deadline_ns = knit_clock_shifted(call->deadline_ns, lanes->clock_shift_ns);
    r = at_once ? knit_session_publish_at_once(lanes->session, call, ret_slot)
                : knit_session_publish(lanes->session, call, ret_slot);
    switch (r) {
    case 0:
        /* Without memory for it no value is seen. */
        if ((call->flags & KNIT_CELL_PROGRESS) != 0)
            (void)knit_session_watch(lanes->session, *ret_slot);
        if (at_once)
            knit_session_flush(lanes->session);
        return KNIT_OK;
    case KNIT_SESSION_E_BUSY:
        return KNIT_OVERLOADED;
    case KNIT_SESSION_E_TOO_LARGE:
        return KNIT_TOO_LARGE;
    case KNIT_SESSION_E_CLOSED:
        return KNIT_DISCONNECTED;
    case KNIT_SESSION_E_DRAINING:
        return KNIT_DRAINING;
    default:
        return KNIT_WOULD_BLOCK;
    }
}

int knit_lanes_check(const struct knit_lanes *lanes)
{
    if (knit_session_is_closed(lanes->session))
        return KNIT_DISCONNECTED;
    return knit_state_is_open(&lanes->session->reply) ? KNIT_OK : KNIT_DRAINING;
}

size_t knit_lanes_collect(
    struct knit_lanes *lanes, struct knit_session_outcome *outcomes, size_t max)
{
    return knit_session_collect(lanes->session, outcomes, max);
}

bool knit_lanes_collect_slot(
    struct knit_lanes *lanes, uint32_t slot, struct knit_session_outcome *ret)
{
    return knit_session_collect_slot(lanes->session, slot, ret);
}

bool knit_lanes_try_hold(struct knit_lanes *lanes, size_t len)
{
    if (lanes->held >= lanes->options.slots / HELD_PART ||
        len > lanes->options.reply_arena_bytes / HELD_PART - lanes->held_bytes)
        return false;
    lanes->held++;
    lanes->held_bytes += len;
    return true;
}

void knit_lanes_release_held(struct knit_lanes *lanes, uint32_t slot, size_t len)
{
    lanes->held--;
    lanes->held_bytes -= len;
    knit_session_release(lanes->session, slot);
}

void knit_lanes_release(struct knit_lanes *lanes, uint32_t slot)
{
    knit_session_release(lanes->session, slot);
}

void knit_lanes_cancel(struct knit_lanes *lanes, uint32_t slot)
{
    knit_session_abort(lanes->session, slot);
}

bool knit_lanes_withdraw(struct knit_lanes *lanes, uint32_t slot)
{
    return knit_session_withdraw(lanes->session, slot);
}

bool knit_lanes_settle(struct knit_lanes *lanes, uint32_t slot, enum knit_started *ret_started)
{
    int started;

    if (!knit_session_settle(lanes->session, slot, &started))
        return false;
    *ret_started = (enum knit_started)started;
    return true;
}

uint32_t knit_lanes_in_flight(const struct knit_lanes *lanes)
{
    return knit_session_in_flight(lanes->session);
}

uint64_t knit_lanes_retry_ms(const struct knit_lanes *lanes, uint32_t task)
{
    const struct knit_session *session = lanes->session;
    uint64_t half = knit_session_in_flight(session) / 2 + 1;

    return half * knit_board_mean_ns(&session->board, task) / session->geometry.lanes / 1000000 + 1;
}

/* ---- waiting ---- */

bool knit_lanes_is_closed(const struct knit_lanes *lanes)
{
    return knit_session_is_closed(lanes->session);
}

int knit_lanes_wait(struct knit_lanes *lanes, uint32_t slot, uint64_t until_ns)
{
    int r = knit_session_wait(lanes->session, slot, until_ns);

    if (r == KNIT_SESSION_E_CLOSED)
        return KNIT_LANES_E_CLOSED;
    return r == 0 ? 0 : KNIT_LANES_E_TIMEOUT;
}

int knit_lanes_bell_fd(const struct knit_lanes *lanes)
{
    return lanes->options.bell_fd;
}

bool knit_lanes_arm(struct knit_lanes *lanes)
{
    return knit_session_arm(lanes->session);
}

void knit_lanes_disarm(struct knit_lanes *lanes)
{
    knit_session_disarm(lanes->session);
}
