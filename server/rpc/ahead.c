/* SPDX-License-Identifier: Apache-2.0 */
/* A second scanner, as far ahead of the connection's own as there is input. The front message is
 * entry 0, so both agree on where messages end; what is consumed at the front is popped here, and
 * offsets, which count from the front, move with it.
 *
 * Deadlines are looked at on a grid of GRAIN_NS: a caller whose timeouts differ by a microsecond
 * each would have all entries looked at for each of them.
 */
#include "server/rpc/ahead.h"

#include <stdlib.h>
#include <string.h>

#include "proto/message.h"
#include "server/daemon/loop.h"
#include "server/net/connection.h"
#include "server/net/output.h"
#include "server/rpc/method.h"
#include "server/rpc/router.h"

enum {
    ENTRIES_MIN = 64,
    ENTRIES_MAX = 4096,
    GRAIN_NS = 4000000,
};

enum entry_state { ENTRY_OTHER, ENTRY_CALL, ENTRY_SETTLED };

struct entry {
    uint64_t since_ns;
    uint64_t deadline_ns; /* UINT64_MAX = none */
    uint32_t len;
    uint32_t msgid;
    enum entry_state state;
};

struct knit_ahead {
    struct entry *entries; /* [first, end) are of messages not consumed yet */
    uint32_t first, end, capacity;
    struct knit_scan scan;
    size_t bytes; /* of the entries' messages */
    size_t fed;   /* of the message behind them */
    uint64_t next_ns;
    bool has_news; /* then it stands at the head of the router's list */
    bool is_over;  /* what follows is no message */
};

static uint32_t count_of(const struct knit_ahead *ahead)
{
    return ahead->end - ahead->first;
}

void knit_ahead_begin(struct knit_connection *connection)
{
    struct knit_router *router = &connection->loop->router;
    struct knit_scan_limits limits = {
        .message_bytes = (uint32_t)connection->loop->all->settings->message_max_bytes};

    if (connection->is_dead)
        return;
    if (!connection->ahead) {
        /* Without memory for it, timeouts are seen to when the message gets its slot. */
        connection->ahead = calloc(1, sizeof *connection->ahead);
        if (!connection->ahead)
            return;
        connection->ahead->next_ns = UINT64_MAX;
        knit_scan_init(&connection->ahead->scan, &limits);
    }
    if (connection->lists & KNIT_IN_AHEAD)
        TAILQ_REMOVE(&router->ahead, connection, in_ahead);
    connection->ahead->has_news = true;
    TAILQ_INSERT_HEAD(&router->ahead, connection, in_ahead);
    connection->lists |= KNIT_IN_AHEAD;
}

void knit_ahead_forget(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_AHEAD)
        TAILQ_REMOVE(&connection->loop->router.ahead, connection, in_ahead);
    connection->lists &= (uint16_t)~KNIT_IN_AHEAD;
}

void knit_ahead_free(struct knit_connection *connection)
{
    if (connection->ahead)
        free(connection->ahead->entries);
    free(connection->ahead);
    connection->ahead = NULL;
}

bool knit_ahead_is_settled(const struct knit_connection *connection)
{
    const struct knit_ahead *ahead = connection->ahead;

    return ahead && count_of(ahead) > 0 && ahead->entries[ahead->first].state == ENTRY_SETTLED;
}

uint64_t knit_ahead_since_ns(const struct knit_connection *connection)
{
    const struct knit_ahead *ahead = connection->ahead;

    return ahead && count_of(ahead) > 0 ? ahead->entries[ahead->first].since_ns
                                        : connection->received_ns;
}

void knit_ahead_pop(struct knit_connection *connection)
{
    struct knit_ahead *ahead = connection->ahead;

    if (!ahead)
        return;
    if (count_of(ahead) > 0)
        ahead->bytes -= ahead->entries[ahead->first++].len;
    if (count_of(ahead) == 0) {
        knit_ahead_forget(connection);
        knit_ahead_free(connection);
    }
}

/* ---- looking ------------------------------------------------------------------------------- */

static bool make_room(struct knit_ahead *ahead)
{
    uint32_t count = count_of(ahead), capacity = ahead->capacity * 2;
    struct entry *entries;

    if (ahead->end < ahead->capacity)
        return true;
    if (count <= ahead->capacity / 2 && count > 0) {
        memmove(ahead->entries, ahead->entries + ahead->first, count * sizeof *ahead->entries);
        ahead->first = 0;
        ahead->end = count;
        return true;
    }
    if (capacity < ENTRIES_MIN)
        capacity = ENTRIES_MIN;
    entries = realloc(ahead->entries, capacity * sizeof *entries);
    if (!entries)
        return false;
    ahead->entries = entries;
    ahead->capacity = capacity;
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
    KNIT_COUNT(connection->loop, requests);
    knit_output_failure(connection, entry->msgid, &failure);
}

