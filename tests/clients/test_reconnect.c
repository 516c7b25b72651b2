/* SPDX-License-Identifier: Apache-2.0 */
/* Connections that are lost, and the next ones, with a server that goes away and comes back: its
 * socket is renamed meanwhile. With a daemon: tests/system/test_reconnect.py. */
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <knitting/args.h>
#include <knitting/knitting.h>

#include "clients/lib/client.h"
#include "tests/clients/fake_server.h"
#include "tests/support/deadline.h"

enum { PATIENCE_MS = 10000 };

static const char types[] = "(int) -> int";
static struct knit *k;
static struct knit_error error;
static char path[160], hidden[170];

static int start(void **state)
{
    error = (struct knit_error){0};
    (void)knit_fake_start(state);
    (void)snprintf(path, sizeof(path), "%.140s", fake.url + strlen("unix://"));
    (void)snprintf(hidden, sizeof(hidden), "%s.gone", path);
    k = knit_fake_open(NULL);
    return 0;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

static void hide(void)
{
    assert_int_equal(rename(path, hidden), 0);
}

static void show(void)
{
    assert_int_equal(rename(hidden, path), 0);
}

/* The session has seen that its connection is gone. */
static void lose(void)
{
    shutdown(fake.fd, SHUT_RDWR);
    assert_true(KNIT_WAIT_UNTIL(
        knit_dispatch(k, &error) == KNIT_OK && knit_state(k) == KNIT_IS_CONNECTING, PATIENCE_MS));
}

static struct knit_handle *begin(int64_t number)
{
    struct knit_handle *handle;

    assert_int_equal(knit_start(k, NULL, &handle, &error, "echo", types, number), KNIT_OK);
    return handle;
}

static int64_t finish(struct knit_handle *handle)
{
    int64_t number = -1;

    assert_int_equal(knit_await(handle, PATIENCE_MS, &error), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &number), KNIT_OK);
    (void)knit_free(handle);
    return number;
}

static int64_t call(int64_t number)
{
    int64_t same = -1;

    assert_int_equal(knit_call(k, &error, "echo", types, number, &same), KNIT_OK);
    return same;
}

static void fails(struct knit_handle *handle, int code, enum knit_started started)
{
    assert_int_equal(knit_await(handle, PATIENCE_MS, &error), code);
    assert_int_equal(error.started, started);
    assert_int_equal(error.origin, KNIT_ORIGIN_CLIENT);
    (void)knit_free(handle);
}

/* ---- calls ---- */

