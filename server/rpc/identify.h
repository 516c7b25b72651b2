/* SPDX-License-Identifier: Apache-2.0 */
/* A caller says who it is: the token of its `$/hello`.
 *
 * It becomes another principal once, from being anonymous or a user of this machine, and while it
 * has nothing: no call in flight, no session, no results that are kept for it. What it has done
 * before it did as somebody else.
 *
 * A wrong token ends the connection. So does a right one that others could have read on its way:
 * it is theirs as well now, and its owner should know at once.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>

#include "proto/message.h"
#include "proto/span.h"
#include "server/rpc/caller.h"

/* Whether the `$/hello` goes on; else it has its answer, and the connection perhaps its end, and
 * the bytes of the message are gone. */
KNIT_MUST_CHECK bool knit_identify_by_token(
    struct knit_caller *caller, const struct knit_message *message, struct knit_span token);

/* The caller failed to say who it is, and its connection is about to end: counts that of its
 * address, and logs it if that had no line lately. Returns whether the address may be answered. */
bool knit_identify_note_failure(struct knit_caller *caller, const char *reason);

/* Whether what the caller said it is still holds. */
bool knit_identify_holds(const struct knit_caller *caller);
