/* SPDX-License-Identifier: Apache-2.0 */
/* Sessions, on the host's side: make their segments, lend them to callers and workers, take them
 * back.
 *
 * The host keeps a mapping of its own, because it must be able to give outcomes when no worker can,
 * and descriptors to hand to replacements: the request segment only read-only, so that not even a
 * worker could write what is the caller's. It lets go of them when every worker has said that it
 * has.
 *
 * What a stranger can punch pages out of is not touched by anybody: a stranger's request segment is
 * mapped here, and workers are told of it, when its caller has sealed it and said so
 * (knit_pool_attached()). Until then the session only counts.
 *
 * A closed session goes on counting against its limits until then: who leaves long tasks behind and
 * comes back has not got rid of them.
 */
#include "fastpath/host/host.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/fault.h"
#include "fastpath/lane/fd.h"
#include "fastpath/lane/state.h"

struct knit_host_session *knit_host_session_find(struct knit_pool *pool, uint64_t id)
{
    for (uint32_t i = 0; i < KNIT_POOL_SESSIONS_MAX; i++) {
        if (pool->sessions[i] != NULL && pool->sessions[i]->id == id)
            return pool->sessions[i];
    }
    return NULL;
}

/* ---- leaving ---- */

static void fini(struct knit_host_session *session)
{
    knit_segment_unmap(&session->request);
    knit_segment_unmap(&session->reply);
    knit_fd_close(&session->request_fd);
    knit_fd_close(&session->reply_fd);
    knit_fd_close(&session->view.bell_fd);
    knit_fd_close(&session->loop_bell_fd);
    free(session);
}

void knit_host_session_free(struct knit_pool *pool, struct knit_host_session *session)
{
    pool->sessions[session->index] = NULL;
    pool->memory_bytes -= session->memory_bytes;
    fini(session);
}

static void free_if_let_go(struct knit_pool *pool, struct knit_host_session *session)
{
    if (!session->is_closing)
        return;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        if (pool->workers[i].links[session->index] != KNIT_LINK_NONE)
            return;
    }
    KNIT_FAULT(SESSION_BEFORE_FREE);
    knit_host_session_free(pool, session);
}

void knit_host_session_unlink(struct knit_pool *pool, struct knit_worker *worker, uint32_t index)
{
    worker->links[index] = KNIT_LINK_NONE;
    if (pool->sessions[index] != NULL)
        free_if_let_go(pool, pool->sessions[index]);
}

void knit_host_session_close(
    struct knit_pool *pool, struct knit_host_session *session, uint64_t now_ns)
{
    if (session->is_closing)
        return;
    session->is_closing = true;
    if (pool->options.gone_ms != 0)
        session->gone_at_ns = now_ns + (uint64_t)pool->options.gone_ms * 1000000u;
    knit_state_write(&session->view.reply, KNIT_STATE_CLOSED);
    KNIT_FAULT(SESSION_AFTER_CLOSED);
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];
        uint8_t *link = &worker->links[session->index];

        if (*link == KNIT_LINK_ATTACH_DUE)
            *link = KNIT_LINK_NONE;
        else if (*link != KNIT_LINK_NONE)
            *link = KNIT_LINK_DETACH_DUE;
        knit_supervisor_flush(pool, worker);
        KNIT_FAULT(SESSION_AFTER_DETACH);
    }
    free_if_let_go(pool, session);
}

void knit_host_session_evict(
    struct knit_pool *pool, struct knit_host_session *session, const char *reason)
{
    struct knit_pool_event event = {.kind = KNIT_POOL_SESSION_EVICTED,
        .session = session->id,
        .task = KNIT_POOL_TASK_NONE,
        .text = reason};

    if (session->is_evicted || session->is_closing)
        return;
    session->is_evicted = true;
    pool->evicted++;
    knit_state_write(&session->view.reply, KNIT_STATE_EVICTED);
    KNIT_FAULT(SESSION_AFTER_EVICT);
    knit_recovery_wake(&session->view);
    knit_notices_add_event(&pool->notices, &event);
}

