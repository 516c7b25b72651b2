/* SPDX-License-Identifier: Apache-2.0 */
/* A closed session is freed when the last worker has answered DETACHED, or has ended: until then a
 * task may use its memory. It counts against the limits of its user as long, so that a caller who
 * leaves long tasks behind and comes back has not got rid of them. What its caller keeps of the
 * memory counts on (departed.h).
 */
#include "fastpath/host/session.h"

#include <stdlib.h>

#include "fastpath/host/departed.h"
#include "fastpath/host/relay.h"
#include "fastpath/host/rights.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/fd.h"
#include "fastpath/lane/state.h"

struct knit_host_session *knit_host_session_find(struct knit_host *pool, uint64_t id)
{
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL && pool->sessions[i]->id == id)
            return pool->sessions[i];
    }
    return NULL;
}

void knit_host_session_fini(const struct knit_host *pool, struct knit_host_session *session)
{
    knit_relay_close(pool, session);
    knit_segment_unmap(&session->request);
    knit_segment_unmap(&session->reply);
    knit_fd_close(&session->request_fd);
    knit_fd_close(&session->reply_fd);
    knit_fd_close(&session->view.bell_fd);
    knit_fd_close(&session->loop_bell_fd);
    free(session);
}

void knit_host_session_leave(struct knit_host *pool, struct knit_host_session *session)
{
    session->request = session->reply = (struct knit_mapping){0};
    session->view.bell_fd = -1;
    knit_host_session_free(pool, session);
}

void knit_host_session_free(struct knit_host *pool, struct knit_host_session *session)
{
    knit_host_rights_leave(pool, session);
    pool->sessions[session->index] = NULL;
    pool->memory_bytes -= session->memory_bytes;
    knit_host_session_fini(pool, session);
}

static void free_if_detached(struct knit_host *pool, struct knit_host_session *session)
{
    uint64_t now_ns;

    if (!session->is_closing)
        return;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        if (pool->workers[i].links[session->index] != KNIT_LINK_NONE)
            return;
    }
    KNIT_FAULT(SESSION_BEFORE_FREE);
    now_ns = knit_clock_ns();
    if (session->is_foreign)
        knit_departed_add(pool, session, now_ns);
    knit_host_session_free(pool, session);
    knit_departed_look(pool, now_ns);
}

void knit_host_session_unlink(struct knit_host *pool, struct knit_worker *worker, uint32_t index)
{
    worker->links[index] = KNIT_LINK_NONE;
    if (pool->sessions[index] != NULL)
        free_if_detached(pool, pool->sessions[index]);
}

void knit_host_session_close(
    struct knit_host *pool, struct knit_host_session *session, uint64_t now_ns)
{
    if (session->is_closing)
        return;
    session->is_closing = true;
    knit_relay_close(pool, session);
    if (pool->options.abandoned_ms != 0)
        session->abandoned_kill_ns = now_ns + (uint64_t)pool->options.abandoned_ms * 1000000u;
    knit_state_write(&session->view.reply, KNIT_STATE_CLOSED);
    knit_host_rights_leave(pool, session);
    KNIT_FAULT(SESSION_AFTER_CLOSED);
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];
        uint8_t *link = &worker->links[session->index];

        if (*link == KNIT_LINK_ATTACH_DUE)
            *link = KNIT_LINK_NONE;
        else if (*link != KNIT_LINK_NONE)
            *link = KNIT_LINK_DETACH_DUE;
        knit_worker_flush(pool, worker);
        KNIT_FAULT(SESSION_AFTER_DETACH);
    }
    free_if_detached(pool, session);
}

void knit_host_session_evict(
    struct knit_host *pool, struct knit_host_session *session, const char *reason)
{
    struct knit_host_event event = {.kind = KNIT_HOST_SESSION_EVICTED,
        .session = session->id,
        .uid = session->peer.uid,
        .pid = session->peer.pid,
        .task = KNIT_HOST_TASK_NONE,
        .text = reason};

    if (session->is_evicted || session->is_closing)
        return;
    session->is_evicted = true;
    knit_relay_close(pool, session);
    pool->evicted++;
    knit_state_write(&session->view.reply, KNIT_STATE_EVICTED);
    KNIT_FAULT(SESSION_AFTER_EVICT);
    knit_recovery_wake(&session->view);
    knit_notices_add_event(&pool->notices, &event);
}

void knit_host_session_publish(struct knit_host *pool, struct knit_host_session *session)
{
    session->is_published = true;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->step != KNIT_STEP_SERVING)
            continue; /* a worker gets all published sessions when it is ready */
        worker->links[session->index] = KNIT_LINK_ATTACH_DUE;
        knit_worker_flush(pool, worker);
        KNIT_FAULT(SESSION_AFTER_PUBLISH);
    }
}
