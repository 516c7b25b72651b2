/* SPDX-License-Identifier: Apache-2.0 */
/* Values that calls emit: what the reader of the sequence lock sees of each state in which a
 * writer, a dead one too, can have left it; and that a session is woken for them. A writer and a
 * reader that run at once show that no value is ever seen in part. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/emit.h"
#include "fastpath/lane/lane_private.h"
#include "fastpath/lane/session_private.h"
#include "tests/fastpath/lanes.h"
#include "tests/support/deadline.h"

static struct lanes lanes;

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static void emit_byte(struct knit_progress_cell *cell, uint64_t gen, uint8_t byte)
{
    knit_emit_write(cell, gen, &byte, 1);
}

/* ---- the lock ---- */

static void the_last_value_of_a_call_is_read_once(void **state)
{
    struct knit_progress_cell cell = {0};
    struct knit_emitted emitted = {0};

    (void)state;
    assert_false(knit_emit_read(&cell, 5, 0, &emitted));
    emit_byte(&cell, 5, 1);
    emit_byte(&cell, 5, 2);
    assert_true(knit_emit_is_new(&cell, 5, 0));
    assert_true(knit_emit_read(&cell, 5, 0, &emitted));
    assert_int_equal(emitted.count, 2);
    assert_int_equal(emitted.len, 1);
    assert_int_equal(((uint8_t *)emitted.body)[0], 2);
    assert_false(knit_emit_is_new(&cell, 5, emitted.word));
    assert_false(knit_emit_read(&cell, 5, emitted.word, &emitted));
    /* The same bytes again are another value. */
    emit_byte(&cell, 5, 2);
    assert_true(knit_emit_read(&cell, 5, emitted.word, &emitted));
    assert_int_equal(emitted.count, 3);
}

static void the_values_of_another_call_of_the_slot_are_none(void **state)
{
    struct knit_progress_cell cell = {0};
    struct knit_emitted emitted = {0};

    (void)state;
    emit_byte(&cell, 5, 1);
    assert_false(knit_emit_is_new(&cell, 6, 0));
    assert_false(knit_emit_read(&cell, 6, 0, &emitted));
    emit_byte(&cell, 6, 2);
    assert_true(knit_emit_read(&cell, 6, 0, &emitted));
    assert_int_equal(emitted.count, 1);
    assert_false(knit_emit_read(&cell, 5, 0, &emitted));
    /* Generations wrap. */
    emit_byte(&cell, KNIT_GEN_MASK, 3);
    assert_true(knit_emit_read(&cell, KNIT_GEN_MASK, 0, &emitted));
    emit_byte(&cell, 0, 4);
    assert_true(knit_emit_read(&cell, 0, 0, &emitted));
    assert_int_equal(((uint8_t *)emitted.body)[0], 4);
}

static void what_a_dead_writer_left_is_no_value_and_stops_no_later_one(void **state)
{
    struct knit_progress_cell cell = {0};
    struct knit_emitted emitted = {0};

    (void)state;
    emit_byte(&cell, 5, 1);
    /* It has stored the odd number and no more. */
    atomic_fetch_add_explicit(&cell.seq, 1, memory_order_relaxed);
    assert_false(knit_emit_is_new(&cell, 5, 0));
    assert_false(knit_emit_read(&cell, 5, 0, &emitted));
    emit_byte(&cell, 6, 2);
    assert_true(knit_emit_read(&cell, 6, 0, &emitted));
    assert_int_equal(((uint8_t *)emitted.body)[0], 2);
    /* The numbers wrap within their bits, also from an odd one. */
    atomic_store_explicit(
        &cell.seq, (uint64_t)6 << KNIT_GEN_SHIFT | 0xffffff, memory_order_relaxed);
    emit_byte(&cell, 6, 3);
    assert_true(knit_emit_read(&cell, 6, 0, &emitted));
    assert_int_equal(((uint8_t *)emitted.body)[0], 3);
}

