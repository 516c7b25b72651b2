/* SPDX-License-Identifier: Apache-2.0 */
/* The inside of a pool, shared by pool.c (the public face), supervisor.c (workers), death.c (their
 * end), session.c (sessions) and nobody else.
 *
 * A worker's socket may be full, so nothing is ever queued for it: each session has, for each
 * worker, a link that says what the worker knows and what it must still be told. Whoever changes a
 * link calls knit_supervisor_flush(), which sends what can be sent; the rest goes when the socket
 * has room.
 *
 * Threads: everything here is guarded by pool->mutex. What starts or stops processes runs on the
 * dispatching thread alone.
 */
#pragma once

#include <pthread.h>

#include "fastpath/host/notice.h"
#include "fastpath/host/output.h"
#include "fastpath/host/pool.h"
#include "fastpath/host/spawn.h"
#include "fastpath/lane/recovery.h"
#include "fastpath/lane/segment.h"

enum knit_link {
    KNIT_LINK_NONE, /* the worker does not have it */
    KNIT_LINK_ATTACH_DUE,
    KNIT_LINK_ATTACH_SENT,
    KNIT_LINK_ATTACHED,
    KNIT_LINK_DETACH_DUE,
    KNIT_LINK_DETACH_SENT,
};

/* A session, as the pool keeps it. */
struct knit_host_session {
    uint64_t id;
    uint32_t index; /* in pool->sessions, and in each worker's links */
    bool is_foreign;
    bool is_published; /* workers and host may look at its request segment */
    bool is_closing;
    bool is_evicted;
    struct knit_pool_peer peer;
    struct knit_host_session_view view; /* its request view is empty before it is published */
    struct knit_mapping request, reply;
    int request_fd; /* what workers get: read-only */
    int reply_fd;
    int loop_bell_fd;        /* of the host's own: where the loop hears view.bell_fd */
    bool is_damaged;         /* likewise: one worker after the other finds it so */
    uint32_t damaged_serial; /* likewise: the first process that started after one did; 0 = none */
    uint64_t damaged_ns;     /* likewise: when one did last */
    uint64_t memory_bytes;
    uint64_t gone_at_ns;              /* closing: from when on its tasks may be killed; 0 = never */
    struct knit_pool_session outside; /* of the host's own */
};

enum knit_worker_step {
    KNIT_STEP_NONE,  /* no process */
    KNIT_STEP_HELLO, /* these three: what is waited for */
    KNIT_STEP_REGISTRY,
    KNIT_STEP_READY,
    KNIT_STEP_SERVING,
    KNIT_STEP_ENDED, /* reaped; something still holds its control socket */
};

struct knit_worker {
    uint32_t lane;
    enum knit_worker_step step;
    uint32_t serial; /* of this process, in epoll's data */
    bool is_again;   /* a replacement */
    bool is_stopping;
    bool is_stop_sent;
    bool wants_write;            /* epoll also watches for room in the socket */
    bool has_closed;             /* its end of the control socket */
    bool was_killed;             /* by the pool itself */
    bool is_confined;            /* has said that it is, whatever that means */
    struct knit_spawned process; /* descriptors -1, pid 0 when there is none */
    uint32_t owner;              /* 0 until it was told to serve */
    int signal, status;
    uint64_t calls_before; /* begun in this lane before this worker */
    uint64_t deaths;
    uint32_t early_deaths; /* in a row, before a first finished call */
    uint64_t up_since_ns;
    uint64_t kill_at_ns;     /* 0 = not; start-up or stop takes too long then */
    uint64_t restart_at_ns;  /* 0 = not */
    uint64_t finalize_at_ns; /* ENDED: wait no longer */
    uint64_t flush_again_ns; /* 0 = not; what it is to be told could not be sent: again then */
    uint64_t reap_at_ns;     /* 0 = not; it has ended, and somebody else still traces it */
    uint64_t halt_ns;        /* 0 = not; told to stand still then */
    uint64_t hard_again_ns;  /* it does not stand still yet: look again then */
    uint64_t hard_session;   /* the call it was killed for; 0 = none */
    uint32_t hard_slot;
    uint32_t hard_ms;
    struct knit_sentence start_step; /* what it does while it starts */
    struct knit_sentence refusal;    /* why it cannot be used; "" = it can */
    struct knit_output output;
    uint8_t links[KNIT_POOL_SESSIONS_MAX]; /* enum knit_link */
};

enum knit_pool_phase {
    KNIT_PHASE_OPENING,
    KNIT_PHASE_OPEN,
    KNIT_PHASE_DRAINING,
    KNIT_PHASE_STOPPING,
    KNIT_PHASE_STOPPED
};

