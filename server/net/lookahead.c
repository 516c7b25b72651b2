/* SPDX-License-Identifier: Apache-2.0 */
/* A second scanner, as far ahead of the connection's own as there is input. The front message is
 * entry 0, so both agree on where messages end; what is consumed at the front is popped here, and
 * offsets, which count from the front, move with it.
 *
 * Deadlines are rounded up to multiples of GRAIN_NS: otherwise a caller whose timeouts differ by a
 * microsecond each would cause one pass over all entries for each of them. And a pass is followed
 * by a rest of REST_FACTOR times what it took, so passes take a sixteenth of the loop's time at
 * most, however many connections have however many entries; timeouts are noticed later then.
 */
#include "server/net/lookahead.h"

#include <stdlib.h>
#include <string.h>

#include "proto/message.h"
#include "server/config/setting.h"
#include "server/net/net.h"
#include "server/rpc/method.h"
#include "server/rpc/router.h"

enum {
    ENTRIES_MIN = 64,
    ENTRIES_MAX = 1024, /* so they take what a connection may hold uncharged, see input.h */
    GRAIN_NS = 4000000,
    REST_FACTOR = 16,
};

enum entry_state { ENTRY_OTHER, ENTRY_CALL, ENTRY_SETTLED };

struct entry {
    uint64_t since_ns;
    uint64_t deadline_ns; /* UINT64_MAX = none */
    uint32_t len;
    uint32_t msgid;
    enum entry_state state;
};

struct knit_lookahead {
    struct entry *entries; /* [first, end) are of messages not consumed yet */
    uint32_t first, end, capacity;
    struct knit_scan scan;
    size_t bytes; /* of the entries' messages */
    size_t fed;   /* of the message behind them */
    uint64_t next_ns;
    bool has_input; /* then it stands at the head of the list */
    bool is_over;   /* what follows is no message */
};

static uint32_t count_of(const struct knit_lookahead *lookahead)
{
    return lookahead->end - lookahead->first;
}

void knit_lookaheads_init(struct knit_lookaheads *lookaheads)
{
    TAILQ_INIT(&lookaheads->connections);
    lookaheads->next_ns = UINT64_MAX;
    lookaheads->rest_until_ns = 0;
}

void knit_lookahead_begin(struct knit_connection *connection)
{
    struct knit_lookaheads *lookaheads = &connection->net->lookaheads;
    struct knit_scan_limits limits = {
        .message_bytes = (uint32_t)connection->net->turn->settings->message_max_bytes,
        .bounds_parts = true};

    if (connection->is_dead)
        return;
    if (connection->lookahead == NULL) {
        /* Without memory for it, timeouts are noticed when the message gets its slot. */
        connection->lookahead = calloc(1, sizeof(*connection->lookahead));
        if (connection->lookahead == NULL)
            return;
        connection->lookahead->next_ns = UINT64_MAX;
        knit_scan_init(&connection->lookahead->scan, &limits);
    }
    if (connection->lists & KNIT_IN_LOOKAHEAD)
        TAILQ_REMOVE(&lookaheads->connections, connection, in_lookahead);
    connection->lookahead->has_input = true;
    TAILQ_INSERT_HEAD(&lookaheads->connections, connection, in_lookahead);
    connection->lists |= KNIT_IN_LOOKAHEAD;
}

void knit_lookahead_forget(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_LOOKAHEAD)
        TAILQ_REMOVE(&connection->net->lookaheads.connections, connection, in_lookahead);
    connection->lists &= (uint16_t)~KNIT_IN_LOOKAHEAD;
}

void knit_lookahead_free(struct knit_connection *connection)
{
    if (connection->lookahead != NULL)
        free(connection->lookahead->entries);
    free(connection->lookahead);
    connection->lookahead = NULL;
}

bool knit_lookahead_is_settled(const struct knit_connection *connection)
{
    const struct knit_lookahead *lookahead = connection->lookahead;

    return lookahead != NULL && count_of(lookahead) > 0 &&
           lookahead->entries[lookahead->first].state == ENTRY_SETTLED;
}

