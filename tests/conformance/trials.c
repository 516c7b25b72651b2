/* SPDX-License-Identifier: Apache-2.0 */
/* What has gone wrong somewhere once. */
#include "tests/conformance/conformance.h"

#include <signal.h>
#include <unistd.h>

#include "tests/conformance/counters.h"

static const char ints[] = "(int, int) -> int";

static void a_call_beside_a_long_one(struct conformance *c)
{
    struct knit_handle *held = conformance_hold(c, c->k, 0, 1, true);

    for (uint32_t i = 1; i <= 20; i++) {
        struct knit_handle *handle = NULL;
        uint64_t begin_ns;

        /* Time for the other worker to park. */
        assert_int_equal(knit_await(held, 5, &c->error), KNIT_PENDING);
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handle, &c->error, "ledger", "(int) -> int", (int64_t)i));
        begin_ns = knit_deadline_now_ns();
        conformance_succeeds(c, knit_flush(c->k, &c->error));
        /* The caller does nothing more. */
        place_wait_for(c->place, i);
        assert_true(
            knit_deadline_now_ns() - begin_ns < knit_deadline_stretched_ns(UINT64_C(500000000)));
        (void)conformance_int(c, handle);
    }
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
}

/* Whichever lane it goes to: that of the long call has another session's. */
static void a_call_behind_another_session(struct conformance *c)
{
    struct knit *other = conformance_session(c, NULL);

    for (uint32_t round = 0; round < 10; round++) {
        const uint32_t id = 10 * round, gate = round + 1;
        struct knit_handle *held = conformance_hold(c, other, id, gate, true);

        for (uint32_t i = 1; i < 10; i++) {
            struct knit_handle *handle = NULL;

            conformance_succeeds(c, knit_start(c->k, NULL, &handle, &c->error, "ledger",
                                        "(int) -> int", (int64_t)id + i));
            conformance_succeeds(c, knit_flush(c->k, &c->error));
            place_wait_for(c->place, id + i);
            (void)conformance_int(c, handle);
        }
        place_open_gate(c->place, gate);
        (void)conformance_int(c, held);
    }
    counters_check_session(other);
    (void)knit_close(other);
}

/* What ends in TIMEOUT by its time in the queue has not run, what runs does not end in it. */
static void time_in_the_queue(struct conformance *c)
{
    enum { ROUNDS = 20, CALLS = 100 };
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handles[CALLS];
    int ended = 0;

    for (int64_t round = 0; round < ROUNDS; round++) {
        options.queue_ms = 1 + (double)(round % 5);
        for (int64_t i = 0; i < CALLS; i++)
            conformance_succeeds(
                c, knit_start(c->k, &options, &handles[i], &c->error, "carry", "(int, int, bin)",
                       round * CALLS + i, (int64_t)100, "x", (size_t)1));
        for (int64_t i = 0; i < CALLS; i++) {
            int code = knit_await(handles[i], conformance_patience_ms(), &c->error);

            if (code != KNIT_OK) {
                conformance_fails(c, code, KNIT_TIMEOUT);
                assert_int_equal(c->error.started, KNIT_STARTED_NO);
                assert_int_equal(place_ran(c->place, (uint32_t)(round * CALLS + i)), 0);
                ended++;
            } else {
                assert_int_equal(place_ran(c->place, (uint32_t)(round * CALLS + i)), 1);
            }
            (void)knit_free(handles[i]);
        }
    }
    assert_true(ended > 0);
}

static void no_time_in_the_queue(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *held[2];
    int64_t sum;
    int started = 0;

    options.queue_ms = 0;
    /* A worker that the machine keeps from its core is busy still, long after what it did last. */
    for (int i = 0; i < 20 || (started == 0 && i < 100000); i++) {
        int code =
            knit_call_with(c->k, &options, &c->error, "add", ints, (int64_t)i, (int64_t)1, &sum);

        started += code == KNIT_OK;
        if (code != KNIT_OK)
            assert_int_equal(c->error.started, KNIT_STARTED_NO);
    }
    assert_true(started > 0);
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    for (int i = 0; i < 20; i++) {
        conformance_fails(c,
            knit_call_with(c->k, &options, &c->error, "ledger", "(int)", (int64_t)10),
            KNIT_OVERLOADED);
        assert_int_equal(c->error.started, KNIT_STARTED_NO);
        assert_true(c->error.retryable);
    }
    place_open_gate(c->place, 1);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
    assert_int_equal(place_ran(c->place, 10), 0);
}

