/* SPDX-License-Identifier: Apache-2.0 */
/* Two workers, a caller and a host as parties of steps.h, and what must hold before each of their
 * accesses, whatever the order:
 *
 *   - a slot's claim and its answer only rise, the claim by at most one beyond the answer;
 *   - `taken` only rises, what lies before it is claimed, it follows the claims at most
 *     KNIT_HEAD_LAG_MAX behind, and no publish is a whole ring ahead of it; `rung` only rises;
 *   - each call is run once, and its outcome, which comes once, bears its own bytes.
 */
#pragma once

#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/recovery.h"
#include "tests/fastpath/lanes.h"
#include "tests/fastpath/steps.h"

enum { WORLD_WORKER, WORLD_SIBLING, WORLD_CALLER, WORLD_HOST }; /* parties; lanes 0 and 1 first */

#define WORLD_LANES     2u
#define WORLD_SLOTS     8u
#define WORLD_SLOTS_MAX 32u
#define WORLD_CALLS     2048u
#define WORLD_DEAD      99u /* an owner that is dead */

struct world_call {
    uint32_t slot;
    uint64_t gen;
    bool is_over;    /* its outcome came */
    bool may_fail;   /* aborted, or refused by the host */
    bool has_failed; /* and was */
    bool is_settled;
    int started; /* of a settled call */
};

struct world {
    struct lanes lanes;
    struct lanes_session *side;
    struct knit_session *session;
    struct knit_host_session_view view;       /* the host's */
    struct knit_recovery_error died, refused; /* in the host's words */
    uint32_t calls;
    struct world_call call[WORLD_CALLS];
    _Atomic uint32_t executions[WORLD_CALLS];
    uint64_t gen[WORLD_SLOTS_MAX]; /* published last */
    bool may_fail;                 /* calls published from now on */
    bool holds;                    /* blocks are not released when they are collected */
    uint32_t len;                  /* of the calls published from now on; 0 = this and that */
    /* As seen before the last access. */
    uint64_t head[WORLD_LANES], claim[WORLD_SLOTS_MAX], word[WORLD_SLOTS_MAX];
    uint32_t notified;
};

struct world_shape {
    uint32_t slots;
    uint64_t arena_bytes;
    bool steal;
    bool lazy;      /* see steps_be_lazy() */
    uint64_t start; /* that positions and generations begin at */
};

void world_init(struct world *world, const struct world_shape *shape);
void world_fini(struct world *world);

/* Publishes one to that lane; false: no slot is free. */
bool world_publish(struct world *world, uint32_t lane);
/* Takes what has come. */
void world_collect(struct world *world);
/* The worker takes one call of that lane, and answers. False: there is none. */
bool world_take(struct world *world, uint32_t worker, uint32_t lane);
/* All of every lane, then wakes callers as the end of a turn does. */
void world_take_all(struct world *world, uint32_t worker);
bool world_has_ready(const struct world *world, uint32_t lane);
/* Answered, wanted and not collected yet. */
bool world_is_answered(const struct world *world, uint32_t number);
/* As if that owner had claimed it. */
void world_claim(struct world *world, uint32_t number, uint32_t owner);

/* Acts. */
void world_worker_takes(void *arg);  /* lane 0's, all there is */
void world_sibling_takes(void *arg); /* lane 1's, likewise */
void world_caller_collects(void *arg);
/* Sibling and caller go more than once round the ring of lane 0. */
void world_goes_round(void *arg);

/* Everybody does what is left, and every call has had its one outcome. */
void world_ends(struct world *world);
