/* SPDX-License-Identifier: Apache-2.0 */
/* Pools for tests: real worker processes with the tasks of module_tasks.c, one session, a ledger.
 *
 * The test's one thread is host and caller at once, so functions that wait also dispatch the pool.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>

#include "fastpath/host/pool.h"
#include "proto/failure.h"

#define POOLS_EVENTS_MAX   256
#define POOLS_LEDGER_WORDS 4096

struct pools {
    struct knit_host_options options; /* set before pools_open() */
    const char *modules[4];
    struct knit_host *pool;
    struct knit_host_own_session *session;
    uint64_t deadline_ns; /* of the calls that are started; 0 = none */
    struct knit_sentence why;
    char *dir;
    char *ledger_path;
    _Atomic uint64_t *ledger;
    struct knit_host_event events[POOLS_EVENTS_MAX];
    uint32_t event_count;
    char text[4096];                    /* of all events, a line each */
    char output[8192];                  /* of all workers, a line each */
    struct knit_host_event output_from; /* of the last line */
};

/* The outcome of a call. */
struct pools_outcome {
    bool is_there;
    uint32_t code;  /* 0 = a result */
    int64_t number; /* the result, if it is an integer */
    size_t len;
    unsigned char bytes[8192];   /* result or error, cut */
    struct knit_failure failure; /* points into bytes */
};

void pools_init(struct pools *pools, uint32_t workers);
/* pools_open() does it too if the test has not. */
void pools_make_ledger(struct pools *pools);
/* Opens the pool and a session; returns what knit_host_open() returned. */
int pools_open(struct pools *pools);
void pools_fini(struct pools *pools);

/* The pool does not start, and says why with that sentence in it; then pools_fini(). */
void pools_expect_refusal(struct pools *pools, const char *sentence);

/* Starts a call with params in msgpack; `user` comes back with its outcome. */
void pools_start(struct pools *pools, const char *task, const void *params, size_t len, void *user);
void pools_start_number(struct pools *pools, const char *task, int64_t number, void *user);
void pools_start_text(struct pools *pools, const char *task, const char *text, void *user);
void pools_start_empty(struct pools *pools, const char *task, void *user);

/* Collects outcomes once, each into the struct pools_outcome that `user` points to, and dispatches.
 * Returns true, so that it may stand in a condition. */
bool pools_turn(struct pools *pools);

/* Waits for the outcome; fails the test after a while. */
void pools_wait(struct pools *pools, struct pools_outcome *outcome);

/* Makes a call of add() and checks its result. */
void pools_add(struct pools *pools);

/* Waits until the pool has reported at least so many events of that kind. */
void pools_wait_events(struct pools *pools, enum knit_host_event_kind kind, uint32_t count);
void pools_wait_sessions(struct pools *pools, uint32_t count);

uint32_t pools_count_events(const struct pools *pools, enum knit_host_event_kind kind);
