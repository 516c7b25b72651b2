/* SPDX-License-Identifier: Apache-2.0 */
/* A pool: workers that run tasks, the board they share, and the sessions of those who call.
 *
 * The pool is a host's: a daemon's, or a program's that embeds it. It never loads modules itself;
 * it learns what there is from the first worker that came up and refuses workers that say
 * otherwise. Its supervisor (supervisor.c) starts, watches, kills and replaces workers; what a dead
 * worker held gets its outcome from recovery.c. Calls do not pass through here: they go from
 * session to lane through shared memory.
 *
 *     knit_pool_options_init(&options);
 *     options.worker_path = ...; options.modules = ...;
 *     if (knit_pool_open(&options, &pool, &why) != 0)
 *         ... why.text: "worker startup failed: ..."
 *     watch knit_pool_fd(pool) for reading; when readable: knit_pool_dispatch(pool);
 *
 * Threads: every function may be called from any thread; one mutex guards the pool. But only one
 * thread at a time dispatches, and it is the one that opened the pool and lives as long as the
 * pool: the kernel kills workers when the thread that started them ends. Callbacks run on that
 * thread, inside knit_pool_open(), _dispatch(), _wait_stopped() and _free(), without the mutex:
 * they may call everything here but those four. Nothing blocks but knit_pool_open() and
 * knit_pool_wait_stopped(), both bounded; dispatch may take some milliseconds when a worker is
 * stopped for its hard timeout.
 *
 * Signals: the pool reaps its own children by pidfd. A host that reaps by itself asks
 * knit_pool_owns_pid() first; SIGCHLD must not be ignored (SIG_IGN or SA_NOCLDWAIT).
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#include "fastpath/confine/confine.h"
#include "fastpath/control/registry.h"
#include "fastpath/lane/layout.h"
#include "fastpath/lane/session.h"
#include "proto/sentence.h"

#define KNIT_POOL_WORKERS_MAX  KNIT_LANES_MAX
#define KNIT_POOL_MODULES_MAX  1024u
#define KNIT_POOL_SESSIONS_MAX 124u  /* of both kinds: what a parked worker can listen to */
#define KNIT_POOL_LINE_BYTES   4096u /* longest line of output that is handed on whole */

enum {
    KNIT_POOL_E_STARTUP = 1,      /* open: the sentence says why */
    KNIT_POOL_E_SESSIONS = 2,     /* all sessions there may be are taken */
    KNIT_POOL_E_UID_SESSIONS = 3, /* this uid has all the sessions it may have */
    KNIT_POOL_E_MEMORY = 4,       /* the segments would pass memory_max_bytes */
    KNIT_POOL_E_CLOSED = 5,       /* the pool is shut down, or about to be */
    KNIT_POOL_E_SIZE = 6,         /* slots or arena outside what the pool offers */
    KNIT_POOL_E_UNSEALED = 7,     /* its caller could still punch pages out of what it writes */
};

enum knit_pool_event_kind {
    KNIT_POOL_WORKER_STARTED,   /* lane, pid; `again` when it replaces one */
    KNIT_POOL_WORKER_DIED,      /* lane, pid, signal or status, lost, task, text "killed by ..." */
    KNIT_POOL_WORKER_REFUSED,   /* lane, pid, text: a replacement could not start */
    KNIT_POOL_WORKER_STOPPED,   /* lane, pid: left because it was told to */
    KNIT_POOL_HARD_TIMEOUT,     /* lane, pid, task: about to be killed; DIED follows */
    KNIT_POOL_TASK_QUARANTINED, /* task */
    KNIT_POOL_SESSION_EVICTED,  /* session, text: broke the protocol; end its connection */
    KNIT_POOL_SESSION_DAMAGED,  /* session, text: the host's own, served no more. Once for each. */
    KNIT_POOL_DEGRADED,         /* workers die faster than they work; `again` false = over */
    KNIT_POOL_UNCONFINED,       /* text: what of the policy is not enforced. Once. */
    KNIT_POOL_OUTPUT_DROPPED,   /* lost = lines that were not handed on, for want of memory */
    KNIT_POOL_STOPPED,          /* after knit_pool_shutdown(): all workers are reaped. Once. */
};

#define KNIT_POOL_TASK_NONE UINT32_MAX

struct knit_pool_event {
    enum knit_pool_event_kind kind;
    bool again;
    uint32_t lane;
    pid_t pid;
    int signal;    /* that killed it; 0 = it exited by itself */
    int status;    /* its exit status */
    uint32_t lost; /* calls it was running, answered in its place */
    uint32_t task; /* id it was running, or KNIT_POOL_TASK_NONE */
    uint64_t session;
    const char *text; /* one sentence without a stop, or ""; valid during the callback */
};

