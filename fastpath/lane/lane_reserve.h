/* SPDX-License-Identifier: Apache-2.0 */
/* The reserve: workers that long calls of one principal leave free.
 *
 * Flows share a worker's time (lane_flows.h), but a call that runs is not interrupted: where each
 * worker has begun a long call of one principal, all others wait for these. So while others were
 * active in the last second, the long calls of a session's principal leave workers free, as many as
 * reserve.h says. Calls of the daemon's loops are not held here, since many principals are in each:
 * the loops hold them. They count as others, but for those of the same principal, of which the
 * loops say how many they have given to workers (places.h).
 *
 * A call is long if those of its flow took over KNIT_RESERVE_LONG_NS for that task, on average, or
 * all calls of the task, where its own are not known. Before a worker begins one it says so in its
 * word, fences, and reads the words of all lanes:
 *
 *     TRYING  ->  fence (seq_cst)  ->  the others' words  ->  RUNNING or WAITING   G1
 *
 * Of two that try at once one at least sees the other. The lower lane waits until the higher one
 * has decided, the higher one counts the lower one as running: so they never begin both where there
 * is room for one, and one of them begins. There is no counter, so a death leaves nothing to
 * repair: a lane without a worker does not count, and its replacement begins with an empty word.
 *
 * A loop counts the call it wants to give, fences, and reads these words; a worker reads the count
 * behind its fence (G2). So of a loop and a worker that try at once at least one sees the other and
 * waits. Both may: then the loop tries again a millisecond later, and the worker after its nap.
 *
 * A call that is held stays in its ring, READY, and its worker looks for other work; when it sleeps
 * it does so for KNIT_RESERVE_NAP_NS at most, so what is held begins not much later than it may.
 * Every other call wakes it as ever. A worker that has ended a long call of that principal takes
 * turns between its own lane and those that wait, so none of these is forgotten.
 *
 * What is read of other lanes is a hint, which a task could write, or which a worker left that was
 * stopped: it decides when a call begins, and about nothing else. So no call is held for longer
 * than ten seconds, or eight runs of its task.
 *
 * Threads: the lane's. tests/model/reserve.pml is a model of this.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/reserve.h"

struct knit_cursor;
struct knit_lane;
struct knit_lane_flow;
struct knit_worker_session;

struct knit_lane_reserve {
    struct knit_lane_flow *seen[2]; /* flows served since they were published */
    uint64_t published_ns;
    struct knit_reserve_average others; /* as the other lanes say */
    uint32_t place;                     /* session that is first of those that wait */
    uint32_t own;    /* mark of the flow whose long call of a home ring ended last; 0 = none */
    uint32_t next;   /* lane that is first of those that wait */
    bool is_running; /* RUNNING stands in the own word */
    bool holds;      /* a call was held in this turn, here or in another lane */
};

/* Of a worker that begins: the one before may have died in a call. */
void knit_lane_begin_reserve(struct knit_lane *lane);

/* Whether a call of that task has to wait now, although its worker could begin it. With `begins`
 * it begins if not, until knit_lane_end_long(). */
bool knit_lane_holds(struct knit_lane *lane, const struct knit_worker_session *session,
    struct knit_cursor *cursor, uint32_t task, bool begins);
void knit_lane_end_long(struct knit_lane *lane, bool is_home);

/* Of the flow whose long call of a home ring ended last: the next lane where one of its calls is
 * held; as many as there are lanes: none is. */
uint32_t knit_lane_next_waiting(struct knit_lane *lane);
bool knit_lane_is_of_own(const struct knit_lane *lane, const struct knit_worker_session *session);

/* Nothing is held any more, until it is found again. */
void knit_lane_let_go(struct knit_lane *lane);

/* Which flows were active, and which waited, for the others, not too often. */
void knit_lane_publish_flows(struct knit_lane *lane, uint64_t now_ns);