/* ---- coming ---- */

struct birth {
    struct knit_geometry geometry;
    bool is_foreign;
    struct knit_pool_peer peer;
    int request_fd; /* read-write: what the caller gets */
};

static void write_header(struct knit_segment_header *header, enum knit_segment_kind kind,
    uint64_t bytes, uint64_t session, const struct knit_geometry *geometry)
{
    *header = (struct knit_segment_header){.magic = KNIT_LAYOUT_MAGIC,
        .version = KNIT_LAYOUT_VERSION,
        .kind = kind,
        .total_bytes = bytes,
        .session = session,
        .geometry = *geometry};
}

/* The arenas' first bytes get their pages now, so that calls do not wait for them. */
static int allocate_ahead(
    const struct knit_pool *pool, const struct knit_host_session *session, int request_fd)
{
    const struct knit_geometry *geometry = &session->view.geometry;
    uint64_t ahead = pool->options.arena_initial_bytes;
    off_t request = session->view.request.arena - (unsigned char *)session->request.base;
    off_t reply = session->view.reply.arena - (unsigned char *)session->reply.base;
    uint64_t request_ahead =
        ahead < geometry->request_arena_bytes ? ahead : geometry->request_arena_bytes;
    uint64_t reply_ahead =
        ahead < geometry->reply_arena_bytes ? ahead : geometry->reply_arena_bytes;

    if (request_ahead != 0 && fallocate(request_fd, 0, request, (off_t)request_ahead) != 0)
        return -errno;
    for (uint32_t i = 0; i < geometry->lanes && reply_ahead != 0; i++) {
        if (fallocate(session->reply_fd, 0, reply + (off_t)(i * geometry->reply_arena_bytes),
                (off_t)reply_ahead) != 0)
            return -errno;
    }
    return 0;
}

/* Both segments, made and mapped. birth->request_fd is the caller's; also on failure it must be
 * closed. */
static int make_segments(
    const struct knit_pool *pool, struct knit_host_session *session, struct birth *birth)
{
    const struct knit_geometry *geometry = &birth->geometry;
    uint64_t request_bytes = knit_layout_request_bytes(geometry);
    uint64_t reply_bytes = knit_layout_reply_bytes(geometry);
    char name[32];
    int error;

    /* By their names `knit check` finds them, which must not depend on what a caller can write. */
    (void)snprintf(name, sizeof(name), "knit-request-%llu", (unsigned long long)session->id);
    error = knit_segment_create_unsealed(name, request_bytes, &birth->request_fd);

    if (error == 0)
        error = knit_segment_reopen_readonly(birth->request_fd, &session->request_fd);
    /* A worker could open the copy that it gets anew, by its number in /proc, to write. */
    if (error == 0 && fchmod(birth->request_fd, 0400) != 0)
        error = -errno;
    (void)snprintf(name, sizeof(name), "knit-reply-%llu", (unsigned long long)session->id);
    if (error == 0)
        error = knit_segment_create(name, reply_bytes, &session->reply_fd);
    if (error == 0)
        error = knit_segment_map(birth->request_fd, request_bytes, true, &session->request);
    if (error == 0)
        error = knit_segment_map(session->reply_fd, reply_bytes, true, &session->reply);
    if (error != 0)
        return error < 0 ? error : -EIO;
    session->view.geometry = *geometry;
    knit_layout_request(geometry, session->request.base, &session->view.request);
    knit_layout_reply(geometry, session->reply.base, &session->view.reply);
    write_header(
        session->view.request.header, KNIT_SEGMENT_REQUEST, request_bytes, session->id, geometry);
    write_header(
        session->view.reply.header, KNIT_SEGMENT_REPLY, reply_bytes, session->id, geometry);
    error = allocate_ahead(pool, session, birth->request_fd);
    if (error != 0)
        return error;
    if (!birth->is_foreign)
        return knit_segment_seal(birth->request_fd);
    /* A stranger's memory is read here and never written, and not yet. */
    knit_segment_unmap(&session->request);
    session->view.request = (struct knit_request_view){0};
    return 0;
}

