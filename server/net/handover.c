/* SPDX-License-Identifier: Apache-2.0 */
/* The response was encoded when the request came, and is kept with the descriptors. */
#include "server/net/handover.h"

#include <assert.h>
#include <errno.h>
#include <knitting/code.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "server/net/net.h"
#include "server/net/output.h"
#include "server/rpc/attach.h"
#include "server/rpc/takeover.h"

struct knit_handover {
    uint32_t msgid;
    int fds[KNIT_TRANSPORT_DESCRIPTORS_MAX];
    uint32_t count;
    size_t response_len;
    uint8_t response[];
};

int knit_handover_begin(struct knit_connection *connection, uint32_t msgid,
    struct knit_span response, const int *fds, uint32_t count)
{
    struct knit_handover *handover = malloc(sizeof(*handover) + response.len);

    if (handover == NULL)
        return -ENOMEM;
    handover->msgid = msgid;
    assert(count > 0 && count <= KNIT_TRANSPORT_DESCRIPTORS_MAX);
    memcpy(handover->fds, fds, count * sizeof(*fds));
    handover->count = count;
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
    for (uint32_t i = 0; i < connection->handover->count; i++)
        (void)close(connection->handover->fds[i]);
    free(connection->handover);
    connection->handover = NULL;
}

/* Other callers do not read, so that too many descriptors are on their way; that passes. */
static void take_back(struct knit_connection *connection)
{
    uint32_t msgid = connection->handover->msgid;

    knit_handover_drop(connection);
    knit_attach_end(&connection->caller);
    knit_takeover_end(&connection->caller);
    knit_caller_refuse(&connection->caller, msgid, KNIT_OVERLOADED,
        "too many descriptors of the daemon's user are on their way to other callers; "
        "try again");
}

void knit_handover_send(struct knit_connection *connection)
{
    const struct knit_handover *handover = connection->handover;
    struct knit_span response = knit_span(handover->response, handover->response_len);
    size_t sent;
    enum knit_transport_result result = knit_transport_send_descriptors(
        &connection->transport, response, handover->fds, handover->count, &sent);

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
