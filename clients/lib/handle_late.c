/* SPDX-License-Identifier: Apache-2.0 */
/* Outcomes that the library gives of its own accord and that say more than a sentence: they are
 * encoded as if they had come, so who reads them knows no difference.
 */
#include "clients/lib/handle.h"
#include "fastpath/worker/inliner.h"
#include "proto/failure.h"
#include "proto/limits.h"

int knit_handle_keep_late(struct knit_handle *handle, const struct knit_substitute *substitute)
{
    struct knit_buffer map;
    int r;

    knit_buffer_init(&map, KNIT_OPTIONS_BYTES_MAX);
    r = knit_substitute_put(&map, substitute);
    if (r != 0) {
        knit_buffer_fini(&map);
        return r;
    }
    handle->late = knit_buffer_span(&map);
    handle->flags |= KNIT_HANDLE_LATE;
    return 0;
}

void knit_handle_fail_with(
    struct knit_handle *handle, const struct knit_failure *failure, const char *reason)
{
    struct knit_buffer error;

    knit_buffer_init(&error, 4 * KNIT_METHOD_PARAMS_BYTES_MAX);
    if (knit_failure_put(&error, failure, KNIT_FAILURE_COMPACT) == 0)
        knit_handle_finish_copied(handle, true, knit_buffer_span(&error));
    else
        knit_handle_fail(handle, (int)failure->code, failure->started, reason);
    knit_buffer_fini(&error);
}

uint32_t knit_handles_in_flight(const struct knit_handles *handles)
{
    const uint32_t own = handles->inliner != NULL ? knit_inliner_in_flight(handles->inliner) : 0;
    uint32_t count = own + handles->promises.count + handles->stream->places_taken;

    if (handles->lanes != NULL)
        count += knit_lanes_in_flight(handles->lanes);
    for (const struct knit_stream *at = handles->several; at != NULL; at = at->next)
        count += at != handles->stream ? at->places_taken : 0;
    return count;
}

void knit_handle_overload(struct knit_handle *handle, uint64_t limit, uint64_t retry_ms)
{
    const char *reason = "as many calls are in flight as its option queue_max allows";
    struct knit_failure failure = knit_failure(KNIT_OVERLOADED, reason);

    failure.origin = KNIT_ORIGIN_CLIENT;
    failure.limit = limit;
    failure.retry_after_ms = retry_ms;
    knit_handle_fail_with(handle, &failure, reason);
}

void knit_handle_time_out(struct knit_handle *handle, enum knit_started started, const char *reason)
{
    struct knit_substitute substitute;
    const char *flaw;

    if ((handle->flags & KNIT_HANDLE_LATE) == 0 ||
        knit_substitute_decode(handle->late, &substitute, NULL, &flaw) != 0) {
        knit_handle_fail(handle, KNIT_TIMEOUT, started, reason);
        return;
    }
    if (substitute.kind == KNIT_SUBSTITUTE_ERROR) {
        struct knit_failure failure = knit_failure(KNIT_TIMEOUT, reason);

        failure.started = started;
        failure.origin = KNIT_ORIGIN_CLIENT;
        knit_substitute_fail(&substitute, &failure);
        knit_handle_fail_with(handle, &failure, reason);
        return;
    }
    /* Nobody has put what the task printed beside this result. */
    handle->flags &= ~(uint32_t)KNIT_HANDLE_OUTPUT;
    knit_handle_finish_copied(handle, false, substitute.result);
}
