/* SPDX-License-Identifier: Apache-2.0 */
/* Which lane a call goes to, by each balancer, with stealing off. */
#include "tests/conformance/conformance.h"

#include <knitting/args.h>

enum { LANES = 4 };

static struct knit_handle *start_task(struct conformance *c, const char *task)
{
    struct knit_handle *handle = NULL;

    conformance_succeeds(
        c, knit_start(c->k, NULL, &handle, &c->error, task, "() -> (int, int, int)"));
    return handle;
}

static struct knit_handle *start_where(struct conformance *c)
{
    return start_task(c, "where");
}

static bool is_idle_from(struct conformance *c, uint32_t lane)
{
    for (; lane < LANES; lane++) {
        if (place_lane_stat(c->place, lane, "is_running") != 0)
            return false;
    }
    return true;
}

/* A worker has answered a call before it is idle. */
static void wait_for_idle(struct conformance *c, uint32_t lane)
{
    assert_true(KNIT_WAIT_UNTIL(is_idle_from(c, lane), PLACE_MS));
}

static void open_balanced(struct conformance *c, const char *name, uint32_t lanes)
{
    const struct place_wish wish = {
        .workers = lanes, .balancer = name, .options = {"steal=off", "threads_io=1"}};

    conformance_open_place(c, &wish);
}

static void expect_one_each(struct conformance *c)
{
    struct knit_handle *handles[LANES];
    unsigned seen = 0;

    for (int i = 0; i < LANES; i++)
        handles[i] = start_where(c);
    for (int i = 0; i < LANES; i++)
        seen |= 1u << conformance_lane(c, handles[i]);
    assert_int_equal(seen, (1u << LANES) - 1);
}

static void round_robin(struct conformance *c)
{
    open_balanced(c, "roundRobin", LANES);
    for (int round = 0; round < 10; round++)
        expect_one_each(c);
}

static void round_robin_by_its_other_name(struct conformance *c)
{
    open_balanced(c, "robinRound", LANES);
    expect_one_each(c);
}

static void no_balancer_named(struct conformance *c)
{
    open_balanced(c, NULL, LANES);
    expect_one_each(c);
}

/* Calls of another task between them do not change whose turn it is. */
static void each_task_in_turn(struct conformance *c)
{
    uint32_t first[2] = {0};

    open_balanced(c, "roundRobin", LANES);
    for (uint32_t i = 0; i < 3 * LANES; i++) {
        uint32_t lane = conformance_lane(c, start_where(c));

        first[0] = i == 0 ? lane : first[0];
        assert_int_equal(lane, (first[0] + i) % LANES);
        if (i % 2 != 0)
            continue;
        lane = conformance_lane(c, start_task(c, "where_else"));
        first[1] = i == 0 ? lane : first[1];
        assert_int_equal(lane, (first[1] + i / 2) % LANES);
    }
}

static void an_unknown_balancer(struct conformance *c)
{
    for (uint32_t lanes = 1; lanes <= 2; lanes++) {
        const struct place_wish wish = {.workers = lanes, .balancer = "fastest"};
        char *said = place_refused(c->distance, &wish);

        if (strstr(said, "unknown balancer: fastest") == NULL || strstr(said, "roundRobin") == NULL)
            fail_msg("%s", said);
        free(said);
    }
}

/* Holds workers until those of all lanes but one are busy; what comes next goes to the one. */
static void first_idle(struct conformance *c)
{
    struct knit_handle *held[LANES];
    unsigned seen = 0;

    open_balanced(c, "firstIdle", LANES);
    for (uint32_t i = 0; i < LANES; i++) {
        for (int k = 0; k < 3; k++) {
            wait_for_idle(c, i);
            assert_int_equal(conformance_lane(c, start_where(c)), i);
        }
        wait_for_idle(c, i);
        held[i] = conformance_hold(c, c->k, i, 1, true);
    }
    /* None is idle: each in turn. */
    {
        struct knit_handle *handles[LANES];

        for (int i = 0; i < LANES; i++)
            handles[i] = start_where(c);
        conformance_succeeds(c, knit_flush(c->k, &c->error));
        place_open_gate(c->place, 1);
        for (int i = 0; i < LANES; i++)
            seen |= 1u << conformance_lane(c, handles[i]);
    }
    assert_int_equal(seen, (1u << LANES) - 1);
    for (int i = 0; i < LANES; i++)
        (void)conformance_int(c, held[i]);
}

