/* SPDX-License-Identifier: Apache-2.0 */
/* Two workers, a caller and a host as parties of steps.h, and what must hold before each of their
 * accesses, whatever the order:
 *
 *   - a slot's claim and its answer only rise, the claim by at most one beyond the answer;
 *   - a lane's head only rises, every call before it is claimed, it lags at most KNIT_HEAD_LAG_MAX
 *     behind the claims, and no call is published a whole ring ahead of it;
 *   - `notified` only rises;
 *   - each call runs once and has one outcome, which carries the call's own bytes.
 *
 * world_play() plays a scene once for each access of one party's act, with the party stalled there
 * while the others act. The tests differ in their scenes alone.
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
    bool is_over;    /* its outcome was collected */
    bool may_fail;   /* it may be aborted, or refused by the host */
    bool has_failed; /* its outcome is an error */
    bool is_settled;
    int started; /* of a settled call */
};

struct world {
    struct lanes lanes;
    struct lanes_session *side;
    struct knit_session *session;
    struct knit_host_session_view view;       /* the host's */
    struct knit_recovery_error died, refused; /* the host's errors */
    uint32_t calls;
    struct world_call call[WORLD_CALLS];
    _Atomic uint32_t executions[WORLD_CALLS];
    uint64_t gen[WORLD_SLOTS_MAX]; /* published last */
    bool may_fail;                 /* of calls published from now on */
    bool holds;                    /* collecting a result does not release its block */
    uint32_t len;                  /* of arguments published from now on; 0 = various */
    /* What the last access of any party found. */
    uint64_t head[WORLD_LANES], claim[WORLD_SLOTS_MAX], word[WORLD_SLOTS_MAX];
    uint32_t notified;
};

struct world_shape {
    uint32_t slots;
    uint64_t arena_bytes;
    bool steal;
    bool lazy;       /* see steps_be_lazy() */
    uint64_t start;  /* that positions and generations begin at */
    uint32_t denied; /* features that the session was not granted */
};

/* One party acts and is stalled; the callbacks work on the world that is played in. */
struct world_scene {
    struct world_shape shape;
    void (*begin)(void); /* what has happened before; NULL: nothing */
    unsigned party;      /* that is stalled */
    steps_act *act;
    steps_act *meanwhile; /* what the others do while it is stalled */
    void (*judge)(void);  /* what follows and must hold afterwards; NULL: nothing */
    bool is_brief;        /* the act may have fewer accesses than others */
};

void world_init(struct world *world, const struct world_shape *shape);
void world_fini(struct world *world);

/* Plays the scene in a new world for each atomic access of the act, and once without a stall. Fails
 * if the act has too few accesses to be the right one, or does not end. */
void world_play(struct world *world, const struct world_scene *scene);

/* Publishes a call to that lane. False: no slot is free. */
bool world_publish(struct world *world, uint32_t lane);
/* Collects all completions. */
void world_collect(struct world *world);
/* The worker takes one call of that lane and answers it. False: there is none. */
bool world_take(struct world *world, uint32_t worker, uint32_t lane);
/* Takes all calls of every lane, then wakes callers as the end of a turn does. */
void world_take_all(struct world *world, uint32_t worker);
bool world_has_ready(const struct world *world, uint32_t lane);
/* The call is answered, not settled and not collected yet. */
bool world_is_answered(const struct world *world, uint32_t number);
/* Claims the call in the name of that owner. */
void world_claim(struct world *world, uint32_t number, uint32_t owner);

/* Acts; the argument is the world. */
void world_worker_takes(void *arg);     /* the worker of lane 0 takes all calls of every lane */
void world_sibling_takes(void *arg);    /* the worker of lane 1 takes all calls of every lane */
void world_worker_takes_one(void *arg); /* the worker of lane 0 takes one call of its own lane */
void world_caller_collects(void *arg);
/* The host answers what WORLD_DEAD had claimed in lane 0. */
void world_host_answers(void *arg);
/* The caller fills lane 0 and the sibling empties it, more than once round the ring. */
void world_goes_round(void *arg);

/* All parties finish their work, and every call has had exactly one outcome. */
void world_ends(struct world *world);
