/* SPDX-License-Identifier: Apache-2.0 */
/* One call inside a worker, without lanes: params in, outcome out, for every way a call can end. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "fastpath/worker/runner.h"
#include "fastpath/worker/task_api.h"
#include "proto/failure.h"
#include "proto/head.h"
#include "proto/printed.h"
#include "proto/writer.h"

#define RESULT_MAX 100000

enum { EPOCH = 2 }; /* its low byte */

struct fixture {
    struct knit_modules *modules;
    struct knit_runner *runner;
    struct knit_busy_line busy;
    struct knit_job job;
    struct knit_failure failure;
    uint8_t *params; /* of the last call */
    bool wants_output;
    _Atomic uint8_t marks[KNIT_TASKS];
};

static struct knit_span said;
static int captures;

static void begin(void)
{
    captures++;
}

static struct knit_span end(bool *ret_is_cut)
{
    *ret_is_cut = false;
    return said;
}

static const struct knit_runner_capture saying = {begin, end};

static int setup(void **state)
{
    static const char *const paths[] = {TEST_MODULES "/module_tasks.so"};
    struct knit_module_loading loading = {
        .paths = paths, .count = 1, .epoch = 256 + EPOCH, .api = knit_task_api()};
    struct fixture *fixture = calloc(1, sizeof(*fixture));
    struct knit_runner_options options = {.result_max_bytes = RESULT_MAX,
        .capture = &saying,
        .pool = {.mark = fixture->marks},
        .busy = &fixture->busy};
    struct knit_sentence why;

    assert_int_equal(knit_modules_load(&loading, &fixture->modules, &why), 0);
    options.modules = fixture->modules;
    assert_int_equal(knit_runner_new(&options, &fixture->runner), 0);
    *state = fixture;
    return 0;
}

static int teardown(void **state)
{
    struct fixture *fixture = *state;

    knit_runner_free(fixture->runner);
    knit_modules_free(fixture->modules);
    free(fixture->params);
    free(fixture);
    return 0;
}

static uint32_t id_of(const struct fixture *fixture, const char *task)
{
    return knit_registry_find(knit_modules_registry(fixture->modules), task, strlen(task))->id;
}

/* The arguments as a lane gives them: KNIT_HEAD_SPARE bytes behind them may be read. Good until the
 * next ones. */
static const void *spare_copy(struct fixture *fixture, const void *params, size_t len)
{
    free(fixture->params);
    fixture->params = malloc(len + KNIT_HEAD_SPARE);
    assert_non_null(fixture->params);
    if (len > 0)
        memcpy(fixture->params, params, len);
    memset(fixture->params + len, 0xff, KNIT_HEAD_SPARE);
    return fixture->params;
}

/* Runs it; the error's code, or 0. */
static uint32_t run(struct fixture *fixture, const char *task, const void *params, size_t len)
{
    struct knit_job *job = &fixture->job;

    *job = (struct knit_job){.meta = knit_meta(id_of(fixture, task), EPOCH, 0, (uint32_t)len),
        .payload = spare_copy(fixture, params, len),
        .wants_output = fixture->wants_output,
        .result_max = RESULT_MAX};
    knit_runner_run(fixture->runner, job);
    if (job->status == KNIT_STATUS_RESULT)
        return 0;
    assert_int_equal(
        knit_failure_decode(knit_span(job->result, job->result_len), &fixture->failure), 0);
    return fixture->failure.code;
}

#define RUN(fixture, task, params) run(fixture, task, params, sizeof(params) - 1)

static bool message_has(const struct fixture *fixture, const char *text)
{
    return memmem(fixture->failure.message.bytes, fixture->failure.message.len, text,
               strlen(text)) != NULL;
}

static void small_results_lie_in_the_job(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(RUN(fixture, "add", "\x92\x07\x08"), 0);
    assert_int_equal(fixture->job.result_len, 1);
    assert_ptr_equal(fixture->job.result, fixture->job.body);
    assert_int_equal(fixture->job.body[0], 15);
    assert_int_equal(RUN(fixture, "silent", "\x90"), 0);
    assert_memory_equal(fixture->job.result, "\xc0", 1);
    assert_int_equal(RUN(fixture, "echo", "\x91\x93\x01\xa1x\xc2"), 0);
    assert_memory_equal(fixture->job.result, "\x93\x01\xa1x\xc2", 5);
    assert_int_equal(RUN(fixture, "where", "\x90"), 0);
    assert_memory_equal(fixture->job.result, "\x92\x00\x00", 3);
}

