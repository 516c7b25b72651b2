/* SPDX-License-Identifier: Apache-2.0 */
/* Calls that are made more than once: by their callers, with a key, and by the library. The daemon
 * remembers keys, so each case has its own. */
#include "tests/conformance/conformance.h"

#include <stdio.h>
#include <string.h>

#include <knitting/args.h>
#include <knitting/set.h>

static bool is_in_house(const struct conformance *c)
{
    return (AT(c->distance) & AT_IN_HOUSE) != 0;
}

/* task: hold, with a gate, or ledger without. */
static struct knit_handle *start_keyed(struct conformance *c, struct knit *k, const char *key,
    const char *task, uint32_t id, uint32_t gate)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;
    const bool is_held = strcmp(task, "hold") == 0;

    options.key = key;
    conformance_succeeds(c,
        is_held ? knit_start(k, &options, &handle, &c->error, task, "(int, int, bool) -> int",
                      (int64_t)id, (int64_t)gate, 0)
                : knit_start(k, &options, &handle, &c->error, task, "(int) -> int", (int64_t)id));
    conformance_succeeds(c, knit_flush(k, &c->error));
    return handle;
}

/* True: a pool of this process has no keys, which it has said. */
static bool refuses_keys(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int code;

    if (!is_in_house(c))
        return false;
    options.key = "k";
    code = knit_call_with(c->k, &options, &c->error, "ledger", "(int) -> int", (int64_t)1, NULL);
    conformance_fails(c, code, KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "option key"));
    assert_int_equal(place_ran(c->place, 1), 0);
    conformance_serves(c);
    return true;
}

static void it_runs_once(struct conformance *c)
{
    struct knit *other;
    int64_t first;

    if (refuses_keys(c))
        return;
    other = conformance_session(c, NULL);
    first = conformance_int(c, start_keyed(c, c->k, "once", "ledger", 1, 0));
    for (int i = 0; i < 3; i++) {
        assert_true(conformance_int(c, start_keyed(c, c->k, "once", "ledger", 1, 0)) == first);
        assert_true(conformance_int(c, start_keyed(c, other, "once", "ledger", 1, 0)) == first);
    }
    assert_int_equal(place_ran(c->place, 1), 1);
    (void)conformance_int(c, start_keyed(c, c->k, "another", "ledger", 1, 0));
    assert_int_equal(place_ran(c->place, 1), 2);
    assert_null(knit_close(other));
}

static void calls_join_it(struct conformance *c)
{
    struct knit_handle *first, *second, *third;
    struct knit *other;
    int64_t result;

    if (refuses_keys(c))
        return;
    other = conformance_session(c, NULL);
    first = start_keyed(c, c->k, "joined", "hold", 1, 1);
    place_wait_for(c->place, 1);
    second = start_keyed(c, other, "joined", "hold", 1, 1);
    third = start_keyed(c, c->k, "joined", "hold", 1, 1);
    knit_cancel(first);
    conformance_fails(c, knit_await(first, conformance_patience_ms(), &c->error), KNIT_CANCELLED);
    assert_int_equal(c->error.started, KNIT_STARTED_UNKNOWN);
    assert_null(knit_free(first));
    place_open_gate(c->place, 1);
    result = conformance_int(c, second);
    assert_true(conformance_int(c, third) == result);
    assert_int_equal(place_ran(c->place, 1), 1);
    assert_null(knit_close(other));
}

static void it_outlives_its_session(struct conformance *c)
{
    struct knit *other;

    if (refuses_keys(c))
        return;
    other = conformance_session(c, NULL);
    (void)start_keyed(c, other, "outlived", "hold", 1, 1);
    place_wait_for(c->place, 1);
    assert_null(knit_close(other));
    place_open_gate(c->place, 1);
    (void)conformance_int(c, start_keyed(c, c->k, "outlived", "hold", 1, 1));
    assert_int_equal(place_ran(c->place, 1), 1);
}

