/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: what a daemon hands over at `$/attach` is believed only after it was checked, and nothing
 * of a refused session stays behind. Method: a server in a thread that lies in each way there is.
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

#include "tests/clients/fake_server.h"
#include "tests/support/deadline.h"

static struct knit_fake fake;
static struct knit_error error_of_open;

static int start_fake(void **state)
{
    (void)state;
    knit_fake_start(&fake);
    return 0;
}

static int stop_fake(void **state)
{
    (void)state;
    knit_fake_stop(&fake);
    return 0;
}

static int open_lanes(struct knit **ret)
{
    char url[160];
    const struct knit_open_options options = {.connect_ms = 500};

    snprintf(url, sizeof(url), "shm://%.140s", fake.url + strlen("unix://"));
    return knit_open(url, &options, ret, &error_of_open);
}

static int count_fds(void)
{
    int count = 0;

    for (int fd = 0; fd < 200; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* What a daemon hands over is checked before it is mapped, and nothing of it stays behind. */
static void a_daemon_that_lies_is_refused(void **state)
{
    static const struct {
        enum knit_fake_attach attach;
        const char *sentence;
    } cases[] = {
        {KNIT_FAKE_ATTACH_NO_FDS, "0 descriptors"},
        {KNIT_FAKE_ATTACH_FEW_FDS, "3 descriptors"},
        {KNIT_FAKE_ATTACH_MANY_FDS, "descriptors"},
        {KNIT_FAKE_ATTACH_UNSEALED, "not sealed"},
        {KNIT_FAKE_ATTACH_CLOSED, "request segment cannot be used: it takes no further seal"},
        {KNIT_FAKE_ATTACH_LOOSE, "reply segment cannot be used: it is not sealed"},
        {KNIT_FAKE_ATTACH_SHORT, "another size"},
        {KNIT_FAKE_ATTACH_PIPES, "cannot be used"},
        {KNIT_FAKE_ATTACH_BELL, "no socket"},
        {KNIT_FAKE_ATTACH_LAYOUT, "layout"},
        {KNIT_FAKE_ATTACH_GEOMETRY, "$/attach"},
        {KNIT_FAKE_ATTACH_KEYS, "lacks"},
    };
    struct knit *k = NULL;
    int fds;

    (void)state;
    /* Once before counting: the server's thread keeps the descriptors of one connection. */
    fake.attach = KNIT_FAKE_ATTACH_NO_FDS;
    assert_int_equal(open_lanes(&k), KNIT_DISCONNECTED);
    fds = count_fds();
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        fake.attach = cases[i].attach;
        if (open_lanes(&k) == KNIT_OK)
            fail_msg("a session with: %s", cases[i].sentence);
        if (strstr(error_of_open.message, cases[i].sentence) == NULL)
            fail_msg("%s: %s", cases[i].sentence, error_of_open.message);
        assert_null(k);
    }
    assert_true(KNIT_WAIT_UNTIL(count_fds() <= fds, 5000));
}

static void an_honest_daemon_is_accepted(void **state)
{
    struct knit *k = NULL;
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_error error;
    int64_t number;

    (void)state;
    fake.attach = KNIT_FAKE_ATTACH_GOOD;
    assert_int_equal(open_lanes(&k), KNIT_OK);
    /* Said before it asked for the registry, which has been answered. */
    assert_true(fake.is_attached);
    assert_int_equal(knit_call(k, &error, "nosuch", "()"), KNIT_UNKNOWN_TASK);
    /* There are no workers: nobody takes the call. */
    options.timeout_ms = 30;
    assert_int_equal(knit_call_with(k, &options, &error, "a", "(int) -> int", (int64_t)1, &number),
        KNIT_TIMEOUT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
    knit_close(k);
}

/* What a worker does that is stopped before it rings the bell. */
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

static void an_event_loop_looks_where_nobody_rings(void **state)
{
    struct knit *k = NULL;
    struct knit_handle *handle;
    struct knit_error error;
    struct pollfd item = {.events = POLLIN};
    int64_t number = 0;

    (void)state;
    fake.attach = KNIT_FAKE_ATTACH_GOOD;
    assert_int_equal(open_lanes(&k), KNIT_OK);
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
    /* With nothing in flight it sleeps: once in vain at most. */
    if (poll(&item, 1, 100) == 1) {
        assert_int_equal(knit_dispatch(k, &error), KNIT_OK);
        assert_int_equal(poll(&item, 1, 200), 0);
    }
    knit_close(k);
}

/* In pieces shorter than the time between two looks at the connection. */
static void waiting_for_moments_notices_a_dead_daemon(void **state)
{
    static const double waits_ms[] = {0, 10};
    struct knit_handle *handle;
    struct knit_error error;
    struct knit *k = NULL;

    (void)state;
    fake.attach = KNIT_FAKE_ATTACH_GOOD;
    for (size_t i = 0; i < sizeof(waits_ms) / sizeof(waits_ms[0]); i++) {
        assert_int_equal(open_lanes(&k), KNIT_OK);
        assert_int_equal(
            knit_start(k, NULL, &handle, &error, "a", "(int) -> int", (int64_t)1), KNIT_OK);
        assert_int_equal(knit_await(handle, waits_ms[i], &error), KNIT_PENDING);
        shutdown(fake.fd, SHUT_RDWR);
        assert_true(KNIT_WAIT_UNTIL(knit_await(handle, waits_ms[i], &error) != KNIT_PENDING, 5000));
        assert_int_equal(error.code, KNIT_DISCONNECTED);
        knit_close(k);
    }
}

/* One that waits without end is woken by each, and the last is not reached. */
static void waiting_among_deadlines_notices_a_dead_daemon(void **state)
{
    enum { COUNT = 14, APART_MS = 25 };
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle, *last = NULL;
    struct knit_error error;
    struct knit *k = NULL;

    (void)state;
    fake.attach = KNIT_FAKE_ATTACH_GOOD;
    assert_int_equal(open_lanes(&k), KNIT_OK);
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
    knit_close(k);
}

static void no_lanes_where_the_server_has_none(void **state)
{
    struct knit *k = NULL;

    (void)state;
    assert_int_equal(open_lanes(&k), KNIT_TIMEOUT);
    assert_non_null(strstr(error_of_open.message, "$/attach"));
    assert_null(k);
}

#define WITH_FAKE(test) cmocka_unit_test_setup_teardown(test, start_fake, stop_fake)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FAKE(a_daemon_that_lies_is_refused),
        WITH_FAKE(an_honest_daemon_is_accepted),
        WITH_FAKE(an_event_loop_looks_where_nobody_rings),
        WITH_FAKE(waiting_for_moments_notices_a_dead_daemon),
        WITH_FAKE(waiting_among_deadlines_notices_a_dead_daemon),
        WITH_FAKE(no_lanes_where_the_server_has_none),
    };

    return cmocka_run_group_tests_name("attach", tests, NULL, NULL);
}
