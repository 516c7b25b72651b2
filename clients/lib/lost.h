/* SPDX-License-Identifier: Apache-2.0 */
/* The end of a lease, and what becomes of the calls that are under way then. Those that were
 * certainly not started wait for another connection, if one is opened.
 *
 * Threads: as the session: one at a time.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

struct knit_handle;
struct knit_handles;

/* End the lease, if there is one. What waits is settled by knit_handles_disconnect(), with that
 * code and reason; what waits for another connection does not any more. */
void knit_handles_end_lease(struct knit_handles *handles, int code, const char *reason);

/* The lease is gone: give calls in the lanes their answers, or else the stream's reason. */
void knit_handles_disconnect(struct knit_handles *handles);

/* The same of one call, of those that are not on a stream. */
void knit_handle_disconnect(struct knit_handle *handle);

/* The stream has broken, or is left out, before the handle's request was sent whole: true, and the
 * call waits. False: it cannot. */
KNIT_MUST_CHECK bool knit_handle_wait_for_another(struct knit_handle *handle);

/* It stands in none of the lists `timed` and `ready` any more. */
void knit_handle_leave_lists(struct knit_handle *handle);

/* The same text, for as long as the session is there. */
const char *knit_handles_keep_reason(struct knit_handles *handles, const char *reason);
void knit_handles_free_reasons(struct knit_handles *handles);

/* What waits to be sent on any connection. */
void knit_handles_flush(struct knit_handles *handles);

/* The server wants no more calls on this connection; those that it has go on. */
bool knit_handles_is_leaving(const struct knit_handles *handles);

/* All that waited in the lanes has its outcome, or waits for other ones: these go when no result is
 * read in them any more. is_ours false: in a forked child. */
void knit_handles_leave_lanes(struct knit_handles *handles, bool is_ours);

/* Free those where none is read, or all of them. */
void knit_handles_sweep_lanes(struct knit_handles *handles);
void knit_handles_free_lost_lanes(struct knit_handles *handles, bool is_ours);