static void another_call_is_refused(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    char long_key[66];
    int code;

    if (refuses_keys(c))
        return;
    options.key = "taken";
    (void)conformance_int(c, start_keyed(c, c->k, "taken", "ledger", 1, 0));
    code = knit_call_with(c->k, &options, &c->error, "ledger", "(int) -> int", (int64_t)2, NULL);
    conformance_fails(c, code, KNIT_DUPLICATE);
    code = knit_call_with(c->k, &options, &c->error, "add", "(int, int)", (int64_t)1, (int64_t)2);
    conformance_fails(c, code, KNIT_DUPLICATE);
    assert_int_equal(place_ran(c->place, 2), 0);
    memset(long_key, 'k', sizeof(long_key) - 1);
    long_key[sizeof(long_key) - 1] = '\0';
    for (int i = 0; i < 2; i++) {
        options.key = i == 0 ? "" : long_key;
        code =
            knit_call_with(c->k, &options, &c->error, "ledger", "(int) -> int", (int64_t)3, NULL);
        conformance_fails(c, code, KNIT_BAD_ARGUMENT);
        assert_non_null(strstr(c->error.message, "option key"));
    }
    options.key = long_key + 1;
    conformance_succeeds(
        c, knit_call_with(c->k, &options, &c->error, "ledger", "(int) -> int", (int64_t)3, NULL));
    conformance_serves(c);
}

/* By shm:// the two go different ways. */
static void it_is_waited_for_beside_others(struct conformance *c)
{
    struct knit_handle *keyed, *other, *done;
    struct knit_set *set;

    if (refuses_keys(c))
        return;
    for (int keyed_first = 0; keyed_first < 2; keyed_first++) {
        char key[8];

        (void)snprintf(key, sizeof(key), "k%d", keyed_first);
        place_forget(c->place);
        keyed = start_keyed(c, c->k, key, "hold", 1, 1);
        place_wait_for(c->place, 1);
        other = conformance_hold(c, c->k, 2, 2, false);
        conformance_succeeds(c, knit_set_new(c->k, &c->error, &set));
        conformance_succeeds(c, knit_set_add(set, keyed, NULL, &c->error));
        conformance_succeeds(c, knit_set_add(set, other, NULL, &c->error));
        for (int i = 0; i < 2; i++) {
            place_open_gate(c->place, (i == 0) == (keyed_first != 0) ? 1 : 2);
            conformance_succeeds(
                c, knit_set_next(set, conformance_patience_ms(), &c->error, &done, NULL));
            assert_ptr_equal(done, (i == 0) == (keyed_first != 0) ? keyed : other);
            (void)conformance_int(c, done);
        }
        assert_null(knit_set_free(set));
    }
}

static struct knit_handle *start_sum(struct conformance *c, struct knit_prepared *add,
    const char *key, int64_t one, struct knit_handle *other)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    const struct knit_arg args[] = {knit_pass_int(one), knit_pass_handle(other)};
    struct knit_handle *handle = NULL;
    char kept[8];

    /* What the caller passes it may write over. */
    (void)snprintf(kept, sizeof(kept), "%s", key != NULL ? key : "");
    options.key = key != NULL ? kept : NULL;
    conformance_succeeds(c, knit_start_args(add, &options, &handle, &c->error, args, 2));
    memset(kept, 'x', sizeof(kept) - 1);
    return handle;
}

static void its_result_is_an_argument(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *keyed, *sum, *last;
    struct knit_prepared *add;
    int64_t first;
    int code;

    if (refuses_keys(c))
        return;
    conformance_succeeds(c, knit_prepare(c->k, &c->error, "add", "(int, int) -> int", &add));
    keyed = start_keyed(c, c->k, "source", "hold", 1, 1);
    place_wait_for(c->place, 1);
    sum = start_sum(c, add, "sum", 1, keyed);
    last = start_sum(c, add, NULL, 1, sum);
    place_open_gate(c->place, 1);
    first = conformance_int(c, keyed);
    assert_true(conformance_int(c, last) == first + 2);
    assert_true(conformance_int(c, sum) == first + 1);
    options.key = "sum";
    code = knit_call_prepared(add, &options, &c->error, (int64_t)1, first, NULL);
    conformance_succeeds(c, code);
    code = knit_call_prepared(add, &options, &c->error, (int64_t)2, first, NULL);
    conformance_fails(c, code, KNIT_DUPLICATE);
    assert_null(knit_prepared_free(add));
}

/* ---- by the library ---- */

static struct knit *retrying_session(struct conformance *c)
{
    static const struct knit_retry_options retry = {
        .attempts = 8, .wait_ms = 20, .wait_max_ms = 2000};
    const struct knit_open_options options = {.retry = &retry};

