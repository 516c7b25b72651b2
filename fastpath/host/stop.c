/* SPDX-License-Identifier: Apache-2.0 */
/* The word names one generation, so it needs no reset when its call has ended. The bit in the
 * session's state, which sends each claim of the session the long way, is taken back when no call
 * of the session is waited for.
 *
 * That the host claims and answers what is queued was rejected: claims go in the order of a ring,
 * since a ring has few cells more than its session has slots, and a call that is answered out of
 * turn frees its slot and not its cell.
 */
#include "fastpath/host/stop.h"

#include "fastpath/host/host.h"
#include "fastpath/host/session.h"
#include "fastpath/host/tick.h"
#include "fastpath/host/timeout.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/queued.h"
#include "fastpath/lane/state.h"

#define LOOK_NS  100000000u /* from one look for ended calls to the next */
#define RETRY_NS 5000000u   /* its worker is not seen stopped yet, or not to run it */
#define MS_NS    UINT64_C(1000000)

static bool is_there(const struct knit_host_session *session, const struct knit_host_address *call)
{
    if (!knit_recovery_awaits(&session->view, call->slot, call->gen))
        return false;
    return knit_claim_gen(knit_recovery_claim(&session->view, call->slot)) == call->gen ||
           knit_queued_has(&session->view, call->slot, call->gen) ||
           /* It may have been claimed between the two looks. */
           knit_claim_gen(knit_recovery_claim(&session->view, call->slot)) == call->gen;
}

/* Of a call that is not there. Of sessions that have ended it is not known what calls they had. */
static bool was_there(const struct knit_host *pool, const struct knit_host_session *session,
    const struct knit_host_address *call)
{
    if (session == NULL)
        return call->session > 0 && call->session < pool->next_session;
    return call->slot < session->view.geometry.slots &&
           knit_recovery_has_answered(&session->view, call->slot, call->gen);
}

/* NULL: there is no room. */
static struct knit_host_stop *find_or_add(
    struct knit_host *pool, const struct knit_host_address *call)
{
    struct knit_host_stop *stop;

    for (uint32_t i = 0; i < pool->stops_count; i++) {
        stop = &pool->stops[i];
        if (stop->session == call->session && stop->slot == call->slot && stop->gen == call->gen)
            return stop;
    }
    if (pool->stops_count == KNIT_HOST_STOPS_MAX)
        return NULL;
    stop = &pool->stops[pool->stops_count++];
    *stop = (struct knit_host_stop){.session = call->session, .slot = call->slot, .gen = call->gen};
    return stop;
}

static void limit(struct knit_host_stop *stop, uint32_t grace_ms)
{
    uint64_t kill_at_ns = knit_clock_ns() + grace_ms * MS_NS;

    if (stop->kill_at_ns != 0 && stop->kill_at_ns <= kill_at_ns)
        return;
    stop->grace_ms = grace_ms;
    stop->kill_at_ns = kill_at_ns;
}

static enum knit_host_stop_outcome ask(
    struct knit_host *pool, const struct knit_host_address *call, const uint32_t *grace_ms)
{
    struct knit_host_session *session = knit_host_session_find(pool, call->session);
    struct knit_host_stop *stop;
    uint64_t look_ns;

    if (session == NULL || call->slot >= session->view.geometry.slots || !is_there(session, call))
        return was_there(pool, session, call) ? KNIT_HOST_STOP_GONE : KNIT_HOST_STOP_NEVER;
    stop = find_or_add(pool, call);
    if (stop == NULL)
        return KNIT_HOST_STOP_FULL;
    if (grace_ms != NULL && pool->options.threads == NULL)
        limit(stop, *grace_ms);
    knit_state_stop(&session->view.reply, call->slot, call->gen);
    knit_state_set_stops(&session->view.reply, true);
    look_ns = knit_clock_ns() + RETRY_NS;
    if (pool->stops_due_ns == 0 || look_ns < pool->stops_due_ns)
        pool->stops_due_ns = look_ns;
    return KNIT_HOST_STOP_ASKED;
}

enum knit_host_stop_outcome knit_host_stop(
    struct knit_host *pool, const struct knit_host_address *call, const uint32_t *grace_ms)
{
    enum knit_host_stop_outcome outcome;

    pthread_mutex_lock(&pool->mutex);
    outcome = ask(pool, call, grace_ms);
    if (outcome == KNIT_HOST_STOP_ASKED)
        knit_tick_arm(pool);
    pthread_mutex_unlock(&pool->mutex);
    return outcome;
}

/* Its session, while it is to be waited for; else NULL. */
static struct knit_host_session *session_of(
    struct knit_host *pool, const struct knit_host_stop *stop)
{
    struct knit_host_session *session = knit_host_session_find(pool, stop->session);

    return session != NULL && knit_recovery_awaits(&session->view, stop->slot, stop->gen) ? session
                                                                                          : NULL;
}

static bool has_stops(const struct knit_host *pool, uint64_t session)
{
    for (uint32_t i = 0; i < pool->stops_count; i++)
        if (pool->stops[i].session == session)
            return true;
    return false;
}

static void forget(struct knit_host *pool, uint32_t place)
{
    const uint64_t id = pool->stops[place].session;
    const struct knit_host_session *session = knit_host_session_find(pool, id);

    pool->stops[place] = pool->stops[--pool->stops_count];
    if (session != NULL && !has_stops(pool, id))
        knit_state_set_stops(&session->view.reply, false);
}

void knit_stop_tick(struct knit_host *pool, uint64_t now_ns)
{
    uint64_t due_ns = now_ns + LOOK_NS;

    if (pool->stops_due_ns == 0 || now_ns < pool->stops_due_ns)
        return;
    for (uint32_t i = pool->stops_count; i-- > 0;) {
        struct knit_host_stop *stop = &pool->stops[i];

        if (session_of(pool, stop) == NULL) {
            forget(pool, i);
        } else if (stop->kill_at_ns != 0 && now_ns >= stop->kill_at_ns) {
            knit_timeout_stop(pool, stop, now_ns);
            due_ns = now_ns + RETRY_NS;
        } else if (stop->kill_at_ns != 0 && stop->kill_at_ns < due_ns) {
            due_ns = stop->kill_at_ns;
        }
    }
    pool->stops_due_ns = pool->stops_count != 0 ? due_ns : 0;
}

void knit_stop_put_off(struct knit_host *pool, uint64_t late_ns)
{
    for (uint32_t i = 0; i < pool->stops_count; i++)
        if (pool->stops[i].kill_at_ns != 0)
            pool->stops[i].kill_at_ns += late_ns;
}
