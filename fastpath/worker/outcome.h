/* SPDX-License-Identifier: Apache-2.0 */
/* How a call ends: with a result that its signature promises, or with an error.
 *
 * The functions return the code that the call ended with, KNIT_OK or the error's, which tasks hand
 * on as their own return value.
 *
 * Threads: the worker's main thread. Nothing blocks.
 */
#pragma once

#include "fastpath/worker/call.h"
#include "proto/failure.h"
#include "proto/pack.h"

/* The call has this outcome; bytes stay valid until the next call. */
static inline int knit_outcome_settle(
    struct knit_call *call, uint32_t status, const void *bytes, size_t len, int code)
{
    call->is_settled = true;
    call->code = code;
    call->job->status = status;
    call->job->result = bytes;
    call->job->result_len = len;
    return code;
}

/* Not inlined: the texts would cost a frame in calls that end well. */
__attribute__((cold, noinline)) int knit_outcome_fail_result(
    struct knit_call *call, int error, const struct knit_signature_mismatch *why);

/* Encoded bytes become the outcome when they are what the signature promises. */
static inline int knit_outcome_settle_result(struct knit_call *call, const void *bytes, size_t len)
{
    struct knit_signature_mismatch why;
    int error = knit_signature_check_result(call->task->signature, bytes, len, &why);

    if (error != 0)
        return knit_outcome_fail_result(call, error, &why);
    return knit_outcome_settle(call, KNIT_STATUS_RESULT, bytes, len, KNIT_OK);
}

/* Ends the call with nil, a bool or a number, which is a head alone and fits the job's body. */
static inline int knit_outcome_head(struct knit_call *call, knit_pack *pack, uint64_t value)
{
    if (call->is_settled)
        return call->code;
    return knit_outcome_settle_result(
        call, call->job->body, pack((uint8_t *)call->job->body, value));
}

/* Ends the call with what was put into its errors' buffer, or with INTERNAL if that failed. */
int knit_outcome_settle_errors(struct knit_call *call, int code);

int knit_outcome_fail_with(struct knit_call *call, const struct knit_failure *failure);
int knit_outcome_fail(struct knit_call *call, enum knit_code code, const char *message);

/* actual: the size of the result; 0 = not known. */
int knit_outcome_fail_too_large(struct knit_call *call, uint64_t actual);

/* The outcome that the call has becomes one with what its task printed. What does not fit with it
 * is cut. */
__attribute__((cold, noinline)) void knit_outcome_add_output(
    struct knit_call *call, struct knit_span text, bool is_cut);

/* The buffer for a result of at most `size` bytes, where it will be read from if possible. NULL:
 * the result is too large. */
struct knit_buffer *knit_outcome_open(struct knit_call *call, size_t size);

/* Ends the call with what the writer has put. */
int knit_outcome_end(struct knit_call *call, struct knit_writer *writer);
