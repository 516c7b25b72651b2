/* SPDX-License-Identifier: Apache-2.0 */
/* What of an event loop's calls is in flight or waits, as one that asks gets to see it: who called
 * which task, never with what.
 *
 * A loop's thread lists them when the main thread asks, between two messages of its mailbox, and
 * nobody waits for it. Where there are more than have room they are counted.
 *
 * Threads: the mutex guards all of it.
 */
#pragma once

#include <pthread.h>
#include <stdint.h>

#include "server/rpc/caller.h"

#define KNIT_CALLS_MAX     256u
#define KNIT_CALLS_WAITING 64u
#define KNIT_CALLS_NAMED   128u
#define KNIT_CALLS_CALLERS 64u
#define KNIT_CALLS_NAME    80u

struct knit_router;

/* A call in the lanes. */
struct knit_calls_row {
    uint32_t slot, task;
    uint64_t gen;                    /* of the slot's calls, which one it is */
    char principal[KNIT_CALLS_NAME]; /* cut; of all that follow too */
};

/* Calls that wait in a connection. */
struct knit_calls_waiting {
    uint32_t count;
    uint64_t since_ns; /* of the first */
    char principal[KNIT_CALLS_NAME];
};

/* Whose session over shared memory it is. */
struct knit_calls_named {
    uint64_t session;
    char principal[KNIT_CALLS_NAME];
};

/* Who has connections. */
struct knit_calls_caller {
    const struct knit_principal *of; /* while the loop lists */
    uint32_t connections;
    char principal[KNIT_CALLS_NAME];
};

struct knit_calls {
    pthread_mutex_t mutex;
    uint64_t ticket;   /* of whoever asked */
    uint64_t session;  /* the loop's own: whose slots the rows have */
    uint64_t left_out; /* calls, in the lanes and waiting */
    uint32_t row_count, waiting_count, named_count, caller_count;
    struct knit_calls_row rows[KNIT_CALLS_MAX];
    struct knit_calls_waiting waiting[KNIT_CALLS_WAITING];
    struct knit_calls_named named[KNIT_CALLS_NAMED];
    struct knit_calls_caller callers[KNIT_CALLS_CALLERS]; /* those beyond are in none */
};

void knit_calls_init(struct knit_calls *calls);

/* The following are the loop's, with the mutex. First, of all that is in the lanes: */
void knit_calls_begin(struct knit_calls *calls, uint64_t ticket, const struct knit_router *router);

/* And of each caller what it has besides. since_ns: when the first of those that wait was read. */
void knit_calls_add_caller(
    struct knit_calls *calls, const struct knit_caller *caller, uint64_t since_ns);
