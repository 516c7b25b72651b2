/* SPDX-License-Identifier: Apache-2.0 */
/* Refusals of calls that have no slot: each is counted where it belongs, told to whatever refers to
 * the call, and sent to its caller. A notification has no response, so its refusal is only counted.
 *
 * Threads: the caller's loop.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/control/registry.h"
#include "proto/failure.h"
#include "proto/message.h"
#include "proto/options.h"
#include "server/rpc/caller.h"

/* Whether the log should say that a call is refused so: of those for want of room, at a bounded
 * rate. */
KNIT_MUST_CHECK bool knit_refuse_may_say(
    struct knit_caller *caller, const struct knit_failure *failure);
void knit_refuse_say(const struct knit_caller *caller, const struct knit_message *message,
    const struct knit_failure *failure);

/* Says so, too. */
void knit_refuse_call(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_failure *failure);
void knit_refuse_with(struct knit_caller *caller, const struct knit_message *message, uint32_t code,
    const char *text);
void knit_refuse_unknown(struct knit_caller *caller, const struct knit_message *message);
void knit_refuse_too_large(struct knit_caller *caller, const struct knit_message *message);
/* Where its principal has used up what it may ask for. False: it has not. */
KNIT_MUST_CHECK bool knit_refuse_over_quota(
    struct knit_caller *caller, const struct knit_message *message);
/* queue_max of the settings. */
void knit_refuse_overloaded(struct knit_caller *caller, const struct knit_message *message);
/* It may not wait at all, and would have to. */
void knit_refuse_waiting(struct knit_caller *caller, const struct knit_message *message);
void knit_refuse_overdue(
    struct knit_caller *caller, const struct knit_message *message, const char *text);
/* The same where it is the timeout that has passed: the caller may get something else. */
void knit_refuse_late(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_options *options, const struct knit_registry_task *task, const char *text);

/* Whether more calls of the caller's are in flight than the call's option queue_max allows, and
 * what it is told then. */
KNIT_MUST_CHECK bool knit_call_is_beyond(const struct knit_caller *caller,
    const struct knit_options *options, uint64_t in_flight, struct knit_failure *ret_failure);
