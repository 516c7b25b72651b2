/* SPDX-License-Identifier: Apache-2.0 */
/* What is read here of a session changes meanwhile: a call may be counted twice, or not at all. */
#include "fastpath/host/listed.h"

#include "fastpath/host/host.h"
#include "fastpath/lane/state.h"

uint32_t knit_host_queued(
    struct knit_host *pool, struct knit_host_queued *ret_calls, uint32_t max, uint64_t *ret_more)
{
    struct knit_queued calls[64];
    uint32_t count = 0, steps = KNIT_QUEUED_CELLS;

    *ret_more = 0;
    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];
        const uint32_t room = (uint32_t)(sizeof(calls) / sizeof(calls[0]));
        uint32_t found, shown;

        if (session == NULL || !session->is_foreign)
            continue;
        found = knit_queued_list(&session->view, &steps, calls, room);
        shown = found < room ? found : room;
        shown = shown < max - count ? shown : max - count;
        for (uint32_t k = 0; k < shown; k++)
            ret_calls[count++] =
                (struct knit_host_queued){session->id, calls[k], session->peer.uid};
        *ret_more += found - shown;
    }
    pthread_mutex_unlock(&pool->mutex);
    return count;
}

static const char *state_of(const struct knit_host_session *session)
{
    switch (knit_state_read(&session->view.reply)) {
    case KNIT_STATE_OPEN:
        return "open";
    case KNIT_STATE_DRAINING:
        return "draining";
    case KNIT_STATE_EVICTED:
        return "evicted";
    case KNIT_STATE_CLOSED:
    default:
        return "closed";
    }
}

uint32_t knit_host_sessions(
    struct knit_host *pool, struct knit_host_session_row *ret_rows, uint32_t max)
{
    uint32_t count = 0, steps = KNIT_QUEUED_CELLS;

    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX && count < max; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session == NULL)
            continue;
        ret_rows[count++] = (struct knit_host_session_row){.id = session->id,
            .is_foreign = session->is_foreign,
            .uid = session->peer.uid,
            .pid = session->peer.pid,
            .state = state_of(session),
            .slots = session->view.geometry.slots,
            .queued = knit_queued_list(&session->view, &steps, NULL, 0),
            .running = knit_recovery_count_claimed(&session->view),
            .memory_bytes = session->memory_bytes};
    }
    pthread_mutex_unlock(&pool->mutex);
    return count;
}
