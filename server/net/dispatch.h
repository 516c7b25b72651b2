/* SPDX-License-Identifier: Apache-2.0 */
/* From input to messages to what handles them: methods of the protocol, or the router.
 *
 * Threads: its loop's.
 * Security: everything dispatched is hostile. After a message without boundaries nothing more is
 * dispatched.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/code.h>

#include "server/net/net.h"

static inline bool knit_dispatch_may(const struct knit_connection *connection)
{
    return connection->caller.pauses == 0 && !connection->is_dead;
}

/* Scans and dispatches `bytes`, which begin with the message at the front, until a pause. Returns
 * how many of them are done with. */
KNIT_MUST_CHECK size_t knit_dispatch_input(
    struct knit_connection *connection, const uint8_t *bytes, size_t len);
