/* SPDX-License-Identifier: Apache-2.0 */
/* Many calls at once: slots that are used again, room that is used up, outcomes in any order. */
#include "tests/conformance/conformance.h"

#include "tests/conformance/counters.h"

static const char ints[] = "(int, int) -> int";

static void hundred_at_once(struct conformance *c)
{
    enum { ROUNDS = 80, CALLS = 100 };
    struct knit_handle *handles[CALLS];

    for (int64_t round = 0; round < ROUNDS; round++) {
        for (int64_t i = 0; i < CALLS; i++)
            conformance_succeeds(
                c, knit_start(c->k, NULL, &handles[i], &c->error, "add", ints, round, i));
        conformance_succeeds(c, knit_flush(c->k, &c->error));
        for (int64_t i = 0; i < CALLS; i++)
            assert_true(conformance_int(c, handles[i]) == round + i);
    }
}

/* Starts calls that wait at a gate until there is no room for one more; how many. */
static int fill_slots(struct conformance *c, struct knit *k, struct knit_handle **handles, int max)
{
    int count = 0, code;

    while ((code = knit_start(k, NULL, &handles[count], &c->error, "hold",
                "(int, int, bool) -> int", (int64_t)count, (int64_t)1, 1)) == KNIT_OK)
        assert_true(++count < max);
    assert_int_equal(code, KNIT_WOULD_BLOCK);
    return count;
}

static void one_more_than_slots(struct conformance *c)
{
    enum { SLOTS = 16, MAX = 64, MANY = 500 };
    struct knit_open_options options = {.slots = SLOTS, .would_block = true};
    struct knit *k = conformance_session(c, &options);
    struct knit_handle *handles[MANY];
    int count = fill_slots(c, k, handles, MAX);

    assert_true(count >= SLOTS);
    place_open_gate(c->place, 1);
    /* Collecting one makes room for one. */
    (void)conformance_int(c, handles[0]);
    conformance_succeeds(
        c, knit_start(k, NULL, &handles[0], &c->error, "add", ints, (int64_t)0, (int64_t)7));
    for (int i = 1; i < count; i++)
        (void)conformance_int(c, handles[i]);
    assert_true(conformance_int(c, handles[0]) == 7);
    for (int i = 0; i < count; i++)
        assert_int_equal(place_ran(c->place, (uint32_t)i), 1);
    counters_check_session(k);
    (void)knit_close(k);

    /* A session that may wait does, and no outcome is lost of those that nobody has read. */
    options.would_block = false;
    k = conformance_session(c, &options);
    for (int64_t i = 0; i < MANY; i++)
        conformance_succeeds(
            c, knit_start(k, NULL, &handles[i], &c->error, "add", ints, i, (int64_t)1));
    for (int64_t i = 0; i < MANY; i++)
        assert_true(conformance_int(c, handles[i]) == i + 1);
    counters_check_session(k);
    (void)knit_close(k);
}

static void count_drain(struct knit *k, void *user)
{
    (void)k;
    ++*(int *)user;
}

static bool is_told(struct conformance *c, const int *drains)
{
    return knit_dispatch(c->k, &c->error) != KNIT_OK || *drains > 0;
}

static void a_limit_of_the_calls_own(struct conformance *c)
{
    enum { LIMIT = 8 };
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handles[LIMIT];
    int drains = 0;

    knit_on_drain(c->k, count_drain, &drains);
    options.queue_max = LIMIT;
    for (int64_t i = 0; i < LIMIT; i++)
        conformance_succeeds(c, knit_start(c->k, &options, &handles[i], &c->error, "hold",
                                    "(int, int, bool) -> int", i, (int64_t)1, 1));
    for (int i = 0; i < 2; i++) {
        conformance_fails(c,
            knit_call_with(c->k, &options, &c->error, "ledger", "(int)", (int64_t)10),
            KNIT_OVERLOADED);
        assert_int_equal(c->error.started, KNIT_STARTED_NO);
        assert_true(c->error.retryable && c->error.retry_after_ms > 0);
        assert_true(c->error.limit == LIMIT);
    }
    conformance_succeeds(c, knit_dispatch(c->k, &c->error));
    assert_int_equal(drains, 0);
    place_open_gate(c->place, 1);
    assert_true(KNIT_WAIT_UNTIL(is_told(c, &drains), PLACE_MS));
    for (int i = 0; i < LIMIT; i++)
        (void)conformance_int(c, handles[i]);
    conformance_succeeds(
        c, knit_call_with(c->k, &options, &c->error, "ledger", "(int)", (int64_t)11));
    conformance_succeeds(c, knit_dispatch(c->k, &c->error));
    assert_int_equal(drains, 1);
    assert_int_equal(place_ran(c->place, 10), 0);
    knit_on_drain(c->k, NULL, NULL);
}

