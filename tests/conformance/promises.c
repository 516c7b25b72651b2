/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments that are results of other calls: handles. */
#include "tests/conformance/conformance.h"

#include <poll.h>

#include <knitting/typed.h>
#include <knitting/values.h>

#include "tests/conformance/counters.h"

enum { CHAIN = 16 };

KNIT_TYPED(add, ((int, a), (int, b)), ((int, sum)));

/* Starts a call of the task by that signature. */
static struct knit_handle *begin_with(struct conformance *c,
    const struct knit_call_options *options, const char *task, const char *signature,
    const struct knit_arg *args, size_t count)
{
    struct knit_prepared *prepared = NULL;
    struct knit_handle *handle = NULL;

    conformance_succeeds(c, knit_prepare(c->k, &c->error, task, signature, &prepared));
    conformance_succeeds(c, knit_start_args(prepared, options, &handle, &c->error, args, count));
    knit_prepared_free(prepared);
    return handle;
}

static struct knit_handle *begin(struct conformance *c, const char *task, const char *signature,
    struct knit_arg a, struct knit_arg b)
{
    const struct knit_arg args[] = {a, b};

    return begin_with(c, NULL, task, signature, args, 2);
}

static struct knit_handle *begin_sum(struct conformance *c, struct knit_arg a, struct knit_arg b)
{
    return begin(c, "add", "(int, int) -> int", a, b);
}

/* Counts in the ledger that it ran. */
static struct knit_handle *begin_ledger(struct conformance *c, struct knit_handle *id)
{
    const struct knit_arg args[] = {knit_pass_handle(id)};

    return begin_with(c, NULL, "ledger", "(int) -> int", args, 1);
}

static struct knit_handle *begin_defer(struct conformance *c, uint32_t id, uint32_t gate)
{
    return conformance_start_gated(c, c->k, "defer", id, gate, false);
}

static struct knit_handle *begin_failure(struct conformance *c, int64_t code, const char *message)
{
    struct knit_handle *handle = NULL;

    conformance_succeeds(c,
        knit_start(c->k, NULL, &handle, &c->error, "refuse", "(int, str) -> nil", code, message));
    return handle;
}

static void is_pending(struct conformance *c, struct knit_handle *handle)
{
    (void)knit_dispatch(c->k, &c->error);
    assert_int_equal(knit_await(handle, 0, &c->error), KNIT_PENDING);
}

/* The code of the error's cause. */
static int64_t cause_of(const struct knit_error *error)
{
    struct knit_value details = knit_read(NULL, error->details, error->details_len);

    return knit_value_int(knit_value_at(knit_value_get(details, "cause"), 0));
}

/* Ended in DEPENDENCY for that reason; frees it. */
static void has_dependency(struct conformance *c, struct knit_handle *handle, int cause)
{
    conformance_fails(c, knit_await(handle, conformance_patience_ms(), &c->error), KNIT_DEPENDENCY);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    assert_false(c->error.retryable);
    assert_true(cause_of(&c->error) == cause);
    (void)knit_free(handle);
}

/* ---- results ---- */

static void a_result_that_comes_later(struct conformance *c)
{
    struct knit_handle *source = begin_defer(c, 7, 1), *sum, *twice;
    struct knit_arg args[] = {knit_pass_handle(source), knit_pass_int(5)};
    struct knit_prepared *add = NULL;
    int64_t result = 0;
    void *results[] = {&result};

    sum = begin_sum(c, args[0], args[1]);
    twice = begin_sum(c, knit_pass_handle(sum), knit_pass_handle(sum));
    is_pending(c, sum);
    is_pending(c, twice);
    place_open_gate(c->place, 1);
    assert_true(conformance_int(c, twice) == 24);
    assert_true(conformance_int(c, sum) == 12);
    /* It is there now, and stays. */
    assert_true(conformance_int(c, begin_sum(c, args[0], args[0])) == 14);
    conformance_succeeds(c, knit_prepare(c->k, &c->error, "add", "(int, int) -> int", &add));
    conformance_succeeds(c, knit_call_args(add, NULL, &c->error, args, 2, results, 1));
    assert_true(result == 12);
    knit_prepared_free(add);
    assert_true(conformance_int(c, source) == 7);
}

