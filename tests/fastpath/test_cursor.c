/* SPDX-License-Identifier: Apache-2.0 */
/* What a cursor finds in a ring, whom its claim beats, and how far the head follows. Method: a
 * session's segments without a worker; cells are published by a session, or written by hand where
 * no correct caller would write them. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/cursor.h"
#include "tests/fastpath/lanes.h"

#define SLOTS 40u
#define OWNER 7u
#define OTHER 8u

struct fixture {
    struct lanes lanes;
    struct lanes_session *side;
    struct knit_cursor cursor;
    struct knit_ready_call call;
    uint32_t steps;
};

static void begin(struct fixture *fixture)
{
    const struct lanes_session *side = fixture->side;

    knit_cursor_begin(
        &fixture->cursor, &side->geometry, &side->request, &side->reply, 0, KNIT_RING_NORMAL);
    fixture->steps = fixture->cursor.cells;
}

static int setup(void **state)
{
    static struct fixture fixture;

    memset(&fixture, 0, sizeof(fixture));
    lanes_init(&fixture.lanes, 1, false, 0);
    /* Tags, generations and positions wrap within the test. */
    fixture.side = lanes_add_session(&fixture.lanes, SLOTS, 8192, UINT64_MAX - 20);
    begin(&fixture);
    *state = &fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    lanes_fini(&fixture->lanes);
    return 0;
}

static uint32_t publish(struct fixture *fixture)
{
    const struct knit_session_call call = {
        .task = LANES_ECHO, .lane = 0, .payload = "payload", .len = 7};
    uint32_t slot;

    assert_int_equal(knit_session_publish(fixture->side->session, &call, &slot), 0);
    return slot;
}

static enum knit_cell_state find(struct fixture *fixture)
{
    return knit_cursor_find(&fixture->cursor, &fixture->steps, &fixture->call);
}

static uint64_t head(const struct fixture *fixture)
{
    return atomic_load_explicit(&fixture->side->reply.head[0].value[0], memory_order_relaxed);
}

static void rewrite(struct fixture *fixture, uint64_t gen, uint32_t slot)
{
    const struct knit_cursor *cursor = &fixture->cursor;
    struct knit_request_cell *cell = &fixture->side->request.ring[cursor->q & (cursor->cells - 1)];

    atomic_store_explicit(&cell->ctrl, knit_ctrl(gen, slot, knit_tag(cursor->q, cursor->cells)),
        memory_order_relaxed);
}

static void a_published_call_is_found_with_its_bytes(void **state)
{
    struct fixture *fixture = *state;
    uint32_t slot;

    assert_int_equal(find(fixture), KNIT_CELL_EMPTY);
    assert_false(knit_cursor_peek(&fixture->cursor));
    slot = publish(fixture);
    assert_true(knit_cursor_peek(&fixture->cursor));
    assert_int_equal(find(fixture), KNIT_CELL_READY);
    assert_int_equal(knit_ctrl_slot(fixture->call.head.ctrl), slot);
    assert_int_equal(knit_meta_len(fixture->call.head.meta), 7);
    assert_memory_equal(fixture->call.body, "payload", 7);
    /* It stays where it is until it is claimed. */
    assert_int_equal(find(fixture), KNIT_CELL_READY);
}

static void one_claim_wins_and_the_call_is_stepped_over(void **state)
{
    struct fixture *fixture = *state;
    struct knit_cursor second;
    uint32_t slot = publish(fixture);
    uint64_t claim;

    assert_int_equal(find(fixture), KNIT_CELL_READY);
    second = fixture->cursor;
    assert_true(knit_cursor_claim(&fixture->cursor, &fixture->call.head, OWNER));
    assert_false(knit_cursor_claim(&second, &fixture->call.head, OTHER));
    claim = atomic_load_explicit(&fixture->side->reply.claim[slot], memory_order_relaxed);
    assert_int_equal(knit_claim_owner(claim), OWNER);
    assert_int_equal(knit_claim_gen(claim), knit_ctrl_gen(fixture->call.head.ctrl));
    assert_int_equal(fixture->cursor.q, second.q + 1);
    assert_int_equal(knit_cursor_find(&second, &fixture->steps, &fixture->call), KNIT_CELL_EMPTY);
    assert_int_equal(second.q, fixture->cursor.q);
}

