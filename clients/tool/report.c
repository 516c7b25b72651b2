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
#include "proto/limits.h"
#include "proto/text.h"

enum {
    CONNECT_MS_MAX = 10000, /* what the library allows unless told otherwise */
    SLOTS = 16,             /* of a session that makes one call at a time */
};

/* How many bytes at the front are written as the escape; 0 = they are written as they are. */
static size_t escape_of(
    const char *text, size_t len, bool is_text, bool is_json, char ret_escape[16])
{
    unsigned char byte = (unsigned char)text[0];
    uint32_t code = byte;
    size_t hidden = is_text && byte > 127 ? knit_text_hidden(text, len, &code) : 0;

    if (hidden == 0 && is_text && byte >= 32 && byte != 127)
        return 0;
    if (hidden == 0 && byte == '\n' && is_json)
        return 0;
    if (!is_text && is_json)
        code = 0xfffd;
    if (hidden != 0 || is_json)
        snprintf(ret_escape, 16, "\\u%04x", code);
    else if (byte == '\n')
        snprintf(ret_escape, 16, "\\n");
    else
        snprintf(ret_escape, 16, "\\x%02x", byte);
    return hidden != 0 ? hidden : 1;
}

/* What a terminal would obey, and bytes that are no text, as escapes; in JSON with a newline as it
 * is, which stands between members alone. */
static void put_bytes(FILE *file, const char *text, size_t len, bool is_json)
{
    size_t plain = 0, valid = knit_text_valid(text, len), at = 0;

    while (at < len) {
        char escape[16];
        size_t hidden;

        if (at > valid)
            valid = at + knit_text_valid(text + at, len - at);
        hidden = escape_of(text + at, len - at, at < valid, is_json, escape);
        if (hidden != 0) {
            (void)fwrite(text + plain, 1, at - plain, file);
            fputs(escape, file);
            plain = at + hidden;
        }
        at += hidden != 0 ? hidden : 1;
    }
    (void)fwrite(text + plain, 1, len - plain, file);
}

static void put_escaped(FILE *file, const char *text, bool is_json)
{
    put_bytes(file, text, strlen(text), is_json);
}

static void put_line(const char *text)
{
    put_escaped(stderr, text, false);
}

void knit_tool_put_text(const char *text)
{
    put_escaped(stdout, text, false);
}

void knit_tool_escape(const char *text, size_t len, char *ret_text, size_t size)
{
    size_t valid = knit_text_valid(text, len), at = 0, used = 0;

    while (at < len) {
        char escape[16];
        size_t hidden, more;

        if (at > valid)
            valid = at + knit_text_valid(text + at, len - at);
        hidden = escape_of(text + at, len - at, at < valid, false, escape);
        more = hidden != 0 ? strlen(escape) : 1;
        if (more >= size - used)
            break;
        memcpy(ret_text + used, hidden != 0 ? escape : text + at, more);
        used += more;
        at += hidden != 0 ? hidden : 1;
    }
    used = knit_text_valid(ret_text, used);
    ret_text[used] = '\0';
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

void knit_tool_put_output(const struct knit_tool *tool, const char *text, size_t len, bool is_cut)
{
    if (tool->is_json) {
        struct json_object *object = json_object_new_object();

        json_object_object_add(object, "output", json_object_new_string_len(text, (int)len));
        json_object_object_add(object, "output_cut", json_object_new_boolean(is_cut));
        put_error(object);
        return;
    }
    while (len > 0) {
        const char *newline = memchr(text, '\n', len);
        size_t line = newline != NULL ? (size_t)(newline - text) : len;

        put_bytes(stderr, text, line, false);
        fputc('\n', stderr);
        line += newline != NULL;
        text += line;
        len -= line;
    }
    if (is_cut)
        fputs("knit: the task printed more, see the daemon's log\n", stderr);
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

/* What follows "knit: ", with a newline. */
static void report_plain(const struct knit_error *error)
{
    char *data = data_text(error);

    fputs(error->name, stderr);
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
static struct json_object *error_object(const struct knit_error *error)
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
    add_number(object, "signal", error->signal, 0);
    add_number(object, "retry_after_ms", error->retry_after_ms, -1);
    add_number(object, "limit", error->limit, -1);
    add_number(object, "actual", error->actual, -1);
    if (error->code == KNIT_TASK_FAILED)
        add_number(object, "task_code", error->task_code, INT64_MIN);
    if (data != NULL)
        json_object_object_add(object, "data", json_tokener_parse(data));
    free(data);
    return object;
}

int knit_tool_report(const struct knit_tool *tool, const struct knit_error *error)
{
    if (tool->is_json) {
        put_error(error_object(error));
    } else {
        fputs("knit: ", stderr);
        report_plain(error);
    }
    return status_of(error->code);
}

void knit_tool_report_line(
    const struct knit_tool *tool, uint64_t line, const struct knit_error *error)
{
    struct json_object *object;

    if (!tool->is_json) {
        fputc('\n', stdout);
        fprintf(stderr, "knit: line %llu: ", (unsigned long long)line);
        report_plain(error);
        return;
    }
    object = json_object_new_object();
    json_object_object_add(object, "error", error_object(error));
    knit_tool_put_object(object);
    json_object_put(object);
}

void knit_tool_put_outcome(const struct knit_tool *tool, const char *json)
{
    if (tool->is_json)
        fputs("{\"result\":", stdout);
    put_escaped(stdout, json, true);
    fputs(tool->is_json ? "}\n" : "\n", stdout);
}

void knit_tool_own_error(struct knit_error *ret_error, int code, const char *format, ...)
{
    va_list args;

    *ret_error = (struct knit_error){.code = code,
        .name = knit_error_code_name(code),
        .started = KNIT_STARTED_NO,
        .origin = KNIT_ORIGIN_CLIENT,
        .retry_after_ms = -1,
        .limit = -1,
        .actual = -1};
    va_start(args, format);
    vsnprintf(ret_error->message, sizeof(ret_error->message), format, args);
    va_end(args);
}

void knit_tool_put_note(const struct knit_tool *tool, const char *text)
{
    struct json_object *object;

    if (!tool->is_json) {
        fputs("knit: ", stderr);
        put_line(text);
        fputc('\n', stderr);
        return;
    }
    object = json_object_new_object();
    json_object_object_add(object, "note", json_object_new_string(text));
    put_error(object);
}

/* The name in JSON of what the tool itself found wrong. */
static const char *own_name(int status)
{
    switch (status) {
    case KNIT_TOOL_USAGE:
        return "USAGE";
    case KNIT_TOOL_DISCONNECTED:
        return "DISCONNECTED";
    case KNIT_TOOL_REFUSED:
        return "UNAVAILABLE";
    case KNIT_TOOL_OUTPUT:
        return "OUTPUT";
    default:
        return "INTERNAL";
    }
}

static int __attribute__((format(printf, 3, 0)))
fail(const struct knit_tool *tool, int status, const char *format, va_list args)
{
    struct json_object *object;
    char message[1024];

    vsnprintf(message, sizeof(message), format, args);
    if (!tool->is_json) {
        fputs("knit: ", stderr);
        put_line(message);
        fputc('\n', stderr);
        return status;
    }
    object = json_object_new_object();
    json_object_object_add(object, "name", json_object_new_string(own_name(status)));
    json_object_object_add(object, "message", json_object_new_string(message));
    /* Output is what a call came to, if there was one. */
    json_object_object_add(
        object, "started", json_object_new_string(status == KNIT_TOOL_OUTPUT ? "unknown" : "no"));
    json_object_object_add(object, "origin", json_object_new_string("client"));
    put_error(object);
    return status;
}

int knit_tool_fail(const struct knit_tool *tool, int status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)fail(tool, status, format, args);
    va_end(args);
    return status;
}

int knit_tool_usage(const struct knit_tool *tool, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)fail(tool, KNIT_TOOL_USAGE, format, args);
    va_end(args);
    return KNIT_TOOL_USAGE;
}

