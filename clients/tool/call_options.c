/* SPDX-License-Identifier: Apache-2.0 */
/* What the words of the command line say, once for all calls that are made by them. */
#include "clients/tool/call_options.h"

#include <string.h>

#include "clients/tool/json.h"

static int read_default(struct knit_tool_call_options *options, const struct knit_tool *tool)
{
    const char *text = tool->timeout_default;
    char reason[KNIT_JSON_REASON_BYTES];
    struct knit_writer writer;
    int r;

    knit_writer_init(&writer, &options->value);
    r = knit_json_read(text, strlen(text), &writer, reason);
    if (r == KNIT_JSON_E_BAD)
        return knit_tool_usage(tool, "--default is no JSON: %s", reason);
    if (r == 0)
        r = knit_writer_end(&writer);
    if (r != 0)
        return r < 0 ? knit_tool_no_memory(tool)
                     : knit_tool_usage(tool, "--default cannot be sent: %s", knit_writer_reason(r));
    options->late.value = options->value.bytes;
    options->late.value_len = options->value.len;
    return KNIT_TOOL_OK;
}

int knit_tool_call_options_init(
    struct knit_tool_call_options *options, const struct knit_tool *tool)
{
    int status = KNIT_TOOL_OK;

    *options = (struct knit_tool_call_options){.call = KNIT_CALL_OPTIONS_INIT};
    knit_buffer_init(&options->value, KNIT_ON_TIMEOUT_BYTES_MAX);
    if (tool->has_timeout)
        options->call.timeout_ms = tool->timeout_ms;
    options->call.output = tool->wants_output;
    options->call.queue_max = tool->queue_max;
    if (tool->has_priority)
        options->call.priority = tool->priority;
    options->call.affinity = tool->affinity;
    options->call.key = tool->key;
    options->call.trace = tool->trace;
    options->call.on_timeout = &options->late;
    options->late.maybe = tool->timeout_maybe;
    options->late.error = tool->timeout_error;
    if (tool->timeout_default != NULL)
        status = read_default(options, tool);
    return status;
}

void knit_tool_call_options_fini(struct knit_tool_call_options *options)
{
    knit_buffer_fini(&options->value);
}