static void outcomes_that_are_none(struct conformance *c)
{
    bool is_there = true;
    int64_t value;

    conformance_fails(c,
        knit_call(c->k, &c->error, "only_returns", "(int) -> int?", (int64_t)5, &is_there, &value),
        KNIT_BAD_RESULT);
    conformance_succeeds(c,
        knit_call(c->k, &c->error, "only_returns", "(int) -> int?", (int64_t)0, &is_there, &value));
    assert_false(is_there);
}

static void expect_kind(
    struct conformance *c, int code, const char *text, size_t len, const char *expected)
{
    conformance_succeeds(c, code);
    assert_int_equal(len, strlen(expected));
    assert_memory_equal(text, expected, len);
}

static void optional_arguments(struct conformance *c)
{
    const int64_t zero = 0;
    const char *text = NULL;
    size_t len = 0;
    int code;

    code = knit_call(c->k, &c->error, "kind_of", "(int?) -> str", NULL, &text, &len);
    expect_kind(c, code, text, len, "nil");
    code = knit_call(c->k, &c->error, "kind_of", "(int?) -> str", &zero, &text, &len);
    expect_kind(c, code, text, len, "0");
    code = knit_call(c->k, &c->error, "kind_of", "() -> str", &text, &len);
    expect_kind(c, code, text, len, "left out");
    code = knit_call(c->k, &c->error, "kind_of", "(nil) -> str", &text, &len);
    expect_kind(c, code, text, len, "nil");
}

static void what_a_task_leaves_behind(struct conformance *c)
{
    for (int i = 0; i < 8; i++) {
        const char *found;
        size_t len;

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "leave_behind", "() -> str", &found, &len));
        /* The worker sees what is changed by functions that a sanitizer has already. */
        if (len != 0 && (getenv("KNIT_SANITIZED") == NULL || memchr(found, 'r', len) != NULL))
            fail_msg("a later call finds changed: %.*s", (int)len, found);
    }
}

static bool are_other_workers(struct conformance *c, const pid_t old[2])
{
    for (uint32_t i = 0; i < 2; i++) {
        pid_t pid = (pid_t)place_lane_stat(c->place, i, "pid");

        if (pid == old[0] || pid == old[1])
            return false;
    }
    return place_lanes_serving(c->place) == 2;
}

static void an_abort_flag_that_is_ignored(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"abort_grace_ms=100"}};
    struct knit_handle *held[2];
    pid_t old[2];

    if (c->distance == THREADS) {
        char *said = place_refused(c->distance, &wish);

        if (strstr(said, "abort_grace_ms") == NULL)
            fail_msg("%s", said);
        free(said);
        return;
    }
    conformance_open_place(c, &wish);
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    for (uint32_t i = 0; i < 2; i++)
        old[i] = (pid_t)place_ran_in(c->place, i);
    /* One is cancelled, the other one's caller has lost interest. */
    knit_cancel(held[0]);
    (void)knit_free(held[1]);
    conformance_fails(c, knit_await(held[0], conformance_patience_ms(), &c->error), KNIT_CANCELLED);
    (void)knit_free(held[0]);
    assert_true(KNIT_WAIT_UNTIL(are_other_workers(c, old), PLACE_MS));
}

static bool is_serving_anew(struct conformance *c, pid_t old)
{
    pid_t pid = (pid_t)place_lane_stat(c->place, 0, "pid");

    return pid != old && pid > 0 && place_lanes_serving(c->place) == 1;
}

