/* SPDX-License-Identifier: Apache-2.0 */
/* Policy is asked before anything is made, here and nowhere else. With the reply go, in this order:
 * board (read-only), request segment, reply segment (read-only), bell; with asks_host an eventfd.
 */
#include "server/rpc/attach.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "fastpath/lane/clock.h"
#include "proto/attach.h"
#include "server/policy/access.h"
#include "server/rpc/router.h"

/* NULL, or what is wrong with the params. */
static const char *read_request(struct knit_span params, struct knit_attach_request *ret_request)
{
    const char *reason;

    if (knit_attach_request_decode(params, ret_request, &reason) != 0)
        return reason;
    if (ret_request->version != KNIT_LAYOUT_VERSION)
        return "$/attach: the caller's library has another layout of shared memory than this "
               "daemon; install the same version of both";
    return NULL;
}

/* Callers choose lanes themselves, and are to choose as the daemon's loops do. */
static const char *const balancers[] = {
    [KNIT_BALANCER_CHOICE_ROUND_ROBIN] = "roundRobin",
    [KNIT_BALANCER_CHOICE_FIRST_IDLE] = "firstIdle",
    [KNIT_BALANCER_CHOICE_RANDOM_LANE] = "randomLane",
    [KNIT_BALANCER_CHOICE_FIRST_IDLE_OR_RANDOM] = "firstIdleOrRandom",
    [KNIT_BALANCER_CHOICE_LEAST_LOADED] = "leastLoaded",
};

static int encode(struct knit_buffer *response, uint32_t msgid, const struct knit_host_grant *grant,
    uint64_t balancer)
{
    const struct knit_attach_reply reply = {
        .layout = grant->geometry.version,
        .id = grant->id,
        .lanes = grant->geometry.lanes,
        .slots = grant->geometry.slots,
        .cells = grant->geometry.cells,
        .request_arena_bytes = grant->geometry.request_arena_bytes,
        .reply_arena_bytes = grant->geometry.reply_arena_bytes,
        .call_max_bytes = grant->call_max_bytes,
        .features = grant->geometry.features,
        .classes = grant->geometry.classes,
        .steal = grant->steal,
        .asks_host = grant->asks_host,
        .balancer = knit_span_text(balancers[balancer]),
        .clock = knit_clock_difference(),
    };

    (void)knit_message_put_response_head(response, msgid);
    return knit_attach_reply_put(response, &reply);
}

/* The code of a pool that cannot give a session. */
static uint32_t code_of(int error)
{
    switch (error) {
    case KNIT_HOST_E_CLOSED:
        return KNIT_DRAINING;
    case KNIT_HOST_E_SIZE:
        return KNIT_BAD_ARGUMENT;
    case KNIT_HOST_E_SESSIONS:
    case KNIT_HOST_E_UID_SESSIONS:
    case KNIT_HOST_E_SESSIONS_KEPT:
    case KNIT_HOST_E_MEMORY:
    case KNIT_HOST_E_DEPARTED:
        return KNIT_QUOTA;
    default:
        return KNIT_INTERNAL;
    }
}

static void refuse(struct knit_caller *caller, uint32_t msgid, uint32_t code, const char *reason)
{
    if (knit_turn_may_say(caller->turn, KNIT_LOG_ATTACH))
        knit_log(caller->turn->log, KNIT_LOG_WARNING, "attach refused",
            KNIT_LOG_TEXT("reason", reason), KNIT_LOG_CALLER(caller));
    knit_caller_refuse(caller, msgid, code, reason);
}

/* A limit is named with its number and its setting. */
static void refuse_pool(struct knit_caller *caller, uint32_t msgid, int error)
{
    const char *reason = error > 0 ? knit_host_reason(error) : strerror(-error);
    char text[160];

    if (error == KNIT_HOST_E_UID_SESSIONS)
        (void)snprintf(text, sizeof(text), "%s: %llu, by sessions_per_user", reason,
            (unsigned long long)caller->turn->settings->sessions_per_user);
    else if (error == KNIT_HOST_E_SESSIONS || error == KNIT_HOST_E_SESSIONS_KEPT)
        (void)snprintf(text, sizeof(text), "%s: there are %u for all", reason,
            knit_host_sessions_max(caller->router->backend->pool));
    else
        (void)snprintf(text, sizeof(text), "%s", reason);
    refuse(caller, msgid, code_of(error), text);
}

/* NULL when the caller may attach. */
static const char *why_not(const struct knit_caller *caller)
{
    if (!caller->takes_descriptors)
        return "$/attach works on a unix socket alone: shared memory does not reach further";
    if (caller->session_id != 0)
        return "$/attach: this connection has a session already";
    if (!knit_access_may_attach(caller->router->backend->access, &caller->credentials))
        return "$/attach: server.attach_users and server.attach_groups of the daemon let others "
               "call through shared memory, not this user; unix:// is open to it";
    if (knit_quota_has_rates(&caller->principal->quota))
        return "$/attach: the policy limits the caller's calls or bytes a second, which are not "
               "counted in shared memory; unix:// is open to it";
    return NULL;
}

