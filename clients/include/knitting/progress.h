/* SPDX-License-Identifier: Apache-2.0 */
/* What a task tells its caller while it runs. Part of <knitting/knitting.h>, which includes it, and
 * whose rules hold here too. */
#pragma once

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#pragma GCC visibility push(default)

struct knit_handle;

/* Have `on_progress` called with the values that the task emits while it runs (knit_progress_int()
 * and its like of <knitting/task.h>), if the call was started with the option `progress`; else it
 * never is. `value` is one msgpack value, valid until the callback returns. `count` says of how
 * many values that the call has emitted it is the last: those between two that come were
 * overwritten. The last of all comes before on_done. The callback must not free a handle that is
 * being waited for. Does not wait. */
void knit_on_progress(struct knit_handle *handle,
    void (*on_progress)(
        struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user),
    void *user);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
