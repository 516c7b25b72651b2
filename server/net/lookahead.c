/* SPDX-License-Identifier: Apache-2.0 */
/* A second scanner, as far ahead of the connection's own as there is input. The front message is
 * entry 0, so both agree on where messages end; what is consumed at the front is popped here, and
 * offsets, which count from the front, move with it.
 *
 * Deadlines stand in two heaps: one for each connection with those of its entries, and one for the
 * loop with the next of each connection. In the second they are rounded up to multiples of
 * GRAIN_NS: otherwise a caller whose timeouts differ by a microsecond each would wake the loop for
 * each of them. Scanning and answering end when they have had TURN_NS of a turn, and go on in the
 * next one.
 */
#include "server/net/lookahead.h"

#include <stddef.h>
#include <stdlib.h>

#include "proto/cancel.h"
#include "proto/limits.h"
#include "proto/message.h"
#include "proto/plain.h"
#include "server/config/setting.h"
#include "server/net/input.h"
#include "server/net/net.h"
#include "server/net/output.h"
#include "server/rpc/method.h"
#include "server/rpc/refusal.h"
#include "server/rpc/reports.h"
#include "server/rpc/router.h"

enum {
    ENTRIES_MIN = 64,
    ENTRIES_MAX = 1024, /* a `$/cancel` looks through them, and so does each call of a priority */
    AGE_CALLS = 16,     /* as in fastpath/lane/lane_classes.c */
    AGE_NS = 100000000,
    PRIORITIES = KNIT_PRIORITY_MAX + 1,
    GRAIN_NS = 4000000,
    TURN_NS = 1000000,
};

enum entry_state { ENTRY_OTHER, ENTRY_CALL, ENTRY_NOTIFICATION, ENTRY_SETTLED };

struct entry {
    struct knit_due due; /* in the heap: a call that has a deadline and no outcome */
    uint64_t since_ns;
    uint32_t len;
    uint32_t msgid;
    uint32_t work_ns; /* of a call or notification, estimated */
    enum entry_state state;
    uint8_t priority;    /* of a call or notification */
    bool has_references; /* to results of other requests, which must have had their turn before */
    bool is_kept;        /* its outcome is */
    bool has_late;       /* at `due` its caller gets something else than TIMEOUT */
};

/* Of the calls of one priority. */
struct order {
    uint32_t first;    /* the one that is next, */
    uint64_t since_ns; /* and since when it is; 0: there was none */
    uint32_t passed; /* so many of earlier priorities were begun since it or one before it waits */
};

struct knit_lookahead {
    struct knit_due due; /* of the entry that is due next, in the loop's heap */
    struct knit_connection *connection;
    struct knit_dues dues;
    struct entry *entries;         /* a ring: [first, end) are of messages not consumed yet */
    uint32_t first, end, capacity; /* a power of two */
    struct knit_scan scan;
    size_t bytes;                  /* of the entries' messages */
    size_t fed;                    /* of the message behind them */
    uint32_t calls, notifications; /* that wait, counted in the router's `waiting` and backlog */
    bool is_over;                  /* what follows is no message */
    bool has_priorities;           /* any entry had another one than normal */
    struct order order[PRIORITIES];
    uint32_t chosen; /* the entry that knit_lookahead_chooses_later() has found */
};

static struct knit_lookahead *lookahead_of(struct knit_due *due)
{
    return (struct knit_lookahead *)(void *)((char *)due - offsetof(struct knit_lookahead, due));
}

static struct entry *entry_of(struct knit_due *due)
{
    return (struct entry *)(void *)((char *)due - offsetof(struct entry, due));
}

static struct entry *entry_at(const struct knit_lookahead *lookahead, uint32_t i)
{
    return &lookahead->entries[i & (lookahead->capacity - 1)];
}

static uint32_t count_of(const struct knit_lookahead *lookahead)
{
    return lookahead->end - lookahead->first;
}

void knit_lookaheads_init(struct knit_lookaheads *lookaheads)
{
    TAILQ_INIT(&lookaheads->to_scan);
    lookaheads->dues = (struct knit_dues){0};
}

void knit_lookaheads_fini(struct knit_lookaheads *lookaheads)
{
    knit_dues_fini(&lookaheads->dues);
}