/* Of n draws with probability 1/LANES the share has a deviation of sqrt(n p (1 - p)). */
static void expect_even_shares(struct conformance *c)
{
    enum { CALLS = 10000, BATCH = 100 };
    struct knit_handle *handles[BATCH];
    int64_t count[LANES] = {0};

    for (int i = 0; i < CALLS; i += BATCH) {
        for (int k = 0; k < BATCH; k++)
            handles[k] = start_where(c);
        for (int k = 0; k < BATCH; k++)
            count[conformance_lane(c, handles[k])]++;
    }
    for (int i = 0; i < LANES; i++) {
        int64_t off = count[i] - CALLS / LANES;

        if (off * off > 25 * CALLS * (LANES - 1) / (LANES * LANES))
            fail_msg("lane %d ran %lld of %d", i, (long long)count[i], CALLS);
    }
}

static void random_lanes(struct conformance *c)
{
    open_balanced(c, "randomLane", LANES);
    expect_even_shares(c);
}

/* The lanes that are idle are asked first, the lowest first; with none idle, any. */
static void first_idle_or_random(struct conformance *c)
{
    enum { CALLS = 64 };
    struct knit_handle *held[LANES], *handles[CALLS];
    int count[LANES] = {0};

    open_balanced(c, "firstIdleOrRandom", LANES);
    for (uint32_t i = 0; i < LANES; i++) {
        wait_for_idle(c, i);
        assert_int_equal(conformance_lane(c, start_where(c)), i);
        wait_for_idle(c, i);
        held[i] = conformance_hold(c, c->k, i, 1, true);
    }
    for (int i = 0; i < CALLS; i++)
        handles[i] = start_where(c);
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    place_open_gate(c->place, 1);
    for (int i = 0; i < CALLS; i++)
        count[conformance_lane(c, handles[i])]++;
    /* The chance that one of four gets none of 64 is below 10^-7. */
    for (int i = 0; i < LANES; i++)
        assert_true(count[i] > 0);
    for (int i = 0; i < LANES; i++)
        (void)conformance_int(c, held[i]);
}

/* What waits for an argument is in no lane. */
static void a_call_that_waits_for_an_argument(struct conformance *c)
{
    struct knit_prepared *add = NULL;
    struct knit_handle *held, *waiting[8];

    open_balanced(c, "firstIdle", LANES);
    wait_for_idle(c, 0);
    held = conformance_hold(c, c->k, 0, 1, true);
    conformance_succeeds(c, knit_prepare(c->k, &c->error, "add", "(int, int) -> int", &add));
    for (int i = 0; i < 8; i++) {
        const struct knit_arg args[] = {knit_pass_handle(held), knit_pass_int(i)};

        conformance_succeeds(c, knit_start_args(add, NULL, &waiting[i], &c->error, args, 2));
    }
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    for (int i = 0; i < 8; i++) {
        wait_for_idle(c, 1);
        assert_int_equal(conformance_lane(c, start_where(c)), 1);
    }
    place_open_gate(c->place, 1);
    for (int i = 0; i < 8; i++)
        assert_true(conformance_int(c, waiting[i]) > 0);
    (void)conformance_int(c, held);
    (void)knit_prepared_free(add);
}

/* As many calls as lanes less one are held; all others go to the one that is free, whatever the
 * number of them before. */
