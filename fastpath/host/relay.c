/* SPDX-License-Identifier: Apache-2.0 */
/* Each event leads to one look at the bells of its session, after the event was taken: a bell that
 * is stored later comes with an event of its own.
 *
 * A park word is relayed once, whichever session names it first. The worker then takes back its
 * announcement and looks at all rings; what is published behind that look finds another park word.
 *
 * Edges:
 *   W3 bell  the caller's bell, acquire, with the release of session_publish.c: what was published;
 *            handed on to the worker by the release of knit_wake_worker()
 */
#include "fastpath/host/relay.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>

#include "fastpath/host/session.h"
#include "fastpath/host/worker.h"
#include "fastpath/lane/fd.h"
#include "fastpath/lane/wake.h"

#define SECOND_NS  1000000000u
#define EVENTS_MAX 1000u /* of a session in a second, beyond the parks of the lanes */

bool knit_relay_begin(struct knit_host *pool, const struct knit_worker *worker, int wait_error)
{
    struct knit_host_event event = {.kind = KNIT_HOST_RELAYING,
        .lane = worker->lane,
        .pid = worker->process.pid,
        .task = KNIT_HOST_TASK_NONE,
        .status = wait_error,
        .text = strerror(wait_error)};

    if (wait_error == 0 || pool->wait_error != 0)
        return true;
    if (pool->phase != KNIT_PHASE_OPENING)
        return false;
    pool->wait_error = wait_error;
    knit_notices_add_event(&pool->notices, &event);
    return true;
}

int knit_relay_open(struct knit_host *pool, struct knit_host_session *session, int *ret_fd)
{
    int fd;

    if (!knit_relay_is_needed(pool))
        return 0;
    session->relay_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (session->relay_fd < 0)
        return -errno;
    fd = fcntl(session->relay_fd, F_DUPFD_CLOEXEC, 0);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

int knit_relay_listen(const struct knit_host *pool, const struct knit_host_session *session)
{
    struct epoll_event event = {
        .events = EPOLLIN | EPOLLET, .data.u64 = (uint64_t)KNIT_SOURCE_RELAY << 56 | session->id};

    if (session->relay_fd < 0)
        return 0;
    return epoll_ctl(pool->epoll_fd, EPOLL_CTL_ADD, session->relay_fd, &event) == 0 ? 0 : -errno;
}

void knit_relay_close(const struct knit_host *pool, struct knit_host_session *session)
{
    knit_worker_close_fd(pool, &session->relay_fd);
}

/* A correct caller asks once for each park word that it sees. So a session that asks more often
 * than the lanes have parked meanwhile does not know the protocol; its calls do not matter. */
static bool asks_too_often(struct knit_host_session *session, uint32_t park_epochs, uint64_t now_ns)
{
    if (session->relay_since_ns == 0 || now_ns - session->relay_since_ns > SECOND_NS) {
        session->relay_since_ns = now_ns;
        session->relay_epochs = park_epochs;
        session->relay_events = 0;
    }
    session->relay_events++;
    return session->relay_events > EVENTS_MAX &&
           session->relay_events - EVENTS_MAX > park_epochs - session->relay_epochs;
}

void knit_relay_event(struct knit_host *pool, uint64_t id, uint64_t now_ns)
{
    struct knit_host_session *session = knit_host_session_find(pool, id);
    uint32_t epochs = 0;

    if (session == NULL)
        return;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        uint32_t park, bell;

        /* relaxed: a newer word than the caller's belongs to a worker that has looked since. */
        park = atomic_load_explicit(&pool->board.park[i].value, memory_order_relaxed);
        /* W3, acquire. */
        bell = atomic_load_explicit(&session->view.request.bell[i], memory_order_acquire);
        epochs += knit_park_epoch(park);
        if (bell != park || knit_park_state(park) != KNIT_PARK_PARKED ||
            pool->workers[i].park_relayed == park)
            continue;
        pool->workers[i].park_relayed = park;
        pool->relayed++;
        knit_wake_worker(&pool->shared, i);
    }
    if (asks_too_often(session, epochs, now_ns))
        knit_host_session_evict(pool, session, "asks for more wake-ups than workers have parked");
}