/* Stands in the loop's heap by what its entries' heap says. Without memory for that, timeouts are
 * noticed when the message gets its slot. */
static void schedule(struct knit_lookahead *lookahead)
{
    struct knit_dues *dues = &lookahead->connection->net->lookaheads.dues;
    uint64_t next_ns = knit_dues_next_ns(&lookahead->dues);

    if (next_ns < UINT64_MAX - GRAIN_NS)
        next_ns += GRAIN_NS - next_ns % GRAIN_NS;
    if (lookahead->due.place != 0 && lookahead->due.ns == next_ns)
        return;
    knit_dues_remove(dues, &lookahead->due);
    lookahead->due.ns = next_ns;
    if (next_ns != UINT64_MAX && !lookahead->connection->is_dead &&
        !(lookahead->connection->caller.pauses & KNIT_PAUSE_CLOSING))
        (void)!knit_dues_add(dues, &lookahead->due);
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
        connection->lookahead->connection = connection;
        knit_scan_init(&connection->lookahead->scan, &limits);
    }
    if (connection->lists & KNIT_IN_TO_SCAN)
        return;
    TAILQ_INSERT_TAIL(&lookaheads->to_scan, connection, in_to_scan);
    connection->lists |= KNIT_IN_TO_SCAN;
}

static void leave_to_scan(struct knit_connection *connection)
{
    if (connection->lists & KNIT_IN_TO_SCAN)
        TAILQ_REMOVE(&connection->net->lookaheads.to_scan, connection, in_to_scan);
    connection->lists &= (uint16_t)~KNIT_IN_TO_SCAN;
}

/* The entry waits from now on, or does no longer. */
static void count(struct knit_connection *connection, const struct entry *entry, int more)
{
    struct knit_lookahead *lookahead = connection->lookahead;

    if (entry->state == ENTRY_CALL)
        lookahead->calls += (uint32_t)more;
    else if (entry->state == ENTRY_NOTIFICATION)
        lookahead->notifications += (uint32_t)more;
    else
        return;
    knit_backlog_add(&connection->caller, more, more * (int64_t)entry->work_ns);
}

void knit_lookahead_forget(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;

    leave_to_scan(connection);
    if (lookahead == NULL)
        return;
    knit_dues_remove(&connection->net->lookaheads.dues, &lookahead->due);
    knit_backlog_add(&connection->caller, -(int32_t)(lookahead->calls + lookahead->notifications),
        -(int64_t)connection->caller.work_ns);
    lookahead->calls = lookahead->notifications = 0;
    lookahead->first = lookahead->end;
}

void knit_lookahead_free(struct knit_connection *connection)
{
    if (connection->lookahead == NULL)
        return;
    knit_lookahead_forget(connection);
    knit_dues_fini(&connection->lookahead->dues);
    free(connection->lookahead->entries);
    free(connection->lookahead);
    connection->lookahead = NULL;
    (void)!knit_input_look_ahead(connection, 0);
}

bool knit_lookahead_is_settled(const struct knit_connection *connection)
{
    const struct knit_lookahead *lookahead = connection->lookahead;

    return lookahead != NULL && count_of(lookahead) > 0 &&
           entry_at(lookahead, lookahead->first)->state == ENTRY_SETTLED;
}

bool knit_lookahead_has_counted(const struct knit_connection *connection)
{
    const struct knit_lookahead *lookahead = connection->lookahead;
    enum entry_state state;

    if (lookahead == NULL || count_of(lookahead) == 0)
        return false;
    state = entry_at(lookahead, lookahead->first)->state;
    return state == ENTRY_CALL || state == ENTRY_NOTIFICATION;
}

uint64_t knit_lookahead_since_ns(const struct knit_connection *connection)
{
    const struct knit_lookahead *lookahead = connection->lookahead;

    return lookahead != NULL && count_of(lookahead) > 0
               ? entry_at(lookahead, lookahead->first)->since_ns
               : connection->received_ns;
}

/* ---- priorities ---- */

/* A call of that priority was begun. */
static void note_begun(struct knit_lookahead *lookahead, uint32_t priority)
{
    for (uint32_t i = priority + 1; i < PRIORITIES; i++)
        lookahead->order[i].passed += lookahead->order[i].since_ns != 0;
    lookahead->order[priority].passed = 0;
}

