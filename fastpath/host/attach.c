/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions are admitted, made and given to their callers here, by threads of the host and on behalf
 * of other processes.
 *
 * The limits of sessions_max, uid_sessions_max and memory_max_bytes are checked before anything is
 * allocated. A session of another process is only counted at first: its caller can still punch
 * pages out of the request segment, and readers sleep while the kernel frees them (segment.h). So
 * host and workers map it when the caller has sealed it (knit_host_attached()).
 */
#include "fastpath/host/attach.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>

#include "fastpath/host/departed.h"
#include "fastpath/host/host.h"
#include "fastpath/host/loop_bell.h"
#include "fastpath/host/reason.h"
#include "fastpath/host/relay.h"
#include "fastpath/host/rights.h"
#include "fastpath/host/segments.h"
#include "fastpath/host/session.h"
#include "fastpath/host/tick.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/fd.h"
#include "fastpath/lane/lane_flows.h"

/* A session that is asked for. */
struct admission {
    struct knit_geometry geometry;
    bool is_foreign;
    struct knit_host_peer peer;
    int request_fd; /* read-write, for the caller */
};

/* One user alone does not take all. */
static uint32_t sessions_kept(const struct knit_host_options *options)
{
    uint32_t quarter = options->sessions_max / 4;

    return options->sessions_kept < quarter ? options->sessions_kept : quarter;
}

/* Checks the limits. A session that has departed counts until its caller has unmapped it. Returns 0
 * and a free index, or a code of reason.h. */
static int check_limits(const struct knit_host *pool, const struct admission *admission,
    uint64_t memory_bytes, uint32_t *ret_index)
{
    uint32_t free_index = KNIT_HOST_SESSIONS_MAX, foreign = pool->departed_count;
    uint32_t same_uid = knit_departed_count(pool, admission->peer.uid);

    if (pool->phase != KNIT_PHASE_OPEN || pool->refuses_callers)
        return KNIT_HOST_E_CLOSED;
    for (uint32_t i = 0; i < KNIT_HOST_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session == NULL) {
            free_index = i < free_index ? i : free_index;
            continue;
        }
        foreign += session->is_foreign;
        same_uid += session->is_foreign && session->peer.uid == admission->peer.uid;
    }
    if (free_index == KNIT_HOST_SESSIONS_MAX)
        return KNIT_HOST_E_SESSIONS;
    *ret_index = free_index;
    /* The host's own sessions are few, and the host cannot work without them: they count against
     * the limits but are not refused. */
    if (!admission->is_foreign)
        return 0;
    if (foreign >= pool->options.sessions_max)
        return KNIT_HOST_E_SESSIONS;
    if (same_uid >= pool->options.uid_sessions_max)
        return KNIT_HOST_E_UID_SESSIONS;
    if (same_uid > 0 && foreign >= pool->options.sessions_max - sessions_kept(&pool->options))
        return KNIT_HOST_E_SESSIONS_KEPT;
    /* What one session may take: nobody else can free it, and it is no caller's own memory. */
    if (knit_departed_bytes(pool, admission->peer.uid) >
        pool->options.reply_budget_bytes + pool->options.arena_bytes)
        return KNIT_HOST_E_DEPARTED;
    if (memory_bytes > pool->memory_max_bytes ||
        pool->memory_bytes > pool->memory_max_bytes - memory_bytes)
        return KNIT_HOST_E_MEMORY;
    return 0;
}

static int admit(struct knit_host *pool, const struct admission *admission, uint64_t memory_bytes,
    uint32_t *ret_index)
{
    int error = check_limits(pool, admission, memory_bytes, ret_index);

    if (error == 0 || pool->departed_count == 0)
        return error;
    /* Some of it may be gone since the last look. */
    knit_departed_look(pool, knit_clock_ns());
    return check_limits(pool, admission, memory_bytes, ret_index);
}

static int add(
    struct knit_host *pool, struct admission *admission, struct knit_host_session **ret_session)
{
    struct knit_host_session *session;
    uint64_t memory_bytes = knit_segments_cost(&pool->options, &admission->geometry);
    uint32_t index;
    int error = admit(pool, admission, memory_bytes, &index);

