/* SPDX-License-Identifier: Apache-2.0 */
/* What follows when output has been written, and how a connection ends in good order: everything
 * that waits is written, the sending side is shut, and the peer's end is waited for, while what it
 * still sends is thrown away. Closing at once could reset the connection before the peer has read.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdint.h>

#include "proto/progress.h"
#include "server/net/net.h"

/* Writes what the peer takes in one go, then does what waited for the output to be empty. */
void knit_sending_flush(struct knit_connection *connection);

/* Ends it after its output has gone; nothing more is dispatched. */
void knit_sending_close(struct knit_connection *connection);

/* `$/progress`, if the caller said `$/hello`. */
void knit_sending_progress(
    struct knit_connection *connection, const struct knit_progress *progress);

/* `$/goaway`, once, if the caller said `$/hello`. */
void knit_sending_goaway(struct knit_connection *connection, uint64_t drain_ms);
