/* SPDX-License-Identifier: Apache-2.0 */
/* A pool in which a process is killed, and the checks after that: sessions, memory, descriptors and
 * mappings are freed, the inspector finds nothing broken, and the pool serves.
 *
 * One thread is host, caller and killer. Fails the test by cmocka's assertions.
 */
#pragma once

#include <stdint.h>

#include "tests/fastpath/pools.h"
#include "tests/support/random.h"

#define SCENE_LOAD  16u
#define SCENE_CALLS 100u

/* What must be the same again after a death. */
struct scene_size {
    uint32_t host_fds, worker_fds, worker_mappings;
    uint32_t sessions;
    uint64_t memory_bytes;
};

struct scene {
    struct pools pools;
    struct scene_size size;
    /* Calls of the pool's own session that go on all the time. */
    struct pools_outcome load[SCENE_LOAD];
    uint64_t load_next;
    uint64_t load_done;
};

void scene_init(struct scene *scene, uint32_t workers);
void scene_open(struct scene *scene);
void scene_fini(struct scene *scene);

/* Waits until all workers serve, have all sessions, and are parked. */
void scene_settle(struct scene *scene);

/* One turn of host and load: collects, checks, calls again. */
void scene_load(struct scene *scene);
void scene_drain(struct scene *scene);

/* Makes calls; each must be answered with its own result. lane: KNIT_LANE_ANY or an index. */
void scene_calls(struct scene *scene, uint32_t count, uint32_t lane);

/* As pools_start_number(), but in a lane. */
void scene_start(
    struct scene *scene, const char *task, int64_t number, uint32_t lane, struct pools_outcome *to);

struct scene_size scene_measure(struct scene *scene);
void scene_check_size(struct scene *scene);

/* The inspector must find nothing broken in any session or the board. The pool must be settled. */
void scene_inspect(struct scene *scene, const char *when);

/* Which instructions to stop at: all, or every n-th from a random one on. With $KNIT_TEST_PIECE,
 * "i/n", all those whose number leaves i when divided by n: a long run in n pieces. */
struct scene_steps {
    struct knit_random random;
    bool all;
    uint32_t wanted; /* of a short run */
};
uint32_t scene_steps_begin(struct scene_steps *steps, uint32_t count, uint32_t *ret_stride);

/* Reads --all-steps, or KNIT_TEST_LONG from the environment. */
bool scene_wants_all(int argc, char **argv);
