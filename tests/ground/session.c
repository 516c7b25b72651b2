/* SPDX-License-Identifier: Apache-2.0 */
/* One caller's whole session, for a machine on which something fails once: open, ask the pool, call
 * by type and raw, large payloads, a batch, an event loop, cancelling, a deadline, a task that
 * fails, one that kills its worker, close.
 *
 *     session URL            each step may fail; says which did, by which code
 *     session URL --strict   nothing may fail
 *
 * What may not happen in either form ends it with status 3: a wrong result, an error without a
 * name or a sentence, a step after the failed one that does not work on a fresh session, a
 * descriptor that is left. An outcome that does not come is found by the test's own deadline.
 */
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <knitting/knitting.h>

#include "tests/support/deadline.h"

enum {
    EXIT_WRONG = 3,
    LARGE = 300000,
    BATCH = 40,
    REFUSALS_MAX = 3,
    PATIENCE_MS = 15000,
    DESCRIPTORS = 256
};

static const char *url;
static bool is_strict;
static struct knit *k;
static struct knit_error error;
static int refusals;
static char large[LARGE];

__attribute__((format(printf, 1, 2), noreturn)) static void wrong(const char *format, ...)
{
    va_list args;

    va_start(args, format);
    (void)fputs("WRONG ", stdout);
    (void)vprintf(format, args);
    (void)puts("");
    va_end(args);
    exit(EXIT_WRONG);
}

/* By a call for each descriptor: opening a folder could fail. */
static int count_descriptors(void)
{
    int count = 0;

    for (int fd = 0; fd < DESCRIPTORS; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return count;
}

/* ---- the steps: each returns a code, and ends the program over a wrong result ---- */

static int add(void)
{
    int64_t sum = 0;
    int code = knit_call(k, &error, "add", "(int, int) -> int", (int64_t)40, (int64_t)2, &sum);

    if (code == KNIT_OK && sum != 42)
        wrong("40 + 2 = %lld", (long long)sum);
    return code;
}

static int add_prepared(void)
{
    struct knit_prepared *prepared = NULL;
    int64_t sum = 0;
    int code = knit_prepare(k, &error, "add", "(int, int) -> int", &prepared);

    if (code == KNIT_OK)
        code = knit_call_prepared(prepared, NULL, &error, (int64_t)39, (int64_t)3, &sum);
    if (code == KNIT_OK && sum != 42)
        wrong("39 + 3 = %lld", (long long)sum);
    knit_prepared_free(prepared);
    return code;
}

static int call_raw(void)
{
    const void *result;
    size_t len;
    int code = knit_call_raw(k, NULL, &error, "echo", "\x91\x07", 2, &result, &len);

    if (code == KNIT_OK && (len != 1 || *(const char *)result != 7))
        wrong("echo gave %zu other bytes", len);
    return code;
}

static int echo_large(void)
{
    const char *got;
    size_t len;
    int code = knit_call(k, &error, "echo", "(bin) -> bin", large, (size_t)LARGE, &got, &len);

    if (code == KNIT_OK && (len != LARGE || memcmp(got, large, LARGE) != 0))
        wrong("%zu bytes came back otherwise", len);
    return code;
}

static int count_words(void)
{
    const void *map;
    size_t len;
    int code = knit_call(k, &error, "word_count", "(str) -> map", "so so la", &map, &len);

    if (code == KNIT_OK && (len != 9 || memcmp(map, "\x82\xa2so\x02\xa2la\x01", 9) != 0))
        wrong("the words were counted otherwise, in %zu bytes", len);
    return code;
}

static int batch(void)
{
    struct knit_handle *handles[BATCH] = {NULL};
    int result = KNIT_OK;

    for (int i = 0; i < BATCH; i++) {
        int code = knit_start(
            k, NULL, &handles[i], &error, "add", "(int, int) -> int", (int64_t)i, (int64_t)1);

        if (code != KNIT_OK) {
            handles[i] = NULL;
            result = code;
        }
    }
    for (int i = 0; i < BATCH; i++) {
        struct knit_error mine = {0};
        int64_t sum = 0;
        int code = handles[i] != NULL ? knit_await(handles[i], PATIENCE_MS, &mine) : KNIT_OK;

        if (handles[i] != NULL && code == KNIT_OK)
            code = knit_results(handles[i], &mine, &sum);
        if (code == KNIT_PENDING)
            wrong("call %d of the batch has no outcome", i);
        if (code != KNIT_OK)
            result = code, error = mine;
        else if (handles[i] != NULL && sum != i + 1)
            wrong("%d + 1 = %lld", i, (long long)sum);
        knit_free(handles[i]);
    }
    return result;
}

static void on_done(struct knit_handle *handle, void *user)
{
    int *left = user;

    (void)knit_await(handle, 0, NULL);
    --*left;
    knit_free(handle);
}

static int turn_a_loop(void)
{
    int left = 0, code = KNIT_OK;
    uint64_t until_ns = knit_deadline_in_ms(PATIENCE_MS);

    /* Refused once, it may succeed the next time. */
    if (knit_fd(k) < 0 && knit_fd(k) < 0)
        return knit_dispatch(k, &error);
    for (int i = 0; i < 5 && code == KNIT_OK; i++) {
        struct knit_handle *handle;

        code = knit_start(k, NULL, &handle, &error, "echo", "(str) -> str", "again");
        if (code == KNIT_OK) {
            knit_on_done(handle, on_done, &left);
            left++;
        }
    }
    /* Calls that were started refer to this stack, so they are waited for. */
    while (left > 0) {
        struct pollfd item = {.fd = knit_fd(k), .events = POLLIN};
        struct knit_error mine = {0};
        int turned = knit_flush(k, &mine);

        if (turned == KNIT_OK && poll(&item, 1, knit_deadline_left_ms(until_ns)) == 0)
            wrong("the loop waits for %d calls without end", left);
        if (turned == KNIT_OK)
            turned = knit_dispatch(k, &mine);
        if (turned != KNIT_OK && left > 0) {
            (void)knit_dispatch(k, NULL);
            if (left > 0 && knit_fd(k) < 0)
                wrong("the session has failed and %d calls have no outcome", left);
        }
        if (turned != KNIT_OK)
            code = turned, error = mine;
    }
    return code;
}

static int cancel(void)
{
    struct knit_handle *handle;
    int code = knit_start(k, NULL, &handle, &error, "sleep", "(int)", (int64_t)60000);

    if (code != KNIT_OK)
        return code;
    if (knit_await(handle, 1, NULL) == KNIT_PENDING)
        knit_cancel(handle);
    code = knit_await(handle, PATIENCE_MS, &error);
    if (code == KNIT_PENDING)
        wrong("a cancelled call has no outcome");
    knit_free(handle);
    return code == KNIT_CANCELLED ? KNIT_OK : code;
}

static int expire(void)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    int code;

    options.timeout_ms = 5;
    code = knit_call_with(k, &options, &error, "sleep", "(int)", (int64_t)60000);
    if (code == KNIT_OK)
        wrong("a task slept for a minute in 5 ms");
    return code == KNIT_TIMEOUT ? KNIT_OK : code;
}

