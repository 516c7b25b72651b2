/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a declaration is used for the tasks that it fits and for no others, and is compared as
 * often as it has to be, not more often. Method: a table of declarations and published signatures;
 * a server that lists other tasks meanwhile. What calls carry is tested by
 * tests/system/typed_calls.c. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/typed.h>

#include "clients/lib/client.h"
#include "clients/lib/typed.h"
#include "proto/signature.h"
#include "tests/clients/fake_server.h"

KNIT_TYPED(a, ((int, x)), ((int, same)));
KNIT_TYPED(b, ((int, code)), ((int, none)));
KNIT_TYPED(nosuch, ((int, x)), ((int, same)));

static struct knit *k;
static struct knit_error error;

static int start_session(void **state)
{
    (void)knit_fake_start(state);
    k = knit_fake_open(NULL);
    return 0;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

static uint32_t asked(void)
{
    return atomic_load_explicit(&fake.tasks_asked, memory_order_relaxed);
}

static void list(const char *types)
{
    atomic_store_explicit(&fake.types, types, memory_order_relaxed);
    atomic_fetch_add_explicit(&fake.epoch_more, 3, memory_order_relaxed);
}

/* ---- what fits what ---- */

static void a_declaration_fits_as_the_table_says(void **state)
{
    static const struct {
        const char *declared, *published;
        const char *why; /* the end of the message; NULL: it fits */
    } cases[] = {
        {"t(a: int) -> int", "t(a: int) -> int", NULL},
        {"t(a: int) -> int", "t(other: int) -> int", NULL},
        {"t(a: int) -> int", "t(a: any) -> int", NULL},
        {"t(a: any) -> any", "t(a: any) -> any", NULL},
        {"t(a: int) -> int", "t(a: int?) -> int", NULL},
        {"t(a: int?) -> int", "t(a: any) -> int", NULL},
        {"t(a: int) -> int", "t(a: int, b: str?, c: f64[]?) -> int", NULL},
        {"t(a: int) -> int", "t(a: int, b: str...) -> int", NULL},
        {"t(a: int, b: int) -> int", "t(a: int...) -> int", NULL},
        {"t(a: int, b: str) -> int", "t(a: int, rest: any...) -> int", NULL},
        {"t(a: f64[]) -> f64[]?", "t(a: f64[]) -> f64[]?", NULL},
        {"t() -> (int, str)", "t() -> (int, str)", NULL},
        {"t(a: int) -> int", "t(a: uint) -> int", "of another type is parameter 1"},
        {"t(a: int) -> int", "t(a: float) -> int", "of another type is parameter 1"},
        {"t(a: any) -> int", "t(a: int) -> int", "of another type is parameter 1"},
        {"t(a: f64[]) -> int", "t(a: f32[]) -> int", "of another type is parameter 1"},
        {"t(a: int, b: str) -> int", "t(b: str, a: int) -> int", "of another type is parameter 1"},
        {"t(a: int, b: int) -> int", "t(a: int) -> int", "there is no parameter 2"},
        {"t(a: int) -> int", "t(a: int, b: int) -> int",
            "there is one more that is not optional, parameter 2"},
        {"t(a: int) -> int", "t(a: int, b: int?, c: any) -> int",
            "there is one more that is not optional, parameter 3"},
        {"t(a: int?) -> int", "t(a: int) -> int", "not optional is parameter 1"},
        {"t(a: int, b: str) -> int", "t(a: int...) -> int", "of another type is parameter 2"},
        {"t() -> int", "t() -> uint", "of another type is result 1"},
        {"t() -> int", "t() -> int?", "of another type is result 1"},
        {"t() -> int", "t() -> any", "of another type is result 1"},
        {"t() -> nil", "t() -> int", "of another type is result 1"},
        {"t() -> (int, int)", "t() -> (int, str)", "of another type is result 2"},
        {"t() -> (int, int)", "t() -> int", "there are more or fewer results, from result 2"},
        {"t() -> int", "t() -> (int, int)", "there are more or fewer results, from result 2"},
    };
    struct knit_prepareds prepareds = {0};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_shape_flaw flaw;
        struct knit_prepared *prepared = NULL;
        struct knit_signature *published = NULL;
        char expected[256];
        int code;

        assert_int_equal(
            knit_prepared_new(&prepareds, "t", cases[i].declared, &prepared, &flaw), 0);
        assert_int_equal(
            knit_signature_parse(cases[i].published, strlen(cases[i].published), &published, NULL),
            0);
        code = knit_typed_compare(prepared, published, &error);
        if (code != (cases[i].why == NULL ? KNIT_OK : KNIT_BAD_ARGUMENT))
            fail_msg("%s and %s: %d", cases[i].declared, cases[i].published, code);
        if (cases[i].why != NULL) {
            snprintf(expected, sizeof(expected),
                "the declaration %s does not fit the pool's task %s: %s", cases[i].declared,
                cases[i].published, cases[i].why);
            assert_string_equal(error.message, expected);
            assert_int_equal(error.started, KNIT_STARTED_NO);
        }
        knit_signature_free(published);
    }
    knit_prepareds_fini(&prepareds);
}

