/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: which calls the inliner takes, in which order it runs them, how they end. Method: the tasks
 * are this program's, the pool's registry is another declaration of them.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/task.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/layout.h"
#include "fastpath/worker/inliner.h"
#include "fastpath/worker/task_api.h"

static int order[16], ended, late, failed;
static bool over;
static struct knit_inliner *inliner;
static struct knit_inline_tasks *tasks;
static struct knit_modules *pool;
static _Atomic uint8_t marks[8];

static int run_note(struct knit_call *call)
{
    return knit_return_int(call, knit_arg_int(call, 0));
}

static int run_again(struct knit_call *call)
{
    /* A turn inside of a turn runs nothing. */
    return knit_return_int(call, knit_inliner_turn(inliner));
}

#define TASK(symbol, text, function, ms, marked)                                                   \
    static const struct knit_task symbol = {.name = #symbol,                                       \
        .signature = text,                                                                         \
        .run = function,                                                                           \
        .hard_timeout_ms = ms,                                                                     \
        .flags = marked}

TASK(again, "again(a: int) -> int", run_again, 0, KNIT_TASK_INLINE_SAFE);
TASK(limited, "limited(a: int) -> int", run_note, 1000, KNIT_TASK_INLINE_SAFE);
TASK(note, "note(a: int) -> int", run_note, 0, KNIT_TASK_INLINE_SAFE);
TASK(other, "other(a: int) -> int", run_note, 0, KNIT_TASK_INLINE_SAFE);
TASK(unmarked, "unmarked(a: int) -> int", run_note, 0, 0);

static const struct knit_task other_there = {
    .name = "other", .signature = "other(a: float) -> int", .run = run_note};

static const struct knit_task *const own[] = {&again, &limited, &note, &other, &unmarked};
static const struct knit_task *const there[] = {&again, &limited, &note, &other_there, &unmarked};

static const struct knit_module program = {.abi = KNIT_MODULE_ABI,
    .size = sizeof(struct knit_module),
    .task_size = sizeof(struct knit_task),
    .version = "1.0",
    .tasks = own,
    .tasks_end = own + sizeof(own) / sizeof(own[0]),
    .api = &knit_api};

/* In the order of names. */
enum { AGAIN, LIMITED, NOTE, OTHER, UNMARKED };

static void on_end(void *arg, void *user, const struct knit_inlined *inlined)
{
    (void)arg;
    order[ended++] = (int)(intptr_t)user;
    late += inlined->is_late;
    failed += !inlined->is_late && inlined->is_error;
}

static void on_value(void *arg, void *user, struct knit_span value, uint32_t count)
{
    (void)arg, (void)user, (void)value, (void)count;
    fail();
}

static bool is_over(void *arg)
{
    (void)arg;
    return over;
}

static void open_inliner(enum knit_inliner_at at, uint32_t workers, uint32_t batch, uint32_t least)
{
    const struct knit_inliner_options options = {.tasks = tasks,
        .marks = marks,
        .settings = {.at = at, .batch = batch, .threshold = least},
        .workers = workers,
        .places = 8,
        .result_max_bytes = 1024,
        .on_end = on_end,
        .on_value = on_value,
        .is_over = is_over};

    assert_int_equal(knit_inliner_new(&options, &inliner), 0);
}

static int set_up(void **state)
{
    struct knit_module other_program = program;
    struct knit_module_loading loading = {
        .program = &other_program, .epoch = 1, .api = knit_task_api()};
    struct knit_inline_tasks_options options = {.program = &program, .workers = 2};
    struct knit_sentence why;

    (void)state;
    ended = late = failed = 0;
    over = false;
    other_program.tasks = there;
    other_program.tasks_end = there + sizeof(there) / sizeof(there[0]);
    if (knit_modules_load(&loading, &pool, &why) != 0)
        return -1;
    options.pool = knit_modules_registry(pool);
    return knit_inline_tasks_open(&options, &tasks, &why);
}

static int tear_down(void **state)
{
    (void)state;
    inliner = knit_inliner_free(inliner);
    tasks = knit_inline_tasks_close(tasks);
    pool = knit_modules_free(pool);
    marks[NOTE] = KNIT_MARK_TRUSTED;
    return 0;
}

static uint32_t add(uint32_t task, int user, uint64_t deadline_ns)
{
    static const unsigned char params[] = {0x91, 0x07};
    const struct knit_inliner_call call = {.task = task,
        .deadline_ns = deadline_ns,
        .params = knit_span(params, sizeof(params)),
        .user = (void *)(intptr_t)user};
    uint32_t place;

    assert_int_equal(knit_inliner_add(inliner, &call, &place), 0);
    return place;
}

static void only_marked_tasks_without_a_limit_are_taken(void **state)
{
    (void)state;
    open_inliner(KNIT_INLINER_AT_FIRST, 0, 1, 1);
    assert_true(knit_inliner_has(inliner, NOTE));
    assert_false(knit_inliner_has(inliner, LIMITED));
    assert_false(knit_inliner_has(inliner, OTHER)); /* another signature */
    assert_false(knit_inliner_has(inliner, UNMARKED));
    assert_false(knit_inliner_has(inliner, 1000));
    assert_false(knit_inliner_takes(inliner, LIMITED));
    assert_string_equal(knit_inline_tasks_isolated(tasks)->name, "limited");
}

