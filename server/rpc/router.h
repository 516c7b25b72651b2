/* SPDX-License-Identifier: Apache-2.0 */
/* Where loop and lanes meet: a request becomes a call in the loop's session, its outcome becomes
 * the response on the right connection.
 *
 * A call is known by its session slot. The record of that slot says whose it is and when it is
 * overdue; when the connection goes away or the deadline passes, the record loses its connection
 * while the slot stays taken until the worker has answered. A slot counts in its connection's share
 * for as long as it is taken, whatever the caller has been told meanwhile.
 *
 * When the session has no slot or no arena space, the connection waits and is not read; connections
 * get their turns in the order in which they began to wait, a bounded number of calls each, and
 * while anybody waits nobody overtakes. Those that wait for arena space have a queue of their own:
 * calls that fit a cell need none and pass them. Of slots and of arena space alike, a connection
 * gets a share.
 *
 * Deadlines of calls are kept in the records, those of requests that still wait in lookahead.h's
 * queues; both count from when the request was read. The router knows a lower bound of the next one
 * and looks at all records when it has come: with at most some thousand slots that costs a
 * microsecond, and costs nothing for the calls that end in time, which are nearly all of them.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/message.h"

struct knit_connection;
struct knit_loop;
struct knit_pool;
struct knit_pool_session;
struct knit_registry;

TAILQ_HEAD(knit_waiting, knit_connection);

struct knit_record {
    struct knit_connection *connection; /* NULL: nobody waits for the outcome */
    uint64_t deadline_ns;               /* UINT64_MAX = none */
    uint64_t queue_deadline_ns;         /* likewise: it must have started by then */
    struct knit_connection *charged_to; /* whose extra_slots it is among */
    uint32_t msgid;
    uint32_t task;
    uint32_t argument_bytes; /* in the request arena */
    bool is_taken;
    bool is_settled; /* its outcome was given early */
};

struct knit_router {
    struct knit_loop *loop;
    struct knit_pool_session *session;
    const struct knit_registry *registry;
    struct knit_record *records; /* [slots] */
    uint32_t slots;
    uint32_t pinned; /* slots whose outcome lies in some connection's output */
    size_t pinned_bytes;
    uint64_t next_ns;    /* no deadline is earlier; UINT64_MAX = none */
    uint32_t turns_left; /* calls the connection that is resumed may still publish */
    struct knit_connection *resumed;
    struct knit_waiting waiting; /* for a slot */
    struct knit_waiting waiting_arena;
    bool is_arenas_turn;
    size_t argument_bytes;                   /* in the request arena */
    TAILQ_HEAD(, knit_connection) lookahead; /* have a knit_lookahead; with news first */
    uint64_t interval_ns; /* between two outcomes, a moving average: for retry_after_ms */
    uint64_t collected_ns;
};

/* Opens the session. Returns 0, -errno, KNIT_POOL_E_*. */
int knit_router_init(struct knit_router *router, struct knit_loop *loop, struct knit_pool *pool);

/* The pool is stopped and has answered all it could, so what is not answered now never will be:
 * those calls end in SHUTDOWN. None is, unless somebody wrote over the session's memory. */
void knit_router_give_up(struct knit_router *router);

/* All connections are gone. Accepts a zeroed one. */
void knit_router_fini(struct knit_router *router, struct knit_pool *pool);

/* Publishes or refuses. False: there is no room; the connection is paused and the message must be
 * brought again when it is resumed. */
bool knit_router_call(struct knit_connection *connection, const struct knit_message *message);

/* When a request that has been here since since_ns is overdue unless it has started; UINT64_MAX =
 * never, or it is none that may become a call. */
uint64_t knit_router_deadline(const struct knit_connection *connection,
    const struct knit_message *message, uint64_t since_ns);

/* The message that waited at the connection's front need not: go on behind it. */
void knit_router_stop_waiting(struct knit_connection *connection);

/* Slots that a connection may have when no other has any. */
uint32_t knit_router_share(const struct knit_router *router);

/* `$/cancel`. False: no call of that id is in flight; its response may be on its way. */
bool knit_router_cancel(struct knit_connection *connection, uint32_t msgid);

/* The connection is going: abort its calls, forget that it waits. */
void knit_router_forget(struct knit_connection *connection);

/* Collect what is answered, settle what is overdue, let those go on who waited. Returns how many
 * outcomes there were. */
size_t knit_router_turn(struct knit_router *router);

/* Slots whose answer is still to come. */
uint32_t knit_router_outstanding(const struct knit_router *router);

/* The payload of an outcome has left for the connection: its slot is free again. */
void knit_router_release(struct knit_router *router, uint32_t slot);

/* One of the connection's extra_slots is not its own any more. */
void knit_router_give_back(struct knit_connection *connection);