/* What the session may make the pool's memory grow by. Reading a hole of the request segment fills
 * it, so all of it counts. */
static uint64_t cost(const struct knit_pool *pool, const struct knit_geometry *geometry)
{
    uint64_t arenas = geometry->reply_arena_bytes * geometry->lanes;
    uint64_t budget = pool->options.reply_budget_bytes;
    /* What each lane may touch in any case. */
    uint64_t least = geometry->lanes * (pool->options.call_max_bytes + KNIT_PAGE);

    if (budget != 0 && budget < least)
        budget = least;
    return knit_layout_request_bytes(geometry) + knit_layout_reply_bytes(geometry) - arenas +
           (budget != 0 && budget < arenas ? budget : arenas);
}

/* 0 and a place for it, or why there is none. */
static int admit(const struct knit_pool *pool, const struct birth *birth, uint64_t memory_bytes,
    uint32_t *ret_index)
{
    uint32_t place = KNIT_POOL_SESSIONS_MAX, foreign = 0, same_uid = 0;

    if (pool->phase != KNIT_PHASE_OPEN)
        return KNIT_POOL_E_CLOSED;
    for (uint32_t i = 0; i < KNIT_POOL_SESSIONS_MAX; i++) {
        const struct knit_host_session *session = pool->sessions[i];

        if (session == NULL) {
            place = i < place ? i : place;
            continue;
        }
        foreign += session->is_foreign;
        same_uid += session->is_foreign && session->peer.uid == birth->peer.uid;
    }
    if (place == KNIT_POOL_SESSIONS_MAX)
        return KNIT_POOL_E_SESSIONS;
    *ret_index = place;
    /* The host's own sessions are few and it cannot do without them: they count, but are not
     * refused. */
    if (!birth->is_foreign)
        return 0;
    if (foreign >= pool->options.sessions_max)
        return KNIT_POOL_E_SESSIONS;
    if (same_uid >= pool->options.uid_sessions_max)
        return KNIT_POOL_E_UID_SESSIONS;
    if (memory_bytes > pool->memory_max_bytes ||
        pool->memory_bytes > pool->memory_max_bytes - memory_bytes)
        return KNIT_POOL_E_MEMORY;
    return 0;
}

static int add(struct knit_pool *pool, struct birth *birth, struct knit_host_session **ret_session)
{
    struct knit_host_session *session;
    uint64_t memory_bytes = cost(pool, &birth->geometry);
    uint32_t index;
    int error = admit(pool, birth, memory_bytes, &index);

    if (error != 0)
        return error;
    session = calloc(1, sizeof(*session));
    if (session == NULL)
        return -ENOMEM;
    session->id = pool->next_session;
    session->index = index;
    session->is_foreign = birth->is_foreign;
    session->peer = birth->peer;
    session->request_fd = session->reply_fd = session->view.bell_fd = session->loop_bell_fd = -1;
    session->memory_bytes = memory_bytes;
    error = make_segments(pool, session, birth);
    if (error != 0) {
        fini(session);
        return error;
    }
    KNIT_FAULT(SESSION_AFTER_SEGMENTS);
    pool->next_session++;
    pool->memory_bytes += memory_bytes;
    pool->sessions[index] = session;
    *ret_session = session;
    return 0;
}

/* Everything about it is ready: the workers may have it. */
static void publish(struct knit_pool *pool, struct knit_host_session *session)
{
    session->is_published = true;
    for (uint32_t i = 0; i < pool->options.workers; i++) {
        struct knit_worker *worker = &pool->workers[i];

        if (worker->step != KNIT_STEP_SERVING)
            continue; /* a worker that starts gets all sessions then */
        worker->links[session->index] = KNIT_LINK_ATTACH_DUE;
        knit_supervisor_flush(pool, worker);
        KNIT_FAULT(SESSION_AFTER_PUBLISH);
    }
}

