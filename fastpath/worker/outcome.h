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

/* The call has this result; bytes stay valid until the next call. */
static inline int knit_outcome_settle(struct knit_call *call, const void *bytes, size_t len)
{
    struct knit_job *job = call->job;

    job->result = bytes;
    job->status = KNIT_STATUS_RESULT;
    job->result_len = (uint32_t)len;
    return KNIT_OK;
}

/* The same with an error. */
static inline int knit_outcome_settle_error(
    struct knit_call *call, const void *bytes, size_t len, int code)
{
    (void)knit_outcome_settle(call, bytes, len);
    call->job->status = KNIT_STATUS_ERROR;
    call->code = code;
    return code;
}

/* The same for a result that is not usual, or wrong. Not inlined: the texts would cost a frame in
 * calls that end well. */
__attribute__((noinline)) int knit_outcome_check_result(
    struct knit_call *call, const void *bytes, size_t len);

/* Whether the signature promises one result that may have this head. */
static inline bool knit_outcome_may_be(const struct knit_call *call, enum knit_head_type type)
{
    return (call->hot->precheck.result >> type & 1) != 0;
}

/* Encoded bytes become the outcome when they are what the signature promises. spare: as with
 * knit_precheck_value(). */
static inline int knit_outcome_settle_result(
    struct knit_call *call, const void *bytes, size_t len, size_t spare)
{
    if (!knit_precheck_result(&call->hot->precheck, bytes, len, spare))
        return knit_outcome_check_result(call, bytes, len);
    return knit_outcome_settle(call, bytes, len);
}

/* Ends the call with a number, which is a head alone and fits the job's body. */
static inline int knit_outcome_head(
    struct knit_call *call, knit_pack *pack, enum knit_head_type type, uint64_t value)
{
    struct knit_job *job = call->job;
    size_t len;

    if (knit_call_is_settled(call))
        return knit_call_code(call);
    len = pack((uint8_t *)job->body, value);
    if (!knit_outcome_may_be(call, type))
        return knit_outcome_check_result(call, job->body, len);
    return knit_outcome_settle(call, job->body, len);
}

/* The same with nil or a bool, which is one byte. */
static inline int knit_outcome_byte(struct knit_call *call, uint8_t byte, enum knit_head_type type)
{
    struct knit_job *job = call->job;

    if (knit_call_is_settled(call))
        return knit_call_code(call);
    job->body[0] = byte;
    if (!knit_outcome_may_be(call, type))
        return knit_outcome_check_result(call, job->body, 1);
    return knit_outcome_settle(call, job->body, 1);
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

/* Copies at most KNIT_INLINE_MAX bytes into the job's own body. Loads overlap, as in
 * knit_cell_tail(), and a call would cost more than they do. */
KNIT_ALWAYS_INLINE void knit_outcome_copy_small(uint8_t *to, const uint8_t *from, size_t len)
{
    uint64_t pair[2], first, last;

    if (len >= sizeof(pair)) {
        for (size_t at = 0; at < len - sizeof(pair); at += sizeof(pair)) {
            memcpy(pair, from + at, sizeof(pair));
            memcpy(to + at, pair, sizeof(pair));
        }
        memcpy(pair, from + len - sizeof(pair), sizeof(pair));
        memcpy(to + len - sizeof(pair), pair, sizeof(pair));
    } else if (len >= sizeof(first)) {
        memcpy(&first, from, sizeof(first));
        memcpy(&last, from + len - sizeof(last), sizeof(last));
        memcpy(to, &first, sizeof(first));
        memcpy(to + len - sizeof(last), &last, sizeof(last));
    } else {
        for (size_t at = 0; at < len; at++)
            to[at] = from[at];
    }
}

/* Room for a result of `size` bytes, where it will be read from if possible. Returns 0,
 * KNIT_BUFFER_E_FULL, -ENOMEM; for one that is larger than a cell. */
KNIT_MUST_CHECK int knit_outcome_open_large(
    struct knit_call *call, size_t size, uint8_t **ret_place);

KNIT_MUST_CHECK static inline int knit_outcome_open(
    struct knit_call *call, size_t size, uint8_t **ret_place)
{
    if (size > KNIT_INLINE_MAX)
        return knit_outcome_open_large(call, size, ret_place);
    *ret_place = call->job->body;
    return 0;
}

/* Ends the call with what knit_outcome_open() returned; actual as above. */
__attribute__((cold)) int knit_outcome_fail_open(
    struct knit_call *call, int error, uint64_t actual);
