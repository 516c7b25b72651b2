/* SPDX-License-Identifier: Apache-2.0 */
/* The response was encoded when the request came, and is kept with the descriptors. */
#include "server/net/handover.h"

#include <errno.h>
#include <knitting/code.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "server/net/net.h"
#include "server/net/output.h"
#include "server/rpc/attach.h"

struct knit_handover {
    uint32_t msgid;
    struct knit_host_grant grant;
    size_t response_len;
    uint8_t response[];
};

int knit_handover_begin(struct knit_connection *connection, uint32_t msgid,
    struct knit_span response, const struct knit_host_grant *grant)
{
    struct knit_handover *handover = malloc(sizeof(*handover) + response.len);

    if (handover == NULL)
        return -ENOMEM;
    handover->msgid = msgid;
    handover->grant = *grant;
    handover->response_len = response.len;
    memcpy(handover->response, response.bytes, response.len);
    connection->handover = handover;
    knit_net_pause(connection, KNIT_PAUSE_HANDOVER);
    return 0;
}

void knit_handover_drop(struct knit_connection *connection)
{
    if (connection->handover == NULL)
        return;
    knit_host_grant_close(&connection->handover->grant);
    free(connection->handover);
    connection->handover = NULL;
}

/* Other callers do not read, so that too many descriptors are on their way; that passes. */
static void take_back(struct knit_connection *connection)
{
    uint32_t msgid = connection->handover->msgid;

    knit_handover_drop(connection);
    knit_attach_end(&connection->caller);
    knit_caller_refuse(&connection->caller, msgid, KNIT_OVERLOADED,
        "$/attach: too many descriptors of the daemon's user are on their way to other callers; "
        "try again");
}

void knit_handover_send(struct knit_connection *connection)
{
    const struct knit_handover *handover = connection->handover;
    const struct knit_host_grant *grant = &handover->grant;
    const int fds[KNIT_HOST_GRANT_FDS] = {
        grant->board_fd, grant->request_fd, grant->reply_fd, grant->bell_fd, grant->host_fd};
    const uint32_t count = grant->asks_host ? KNIT_HOST_GRANT_FDS : KNIT_HOST_GRANT_FDS - 1;
    struct knit_span response = knit_span(handover->response, handover->response_len);
    size_t sent;
    enum knit_transport_result result =
        knit_transport_send_descriptors(&connection->transport, response, fds, count, &sent);

    if (result == KNIT_TRANSPORT_WANT_WRITE) {
        if (event_add(&connection->output_event, NULL) < 0)
            knit_net_end_without_memory(connection);
        return;
    }
    if (result != KNIT_TRANSPORT_OK && result != KNIT_TRANSPORT_CROWDED) {
        knit_net_end(connection);
        return;
    }
    (void)event_del(&connection->output_event);
    if (result == KNIT_TRANSPORT_CROWDED) {
        take_back(connection);
    } else {
        if (sent < response.len)
            knit_output_message(
                connection, knit_span(handover->response + sent, response.len - sent));
        knit_handover_drop(connection);
    }
    knit_caller_unpause(&connection->caller, KNIT_PAUSE_HANDOVER);
}