/* Signals that come from outside are not the task's fault. */
static void signals_from_outside(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 1, .options = {"deaths_per_minute=2"}};
    static const int signals[] = {SIGKILL, SIGTERM, SIGALRM, SIGSEGV, SIGKILL, SIGTERM};

    conformance_open_place(c, &wish);
    for (uint32_t i = 0; i < sizeof(signals) / sizeof(signals[0]); i++) {
        struct knit_handle *held = conformance_hold(c, c->k, i, 1, true);
        pid_t worker = (pid_t)place_ran_in(c->place, i);

        assert_int_equal(kill(worker, signals[i]), 0);
        /* A worker may ignore one that nobody may send it. */
        if (knit_await(held, 100, &c->error) == KNIT_PENDING)
            assert_int_equal(kill(worker, SIGKILL), 0);
        conformance_fails(
            c, knit_await(held, conformance_patience_ms(), &c->error), KNIT_WORKER_DIED);
        (void)knit_free(held);
        assert_true(KNIT_WAIT_UNTIL(is_serving_anew(c, worker), PLACE_MS));
        conformance_serves(c); /* those that die before a call's end are started ever later */
    }
    place_open_gate(c->place, 1);
    (void)conformance_int(c, conformance_hold(c, c->k, 20, 1, true));
    assert_true(place_stat(c->place, "pool", "quarantined") == 0);
}

static void slots_that_are_used_again_under_cancel(struct conformance *c)
{
    const struct knit_open_options options = {.slots = 16};
    struct knit *k = conformance_session(c, &options);
    struct knit_handle *handles[8];
    int64_t sum;

    for (int round = 0; round < 300; round++) {
        for (int64_t i = 0; i < 8; i++)
            conformance_succeeds(
                c, knit_start(k, NULL, &handles[i], &c->error, "add", ints, (int64_t)round, i));
        if (round % 2 == 0)
            conformance_succeeds(c, knit_flush(k, &c->error));
        for (int i = 0; i < 8; i += 2)
            knit_cancel(handles[i]);
        for (int64_t i = 0; i < 8; i++) {
            int code = knit_await(handles[i], conformance_patience_ms(), &c->error);

            if (code == KNIT_OK) {
                conformance_succeeds(c, knit_results(handles[i], &c->error, &sum));
                assert_true(sum == round + i);
            } else {
                assert_true(i % 2 == 0);
                conformance_fails(c, code, KNIT_CANCELLED);
            }
            assert_int_equal(knit_await(handles[i], 0, NULL), code);
            (void)knit_free(handles[i]);
        }
    }
    counters_check_session(k);
    (void)knit_close(k);
}

static uint64_t memory_bytes(struct conformance *c)
{
    return place_stat(c->place, "pool", "memory_bytes");
}

static void sessions_that_come_and_go(struct conformance *c)
{
    uint64_t before = memory_bytes(c);

    for (int i = 0; i < 50; i++) {
        struct knit *k = conformance_session(c, NULL);
        struct knit_handle *handle = NULL;

        conformance_succeeds(
            c, knit_start(k, NULL, &handle, &c->error, "large", "(int) -> bin", (int64_t)1000000));
        conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
        /* Its result is still held. */
        (void)knit_close(k);
        if (i % 10 == 0)
            conformance_serves(c);
    }
    assert_true(KNIT_WAIT_UNTIL(memory_bytes(c) <= before, PLACE_MS));
}

