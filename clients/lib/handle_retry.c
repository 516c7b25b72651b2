/* SPDX-License-Identifier: Apache-2.0 */
/* Whether a call is made again, and when. */
#include <stdlib.h>
#include <string.h>

#include "clients/lib/chance.h"
#include "clients/lib/handle.h"
#include "fastpath/lane/bell.h"
#include "proto/failure.h"

enum {
    ATTEMPTS = 3,
    WAIT_MS = 50,
    WAIT_MAX_MS = 5000,
    BUDGET_PERCENT = 10,
    ATTEMPT = 1000, /* of the budget */
    BUDGET_FIRST = 10 * ATTEMPT,
    BUDGET_MAX = 100 * ATTEMPT,
    CALL_BYTES_MAX = 64 * 1024,
    BYTES_MAX = 4 * 1024 * 1024,
    ASKED_MAX_MS = 60 * 1000, /* a server may ask a call without a limit to wait */
    RETURN_MS = 5000,         /* a server that knows a key may take to come back */
    RETURN_LOOK_MS = 20,
    NS_PER_MS = 1000000,
};

static uint32_t or_default(uint32_t value, uint32_t otherwise)
{
    return value != 0 ? value : otherwise;
}

void knit_retries_init(struct knit_retries *retries, const struct knit_retry_options *options)
{
    *retries = (struct knit_retries){.random = knit_clock_ns() | 1};
    if (options == NULL)
        return;
    retries->attempts = or_default(options->attempts, ATTEMPTS);
    retries->wait_ns = (uint64_t)or_default(options->wait_ms, WAIT_MS) * NS_PER_MS;
    retries->wait_max_ns = (uint64_t)or_default(options->wait_max_ms, WAIT_MAX_MS) * NS_PER_MS;
    retries->gain = or_default(options->budget_percent, BUDGET_PERCENT);
    retries->gain = (retries->gain < 100 ? retries->gain : 100) * (ATTEMPT / 100);
    retries->budget = BUDGET_FIRST;
}

static void earn(struct knit_retries *retries)
{
    retries->budget += retries->gain;
    if (retries->budget > BUDGET_MAX)
        retries->budget = BUDGET_MAX;
}

void knit_retry_keep(struct knit_handle *handle, struct knit_span params,
    const struct knit_options *options, uint64_t start_by_ns, bool is_idempotent)
{
    struct knit_retries *retries = &handle->handles->promises.retries;
    struct knit_retry *retry = NULL;

    earn(retries);
    if (params.len <= CALL_BYTES_MAX && params.len <= BYTES_MAX - retries->bytes)
        retry = malloc(sizeof(*retry) + params.len);
    if (retry == NULL)
        return;
    *retry = (struct knit_retry){.attempts = 1,
        .is_idempotent = is_idempotent,
        .start_by_ns = start_by_ns,
        .options = *options,
        .len = params.len};
    memcpy(retry->params, params.bytes, params.len);
    /* That of the end of its timeout is the handle's. */
    retry->options.substitute = (struct knit_substitute){0};
    if (options->key.bytes != NULL) {
        memcpy(retry->key, options->key.bytes, options->key.len);
        retry->options.key.bytes = retry->key;
    }
    retries->bytes += params.len;
    handle->retry = retry;
    handle->flags |= KNIT_HANDLE_RETRIED;
}

void knit_retry_forget(struct knit_handle *handle)
{
    handle->handles->promises.retries.bytes -= handle->retry->len;
    handle->flags &= ~(uint32_t)KNIT_HANDLE_RETRIED;
    free(handle->retry);
}

/* How it failed. False: it did not, or what it says is long, which none of these is. */
static bool read_failure(const struct knit_handle *handle, struct knit_failure *ret_failure)
{
    if ((handle->flags & KNIT_HANDLE_ERROR) == 0 || (handle->flags & KNIT_HANDLE_HELD) != 0)
        return false;
    if (handle->code == 0)
        return knit_failure_decode(handle->outcome, ret_failure) == 0;
    *ret_failure = knit_failure((uint32_t)handle->code, handle->reason);
    ret_failure->started = (enum knit_started)handle->started;
    return true;
}

/* Of the server that has the call, or would get it. */
static uint64_t instance_of(const struct knit_handle *handle)
{
    return knit_handle_via(handle) == KNIT_VIA_STREAM ? handle->stream->instance
                                                      : handle->handles->stream->instance;
}

/* Where the same call would join the one that may run. */
static bool has_key_there(const struct knit_handle *handle)
{
    return handle->retry->options.key.bytes != NULL && instance_of(handle) != 0;
}