static int make_geometry(const struct knit_pool *pool, uint32_t slots, uint64_t arena,
    struct knit_geometry *ret_geometry)
{
    struct knit_geometry geometry = {.version = KNIT_LAYOUT_VERSION,
        .lanes = pool->options.workers,
        .slots = slots,
        .request_arena_bytes = arena / KNIT_PAGE * KNIT_PAGE,
        .reply_arena_bytes = pool->options.arena_bytes / KNIT_PAGE * KNIT_PAGE};

    if (slots == 0 || slots > KNIT_SLOTS_MAX)
        return KNIT_POOL_E_SIZE;
    geometry.cells = knit_geometry_cells(slots);
    if (knit_geometry_check(&geometry) != NULL)
        return KNIT_POOL_E_SIZE;
    *ret_geometry = geometry;
    return 0;
}

/* ---- the host's own ---- */

/* A pipe. Nobody shares an open file description of it: the host's loop has the end that is read,
 * the host one to notify with, and each worker gets another (knit_host_session_bell()). What a
 * task does to its own, as taking O_NONBLOCK off, is felt by nobody else. */
static int make_bell(struct knit_host_session *session)
{
    int ends[2];

    if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) != 0)
        return -errno;
    session->loop_bell_fd = ends[0];
    session->view.bell_fd = ends[1];
    session->view.bell_is_pipe = true;
    return 0;
}

int knit_host_session_bell(const struct knit_host_session *session, int *ret_fd)
{
    char path[32];
    int fd;

    if (!session->view.bell_is_pipe) {
        *ret_fd = session->view.bell_fd;
        return 0;
    }
    (void)snprintf(path, sizeof(path), "/proc/self/fd/%d", session->view.bell_fd);
    fd = open(path, O_WRONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0)
        return -errno;
    *ret_fd = fd;
    return 0;
}

void knit_host_session_bell_end(const struct knit_host_session *session, int fd)
{
    if (fd != session->view.bell_fd)
        (void)close(fd);
}

static int open_own(struct knit_pool *pool, struct birth *birth,
    const struct knit_session_options *options, struct knit_pool_session **ret_session)
{
    struct knit_session_options own = *options;
    struct knit_host_session *session;
    int error = add(pool, birth, &session);

    if (error != 0)
        return error;
    error = make_bell(session);
    own.bell_fd = session->loop_bell_fd;
    own.steal = pool->options.steal;
    own.argument_max_bytes = pool->options.call_max_bytes;
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
    publish(pool, session);
    *ret_session = &session->outside;
    return 0;
}

int knit_pool_session_open(struct knit_pool *pool, uint32_t slots,
    const struct knit_session_options *options, struct knit_pool_session **ret_session)
{
    struct birth birth = {.request_fd = -1};
    int error = make_geometry(pool, slots, pool->options.arena_bytes, &birth.geometry);

    if (error != 0)
        return error;
    pthread_mutex_lock(&pool->mutex);
    error = open_own(pool, &birth, options, ret_session);
    pthread_mutex_unlock(&pool->mutex);
    knit_fd_close(&birth.request_fd);
    return error;
}

struct knit_pool_session *knit_pool_session_close(
    struct knit_pool *pool, struct knit_pool_session *outside)
{
    struct knit_host_session *session;

    if (outside == NULL)
        return NULL;
    pthread_mutex_lock(&pool->mutex);
    session = knit_host_session_find(pool, outside->id);
    (void)knit_session_free(outside->session);
    if (session != NULL)
        knit_host_session_close(pool, session, knit_clock_ns());
    knit_host_arm(pool);
    pthread_mutex_unlock(&pool->mutex);
    return NULL;
}

/* ---- other processes' ---- */

