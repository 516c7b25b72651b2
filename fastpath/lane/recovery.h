/* SPDX-License-Identifier: Apache-2.0 */
/* Outcomes for calls without a worker: those that a dead worker had claimed, and those that are
 * queued in a pool where no worker lives.
 *
 * The host claims by the same CAS as a worker and answers into the same words. It has one
 * privilege: it answers in place of a dead owner. That owner must have been reaped, because from
 * then on no other process writes those replies.
 *
 * Each step only raises words or writes an answer that was missing. So a recovery that broke off
 * can be started again, and a complete one does nothing the second time.
 *
 * Threads: the host's one; workers and callers run at the same time. Security: request memory is
 * hostile. It is loaded once, and loops are bounded by private numbers; a bad cell ends the walk of
 * its ring. */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/layout.h"
#include "proto/trace.h"

/* The host's view of a session. */
struct knit_host_session_view {
    struct knit_geometry geometry;
    struct knit_request_view request;
    struct knit_reply_view reply;
    int bell_fd; /* to notify an event loop; the host's own; -1 = none */
    bool bell_is_pipe;
};

/* An encoded error that fits a cell. */
struct knit_recovery_error {
    uint32_t len;
    _Alignas(8) unsigned char bytes[KNIT_INLINE_MAX];
};

/* signal and limit: 0 = left out. A message that does not fit is cut. */
void knit_recovery_make_error(struct knit_recovery_error *ret_error, enum knit_code code,
    enum knit_started started, const char *message, int signal, uint64_t limit);

/* 1. The lane has no worker: siblings may claim what is queued there. */
void knit_recovery_vacate(const struct knit_board_view *board, const struct knit_pool_view *pool,
    uint32_t lanes, uint32_t lane);

/* 2. For each session: every call that `owner` (reaped) had claimed and not answered is answered
 * with `error`, the one in special_slot with `special`. Returns how many. The caller is woken and
 * scans all its slots, also when there were none: answers of the dead worker may have no
 * completion. */
struct knit_recovery_death {
    uint32_t lane;
    uint32_t owner;
    uint32_t special_slot; /* UINT32_MAX = none */
    const struct knit_recovery_error *error;
    const struct knit_recovery_error *special;
};
uint32_t knit_recovery_answer(
    const struct knit_host_session_view *session, const struct knit_recovery_death *death);

/* Whether `owner` has claimed the slot's call and not answered it, and which one that is. slot <
 * geometry.slots. */
KNIT_MUST_CHECK bool knit_recovery_holds(
    const struct knit_host_session_view *session, uint32_t slot, uint32_t owner, uint64_t *ret_gen);

/* The trace of the slot's call of that generation, if it has one. slot < geometry.slots. */
KNIT_MUST_CHECK bool knit_recovery_trace(const struct knit_host_session_view *session,
    uint32_t slot, uint64_t gen, struct knit_trace *ret_trace);

/* How many calls are claimed, by whomever, and not answered. */
uint32_t knit_recovery_count_claimed(const struct knit_host_session_view *session);

/* The slot's claim: of two calls of one slot each has another. slot < geometry.slots. */
uint64_t knit_recovery_claim(const struct knit_host_session_view *session, uint32_t slot);

/* Whether the slot's next answer is that of the generation: its call is not answered; it may be
 * published, claimed, or not be there yet. slot < geometry.slots. */
bool knit_recovery_awaits(
    const struct knit_host_session_view *session, uint32_t slot, uint64_t gen);

/* Whether the generation's call has been answered: one of those before the next answer. It takes
 * 2^40 calls of a slot until it errs. slot < geometry.slots. */
bool knit_recovery_has_answered(
    const struct knit_host_session_view *session, uint32_t slot, uint64_t gen);

/* Whether it holds the call so, and the caller asks that it stop. */
bool knit_recovery_is_aborted(
    const struct knit_host_session_view *session, uint32_t slot, uint32_t owner);

/* The host claims every queued call of the session and answers it with this error. Returns how
 * many; wakes the caller when there were some. Workers may claim at the same time. */
uint32_t knit_recovery_refuse(
    const struct knit_host_session_view *session, const struct knit_recovery_error *error);

/* No call is queued, and none is claimed and unanswered. */
bool knit_recovery_is_idle(const struct knit_host_session_view *session);

/* Wake the caller, if it sleeps, and have it scan all its slots. */
void knit_recovery_wake(const struct knit_host_session_view *session);
