/* SPDX-License-Identifier: Apache-2.0 */
/* The structures inside of a pool, for the files of this folder and for tests.
 *
 * A worker's socket may be full, so nothing is ever queued for it: each session has, for each
 * worker, a link that says what the worker knows and what it must still be told. Whoever changes a
 * link calls knit_worker_flush(), which sends what can be sent; the rest goes when the socket
 * has room.
 *
 * Threads: everything here is guarded by pool->mutex. What starts or stops processes runs on the
 * dispatching thread alone.
 */
#pragma once

#include <pthread.h>

#include "fastpath/control/registry.h"
#include "fastpath/host/launch.h"
#include "fastpath/host/lease.h"
#include "fastpath/host/notice.h"
#include "fastpath/host/options.h"
#include "fastpath/host/output.h"
#include "fastpath/host/spawn.h"
#include "fastpath/lane/recovery.h"
#include "fastpath/lane/segment.h"
#include "proto/sentence.h"

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
    uint64_t abandoned_kill_ns;       /* closing: from when on its tasks may be killed; 0 = never */
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
    uint32_t serial;     /* of this process, in epoll's data */
    bool is_replacement; /* a replacement */
    bool is_stopping;
    bool is_stop_sent;
    bool wants_write;            /* epoll also watches for room in the socket */
    bool has_closed_control;     /* its end of the control socket */
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
    uint64_t flush_retry_ns; /* 0 = not; what it is to be told could not be sent: again then */
    uint64_t reap_at_ns;     /* 0 = not; it has ended, and somebody else still traces it */
    uint64_t halted_at_ns;   /* 0 = not; told to stand still then */
    uint64_t hard_retry_ns;  /* it does not stand still yet: look again then */
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
    struct knit_pool_options options; /* without its strings and lists: see launch */
    struct knit_launch launch;
    struct knit_confine_status confinement; /* what a worker said last */
    bool unconfined_reported;
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