    if (error != 0)
        return error;
    session = calloc(1, sizeof(*session));
    if (session == NULL)
        return -ENOMEM;
    session->id = pool->next_session;
    session->index = index;
    session->is_foreign = admission->is_foreign;
    session->peer = admission->peer;
    session->right = admission->peer.right;
    session->flow = admission->peer.principal;
    if (!session->is_foreign)
        session->flow = KNIT_LANE_FLOW_OF_LOOP | session->id;
    session->weight = admission->peer.weight;
    session->request_fd = session->reply_fd = session->view.bell_fd = session->loop_bell_fd = -1;
    session->relay_fd = -1;
    session->memory_bytes = memory_bytes;
    error =
        knit_segments_make(&pool->options, session, &admission->geometry, &admission->request_fd);
    if (error != 0) {
        knit_host_session_fini(pool, session);
        return error;
    }
    KNIT_FAULT(SESSION_AFTER_SEGMENTS);
    pool->next_session++;
    pool->memory_bytes += memory_bytes;
    pool->sessions[index] = session;
    knit_host_rights_enter(pool, session);
    *ret_session = session;
    return 0;
}

/* ---- sessions of the host's threads ---- */

static int open_own(struct knit_host *pool, struct admission *admission,
    const struct knit_session_options *options, struct knit_host_own_session **ret_session)
{
    struct knit_session_options own = *options;
    struct knit_host_session *session;
    int error = add(pool, admission, &session);

    if (error != 0)
        return error;
    error = knit_loop_bell_open(session);
    own.bell_fd = session->loop_bell_fd;
    own.steal = pool->options.steal;
    own.poll_turns =
        pool->options.busy_poll_turns != 0 ? pool->options.busy_poll_turns : UINT32_MAX;
    own.argument_max_bytes = pool->options.call_max_bytes;
    own.pool = knit_relay_is_needed(pool) ? &pool->shared : NULL;
    if (error == 0)
        error = knit_session_new(&session->view.geometry, &session->view.request,
            &session->view.reply, &pool->board, &own, &session->outside.session);
    if (error != 0) {
        knit_host_session_free(pool, session);
        return error;
    }
    session->outside.id = session->id;
    session->outside.bell_fd = session->loop_bell_fd;
    session->outside.reply = session->view.reply;
    session->outside.geometry = session->view.geometry;
    session->outside.weight =
        pool->rights.weight != NULL ? &pool->rights.weight[session->index] : NULL;
    /* Threads use the host's mappings. */
    if (pool->options.threads != NULL) {
        knit_fd_close(&session->request_fd);
        knit_fd_close(&session->reply_fd);
    }
    knit_host_session_publish(pool, session);
    *ret_session = &session->outside;
    return 0;
}

int knit_host_own_session_open(struct knit_host *pool, uint32_t slots,
    const struct knit_session_options *options, struct knit_host_own_session **ret_session)
{
    struct admission admission = {.request_fd = -1};
    const struct knit_host_ask ask = knit_host_ask_all(slots, pool->options.arena_bytes);
    int error = knit_segments_geometry(&pool->options, &ask, &admission.geometry);

    if (error != 0)
        return error;
    pthread_mutex_lock(&pool->mutex);
    error = open_own(pool, &admission, options, ret_session);
    pthread_mutex_unlock(&pool->mutex);
    knit_fd_close(&admission.request_fd);
    return error;
}

struct knit_host_own_session *knit_host_own_session_close(
    struct knit_host *pool, struct knit_host_own_session *outside)
{
    struct knit_host_session *session;

