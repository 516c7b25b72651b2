/* SPDX-License-Identifier: Apache-2.0 */
/* See steps_world.h. This file is not compiled with stepped.h, so its own accesses are no steps. */
#include "tests/fastpath/steps_world.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <knitting/code.h>

#define ROUNDS       12    /* of WORLD_SLOTS - 1 calls: more than twice a ring */
#define ACCESSES_MIN 11u   /* of an act that is not brief */
#define ACCESSES_MAX 1000u /* of one act: more than any has */

/* ---- what must hold ---- */

static uint64_t load(_Atomic uint64_t *word)
{
    return atomic_load_explicit(word, memory_order_relaxed);
}

static bool is_published_at(const struct world *world, uint32_t lane, uint64_t position)
{
    const uint32_t cells = world->side->geometry.cells;
    struct knit_request_cell *cell =
        &world->side->request.ring[lane * cells + (position & (cells - 1))];
    return knit_ctrl_tag(load(&cell->ctrl)) == knit_tag(position, cells);
}

/* The slot of the call published there. */
static uint32_t slot_at(const struct world *world, uint32_t lane, uint64_t position, uint64_t *gen)
{
    const uint32_t cells = world->side->geometry.cells;
    uint64_t ctrl = load(&world->side->request.ring[lane * cells + (position & (cells - 1))].ctrl);
    *gen = knit_ctrl_gen(ctrl);
    return knit_ctrl_slot(ctrl);
}

static void look_at_head(struct world *world, uint32_t lane)
{
    uint64_t now = load(&world->side->reply.head[lane].value[0]), gen;
    assert_true((int64_t)(now - world->head[lane]) >= 0);
    for (uint64_t at = world->head[lane]; at != now; at++) {
        uint32_t slot;

        /* A cell with a later tag held a call that was claimed and answered. */
        if (!is_published_at(world, lane, at))
            continue;
        slot = slot_at(world, lane, at, &gen);
        assert_true(knit_gen_diff(knit_claim_gen(load(&world->side->reply.claim[slot])), gen) >= 0);
    }
    world->head[lane] = now;
    /* A walk that begins at the head finds the next call: no later one is in its cell. */
    assert_false(is_published_at(world, lane, now + world->side->geometry.cells));
}

/* The head lags at most KNIT_HEAD_LAG_MAX behind a claim. */
static void look_at_new_claim(struct world *world, uint32_t slot, uint64_t claimed)
{
    for (uint32_t lane = 0; lane < WORLD_LANES; lane++) {
        uint64_t head = load(&world->side->reply.head[lane].value[0]), gen;
        for (uint64_t at = head; is_published_at(world, lane, at); at++) {
            if (slot_at(world, lane, at, &gen) == slot && gen == claimed)
                assert_true(at + 1 - head <= KNIT_HEAD_LAG_MAX);
        }
    }
}

static void look(void *arg)
{
    struct world *world = arg;
    const struct knit_reply_view *reply = &world->side->reply;
    uint32_t notified;
    for (uint32_t i = 0; i < world->side->geometry.slots; i++) {
        uint64_t claim = knit_claim_gen(load(&reply->claim[i]));
        uint64_t word = knit_word_gen(load(&reply->reply[i].word));
        assert_true(knit_gen_diff(claim, world->claim[i]) >= 0);
        assert_true(knit_gen_diff(word, world->word[i]) >= 0);
        assert_true(claim == word || claim == knit_gen_next(word));
        if (claim != world->claim[i])
            look_at_new_claim(world, i, claim);
        world->claim[i] = claim;
        world->word[i] = word;
    }
    for (uint32_t lane = 0; lane < WORLD_LANES; lane++)
        look_at_head(world, lane);
    notified = atomic_load_explicit(reply->notified, memory_order_relaxed);
    assert_true((int32_t)(notified - world->notified) >= 0);
    world->notified = notified;
}

/* ---- life ---- */

