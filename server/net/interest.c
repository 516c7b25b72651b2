/* SPDX-License-Identifier: Apache-2.0 */
/* Input is an event of libevent, the end and errors alone are reported by the hang-up monitor. */
#include "server/net/interest.h"

void knit_interest_set(struct knit_connection *connection, enum knit_interest wanted)
{
    struct knit_net *net = connection->net;
    int r = 0;

    if (connection->interest == KNIT_INTEREST_INPUT)
        (void)event_del(&connection->input_event);
    else if (connection->interest != KNIT_INTEREST_NOTHING)
        knit_hangup_remove(&net->hangups, connection->transport.fd);
    connection->interest = KNIT_INTEREST_NOTHING;
    if (wanted == KNIT_INTEREST_INPUT)
        r = event_add(&connection->input_event, NULL);
    else if (wanted != KNIT_INTEREST_NOTHING)
        r = knit_hangup_add(
            &net->hangups, connection->transport.fd, connection, wanted == KNIT_INTEREST_END);
    if (r < 0)
        knit_net_end_without_memory(connection);
    else
        connection->interest = wanted;
}
