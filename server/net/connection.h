/* SPDX-License-Identifier: Apache-2.0 */
/* One connection, a caller of the router: bytes in, messages out of them, replies back.
 *
 * Input is read into the one big buffer of all connections, scanned and dispatched in place; only
 * what is left over (a message that is not whole yet, or messages that must wait) moves into memory
 * of the connection's own, which it gives back as soon as it is empty. An idle connection costs
 * this structure. A large message is read straight into the connection's own memory.
 *
 * Why a connection is not read just now is a set of KNIT_PAUSE_* bits; when the last one goes the
 * loop resumes it. One that waits for slots alone is read a little further, see lookahead.h. While
 * a connection is not read, it still notices that its peer has gone.
 *
 * The end of the peer's stream means that the caller wants no more: replies that are there are
 * still written, all of them; its calls are aborted.
 *
 * Threads: its loop's.
 * Limits: message_max_bytes and KNIT_NET_READ_BUFFER_BYTES of input, all together as input.h says;
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

#include "proto/scan.h"
#include "server/net/input.h"
#include "server/net/transport.h"
#include "server/rpc/caller.h"

struct evbuffer;
struct knit_handover;
struct knit_lookahead;
struct knit_net;

/* Its own reasons for not being read, beside those of caller.h. */
enum {
    KNIT_PAUSE_OUTPUT = KNIT_PAUSE_OWN, /* its peer does not read its replies */
    KNIT_PAUSE_HANDOVER = 8,            /* descriptors wait until the output is empty */
    KNIT_PAUSE_CLOSING = 16,            /* for good */
    KNIT_PAUSE_TURN = 32,               /* has done enough for now: others have their turn first */
    KNIT_PAUSE_BUDGET = 64,             /* there is no room for more of its input */
};

/* Which events it waits for. */
enum knit_interest {
    KNIT_INTEREST_NOTHING,
    KNIT_INTEREST_INPUT,
    KNIT_INTEREST_ERROR, /* what is left after the end */
    KNIT_INTEREST_END,   /* and for errors: it is not read */
};

/* Which lists of struct knit_net, besides `connections`, it is in. */
enum {
    KNIT_IN_DIRTY = 1,
    KNIT_IN_READY = 2,
    KNIT_IN_STALLED = 4,
    KNIT_IN_IDLE = 8,
    KNIT_IN_LOOKAHEAD = 16,
    KNIT_IN_LARGE = 32, /* of `inputs` */
    KNIT_IN_WAITING_FOR_BUDGET = 64,
};

struct knit_connection {
    struct knit_caller caller;
    TAILQ_ENTRY(knit_connection) in_all; /* or in `dead` */
    TAILQ_ENTRY(knit_connection) in_dirty;
    TAILQ_ENTRY(knit_connection) in_ready;
    TAILQ_ENTRY(knit_connection) in_stalled;
    TAILQ_ENTRY(knit_connection) in_idle;
    TAILQ_ENTRY(knit_connection) in_lookahead;
    TAILQ_ENTRY(knit_connection) in_large;
    TAILQ_ENTRY(knit_connection) in_waiting_for_budget;
    struct knit_net *net;
    struct knit_transport transport;
    uint16_t lists; /* KNIT_IN_* */
    bool is_dead;
    enum knit_interest interest;
    bool is_lingering; /* all is sent and the sending side shut: waits for the peer's end */
    bool has_message;  /* a whole one stands at the front of the input and is not dispatched */
    bool has_goaway;

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

    struct knit_handover *handover; /* a reply with descriptors that waits, or NULL */
};

/* Takes the transport over. Returns 0, or -ENOMEM with the transport closed. */
int knit_connection_open(struct knit_net *net, struct knit_transport transport);

/* Ends it now: aborts its calls, drops what was not written. It is freed at the end of the turn. A
 * second time does nothing. */
void knit_connection_close(struct knit_connection *connection);

/* Frees a closed one. */
void knit_connection_free(struct knit_connection *connection);

/* Ends it after its output has gone; reads nothing more. */
void knit_connection_close_soon(struct knit_connection *connection);

/* The output of a closing one has gone: shuts the sending side and waits for the peer's end. */
void knit_connection_linger(struct knit_connection *connection);

/* Adds one of its own reasons for not being read; knit_caller_unpause() takes it away. */
void knit_connection_pause(struct knit_connection *connection, uint8_t reason);

/* Goes on with the input it holds, in a turn of its own. */
void knit_connection_resume(struct knit_connection *connection);

/* Its peer has gone while it was not read; with is_broken, nothing can be written to it any more
 * either. */
void knit_connection_on_hangup(struct knit_connection *connection, bool is_broken);

/* `$/goaway`, once, if the caller said `$/hello`. */
void knit_connection_send_goaway(struct knit_connection *connection, uint64_t drain_ms);
