/* SPDX-License-Identifier: Apache-2.0 */
/* Calls with arguments that are results of calls in flight: what is sent of them to a server that
 * takes references, and what becomes of those that it refuses. The server is the test's own, and
 * answers when all has come that the test waits for.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/args.h>
#include <knitting/knitting.h>
#include <knitting/values.h>

#include "clients/lib/client.h"
#include "tests/clients/fake_server.h"

enum { CHAIN = 16, PATIENCE_MS = 10000 };

static struct knit *k;
static struct knit_error error;

static void open_session(uint32_t slots)
{
    const struct knit_open_options options = {.slots = slots};

    k = knit_fake_open(&options);
}

static int start(void **state)
{
    (void)knit_fake_start(state);
    fake.takes_references = true;
    return 0;
}

static int stop(void **state)
{
    assert_int_equal(k->handles.promises.count, 0);
    assert_int_equal(k->handles.promises.referring, 0);
    assert_int_equal(k->handles.stream->places_added, 0);
    k = knit_close(k);
    return knit_fake_stop(state);
}

static struct knit_handle *begin_by(const struct knit_call_options *options, const char *task,
    const char *signature, const struct knit_arg *args, size_t count)
{
    struct knit_prepared *prepared = NULL;
    struct knit_handle *handle = NULL;

    assert_int_equal(knit_prepare(k, &error, task, signature, &prepared), KNIT_OK);
    assert_int_equal(knit_start_args(prepared, options, &handle, &error, args, count), KNIT_OK);
    knit_prepared_free(prepared);
    return handle;
}

static struct knit_handle *begin(const char *task, struct knit_arg a, struct knit_arg b)
{
    const struct knit_arg args[] = {a, b};

    return begin_by(NULL, task, "(int, int) -> int", args, 2);
}

static struct knit_handle *begin_one(void)
{
    return begin("sum", knit_pass_int(0), knit_pass_int(1));
}

static struct knit_handle *begin_twice(const char *task, struct knit_handle *source)
{
    return begin(task, knit_pass_handle(source), knit_pass_handle(source));
}

static int64_t value_of(struct knit_handle *handle)
{
    int64_t value = -1;

    if (knit_await(handle, PATIENCE_MS, &error) != KNIT_OK)
        fail_msg("%s: %s", error.name, error.message);
    assert_int_equal(knit_results(handle, &error, &value), KNIT_OK);
    (void)knit_free(handle);
    return value;
}

static void fails(struct knit_handle *handle, int code)
{
    assert_int_equal(knit_await(handle, PATIENCE_MS, &error), code);
    assert_int_equal(error.started, KNIT_STARTED_NO);
}

static int64_t cause(void)
{
    struct knit_value details = knit_read(NULL, error.details, error.details_len);

    return knit_value_int(knit_value_at(knit_value_get(details, "cause"), 0));
}

static uint32_t come(const _Atomic uint32_t *count)
{
    return atomic_load_explicit(count, memory_order_relaxed);
}

/* ---- what is sent ---- */

/* Nothing is answered before all of it is there. */
static void a_chain_takes_one_round_trip(void **state)
{
    struct knit_handle *chain[CHAIN];

    (void)state;
    fake.sums_wanted = CHAIN;
    open_session(0);
    chain[0] = begin_one();
    for (int i = 1; i < CHAIN; i++)
        chain[i] = begin_twice("sum", chain[i - 1]);
    assert_int_equal(value_of(chain[CHAIN - 1]), 1 << (CHAIN - 1));
    assert_int_equal(come(&fake.references_come), 2 * (CHAIN - 1));
    for (int i = 0; i < CHAIN - 1; i++)
        assert_int_equal(value_of(chain[i]), 1 << i);
    assert_int_equal(come(&fake.sums_come), CHAIN);
}

static void what_is_there_is_no_reference(void **state)
{
    struct knit_handle *first, *second, *sum;

    (void)state;
    fake.sums_wanted = 1;
    open_session(0);
    first = begin_one();
    assert_int_equal(knit_await(first, PATIENCE_MS, &error), KNIT_OK);
    second = begin_one();
    sum = begin("sum", knit_pass_handle(first), knit_pass_handle(second));
    assert_int_equal(value_of(sum), 2);
    assert_int_equal(come(&fake.references_come), 1);
    assert_int_equal(value_of(second), 1);
    assert_int_equal(value_of(first), 1);
}

