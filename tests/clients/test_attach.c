/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a daemon hands over at `$/attach` is used only after it was checked, and a refused
 * session leaves nothing open. Method: a server in a thread that lies in each way there is.
 */
#include <fcntl.h>
#include <poll.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/segment.h"
#include "tests/clients/fake_server.h"
#include "tests/support/deadline.h"

static struct knit *k;
static struct knit_error error;

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

static int open_lanes(void)
{
    char url[160];
    const struct knit_open_options options = {.connect_ms = 500, .stays_lost = true};

    snprintf(url, sizeof(url), "shm://%.140s", fake.url + strlen("unix://"));
    k = knit_close(k);
    return knit_open(url, &options, &k, &error);
}

static int count_fds(void)
{
    int count = 0;

    for (int fd = 0; fd < 200; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

static void a_daemon_that_lies_is_refused(void **state)
{
    static const struct {
        struct knit_fake_attach attach;
        const char *sentence;
    } cases[] = {
        {{.more_fds = -4}, "0 descriptors"},
        {{.more_fds = -1}, "3 descriptors"},
        {{.more_fds = 3}, "descriptors"},
        {{.fds = {KNIT_FAKE_RESIZABLE, KNIT_FAKE_RESIZABLE, KNIT_FAKE_RESIZABLE}}, "not sealed"},
        {{.fds = {[1] = KNIT_FAKE_SEALED}},
            "request segment cannot be used: it takes no further seal"},
        {{.fds = {[2] = KNIT_FAKE_UNSEALED}}, "reply segment cannot be used: it is not sealed"},
        {{.missing_bytes = KNIT_PAGE}, "another size"},
        {{.fds = {KNIT_FAKE_EVENTFD, KNIT_FAKE_EVENTFD, KNIT_FAKE_EVENTFD}}, "cannot be used"},
        {{.fds = {[3] = KNIT_FAKE_EVENTFD}}, "no unix socket"},
        {{.more_fds = 1}, "5 descriptors instead of 4"},
        {{.asks_host = true}, "4 descriptors instead of 5"},
        {{.asks_host = true, .more_fds = 2}, "descriptors"},
        {{.asks_host = true, .more_fds = 1, .host = KNIT_FAKE_BELL}, "no eventfd"},
        {{.asks_host = true, .more_fds = 1, .host = KNIT_FAKE_SEALED}, "no eventfd"},
        {{.asks_host = true, .more_fds = 1, .host = KNIT_FAKE_EVENTFD}, "no eventfd"},
        {{.more_version = 1}, "memory has layout"},
        {{.cells = 3}, "$/attach"},
        {{.lacks_keys = true}, "lacks"},
        {{.fewer_features = KNIT_FEATURES}, "grants features 0x0"},
    };
    int fds;

    (void)state;
    /* Once before counting: the server's thread keeps the descriptors of one connection. */
    fake.attaches = true;
    fake.attach = cases[0].attach;
    assert_int_equal(open_lanes(), KNIT_DISCONNECTED);
    fds = count_fds();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake.attach = cases[i].attach;
        if (open_lanes() == KNIT_OK)
            fail_msg("a session with: %s", cases[i].sentence);
        if (strstr(error.message, cases[i].sentence) == NULL)
            fail_msg("%s: %s", cases[i].sentence, error.message);
        assert_null(k);
    }
    assert_true(KNIT_WAIT_UNTIL(count_fds() <= fds, 5000));
}

static void an_honest_daemon_is_accepted(void **state)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int64_t number;

    (void)state;
    fake.attaches = true;
    assert_int_equal(open_lanes(), KNIT_OK);
    /* The client says so before it asks for the registry, which has been answered. */
    assert_true(fake.is_attached);
    assert_int_equal(knit_call(k, &error, "nosuch", "()"), KNIT_UNKNOWN_TASK);
    /* There are no workers, so the call stays in its lane. */
    options.timeout_ms = 30;
    assert_int_equal(knit_call_with(k, &options, &error, "a", "(int) -> int", (int64_t)1, &number),
        KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
}

static void a_daemon_that_wakes_workers_itself_is_accepted(void **state)
{
    (void)state;
    fake.attaches = true;
    fake.attach = (struct knit_fake_attach){.asks_host = true, .more_fds = 1};
    assert_int_equal(open_lanes(), KNIT_OK);
    assert_true(fake.is_attached);
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
}

/* What a worker leaves that is stopped before it notifies the bell. */
static void answer_without_a_bell(const struct knit_fake *pool)
{
    struct knit_reply_view view;

    knit_layout_reply(&pool->geometry, pool->reply.base, &view);
    for (uint32_t slot = 0; slot < pool->geometry.slots; slot++) {
        struct knit_reply_cell *cell = &view.reply[slot];

        atomic_store_explicit(&view.claim[slot], knit_claim(1, 5), memory_order_relaxed);
        atomic_store_explicit(&cell->body[0], 7, memory_order_relaxed);
        atomic_store_explicit(&cell->meta, knit_meta(0, 0, 0, 1), memory_order_relaxed);
        atomic_store_explicit(
            &cell->word, knit_word(1, KNIT_STATUS_RESULT, 0), memory_order_release);
        atomic_store_explicit(&view.completions[slot],
            knit_completion(slot, slot, pool->geometry.cells), memory_order_release);
    }
}

static void an_event_loop_finds_answers_without_a_notification(void **state)
{
    struct knit_handle *handle;
    struct pollfd item = {.events = POLLIN};
    int64_t number = 0;

    (void)state;
    fake.attaches = true;
    assert_int_equal(open_lanes(), KNIT_OK);
    item.fd = knit_fd(k);
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "a", "(int) -> int", (int64_t)1), KNIT_OK);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    answer_without_a_bell(&fake);
    assert_int_equal(poll(&item, 1, knit_deadline_left_ms(knit_deadline_in_ms(500))), 1);
    assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
    assert_int_equal(knit_await(handle, 0, NULL), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &number), KNIT_OK);
    assert_int_equal(number, 7);
    knit_free(handle);
    /* With nothing in flight it sleeps, after one spurious wake-up at most. */
    if (poll(&item, 1, 100) == 1) {
        assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
        assert_int_equal(poll(&item, 1, 200), 0);
    }
}

