/* SPDX-License-Identifier: Apache-2.0 */
/* The short way of a call (session_inline.h) ends as the full one. Method: no worker; answers of
 * every kind, also such as no honest pool writes, are put into the replies of several sessions that
 * are alike, and each collects in another way. What is published is compared with the layout. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/session_flush.h"
#include "tests/fastpath/lanes.h"

enum { SLOTS = 3, ARENA_BYTES = 65536, ARGUMENT_MAX = 1100, WAYS = 3 };

static struct lanes lanes;

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

/* ---- collect ---- */

struct answer {
    uint32_t status, flags, lane, len;
    uint64_t block;
};

static void put_answer(struct lanes_session *side, uint32_t slot, const struct answer *answer)
{
    struct knit_reply_cell *cell = &side->reply.reply[slot];
    uint64_t gen = knit_session_gen(side->session, slot);

    for (uint32_t i = 0; i < KNIT_CELL_WORDS; i++)
        atomic_store_explicit(&cell->body[i], 0x0101010101010101u * (i + 1), memory_order_relaxed);
    atomic_store_explicit(&cell->block, answer->block, memory_order_relaxed);
    atomic_store_explicit(
        &cell->meta, knit_meta(answer->lane, 0, 0, answer->len), memory_order_relaxed);
    atomic_store_explicit(
        &cell->word, knit_word(gen, answer->status, answer->flags), memory_order_release);
    atomic_store_explicit(
        &side->reply
             .completions[side->session->lanes[0].completion_next & (side->geometry.cells - 1)],
        knit_completion(slot, side->session->lanes[0].completion_next, side->geometry.cells),
        memory_order_release);
    atomic_store_explicit(&side->reply.lane[0].completion_tail,
        side->session->lanes[0].completion_next + 1, memory_order_release);
}

/* 0: the short way, and the full one if that gives nothing; 1: the full way; 2: by completions. */
static bool collect(
    struct knit_session *session, int way, uint32_t slot, struct knit_session_outcome *ret)
{
    if (way == 2)
        return knit_session_collect(session, ret, 1) == 1;
    if (way == 0 && knit_session_try_collect(session, slot, ret->body, &ret->len)) {
        ret->slot = slot;
        ret->status = KNIT_STATUS_RESULT;
        ret->lane = session->balance.warm;
        ret->payload = ret->body;
        ret->user = session->slots[slot].user;
        return true;
    }
    return knit_session_collect_slot(session, slot, ret);
}

static void assert_alike(const struct knit_session_outcome *one,
    const struct knit_session_outcome *other, const struct lanes_session *a,
    const struct lanes_session *b)
{
    assert_int_equal(one->status, other->status);
    assert_int_equal(one->slot, other->slot);
    assert_int_equal(one->lane, other->lane);
    assert_int_equal(one->held, other->held);
    assert_int_equal(one->len, other->len);
    assert_ptr_equal(one->user, other->user);
    if (one->held)
        assert_int_equal((const unsigned char *)one->payload - a->reply.arena,
            (const unsigned char *)other->payload - b->reply.arena);
    else
        assert_memory_equal(one->payload, other->payload, one->len);
}

static void assert_same_counts(const struct knit_session *one, const struct knit_session *other)
{
    assert_int_equal(knit_session_slots_free(one), knit_session_slots_free(other));
    assert_int_equal(knit_session_in_flight(one), knit_session_in_flight(other));
    assert_int_equal(one->zombies, other->zombies);
    assert_int_equal(one->queued[0], other->queued[0]);
    assert_int_equal(one->queued[1], other->queued[1]);
    for (uint32_t lane = 0; lane < 2; lane++)
        assert_int_equal(one->lanes[lane].free_head, other->lanes[lane].free_head);
}

