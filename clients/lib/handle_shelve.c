/* SPDX-License-Identifier: Apache-2.0 */
/* Calls for which there is no connection just now: from what was to be sent, a promise without
 * holes. */
#include "clients/lib/handle.h"
#include "clients/lib/promise.h"
#include "fastpath/lane/bell.h"
#include "proto/limits.h"

enum {
    SHELVED_MAX = KNIT_STREAM_PLACES_MAX,
    SHELVED_BYTES_MAX = KNIT_STREAM_OUT_MAX,
};

bool knit_request_read(
    struct knit_span request, struct knit_span *ret_params, struct knit_options *ret_options)
{
    const struct knit_scan_limits limits = {.message_bytes = KNIT_MESSAGE_BYTES_MAX};
    struct knit_message message;
    struct knit_scan scan;
    const char *reason;
    size_t used;

    knit_scan_init(&scan, &limits);
    if (knit_scan_feed(&scan, request.bytes, request.len, &used) != KNIT_SCAN_E_DONE ||
        knit_message_parse(request.bytes, used, &scan, &message, &reason) != 0)
        return false;
    *ret_params = message.params;
    *ret_options = knit_options();
    return message.options.bytes == NULL ||
           knit_options_decode(message.options, ret_options, &reason) == 0;
}

/* The limit of its time in the queue, which a message has as what is left. */
static void take_queue_limit(struct knit_handle *handle, const struct knit_options *options)
{
    const uint64_t now_ns = options->queue_ns != KNIT_OPTION_NONE ? knit_clock_ns() : 0;

    if ((handle->flags & (KNIT_HANDLE_TIMED | KNIT_HANDLE_BY_LANES)) == KNIT_HANDLE_BY_LANES) {
        /* A usual call has not written them. */
        handle->deadline_ns = 0;
        handle->start_by_ns = UINT64_MAX;
    }
    if (options->queue_ns >= UINT64_MAX - now_ns || handle->start_by_ns != UINT64_MAX)
        return;
    handle->start_by_ns = now_ns + options->queue_ns;
}

bool knit_promise_shelve(
    struct knit_handle *handle, struct knit_span params, const struct knit_options *options)
{
    const uint32_t ways =
        KNIT_HANDLE_BY_STREAM | KNIT_HANDLE_BY_LANES | KNIT_HANDLE_BY_INLINER | KNIT_HANDLE_QUEUE;
    struct knit_promises *promises = &handle->handles->promises;
    struct knit_promise *promise;

    if (promises->shelved >= SHELVED_MAX ||
        params.len > SHELVED_BYTES_MAX - promises->shelved_bytes)
        return false;
    promise = knit_promise_new(params, NULL, NULL, 0);
    if (promise == NULL || !knit_promise_take_options(promise, options)) {
        knit_promise_free(promise);
        return false;
    }
    promise->is_shelved = true;
    promises->shelved++;
    promises->shelved_bytes += params.len;
    take_queue_limit(handle, options);
    handle->flags &= ~ways;
    knit_promise_wait(promise, handle);
    /* Its caller did not wait for that. */
    if ((handle->flags & KNIT_HANDLE_CANCELLED) != 0)
        knit_handle_cancel(handle);
    return true;
}