/* Each wait is shorter than the time between two looks at the connection. */
static void short_waits_notice_a_dead_daemon(void **state)
{
    static const double waits_ms[] = {0, 10};
    struct knit_handle *handle;

    (void)state;
    fake.attaches = true;
    for (size_t i = 0; i < sizeof(waits_ms) / sizeof(waits_ms[0]); i++) {
        assert_int_equal(open_lanes(), KNIT_OK);
        assert_int_equal(
            knit_start(k, NULL, &handle, &error, "a", "(int) -> int", (int64_t)1), KNIT_OK);
        assert_int_equal(knit_await(handle, waits_ms[i], &error), KNIT_PENDING);
        shutdown(fake.fd, SHUT_RDWR);
        assert_true(KNIT_WAIT_UNTIL(knit_await(handle, waits_ms[i], &error) != KNIT_PENDING, 5000));
        assert_int_equal(error.code, KNIT_DISCONNECTED);
    }
}

/* A wait without end is woken by each deadline, and ends before the last. */
static void waiting_among_deadlines_notices_a_dead_daemon(void **state)
{
    enum { COUNT = 14, APART_MS = 25 };
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle, *last = NULL;

    (void)state;
    fake.attaches = true;
    assert_int_equal(open_lanes(), KNIT_OK);
    assert_int_equal(
        knit_start(k, NULL, &handle, &error, "a", "(int) -> int", (int64_t)1), KNIT_OK);
    for (int i = 1; i <= COUNT; i++) {
        options.timeout_ms = i * APART_MS;
        assert_int_equal(
            knit_start(k, &options, &last, &error, "a", "(int) -> int", (int64_t)1), KNIT_OK);
    }
    shutdown(fake.fd, SHUT_RDWR);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_DISCONNECTED);
    assert_int_equal(knit_await(last, 0, &error), KNIT_DISCONNECTED);
}