/* Publishes a call in each session, answers it and collects it, each in its own way. */
static void compare(struct lanes_session *const *side, const struct answer *answer, size_t argument,
    bool is_settled)
{
    static unsigned char bytes[ARGUMENT_MAX];
    struct knit_session_outcome outcome[WAYS];
    bool has[WAYS];
    uint32_t slot = 0;

    for (int way = 0; way < WAYS; way++) {
        struct knit_session *session = side[way]->session;
        struct knit_session_call call = lanes_call(LANES_ECHO, bytes, argument);
        int started;

        call.lane = 0;
        call.user = &lanes;
        memset(&outcome[way], 0, sizeof(outcome[way]));
        assert_int_equal(knit_session_publish(session, &call, &slot), 0);
        assert_false(collect(session, way, slot, &outcome[way]));
        if (is_settled)
            assert_true(knit_session_settle(session, slot, &started));
        put_answer(side[way], slot, answer);
        has[way] = collect(session, way, slot, &outcome[way]);
        /* Of what is settled nothing is collected by slot. */
        if (is_settled && way != 2)
            assert_int_equal(knit_session_collect(session, &outcome[way], 1), 0);
        assert_int_equal(has[way], !is_settled);
        if (has[way])
            assert_alike(&outcome[0], &outcome[way], side[0], side[way]);
        if (has[way])
            assert_false(collect(session, way, slot, &outcome[way]));
        if (has[way] && outcome[way].held)
            knit_session_release(session, slot);
        assert_same_counts(side[0]->session, session);
    }
}

static void each_answer_is_collected_alike(void **state)
{
    const uint32_t statuses[] = {KNIT_STATUS_RESULT, KNIT_STATUS_ERROR, 2, 255};
    const uint32_t flags[] = {0, KNIT_CELL_IN_ARENA, 2, 0x8000};
    const uint32_t of_lanes[] = {0, 1, 2, UINT16_MAX};
    const uint32_t lens[] = {
        0, 1, 7, 8, 9, 40, 41, 103, 104, 105, 1024, 1025, 4096, ARENA_BYTES, UINT32_MAX};
    struct lanes_session *side[WAYS];
    uint32_t compared = 0;

    (void)state;
    lanes_init(&lanes, 2, false, 0);
    for (int way = 0; way < WAYS; way++)
        side[way] = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    for (size_t s = 0; s < 4; s++) {
        for (size_t f = 0; f < 4; f++) {
            for (size_t l = 0; l < 4; l++) {
                for (size_t n = 0; n < sizeof(lens) / sizeof(lens[0]); n++, compared++) {
                    const struct answer answer = {
                        statuses[s], flags[f], of_lanes[l], lens[n], n % 3 * 64};

                    const size_t argument = compared % 10 == 0  ? ARGUMENT_MAX
                                            : compared % 5 == 0 ? 150
                                                                : compared % 105;

                    compare(side, &answer, argument, compared % 7 == 0);
                }
            }
        }
    }
    assert_int_equal(compared, 4 * 4 * 4 * sizeof(lens) / sizeof(lens[0]));
}

/* ---- publish ---- */

static void assert_published(const struct lanes_session *side, uint64_t position,
    const struct knit_session_call *call, uint32_t slot)
{
    const struct knit_request_cell *cell =
        &side->request.ring[position & (side->geometry.cells - 1)];
    uint64_t body[KNIT_CELL_WORDS];

    knit_cell_load(body, cell->body, call->len);
    assert_memory_equal(body, call->payload, call->len);
    /* Behind the argument, in its last word, nothing else is shown. */
    for (size_t i = call->len; i % 8 != 0; i++)
        assert_int_equal(((const unsigned char *)body)[i], 0);
    assert_int_equal(
        atomic_load_explicit(&cell->deadline, memory_order_relaxed), call->deadline_ns);
    assert_int_equal(atomic_load_explicit(&cell->meta, memory_order_relaxed),
        knit_meta(call->task, call->epoch, call->flags, (uint32_t)call->len));
    assert_int_equal(atomic_load_explicit(&cell->ctrl, memory_order_relaxed),
        knit_ctrl(
            knit_session_gen(side->session, slot), slot, knit_tag(position, side->geometry.cells)));
}

