/* SPDX-License-Identifier: Apache-2.0 */
/* Goal: a prepared call does and says what a call by name does, whatever becomes of the pool's
 * tasks, of its owner's memory and of itself. Method: one table of cases for all forms, over a
 * stream; a pool that gives its tasks other numbers while it is called; everything that a caller
 * may do wrong with one. What needs real workers is in tests/system/client_calls.c.
 */
#include <endian.h>
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include <knitting/knitting.h>

#include "clients/lib/client.h"
#include "fastpath/lane/bell.h"
#include "fastpath/lane/segment.h"
#include "fastpath/lane/words.h"
#include "proto/failure.h"
#include "tests/clients/fake_server.h"
#include "tests/clients/forms.h"
#include "tests/support/deadline.h"

static struct knit *k;
static struct knit_error error;

static int start_session(void **state)
{
    error = (struct knit_error){0};
    (void)knit_fake_start(state);
    k = knit_fake_open(NULL);
    return 0;
}

static int stop(void **state)
{
    k = knit_close(k);
    return knit_fake_stop(state);
}

static struct knit_prepared *prepare(const char *task, const char *signature)
{
    struct knit_prepared *prepared = NULL;

    assert_int_equal(knit_prepare(k, &error, task, signature, &prepared), KNIT_OK);
    return prepared;
}

/* ---- the same in every form ---- */

static void every_form_says_the_same(void **state)
{
    static const struct {
        const char *task, *signature;
        int code;
    } cases[] = {
        {"echo", "(int, int) -> int", KNIT_OK},
        {"echo", "echo(a: int, b: int) -> int", KNIT_OK},
        {"params", "(int, int)", KNIT_OK},
        {"params", "(int, int) -> int", KNIT_BAD_RESULT},
        {"echo", "(int, int) -> str", KNIT_BAD_RESULT},
        {"echo", "(int, int) -> (int, int)", KNIT_BAD_RESULT},
        {"fail", "(int, int) -> int", KNIT_TASK_FAILED},
        {"code", "(int, int) -> int", KNIT_UNKNOWN_TASK},
        {"ech\xff", "(int, int) -> int", KNIT_UNKNOWN_TASK},
        {"echo", "", KNIT_BAD_ARGUMENT},
        {"echo", "(int", KNIT_BAD_ARGUMENT},
        {"echo", "(int, int) -> ", KNIT_BAD_ARGUMENT},
        {"echo", "(int, int...) -> int", KNIT_BAD_ARGUMENT},
        {"echo", "(int, \xff\xfe) -> int", KNIT_BAD_ARGUMENT},
        {"echo", "(int,\n int) -> int", KNIT_BAD_ARGUMENT},
        {"ech\xff", "(int", KNIT_BAD_ARGUMENT},
    };
    const int64_t numbers[2] = {KNIT_UNKNOWN_TASK, -7};

    (void)state;
    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        (void)knit_forms_all(k, cases[i].task, cases[i].signature, numbers, cases[i].code, NULL);
    assert_int_equal(
        knit_forms_all(k, "echo", "(int, int) -> int", numbers, KNIT_OK, NULL), numbers[0]);
}

static void a_failed_preparation_writes_nothing(void **state)
{
    struct knit_prepared *const unset = (struct knit_prepared *)&error, *prepared = unset;

    (void)state;
    assert_int_equal(knit_prepare(k, &error, "echo", "(in)", &prepared), KNIT_BAD_ARGUMENT);
    assert_ptr_equal(prepared, unset);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(error.origin, KNIT_ORIGIN_CLIENT);
    assert_string_equal(error.message, "the signature \"(in)\" is wrong at byte 1: unknown type");
}

