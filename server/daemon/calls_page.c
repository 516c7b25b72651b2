/* SPDX-License-Identifier: Apache-2.0 */
/* {calls: [{task, state, principal, age_ms?, worker?, pid?, session, slot, generation}], waiting:
 *  [{principal, count, age_ms}], callers: [{principal, connections}], left_out}. A call is
 * `running`, then it has a worker and an age, or `queued`: in a lane, or answered and not collected
 * yet. `waiting` are those that have not come to a lane.
 *
 * {sessions: [{session, kind, principal?, uid?, pid?, state, slots, running, queued,
 *  memory_bytes}]}. Its kind is `shm`, then it has principal, uid and pid, or `loop`.
 *
 * The board is looked at twice, when loops are asked and when they have answered. What runs both
 * times, and is a call that its loop does not list, is one for which nobody waits any more; what
 * runs the second time alone began behind the loop's answer, and is left to the next list.
 */
#include "server/daemon/calls_page.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "fastpath/host/listed.h"
#include "fastpath/host/pool.h"
#include "fastpath/host/running.h"
#include "fastpath/lane/bell.h"
#include "proto/text.h"
#include "proto/writer.h"
#include "server/daemon/loop.h"

#define MS_NS UINT64_C(1000000)

enum { QUEUED_MAX = 256 };

struct row {
    uint32_t task;
    const struct knit_host_running *running; /* NULL: it waits */
    uint64_t session, gen;
    uint32_t slot;
    char principal[KNIT_CALLS_NAME];
};

struct join {
    const struct knit_calls_page *page;
    struct knit_host_running running[KNIT_LANES_MAX];
    bool was_put[KNIT_LANES_MAX];
    uint32_t running_count;
    struct knit_host_queued queued[QUEUED_MAX]; /* of shared memory */
    struct knit_calls_waiting waiting[KNIT_STATS_LOOPS_MAX * KNIT_CALLS_WAITING];
    struct knit_calls_caller callers[KNIT_STATS_LOOPS_MAX * KNIT_CALLS_CALLERS];
    uint32_t row_count, waiting_count, caller_count;
    uint64_t now_ns, left_out;
    struct row rows[];
};

bool knit_calls_page_ask(struct knit_calls_page *page)
{
    page->ticket++;
    page->asked = page->answered = 0;
    page->before_count = knit_host_running(page->pool, page->before);
    for (uint32_t i = 0; i < page->loops->count; i++)
        page->asked += knit_loop_send(&page->loops->items[i],
            (struct knit_mailbox_message){KNIT_MAILBOX_CALLS, -1, page->ticket});
    return page->asked > 0;
}

bool knit_calls_page_note(struct knit_calls_page *page, uint64_t ticket)
{
    return ticket == page->ticket && ++page->answered == page->asked;
}

void knit_calls_page_fill(struct knit_loop *loop, uint64_t ticket)
{
    struct knit_calls *calls = &loop->all->calls[loop->turn.loop];

    (void)pthread_mutex_lock(&calls->mutex);
    knit_calls_begin(calls, ticket, &loop->router);
    knit_connections_list(&loop->net, calls);
    (void)pthread_mutex_unlock(&calls->mutex);
    (void)knit_mailbox_send(
        loop->all->outbox, (struct knit_mailbox_message){KNIT_MAILBOX_CALLS, -1, ticket});
}

/* What the loop has answered in time, locked; NULL: nothing. */
static struct knit_calls *lock(const struct knit_calls_page *page, uint32_t loop)
{
    struct knit_calls *calls = &page->loops->calls[loop];

    (void)pthread_mutex_lock(&calls->mutex);
    if (calls->ticket == page->ticket)
        return calls;
    (void)pthread_mutex_unlock(&calls->mutex);
    return NULL;
}

static void unlock(struct knit_calls *calls)
{
    if (calls != NULL)
        (void)pthread_mutex_unlock(&calls->mutex);
}

/* Of a session over shared memory: as its connection's loop says, else its user. */
static void name_foreign(
    const struct knit_calls_page *page, uint64_t session, uid_t uid, char ret_name[KNIT_CALLS_NAME])
{
    (void)snprintf(ret_name, KNIT_CALLS_NAME, "uid:%u", (unsigned)uid);
    for (uint32_t i = 0; i < page->loops->count; i++) {
        struct knit_calls *calls = lock(page, i);

        for (uint32_t k = 0; calls != NULL && k < calls->named_count; k++)
            if (calls->named[k].session == session)
                memcpy(ret_name, calls->named[k].principal, KNIT_CALLS_NAME);
        unlock(calls);
    }
}

/* Names are cut, and may be anything. */
static void put_name(struct knit_writer *writer, const char *key, const char *name)
{
    knit_writer_member_str(writer, key, knit_span(name, knit_text_valid(name, strlen(name))));
}

