/* SPDX-License-Identifier: Apache-2.0 */
/* Asks for a caller's right, and says no in the policy's name.
 *
 * Threads: the caller's loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/rights.h"
#include "proto/message.h"
#include "server/rpc/caller.h"

/* Whether the caller may run the task. */
static inline bool knit_permit_task(const struct knit_caller *caller, uint32_t task)
{
    const struct knit_right *right = &caller->principal->right;

    if (knit_right_class(right) == KNIT_RIGHTS_ALL)
        return true;
    return caller->turn->rights != NULL && knit_right_allows(caller->turn->rights, right, task);
}

/* Whether it may know the names of tasks that it does not name itself. */
static inline bool knit_permit_sees_all(const struct knit_caller *caller)
{
    return knit_right_class(&caller->principal->right) == KNIT_RIGHTS_ALL;
}

/* Whether it may know that there is no such task: it could run one of that name. Who could not is
 * told the same as of a task that there is. */
KNIT_MUST_CHECK bool knit_permit_knows(
    const struct knit_caller *caller, const struct knit_method *method);

/* Whether it may use a method of the protocol. is_for_operators: without a policy it is for root
 * and the daemon's own user alone, who may use all. */
KNIT_MUST_CHECK bool knit_permit_method(
    const struct knit_caller *caller, const char *method, bool is_for_operators);

/* Refuses a call of the task, NULL: of one that there is not, as knit_permit_refuse() does. Its
 * caller is told no more than it has said itself; the log says which task it is. */
void knit_permit_refuse_task(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_registry_task *task);

/* Refuses a message with DENIED, counts it, and says so in the log, a few times a second. */
void knit_permit_refuse(
    struct knit_caller *caller, const struct knit_message *message, const char *name);
