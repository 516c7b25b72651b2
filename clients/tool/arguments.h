/* SPDX-License-Identifier: Apache-2.0 */
/* The words behind a task's name as the arguments of a call: one msgpack array. */
#pragma once

#include <knitting/knitting.h>

#include "clients/tool/tool.h"
#include "proto/buffer.h"

/* The longest JSON as a multiple of what it may become: the six bytes of "\\u0000" become one. */
enum { KNIT_TOOL_JSON_FACTOR = 8 };

/* Appends the array to params, whose cap is what a call may carry here. What is wrong is reported.
 * Returns an exit status. */
KNIT_MUST_CHECK int knit_tool_put_arguments(
    const struct knit_tool *tool, int argc, char **argv, struct knit_buffer *params);