/* ---- how often it is asked ---- */

static void the_tasks_are_asked_for_once(void **state)
{
    int64_t same = 0;

    (void)state;
    for (int i = 0; i < 10; i++) {
        assert_int_equal(KNIT_CALL(a, k, &error, (i), (&same)), KNIT_OK);
        assert_int_equal(same, i);
    }
    assert_int_equal(asked(), 1);
    /* Another declaration is looked up in what was told. */
    assert_int_equal(KNIT_CALL(b, k, &error, (KNIT_TASK_FAILED), (&same)), KNIT_TASK_FAILED);
    assert_int_equal(asked(), 1);
}

static void one_that_does_not_fit_is_refused_and_nothing_sent(void **state)
{
    int64_t same = 7;

    (void)state;
    list("(x: str) -> int");
    for (uint32_t i = 1; i <= 3; i++) {
        assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_BAD_ARGUMENT);
        assert_string_equal(error.message,
            "the declaration a(x: int) -> int does not fit the pool's task a(x: str) -> int: of "
            "another type is parameter 1");
        assert_int_equal(error.started, KNIT_STARTED_NO);
        assert_int_equal(error.origin, KNIT_ORIGIN_CLIENT);
        assert_int_equal(asked(), i);
    }
    assert_int_equal(same, 7);
    /* It fits once the pool has what was declared. */
    list("(x: int, y: str?) -> int");
    assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_OK);
    assert_int_equal(same, 1);
    assert_int_equal(asked(), 4);
}

static void a_task_that_there_is_not_is_named(void **state)
{
    int64_t same;

    (void)state;
    assert_int_equal(KNIT_CALL(nosuch, k, &error, (1), (&same)), KNIT_UNKNOWN_TASK);
    assert_string_equal(
        error.message, "there is no task 'nosuch', which is declared nosuch(x: int) -> int");
}

/* An answer that other tasks can cause makes it ask again, and no other does. */
static void an_answer_may_mean_that_the_tasks_changed(void **state)
{
    static const struct {
        int code;
        uint32_t asked; /* more, at the next use */
    } cases[] = {{KNIT_BAD_ARGUMENT, 1}, {KNIT_BAD_RESULT, 1}, {KNIT_UNKNOWN_TASK, 1},
        {KNIT_STALE_EPOCH, 1}, {KNIT_TASK_FAILED, 0}, {KNIT_OVERLOADED, 0}, {KNIT_WORKER_DIED, 0}};
    int64_t same;

    (void)state;
    assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_OK);
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        struct knit_handle *handle = NULL;
        uint32_t before = asked();

        assert_int_equal(KNIT_CALL(b, k, &error, (cases[i].code), (&same)), cases[i].code);
        assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_OK);
        assert_int_equal(asked(), before + cases[i].asked);
        assert_int_equal(KNIT_START(b, k, &handle, &error, (cases[i].code)), KNIT_OK);
        assert_int_equal(KNIT_AWAIT(b, handle, &error, (&same)), cases[i].code);
        knit_free(handle);
        assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_OK);
        assert_int_equal(asked(), before + 2 * cases[i].asked);
    }
    list("(x: str) -> int");
    assert_int_equal(KNIT_CALL(b, k, &error, (KNIT_STALE_EPOCH), (&same)), KNIT_STALE_EPOCH);
    assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_BAD_ARGUMENT);
}

/* A result of another type, too. */
static void a_wrong_result_makes_it_ask_again(void **state)
{
    static const struct knit_typed_part parts[] = {{"x", 8}, {"same", 8}};
    static const struct knit_typed text = {
        sizeof(struct knit_typed), 1, 1, "a", "a(x: int) -> str", parts};
    const struct knit_arg args[] = {knit_pass_int(5)};
    struct knit_text same;
    void *places[] = {&same};

    (void)state;
    list("(x: int) -> str");
    assert_int_equal(knit_call_typed(k, &text, NULL, &error, args, places), KNIT_BAD_RESULT);
    assert_string_equal(error.message, "result 1 (same): expected str, got int");
    assert_int_equal(asked(), 1);
    assert_int_equal(knit_call_typed(k, &text, NULL, &error, args, places), KNIT_BAD_RESULT);
    assert_int_equal(asked(), 2);
}

