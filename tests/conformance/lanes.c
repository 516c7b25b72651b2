/* SPDX-License-Identifier: Apache-2.0 */
/* Who runs what: each call once, by whoever is free, in turn. */
#include "tests/conformance/conformance.h"

#include "tests/conformance/counters.h"
#include "tests/conformance/numbered.h"

static void each_call_once(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 4};
    enum { CALLS = 500 };
    struct knit_handle *handles[CALLS];

    conformance_open_place(c, &wish);
    for (int64_t i = 0; i < CALLS; i++)
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "ledger", "(int) -> int", i));
    for (int i = 0; i < CALLS; i++)
        assert_true(conformance_int(c, handles[i]) != 0);
    for (uint32_t i = 0; i < CALLS; i++)
        assert_int_equal(place_ran(c->place, i), 1);
}

static void one_lane_is_first_in_first_out(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 1};
    enum { CALLS = 300 };
    struct knit_handle *handles[CALLS];

    conformance_open_place(c, &wish);
    for (int i = 0; i < CALLS; i++) {
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "next", "() -> int"));
        if (i % 7 == 0)
            conformance_succeeds(c, knit_flush(c->k, &c->error));
    }
    for (int i = 0; i < CALLS; i++)
        assert_true(conformance_int(c, handles[i]) == i);
}

static void others_take_what_a_held_worker_has(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 4};
    enum { CALLS = 200 };
    struct knit_handle *held, *handles[CALLS];

    conformance_open_place(c, &wish);
    held = conformance_hold(c, c->k, 0, 1, true);
    for (int64_t i = 0; i < CALLS; i++)
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "ledger", "(int) -> int", i + 1));
    for (int i = 0; i < CALLS; i++)
        assert_true(conformance_int(c, handles[i]) != place_ran_in(c->place, 0));
    assert_int_equal(knit_await(held, 0, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
}

static void large_arguments_go_to_any_worker(struct conformance *c)
{
    static const struct place_wish wish = {.workers = 4};
    enum { CALLS = 64, BYTES = 200000 };
    struct knit_handle *handles[CALLS];
    uint8_t *bytes = malloc(BYTES);

    assert_non_null(bytes);
    conformance_open_place(c, &wish);
    for (int64_t i = 0; i < CALLS; i++) {
        memset(bytes, (int)i, BYTES);
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "carry", "(int, int, bin) -> bin", i,
                   (int64_t)100, bytes, (size_t)BYTES - (size_t)i));
    }
    for (int i = 0; i < CALLS; i++) {
        const uint8_t *got = conformance_bytes(c, handles[i], (size_t)(BYTES - i));

        for (size_t k = 0; k < (size_t)(BYTES - i); k += 61)
            assert_true(got[k] == (uint8_t)i);
        (void)knit_free(handles[i]);
        assert_int_equal(place_ran(c->place, (uint32_t)i), 1);
    }
    free(bytes);
}

static void a_greedy_session_leaves_others_their_share(struct conformance *c)
{
    enum { CALLS = 200 };
    struct knit *greedy = conformance_session(c, NULL);
    struct knit_handle *handles[CALLS];
    int64_t sum;

    for (int64_t i = 0; i < CALLS; i++)
        conformance_succeeds(c, knit_start(greedy, NULL, &handles[i], &c->error, "burn",
                                    "(int, bool) -> int", (int64_t)1, 0));
    conformance_succeeds(c, knit_flush(greedy, &c->error));
    for (int64_t i = 0; i < 20; i++)
        conformance_succeeds(c, knit_call(c->k, &c->error, "add", "(int, int) -> int", i, i, &sum));
    /* The other's last call is far from its turn. */
    assert_int_equal(knit_await(handles[CALLS - 1], 0, &c->error), KNIT_PENDING);
    for (int i = 0; i < CALLS; i++)
        assert_true(conformance_int(c, handles[i]) == 0);
    counters_check_session(greedy);
    (void)knit_close(greedy);
}

/* Each task answers with a name or number of its own; they stand in two modules and are declared in
 * another order than their names have. */
static void every_name_leads_to_its_task(struct conformance *c)
{
    int64_t lane, lanes, process, sum;
    const char *text;
    size_t len;

    for (int i = 0; i < 20; i++) {
        conformance_succeeds(c,
            knit_call(c->k, &c->error, "where", "() -> (int, int, int)", &lane, &lanes, &process));
        assert_true(lanes == 2 && lane >= 0 && lane < 2);
        conformance_succeeds(c,
            knit_call(c->k, &c->error, "add", "(int, int) -> int", (int64_t)i, (int64_t)1, &sum));
        assert_true(sum == i + 1);
        conformance_succeeds(c, knit_call(c->k, &c->error, "kind_of", "() -> str", &text, &len));
        assert_true(len == 8 && memcmp(text, "left out", 8) == 0);
        conformance_succeeds(
            c, knit_call(c->k, &c->error, "ledger", "(int) -> int", (int64_t)i, &process));
        assert_int_equal(place_ran(c->place, (uint32_t)i), 1);
        conformance_succeeds(
            c, knit_call(c->k, &c->error, "same", "(int) -> int", (int64_t)i, &sum));
        assert_true(sum == i);
    }
}

