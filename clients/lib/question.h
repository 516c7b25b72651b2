/* SPDX-License-Identifier: Apache-2.0 */
/* One request after the other on a stream that carries no calls yet: what is asked while a
 * connection is being opened. Nothing here waits.
 *
 * Threads: as the stream: one at a time.
 */
#pragma once

#include "clients/lib/stream.h"

struct knit_error;

struct knit_question {
    struct knit_stream *stream;
    const char *method;        /* of the one that was asked last; static text */
    struct knit_buffer answer; /* result or error of that */
    bool is_answered;
    bool is_error;
};

/* The stream's requests are this question's from now on. */
void knit_question_init(struct knit_question *question, struct knit_stream *stream);
void knit_question_fini(struct knit_question *question);

/* The stream's callbacks as long as it is asked. */
extern const struct knit_stream_callbacks knit_question_callbacks;

/* Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_question_ask(struct knit_question *question, const char *method,
    struct knit_span params, struct knit_error *ret_error);

/* Sends and receives. Returns KNIT_PENDING, KNIT_OK with the result, which is good until the next
 * question, or the code of an error. copy: receives the bytes that the error points into. */
KNIT_MUST_CHECK int knit_question_step(struct knit_question *question, struct knit_buffer *copy,
    struct knit_span *ret_result, struct knit_error *ret_error);

/* The error of one that was not answered in time. Returns its code. */
int knit_question_time_out(const struct knit_question *question, struct knit_error *ret_error);