/* With positions and generations that wrap. */
static void a_short_publish_writes_what_the_layout_says(void **state)
{
    const uint64_t start = 1023 * 32 - 40;
    unsigned char bytes[KNIT_INLINE_MAX + 1];
    struct lanes_session *side;

    (void)state;
    for (size_t i = 0; i < sizeof(bytes); i++)
        bytes[i] = (unsigned char)(255 - i);
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, start);
    assert_int_equal(side->geometry.cells, 32);
    for (uint32_t i = 0; i < 2 * KNIT_INLINE_MAX; i++) {
        struct knit_session_call call = lanes_call(i, bytes, i % (KNIT_INLINE_MAX + 1));
        struct knit_session_outcome outcome;
        const struct answer answer = {0};
        uint32_t slot = 0;

        call.epoch = i;
        call.flags = i % 2 * KNIT_CELL_OUTPUT;
        call.deadline_ns = UINT64_MAX - i;
        assert_true(knit_session_try_publish(side->session, &call, &slot));
        assert_published(side, start + i, &call, slot);
        put_answer(side, slot, &answer);
        assert_true(knit_session_collect_slot(side->session, slot, &outcome));
    }
}

static void what_is_unusual_is_not_published_the_short_way(void **state)
{
    static unsigned char bytes[KNIT_INLINE_MAX + 1];
    struct knit_session_call call = lanes_call(LANES_ECHO, bytes, sizeof(bytes));
    struct lanes_session *side, *deep;
    uint32_t slot = 0;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    side = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    lanes.depth_ns = 1000;
    deep = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    assert_false(knit_session_try_publish(side->session, &call, &slot));
    call.len--;
    /* Of a task whose mean nobody knows, or that is not short. */
    assert_false(knit_session_try_publish(deep->session, &call, &slot));
    knit_board_note_mean(&lanes.board, LANES_ECHO, KNIT_SESSION_SHORT_NS + 1);
    assert_false(knit_session_try_publish(deep->session, &call, &slot));
    knit_board_note_mean(&lanes.board, LANES_ECHO, 400);
    assert_true(knit_session_try_publish(deep->session, &call, &slot));
    assert_true(knit_session_try_publish(deep->session, &call, &slot));
    assert_false(knit_session_try_publish(deep->session, &call, &slot));
    assert_int_equal(knit_session_publish(deep->session, &call, &slot), KNIT_SESSION_E_CROWDED);
    for (uint32_t what = KNIT_STATE_DRAINING; what <= KNIT_STATE_EVICTED + 1; what++) {
        atomic_store_explicit(&side->reply.state->state, what, memory_order_release);
        assert_false(knit_session_try_publish(side->session, &call, &slot));
    }
    atomic_store_explicit(&side->reply.state->state, KNIT_STATE_OPEN, memory_order_release);
    for (uint32_t i = 0; i < SLOTS; i++)
        assert_true(knit_session_try_publish(side->session, &call, &slot));
    assert_false(knit_session_try_publish(side->session, &call, &slot));
    assert_int_equal(knit_session_publish(side->session, &call, &slot), KNIT_SESSION_E_FULL);
    assert_int_equal(knit_session_in_flight(side->session), SLOTS);
    assert_int_equal(knit_session_in_flight(deep->session), 2);
}

/* A slot that another lane answered last is taken when this lane has none. */
static void a_lane_without_slots_takes_those_of_another(void **state)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct knit_session *session;
    uint32_t slot = 0, taken = 0;

    (void)state;
    lanes_init(&lanes, 2, false, 0);
    session = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0)->session;
    call.lane = 1;
    for (uint32_t i = 0; i < SLOTS; i++) {
        assert_true(knit_session_try_publish(session, &call, &slot));
        assert_int_equal(session->slots[slot].lane, 1);
        taken |= 1u << slot;
    }
    assert_int_equal(taken, (1u << SLOTS) - 1);
    assert_int_equal(session->queued[1], SLOTS);
}

/* Round robin with stealing: the lane that answered last, as long as its worker is awake and it has
 * no more calls than it may. All else is left to the full way. */
