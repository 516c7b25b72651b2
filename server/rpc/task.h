/* SPDX-License-Identifier: Apache-2.0 */
/* Which task a message names. Callers name the same one again and again, so each remembers the
 * last.
 *
 * Threads: the caller's loop.
 */
#pragma once

#include "fastpath/control/registry.h"
#include "proto/message.h"
#include "server/rpc/router.h"

/* The task, if it is the one that the caller named last; else NULL. */
static inline const struct knit_registry_task *knit_task_named(
    const struct knit_caller *caller, const struct knit_method *method)
{
    const struct knit_registry_task *named = caller->named;
    bool is_it =
        named != NULL && caller->named_epoch == caller->router->epoch &&
        named->name_len == method->name.len && method->name.bytes != NULL &&
        knit_span_is_same(method->name.bytes, (const uint8_t *)named->name, named->name_len);

    return is_it ? named : NULL;
}

/* NULL: there is none. */
const struct knit_registry_task *knit_task_find(
    struct knit_caller *caller, const struct knit_method *method);