/* The other worker takes nothing of what waits for the held one. */
static void without_stealing_a_call_waits(struct conformance *c)
{
    static const struct place_wish wish = {.options = {"steal=off"}};
    enum { CALLS = 12 };
    struct knit_handle *held, *handles[CALLS];
    uint32_t waiting = 0;

    conformance_open_place(c, &wish);
    held = conformance_hold(c, c->k, 0, 1, true);
    for (int64_t i = 0; i < CALLS; i++)
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handles[i], &c->error, "ledger", "(int) -> int", i + 1));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    for (int i = 0; i < CALLS; i++)
        waiting += knit_await(handles[i], 20, NULL) == KNIT_PENDING;
    assert_true(waiting > 0 && waiting < CALLS);
    place_open_gate(c->place, 1);
    for (int i = 0; i < CALLS; i++)
        (void)conformance_int(c, handles[i]);
    (void)conformance_int(c, held);
}

static void too_many_tasks(struct conformance *c)
{
    char option[512];
    const struct place_wish wish = {.workers = 1, .options = {option}};
    char *said;

    assert_non_null(getenv("KNIT_NUMBERED"));
    (void)snprintf(option, sizeof(option), "module=%s/numbered_many.so", getenv("KNIT_NUMBERED"));
    said = place_refused(c->distance, &wish);
    if (strstr(said, "numbered_many.so") == NULL || strstr(said, "65537") == NULL ||
        strstr(said, "65536") == NULL)
        fail_msg("%s", said);
    free(said);
}

static void names_that_differ_in_their_last_byte(struct conformance *c)
{
    enum { TASKS = 600, STEP = 371 }; /* STEP has no divisor in common with TASKS */
    static const char *const orders[][3] = {{"0", "200", "400"}, {"400", "0", "200"}};

    for (int order = 0; order < 2; order++) {
        char options[3][512];
        const struct place_wish wish = {
            .workers = 1, .options = {options[0], options[1], options[2]}};
        struct conformance own = {.distance = c->distance};

        for (int i = 0; i < 3; i++)
            (void)snprintf(options[i], sizeof(options[i]), "module=%s/numbered_%s.so",
                getenv("KNIT_NUMBERED"), orders[order][i]);
        own.place = place_open(c->distance, &wish);
        own.k = conformance_session(&own, NULL);
        for (int i = 0; i < TASKS; i++) {
            const int number = i * STEP % TASKS;
            char name[NUMBERED_BYTES];
            int64_t got = -1;

            numbered_name(name, number);
            conformance_succeeds(&own, knit_call(own.k, &own.error, name, "() -> int", &got));
            assert_true(got == number);
        }
        (void)knit_close(own.k);
        place_close(own.place);
    }
}

/* ---- priorities and affinity ---- */

enum { OF_A_KIND = 6, URGENT = 0, NORMAL = 1, BACKGROUND = 2 };

static struct knit_handle *start_next(struct conformance *c, uint32_t priority)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;

    options.priority = priority;
    conformance_succeeds(c, knit_start(c->k, &options, &handle, &c->error, "next", "() -> int"));
    return handle;
}

/* A pool with one worker, which is held; what a daemon has given to it already is behind that. */
static struct knit_handle *hold_only_worker(struct conformance *c, struct knit_handle **ret_filler)
{
    static const struct place_wish wish = {.workers = 1};
    struct knit_handle *held;

    conformance_open_place(c, &wish);
    held = conformance_hold(c, c->k, 0, 1, true);
    *ret_filler = start_next(c, NORMAL);
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    return held;
}

/* The pool has all that was started. */
static void let_go(struct conformance *c, struct knit_handle *held, struct knit_handle *filler)
{
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    conformance_succeeds(c, knit_ping(c->k, &c->error, NULL));
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
    (void)conformance_int(c, filler);
}

static void priorities_order_what_waits(struct conformance *c)
{
    struct knit_handle *held, *filler, *handles[3 * OF_A_KIND];
    int64_t got[3 * OF_A_KIND];

    held = hold_only_worker(c, &filler);
    for (int i = 0; i < 3 * OF_A_KIND; i++)
        handles[i] = start_next(c, BACKGROUND - (uint32_t)(i / OF_A_KIND));
    let_go(c, held, filler);
    for (int i = 0; i < 3 * OF_A_KIND; i++)
        got[i] = conformance_int(c, handles[i]);
    for (int i = 0; i < 2 * OF_A_KIND; i++) {
        for (int later = (i / OF_A_KIND + 1) * OF_A_KIND; later < 3 * OF_A_KIND; later++) {
            if (got[i] < got[later])
                fail_msg("call %d of priority %d ran before call %d of priority %d", i,
                    BACKGROUND - i / OF_A_KIND, later, BACKGROUND - later / OF_A_KIND);
        }
    }
}