    return conformance_session(c, &options);
}

static void a_task_that_may_run_twice(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"deaths_per_minute=0"}};
    struct knit *k;
    int64_t ran_in = 0;
    int code;

    conformance_open_place(c, &wish);
    k = retrying_session(c);
    conformance_succeeds(
        c, knit_call(k, &c->error, "die_once", "(int) -> int", (int64_t)1, &ran_in));
    assert_int_equal(place_ran(c->place, 1), 2);
    assert_true((uint32_t)ran_in == place_ran_in(c->place, 1));
    code = knit_call(k, &c->error, "die_for_good", "(int) -> int", (int64_t)2, NULL);
    conformance_fails(c, code, KNIT_WORKER_DIED);
    code = knit_call(c->k, &c->error, "die_once", "(int) -> int", (int64_t)3, NULL);
    conformance_fails(c, code, KNIT_WORKER_DIED);
    assert_int_equal(place_ran(c->place, 2), 1);
    assert_int_equal(place_ran(c->place, 3), 1);
    assert_null(knit_close(k));
}

/* The limit is the call's own, so it is the same at every distance. */
static void a_call_without_room(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit *k = retrying_session(c);
    struct knit_handle *held = conformance_hold(c, k, 1, 1, false), *handle;
    int code;

    options.queue_max = 1;
    conformance_succeeds(
        c, knit_start(k, &options, &handle, &c->error, "ledger", "(int) -> int", (int64_t)2));
    for (int i = 0; i < 3; i++)
        assert_int_equal(knit_await(handle, 60, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
    (void)conformance_int(c, handle);
    assert_int_equal(place_ran(c->place, 2), 1);
    /* Without that it ends at once. */
    held = conformance_hold(c, c->k, 3, 2, false);
    code = knit_call_with(c->k, &options, &c->error, "ledger", "(int) -> int", (int64_t)2, NULL);
    conformance_fails(c, code, KNIT_OVERLOADED);
    place_open_gate(c->place, 2);
    (void)conformance_int(c, held);
    assert_null(knit_close(k));
}

static void what_has_run(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit *k = retrying_session(c);
    int code;

    code = knit_call(k, &c->error, "ledger", "(int) -> int", (int64_t)-1, NULL);
    conformance_fails(c, code, KNIT_TASK_FAILED);
    options.timeout_ms = 50;
    code = knit_call_with(
        k, &options, &c->error, "hold", "(int, int, bool) -> int", (int64_t)1, (int64_t)1, 1, NULL);
    conformance_fails(c, code, KNIT_TIMEOUT);
    place_open_gate(c->place, 1);
    assert_true(place_ran(c->place, 1) <= 1);
    for (int64_t i = 0; i < 100; i++)
        conformance_succeeds(c, knit_call(k, &c->error, "add", "(int, int)", i, i));
    assert_null(knit_close(k));
}

static const struct conformance_case cases[] = {
    {"U1", "a call that is made again with its key gets its outcome, and runs once", it_runs_once,
        AT_IN_HOUSE, 0, 0},
    {"U2", "one that is made while it runs joins it, and who cancels leaves alone", calls_join_it,
        AT_IN_HOUSE, 0, 0},
    {"U3", "a call with a key outlives its session", it_outlives_its_session, AT_IN_HOUSE, 0, 0},
    {"U4", "another call with the key is refused, and so is a key that is too long",
        another_call_is_refused, AT_IN_HOUSE, 0, 0},
    {"U5", "a call with a key and one without are waited for together",
        it_is_waited_for_beside_others, AT_IN_HOUSE, 0, 0},
    {"U6", "the result of one is an argument of another", its_result_is_an_argument, AT_IN_HOUSE, 0,
        0},
    {"U7", "a task that may run twice is run again when its worker has died, and no other is",
        a_task_that_may_run_twice, 0, 0, AT(THREADS)},
    {"U8", "a call for which there is no room is made again until there is", a_call_without_room, 0,
        0, 0},
    {"U9", "a call that failed or whose time is over is not made again", what_has_run, 0, 0, 0},
};

const struct conformance_section conformance_keys =
    CONFORMANCE_SECTION("calls that are made again", cases);