static int64_t came_back;

static void read_second(struct knit_handle *handle, void *user)
{
    (void)user;
    assert_int_equal(KNIT_RESULTS(a, handle, &error, (&came_back)), KNIT_OK);
    knit_free(handle);
}

static void start_second(struct knit_handle *handle, void *user)
{
    knit_free(handle);
    assert_int_equal(KNIT_THEN(a, k, &error, (6), read_second, user), KNIT_OK);
}

static void in_a_callback_it_may_be_the_first_use(void **state)
{
    struct knit_handle *handle = NULL;

    (void)state;
    came_back = 0;
    assert_int_equal(knit_start(k, NULL, &handle, &error, "echo", "()"), KNIT_OK);
    knit_on_done(handle, start_second, NULL);
    for (int i = 0; i < 100 && came_back == 0; i++)
        assert_int_equal(knit_ping(k, &error, NULL), KNIT_OK);
    assert_int_equal(came_back, 6);
}

/* ---- declarations that are no good, and many ---- */

static void a_declaration_that_contradicts_itself_is_refused(void **state)
{
    static const struct knit_typed_part parts[] = {{"x", 8}, {"same", 8}};
    static const struct knit_typed more = {
        sizeof(struct knit_typed), 2, 1, "a", "a(x: int) -> int", parts};
    static const struct knit_typed wrong = {
        sizeof(struct knit_typed), 1, 1, "a", "a(x: in) -> int", parts};
    const struct knit_arg args[] = {knit_pass_int(5)};

    (void)state;
    for (int i = 0; i < 2; i++) {
        assert_int_equal(knit_call_typed(k, &more, NULL, &error, args, NULL), KNIT_BAD_ARGUMENT);
        assert_string_equal(error.message,
            "the declaration of 'a' has other parts than its signature a(x: int) -> int");
        assert_int_equal(knit_call_typed(k, &wrong, NULL, &error, args, NULL), KNIT_BAD_ARGUMENT);
        assert_string_equal(
            error.message, "the signature \"a(x: in) -> int\" is wrong at byte 5: unknown type");
    }
}

/* Each finds its own, however many there are. */
static void any_number_of_declarations_is_told_apart(void **state)
{
    enum { COUNT = 1000 };
    static const struct knit_typed_part parts[] = {{"x", 8}, {"same", 8}};
    static struct knit_typed many[COUNT];
    static struct knit_prepared *prepared[COUNT];

    (void)state;
    for (int i = 0; i < COUNT; i++) {
        many[i] =
            (struct knit_typed){sizeof(struct knit_typed), 1, 1, "a", "a(x: int) -> int", parts};
        assert_int_equal(knit_typed_find(k, &many[i], &prepared[i], &error), KNIT_OK);
    }
    for (int i = 0; i < COUNT; i++) {
        struct knit_prepared *again = NULL;

        assert_int_equal(knit_typed_find(k, &many[i], &again, &error), KNIT_OK);
        assert_ptr_equal(again, prepared[i]);
        assert_ptr_equal(again->typed, &many[i]);
    }
}

static void it_is_the_sessions_that_is_closed(void **state)
{
    int64_t same;

    (void)state;
    k = knit_close(k);
    k = knit_fake_open(&(const struct knit_open_options){.stays_lost = true});
    assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_OK);
    assert_int_equal(knit_call(k, &error, "close", "()"), KNIT_DISCONNECTED);
    assert_int_equal(KNIT_CALL(a, k, &error, (1), (&same)), KNIT_DISCONNECTED);
    assert_int_equal(error.started, KNIT_STARTED_NO);
}

#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, start_session, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_declaration_fits_as_the_table_says),
        WITH_SESSION(the_tasks_are_asked_for_once),
        WITH_SESSION(one_that_does_not_fit_is_refused_and_nothing_sent),
        WITH_SESSION(a_task_that_there_is_not_is_named),
        WITH_SESSION(an_answer_may_mean_that_the_tasks_changed),
        WITH_SESSION(a_wrong_result_makes_it_ask_again),
        WITH_SESSION(in_a_callback_it_may_be_the_first_use),
        WITH_SESSION(a_declaration_that_contradicts_itself_is_refused),
        WITH_SESSION(any_number_of_declarations_is_told_apart),
        WITH_SESSION(it_is_the_sessions_that_is_closed),
    };

    return cmocka_run_group_tests_name("typed", tests, NULL, NULL);
}