static void large_results_are_whole_up_to_the_limit(void **state)
{
    struct fixture *fixture = *state;
    static const size_t sizes[] = {
        0, 1, 98, 99, 100, 104, 105, 255, 256, 65535, 65536, RESULT_MAX - 5};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        unsigned char params[6] = {0x91, 0xce};
        const unsigned char *result;

        params[2] = (unsigned char)(sizes[i] >> 24);
        params[3] = (unsigned char)(sizes[i] >> 16);
        params[4] = (unsigned char)(sizes[i] >> 8);
        params[5] = (unsigned char)sizes[i];
        assert_int_equal(run(fixture, "large", params, sizeof(params)), 0);
        result = fixture->job.result;
        for (size_t at = 0; at < sizes[i]; at++)
            assert_int_equal(result[fixture->job.result_len - sizes[i] + at], at % 256);
    }
    assert_int_equal(RUN(fixture, "large", "\x91\xce\x00\x01\x86\xa0"), KNIT_RESULT_TOO_LARGE);
    assert_int_equal(fixture->failure.limit, RESULT_MAX);
    assert_int_equal(fixture->failure.actual, 100000);
    assert_int_equal(fixture->failure.started, KNIT_STARTED_YES);
}

static void wrong_arguments_are_named_and_nothing_runs(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(RUN(fixture, "add", "\x92\x07\xa1x"), KNIT_BAD_ARGUMENT);
    assert_true(message_has(fixture, "(b)"));
    assert_true(message_has(fixture, "int"));
    assert_true(message_has(fixture, "str"));
    assert_int_equal(fixture->failure.started, KNIT_STARTED_NO);
    assert_int_equal(RUN(fixture, "add", "\x91\x07"), KNIT_BAD_ARGUMENT);
    assert_int_equal(RUN(fixture, "add", "\x93\x07\x07\x07"), KNIT_BAD_ARGUMENT);
    assert_int_equal(RUN(fixture, "echo", "\x91\xa2x"), KNIT_BAD_ARGUMENT);
    assert_int_equal(RUN(fixture, "echo", "\x91\xa1\xff"), KNIT_BAD_ARGUMENT);
    assert_int_equal(RUN(fixture, "echo", "\x07"), KNIT_BAD_ARGUMENT);
    assert_int_equal(RUN(fixture, "echo", ""), KNIT_BAD_ARGUMENT);
}

static void nesting_is_limited_both_ways(void **state)
{
    struct fixture *fixture = *state;
    unsigned char params[64];

    memset(params, 0x91, sizeof(params));
    params[32] = 0xc0;
    assert_int_equal(run(fixture, "echo", params, 33), 0);
    params[32] = 0x91;
    params[33] = 0xc0;
    assert_int_equal(run(fixture, "echo", params, 34), KNIT_TOO_DEEP);
}

static void results_are_checked_against_the_signature(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(RUN(fixture, "liar", "\x90"), KNIT_BAD_RESULT);
    assert_true(message_has(fixture, "int"));
    assert_int_equal(fixture->failure.started, KNIT_STARTED_YES);
    assert_int_equal(RUN(fixture, "half", "\x90"), KNIT_BAD_RESULT);
    assert_true(message_has(fixture, "fewer elements"));
}

static void a_number_returned_without_an_outcome_is_no_success(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(RUN(fixture, "only_returns", "\x91\x05"), KNIT_BAD_RESULT);
    assert_true(message_has(fixture, "returned 5"));
    assert_int_equal(fixture->failure.started, KNIT_STARTED_YES);
    assert_int_equal(RUN(fixture, "only_returns", "\x91\xff"), KNIT_BAD_RESULT);
    assert_true(message_has(fixture, "returned -1"));
    assert_int_equal(RUN(fixture, "only_returns", "\x91\x00"), 0);
    assert_memory_equal(fixture->job.result, "\xc0", 1);
    /* A room that was filled is an outcome of a task that returns 0 only. */
    assert_int_equal(RUN(fixture, "fill_and_return", "\x92\x03\x00"), 0);
    assert_memory_equal(fixture->job.result, "\xc4\x03\x00\x00\x00", 5);
    assert_int_equal(RUN(fixture, "fill_and_return", "\x92\x03\x05"), KNIT_BAD_RESULT);
    assert_int_equal(
        RUN(fixture, "fill_and_return", "\x92\xce\x00\x01\x86\xa0\x05"), KNIT_RESULT_TOO_LARGE);
    /* With an outcome the number says nothing more. */
    assert_int_equal(RUN(fixture, "add", "\x92\x07\x08"), 0);
}