/* As the server announces none, or as they are too many. */
static void other_calls_wait_here(void **state)
{
    enum { MANY = CHAIN + 1 };
    struct knit_arg args[MANY];
    struct knit_handle *sources[MANY], *sum;

    (void)state;
    fake.takes_references = false;
    fake.sums_wanted = 1;
    open_session(0);
    sources[0] = begin_one();
    assert_int_equal(value_of(begin_twice("sum", sources[0])), 2);
    assert_int_equal(value_of(sources[0]), 1);
    k = knit_close(k);

    fake.takes_references = true;
    open_session(0);
    for (int i = 0; i < MANY; i++) {
        sources[i] = begin_one();
        args[i] = knit_pass_handle(sources[i]);
    }
    sum = begin_by(NULL, "sum",
        "(int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int, int) -> "
        "int",
        args, MANY);
    assert_int_equal(value_of(sum), MANY);
    assert_int_equal(come(&fake.references_come), 0);
    for (int i = 0; i < MANY; i++)
        assert_int_equal(value_of(sources[i]), 1);
}

/* The server takes more requests than there are slots, until it does not. */
static void they_take_no_slots(void **state)
{
    const struct knit_open_options options = {.slots = 4, .would_block = true};
    struct knit_handle *source, *waiting[200];
    const uint32_t most = KNIT_STREAM_PLACES_WAITING;

    (void)state;
    fake.sums_wanted = most + 2;
    k = knit_fake_open(&options);
    source = begin_one();
    for (int i = 0; i < 200; i++)
        waiting[i] = begin_twice("sum", source);
    assert_int_equal(k->handles.promises.referring, most);
    assert_int_equal(k->handles.promises.count, 200 - most);
    assert_int_equal(value_of(begin_one()), 1);
    for (int i = 0; i < 200; i++)
        assert_int_equal(value_of(waiting[i]), 2);
    assert_int_equal(value_of(source), 1);
}

static void no_more_are_sent_than_the_server_takes(void **state)
{
    struct knit_handle *source, *waiting[20];

    (void)state;
    fake.in_flight = 8;
    fake.sums_wanted = 4;
    open_session(6);
    source = begin_one();
    for (int i = 0; i < 20; i++)
        waiting[i] = begin_twice("sum", source);
    assert_true(k->handles.stream->places_taken < 8);
    assert_int_equal(k->handles.stream->places_limit, 8);
    for (int i = 0; i < 20; i++)
        assert_int_equal(value_of(waiting[i]), 2);
    assert_int_equal(value_of(source), 1);
}

/* ---- what is refused ---- */

/* In a session of their own: a call that has the source's result twice, and is refused so often. */
static struct knit_handle *begin_refused(uint32_t refusals, struct knit_handle **ret_source)
{
    fake.sums_wanted = 2;
    fake.refusals = refusals;
    open_session(0);
    *ret_source = begin_one();
    return begin_twice("refused", *ret_source);
}

/* The source has its answer before the reference to it is read. */
static void one_that_comes_too_late_is_sent_again(void **state)
{
    struct knit_handle *source, *sum;

    (void)state;
    sum = begin_refused(1, &source);
    assert_int_equal(value_of(sum), 2);
    assert_int_equal(come(&fake.sums_come), 3);
    assert_int_equal(come(&fake.references_come), 0);
    assert_int_equal(value_of(source), 1);
}

/* With its caller's callback, which hears of its end alone, and with its source freed. */
static void its_caller_hears_of_one_end(struct knit_handle *handle, void *user)
{
    int64_t value = -1;

    assert_int_equal(knit_await(handle, 0, &error), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &value), KNIT_OK);
    assert_int_equal(value, 4);
    ++*(int *)user;
}

static void a_chain_that_comes_too_late_is_sent_again(void **state)
{
    struct knit_handle *source, *sum, *sums;
    int ends = 0;

    (void)state;
    sum = begin_refused(2, &source);
    (void)knit_free(source);
    sums = begin_twice("refused", sum);
    (void)knit_free(sum);
    knit_on_done(sums, its_caller_hears_of_one_end, &ends);
    assert_int_equal(knit_await(sums, PATIENCE_MS, &error), KNIT_OK);
    knit_dispatch(k, &error);
    assert_int_equal(ends, 1);
    assert_int_equal(come(&fake.sums_come), 5);
    (void)knit_free(sums);
}