static int hand_over(struct knit_caller *caller, uint32_t msgid, struct knit_span response,
    const struct knit_host_grant *grant)
{
    const int fds[KNIT_HOST_GRANT_FDS] = {
        grant->board_fd, grant->request_fd, grant->reply_fd, grant->bell_fd, grant->host_fd};

    return caller->ops->hand_over(caller, msgid, response, fds,
        grant->asks_host ? KNIT_HOST_GRANT_FDS : KNIT_HOST_GRANT_FDS - 1);
}

/* How many it may ask for, of what its principal may have. False: none, and it is refused. */
static bool take_slots(struct knit_caller *caller, uint32_t msgid, uint64_t asked)
{
    const uint64_t most = caller->turn->settings->slots;
    struct knit_quota *quota = &caller->principal->quota;

    caller->session_slots =
        knit_quota_take_slots(quota, (uint32_t)(asked == 0 || asked > most ? most : asked));
    if (caller->session_slots != 0)
        return true;
    refuse(caller, msgid, KNIT_QUOTA,
        "$/attach: the caller's sessions have all slots that its limit allows (calls_in_flight)");
    return false;
}

static void give_back_slots(struct knit_caller *caller)
{
    if (caller->session_slots == 0)
        return;
    knit_quota_give_back_slots(&caller->principal->quota, caller->session_slots);
    caller->session_slots = 0;
}

static void attach(
    struct knit_caller *caller, uint32_t msgid, const struct knit_attach_request *request)
{
    const struct knit_credentials *ids = &caller->credentials;
    struct knit_host_peer peer = {.uid = ids->uid,
        .gid = ids->gid,
        .pid = ids->pid,
        .right = caller->router->backend->policy != NULL ? &caller->principal->right : NULL,
        .principal = caller->principal->number,
        .weight = &caller->principal->quota.weight};
    const struct knit_host_ask ask = {.slots = caller->session_slots,
        .arena_bytes = request->arena_bytes,
        .features = request->features,
        .classes = request->classes};
    struct knit_buffer *scratch = &caller->turn->scratch;
    struct knit_host_grant grant;
    int r = knit_host_attach(caller->router->backend->pool, &peer, &ask, &grant);

    if (r != 0) {
        give_back_slots(caller);
        refuse_pool(caller, msgid, r);
        return;
    }
    caller->session_id = grant.id;
    knit_buffer_reset(scratch);
    r = encode(scratch, msgid, &grant, caller->turn->settings->balancer);
    if (r == 0)
        r = hand_over(caller, msgid, knit_buffer_span(scratch), &grant);
    if (r != 0) {
        knit_host_grant_close(&grant);
        knit_attach_end(caller);
        refuse(caller, msgid, KNIT_INTERNAL, "out of memory");
    }
}

void knit_attach_handle(struct knit_caller *caller, const struct knit_message *message)
{
    struct knit_attach_request request;
    const char *reason;

    if (message->kind != KNIT_MESSAGE_REQUEST) {
        KNIT_COUNT(caller->turn, notifications_dropped);
        return;
    }
    reason = why_not(caller);
    if (reason != NULL) {
        refuse(caller, message->msgid, KNIT_DENIED, reason);
        return;
    }
    reason = read_request(message->params, &request);
    if (reason != NULL)
        refuse(caller, message->msgid, KNIT_BAD_ARGUMENT, reason);
    else if (take_slots(caller, message->msgid, request.slots))
        attach(caller, message->msgid, &request);
}

static void answer_attached(struct knit_caller *caller, uint32_t msgid)
{
    uint8_t bytes[KNIT_ATTACHED_REPLY_BYTES_MAX];
    struct knit_buffer result;

    knit_buffer_init_fixed(&result, bytes, sizeof(bytes));
    (void)knit_attached_reply_put(&result, knit_clock_difference());
    caller->ops->reply(caller, msgid, knit_buffer_span(&result));
}

void knit_attach_confirm(struct knit_caller *caller, const struct knit_message *message)
{
    bool is_request = message->kind == KNIT_MESSAGE_REQUEST;
    int r;

    if (caller->session_id == 0) {
        if (is_request)
            knit_caller_refuse(
                caller, message->msgid, KNIT_DENIED, "$/attached: this connection has no session");
        else
            KNIT_COUNT(caller->turn, notifications_dropped);
        return;
    }
    r = knit_host_attached(caller->router->backend->pool, caller->session_id);
    if (is_request && r != 0)
        knit_caller_refuse(
            caller, message->msgid, KNIT_DENIED, r > 0 ? knit_host_reason(r) : strerror(-r));
    else if (is_request)
        answer_attached(caller, message->msgid);
}

void knit_attach_end(struct knit_caller *caller)
{
    if (caller->session_id != 0)
        knit_host_detach(caller->router->backend->pool, caller->session_id);
    caller->session_id = 0;
    give_back_slots(caller);
}