/* The first call of each priority, up to what is no call; bits of those that have one. */
static uint32_t find_first(const struct knit_lookahead *lookahead, uint32_t *ret_first)
{
    uint32_t found = 0;

    for (uint32_t i = lookahead->first; i != lookahead->end && found != (1u << PRIORITIES) - 1;
         i++) {
        const struct entry *entry = entry_at(lookahead, i);

        if (entry->state == ENTRY_OTHER)
            break;
        if (entry->state == ENTRY_SETTLED || (found >> entry->priority & 1) != 0 ||
            (entry->has_references && i != lookahead->first))
            continue;
        ret_first[entry->priority] = i;
        found |= 1u << entry->priority;
    }
    return found;
}

bool knit_lookahead_chooses_later(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    const uint64_t now_ns = connection->net->turn->now_ns;
    uint64_t oldest_ns = UINT64_MAX;
    uint32_t first[PRIORITIES], found;
    bool any = false;

    if (!lookahead->has_priorities)
        return false;
    found = find_first(lookahead, first);
    for (uint32_t i = 0; i < PRIORITIES; i++) {
        struct order *order = &lookahead->order[i];

        if ((found >> i & 1) == 0) {
            *order = (struct order){0};
            continue;
        }
        if (order->since_ns == 0 || order->first != first[i]) {
            order->first = first[i];
            order->since_ns = now_ns;
        }
        if (!any)
            lookahead->chosen = first[i];
        any = true;
        if ((order->passed >= AGE_CALLS || now_ns - order->since_ns >= AGE_NS) &&
            order->since_ns < oldest_ns) {
            oldest_ns = order->since_ns;
            lookahead->chosen = first[i];
        }
    }
    return any && lookahead->chosen != lookahead->first &&
           entry_at(lookahead, lookahead->first)->state != ENTRY_SETTLED;
}

void knit_lookahead_pop(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    struct entry *front;

    if (lookahead == NULL)
        return;
    if (count_of(lookahead) > 0) {
        front = entry_at(lookahead, lookahead->first++);
        lookahead->bytes -= front->len;
        if (front->state == ENTRY_CALL || front->state == ENTRY_NOTIFICATION)
            note_begun(lookahead, front->priority);
        count(connection, front, -1);
        knit_dues_remove(&lookahead->dues, &front->due);
    }
    if (count_of(lookahead) == 0)
        knit_lookahead_free(connection);
}

/* ---- scanning ------------------------------------------------------------------------------ */

static bool make_room(struct knit_lookahead *lookahead)
{
    struct entry *before = lookahead->entries, *entries;
    uint32_t mask = lookahead->capacity - 1, capacity = lookahead->capacity * 2;

    if (count_of(lookahead) < lookahead->capacity)
        return true;
    if (capacity < ENTRIES_MIN)
        capacity = ENTRIES_MIN;
    /* And as many places in the heap. */
    if (!knit_input_look_ahead(
            lookahead->connection, capacity * (sizeof(*entries) + sizeof(struct knit_due *))))
        return false;
    entries = malloc(capacity * sizeof(*entries));
    if (entries == NULL)
        return false;
    lookahead->entries = entries;
    lookahead->capacity = capacity;
    for (uint32_t i = lookahead->first; i != lookahead->end; i++) {
        *entry_at(lookahead, i) = before[i & mask];
        knit_dues_moved(&lookahead->dues, &entry_at(lookahead, i)->due);
    }
    free(before);
    return true;
}

/* It waits no longer, and is skipped when it comes to the front. */
static void end_entry(struct knit_connection *connection, struct entry *entry)
{
    count(connection, entry, -1);
    entry->state = ENTRY_SETTLED;
    knit_dues_remove(&connection->lookahead->dues, &entry->due);
}

/* The entry's message once more, from the input, where the one at the front begins at `begin`.
 * False: its bytes were another message before. */