static void it_is_sent_again_once(void **state)
{
    struct knit_handle *source, *sum;

    (void)state;
    sum = begin_refused(5, &source);
    fails(sum, KNIT_DEPENDENCY);
    assert_string_equal(error.message, "that is over");
    (void)knit_free(sum);
    assert_int_equal(fake.refusals, 3);
    assert_int_equal(value_of(source), 1);
}

/* ---- ends ---- */

/* It was never sent, and those that refer to it are refused. */
static void a_source_that_is_taken_back(void **state)
{
    struct knit_handle *source, *sum;

    (void)state;
    sum = begin_refused(1, &source);
    knit_abort(source, "not needed");
    fails(sum, KNIT_DEPENDENCY);
    assert_int_equal(cause(), KNIT_CANCELLED);
    assert_non_null(strstr(error.message, "argument 1, the result of 'sum', has failed: not need"));
    (void)knit_free(sum);
    (void)knit_free(source);
    assert_int_equal(come(&fake.sums_come), 1);
}

static void one_that_is_cancelled_is_not_sent_again(void **state)
{
    struct knit_handle *source, *sum;

    (void)state;
    sum = begin_refused(1, &source);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    knit_cancel(sum);
    fails(sum, KNIT_CANCELLED);
    (void)knit_free(sum);
    assert_int_equal(value_of(source), 1);
    assert_int_equal(come(&fake.sums_come), 2);
}

static void one_that_is_cancelled_unsent_ends_at_once(void **state)
{
    struct knit_handle *held, *sum;

    (void)state;
    open_session(0);
    assert_int_equal(knit_start(k, NULL, &held, &error, "hold", "() -> int"), KNIT_OK);
    sum = begin_twice("sum", held);
    assert_int_equal(k->handles.promises.referring, 1);
    knit_cancel(sum);
    assert_int_equal(knit_await(sum, 0, &error), KNIT_CANCELLED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    (void)knit_free(sum);
    sum = begin_twice("sum", held);
    (void)knit_free(sum);
    (void)knit_free(held);
    assert_int_equal(value_of(begin_one()), 1);
    assert_int_equal(come(&fake.sums_come), 1);
}

static void time_goes_on_when_it_is_refused(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *held, *sum;
    struct knit_arg args[2];

    (void)state;
    options.queue_ms = 20;
    fake.refusals = 1;
    open_session(0);
    assert_int_equal(knit_start(k, NULL, &held, &error, "hold", "() -> int"), KNIT_OK);
    args[0] = args[1] = knit_pass_handle(held);
    sum = begin_by(&options, "refused", "(int, int) -> int", args, 2);
    fails(sum, KNIT_TIMEOUT);
    (void)knit_free(sum);
    (void)knit_free(held);
}

static void a_connection_that_ends(void **state)
{
    struct knit_handle *source, *sum, *close, *sums;

    (void)state;
    fake.sums_wanted = 3;
    open_session(0);
    source = begin_one();
    sum = begin_twice("sum", source);
    sums = begin_twice("sum", sum);
    (void)knit_free(sum);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    (void)knit_free(source);
    assert_int_equal(value_of(sums), 4);
    fake.sums_wanted = 9;
    source = begin_one();
    sum = begin_twice("sum", source);
    assert_int_equal(knit_start(k, NULL, &close, &error, "close", "() -> nil"), KNIT_OK);
    assert_int_equal(knit_await(sum, PATIENCE_MS, &error), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    (void)knit_free(sum);
    (void)knit_free(source);
    (void)knit_free(close);
}

static void a_session_that_is_closed(void **state)
{
    struct knit_handle *source;

    (void)state;
    fake.sums_wanted = 9;
    open_session(0);
    source = begin_one();
    (void)begin_twice("sum", begin_twice("sum", source));
    k = knit_close(k);
    fake.sums_wanted = 1;
    open_session(0);
    assert_int_equal(value_of(begin_one()), 1);
}

#define TEST(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_chain_takes_one_round_trip),
        TEST(what_is_there_is_no_reference),
        TEST(other_calls_wait_here),
        TEST(they_take_no_slots),
        TEST(no_more_are_sent_than_the_server_takes),
        TEST(one_that_comes_too_late_is_sent_again),
        TEST(a_chain_that_comes_too_late_is_sent_again),
        TEST(it_is_sent_again_once),
        TEST(a_source_that_is_taken_back),
        TEST(one_that_is_cancelled_is_not_sent_again),
        TEST(one_that_is_cancelled_unsent_ends_at_once),
        TEST(time_goes_on_when_it_is_refused),
        TEST(a_connection_that_ends),
        TEST(a_session_that_is_closed),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