/* ---- rows ----------------------------------------------------------------------------------- */

static struct row *add_row(struct join *join, uint32_t task, uint64_t session, uint32_t slot,
    uint64_t gen, const struct knit_host_running *running)
{
    struct row *row = &join->rows[join->row_count++];

    *row = (struct row){
        .task = task, .running = running, .session = session, .slot = slot, .gen = gen};
    return row;
}

/* Where it runs; NULL: it does not. */
static const struct knit_host_running *take_running(
    struct join *join, uint64_t session, const struct knit_calls_row *row)
{
    for (uint32_t i = 0; i < join->running_count; i++) {
        const struct knit_host_running *running = &join->running[i];

        if (!join->was_put[i] && running->session == session && running->slot == row->slot &&
            running->gen == row->gen) {
            join->was_put[i] = true;
            return running;
        }
    }
    return NULL;
}

/* Of several principals of one name, and of one in several loops, there is one row. */
static void add_caller(struct join *join, const struct knit_calls_caller *from)
{
    for (uint32_t i = 0; i < join->caller_count; i++) {
        if (strcmp(join->callers[i].principal, from->principal) == 0) {
            join->callers[i].connections += from->connections;
            return;
        }
    }
    join->callers[join->caller_count++] = *from;
}

/* All that they have listed: copied at once, since one that is late may list anew meanwhile. */
static void add_of_loops(struct join *join)
{
    for (uint32_t i = 0; i < join->page->loops->count; i++) {
        struct knit_calls *calls = lock(join->page, i);

        if (calls == NULL)
            continue;
        for (uint32_t k = 0; k < calls->row_count; k++) {
            const struct knit_calls_row *from = &calls->rows[k];
            struct row *row = add_row(join, from->task, calls->session, from->slot, from->gen,
                take_running(join, calls->session, from));

            memcpy(row->principal, from->principal, sizeof(row->principal));
        }
        for (uint32_t k = 0; k < calls->waiting_count; k++)
            join->waiting[join->waiting_count++] = calls->waiting[k];
        for (uint32_t k = 0; k < calls->caller_count; k++)
            add_caller(join, &calls->callers[k]);
        join->left_out += calls->left_out;
        unlock(calls);
    }
}

static bool ran_before(const struct knit_calls_page *page, const struct knit_host_running *running)
{
    for (uint32_t i = 0; i < page->before_count; i++)
        if (page->before[i].session == running->session && page->before[i].slot == running->slot &&
            page->before[i].gen == running->gen)
            return true;
    return false;
}

/* Of a call by sockets that runs, and that its loop has not listed: "?" where the loop had no time
 * or no room for it. NULL: it began since. */
static const char *name_unlisted(
    const struct knit_calls_page *page, const struct knit_host_running *running)
{
    bool lists_all = false;

    for (uint32_t i = 0; i < page->loops->count; i++) {
        struct knit_calls *calls = lock(page, i);

        if (calls != NULL && calls->session == running->session)
            lists_all = calls->row_count < KNIT_CALLS_MAX;
        unlock(calls);
    }
    if (!lists_all)
        return "?";
    return ran_before(page, running) ? "gone" : NULL;
}

/* What runs and no loop has listed. */
static void add_running(struct join *join, const struct knit_host_running *running)
{
    const char *name = "";
    struct row *row;

    if (!running->is_foreign)
        name = name_unlisted(join->page, running);
    if (name == NULL)
        return;
    row = add_row(join, running->task, running->session, running->slot, running->gen, running);
    if (running->is_foreign)
        name_foreign(join->page, running->session, running->uid, row->principal);
    else
        (void)snprintf(row->principal, sizeof(row->principal), "%s", name);
}

/* Those that no loop has listed: by shared memory, or nobody waits for them. */
static void add_others(struct join *join)
{
    uint64_t more;
    uint32_t queued = knit_host_queued(join->page->pool, join->queued, QUEUED_MAX, &more);

    join->left_out += more;
    for (uint32_t i = 0; i < join->running_count; i++)
        if (!join->was_put[i])
            add_running(join, &join->running[i]);
    for (uint32_t i = 0; i < queued; i++) {
        const struct knit_host_queued *from = &join->queued[i];
        struct row *row =
            add_row(join, from->call.task, from->session, from->call.slot, from->call.gen, NULL);

        name_foreign(join->page, from->session, from->uid, row->principal);
    }
}