int knit_tool_no_memory(const struct knit_tool *tool)
{
    return knit_tool_fail(tool, KNIT_TOOL_BROKE, "not enough memory");
}

int knit_tool_finish(const struct knit_tool *tool)
{
    if (fflush(stdout) == 0 && !ferror(stdout))
        return KNIT_TOOL_OK;
    return knit_tool_fail(tool, KNIT_TOOL_OUTPUT, "cannot write the output: %s", strerror(errno));
}

int knit_tool_try_open(const struct knit_tool *tool, const struct knit_open_options *options,
    struct knit **ret, struct knit_error *ret_error)
{
    const struct knit_token_options token = {.file = tool->token_file, .text = tool->token};
    const struct knit_retry_options retry = {.attempts = tool->retries + 1};
    struct knit_open_options own = {.slots = SLOTS};

    if (options != NULL)
        own = *options;
    own.name = "knit";
    own.stays_lost = tool->retries == 0; /* else a command ends with its connection */
    own.reply_max_bytes = KNIT_MESSAGE_BYTES_MAX;
    if (token.file != NULL || token.text != NULL)
        own.token = &token;
    if (tool->retries > 0)
        own.retry = &retry;
    if (tool->has_tls)
        own.tls = &tool->tls;
    if (tool->has_timeout && tool->timeout_ms > 0 && tool->timeout_ms < CONNECT_MS_MAX)
        own.connect_ms = (uint32_t)tool->timeout_ms + 1;
    return knit_open(tool->url, &own, ret, ret_error);
}

struct knit_call_options knit_tool_method_options(const struct knit_tool *tool)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    if (tool->has_timeout)
        options.timeout_ms = tool->timeout_ms;
    return options;
}

int knit_tool_open(
    const struct knit_tool *tool, const struct knit_open_options *options, struct knit **ret)
{
    struct knit_error error;
    int code = knit_tool_try_open(tool, options, ret, &error);

    if (code == KNIT_OK)
        return KNIT_TOOL_OK;
    if (code == KNIT_BAD_ARGUMENT)
        return knit_tool_usage(tool, "%s", error.message);
    (void)knit_tool_report(tool, &error);
    if (code == KNIT_INTERNAL || code == KNIT_UNAUTHENTICATED ||
        (code == KNIT_TIMEOUT && !tool->has_timeout))
        return KNIT_TOOL_DISCONNECTED;
    return status_of(code);
}
