/* SPDX-License-Identifier: Apache-2.0 */
/* A source of lanes: attaching to a daemon on this machine, over a stream.
 *
 * Threads: one at a time. Nothing blocks.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "clients/lib/question.h"

struct knit;
struct knit_attachment; /* an attempt that is under way */
struct knit_error;
struct knit_lanes;
struct knit_open_options;

/* The stream has said `$/hello`. Returns KNIT_OK, or the code of an error. */
KNIT_MUST_CHECK int knit_attach_begin(struct knit *k, struct knit_question *question,
    const struct knit_open_options *options, struct knit_attachment **ret,
    struct knit_error *ret_error);

/* Whenever the stream may have an answer. Returns KNIT_PENDING, or the code of an error, or KNIT_OK
 * with lanes, which own the attachment from now on and use the session, which outlives them. copy:
 * receives the bytes that the error points into. */
KNIT_MUST_CHECK int knit_attach_step(struct knit_attachment *attachment, struct knit_buffer *copy,
    struct knit_lanes **ret, struct knit_error *ret_error);

/* One that is under way. is_ours false: in a forked child. NULL is allowed; returns NULL. */
struct knit_attachment *knit_attach_free(struct knit_attachment *attachment, bool is_ours);
