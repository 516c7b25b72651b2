/* SPDX-License-Identifier: Apache-2.0 */
/* Many calls as one: waited for together, taken as they finish, freed at once. */
#include "tests/conformance/conformance.h"

#include <knitting/set.h>

#include "tests/conformance/counters.h"

static const char ints[] = "(int, int) -> int";

static struct knit_set *new_set(struct conformance *c)
{
    struct knit_set *set = NULL;

    conformance_succeeds(c, knit_set_new(c->k, &c->error, &set));
    assert_int_equal(knit_set_count(set), 0);
    return set;
}

/* Adds add(a, b), with the pointer as its user. */
static void add_sum(struct conformance *c, struct knit_set *set, int64_t a, int64_t b, void *user)
{
    struct knit_handle *handle = NULL;

    conformance_succeeds(c, knit_start(c->k, NULL, &handle, &c->error, "add", ints, a, b));
    conformance_succeeds(c, knit_set_add(set, handle, user, &c->error));
}

static struct knit_handle *next(struct conformance *c, struct knit_set *set, void **ret_user)
{
    struct knit_handle *handle = NULL;

    conformance_succeeds(
        c, knit_set_next(set, conformance_patience_ms(), &c->error, &handle, ret_user));
    return handle;
}

static void all_of_a_set(struct conformance *c)
{
    enum { ROUNDS = 20, CALLS = 300 };
    static int64_t numbers[CALLS];
    struct knit_set *set = new_set(c);

    for (int64_t round = 0; round < ROUNDS; round++) {
        int64_t total = 0;

        for (int64_t i = 0; i < CALLS; i++) {
            numbers[i] = -1;
            add_sum(c, set, round, i, &numbers[i]);
        }
        conformance_succeeds(c, knit_set_flush(set, &c->error));
        assert_int_equal(knit_set_count(set), CALLS);
        if (round % 2 == 0)
            conformance_succeeds(
                c, knit_set_wait(set, KNIT_SET_ALL, conformance_patience_ms(), &c->error));
        while (knit_set_count(set) > 0) {
            void *user = NULL;
            struct knit_handle *handle = next(c, set, &user);

            conformance_succeeds(c, knit_results(handle, &c->error, (int64_t *)user));
            (void)knit_free(handle);
        }
        for (int64_t i = 0; i < CALLS; i++) {
            assert_true(numbers[i] == round + i);
            total += numbers[i];
        }
        assert_true(total == CALLS * round + CALLS * (CALLS - 1) / 2);
    }
    assert_int_equal(knit_set_wait(set, 1, 0, &c->error), KNIT_OK);
    {
        struct knit_handle *none = NULL;

        assert_int_equal(knit_set_next(set, -1, &c->error, &none, NULL), KNIT_PENDING);
        assert_null(none);
    }
    (void)knit_set_free(set);
}