/* More parameters than fit a cell, and than a table of the usual ones may hold. */
static void any_number_of_parameters_is_passed(void **state)
{
    (void)state;
    for (uint32_t count = 0; count <= 65; count++) {
        char signature[65 * 5 + 3];
        struct knit_prepared *prepared = NULL;
        struct knit_handle *handle = NULL;
        const void *result = NULL;
        size_t len = 0;
        int code, at = 0;

        for (uint32_t i = 0; i < count; i++)
            at += snprintf(
                signature + at, sizeof(signature) - (size_t)at, "%cint", i == 0 ? '(' : ',');
        (void)snprintf(signature + at, sizeof(signature) - (size_t)at, count == 0 ? "()" : ")");
        code = knit_prepare(k, &error, "params", signature, &prepared);
        assert_int_equal(code, count <= 64 ? KNIT_OK : KNIT_BAD_ARGUMENT);
        if (code != KNIT_OK)
            continue;
#define EIGHT(n)                                                                                   \
    (int64_t)(n), (int64_t)(n) + 1, (int64_t)(n) + 2, (int64_t)(n) + 3, (int64_t)(n) + 4,          \
        (int64_t)(n) + 5, (int64_t)(n) + 6, (int64_t)(n) + 7
        assert_int_equal(knit_start_prepared(prepared, NULL, &handle, &error, EIGHT(0), EIGHT(8),
                             EIGHT(16), EIGHT(24), EIGHT(32), EIGHT(40), EIGHT(48), EIGHT(56)),
            KNIT_OK);
        assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
        assert_int_equal(knit_result_raw(handle, &error, &result, &len), KNIT_OK);
        assert_int_equal(len, count + (count < 16 ? 1 : 3));
        for (uint32_t i = 0; i < count; i++)
            assert_int_equal(((const uint8_t *)result)[len - count + i], i);
        knit_free(handle);
        knit_prepared_free(prepared);
    }
}

/* A result is valid until the next call, so it may be what that one is given. */
static void a_raw_result_can_be_the_next_params(void **state)
{
    static const size_t sizes[] = {10, 300, 100000};
    static uint8_t params[6 + 100000];

    (void)state;
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const void *result = params;
        size_t len = 6 + sizes[i];
        const uint32_t size = htobe32((uint32_t)sizes[i]);

        memset(params, 'x', sizeof(params));
        memcpy(params, "\x91\xc6", 2);
        memcpy(params + 2, &size, sizeof(size));
        for (int round = 0; round < 3; round++) {
            assert_int_equal(
                knit_call_raw(k, NULL, &error, "params", result, len, &result, &len), KNIT_OK);
            assert_int_equal(len, 6 + sizes[i]);
            assert_memory_equal(result, params, len);
        }
        for (int round = 0; round < 3; round++) {
            assert_int_equal(
                knit_call(k, &error, "params", NULL, result, len, &result, &len), KNIT_OK);
            assert_int_equal(len, 6 + sizes[i]);
            assert_memory_equal(result, params, len);
        }
    }
}

static void without_a_signature_it_takes_and_gives_msgpack(void **state)
{
    struct knit_prepared *prepared = prepare("echo", NULL);
    struct knit_handle *handle = NULL;
    const void *result = NULL;
    size_t len = 0;

    (void)state;
    assert_int_equal(
        knit_call_prepared(prepared, NULL, &error, "\x91\x05", (size_t)2, &result, &len), KNIT_OK);
    assert_int_equal(len, 1);
    assert_memory_equal(result, "\x05", 1);
    assert_int_equal(
        knit_call_prepared(prepared, NULL, &error, "\x91\x05", (size_t)2, NULL, NULL), KNIT_OK);
    assert_int_equal(knit_call_prepared(prepared, NULL, &error, "\x05", (size_t)1, NULL, NULL),
        KNIT_BAD_ARGUMENT);
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(
        knit_start_prepared(prepared, NULL, &handle, &error, "\x91\x06", (size_t)2), KNIT_OK);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &result, &len), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_result_raw(handle, &error, &result, &len), KNIT_OK);
    assert_memory_equal(result, "\x06", 1);
    knit_free(handle);
}

