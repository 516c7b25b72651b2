/* SPDX-License-Identifier: Apache-2.0 */
/* A caller for system tests to start, look at and kill; it speaks any URL, through the library, and
 * calls the tasks of module_ledger.c.
 *
 *     caller URL loop SEED             same() with values of all sizes, alone and in batches, until
 *                                      its standard input ends; compares, and prints how many
 *     caller URL calls GATE ID COUNT   hold(ID, GATE); then, told to by a line of input, ledger()
 *                                      of the COUNT ids behind it at once; a line for each outcome
 *     caller URL hold GATE ID COUNT    COUNT times hold(), in flight at once; the same lines
 *
 * Lines are "ready" whenever calls are under way, then "ID CODE STARTED RESULT NS": the error's
 * code or 0, the process id of the worker that ran it, and CLOCK_MONOTONIC when the caller was told.
 * Whatever goes wrong beyond that is a line on stderr and exit status 1.
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

enum { BATCH_MAX = 64, BIG_MAX = 200 * 1000, CALLS_MAX = 1024 };

static struct knit *k;

static void die(const char *what, const struct knit_error *error)
{
    fprintf(stderr, "caller: %s: %s: %s\n", what, error->name, error->message);
    exit(1);
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
            puts("ready");
        total += count;
    }
    printf("%" PRIu64 "\n", total);
    return 0;
}

/* ---- calls ---- */

static struct knit_handle *start(const char *task, int64_t id, int64_t gate)
{
    struct knit_handle *handle = NULL;
    struct knit_error error;
    int code = gate >= 0 ? knit_start(k, NULL, &handle, &error, task, "(int, int) -> int", id, gate)
                         : knit_start(k, NULL, &handle, &error, task, "(int) -> int", id);

    if (code != KNIT_OK)
        die(task, &error);
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

static void send_all(void)
{
    struct knit_error error;

    if (knit_flush(k, &error) != KNIT_OK)
        die("flush", &error);
    puts("ready");
}

static int calls(int64_t gate, int64_t id, int64_t count)
{
    static struct knit_handle *handles[CALLS_MAX];

    handles[0] = start("hold", id, gate);
    send_all();
    if (getchar() == '\n') {
        for (int64_t i = 1; i <= count; i++)
            handles[i] = start("ledger", id + i, -1);
        send_all();
    }
    for (int64_t i = 0; i <= count && handles[i] != NULL; i++)
        report(id + i, handles[i]);
    return 0;
}

static int hold(int64_t gate, int64_t id, int64_t count)
{
    static struct knit_handle *handles[CALLS_MAX];

    for (int64_t i = 0; i < count; i++)
        handles[i] = start("hold", id + i, gate);
    send_all();
    for (int64_t i = 0; i < count; i++)
        report(id + i, handles[i]);
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

int main(int argc, char **argv)
{
    struct knit_error error;
    int status = 2;

    if (argc < 4) {
        fprintf(stderr, "usage: caller URL loop SEED | caller URL calls|hold GATE ID COUNT\n");
        return 2;
    }
    setvbuf(stdout, NULL, _IOLBF, 0);
    if (knit_open(argv[1], NULL, &k, &error) != KNIT_OK)
        die("open", &error);
    if (argc == 4 && strcmp(argv[2], "loop") == 0)
        status = loop((uint64_t)number(argv[3]));
    else if (argc == 6 && number(argv[5]) < CALLS_MAX && strcmp(argv[2], "calls") == 0)
        status = calls(number(argv[3]), number(argv[4]), number(argv[5]));
    else if (argc == 6 && number(argv[5]) <= CALLS_MAX && strcmp(argv[2], "hold") == 0)
        status = hold(number(argv[3]), number(argv[4]), number(argv[5]));
    else
        fprintf(stderr, "caller: no such command\n");
    knit_close(k);
    return status;
}