void world_init(struct world *world, const struct world_shape *shape)
{
    memset(world, 0, sizeof(*world));
    steps_init(NULL, NULL);
    lanes_init(&world->lanes, WORLD_LANES, shape->steal, 0);
    world->lanes.executions = world->executions;
    world->lanes.executions_count = WORLD_CALLS;
    world->lanes.denied = shape->denied;
    world->side = lanes_add_session(&world->lanes, shape->slots, shape->arena_bytes, shape->start);
    world->session = world->side->session;
    world->view = (struct knit_host_session_view){.geometry = world->side->geometry,
        .request = world->side->request,
        .reply = world->side->reply,
        .bell_fd = world->side->bell_end_fd,
        .bell_is_pipe = true};
    knit_recovery_make_error(&world->died, KNIT_WORKER_DIED, KNIT_STARTED_YES, "it died", 9, 0);
    knit_recovery_make_error(&world->refused, KNIT_NO_WORKER, KNIT_STARTED_NO, "nobody", 0, 0);
    for (uint32_t i = 0; i < WORLD_LANES; i++) {
        lanes_add_worker(&world->lanes, i, 5 + i);
        /* The first turn takes the session in and does not sleep. */
        assert_int_equal(knit_lane_turn(world->lanes.worker[i]), KNIT_LANE_RUNNING);
        world->head[i] = load(&world->side->reply.head[i].value[0]);
    }
    for (uint32_t i = 0; i < shape->slots; i++)
        world->gen[i] = world->claim[i] = world->word[i] = shape->start & KNIT_GEN_MASK;
    steps_init(look, world);
    steps_be_lazy(shape->lazy);
}

void world_fini(struct world *world)
{
    assert_int_equal(atomic_load_explicit(&world->lanes.evictions, memory_order_relaxed), 0);
    steps_init(NULL, NULL);
    lanes_fini(&world->lanes);
}

void world_play(struct world *world, const struct world_scene *scene)
{
    uint64_t at = 0;
    do {
        world_init(world, &scene->shape);
        if (scene->begin != NULL)
            scene->begin();
        steps_stall(at, scene->meanwhile, world);
        (void)steps_as(scene->party, scene->act, world);
        if (scene->judge != NULL)
            scene->judge();
        world_fini(world);
    } while (steps_was_stalled() && at++ < ACCESSES_MAX);
    assert_true(at >= (scene->is_brief ? 1 : ACCESSES_MIN) && at < ACCESSES_MAX);
}

/* ---- the caller ---- */

static uint32_t len_of(const struct world *world, uint32_t number)
{
    if (world->len != 0)
        return world->len;
    return number % 7 == 3 ? 300 : 4 + number * 37 % (KNIT_INLINE_MAX - 3);
}

static void fill(unsigned char *bytes, uint32_t number, uint32_t len)
{
    memset(bytes, (int)(number * 31 & 0xff), len);
    memcpy(bytes, &number, 4);
}

bool world_publish(struct world *world, uint32_t lane)
{
    unsigned char bytes[4096];
    const uint32_t number = world->calls, len = len_of(world, number);
    struct world_call *call = &world->call[number];
    struct knit_session_call published = {.task = LANES_COUNT,
        .lane = lane,
        .payload = bytes,
        .len = len,
        .user = (void *)(uintptr_t)number}; /* NOLINT: a number */
    assert_true(number < WORLD_CALLS && len <= sizeof(bytes));
    fill(bytes, number, len);
    if (knit_session_slots_free(world->session) == 0)
        return false;
    world->calls++;
    call->may_fail = world->may_fail;
    assert_int_equal(knit_session_publish(world->session, &published, &call->slot), 0);
    call->gen = world->gen[call->slot] = knit_gen_next(world->gen[call->slot]);
    return true;
}

/* The error is the host's, or the one number that lanes.c's workers answer with. */
static void accept_error(const struct world *world, const struct knit_session_outcome *outcome)
{
    const struct knit_recovery_error *error =
        outcome->len == world->died.len ? &world->died : &world->refused;
    assert_false(outcome->held);
    if (outcome->len == sizeof(int))
        return;
    assert_int_equal(outcome->len, error->len);
    assert_memory_equal(outcome->payload, error->bytes, error->len);
}

static void accept_outcome(struct world *world, const struct knit_session_outcome *outcome)
{
    unsigned char bytes[4096];
    const uint32_t number = (uint32_t)(uintptr_t)outcome->user;
    struct world_call *call = &world->call[number];
    assert_true(number < world->calls);
    assert_false(call->is_over || call->is_settled);
    call->is_over = true;
    if (outcome->status != KNIT_STATUS_RESULT) {
        assert_int_equal(outcome->status, KNIT_STATUS_ERROR);
        assert_true(call->may_fail);
        call->has_failed = true;
        accept_error(world, outcome);
    } else {
        uint32_t len = len_of(world, number);
        assert_int_equal(outcome->len, len);
        fill(bytes, number, len);
        assert_memory_equal(outcome->payload, bytes, len);
    }
    if (outcome->held && !world->holds)
        knit_session_release(world->session, outcome->slot);
}

void world_collect(struct world *world)
{
    struct knit_session_outcome outcomes[WORLD_SLOTS];
    size_t count;
    while ((count = knit_session_collect(world->session, outcomes, WORLD_SLOTS)) > 0) {
        for (size_t i = 0; i < count; i++)
            accept_outcome(world, &outcomes[i]);
    }
}

