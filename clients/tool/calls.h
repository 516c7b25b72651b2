/* SPDX-License-Identifier: Apache-2.0 */
/* What the daemon says of calls and sessions, as this tool's commands show it.
 *
 * A call is addressed as SESSION.SLOT.GENERATION: it is the same address for as long as the call
 * lives, and no other call ever has it.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/values.h>

#include "clients/tool/tool.h"

enum { KNIT_TOOL_ADDRESS_MAX = 64 };

/* A row of `$/calls`. The texts lie in what was read. */
struct knit_tool_call_row {
    struct knit_value task, state, principal;
    bool is_running; /* then: */
    uint64_t age_ms, worker, pid;
    uint64_t session, slot, generation;
};

struct knit_tool_call_row knit_tool_call_row(struct knit_value row);

void knit_tool_call_address(
    const struct knit_tool_call_row *row, char ret_text[KNIT_TOOL_ADDRESS_MAX]);

/* Asks the call to stop, and kills with the grace of the command line, if it has one. Returns
 * KNIT_OK or the code of the error; ret_was_there: it had not ended. */
KNIT_MUST_CHECK int knit_tool_end_call(struct knit *k, struct knit_error *ret_error,
    const struct knit_tool *tool, const struct knit_tool_call_row *row, bool kills,
    bool *ret_was_there);

/* A time in the shortest form that people read, of at most six characters. */
void knit_tool_age(uint64_t age_ms, char ret_text[16]);
