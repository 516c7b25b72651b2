/* SPDX-License-Identifier: Apache-2.0 */
/* What comes before a call's outcome, when its task has long returned, or never: progress, deferred
 * calls, aborts with a reason, notifications; and calls by a declaration. */
#include "tests/conformance/conformance.h"

#include <poll.h>

#include <knitting/typed.h>
#include <knitting/values.h>

#include "tests/conformance/counters.h"

KNIT_TYPED(add, ((int, a), (int, b)), ((int, sum)));
KNIT_TYPED(empty, ((int, much)), ());

static const char gated[] = "(int, int, bool) -> int";

/* ---- progress ---- */

/* What the callbacks of a call have been given. */
struct seen {
    uint64_t values, count;
    int64_t last;
    uint64_t values_when_done;
    uint64_t cancel_at; /* cancels at that value; 0 = never */
    bool is_done;
};

static void note_value(
    struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user)
{
    struct seen *seen = user;

    assert_false(seen->is_done);
    assert_true(count > seen->count);
    seen->count = count;
    seen->last = knit_value_int(knit_read(NULL, value, len));
    if (++seen->values == seen->cancel_at)
        knit_cancel(handle);
}

static void note_end(struct knit_handle *handle, void *user)
{
    struct seen *seen = user;

    (void)handle;
    seen->is_done = true;
    seen->values_when_done = seen->values;
}

/* Returns the call's result. */
static int64_t watch(
    struct conformance *c, struct seen *seen, bool progress, const char *task, int64_t argument)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;
    int64_t result;

    options.progress = progress;
    conformance_succeeds(c, knit_start(c->k, &options, &handle, &c->error, task,
                                argument != 0 ? "(int) -> int" : "() -> int", argument));
    knit_on_progress(handle, note_value, seen);
    knit_on_done(handle, note_end, seen);
    result = conformance_int(c, handle);
    assert_true(seen->is_done);
    assert_true(seen->values == seen->values_when_done);
    return result;
}

static void values_while_a_task_runs(struct conformance *c)
{
    struct seen seen = {.cancel_at = 3};
    int64_t emitted = watch(c, &seen, true, "count_on", 0);

    assert_true(seen.values >= 3);
    assert_true(seen.last == emitted && seen.count == (uint64_t)emitted);
}

static void the_last_of_many_values(struct conformance *c)
{
    enum { VALUES = 20000 };
    struct seen seen = {.cancel_at = 0};

    assert_true(watch(c, &seen, true, "emit_all", VALUES) == 0);
    assert_true(seen.last == VALUES && seen.count == VALUES);
}

static void count_value(
    struct knit_handle *handle, const void *value, size_t len, uint64_t count, void *user)
{
    (void)handle;
    (void)value;
    assert_true(len <= 112);
    *(uint64_t *)user = count;
}

/* The task says what became of each of its four, of which the first has 113 bytes. */
static void values_of_every_kind(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;
    uint64_t last = 0;

    options.progress = true;
    conformance_succeeds(
        c, knit_start(c->k, &options, &handle, &c->error, "emit_kinds", "() -> int"));
    knit_on_progress(handle, count_value, &last);
    assert_true(conformance_int(c, handle) == 1111);
    assert_true(last == 3);
}

static void values_that_nobody_looks_at(struct conformance *c)
{
    struct seen seen = {.cancel_at = 0};

    assert_true(watch(c, &seen, false, "emit_all", 1000) == 0);
    assert_true(seen.values == 0);
}

/* ---- deferred calls ---- */

