/* SPDX-License-Identifier: Apache-2.0 */
/* `$/attach` and `$/attached`: hands a caller on this machine its own session in the pool, and has
 * it served when the caller says that it has sealed what it will write (fastpath/lane/segment.h).
 *
 * Descriptors ride on the first byte of the response. The response leaves in a write of its own,
 * when nothing else waits, and until then the connection is not read: so they cannot end up with a
 * reply that happens to leave in the same write.
 *
 * The connection is the session's lease: when it ends the session ends, and when the session is
 * evicted the connection is closed.
 */
#pragma once

#include "proto/message.h"

struct knit_connection;

/* Answers the request now or as soon as the output is empty. */
void knit_attach_handle(struct knit_connection *connection, const struct knit_message *message);

/* `$/attached`: it is served from now on, or evicted. */
void knit_attach_confirm(struct knit_connection *connection, const struct knit_message *message);

/* The output has become empty: send what waits. */
void knit_attach_send(struct knit_connection *connection);

/* The connection is going: give the session back. */
void knit_attach_end(struct knit_connection *connection);