static void what_was_sent_ends_and_the_next_call_comes_through(void **state)
{
    struct knit_handle *sent;

    (void)state;
    assert_int_equal(knit_state(k), KNIT_IS_OPEN);
    assert_int_equal(knit_start(k, NULL, &sent, &error, "never", "()"), KNIT_OK);
    assert_int_equal(knit_call(k, &error, "close", "()"), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    assert_false(error.retryable);
    fails(sent, KNIT_DISCONNECTED, KNIT_STARTED_UNKNOWN);
    for (int64_t i = 0; i < 3; i++)
        assert_int_equal(call(i), i);
    assert_int_equal(knit_state(k), KNIT_IS_OPEN);
}

static void what_was_not_sent_is_sent_on_the_next_one(void **state)
{
    enum { COUNT = 20 };
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handles[COUNT];

    (void)state;
    options.timeout_ms = PATIENCE_MS;
    options.queue_ms = PATIENCE_MS;
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(knit_start(k, i % 2 == 0 ? NULL : &options, &handles[i], &error, "echo",
                             types, (int64_t)i),
            KNIT_OK);
    shutdown(fake.fd, SHUT_RDWR);
    for (int i = 0; i < COUNT; i++)
        assert_int_equal(finish(handles[i]), i);
}

static void what_begins_meanwhile_waits(void **state)
{
    struct knit_handle *handles[3];

    (void)state;
    hide();
    lose();
    for (int i = 0; i < 3; i++)
        handles[i] = begin(i);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    assert_int_equal(knit_await(handles[0], 20, &error), KNIT_PENDING);
    assert_int_equal(knit_state(k), KNIT_IS_CONNECTING);
    show();
    for (int i = 0; i < 3; i++)
        assert_int_equal(finish(handles[i]), i);
}

static void what_waits_keeps_its_own_time(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *late, *queued, *none;

    (void)state;
    hide();
    lose();
    options.timeout_ms = 20;
    assert_int_equal(knit_start(k, &options, &late, &error, "echo", "()"), KNIT_OK);
    options = (struct knit_call_options)KNIT_CALL_OPTIONS_INIT;
    options.queue_ms = 20;
    assert_int_equal(knit_start(k, &options, &queued, &error, "echo", "()"), KNIT_OK);
    fails(late, KNIT_TIMEOUT, KNIT_STARTED_NO);
    fails(queued, KNIT_TIMEOUT, KNIT_STARTED_NO);
    options.queue_ms = 0;
    assert_int_equal(knit_start(k, &options, &none, &error, "echo", "()"), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    show();
    assert_int_equal(call(1), 1);
}

static void what_waits_can_be_cancelled_and_freed(void **state)
{
    struct knit_handle *cancelled, *aborted;

    (void)state;
    hide();
    lose();
    cancelled = begin(1);
    aborted = begin(2);
    (void)knit_free(begin(3));
    knit_cancel(cancelled);
    knit_abort(aborted, "enough");
    fails(cancelled, KNIT_CANCELLED, KNIT_STARTED_NO);
    fails(aborted, KNIT_CANCELLED, KNIT_STARTED_NO);
    assert_int_equal(k->handles.promises.count, 0);
    assert_int_equal(k->handles.promises.shelved_bytes, 0);
    show();
    assert_int_equal(call(1), 1);
}

static void waiting_ends_with_connect_ms(void **state)
{
    const struct knit_open_options options = {.connect_ms = 1000};
    struct knit_handle *handle;
    uint64_t begin_ns;

    (void)state;
    k = knit_close(k);
    k = knit_fake_open(&options);
    hide();
    lose();
    handle = begin(1);
    begin_ns = knit_now();
    fails(handle, KNIT_DISCONNECTED, KNIT_STARTED_NO);
    assert_true(error.retryable);
    assert_non_null(strstr(error.message, "cannot connect to"));
    assert_true(knit_now() - begin_ns < knit_deadline_stretched_ns(UINT64_C(5000000000)));
    /* From now on calls do not wait any more; attempts go on. */
    begin_ns = knit_now();
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "echo", types, (int64_t)1), KNIT_DISCONNECTED);
    assert_int_equal(knit_call(k, &error, "echo", "()"), KNIT_DISCONNECTED);
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_true(knit_now() - begin_ns < knit_deadline_stretched_ns(UINT64_C(500000000)));
    assert_int_equal(knit_state(k), KNIT_IS_CONNECTING);
    show();
    assert_true(KNIT_WAIT_UNTIL(knit_ping(k, NULL, NULL) == KNIT_OK, PATIENCE_MS));
    assert_int_equal(call(1), 1);
}

