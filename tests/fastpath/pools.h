/* SPDX-License-Identifier: Apache-2.0 */
/* Pools for tests: workers that are real processes with the tasks of module_tasks.c, one session,
 * a ledger.
 *
 * The test's one thread is host and caller at once: what waits here dispatches the pool
 * meanwhile.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "fastpath/host/pool.h"
#include "proto/failure.h"

#define POOLS_EVENTS_MAX   256
#define POOLS_LEDGER_WORDS 4096

struct pools {
    struct knit_pool_options options; /* set before pools_open() */
    const char *modules[4];
    struct knit_pool *pool;
    struct knit_pool_session *session;
    struct knit_sentence why;
    char *dir;
    char *ledger_path;
    _Atomic uint64_t *ledger;
    struct knit_pool_event events[POOLS_EVENTS_MAX];
    uint32_t event_count;
    char text[4096];   /* of all events, a line each */
    char output[8192]; /* of all workers, a line each */
};

/* What became of a call. */
struct pools_outcome {
    bool is_there;
    uint32_t code;  /* 0 = a result */
    int64_t number; /* the result, if it is an integer */
    size_t len;
    unsigned char bytes[8192];   /* result or error, cut */
    struct knit_failure failure; /* points into bytes */
};

void pools_init(struct pools *pools, uint32_t workers);
/* Also done by pools_open(), where it was not before. */
void pools_make_ledger(struct pools *pools);
/* knit_pool_open() and a session; returns the former's. */
int pools_open(struct pools *pools);
void pools_fini(struct pools *pools);

/* Starts a call with the params' msgpack; user is handed back with its outcome. */
void pools_start(struct pools *pools, const char *task, const void *params, size_t len, void *user);
void pools_start_number(struct pools *pools, const char *task, int64_t number, void *user);
void pools_start_text(struct pools *pools, const char *task, const char *text, void *user);
void pools_start_empty(struct pools *pools, const char *task, void *user);

/* One look: collects into the struct pools_outcome that `user` was, and dispatches. Returns true,
 * so that it may stand in a condition. */
bool pools_turn(struct pools *pools);

/* Waits for an outcome; fails the test when it does not come. */
void pools_wait(struct pools *pools, struct pools_outcome *outcome);

/* Makes a call and waits for its result, which must be right. */
void pools_add(struct pools *pools);

/* Waits until the pool has reported that event so often, or more often. */
void pools_wait_events(struct pools *pools, enum knit_pool_event_kind kind, uint32_t count);
void pools_wait_sessions(struct pools *pools, uint32_t count);

uint32_t pools_count_events(const struct pools *pools, enum knit_pool_event_kind kind);
