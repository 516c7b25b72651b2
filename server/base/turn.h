/* SPDX-License-Identifier: Apache-2.0 */
/* What the modules of an event loop take from it.
 *
 * A turn is one round of a loop: events, outcomes, waiting calls, output. The settings do not
 * change while the daemon runs; a module asks for one when it needs it and keeps no copy.
 *
 * Threads: its loop's; other threads read the counters.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include <knitting/code.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/runs.h"
#include "proto/buffer.h"
#include "server/base/counters.h"
#include "server/base/log.h"

struct knit_principals;
struct knit_rights_view;
struct knit_settings;

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
    struct knit_buffer scratch; /* for the message that is encoded just now */
    struct knit_counters counters;
    struct knit_run_times waits[KNIT_RUN_ROWS]; /* of calls in their connections, by task */
};

/* Timeouts count from when their request came, so the clock is read at each input as well. */
static inline void knit_turn_tick(struct knit_turn *turn)
{
    turn->now_ns = knit_clock_ns();
}

/* Whether a line of that kind may be logged: a few a second, so that no peer can fill a disk. The
 * loop's next sweep ends the second. */
KNIT_MUST_CHECK static inline bool knit_turn_may_say(
    struct knit_turn *turn, enum knit_log_kind kind)
{
    turn->needs_sweep = true;
    return knit_log_may(turn->log, kind);
}