static void deferred_calls_and_others(struct conformance *c)
{
    enum { CALLS = 20 };
    struct knit_handle *handles[CALLS];

    for (uint32_t i = 0; i < CALLS; i++)
        handles[i] = conformance_start_gated(c, c->k, "defer", i, 1, false);
    for (int i = 0; i < CALLS; i++)
        conformance_serves(c);
    for (int i = 0; i < CALLS; i++)
        assert_int_equal(knit_await(handles[i], 0, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    for (uint32_t i = 0; i < CALLS; i++) {
        assert_true(conformance_int(c, handles[i]) == i);
        assert_int_equal(place_ran(c->place, i), 1);
    }
}

static void deferred_calls_that_are_given_up(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = conformance_start_gated(c, c->k, "defer", 0, 1, false);

    knit_cancel(handle);
    conformance_fails(c, knit_await(handle, conformance_patience_ms(), &c->error), KNIT_CANCELLED);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    (void)knit_free(handle);
    options.timeout_ms = 30;
    conformance_fails(c,
        knit_call_with(c->k, &options, &c->error, "defer", gated, (int64_t)1, (int64_t)1, 0, NULL),
        KNIT_TIMEOUT);
}

/* A call that is deferred runs past its hard timeout; its worker's others go on, and it is replaced
 * when they have ended. */
static void a_deferred_call_that_is_overdue(struct conformance *c)
{
    char module[512];
    const struct place_wish wish = {.workers = 1, .options = {module}};
    const bool is_threads = c->distance == THREADS;
    struct knit_handle *held, *overdue = NULL;
    uint64_t pid;

    assert_non_null(getenv("KNIT_OVERDUE"));
    (void)snprintf(module, sizeof(module), "module=%s", getenv("KNIT_OVERDUE"));
    if (is_threads) {
        char *said = place_refused(c->distance, &wish);

        if (strstr(said, "hard timeout") == NULL)
            fail_msg("%s", said);
        free(said);
        return;
    }
    conformance_open_place(c, &wish);
    pid = place_lane_stat(c->place, 0, "pid");
    held = conformance_start_gated(c, c->k, "defer", 0, 1, false);
    conformance_succeeds(c, knit_start(c->k, NULL, &overdue, &c->error, "overdue", "()"));
    conformance_fails(
        c, knit_await(overdue, conformance_patience_ms(), &c->error), KNIT_HARD_TIMEOUT);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    (void)knit_free(overdue);
    assert_int_equal(knit_await(held, 0, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    assert_true(conformance_int(c, held) == 0);
    assert_true(KNIT_WAIT_UNTIL(
        place_lane_stat(c->place, 0, "pid") != pid && place_lanes_serving(c->place) == 1,
        PLACE_MS));
}

/* ---- clocks and loops ---- */

static void the_clock_of_tasks(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int64_t now = 0, left = 0;
    uint64_t before = knit_now();

    conformance_succeeds(c, knit_call(c->k, &c->error, "now", "() -> int", &now));
    assert_true((uint64_t)now >= before && (uint64_t)now <= knit_now());
    options.timeout_ms = 60000;
    before = knit_now();
    conformance_succeeds(
        c, knit_call_with(c->k, &options, &c->error, "time_left", "() -> int", &left));
    assert_true(left <= INT64_C(60000000000));
    assert_true((uint64_t)left >= UINT64_C(60000000000) - (knit_now() - before));
}

static void count_done(struct knit_handle *handle, void *user)
{
    *(int *)user += knit_await(handle, 0, NULL) == KNIT_OK;
    (void)knit_free(handle);
}

/* Nothing but poll() waits, and nothing but knit_dispatch() works. */
static void a_loop_by_the_descriptor(struct conformance *c)
{
    enum { CALLS = 60 };
    const uint64_t until_ns = knit_deadline_in_ms(PLACE_MS);
    struct knit *k = conformance_session(c, NULL);
    struct pollfd file = {.fd = knit_fd(k), .events = POLLIN};
    int done = 0;

    assert_true(file.fd >= 0);
    for (int64_t i = 0; i < CALLS; i++) {
        struct knit_handle *handle = NULL;

        conformance_succeeds(c, knit_start(k, NULL, &handle, &c->error, "carry", "(int, int, bin)",
                                    i, (int64_t)50, "x", (size_t)1));
        knit_on_done(handle, count_done, &done);
    }
    conformance_succeeds(c, knit_flush(k, &c->error));
    while (done < CALLS && knit_deadline_left_ms(until_ns) > 0) {
        assert_true(poll(&file, 1, (int)knit_deadline_left_ms(until_ns)) >= 0);
        conformance_succeeds(c, knit_dispatch(k, &c->error));
    }
    assert_int_equal(done, CALLS);
    counters_check_session(k);
    (void)knit_close(k);
}

/* ---- aborts with a reason ---- */

static void is_cancelled_with(struct conformance *c, struct knit_handle *handle, const char *reason)
{
    size_t len;
    const char *data;

    conformance_fails(c, knit_await(handle, 0, &c->error), KNIT_CANCELLED);
    assert_string_equal(c->error.message, reason);
    data = knit_value_text(knit_read(NULL, c->error.data, c->error.data_len), &len);
    assert_int_equal(len, strlen(reason));
    assert_memory_equal(data, reason, len);
    (void)knit_free(handle);
}

static void aborts_with_a_reason(struct conformance *c)
{
    struct knit_handle *held[2], *queued = NULL;

    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    conformance_succeeds(
        c, knit_start(c->k, NULL, &queued, &c->error, "hold", gated, (int64_t)10, (int64_t)1, 1));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    knit_abort(queued, "not needed");
    knit_abort(queued, "the second reason");
    is_cancelled_with(c, queued, "not needed");
    /* Its task goes on, and nobody waits for that. */
    knit_abort(held[0], "enough");
    is_cancelled_with(c, held[0], "enough");
    conformance_succeeds(c, knit_ping(c->k, &c->error, NULL)); /* and what was sent before it */
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held[1]);
    conformance_serves(c);
    assert_int_equal(place_ran(c->place, 10), 0);
}

static void a_task_reads_why(struct conformance *c)
{
    const char *reasons[] = {"enough", NULL, NULL};
    const uint32_t lengths[] = {6, 0, 111};
    char longest[301] = "x";
    uint32_t id = 0;

    for (size_t at = 1; at + 2 < sizeof(longest); at += 2)
        memcpy(longest + at, "\u00e9", 3);
    /* 112 bytes of it end in the middle of a character. */
    reasons[2] = longest;
    for (int deferred = 0; deferred < 2; deferred++) {
        for (size_t i = 0; i < 3; i++, id += 200) {
            struct knit_handle *handle = NULL;

            conformance_succeeds(c, knit_start(c->k, NULL, &handle, &c->error, "told",
                                        "(int, bool) -> int", (int64_t)id, deferred));
            conformance_succeeds(c, knit_flush(c->k, &c->error));
            place_wait_for(c->place, id);
            if (reasons[i] != NULL)
                knit_abort(handle, reasons[i]);
            else
                knit_cancel(handle);
            if (!KNIT_WAIT_UNTIL(
                    place_ran(c->place, id + lengths[i]) == (i == 1 ? 2 : 1), PLACE_MS))
                fail_msg("the task reads another reason than \"%s\"", reasons[i]);
            (void)knit_free(handle);
        }
    }
    conformance_serves(c);
}

/* ---- notifications ---- */

static void notifications(struct conformance *c)
{
    enum { COUNT = 50 };
    static const struct place_wish usual;
    struct knit *k;

    /* A pool of this process has a session for notifications from the first of them to its end. */
    if ((AT(c->distance) & AT_IN_HOUSE) != 0)
        conformance_open_place(c, &usual);
    k = conformance_session(c, NULL);
    for (int64_t i = 0; i < COUNT; i++)
        conformance_succeeds(c, knit_notify(k, &c->error, "ledger", "(int)", i));
    conformance_succeeds(c, knit_notify(k, &c->error, "no_such_task", "()"));
    (void)knit_close(k);
    for (uint32_t i = 0; i < COUNT; i++)
        place_wait_for(c->place, i);
    for (uint32_t i = 0; i < COUNT; i++)
        assert_int_equal(place_ran(c->place, i), 1);
}

/* ---- declarations ---- */

static void calls_of_a_declaration(struct conformance *c)
{
    struct knit_handle *handle = NULL;
    int64_t sum = 0;

    conformance_succeeds(c, KNIT_CALL(add, c->k, &c->error, (INT64_MAX, -1), (&sum)));
    assert_true(sum == INT64_MAX - 1);
    conformance_succeeds(c, KNIT_START(add, c->k, &handle, &c->error, (2, 3)));
    conformance_succeeds(c, KNIT_AWAIT(add, handle, &c->error, (&sum)));
    assert_true(sum == 5);
    (void)knit_free(handle);
    conformance_fails(c, KNIT_CALL(add, c->k, &c->error, (INT64_MAX, 1), (&sum)), KNIT_TASK_FAILED);
    /* The task takes no argument. */
    conformance_fails(c, KNIT_CALL(empty, c->k, &c->error, (1), ()), KNIT_BAD_ARGUMENT);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
}

/* What the task says of its trace; ret_text has KNIT_CALL_TRACE_SIZE bytes. */
static void ask_trace(
    struct conformance *c, const char *trace, bool defers, size_t bytes, char *ret_text)
{
    static const char argument[300000];
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    const char *text;
    size_t len;

    options.trace = trace;
    conformance_succeeds(c, knit_start(c->k, &options, &handle, &c->error, "trace",
                                "(bool, bin) -> str", defers, argument, bytes));
    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    conformance_succeeds(c, knit_results(handle, &c->error, &text, &len));
    assert_true(len < KNIT_CALL_TRACE_SIZE);
    memcpy(ret_text, text, len);
    ret_text[len] = '\0';
    (void)knit_free(handle);
}

static void a_trace_reaches_the_task(struct conformance *c)
{
    static const char *const trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
    static const size_t sizes[] = {0, 60, 900, 300000};
    char text[KNIT_CALL_TRACE_SIZE], before[KNIT_CALL_TRACE_SIZE] = "";

    for (size_t i = 0; i < 2 * sizeof(sizes) / sizeof(sizes[0]); i++) {
        ask_trace(c, trace, i % 2 != 0, sizes[i / 2], text);
        if ((AT(c->distance) & AT_STREAMS) == 0) {
            assert_string_equal(text, trace);
        } else {
            /* Of the same trace, by a span of the daemon's. */
            assert_int_equal(strlen(text), strlen(trace));
            assert_memory_equal(text, trace, 36);
            assert_memory_not_equal(text + 36, trace + 36, 16);
            assert_string_equal(text + 52, trace + 52);
            assert_string_not_equal(text, before);
            memcpy(before, text, sizeof(before));
        }
        ask_trace(c, NULL, i % 2 != 0, sizes[i / 2], text);
        assert_string_equal(text, "");
    }
}

static void what_is_no_trace_counts_as_none(struct conformance *c)
{
    static const char *const wrong[] = {"", "00", "none at all",
        "00-00000000000000000000000000000000-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
        "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
        "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more"};
    char text[KNIT_CALL_TRACE_SIZE];

    for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
        ask_trace(c, wrong[i], false, 0, text);
        assert_string_equal(text, "");
    }
}

static const struct conformance_case cases[] = {
    {"M1", "values come while a task runs, and the last of them before the outcome",
        values_while_a_task_runs, 0, 0, 0},
    {"M2", "of 20,000 values the last one is seen, with their number", the_last_of_many_values, 0,
        0, 0},
    {"M3", "a task that emits for nobody fails in nothing", values_that_nobody_looks_at, 0, 0, 0},
    {"M9", "a value of 112 bytes comes, and a task is told that a longer one does not",
        values_of_every_kind, 0, 0, 0},
    {"M4", "20 deferred calls leave their workers to others, and end each in its own outcome",
        deferred_calls_and_others, 0, 0, 0},
    {"M5", "a deferred call is cancelled, and ends at its deadline",
        deferred_calls_that_are_given_up, 0, 0, 0},
    {"M10",
        "a hard timeout of a deferred call ends that call alone; its worker goes when it is free",
        a_deferred_call_that_is_overdue, AT(THREADS), 0, 0},
    {"M6", "an abort ends a call at once, with its first reason as message and data",
        aborts_with_a_reason, 0, 0, 0},
    {"M7", "a notification runs its task once, also when its session closes behind it",
        notifications, 0, 0, 0},
    {"M13", "a task that is aborted reads its caller's reason, or the first 112 bytes of it",
        a_task_reads_why, 0, 0, 0},
    {"M14",
        "a task reads the trace that its call is a part of, however large its argument, also when "
        "it defers",
        a_trace_reaches_the_task, 0, 0, 0},
    {"M15", "a traceparent that is none counts as none", what_is_no_trace_counts_as_none, 0, 0, 0},
    {"M8", "a declaration calls the task that it fits, and no other", calls_of_a_declaration, 0, 0,
        0},
    {"M11", "callers and tasks have one clock", the_clock_of_tasks, 0, 0, 0},
    {"M12", "an event loop needs one descriptor and one function", a_loop_by_the_descriptor, 0, 0,
        0},
};

const struct conformance_section conformance_later =
    CONFORMANCE_SECTION("before the outcome, and without one", cases);
