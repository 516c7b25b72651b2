/* SPDX-License-Identifier: Apache-2.0 */
/* The words behind a task's name as the arguments of a call: one msgpack array. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include <knitting/knitting.h>

#include "clients/tool/tool.h"
#include "proto/buffer.h"

/* What one call may take; format of its size. */
#define KNIT_TOOL_CARRIES                                                                          \
    "a call to this pool carries %zu (call_max_bytes, or message_max_bytes if that is less)"

/* The longest JSON that may become so many bytes: the six of "\\u0000" become one. */
static inline size_t knit_tool_json_max(size_t max)
{
    return max < INT32_MAX / 8 ? max * 8 : INT32_MAX - 1;
}

/* Appends the array to params, whose cap is what a call may carry here. What is wrong is reported.
 * Returns an exit status. */
KNIT_MUST_CHECK int knit_tool_put_arguments(
    const struct knit_tool *tool, int argc, char **argv, struct knit_buffer *params);