static void handles_in_a_declaration(struct conformance *c)
{
    struct knit_handle *source = begin_defer(c, 7, 1), *sum = NULL, *none = NULL;
    int64_t result = 0;

    conformance_succeeds(c, KNIT_START(add, c->k, &sum, &c->error, (source, 5)));
    is_pending(c, sum);
    place_open_gate(c->place, 1);
    conformance_succeeds(c, KNIT_CALL(add, c->k, &c->error, (sum, source), (&result)));
    assert_true(result == 19);
    conformance_succeeds(c, KNIT_AWAIT(add, sum, &c->error, (&result)));
    assert_true(result == 12);
    conformance_fails(
        c, KNIT_CALL(add, c->k, &c->error, (sum, none), (&result)), KNIT_BAD_ARGUMENT);
    (void)knit_free(sum);
    assert_true(conformance_int(c, source) == 7);
}

/* Arrays of numbers behind values of any length: where they lie decides how they are aligned. */
static void results_of_every_size(struct conformance *c)
{
    static const size_t sizes[] = {0, 1, 90, 103, 104, 105, 1000, 1025, 70000, 1 << 20};
    const struct knit_arg count = knit_pass_int(100);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const struct knit_arg size = knit_pass_int((int64_t)sizes[i]);
        struct knit_handle *bytes = begin_with(c, NULL, "large", "(int) -> bin", &size, 1);
        struct knit_handle *halves = begin_with(c, NULL, "halves", "(int) -> f64[]", &count, 1);
        struct knit_handle *squares = begin_with(c, NULL, "squares", "(int) -> i64[]", &count, 1);
        struct knit_arg bin[] = {knit_pass_handle(bytes)};
        struct knit_arg arrays[] = {knit_pass_handle(halves), knit_pass_handle(squares)};
        struct knit_arg rest[] = {arrays[0], bin[0]};
        struct knit_handle *again = begin_with(c, NULL, "echo_bin", "(bin) -> bin", bin, 1);
        struct knit_handle *lies = begin_with(c, NULL, "untouched", "(any, any) -> bool", rest, 2);
        struct knit_handle *sums =
            begin_with(c, NULL, "sums", "(f64[], i64[]) -> (f64[], i64[])", arrays, 2);
        const uint8_t *body = conformance_bytes(c, again, sizes[i]);
        struct knit_f64s floats = {NULL, 0};
        struct knit_i64s ints = {NULL, 0};
        void *places[] = {&floats, &ints};
        bool is_untouched = false;

        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(body[at], (uint8_t)(at * 7));
        conformance_succeeds(c, knit_await(sums, conformance_patience_ms(), &c->error));
        conformance_succeeds(c, knit_results_args(sums, &c->error, places, 2));
        assert_true(floats.count == 101 && floats.at[100] == 2475);
        assert_true(ints.count == 101 && ints.at[100] == 328350);
        conformance_succeeds(c, knit_await(lies, conformance_patience_ms(), &c->error));
        conformance_succeeds(c, knit_results(lies, &c->error, &is_untouched));
        assert_true(is_untouched);
        for (int n = 0; n < 6; n++)
            (void)knit_free((struct knit_handle *[]){bytes, halves, squares, again, lies, sums}[n]);
    }
}

static void arguments_in_reverse_order(struct conformance *c)
{
    enum { SOURCES = 48 };
    struct knit_handle *sources[SOURCES], *sums[SOURCES];

    for (uint32_t i = 0; i < SOURCES; i++)
        sources[i] = begin_defer(c, i, i);
    for (int i = 0; i < SOURCES; i++)
        sums[i] =
            begin_sum(c, knit_pass_handle(sources[i]), knit_pass_handle(sources[SOURCES - 1 - i]));
    for (int i = SOURCES - 1; i >= 0; i--) {
        place_open_gate(c->place, (uint32_t)i);
        assert_true(conformance_int(c, sources[i]) == i);
        for (int at = 0; at < SOURCES; at++) {
            const int last = at < SOURCES - 1 - at ? at : SOURCES - 1 - at;

            if (last < i)
                is_pending(c, sums[at]);
            else if (last == i)
                assert_true(conformance_int(c, sums[at]) == SOURCES - 1);
        }
    }
}

