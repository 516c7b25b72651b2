/* SPDX-License-Identifier: Apache-2.0 */
/* One event loop: a thread, its connections, and its session in the pool.
 *
 * Loops share nothing that changes but their mailboxes and counters, so none of them ever waits for
 * another. A turn is
 *
 *     events         read sockets; publish the calls that came
 *     handshakes     a few steps of TLS
 *     ready          connections that go on with bytes they hold already
 *     lookahead      answer waiting requests that are overdue
 *     router         collect outcomes into the connections' output; settle what is overdue; resume
 *                    callers that found no slot, in the order in which they began to wait
 *     lookahead      scan what came behind requests that wait
 *     flush          one write for each connection that has output; free closed connections
 *
 * Turns follow each other without sleeping while calls are in flight and answers keep coming; then
 * the loop arms its session's bell and sleeps in epoll.
 *
 * Threads: each loop's own, but for knit_loop_send() and the counters.
 */
#pragma once

#include <event2/event.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/host/pool.h"
#include "fastpath/host/stop.h"
#include "server/admin/stats.h"
#include "server/base/turn.h"
#include "server/daemon/mailbox.h"
#include "server/daemon/reload.h"
#include "server/net/connections.h"
#include "server/rpc/calls.h"
#include "server/rpc/keyed.h"
#include "server/rpc/router.h"

struct knit_listed;

enum knit_loop_state {
    KNIT_LOOP_SERVING,
    KNIT_LOOP_YIELDING,  /* callers are told to go elsewhere; those that cannot be are served */
    KNIT_LOOP_DRAINING,  /* new calls are refused, those in flight go on */
    KNIT_LOOP_FINISHING, /* every outcome there will be is there: deliver and end */
    KNIT_LOOP_ENDED,
};

/* What all loops of a daemon know in common. Constant while they run. */
struct knit_loops {
    const struct knit_settings *settings;
    struct knit_log *log;
    struct knit_principals *principals;
    struct knit_mailbox *outbox;                  /* to the main thread */
    struct knit_closer *closer;                   /* of unix connections; NULL: none is needed */
    struct knit_tls_store *tls;                   /* NULL: there is no TLS */
    const struct knit_inline_tasks *inline_tasks; /* NULL: there is no inliner */
    struct knit_keys *keys;
    struct knit_router_backend backend;
    struct knit_stats_sources stats;
    struct knit_calls *calls;            /* [count]: what each has listed */
    struct knit_reload_outcome *outcome; /* of `$/reload` */
    struct knit_listed *listed;          /* for `$/calls` and `$/sessions` */
    struct knit_loop *items;
    uint32_t count;
};

struct knit_loop {
    struct knit_turn turn;
    struct knit_net net;
    struct knit_router router;
    const struct knit_loops *all;
    struct knit_host_own_session *session;
    pthread_t thread;
    bool has_thread;
    enum knit_loop_state state;
    uint64_t end_ns; /* of YIELDING and of FINISHING, at the latest */

    struct event_base *base;
    struct event *inbox_event;
    struct event *bell_event;
    struct event *alarm_event; /* ends a sleep in time for the next deadline */
    int alarm_fd;              /* timerfd: libevent's own timers are exact to 4 ms only */
    uint64_t alarm_ns;         /* when it fires; UINT64_MAX = not set */
    struct event *sweep_event; /* once a second, while turn.needs_sweep asks for it */
    struct knit_mailbox inbox;

    uint32_t idle_turns; /* without an event or an outcome, since the last one */
    uint32_t poll_turns; /* as many of these before it sleeps */
};

/* So many messages are taken in a turn: to open as many connections takes about a millisecond. */
#define KNIT_LOOP_MESSAGES_A_TURN 64u

/* What its events come through; NULL when there is no memory. */
struct event_base *knit_loop_new_base(void);

/* Opens the session and starts the thread. `loop` is zeroed memory in all->items.
 * Returns 0 or -errno, KNIT_HOST_E_* as knit_host_own_session_open() has them; then nothing is
 * left. */
KNIT_MUST_CHECK int knit_loop_start(
    struct knit_loop *loop, const struct knit_loops *all, uint32_t index);

/* Waits for the thread, which ends after FINISH. Accepts one that never started. */
void knit_loop_join(struct knit_loop *loop);

/* Its thread's: messages of one turn. */
void knit_loop_read_inbox(struct knit_loop *loop);

/* A call is to stop, which may be of one of these. From any thread. */
enum { KNIT_LOOP_GEN_BITS = 40 };
void knit_loops_stop(struct knit_loops *loops, const struct knit_host_address *call);

/* From any thread. False when its mailbox is full. */
KNIT_MUST_CHECK bool knit_loop_send(struct knit_loop *loop, struct knit_mailbox_message message);