struct knit_pool_callbacks {
    /* One line a task printed (stdout and stderr are one stream), without its newline; the rest of
     * a line longer than KNIT_POOL_LINE_BYTES is dropped and `truncated` set. Any bytes but \n. */
    void (*on_output)(
        void *arg, uint32_t lane, pid_t pid, const char *line, size_t len, bool truncated);
    void (*on_event)(void *arg, const struct knit_pool_event *event);
    void *arg;
};

/* Copied by knit_pool_open(). Start from knit_pool_options_init(); then every field counts as it
 * stands, 0 included. */
struct knit_pool_options {
    const char *worker_path;    /* absolute, of knitting-worker */
    const char *const *prefix;  /* NULL-ended words before it ("nice", "-n", "5"), or NULL */
    const char *const *modules; /* absolute paths */
    uint32_t module_count;
    const char *const
        *environment;      /* NULL-ended "NAME=value": the whole of it, or NULL = PATH and LANG */
    const char *bootstrap; /* text for the modules' hooks, "" */
    uint32_t workers;      /* 1..KNIT_POOL_WORKERS_MAX; 1 */
    bool steal;            /* true */
    uint32_t spin_us;      /* longest spin before a worker parks, adapts below; 50 */
    uint32_t pause_ns;     /* of one pause in a spin; 250 */
    uint32_t park_ms;      /* belt: longest sleep of a worker; 0 = no limit */
    uint32_t slots;        /* of a foreign session, at most; KNIT_SLOTS_DEFAULT */
    uint64_t arena_initial_bytes; /* of each arena, allocated up front; 64 KiB */
    uint64_t arena_bytes;    /* size of a request arena, and of each lane's reply arena; 64 MiB */
    uint64_t call_max_bytes; /* one argument, one result: 1 .. an eighth of that; 8 MiB */
    uint64_t reply_budget_bytes; /* of all reply arenas of a session together; 64 MiB */
    uint64_t memory_max_bytes; /* all sessions: request segments and reply budgets; 0 = half of the
                                  RAM */
    uint32_t sessions_max;     /* foreign ones; 120 */
    uint32_t uid_sessions_max; /* of one uid; 8 */
    uint32_t hard_timeout_ms;  /* of tasks that name none; 0 = none */
    uint32_t startup_ms;       /* until all workers serve; 30,000 */
    int stop_fd;      /* readable: knit_pool_open() gives up with E_CLOSED; borrowed; -1 = none */
    uint32_t stop_ms; /* a worker that was told to leave is killed then; 5,000 */
    uint32_t
        gone_ms; /* a task whose session is closed may go on for so long; 60,000; 0 = no limit */
    struct knit_confine_policy confinement; /* unsafe: a program's own modules in its own pool */
    struct knit_pool_callbacks callbacks;   /* members may be NULL */
};

void knit_pool_options_init(struct knit_pool_options *options);

struct knit_pool;

/* Starts the workers and waits until all of them serve, at most startup_ms.
 * KNIT_POOL_E_STARTUP: ret_why holds one sentence ("worker startup failed: /a/b.so: ...", or which
 * option is wrong) and everything that was started is gone again. Else 0 or -errno (ret_why too).
 */
int knit_pool_open(const struct knit_pool_options *options, struct knit_pool **ret_pool,
    struct knit_sentence *ret_why);

/* Ends what still runs, at once, and frees everything. All host sessions must be closed. NULL is
 * allowed; returns NULL. */
struct knit_pool *knit_pool_free(struct knit_pool *pool);

/* Readable when there is something to dispatch: an epoll descriptor, good inside another epoll.
 * Timers are within it. Owned by the pool. */
int knit_pool_fd(const struct knit_pool *pool);

/* Handles what is there and returns; never waits for more. */
void knit_pool_dispatch(struct knit_pool *pool);

/* Begin to close; returns at once, KNIT_POOL_STOPPED follows. No session can be opened any more.
 * drain: what was published runs to its end, until deadline_ns (CLOCK_MONOTONIC). Then, or without
 * drain: queued calls end in SHUTDOWN (started no), running ones see knit_aborted(), workers leave
 * after their task or are killed at the deadline and no later than stop_ms; their calls end in
 * SHUTDOWN (started yes). Again: can only make it sooner. */
void knit_pool_shutdown(struct knit_pool *pool, bool drain, uint64_t deadline_ns);
bool knit_pool_is_stopped(const struct knit_pool *pool);

/* Dispatches until the pool is stopped; for hosts without an event loop. shutdown() came before. */
void knit_pool_wait_stopped(struct knit_pool *pool);

/* What the workers announced; lives as long as the pool. */
const struct knit_registry *knit_pool_registry(const struct knit_pool *pool);

/* ---- sessions of the host's own threads
 * ---------------------------------------------------------- */

struct knit_pool_session {
    uint64_t id;
    struct knit_session *session; /* the caller's side, of the thread that opened it */
    int bell_fd;                  /* to be polled; the session's bell_fd already */
    struct knit_reply_view reply; /* outcomes held in arenas stay readable until close */
    struct knit_geometry geometry;
};

