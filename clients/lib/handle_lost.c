/* SPDX-License-Identifier: Apache-2.0 */
/* What a lost connection leaves of the calls that it took: an outcome, or a call that waits for
 * another one. Reasons are kept by their text, since a handle has its own for as long as its caller
 * likes, while the connection that had it is followed by others.
 */
#include "clients/lib/lost.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/handle.h"
#include "fastpath/worker/inliner.h"

enum { KEPT_REASONS_MAX = 64 };

struct knit_kept_reason {
    struct knit_kept_reason *next;
    char text[];
};

/* ---- reasons ---- */

/* There are few different ones; a server that finds more of them gets the last one. */
const char *knit_handles_keep_reason(struct knit_handles *handles, const char *reason)
{
    static const char other[] = "the connection was lost";
    struct knit_kept_reason *kept;
    size_t size = strlen(reason) + 1;
    uint32_t count = 0;

    for (kept = handles->kept_reasons; kept != NULL; kept = kept->next, count++) {
        if (strcmp(kept->text, reason) == 0)
            return kept->text;
    }
    if (count >= KEPT_REASONS_MAX)
        return other;
    kept = malloc(sizeof(*kept) + size);
    if (kept == NULL)
        return other;
    memcpy(kept->text, reason, size);
    kept->next = handles->kept_reasons;
    handles->kept_reasons = kept;
    return kept->text;
}

void knit_handles_free_reasons(struct knit_handles *handles)
{
    struct knit_kept_reason *reason;

    while ((reason = handles->kept_reasons) != NULL) {
        handles->kept_reasons = reason->next;
        free(reason);
    }
}

/* ---- calls ---- */

/* Of a call that waits for another connection: its time in the queue counts here again. */
static void watch_limits(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;

    if ((handle->flags & KNIT_HANDLE_WAITING) == 0 || handle->start_by_ns == UINT64_MAX)
        return;
    if ((handle->flags & KNIT_HANDLE_TIMED) == 0)
        knit_handle_set_deadline(handle, handle->deadline_ns);
    else if (handle->start_by_ns < handles->next_deadline_ns)
        handles->next_deadline_ns = handle->start_by_ns;
}

/* The request of one that waits was not sent whole: it waits for another connection. False: it
 * cannot, and ends. */
bool knit_handle_wait_for_another(struct knit_handle *handle)
{
    const struct knit_stream *stream = handle->stream;
    struct knit_options options;
    struct knit_span request, params;

    if (!handle->handles->returns || handle->prepared == NULL || handle->prepared->is_of_protocol)
        return false;
    if ((handle->flags & KNIT_HANDLE_REFERRING) != 0) {
        knit_handle_leave_lists(handle);
        knit_promise_wait_again(handle);
        return true;
    }
    if (!knit_stream_request(stream, handle->slot, &request) ||
        !knit_request_read(request, &params, &options) ||
        !knit_promise_shelve(handle, params, &options))
        return false;
    watch_limits(handle);
    return true;
}

/* The same of a call in the lanes, which no worker has claimed or will. */
static bool leave_lane(struct knit_handle *handle)
{
    struct knit_options options = knit_options();
    struct knit_span params;

    return handle->handles->returns &&
           knit_session_argument(handle->handles->lanes->session, handle->slot, &params) &&
           knit_promise_shelve(handle, params, &options);
}

void knit_handle_disconnect(struct knit_handle *handle)
{
    struct knit_handles *handles = handle->handles;
    const char *reason;
    enum knit_started started;

    if ((handle->flags & KNIT_HANDLE_WAITING) == 0)
        return;
    if (knit_handle_via(handle) == KNIT_VIA_INLINER) {
        started = knit_inliner_remove(handles->inliner, handle->slot);
        knit_handle_fail(handle, handles->lost_code, started, handles->stream->reason);
    }
    if (knit_handle_via(handle) != KNIT_VIA_LANES)
        return;
    if (!knit_lanes_settle(handles->lanes, handle->slot, &started)) {
        (void)knit_handle_collect(handle);
        return;
    }
    if (started == KNIT_STARTED_NO && leave_lane(handle))
        return;
    reason = knit_handles_keep_reason(handles, handles->stream->reason);
    knit_handle_fail(handle, handles->lost_code, started, reason);
}

/* ---- the lease ---- */

void knit_handles_flush(struct knit_handles *handles)
{
    knit_stream_flush(handles->stream);
    for (struct knit_stream *at = handles->several; at != NULL; at = at->next)
        if (at != handles->stream)
            knit_stream_flush(at);
}

bool knit_handles_is_leaving(const struct knit_handles *handles)
{
    return handles->is_leaving || handles->stream->has_goaway;
}

void knit_handles_end_lease(struct knit_handles *handles, int code, const char *reason)
{
    for (struct knit_stream *at = handles->several; at != NULL; at = at->next)
        if (at != handles->stream)
            knit_stream_break(at, "%s", reason);
    if (!knit_handles_has_lease(handles)) {
        /* What waits for another connection ends for this reason. */
        if (handles->returns)
            (void)snprintf(handles->stream->reason, sizeof(handles->stream->reason), "%s", reason);
        handles->returns = false;
        return;
    }
    handles->returns = false;
    handles->lost_code = code;
    if (handles->has_local_lease)
        (void)snprintf(handles->stream->reason, sizeof(handles->stream->reason), "%s", reason);
    handles->has_local_lease = false;
    knit_stream_break(handles->stream, "%s", reason);
}

/* Those that were only asked for their tasks when they were lost. */
void knit_handles_sweep_lanes(struct knit_handles *handles)
{
    struct knit_lanes **at = &handles->lost_lanes, *lanes;

    while ((lanes = *at) != NULL) {
        if (lanes->held != 0) {
            at = &lanes->next;
            continue;
        }
        *at = lanes->next;
        (void)knit_lanes_free(lanes, true);
    }
}

void knit_handles_leave_lanes(struct knit_handles *handles, bool is_ours)
{
    struct knit_lanes *lanes = handles->lanes;

    if (lanes == NULL)
        return;
    knit_handles_sweep_lanes(handles);
    handles->lanes = NULL;
    if (lanes->held == 0) {
        (void)knit_lanes_free(lanes, is_ours);
        return;
    }
    lanes->is_lost = true;
    lanes->next = handles->lost_lanes;
    handles->lost_lanes = lanes;
}

void knit_handles_free_lost_lanes(struct knit_handles *handles, bool is_ours)
{
    struct knit_lanes *lanes;

    while ((lanes = handles->lost_lanes) != NULL) {
        handles->lost_lanes = lanes->next;
        (void)knit_lanes_free(lanes, is_ours);
    }
}
