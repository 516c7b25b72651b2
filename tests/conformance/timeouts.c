/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that end before their task does. Bounds are ten times what is meant. */
#include "tests/conformance/conformance.h"

#include <fcntl.h>
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include "tests/conformance/counters.h"
#include "tests/support/process.h"
#include "tests/support/scratch.h"

static const char ledger[] = "(int) -> int";

/* Milliseconds since then. */
static double since_ms(uint64_t begin_ns)
{
    return (double)(knit_deadline_now_ns() - begin_ns) / 1e6;
}

static double late_ms(double bound_ms)
{
    return (double)knit_deadline_stretched_ns((uint64_t)(bound_ms * 1e6)) / 1e6;
}

/* Over a stream the library's own clock may be first, which cannot know it. */
static void has_not_started(struct conformance *c)
{
    if ((AT(c->distance) & AT_STREAMS) != 0)
        assert_int_not_equal(c->error.started, KNIT_STARTED_YES);
    else
        assert_int_equal(c->error.started, KNIT_STARTED_NO);
}

static void a_call_that_expires_in_the_queue(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *held[2];
    uint64_t begin_ns;
    double took_ms;

    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    options.timeout_ms = 10;
    begin_ns = knit_deadline_now_ns();
    conformance_fails(c,
        knit_call_with(c->k, &options, &c->error, "ledger", ledger, (int64_t)10, NULL),
        KNIT_TIMEOUT);
    took_ms = since_ms(begin_ns);
    assert_true(took_ms >= 10 && took_ms < late_ms(2000));
    has_not_started(c);
    place_open_gate(c->place, 1);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
    conformance_serves(c);
    assert_int_equal(place_ran(c->place, 10), 0);
}

/* ---- what comes in the place of TIMEOUT ---- */

static const struct form {
    struct knit_on_timeout say;
    int code;
    bool is_there;       /* a result, which is 7; else nil */
    const char *message; /* NULL: TIMEOUT's own */
} forms[] = {
    {{.value = NULL}, KNIT_TIMEOUT, false, NULL},
    {{.value = "\x07", .value_len = 1}, KNIT_OK, true, NULL},
    {{.maybe = true}, KNIT_OK, false, NULL},
    {{.error = "too slow", .error_data = "\x05", .error_data_len = 1}, KNIT_TIMEOUT, false,
        "too slow"},
    {{.value = "\x07", .value_len = 1, .maybe = true, .error = "no"}, KNIT_OK, true, NULL},
    {{.maybe = true, .error = "no"}, KNIT_OK, false, NULL},
};

/* The task has nothing to say of its own when it is told to stop. */
static void ends_as_said(
    struct conformance *c, const struct form *form, double timeout_ms, int64_t id)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    bool is_there = !form->is_there;
    int64_t value = 0;
    int code;

    options.timeout_ms = timeout_ms;
    options.on_timeout = &form->say;
    code = knit_call_with(c->k, &options, &c->error, "defer", "(int, int, bool) -> int?", id,
        (int64_t)2, 1, &is_there, &value);
    if (form->code == KNIT_OK) {
        conformance_succeeds(c, code);
        assert_int_equal(is_there, form->is_there);
        assert_true(!is_there || value == 7);
        return;
    }
    conformance_fails(c, code, form->code);
    if (form->message != NULL)
        assert_string_equal(c->error.message, form->message);
    assert_int_equal(c->error.data_len, form->say.error_data_len);
    if (c->error.data_len > 0)
        assert_memory_equal(c->error.data, form->say.error_data, c->error.data_len);
}

static void the_forms_of_a_timeout(struct conformance *c)
{
    enum { FORMS = sizeof(forms) / sizeof(forms[0]) };
    static const double times_ms[] = {0, 10};
    struct knit_handle *held[2];

    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    for (size_t i = 0; i < 2 * FORMS; i++)
        ends_as_said(c, &forms[i / 2], times_ms[i % 2], 10);
    place_open_gate(c->place, 1);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
    conformance_serves(c);
    assert_int_equal(place_ran(c->place, 10), 0);
    /* The same of one that runs. */
    for (size_t i = 0; i < FORMS; i++)
        ends_as_said(c, &forms[i], 30, 11);
}