static void a_chain_in_one_burst(struct conformance *c)
{
    struct knit_handle *chain[CHAIN];

    chain[0] = begin_sum(c, knit_pass_int(1), knit_pass_int(1));
    for (int i = 1; i < CHAIN; i++)
        chain[i] = begin_sum(c, knit_pass_handle(chain[i - 1]), knit_pass_handle(chain[i - 1]));
    assert_true(conformance_int(c, chain[CHAIN - 1]) == 1 << CHAIN);
    for (int i = 0; i < CHAIN - 1; i++)
        assert_true(conformance_int(c, chain[i]) == 1 << (i + 1));
}

/* The daemon has all of it before the first result is there. */
static void a_chain_that_waits_in_the_daemon(struct conformance *c)
{
    const bool is_there = (AT(c->distance) & AT_STREAMS) != 0;
    const uint64_t bound = place_stat(c->place, "loops", "references_bound");
    struct knit_handle *chain[CHAIN];

    chain[0] = begin_defer(c, 1, 1);
    for (int i = 1; i < CHAIN; i++)
        chain[i] = begin_sum(c, knit_pass_handle(chain[i - 1]), knit_pass_handle(chain[i - 1]));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    conformance_succeeds(c, knit_ping(c->k, &c->error, NULL));
    assert_true(place_stat(c->place, "loops", "references_bound") ==
                (is_there ? bound + CHAIN - 1 : bound));
    place_open_gate(c->place, 1);
    assert_true(conformance_int(c, chain[CHAIN - 1]) == 1 << (CHAIN - 1));
    for (int i = 0; i < CHAIN - 1; i++)
        assert_true(conformance_int(c, chain[i]) == 1 << i);
}

/* ---- options ---- */

enum { OF_A_KIND = 6, URGENT = 0, NORMAL = 1, BACKGROUND = 2 };

static struct knit_handle *begin_next(
    struct conformance *c, struct knit_handle *source, uint32_t priority)
{
    const struct knit_arg args[] = {knit_pass_handle(source)};
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;

    options.priority = priority;
    return begin_with(c, &options, "next", "(int) -> int", args, 1);
}

/* They wait for an argument, and then behind a held worker. */
static void what_waits_has_its_priority(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 1};
    struct knit_handle *source, *held, *filler, *handles[3 * OF_A_KIND];
    int64_t got[3 * OF_A_KIND];

    conformance_open_place(c, &wish);
    source = begin_defer(c, 2, 2);
    held = conformance_hold(c, c->k, 0, 1, true);
    /* What a daemon has given to the worker already is behind that. */
    conformance_succeeds(
        c, knit_start(c->k, NULL, &filler, &c->error, "next", "(int) -> int", (int64_t)0));
    for (int i = 0; i < 3 * OF_A_KIND; i++)
        handles[i] = begin_next(c, source, BACKGROUND - (uint32_t)(i / OF_A_KIND));
    is_pending(c, handles[0]);
    place_open_gate(c->place, 2);
    assert_true(conformance_int(c, source) == 2);
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    conformance_succeeds(c, knit_ping(c->k, &c->error, NULL));
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
    (void)conformance_int(c, filler);
    for (int i = 0; i < 3 * OF_A_KIND; i++)
        got[i] = conformance_int(c, handles[i]);
    for (int i = 0; i < 2 * OF_A_KIND; i++)
        for (int later = (i / OF_A_KIND + 1) * OF_A_KIND; later < 3 * OF_A_KIND; later++)
            if (got[i] < got[later])
                fail_msg("call %d of priority %d ran before call %d of priority %d", i,
                    BACKGROUND - i / OF_A_KIND, later, BACKGROUND - later / OF_A_KIND);
}

