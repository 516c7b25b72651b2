/* SPDX-License-Identifier: Apache-2.0 */
/* Of which trace a call is a part, and which span of it: what is said of it to others.
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/span.h"
#include "proto/trace.h"
#include "server/rpc/router.h"

/* Where the ids of a router begin: no two daemons have the same for long. */
uint64_t knit_reports_seed(void);

/* text: of the option `trace`. The call is a child of that span, by a span of its own. False: the
 * call is part of no trace. */
KNIT_MUST_CHECK bool knit_reports_identify(
    struct knit_router *router, struct knit_span text, struct knit_trace *ret_trace);
