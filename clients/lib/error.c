/* SPDX-License-Identifier: Apache-2.0 */
/* What came is copied into one buffer of the session before it is decoded, for two reasons: the
 * caller may read `data` after the handle with the original bytes is freed, and bytes in a lane's
 * memory can change between two reads of them.
 */
#include "clients/lib/error.h"

#include <stdio.h>
#include <string.h>

#include "proto/failure.h"
#include "proto/text.h"
#include "proto/walk.h"

enum { CODE_LEAST = 100 }; /* of the protocol */

const char *knit_error_code_name(int code)
{
    return knit_failure_name((uint32_t)code);
}

const char *knit_error_started_name(enum knit_started started)
{
    return knit_failure_started_name(started);
}

const char *knit_error_origin_name(enum knit_origin origin)
{
    return knit_failure_origin_name(origin);
}

static void begin(struct knit_error *error, int code)
{
    memset(error, 0, offsetof(struct knit_error, task));
    error->task[0] = '\0';
    error->message[0] = '\0';
    error->code = code;
    error->name = knit_error_code_name(code);
    error->retry_after_ms = -1;
    error->limit = -1;
    error->actual = -1;
}

/* Beside what the code says: an error of the path says nothing of the call. */
static bool may_be_made_again(int code)
{
    return code == KNIT_DISCONNECTED || code == KNIT_INTERNAL ||
           knit_failure_is_retryable((uint32_t)code);
}

/* Names and paths in a message are their caller's, and need not be UTF-8; and where the room ends,
 * a character may be cut in two. */
static void make_text(char *text)
{
    size_t len = strlen(text);

    for (size_t at = 0; (at += knit_text_valid(text + at, len - at)) < len; at++)
        text[at] = '?';
}

int knit_error_vmake(struct knit_error *ret_error, int code, enum knit_started started,
    const char *format, va_list args)
{
    if (ret_error == NULL)
        return code;
    begin(ret_error, code);
    ret_error->started = started;
    ret_error->origin = KNIT_ORIGIN_CLIENT;
    ret_error->retryable = started == KNIT_STARTED_NO && may_be_made_again(code);
    vsnprintf(ret_error->message, sizeof(ret_error->message), format, args);
    make_text(ret_error->message);
    return code;
}

int knit_error_make(
    struct knit_error *ret_error, int code, enum knit_started started, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    knit_error_vmake(ret_error, code, started, format, args);
    va_end(args);
    return code;
}

static void copy_text(char *to, size_t size, struct knit_span text)
{
    size_t len = knit_text_cut(text.bytes, text.len, size - 1);

    if (len > 0)
        memcpy(to, text.bytes, len);
    to[len] = '\0';
    make_text(to);
}

int knit_error_check_reserved(
    const char *structure, const uint64_t *words, size_t count, struct knit_error *ret_error)
{
    for (size_t i = 0; i < count; i++) {
        if (words[i] == 0)
            continue;
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "reserved of struct %s is not 0: zero the structure before its members are set",
            structure);
    }
    return KNIT_OK;
}

void knit_error_set_task(struct knit_error *error, const char *task)
{
    if (error != NULL && error->task[0] == '\0')
        copy_text(error->task, sizeof(error->task), knit_span_text(task));
}

void knit_error_set_lasting(struct knit_error *error)
{
    if (error != NULL)
        error->retryable = false;
}

static int64_t number(uint64_t value)
{
    return value <= INT64_MAX ? (int64_t)value : -1;
}

/* The map behind code and message, where there is one. */
static struct knit_span find_details(struct knit_span error)
{
    struct knit_walk walk;
    struct knit_item item = {.raw = {NULL, 0}};

    if (knit_walk_array(&walk, error) != 0)
        return knit_span(NULL, 0);
    for (int i = 0; i < 3; i++) {
        if (knit_walk_next(&walk, &item) != 0)
            return knit_span(NULL, 0);
    }
    return item.raw;
}

/* A code below CODE_LEAST would read as KNIT_OK or a state to the caller; one above INT32_MAX does
 * not fit an int. */
static bool is_code(uint32_t code)
{
    return code >= CODE_LEAST && code <= INT32_MAX;
}

int knit_error_read(struct knit_buffer *copy, struct knit_span error, struct knit_error *ret_error)
{
    struct knit_failure failure;
    struct knit_span details, data;
    bool is_copied = false;

    /* A caller who only wants the code leaves the data of the last error as it is. */
    if (ret_error != NULL) {
        knit_buffer_reset(copy);
        is_copied = knit_buffer_append(copy, error.bytes, error.len) == 0;
        if (is_copied)
            error = knit_buffer_span(copy);
    }
    if (knit_failure_decode(error, &failure) != 0 || !is_code(failure.code))
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_UNKNOWN,
            "the pool sent an error that is none of the protocol's");
    if (ret_error == NULL)
        return (int)failure.code;

    /* Without memory for the copy the error lacks all that would point into it. */
    if (!is_copied)
        failure.data = failure.message = failure.task = knit_span(NULL, 0);
    details = is_copied ? find_details(error) : knit_span(NULL, 0);

    begin(ret_error, (int)failure.code);
    ret_error->started = failure.started;
    ret_error->origin = failure.origin;
    ret_error->retryable = failure.is_retryable;
    ret_error->signal = (int)failure.signal;
    ret_error->retry_after_ms = number(failure.retry_after_ms);
    ret_error->limit = number(failure.limit);
    ret_error->actual = number(failure.actual);
    data = failure.data;
    if (failure.code != KNIT_TASK_FAILED ||
        !knit_failure_task_data(&failure, &ret_error->task_code, &data))
        data = failure.data;
    ret_error->data = data.bytes;
    ret_error->data_len = data.len;
    ret_error->details = details.bytes;
    ret_error->details_len = details.len;
    copy_text(ret_error->task, sizeof(ret_error->task), failure.task);
    copy_text(ret_error->message, sizeof(ret_error->message), failure.message);
    return (int)failure.code;
}
