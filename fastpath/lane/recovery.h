/* SPDX-License-Identifier: Apache-2.0 */
/* Outcomes for the calls of those who cannot give them: dead workers, and pools without workers.
 *
 * The host does nothing here that a worker could not: it claims by the same CAS and answers in the
 * same words. The one privilege it has is to answer in the place of an owner that is dead, which
 * is why that owner must have been reaped: from then on nobody else writes those replies.
 *
 * Every step only raises words or writes an answer that was not there, so a recovery that was
 * broken off can be begun again, and one that was finished does nothing the second time.
 *
 * Threads: the host's one; workers and callers go on beside it.
 * Security: request memory is a stranger's. It is loaded once, and every loop is bounded by private
 * numbers; nonsense in a ring ends the look into that ring.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/layout.h"

/* A session as the host sees it. */
struct knit_host_session_view {
    struct knit_geometry geometry;
    struct knit_request_view request;
    struct knit_reply_view reply;
    int bell_fd; /* the host's own to ring; -1 = none */
    bool bell_is_pipe;
};

/* An error in the words of a lane: fits a cell. */
struct knit_recovery_error {
    uint32_t len;
    _Alignas(8) unsigned char bytes[KNIT_INLINE_MAX];
};

/* signal and limit: 0 = not told. A message that does not fit is cut. */
void knit_recovery_make_error(struct knit_recovery_error *ret_error, enum knit_code code,
    enum knit_started started, const char *message, int signal, uint64_t limit);

/* 1. The lane has no worker: siblings may take what is queued there. */
void knit_recovery_vacate(const struct knit_board_view *board, const struct knit_pool_view *pool,
    uint32_t lanes, uint32_t lane);

/* 2. For each session: every call that `owner` (reaped) had claimed and not answered gets an error;
 * the one in `slot_special`, if any, the other. Returns how many. Wakes the caller when there were
 * some. Also when there were none the caller looks again, because answers may have come without
 * news. */
struct knit_recovery_death {
    uint32_t lane;
    uint32_t owner;
    uint32_t special_slot; /* UINT32_MAX = none */
    const struct knit_recovery_error *error;
    const struct knit_recovery_error *special;
};
uint32_t knit_recovery_answer(
    const struct knit_host_session_view *session, const struct knit_recovery_death *death);

/* Whether `owner` has claimed the slot's call and not answered it. slot < geometry.slots. */
bool knit_recovery_holds(
    const struct knit_host_session_view *session, uint32_t slot, uint32_t owner);

/* How many calls `owner` has claimed and not answered. */
uint32_t knit_recovery_count(const struct knit_host_session_view *session, uint32_t owner);

/* The host claims every queued call of the session and ends it with this error. Returns how many;
 * wakes the caller when there were some. Workers may be claiming at the same time. */
uint32_t knit_recovery_refuse(
    const struct knit_host_session_view *session, const struct knit_recovery_error *error);

/* Nothing is queued, nothing is claimed and unanswered. */
bool knit_recovery_is_idle(const struct knit_host_session_view *session);

/* Have the caller look at everything again. */
void knit_recovery_wake(const struct knit_host_session_view *session);
