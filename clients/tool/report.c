/* SPDX-License-Identifier: Apache-2.0 */
/* How a run of the tool ends: one line on stderr, and a status.
 *
 * A message may come from a task, so control characters, which a terminal would obey, are written
 * as escapes.
 */
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <json-c/json.h>

#include "clients/tool/json.h"
#include "clients/tool/tool.h"
#include "proto/text.h"

/* What a terminal would obey, as escapes; in JSON with a newline as it is, which stands between
 * members alone. */
static void put_escaped(FILE *file, const char *text, bool is_json)
{
    size_t len = strlen(text), plain = 0;

    for (size_t i = 0; i < len; i++) {
        unsigned char byte = (unsigned char)text[i];
        uint32_t code;
        size_t hidden = byte > 127 ? knit_text_hidden(text + i, len - i, &code) : 0;
        bool is_plain = hidden == 0 && byte != 127 && (byte >= 32 || (is_json && byte == '\n'));

        if (is_plain)
            continue;
        (void)fwrite(text + plain, 1, i - plain, file);
        if (hidden != 0) {
            fprintf(file, "\\u%04x", code);
            i += hidden - 1;
        } else if (byte == '\n') {
            fputs("\\n", file);
        } else {
            fprintf(file, is_json ? "\\u%04x" : "\\x%02x", byte);
        }
        plain = i + 1;
    }
    (void)fwrite(text + plain, 1, len - plain, file);
}

static void put_line(const char *text)
{
    put_escaped(stderr, text, false);
}

void knit_tool_put_text(const char *text)
{
    put_escaped(stdout, text, false);
}

void knit_tool_put_json(const char *text)
{
    put_escaped(stdout, text, true);
    fputc('\n', stdout);
}

/* Takes the object. */
static void put_error(struct json_object *object)
{
    put_escaped(stderr,
        json_object_to_json_string_ext(
            object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE),
        true);
    fputc('\n', stderr);
    json_object_put(object);
}

void knit_tool_put_object(struct json_object *object)
{
    knit_tool_put_json(json_object_to_json_string_ext(
        object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE));
}

static int status_of(int code)
{
    switch (code) {
    case KNIT_TASK_FAILED:
        return KNIT_TOOL_FAILED;
    case KNIT_DISCONNECTED:
    case KNIT_SHUTDOWN:
        return KNIT_TOOL_DISCONNECTED;
    case KNIT_TIMEOUT:
    case KNIT_HARD_TIMEOUT:
        return KNIT_TOOL_TIMEOUT;
    case KNIT_CANCELLED:
        return KNIT_TOOL_CANCELLED;
    default:
        return code < KNIT_WORKER_DIED ? KNIT_TOOL_REFUSED : KNIT_TOOL_BROKE;
    }
}

static char *data_text(const struct knit_error *error)
{
    char *text = NULL;

    if (error->data == NULL ||
        knit_json_write(knit_span(error->data, error->data_len), false, &text) != 0)
        return NULL;
    return text;
}

static void report_plain(const struct knit_error *error)
{
    char *data = data_text(error);

    fprintf(stderr, "knit: %s", error->name);
    if (error->task[0] != '\0') {
        fputs(" in ", stderr);
        put_line(error->task);
    }
    fputs(": ", stderr);
    put_line(error->message);
    if (error->code == KNIT_TASK_FAILED)
        fprintf(stderr, " (code %lld)", (long long)error->task_code);
    if (error->signal != 0)
        fprintf(stderr, " (signal %d)", error->signal);
    if (error->retry_after_ms >= 0)
        fprintf(stderr, " (try again in %lld ms)", (long long)error->retry_after_ms);
    if (data != NULL) {
        fputs(", data ", stderr);
        put_line(data);
    }
    fputc('\n', stderr);
    free(data);
}

static void add_number(struct json_object *object, const char *key, int64_t value, int64_t none)
{
    if (value != none)
        json_object_object_add(object, key, json_object_new_int64(value));
}

/* When memory is lacking, a member is missing and the rest is printed. */
static void report_json(const struct knit_error *error)
{
    struct json_object *object = json_object_new_object();
    char *data = data_text(error);

    json_object_object_add(object, "code", json_object_new_int(error->code));
    json_object_object_add(object, "name", json_object_new_string(error->name));
    json_object_object_add(object, "message", json_object_new_string(error->message));
    json_object_object_add(
        object, "started", json_object_new_string(knit_error_started_name(error->started)));
    json_object_object_add(object, "retryable", json_object_new_boolean(error->retryable));
    json_object_object_add(
        object, "origin", json_object_new_string(knit_error_origin_name(error->origin)));
    if (error->task[0] != '\0')
        json_object_object_add(object, "task", json_object_new_string(error->task));
    add_number(object, "lane", error->lane, -1);
    add_number(object, "signal", error->signal, 0);
    add_number(object, "retry_after_ms", error->retry_after_ms, -1);
    add_number(object, "limit", error->limit, -1);
    add_number(object, "actual", error->actual, -1);
    if (error->code == KNIT_TASK_FAILED)
        add_number(object, "task_code", error->task_code, INT64_MIN);
    if (data != NULL)
        json_object_object_add(object, "data", json_tokener_parse(data));
    put_error(object);
    free(data);
}

int knit_tool_report(const struct knit_tool *tool, const struct knit_error *error)
{
    if (tool->is_json)
        report_json(error);
    else
        report_plain(error);
    return status_of(error->code);
}

static void print_own(const struct knit_tool *tool, const char *name, const char *message)
{
    struct json_object *object;

    if (!tool->is_json) {
        fputs("knit: ", stderr);
        put_line(message);
        fputc('\n', stderr);
        return;
    }
    object = json_object_new_object();
    json_object_object_add(object, "name", json_object_new_string(name));
    json_object_object_add(object, "message", json_object_new_string(message));
    json_object_object_add(object, "started", json_object_new_string("no"));
    json_object_object_add(object, "origin", json_object_new_string("client"));
    put_error(object);
}

int knit_tool_usage(const struct knit_tool *tool, const char *format, ...)
{
    char message[1024];
    va_list args;

    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    print_own(tool, "USAGE", message);
    return KNIT_TOOL_USAGE;
}

int knit_tool_refuse(const struct knit_tool *tool, const char *message)
{
    print_own(tool, "UNAVAILABLE", message);
    return KNIT_TOOL_REFUSED;
}

int knit_tool_finish(const struct knit_tool *tool)
{
    char message[256];

    if (fflush(stdout) == 0 && !ferror(stdout))
        return KNIT_TOOL_OK;
    snprintf(message, sizeof(message), "cannot write the output: %s", strerror(errno));
    print_own(tool, "OUTPUT", message);
    return KNIT_TOOL_OUTPUT;
}

int knit_tool_open(const struct knit_tool *tool, struct knit **ret)
{
    const struct knit_open_options options = {.slots = 16, .name = "knit"};
    struct knit_error error;

    if (knit_open(tool->url, &options, ret, &error) == KNIT_OK)
        return KNIT_TOOL_OK;
    if (error.code == KNIT_BAD_ARGUMENT)
        return knit_tool_usage(tool, "%s", error.message);
    return error.code == KNIT_TIMEOUT || error.code == KNIT_INTERNAL
               ? (knit_tool_report(tool, &error), KNIT_TOOL_DISCONNECTED)
               : knit_tool_report(tool, &error);
}