static void background_calls_do_not_starve(struct conformance *c)
{
    enum { CALLS = 60 };
    struct knit_handle *held, *filler, *background, *handles[CALLS];
    int64_t place;

    held = hold_only_worker(c, &filler);
    for (int i = 0; i < CALLS / 2; i++)
        handles[i] = start_next(c, URGENT);
    background = start_next(c, BACKGROUND);
    for (int i = CALLS / 2; i < CALLS; i++)
        handles[i] = start_next(c, URGENT);
    let_go(c, held, filler);
    place = conformance_int(c, background);
    /* Sixteen come first, behind what the lane had before. */
    assert_true(place >= 12 && place <= 24);
    for (int i = 0; i < CALLS; i++)
        (void)conformance_int(c, handles[i]);
}

static void other_priorities_are_refused(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    int code;

    options.priority = 3;
    code = knit_start(c->k, &options, &handle, &c->error, "next", "() -> int");
    conformance_fails(c, code, KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "priority"));
    conformance_serves(c);
}

static struct knit_handle *start_where(struct conformance *c, uint64_t affinity)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;

    options.affinity = affinity;
    conformance_succeeds(
        c, knit_start(c->k, &options, &handle, &c->error, "where", "() -> (int, int, int)"));
    return handle;
}

/* One at a time, and all at once; beginning with the largest number that there is. */
static void one_affinity_is_one_worker(struct conformance *c)
{
    enum { VALUES = 40, CALLS = 20 };
    static struct knit_handle *handles[CALLS][VALUES];
    static const struct place_wish wish = {.workers = 4};
    uint32_t lanes[VALUES];
    unsigned seen = 0;

    conformance_open_place(c, &wish);
    for (uint64_t value = 0; value < VALUES; value++) {
        lanes[value] = conformance_lane(c, start_where(c, UINT64_MAX - value));
        seen |= 1u << lanes[value];
        assert_true(conformance_lane(c, start_where(c, UINT64_MAX - value)) == lanes[value]);
    }
    assert_int_equal(seen, 15);
    for (int i = 0; i < CALLS; i++) {
        for (uint64_t value = 0; value < VALUES; value++)
            handles[i][value] = start_where(c, UINT64_MAX - value);
    }
    for (int i = 0; i < CALLS; i++) {
        for (uint64_t value = 0; value < VALUES; value++)
            assert_true(conformance_lane(c, handles[i][value]) == lanes[value]);
    }
}

static void pinned_calls_are_in_nobodys_way(struct conformance *c)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *held, *pinned;

    options.affinity = 7;
    conformance_succeeds(c, knit_start(c->k, &options, &held, &c->error, "hold",
                                "(int, int, bool) -> int", (int64_t)0, (int64_t)1, 1));
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    place_wait_for(c->place, 0);
    pinned = start_where(c, 7);
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    for (int i = 0; i < 50; i++)
        conformance_serves(c);
    assert_int_equal(knit_await(pinned, 0, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    (void)conformance_lane(c, pinned);
    (void)conformance_int(c, held);
}

static const struct conformance_case cases[] = {
    {"C26", "500 calls over four workers each run exactly once", each_call_once, 0, 0, 0},
    {"C27", "calls of one session in one lane run in their order", one_lane_is_first_in_first_out,
        0, 0, 0},
    {"C28", "with one worker held the others run everything else",
        others_take_what_a_held_worker_has, 0, 0, 0},
    {"C28b", "without stealing a call waits for the worker whose lane it is in",
        without_stealing_a_call_waits, 0, 0, 0},
    {"C27b", "of the calls that wait, urgent ones run first and background ones last",
        priorities_order_what_waits, 0, 0, 0},
    {"C27c", "a background call runs after sixteen urgent ones, however many there are",
        background_calls_do_not_starve, 0, 0, 0},
    {"C27d", "a priority above 2 is refused", other_priorities_are_refused, 0, 0, 0},
    {"K87", "calls of one affinity run in one worker, one at a time and all at once",
        one_affinity_is_one_worker, 0, 0, 0},
    {"K87b", "calls without an affinity do not wait behind those of a held worker",
        pinned_calls_are_in_nobodys_way, 0, 0, 0},
    {"C29", "large arguments reach whichever worker takes the call, and are freed once",
        large_arguments_go_to_any_worker, 0, 0, 0},
    {"C30", "65,537 tasks are refused, with the limit and the module", too_many_tasks, 0, 0, 0},
    {"C31", "each name leads to its task, in whatever order and module it was declared",
        every_name_leads_to_its_task, 0, 0, 0},
    {"C32", "a greedy session leaves a modest one its share",
        a_greedy_session_leaves_others_their_share, 0, 0, 0},
    {"K99", "600 names that differ in their last byte lead to their tasks, in any order of modules",
        names_that_differ_in_their_last_byte, 0, 0, 0},
};

const struct conformance_section conformance_lanes = CONFORMANCE_SECTION("lanes", cases);