static void rings_that_wrap_around(struct conformance *c)
{
    enum { SLOTS = 16, BATCH = 13, ROUNDS = 1500 };
    const struct knit_open_options options = {.slots = SLOTS};
    struct knit *k = conformance_session(c, &options);
    struct knit_handle *handles[BATCH];

    for (int64_t round = 0; round < ROUNDS; round++) {
        for (int64_t i = 0; i < BATCH; i++)
            conformance_succeeds(
                c, knit_start(k, NULL, &handles[i], &c->error, "add", ints, round, i));
        for (int64_t i = 0; i < BATCH; i++)
            assert_true(conformance_int(c, handles[i]) == round + i);
    }
    counters_check_session(k);
    (void)knit_close(k);
}

/* More results than their arena holds, of a caller that reads none of them. */
static void results_that_fill_the_arena(struct conformance *c)
{
    enum { CALLS = 40, BYTES = 1 << 20 };
    struct knit *other = conformance_session(c, NULL);
    struct knit_handle *handles[CALLS];
    int64_t sum;

    for (int64_t i = 0; i < CALLS; i++)
        conformance_succeeds(c, knit_start(c->k, NULL, &handles[i], &c->error, "large",
                                    "(int) -> bin", (int64_t)BYTES - i));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    for (int64_t i = 0; i < 200; i++) {
        conformance_succeeds(c, knit_call(other, &c->error, "add", ints, i, i, &sum));
        assert_true(sum == 2 * i);
    }
    for (int64_t i = 0; i < CALLS; i++) {
        const uint8_t *got = conformance_bytes(c, handles[i], (size_t)(BYTES - i));

        for (size_t k = 0; k < (size_t)(BYTES - i); k += 997)
            assert_true(got[k] == (uint8_t)(k * 7));
    }
    for (int i = 0; i < CALLS; i++)
        (void)knit_free(handles[i]);
    counters_check_session(other);
    (void)knit_close(other);
}

/* Whether there is room for one more; a session that would block has to be told to look. */
static bool has_started(
    struct conformance *c, struct knit *k, const void *bytes, size_t len, struct knit_handle **ret)
{
    int code = knit_start(k, NULL, ret, &c->error, "echo", "(bin) -> bin", bytes, len);

    if (code == KNIT_WOULD_BLOCK)
        return knit_dispatch(k, &c->error) != KNIT_OK;
    conformance_succeeds(c, code);
    return true;
}

