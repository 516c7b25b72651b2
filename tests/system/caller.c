/* SPDX-License-Identifier: Apache-2.0 */
/* A caller that system tests start, watch and kill; it calls the tasks of module_ledger.c through
 * the library, with any URL.
 *
 *     caller URL loop SEED               same() with values of all sizes, alone and in batches,
 *                                        until its input ends; compares, and prints how many
 *     caller URL calls GATE ID COUNT     hold(ID, GATE); after a line of input, ledger() of the
 *                                        COUNT ids behind it, all in flight at once
 *     caller URL hold GATE ID COUNT      COUNT times hold(), in flight at once
 *     caller URL abandon GATE ID COUNT   COUNT times hold(), which ignores its abort; after a line
 *                                        of input frees all handles; after another one COUNT more
 *                                        calls, as far as they can be started
 *     caller URL cancel GATE ID COUNT    as calls; after another line of input, cancels all of them
 *     caller URL expire GATE ID COUNT MS as calls, the COUNT with MS to live, and it ends when the
 *                                        last of those has
 *     caller URL tally ID COUNT          ledger() of COUNT ids from ID on, 64 in flight; lines for
 *                                        those that failed, at the end the count of the others
 *     caller URL primes N MS             primes_below(N) with MS to live
 *
 * Lines are "ready NS" each time calls are in flight, NS being when they were begun, then
 * "ID CODE STARTED RESULT NS" for each outcome: the error's code or 0, the process id of the worker
 * that ran it, and when the caller got it; times are CLOCK_MONOTONIC. Any other failure is a line
 * on stderr and exit status 1.
 */
#include <inttypes.h>
#include <poll.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <knitting/knitting.h>

#include "tests/support/deadline.h"
#include "tests/support/random.h"

enum { BATCH_MAX = 64, BIG_MAX = 200 * 1000, CALLS_MAX = 1024, WINDOW = 64 };

static struct knit *k;

static void die(const char *what, const struct knit_error *error)
{
    fprintf(stderr, "caller: %s: %s: %s\n", what, error->name, error->message);
    exit(1);
}

static void send_all(uint64_t begun_ns)
{
    struct knit_error error;

    if (knit_flush(k, &error) != KNIT_OK)
        die("flush", &error);
    printf("ready %" PRIu64 "\n", begun_ns);
}

/* ---- loop ---- */

struct echo {
    struct knit_handle *handle;
    unsigned char *bytes;
    size_t len;
};

static void start_echo(struct knit_random *random, struct echo *echo)
{
    struct knit_error error;

    echo->len = knit_random_chance(random, 20) ? knit_random_below(random, BIG_MAX)
                                               : knit_random_below(random, 200);
    echo->bytes = malloc(echo->len + 1);
    knit_random_bytes(random, echo->bytes, echo->len);
    if (knit_start(k, NULL, &echo->handle, &error, "same", "(bin) -> bin", echo->bytes,
            echo->len) != KNIT_OK)
        die("start", &error);
}

static void end_echo(struct echo *echo)
{
    struct knit_error error;
    const void *bytes;
    size_t len;

    if (knit_await(echo->handle, -1, &error) != KNIT_OK)
        die("echo", &error);
    if (knit_results(echo->handle, &error, &bytes, &len) != KNIT_OK)
        die("its result", &error);
    if (len != echo->len || memcmp(bytes, echo->bytes, len) != 0) {
        fprintf(stderr, "caller: an echo of %zu bytes came back changed\n", echo->len);
        exit(1);
    }
    knit_free(echo->handle);
    free(echo->bytes);
}

static bool is_told_to_end(void)
{
    struct pollfd input = {.fd = STDIN_FILENO, .events = POLLIN};

    return poll(&input, 1, 0) != 0;
}

static int loop(uint64_t seed)
{
    static struct echo echoes[BATCH_MAX];
    struct knit_random random;
    uint64_t total = 0;

    knit_random_init_seeded(&random, seed);
    while (!is_told_to_end()) {
        size_t count =
            knit_random_chance(&random, 2) ? 1 : 1 + knit_random_below(&random, BATCH_MAX);

        for (size_t i = 0; i < count; i++)
            start_echo(&random, &echoes[i]);
        for (size_t i = 0; i < count; i++)
            end_echo(&echoes[i]);
        if (total == 0)
            send_all(knit_deadline_now_ns());
        total += count;
    }
    printf("%" PRIu64 "\n", total);
    return 0;
}

/* ---- calls ---- */

enum { NO_GATE = -1 };

static struct knit_handle *start(int64_t id, int64_t gate, double timeout_ms)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle = NULL;
    struct knit_error error;
    int code;

    options.timeout_ms = timeout_ms;
    code = gate == NO_GATE
               ? knit_start(k, &options, &handle, &error, "ledger", "(int) -> int", id)
               : knit_start(k, &options, &handle, &error, "hold", "(int, int) -> int", id, gate);
    if (code != KNIT_OK)
        die("start", &error);
    return handle;
}

static void report(int64_t id, struct knit_handle *handle)
{
    struct knit_error error;
    int64_t worker = 0;
    int code = knit_await(handle, -1, &error);

    if (code == KNIT_OK)
        code = knit_results(handle, &error, &worker);
    printf("%" PRId64 " %d %s %" PRId64 " %" PRIu64 "\n", id, code,
        code == KNIT_OK ? "yes" : knit_error_started_name(error.started), worker,
        knit_deadline_now_ns());
}

struct plan {
    int64_t gate, id, count;
    double timeout_ms;
    bool cancels, leaves_first;
};

