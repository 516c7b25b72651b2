/* SPDX-License-Identifier: Apache-2.0 */
/* A pool at a distance, and what its tasks write down.
 *
 * Each distance is a row of a table: whether there is such a pool, and how a session with it is
 * opened. Over sockets and shared memory the pool is a daemon of its own, which ends with the
 * place.
 *
 * The ledger is a file that tasks of tests/system/module_ledger.c map: how often each call ran, and
 * gates that tasks wait at. So a case knows what ran from nobody whom it tests.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include <knitting/knitting.h>
#include <knitting/pool.h>

enum distance {
    THREADS,   /* a pool in this process, its workers are threads */
    PROCESSES, /* the same, with processes */
    LOCAL,     /* shm:// */
    UNIX,      /* unix:// */
    TCP,       /* knit:// */
    TLS,       /* knits:// */
    DISTANCES,
};

#define AT(distance) (1u << (distance))
#define AT_NETWORK   (AT(TCP) | AT(TLS))
#define AT_STREAMS   (AT(UNIX) | AT_NETWORK)
#define AT_DAEMONS   (AT(LOCAL) | AT_STREAMS)
#define AT_IN_HOUSE  (AT(THREADS) | AT(PROCESSES))

/* How a pool differs from the usual one, which has two workers. 0 and NULL: as usual. */
struct place_wish {
    uint32_t workers;
    const char *balancer;
    const char *options[8]; /* further ones: "drain_ms=100" */
};

enum {
    PLACE_GATES = 64,
    PLACE_IDS = 4096,
    PLACE_MS = 20000, /* what a pool may take to begin or to end */
};

struct place;

const char *distance_name(enum distance distance);

/* NULL: there are such pools; else why not. */
const char *distance_is_missing(enum distance distance);

/* Ends the test if there is none in time. */
struct place *place_open(enum distance distance, const struct place_wish *wish);

/* Fails the test unless the pool ends well; then, or after place_kill(), frees it. */
void place_close(struct place *place);

/* The same, whatever comes of it: after a case that failed. */
void place_abandon(struct place *place);

/* A pool with those options does not start; returns what it says, to be freed. */
char *place_refused(enum distance distance, const struct place_wish *wish);

int place_session(struct place *place, const struct knit_open_options *options, struct knit **ret,
    struct knit_error *ret_error);

/* Of its daemon, or this one. */
pid_t place_pid(const struct place *place);
const char *place_url(const struct place *place);

/* Sends the daemon that signal; place_close() then expects this end of it. A pool of this process
 * takes SIGTERM alone: another thread closes it. */
void place_kill(struct place *place, int signal);

/* A daemon ends by itself, with that status. */
void place_expect_end(struct place *place, int status);

/* Waits for the end of a pool that was told to end. */
bool place_has_ended(struct place *place);

/* How many events of that kind a pool of this process has told. */
uint32_t place_told(const struct place *place, enum knit_pool_event_kind kind);

/* What its stats say: the number at `section`, `key`; or of a lane. UINT64_MAX: there is none. */
uint64_t place_stat(struct place *place, const char *section, const char *key);
uint64_t place_lane_stat(struct place *place, uint32_t lane, const char *key);
uint32_t place_lanes_serving(struct place *place);

/* ---- the ledger ---- */

/* Forgets what ran, and closes all gates. */
void place_forget(struct place *place);
uint32_t place_ran(const struct place *place, uint32_t id);
uint32_t place_ran_in(const struct place *place, uint32_t id); /* thread id of its worker */
void place_wait_for(struct place *place, uint32_t id);
void place_open_gate(struct place *place, uint32_t gate);
void place_open_gates(struct place *place);
