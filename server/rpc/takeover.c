/* SPDX-License-Identifier: Apache-2.0 */
/* The result is the number of descriptors that go with it: the lock of the unix socket, the socket,
 * those of addresses. Their reader sees by each what it is.
 */
#include "server/rpc/takeover.h"

#include <knitting/code.h>
#include <unistd.h>

#include "proto/writer.h"
#include "server/base/log.h"
#include "server/rpc/router.h"

static const char *why_not(const struct knit_caller *caller)
{
    if (!caller->takes_descriptors)
        return "$/takeover works on a unix socket alone: no descriptor reaches further";
    if (caller->session_id != 0 || caller->takes_over)
        return "$/takeover: this connection has a session or the sockets already";
    return NULL;
}

static void hand_over(struct knit_caller *caller, uint32_t msgid, const int *fds, uint32_t count)
{
    struct knit_buffer *scratch = &caller->turn->scratch;
    struct knit_writer writer;

    knit_buffer_reset(scratch);
    (void)knit_message_put_response_head(scratch, msgid);
    knit_writer_init(&writer, scratch);
    knit_writer_uint(&writer, count);
    caller->takes_over = true;
    if (knit_writer_end(&writer) == 0 &&
        caller->ops->hand_over(caller, msgid, knit_buffer_span(scratch), fds, count) == 0) {
        knit_log(caller->turn->log, KNIT_LOG_INFO, "sockets handed over",
            KNIT_LOG_NUMBER("descriptors", count), KNIT_LOG_CALLER(caller));
        return;
    }
    for (uint32_t i = 0; i < count; i++)
        (void)close(fds[i]);
    knit_takeover_end(caller);
    knit_caller_refuse(caller, msgid, KNIT_INTERNAL, "out of memory");
}

void knit_takeover_handle(struct knit_caller *caller, const struct knit_message *message)
{
    const struct knit_router_backend *backend = caller->router->backend;
    int fds[KNIT_ROUTER_SOCKETS_MAX];
    const char *reason = why_not(caller);
    uint32_t count;

    if (message->kind != KNIT_MESSAGE_REQUEST) {
        KNIT_COUNT(caller->turn, notifications_dropped);
        return;
    }
    if (reason != NULL) {
        knit_caller_refuse(caller, message->msgid, KNIT_DENIED, reason);
        return;
    }
    count = backend->on_takeover(backend->arg, fds);
    if (count > 0)
        hand_over(caller, message->msgid, fds, count);
    else
        knit_caller_refuse(caller, message->msgid, KNIT_DRAINING,
            "$/takeover: another daemon takes over just now, or this one drains");
}

void knit_takeover_end(struct knit_caller *caller)
{
    const struct knit_router_backend *backend = caller->router->backend;

    if (caller->takes_over)
        backend->on_takeover_end(backend->arg);
    caller->takes_over = false;
}
