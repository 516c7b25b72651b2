/* SPDX-License-Identifier: Apache-2.0 */
/* What call.c has for the other functions that make calls: to start one, or to wait for it, once
 * its arguments are encoded. */
#pragma once

#include "clients/lib/client.h"

struct knit_start;

/* The error of a prepared call that was freed. */
int knit_call_refuse_freed(struct knit_error *ret_error);

/* A prepared call of the caller's can be used: KNIT_OK, or the code. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE int knit_call_check(
    const struct knit_prepared *prepared, struct knit_error *ret_error)
{
    if (__builtin_expect(prepared->is_freed, 0))
        return knit_call_refuse_freed(ret_error);
    return knit_client_check(prepared->all->session, ret_error);
}

/* The error of what an encoder or decoder of shape.h has returned. */
int knit_call_explain(
    int r, const struct knit_shape_flaw *flaw, bool is_result, struct knit_error *ret_error);

/* Queue a call. params: read when it returns. */
KNIT_MUST_CHECK int knit_call_start(struct knit_prepared *prepared,
    const struct knit_call_options *options, struct knit_span params, struct knit_handle **ret,
    struct knit_error *ret_error);

/* Start and wait. On KNIT_OK the handle with its outcome is `last` of the session. */
KNIT_MUST_CHECK int knit_call_run(struct knit_prepared *prepared,
    const struct knit_call_options *options, struct knit_span params, struct knit_error *ret_error);

/* The same two of a call with handles among its arguments. start->promise is taken over. */
KNIT_MUST_CHECK int knit_call_start_promised(
    struct knit_start *start, struct knit_handle **ret, struct knit_error *ret_error);
KNIT_MUST_CHECK int knit_call_run_promised(struct knit_start *start, struct knit_error *ret_error);

/* What is left of a call that knit_call_try_run() started. */
void knit_call_finish_last(struct knit *k);

/* A handle of such a call as `last` of the session, in place of one of another prepared call.
 * False: that is nothing usual. */
KNIT_MUST_CHECK bool knit_call_renew_last(struct knit *k, struct knit_prepared *prepared);

/* knit_call_run() of a usual call. known: of the arguments, enum knit_put. False: nothing was
 * started. */
KNIT_MUST_CHECK KNIT_ALWAYS_INLINE bool knit_call_try_run(
    struct knit *k, struct knit_prepared *prepared, struct knit_span params, unsigned known)
{
    struct knit_lanes *lanes = k->handles.lanes;
    struct knit_handle *handle = k->last;

    if (lanes == NULL || k->is_calling_back || prepared->usual_age != knit_lanes_age(lanes))
        return false;
    if (handle == NULL || !knit_handle_is_spent(handle, prepared)) {
        if (!knit_call_renew_last(k, prepared))
            return false;
        handle = k->last;
    }
    if (!knit_handle_try_send_on_lanes(handle, lanes, prepared->head, params, known))
        return false;
    if (!knit_handle_try_take(handle, lanes) || !knit_client_is_turn_over(k))
        knit_call_finish_last(k);
    return true;
}

/* Bytes behind a result that may be read: those of a small one's place in its handle. */
static inline size_t knit_call_spare(const struct knit_handle *handle, struct knit_span result)
{
    return result.bytes == (const uint8_t *)handle->body ? sizeof(handle->body) - result.len : 0;
}