static void what_waits_has_its_affinity(struct conformance *c)
{
    enum { VALUES = 20, CALLS = 5 };
    static const struct place_wish wish = {.workers = 4};
    struct knit_handle *handles[CALLS][VALUES], *source;
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    uint32_t lanes[VALUES];
    unsigned seen = 0;

    conformance_open_place(c, &wish);
    source = begin_defer(c, 1, 1);
    for (int i = 0; i < CALLS; i++) {
        for (uint64_t value = 0; value < VALUES; value++) {
            const struct knit_arg args[] = {knit_pass_handle(source)};

            options.affinity = value + 1;
            handles[i][value] =
                begin_with(c, &options, "where", "(int) -> (int, int, int)", args, 1);
        }
    }
    place_open_gate(c->place, 1);
    for (int i = 0; i < CALLS; i++) {
        for (int value = 0; value < VALUES; value++) {
            const uint32_t lane = conformance_lane(c, handles[i][value]);

            assert_true(i == 0 || lane == lanes[value]);
            lanes[value] = lane;
            seen |= 1u << lane;
        }
    }
    assert_int_equal(seen, 15);
    assert_true(conformance_int(c, source) == 1);
}

/* ---- slots ---- */

/* The first call is held, and nothing of the others is anywhere but in the session. */
static void calls_that_wait_take_no_slot(struct conformance *c)
{
    enum { WAITING = 500 };
    const struct knit_open_options options = {.slots = 4, .would_block = true};
    struct knit *first = c->k;
    struct knit_handle *waiting[WAITING], *source;

    c->k = conformance_session(c, &options);
    source = begin_defer(c, 1, 1);
    for (int i = 0; i < WAITING; i++)
        waiting[i] = begin_sum(c, knit_pass_handle(source), knit_pass_int(i));
    for (int i = 0; i < 20; i++)
        conformance_serves(c);
    place_open_gate(c->place, 1);
    for (int i = WAITING - 1; i >= 0; i--)
        assert_true(conformance_int(c, waiting[i]) == i + 1);
    assert_true(conformance_int(c, source) == 1);
    counters_check_session(c->k);
    (void)knit_close(c->k);
    c->k = first;
}

/* ---- failures ---- */

/* An error that was there, and long, before its call became an argument. */
static void a_long_error_is_the_cause(struct conformance *c)
{
    static uint8_t data[5 + 100000] = {0xc6, 0, 1, 0x86, 0xa0};
    const struct knit_arg args[] = {knit_pass_int(5), knit_pass_text((struct knit_text){"no", 2}),
        knit_pass_any((struct knit_any){data, sizeof(data)})};
    struct knit_handle *source = begin_with(c, NULL, "refuse", "(int, str, any) -> nil", args, 3);
    struct knit_value cause;
    size_t len = 0;

    conformance_fails(
        c, knit_await(source, conformance_patience_ms(), &c->error), KNIT_TASK_FAILED);
    for (int i = 0; i < 2; i++) {
        struct knit_handle *late = begin_ledger(c, source);

        if (i == 1)
            source = knit_free(source);
        conformance_fails(c, knit_await(late, 0, &c->error), KNIT_DEPENDENCY);
        cause = knit_value_get(knit_read(NULL, c->error.details, c->error.details_len), "cause");
        cause = knit_value_get(knit_value_get(knit_value_at(cause, 2), "data"), "value");
        assert_non_null(knit_value_bytes(cause, &len));
        assert_int_equal(len, 100000);
        (void)knit_free(late);
    }
}

static void a_source_that_fails(struct conformance *c)
{
    struct knit_handle *held = begin_defer(c, 1, 1), *source = begin_failure(c, 5, "no such row");
    struct knit_handle *late, *later, *both;

    late = begin_ledger(c, source);
    later = begin_ledger(c, late);
    /* It does not wait for the other one. */
    both = begin_sum(c, knit_pass_handle(held), knit_pass_handle(source));
    conformance_fails(c, knit_await(both, conformance_patience_ms(), &c->error), KNIT_DEPENDENCY);
    assert_non_null(strstr(c->error.message, "no such row"));
    assert_non_null(strstr(c->error.message, "argument 2"));
    (void)knit_free(both);
    has_dependency(c, later, KNIT_TASK_FAILED);
    has_dependency(c, late, KNIT_TASK_FAILED);
    /* Known by now. */
    has_dependency(c, begin_ledger(c, source), KNIT_TASK_FAILED);
    conformance_fails(c, knit_await(source, 0, &c->error), KNIT_TASK_FAILED);
    (void)knit_free(source);
    place_open_gate(c->place, 1);
    assert_true(conformance_int(c, held) == 1);
    for (uint32_t id = 2; id < 10; id++)
        assert_int_equal(place_ran(c->place, id), 0);
    a_long_error_is_the_cause(c);
}

