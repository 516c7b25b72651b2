/* SPDX-License-Identifier: Apache-2.0 */
/* A connection that begins to read a long message is charged with the longest message at once. If
 * it were charged piece by piece, many connections could each hold a part of what they need, and
 * none could go on. So a connection that waits for budget holds next to none of it.
 *
 * The list of charged connections is in the order of `progress_ns`, so the search for a silent one
 * ends at the first that is not. What cannot be refused (knit_input_keep()) stays within half of
 * the budget and one read, and the settings leave more than the longest message beside that.
 */
#include "server/net/input.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/net.h"

enum {
    OWN_MIN = 64 * 1024,
    /* A connection is silent that sends less in SILENT_NS than this, and than this part of what it
     * is charged with. */
    SILENT_NS = 1000 * 1000 * 1000,
    PROGRESS_BYTES = 64 * 1024,
    PROGRESS_PART = 16,
    WOKEN_A_SWEEP = 64,
};

void knit_inputs_init(struct knit_inputs *inputs)
{
    inputs->charged_bytes = 0;
    TAILQ_INIT(&inputs->large);
    TAILQ_INIT(&inputs->waiting_for_budget);
}

/* What must come before it counts as progress. */
static size_t progress_bytes(const struct knit_input *input)
{
    size_t part = input->charged_bytes / PROGRESS_PART;

    return part > PROGRESS_BYTES ? part : PROGRESS_BYTES;
}

static void enter(struct knit_connection *connection)
{
    connection->input.progress_ns = connection->net->turn->now_ns;
    connection->input.progress_bytes = 0;
    TAILQ_INSERT_TAIL(&connection->net->inputs.large, connection, in_large);
    connection->lists |= KNIT_IN_LARGE;
}

static void leave(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_LARGE)
        TAILQ_REMOVE(&connection->net->inputs.large, connection, in_large);
    connection->lists &= (uint16_t)~KNIT_IN_LARGE;
}

static void leave_waiting_for_budget(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_WAITING_FOR_BUDGET)
        TAILQ_REMOVE(
            &connection->net->inputs.waiting_for_budget, connection, in_waiting_for_budget);
    connection->lists &= (uint16_t)~KNIT_IN_WAITING_FOR_BUDGET;
}

/* There may be budget again for some. */
static void wake(struct knit_net *net, unsigned count)
{
    struct knit_connection *connection;

    while (count-- > 0 && (connection = TAILQ_FIRST(&net->inputs.waiting_for_budget)) != NULL) {
        leave_waiting_for_budget(connection);
        connection->input.began_ns = net->turn->now_ns;
        knit_input_touch(connection, progress_bytes(&connection->input));
        knit_caller_unpause(&connection->caller, KNIT_PAUSE_BUDGET);
    }
}

static size_t charge_of(size_t capacity)
{
    return capacity > KNIT_INPUT_FREE_BYTES ? capacity : 0;
}

static void charge(struct knit_connection *connection, size_t bytes)
{
    struct knit_net *net = connection->net;
    struct knit_input *input = &connection->input;
    size_t before = input->charged_bytes;

    input->charged_bytes = bytes;
    net->inputs.charged_bytes += bytes - before;
    if (bytes > 0 && !(connection->lists & KNIT_IN_LARGE)) {
        input->began_ns = net->turn->now_ns;
        net->turn->needs_sweep = true;
        enter(connection);
    } else if (bytes == 0) {
        leave(connection);
    }
    if (bytes < before)
        wake(net, 1);
}

/* The daemon itself does not read it just now. */
static bool is_held_up(const struct knit_connection *connection)
{
    return connection->caller.pauses & (KNIT_PAUSE_SLOT | KNIT_PAUSE_TURN | KNIT_PAUSE_BUDGET);
}

/* A connection to close so that another one gets its budget, or NULL. */
static struct knit_connection *find_silent(const struct knit_connection *other)
{
    struct knit_net *net = other->net;
    struct knit_connection *connection;

    TAILQ_FOREACH(connection, &net->inputs.large, in_large)
    {
        if (net->turn->now_ns - connection->input.progress_ns < SILENT_NS)
            return NULL;
        if (connection != other && !is_held_up(connection))
            return connection;
    }
    return NULL;
}

static void drop(struct knit_connection *connection, const char *message)
{
    struct knit_net *net = connection->net;

    KNIT_COUNT(net->turn, inputs_dropped);
    if (knit_turn_may_warn(net->turn))
        knit_log(net->turn->log, KNIT_LOG_WARNING, message,
            KNIT_LOG_NUMBER("bytes", connection->input.charged_bytes),
            KNIT_LOG_NUMBER(
                "silent_ms", (net->turn->now_ns - connection->input.progress_ns) / 1000000),
            KNIT_LOG_NUMBER("fd", connection->transport.fd), KNIT_LOG_CALLER(&connection->caller));
    knit_net_end(connection);
}

