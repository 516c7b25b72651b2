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

#include <stdbool.h>
#include <stdint.h>

#include "server/net/net.h"

/* Takes over the transport of what the loop has counted as accepted. Returns 0, or -ENOMEM with the
 * transport closed. */
int knit_connection_open(struct knit_net *net, struct knit_transport transport);

/* The same for a client whose address a proxy gave: it stands in the log, and what it takes is
 * counted for it. NULL: the socket's. */
int knit_connection_open_for(
    struct knit_net *net, struct knit_transport transport, const struct knit_endpoint *from);

/* Ends it now: aborts its calls, drops what was not written. It is freed at the end of the turn. A
 * second time does nothing. */
void knit_connection_close(struct knit_connection *connection);

/* Frees a closed one. */
void knit_connection_free(struct knit_connection *connection);

/* Goes on with the input it holds, in a turn of its own. */
void knit_connection_resume(struct knit_connection *connection);

/* Reads on if nothing keeps it from that: there may be input that no event of this turn reports. */
void knit_connection_read(struct knit_connection *connection);

/* A knit_hangup_on_hangup(). */
void knit_connection_on_hangup(void *arg, bool is_broken);