/* slots 1..KNIT_SLOTS_MAX. `options->bell_fd`, `steal` and `argument_max_bytes` are filled in here.
 * Returns 0, KNIT_POOL_E_SESSIONS, _E_MEMORY, _E_CLOSED, _E_WISH, -errno. */
int knit_pool_session_open(struct knit_pool *pool, uint32_t slots,
    const struct knit_session_options *options, struct knit_pool_session **ret_session);

/* Calls in flight are aborted and forgotten. Nothing may point into outcomes any more. From the
 * thread that uses the session. NULL is allowed; returns NULL. */
struct knit_pool_session *knit_pool_session_close(
    struct knit_pool *pool, struct knit_pool_session *outside);

/* ---- sessions of other processes
 * ----------------------------------------------------------------- */

struct knit_pool_peer {
    uid_t uid;
    gid_t gid;
    pid_t pid; /* for stats alone */
};

/* What `$/attach` hands over. The descriptors are the receiver's: send them, then
 * knit_pool_grant_close(). Their order on the wire is the one here. */
struct knit_pool_grant {
    uint64_t id;
    struct knit_geometry geometry;
    uint64_t call_max_bytes; /* of one argument */
    bool steal;
    int board_fd;   /* read-only */
    int request_fd; /* read-write; to be sealed, see segment.h */
    int reply_fd;   /* read-only */
    int bell_fd;    /* the caller's end of a stream socketpair */
};

enum { KNIT_POOL_GRANT_FDS = 4 };

/* slots and arena_bytes: 0 = as much as the pool gives; more than that is cut, not refused.
 * Returns 0, KNIT_POOL_E_SESSIONS, _E_UID_SESSIONS, _E_MEMORY, _E_CLOSED, _E_WISH, -errno. */
int knit_pool_attach(struct knit_pool *pool, const struct knit_pool_peer *peer, uint32_t slots,
    uint64_t arena_bytes, struct knit_pool_grant *ret_grant);
void knit_pool_grant_close(struct knit_pool_grant *grant); /* accepts one that was closed */

/* The caller says that it has mapped and sealed what it was granted. Only now is the session
 * served; before, it counts against the limits and nobody looks at what its caller writes. Unknown
 * ids, and what was said before, are ignored. Returns 0, or KNIT_POOL_E_UNSEALED, -errno: it
 * cannot be served, and KNIT_POOL_SESSION_EVICTED follows. */
int knit_pool_attached(struct knit_pool *pool, uint64_t id);

/* The connection that was the session's lease has ended. Queued calls are dropped, running ones see
 * knit_aborted(); memory goes when the workers let go. Unknown ids are ignored. */
void knit_pool_detach(struct knit_pool *pool, uint64_t id);

/* One sentence without a stop for a positive return of this header. */
const char *knit_pool_reason(int error);

/* ---- looking at it
 * ------------------------------------------------------------------------------- */

enum knit_pool_lane_state {
    KNIT_POOL_LANE_VACANT,   /* nobody: its worker died, the next is due */
    KNIT_POOL_LANE_STARTING, /* loads modules */
    KNIT_POOL_LANE_SERVING,
    KNIT_POOL_LANE_STOPPING,
};

struct knit_pool_lane_stats {
    enum knit_pool_lane_state state;
    pid_t pid; /* 0 = none */
    bool is_parked;
    bool is_running;
    uint64_t calls;  /* begun, by all workers of this lane */
    uint64_t stolen; /* of them from other lanes */
    uint64_t parks;
    uint64_t busy_ns;
    uint64_t deaths;
    uint64_t up_since_ns; /* CLOCK_MONOTONIC; 0 = not up */
};

struct knit_pool_stats {
    uint32_t lanes;
    uint32_t lanes_serving;
    bool is_degraded; /* a lane waits before it tries again, because its workers died at once */
    uint32_t sessions;
    uint32_t foreign_sessions;
    uint32_t closing_sessions; /* closed, but a worker has not let go yet */
    uint64_t memory_bytes;     /* counted against memory_max_bytes */
    uint64_t deaths;
    uint64_t hard_timeouts;
    uint64_t evicted;
    uint64_t recovered;                    /* calls that the host answered, for whatever reason */
    uint32_t quarantined;                  /* tasks */
    uint64_t output_dropped;               /* lines, for want of memory */
    struct knit_confine_force confinement; /* of the worker that said so last */
};

void knit_pool_stats(struct knit_pool *pool, struct knit_pool_stats *ret_stats);
uint32_t knit_pool_lanes(const struct knit_pool *pool);
/* lane < knit_pool_lanes(). */
void knit_pool_lane_stats(
    struct knit_pool *pool, uint32_t lane, struct knit_pool_lane_stats *ret_stats);

/* Whether this is a worker of the pool that has not been reaped: leave it alone. */
bool knit_pool_owns_pid(struct knit_pool *pool, pid_t pid);
