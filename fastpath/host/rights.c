/* SPDX-License-Identifier: Apache-2.0 */
/* The segment is made when the tasks are known, by whose number its rows are as long. It is sealed
 * against all writing but through the mapping that the host has then, so a worker cannot write it
 * whatever it does with the descriptor.
 *
 * A session's right is copied under the pool's mutex when it is entered, and again by renew(): a
 * session that is entered before renew() looks is seen by it, one after that copies what is new.
 */
#include "fastpath/host/rights.h"

#include <errno.h>
#include <string.h>

#include "fastpath/host/host.h"
#include "fastpath/lane/segment.h"

static_assert(KNIT_RIGHTS_PLACES >= KNIT_HOST_SESSIONS_MAX, "each session has a place");

int knit_host_rights_make(struct knit_host *pool)
{
    const uint32_t tasks = knit_registry_count(pool->registry);
    const uint64_t bytes = knit_layout_rights_bytes(tasks);
    int error = knit_segment_create_unsealed("knit-rights", bytes, &pool->rights_fd);
    uint64_t all[KNIT_TASKS / 64 + 1];

    if (error == 0)
        error = knit_segment_map(pool->rights_fd, bytes, true, &pool->rights_map);
    if (error == 0)
        error = knit_segment_seal(pool->rights_fd);
    if (error != 0)
        return error < 0 ? error : -EIO;
    knit_layout_rights(tasks, pool->rights_map.base, &pool->rights);
    *pool->rights.header = (struct knit_segment_header){.magic = KNIT_LAYOUT_MAGIC,
        .version = KNIT_LAYOUT_VERSION,
        .kind = KNIT_SEGMENT_RIGHTS,
        .total_bytes = bytes,
        .geometry = {.version = KNIT_LAYOUT_VERSION,
            .lanes = pool->options.workers,
            .slots = pool->rights.words}};
    memset(all, 0xff, sizeof(all));
    knit_rights_fill(&pool->rights, KNIT_RIGHTS_ALL, all);
    return 0;
}

const struct knit_rights_view *knit_host_rights(const struct knit_host *pool)
{
    return &pool->rights;
}

struct knit_places knit_host_places(const struct knit_host *pool)
{
    return (struct knit_places){.waiting = pool->rights.waiting,
        .long_calls = pool->rights.long_calls,
        .waited = pool->shared.waited,
        .note = pool->shared.note};
}

void knit_host_rights_enter(struct knit_host *pool, const struct knit_host_session *session)
{
    if (session->right != NULL)
        knit_right_copy(&pool->rights.member[session->index], session->right);
    if (session->weight != NULL && pool->rights.weight != NULL)
        knit_weight_store(&pool->rights.weight[session->index],
            KNIT_WEIGHT_ONE * atomic_load_explicit(session->weight, memory_order_relaxed));
}

void knit_host_rights_leave(struct knit_host *pool, struct knit_host_session *session)
{
    session->right = NULL;
    session->weight = NULL;
    if (pool->rights.member == NULL)
        return;
    knit_right_store(&pool->rights.member[session->index], KNIT_RIGHTS_NOTHING);
    knit_weight_store(&pool->rights.weight[session->index], 0);
}

void knit_host_rights_renew(struct knit_host *pool)
{
    pthread_mutex_lock(&pool->mutex);
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL)
            knit_host_rights_enter(pool, pool->sessions[i]);
    }
    pthread_mutex_unlock(&pool->mutex);
}
