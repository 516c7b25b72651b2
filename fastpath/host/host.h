/* SPDX-License-Identifier: Apache-2.0 */
/* The structures inside of a pool, for the files of this folder and for tests.
 *
 * A worker's control socket may be full, so messages are not queued for it. Each worker has a link
 * for each session instead: what the worker has of it, and which message is due. A function that
 * changes a link calls knit_worker_flush(), which sends what is due; the rest is sent when the
 * socket has room.
 *
 * Threads: everything here is guarded by pool->mutex. Processes are started and ended by the
 * dispatching thread alone.
 */
#pragma once

#include <pthread.h>

#include "fastpath/control/registry.h"
#include "fastpath/host/event.h"
#include "fastpath/host/launch.h"
#include "fastpath/host/lease.h"
#include "fastpath/host/notice.h"
#include "fastpath/host/options.h"
#include "fastpath/host/output.h"
#include "fastpath/host/spawn.h"
#include "fastpath/host/stats.h"
#include "fastpath/lane/recovery.h"
#include "fastpath/lane/segment.h"
#include "proto/sentence.h"

/* What a worker has of a session. DUE: the message is to be sent; SENT: its answer is awaited. */
enum knit_link {
    KNIT_LINK_NONE,
    KNIT_LINK_ATTACH_DUE,
    KNIT_LINK_ATTACH_SENT,
    KNIT_LINK_ATTACHED,
    KNIT_LINK_DETACH_DUE,
    KNIT_LINK_DETACH_SENT,
};

/* A session, as the pool keeps it. */
struct knit_host_session {
    uint64_t id;
    uint32_t index;    /* in pool->sessions, and in each worker's links */
    bool is_foreign;   /* its caller is another process */
    bool is_published; /* workers and host may read its request segment */
    bool is_closing;
    bool is_evicted;
    struct knit_host_peer peer;         /* of a foreign one */
    const struct knit_right *right;     /* of its caller; NULL = of every task */
    uint64_t flow;                      /* number of the flow that it belongs to, */
    const _Atomic uint64_t *weight;     /* and of that, of a foreign one; NULL = 1 */
    struct knit_host_session_view view; /* its request view is empty before it is published */
    struct knit_mapping request, reply;
    int request_fd; /* what workers get: read-only */
    int reply_fd;
    uint64_t memory_bytes;      /* counted against the pool's limit */
    uint64_t abandoned_kill_ns; /* closing: its tasks may be killed from then on; 0 = never */

    /* Of a foreign one in a pool that relays (relay.h); relay_fd is -1 otherwise. */
    int relay_fd;
    uint32_t relay_events, relay_epochs; /* since relay_since_ns: events; the lanes' epochs then */
    uint64_t relay_since_ns;

    /* Of the host's own: */
    struct knit_host_own_session outside; /* what its thread has */
    int loop_bell_fd;                     /* the end of view.bell_fd that its event loop polls */
    bool is_damaged;                      /* one worker after the other finds it damaged */
    uint32_t damaged_serial; /* of the first process started after a worker found it so; 0 = none */
    uint64_t damaged_ns;     /* when a worker found it so last */
};

enum knit_worker_step {
    KNIT_STEP_NONE,     /* no process */
    KNIT_STEP_HELLO,    /* HELLO is awaited */
    KNIT_STEP_REGISTRY, /* CONFINED and REGISTRY are awaited */
    KNIT_STEP_READY,    /* READY is awaited */
    KNIT_STEP_SERVING,
    KNIT_STEP_ENDED, /* reaped; another process still holds its end of the pipe to the host */
};

/* What is left of a session that has ended (departed.h). */
struct knit_departed {
    uid_t uid;
    int request_fd, reply_fd; /* read-only; -1 = no other process has the segment */
    int results_fd;           /* the reply segment again, read-write; -1 = they were taken back */
    uint64_t results_at;      /* where in it, and how many bytes */
    uint64_t results_bytes;
    uint64_t take_back_ns; /* when */
    uint64_t bytes;        /* counted in pool->memory_bytes */
};

/* What the host has seen of the call that a lane runs (watch.h). */
struct knit_watch {
    uint64_t session; /* its place; 0 = none runs */
    uint32_t slot;
    uint64_t claim;      /* the word by which the call is claimed */
    uint64_t age_ns;     /* since it was first seen */
    uint64_t ignored_ns; /* since the look that first found no caller waiting for it */
    bool is_given_up;    /* no caller waited at the last look */
    bool is_reported;    /* as slow */
};