/* The deadline of a call of one second, as a worker would find it, less our clock. */
static double published_s(void)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint64_t deadline = 0, now = knit_clock_ns();
    struct knit_request_view view;
    struct knit_mapping mapping;
    struct knit_handle *handle;

    options.timeout_ms = 1000;
    assert_int_equal(
        knit_start(k, &options, &handle, &error, "a", "(int) -> int", (int64_t)1), KNIT_OK);
    assert_int_equal(knit_flush(k, &error), KNIT_OK);
    assert_int_equal(knit_segment_map(fake.request_fd, knit_layout_request_bytes(&fake.geometry),
                         false, &mapping),
        0);
    knit_layout_request(&fake.geometry, mapping.base, &view);
    for (uint32_t lane = 0; lane < fake.geometry.lanes; lane++)
        deadline += atomic_load_explicit(
            &view.ring[(size_t)lane * fake.geometry.cells].deadline, memory_order_relaxed);
    knit_segment_unmap(&mapping);
    return (double)(int64_t)(deadline - now) / 1e9;
}

static void deadlines_are_of_the_clock_of_the_daemon(void **state)
{
    enum { HOUR_S = 3600 };
    static const int64_t hour = HOUR_S * INT64_C(1000000000);
    const struct {
        int64_t clocks[9]; /* by how much the daemon's difference is more, answer by answer */
        uint32_t said;
        int shift_s;
        int code;
    } cases[] = {
        {{0}, 1, 0, KNIT_OK},
        {{-hour, -hour}, 2, HOUR_S, KNIT_OK},
        {{hour / 100, hour / 100}, 2, -HOUR_S / 100, KNIT_OK},
        /* The clock of the day is set meanwhile. */
        {{hour, 0}, 2, 0, KNIT_OK},
        {{hour, -hour, -hour}, 3, HOUR_S, KNIT_OK},
        {{hour, -hour, hour, -hour, hour, -hour, hour, -hour, hour}, 9, 0, KNIT_DISCONNECTED},
    };

    (void)state;
    fake.attaches = true;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake.attach = (struct knit_fake_attach){.clocks = cases[i].clocks};
        assert_int_equal(open_lanes(), cases[i].code);
        assert_int_equal(fake.clocks_said, cases[i].said);
        if (cases[i].code == KNIT_OK) {
            double expected = 1 + cases[i].shift_s, found = published_s();

            assert_true(found > expected - 0.1 && found < expected + 1);
        } else {
            assert_non_null(strstr(error.message, "set again and again"));
            assert_true(error.retryable);
        }
    }
}

static void no_lanes_where_the_server_has_none(void **state)
{
    (void)state;
    assert_int_equal(open_lanes(), KNIT_TIMEOUT);
    assert_non_null(strstr(error.message, "$/attach"));
    assert_null(k);
}

#define WITH_FAKE(test) cmocka_unit_test_setup_teardown(test, knit_fake_start, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(a_daemon_that_lies_is_refused),
        WITH_FAKE(an_honest_daemon_is_accepted),
        WITH_FAKE(a_daemon_that_wakes_workers_itself_is_accepted),
        WITH_FAKE(an_event_loop_finds_answers_without_a_notification),
        WITH_FAKE(short_waits_notice_a_dead_daemon),
        WITH_FAKE(waiting_among_deadlines_notices_a_dead_daemon),
        WITH_FAKE(deadlines_are_of_the_clock_of_the_daemon),
        WITH_FAKE(no_lanes_where_the_server_has_none),
    };

    return cmocka_run_group_tests_name("attach", tests, NULL, NULL);
}
