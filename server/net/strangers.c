/* SPDX-License-Identifier: Apache-2.0 */
/* The list is in the order in which they came. It is gone through to find whose place another
 * takes, which costs a microsecond or so for each stranger too many.
 */
#include "server/net/strangers.h"

#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/output.h"
#include "server/policy/principal.h"
#include "server/rpc/identify.h"

enum {
    STRANGERS_MAX = 256,
    STRANGER_BYTES = 64 * 1024,
    STRANGER_S = 10,
};

static void drop(struct knit_connection *connection, const char *reason)
{
    KNIT_COUNT(connection->net->turn, strangers_dropped);
    (void)knit_identify_note_failure(&connection->caller, reason);
    knit_net_end(connection);
}

/* The oldest one of those that have the most. */
static struct knit_connection *find_place(struct knit_net *net)
{
    struct knit_connection *connection, *found = TAILQ_FIRST(&net->strangers);

    TAILQ_FOREACH(connection, &net->strangers, in_strangers)
    if (connection->tenant->strangers > found->tenant->strangers)
        found = connection;
    return found;
}

static uint32_t most(const struct knit_net *net)
{
    uint64_t loops = net->turn->settings->threads_io;

    return loops > 1 ? (uint32_t)(STRANGERS_MAX / loops) : STRANGERS_MAX;
}

void knit_strangers_join(struct knit_connection *connection)
{
    struct knit_net *net = connection->net;

    if (!knit_principal_is_stranger(connection->caller.principal) || connection->is_dead)
        return;
    connection->is_stranger = true;
    connection->opened_ns = net->turn->now_ns;
    connection->stranger_bytes = connection->stranger_sent_bytes = 0;
    connection->tenant->strangers++;
    net->stranger_count++;
    TAILQ_INSERT_TAIL(&net->strangers, connection, in_strangers);
    net->turn->needs_sweep = true;
    if (net->stranger_count > most(net))
        drop(find_place(net), "others of whom nothing is known took its place");
}

void knit_strangers_leave(struct knit_connection *connection)
{
    if (!connection->is_stranger)
        return;
    connection->is_stranger = false;
    connection->tenant->strangers--;
    connection->net->stranger_count--;
    TAILQ_REMOVE(&connection->net->strangers, connection, in_strangers);
}

size_t knit_strangers_room(const struct knit_connection *connection)
{
    return STRANGER_BYTES - connection->stranger_bytes;
}

void knit_strangers_drop_sender(struct knit_connection *connection)
{
    drop(connection, "it sent 64 KiB and did not say who it is");
}

bool knit_strangers_admit(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_caller *caller = &connection->caller;

    if (knit_span_is(message->method.name, "$/hello") ||
        knit_span_is(message->method.name, "$/ping"))
        return true;
    KNIT_COUNT(caller->turn, strangers_refused);
    if (message->kind == KNIT_MESSAGE_REQUEST)
        knit_caller_refuse(caller, message->msgid, KNIT_UNAUTHENTICATED,
            "say who you are first: $/hello with a token");
    else
        KNIT_COUNT(caller->turn, notifications_dropped);
    return false;
}

void knit_strangers_settle(struct knit_connection *connection)
{
    if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return;
    if (!knit_principal_is_stranger(connection->caller.principal))
        knit_strangers_leave(connection);
    else if (connection->stranger_sent_bytes + knit_output_waiting(connection) > STRANGER_BYTES)
        drop(connection, "it asked for 64 KiB and did not say who it is");
}

void knit_strangers_sweep(struct knit_net *net)
{
    struct knit_connection *connection;

    while ((connection = TAILQ_FIRST(&net->strangers)) != NULL &&
           net->turn->now_ns - connection->opened_ns >= STRANGER_S * UINT64_C(1000000000))
        drop(connection, "it did not say who it is for ten seconds");
    if (!TAILQ_EMPTY(&net->strangers))
        net->turn->needs_sweep = true;
}
