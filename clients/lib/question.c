/* SPDX-License-Identifier: Apache-2.0 */
/* The answer is copied: what it was borrowed from goes on being read into. */
#include "clients/lib/question.h"

#include <stdlib.h>

#include <knitting/knitting.h>

#include "clients/lib/error.h"
#include "proto/limits.h"

static void on_answer(void *user, bool is_error, struct knit_span outcome, void *heap)
{
    struct knit_question *question = user;

    question->is_answered = true;
    question->is_error = is_error;
    knit_buffer_reset(&question->answer);
    /* Without memory for it the buffer says so, and the answer is unreadable. */
    (void)knit_buffer_append(&question->answer, outcome.bytes, outcome.len);
    free(heap);
}

static void on_broken(void *user, enum knit_started started, const char *reason)
{
    (void)user;
    (void)started;
    (void)reason;
}

const struct knit_stream_callbacks knit_question_callbacks = {
    .on_answer = on_answer,
    .on_broken = on_broken,
};

void knit_question_init(struct knit_question *question, struct knit_stream *stream)
{
    *question = (struct knit_question){.stream = stream};
    knit_buffer_init(&question->answer, KNIT_MESSAGE_BYTES_MAX);
}

void knit_question_fini(struct knit_question *question)
{
    knit_buffer_fini(&question->answer);
}

static int refuse(const struct knit_question *question, struct knit_error *ret_error)
{
    return knit_error_make(ret_error, KNIT_DISCONNECTED, KNIT_STARTED_NO, "%s was not answered: %s",
        question->method, question->stream->reason);
}

int knit_question_ask(struct knit_question *question, const char *method, struct knit_span params,
    struct knit_error *ret_error)
{
    uint32_t place;
    int code;

    question->method = method;
    question->is_answered = false;
    code = knit_stream_start(question->stream, method, params, NULL, question, &place);
    if (code == KNIT_OK)
        return KNIT_OK;
    return code == KNIT_DISCONNECTED
               ? refuse(question, ret_error)
               : knit_error_make(ret_error, code, KNIT_STARTED_NO, "%s could not be sent", method);
}

int knit_question_step(struct knit_question *question, struct knit_buffer *copy,
    struct knit_span *ret_result, struct knit_error *ret_error)
{
    knit_stream_flush(question->stream);
    if (!question->is_answered)
        knit_stream_receive(question->stream);
    if (question->is_answered && question->answer.error != 0)
        return knit_error_make(
            ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory for a session");
    if (question->is_answered && question->is_error)
        return knit_error_read(copy, knit_buffer_span(&question->answer), ret_error);
    if (question->is_answered) {
        *ret_result = knit_buffer_span(&question->answer);
        return KNIT_OK;
    }
    return knit_stream_is_open(question->stream) ? KNIT_PENDING : refuse(question, ret_error);
}

int knit_question_time_out(const struct knit_question *question, struct knit_error *ret_error)
{
    return knit_error_make(
        ret_error, KNIT_TIMEOUT, KNIT_STARTED_UNKNOWN, "no answer to %s in time", question->method);
}