static void collect_by_slot(struct world *world)
{
    struct knit_session_outcome outcome;
    for (uint32_t i = 0; i < world->calls; i++) {
        if (world_is_answered(world, i) &&
            knit_session_collect_slot(world->session, world->call[i].slot, &outcome))
            accept_outcome(world, &outcome);
    }
}

bool world_is_answered(const struct world *world, uint32_t number)
{
    const struct world_call *call = &world->call[number];
    return !call->is_over && !call->is_settled &&
           knit_word_gen(load(&world->side->reply.reply[call->slot].word)) == call->gen;
}

/* ---- workers ---- */

bool world_take(struct world *world, uint32_t worker, uint32_t lane)
{
    struct knit_lane *taker = world->lanes.worker[worker];
    struct knit_worker_session *session = taker->sessions[0];
    struct knit_cursor *cursor =
        lane == taker->options.index ? &session->home : &session->cursor[lane];
    struct knit_ready_call found;
    if (session->deferred.any)
        return knit_lane_send_deferred(taker, session, UINT32_MAX);
    knit_deficit_begin(&session->deficit, taker->round);
    /* Another worker may claim first what was found, so the walk goes on. */
    while (knit_lane_find(taker, session, cursor, &found)) {
        if (cursor == &session->home ? knit_lane_serve(taker, session, 1) > 0
                                     : knit_lane_call(taker, session, cursor, &found))
            return true;
    }
    return false;
}

void world_take_all(struct world *world, uint32_t worker)
{
    for (uint32_t lane = 0; lane < WORLD_LANES; lane++) {
        while (world_take(world, worker, lane))
            ;
    }
    knit_lane_wake_callers(world->lanes.worker[worker]);
}

bool world_has_ready(const struct world *world, uint32_t lane)
{
    const uint32_t cells = world->side->geometry.cells;
    uint64_t head = load(&world->side->reply.head[lane].value[0]), gen;
    for (uint64_t at = head; at != head + cells && is_published_at(world, lane, at); at++) {
        uint32_t slot = slot_at(world, lane, at, &gen);
        if (knit_gen_next(knit_claim_gen(load(&world->side->reply.claim[slot]))) == gen)
            return true;
    }
    return false;
}

void world_claim(struct world *world, uint32_t number, uint32_t owner)
{
    const struct world_call *call = &world->call[number];
    atomic_store_explicit(
        &world->side->reply.claim[call->slot], knit_claim(call->gen, owner), memory_order_seq_cst);
}

/* ---- acts ---- */

void world_worker_takes(void *arg)
{
    world_take_all(arg, 0);
}

void world_sibling_takes(void *arg)
{
    world_take_all(arg, 1);
}

void world_worker_takes_one(void *arg)
{
    (void)world_take(arg, 0, 0);
}

void world_caller_collects(void *arg)
{
    world_collect(arg);
}

void world_host_answers(void *arg)
{
    struct world *world = arg;
    struct knit_recovery_death death = {.lane = 0,
        .owner = WORLD_DEAD,
        .special_slot = UINT32_MAX,
        .error = &world->died,
        .special = &world->died};
    (void)knit_recovery_answer(&world->view, &death);
}

/* By slot, which needs no completions, and then by completions. */
static void fill_lane_0(void *arg)
{
    collect_by_slot(arg);
    world_collect(arg);
    while (world_publish(arg, 0))
        ;
    knit_session_flush(((struct world *)arg)->session);
}

void world_goes_round(void *arg)
{
    (void)steps_as(WORLD_CALLER, fill_lane_0, arg);
    for (int i = 0; i < ROUNDS; i++) {
        (void)steps_as(WORLD_SIBLING, world_sibling_takes, arg);
        (void)steps_as(WORLD_CALLER, fill_lane_0, arg);
    }
}

void world_ends(struct world *world)
{
    for (int i = 0; i < 3; i++) {
        (void)steps_as(WORLD_WORKER, world_worker_takes, world);
        (void)steps_as(WORLD_SIBLING, world_sibling_takes, world);
        (void)steps_as(WORLD_CALLER, world_caller_collects, world);
    }
    for (uint32_t i = 0; i < world->calls; i++) {
        const struct world_call *call = &world->call[i];
        uint32_t runs = atomic_load_explicit(&world->executions[i], memory_order_relaxed);
        assert_true(call->is_over != call->is_settled);
        if (call->is_settled)
            assert_true(runs == 0 || (runs == 1 && call->started == KNIT_STARTED_YES));
        else
            assert_int_equal(runs, call->has_failed ? 0 : 1);
    }
    assert_int_equal(knit_session_in_flight(world->session), 0);
    if (!world->holds)
        assert_int_equal(knit_session_slots_free(world->session), world->side->geometry.slots);
}
