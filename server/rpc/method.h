/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's own methods, `$/hello` and its kin: answered by the loop itself. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/message.h"
#include "server/rpc/caller.h"

/* Whether the name is one of the protocol's, known or not. */
static inline bool knit_method_is_ours(const struct knit_message *message)
{
    const struct knit_span *name = &message->method.name;

    return name->bytes != NULL && name->len >= 2 && name->bytes[0] == '$' && name->bytes[1] == '/';
}

/* Whether it is a `$/cancel`, and of which call. */
bool knit_method_cancels(
    const struct knit_message *message, uint32_t *ret_msgid, struct knit_span *ret_reason);

/* Whether it is answered at once, though calls of its connection wait before it: what asks for what
 * the daemon knows, and what an operator says. */
bool knit_method_is_question(const struct knit_message *message);

/* Answers it, or counts a notification that has no meaning. */
void knit_method_handle(struct knit_caller *caller, const struct knit_message *message);
