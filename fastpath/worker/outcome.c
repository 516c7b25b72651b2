/* SPDX-License-Identifier: Apache-2.0 */
/* Errors are encoded into a buffer of their own; when even that fails because there is no memory,
 * the job's own body holds INTERNAL. */
#include "fastpath/worker/outcome.h"

#include <errno.h>

#include "proto/printed.h"
#include "proto/sentence.h"

int knit_outcome_settle_errors(struct knit_call *call, int code)
{
    struct knit_buffer *errors = &call->errors;

    if (errors->error != 0) {
        struct knit_failure failure = knit_failure(KNIT_INTERNAL, "out of memory");

        code = KNIT_INTERNAL;
        knit_buffer_init_fixed(&call->fixed, call->job->body, KNIT_INLINE_MAX);
        (void)knit_failure_put(&call->fixed, &failure, KNIT_FAILURE_COMPACT);
        return knit_outcome_settle_error(call, call->fixed.bytes, call->fixed.len, code);
    }
    return knit_outcome_settle_error(call, errors->bytes, errors->len, code);
}

int knit_outcome_fail_with(struct knit_call *call, const struct knit_failure *failure)
{
    call->is_used = true;
    knit_buffer_reset(&call->errors);
    (void)knit_failure_put(&call->errors, failure, KNIT_FAILURE_COMPACT);
    return knit_outcome_settle_errors(call, (int)failure->code);
}

int knit_outcome_fail(struct knit_call *call, enum knit_code code, const char *message)
{
    struct knit_failure failure = knit_failure(code, message);

    return knit_outcome_fail_with(call, &failure);
}

int knit_outcome_fail_too_large(struct knit_call *call, uint64_t actual)
{
    struct knit_failure failure;
    struct knit_sentence text;
    uint64_t limit = call->job->result_max;

    if (actual != 0)
        (void)knit_sentence_set(&text, 0,
            "the result is larger than the pool allows: %llu bytes, at most %llu "
            "(call_max_bytes)",
            (unsigned long long)actual, (unsigned long long)limit);
    else
        (void)knit_sentence_set(&text, 0,
            "the result is larger than the pool allows: at most %llu bytes (call_max_bytes)",
            (unsigned long long)limit);
    failure = knit_failure(KNIT_RESULT_TOO_LARGE, text.text);
    failure.limit = limit;
    if (actual != 0)
        failure.actual = actual;
    return knit_outcome_fail_with(call, &failure);
}

int knit_outcome_open_large(struct knit_call *call, size_t size, uint8_t **ret_place)
{
    struct knit_job *job = call->job;

    if (size > job->result_max)
        return KNIT_BUFFER_E_FULL;
    *ret_place = call->lane != NULL ? knit_lane_room(call->lane, job, size) : NULL;
    if (*ret_place != NULL)
        return 0;
    call->is_used = true;
    knit_buffer_reset(&call->results);
    call->results.max = job->result_max;
    *ret_place = knit_buffer_reserve(&call->results, size);
    return *ret_place != NULL ? 0 : call->results.error;
}

int knit_outcome_fail_open(struct knit_call *call, int error, uint64_t actual)
{
    return error == KNIT_BUFFER_E_FULL ? knit_outcome_fail_too_large(call, actual)
                                       : knit_outcome_fail(call, KNIT_INTERNAL, "out of memory");
}

int knit_outcome_check_result(struct knit_call *call, const void *bytes, size_t len)
{
    struct knit_signature_mismatch why;
    char text[512];
    int error = knit_signature_check_result(call->hot->task->signature, bytes, len, &why);

    if (error == 0)
        return knit_outcome_settle(call, bytes, len);
    if (error == KNIT_SIGNATURE_E_TOO_DEEP)
        return knit_outcome_fail(call, KNIT_BAD_RESULT, "the result is nested too deep");
    (void)knit_signature_explain(&why, true, text, sizeof(text));
    return knit_outcome_fail(call, KNIT_BAD_RESULT, text);
}

void knit_outcome_add_output(struct knit_call *call, struct knit_span text, bool is_cut)
{
    struct knit_job *job = call->job;
    struct knit_span outcome = knit_span(job->result, job->result_len);
    uint64_t needed = outcome.len + KNIT_PRINTED_HEADS_MAX;
    /* A result does not lie among the errors, nor an error among the results. */
    struct knit_buffer *room = job->status == KNIT_STATUS_RESULT ? &call->errors : &call->results;
    uint64_t room_max = room->max;
    int error;

    call->is_used = true;
    if (needed > job->result_max && job->status == KNIT_STATUS_RESULT) {
        (void)knit_outcome_fail_too_large(call, needed);
        return;
    }
    if (needed > job->result_max)
        return;
    if (text.len > job->result_max - needed) {
        text.len = job->result_max - needed;
        is_cut = true;
    }
    knit_buffer_reset(room);
    room->max = job->result_max;
    error = job->status == KNIT_STATUS_RESULT ? knit_printed_put_result(room, outcome, text, is_cut)
                                              : knit_printed_put_error(room, outcome, text, is_cut);
    room->max = room_max;
    if (error == 0)
        job->result = room->bytes, job->result_len = (uint32_t)room->len;
    else if (job->status == KNIT_STATUS_RESULT && error == -ENOMEM)
        (void)knit_outcome_fail(call, KNIT_INTERNAL, "out of memory");
    else if (job->status == KNIT_STATUS_RESULT)
        (void)knit_outcome_fail(call, KNIT_BAD_RESULT,
            "the result is nested too deep to be given with what the task printed");
}
