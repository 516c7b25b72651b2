/* SPDX-License-Identifier: Apache-2.0 */
/* knit stop and knit kill: calls are ended one after the other, by their addresses, and one that
 * has ended by itself, or never was, does not keep the others from it.
 */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/tool/calls.h"

static bool read_number(const char **at, char behind, uint64_t *ret)
{
    char *end;

    if (!isdigit((unsigned char)**at))
        return false;
    errno = 0;
    *ret = strtoull(*at, &end, 10);
    if (errno != 0 || *end != behind)
        return false;
    *at = end + (behind != '\0');
    return true;
}

static bool read_address(const char *text, struct knit_tool_call_row *ret_row)
{
    *ret_row = (struct knit_tool_call_row){0};
    return read_number(&text, '.', &ret_row->session) && read_number(&text, '.', &ret_row->slot) &&
           read_number(&text, '\0', &ret_row->generation);
}

int knit_tool_end_call(struct knit *k, struct knit_error *ret_error, const struct knit_tool *tool,
    const struct knit_tool_call_row *row, bool kills, bool *ret_was_there)
{
    const struct knit_call_options options = knit_tool_method_options(tool);

    if (!kills)
        return knit_call_with(k, &options, ret_error, "$/stop", "(uint, uint, uint) -> bool",
            row->session, row->slot, row->generation, ret_was_there);
    if (!tool->has_grace)
        return knit_call_with(k, &options, ret_error, "$/kill", "(uint, uint, uint) -> bool",
            row->session, row->slot, row->generation, ret_was_there);
    return knit_call_with(k, &options, ret_error, "$/kill", "(uint, uint, uint, uint) -> bool",
        row->session, row->slot, row->generation, (uint64_t)tool->grace_ms, ret_was_there);
}

/* Returns whether all of them were there, or the status of what went wrong. */
static int end_calls(
    const struct knit_tool *tool, struct knit *k, int argc, char **argv, bool kills)
{
    int status = KNIT_TOOL_OK;

    for (int i = 0; i < argc; i++) {
        struct knit_tool_call_row row;
        struct knit_error error;
        bool was_there = false, has_ended;
        int code;

        (void)read_address(argv[i], &row);
        code = knit_tool_end_call(k, &error, tool, &row, kills, &was_there);
        if (code != KNIT_OK && code != KNIT_BAD_ARGUMENT)
            return knit_tool_report(tool, &error);
        has_ended = code == KNIT_OK && !was_there;
        if (tool->is_json)
            printf("{\"call\":\"%s\",\"asked\":%s,\"ended\":%s}\n", argv[i],
                was_there ? "true" : "false", has_ended ? "true" : "false");
        else
            printf("%s %s\n", argv[i],
                was_there   ? "is asked to stop"
                : has_ended ? "has ended"
                            : "is the address of no call");
        if (!was_there)
            status = KNIT_TOOL_FAILED;
    }
    return status;
}

static int run(const struct knit_tool *tool, int argc, char **argv, bool kills)
{
    const char *name = kills ? "kill" : "stop";
    struct knit_tool_call_row row;
    struct knit *k;
    int status =
        argc > 0 ? KNIT_TOOL_OK : knit_tool_usage(tool, "%s takes addresses of calls", name);

    for (int i = 0; status == KNIT_TOOL_OK && i < argc; i++)
        if (!read_address(argv[i], &row))
            status = knit_tool_usage(tool,
                "'%s' is no address of a call: expected SESSION.SLOT.GENERATION, as knit calls "
                "prints it",
                argv[i]);
    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    status = end_calls(tool, k, argc, argv, kills);
    if (status == KNIT_TOOL_OK || status == KNIT_TOOL_FAILED) {
        int written = knit_tool_finish(tool);

        status = written != KNIT_TOOL_OK ? written : status;
    }
    knit_close(k);
    return status;
}

int knit_tool_stop(const struct knit_tool *tool, int argc, char **argv)
{
    return run(tool, argc, argv, false);
}

int knit_tool_kill(const struct knit_tool *tool, int argc, char **argv)
{
    return run(tool, argc, argv, true);
}
