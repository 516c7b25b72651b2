/* SPDX-License-Identifier: Apache-2.0 */
/* How much of an arena is used at the moment its lane alone knows; that it was ever touched stands
 * in shared memory. */
#include "fastpath/host/usage.h"

#include "fastpath/host/host.h"
#include "fastpath/lane/queued.h"

static void add_arenas(struct knit_host_usage *usage, const struct knit_host_session_view *view)
{
    const uint64_t most = view->geometry.reply_arena_bytes;

    for (uint32_t lane = 0; lane < view->geometry.lanes; lane++) {
        /* relaxed: a count of its lane's. */
        const uint64_t touched =
            atomic_load_explicit(&view->reply.lane[lane].touched, memory_order_relaxed);

        usage->reply_bytes += touched < most ? touched : most;
        usage->reply_max_bytes += most;
    }
}

void knit_host_usage(struct knit_host *pool, struct knit_host_usage *ret_usage)
{
    uint32_t steps = KNIT_QUEUED_CELLS;

    *ret_usage = (struct knit_host_usage){.reply_bytes = 0};
    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session == NULL || !session->is_published || session->is_evicted)
            continue;
        knit_queued_count(&session->view, &steps, ret_usage->queued);
        add_arenas(ret_usage, &session->view);
    }
    pthread_mutex_unlock(&pool->mutex);
}