static void few_bytes_wait(void **state)
{
    enum { BYTES = 1 << 20 };
    static uint8_t bytes[BYTES];
    struct knit_handle *handle;
    int count = 0;

    (void)state;
    hide();
    lose();
    while (knit_start(k, NULL, &handle, &error, "params", "(bin)", bytes, (size_t)BYTES) == KNIT_OK)
        count++;
    assert_int_equal(error.code, KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(count, 3);
    show();
    assert_int_equal(call(1), 1);
}

/* Their bytes count as long as they wait, whatever way they were written. */
static void long_ways_of_writing_are_counted_off(void **state)
{
    static const uint8_t one[] = {0xdd, 0, 0, 0, 1, 0x07};
    struct knit_handle *handle;
    const void *result;
    size_t len;

    (void)state;
    hide();
    lose();
    assert_int_equal(knit_start_raw(k, NULL, &handle, &error, "echo", one, sizeof(one)), KNIT_OK);
    assert_int_equal(k->handles.promises.shelved_bytes, sizeof(one));
    show();
    assert_int_equal(knit_await(handle, PATIENCE_MS, &error), KNIT_OK);
    assert_int_equal(knit_result_raw(handle, &error, &result, &len), KNIT_OK);
    assert_memory_equal(result, "\x07", len);
    (void)knit_free(handle);
    assert_int_equal(k->handles.promises.shelved_bytes, 0);
}

static void a_key_that_nobody_knows_any_more_does_not_hide_why(void **state)
{
    const struct knit_retry_options retry = {.wait_ms = 1};
    const struct knit_open_options options = {.connect_ms = 1000, .retry = &retry};
    struct knit_call_options with_key = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;

    (void)state;
    k = knit_close(k);
    fake.takes_keys = true;
    fake.instance = "one";
    k = knit_fake_open(&options);
    fake.closes = 1;
    with_key.key = "k";
    hide();
    assert_int_equal(knit_start(k, &with_key, &handle, &error, "c", types, (int64_t)1), KNIT_OK);
    fails(handle, KNIT_DISCONNECTED, KNIT_STARTED_UNKNOWN);
    assert_non_null(strstr(error.message, "cannot connect to"));
    show();
}

static void results_stay_where_they_are(void **state)
{
    struct knit_prepared *prepared;
    struct knit_handle *done = begin(7);
    int64_t number = 0;

    (void)state;
    assert_int_equal(knit_prepare(k, &error, "echo", types, &prepared), KNIT_OK);
    assert_int_equal(knit_await(done, PATIENCE_MS, &error), KNIT_OK);
    lose();
    assert_int_equal(knit_call_prepared(prepared, NULL, &error, (int64_t)8, &number), KNIT_OK);
    assert_int_equal(number, 8);
    assert_int_equal(finish(done), 7);
}

/* ---- event loops ---- */

static void on_done(struct knit_handle *handle, void *user)
{
    int *codes = user;

    codes[0]++;
    codes[1] = knit_await(handle, 0, &error);
    (void)knit_free(handle);
}

static void an_event_loop_keeps_its_descriptor(void **state)
{
    struct knit_handle *handle;
    int sent[2] = {0, 0}, waiting[2] = {0, 0}, fd = knit_fd(k);

    (void)state;
    assert_int_equal(knit_start(k, NULL, &handle, &error, "never", "()"), KNIT_OK);
    knit_on_done(handle, on_done, sent);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    shutdown(fake.fd, SHUT_RDWR);
    while (sent[0] == 0 || knit_state(k) != KNIT_IS_OPEN) {
        struct pollfd item = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
        assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
        if (waiting[0] == 0 && knit_state(k) == KNIT_IS_CONNECTING) {
            knit_on_done(begin(1), on_done, waiting);
            assert_int_equal(knit_flush(k, &error), KNIT_OK);
            waiting[0] = 1;
        }
    }
    assert_int_equal(sent[1], KNIT_DISCONNECTED);
    while (waiting[0] == 1) {
        struct pollfd item = {.fd = fd, .events = POLLIN};

        assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
        assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    }
    assert_int_equal(waiting[1], KNIT_OK);
    assert_int_equal(knit_fd(k), fd);
    /* With nothing to do it is silent. */
    (void)knit_dispatch(k, &error);
    assert_int_equal(poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 50), 0);
}