static int make_room(struct knit_connection *connection, size_t bytes)
{
    struct knit_net *net = connection->net;
    struct knit_inputs *inputs = &net->inputs;
    size_t more = bytes - connection->input.charged_bytes;

    while (inputs->charged_bytes + more > net->turn->settings->input_max_bytes) {
        struct knit_connection *silent = find_silent(connection);

        if (silent == NULL) {
            KNIT_COUNT(net->turn, waits_for_room);
            TAILQ_INSERT_TAIL(&inputs->waiting_for_budget, connection, in_waiting_for_budget);
            connection->lists |= KNIT_IN_WAITING_FOR_BUDGET;
            knit_net_pause(connection, KNIT_PAUSE_BUDGET);
            net->turn->needs_sweep = true;
            return KNIT_INPUT_E_LATER;
        }
        drop(silent, "connection closed: others need the room its input takes");
    }
    return 0;
}

/* Messages that are not whole after message_max_s, whatever their rate: many that trickle would
 * otherwise keep the budget for ever. */
static void close_overdue(struct knit_net *net)
{
    uint64_t most_ns = net->turn->settings->message_max_s * UINT64_C(1000000000);
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&net->inputs.large); connection != NULL; connection = next) {
        next = TAILQ_NEXT(connection, in_large);
        if (!connection->has_message && !is_held_up(connection) &&
            net->turn->now_ns - connection->input.began_ns >= most_ns)
            drop(connection, "connection closed: its message took too long");
    }
}

void knit_inputs_sweep(struct knit_net *net)
{
    close_overdue(net);
    wake(net, WOKEN_A_SWEEP);
}

size_t knit_input_room(const struct knit_connection *connection, size_t wanted)
{
    const struct knit_net *net = connection->net;

    if (wanted <= KNIT_INPUT_COPIED_MAX ||
        (net->inputs.charged_bytes <= net->turn->settings->input_max_bytes / 2 &&
            !knit_net_is_crowded(net)))
        return wanted;
    return KNIT_INPUT_COPIED_MAX;
}

int knit_input_grow(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;
    size_t capacity = input->capacity < OWN_MIN ? OWN_MIN : input->capacity * 2;
    size_t most = connection->net->turn->settings->message_max_bytes, reserved;
    uint8_t *bytes;
    int r;

    if (input->len < input->capacity)
        return 0;
    /* A longer message is refused and not kept. */
    if (capacity > most && most > input->capacity)
        capacity = most;
    reserved = capacity > most ? capacity : most;
    if (reserved > input->charged_bytes) {
        r = make_room(connection, reserved);
        if (r != 0)
            return r;
        charge(connection, reserved);
    }
    bytes = realloc(input->bytes, capacity);
    if (bytes == NULL)
        return -ENOMEM;
    input->bytes = bytes;
    input->capacity = capacity;
    return 0;
}

int knit_input_keep(struct knit_connection *connection, const uint8_t *bytes, size_t len)
{
    struct knit_input *input = &connection->input;

    if (len > input->capacity) {
        uint8_t *larger = realloc(input->bytes, len);

        if (larger == NULL)
            return -ENOMEM;
        input->bytes = larger;
        input->capacity = len;
        charge(connection, charge_of(len));
    }
    if (len > 0)
        memcpy(input->bytes, bytes, len);
    input->len = len;
    if (len == 0)
        knit_input_free(connection);
    return 0;
}

void knit_input_drop_front(struct knit_connection *connection, size_t len)
{
    struct knit_input *input = &connection->input;

    input->len -= len;
    if (len > 0)
        input->began_ns = connection->net->turn->now_ns;
    if (input->len == 0) {
        knit_input_free(connection);
        return;
    }
    if (len > 0)
        memmove(input->bytes, input->bytes + len, input->len);
    /* It does not grow before the message at its front is gone. */
    if (connection->has_message)
        charge(connection, charge_of(input->capacity));
}

void knit_input_touch(struct knit_connection *connection, size_t len)
{
    connection->input.progress_bytes += len;
    if (!(connection->lists & KNIT_IN_LARGE) ||
        connection->input.progress_bytes < progress_bytes(&connection->input))
        return;
    leave(connection);
    enter(connection);
}

void knit_input_uncharge(struct knit_connection *connection)
{
    leave_waiting_for_budget(connection);
    charge(connection, 0);
}

void knit_input_free(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;

    free(input->bytes);
    input->bytes = NULL;
    input->len = input->capacity = 0;
    charge(connection, 0);
}
