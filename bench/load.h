/* SPDX-License-Identifier: Apache-2.0 */
/* One load: so many connections to one URL, so many calls in flight on each, for so long.
 *
 * Closed loop: a call is started when another one has ended. Fast servers get more of it, and a
 * server that stalls for a second delays few calls by it: it shows what a pool can carry.
 *
 * Open loop (rate > 0): calls are due at even distances whatever happens to those before them, and
 * latency counts from when a call was due, not from when it could be sent. It shows the latency of
 * callers that do not wait for each other.
 *
 * In batches (batch > 0): so many calls are started, sent at once, and awaited, again and again, on
 * each connection; a span is then a whole batch's.
 *
 * Threads: knit_load_run() starts and ends its own; run one load at a time.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <knitting/tls_options.h>
#include <knitting/token_options.h>

#include "bench/mix.h"
#include "bench/typical.h"

struct knit;
struct knit_error;
struct knit_open_options;

enum { KNIT_LOAD_TEXT_MAX = 256 };

struct knit_load {
    const char *url;
    struct knit_token_options token; /* who calls, unless it is all NULL, */
    struct knit_tls_options tls;     /* and whom it trusts, */
    bool has_tls;                    /* if one of these was given */
    const struct knit_mix *mix;
    uint32_t connections, depth, batch, threads;
    double rate; /* calls a second on all connections together; 0 = closed loop */
    uint64_t ns; /* of measuring */
    uint64_t warm_ns;
    uint64_t count;    /* calls instead of ns, 0 = not; without warm-up */
    int cpu;           /* of the first thread, the next ones follow; -1 = anywhere */
    uint64_t pause_ns; /* one connection, one call at a time: asleep before each */
    uint32_t idle;     /* more connections, which do nothing */
    const pid_t *pids; /* whose processor time is added to the caller's */
    uint32_t pids_count;
    bool no_spin;
    bool is_typed;       /* a task without arguments, by its signature; one at a time */
    bool is_prepared;    /* by prepared calls, else each call names its task */
    bool is_whole;       /* check every byte of a result */
    bool shows_progress; /* a line a second on stderr */
};

struct knit_load_figures {
    struct knit_typical spans; /* of calls, or batches, that ended while it was measured */
    uint64_t calls, errors;
    double seconds;
    double cpu_ns; /* of a call, on all cores */
    char first_error[KNIT_LOAD_TEXT_MAX];
};

/* A session of the load's, as knit_open() makes it. */
int knit_load_open(const struct knit_load *load, const struct knit_open_options *options,
    struct knit **ret, struct knit_error *ret_error);

/* False: it could not be run, and ret->first_error says why. Failed calls are counted. */
bool knit_load_run(const struct knit_load *load, struct knit_load_figures *ret);
