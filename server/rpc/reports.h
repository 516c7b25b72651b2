/* SPDX-License-Identifier: Apache-2.0 */
/* What is said of calls to others: of which trace a call is a part, and which span of it; and,
 * where calls are reported (report/access_log.h, exporter.h), what became of each.
 *
 * A report begins when a call is tried for the first time, or found to wait. It ends once: with the
 * response to a request, whoever makes it; with the answer to a notification, or its refusal; or
 * when the caller of a request goes. A request's report is found by its number, and by its slot
 * while it has one; a notification's by its slot alone.
 *
 * Where nothing is reported `router->reports` is NULL, and to see that is all that a call pays.
 * Where calls are, each goes the general way, and is observed (fastpath/lane/trace.h), so that its
 * run is known.
 *
 * Threads: its loop's.
 * Limits: KNIT_REPORTS_MAX calls that have no outcome yet; of the others nothing is said but how
 * many they are.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "proto/failure.h"
#include "proto/message.h"
#include "proto/span.h"
#include "proto/trace.h"
#include "server/rpc/router.h"

enum { KNIT_REPORTS_MAX = 65536 };

/* Where the ids of a router begin: no two daemons have the same for long. */
uint64_t knit_reports_seed(void);

/* The router is complete. Returns 0 or -ENOMEM. */
KNIT_MUST_CHECK int knit_reports_add(struct knit_router *router);

/* All callers are gone; what has no outcome will have none. Accepts a router without. */
void knit_reports_fini(struct knit_router *router);

static inline bool knit_reports_are_on(const struct knit_router *router)
{
    return router->reports != NULL;
}

/* ---- a call's way. All but the next are for routers with reports ---------------------------- */

/* The trace that a call goes with, which is a child of that in `text`, of the option `trace`; or
 * one that is none, so that its run is measured. NULL: it is not observed. */
const struct knit_trace *knit_reports_trace(struct knit_caller *caller,
    const struct knit_message *message, struct knit_span text, struct knit_trace *ret_trace);

/* What a line of the log says of a call that is refused: of which trace it is a part, and which
 * span if calls are reported. Of any router. */
void knit_reports_name(const struct knit_caller *caller, const struct knit_message *message,
    struct knit_trace_texts *ret_texts);

/* Of a call that was read at since_ns. A second time does nothing. */
void knit_reports_begin(
    struct knit_caller *caller, const struct knit_message *message, uint64_t since_ns);

/* A notification was tried. One that was neither published nor refused begins again. */
void knit_reports_leave(struct knit_router *router);

void knit_reports_publish(
    struct knit_caller *caller, const struct knit_message *message, uint32_t slot);

/* The slot's call has run for so long; 0 = not known. */
void knit_reports_note_run(struct knit_router *router, uint32_t slot, uint64_t run_ns);

/* The slot's call has its answer, and that is all that becomes of a notification. */
void knit_reports_note_answer(
    struct knit_router *router, const struct knit_session_outcome *outcome);

/* The same of a notification that has ended without one. */
void knit_reports_end_slot(
    struct knit_router *router, uint32_t slot, const struct knit_failure *failure);

/* A request's outcome is this, whatever its caller gets in its place. */
void knit_reports_note_failure(
    struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure);

/* A notification was refused. */
void knit_reports_refuse(struct knit_caller *caller, const struct knit_message *message,
    const struct knit_failure *failure);

/* A message is refused that is beyond a limit of messages. Of its task nothing is known; its params
 * stand for all of it and are not read. */
void knit_reports_refuse_unread(struct knit_caller *caller, const struct knit_message *message,
    uint64_t since_ns, const struct knit_failure *failure);

/* A request's response is on its way; of those that are no calls nothing is said. */
void knit_reports_end_outcome(
    struct knit_caller *caller, uint32_t msgid, const struct knit_session_outcome *outcome);
void knit_reports_end_result(struct knit_caller *caller, uint32_t msgid, struct knit_span result);
void knit_reports_end_failure(
    struct knit_caller *caller, uint32_t msgid, const struct knit_failure *failure);

/* The caller is going. */
void knit_reports_forget(struct knit_caller *caller);

/* The end of a turn. */
void knit_reports_turn(struct knit_router *router);