/* Arguments wait for room: with every worker held, some calls are started and then none. */
static void arguments_that_fill_the_arena(struct conformance *c)
{
    enum { MAX = 64, BYTES = 1 << 20 };
    const struct knit_open_options options = {
        .would_block = true, .slots = MAX, .arena_bytes = 16 << 20};
    struct knit *k = conformance_session(c, &options);
    struct knit_handle *held[2], *handles[MAX];
    uint8_t *bytes = calloc(1, BYTES);
    int count = 0, code = KNIT_OK;

    assert_non_null(bytes);
    for (uint32_t i = 0; i < 2; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    while (count < MAX - 1 && code == KNIT_OK) {
        memset(bytes, count, BYTES);
        code = knit_start(
            k, NULL, &handles[count], &c->error, "echo", "(bin) -> bin", bytes, (size_t)BYTES);
        count += code == KNIT_OK;
    }
    assert_int_equal(code, KNIT_WOULD_BLOCK);
    assert_true(count >= 3);
    place_open_gate(c->place, 1);
    for (int i = 0; i < count; i++) {
        const uint8_t *got = conformance_bytes(c, handles[i], BYTES);

        assert_true(got[0] == (uint8_t)i && got[BYTES - 1] == (uint8_t)i);
        (void)knit_free(handles[i]);
        /* There is room again. */
        if (i == 0)
            assert_true(KNIT_WAIT_UNTIL(has_started(c, k, bytes, BYTES, &handles[0]), PLACE_MS));
    }
    conformance_succeeds(c, knit_await(handles[0], conformance_patience_ms(), &c->error));
    (void)knit_free(handles[0]);
    for (int i = 0; i < 2; i++)
        (void)conformance_int(c, held[i]);
    free(bytes);
    counters_check_session(k);
    (void)knit_close(k);
}

static void replies_that_nobody_waits_for(struct conformance *c)
{
    struct knit_call_options call = KNIT_CALL_OPTIONS_INIT;
    const struct knit_open_options options = {.slots = 16};
    struct knit *k = conformance_session(c, &options);
    struct knit_handle *handle = NULL;
    int64_t sum;

    for (uint32_t round = 0; round < 40; round++) {
        call.timeout_ms = 2;
        conformance_succeeds(c, knit_start(k, &call, &handle, &c->error, "burn",
                                    "(int, bool) -> int", (int64_t)4, round % 2 == 0));
        if (round % 3 == 0) {
            (void)knit_free(handle); /* given up at once */
        } else {
            int code = knit_await(handle, conformance_patience_ms(), &c->error);

            assert_true(code == KNIT_TIMEOUT || code == KNIT_OK);
            (void)knit_free(handle);
        }
        conformance_succeeds(
            c, knit_call(k, &c->error, "add", ints, (int64_t)round, (int64_t)1, &sum));
        assert_true(sum == (int64_t)round + 1);
    }
    counters_check_session(k);
    (void)knit_close(k);
}

static void outcomes_out_of_order(struct conformance *c)
{
    enum { DEPTH = 32, ROUNDS = 20 };
    struct knit_handle *handles[DEPTH];

    for (int round = 0; round < ROUNDS; round++) {
        for (int64_t i = 0; i < DEPTH; i++)
            conformance_succeeds(
                c, knit_start(c->k, NULL, &handles[i], &c->error, "carry", "(int, int, bin) -> bin",
                       i, (int64_t)knit_random_below(&c->random, 300), &i, sizeof(i)));
        for (int64_t i = DEPTH; i-- > 0;) {
            assert_memory_equal(conformance_bytes(c, handles[i], sizeof(i)), &i, sizeof(i));
            (void)knit_free(handles[i]);
        }
    }
}

static const struct conformance_case cases[] = {
    {"B18", "a hundred calls at once, eighty times, all settle", hundred_at_once, 0, 0, 0},
    {"B19", "with all slots taken a caller waits, or is told that it would", one_more_than_slots, 0,
        0, 0},
    {"B20", "20,000 calls over 16 slots each get their own outcome", rings_that_wrap_around, 0, 0,
        0},
    {"B21", "results that find no room wait for it, and other sessions are not affected",
        results_that_fill_the_arena, 0, 0, 0},
    {"B22", "arguments that find no room wait for it, and go on after a release",
        arguments_that_fill_the_arena, 0, 0, 0},
    {"B23", "a reply that nobody waits for is dropped, and its slot is used again",
        replies_that_nobody_waits_for, 0, 0, 0},
    {"B24", "a call beyond its own limit is refused at once, and room is told once",
        a_limit_of_the_calls_own, 0, 0, 0},
    {"B25", "32 calls in flight get their own outcomes in whatever order they end",
        outcomes_out_of_order, 0, 0, 0},
};

const struct conformance_section conformance_slots =
    CONFORMANCE_SECTION("slots, batches, back-pressure", cases);