static void what_a_task_says(struct conformance *c)
{
    static const struct knit_on_timeout nine = {.value = "\x09", .value_len = 1};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int64_t value = 0;

    conformance_succeeds(c, knit_call(c->k, &c->error, "seven_when_late", "() -> int", &value));
    assert_true(value == 7);
    options.on_timeout = &nine;
    conformance_succeeds(
        c, knit_call_with(c->k, &options, &c->error, "seven_when_late", "() -> int", &value));
    assert_true(value == 9);
    /* A shorter timeout is its caller's, who says nothing here. */
    options.on_timeout = NULL;
    options.timeout_ms = 5;
    conformance_fails(c,
        knit_call_with(c->k, &options, &c->error, "seven_when_late", "() -> int", &value),
        KNIT_TIMEOUT);
}

static void special_timeouts(struct conformance *c)
{
    static const double none[] = {-1, -0.001, -1e300, (double)NAN, (double)INFINITY, 1e300};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int64_t process;

    options.timeout_ms = 0;
    conformance_fails(c,
        knit_call_with(c->k, &options, &c->error, "ledger", ledger, (int64_t)1, &process),
        KNIT_TIMEOUT);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    options.timeout_ms = -0.0;
    conformance_fails(c,
        knit_call_with(c->k, &options, &c->error, "ledger", ledger, (int64_t)1, &process),
        KNIT_TIMEOUT);
    for (size_t i = 0; i < sizeof(none) / sizeof(none[0]); i++) {
        options.timeout_ms = none[i];
        conformance_succeeds(
            c, knit_call_with(c->k, &options, &c->error, "ledger", ledger, (int64_t)2, &process));
    }
    assert_int_equal(place_ran(c->place, 1), 0);
    assert_int_equal(place_ran(c->place, 2), 6);
}

static void a_computation(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit *k = conformance_session(c, NULL);
    uint64_t begin_ns;
    double took_ms;

    /* The worker computes on until its gate opens; what it ends in then is nobody's. */
    for (int64_t i = 1; i <= 3; i++) {
        options.timeout_ms = 40;
        begin_ns = knit_deadline_now_ns();
        conformance_fails(c,
            knit_call_with(k, &options, &c->error, "compute", "(int, int) -> int", i, i, NULL),
            KNIT_TIMEOUT);
        took_ms = since_ms(begin_ns);
        place_open_gate(c->place, (uint32_t)i);
        assert_true(took_ms >= 40 && took_ms < late_ms(2000));
    }
    counters_check_session(k);
    (void)knit_close(k);
}

static void a_late_result(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;
    int64_t process;

    options.timeout_ms = 30;
    conformance_succeeds(c, knit_start(c->k, &options, &handle, &c->error, "hold",
                                "(int, int, bool) -> int", (int64_t)1, (int64_t)1, 1));
    conformance_fails(c, knit_await(handle, conformance_patience_ms(), &c->error), KNIT_TIMEOUT);
    place_open_gate(c->place, 1);
    for (int i = 0; i < 50; i++)
        conformance_serves(c);
    /* It stays what it was. */
    assert_int_equal(knit_await(handle, 0, &c->error), KNIT_TIMEOUT);
    assert_int_equal(knit_results(handle, &c->error, &process), KNIT_TIMEOUT);
    (void)knit_free(handle);
}

/* A thread cannot be ended from outside. */
static void a_hard_timeout_is_refused(struct conformance *c)
{
    char option[512];
    const struct place_wish wish = {.options = {option}};
    char *said;

    assert_non_null(getenv("KNIT_LIMITED"));
    (void)snprintf(option, sizeof(option), "module=%s", getenv("KNIT_LIMITED"));
    said = place_refused(c->distance, &wish);
    if (strstr(said, "limited") == NULL || strstr(said, "hard timeout") == NULL)
        fail_msg("%s", said);
    free(said);
}

static void a_hard_timeout(struct conformance *c)
{
    struct knit_handle *overdue = NULL, *held;
    uint64_t begin_ns = knit_deadline_now_ns();
    double took_ms;
    int64_t sum;

    if (c->distance == THREADS) {
        a_hard_timeout_is_refused(c);
        return;
    }
    held = conformance_hold(c, c->k, 0, 1, true);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &overdue, &c->error, "limited", "(int)", (int64_t)600000));
    conformance_fails(
        c, knit_await(overdue, conformance_patience_ms(), &c->error), KNIT_HARD_TIMEOUT);
    took_ms = since_ms(begin_ns);
    assert_true(took_ms >= 200 && took_ms < late_ms(2000));
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    (void)knit_free(overdue);
    /* Another worker's call has gone on, and the dead one is replaced. */
    assert_int_equal(knit_await(held, 0, &c->error), KNIT_PENDING);
    assert_true(KNIT_WAIT_UNTIL(place_lanes_serving(c->place) == 2, PLACE_MS));
    conformance_succeeds(
        c, knit_call(c->k, &c->error, "add", "(int, int) -> int", (int64_t)1, (int64_t)1, &sum));
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
    /* One that stays within it is not disturbed. */
    conformance_succeeds(c, knit_call(c->k, &c->error, "limited", "(int)", (int64_t)20));
}