static void lengths_that_no_writer_stores_are_no_value(void **state)
{
    static const uint64_t wrong[] = {0, KNIT_VALUE_MAX + 1, UINT32_MAX};
    struct knit_progress_cell cell = {0};
    struct knit_emitted emitted = {0};

    (void)state;
    emit_byte(&cell, 5, 1);
    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        atomic_store_explicit(&cell.meta, wrong[i], memory_order_relaxed);
        assert_false(knit_emit_read(&cell, 5, 0, &emitted));
    }
}

struct storm {
    struct knit_progress_cell cell;
    _Atomic bool is_over;
};

enum { STORM_VALUES = 200000 };

/* All words of a value are the same number, and its length says which one. */
static void *write_storm(void *arg)
{
    struct storm *storm = arg;

    for (uint64_t i = 1; i <= STORM_VALUES; i++) {
        uint64_t words[KNIT_VALUE_WORDS];

        for (size_t k = 0; k < KNIT_VALUE_WORDS; k++)
            words[k] = i;
        knit_emit_write(&storm->cell, 7, words, 8 * (1 + i % KNIT_VALUE_WORDS));
    }
    atomic_store_explicit(&storm->is_over, true, memory_order_release);
    return NULL;
}

static void no_value_is_seen_in_part(void **state)
{
    static struct storm storm;
    struct knit_emitted emitted = {0};
    uint64_t last = 0;
    pthread_t thread;
    bool is_over;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, write_storm, &storm), 0);
    do {
        is_over = atomic_load_explicit(&storm.is_over, memory_order_acquire);
        if (!knit_emit_read(&storm.cell, 7, emitted.word, &emitted))
            continue;
        assert_int_equal(emitted.len, 8 * (1 + emitted.count % KNIT_VALUE_WORDS));
        for (size_t k = 0; k < emitted.len / 8; k++)
            assert_int_equal(emitted.body[k], emitted.count);
        assert_true(emitted.count > last);
        last = emitted.count;
    } while (!is_over);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(last, STORM_VALUES);
}

/* ---- sessions ---- */

static uint32_t publish_watched(struct knit_session *session, uint32_t task, uint32_t flags)
{
    struct knit_session_call call = lanes_call(task, NULL, 0);
    uint32_t slot;

    call.flags = flags;
    assert_int_equal(knit_session_publish(session, &call, &slot), 0);
    if ((flags & KNIT_CELL_PROGRESS) != 0)
        assert_true(knit_session_watch(session, slot));
    knit_session_flush(session);
    return slot;
}

static void note_value(void *arg, const struct knit_session_value *value)
{
    struct knit_session_value *last = arg;

    *last = *value;
}

/* As a worker does. */
static void emit_for(struct lanes_session *at, uint32_t slot, uint8_t byte)
{
    uint64_t gen = knit_session_gen(at->session, slot);

    emit_byte(&at->reply.progress[slot], gen, byte);
}

static void a_wait_ends_for_a_value_and_then_goes_on(void **state)
{
    struct knit_session_value value = {.slot = KNIT_NO_SLOT};
    struct knit_session_outcome outcome;
    struct lanes_session *at;
    uint32_t slot;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    at = lanes_add_session(&lanes, 4, 65536, 0);
    lanes_start_worker(&lanes, 0, 5);
    slot = publish_watched(at->session, LANES_GATE, KNIT_CELL_PROGRESS);
    assert_true(knit_session_is_watching(at->session));
    assert_int_equal(
        knit_session_wait(at->session, slot, knit_clock_ns() + 10000000), KNIT_SESSION_E_TIMEOUT);
    emit_for(at, slot, 9);
    assert_int_equal(knit_session_wait(at->session, slot, knit_clock_ns() + 10000000), 0);
    assert_false(knit_session_arm(at->session));
    knit_session_take_values(at->session, note_value, &value);
    assert_int_equal(value.slot, slot);
    assert_int_equal(((uint8_t *)value.emitted.body)[0], 9);
    assert_int_equal(
        knit_session_wait(at->session, slot, knit_clock_ns() + 10000000), KNIT_SESSION_E_TIMEOUT);
    /* The last one is there when the outcome is, and no later. */
    emit_for(at, slot, 10);
    atomic_store_explicit(&lanes.gate, 1, memory_order_release);
    lanes_wait_for(at->session, slot, &outcome);
    assert_true(knit_session_last_value(at->session, slot, &value));
    assert_int_equal(((uint8_t *)value.emitted.body)[0], 10);
    assert_false(knit_session_last_value(at->session, slot, &value));
    value.slot = KNIT_NO_SLOT;
    knit_session_take_values(at->session, note_value, &value);
    assert_int_equal(value.slot, KNIT_NO_SLOT);
    assert_false(knit_session_is_watching(at->session));
}