struct knit_pool {
    pthread_mutex_t mutex;
    struct knit_pool_options options; /* strings and lists are the pool's own */
    char *start_text;                 /* bootstrap text, modules and paths, for START */
    size_t start_bytes;
    uint32_t read_paths, write_paths;      /* in it, of the policy */
    struct knit_confine_force confinement; /* what a worker said last */
    bool unconfined_reported;
    const char **argv;
    bool has_prefix; /* the worker may be a child of the process that is watched */
    enum knit_pool_phase phase;
    int epoll_fd;
    int timer_fd;
    int board_fd;
    int pool_fd;
    struct knit_mapping board_map, pool_map;
    struct knit_board_view board;
    struct knit_pool_view shared;
    struct knit_worker *workers; /* [options.workers] */
    struct knit_buffer announcement;
    struct knit_registry *registry;
    struct knit_host_session *sessions[KNIT_POOL_SESSIONS_MAX];
    uint64_t next_session;
    uint32_t next_owner;
    uint32_t next_serial;
    uint32_t hard_least_ms; /* shortest hard timeout there is; 0 = none */
    uint64_t hard_scan_ns;
    uint64_t vacant_since_ns; /* no lane has a worker; 0 = one has */
    uint64_t sweep_ns;
    uint64_t deadline_ns; /* of the shutdown */
    bool stop_now;        /* ... which waits for nothing that is queued */
    bool was_degraded;
    uint64_t memory_bytes;
    uint64_t memory_max_bytes;
    uint8_t *task_deaths; /* [tasks]: in a row, while the task is watched */
    uint32_t quarantined;
    uint64_t deaths, hard_timeouts, evicted, recovered;
    struct knit_notices notices;
    bool has_notices; /* among the notices, of another thread than the dispatching one */
    uint64_t dropped_reported;
    uint64_t open_by_ns;
    struct knit_sentence last_death;   /* while it opened */
    struct knit_sentence open_failure; /* "" = none */
};

/* ---- supervisor.c ---- */

enum knit_source { KNIT_SOURCE_TIMER, KNIT_SOURCE_PID, KNIT_SOURCE_CONTROL, KNIT_SOURCE_OUTPUT };

/* Starts a worker for the lane, now. What goes wrong is that worker's `why`, or the pool's. */
void knit_supervisor_start(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns);
/* Something happened on a descriptor, named by epoll's data. */
void knit_supervisor_event(struct knit_pool *pool, uint64_t data, uint32_t events);
/* Does what is due. */
void knit_supervisor_flush(struct knit_pool *pool, struct knit_worker *worker);
/* Tell the worker to leave; it is killed at the given time. */
void knit_supervisor_stop(struct knit_pool *pool, struct knit_worker *worker, uint64_t kill_at_ns);
void knit_supervisor_kill(struct knit_worker *worker);
/* It cannot be used, for that reason: it is killed, and what follows is death.c's. */
__attribute__((format(printf, 2, 3))) void knit_supervisor_refuse(
    struct knit_worker *worker, const char *format, ...);
/* Its process has ended. */
void knit_supervisor_end(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns);
/* Free what a worker that was never started, or is buried, still has. */
void knit_supervisor_fini(struct knit_pool *pool, struct knit_worker *worker);

/* ---- tick.c ---- */

/* What has come due. */
void knit_tick(struct knit_pool *pool, uint64_t now_ns);
/* When the next tick is needed; 0 = not. */
uint64_t knit_tick_due(const struct knit_pool *pool, uint64_t now_ns);

/* ---- death.c ---- */

/* So long after it was told to stand still a worker has been killed or goes on. */
#define KNIT_HALT_MAX_NS 40000000u

/* Its process has ended: kill its group and reap it. False: not yet, since somebody who traces it
 * has not let go of it. */
bool knit_death_reap(struct knit_worker *worker, bool may_block, uint64_t now_ns);
/* Recovery, and a replacement if there is to be one. After knit_death_reap(), when nothing holds
 * the control socket any more. */
void knit_death_finalize(struct knit_pool *pool, struct knit_worker *worker, uint64_t now_ns);
/* Hard timeouts, and tasks of sessions that are gone for too long. */
void knit_death_enforce(struct knit_pool *pool, uint64_t now_ns);
/* Whether workers die faster than they work; tells the host when that changes. */
void knit_death_judge(struct knit_pool *pool);
bool knit_death_is_degraded(const struct knit_pool *pool);

/* ---- session.c ---- */

struct knit_host_session *knit_host_session_find(struct knit_pool *pool, uint64_t id);
/* Takes it from the callers: nothing is claimed any more, workers let go, and then it is freed. */
void knit_host_session_close(
    struct knit_pool *pool, struct knit_host_session *session, uint64_t now_ns);
void knit_host_session_evict(
    struct knit_pool *pool, struct knit_host_session *session, const char *reason);
/* A worker has let go, or is gone. Frees the session if that was the last. */
void knit_host_session_unlink(struct knit_pool *pool, struct knit_worker *worker, uint32_t index);
/* Frees it whatever the workers have: they are gone. */
void knit_host_session_free(struct knit_pool *pool, struct knit_host_session *session);
/* The bell as it is sent to a worker, to be given to _end() afterwards. Returns 0 or -errno. */
int knit_host_session_bell(const struct knit_host_session *session, int *ret_fd);
void knit_host_session_bell_end(const struct knit_host_session *session, int fd);

/* ---- pool.c ---- */

/* Set the timer to what the supervisor waits for. */
void knit_host_arm(struct knit_pool *pool);
