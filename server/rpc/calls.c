/* SPDX-License-Identifier: Apache-2.0 */
/* A record says who waits for a slot's call, and it is all that does: a call whose caller has gone
 * is not listed here. While it runs the host knows of it (fastpath/host/running.h). */
#include "server/rpc/calls.h"

#include <stdio.h>

#include "fastpath/host/lease.h"
#include "server/rpc/router.h"

void knit_calls_init(struct knit_calls *calls)
{
    (void)pthread_mutex_init(&calls->mutex, NULL);
}

static void name(char ret_name[KNIT_CALLS_NAME], const struct knit_caller *caller)
{
    const struct knit_principal *principal = caller->principal;

    (void)snprintf(ret_name, KNIT_CALLS_NAME, "%s", principal != NULL ? principal->name : "nobody");
}

void knit_calls_begin(struct knit_calls *calls, uint64_t ticket, const struct knit_router *router)
{
    calls->ticket = ticket;
    calls->session = router->session->id;
    calls->left_out = 0;
    calls->row_count = calls->waiting_count = calls->named_count = calls->caller_count = 0;
    for (uint32_t slot = 0; slot < router->slots; slot++) {
        const struct knit_record *record = &router->records[slot];
        struct knit_calls_row *row = &calls->rows[calls->row_count];

        if (record->charged_to == NULL)
            continue;
        if (calls->row_count == KNIT_CALLS_MAX) {
            calls->left_out++;
            continue;
        }
        *row = (struct knit_calls_row){.slot = slot,
            .task = record->task,
            .gen = knit_session_gen_of(router->session->session, slot)};
        name(row->principal, record->charged_to);
        calls->row_count++;
    }
}

/* One connection more. The principal that came last is looked for first: of many connections most
 * have few. */
static void count_connection(struct knit_calls *calls, const struct knit_caller *caller)
{
    struct knit_calls_caller *row;

    for (uint32_t i = calls->caller_count; i > 0; i--) {
        if (calls->callers[i - 1].of == caller->principal) {
            calls->callers[i - 1].connections++;
            return;
        }
    }
    if (calls->caller_count == KNIT_CALLS_CALLERS)
        return;
    row = &calls->callers[calls->caller_count++];
    row->of = caller->principal;
    row->connections = 1;
    name(row->principal, caller);
}

void knit_calls_add_caller(
    struct knit_calls *calls, const struct knit_caller *caller, uint64_t since_ns)
{
    count_connection(calls, caller);
    if (caller->session_id != 0 && calls->named_count < KNIT_CALLS_NAMED) {
        struct knit_calls_named *named = &calls->named[calls->named_count++];

        named->session = caller->session_id;
        name(named->principal, caller);
    }
    if (caller->waiting_calls == 0)
        return;
    if (calls->waiting_count < KNIT_CALLS_WAITING) {
        struct knit_calls_waiting *waiting = &calls->waiting[calls->waiting_count++];

        waiting->count = caller->waiting_calls;
        waiting->since_ns = since_ns;
        name(waiting->principal, caller);
    } else {
        calls->left_out += caller->waiting_calls;
    }
}