static int fail(void)
{
    int code = knit_call(
        k, &error, "fail", "(int, str, any)", (int64_t)7, "on purpose", "\x92\x01\xc0", (size_t)3);

    if (code == KNIT_OK)
        wrong("a task that fails succeeded");
    return code == KNIT_TASK_FAILED ? KNIT_OK : code;
}

static int misspell(void)
{
    int code = knit_call(k, &error, "ad", "()");

    if (code == KNIT_OK)
        wrong("there is no task 'ad'");
    return code == KNIT_UNKNOWN_TASK ? KNIT_OK : code;
}

static int crash(void)
{
    int code = knit_call(k, &error, "crash", "(str)", "exit");

    if (code == KNIT_OK)
        wrong("a task survived its worker");
    /* A task that crashes often enough is quarantined. */
    return code == KNIT_WORKER_DIED || code == KNIT_QUARANTINED ? KNIT_OK : code;
}

static void on_task(const struct knit_task_info *info, void *user)
{
    if (info->name[0] == '\0')
        wrong("a task without a name");
    ++*(int *)user;
}

static int ask(void)
{
    const void *map;
    size_t len;
    uint64_t ns;
    int count = 0, code = knit_ping(k, &error, &ns);

    if (code == KNIT_OK)
        code = knit_tasks(k, &error, on_task, &count);
    if (code == KNIT_OK && count != 8)
        wrong("%d tasks", count);
    return code == KNIT_OK ? knit_stats(k, &error, &map, &len) : code;
}

static int close_and_open(void);

static const struct step {
    const char *name;
    int (*run)(void);
} steps[] = {
    {"ask", ask},
    {"add", add},
    {"add_prepared", add_prepared},
    {"call_raw", call_raw},
    {"echo_large", echo_large},
    {"count_words", count_words},
    {"batch", batch},
    {"turn_a_loop", turn_a_loop},
    {"cancel", cancel},
    {"expire", expire},
    {"fail", fail},
    {"misspell", misspell},
    {"close_and_open", close_and_open},
    {"crash", crash},
    {"add", add},
};

/* ---- the session ---- */

/* A step failed: that must be reported, and only one call fails. */
static void note(const char *step, int code)
{
    if (code < 100 || error.code != code || error.name == NULL || error.message[0] == '\0')
        wrong("%s: code %d, reported as %d %s: \"%s\"", step, code, error.code,
            error.name != NULL ? error.name : "-", error.message);
    (void)printf("refused %s: %d %s: %s\n", step, code, error.name, error.message);
    if (is_strict || ++refusals > REFUSALS_MAX)
        wrong("%s does not work, although nothing fails", step);
}

static void open_session(void)
{
    const struct knit_open_options options = {.stays_lost = true};
    int code;

    while ((code = knit_open(url, &options, &k, &error)) != KNIT_OK) {
        k = NULL;
        note("open", code);
    }
}

static int close_and_open(void)
{
    k = knit_close(k);
    open_session();
    return KNIT_OK;
}

int main(int argc, char **argv)
{
    int before = count_descriptors();

    if (argc < 2)
        return 2;
    url = argv[1];
    is_strict = argc > 2 && strcmp(argv[2], "--strict") == 0;
    for (int i = 0; i < LARGE; i++)
        large[i] = (char)(i * 7 + i / 251);
    open_session();
    for (size_t i = 0; i < sizeof(steps) / sizeof(steps[0]); i++) {
        int code;

        memset(&error, 0, sizeof(error));
        code = steps[i].run();
        if (code == KNIT_OK)
            continue;
        note(steps[i].name, code);
        /* The rest goes on in this session if it can. */
        if (code == KNIT_DISCONNECTED)
            (void)close_and_open();
    }
    k = knit_close(k);
    if (count_descriptors() != before)
        wrong("%d descriptors are left", count_descriptors() - before);
    (void)puts("done");
    return 0;
}