static void arguments_at_every_edge(struct conformance *c)
{
    const size_t max = knit_arguments_max(c->k);
    const struct {
        size_t from, to;
    } spans[] = {{2, 160}, {1000, 1040}, {4090, 4110}, {65530, 65545}, {max - 1, max}};
    uint8_t *params = malloc(max + 1);

    assert_non_null(params);
    knit_random_bytes(&c->random, params, max + 1);
    for (size_t i = 0; i < sizeof(spans) / sizeof(spans[0]); i++) {
        for (size_t len = spans[i].from; len <= spans[i].to; len++) {
            const void *got;
            size_t got_len, head = len < 8 ? 1 : len < 3 + 256 ? 3 : len < 4 + 65536 ? 4 : 6;

            /* One bin, or for the shortest so many small integers. */
            memset(params, 0x91, 1);
            if (head == 1) {
                params[0] = 0x91;
                params[1] = (uint8_t)(0x90 + len - 2);
                for (size_t k = 2; k < len; k++)
                    params[k] = (uint8_t)k;
            } else {
                size_t body = len - head;

                params[1] = head == 3 ? 0xc4 : head == 4 ? 0xc5 : 0xc6;
                for (size_t k = head - 1; k >= 2; k--, body >>= 8)
                    params[k] = (uint8_t)body;
            }
            conformance_succeeds(
                c, knit_call_raw(c->k, NULL, &c->error, "echo", params, len, &got, &got_len));
            assert_int_equal(got_len, len - 1);
            assert_memory_equal(got, params + 1, got_len);
        }
    }
    free(params);
}

static void names_that_are_no_utf8(struct conformance *c)
{
    static const char *const names[] = {"add\xff", "\xff", "\xc3", "ad\xed\xa0\x80"};

    for (size_t i = 0; i < sizeof(names) / sizeof(names[0]); i++) {
        conformance_fails(c, knit_call(c->k, &c->error, names[i], "()"), KNIT_UNKNOWN_TASK);
        for (const char *at = c->error.message; *at != '\0'; at++)
            assert_true((unsigned char)*at < 0x80);
    }
}

static void notifications_without_an_end(struct conformance *c)
{
    static const struct place_wish wish = {
        .options = {"notification_max_ms=200", "abort_grace_ms=200"}};
    struct knit_handle *held[2];
    struct knit *k;

    conformance_open_place(c, &wish);
    k = conformance_session(c, NULL);
    for (int64_t i = 0; i < 2; i++)
        conformance_succeeds(
            c, knit_notify(k, &c->error, "hold", "(int, int, bool)", i, (int64_t)1, 1));
    conformance_succeeds(c, knit_flush(k, &c->error));
    for (uint32_t i = 0; i < 2; i++)
        place_wait_for(c->place, i);
    (void)knit_close(k);
    /* Each worker is had at the same time. */
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i + 2, 2, true);
    place_open_gate(c->place, 2);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
}

static const struct conformance_case cases[] = {
    {"K84", "a call beside a long one starts at once, though its caller does nothing more",
        a_call_beside_a_long_one, 0, 0, 0},
    {"K84b", "the same behind a long call of another session", a_call_behind_another_session, 0, 0,
        0},
    {"K85", "no call that ended by its time in the queue has run", time_in_the_queue, 0, 0, 0},
    {"K86", "a call that may not queue runs where a worker is free or not at all",
        no_time_in_the_queue, 0, 0, 0},
    {"K90", "what a task leaves changed the next call does not see", what_a_task_leaves_behind, 0,
        0, AT(THREADS)},
    {"K91", "a number without an outcome is BAD_RESULT, 0 without one is nil",
        outcomes_that_are_none, 0, 0, 0},
    {"K92", "an optional argument that is nil, left out or 0 is told apart", optional_arguments, 0,
        0, 0},
    {"K93", "notified tasks that never end do not keep their workers when their caller has gone",
        notifications_without_an_end, 0, 0, AT_IN_HOUSE},
    {"K94", "a worker whose task ignores that nobody waits is replaced",
        an_abort_flag_that_is_ignored, AT(THREADS), 0, 0},
    {"K95", "signals from outside do not count against a task", signals_from_outside, 0, 0,
        AT(THREADS)},
    {"K96", "slots used again 300 times under cancel end each call once",
        slots_that_are_used_again_under_cancel, 0, 0, 0},
    {"K97", "sessions that come and go 50 times with results held leave no memory",
        sessions_that_come_and_go, 0, 0, 0},
    {"K98", "arguments of every length at an edge are exact", arguments_at_every_edge, 0, 0, 0},
    {"K100", "a name that is no UTF-8 is an unknown task, told in letters that can be printed",
        names_that_are_no_utf8, 0, 0, 0},
};

const struct conformance_section conformance_trials = CONFORMANCE_SECTION("trials", cases);