static void a_source_that_is_cancelled(struct conformance *c)
{
    struct knit_handle *source = begin_defer(c, 1, 1), *other = begin_defer(c, 2, 2);
    struct knit_handle *sum = begin_ledger(c, source), *sums;

    knit_cancel(source);
    has_dependency(c, sum, KNIT_CANCELLED);
    (void)knit_free(source);
    /* What is done to a call that waits does nothing to what it waits for. */
    sum = begin_ledger(c, other);
    sums = begin_ledger(c, sum);
    knit_cancel(sum);
    conformance_fails(c, knit_await(sum, 0, &c->error), KNIT_CANCELLED);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    (void)knit_free(sum);
    has_dependency(c, sums, KNIT_CANCELLED);
    sum = begin_ledger(c, other);
    knit_abort(sum, "not needed");
    conformance_fails(c, knit_await(sum, 0, &c->error), KNIT_CANCELLED);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    assert_string_equal(c->error.message, "not needed");
    (void)knit_free(sum);
    (void)knit_free(begin_ledger(c, other));
    place_open_gate(c->place, 2);
    assert_true(conformance_int(c, other) == 2);
}

/* The result is right for one parameter and not for the other. */
static void a_result_of_the_wrong_type(struct conformance *c)
{
    struct knit_handle *source = begin_sum(c, knit_pass_int(1), knit_pass_int(2));
    struct knit_arg args[] = {knit_pass_handle(source)};
    struct knit_handle *handle = begin_with(c, NULL, "echo_str", "(str) -> str", args, 1);

    conformance_fails(
        c, knit_await(handle, conformance_patience_ms(), &c->error), KNIT_BAD_ARGUMENT);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    (void)knit_free(handle);
    assert_true(conformance_int(c, source) == 3);
}

static void handles_that_are_no_arguments(struct conformance *c)
{
    struct knit *other = conformance_session(c, NULL);
    struct knit_prepared *prepared = NULL;
    struct knit_handle *foreign = NULL, *handle = NULL;
    struct knit_arg args[2] = {knit_pass_int(1)};

    conformance_succeeds(c, knit_start(other, NULL, &foreign, &c->error, "add", "(int, int) -> int",
                                (int64_t)1, (int64_t)2));
    conformance_succeeds(c, knit_prepare(c->k, &c->error, "add", "(int, int) -> int", &prepared));
    for (int i = 0; i < 2; i++) {
        args[1] = knit_pass_handle(i == 0 ? foreign : NULL);
        conformance_fails(
            c, knit_start_args(prepared, NULL, &handle, &c->error, args, 2), KNIT_BAD_ARGUMENT);
        assert_non_null(strstr(c->error.message, "argument 2"));
        assert_null(handle);
        conformance_fails(
            c, knit_call_args(prepared, NULL, &c->error, args, 2, NULL, 0), KNIT_BAD_ARGUMENT);
    }
    knit_prepared_free(prepared);
    assert_true(conformance_int(c, foreign) == 3);
    (void)knit_close(other);
}

/* ---- time ---- */

static void waiting_for_an_argument_counts(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    const struct knit_on_timeout late = {.value = "\x2a", .value_len = 1};
    struct knit_handle *source = begin_defer(c, 1, 1), *handle;
    struct knit_arg args[] = {knit_pass_handle(source)};

    for (int i = 0; i < 2; i++) {
        *(i == 0 ? &options.timeout_ms : &options.queue_ms) = 20;
        handle = begin_with(c, &options, "ledger", "(int) -> int", args, 1);
        conformance_fails(
            c, knit_await(handle, conformance_patience_ms(), &c->error), KNIT_TIMEOUT);
        assert_int_equal(c->error.started, KNIT_STARTED_NO);
        (void)knit_free(handle);
        options.timeout_ms = -1;
    }
    options.queue_ms = 0;
    handle = begin_with(c, &options, "ledger", "(int) -> int", args, 1);
    conformance_fails(c, knit_await(handle, 0, &c->error), KNIT_OVERLOADED);
    (void)knit_free(handle);
    options = (struct knit_call_options)KNIT_CALL_OPTIONS_INIT;
    options.timeout_ms = 20;
    options.on_timeout = &late;
    handle = begin_with(c, &options, "ledger", "(int) -> int", args, 1);
    assert_true(conformance_int(c, handle) == 42);
    is_pending(c, source);
    /* In time. */
    options.timeout_ms = conformance_patience_ms();
    options.output = c->distance != THREADS;
    options.queue_ms = conformance_patience_ms();
    handle = begin_with(c, &options, "echo_int", "(int) -> int", args, 1);
    place_open_gate(c->place, 1);
    assert_true(conformance_int(c, handle) == 1);
    assert_true(conformance_int(c, source) == 1);
}

