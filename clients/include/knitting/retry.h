/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that the library makes again by itself. */
#pragma once

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For struct knit_open_options: a call of the session that ends in an error which says that trying
 * again may help is made again, within its timeout, and its handle ends with the last attempt.
 *
 * Made again are calls that have certainly not started (DRAINING, OVERLOADED, QUOTA, NO_WORKER,
 * STALE_EPOCH), and of tasks that are marked KNIT_TASK_IDEMPOTENT also those that may have
 * (WORKER_DIED, unless they have a key, and DISCONNECTED). With a key a call is made again after
 * DISCONNECTED where the daemon is still the same run of it, which knows the key. Nothing is after
 * TIMEOUT, nor what was cancelled.
 *
 * Before each further attempt passes what the error's `retry_after_ms` says, and at least wait_ms,
 * twice as much each time, up to wait_max_ms; of that a random part of up to a half is left out. A
 * call whose timeout would be over by then ends with the error instead, and so does one without
 * that would wait for more than a minute, and than wait_max_ms.
 *
 * All further attempts of a session together are bounded by a budget: ten, and one more for every
 * hundred calls times budget_percent, of which a hundred at most are saved up. So callers do not
 * multiply the load of a pool that has too much. Arguments are kept for them: of calls with at most
 * 64 KiB, and 4 MiB of all that are in flight. What is beyond, calls whose arguments are handles,
 * those of `queue_ms` 0, and notifications are made once. */
struct knit_retry_options {
    uint32_t attempts;       /* of a call, the first included; 0 = 3 */
    uint32_t wait_ms;        /* 0 = 50 */
    uint32_t wait_max_ms;    /* 0 = 5000 */
    uint32_t budget_percent; /* of the calls; 0 = 10 */
    uint64_t reserved[4];
};

#ifdef __cplusplus
}
#endif