static void a_warm_lane_is_taken_without_a_look_at_others(void **state)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    const uint64_t head = knit_meta(call.task, call.epoch, 0, 0);
    struct knit_session *session, *deep;
    uint32_t slot = 0;

    (void)state;
    lanes_init(&lanes, 3, true, 0);
    for (uint32_t lane = 0; lane < 2; lane++)
        atomic_store_explicit(&lanes.board.park[lane].value, KNIT_PARK_AWAKE, memory_order_relaxed);
    session = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0)->session;
    lanes.depth_ns = 1000;
    deep = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0)->session;
    session->balance.warm = deep->balance.warm = 2;
    session->balance.warm_max = deep->balance.warm_max = 1;
    assert_false(knit_session_try_publish_warm(session, &call, head, &slot));
    atomic_store_explicit(&lanes.board.park[2].value, KNIT_PARK_PARKED, memory_order_relaxed);
    assert_false(knit_session_try_publish_warm(session, &call, head, &slot));
    atomic_store_explicit(&lanes.board.park[2].value, KNIT_PARK_AWAKE, memory_order_relaxed);
    assert_false(knit_session_try_publish_warm(deep, &call, head, &slot));
    assert_true(knit_session_try_publish_warm(session, &call, head, &slot));
    assert_int_equal(session->slots[slot].lane, 2);
    assert_int_equal(session->queued[2], 1);
    assert_false(knit_session_try_publish_warm(session, &call, head, &slot));
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    assert_int_not_equal(session->slots[slot].lane, 2);
    assert_int_equal(knit_session_in_flight(session), 2);
}

/* ---- flush ---- */

/* In the short way nothing is woken and nothing else changes than in the full one. */
static void nobody_is_woken_for_one_call_of_an_awake_lane(void **state)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct lanes_session *side[2];
    uint32_t slot = 0;

    (void)state;
    lanes_init(&lanes, 2, true, 0);
    for (uint32_t lane = 0; lane < 2; lane++)
        atomic_store_explicit(&lanes.board.park[lane].value, KNIT_PARK_AWAKE, memory_order_relaxed);
    call.lane = 1;
    for (int i = 0; i < 2; i++) {
        side[i] = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
        assert_true(knit_session_try_flush(side[i]->session));
        assert_true(knit_session_try_publish(side[i]->session, &call, &slot));
    }
    assert_true(knit_session_try_flush(side[0]->session));
    knit_session_flush(side[1]->session);
    for (int i = 0; i < 2; i++) {
        const struct knit_session *session = side[i]->session;
        const struct knit_session_lane *lane = &session->lanes[1];

        assert_int_equal(session->dirty, 0);
        assert_false(lane->is_dirty);
        assert_int_equal(lane->flushed_slot, slot);
        assert_int_equal(lane->flushed_gen, knit_session_gen(session, slot));
        assert_int_equal(session->counters.wakes, 0);
        assert_int_equal(session->crowded_flushes, 0);
    }
}

/* With arguments of every size, to a worker in every state. */
static void a_call_that_is_sent_is_published_and_flushed(void **state)
{
    static const uint32_t parks[] = {
        KNIT_PARK_AWAKE, KNIT_PARK_PARKED, KNIT_PARK_VACANT, KNIT_PARK_AWAKE, 3};
    struct lanes_session *sent, *full;
    uint64_t words[KNIT_CELL_WORDS];

    (void)state;
    lanes_init(&lanes, 1, true, 0);
    sent = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    full = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    for (uint32_t i = 0; i < 5 * KNIT_INLINE_MAX; i++) {
        struct knit_session_call call = lanes_call(i, words, i % KNIT_INLINE_MAX + 1);
        const struct knit_session_lane *lane = &sent->session->lanes[0];
        const struct knit_session_lane *other = &full->session->lanes[0];
        const uint64_t head = knit_meta(call.task, call.epoch, 0, 0);
        const struct answer answer = {0};
        struct knit_session_outcome outcome;
        uint32_t slot = 0, slot_full = 0;

        atomic_store_explicit(
            &lanes.board.park[0].value, knit_park_next(i << 2, parks[i % 5]), memory_order_relaxed);
        memset(words, 0, sizeof(words));
        memset(words, (int)(i % 255) + 1, call.len);
        assert_true(knit_session_try_send(
            sent->session, &call, head, i % 2 != 0 ? KNIT_PUT_PADDED : 0, &slot));
        assert_int_equal(knit_session_publish(full->session, &call, &slot_full), 0);
        knit_session_flush(full->session);
        assert_published(sent, i, &call, slot);
        assert_published(full, i, &call, slot_full);
        assert_int_equal(slot, slot_full);
        assert_int_equal(lane->last_slot, other->last_slot);
        assert_int_equal(lane->flushed_slot, other->flushed_slot);
        assert_int_equal(lane->flushed_gen, other->flushed_gen);
        assert_int_equal(lane->park_notified, other->park_notified);
        assert_int_equal(lane->is_dirty, false);
        assert_int_equal(sent->session->dirty, 0);
        assert_int_equal(sent->session->queued[0], full->session->queued[0]);
        assert_int_equal(sent->session->counters.wakes, full->session->counters.wakes);
        assert_int_equal(
            atomic_load_explicit(lane->occupied, memory_order_relaxed) & lane->bit, lane->bit);
        put_answer(sent, slot, &answer);
        put_answer(full, slot_full, &answer);
        assert_true(knit_session_collect_slot(sent->session, slot, &outcome));
        assert_true(knit_session_collect_slot(full->session, slot_full, &outcome));
        assert_int_equal(atomic_load_explicit(lane->occupied, memory_order_relaxed) & lane->bit, 0);
    }
    assert_int_equal(sent->session->counters.wakes, KNIT_INLINE_MAX);
}

