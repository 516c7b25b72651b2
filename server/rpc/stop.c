/* SPDX-License-Identifier: Apache-2.0 */
/* The host finds the call, or says that it has ended, before a loop is told of it: so an address
 * that is out of date does nothing at all. One that no call has had is a mistake of whoever typed
 * it, and not out of date. */
#include "server/rpc/stop.h"

#include <stdio.h>

#include "fastpath/host/stop.h"
#include "proto/walk.h"
#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/rpc/router.h"

enum { GRACE_MS_MAX = 86400000 };

/* What an address is made of, at most. */
#define GEN_MAX ((UINT64_C(1) << 40) - 1)

/* [session, slot, generation], and with a grace a number of ms or nothing behind them. */
static bool read_params(
    struct knit_span params, struct knit_host_address *ret_call, bool has_grace, uint32_t *grace_ms)
{
    uint64_t numbers[4] = {0, 0, 0, *grace_ms};
    struct knit_walk walk;
    struct knit_item item;
    uint32_t count;

    if (knit_walk_array(&walk, params) != 0 || walk.left < 3 || walk.left > (has_grace ? 4 : 3))
        return false;
    count = (uint32_t)walk.left;
    for (uint32_t i = 0; i < count; i++)
        if (knit_walk_next(&walk, &item) != 0 || !knit_item_uint(&item, &numbers[i]))
            return false;
    if (numbers[1] > UINT32_MAX || numbers[2] > GEN_MAX || numbers[3] > GRACE_MS_MAX)
        return false;
    *ret_call = (struct knit_host_address){numbers[0], (uint32_t)numbers[1], numbers[2]};
    *grace_ms = (uint32_t)numbers[3];
    return true;
}

static void say(
    const struct knit_caller *caller, const char *text, const struct knit_host_address *call)
{
    if (!knit_turn_may_say(caller->turn, KNIT_LOG_STOP))
        return;
    knit_log(caller->turn->log, KNIT_LOG_INFO, text,
        KNIT_LOG_TEXT("principal", caller->principal->name),
        KNIT_LOG_NUMBER("session", call->session), KNIT_LOG_NUMBER("slot", call->slot),
        KNIT_LOG_NUMBER("generation", call->gen), KNIT_LOG_CALLER(caller));
}

static void stop(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_host_address *call, const uint32_t *grace_ms)
{
    static const uint8_t truths[] = {0xc2, 0xc3};
    const struct knit_router_backend *backend = caller->router->backend;
    enum knit_host_stop_outcome outcome = knit_host_stop(backend->pool, call, grace_ms);

    if (outcome == KNIT_HOST_STOP_FULL) {
        knit_caller_refuse(caller, message->msgid, KNIT_QUOTA,
            "as many calls as can be waited for are asked to stop already");
        return;
    }
    if (outcome == KNIT_HOST_STOP_NEVER) {
        knit_caller_refuse(
            caller, message->msgid, KNIT_BAD_ARGUMENT, "no call has had this address");
        return;
    }
    if (outcome == KNIT_HOST_STOP_ASKED) {
        say(caller, grace_ms != NULL ? "a call is to be killed" : "a call is to stop", call);
        if (backend->tell_stop != NULL)
            backend->tell_stop(backend->arg, call);
    }
    caller->ops->reply(
        caller, message->msgid, knit_span(&truths[outcome == KNIT_HOST_STOP_ASKED], 1));
}

void knit_stop_handle(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_host_address call;
    uint32_t unused = 0;

    if (!read_params(message->params, &call, false, &unused))
        knit_caller_refuse(caller, message->msgid, KNIT_BAD_ARGUMENT,
            "$/stop: expected [session, slot, generation]");
    else
        stop(caller, message, &call, NULL);
}

void knit_kill_handle(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_host_address call;
    uint32_t grace_ms = (uint32_t)caller->turn->settings->abort_grace_ms;

    if (!read_params(message->params, &call, true, &grace_ms))
        knit_caller_refuse(caller, message->msgid, KNIT_BAD_ARGUMENT,
            "$/kill: expected [session, slot, generation, ms of grace]");
    else
        stop(caller, message, &call, &grace_ms);
}
