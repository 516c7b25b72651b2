/* SPDX-License-Identifier: Apache-2.0 */
/* A reply with which descriptors go.
 *
 * Descriptors ride on the first byte of the reply. The reply leaves in a write of its own, when no
 * other output waits, and until then the connection is not read: so they cannot end up with a reply
 * that happens to leave in the same write.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"

struct knit_connection;

/* Takes it over, to be sent when the output is empty; the bytes are copied. Returns 0, and the
 * descriptors are taken over, or -ENOMEM. At most one waits at a time. */
KNIT_MUST_CHECK int knit_handover_begin(struct knit_connection *connection, uint32_t msgid,
    struct knit_span response, const int *fds, uint32_t count);

/* The output has become empty, or the socket takes more: send what waits. */
void knit_handover_send(struct knit_connection *connection);

/* Drops what waits, if anything does. */
void knit_handover_drop(struct knit_connection *connection);
