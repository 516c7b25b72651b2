/* SPDX-License-Identifier: Apache-2.0 */
/* Instructions and allocations of the parts of a call.
 *
 * A phase is one part of a call, done many times in a row by one function whose name begins with
 * counted_. Callgrind collects inside those functions only (see counts.py), so preparation, warm-up
 * and checks are not counted. The program itself counts allocations, so it can also run alone.
 *
 * The program has a clock of its own that advances by a fixed step each time it is read. So code
 * that depends on time takes the same path in each run, and figures repeat to the instruction.
 * System calls are counted by their cost in user mode.
 */
#pragma once

#include <stddef.h>
#include <stdint.h>

#include "fastpath/lane/session.h"
#include "fastpath/worker/runner.h"
#include "fastpath/worker/task_api.h"
#include "proto/span.h"

enum {
    KNIT_COUNTS_TURN = 16,                     /* calls that a turn of a lane serves at most */
    KNIT_COUNTS_BATCH = 62 * KNIT_COUNTS_TURN, /* calls of a phase: fits a session's slots */
};

/* The compiler may neither inline it nor merge it with another phase of the same body. */
#ifdef __clang__
#define KNIT_COUNTS_APART __attribute__((noinline))
#else
#define KNIT_COUNTS_APART __attribute__((noipa))
#endif

#define KNIT_COUNTED(name, body)                                                                   \
    static KNIT_COUNTS_APART void counted_##name(void *arg)                                        \
    {                                                                                              \
        body(arg);                                                                                 \
    }

struct knit_counts_phase {
    const char *name;
    void (*counted)(void *arg); /* NULL: work between two phases that is not counted */
    void (*body)(void *arg);    /* the same, outside of the collected functions */
    uint32_t calls;             /* of one run */
};

#define KNIT_COUNTS_PHASE(name, body, calls)                                                       \
    {                                                                                              \
#name, counted_##name, body, calls                                                         \
    }
#define KNIT_COUNTS_BETWEEN(body)                                                                  \
    {                                                                                              \
        NULL, NULL, body, 0                                                                        \
    }

/* Runs the phases one after the other, some rounds to warm up, then `rounds` counted ones, and
 * prints "name calls allocations" for each. */
void knit_counts_measure(
    const struct knit_counts_phase *phases, size_t count, uint32_t rounds, void *arg);

/* A session and a worker's lane, the first of so many, in one process over memory that is mapped
 * once. The program runs the turns of all sides itself, so none sleeps or is ahead; tasks run as
 * they do in a worker. */
struct knit_counts_lanes {
    struct knit_geometry geometry;
    struct knit_board_view board;
    struct knit_request_view request;
    struct knit_reply_view reply;
    struct knit_session *session;
    struct knit_lane *lane;
    struct knit_modules *modules;
    struct knit_runner *runner;
    uint32_t sessions; /* attached to the lane; all but the first are idle */
};

void knit_counts_lanes_init(struct knit_counts_lanes *lanes, const char *const *modules,
    uint32_t count, uint32_t lanes_count);
void knit_counts_lanes_fini(struct knit_counts_lanes *lanes);

/* Turns until `calls` calls, all there are, have been answered. */
void knit_counts_lanes_turn(struct knit_counts_lanes *lanes, uint32_t calls);

uint32_t knit_counts_task(const struct knit_counts_lanes *lanes, const char *name);

/* [bin of len bytes], as the load generator's echo:len sends it; room for len + 8 bytes. */
struct knit_span knit_counts_params(unsigned char *room, uint32_t len);

void knit_counts_calls(struct knit_counts_lanes *lanes);
void knit_counts_large(struct knit_counts_lanes *lanes); /* calls of 65,000 bytes */
void knit_counts_proto(void);
void knit_counts_server(struct knit_counts_lanes *lanes);
void knit_counts_server_tasks(struct knit_counts_lanes *lanes); /* with a registry of 10,000 */
void knit_counts_more_lanes(struct knit_counts_lanes *lanes);   /* as many as lanes->geometry has */
void knit_counts_thread(struct knit_counts_lanes *lanes);       /* with a worker that is a thread */
void knit_counts_parks(struct knit_counts_lanes *lanes);        /* with as many sessions as lanes */
void knit_counts_sessions(struct knit_counts_lanes *lanes);     /* last: its idle sessions stay */
void knit_counts_flows(struct knit_counts_lanes *lanes);        /* last: the other session stays */
void knit_counts_library(struct knit_counts_lanes *lanes);      /* last: the answers are made up */

/* Ends the program: it does not do what it should count. */
_Noreturn void knit_counts_fail(const char *what);