/* ---- ends ---- */

static void handles_that_are_freed(struct conformance *c)
{
    struct knit_handle *source = begin_defer(c, 1, 1), *sum, *other = begin_defer(c, 2, 2);

    sum = begin_sum(c, knit_pass_handle(source), knit_pass_int(1));
    for (int i = 0; i < 1000; i++) {
        struct knit_handle *next = begin_sum(c, knit_pass_handle(sum), knit_pass_int(1));

        (void)knit_free(sum);
        sum = next;
    }
    (void)knit_free(source);
    place_open_gate(c->place, 1);
    assert_true(conformance_int(c, sum) == 1002);
    /* All of these are waited for by nobody in the end. */
    for (int i = 0; i < 1000; i++) {
        struct knit_handle *next = begin_ledger(c, other);

        (void)knit_free(other);
        other = next;
    }
    (void)knit_free(other);
    counters_check_session(c->k);
    assert_int_equal(place_ran(c->place, 0), 0);
}

/* One that was sent with a reference is lost with the connection as its source is. */
static void note_end(struct knit_handle *handle, void *user)
{
    const int code = knit_await(handle, 0, NULL);
    int *ends = user;

    assert_true(code == KNIT_DEPENDENCY || code == KNIT_DISCONNECTED);
    ++*ends;
    (void)knit_free(handle);
}

static void a_session_that_closes(struct conformance *c)
{
    struct knit *first = c->k;
    struct knit_handle *source, *last;
    int ends = 0;

    c->k = conformance_session(c, NULL);
    source = begin_defer(c, 1, 1);
    for (int i = 0; i < 20; i++) {
        last = begin_ledger(c, source);
        knit_on_done(last, note_end, &ends);
        (void)begin_ledger(c, last);
    }
    (void)knit_close(c->k);
    c->k = first;
    assert_int_equal(ends, 20);
    conformance_serves(c);
}

/* Nobody awaits anything: the session's descriptor says when there is something to do. */
static void an_event_loop(struct conformance *c)
{
    struct knit_handle *source = begin_defer(c, 1, 1), *last = source, *next;
    struct pollfd poll_fd = {.fd = knit_fd(c->k), .events = POLLIN};

    for (int i = 0; i < 20; i++) {
        next = begin_sum(c, knit_pass_handle(last), knit_pass_int(1));
        (void)knit_free(last);
        last = next;
    }
    is_pending(c, last);
    place_open_gate(c->place, 1);
    while (knit_await(last, 0, &c->error) == KNIT_PENDING) {
        assert_int_equal(poll(&poll_fd, 1, (int)conformance_patience_ms()), 1);
        conformance_succeeds(c, knit_dispatch(c->k, &c->error));
    }
    assert_true(conformance_int(c, last) == 21);
}

/* ---- graphs ---- */

struct node {
    struct knit_handle *handle;
    int64_t value;
    bool fails, is_freed;
};

/* What became of it is what its arguments say. */
static void is_as_foreseen(struct conformance *c, struct node *node)
{
    if (node->is_freed)
        return;
    if (!node->fails) {
        assert_true(conformance_int(c, node->handle) == node->value);
        return;
    }
    assert_int_not_equal(knit_await(node->handle, conformance_patience_ms(), &c->error), KNIT_OK);
    assert_true(c->error.code == KNIT_TASK_FAILED ||
                (c->error.code == KNIT_DEPENDENCY && cause_of(&c->error) == KNIT_TASK_FAILED));
    (void)knit_free(node->handle);
}