static void a_round_is_each_task_s_own_and_begins_at_the_threshold(void **state)
{
    (void)state;
    open_inliner(KNIT_INLINER_AT_LAST, 2, 1, 2);
    for (int i = 0; i < 6; i++)
        assert_false(knit_inliner_takes(inliner, NOTE));
    knit_inliner_count(inliner, NOTE);
    for (int i = 0; i < 9; i++)
        assert_int_equal(knit_inliner_takes(inliner, NOTE), i % 3 == 2);
    knit_inliner_count(inliner, AGAIN);
    assert_false(knit_inliner_takes(inliner, AGAIN));
    knit_inliner_uncount(inliner, NOTE);
    assert_int_equal(knit_inliner_counted(inliner, NOTE), 0);
    assert_false(knit_inliner_takes(inliner, NOTE));
}

static void a_quarantined_task_is_for_workers(void **state)
{
    (void)state;
    open_inliner(KNIT_INLINER_AT_FIRST, 1, 1, 1);
    marks[NOTE] = KNIT_MARK_QUARANTINED;
    for (int i = 0; i < 4; i++)
        assert_false(knit_inliner_takes(inliner, NOTE));
    marks[NOTE] = KNIT_MARK_TRUSTED;
    assert_true(knit_inliner_takes(inliner, NOTE));
}

static void a_turn_is_a_batch_in_the_order_of_coming(void **state)
{
    (void)state;
    open_inliner(KNIT_INLINER_AT_FIRST, 1, 2, 1);
    for (int i = 0; i < 5; i++)
        (void)add(NOTE, i, 0);
    assert_int_equal(knit_inliner_in_flight(inliner), 5);
    assert_int_equal(knit_inliner_turn(inliner), 2);
    assert_int_equal(ended, 2);
    assert_true(knit_inliner_has_work(inliner));
    assert_int_equal(knit_inliner_turn(inliner), 2);
    assert_int_equal(knit_inliner_turn(inliner), 1);
    assert_int_equal(knit_inliner_turn(inliner), 0);
    for (int i = 0; i < 5; i++)
        assert_int_equal(order[i], i);
    assert_int_equal(failed, 0);
    assert_int_equal(knit_inliner_in_flight(inliner), 0);
}

static void a_turn_within_a_task_runs_nothing(void **state)
{
    (void)state;
    open_inliner(KNIT_INLINER_AT_FIRST, 1, 1, 1);
    (void)add(AGAIN, 1, 0);
    (void)add(NOTE, 2, 0);
    assert_int_equal(knit_inliner_turn(inliner), 1);
    assert_int_equal(ended, 1);
    assert_int_equal(order[0], 1);
}

static void what_waits_is_removed_from_any_place(void **state)
{
    uint32_t places[8];
    const struct knit_inliner_call one_more = {.task = NOTE};
    uint32_t place;

    (void)state;
    open_inliner(KNIT_INLINER_AT_FIRST, 1, 8, 1);
    for (int round = 0; round < 3; round++) {
        ended = 0;
        for (int i = 0; i < 8; i++)
            places[i] = add(NOTE, i, 0);
        assert_false(knit_inliner_takes(inliner, NOTE));
        assert_int_not_equal(knit_inliner_add(inliner, &one_more, &place), 0);
        assert_int_equal(knit_inliner_remove(inliner, places[0]), KNIT_STARTED_NO);
        assert_int_equal(knit_inliner_remove(inliner, places[7]), KNIT_STARTED_NO);
        assert_true(knit_inliner_withdraw(inliner, places[4]));
        assert_int_equal(knit_inliner_turn(inliner), 5);
        assert_int_equal(ended, 5);
        assert_int_equal(order[2], 3);
        assert_int_equal(order[3], 5);
    }
    assert_int_equal(knit_inliner_in_flight(inliner), 0);
}

static void what_is_late_cancelled_or_after_the_end_does_not_start(void **state)
{
    (void)state;
    open_inliner(KNIT_INLINER_AT_FIRST, 1, 1, 1);
    (void)add(NOTE, 1, 1);
    knit_inliner_cancel(inliner, add(NOTE, 2, 0));
    (void)add(NOTE, 3, knit_clock_ns() + UINT64_C(3600000000000));
    assert_int_equal(knit_inliner_turn(inliner), 1);
    assert_int_equal(late, 1);
    assert_int_equal(knit_inliner_turn(inliner), 1);
    assert_int_equal(failed, 1);
    over = true;
    assert_int_equal(knit_inliner_turn(inliner), 1);
    assert_int_equal(failed, 2);
    assert_int_equal(late, 1);
}

#define TEST(name)                                                                                 \
    {                                                                                              \
#name, name, set_up, tear_down, NULL                                                       \
    }

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(only_marked_tasks_without_a_limit_are_taken),
        TEST(a_round_is_each_task_s_own_and_begins_at_the_threshold),
        TEST(a_quarantined_task_is_for_workers),
        TEST(a_turn_is_a_batch_in_the_order_of_coming),
        TEST(a_turn_within_a_task_runs_nothing),
        TEST(what_waits_is_removed_from_any_place),
        TEST(what_is_late_cancelled_or_after_the_end_does_not_start),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
