/* SPDX-License-Identifier: Apache-2.0 */
/* `$/goaway`: the params array of the notification by which a server asks for no further requests
 * on a connection. A decoded one is a view of the bytes it came from.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum {
    KNIT_GOAWAY_E_BAD = 1, /* wrong types: ret_reason names the member */
};

struct knit_goaway {
    struct knit_span reason; /* UTF-8, for people; may be absent */
    uint64_t drain_ms;       /* how long calls in flight may still take */
};

/* Returns the buffer's error. */
int knit_goaway_put(struct knit_buffer *buffer, const struct knit_goaway *goaway);

/* Unknown keys are ignored. Returns 0, or KNIT_GOAWAY_E_BAD with a static text. */
KNIT_MUST_CHECK int knit_goaway_decode(
    struct knit_span params, struct knit_goaway *ret_goaway, const char **ret_reason);
