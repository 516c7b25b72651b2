/* SPDX-License-Identifier: Apache-2.0 */
/* What a task prints, for a caller that wants it with the outcome (option `output`).
 *
 * While such a call runs, stdout and stderr are a pipe of this process. The control thread reads
 * it, keeps the first KNIT_OUTPUT_KEPT_MAX bytes and hands all of them on to the pipe that the host
 * reads, so the log has them too. The host has the pipe's reading end as well, for what is in it
 * when the worker dies.
 *
 * Threads: knit_capture_read() on the control thread, the others on the one that runs tasks. A
 * mutex guards what is kept; it is held while a full pipe to the host is waited for.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "proto/span.h"

/* Once, before modules are loaded: programs that these start have none of it. Returns 0 or
 * -errno. */
KNIT_MUST_CHECK int knit_capture_init(void);

/* KNIT_CONTROL_CAPTURE_READ_FD is readable, for which the control thread waits. False: it is of no
 * use any more. */
bool knit_capture_read(void);

void knit_capture_begin(void);

/* What was printed since; valid until the next knit_capture_begin(). *ret_is_cut: there was more
 * than is kept, or it could not be kept. */
struct knit_span knit_capture_end(bool *ret_is_cut);
