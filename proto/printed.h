/* SPDX-License-Identifier: Apache-2.0 */
/* An outcome together with what its task printed, which the option `output` asks for:
 *
 *     result     [result, [text, is_cut]]
 *     error      with `output`: [text, is_cut] among its details
 *
 * where text is a bin and is_cut a bool.
 */
#pragma once

#include <stdbool.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/span.h"

enum {
    KNIT_PRINTED_E_BAD = 1, /* no such outcome */
};

/* What is added to an outcome beside the text. */
#define KNIT_PRINTED_HEADS_MAX 32u

/* Append a result, or an error in compact form. Return the buffer's error; -EINVAL: it is nested
 * too deep. */
KNIT_MUST_CHECK int knit_printed_put_result(
    struct knit_buffer *buffer, struct knit_span result, struct knit_span text, bool is_cut);
KNIT_MUST_CHECK int knit_printed_put_error(
    struct knit_buffer *buffer, struct knit_span error, struct knit_span text, bool is_cut);

/* The parts of a result, and of the output that a result or an error has. Return 0,
 * KNIT_PRINTED_E_BAD. */
KNIT_MUST_CHECK int knit_printed_split(
    struct knit_span whole, struct knit_span *ret_result, struct knit_span *ret_output);
KNIT_MUST_CHECK int knit_printed_read(
    struct knit_span output, struct knit_span *ret_text, bool *ret_is_cut);
