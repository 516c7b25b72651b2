/* SPDX-License-Identifier: Apache-2.0 */
/* A session with several daemons, and what it keeps to: how many connections there are, and whom it
 * asks. How calls are shared, and what becomes of daemons that fail: test_spread.c.
 *
 * Method: servers of the test's own, each on an address of loopback; what has to be late is said to
 * be, in the session's own times. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <knitting/knitting.h>
#include <knitting/typed.h>

#include "clients/lib/client.h"
#include "clients/lib/endpoints.h"
#include "tests/clients/fake_several.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 20000 };

KNIT_TYPED_AS(where_typed, "where", (), ((int, number)));

static struct knit *k;
static struct knit_error error;

static bool turn(void)
{
    (void)knit_dispatch(k, &error);
    return true;
}

static uint32_t serving(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++)
        count += knit_stream_takes_calls(&k->link.streams[i]);
    return count;
}

static uint32_t open_streams(void)
{
    uint32_t count = 0;

    for (uint32_t i = 0; i < KNIT_STREAMS_MAX; i++)
        count += knit_stream_is_open(&k->link.streams[i]);
    return count;
}

static void begin(uint32_t count, const struct knit_open_options *options, uint32_t connections)
{
    knit_several_start(count, NULL);
    assert_int_equal(knit_open(knit_several_url(count), options, &k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(
        turn() && serving() == connections && !knit_link_is_opening(&k->link), PATIENCE_MS));
}

static int stop(void **state)
{
    (void)state;
    k = knit_close(k);
    knit_several_stop();
    return 0;
}

/* ---- connections ---- */

/* Each has its share of the one time that there is. */
static void servers_that_say_nothing_take_one_timeout_together(void **state)
{
    const struct knit_open_options options = {.connect_ms = 400};
    uint64_t began_ns = knit_now();

    (void)state;
    knit_several_start(4, NULL);
    for (int i = 0; i < 4; i++)
        atomic_store_explicit(&several[i].is_deaf, true, memory_order_relaxed);
    assert_int_equal(knit_open(knit_several_url(4), &options, &k, &error), KNIT_TIMEOUT);
    assert_in_range((knit_now() - began_ns) / 1000000, 390, 10 * 400);
    for (int i = 0; i < 4; i++)
        atomic_store_explicit(&several[i].is_deaf, false, memory_order_relaxed);
}

/* As spread.c does it. */
static struct knit_endpoint *eject_one(void)
{
    struct knit_endpoint *endpoint = k->link.endpoints->at;

    while (endpoint->stream == NULL)
        assert_true(++endpoint < k->link.endpoints->at + KNIT_ENDPOINTS_MAX);
    knit_endpoint_eject_again(endpoint, knit_now());
    endpoint->due_ns = UINT64_MAX;
    endpoint->stream->is_out = true;
    k->link.is_due = true;
    return endpoint;
}

static void one_that_comes_back_is_none_too_many(void **state)
{
    struct knit_endpoint *endpoint;

    (void)state;
    begin(5, NULL, 4);
    endpoint = eject_one();
    assert_true(KNIT_WAIT_UNTIL(turn() && serving() == 4 && open_streams() == 5, PATIENCE_MS));
    assert_true(endpoint->is_ejected);
    endpoint->due_ns = 0;
    k->link.is_due = true;
    assert_true(KNIT_WAIT_UNTIL(turn() && !endpoint->is_ejected, PATIENCE_MS));
    assert_int_equal(serving(), 4);
    assert_true(KNIT_WAIT_UNTIL(turn() && open_streams() == 4, PATIENCE_MS));
    assert_null(endpoint->stream);
}

static void one_that_comes_back_has_its_place(void **state)
{
    struct knit_endpoint *endpoint;

    (void)state;
    begin(4, NULL, 4);
    endpoint = eject_one();
    assert_int_equal(serving(), 3);
    endpoint->due_ns = 0;
    assert_true(KNIT_WAIT_UNTIL(turn() && !endpoint->is_ejected, PATIENCE_MS));
    assert_int_equal(serving(), 4);
    assert_int_equal(open_streams(), 4);
}

/* ---- pages ---- */

struct listing {
    uint32_t leaves_at; /* with this task its server says that it shuts down, 0 = with none, */
    bool is_replaced;   /* and another one is there in its place */
    uint32_t seen;
};

static void see(const struct knit_task_info *info, void *user)
{
    struct listing *listing = user;
    const uint32_t number = (uint32_t)(info->doc[0] - '0');

    if (++listing->seen != listing->leaves_at)
        return;
    several[number].life += listing->is_replaced;
    knit_several_tell(number, KNIT_SEVERAL_GOAWAY);
}

/* From the next page on another one is asked, to which these ids say nothing. */
static void pages_are_one_server_s(void **state)
{
    static const struct {
        uint32_t leaves_at;
        bool is_replaced;
        uint32_t seen;
        int code;
    } cases[] = {
        {0, false, KNIT_SEVERAL_PAGES, KNIT_OK},
        {1, true, 2, KNIT_STALE_EPOCH},
        {2, true, KNIT_SEVERAL_PAGES, KNIT_OK},
        {KNIT_SEVERAL_PAGES, true, KNIT_SEVERAL_PAGES, KNIT_OK},
    };

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct listing listing = {cases[i].leaves_at, cases[i].is_replaced, 0};

        knit_several_start(2, NULL);
        for (int at = 0; at < 2; at++)
            atomic_store_explicit(&several[at].is_paged, true, memory_order_relaxed);
        assert_int_equal(knit_open(knit_several_url(2), NULL, &k, &error), KNIT_OK);
        assert_true(KNIT_WAIT_UNTIL(turn() && serving() == 2, PATIENCE_MS));
        assert_int_equal(knit_tasks(k, &error, see, &listing), cases[i].code);
        assert_int_equal(listing.seen, cases[i].seen);
        (void)stop(state);
    }
}

/* The call goes to the other one then, whose tasks are others. */
static void tasks_of_one_that_leaves_are_no_other_one_s(void **state)
{
    static const uint64_t workers[] = {4, 1};
    int64_t number;

    (void)state;
    knit_several_start(2, workers);
    atomic_store_explicit(&several[0].leaves_when_asked, true, memory_order_relaxed);
    atomic_store_explicit(&several[1].types, "(x: int) -> int", memory_order_relaxed);
    assert_int_equal(knit_open(knit_several_url(2), NULL, &k, &error), KNIT_OK);
    assert_true(KNIT_WAIT_UNTIL(turn() && k->handles.several != NULL, PATIENCE_MS));
    assert_int_equal(KNIT_CALL(where_typed, k, &error, (), (&number)), KNIT_BAD_ARGUMENT);
    assert_int_equal(atomic_load_explicit(&several[1].calls, memory_order_relaxed), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(servers_that_say_nothing_take_one_timeout_together, stop),
        cmocka_unit_test_teardown(one_that_comes_back_is_none_too_many, stop),
        cmocka_unit_test_teardown(one_that_comes_back_has_its_place, stop),
        cmocka_unit_test_teardown(pages_are_one_server_s, stop),
        cmocka_unit_test_teardown(tasks_of_one_that_leaves_are_no_other_one_s, stop),
    };

    return cmocka_run_group_tests_name("several", tests, NULL, NULL);
}
