/* SPDX-License-Identifier: Apache-2.0 */
/* A call that is observed brings its trace to the worker, whatever way it goes, and tells how long
 * it ran; what a caller of no good leaves there makes no call fail. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/lane/session_private.h"
#include "fastpath/lane/trace.h"
#include "tests/fastpath/lanes.h"

static struct lanes lanes;
static struct lanes_session *at;
static const struct knit_trace sample = {
    {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16}, {17, 18, 19, 20, 21, 22, 23, 24}, 1};

static int set_up(void **state)
{
    (void)state;
    lanes_init(&lanes, 1, false, 0);
    at = lanes_add_session(&lanes, 4, 65536, 0);
    lanes_add_worker(&lanes, 0, 5);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    lanes_fini(&lanes);
    return 0;
}

static uint32_t publish(const struct knit_trace *trace, const void *payload, size_t len)
{
    struct knit_session_call call = lanes_call(LANES_TRACE, payload, len);
    uint32_t slot;

    if (trace != NULL)
        call.flags |= KNIT_CELL_TRACED;
    call.trace = trace;
    assert_int_equal(knit_session_publish(at->session, &call, &slot), 0);
    return slot;
}

/* Until it is answered; the trace that its worker saw, or nothing. */
static size_t take(uint32_t slot, struct knit_trace *ret_trace)
{
    struct knit_session_outcome outcome;
    size_t len;

    while (!knit_session_collect_slot(at->session, slot, &outcome))
        (void)knit_lane_turn(lanes.worker[0]);
    assert_int_equal(outcome.status, KNIT_STATUS_RESULT);
    len = outcome.len;
    assert_true(len <= sizeof(*ret_trace));
    memcpy(ret_trace, outcome.payload, len);
    if (outcome.held)
        knit_session_release(at->session, slot);
    return len;
}

static void a_trace_goes_there(void **state)
{
    static const size_t sizes[] = {0, 40, 104, 105, 1024, 1025, 8000};
    static const unsigned char payload[8000];
    struct knit_trace trace;

    (void)state;
    /* More often than there are slots, so that calls with and without one follow each other. */
    for (size_t i = 0; i < 10 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        const size_t len = sizes[i % (sizeof(sizes) / sizeof(sizes[0]))];
        const bool is_traced = i % 3 != 2;
        const uint32_t slot = publish(is_traced ? &sample : NULL, payload, len);

        assert_int_equal(take(slot, &trace), is_traced ? sizeof(trace) : 0);
        if (is_traced)
            assert_memory_equal(&trace, &sample, sizeof(trace));
    }
}

static void what_no_correct_caller_writes_is_no_trace(void **state)
{
    static const struct knit_trace without_id = {{0}, {1}, 1}, without_span = {{1}, {0}, 1};
    const struct knit_trace *const wrong[] = {&without_id, &without_span};
    struct knit_trace trace;

    (void)state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(take(publish(wrong[i], NULL, 0), &trace), 0);
    assert_int_equal(lanes.evictions, 0);
}

/* Of a task that is known to be short, of whose runs no other is measured here. */
static void each_run_is_measured_that_is_observed(void **state)
{
    const struct knit_trace *const traces[] = {NULL, &knit_trace_none, NULL, &sample};
    struct knit_trace trace;
    uint32_t slot;

    (void)state;
    for (size_t i = 0; i < 100; i++) {
        const struct knit_trace *published = traces[i % 4];

        lanes_pretend(&lanes, LANES_TRACE, 100);
        slot = publish(published, NULL, 0);
        assert_int_equal(take(slot, &trace), published == &sample ? sizeof(trace) : 0);
        if (published != NULL)
            assert_true(knit_session_run_ns(at->session, slot) > 0);
        else
            assert_int_equal(knit_session_run_ns(at->session, slot), 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_trace_goes_there, set_up, teardown),
        cmocka_unit_test_setup_teardown(
            what_no_correct_caller_writes_is_no_trace, set_up, teardown),
        cmocka_unit_test_setup_teardown(each_run_is_measured_that_is_observed, set_up, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