static void a_caller_that_sleeps_is_woken_for_a_value(void **state)
{
    struct knit_session_value value = {.slot = KNIT_NO_SLOT};
    struct lanes_session *at;
    uint32_t slot;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    at = lanes_add_session(&lanes, 4, 65536, 0);
    lanes_start_worker(&lanes, 0, 5);
    for (int i = 0; i < 20; i++) {
        struct knit_session_outcome outcome;

        atomic_store_explicit(&lanes.gate, 0, memory_order_release);
        slot = publish_watched(at->session, LANES_EMIT, KNIT_CELL_PROGRESS);
        assert_int_equal(knit_session_wait(at->session, slot, knit_clock_ns() + 10000000000u), 0);
        knit_session_take_values(at->session, note_value, &value);
        assert_int_equal(value.slot, slot);
        assert_int_equal(value.emitted.count, 1);
        assert_int_equal(((uint8_t *)value.emitted.body)[0], 7);
        atomic_store_explicit(&lanes.gate, 1, memory_order_release);
        lanes_wait_for(at->session, slot, &outcome);
    }
}

static void calls_that_are_watched_and_end_leave_room_for_others(void **state)
{
    struct knit_session_value value = {.slot = KNIT_NO_SLOT};
    struct knit_session_outcome outcome;
    struct lanes_session *at;
    uint32_t slot = 0;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    at = lanes_add_session(&lanes, 4, 65536, 0);
    lanes_start_worker(&lanes, 0, 5);
    for (int i = 0; i < 40; i++) {
        slot = publish_watched(at->session, LANES_ECHO, KNIT_CELL_PROGRESS);
        emit_for(at, slot, 1);
        lanes_wait_for(at->session, slot, &outcome);
    }
    knit_session_take_values(at->session, note_value, &value);
    assert_int_equal(value.slot, KNIT_NO_SLOT);
}

static void a_worker_is_told_who_looks(void **state)
{
    struct lanes_session *at;
    struct knit_session_outcome outcome;
    uint32_t slot;

    (void)state;
    lanes_init(&lanes, 1, false, 0);
    at = lanes_add_session(&lanes, 4, 65536, 0);
    lanes_add_worker(&lanes, 0, 5);
    slot = publish_watched(at->session, LANES_ECHO, KNIT_CELL_PROGRESS);
    while (!knit_session_collect_slot(at->session, slot, &outcome))
        (void)knit_lane_turn(lanes.worker[0]);
    assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
    assert_true(lanes.saw_watched);
    slot = publish_watched(at->session, LANES_ECHO, 0);
    while (!knit_session_collect_slot(at->session, slot, &outcome))
        (void)knit_lane_turn(lanes.worker[0]);
    assert_false(lanes.saw_watched);
    assert_int_equal(atomic_load_explicit(&lanes.evictions, memory_order_relaxed), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_last_value_of_a_call_is_read_once),
        cmocka_unit_test(the_values_of_another_call_of_the_slot_are_none),
        cmocka_unit_test(what_a_dead_writer_left_is_no_value_and_stops_no_later_one),
        cmocka_unit_test(lengths_that_no_writer_stores_are_no_value),
        cmocka_unit_test(no_value_is_seen_in_part),
        cmocka_unit_test_teardown(a_wait_ends_for_a_value_and_then_goes_on, teardown),
        cmocka_unit_test_teardown(a_caller_that_sleeps_is_woken_for_a_value, teardown),
        cmocka_unit_test_teardown(calls_that_are_watched_and_end_leave_room_for_others, teardown),
        cmocka_unit_test_teardown(a_worker_is_told_who_looks, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
