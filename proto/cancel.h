/* SPDX-License-Identifier: Apache-2.0 */
/* `$/cancel`: the params array, which holds the msgid of the call that is to end. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum { KNIT_CANCEL_BYTES_MAX = 6 }; /* of the params */

/* Returns the buffer's error. */
int knit_cancel_put(struct knit_buffer *buffer, uint32_t msgid);

/* false: the params begin with something else than a msgid. */
KNIT_MUST_CHECK bool knit_cancel_decode(struct knit_span params, uint32_t *ret_msgid);