static void nil_and_absent_arguments_differ_from_zero(void **state)
{
    struct fixture *fixture = *state;
    unsigned char params[24] = {0xdc, 0x00, 0x15, 20};

    assert_int_equal(RUN(fixture, "is_nil", "\x92\x01\xc0"), 0);
    assert_memory_equal(fixture->job.result, "\xc3", 1);
    assert_int_equal(RUN(fixture, "is_nil", "\x91\x01"), 0);
    assert_memory_equal(fixture->job.result, "\xc3", 1);
    assert_int_equal(RUN(fixture, "is_nil", "\x92\x01\x00"), 0);
    assert_memory_equal(fixture->job.result, "\xc2", 1);
    assert_int_equal(RUN(fixture, "is_nil", "\x92\x01\xa0"), 0);
    assert_memory_equal(fixture->job.result, "\xc2", 1);
    assert_int_equal(RUN(fixture, "is_nil", "\x92\xce\xff\xff\xff\xff\x00"), 0);
    assert_memory_equal(fixture->job.result, "\xc3", 1);
    /* The last of 21, behind those that the check has found. */
    params[23] = 0xc0;
    assert_int_equal(run(fixture, "is_nil", params, sizeof(params)), 0);
    assert_memory_equal(fixture->job.result, "\xc3", 1);
    params[23] = 0x00;
    assert_int_equal(run(fixture, "is_nil", params, sizeof(params)), 0);
    assert_memory_equal(fixture->job.result, "\xc2", 1);
}

static void a_task_fails_with_code_message_and_data(void **state)
{
    struct fixture *fixture = *state;
    struct knit_span value;
    int64_t code;

    assert_int_equal(RUN(fixture, "refuse", "\x93\xd0\xf9\xa3why\x92\x01\x02"), KNIT_TASK_FAILED);
    assert_true(message_has(fixture, "why"));
    assert_true(knit_failure_task_data(&fixture->failure, &code, &value));
    assert_int_equal(code, -7);
    assert_int_equal(value.len, 3);
    assert_memory_equal(value.bytes, "\x92\x01\x02", 3);
    assert_int_equal(RUN(fixture, "refuse", "\x92\x01\xa3why"), KNIT_TASK_FAILED);
    assert_true(knit_failure_task_data(&fixture->failure, &code, &value));
    assert_null(value.bytes);
}

static void any_number_of_arguments_can_be_read(void **state)
{
    struct fixture *fixture = *state;
    struct knit_buffer buffer;
    struct knit_writer writer;

    knit_buffer_init(&buffer, 1 << 20);
    knit_writer_init(&writer, &buffer);
    knit_writer_array(&writer, 5000);
    for (int i = 0; i < 5000; i++)
        knit_writer_int(&writer, i);
    assert_int_equal(knit_writer_end(&writer), 0);
    assert_int_equal(run(fixture, "sum", buffer.bytes, buffer.len), 0);
    assert_memory_equal(
        fixture->job.result, "\xce\x00\xbe\xb2\x5c", 5); /* 5000 * 4999 / 2 = 12497500 */
    knit_buffer_fini(&buffer);
}

/* 65 arguments, of which the signature's check notes the place of all but the last. */
static int64_t sum_of_65(struct fixture *fixture, int64_t each)
{
    struct knit_buffer buffer;
    struct knit_writer writer;
    struct knit_head head;
    int64_t sum = 0;

    knit_buffer_init(&buffer, 1 << 10);
    knit_writer_init(&writer, &buffer);
    knit_writer_array(&writer, 65);
    for (int i = 0; i < 65; i++)
        knit_writer_int(&writer, each);
    assert_int_equal(knit_writer_end(&writer), 0);
    assert_int_equal(run(fixture, "sum", buffer.bytes, buffer.len), 0);
    assert_int_equal(knit_head_read(fixture->job.result, fixture->job.result_len, &head), 0);
    assert_true(knit_head_as_int(&head, &sum));
    knit_buffer_fini(&buffer);
    return sum;
}

