/* SPDX-License-Identifier: Apache-2.0 */
/* The rings of one session: their cursors, and the order in which a worker serves them.
 *
 * Edges:
 *   K1 stir  acquire fence in knit_lane_has_something(), between the ctrl of the next cell of the
 *            ring NORMAL and what is read of other rings; with the session's release behind a call
 *            of one of these (session_publish.c)
 *
 * Threads: the lane's.
 */
#pragma once

#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/rings.h"

/* The cursor of that ring. */
static inline struct knit_cursor *knit_lane_cursor(const struct knit_lane *lane,
    struct knit_worker_session *session, uint32_t from, enum knit_ring ring)
{
    return from == lane->options.index && ring == KNIT_RING_NORMAL
               ? &session->home
               : &session->cursor[ring * lane->options.lanes + from];
}

/* The lane of that cursor. */
static inline uint32_t knit_lane_of(const struct knit_lane *lane,
    const struct knit_worker_session *session, const struct knit_cursor *cursor)
{
    return cursor == &session->home
               ? lane->options.index
               : (uint32_t)(cursor - session->cursor) % lane->options.lanes; /* NOLINT: not 0 */
}

/* Whether there may be a call behind the one at the cursor, in any ring of its lane, that a sibling
 * may claim. */
bool knit_lane_has_more(
    struct knit_lane *lane, struct knit_worker_session *session, struct knit_cursor *cursor);

/* Serves up to `most` calls of all rings of this worker's lane, in their order; returns how many
 * they were. */
uint32_t knit_lane_serve_classes(
    struct knit_lane *lane, struct knit_worker_session *session, uint32_t most);

/* The ring's next call has stood there for so long that it comes before calls of other rings. Or it
 * was not seen there before: from now on it stands. */
bool knit_lane_has_aged(struct knit_cursor *cursor, uint64_t now);
