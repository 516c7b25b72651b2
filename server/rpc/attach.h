/* SPDX-License-Identifier: Apache-2.0 */
/* `$/attach` and `$/attached`: hands a caller on this machine its own session in the pool, and has
 * it served when the caller says that it has sealed what it will write (fastpath/lane/segment.h).
 *
 * The connection is the session's lease: when it ends the session ends, and when the session is
 * evicted the connection is closed.
 */
#pragma once

#include "proto/message.h"
#include "server/rpc/caller.h"

/* Answers the request; the caller sends the reply with the descriptors when it can. */
void knit_attach_handle(struct knit_caller *caller, const struct knit_message *message);

/* `$/attached`: it is served from now on, or evicted. */
void knit_attach_confirm(struct knit_caller *caller, const struct knit_message *message);

/* The caller is going, or cannot send the reply: give the session back. */
void knit_attach_end(struct knit_caller *caller);