/* One call that holds a worker, and the calls queued behind it. */
static int calls(const struct plan *plan)
{
    static struct knit_handle *handles[CALLS_MAX + 1];
    uint64_t now_ns = knit_deadline_now_ns();
    int64_t i, count = 0;

    handles[0] = start(plan->id, plan->gate, -1);
    send_all(now_ns);
    if (getchar() == '\n') {
        now_ns = knit_deadline_now_ns();
        for (count = plan->count, i = 1; i <= count; i++)
            handles[i] = start(plan->id + i, NO_GATE, plan->timeout_ms);
        send_all(now_ns);
    }
    if (plan->cancels && getchar() == '\n') {
        now_ns = knit_deadline_now_ns();
        for (i = count; i >= 0; i--)
            knit_cancel(handles[i]);
        send_all(now_ns);
    }
    for (i = plan->leaves_first; i <= count; i++)
        report(plan->id + i, handles[i]);
    return 0;
}

static int hold(const struct plan *plan)
{
    static struct knit_handle *handles[CALLS_MAX + 1];
    uint64_t now_ns = knit_deadline_now_ns();

    for (int64_t i = 0; i < plan->count; i++)
        handles[i] = start(plan->id + i, plan->gate, -1);
    send_all(now_ns);
    for (int64_t i = 0; i < plan->count; i++)
        report(plan->id + i, handles[i]);
    return 0;
}

static int abandon(const struct plan *plan)
{
    static struct knit_handle *handles[CALLS_MAX];
    struct knit_handle *handle;
    struct knit_error error;
    int code = KNIT_OK;

    for (int64_t i = 0; i < plan->count; i++) {
        if (knit_start(k, NULL, &handles[i], &error, "hold", "(int, int, bool) -> int",
                plan->id + i, plan->gate, 1) != KNIT_OK)
            die("start", &error);
    }
    send_all(knit_deadline_now_ns());
    (void)getchar();
    for (int64_t i = 0; i < plan->count; i++)
        knit_free(handles[i]);
    send_all(knit_deadline_now_ns());
    (void)getchar();
    for (int64_t i = plan->count; i < 2 * plan->count && code == KNIT_OK; i++) {
        code = knit_start(k, NULL, &handle, &error, "ledger", "(int) -> int", plan->id + i);
        if (code != KNIT_OK)
            printf("%" PRId64 " %d %s 0 %" PRIu64 "\n", plan->id + i, code,
                knit_error_started_name(error.started), knit_deadline_now_ns());
    }
    return 0;
}

static int tally(int64_t id, int64_t count)
{
    struct knit_handle *window[WINDOW] = {NULL};
    struct knit_error error;
    int64_t good = 0;

    for (int64_t i = 0; i < count + WINDOW; i++) {
        struct knit_handle **place = &window[i % WINDOW];

        if (*place != NULL && knit_await(*place, -1, &error) != KNIT_OK)
            report(id + i - WINDOW, *place);
        else if (*place != NULL)
            good++;
        knit_free(*place);
        *place = i < count ? start(id + i, NO_GATE, -1) : NULL;
        if (i == 0)
            send_all(knit_deadline_now_ns());
    }
    printf("%" PRId64 "\n", good);
    return 0;
}

static int primes(int64_t n, double timeout_ms)
{
    struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
    struct knit_handle *handle;
    struct knit_error error;
    uint64_t now_ns = knit_deadline_now_ns();

    options.timeout_ms = timeout_ms;
    if (knit_start(k, &options, &handle, &error, "primes_below", "(int) -> int", n) != KNIT_OK)
        die("start", &error);
    send_all(now_ns);
    report(0, handle);
    return 0;
}

static long number(const char *text)
{
    char *end;
    long value = strtol(text, &end, 10);

    if (*end != '\0' || value < 0) {
        fprintf(stderr, "caller: expected a number, not '%s'\n", text);
        exit(2);
    }
    return value;
}

static int run(int argc, char **argv)
{
    const char *command = argv[2];
    struct plan plan = {.timeout_ms = -1};

    if (argc == 4 && strcmp(command, "loop") == 0)
        return loop((uint64_t)number(argv[3]));
    if (argc == 5 && strcmp(command, "tally") == 0)
        return tally(number(argv[3]), number(argv[4]));
    if (argc == 5 && strcmp(command, "primes") == 0)
        return primes(number(argv[3]), (double)number(argv[4]));
    if (argc < 6 || number(argv[5]) > CALLS_MAX) {
        fprintf(stderr, "caller: no such command, or too many calls\n");
        return 2;
    }
    plan.gate = number(argv[3]);
    plan.id = number(argv[4]);
    plan.count = number(argv[5]);
    if (argc == 6 && strcmp(command, "hold") == 0)
        return hold(&plan);
    if (argc == 6 && strcmp(command, "abandon") == 0)
        return abandon(&plan);
    plan.cancels = strcmp(command, "cancel") == 0;
    plan.leaves_first = argc == 7 && strcmp(command, "expire") == 0;
    if (plan.leaves_first)
        plan.timeout_ms = (double)number(argv[6]);
    return calls(&plan);
}

int main(int argc, char **argv)
{
    const struct knit_open_options options = {.stays_lost = true};
    struct knit_error error;
    int status;

    if (argc < 4) {
        fprintf(stderr, "usage: caller URL COMMAND NUMBER...\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (knit_open(argv[1], &options, &k, &error) != KNIT_OK)
        die("open", &error);
    status = run(argc, argv);
    knit_close(k);
    return status;
}