static bool read_again(const struct knit_connection *connection, const struct entry *entry,
    const uint8_t *begin, struct knit_message *ret_message)
{
    const struct knit_lookahead *lookahead = connection->lookahead;
    struct knit_scan scan;
    const char *reason;
    size_t used;

    for (uint32_t i = lookahead->first; entry_at(lookahead, i) != entry; i++)
        begin += entry_at(lookahead, i)->len;
    if (knit_plain_take(begin, entry->len, lookahead->scan.limits.message_bytes, ret_message) != 0)
        return true;
    knit_scan_init(&scan, &lookahead->scan.limits);
    return knit_scan_feed(&scan, begin, entry->len, &used) == KNIT_SCAN_E_DONE &&
           knit_message_parse(begin, used, &scan, ret_message, &reason) == 0;
}

static void settle_with(
    struct knit_connection *connection, struct entry *entry, const struct knit_failure *failure)
{
    struct knit_caller *caller = &connection->caller;
    struct knit_message message;

    end_entry(connection, entry);
    KNIT_COUNT(connection->net->turn, requests);
    if (entry->is_kept && read_again(connection, entry, connection->input.bytes, &message)) {
        knit_refuse_call(caller, &message, failure);
        return;
    }
    if (knit_refuse_may_say(caller, failure) &&
        read_again(connection, entry, connection->input.bytes, &message))
        knit_refuse_say(caller, &message, failure);
    caller->ops->refuse(caller, entry->msgid, failure);
}

static void settle(
    struct knit_connection *connection, struct entry *entry, uint32_t code, const char *text)
{
    struct knit_failure failure = knit_failure(code, text);

    failure.started = KNIT_STARTED_NO;
    settle_with(connection, entry, &failure);
}

/* The call that waits under this number. */
static struct entry *find(struct knit_lookahead *lookahead, uint32_t msgid)
{
    for (uint32_t i = lookahead->first; i != lookahead->end; i++) {
        struct entry *entry = entry_at(lookahead, i);

        if (entry->state == ENTRY_CALL && entry->msgid == msgid)
            return entry;
    }
    return NULL;
}

/* Carried out ahead of its turn. A request gets its response when it comes to the front, and so
 * does a `$/cancel` that found no call: until then no later call of the same number can be in
 * flight. */
static void cancel(struct knit_connection *connection, const struct knit_message *message,
    struct entry *entry, uint32_t msgid, struct knit_span reason)
{
    struct knit_failure failure;
    struct entry *target;

    if (!knit_router_cancel(&connection->caller, msgid, reason)) {
        target = find(connection->lookahead, msgid);
        if (target == NULL)
            return;
        KNIT_COUNT(connection->net->turn, calls_cancelled);
        failure = knit_cancel_failure(reason);
        failure.started = KNIT_STARTED_NO;
        settle_with(connection, target, &failure);
        if (knit_lookahead_is_settled(connection))
            knit_router_stop_waiting(&connection->caller);
    }
    if (message->kind == KNIT_MESSAGE_NOTIFICATION)
        entry->state = ENTRY_SETTLED;
}

/* What only asks does not wait behind calls. One whose number a call bears is found out when it
 * comes to the front. */
static void answer_ahead(
    struct knit_connection *connection, struct entry *entry, const struct knit_message *message)
{
    uint32_t slot;

    if (!knit_method_is_question(message) ||
        knit_in_flight_find(&connection->caller.calls, message->msgid, &slot) ||
        find(connection->lookahead, message->msgid) != NULL ||
        knit_output_waiting(connection) > knit_output_limit(connection))
        return;
    entry->state = ENTRY_SETTLED;
    knit_method_handle(&connection->caller, message);
}

static void note_priority(
    struct knit_lookahead *lookahead, struct entry *entry, const struct knit_message *message)
{
    entry->priority = KNIT_PRIORITY_NORMAL;
    if (message->options.bytes != NULL)
        entry->priority = knit_router_priority(message, &entry->is_kept);
    if (entry->priority != KNIT_PRIORITY_NORMAL)
        lookahead->has_priorities = true;
}

static void begin_call(
    struct knit_connection *connection, struct entry *entry, const struct knit_message *message)
{
    uint64_t in_flight = connection->caller.calls.count + (uint64_t)connection->lookahead->calls;
    struct knit_outlook outlook;
    struct knit_failure failure;
    bool is_refused;

