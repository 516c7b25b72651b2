/* SPDX-License-Identifier: Apache-2.0 */
/* Calls with an idempotency key (keys.h), in a loop.
 *
 * Such a call is not its connection's: the record of its slot has the loop's *keeper* for its
 * caller, which gives the outcome to the window, and the window to all requests that wait for it.
 * So a call outlives the connection that it came by, and who cancels it or has waited long enough
 * leaves it alone. It is charged to the caller that began it, as long as that is there.
 *
 *     a request comes      knit_keyed_begin(): it begins the call, waits for it, has its outcome,
 *                          or is refused
 *     it is published      knit_keyed_publish(); not so: knit_keyed_withdraw(), and it comes again
 *     it ends              knit_keyed_end(), by the router; early, by the keeper's refuse()
 *
 * When the caller that began it is gone, and nobody else waits for it, it has as long as a
 * notification has then (notification_max_ms).
 *
 * Threads: its loop's.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/message.h"
#include "proto/options.h"
#include "server/rpc/caller.h"
#include "server/rpc/keys.h"
#include "server/rpc/router.h"

/* In place of a slot, in the table of a caller's calls in flight. */
#define KNIT_SLOT_KEYED (UINT32_MAX - 2)

/* The router, complete, from now on knows keys. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_keyed_add(
    struct knit_router *router, struct knit_keys *keys, void (*wake)(void *arg), void *arg);

/* All callers are gone. Accepts a router without keys. */
void knit_keyed_fini(struct knit_router *router);

struct knit_keyed_request {
    struct knit_caller *caller;
    const struct knit_message *message;
    const struct knit_options *options; /* with a key */
    const struct knit_registry_task *task;
    uint64_t since_ns; /* when it was read */
};

/* NULL: nothing more is to be done for the request. Else it is to be published now, or withdrawn.
 */
KNIT_MUST_CHECK struct knit_key *knit_keyed_begin(const struct knit_keyed_request *request);
void knit_keyed_publish(struct knit_router *router, struct knit_key *key, uint32_t msgid,
    struct knit_record *record, uint32_t slot);
void knit_keyed_withdraw(
    struct knit_caller *caller, struct knit_key *key, const struct knit_message *message);

/* The call in that slot has this outcome. */
void knit_keyed_end(struct knit_router *router, const struct knit_session_outcome *outcome);

/* Whether anybody waits for it. */
bool knit_keyed_is_awaited(struct knit_router *router, uint32_t slot);

/* Outcomes of calls that other loops run have come. */
void knit_keyed_take(struct knit_router *router);

/* `$/cancel` of a request that waits for one. */
void knit_keyed_cancel(struct knit_caller *caller, uint32_t msgid, struct knit_span reason);

/* Ends what is overdue, and lowers the router's next deadline. */
void knit_keyed_expire(struct knit_router *router);

/* Once a second: drops what is over. */
void knit_keyed_sweep(struct knit_router *router);

/* Whether requests wait for outcomes. */
bool knit_keyed_has_waiters(const struct knit_router *router);

/* No outcome will come: all that waits ends in SHUTDOWN. */
void knit_keyed_give_up(struct knit_router *router);

/* The caller is going. */
void knit_keyed_forget(struct knit_caller *caller);
