/* SPDX-License-Identifier: Apache-2.0 */
/* knit calls and knit sessions: two answers of the daemon, as tables for people or as they are.
 * Names in them are others', so what a terminal would obey is escaped. */
#include "clients/tool/calls.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "clients/tool/json.h"

struct knit_tool_call_row knit_tool_call_row(struct knit_value row)
{
    struct knit_value worker = knit_value_get(row, "worker");
    struct knit_tool_call_row call = {.task = knit_value_get(row, "task"),
        .state = knit_value_get(row, "state"),
        .principal = knit_value_get(row, "principal"),
        .is_running = !knit_value_is_nil(worker),
        .session = knit_value_uint(knit_value_get(row, "session")),
        .slot = knit_value_uint(knit_value_get(row, "slot")),
        .generation = knit_value_uint(knit_value_get(row, "generation"))};

    if (call.is_running) {
        call.age_ms = knit_value_uint(knit_value_get(row, "age_ms"));
        call.worker = knit_value_uint(worker);
        call.pid = knit_value_uint(knit_value_get(row, "pid"));
    }
    return call;
}

void knit_tool_call_address(
    const struct knit_tool_call_row *row, char ret_text[KNIT_TOOL_ADDRESS_MAX])
{
    (void)snprintf(ret_text, KNIT_TOOL_ADDRESS_MAX, "%" PRIu64 ".%" PRIu64 ".%" PRIu64,
        row->session, row->slot, row->generation);
}

void knit_tool_age(uint64_t age_ms, char ret_text[16])
{
    const uint64_t seconds = age_ms / 1000;

    if (age_ms < 10000)
        (void)snprintf(ret_text, 16, "%" PRIu64 "ms", age_ms);
    else if (seconds < 600)
        (void)snprintf(ret_text, 16, "%" PRIu64 "s", seconds);
    else if (seconds < 36000)
        (void)snprintf(ret_text, 16, "%" PRIu64 "min", seconds / 60);
    else if (seconds < 864000)
        (void)snprintf(ret_text, 16, "%" PRIu64 "h", seconds / 3600);
    else
        (void)snprintf(ret_text, 16, "%" PRIu64 "d", seconds / 86400 % 100000);
}

/* A column of a table: a text that somebody else wrote, and blanks up to the width. */
static void put_column(struct knit_value text, int width)
{
    size_t len = 0;
    const char *bytes = knit_value_text(text, &len);
    char copy[256];

    (void)snprintf(copy, sizeof(copy), "%.*s", (int)len, bytes != NULL ? bytes : "");
    knit_tool_put_text(copy);
    printf("%*s ", len < (size_t)width ? width - (int)len : 0, "");
}

static void put_call(struct knit_value value)
{
    struct knit_tool_call_row row = knit_tool_call_row(value);
    char address[KNIT_TOOL_ADDRESS_MAX], age[16] = "-";

    knit_tool_call_address(&row, address);
    if (row.is_running)
        knit_tool_age(row.age_ms, age);
    printf("%-20s ", address);
    put_column(row.state, 7);
    printf("%6s ", age);
    if (row.is_running)
        printf("%6" PRIu64 " ", row.worker);
    else
        printf("%6s ", "-");
    put_column(row.principal, 20);
    put_column(row.task, 0);
    putchar('\n');
}

static void put_calls(struct knit_value answer)
{
    struct knit_items calls = knit_value_items(knit_value_get(answer, "calls"));
    struct knit_items waiting = knit_value_items(knit_value_get(answer, "waiting"));
    uint64_t left_out = knit_value_uint(knit_value_get(answer, "left_out"));
    struct knit_value value;
    char age[16];

    printf("%-20s %-7s %6s %6s %-20s %s\n", "CALL", "STATE", "AGE", "WORKER", "PRINCIPAL", "TASK");
    while (knit_items_next(&calls, NULL, &value))
        put_call(value);
    while (knit_items_next(&waiting, NULL, &value)) {
        knit_tool_age(knit_value_uint(knit_value_get(value, "age_ms")), age);
        printf("%-20s %-7s %6s %6s ", "-", "waiting", age, "-");
        put_column(knit_value_get(value, "principal"), 20);
        printf("%" PRIu64 " of its calls\n", knit_value_uint(knit_value_get(value, "count")));
    }
    if (left_out > 0)
        printf("and %" PRIu64 " more\n", left_out);
}

static void put_sessions(struct knit_value answer)
{
    struct knit_items sessions = knit_value_items(knit_value_get(answer, "sessions"));
    struct knit_value value;

    printf("%-8s %-5s %-9s %6s %7s %7s %9s %8s %s\n", "SESSION", "KIND", "STATE", "SLOTS",
        "RUNNING", "QUEUED", "MEMORY", "PID", "PRINCIPAL");
    while (knit_items_next(&sessions, NULL, &value)) {
        struct knit_value pid = knit_value_get(value, "pid");

        printf("%-8" PRIu64 " ", knit_value_uint(knit_value_get(value, "session")));
        put_column(knit_value_get(value, "kind"), 5);
        put_column(knit_value_get(value, "state"), 9);
        printf("%6" PRIu64 " %7" PRIu64 " %7" PRIu64 " %6" PRIu64 "KiB ",
            knit_value_uint(knit_value_get(value, "slots")),
            knit_value_uint(knit_value_get(value, "running")),
            knit_value_uint(knit_value_get(value, "queued")),
            knit_value_uint(knit_value_get(value, "memory_bytes")) / 1024);
        if (knit_value_is_nil(pid)) {
            printf("%8s -\n", "-");
            continue;
        }
        printf("%8" PRIu64 " ", knit_value_uint(pid));
        put_column(knit_value_get(value, "principal"), 0);
        putchar('\n');
    }
}

static int print(const struct knit_tool *tool, const void *map, size_t len,
    void (*put)(struct knit_value answer))
{
    struct knit_reader reader = KNIT_READER_INIT;
    char *text = NULL;

    if (!tool->is_json) {
        put(knit_read(&reader, map, len));
        if (knit_reader_code(&reader) != KNIT_OK)
            return knit_tool_fail(tool, KNIT_TOOL_BROKE, "the daemon answered something else");
    } else if (knit_json_write(knit_span(map, len), false, &text) != 0) {
        return knit_tool_no_memory(tool);
    } else {
        knit_tool_put_json(text);
        free(text);
    }
    return knit_tool_finish(tool);
}

static int ask(const struct knit_tool *tool, const char *method, int argc,
    void (*put)(struct knit_value answer))
{
    const struct knit_call_options options = knit_tool_method_options(tool);
    struct knit_error error;
    struct knit *k;
    const void *map;
    size_t len;
    int status =
        argc == 0 ? KNIT_TOOL_OK : knit_tool_usage(tool, "%s takes no arguments", method + 2);

    if (status == KNIT_TOOL_OK)
        status = knit_tool_open(tool, NULL, &k);
    if (status != KNIT_TOOL_OK)
        return status;
    if (knit_call_with(k, &options, &error, method, "() -> map", &map, &len) != KNIT_OK)
        status = knit_tool_report(tool, &error);
    else
        status = print(tool, map, len, put);
    knit_close(k);
    return status;
}

int knit_tool_calls(const struct knit_tool *tool, int argc, char **argv)
{
    (void)argv;
    return ask(tool, "$/calls", argc, put_calls);
}

int knit_tool_sessions(const struct knit_tool *tool, int argc, char **argv)
{
    (void)argv;
    return ask(tool, "$/sessions", argc, put_sessions);
}
