/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that is closing, or lingers for the peer's end, is stalled: the sweep ends it if it
 * makes no progress.
 */
#include "server/net/sending.h"

#include "proto/goaway.h"
#include "proto/message.h"
#include "server/net/handover.h"
#include "server/net/input.h"
#include "server/net/interest.h"
#include "server/net/lookahead.h"
#include "server/net/output.h"

void knit_sending_close(struct knit_connection *connection)
{
    if (connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return;
    connection->caller.pauses |= KNIT_PAUSE_CLOSING;
    connection->progress_ns = connection->net->turn->now_ns;
    knit_input_free(connection);
    knit_lookahead_forget(connection);
    knit_net_add_stalled(connection);
    knit_net_add_dirty(connection);
}

/* The output of a closing one has gone: shuts the sending side and waits for the peer's end. */
static void linger(struct knit_connection *connection)
{
    if (connection->is_lingering || connection->is_dead)
        return;
    if (connection->transport.ops->shut_down(&connection->transport) == KNIT_TRANSPORT_WANT_WRITE &&
        event_add(&connection->output_event, NULL) == 0)
        return;
    connection->is_lingering = true;
    connection->progress_ns = connection->net->turn->now_ns;
    knit_interest_set(connection, KNIT_INTEREST_INPUT);
    if (knit_transport_pending(&connection->transport))
        knit_net_add_ready(connection);
}

void knit_sending_flush(struct knit_connection *connection)
{
    if (connection->is_dead || knit_output_flush(connection) != KNIT_OUTPUT_EMPTY)
        return;
    if (connection->caller.pauses & KNIT_PAUSE_CLOSING)
        linger(connection);
    else if (connection->handover != NULL)
        knit_handover_send(connection);
}

void knit_sending_progress(struct knit_connection *connection, const struct knit_progress *progress)
{
    struct knit_buffer message;
    uint8_t memory[KNIT_PROGRESS_MESSAGE_MAX];

    knit_buffer_init_fixed(&message, memory, sizeof(memory));
    if (connection->caller.form == KNIT_FAILURE_FULL && !connection->is_dead &&
        knit_progress_put(&message, progress) == 0)
        knit_output_message(connection, knit_buffer_span(&message));
}

void knit_sending_goaway(struct knit_connection *connection, uint64_t drain_ms)
{
    const struct knit_method method = {.name = knit_span_text("$/goaway")};
    const struct knit_goaway goaway = {knit_span_text("the server is shutting down"), drain_ms};
    struct knit_buffer *scratch = &connection->net->turn->scratch;
    struct knit_buffer params;
    uint8_t memory[128];

    if (connection->caller.form != KNIT_FAILURE_FULL || connection->has_goaway ||
        connection->is_dead || connection->caller.pauses & KNIT_PAUSE_CLOSING)
        return;
    connection->has_goaway = true;
    knit_buffer_init_fixed(&params, memory, sizeof(memory));
    knit_buffer_reset(scratch);
    if (knit_goaway_put(&params, &goaway) == 0 &&
        knit_message_put_notification(scratch, &method, knit_buffer_span(&params)) == 0)
        knit_output_message(connection, knit_buffer_span(scratch));
}
