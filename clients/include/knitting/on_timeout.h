/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller gets when the timeout of its call is over. A call may say so, and a task for its
 * own timeout; unless one does, the call fails with TIMEOUT.
 *
 * The first of `value`, `maybe`, `error` and `error_data` that is given counts; the last two go
 * together. A zeroed structure says nothing.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KNIT_ON_TIMEOUT_BYTES_MAX 2048 /* that all of it may take, as msgpack */

struct knit_on_timeout {
    const void *value; /* one msgpack value: the call succeeds with this result; NULL = not given */
    size_t value_len;
    bool maybe;             /* it succeeds with nil */
    const char *error;      /* it fails with TIMEOUT, and this message; NULL = not given */
    const void *error_data; /* and this msgpack value as data; NULL = not given */
    size_t error_data_len;
};

#ifdef __cplusplus
}
#endif
