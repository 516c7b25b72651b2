/* SPDX-License-Identifier: Apache-2.0 */
/* Checks a session's memory against the lane protocol and reports every violation as a sentence.
 *
 * Tests inspect after each crash that they cause, and an operator inspects a pool that hangs (`knit
 * check`). The inspector only reads, and what it reads is hostile: each word is loaded once into a
 * local, loops are bounded by the geometry, and no number found there is used as an offset before
 * it was checked. Arenas are not read, so no page of a sparse segment is allocated.
 *
 * A pool may run meanwhile. Words that belong together are read again, and what changed in between
 * is not reported. An inspection may still see a step half done, such as a recovery: in a live
 * pool only a sentence that the next inspection repeats is a finding.
 *
 * Threads: any; one inspection runs on one thread.
 */
#pragma once

#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/layout.h"

#define KNIT_INSPECT_SENTENCE_BYTES 256u
#define KNIT_INSPECT_FINDINGS_MAX   64u /* reported of one session; more are only counted */

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

/* What a lane does at this moment. */
struct knit_inspect_lane {
    const char *state; /* "vacant", "awake", "parked", "in no state" */
    uint64_t session;  /* id, of the call that runs; 0 = no call runs */
    uint32_t slot, task;
};

struct knit_inspect_lane knit_inspect_lane(const struct knit_board_view *board, uint32_t lane);

/* header: a private copy. NULL, or the sentence that says why the segment cannot be inspected. For
 * a session's segments NULL means that the geometry is usable. */
const char *knit_inspect_head(
    const struct knit_segment_header *header, enum knit_segment_kind kind, uint64_t bytes);
