/* SPDX-License-Identifier: Apache-2.0 */
/* What the host sees of the calls that run: for how long, and whether anybody still waits for them.
 *
 * Threads: under the pool's mutex, on the dispatching thread.
 */
#pragma once

#include "fastpath/host/host.h"

/* The timer that was armed for pool->due_ns has led to this tick. What it is late by is time in
 * which the machine stood still: it is added to pool->stood_ns, and to the times of the pool that
 * somebody else has to meet. */
void knit_watch_note_delay(struct knit_host *pool, uint64_t now_ns);

/* Looks at all running calls when that is due. Reports those that have run for slow_call_ms. */
void knit_watch_running(struct knit_host *pool, uint64_t now_ns);

/* Whether the worker has ignored the abort of its running call for abort_grace_ms. */
bool knit_watch_is_overdue(const struct knit_host *pool, const struct knit_worker *worker);

/* Whether the worker still runs the call that was watched last, and no caller waits for it: KNIT_OK
 * if not, else the code that the call ends with. */
enum knit_code knit_watch_given_up(
    struct knit_host *pool, const struct knit_worker *worker, uint64_t now_ns);

/* The session of the call that the worker runs, by its claim; NULL when it has answered it. */
struct knit_host_session *knit_watch_call(
    struct knit_host *pool, const struct knit_worker *worker, uint32_t *ret_slot);

/* Which call the worker runs, and whose: session, slot, gen, is_foreign, uid and trace of an event.
 * When it has answered it, nothing changes. */
void knit_watch_describe(
    struct knit_host *pool, const struct knit_worker *worker, struct knit_host_event *event);