static void closing_ends_what_waits(void **state)
{
    int waiting[2] = {0, 0};

    (void)state;
    hide();
    lose();
    knit_on_done(begin(1), on_done, waiting);
    k = knit_close(k);
    assert_int_equal(waiting[0], 1);
    assert_int_equal(waiting[1], KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_non_null(strstr(error.message, "the session was closed"));
    show();
}

static void a_server_that_closes_at_once_is_not_asked_all_the_time(void **state)
{
    uint64_t begin_ns = knit_now();
    int times = 0;

    (void)state;
    for (; times < 5; times++) {
        assert_int_equal(knit_call(k, &error, "close", "()"), KNIT_DISCONNECTED);
        assert_int_equal(error.started, KNIT_STARTED_UNKNOWN);
    }
    /* Each loss but the last was followed by a pause of 50 ms or more. */
    assert_true(knit_now() - begin_ns >= UINT64_C(4) * 50 * 1000000);
}

static int64_t say_goaway(void)
{
    int64_t same = -1;

    assert_int_equal(knit_call(k, &error, "goaway", types, (int64_t)1, &same), KNIT_OK);
    return same;
}

static void after_goaway_calls_go_to_the_next_connection(void **state)
{
    struct knit_handle *held, *waiting;

    (void)state;
    assert_int_equal(knit_start(k, NULL, &held, &error, "hold", "()"), KNIT_OK);
    assert_int_equal(say_goaway(), 1);
    assert_true(KNIT_WAIT_UNTIL(
        knit_dispatch(k, &error) == KNIT_OK && knit_state(k) == KNIT_IS_DRAINING, PATIENCE_MS));
    /* It goes on where it is, and the other one waits for that. */
    waiting = begin(2);
    assert_int_equal(knit_await(waiting, 20, &error), KNIT_PENDING);
    assert_int_equal(knit_await(held, 0, &error), KNIT_PENDING);
    knit_cancel(held);
    assert_int_equal(finish(waiting), 2);
    assert_int_equal(knit_await(held, 0, &error), KNIT_CANCELLED);
    assert_int_equal(error.origin, KNIT_ORIGIN_SERVER);
    assert_int_equal(knit_state(k), KNIT_IS_OPEN);
    assert_int_equal(call(3), 3);
}

/* The server goes on with a held call on the connection that it has asked the session to leave. */
static struct knit_handle *hold_and_leave(void)
{
    struct knit_handle *held;

    fake.goes_on = true;
    assert_int_equal(knit_start(k, NULL, &held, &error, "hold", "()"), KNIT_OK);
    assert_int_equal(say_goaway(), 1);
    return held;
}

static void after_goaway_the_next_connection_is_opened_beside(void **state)
{
    struct knit_handle *held = hold_and_leave();

    (void)state;
    for (int64_t i = 0; i < 3; i++)
        assert_int_equal(call(i), i);
    assert_int_equal(knit_state(k), KNIT_IS_OPEN);
    assert_int_equal(knit_await(held, 0, &error), KNIT_PENDING);
    assert_int_equal(knit_handles_in_flight(&k->handles), 1);
    knit_fake_end_left("\xc0");
    assert_int_equal(knit_await(held, PATIENCE_MS, &error), KNIT_OK);
    (void)knit_free(held);
    assert_null(k->handles.several);
    assert_int_equal(call(3), 3);
}

static void what_is_left_can_be_cancelled_and_break(void **state)
{
    struct knit_handle *held = hold_and_leave();
    char bytes[256];
    ssize_t len;

    (void)state;
    assert_int_equal(call(1), 1);
    knit_cancel(held);
    len = recv(fake.left_fd, bytes, sizeof(bytes), 0);
    assert_true(len > 0);
    assert_non_null(memmem(bytes, (size_t)len, "$/cancel", 8));
    shutdown(fake.left_fd, SHUT_RDWR);
    fails(held, KNIT_DISCONNECTED, KNIT_STARTED_UNKNOWN);
    assert_int_equal(knit_state(k), KNIT_IS_OPEN);
    assert_int_equal(call(2), 2);
}

static void closing_ends_what_is_left(void **state)
{
    struct knit_handle *held = hold_and_leave();
    int codes[2] = {0, 0};
    char byte;

    (void)state;
    assert_int_equal(call(1), 1);
    knit_on_done(held, on_done, codes);
    k = knit_close(k);
    assert_int_equal(codes[0], 1);
    assert_int_equal(codes[1], KNIT_DISCONNECTED);
    assert_int_equal(recv(fake.left_fd, &byte, 1, 0), 0);
}

/* A second one waits for the calls of the first to end. */
static void a_second_goaway_finds_one_connection_left(void **state)
{
    struct knit_handle *held = hold_and_leave(), *waiting;

    (void)state;
    fake.goes_on = false;
    assert_int_equal(say_goaway(), 1);
    waiting = begin(2);
    assert_int_equal(finish(waiting), 2);
    assert_int_equal(knit_await(held, 0, &error), KNIT_PENDING);
    knit_fake_end_left("\xc0");
    assert_int_equal(knit_await(held, PATIENCE_MS, &error), KNIT_OK);
    (void)knit_free(held);
}

static void a_reference_does_not_go_to_another_connection(void **state)
{
    struct knit_handle *source, *sum = NULL;
    struct knit_prepared *prepared = NULL;
    int64_t number = 0;

    (void)state;
    k = knit_close(k);
    fake.takes_references = fake.goes_on = true;
    k = knit_fake_open(NULL);
    assert_int_equal(knit_start(k, NULL, &source, &error, "hold", types, (int64_t)1), KNIT_OK);
    assert_int_equal(say_goaway(), 1);
    assert_int_equal(call(1), 1);
    assert_int_equal(knit_prepare(k, &error, "echo", "(int) -> int", &prepared), KNIT_OK);
    assert_int_equal(knit_start_args(prepared, NULL, &sum, &error,
                         (const struct knit_arg[]){knit_pass_handle(source)}, 1),
        KNIT_OK);
    knit_prepared_free(prepared);
    assert_int_equal(k->handles.promises.referring, 0);
    assert_int_equal(call(4), 4);
    assert_int_equal(knit_await(sum, 0, &error), KNIT_PENDING);
    knit_fake_end_left("\x07");
    assert_int_equal(knit_await(sum, PATIENCE_MS, &error), KNIT_OK);
    assert_int_equal(knit_results(sum, &error, &number), KNIT_OK);
    assert_int_equal(number, 7);
    (void)knit_free(sum);
    (void)knit_free(source);
}

static void an_event_loop_has_both_connections_in_its_descriptor(void **state)
{
    struct pollfd item = {.fd = knit_fd(k), .events = POLLIN};
    struct knit_handle *held = hold_and_leave();

    (void)state;
    assert_int_equal(call(1), 1);
    assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    assert_int_equal(poll(&item, 1, 0), 0);
    knit_fake_end_left("\xc0");
    assert_int_equal(poll(&item, 1, PATIENCE_MS), 1);
    assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    assert_int_equal(knit_await(held, 0, &error), KNIT_OK);
    (void)knit_free(held);
    assert_int_equal(call(2), 2);
    assert_int_equal(knit_fd(k), item.fd);
}

static void who_is_idle_at_goaway_goes_at_once(void **state)
{
    (void)state;
    for (int64_t i = 0; i < 3; i++) {
        assert_int_equal(say_goaway(), 1);
        assert_int_equal(call(i), i);
    }
}

/* It is over before the calls are that the server has: they may take as long as they like. */
static void a_server_that_shuts_down_slowly_is_left_all_the_same(void **state)
{
    const struct knit_open_options options = {.connect_ms = 1000};
    struct knit_handle *held;

    (void)state;
    k = knit_close(k);
    k = knit_fake_open(&options);
    assert_int_equal(knit_start(k, NULL, &held, &error, "hold", "()"), KNIT_OK);
    assert_int_equal(say_goaway(), 1);
    /* No other connection comes for as long as this one may wait. */
    fails(begin(2), KNIT_DISCONNECTED, KNIT_STARTED_NO);
    assert_int_equal(knit_state(k), KNIT_IS_DRAINING);
    shutdown(fake.fd, SHUT_RDWR);
    fails(held, KNIT_DISCONNECTED, KNIT_STARTED_UNKNOWN);
    assert_true(KNIT_WAIT_UNTIL(
        knit_dispatch(k, &error) == KNIT_OK && knit_state(k) == KNIT_IS_OPEN, PATIENCE_MS));
    assert_int_equal(call(3), 3);
}

/* Nobody has looked at the connection since it ended. */
static void what_begins_after_a_pause_is_not_sent_in_vain(void **state)
{
    (void)state;
    assert_int_equal(call(1), 1);
    shutdown(fake.fd, SHUT_RDWR);
    assert_int_equal(poll(NULL, 0, 60), 0);
    assert_int_equal(call(2), 2);
}

static void open_with_lanes(void)
{
    char url[170];

    k = knit_close(k);
    fake.attaches = true;
    (void)snprintf(url, sizeof(url), "shm://%s", path);
    assert_int_equal(knit_open(url, NULL, &k, &error), KNIT_OK);
}

static void what_waits_for_other_lanes_keeps_its_own_time(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle, *late;

    (void)state;
    open_with_lanes();
    assert_int_equal(knit_start(k, NULL, &handle, &error, "a", types, (int64_t)1), KNIT_OK);
    assert_int_equal(say_goaway(), 1);
    assert_int_equal(knit_state(k), KNIT_IS_DRAINING);
    options.timeout_ms = 20;
    assert_int_equal(knit_start(k, &options, &late, &error, "a", types, (int64_t)2), KNIT_OK);
    fails(late, KNIT_TIMEOUT, KNIT_STARTED_NO);
    assert_int_equal(knit_await(handle, 0, &error), KNIT_PENDING);
}

/* The lanes that come have their tasks alone. */
static void what_no_lanes_have_waits_for_the_daemon(void **state)
{
    struct knit_handle *task, *method;

    (void)state;
    open_with_lanes();
    hide();
    lose();
    task = begin(1);
    assert_int_equal(knit_start(k, NULL, &method, &error, "$/ping", "()"), KNIT_OK);
    show();
    assert_int_equal(knit_await(method, PATIENCE_MS, &error), KNIT_OK);
    (void)knit_free(method);
    assert_int_equal(finish(task), 1);
    assert_non_null(k->handles.lanes);
}

static void lanes_are_attached_again(void **state)
{
    struct knit_handle *handle;
    struct knit_lanes *first;

    (void)state;
    open_with_lanes();
    first = k->handles.lanes;
    assert_int_equal(knit_start(k, NULL, &handle, &error, "a", types, (int64_t)1), KNIT_OK);
    assert_ptr_equal(handle->handles->lanes, first);
    assert_int_equal(knit_lanes_in_flight(k->handles.lanes), 1);
    lose();
    assert_null(k->handles.lanes);
    /* No worker had claimed it: it is published again. */
    assert_true(KNIT_WAIT_UNTIL(
        knit_await(handle, 10, &error) == KNIT_PENDING && k->handles.lanes != NULL, PATIENCE_MS));
    assert_int_equal(knit_await(handle, 0, &error), KNIT_PENDING);
    assert_int_equal(knit_lanes_in_flight(k->handles.lanes), 1);
    assert_int_equal(knit_handle_via(handle), KNIT_VIA_LANES);
}

#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(what_was_sent_ends_and_the_next_call_comes_through),
        WITH_SESSION(what_was_not_sent_is_sent_on_the_next_one),
        WITH_SESSION(what_begins_meanwhile_waits),
        WITH_SESSION(what_waits_keeps_its_own_time),
        WITH_SESSION(what_waits_can_be_cancelled_and_freed),
        WITH_SESSION(waiting_ends_with_connect_ms),
        WITH_SESSION(few_bytes_wait),
        WITH_SESSION(long_ways_of_writing_are_counted_off),
        WITH_SESSION(a_key_that_nobody_knows_any_more_does_not_hide_why),
        WITH_SESSION(results_stay_where_they_are),
        WITH_SESSION(an_event_loop_keeps_its_descriptor),
        WITH_SESSION(closing_ends_what_waits),
        WITH_SESSION(a_server_that_closes_at_once_is_not_asked_all_the_time),
        WITH_SESSION(after_goaway_calls_go_to_the_next_connection),
        WITH_SESSION(after_goaway_the_next_connection_is_opened_beside),
        WITH_SESSION(what_is_left_can_be_cancelled_and_break),
        WITH_SESSION(closing_ends_what_is_left),
        WITH_SESSION(a_second_goaway_finds_one_connection_left),
        WITH_SESSION(a_reference_does_not_go_to_another_connection),
        WITH_SESSION(an_event_loop_has_both_connections_in_its_descriptor),
        WITH_SESSION(who_is_idle_at_goaway_goes_at_once),
        WITH_SESSION(a_server_that_shuts_down_slowly_is_left_all_the_same),
        WITH_SESSION(what_begins_after_a_pause_is_not_sent_in_vain),
        WITH_SESSION(what_waits_for_other_lanes_keeps_its_own_time),
        WITH_SESSION(what_no_lanes_have_waits_for_the_daemon),
        WITH_SESSION(lanes_are_attached_again),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