uint64_t knit_lookahead_since_ns(const struct knit_connection *connection)
{
    const struct knit_lookahead *lookahead = connection->lookahead;

    return lookahead != NULL && count_of(lookahead) > 0
               ? lookahead->entries[lookahead->first].since_ns
               : connection->received_ns;
}

void knit_lookahead_pop(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;

    if (lookahead == NULL)
        return;
    if (count_of(lookahead) > 0)
        lookahead->bytes -= lookahead->entries[lookahead->first++].len;
    if (count_of(lookahead) == 0) {
        knit_lookahead_forget(connection);
        knit_lookahead_free(connection);
    }
}

/* ---- scanning ------------------------------------------------------------------------------ */

static bool make_room(struct knit_lookahead *lookahead)
{
    uint32_t count = count_of(lookahead), capacity = lookahead->capacity * 2;
    struct entry *entries;

    if (lookahead->end < lookahead->capacity)
        return true;
    if (count > 0 && (count <= lookahead->capacity / 2 || lookahead->capacity >= ENTRIES_MAX)) {
        memmove(lookahead->entries, lookahead->entries + lookahead->first,
            count * sizeof(*lookahead->entries));
        lookahead->first = 0;
        lookahead->end = count;
        return true;
    }
    if (capacity < ENTRIES_MIN)
        capacity = ENTRIES_MIN;
    entries = realloc(lookahead->entries, capacity * sizeof(*entries));
    if (entries == NULL)
        return false;
    lookahead->entries = entries;
    lookahead->capacity = capacity;
    return true;
}

static void lower(uint64_t *next_ns, uint64_t deadline_ns)
{
    if (deadline_ns < UINT64_MAX - GRAIN_NS)
        deadline_ns += GRAIN_NS - deadline_ns % GRAIN_NS;
    if (deadline_ns < *next_ns)
        *next_ns = deadline_ns;
}

static void settle(
    struct knit_connection *connection, struct entry *entry, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    failure.started = KNIT_STARTED_NO;
    entry->state = ENTRY_SETTLED;
    KNIT_COUNT(connection->net->turn, requests);
    connection->caller.ops->refuse(&connection->caller, entry->msgid, &failure);
}

/* The call that waits under this number. */
static struct entry *find(struct knit_lookahead *lookahead, uint32_t msgid)
{
    for (uint32_t i = lookahead->first; i < lookahead->end; i++)
        if (lookahead->entries[i].state == ENTRY_CALL && lookahead->entries[i].msgid == msgid)
            return &lookahead->entries[i];
    return NULL;
}

/* Carried out ahead of its turn. A request gets its response when it comes to the front, and so
 * does a `$/cancel` that found no call: until then no later call of the same number can be in
 * flight. */
static void cancel(struct knit_connection *connection, const struct knit_message *message,
    struct entry *entry, uint32_t msgid)
{
    struct entry *target;

    if (!knit_router_cancel(&connection->caller, msgid)) {
        target = find(connection->lookahead, msgid);
        if (target == NULL)
            return;
        KNIT_COUNT(connection->net->turn, calls_cancelled);
        settle(connection, target, KNIT_CANCELLED, "the call was cancelled by its caller");
        if (knit_lookahead_is_settled(connection))
            knit_router_stop_waiting(&connection->caller);
    }
    if (message->kind == KNIT_MESSAGE_NOTIFICATION)
        entry->state = ENTRY_SETTLED;
}

/* The message behind the entries, which is whole, becomes one. */
static void add_entry(struct knit_connection *connection, bool is_refused)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    struct entry *entry = &lookahead->entries[lookahead->end++];
    struct knit_message message;
    const char *reason;
    uint32_t msgid;

    *entry = (struct entry){.since_ns = connection->received_ns,
        .deadline_ns = UINT64_MAX,
        .len = (uint32_t)lookahead->fed};
    if (is_refused || knit_message_parse(connection->input.bytes + lookahead->bytes, lookahead->fed,
                          &lookahead->scan, &message, &reason) != 0)
        return;
    if (knit_method_cancels(&message, &msgid)) {
        cancel(connection, &message, entry, msgid);
        return;
    }
    if (message.kind != KNIT_MESSAGE_REQUEST || knit_method_is_ours(&message))
        return;
    entry->state = ENTRY_CALL;
    entry->msgid = message.msgid;
    entry->deadline_ns = knit_router_deadline(connection->net->router, &message, entry->since_ns);
    lower(&lookahead->next_ns, entry->deadline_ns);
}

