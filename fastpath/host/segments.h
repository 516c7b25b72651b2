/* SPDX-License-Identifier: Apache-2.0 */
/* The two segments of a session, on the host's side: sized, made, mapped.
 *
 * Threads: under the pool's mutex.
 */
#pragma once

#include "fastpath/host/host.h"

/* Returns 0 or KNIT_HOST_E_SIZE. */
KNIT_MUST_CHECK int knit_segments_geometry(const struct knit_host_options *options,
    const struct knit_host_ask *ask, struct knit_geometry *ret_geometry);
/* How much such a session may add to the memory of the pool. */
uint64_t knit_segments_cost(
    const struct knit_host_options *options, const struct knit_geometry *geometry);
/* Makes and maps both. *request_fd (-1 before) is the caller's; also on failure it must be closed.
 * Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_segments_make(const struct knit_host_options *options,
    struct knit_host_session *session, const struct knit_geometry *geometry, int *request_fd);
/* Maps the request segment of another process when it is sealed. Returns 0, KNIT_HOST_E_UNSEALED,
 * -errno. */
KNIT_MUST_CHECK int knit_segments_map_request(struct knit_host_session *session);
