/* SPDX-License-Identifier: Apache-2.0 */
/* From loops to a thread: pieces stay whole and in their order, none comes twice, and each one that
 * does not come is counted. */
#include <poll.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "server/report/outbox.h"
#include "tests/support/deadline.h"

enum { LOOPS = 3, PIECE = 16 };

static struct knit_outboxes outboxes;

static int teardown(void **state)
{
    (void)state;
    knit_outboxes_fini(&outboxes);
    return 0;
}

static void put(struct knit_outbox *outbox, uint32_t number)
{
    char piece[PIECE] = {0};

    memcpy(piece, &number, sizeof(number));
    (void)knit_outbox_put(outbox, piece, sizeof(piece));
}

static bool is_awake(void)
{
    struct pollfd wake = {outboxes.wake_fd, POLLIN, 0};

    return poll(&wake, 1, 0) == 1;
}

static void what_was_handed_over_is_taken_by_turns(void **state)
{
    struct knit_load load = {.pieces = 0};
    bool is_closed;

    (void)state;
    assert_int_equal(knit_outboxes_open(&outboxes, LOOPS, 1024), 0);
    assert_false(knit_outboxes_take(&outboxes, &load, &is_closed));
    put(&outboxes.items[0], 1);
    assert_false(is_awake());
    assert_int_equal(knit_outbox_hand_over(&outboxes.items[0]), 0);
    assert_true(is_awake());
    put(&outboxes.items[2], 3);
    put(&outboxes.items[2], 4);
    assert_int_equal(knit_outbox_hand_over(&outboxes.items[2]), 0);
    assert_true(knit_outboxes_take(&outboxes, &load, &is_closed));
    assert_int_equal(load.from, 0);
    put(&outboxes.items[0], 2);
    assert_int_equal(knit_outbox_hand_over(&outboxes.items[0]), 0);
    assert_true(knit_outboxes_take(&outboxes, &load, &is_closed));
    assert_int_equal(load.from, 2);
    assert_int_equal(load.pieces, 2);
    assert_int_equal(load.bytes.len, 2 * PIECE);
    assert_true(knit_outboxes_take(&outboxes, &load, &is_closed));
    assert_int_equal(load.from, 0);
    assert_int_equal(load.bytes.bytes[0], 2);
    assert_true(is_awake());
    assert_false(knit_outboxes_take(&outboxes, &load, &is_closed));
    assert_false(is_closed || is_awake());
    knit_outboxes_close(&outboxes);
    assert_true(is_awake());
    assert_false(knit_outboxes_take(&outboxes, &load, &is_closed));
    assert_true(is_closed);
    knit_buffer_fini(&load.bytes);
}

static void what_does_not_fit_is_counted(void **state)
{
    struct knit_load load = {.pieces = 0};
    struct knit_outbox *outbox;
    bool is_closed;

    (void)state;
    assert_int_equal(knit_outboxes_open(&outboxes, 1, 4 * PIECE), 0);
    outbox = &outboxes.items[0];
    for (uint32_t i = 0; i < 6; i++)
        put(outbox, i);
    assert_int_equal(knit_outbox_hand_over(outbox), 2);
    assert_int_equal(knit_outbox_hand_over(outbox), 0);
    put(outbox, 6);
    assert_int_equal(knit_outbox_hand_over(outbox), 1);
    assert_int_equal(knit_outboxes_dropped(&outboxes), 3);
    assert_int_equal(knit_outboxes_dropped(&outboxes), 0);
    assert_true(knit_outboxes_take(&outboxes, &load, &is_closed));
    assert_int_equal(load.pieces, 4);
    put(outbox, 7);
    assert_int_equal(knit_outbox_hand_over(outbox), 0);
    assert_true(knit_outboxes_take(&outboxes, &load, &is_closed));
    assert_int_equal(load.bytes.bytes[0], 7);
    assert_int_equal(load.pieces, 1);
    knit_buffer_fini(&load.bytes);
}

/* ---- threads ------------------------------------------------------------------------------- */

enum { PIECES = 200000 };

static uint64_t taken, last[LOOPS];

static void check_load(const struct knit_load *load)
{
    assert_int_equal(load->bytes.len, load->pieces * PIECE);
    for (size_t at = 0; at < load->bytes.len; at += PIECE) {
        uint32_t number;

        memcpy(&number, load->bytes.bytes + at, sizeof(number));
        assert_true(number > last[load->from]);
        last[load->from] = number;
    }
    taken += load->pieces;
}

static void *take_all(void *arg)
{
    struct pollfd wake = {outboxes.wake_fd, POLLIN, 0};
    struct knit_load load = {.pieces = 0};
    bool is_closed = false;

    (void)arg;
    while (!is_closed) {
        while (knit_outboxes_take(&outboxes, &load, &is_closed))
            check_load(&load);
        if (!is_closed)
            (void)poll(&wake, 1, -1);
    }
    knit_buffer_fini(&load.bytes);
    return NULL;
}

static void *put_all(void *arg)
{
    struct knit_outbox *outbox = arg;
    uint64_t dropped = 0;

    for (uint32_t i = 1; i <= PIECES; i++) {
        put(outbox, i);
        if (i % 7 == 0)
            dropped += knit_outbox_hand_over(outbox);
    }
    dropped += knit_outbox_hand_over(outbox);
    return (void *)(uintptr_t)dropped;
}

static void each_piece_is_taken_or_counted(void **state)
{
    pthread_t taker, putters[LOOPS];
    uint64_t dropped = 0;
    void *result;

    (void)state;
    assert_int_equal(knit_outboxes_open(&outboxes, LOOPS, 1000 * PIECE), 0);
    assert_int_equal(pthread_create(&taker, NULL, take_all, NULL), 0);
    for (int i = 0; i < LOOPS; i++)
        assert_int_equal(pthread_create(&putters[i], NULL, put_all, &outboxes.items[i]), 0);
    for (int i = 0; i < LOOPS; i++) {
        assert_int_equal(pthread_join(putters[i], &result), 0);
        dropped += (uintptr_t)result;
    }
    knit_outboxes_close(&outboxes);
    assert_int_equal(pthread_join(taker, NULL), 0);
    assert_int_equal(taken + dropped, (uint64_t)LOOPS * PIECES);
    assert_true(taken > 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(what_was_handed_over_is_taken_by_turns, teardown),
        cmocka_unit_test_teardown(what_does_not_fit_is_counted, teardown),
        cmocka_unit_test_teardown(each_piece_is_taken_or_counted, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