static void scan(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    const struct knit_input *input = &connection->input;

    while (!connection->is_dead && !lookahead->is_over && count_of(lookahead) < ENTRIES_MAX &&
           lookahead->bytes + lookahead->fed < input->len && make_room(lookahead)) {
        size_t at = lookahead->bytes + lookahead->fed, used;
        int r = knit_scan_feed(&lookahead->scan, input->bytes + at, input->len - at, &used);

        lookahead->fed += used;
        if (r == 0)
            break;
        if (r == KNIT_SCAN_E_BAD) {
            lookahead->is_over = true;
            break;
        }
        add_entry(connection, r == KNIT_SCAN_E_REFUSED);
        lookahead->bytes += lookahead->fed;
        lookahead->fed = 0;
        knit_scan_reset(&lookahead->scan);
    }
}

static void lower_next(struct knit_lookaheads *lookaheads, const struct knit_lookahead *lookahead)
{
    if (lookahead->next_ns < lookaheads->next_ns)
        lookaheads->next_ns = lookahead->next_ns;
}

void knit_lookahead_scan(struct knit_net *net)
{
    struct knit_lookaheads *lookaheads = &net->lookaheads;
    struct knit_connection *connection;

    while ((connection = TAILQ_FIRST(&lookaheads->connections)) != NULL &&
           connection->lookahead->has_input) {
        connection->lookahead->has_input = false;
        TAILQ_REMOVE(&lookaheads->connections, connection, in_lookahead);
        TAILQ_INSERT_TAIL(&lookaheads->connections, connection, in_lookahead);
        scan(connection);
        lower_next(lookaheads, connection->lookahead);
    }
}

/* ---- settling ------------------------------------------------------------------------------ */

static void expire(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    uint64_t now_ns = connection->net->turn->now_ns;

    lookahead->next_ns = UINT64_MAX;
    for (uint32_t i = lookahead->first; i < lookahead->end && !connection->is_dead; i++) {
        struct entry *entry = &lookahead->entries[i];

        if (entry->state != ENTRY_CALL)
            continue;
        if (entry->deadline_ns > now_ns) {
            lower(&lookahead->next_ns, entry->deadline_ns);
            continue;
        }
        if (entry->deadline_ns == 0) {
            settle(connection, entry, KNIT_OVERLOADED, KNIT_ROUTER_NO_WORKER_FREE);
            KNIT_COUNT(connection->net->turn, calls_overloaded);
            continue;
        }
        settle(connection, entry, KNIT_TIMEOUT, "the call waited for a slot for as long as it may");
        KNIT_COUNT(connection->net->turn, calls_timed_out);
    }
    if (knit_lookahead_is_settled(connection))
        knit_router_stop_waiting(&connection->caller);
}

uint64_t knit_lookaheads_next_ns(const struct knit_lookaheads *lookaheads)
{
    return lookaheads->next_ns > lookaheads->rest_until_ns ? lookaheads->next_ns
                                                           : lookaheads->rest_until_ns;
}

void knit_lookahead_expire(struct knit_net *net)
{
    struct knit_lookaheads *lookaheads = &net->lookaheads;
    struct knit_connection *connection, *next;
    uint64_t began_ns, ended_ns;

    if (net->turn->now_ns < knit_lookaheads_next_ns(lookaheads))
        return;
    began_ns = knit_clock_ns();
    lookaheads->next_ns = UINT64_MAX;
    for (connection = TAILQ_FIRST(&lookaheads->connections); connection != NULL;
         connection = next) {
        next = TAILQ_NEXT(connection, in_lookahead);
        if (connection->lookahead->next_ns <= net->turn->now_ns)
            expire(connection);
        lower_next(lookaheads, connection->lookahead);
    }
    ended_ns = knit_clock_ns();
    lookaheads->rest_until_ns = ended_ns + REST_FACTOR * (ended_ns - began_ns);
}
