/* SPDX-License-Identifier: Apache-2.0 */
/* Reading files and asking name services may take long, so no loop does it: the request waits
 * here. */
#include "server/rpc/reloads.h"

#include <stdlib.h>

#include "server/rpc/router.h"

enum { WAITING_MAX = 64 };

void knit_reloads_init(struct knit_reloads *reloads)
{
    *reloads = (struct knit_reloads){0};
    TAILQ_INIT(&reloads->waiting);
}

static void drop(struct knit_reloads *reloads, struct knit_reload_wait *wait)
{
    TAILQ_REMOVE(&reloads->waiting, wait, in_waiting);
    reloads->count--;
    free(wait);
}

void knit_reloads_handle(struct knit_caller *caller, const struct knit_message *message)
{
    const struct knit_router_backend *backend = caller->router->backend;
    struct knit_reloads *reloads = &caller->router->reloads;
    struct knit_reload_wait *wait;

    if (message->kind != KNIT_MESSAGE_REQUEST) {
        KNIT_COUNT(caller->turn, notifications_dropped);
        return;
    }
    if (reloads->count == WAITING_MAX || backend->ask_reload == NULL ||
        !backend->ask_reload(backend->arg, caller->turn->loop, reloads->ticket + 1)) {
        knit_caller_refuse(
            caller, message->msgid, KNIT_QUOTA, "$/reload: as many as may wait do already");
        return;
    }
    reloads->ticket++;
    wait = malloc(sizeof(*wait));
    if (wait == NULL) {
        caller->ops->close_without_memory(caller);
        return;
    }
    *wait = (struct knit_reload_wait){
        .caller = caller, .msgid = message->msgid, .ticket = reloads->ticket};
    TAILQ_INSERT_TAIL(&reloads->waiting, wait, in_waiting);
    reloads->count++;
}

void knit_reloads_answer(struct knit_router *router, uint32_t ticket, const char *reason)
{
    static const uint8_t nil = 0xc0;
    struct knit_reload_wait *wait;

    /* Tickets go on from the last number to 0. */
    while ((wait = TAILQ_FIRST(&router->reloads.waiting)) != NULL &&
           (int32_t)(wait->ticket - ticket) <= 0) {
        struct knit_caller *caller = wait->caller;
        uint32_t msgid = wait->msgid;

        drop(&router->reloads, wait);
        if (reason != NULL)
            knit_caller_refuse(caller, msgid, KNIT_BAD_ARGUMENT, reason);
        else
            caller->ops->reply(caller, msgid, knit_span(&nil, 1));
    }
}

void knit_reloads_forget(struct knit_caller *caller)
{
    struct knit_reloads *reloads = &caller->router->reloads;
    struct knit_reload_wait *wait, *next;

    for (wait = TAILQ_FIRST(&reloads->waiting); wait != NULL; wait = next) {
        next = TAILQ_NEXT(wait, in_waiting);
        if (wait->caller == caller)
            drop(reloads, wait);
    }
}
