/* SPDX-License-Identifier: Apache-2.0 */
/* `$/takeover`: another daemon is to serve in this one's place, and gets its listening sockets.
 *
 * Nothing has changed for this daemon until that one says `$/drain` on the same connection, which
 * it does when it serves. A connection that ends before has had copies, and no more.
 *
 * Security: for root and the daemon's own user, who may do what they like with the daemon anyway.
 *
 * Threads: its loop's.
 */
#pragma once

#include "proto/message.h"
#include "server/rpc/caller.h"

void knit_takeover_handle(struct knit_caller *caller, const struct knit_message *message);

/* The caller goes; another one may take over. Accepts one that never asked. */
void knit_takeover_end(struct knit_caller *caller);
