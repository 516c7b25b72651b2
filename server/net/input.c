/* SPDX-License-Identifier: Apache-2.0 */
/* Half of a tenant's part of the budget is places, each for the longest message: one at least, for
 * which the settings' check leaves room. All else is the rest.
 *
 * From the rest comes what the daemon keeps because it waits for its turn, and, without waiting,
 * room for a message by what it announces and by twice what has come of it. When the rest does not
 * suffice, a place is needed and waited for. So a short message passes beside its tenant's long
 * ones; and as nothing in the rest takes a place away, a long one can always be read to its end. If
 * places were taken piece by piece, many connections could each hold a part of what they need, and
 * none could go on.
 *
 * The list of charged connections is in the order of `progress_ns`, so the search for a silent one
 * ends at the first that is not. What is taken without waiting leaves half of the budget of all.
 */
#include "server/net/input.h"

#include <errno.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "server/base/log.h"
#include "server/config/setting.h"
#include "server/net/lookahead.h"
#include "server/net/net.h"

enum {
    TENANT_PART = 4,                      /* of the budget, for all connections of a tenant */
    PLACE_MIN = 2 * KNIT_LOOKAHEAD_BYTES, /* it may come to this to look ahead */
    OWN_MIN = 64 * 1024,
    MOVED_MIN = 1024 * 1024,
    /* A connection is silent that sends less in SILENT_NS than this, and than this part of what it
     * is charged with. */
    SILENT_NS = 900 * 1000 * 1000, /* a sweep comes each second, and not the second one then */
    PROGRESS_BYTES = 64 * 1024,
    PROGRESS_PART = 16,
    WOKEN_A_SWEEP = 64,
};

/* The C library grows blocks of this size by moving their pages. Without the number it would learn
 * from the first that is freed to take the next ones from its heap, where growing them copies them.
 * This concerns the whole process, and may be done for each loop. */
static void grow_without_copies(void)
{
#ifdef M_MMAP_THRESHOLD
    (void)mallopt(M_MMAP_THRESHOLD, MOVED_MIN);
    (void)mallopt(M_TRIM_THRESHOLD, 2 * MOVED_MIN);
#endif
}