static void begin_node(struct conformance *c, struct node *nodes, uint32_t at)
{
    struct node *node = &nodes[at];
    struct knit_arg args[2];

    *node = (struct node){.value = 0};
    if (knit_random_chance(&c->random, 12)) {
        node->handle = begin_failure(c, 1, "it was to fail");
        node->fails = true;
        return;
    }
    for (int i = 0; i < 2; i++) {
        const uint32_t other = (uint32_t)knit_random_below(&c->random, at + 1);

        if (other == at || nodes[other].is_freed) {
            args[i] = knit_pass_int(at);
            node->value += at;
            continue;
        }
        args[i] = knit_pass_handle(nodes[other].handle);
        node->value = (int64_t)((uint64_t)node->value + (uint64_t)nodes[other].value);
        node->fails |= nodes[other].fails;
    }
    /* Sums stay small. */
    if (node->value > INT32_MAX) {
        args[0] = args[1] = knit_pass_int(1);
        node->value = 2;
        node->fails = false;
    }
    node->handle = begin_sum(c, args[0], args[1]);
}

static void random_graphs(struct conformance *c)
{
    enum { NODES = 200, ROUNDS = 10 };
    static struct node nodes[NODES];

    for (int round = 0; round < ROUNDS; round++) {
        for (uint32_t i = 0; i < NODES; i++) {
            const uint32_t other = (uint32_t)knit_random_below(&c->random, i + 1);

            begin_node(c, nodes, i);
            if (knit_random_chance(&c->random, 6) && !nodes[other].is_freed) {
                (void)knit_free(nodes[other].handle);
                nodes[other].is_freed = true;
            }
            if (knit_random_chance(&c->random, 20))
                (void)knit_dispatch(c->k, &c->error);
        }
        for (uint32_t i = 0; i < NODES; i++)
            is_as_foreseen(c, &nodes[round % 2 == 0 ? i : NODES - 1 - i]);
        counters_check_session(c->k);
    }
}

static const struct conformance_case cases[] = {
    {"E49", "time goes on while a call waits for an argument, and it never starts then",
        waiting_for_an_argument_counts, 0, 0, 0},
    {"F55a", "a call waits for the result that is its argument, and gets it",
        a_result_that_comes_later, 0, 0, 0},
    {"F55b", "results of every size are arguments, and arrays of numbers lie aligned",
        results_of_every_size, 0, 0, 0},
    {"F55c", "a source that fails ends its dependents in DEPENDENCY with the cause, unrun",
        a_source_that_fails, 0, 0, 0},
    {"F55d", "a source that is cancelled does so too; what waits is cancelled for itself alone",
        a_source_that_is_cancelled, 0, 0, 0},
    {"F55e", "a result of the wrong type is a bad argument", a_result_of_the_wrong_type, 0, 0, 0},
    {"F55f", "a declaration's parameters take handles", handles_in_a_declaration, 0, 0, 0},
    {"F56", "96 arguments come in reverse order", arguments_in_reverse_order, 0, 0, 0},
    {"F57", "a chain of 16 is started in one burst", a_chain_in_one_burst, 0, 0, 0},
    {"F57b", "over a connection a chain waits in the daemon, whole",
        a_chain_that_waits_in_the_daemon, 0, 0, 0},
    {"F57c", "calls that waited for an argument have their priorities", what_waits_has_its_priority,
        0, 0, 0},
    {"F57d", "calls that waited for an argument have their affinities", what_waits_has_its_affinity,
        0, 0, 0},
    {"F58", "a handle of another session, or none, is no argument", handles_that_are_no_arguments,
        0, 0, 0},
    {"F58a", "500 calls that wait take none of 4 slots", calls_that_wait_take_no_slot, 0, 0, 0},
    {"F59", "a session that closes while calls wait leaves nothing", a_session_that_closes, 0, 0,
        0},
    {"F59a", "a source that is freed lives for as long as its result is needed",
        handles_that_are_freed, 0, 0, 0},
    {"F59b", "in an event loop a chain goes on by its descriptor alone", an_event_loop, 0, 0, 0},
    {"F59c", "random graphs of calls end as foreseen", random_graphs, 0, 0, 0},
};

const struct conformance_section conformance_promises =
    CONFORMANCE_SECTION("arguments that are other calls", cases);
