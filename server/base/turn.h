/* SPDX-License-Identifier: Apache-2.0 */
/* What the modules of an event loop take from it.
 *
 * A turn is one round of a loop: events, outcomes, waiting calls, output. During a turn the
 * settings do not change: `settings` points to a snapshot, and new settings come as another
 * snapshot between two turns. So a module asks for a setting when it needs it and keeps no copy.
 *
 * Threads: its loop's; other threads read the counters.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/bell.h"
#include "proto/buffer.h"
#include "server/base/counters.h"

struct knit_log;
struct knit_principals;
struct knit_rights_view;
struct knit_settings;

/* Calls that are refused for want of room. */
enum knit_turn_refusal {
    KNIT_TURN_QUOTA,
    KNIT_TURN_OVERLOADED,
    KNIT_TURN_REFUSALS, /* how many there are */
};

struct knit_turn {
    const struct knit_settings *settings;
    struct knit_log *log;
    struct knit_principals *principals;
    const struct knit_rights_view *rights; /* fastpath/lane/rights.h; NULL: there is none */
    uint32_t loop;                         /* the loop's number, for the log */
    uint64_t now_ns; /* CLOCK_MONOTONIC, when input came last or the turn's second half began */
    uint64_t input_until_ns; /* what of the turn is for input ends; 0 = none has come */
    bool had_events;         /* a module sets it when an event came: the loop does not sleep yet */
    bool needs_sweep;        /* a module sets it when something must be checked once a second */
    uint32_t warnings;       /* about peers, logged in this second */
    uint32_t refusals[KNIT_TURN_REFUSALS]; /* in this second */
    struct knit_buffer scratch;            /* for the message that is encoded just now */
    struct knit_counters counters;
};

/* Timeouts count from when their request came, so the clock is read at each input as well. */
static inline void knit_turn_tick(struct knit_turn *turn)
{
    turn->now_ns = knit_clock_ns();
}

/* Whether a line about a peer's misbehaviour may be logged: a few a second, so that no peer can
 * fill a disk. */
KNIT_MUST_CHECK bool knit_turn_may_warn(struct knit_turn *turn);

/* The same of a refusal: one of each kind a second. They are no misbehaviour, and may be so many
 * that they would leave no room for lines about that. */
KNIT_MUST_CHECK bool knit_turn_may_say(struct knit_turn *turn, enum knit_turn_refusal refusal);

/* The second is over: logs how many lines were left out. */
void knit_turn_end_second(struct knit_turn *turn);