static void what_is_not_alone_is_not_sent(void **state)
{
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    const uint64_t head = knit_meta(call.task, call.epoch, 0, 0);
    struct knit_session *session;
    uint32_t slot = 0;

    (void)state;
    lanes_init(&lanes, 1, true, 0);
    atomic_store_explicit(&lanes.board.park[0].value, KNIT_PARK_AWAKE, memory_order_relaxed);
    session = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0)->session;
    assert_true(knit_session_try_publish(session, &call, &slot));
    assert_false(knit_session_try_send(session, &call, head, 0, &slot));
    knit_session_flush(session);
    assert_false(knit_session_try_send(session, &call, head, 0, &slot));
    assert_int_equal(session->queued[0], 1);
}

static void a_flush_that_may_have_to_wake_is_not_short(void **state)
{
    const uint32_t asleep[] = {KNIT_PARK_PARKED, KNIT_PARK_VACANT, 3};
    struct knit_session_call call = lanes_call(LANES_ECHO, "x", 1);
    struct lanes_session *side;
    _Atomic uint32_t *park;
    uint32_t slot = 0;

    (void)state;
    lanes_init(&lanes, 2, true, 0);
    side = lanes_add_session(&lanes, SLOTS, ARENA_BYTES, 0);
    park = &lanes.board.park[0].value;
    call.lane = 0;
    assert_true(knit_session_try_publish(side->session, &call, &slot));
    for (size_t i = 0; i < sizeof(asleep) / sizeof(asleep[0]); i++) {
        atomic_store_explicit(park, knit_park_next(0, asleep[i]), memory_order_relaxed);
        assert_false(knit_session_try_flush(side->session));
        assert_int_equal(side->session->dirty, 1);
    }
    /* Another lane, and then a second call of the same one. */
    atomic_store_explicit(park, KNIT_PARK_AWAKE, memory_order_relaxed);
    call.lane = 1;
    assert_true(knit_session_try_publish(side->session, &call, &slot));
    assert_false(knit_session_try_flush(side->session));
    knit_session_flush(side->session);
    call.lane = 0;
    assert_true(knit_session_try_publish(side->session, &call, &slot));
    assert_false(knit_session_try_flush(side->session));
    assert_int_equal(side->session->dirty, 1);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(each_answer_is_collected_alike, teardown),
        cmocka_unit_test_teardown(a_short_publish_writes_what_the_layout_says, teardown),
        cmocka_unit_test_teardown(what_is_unusual_is_not_published_the_short_way, teardown),
        cmocka_unit_test_teardown(a_lane_without_slots_takes_those_of_another, teardown),
        cmocka_unit_test_teardown(a_warm_lane_is_taken_without_a_look_at_others, teardown),
        cmocka_unit_test_teardown(nobody_is_woken_for_one_call_of_an_awake_lane, teardown),
        cmocka_unit_test_teardown(a_call_that_is_sent_is_published_and_flushed, teardown),
        cmocka_unit_test_teardown(what_is_not_alone_is_not_sent, teardown),
        cmocka_unit_test_teardown(a_flush_that_may_have_to_wake_is_not_short, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
