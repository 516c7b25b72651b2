/* SPDX-License-Identifier: Apache-2.0 */
/* The bell of a session of the host's own: a pipe that wakes its event loop.
 *
 * Threads: under the pool's mutex.
 */
#pragma once

#include <knitting/code.h>

#include "fastpath/host/host.h"

/* Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_loop_bell_open(struct knit_host_session *session);
/* A descriptor of the session's bell to be sent to a worker, then given to
 * knit_loop_bell_close_copy(). Returns 0 or -errno. */
KNIT_MUST_CHECK int knit_loop_bell_copy(const struct knit_host_session *session, int *ret_fd);
void knit_loop_bell_close_copy(const struct knit_host_session *session, int fd);
