/* SPDX-License-Identifier: Apache-2.0 */
/* Counters of the pool are read under its mutex; words of the board are not guarded by it and may
 * be newer than the rest.
 */
#include "fastpath/host/stats.h"

#include <string.h>

#include "fastpath/host/death.h"
#include "fastpath/lane/board.h"

void knit_host_stats(struct knit_host *pool, struct knit_host_stats *ret_stats)
{
    struct knit_host_stats stats = {.lanes = pool->options.workers};

    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < pool->options.workers; i++)
        stats.lanes_serving += pool->workers[i].step == KNIT_STEP_SERVING;
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session == NULL)
            continue;
        stats.sessions++;
        stats.foreign_sessions += session->is_foreign;
        stats.closing_sessions += session->is_closing;
    }
    stats.closing_sessions += pool->departed_count;
    stats.quarantined = pool->quarantined;
    stats.is_degraded = knit_death_is_degraded(pool);
    stats.memory_bytes = pool->memory_bytes;
    stats.memory_max_bytes = pool->memory_max_bytes;
    stats.deaths = pool->deaths;
    memcpy(stats.deaths_by, pool->deaths_by, sizeof(stats.deaths_by));
    stats.left_behind = pool->left_behind;
    stats.hard_timeouts = pool->hard_timeouts;
    stats.evicted = pool->evicted;
    stats.recovered = pool->recovered;
    stats.confinement = pool->confinement;
    stats.wait_error = pool->wait_error;
    stats.relayed = pool->relayed;
    stats.output_dropped = pool->notices.dropped;
    stats.output_dropped_bytes = pool->notices.dropped_bytes;
    pthread_mutex_unlock(&pool->mutex);
    *ret_stats = stats;
}

const struct knit_image *knit_host_images(const struct knit_host *pool, uint32_t *ret_count)
{
    *ret_count = pool->launch.images != NULL ? pool->launch.modules + 1 : 0;
    return pool->launch.images;
}

static enum knit_host_lane_state lane_state(const struct knit_worker *worker)
{
    switch (worker->step) {
    case KNIT_STEP_HELLO:
    case KNIT_STEP_REGISTRY:
    case KNIT_STEP_READY:
        return KNIT_HOST_LANE_STARTING;
    case KNIT_STEP_SERVING:
        return worker->is_stopping ? KNIT_HOST_LANE_STOPPING : KNIT_HOST_LANE_SERVING;
    case KNIT_STEP_NONE:
    case KNIT_STEP_ENDED:
    default:
        return KNIT_HOST_LANE_VACANT;
    }
}

void knit_host_lane_stats(
    struct knit_host *pool, uint32_t lane, struct knit_host_lane_stats *ret_stats)
{
    const struct knit_worker *worker = &pool->workers[lane];
    struct knit_board_counts counts = knit_board_counts(&pool->board, lane);

    pthread_mutex_lock(&pool->mutex);
    *ret_stats = (struct knit_host_lane_stats){
        .state = lane_state(worker),
        .pid = lane_state(worker) != KNIT_HOST_LANE_VACANT ? worker->process.pid : 0,
        .is_parked = counts.is_parked,
        .is_running = counts.is_running,
        .calls = counts.calls,
        .stolen = counts.stolen,
        /* relaxed: a count. */
        .late = atomic_load_explicit(&pool->shared.note[lane].late, memory_order_relaxed),
        .denied = atomic_load_explicit(&pool->shared.note[lane].denied, memory_order_relaxed),
        .parks = counts.parks,
        .busy_ns = counts.busy_ns,
        .deaths = worker->deaths,
        .up_since_ns = worker->up_since_ns,
    };
    pthread_mutex_unlock(&pool->mutex);
}
