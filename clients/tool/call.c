/* SPDX-License-Identifier: Apache-2.0 */
/* knit call.
 *
 * Ctrl-C is read from a descriptor beside the session's own. The first one asks the pool to cancel
 * and waits for the outcome, which may still be a result; the second one ends at once.
 */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "clients/tool/arguments.h"
#include "clients/tool/call_options.h"
#include "clients/tool/interrupt.h"
#include "clients/tool/json.h"
#include "clients/tool/tool.h"
#include "proto/walk.h"

/* Waits for the outcome. Returns its code, or KNIT_PENDING after a second Ctrl-C. */
static int await(
    struct knit *k, int interrupt_fd, struct knit_handle *handle, struct knit_error *error)
{
    int interrupts = 0, code;

    while ((code = knit_await(handle, 0, error)) == KNIT_PENDING && interrupts < 2) {
        struct pollfd items[] = {
            {.fd = knit_fd(k), .events = POLLIN},
            {.fd = interrupt_fd, .events = POLLIN},
        };

        (void)poll(items, 2, -1);
        if (knit_tool_is_interrupted(interrupt_fd)) {
            interrupts++;
            knit_cancel(handle);
        }
        (void)knit_dispatch(k, NULL);
    }
    return code;
}

static int print_raw(const struct knit_tool *tool, struct knit_span result)
{
    struct knit_head head;

    if (knit_head_read(result.bytes, result.len, &head) == 0 &&
        (head.type == KNIT_HEAD_STR || head.type == KNIT_HEAD_BIN))
        result = knit_span(result.bytes + head.size, result.len - head.size);
    (void)fwrite(result.bytes, 1, result.len, stdout);
    return knit_tool_finish(tool);
}

static int print_result(const struct knit_tool *tool, struct knit_span result)
{
    struct knit_error error;
    char *text;

    if (tool->is_raw)
        return print_raw(tool, result);
    if (knit_json_write(result, false, &text) != 0) {
        knit_tool_own_error(&error, KNIT_BAD_RESULT, "the result cannot be written as JSON");
        error.started = KNIT_STARTED_YES;
        return knit_tool_report(tool, &error);
    }
    knit_tool_put_json(text);
    free(text);
    return knit_tool_finish(tool);
}

static int run(const struct knit_tool *tool, struct knit *k, int interrupt_fd, const char *task,
    const struct knit_buffer *params)
{
    struct knit_tool_call_options options;
    struct knit_handle *handle = NULL;
    struct knit_error error;
    const void *result;
    size_t len;
    bool is_cut;
    int code;

    code = knit_tool_call_options_init(&options, tool);
    if (code != KNIT_TOOL_OK) {
        knit_tool_call_options_fini(&options);
        return code;
    }
    code = knit_start_raw(k, &options.call, &handle, &error, task, params->bytes, params->len);
    knit_tool_call_options_fini(&options);
    if (code == KNIT_OK)
        code = await(k, interrupt_fd, handle, &error);
    if (code == KNIT_PENDING)
        return KNIT_TOOL_CANCELLED;
    if (handle != NULL && knit_output(handle, &result, &len, &is_cut))
        knit_tool_put_output(tool, result, len, is_cut);
    if (code != KNIT_OK)
        return knit_tool_report(tool, &error);
    code = knit_result_raw(handle, &error, &result, &len);
    return code == KNIT_OK ? print_result(tool, knit_span(result, len))
                           : knit_tool_report(tool, &error);
}

int knit_tool_call(const struct knit_tool *tool, int argc, char **argv)
{
    struct knit_buffer params;
    int interrupt_fd = -1, status;
    struct knit *k;

    if (argc == 0)
        return knit_tool_usage(tool, "call needs the name of a task; knit tasks lists them");
    status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    knit_buffer_init(&params, knit_arguments_max(k));
    status = knit_tool_put_arguments(tool, argc - 1, argv + 1, &params);
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open_interrupt(tool, k, &interrupt_fd);
    if (status == KNIT_TOOL_OK)
        status = run(tool, k, interrupt_fd, argv[0], &params);
    if (interrupt_fd >= 0)
        close(interrupt_fd);
    knit_buffer_fini(&params);
    knit_close(k);
    return status;
}