/* The pool of the hard timeout ends with it, and so do all calls in it. */
static void a_hard_timeout_of_the_pool(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"hard_timeout_scope=pool"}};
    struct knit_handle *held, *overdue = NULL;

    if (c->distance == THREADS) {
        a_hard_timeout_is_refused(c);
        return;
    }
    conformance_open_place(c, &wish);
    held = conformance_start_gated(c, c->k, "defer", 0, 1, true);
    place_expect_end(c->place, 1);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &overdue, &c->error, "limited", "(int)", (int64_t)600000));
    conformance_fails(
        c, knit_await(overdue, conformance_patience_ms(), &c->error), KNIT_HARD_TIMEOUT);
    conformance_fails(c, knit_await(held, conformance_patience_ms(), &c->error), KNIT_SHUTDOWN);
    assert_true(place_has_ended(c->place));
    c->k = knit_close(c->k);
}

static void cancelling(struct conformance *c)
{
    struct knit_handle *held[2], *queued = NULL, *running = NULL;

    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &queued, &c->error, "ledger", ledger, (int64_t)10));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    knit_cancel(queued);
    knit_cancel(queued);
    place_open_gate(c->place, 1);
    conformance_fails(c, knit_await(queued, conformance_patience_ms(), &c->error), KNIT_CANCELLED);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    (void)knit_free(queued);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
    assert_int_equal(place_ran(c->place, 10), 0);

    /* One that runs sees its flag, and its own outcome is delivered. */
    conformance_succeeds(c, knit_start(c->k, NULL, &running, &c->error, "burn",
                                "(int, bool) -> int", (int64_t)60000, 1));
    assert_int_equal(knit_await(running, 30, &c->error), KNIT_PENDING);
    knit_cancel(running);
    knit_cancel(running);
    {
        int code = knit_await(running, conformance_patience_ms(), &c->error);
        int64_t was_aborted = 0;

        /* Or it had not begun. */
        if (code == KNIT_OK) {
            conformance_succeeds(c, knit_results(running, &c->error, &was_aborted));
            assert_true(was_aborted == 1);
        } else {
            conformance_fails(c, code, KNIT_CANCELLED);
        }
        assert_int_equal(knit_await(running, 0, NULL), code);
    }
    knit_cancel(running);
    (void)knit_free(running);
    conformance_succeeds(c, knit_start(c->k, NULL, &running, &c->error, "obey", "()"));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    knit_cancel(running);
    conformance_fails(c, knit_await(running, conformance_patience_ms(), &c->error), KNIT_CANCELLED);
    (void)knit_free(running);
}

static void flags_of_a_slot_that_is_used_again(struct conformance *c)
{
    const struct knit_open_options options = {.slots = 16};
    struct knit *k = conformance_session(c, &options);

    for (int i = 0; i < 100; i++) {
        struct knit_handle *handle = NULL;
        bool is_aborted = true;
        int code;

        conformance_succeeds(c, knit_start(k, NULL, &handle, &c->error, "obey", "()"));
        if (i % 2 == 0)
            conformance_succeeds(c, knit_flush(k, &c->error));
        knit_cancel(handle);
        code = knit_await(handle, conformance_patience_ms(), &c->error);
        conformance_fails(c, code, KNIT_CANCELLED);
        (void)knit_free(handle);
        for (int n = 0; n < 3; n++) {
            conformance_succeeds(
                c, knit_call(k, &c->error, "is_aborted", "() -> bool", &is_aborted));
            assert_false(is_aborted);
        }
    }
    counters_check_session(k);
    (void)knit_close(k);
}

static void a_caller_that_goes_away(struct conformance *c)
{
    struct knit *k = conformance_session(c, NULL);
    struct knit_handle *held[2], *queued = NULL;

    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, k, i, 1, false);
    assert_non_null(held[0]);
    conformance_succeeds(c, knit_start(k, NULL, &queued, &c->error, "ledger", ledger, (int64_t)10));
    conformance_succeeds(c, knit_flush(k, &c->error));
    (void)knit_close(k);
    /* Only because both tasks have seen their flags there is a worker for this, and the queued call
     * stood before it. */
    for (int i = 0; i < 4; i++)
        conformance_serves(c);
    assert_int_equal(place_ran(c->place, 10), 0);
}

