/* SPDX-License-Identifier: Apache-2.0 */
/* What a call ends with when its timeout is over, as its caller says it (<knitting/on_timeout.h>):
 * checked when the call is made.
 */
#pragma once

#include <knitting/error.h>
#include <knitting/on_timeout.h>

#include "clients/lib/shape.h"
#include "proto/substitute.h"

/* shape: NULL = of a call without a signature, for which any value is right. *ret points into
 * on_timeout. Returns KNIT_OK; KNIT_BAD_ARGUMENT: a value is malformed, or does not fit; or
 * KNIT_TOO_LARGE. */
KNIT_MUST_CHECK int knit_late_read(const struct knit_on_timeout *on_timeout,
    const struct knit_shape *shape, struct knit_substitute *ret, struct knit_error *ret_error);