static void values_of_every_type_are_passed(void **state)
{
    static const double sent[] = {1.5, -2.5};
    const struct knit_time time = {-1, 999999999};
    const int64_t seven = 7;
    struct knit_time got_time = {0};
    int64_t number = 0, optional = 0;
    double real = 0;
    bool flag = false, is_there = false;
    const char *text = NULL;
    const void *bin = NULL;
    const double *reals = NULL;
    size_t text_len = 0, bin_len = 0, count = 0;
    struct knit_prepared *prepared =
        prepare("params", "(int, float, bool, str, bin, time, f64[], int?) ->"
                          " (int, float, bool, str, bin, time, f64[], int?)");

    (void)state;
    for (int i = 0; i < 3; i++)
        assert_int_equal(
            knit_call_prepared(prepared, NULL, &error, INT64_MIN, 0.5, 1, "text", "\0\1", (size_t)2,
                &time, sent, (size_t)2, &seven, &number, &real, &flag, &text, &text_len, &bin,
                &bin_len, &got_time, &reals, &count, &is_there, &optional),
            KNIT_OK);
    assert_true(number == INT64_MIN && real == 0.5 && flag && is_there && optional == 7);
    assert_true(text_len == 4 && memcmp(text, "text", 4) == 0);
    assert_true(bin_len == 2 && memcmp(bin, "\0\1", 2) == 0);
    assert_true(got_time.seconds == -1 && got_time.nanoseconds == 999999999);
    assert_true(count == 2 && memcmp(reals, sent, sizeof(sent)) == 0);
}

/* ---- whose memory it is ---- */

static void its_texts_are_copied(void **state)
{
    char task[] = "echo", signature[] = "(int) -> int";
    struct knit_prepared *prepared = prepare(task, signature);
    struct knit_handle *handle = NULL;
    int64_t number = 0;

    (void)state;
    assert_int_equal(knit_start(k, NULL, &handle, &error, task, signature, (int64_t)9), KNIT_OK);
    memset(task, 'x', 4);
    memset(signature, 'x', 12);
    assert_int_equal(knit_call_prepared(prepared, NULL, &error, (int64_t)8, &number), KNIT_OK);
    assert_int_equal(number, 8);
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &number), KNIT_OK);
    assert_int_equal(number, 9);
    knit_free(handle);
}

static void a_text_that_was_changed_in_place_is_another_task(void **state)
{
    char task[] = "echo", signature[] = "(int) -> int";
    const char *text = NULL;
    size_t len = 0;
    int64_t number = 0;

    (void)state;
    assert_int_equal(knit_call(k, &error, task, signature, (int64_t)1, &number), KNIT_OK);
    memcpy(task, "fail", 4);
    assert_int_equal(knit_call(k, &error, task, signature, (int64_t)1, &number), KNIT_TASK_FAILED);
    memcpy(task, "echo", 4);
    memcpy(signature, "(str) -> str", 12);
    assert_int_equal(knit_call(k, &error, task, signature, "text", &text, &len), KNIT_OK);
    assert_int_equal(len, 4);
    memcpy(signature, "(str", 5);
    assert_int_equal(knit_call(k, &error, task, signature, "text", &text, &len), KNIT_BAD_ARGUMENT);
}