static void an_argument_is_not_looked_for_where_that_of_the_call_before_lay(void **state)
{
    struct fixture *fixture = *state;

    assert_int_equal(sum_of_65(fixture, 1), 65);
    assert_int_equal(sum_of_65(fixture, 100000), 6500000);
    assert_int_equal(sum_of_65(fixture, 1), 65);
}

/* Bytes of an earlier result may be another session's. */
static void a_place_that_is_not_filled_is_zero(void **state)
{
    struct fixture *fixture = *state;
    static const uint8_t zeros[300];
    static const struct {
        const char *params;
        size_t len, head;
    } cases[] = {{"\x91\x64", 100, 2}, {"\x91\xcd\x01\x2c", 300, 3}};

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
        const struct knit_job *job = &fixture->job;
        const uint8_t *result;

        (void)run(fixture, "large", cases[i].params, strlen(cases[i].params));
        assert_int_equal(job->result_len, cases[i].head + cases[i].len);
        result = job->result;
        assert_int_equal(result[cases[i].head + 50], 50);
        (void)run(fixture, "leave_empty", cases[i].params, strlen(cases[i].params));
        assert_int_equal(job->result_len, cases[i].head + cases[i].len);
        result = job->result;
        assert_memory_equal(result + cases[i].head, zeros, cases[i].len);
    }
}

static void other_epochs_and_unknown_tasks_are_not_started(void **state)
{
    struct fixture *fixture = *state;
    struct knit_job *job = &fixture->job;

    *job = (struct knit_job){.meta = knit_meta(0, EPOCH + 1, 0, 1),
        .payload = spare_copy(fixture, "\x90", 1),
        .result_max = 1000};
    knit_runner_run(fixture->runner, job);
    assert_int_equal(
        knit_failure_decode(knit_span(job->result, job->result_len), &fixture->failure), 0);
    assert_int_equal(fixture->failure.code, KNIT_STALE_EPOCH);
    *job = (struct knit_job){.meta = knit_meta(9999, EPOCH, 0, 1),
        .payload = spare_copy(fixture, "\x90", 1),
        .result_max = 1000};
    knit_runner_run(fixture->runner, job);
    assert_int_equal(
        knit_failure_decode(knit_span(job->result, job->result_len), &fixture->failure), 0);
    assert_int_equal(fixture->failure.code, KNIT_UNKNOWN_TASK);
    assert_int_equal(fixture->failure.started, KNIT_STARTED_NO);
}

static void calls_refused_by_the_lane_get_their_errors(void **state)
{
    struct fixture *fixture = *state;
    static const int codes[] = {KNIT_CANCELLED, KNIT_TIMEOUT, KNIT_INTERNAL};

    for (size_t i = 0; i < 3; i++) {
        struct knit_job *job = &fixture->job;

        *job = (struct knit_job){.meta = knit_meta(id_of(fixture, "add"), EPOCH, 0, 3),
            .payload = spare_copy(fixture, "\x92\x01\x02", 3),
            .refusal = codes[i],
            .result_max = 1000};
        knit_runner_run(fixture->runner, job);
        assert_true(job->result_len <= KNIT_INLINE_MAX);
        assert_int_equal(
            knit_failure_decode(knit_span(job->result, job->result_len), &fixture->failure), 0);
        assert_int_equal(fixture->failure.code, codes[i]);
        assert_int_equal(fixture->failure.started, KNIT_STARTED_NO);
    }
}

static void a_quarantined_task_does_not_run_until_it_is_lifted(void **state)
{
    struct fixture *fixture = *state;
    uint32_t add = id_of(fixture, "add");
    _Atomic uint8_t *mark = &fixture->marks[add];

    atomic_store_explicit(mark, KNIT_MARK_QUARANTINED, memory_order_relaxed);
    assert_int_equal(RUN(fixture, "add", "\x92\x07\x08"), KNIT_QUARANTINED);
    assert_int_equal(fixture->failure.started, KNIT_STARTED_NO);
    assert_int_equal(RUN(fixture, "echo", "\x91\x07"), 0);
    atomic_store_explicit(mark, KNIT_MARK_TRUSTED, memory_order_relaxed);
    assert_int_equal(RUN(fixture, "add", "\x92\x07\x08"), 0);
    assert_int_equal(atomic_load_explicit(&fixture->busy.task, memory_order_relaxed), add);
}