/* A running call that somebody was shown (running.c), and since when. */
struct knit_shown {
    uint64_t session;
    uint32_t slot;
    uint64_t claim;
    uint64_t since_ns;
};

/* A lane's worker. What a process has is reset by knit_worker_start(). */
struct knit_worker {
    uint32_t lane;
    uint32_t park_relayed; /* park word of the lane relayed last */
    bool is_replacement;   /* an earlier worker of the lane has served */
    uint64_t deaths;
    uint32_t early_deaths; /* in a row, each before a first answered call */

    /* The process. */
    enum knit_worker_step step;
    uint32_t serial;             /* of all processes of the pool; in epoll's data */
    struct knit_spawned process; /* descriptors -1, pid 0 when there is none */
    struct knit_thread *thread;  /* in its place, of a pool with threads; NULL when there is none */
    const struct knit_thread_kind *threads; /* of the pool's options */
    bool was_ended_by_task;                 /* the thread */
    int start_fd;          /* START's file, until the worker has announced in it; or -1 */
    int signal, status;    /* how it ended */
    bool is_end_unknown;   /* the host's program has reaped it */
    uint32_t owner;        /* in claims; 0 until SERVE is sent */
    uint64_t calls_before; /* begun in this lane before this process */
    uint64_t up_since_ns;  /* 0 = not up */
    bool is_confined;      /* it has sent CONFINED */
    bool is_stopping;
    bool is_stop_sent;
    bool wants_write;        /* epoll reports room in the control socket */
    bool has_closed_control; /* its end of the pipe to the host */
    bool was_killed;         /* by the pool */

    /* Times at which something is due; 0 = nothing is. */
    uint64_t kill_at_ns;     /* start-up or stop takes too long */
    uint64_t restart_at_ns;  /* a replacement is started */
    uint64_t finalize_at_ns; /* ENDED: the pipe's other holder is not awaited longer */
    uint64_t flush_retry_ns; /* the kernel could not send a message */
    uint64_t reap_at_ns;     /* it has ended, and a debugger traced it */
    uint64_t halted_at_ns;   /* when SIGSTOP was sent, to examine it */
    uint64_t hard_retry_ns;  /* its hard timeout has passed, and it is not seen stopped yet */

    struct knit_watch watch;
    struct knit_shown shown;
    uint64_t abort_retry_ns; /* it ignores an abort, and is not seen stopped yet; 0 = it does not */
    uint64_t hard_seen_ns;   /* the limit of its running call, as it was seen last */
    uint64_t hard_stood_ns;  /* pool->stood_ns before that limit was seen */

    /* The call that it was killed for. */
    uint64_t hard_session; /* 0 = none */
    uint32_t hard_slot;
    uint32_t hard_ms;
    const struct knit_registry_task *hard_task; /* that it ran, NULL = not known */
    enum knit_code given_up; /* no caller waited: it ends with this; KNIT_OK = a hard timeout */
    bool is_stopped;         /* or an operator would not have it; then given_up is CANCELLED */

    struct knit_sentence start_step; /* what it does while it starts */
    struct knit_sentence refusal;    /* why it cannot be used; "" = it can */
    struct knit_output output;
    struct knit_host_event output_from;    /* the line that has not ended */
    uint64_t output_due_ns;                /* when it is reported as it is; 0 = there is none */
    uint8_t links[KNIT_HOST_SESSIONS_MAX]; /* enum knit_link */
};

/* The workers that a task took down (quarantine.c). */
struct knit_task_deaths {
    uint64_t empty_ns; /* when its bucket is empty, CLOCK_MONOTONIC */
    uint64_t count;
    int signal; /* of the last one; 0 = the worker exited */
    bool is_quarantined;
};

/* A call that an operator asked to stop (stop.c), until it has ended. */
struct knit_host_stop {
    uint64_t session;
    uint32_t slot;
    uint64_t gen;
    uint32_t grace_ms;
    uint64_t kill_at_ns; /* its worker is killed then; 0 = never */
};

#define KNIT_HOST_STOPS_MAX 64u