/* The one that was started first is held at a gate. */
static void any_of_a_set(struct conformance *c)
{
    enum { CALLS = 40 };
    struct knit_set *set = new_set(c);
    struct knit_handle *held = conformance_hold(c, c->k, 0, 1, true), *handle = NULL;
    void *user = NULL;

    conformance_succeeds(c, knit_set_add(set, held, &held, &c->error));
    assert_int_equal(knit_set_next(set, 0, &c->error, &handle, NULL), KNIT_PENDING);
    assert_int_equal(knit_set_wait(set, 1, 5, &c->error), KNIT_PENDING);
    for (int64_t i = 0; i < CALLS; i++)
        add_sum(c, set, i, 1, NULL);
    conformance_succeeds(c, knit_set_wait(set, CALLS / 2, conformance_patience_ms(), &c->error));
    for (int i = 0; i < CALLS; i++) {
        int64_t sum = 0;

        handle = next(c, set, &user);
        assert_null(user);
        conformance_succeeds(c, knit_results(handle, &c->error, &sum));
        assert_true(sum >= 1 && sum <= CALLS);
        (void)knit_free(handle);
    }
    assert_int_equal(knit_set_count(set), 1);
    assert_int_equal(knit_set_wait(set, KNIT_SET_ALL, 5, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    handle = next(c, set, &user);
    assert_true(handle == held && user == &held);
    (void)conformance_int(c, handle);
    (void)knit_set_free(set);
}

static void outcomes_of_every_kind(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_set *set = new_set(c);
    int expected[] = {KNIT_OK, KNIT_TASK_FAILED, KNIT_TIMEOUT, KNIT_CANCELLED, KNIT_OK};
    struct knit_handle *handle = NULL, *cancelled = NULL;
    static uint8_t bytes[50000];

    add_sum(c, set, 1, 2, &expected[0]);
    add_sum(c, set, INT64_MAX, 1, &expected[1]);
    options.timeout_ms = 20;
    conformance_succeeds(c, knit_start(c->k, &options, &handle, &c->error, "obey", "()"));
    conformance_succeeds(c, knit_set_add(set, handle, &expected[2], &c->error));
    conformance_succeeds(c, knit_start(c->k, NULL, &cancelled, &c->error, "obey", "()"));
    conformance_succeeds(c, knit_set_add(set, cancelled, &expected[3], &c->error));
    conformance_succeeds(c,
        knit_start(c->k, NULL, &handle, &c->error, "echo", "(bin) -> bin", bytes, sizeof(bytes)));
    /* One that is done before it is added. */
    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    conformance_succeeds(c, knit_set_add(set, handle, &expected[4], &c->error));
    knit_cancel(cancelled);
    conformance_succeeds(c, knit_set_wait(set, KNIT_SET_ALL, conformance_patience_ms(), &c->error));
    while (knit_set_count(set) > 0) {
        void *user = NULL;

        handle = next(c, set, &user);
        assert_int_equal(knit_await(handle, 0, &c->error), *(int *)user);
        *(int *)user = -1;
        (void)knit_free(handle);
    }
    for (size_t i = 0; i < sizeof(expected) / sizeof(expected[0]); i++)
        assert_int_equal(expected[i], -1);
    (void)knit_set_free(set);
}

static void on_done(struct knit_handle *handle, void *user)
{
    struct knit_set *set = user;
    struct knit_handle *other;

    (void)handle;
    assert_int_equal(knit_set_next(set, 0, NULL, &other, NULL), KNIT_PENDING);
    assert_int_equal(knit_set_next(set, 5, NULL, &other, NULL), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_set_wait(set, 1, -1, NULL), KNIT_BAD_ARGUMENT);
}

/* What a call in a set may do besides, and what it may not. */
static void calls_that_leave_a_set(struct conformance *c)
{
    struct knit_set *set = new_set(c), *other = new_set(c);
    struct knit *k = conformance_session(c, NULL);
    struct knit_handle *handle = NULL, *first = NULL, *foreign = NULL;
    int64_t sum = 0;

    conformance_succeeds(
        c, knit_start(c->k, NULL, &first, &c->error, "add", ints, (int64_t)1, (int64_t)2));
    conformance_succeeds(c, knit_set_add(set, first, NULL, &c->error));
    conformance_fails(c, knit_set_add(other, first, NULL, &c->error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "in a set already"));
    conformance_succeeds(
        c, knit_start(k, NULL, &foreign, &c->error, "add", ints, (int64_t)1, (int64_t)2));
    conformance_fails(c, knit_set_add(set, foreign, NULL, &c->error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "another session"));
    (void)conformance_int(c, foreign);
    (void)knit_close(k);
    /* Awaited, it is done in its set; freed, it is not in it. */
    conformance_succeeds(c, knit_await(first, conformance_patience_ms(), &c->error));
    assert_int_equal(knit_set_count(set), 1);
    add_sum(c, set, 3, 4, NULL);
    (void)knit_free(first);
    assert_int_equal(knit_set_count(set), 1);
    handle = next(c, set, NULL);
    conformance_succeeds(c, knit_results(handle, &c->error, &sum));
    assert_true(sum == 7);
    (void)knit_free(handle);
    /* With a callback it leaves, and with one it does not come in. */
    first = conformance_hold(c, c->k, 0, 1, true);
    conformance_succeeds(c, knit_set_add(set, first, NULL, &c->error));
    conformance_succeeds(
        c, knit_set_add(other, conformance_hold(c, c->k, 1, 2, true), NULL, &c->error));
    knit_on_done(first, on_done, other);
    assert_int_equal(knit_set_count(set), 0);
    conformance_fails(c, knit_set_add(set, first, NULL, &c->error), KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "has a callback"));
    place_open_gate(c->place, 1);
    (void)conformance_int(c, first);
    place_open_gate(c->place, 2);
    handle = next(c, other, NULL);
    (void)conformance_int(c, handle);
    (void)knit_set_free(set);
    (void)knit_set_free(other);
}

/* Freed with calls that wait, run and are done; and left to knit_close(). */
static void sets_that_are_freed(struct conformance *c)
{
    enum { CALLS = 200 };

    for (int round = 0; round < 20; round++) {
        struct knit_set *set = new_set(c);
        struct knit_handle *handle = NULL;

        for (int64_t i = 0; i < CALLS; i++)
            add_sum(c, set, i, i, NULL);
        conformance_succeeds(c, knit_start(c->k, NULL, &handle, &c->error, "obey", "()"));
        conformance_succeeds(c, knit_set_add(set, handle, NULL, &c->error));
        if (round % 3 == 1)
            conformance_succeeds(c, knit_set_flush(set, &c->error));
        if (round % 3 == 2)
            conformance_succeeds(
                c, knit_set_wait(set, CALLS / 3, conformance_patience_ms(), &c->error));
        assert_null(knit_set_free(set));
    }
    counters_check_session(c->k);
    {
        struct knit *k = conformance_session(c, NULL);
        struct knit *usual = c->k;
        struct knit_set *set;

        c->k = k;
        set = new_set(c);
        for (int64_t i = 0; i < CALLS; i++)
            add_sum(c, set, i, i, NULL);
        c->k = usual;
        (void)knit_close(k);
    }
    assert_null(knit_set_free(NULL));
}

/* Calls come and go in a set that is never empty: its places are used again. */
static void a_set_that_never_empties(struct conformance *c)
{
    enum { WINDOW = 100, CALLS = 5000 };
    struct knit_set *set = new_set(c);
    int64_t total = 0, started = 0;

    for (int64_t done = 0; done < CALLS; done++) {
        struct knit_handle *handle;

        while (started < CALLS && knit_set_count(set) < WINDOW)
            add_sum(c, set, started++, 1, NULL);
        handle = next(c, set, NULL);
        total += conformance_int(c, handle);
    }
    assert_int_equal(knit_set_count(set), 0);
    assert_true(total == (int64_t)CALLS * (CALLS - 1) / 2 + CALLS);
    (void)knit_set_free(set);
}

static void free_set(struct knit_handle *handle, void *user)
{
    struct knit_set **set = user;

    (void)handle;
    assert_ptr_equal(knit_set_free(*set), *set);
    *set = NULL;
}

/* By callbacks that run while knit_set_wait() and knit_set_next() wait for it. */
static void a_set_that_callbacks_free(struct conformance *c)
{
    struct knit_handle *handle = NULL;
    struct knit_set *set = new_set(c), *freed;

    for (int i = 0; i < 2; i++) {
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handle, &c->error, "add", ints, INT64_C(1), INT64_C(2)));
        conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
        add_sum(c, set, 3, 4, NULL);
        freed = set;
        knit_on_done(handle, free_set, &freed);
        if (i == 0)
            conformance_succeeds(
                c, knit_set_wait(set, KNIT_SET_ALL, conformance_patience_ms(), &c->error));
        (void)conformance_int(c, next(c, set, NULL));
        assert_null(freed);
        assert_int_equal(knit_set_count(set), 0);
        (void)knit_free(handle);
    }
    assert_null(knit_set_free(set));
}

static const struct conformance_case cases[] = {
    {"L1", "all calls of a set end, each with what it was added with", all_of_a_set, 0, 0, 0},
    {"L2", "a set gives the calls that are done, and the one that is not at last", any_of_a_set, 0,
        0, 0},
    {"L3", "a set holds outcomes of every kind, each the call's own", outcomes_of_every_kind, 0, 0,
        0},
    {"L4", "a call leaves its set when it is freed or gets a callback", calls_that_leave_a_set, 0,
        0, 0},
    {"L5", "a set that is freed cancels and frees its calls", sets_that_are_freed, 0, 0, 0},
    {"L6", "5,000 calls pass through a set that holds a hundred", a_set_that_never_empties, 0, 0,
        0},
    {"L7", "a set that is waited for is not freed by a callback", a_set_that_callbacks_free, 0, 0,
        0},
};

const struct conformance_section conformance_sets = CONFORMANCE_SECTION("sets", cases);
