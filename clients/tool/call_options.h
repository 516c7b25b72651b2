/* SPDX-License-Identifier: Apache-2.0 */
/* The options of a call, as the command line has them. */
#pragma once

#include <knitting/knitting.h>

#include "clients/tool/tool.h"
#include "proto/buffer.h"

struct knit_tool_call_options {
    struct knit_call_options call;
    struct knit_on_timeout late;
    struct knit_buffer value; /* of --default */
};

/* What is wrong is reported. Returns an exit status; knit_tool_call_options_fini() in any case. */
KNIT_MUST_CHECK int knit_tool_call_options_init(
    struct knit_tool_call_options *options, const struct knit_tool *tool);
void knit_tool_call_options_fini(struct knit_tool_call_options *options);