enum knit_host_phase {
    KNIT_PHASE_OPENING,
    KNIT_PHASE_OPEN,
    KNIT_PHASE_DRAINING,
    KNIT_PHASE_STOPPING,
    KNIT_PHASE_STOPPED
};

struct knit_host {
    pthread_mutex_t mutex;
    uint64_t number;                  /* no other one of this process has it */
    struct knit_host_options options; /* without its strings and lists: see launch */
    struct knit_launch launch;
    enum knit_host_phase phase;
    int epoll_fd;
    int timer_fd;
    int host_fd; /* a pidfd of this process, for workers that are processes; else -1 */

    /* Shared memory. */
    int board_fd, pool_fd;
    int rights_fd; /* read-only; -1 before the tasks are known, and for threads */
    struct knit_mapping board_map, pool_map, rights_map;
    struct knit_rights_view rights;
    struct knit_board_view board;
    struct knit_pool_view shared;
    int wait_error; /* of a worker's futex_waitv: wake-ups are relayed; 0 = they are not */

    /* Workers. */
    struct knit_worker *workers; /* [options.workers] */
    uint32_t next_owner;
    uint32_t next_serial;
    const struct knit_registry *registry;
    struct knit_crew *crew; /* of a pool with threads, and owns its registry */
    uint32_t left_behind;   /* threads that have not ended; they use what they have for ever */
    struct knit_buffer announcement;        /* the registry's bytes, to compare others with */
    struct knit_confine_status confinement; /* as a worker reported it last */
    bool unconfined_reported;
    uint64_t vacant_since_ns; /* no lane has a worker; 0 = one has */
    uint64_t sweep_ns;        /* when queued calls are refused again meanwhile */
    bool was_degraded;
    uint32_t hard_least_ms; /* the shortest hard timeout; 0 = none */
    uint64_t hard_scan_ns;  /* when limits of running calls are read again */
    uint64_t hard_stood_ns; /* stood_ns at that time */
    uint64_t due_ns;        /* what the timer is armed for; 0 = nothing */
    uint64_t stood_ns;      /* by how much it was late, all in all */
    uint64_t watch_due_ns;  /* when running calls are looked at again; 0 = never */
    uint64_t watched_ns;    /* when they were */
    uint64_t watched_stood_ns;
    struct knit_task_deaths *task_deaths; /* [tasks]; NULL before they are announced */
    uint64_t quarantine_due_ns;           /* when a task may be served again; 0 = none waits */
    struct knit_host_stop stops[KNIT_HOST_STOPS_MAX];
    uint32_t stops_count;
    uint64_t stops_due_ns; /* when they are looked at again; 0 = there are none */
    bool has_orphans;      /* a worker has ended; what it left behind is to be killed (orphans.h) */
    uint64_t orphans_due_ns;   /* when they are looked for again */
    uint64_t orphans_until_ns; /* when they are looked for no more */
    int leaves_fd; /* the folder of the host's own control group (leaf.h); -1 = none is used */

    /* Sessions. */
    struct knit_host_session *sessions[KNIT_HOST_SESSIONS_MAX];
    uint64_t next_session;
    uint64_t memory_bytes;
    uint64_t memory_max_bytes;
    struct knit_departed departed[KNIT_HOST_SESSIONS_MAX];
    uint32_t departed_count;
    uint64_t departed_due_ns;  /* when they are counted again; 0 = there are none */
    uint64_t departed_wait_ns; /* from one look to the next */

    /* Opening and shutting down. */
    uint64_t open_by_ns;
    struct knit_sentence last_death;   /* while it opened */
    struct knit_sentence open_failure; /* "" = none */
    uint64_t deadline_ns;              /* of the shutdown */
    bool refuses_callers;              /* callers' sessions take nothing new, and none is opened */
    bool stop_now;                     /* the shutdown does not wait for queued calls */

    /* Counters and notices. */
    uint32_t quarantined;
    uint64_t deaths, hard_timeouts, evicted, recovered, relayed;
    uint64_t deaths_by[KNIT_HOST_DEATHS];
    struct knit_notices notices;
    bool has_notices; /* another thread than the dispatching one added some */
    uint64_t dropped_reported, dropped_bytes_reported;
    uint64_t dropped_due_ns; /* before this no more is said of dropped output */
};