static void put_row(struct knit_writer *writer, const struct join *join, const struct row *row)
{
    const struct knit_registry_task *task =
        knit_registry_at(knit_host_registry(join->page->pool), row->task);

    knit_writer_map(writer, row->running != NULL ? 9 : 6);
    knit_writer_text(writer, "task");
    knit_writer_text(writer, task != NULL ? task->name : "?");
    knit_writer_text(writer, "state");
    knit_writer_text(writer, row->running != NULL ? "running" : "queued");
    put_name(writer, "principal", row->principal);
    if (row->running != NULL) {
        knit_writer_member_uint(writer, "age_ms", row->running->age_ns / MS_NS);
        knit_writer_member_uint(writer, "worker", row->running->lane);
        knit_writer_member_uint(writer, "pid", (uint64_t)row->running->pid);
    }
    knit_writer_member_uint(writer, "session", row->session);
    knit_writer_member_uint(writer, "slot", row->slot);
    knit_writer_member_uint(writer, "generation", row->gen);
}

/* ---- what waits outside of the lanes -------------------------------------------------------- */

static void put_waiting(struct knit_writer *writer, const struct join *join)
{
    knit_writer_text(writer, "waiting");
    knit_writer_array(writer, join->waiting_count);
    for (uint32_t i = 0; i < join->waiting_count; i++) {
        const struct knit_calls_waiting *waiting = &join->waiting[i];
        uint64_t age_ns = waiting->since_ns < join->now_ns ? join->now_ns - waiting->since_ns : 0;

        knit_writer_map(writer, 3);
        put_name(writer, "principal", waiting->principal);
        knit_writer_member_uint(writer, "count", waiting->count);
        knit_writer_member_uint(writer, "age_ms", age_ns / MS_NS);
    }
}

/* ---- who has connections -------------------------------------------------------------------- */

static void put_callers(struct knit_writer *writer, const struct join *join)
{
    knit_writer_text(writer, "callers");
    knit_writer_array(writer, join->caller_count);
    for (uint32_t i = 0; i < join->caller_count; i++) {
        knit_writer_map(writer, 2);
        put_name(writer, "principal", join->callers[i].principal);
        knit_writer_member_uint(writer, "connections", join->callers[i].connections);
    }
}

/* ---- all of it ------------------------------------------------------------------------------ */

static struct join *new_join(const struct knit_calls_page *page)
{
    const size_t rows = (size_t)page->loops->count * KNIT_CALLS_MAX + KNIT_LANES_MAX + QUEUED_MAX;
    struct join *join = calloc(1, sizeof(*join) + rows * sizeof(join->rows[0]));

    if (join != NULL) {
        join->page = page;
        join->now_ns = knit_clock_ns();
        join->running_count = knit_host_running(page->pool, join->running);
    }
    return join;
}

void knit_calls_page_put(const struct knit_calls_page *page, struct knit_buffer *buffer)
{
    struct join *join = new_join(page);
    struct knit_writer writer;

    if (join == NULL) {
        buffer->error = -ENOMEM;
        return;
    }
    add_of_loops(join);
    add_others(join);
    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 4);
    knit_writer_text(&writer, "calls");
    knit_writer_array(&writer, join->row_count);
    for (uint32_t i = 0; i < join->row_count; i++)
        put_row(&writer, join, &join->rows[i]);
    put_waiting(&writer, join);
    put_callers(&writer, join);
    knit_writer_member_uint(&writer, "left_out", join->left_out);
    free(join);
    (void)knit_writer_commit(&writer);
}

/* ---- sessions ------------------------------------------------------------------------------- */

static void put_session(struct knit_writer *writer, const struct knit_calls_page *page,
    const struct knit_host_session_row *row)
{
    char name[KNIT_CALLS_NAME];

    knit_writer_map(writer, row->is_foreign ? 10 : 7);
    knit_writer_member_uint(writer, "session", row->id);
    knit_writer_text(writer, "kind");
    knit_writer_text(writer, row->is_foreign ? "shm" : "loop");
    if (row->is_foreign) {
        name_foreign(page, row->id, row->uid, name);
        put_name(writer, "principal", name);
        knit_writer_member_uint(writer, "uid", row->uid);
        knit_writer_member_uint(writer, "pid", (uint64_t)row->pid);
    }
    knit_writer_text(writer, "state");
    knit_writer_text(writer, row->state);
    knit_writer_member_uint(writer, "slots", row->slots);
    knit_writer_member_uint(writer, "running", row->running);
    knit_writer_member_uint(writer, "queued", row->queued);
    knit_writer_member_uint(writer, "memory_bytes", row->memory_bytes);
}

void knit_calls_page_put_sessions(const struct knit_calls_page *page, struct knit_buffer *buffer)
{
    struct knit_host_session_row rows[KNIT_HOST_SESSIONS_MAX];
    uint32_t count = knit_host_sessions(page->pool, rows, KNIT_HOST_SESSIONS_MAX);
    struct knit_writer writer;

    knit_writer_init(&writer, buffer);
    knit_writer_map(&writer, 1);
    knit_writer_text(&writer, "sessions");
    knit_writer_array(&writer, count);
    for (uint32_t i = 0; i < count; i++)
        put_session(&writer, page, &rows[i]);
    (void)knit_writer_commit(&writer);
}
