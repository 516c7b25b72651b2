/* SPDX-License-Identifier: Apache-2.0 */
/* Ctrl-C as a descriptor beside the session's own: the first one asks the pool to cancel, and the
 * outcomes are waited for, which may still be results; the second one ends the run at once.
 */
#pragma once

#include <stdbool.h>

#include <knitting/knitting.h>

#include "clients/tool/tool.h"

/* Opens what waiting needs, the session's descriptor too, before anything is called: no call is
 * started whose outcome cannot be awaited. From then on SIGINT is blocked. On failure reports it.
 * Returns an exit status. */
KNIT_MUST_CHECK int knit_tool_open_interrupt(
    const struct knit_tool *tool, struct knit *k, int *ret_fd);

bool knit_tool_is_interrupted(int interrupt_fd);