    entry->state = ENTRY_CALL;
    entry->msgid = message->msgid;
    note_priority(connection->lookahead, entry, message);
    if (knit_reports_are_on(connection->caller.router))
        knit_reports_begin(&connection->caller, message, entry->since_ns);
    knit_router_look(&connection->caller, message, entry->since_ns, &outlook);
    is_refused = knit_router_refuses(&connection->caller, message, in_flight, &outlook, &failure);
    entry->work_ns = outlook.work_ns;
    count(connection, entry, 1);
    if (is_refused) {
        settle_with(connection, entry, &failure);
        if (knit_lookahead_is_settled(connection))
            knit_router_stop_waiting(&connection->caller);
        return;
    }
    entry->due.ns = outlook.due_ns;
    entry->has_late = outlook.has_late;
    if (entry->due.ns != UINT64_MAX)
        (void)!knit_dues_add(&connection->lookahead->dues, &entry->due);
}

static void begin_notification(
    struct knit_connection *connection, struct entry *entry, const struct knit_message *message)
{
    struct knit_outlook outlook;
    struct knit_failure failure;

    knit_router_look(&connection->caller, message, entry->since_ns, &outlook);
    if (knit_router_refuses(&connection->caller, message, 0, &outlook, &failure)) {
        entry->state = ENTRY_SETTLED;
        knit_refuse_call(&connection->caller, message, &failure);
        return;
    }
    entry->state = ENTRY_NOTIFICATION;
    entry->work_ns = outlook.work_ns;
    note_priority(connection->lookahead, entry, message);
    count(connection, entry, 1);
}

/* The message behind the entries, which is whole, becomes one. NULL: it will be refused when it
 * comes to the front. */
static void add_entry(struct knit_connection *connection, const struct knit_message *message)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    struct entry *entry = entry_at(lookahead, lookahead->end++);
    struct knit_span reason;
    uint32_t msgid;

    /* A plain message has none, and leaves the scanner as it is between two. */
    *entry = (struct entry){.since_ns = connection->received_ns,
        .len = (uint32_t)lookahead->fed,
        .has_references = lookahead->scan.has_reference};
    if (message == NULL)
        return;
    if (knit_method_cancels(message, &msgid, &reason)) {
        cancel(connection, message, entry, msgid, reason);
        return;
    }
    if (message->kind == KNIT_MESSAGE_REQUEST && connection->caller.gone_ns != 0)
        entry->state = ENTRY_SETTLED;
    else if (knit_method_is_ours(message))
        answer_ahead(connection, entry, message);
    else if (message->kind == KNIT_MESSAGE_REQUEST)
        begin_call(connection, entry, message);
    else if (message->kind == KNIT_MESSAGE_NOTIFICATION)
        begin_notification(connection, entry, message);
}

/* Scans on in the message behind the entries, and makes one of it when it is whole. */
static void scan_message(struct knit_connection *connection, const uint8_t *begin, size_t len)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    size_t left = len - lookahead->fed, used;
    struct knit_message message;
    const char *reason;
    bool is_good;
    int r;

    if (lookahead->fed == 0 && lookahead->scan.used == 0) {
        lookahead->fed =
            knit_plain_take(begin, len, lookahead->scan.limits.message_bytes, &message);
        if (lookahead->fed > 0) {
            add_entry(connection, &message);
            lookahead->bytes += lookahead->fed;
            lookahead->fed = 0;
            return;
        }
    }
    r = knit_scan_feed(&lookahead->scan, begin + lookahead->fed,
        left < KNIT_NET_SCAN_BYTES ? left : KNIT_NET_SCAN_BYTES, &used);
    lookahead->fed += used;
    lookahead->is_over = r == KNIT_SCAN_E_BAD;
    if (r != KNIT_SCAN_E_DONE && r != KNIT_SCAN_E_REFUSED)
        return;
    is_good = r == KNIT_SCAN_E_DONE &&
              knit_message_parse(begin, lookahead->fed, &lookahead->scan, &message, &reason) == 0;
    add_entry(connection, is_good ? &message : NULL);
    lookahead->bytes += lookahead->fed;
    lookahead->fed = 0;
    knit_scan_reset(&lookahead->scan);
}

/* False: it is time to end, and there may be more. */
static bool scan(struct knit_connection *connection, uint64_t until_ns)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    const struct knit_input *input = &connection->input;

    while (!connection->is_dead && !lookahead->is_over && count_of(lookahead) < ENTRIES_MAX &&
           lookahead->bytes + lookahead->fed < input->len && make_room(lookahead)) {
        scan_message(connection, input->bytes + lookahead->bytes, input->len - lookahead->bytes);
        if (knit_clock_ns() >= until_ns)
            return false;
    }
    return true;
}

