/* SPDX-License-Identifier: Apache-2.0 */
/* One connection: bytes in, messages out of them, replies back.
 *
 * Input is read into the loop's one big buffer, scanned and dispatched in place; only what is left
 * over (a message that is not whole yet, or messages that must wait) moves into memory of the
 * connection's own, which it gives back as soon as it is empty. An idle connection costs this
 * structure. A large message is read straight into the connection's own memory.
 *
 * Why a connection is not read just now is a set of KNIT_PAUSE_* bits; when the last one goes the
 * loop resumes it. One that waits for slots alone is read a little further, see lookahead.h. While
 * a connection is not read, it still notices that its peer has gone.
 *
 * The end of the peer's stream means that the caller wants no more: replies that are there are
 * still written, all of them; its calls are aborted.
 *
 * Threads: its loop's.
 * Limits: message_max_bytes and KNIT_LOOP_READ_BUFFER_BYTES of input, all together as input.h says;
 * output as output.h says; in_flight_max calls.
 * Security: everything read is hostile. After a message without boundaries nothing more is read.
 */
#pragma once

#include <event2/event.h>
#include <event2/event_struct.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/queue.h>

#include "proto/failure.h"
#include "proto/scan.h"
#include "server/net/input.h"
#include "server/net/transport.h"
#include "server/policy/access.h"
#include "server/rpc/in_flight.h"

struct evbuffer;
struct knit_lookahead;
struct knit_attach;
struct knit_loop;

enum {
    KNIT_PAUSE_SLOT = 1,      /* waits in the router's queue for a slot or for arena space */
    KNIT_PAUSE_IN_FLIGHT = 2, /* has in_flight_max calls, or its share of slots or of the arena */
    KNIT_PAUSE_OUTPUT = 4,    /* its peer does not read its replies */
    KNIT_PAUSE_ATTACH = 8,    /* descriptors wait until the output is empty */
    KNIT_PAUSE_CLOSING = 16,  /* for good */
    KNIT_PAUSE_TURN = 32,     /* has done enough for now: others have their turn first */
    KNIT_PAUSE_BUDGET = 64,   /* the loop has no room for more of its input */
};

/* What it waits for. */
enum knit_interest {
    KNIT_INTEREST_NOTHING,
    KNIT_INTEREST_INPUT,
    KNIT_INTEREST_ERROR, /* what is left after the end */
    KNIT_INTEREST_END,   /* and for errors: it is not read */
};

/* Which of the loop's lists besides `connections` it is in. */
enum {
    KNIT_IN_DIRTY = 1,
    KNIT_IN_READY = 2,
    KNIT_IN_STALLED = 4,
    KNIT_IN_WAITING = 8, /* the router's */
    KNIT_IN_IDLE = 16,
    KNIT_IN_LOOKAHEAD = 32,           /* the router's */
    KNIT_IN_LARGE = 64,               /* of `inputs` */
    KNIT_IN_WAITING_FOR_BUDGET = 128, /* likewise */
    KNIT_IN_WAITING_ARENA = 256,
};

struct knit_connection {
    TAILQ_ENTRY(knit_connection) in_all; /* or in `dead` */
    TAILQ_ENTRY(knit_connection) in_dirty;
    TAILQ_ENTRY(knit_connection) in_ready;
    TAILQ_ENTRY(knit_connection) in_stalled;
    TAILQ_ENTRY(knit_connection) in_waiting;
    TAILQ_ENTRY(knit_connection) in_idle;
    TAILQ_ENTRY(knit_connection) in_lookahead;
    TAILQ_ENTRY(knit_connection) in_large;
    TAILQ_ENTRY(knit_connection) in_waiting_for_budget;
    struct knit_loop *loop;
    struct knit_transport transport;
    uint16_t lists; /* KNIT_IN_* */
    uint8_t pauses; /* KNIT_PAUSE_* */
    bool is_dead;
    enum knit_interest interest;
    bool is_lingering; /* all is said and the sending side shut: waits for the peer's end */
    bool has_message;  /* a whole one stands at the front of the input and is not dispatched */
    bool has_hello;
    bool has_goaway;
    struct knit_access_peer peer; /* of a unix socket */

    struct event input_event;
    struct event output_event; /* pending while the socket takes no more */
    struct knit_scan scan;
    size_t fed; /* bytes of the message at the front that the scanner has seen */
    struct knit_input input;
    uint64_t received_ns;             /* when input last came */
    struct knit_lookahead *lookahead; /* what of it waits for a slot, or NULL */

    struct evbuffer *output; /* NULL until the first reply */
    size_t pinned_bytes;     /* of it, lying in the reply arena */
    size_t copied_bytes;     /* the others that waited when it was last written */
    uint64_t progress_ns;    /* when output last moved far enough, or began to wait */
    uint64_t moved_ns;       /* when more than a trickle of it last left, or it began to wait */
    uint32_t moved_bytes;    /* that left since then */
    uint64_t activity_ns;    /* when more than a trickle last came or went */

    struct knit_in_flight calls;
    /* Slots it has beside those of `calls`: of notifications, of calls whose outcome was given
     * before their answer came, and of results in its output. */
    uint32_t extra_slots;
    size_t argument_bytes;      /* of its calls in the request arena */
    uint64_t session_id;        /* of what it attached; 0 = none */
    struct knit_attach *attach; /* a reply with descriptors that waits */
};

/* Takes the transport over. Returns 0, or -ENOMEM with the transport closed. */
int knit_connection_open(struct knit_loop *loop, struct knit_transport transport);

/* Ends it now: aborts its calls, drops what was not written. Freed at the end of the turn. Once. */
void knit_connection_close(struct knit_connection *connection);

/* Frees a closed one. */
void knit_connection_free(struct knit_connection *connection);

/* Ends it after its output has gone; reads nothing more. */
void knit_connection_close_soon(struct knit_connection *connection);

/* The output of a closing one has gone: shut the sending side, wait for the peer's end. */
void knit_connection_linger(struct knit_connection *connection);

/* Add or take away reasons for not reading. Taking the last one away makes it ready. */
void knit_connection_pause(struct knit_connection *connection, uint8_t reason);
void knit_connection_unpause(struct knit_connection *connection, uint8_t reason);

/* Goes on with the input it holds, in a turn of its own. */
void knit_connection_resume(struct knit_connection *connection);

/* Its peer has gone while it was not read; with is_broken, nothing can be
 * written to it any more either. */
void knit_connection_on_hangup(struct knit_connection *connection, bool is_broken);

/* The form of errors its caller understands. */
enum knit_failure_form knit_connection_form(const struct knit_connection *connection);