#define WITH_FIXTURE(test) cmocka_unit_test_setup_teardown(test, setup, teardown)

static void expect_output(struct knit_span output, size_t len, bool is_cut)
{
    struct knit_span text;
    bool got_cut;

    assert_int_equal(knit_printed_read(output, &text, &got_cut), 0);
    assert_int_equal(text.len, len);
    assert_int_equal(got_cut, is_cut);
}

static void what_a_task_prints_comes_with_its_outcome_where_that_is_wanted(void **state)
{
    struct fixture *fixture = *state;
    static const char text[1000] = "printed";
    struct knit_span result, output;
    unsigned char params[6] = {0x91, 0xce};
    static const size_t sizes[] = {10, RESULT_MAX - 1000, RESULT_MAX - 60};

    captures = 0;
    assert_int_equal(RUN(fixture, "add", "\x92\x07\x08"), 0);
    assert_int_equal(captures, 0);
    fixture->wants_output = true;
    said = knit_span(text, sizeof(text));
    assert_int_equal(RUN(fixture, "add", "\x92\x07\x08"), 0);
    assert_int_equal(captures, 1);
    assert_int_equal(knit_printed_split(
                         knit_span(fixture->job.result, fixture->job.result_len), &result, &output),
        0);
    assert_true(knit_span_is(result, "\x0f"));
    expect_output(output, sizeof(text), false);
    assert_int_equal(RUN(fixture, "refuse", "\x93\x05\xa1x\xc0"), KNIT_TASK_FAILED);
    expect_output(fixture->failure.output, sizeof(text), false);
    /* The task did not run. */
    assert_int_equal(RUN(fixture, "add", "\x92\x07\xa1x"), KNIT_BAD_ARGUMENT);
    assert_null(fixture->failure.output.bytes);
    assert_int_equal(captures, 2);
    /* The result has more right to the room. */
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint32_t len = (uint32_t)sizes[i] - 5;

        for (int j = 0; j < 4; j++)
            params[2 + j] = (unsigned char)(len >> (24 - 8 * j));
        assert_int_equal(run(fixture, "large", params, sizeof(params)), 0);
        assert_true(fixture->job.result_len <= RESULT_MAX);
        assert_int_equal(knit_printed_split(knit_span(fixture->job.result, fixture->job.result_len),
                             &result, &output),
            0);
        assert_true(result.len >= len);
        expect_output(output, i == 0 ? sizeof(text) : RESULT_MAX - 32 - result.len, i != 0);
    }
    params[5] = (unsigned char)(params[5] + 50);
    assert_int_equal(run(fixture, "large", params, sizeof(params)), KNIT_RESULT_TOO_LARGE);
    fixture->wants_output = false;
    assert_int_equal(run(fixture, "large", params, sizeof(params)), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_FIXTURE(small_results_lie_in_the_job),
        WITH_FIXTURE(large_results_are_whole_up_to_the_limit),
        WITH_FIXTURE(wrong_arguments_are_named_and_nothing_runs),
        WITH_FIXTURE(nesting_is_limited_both_ways),
        WITH_FIXTURE(results_are_checked_against_the_signature),
        WITH_FIXTURE(a_number_returned_without_an_outcome_is_no_success),
        WITH_FIXTURE(nil_and_absent_arguments_differ_from_zero),
        WITH_FIXTURE(a_task_fails_with_code_message_and_data),
        WITH_FIXTURE(any_number_of_arguments_can_be_read),
        WITH_FIXTURE(an_argument_is_not_looked_for_where_that_of_the_call_before_lay),
        WITH_FIXTURE(a_place_that_is_not_filled_is_zero),
        WITH_FIXTURE(other_epochs_and_unknown_tasks_are_not_started),
        WITH_FIXTURE(calls_refused_by_the_lane_get_their_errors),
        WITH_FIXTURE(what_a_task_prints_comes_with_its_outcome_where_that_is_wanted),
        WITH_FIXTURE(a_quarantined_task_does_not_run_until_it_is_lifted),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