    if (outside == NULL)
        return NULL;
    pthread_mutex_lock(&pool->mutex);
    session = knit_host_session_find(pool, outside->id);
    (void)knit_session_free(outside->session);
    if (session != NULL)
        knit_host_session_close(pool, session, knit_clock_ns());
    knit_tick_arm(pool);
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* ---- sessions of other processes ---- */

static int grant(struct knit_host *pool, struct admission *admission, struct knit_host_grant *grant)
{
    struct knit_host_session *session;
    int pair[2] = {-1, -1};
    int error = add(pool, admission, &session);

    if (error != 0)
        return error;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        error = -errno;
    /* Nothing is read from the caller. What it sent would be closed with this end, and the last
     * close of a socket that it passes may sleep. It cannot take this back. */
    if (error == 0 && shutdown(pair[0], SHUT_RD) != 0)
        error = -errno;
    session->view.bell_fd = pair[0];
    grant->bell_fd = pair[1];
    if (error == 0)
        error = knit_segment_reopen_readonly(pool->board_fd, &grant->board_fd);
    if (error == 0)
        error = knit_segment_reopen_readonly(session->reply_fd, &grant->reply_fd);
    if (error == 0)
        error = knit_relay_open(pool, session, &grant->host_fd);
    if (error != 0) {
        knit_host_session_free(pool, session);
        return error;
    }
    grant->id = session->id;
    grant->geometry = admission->geometry;
    grant->call_max_bytes = pool->options.call_max_bytes;
    if (grant->call_max_bytes > admission->geometry.request_arena_bytes)
        grant->call_max_bytes = admission->geometry.request_arena_bytes;
    grant->steal = pool->options.steal;
    grant->asks_host = grant->host_fd >= 0;
    grant->request_fd = admission->request_fd;
    admission->request_fd = -1;
    return 0;
}

int knit_host_attach(struct knit_host *pool, const struct knit_host_peer *peer,
    const struct knit_host_ask *ask, struct knit_host_grant *ret_grant)
{
    const struct knit_host_options *options = &pool->options;
    struct admission admission = {.is_foreign = true, .peer = *peer, .request_fd = -1};
    struct knit_host_grant made = {
        .board_fd = -1, .request_fd = -1, .reply_fd = -1, .bell_fd = -1, .host_fd = -1};
    struct knit_host_ask cut = *ask;
    int error;

    if (cut.slots == 0 || cut.slots > options->slots)
        cut.slots = options->slots;
    if (cut.arena_bytes == 0 || cut.arena_bytes > options->arena_bytes)
        cut.arena_bytes = options->arena_bytes;
    error = knit_segments_geometry(&pool->options, &cut, &admission.geometry);
    if (error != 0)
        return error;
    pthread_mutex_lock(&pool->mutex);
    error = grant(pool, &admission, &made);
    pthread_mutex_unlock(&pool->mutex);
    knit_fd_close(&admission.request_fd);
    if (error != 0) {
        knit_host_grant_close(&made);
        return error;
    }
    *ret_grant = made;
    return 0;
}

int knit_host_attached(struct knit_host *pool, uint64_t id)
{
    struct knit_host_session *session;
    int error = 0;

    pthread_mutex_lock(&pool->mutex);
    session = knit_host_session_find(pool, id);
    if (session != NULL && !session->is_published && !session->is_closing && !session->is_evicted) {
        error = knit_segments_map_request(session);
        if (error == 0)
            error = knit_relay_listen(pool, session);
        if (error == 0) {
            knit_host_session_publish(pool, session);
        } else {
            knit_host_session_evict(pool, session,
                error > 0 ? knit_host_reason(error) : "the pool has no memory left to serve it");
            pool->has_notices = true;
        }
        knit_tick_arm(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return error;
}

void knit_host_grant_close(struct knit_host_grant *grant)
{
    knit_fd_close(&grant->board_fd);
    knit_fd_close(&grant->request_fd);
    knit_fd_close(&grant->reply_fd);
    knit_fd_close(&grant->bell_fd);
    knit_fd_close(&grant->host_fd);
}

void knit_host_detach(struct knit_host *pool, uint64_t id)
{
    struct knit_host_session *session;

    pthread_mutex_lock(&pool->mutex);
    session = knit_host_session_find(pool, id);
    if (session != NULL && session->is_foreign) {
        knit_host_session_close(pool, session, knit_clock_ns());
        knit_tick_arm(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
}
