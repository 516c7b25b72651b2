/* SPDX-License-Identifier: Apache-2.0 */
/* {calls: [{task, state, principal, age_ms?, worker?, pid?, session, slot}], waiting: [{principal,
 *  count, age_ms}], left_out}. A call is `running`, then it has a worker and an age, or `queued`:
 * in a lane, or answered and not collected yet. `waiting` are those that have not come to a lane.
 */
#include "server/daemon/calls_page.h"

#include <stdio.h>
#include <string.h>

#include "fastpath/host/pool.h"
#include "fastpath/host/running.h"
#include "fastpath/lane/bell.h"
#include "server/admin/json.h"
#include "server/admin/text.h"
#include "server/daemon/loop.h"

#define MS_NS UINT64_C(1000000)

struct join {
    const struct knit_calls_page *page;
    struct knit_buffer *buffer;
    struct knit_host_running running[KNIT_LANES_MAX];
    bool was_put[KNIT_LANES_MAX];
    uint32_t running_count;
    bool is_behind; /* something stands in the list already */
    uint64_t now_ns;
};

bool knit_calls_page_ask(struct knit_calls_page *page)
{
    page->ticket++;
    page->asked = page->answered = 0;
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

/* ---- rows ---------------------------------------------------------------------------------- */

static void begin_row(struct join *join)
{
    knit_text_put(join->buffer, join->is_behind ? ",{" : "{");
    join->is_behind = true;
}

static void put_call(struct join *join, uint32_t task, const char *principal,
    const struct knit_host_running *running, uint64_t session, uint32_t slot)
{
    const struct knit_registry_task *entry =
        knit_registry_at(knit_host_registry(join->page->pool), task);

    begin_row(join);
    knit_text_put(join->buffer, "\"task\":");
    knit_json_put_text(join->buffer, knit_span_text(entry != NULL ? entry->name : "?"));
    knit_text_put(
        join->buffer, ",\"state\":\"%s\",\"principal\":", running != NULL ? "running" : "queued");
    knit_json_put_text(join->buffer, knit_span_text(principal));
    if (running != NULL)
        knit_text_put(join->buffer, ",\"age_ms\":%llu,\"worker\":%u,\"pid\":%d",
            (unsigned long long)(running->age_ns / MS_NS), running->lane, (int)running->pid);
    knit_text_put(
        join->buffer, ",\"session\":%llu,\"slot\":%u}", (unsigned long long)session, slot);
}

/* Where it runs; NULL: it does not. */
static const struct knit_host_running *take_running(
    struct join *join, uint64_t session, const struct knit_calls_row *row)
{
    for (uint32_t i = 0; i < join->running_count; i++) {
        const struct knit_host_running *running = &join->running[i];

        if (!join->was_put[i] && running->session == session && running->slot == row->slot &&
            running->task == row->task) {
            join->was_put[i] = true;
            return running;
        }
    }
    return NULL;
}

/* What the loop has answered in time, locked; NULL: nothing. */
static struct knit_calls *lock(const struct join *join, uint32_t loop)
{
    struct knit_calls *calls = &join->page->loops->calls[loop];

    (void)pthread_mutex_lock(&calls->mutex);
    if (calls->ticket == join->page->ticket)
        return calls;
    (void)pthread_mutex_unlock(&calls->mutex);
    return NULL;
}

/* One that no loop has listed: by shared memory, or nobody waits for it. */
static void put_other(struct join *join, const struct knit_host_running *running)
{
    char name[KNIT_CALLS_NAME] = "gone";

    if (running->is_foreign)
        (void)snprintf(name, sizeof(name), "uid:%u", (unsigned)running->uid);
    for (uint32_t i = 0; running->is_foreign && i < join->page->loops->count; i++) {
        struct knit_calls *calls = lock(join, i);

        for (uint32_t k = 0; calls != NULL && k < calls->named_count; k++)
            if (calls->named[k].session == running->session)
                memcpy(name, calls->named[k].principal, sizeof(name));
        if (calls != NULL)
            (void)pthread_mutex_unlock(&calls->mutex);
    }
    put_call(join, running->task, name, running, running->session, running->slot);
}

static void put_calls(struct join *join)
{
    for (uint32_t i = 0; i < join->page->loops->count; i++) {
        struct knit_calls *calls = lock(join, i);

        for (uint32_t k = 0; calls != NULL && k < calls->row_count; k++) {
            const struct knit_calls_row *row = &calls->rows[k];

            put_call(join, row->task, row->principal, take_running(join, calls->session, row),
                calls->session, row->slot);
        }
        if (calls != NULL)
            (void)pthread_mutex_unlock(&calls->mutex);
    }
    for (uint32_t i = 0; i < join->running_count; i++)
        if (!join->was_put[i])
            put_other(join, &join->running[i]);
}

static void put_waiting(struct join *join, uint64_t *left_out)
{
    for (uint32_t i = 0; i < join->page->loops->count; i++) {
        struct knit_calls *calls = lock(join, i);

        for (uint32_t k = 0; calls != NULL && k < calls->waiting_count; k++) {
            const struct knit_calls_waiting *waiting = &calls->waiting[k];
            uint64_t age_ns =
                waiting->since_ns < join->now_ns ? join->now_ns - waiting->since_ns : 0;

            begin_row(join);
            knit_text_put(join->buffer, "\"principal\":");
            knit_json_put_text(join->buffer, knit_span_text(waiting->principal));
            knit_text_put(join->buffer, ",\"count\":%u,\"age_ms\":%llu}", waiting->count,
                (unsigned long long)(age_ns / MS_NS));
        }
        if (calls == NULL)
            continue;
        *left_out += calls->left_out;
        (void)pthread_mutex_unlock(&calls->mutex);
    }
}

int knit_calls_page_put(const struct knit_calls_page *page, struct knit_buffer *buffer)
{
    struct join join = {.page = page, .buffer = buffer, .now_ns = knit_clock_ns()};
    uint64_t left_out = 0;

    join.running_count = knit_host_running(page->pool, join.running);
    knit_text_put(join.buffer, "{\"calls\":[");
    put_calls(&join);
    join.is_behind = false;
    knit_text_put(join.buffer, "],\"waiting\":[");
    put_waiting(&join, &left_out);
    knit_text_put(join.buffer, "],\"left_out\":%llu}", (unsigned long long)left_out);
    return buffer->error;
}
