/* SPDX-License-Identifier: Apache-2.0 */
/* One event loop: a thread, its connections, and its session in the pool.
 *
 * Loops share nothing that changes but their mailboxes and counters, so none of them ever waits for
 * another. A turn is
 *
 *     events         read sockets; publish the calls that came
 *     router         collect outcomes into the connections' output; settle what is overdue
 *     waiting        connections that found no slot, in the order in which they began to wait
 *     flush          one write for each connection that has output
 *
 * and turns follow each other without sleeping while calls are in flight and answers keep coming;
 * then the loop arms its session's bell and sleeps in epoll.
 *
 * Connections are freed at the end of a turn only (`dead`), so that no code further up the stack
 * finds its own one gone.
 *
 * Threads: each loop's own, but for knit_loop_send() and the counters.
 */
#pragma once

#include <event2/event.h>
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/queue.h>

#include "fastpath/host/pool.h"
#include "server/base/log.h"
#include "server/base/turn.h"
#include "server/config/setting.h"
#include "server/daemon/mailbox.h"
#include "server/net/hangup.h"
#include "server/net/input.h"
#include "server/policy/access.h"
#include "server/rpc/router.h"
#include "server/rpc/suggest.h"

struct knit_connection;
TAILQ_HEAD(knit_connections, knit_connection);

enum knit_loop_state {
    KNIT_LOOP_SERVING,
    KNIT_LOOP_DRAINING,  /* new calls are refused, those in flight go on */
    KNIT_LOOP_FINISHING, /* every outcome there will be is there: deliver and end */
    KNIT_LOOP_ENDED,
};

/* What all loops of a daemon know in common. Constant while they run. */
struct knit_loops {
    const struct knit_settings *settings;
    const struct knit_access *access;
    struct knit_log *log;
    struct knit_pool *pool;
    struct knit_mailbox *outbox; /* to the main thread */
    uint64_t started_ns;         /* CLOCK_MONOTONIC */
    struct knit_loop *items;
    uint32_t count;
};

struct knit_loop {
    struct knit_turn turn;
    const struct knit_loops *all;
    pthread_t thread;
    bool has_thread;
    enum knit_loop_state state;
    uint64_t end_ns; /* of FINISHING, at the latest */

    struct event_base *base;
    struct event *inbox_event;
    struct event *bell_event;
    struct event *alarm_event; /* ends a sleep in time for the next deadline */
    int alarm_fd;              /* timerfd: libevent's own timers are exact to 4 ms only */
    uint64_t alarm_ns;         /* when it fires; UINT64_MAX = not set */
    struct event *sweep_event; /* once a second, while something needs it */
    struct knit_hangup_monitor hangups;
    struct knit_mailbox inbox;

    struct knit_router router;
    struct knit_connections connections;
    struct knit_connections dirty;   /* have output to write at the end of the turn */
    struct knit_connections ready;   /* may go on reading what they hold already */
    struct knit_connections stalled; /* a slow reader, or closing: looked at by the sweep */
    struct knit_connections idle;    /* all others, longest idle first; with idle_timeout_s alone */
    struct knit_connections dead;
    struct knit_inputs inputs;
    size_t copied_bytes; /* of all outputs, what does not lie in the reply arena */

    uint8_t *read_buffer;
    struct knit_suggest suggest;
    uint32_t idle_turns; /* without an event or an outcome, since the last one */
    uint32_t poll_turns; /* as many of these before it sleeps */
};

#define KNIT_LOOP_READ_BUFFER_BYTES (256u * 1024)

/* Opens the session and starts the thread. `loop` is zeroed memory in all->items.
 * Returns 0 or -errno, KNIT_POOL_E_* as knit_pool_session_open() has them; then nothing is left. */
int knit_loop_start(struct knit_loop *loop, const struct knit_loops *all, uint32_t index);

/* Waits for the thread, which ends after FINISH. Accepts one that never started. */
void knit_loop_join(struct knit_loop *loop);

/* From any thread. False when its mailbox is full. */
bool knit_loop_send(struct knit_loop *loop, struct knit_mailbox_message message);

/* Connections it has now. From any thread. */
uint64_t knit_loop_connection_count(const struct knit_loop *loop);