bool knit_lookahead_has_notifications(struct knit_connection *connection)
{
    bool is_done;

    if (connection->lookahead == NULL)
        return false;
    is_done = scan(connection, knit_clock_ns() + TURN_NS);
    schedule(connection->lookahead);
    return !connection->is_dead && (!is_done || connection->lookahead->notifications > 0);
}

void knit_lookahead_drop_calls(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;

    for (uint32_t i = lookahead->first; i != lookahead->end; i++) {
        struct entry *entry = entry_at(lookahead, i);

        if (entry->state == ENTRY_CALL)
            end_entry(connection, entry);
    }
    schedule(lookahead);
}

void knit_lookahead_scan(struct knit_net *net)
{
    struct knit_connection *connection;
    uint64_t until_ns;

    if (TAILQ_EMPTY(&net->lookaheads.to_scan))
        return;
    until_ns = knit_clock_ns() + TURN_NS;
    while ((connection = TAILQ_FIRST(&net->lookaheads.to_scan)) != NULL) {
        bool is_done = scan(connection, until_ns);

        schedule(connection->lookahead);
        if (!is_done)
            return;
        leave_to_scan(connection);
    }
}

/* ---- answering ----------------------------------------------------------------------------- */

bool knit_lookahead_read_later(const struct knit_connection *connection, const uint8_t *begin,
    struct knit_message *ret_message, uint64_t *ret_since_ns)
{
    const struct entry *entry = entry_at(connection->lookahead, connection->lookahead->chosen);

    *ret_since_ns = entry->since_ns;
    return read_again(connection, entry, begin, ret_message);
}

void knit_lookahead_end_later(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    struct entry *entry = entry_at(lookahead, lookahead->chosen);

    /* The call has ended its connection. */
    if (count_of(lookahead) == 0)
        return;
    note_begun(lookahead, entry->priority);
    end_entry(connection, entry);
}

/* The timeout of a call is over that has something else than TIMEOUT. */
static void time_out(struct knit_connection *connection, struct entry *entry)
{
    struct knit_message message;

    if (!read_again(connection, entry, connection->input.bytes, &message)) {
        settle(connection, entry, KNIT_TIMEOUT, KNIT_ROUTER_WAITED);
        KNIT_COUNT(connection->net->turn, calls_timed_out);
        return;
    }
    end_entry(connection, entry);
    KNIT_COUNT(connection->net->turn, requests);
    knit_router_time_out(&connection->caller, &message);
}

static void expire(struct knit_connection *connection)
{
    struct knit_lookahead *lookahead = connection->lookahead;
    uint64_t now_ns = connection->net->turn->now_ns;

    while (knit_dues_next_ns(&lookahead->dues) <= now_ns && !connection->is_dead) {
        struct entry *entry = entry_of(knit_dues_first(&lookahead->dues));

        if (entry->due.ns == 0) {
            settle(connection, entry, KNIT_OVERLOADED, KNIT_ROUTER_NO_WORKER_FREE);
            KNIT_COUNT(connection->net->turn, calls_overloaded);
            continue;
        }
        if (entry->has_late) {
            time_out(connection, entry);
            continue;
        }
        settle(connection, entry, KNIT_TIMEOUT, KNIT_ROUTER_WAITED);
        KNIT_COUNT(connection->net->turn, calls_timed_out);
    }
    if (knit_lookahead_is_settled(connection))
        knit_router_stop_waiting(&connection->caller);
}

void knit_lookahead_expire(struct knit_net *net)
{
    struct knit_dues *dues = &net->lookaheads.dues;
    uint64_t until_ns;

    if (net->turn->now_ns < knit_dues_next_ns(dues))
        return;
    until_ns = knit_clock_ns() + TURN_NS;
    do {
        struct knit_lookahead *lookahead = lookahead_of(knit_dues_first(dues));

        expire(lookahead->connection);
        schedule(lookahead);
    } while (net->turn->now_ns >= knit_dues_next_ns(dues) && knit_clock_ns() < until_ns);
}