static int grant(struct knit_pool *pool, struct birth *birth, struct knit_pool_grant *grant)
{
    struct knit_host_session *session;
    int pair[2] = {-1, -1};
    int error = add(pool, birth, &session);

    if (error != 0)
        return error;
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pair) != 0)
        error = -errno;
    session->view.bell_fd = pair[0];
    grant->bell_fd = pair[1];
    if (error == 0)
        error = knit_segment_reopen_readonly(pool->board_fd, &grant->board_fd);
    if (error == 0)
        error = knit_segment_reopen_readonly(session->reply_fd, &grant->reply_fd);
    if (error != 0) {
        knit_host_session_free(pool, session);
        return error;
    }
    grant->id = session->id;
    grant->geometry = birth->geometry;
    grant->call_max_bytes = pool->options.call_max_bytes;
    if (grant->call_max_bytes > birth->geometry.request_arena_bytes)
        grant->call_max_bytes = birth->geometry.request_arena_bytes;
    grant->steal = pool->options.steal;
    grant->request_fd = birth->request_fd;
    birth->request_fd = -1;
    return 0;
}

int knit_pool_attach(struct knit_pool *pool, const struct knit_pool_peer *peer, uint32_t slots,
    uint64_t arena_bytes, struct knit_pool_grant *ret_grant)
{
    const struct knit_pool_options *options = &pool->options;
    struct birth birth = {.is_foreign = true, .peer = *peer, .request_fd = -1};
    struct knit_pool_grant given = {
        .board_fd = -1, .request_fd = -1, .reply_fd = -1, .bell_fd = -1};
    int error;

    if (slots == 0 || slots > options->slots)
        slots = options->slots;
    if (arena_bytes == 0 || arena_bytes > options->arena_bytes)
        arena_bytes = options->arena_bytes;
    error = make_geometry(pool, slots, arena_bytes, &birth.geometry);
    if (error != 0)
        return error;
    pthread_mutex_lock(&pool->mutex);
    error = grant(pool, &birth, &given);
    pthread_mutex_unlock(&pool->mutex);
    knit_fd_close(&birth.request_fd);
    if (error != 0) {
        knit_pool_grant_close(&given);
        return error;
    }
    *ret_grant = given;
    return 0;
}

/* Its caller has sealed it, or so it says. */
static int take(struct knit_pool *pool, struct knit_host_session *session)
{
    const struct knit_geometry *geometry = &session->view.geometry;
    int error;

    if (!knit_segment_is_sealed(session->request_fd))
        return KNIT_POOL_E_UNSEALED;
    error = knit_segment_map(
        session->request_fd, knit_layout_request_bytes(geometry), false, &session->request);
    if (error != 0)
        return error < 0 ? error : -EIO;
    knit_layout_request(geometry, session->request.base, &session->view.request);
    publish(pool, session);
    return 0;
}

int knit_pool_attached(struct knit_pool *pool, uint64_t id)
{
    struct knit_host_session *session;
    int error = 0;

    pthread_mutex_lock(&pool->mutex);
    session = knit_host_session_find(pool, id);
    if (session != NULL && !session->is_published && !session->is_closing && !session->is_evicted) {
        error = take(pool, session);
        if (error != 0) {
            knit_host_session_evict(pool, session,
                error > 0 ? knit_pool_reason(error) : "its request segment cannot be mapped");
            pool->has_notices = true;
        }
        knit_host_arm(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
    return error;
}

void knit_pool_grant_close(struct knit_pool_grant *grant)
{
    knit_fd_close(&grant->board_fd);
    knit_fd_close(&grant->request_fd);
    knit_fd_close(&grant->reply_fd);
    knit_fd_close(&grant->bell_fd);
}

void knit_pool_detach(struct knit_pool *pool, uint64_t id)
{
    struct knit_host_session *session;

    pthread_mutex_lock(&pool->mutex);
    session = knit_host_session_find(pool, id);
    if (session != NULL && session->is_foreign) {
        knit_host_session_close(pool, session, knit_clock_ns());
        knit_host_arm(pool);
    }
    pthread_mutex_unlock(&pool->mutex);
}