static void the_head_is_never_further_behind_than_its_lag(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t first = head(fixture);

    for (uint32_t i = 0; i < SLOTS; i++)
        (void)publish(fixture);
    for (uint32_t i = 0; i < SLOTS; i++) {
        assert_int_equal(find(fixture), KNIT_CELL_READY);
        assert_true(knit_cursor_claim(&fixture->cursor, &fixture->call.head, OWNER));
        assert_true(fixture->cursor.q - head(fixture) <= KNIT_HEAD_LAG_MAX);
    }
    knit_cursor_raise_head(&fixture->cursor);
    assert_int_equal(head(fixture), first + SLOTS);
}

static void a_late_cursor_does_not_lower_the_head(void **state)
{
    struct fixture *fixture = *state;
    struct knit_cursor late = fixture->cursor;

    for (uint32_t i = 0; i < 3; i++) {
        (void)publish(fixture);
        assert_int_equal(find(fixture), KNIT_CELL_READY);
        assert_true(knit_cursor_claim(&fixture->cursor, &fixture->call.head, OWNER));
    }
    knit_cursor_raise_head(&fixture->cursor);
    knit_cursor_raise_head(&late);
    assert_int_equal(head(fixture), fixture->cursor.q);
    knit_cursor_catch_up(&late);
    assert_int_equal(late.q, fixture->cursor.q);
}

static void bad_cells_are_told_apart_and_not_passed(void **state)
{
    struct fixture *fixture = *state;
    const uint64_t q = fixture->cursor.q;
    uint32_t slot = publish(fixture);
    uint64_t gen;

    assert_int_equal(find(fixture), KNIT_CELL_READY);
    gen = knit_ctrl_gen(fixture->call.head.ctrl);
    rewrite(fixture, gen, SLOTS);
    assert_int_equal(find(fixture), KNIT_CELL_BAD_SLOT);
    rewrite(fixture, knit_gen_next(gen), slot);
    assert_int_equal(find(fixture), KNIT_CELL_BAD_GENERATION);
    assert_int_equal(fixture->cursor.q, q);
    assert_true(knit_cursor_is_unchanged(&fixture->cursor, fixture->call.head.ctrl));
    rewrite(fixture, gen, slot);
    assert_false(knit_cursor_is_unchanged(&fixture->cursor, fixture->call.head.ctrl));
    assert_int_equal(find(fixture), KNIT_CELL_READY);
}

static void a_walk_ends_with_its_steps(void **state)
{
    struct fixture *fixture = *state;

    for (uint32_t i = 0; i < 4; i++) {
        (void)publish(fixture);
        assert_int_equal(find(fixture), KNIT_CELL_READY);
        assert_true(knit_cursor_claim(&fixture->cursor, &fixture->call.head, OWNER));
    }
    (void)publish(fixture);
    begin(fixture);
    fixture->steps = 4;
    assert_int_equal(find(fixture), KNIT_CELL_EMPTY);
    assert_int_equal(fixture->steps, 0);
    fixture->steps = 1;
    assert_int_equal(find(fixture), KNIT_CELL_READY);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(a_published_call_is_found_with_its_bytes),
        WITH_FIXTURE(one_claim_wins_and_the_call_is_stepped_over),
        WITH_FIXTURE(the_head_is_never_further_behind_than_its_lag),
        WITH_FIXTURE(a_late_cursor_does_not_lower_the_head),
        WITH_FIXTURE(bad_cells_are_told_apart_and_not_passed),
        WITH_FIXTURE(a_walk_ends_with_its_steps),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