/* ---- the clock of the day ---- */

struct day {
    _Atomic int64_t *off_by;
    _Atomic bool is_over;
};

static void *turn_the_clock(void *arg)
{
    struct day *day = arg;
    int64_t by = 7200;

    do {
        by = -by;
        atomic_store_explicit(day->off_by, by, memory_order_seq_cst);
    } while (!KNIT_WAIT_UNTIL(atomic_load_explicit(&day->is_over, memory_order_seq_cst), 1));
    return NULL;
}

/* The program again, its daemon and its threads by a clock that a thread of this one turns. */
static void a_clock_that_is_set(struct conformance *c)
{
    char preload[512], clock_file[512], self[512] = "", *output = NULL, *dir = knit_scratch_new();
    const int64_t none = 0;
    char *path = knit_scratch_file(dir, "clock", &none, sizeof(none));
    struct day day = {.is_over = false};
    const char *const dates[] = {"env", preload, clock_file, "date", "+%s", NULL};
    const char *const again[] = {"env", preload, clock_file,
        "ASAN_OPTIONS=verify_asan_link_order=0", self, distance_name(c->distance), "E45", "E47",
        NULL};
    int fd = open(path, O_RDWR | O_CLOEXEC), status;
    pthread_t thread;

    assert_non_null(getenv("KNIT_JUMPING_CLOCK"));
    (void)snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", getenv("KNIT_JUMPING_CLOCK"));
    (void)snprintf(clock_file, sizeof(clock_file), "KNIT_CLOCK=%s", path);
    assert_true(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0);
    day.off_by = mmap(NULL, sizeof(none), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    assert_true(day.off_by != MAP_FAILED);
    (void)close(fd);
    atomic_store_explicit(day.off_by, -86400, memory_order_seq_cst);
    assert_int_equal(knit_process_run(dir, dates, PLACE_MS, &output), 0);
    assert_true(strtoll(output, NULL, 10) < time(NULL) - 80000);
    free(output);
    assert_int_equal(pthread_create(&thread, NULL, turn_the_clock, &day), 0);
    status = knit_process_run(dir, again, PLACE_MS, &output);
    atomic_store_explicit(&day.is_over, true, memory_order_seq_cst);
    assert_int_equal(pthread_join(thread, NULL), 0);
    if (status != 0 || strstr(output, "2 ok") == NULL)
        fail_msg("%d: %s", status, output);
    free(output);
    (void)munmap((void *)day.off_by, sizeof(none));
    free(path);
    (void)knit_scratch_free(dir);
}

static const struct conformance_case cases[] = {
    {"E44a", "at a deadline comes a value, else nil, else an error with text and data, as said",
        the_forms_of_a_timeout, 0, 0, 0},
    {"E44b", "a task says it for its own timeout, and its caller's word is before it",
        what_a_task_says, 0, 0, 0},
    {"E45", "a call that expires in the queue ends at its deadline and never starts",
        a_call_that_expires_in_the_queue, 0, 0, 0},
    {"E46", "a timeout of 0 has expired; negative ones, NaN and infinity are none",
        special_timeouts, 0, 0, 0},
    {"E47", "the caller of a computation is answered at the deadline", a_computation, 0, 0, 0},
    {"E48", "a late result is dropped, and changes no outcome", a_late_result, 0, 0, 0},
    {"E50", "a hard timeout costs that call and its worker alone", a_hard_timeout, AT(THREADS), 0,
        0},
    {"E50b", "where it is the pool's, the pool ends, and other calls in SHUTDOWN",
        a_hard_timeout_of_the_pool, AT(THREADS), 0, 0},
    {"E51", "a cancelled call does not start, or sees its flag; once or twice", cancelling, 0, 0,
        0},
    {"E52", "the flag of a slot that is used again is clear", flags_of_a_slot_that_is_used_again, 0,
        0, 0},
    {"E53", "the calls of a caller that goes away are aborted", a_caller_that_goes_away, 0, 0, 0},
    /* By that clock a certificate is valid, or not. */
    {"E54", "deadlines stay while the clock of the day is set back and forth", a_clock_that_is_set,
        0, 0, AT(TLS)},
};

const struct conformance_section conformance_timeouts =
    CONFORMANCE_SECTION("timeouts and aborts", cases);
