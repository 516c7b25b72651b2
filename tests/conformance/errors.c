/* SPDX-License-Identifier: Apache-2.0 */
/* What a call that failed says, whoever found what is wrong with it. */
#include "tests/conformance/conformance.h"

static void failures_of_tasks(struct conformance *c)
{
    static const char data[] = "\x82\xa5"
                               "cause\x92\xa1x\xc0\xa4"
                               "data\xcb\x3f\xf8\x00\x00\x00\x00\x00\x00";

    conformance_fails(c,
        knit_call(c->k, &c->error, "refuse", "(int, str, any)", (int64_t)-7, "no such row", data,
            sizeof(data) - 1),
        KNIT_TASK_FAILED);
    assert_string_equal(c->error.message, "no such row");
    assert_true(c->error.task_code == -7);
    assert_int_equal(c->error.data_len, sizeof(data) - 1);
    assert_memory_equal(c->error.data, data, sizeof(data) - 1);
    assert_int_equal(c->error.origin, KNIT_ORIGIN_TASK);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    assert_false(c->error.retryable);
    /* Without data, and with the largest numbers. */
    conformance_fails(
        c, knit_call(c->k, &c->error, "refuse", "(int, str)", INT64_MIN, "x"), KNIT_TASK_FAILED);
    assert_true(c->error.task_code == INT64_MIN);
    assert_int_equal(c->error.data_len, 0);
}

static void results_that_cannot_be_given(struct conformance *c)
{
    const int64_t largest = (int64_t)knit_arguments_max(c->k);
    const uint64_t deaths = place_stat(c->place, "pool", "deaths");
    static const struct {
        const char *task;
        const char *why;
    } cases[] = {
        {"liar", "expected int, got str"}, {"half", ""}, {"reference", ""}, {"only_returns", ""}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        conformance_fails(c,
            i < 3 ? knit_call(c->k, &c->error, cases[i].task, "()")
                  : knit_call(c->k, &c->error, cases[i].task, "(int)", (int64_t)5),
            KNIT_BAD_RESULT);
        assert_int_equal(c->error.started, KNIT_STARTED_YES);
        if (strstr(c->error.message, cases[i].why) == NULL)
            fail_msg("%s", c->error.message);
        conformance_serves(c);
    }
    conformance_fails(
        c, knit_call(c->k, &c->error, "large", "(int)", 4 * largest), KNIT_RESULT_TOO_LARGE);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
    /* The result is right, and not what this caller said. */
    conformance_fails(c,
        knit_call(c->k, &c->error, "add", "(int, int) -> str", (int64_t)1, (int64_t)2, NULL, NULL),
        KNIT_BAD_RESULT);
    /* All of this was no worker's end. */
    assert_true(place_stat(c->place, "pool", "deaths") == deaths);
}

static void what_every_failure_says(struct conformance *c)
{
    static const struct {
        const char *task, *signature;
        int code;
        enum knit_started started;
        bool retryable;
    } cases[] = {
        {"ad", "()", KNIT_UNKNOWN_TASK, KNIT_STARTED_NO, false},
        {"add", "()", KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, false},
        {"add", "(integer)", KNIT_BAD_ARGUMENT, KNIT_STARTED_NO, false},
        {"liar", "()", KNIT_BAD_RESULT, KNIT_STARTED_YES, false},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        conformance_fails(
            c, knit_call(c->k, &c->error, cases[i].task, cases[i].signature), cases[i].code);
        assert_int_equal(c->error.started, cases[i].started);
        assert_true(c->error.retryable == cases[i].retryable);
        assert_true(c->error.origin <= KNIT_ORIGIN_CLIENT);
        assert_string_not_equal(knit_error_origin_name(c->error.origin), "unknown");
    }
}

static void long_messages(struct conformance *c)
{
    char message[6001];

    /* Three bytes a letter, shifted so that the limit falls onto each of them. */
    for (size_t shift = 0; shift < 3; shift++) {
        size_t len;

        memset(message, 'x', shift);
        for (size_t at = shift; at + 3 < sizeof(message); at += 3)
            memcpy(message + at, "\xe2\x82\xac", 4);
        conformance_fails(c,
            knit_call(c->k, &c->error, "refuse", "(int, str)", (int64_t)1, message),
            KNIT_TASK_FAILED);
        len = strlen(c->error.message);
        assert_true(len <= KNIT_ERROR_MESSAGE_MAX && len > KNIT_ERROR_MESSAGE_MAX - 10);
        assert_string_equal(c->error.message + len - 6, " [cut]");
        assert_memory_equal(c->error.message, message, len - 6);
        assert_int_equal((len - 6 - shift) % 3, 0);
    }
    memset(message, 'y', KNIT_ERROR_MESSAGE_MAX);
    message[KNIT_ERROR_MESSAGE_MAX] = '\0';
    conformance_fails(c, knit_call(c->k, &c->error, "refuse", "(int, str)", (int64_t)1, message),
        KNIT_TASK_FAILED);
    assert_string_equal(c->error.message, message);
}

static void unknown_tasks(struct conformance *c)
{
    conformance_fails(c, knit_call(c->k, &c->error, "ech", "(int)", (int64_t)1), KNIT_UNKNOWN_TASK);
    assert_non_null(strstr(c->error.message, "'ech'"));
    assert_non_null(strstr(c->error.message, "'echo'"));
    conformance_fails(c, knit_call(c->k, &c->error, "", "()"), KNIT_UNKNOWN_TASK);
}

static void wrong_arguments(struct conformance *c)
{
    static const struct {
        const char *signature, *message;
    } cases[] = {
        {"()", "argument 1 (a) is missing: expected int; the task takes 2 arguments, got 0"},
        {"(int)", "argument 2 (b) is missing: expected int; the task takes 2 arguments, got 1"},
        {"(int, int, int)", "too many arguments: the task takes 2 arguments, got 3"},
        {"(nil, int)", "argument 1 (a): expected int, got nil"},
    };

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        conformance_fails(c,
            knit_call(
                c->k, &c->error, "add", cases[i].signature, (int64_t)1, (int64_t)2, (int64_t)3),
            KNIT_BAD_ARGUMENT);
        assert_string_equal(c->error.message, cases[i].message);
        assert_int_equal(c->error.started, KNIT_STARTED_NO);
    }
    conformance_fails(c, knit_call(c->k, &c->error, "ledger", "(str)", "1"), KNIT_BAD_ARGUMENT);
    assert_string_equal(c->error.message, "argument 1 (id): expected int, got str");
    assert_int_equal(place_ran(c->place, 1), 0);
}

static const struct conformance_case cases[] = {
    {"G60", "a task's failure arrives with message, code and data", failures_of_tasks, 0, 0, 0},
    {"G61", "a result that cannot be given fails its call, and the worker lives",
        results_that_cannot_be_given, 0, 0, 0},
    {"G62", "every failure has code, started, retryable and origin", what_every_failure_says, 0, 0,
        0},
    {"G63", "a long message is cut with a mark and between characters", long_messages, 0, 0, 0},
    {"G64", "an unknown task is answered with the nearest name", unknown_tasks, 0, 0, 0},
    {"G65", "a wrong argument is named, with what was expected and what came", wrong_arguments, 0,
        0, 0},
};

const struct conformance_section conformance_errors = CONFORMANCE_SECTION("errors", cases);