static bool is_worth_it(const struct knit_handle *handle, const struct knit_failure *failure)
{
    const struct knit_retry *retry = handle->retry;

    switch (failure->code) {
    case KNIT_DRAINING:
    case KNIT_OVERLOADED:
    case KNIT_QUOTA:
    case KNIT_NO_WORKER:
    case KNIT_STALE_EPOCH:
        return failure->started == KNIT_STARTED_NO;
    case KNIT_WORKER_DIED:
        /* With a key this is the outcome for good. */
        return retry->is_idempotent && retry->options.key.bytes == NULL;
    case KNIT_DISCONNECTED:
        return failure->started == KNIT_STARTED_NO || retry->is_idempotent || has_key_there(handle);
    default:
        return false;
    }
}

/* How long before the next attempt. */
static uint64_t wait_of(struct knit_retries *retries, const struct knit_retry *retry,
    const struct knit_failure *failure)
{
    const uint32_t doubled = retry->attempts - 1 < 16 ? retry->attempts - 1 : 16;
    uint64_t wait_ns = retries->wait_ns << doubled, asked_ns = 0;

    if (wait_ns > retries->wait_max_ns)
        wait_ns = retries->wait_max_ns;
    wait_ns -= knit_chance_next(&retries->random) % (wait_ns / 2 + 1);
    if (failure->retry_after_ms != KNIT_FAILURE_NONE)
        asked_ns = failure->retry_after_ms < UINT32_MAX ? failure->retry_after_ms * NS_PER_MS
                                                        : (uint64_t)UINT32_MAX * NS_PER_MS;
    return asked_ns > wait_ns ? asked_ns : wait_ns;
}

/* Its time is over before that. What has no limit of its own does not wait as long as it is told
 * to: its caller would not hear of it for weeks. */
static bool is_too_late(const struct knit_handle *handle, uint64_t now_ns, uint64_t due_ns)
{
    const uint64_t most_ns = handle->handles->promises.retries.wait_max_ns;

    if (handle->deadline_ns == 0 && handle->retry->start_by_ns == UINT64_MAX &&
        due_ns - now_ns > most_ns && due_ns - now_ns > (uint64_t)ASKED_MAX_MS * NS_PER_MS)
        return true;
    return (handle->deadline_ns != 0 && due_ns >= handle->deadline_ns) ||
           due_ns >= handle->retry->start_by_ns;
}

/* As a call that never was. */
static void begin_anew(struct knit_handle *handle)
{
    const uint32_t over = KNIT_HANDLE_DONE | KNIT_HANDLE_ERROR | KNIT_HANDLE_HEAP |
                          KNIT_HANDLE_BY_STREAM | KNIT_HANDLE_BY_LANES | KNIT_HANDLE_BY_INLINER |
                          KNIT_HANDLE_QUEUE;

    if ((handle->flags & KNIT_HANDLE_HEAP) != 0)
        free(handle->heap);
    handle->flags = (handle->flags & ~over) | KNIT_HANDLE_WAITING;
    handle->start_by_ns = handle->retry->start_by_ns;
    if (handle->deadline_ns != 0 || handle->start_by_ns != UINT64_MAX)
        knit_handle_set_deadline(handle, handle->deadline_ns);
}

bool knit_retry_again(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;
    struct knit_retries *retries = &handles->promises.retries;
    struct knit_retry *retry = handle->retry;
    struct knit_promise *promise;
    struct knit_failure failure;
    uint64_t now_ns, due_ns;

    if ((handle->flags & (KNIT_HANDLE_CANCELLED | KNIT_HANDLE_DISOWNED)) != 0 ||
        !(knit_handles_has_lease(handles) || handles->returns) || !read_failure(handle, &failure) ||
        !is_worth_it(handle, &failure) || retry->attempts >= retries->attempts ||
        retries->budget < ATTEMPT)
        return false;
    now_ns = knit_clock_ns();
    due_ns = now_ns + wait_of(retries, retry, &failure);
    if (is_too_late(handle, now_ns, due_ns))
        return false;
    promise = knit_promise_new(knit_span(retry->params, retry->len), NULL, NULL, 0);
    if (promise == NULL)
        return false;
    retries->budget -= ATTEMPT;
    retry->attempts++;
    retry->may_have_started |= failure.started != KNIT_STARTED_NO;
    if (failure.code == KNIT_DISCONNECTED && !retry->is_idempotent &&
        failure.started != KNIT_STARTED_NO)
        retry->instance = instance_of(handle);
    if ((handle->flags & KNIT_HANDLE_PROMISED) != 0)
        knit_promise_end(handle);
    begin_anew(handle);
    promise->options = retry->options;
    promise->due_ns = due_ns;
    knit_promise_wait(promise, handle);
    return true;
}

bool knit_retry_waits_for_instance(struct knit_handle *handle)
{
    struct knit_retry *retry = handle->retry;
    const uint64_t now_ns = knit_clock_ns();

    if (!handle->handles->lacks_any)
        return false;
    if (retry->return_by_ns == 0)
        retry->return_by_ns = now_ns + (uint64_t)RETURN_MS * NS_PER_MS;
    handle->promise->due_ns = now_ns + (uint64_t)RETURN_LOOK_MS * NS_PER_MS;
    return now_ns < retry->return_by_ns;
}