/* A text is compared by words, and nothing lies behind its end but a page that nobody may read. */
static void a_text_at_the_end_of_memory_may_become_shorter(void **state)
{
    static const struct {
        const char *task, *signature;
        int code;
    } cases[] = {
        {"echo", "(int) -> int", KNIT_OK},
        {"echo", "(int) -> str", KNIT_BAD_RESULT},
        {"echo", "(int)", KNIT_OK},
        {"echo", "int", KNIT_BAD_ARGUMENT},
        {"fail", "(int) -> int", KNIT_TASK_FAILED},
        {"params", "(int)", KNIT_OK},
        {"params", "(int) -> int", KNIT_BAD_RESULT},
    };
    const size_t page = (size_t)sysconf(_SC_PAGESIZE), count = sizeof(cases) / sizeof(cases[0]);
    char *pages = mmap(NULL, 2 * page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    (void)state;
    assert_ptr_not_equal(pages, MAP_FAILED);
    assert_int_equal(mprotect(pages + page, page, PROT_NONE), 0);
    /* Each text at the place of each other one, so that all of them grow and shrink. */
    for (size_t i = 0; i < count * count * 2; i++) {
        const char *task = cases[i % count].task, *signature = cases[i % count].signature;
        const char *place = cases[i / 2 / count].task, *other = cases[i / 2 / count].signature;
        char *task_at = pages + page - strlen(place) - 1, *signature_at;
        int64_t number = 0;

        if (strlen(task) > strlen(place) || strlen(signature) > strlen(other))
            continue;
        signature_at = task_at - strlen(other) - 1;
        memcpy(task_at, task, strlen(task) + 1);
        memcpy(signature_at, signature, strlen(signature) + 1);
        assert_int_equal(knit_call(k, &error, task_at, signature_at, (int64_t)1, &number),
            cases[i % count].code);
    }
    assert_int_equal(munmap(pages, 2 * page), 0);
}

static void freed_once_or_twice_it_is_refused_and_harms_nothing(void **state)
{
    struct knit_prepared *prepared = prepare("echo", "(int) -> int"), *other;
    struct knit_handle *handle = NULL;
    int64_t number = 0;

    (void)state;
    assert_null(knit_prepared_free(NULL));
    assert_int_equal(knit_start_prepared(prepared, NULL, &handle, &error, (int64_t)4), KNIT_OK);
    for (int i = 0; i < 2; i++) {
        assert_null(knit_prepared_free(prepared));
        assert_int_equal(
            knit_call_prepared(prepared, NULL, &error, (int64_t)1, &number), KNIT_BAD_ARGUMENT);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        assert_non_null(strstr(error.message, "freed"));
    }
    other = prepare("echo", "(str) -> str");
    /* The handle keeps what it needs. */
    assert_int_equal(knit_await(handle, -1, &error), KNIT_OK);
    assert_int_equal(knit_results(handle, &error, &number), KNIT_OK);
    assert_int_equal(number, 4);
    knit_free(handle);
    knit_free(handle);
    assert_null(knit_prepared_free(prepared));
    assert_int_equal(
        knit_call_prepared(prepared, NULL, &error, (int64_t)1, &number), KNIT_BAD_ARGUMENT);
    knit_prepared_free(other);
    knit_prepared_free(other);
    assert_int_equal(knit_call(k, &error, "echo", "(int) -> int", (int64_t)3, &number), KNIT_OK);
}

/* What one of them held is what the next one holds: a caller that prepares for each call does not
 * make the session grow. */
static void the_memory_of_freed_ones_is_used_again(void **state)
{
    struct knit_prepared *first = prepare("echo", "(int) -> int");

    (void)state;
    knit_prepared_free(first);
    for (int i = 0; i < 100; i++) {
        struct knit_prepared *prepared = prepare("echo", "(int) -> int");

        assert_ptr_equal(prepared, first);
        knit_prepared_free(prepared);
    }
}

static void closing_frees_those_that_are_left(void **state)
{
    struct knit_handle *handle = NULL;

    (void)state;
    assert_int_equal(knit_start_prepared(prepare("hold", "()"), NULL, &handle, &error), KNIT_OK);
    for (int i = 0; i < 10; i++)
        (void)prepare("echo", "(int) -> int");
    /* A sanitizer or valgrind sees what would be left. */
    k = knit_close(k);
}

/* More signatures than a session keeps, with handles that need them all. */
static void handles_outlast_what_the_session_keeps(void **state)
{
    enum { COUNT = 4 * KNIT_PREPAREDS_KEPT };
    static char signatures[COUNT][32];
    static struct knit_handle *handles[COUNT];

    (void)state;
    for (int64_t i = 0; i < COUNT; i++) {
        snprintf(signatures[i], sizeof(signatures[i]), "n%d(int) -> %s", (int)i,
            i % 2 == 0 ? "int" : "str");
        assert_int_equal(
            knit_start(k, NULL, &handles[i], &error, "echo", signatures[i], i), KNIT_OK);
        memset(signatures[i], '?', sizeof(signatures[i]));
    }
    for (int64_t i = 0; i < COUNT; i++) {
        int64_t number = -1;

        assert_int_equal(knit_await(handles[i], -1, &error), KNIT_OK);
        assert_int_equal(knit_results(handles[i], &error, &number, NULL),
            i % 2 == 0 ? KNIT_OK : KNIT_BAD_RESULT);
        assert_int_equal(number, i % 2 == 0 ? i : -1);
        knit_free(handles[i]);
    }
}

/* ---- whose session, thread and process ---- */

static void it_belongs_to_the_session_that_made_it(void **state)
{
    struct knit_prepared *prepared;
    struct knit *first, *second;
    char url[sizeof(fake.url)];
    int64_t number = 0;

    (void)state;
    k = knit_close(k);
    k = first = knit_fake_open(&(const struct knit_open_options){.stays_lost = true});
    prepared = prepare("echo", "(int) -> int");
    snprintf(url, sizeof(url), "%s", fake.url);
    shutdown(fake.fd, SHUT_RDWR);
    assert_true(KNIT_WAIT_UNTIL(knit_ping(first, NULL, NULL) == KNIT_DISCONNECTED, 5000));
    assert_int_equal(knit_open(url, NULL, &second, &error), KNIT_OK);
    assert_int_equal(
        knit_call(second, &error, "echo", "(int) -> int", (int64_t)1, &number), KNIT_OK);
    assert_int_equal(
        knit_call_prepared(prepared, NULL, &error, (int64_t)1, &number), KNIT_DISCONNECTED);
    assert_int_equal(knit_prepare(first, &error, "echo", "()", &(struct knit_prepared *){NULL}),
        KNIT_DISCONNECTED);
    knit_prepared_free(prepared);
    assert_null(knit_close(second));
}

struct errand {
    struct knit_prepared *prepared;
    int64_t number;
    int code;
};

static void *run_errand(void *arg)
{
    struct errand *errand = arg;

    errand->code = knit_call_prepared(errand->prepared, NULL, NULL, (int64_t)12, &errand->number);
    knit_prepared_free(errand->prepared);
    return NULL;
}

static void another_thread_may_use_and_free_it(void **state)
{
    struct errand errand = {.prepared = prepare("echo", "(int) -> int")};
    pthread_t thread;

    (void)state;
    assert_int_equal(pthread_create(&thread, NULL, run_errand, &errand), 0);
    assert_int_equal(pthread_join(thread, NULL), 0);
    assert_int_equal(errand.code, KNIT_OK);
    assert_int_equal(errand.number, 12);
}

static void a_forked_child_is_told_that_it_is_its_parents(void **state)
{
    struct knit_prepared *prepared = prepare("echo", "(int) -> int");
    int64_t number = 0;
    int status = 0;
    pid_t child;

    (void)state;
    child = fork();
    if (child == 0) {
        struct knit_prepared *more;
        bool is_told =
            knit_call_prepared(prepared, NULL, &error, (int64_t)1, &number) == KNIT_DISCONNECTED &&
            knit_prepare(k, NULL, "echo", "()", &more) == KNIT_DISCONNECTED;

        knit_prepared_free(prepared);
        knit_close(k);
        _exit(is_told ? 0 : 1);
    }
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_int_equal(status, 0);
    assert_int_equal(knit_call_prepared(prepared, NULL, &error, (int64_t)1, &number), KNIT_OK);
}

static void prepare_in_callback(struct knit_handle *handle, void *user)
{
    struct knit_handle **ret = user;
    struct knit_prepared *prepared = NULL;

    k = knit_handle_session(handle);
    knit_free(handle);
    prepared = prepare("echo", "(int) -> int");
    assert_int_equal(knit_start_prepared(prepared, NULL, ret, &error, (int64_t)5), KNIT_OK);
    assert_int_equal(
        knit_call_prepared(prepared, NULL, &error, (int64_t)5, NULL), KNIT_BAD_ARGUMENT);
    assert_string_equal(error.message, "a callback must not wait");
    knit_prepared_free(prepared);
}

static void a_callback_may_prepare_start_and_free(void **state)
{
    struct knit_handle *handle = NULL, *another = NULL;
    int64_t number = 0;

    (void)state;
    assert_int_equal(knit_start(k, NULL, &handle, &error, "echo", "()"), KNIT_OK);
    knit_on_done(handle, prepare_in_callback, &another);
    assert_true(KNIT_WAIT_UNTIL(knit_dispatch(k, &error) != KNIT_OK || another != NULL, 5000));
    assert_int_equal(knit_await(another, -1, &error), KNIT_OK);
    assert_int_equal(knit_results(another, &error, &number), KNIT_OK);
    assert_int_equal(number, 5);
    knit_free(another);
}

/* ---- a pool whose tasks change ---- */

/* A worker of the fake server's lanes: each task gives its letter, as a number. */
struct worker {
    pthread_t thread;
    struct knit_mapping mapping;
    struct knit_request_view request;
    struct knit_reply_view reply;
    uint64_t at[2]; /* ring positions */
    _Atomic uint32_t served, stale;
    _Atomic bool is_over;
};

static void answer(struct worker *worker, uint64_t ctrl, uint64_t meta)
{
    const uint32_t moved = atomic_load_explicit(&fake.epoch_more, memory_order_relaxed);
    const uint32_t slot = knit_ctrl_slot(ctrl);
    struct knit_reply_cell *cell = &worker->reply.reply[slot];
    bool is_stale = knit_meta_epoch(meta) != ((1 + moved) & 0xff);
    const struct knit_failure failure = knit_failure(KNIT_STALE_EPOCH, "other tasks");
    uint8_t number = (uint8_t)('a' + (knit_meta_task(meta) + moved) % 3);
    uint64_t body[KNIT_CELL_WORDS] = {number};
    struct knit_buffer bytes;

    knit_buffer_init_fixed(&bytes, body, sizeof(body));
    if (is_stale)
        assert_int_equal(knit_failure_put(&bytes, &failure, KNIT_FAILURE_COMPACT), 0);
    else
        bytes.len = 1;
    atomic_store_explicit(
        &worker->reply.claim[slot], knit_claim(knit_ctrl_gen(ctrl), 5), memory_order_relaxed);
    for (uint32_t i = 0; i < KNIT_CELL_WORDS; i++)
        atomic_store_explicit(&cell->body[i], body[i], memory_order_relaxed);
    atomic_store_explicit(
        &cell->meta, knit_meta(0, 0, 0, (uint32_t)bytes.len), memory_order_relaxed);
    atomic_store_explicit(&cell->word,
        knit_word(knit_ctrl_gen(ctrl), is_stale ? KNIT_STATUS_ERROR : KNIT_STATUS_RESULT, 0),
        memory_order_release);
    atomic_fetch_add_explicit(is_stale ? &worker->stale : &worker->served, 1, memory_order_relaxed);
}

static void *serve(void *arg)
{
    struct worker *worker = arg;
    const uint32_t cells = fake.geometry.cells;

    while (!atomic_load_explicit(&worker->is_over, memory_order_relaxed)) {
        for (uint32_t lane = 0; lane < 2; lane++) {
            struct knit_request_cell *cell =
                &worker->request.ring[lane * cells + (worker->at[lane] & (cells - 1))];
            uint64_t ctrl = atomic_load_explicit(&cell->ctrl, memory_order_acquire);

            if (knit_ctrl_tag(ctrl) != knit_tag(worker->at[lane], cells))
                continue;
            answer(worker, ctrl, atomic_load_explicit(&cell->meta, memory_order_relaxed));
            worker->at[lane]++;
        }
        sched_yield();
    }
    return NULL;
}

static void start_lanes(struct worker *worker)
{
    const struct knit_open_options options = {.spin_us = 100000};
    char url[160];

    fake.attaches = true;
    snprintf(url, sizeof(url), "shm://%.140s", fake.url + strlen("unix://"));
    k = knit_close(k);
    assert_int_equal(knit_open(url, &options, &k, &error), KNIT_OK);
    *worker = (struct worker){.is_over = false};
    assert_int_equal(knit_segment_map(fake.request_fd, knit_layout_request_bytes(&fake.geometry),
                         false, &worker->mapping),
        0);
    knit_layout_request(&fake.geometry, worker->mapping.base, &worker->request);
    knit_layout_reply(&fake.geometry, fake.reply.base, &worker->reply);
    assert_int_equal(pthread_create(&worker->thread, NULL, serve, worker), 0);
}

static void stop_lanes(struct worker *worker)
{
    atomic_store_explicit(&worker->is_over, true, memory_order_relaxed);
    assert_int_equal(pthread_join(worker->thread, NULL), 0);
    knit_segment_unmap(&worker->mapping);
}

static void change_tasks(void)
{
    atomic_fetch_add_explicit(&fake.epoch_more, 1, memory_order_relaxed);
}

static void it_follows_when_the_tasks_change(void **state)
{
    struct knit_prepared *a, *c;
    struct worker worker;
    int64_t number = 0;

    (void)state;
    start_lanes(&worker);
    a = prepare("a", "(int) -> int");
    c = prepare("c", "(int) -> int");
    for (uint32_t change = 0; change < 5; change++) {
        for (int i = 0; i < 3; i++) {
            int code = knit_call_prepared(a, NULL, &error, (int64_t)i, &number);

            /* The first call of one that has called before meets the change. */
            if (change > 0 && i == 0) {
                assert_int_equal(code, KNIT_STALE_EPOCH);
                assert_int_equal(error.started, KNIT_STARTED_NO);
                assert_true(error.retryable);
                continue;
            }
            assert_int_equal(code, KNIT_OK);
            assert_int_equal(number, 'a');
            assert_int_equal(knit_call_prepared(c, NULL, &error, (int64_t)i, &number), KNIT_OK);
            assert_int_equal(number, 'c');
            assert_int_equal(
                knit_call(k, &error, "b", "(int) -> int", (int64_t)i, &number), KNIT_OK);
            assert_int_equal(number, 'b');
        }
        change_tasks();
    }
    assert_int_equal(worker.stale, 4);
    stop_lanes(&worker);
}

static void every_form_follows_when_the_tasks_change(void **state)
{
    const int64_t numbers[2] = {1, 2};
    struct worker worker;

    (void)state;
    start_lanes(&worker);
    for (size_t i = 0; i < knit_forms_count; i++) {
        const struct knit_form *form = &knit_forms[i];
        int64_t number = 0;

        assert_int_equal(knit_forms_all(k, "a", "(int, int) -> int", numbers, KNIT_OK, NULL), 'a');
        change_tasks();
        assert_int_equal(
            form->call(k, "a", "(int, int) -> int", numbers, &number, &error), KNIT_STALE_EPOCH);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        assert_int_equal(
            form->call(k, "a", "(int, int) -> int", numbers, &number, &error), KNIT_OK);
        assert_int_equal(number, 'a');
    }
    stop_lanes(&worker);
}

static void a_task_that_comes_later_is_found(void **state)
{
    struct knit_prepared *prepared;
    struct worker worker;

    (void)state;
    start_lanes(&worker);
    prepared = prepare("nosuch", "(int) -> int");
    for (int i = 0; i < 2; i++) {
        assert_int_equal(
            knit_call_prepared(prepared, NULL, &error, (int64_t)1, NULL), KNIT_UNKNOWN_TASK);
        assert_int_equal(error.started, KNIT_STARTED_NO);
        assert_string_equal(error.message, "there is no task 'nosuch'");
    }
    stop_lanes(&worker);
}

static void the_tasks_own_timeout_holds(void **state)
{
    struct knit_prepared *prepared;
    struct worker worker;
    uint64_t begin_ms;

    (void)state;
    fake.timeout_ms = 100;
    start_lanes(&worker);
    stop_lanes(&worker);
    /* Nobody serves the lanes now. */
    prepared = prepare("b", "(int) -> int");
    for (int i = 0; i < 2; i++) {
        begin_ms = knit_clock_ns() / 1000000;
        assert_int_equal(
            knit_call_prepared(prepared, NULL, &error, (int64_t)1, NULL), KNIT_TIMEOUT);
        assert_true(knit_clock_ns() / 1000000 - begin_ms >= 90);
    }
}

static void a_name_that_is_null_is_refused(void **state)
{
    static const uint8_t none[] = {0x90};
    const char *no_task = NULL;
    struct knit_prepared *prepared;
    struct knit_handle *handle;
    const void *result;
    size_t len;
    bool lifted;

    (void)state;
    assert_int_equal(knit_call(k, &error, no_task, "()"), KNIT_BAD_ARGUMENT);
    assert_string_equal(error.message, "the name of the task is NULL");
    assert_int_equal(error.started, KNIT_STARTED_NO);
    assert_int_equal(knit_start(k, NULL, &handle, &error, no_task, "()"), KNIT_BAD_ARGUMENT);
    assert_int_equal(
        knit_call_raw(k, NULL, &error, no_task, none, 1, &result, &len), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_start_raw(k, NULL, &handle, &error, no_task, none, 1), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_notify(k, &error, no_task, "()"), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_notify_raw(k, &error, no_task, none, 1), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_prepare(k, &error, no_task, "()", &prepared), KNIT_BAD_ARGUMENT);
    assert_int_equal(knit_lift(k, &error, no_task, &lifted), KNIT_BAD_ARGUMENT);
}

#define WITH_SESSION(test) cmocka_unit_test_setup_teardown(test, start_session, stop)

int main(void)
{
    const struct CMUnitTest tests[] = {
        WITH_SESSION(every_form_says_the_same),
        WITH_SESSION(a_name_that_is_null_is_refused),
        WITH_SESSION(a_failed_preparation_writes_nothing),
        WITH_SESSION(any_number_of_parameters_is_passed),
        WITH_SESSION(a_raw_result_can_be_the_next_params),
        WITH_SESSION(without_a_signature_it_takes_and_gives_msgpack),
        WITH_SESSION(values_of_every_type_are_passed),
        WITH_SESSION(its_texts_are_copied),
        WITH_SESSION(a_text_that_was_changed_in_place_is_another_task),
        WITH_SESSION(a_text_at_the_end_of_memory_may_become_shorter),
        WITH_SESSION(freed_once_or_twice_it_is_refused_and_harms_nothing),
        WITH_SESSION(the_memory_of_freed_ones_is_used_again),
        WITH_SESSION(closing_frees_those_that_are_left),
        WITH_SESSION(handles_outlast_what_the_session_keeps),
        WITH_SESSION(it_belongs_to_the_session_that_made_it),
        WITH_SESSION(another_thread_may_use_and_free_it),
        WITH_SESSION(a_forked_child_is_told_that_it_is_its_parents),
        WITH_SESSION(a_callback_may_prepare_start_and_free),
        WITH_SESSION(it_follows_when_the_tasks_change),
        WITH_SESSION(every_form_follows_when_the_tasks_change),
        WITH_SESSION(a_task_that_comes_later_is_found),
        WITH_SESSION(the_tasks_own_timeout_holds),
    };

    return cmocka_run_group_tests_name("prepared", tests, NULL, NULL);
}