void knit_inputs_init(struct knit_inputs *inputs)
{
    grow_without_copies();
    inputs->charged_bytes = 0;
    TAILQ_INIT(&inputs->large);
    inputs->tenants = (struct knit_tenants){0};
    TAILQ_INIT(&inputs->waiting);
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

static void wait_for_budget(struct knit_connection *connection)
{
    struct knit_tenant *tenant = connection->tenant;
    struct knit_net *net = connection->net;

    if (TAILQ_EMPTY(&tenant->waiting))
        TAILQ_INSERT_TAIL(&net->inputs.waiting, tenant, in_waiting);
    TAILQ_INSERT_TAIL(&tenant->waiting, connection, in_waiting_for_budget);
    connection->lists |= KNIT_IN_WAITING_FOR_BUDGET;
    knit_net_pause(connection, KNIT_PAUSE_BUDGET);
    net->turn->needs_sweep = true;
    KNIT_COUNT(net->turn, waits_for_room);
}

static void leave_waiting_for_budget(struct knit_connection *connection)
{
    struct knit_tenant *tenant = connection->tenant;

    if (!(connection->lists & KNIT_IN_WAITING_FOR_BUDGET))
        return;
    connection->lists &= (uint16_t)~KNIT_IN_WAITING_FOR_BUDGET;
    TAILQ_REMOVE(&tenant->waiting, connection, in_waiting_for_budget);
    if (TAILQ_EMPTY(&tenant->waiting))
        TAILQ_REMOVE(&connection->net->inputs.waiting, tenant, in_waiting);
}

/* There may be budget again for the tenant's connection that waits longest. Then it is the turn of
 * the other tenants. */
static void wake_one_of(struct knit_net *net, struct knit_tenant *tenant)
{
    struct knit_connection *connection = TAILQ_FIRST(&tenant->waiting);

    if (connection == NULL)
        return;
    TAILQ_REMOVE(&net->inputs.waiting, tenant, in_waiting);
    TAILQ_INSERT_TAIL(&net->inputs.waiting, tenant, in_waiting);
    leave_waiting_for_budget(connection);
    connection->input.began_ns = net->turn->now_ns;
    knit_input_touch(connection, progress_bytes(&connection->input));
    knit_caller_unpause(&connection->caller, KNIT_PAUSE_BUDGET);
}

/* What connections of one tenant may be charged with together. */
static size_t tenant_most(const struct knit_net *net)
{
    return net->turn->settings->input_max_bytes / TENANT_PART;
}

static size_t place_bytes(const struct knit_net *net)
{
    size_t most = net->turn->settings->message_max_bytes;

    return most > PLACE_MIN ? most : PLACE_MIN;
}

static size_t places_of_tenant(const struct knit_net *net)
{
    size_t places = tenant_most(net) / 2 / place_bytes(net);

    return places > 0 ? places : 1;
}

/* What there is too little of for one of the tenant's connections that needs a place. */
enum lack {
    LACK_NOTHING,
    LACK_PLACES, /* others of the tenant have them */
    LACK_PART,   /* the tenant has as much as it may have */
    LACK_BUDGET,
};

/* For a place so much more would be charged. */
static enum lack lack_of_place(
    const struct knit_net *net, const struct knit_tenant *tenant, size_t more)
{
    if (tenant->places >= places_of_tenant(net))
        return LACK_PLACES;
    if (tenant->charged_bytes + more > tenant_most(net))
        return LACK_PART;
    return net->inputs.charged_bytes + more > net->turn->settings->input_max_bytes ? LACK_BUDGET
                                                                                   : LACK_NOTHING;
}

/* The tenant has given budget back: another of its connections may go on, or one of another
 * tenant. */
static void wake_after(struct knit_net *net, struct knit_tenant *giver)
{
    struct knit_tenant *tenant;

    wake_one_of(net, giver);
    TAILQ_FOREACH(tenant, &net->inputs.waiting, in_waiting)
    if (lack_of_place(net, tenant, place_bytes(net)) == LACK_NOTHING)
        break;
    if (tenant != NULL)
        wake_one_of(net, tenant);
}

/* For its lookahead and for the bytes it has or will have. */
static size_t charge_of(size_t reserved, size_t ahead)
{
    size_t bytes = reserved + ahead;

    return bytes > KNIT_INPUT_FREE_BYTES ? bytes : 0;
}

static void charge(struct knit_connection *connection, size_t reserved, size_t ahead)
{
    struct knit_net *net = connection->net;
    struct knit_input *input = &connection->input;
    struct knit_tenant *tenant = connection->tenant;
    size_t before = input->charged_bytes, bytes = charge_of(reserved, ahead);

    input->reserved_bytes = reserved;
    input->ahead_bytes = ahead;
    input->charged_bytes = bytes;
    net->inputs.charged_bytes += bytes - before;
    tenant->charged_bytes += bytes - before;
    if (!input->has_place)
        tenant->rest_bytes += bytes - before;
    if (bytes > 0 && !(connection->lists & KNIT_IN_LARGE)) {
        input->began_ns = net->turn->now_ns;
        net->turn->needs_sweep = true;
        enter(connection);
    } else if (bytes == 0) {
        leave(connection);
    }
    if (bytes < before)
        wake_after(net, connection->tenant);
}

/* The daemon itself does not read it just now. */
static bool is_held_up(const struct knit_connection *connection)
{
    return connection->caller.pauses & (KNIT_PAUSE_SLOT | KNIT_PAUSE_TURN | KNIT_PAUSE_BUDGET);
}

static bool would_help(
    const struct knit_connection *connection, const struct knit_tenant *tenant, enum lack lack)
{
    if (lack == LACK_BUDGET)
        return true;
    return connection->tenant == tenant && (lack == LACK_PART || connection->input.has_place);
}

/* A connection to close so that another one gets what it lacks, or NULL. */
static struct knit_connection *find_silent(const struct knit_connection *other, enum lack lack)
{
    struct knit_net *net = other->net;
    struct knit_connection *connection;

    TAILQ_FOREACH(connection, &net->inputs.large, in_large)
    {
        if (net->turn->now_ns - connection->input.progress_ns < SILENT_NS)
            return NULL;
        if (connection != other && !is_held_up(connection) &&
            would_help(connection, other->tenant, lack))
            return connection;
    }
    return NULL;
}

static void drop(struct knit_connection *connection, const char *message)
{
    struct knit_net *net = connection->net;

    KNIT_COUNT(net->turn, inputs_dropped);
    if (knit_turn_may_say(net->turn, KNIT_LOG_SLOW_INPUT))
        knit_log(net->turn->log, KNIT_LOG_WARNING, message,
            KNIT_LOG_NUMBER("bytes", connection->input.charged_bytes),
            KNIT_LOG_NUMBER(
                "silent_ms", (net->turn->now_ns - connection->input.progress_ns) / 1000000),
            KNIT_LOG_NUMBER("fd", connection->transport.fd), KNIT_LOG_CALLER(&connection->caller));
    knit_net_end(connection);
}

static int make_place(struct knit_connection *connection, size_t bytes)
{
    size_t more = bytes - connection->input.charged_bytes;
    enum lack lack;

    while ((lack = lack_of_place(connection->net, connection->tenant, more)) != LACK_NOTHING) {
        struct knit_connection *silent = find_silent(connection, lack);

        if (silent == NULL) {
            wait_for_budget(connection);
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
    struct knit_tenant *tenant;

    close_overdue(net);
    for (unsigned i = 0; i < WOKEN_A_SWEEP && (tenant = TAILQ_FIRST(&net->inputs.waiting)) != NULL;
         i++)
        wake_one_of(net, tenant);
}

static size_t less(size_t from, size_t bytes)
{
    return from > bytes ? from - bytes : 0;
}

/* What may be charged without waiting for it. */
static size_t spare_bytes(const struct knit_connection *connection)
{
    const struct knit_net *net = connection->net;
    size_t of_all = less(net->turn->settings->input_max_bytes / 2, net->inputs.charged_bytes);
    size_t of_tenant = less(tenant_most(net),
        places_of_tenant(net) * place_bytes(net) + connection->tenant->rest_bytes);

    return of_all < of_tenant ? of_all : of_tenant;
}

static bool is_spared(const struct knit_connection *connection, size_t reserved, size_t ahead)
{
    size_t bytes = charge_of(reserved, ahead), before = connection->input.charged_bytes;

    return bytes <= before || bytes - before <= spare_bytes(connection);
}

bool knit_input_look_ahead(struct knit_connection *connection, size_t bytes)
{
    size_t reserved = connection->input.reserved_bytes;

    if (!is_spared(connection, reserved, bytes))
        return false;
    charge(connection, reserved, bytes);
    return true;
}

size_t knit_input_room(const struct knit_connection *connection, size_t wanted)
{
    const struct knit_net *net = connection->net;
    size_t spare;

    if (wanted <= KNIT_INPUT_COPIED_MAX || knit_net_is_crowded(net))
        return wanted < KNIT_INPUT_COPIED_MAX ? wanted : KNIT_INPUT_COPIED_MAX;
    /* It is charged with what it holds already, too. One alone needs nobody's leave. */
    spare = connection->tenant->charged_bytes == connection->input.charged_bytes
                ? less(tenant_most(net), connection->input.charged_bytes)
                : spare_bytes(connection);
    spare = less(spare, KNIT_INPUT_FREE_BYTES);
    if (spare >= wanted)
        return wanted;
    return spare > KNIT_INPUT_COPIED_MAX ? spare : KNIT_INPUT_COPIED_MAX;
}

static void take_place(struct knit_connection *connection, size_t reserved)
{
    struct knit_input *input = &connection->input;

    if (!input->has_place) {
        connection->tenant->places++;
        connection->tenant->rest_bytes -= input->charged_bytes;
        input->has_place = true;
    }
    charge(connection, reserved, input->ahead_bytes);
}

/* What it is charged with comes from the rest again. */
static void leave_place(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;

    if (!input->has_place)
        return;
    connection->tenant->places--;
    connection->tenant->rest_bytes += input->charged_bytes;
    input->has_place = false;
}

/* Room for `capacity` bytes of the message at the front at least. Returns 0, E_LATER. */
static int reserve(struct knit_connection *connection, size_t capacity)
{
    const struct knit_net *net = connection->net;
    struct knit_input *input = &connection->input;
    size_t most = net->turn->settings->message_max_bytes;
    uint64_t announced = knit_scan_least_bytes(&connection->scan);
    size_t wanted = announced < most ? (size_t)announced : most;
    int r;

    if (wanted < capacity)
        wanted = capacity;
    if (wanted <= input->reserved_bytes)
        return 0;
    if (!input->has_place && is_spared(connection, wanted, input->ahead_bytes)) {
        charge(connection, wanted, input->ahead_bytes);
        return 0;
    }
    wanted = capacity > place_bytes(net) ? capacity : place_bytes(net);
    r = make_place(connection, charge_of(wanted, input->ahead_bytes));
    if (r == 0)
        take_place(connection, wanted);
    return r;
}

int knit_input_grow(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;
    size_t capacity = input->capacity < OWN_MIN ? OWN_MIN : input->capacity * 2;
    size_t most = connection->net->turn->settings->message_max_bytes;
    uint8_t *bytes;
    int r;

    if (input->len < input->capacity)
        return 0;
    /* A longer message is refused and not kept. */
    if (capacity > most && most > input->capacity)
        capacity = most;
    r = reserve(connection, capacity);
    if (r != 0)
        return r;
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

    if (len == 0) {
        if (input->capacity > 0)
            knit_input_free(connection);
        return 0;
    }
    if (len > input->capacity) {
        uint8_t *larger = realloc(input->bytes, len);

        if (larger == NULL)
            return -ENOMEM;
        input->bytes = larger;
        input->capacity = len;
        charge(connection, len, input->ahead_bytes);
    }
    memcpy(input->bytes, bytes, len);
    input->len = len;
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
    /* It does not grow before the message at its front is gone, and may do without the place. */
    if (!connection->has_message)
        return;
    if (input->has_place &&
        charge_of(input->capacity, input->ahead_bytes) <= spare_bytes(connection))
        leave_place(connection);
    if (!input->has_place)
        charge(connection, input->capacity, input->ahead_bytes);
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
    leave_place(connection);
    charge(connection, 0, 0);
}

void knit_input_free(struct knit_connection *connection)
{
    struct knit_input *input = &connection->input;

    free(input->bytes);
    input->bytes = NULL;
    input->len = input->capacity = 0;
    leave_place(connection);
    charge(connection, 0, input->ahead_bytes);
}