/* The call that waits under this number. */
static struct entry *find(struct knit_ahead *ahead, uint32_t msgid)
{
    for (uint32_t i = ahead->first; i < ahead->end; i++)
        if (ahead->entries[i].state == ENTRY_CALL && ahead->entries[i].msgid == msgid)
            return &ahead->entries[i];
    return NULL;
}

/* Carried out ahead of its turn. Where that must be said to its sender, or where it met nothing, it
 * is once more at the front: until then no later call of the same number is in flight. */
static void cancel(struct knit_connection *connection, const struct knit_message *message,
    struct entry *entry, uint32_t msgid)
{
    struct entry *target;

    if (!knit_router_cancel(connection, msgid)) {
        target = find(connection->ahead, msgid);
        if (!target)
            return;
        KNIT_COUNT(connection->loop, calls_cancelled);
        settle(connection, target, KNIT_CANCELLED, "the call was cancelled by its caller");
        if (knit_ahead_is_settled(connection))
            knit_router_stop_waiting(connection);
    }
    if (message->kind == KNIT_MESSAGE_NOTIFICATION)
        entry->state = ENTRY_SETTLED;
}

/* The message behind the entries, which is whole, becomes one. */
static void note(struct knit_connection *connection, bool is_refused)
{
    struct knit_ahead *ahead = connection->ahead;
    struct entry *entry = &ahead->entries[ahead->end++];
    struct knit_message message;
    const char *reason;
    uint32_t msgid;

    *entry = (struct entry){.since_ns = connection->received_ns,
        .deadline_ns = UINT64_MAX,
        .len = (uint32_t)ahead->fed};
    if (is_refused || knit_message_parse(connection->input.bytes + ahead->bytes, ahead->fed,
                          &ahead->scan, &message, &reason) != 0)
        return;
    if (knit_method_cancels(&message, &msgid)) {
        cancel(connection, &message, entry, msgid);
        return;
    }
    if (message.kind != KNIT_MESSAGE_REQUEST || knit_method_is_ours(&message))
        return;
    entry->state = ENTRY_CALL;
    entry->msgid = message.msgid;
    entry->deadline_ns = knit_router_deadline(connection, &message, entry->since_ns);
    lower(&ahead->next_ns, entry->deadline_ns);
}

static void look(struct knit_connection *connection)
{
    struct knit_ahead *ahead = connection->ahead;
    const struct knit_input *input = &connection->input;

    while (!connection->is_dead && !ahead->is_over && count_of(ahead) < ENTRIES_MAX &&
           ahead->bytes + ahead->fed < input->len && make_room(ahead)) {
        size_t at = ahead->bytes + ahead->fed, used;
        int r = knit_scan_feed(&ahead->scan, input->bytes + at, input->len - at, &used);

        ahead->fed += used;
        if (r == 0)
            break;
        if (r == KNIT_SCAN_E_BAD) {
            ahead->is_over = true;
            break;
        }
        note(connection, r == KNIT_SCAN_E_REFUSED);
        ahead->bytes += ahead->fed;
        ahead->fed = 0;
        knit_scan_reset(&ahead->scan);
    }
}

void knit_ahead_turn(struct knit_router *router)
{
    struct knit_connection *connection;

    while ((connection = TAILQ_FIRST(&router->ahead)) && connection->ahead->has_news) {
        connection->ahead->has_news = false;
        TAILQ_REMOVE(&router->ahead, connection, in_ahead);
        TAILQ_INSERT_TAIL(&router->ahead, connection, in_ahead);
        look(connection);
        if (connection->ahead->next_ns < router->next_ns)
            router->next_ns = connection->ahead->next_ns;
    }
}

/* ---- settling ------------------------------------------------------------------------------ */

static void expire(struct knit_connection *connection)
{
    struct knit_ahead *ahead = connection->ahead;
    uint64_t now_ns = connection->loop->now_ns;

    ahead->next_ns = UINT64_MAX;
    for (uint32_t i = ahead->first; i < ahead->end && !connection->is_dead; i++) {
        struct entry *entry = &ahead->entries[i];

        if (entry->state != ENTRY_CALL)
            continue;
        if (entry->deadline_ns > now_ns) {
            lower(&ahead->next_ns, entry->deadline_ns);
            continue;
        }
        settle(connection, entry, KNIT_TIMEOUT, "the call waited for a slot for as long as it may");
        KNIT_COUNT(connection->loop, calls_timed_out);
    }
    if (knit_ahead_is_settled(connection))
        knit_router_stop_waiting(connection);
}

void knit_ahead_expire(struct knit_router *router)
{
    struct knit_connection *connection, *next;

    for (connection = TAILQ_FIRST(&router->ahead); connection; connection = next) {
        next = TAILQ_NEXT(connection, in_ahead);
        if (connection->ahead->next_ns <= router->loop->now_ns)
            expire(connection);
        if (connection->ahead->next_ns < router->next_ns)
            router->next_ns = connection->ahead->next_ns;
    }
}
