/* SPDX-License-Identifier: Apache-2.0 */
/* A value that the caller could not read as a result is refused when it is given, not when the time
 * is over. */
#include "clients/lib/late.h"

#include "clients/lib/error.h"

static int check_fit(
    const struct knit_shape *shape, struct knit_span value, struct knit_error *ret_error)
{
    struct knit_shape_flaw flaw;
    int r = knit_shape_decode(shape, value, NULL, NULL, &flaw);

    if (r == 0)
        return KNIT_OK;
    if (r < 0)
        return knit_error_make(ret_error, KNIT_INTERNAL, KNIT_STARTED_NO, "not enough memory");
    if (flaw.expected == NULL)
        return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "on_timeout: the value does not fit the signature: %s", flaw.reason);
    return knit_error_make(ret_error, KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
        "on_timeout: the value does not fit the signature: result %zu: expected %s, got %s",
        flaw.index + 1, flaw.expected, flaw.actual);
}

int knit_late_read(const struct knit_on_timeout *on_timeout, const struct knit_shape *shape,
    struct knit_substitute *ret, struct knit_error *ret_error)
{
    const char *reason;
    int r = knit_substitute_from(on_timeout, ret, &reason);

    if (r != 0)
        return knit_error_make(ret_error,
            r == KNIT_SUBSTITUTE_E_LARGE ? KNIT_TOO_LARGE : KNIT_BAD_ARGUMENT, KNIT_STARTED_NO,
            "on_timeout: %s", reason);
    if (ret->kind != KNIT_SUBSTITUTE_RESULT || shape == NULL)
        return KNIT_OK;
    return check_fit(shape, ret->result, ret_error);
}