static void least_loaded(struct conformance *c)
{
    struct knit_handle *held[LANES - 1];
    uint32_t lane = LANES;

    open_balanced(c, "leastLoaded", LANES);
    expect_one_each(c);
    for (uint32_t i = 0; i < LANES - 1; i++)
        held[i] = conformance_hold(c, c->k, i, 1, true);
    for (uint32_t i = 0; i < 3 * LANES; i++) {
        const uint32_t now = conformance_lane(c, start_where(c));

        lane = i == 0 ? now : lane;
        assert_int_equal(now, lane);
    }
    place_open_gate(c->place, 1);
    for (uint32_t i = 0; i < LANES - 1; i++)
        (void)conformance_int(c, held[i]);
}

/* With one worker stealing means nothing; named, it is taken at its word. */
static void stealing_is_chosen(struct conformance *c)
{
    const struct place_wish wish = {
        .workers = 2, .balancer = "roundRobin", .options = {"steal=on", "threads_io=1"}};
    enum { CALLS = 8 };
    struct knit_handle *held, *handles[CALLS];

    conformance_open_place(c, &wish);
    held = conformance_hold(c, c->k, 0, 1, true);
    for (int i = 0; i < CALLS; i++)
        handles[i] = start_where(c);
    for (int i = 0; i < CALLS; i++)
        (void)conformance_lane(c, handles[i]);
    assert_int_equal(knit_await(held, 0, &c->error), KNIT_PENDING);
    place_open_gate(c->place, 1);
    (void)conformance_int(c, held);
}

/* A balancer that is named is not undone by workers that take what it gave to others. */
static void no_stealing_beside_a_balancer(struct conformance *c)
{
    const struct place_wish wish = {
        .workers = 2, .balancer = "roundRobin", .options = {"threads_io=1"}};
    struct knit_handle *held, *handles[2];

    conformance_open_place(c, &wish);
    held = conformance_hold(c, c->k, 0, 1, true);
    for (int i = 0; i < 2; i++)
        handles[i] = start_where(c);
    conformance_succeeds(c, knit_flush(c->k, &c->error));
    /* The worker that is free has nothing to do, and leaves the call that stands behind the one
     * held where it is. */
    assert_true(KNIT_WAIT_UNTIL(place_lane_stat(c->place, 0, "is_parked") == 1 ||
                                    place_lane_stat(c->place, 1, "is_parked") == 1,
        PLACE_MS));
    place_open_gate(c->place, 1);
    assert_int_not_equal(conformance_lane(c, handles[0]), conformance_lane(c, handles[1]));
    (void)conformance_int(c, held);
}

static const struct conformance_case cases[] = {
    {"D33a", "roundRobin gives as many calls as lanes one each", round_robin, 0, 0, 0},
    {"D33b", "robinRound is the same", round_robin_by_its_other_name, 0, 0, 0},
    {"D33d", "without a balancer's name it is the same", no_balancer_named, 0, 0, 0},
    {"D33e", "roundRobin keeps each task's turn apart", each_task_in_turn, 0, 0, 0},
    {"D33c", "an unknown balancer is refused by its name, also with one lane", an_unknown_balancer,
        0, 0, 0},
    {"D34", "firstIdle takes the first lane that is idle, and else each in turn", first_idle, 0, 0,
        0},
    {"D35", "randomLane gives each lane its share of 10,000 calls", random_lanes, 0, 0, 0},
    {"D36", "firstIdleOrRandom takes the first lane that is idle, and else any",
        first_idle_or_random, 0, 0, 0},
    {"D37", "a call that waits for an argument makes no lane busy",
        a_call_that_waits_for_an_argument, 0, 0, 0},
    {"D36b", "leastLoaded takes a lane without calls, however often it had its turn", least_loaded,
        0, 0, 0},
    {"D36c", "idle workers steal where that is named beside a balancer", stealing_is_chosen, 0, 0,
        0},
    {"D36d", "a balancer that is named alone leaves calls where it put them",
        no_stealing_beside_a_balancer, 0, 0, 0},
};

const struct conformance_section conformance_balancer = CONFORMANCE_SECTION("balancer", cases);
