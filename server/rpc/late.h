/* SPDX-License-Identifier: Apache-2.0 */
/* What a caller gets when the timeout of its call is over: TIMEOUT, or what option `timeout` or
 * the task has in its place (proto/substitute.h).
 *
 * Most calls have nothing of this. Those that do keep it as bytes of their own, since the message
 * that had it is gone when the time is over.
 *
 * Threads: the loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "proto/options.h"
#include "server/rpc/caller.h"

/* Whether a call has something else than TIMEOUT: by its options, or by its task if the task's
 * timeout is the one that is over first. */
bool knit_late_has(const struct knit_options *options, const struct knit_registry_task *task);

struct knit_late {
    bool output; /* the caller wants what the task printed */
    uint32_t len;
    uint8_t bytes[]; /* of the map */
};

/* For a call that knit_late_has(). NULL: out of memory. */
struct knit_late *knit_late_new(
    const struct knit_options *options, const struct knit_registry_task *task);

/* Gives a request its outcome, in the place of the failure, which is TIMEOUT. late: NULL = none. */
void knit_late_answer(struct knit_caller *caller, uint32_t msgid, const struct knit_late *late,
    const struct knit_failure *failure);
