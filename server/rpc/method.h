/* SPDX-License-Identifier: Apache-2.0 */
/* The protocol's own methods, `$/hello` and its kin: answered by the loop itself. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/message.h"

struct knit_connection;

/* Whether the name is one of the protocol's, known or not. */
bool knit_method_is_ours(const struct knit_message *message);

/* Whether it is a `$/cancel`, and of which call. */
bool knit_method_cancels(const struct knit_message *message, uint32_t *ret_msgid);

/* Answers it, or counts it if it is a notification nobody knows. */
void knit_method_handle(struct knit_connection *connection, const struct knit_message *message);

/* `$/goaway`, to connections that said `$/hello`. */
void knit_method_say_goaway(struct knit_connection *connection, uint64_t drain_ms);
