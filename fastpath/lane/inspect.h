/* SPDX-License-Identifier: Apache-2.0 */
/* Looks through a session's memory and names everything that the lane protocol forbids.
 *
 * For tests, which look after every crash they cause, and for an operator with a wedged pool (`knit
 * check`). It only reads, and it reads what strangers wrote: each word is loaded once into a local,
 * loops are bounded by the geometry, and no number found there is used as a place before it was
 * checked. The arenas are not touched, so looking fills no holes of a sparse segment there.
 *
 * A pool that works may be looked at. Words that belong together are then read again, and what
 * moved meanwhile is not reported; still a look may catch a step half done, such as a recovery. So
 * what counts in a live pool is a sentence that comes again at the next look.
 *
 * Threads: any; one look is one thread's.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/layout.h"

#define KNIT_INSPECT_SENTENCE_BYTES 256u
#define KNIT_INSPECT_FINDINGS_MAX   64u /* said of one session; what is over is only counted */

/* One broken rule: "slot 3: generation 9 is claimed and 5 is answered". */
typedef void knit_inspect_finding(void *arg, const char *sentence);

struct knit_inspect_report {
    knit_inspect_finding *on_finding; /* NULL: only count */
    void *arg;
};

struct knit_inspect_session {
    uint64_t id;                   /* 0 = not known */
    struct knit_geometry geometry; /* has passed knit_geometry_check() */
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_board_view board;
};

struct knit_inspect_counts {
    uint32_t findings;
    uint32_t queued;  /* published, not claimed */
    uint32_t running; /* claimed, not answered */
    uint32_t held;    /* results in arenas that the caller has not released */
    uint64_t held_bytes;
    uint32_t blocked_on_arena; /* lanes whose worker defers a reply until its arena has room */
    enum knit_session_state state;
};

/* 0, or -ENOMEM. */
KNIT_MUST_CHECK int knit_inspect_session(const struct knit_inspect_session *session,
    const struct knit_inspect_report *report, struct knit_inspect_counts *ret_counts);

/* The pool's board; returns the number of findings. */
uint32_t knit_inspect_board(
    const struct knit_board_view *board, uint32_t lanes, const struct knit_inspect_report *report);

/* What a lane is doing at this moment. */
struct knit_inspect_lane {
    const char *state; /* "vacant", "awake", "parked", "in no state" */
    uint64_t session;  /* id, of the call that runs; 0 = none runs */
    uint32_t slot, task;
};

struct knit_inspect_lane knit_inspect_lane(const struct knit_board_view *board, uint32_t lane);

/* A private copy of a segment's head: NULL, or the sentence that says why the segment cannot be
 * looked through. For a session's segments a NULL means that the geometry is usable. */
const char *knit_inspect_head(
    const struct knit_segment_header *header, enum knit_segment_kind kind, uint64_t bytes);
