/* SPDX-License-Identifier: Apache-2.0 */
/* A session with several daemons under load, from one event loop: `spreads URL DEPTH MS TIMEOUT_MS`
 * keeps DEPTH calls of `sleep` with MS in flight. To each line that it reads it says how many calls
 * have ended well, failed though they had certainly not started, and failed otherwise, and the last
 * error; a line "end" has it start none any more, and say so when all have ended. */
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <knitting/knitting.h>

static struct knit *k;
static struct knit_call_options options = KNIT_CALL_OPTIONS_INIT;
static struct knit_error error;
static int64_t nap_ms;
static unsigned long ok, unstarted, failed, in_flight;
static int is_ending;
static char last[256];

static void start(void);

static void on_done(struct knit_handle *handle, void *user)
{
    (void)user;
    if (knit_await(handle, 0, &error) == KNIT_OK) {
        ok++;
    } else {
        unstarted += error.started == KNIT_STARTED_NO;
        failed += error.started != KNIT_STARTED_NO;
        (void)snprintf(last, sizeof(last), "%s: %.200s", error.name, error.message);
    }
    in_flight--;
    (void)knit_free(handle);
    if (!is_ending)
        start();
}

static void start(void)
{
    struct knit_handle *handle;

    if (knit_start(k, &options, &handle, &error, "sleep", "(int)", nap_ms) != KNIT_OK) {
        printf("cannot start: %s: %s\n", error.name, error.message);
        exit(1);
    }
    in_flight++;
    knit_on_done(handle, on_done, NULL);
}

static void say(void)
{
    printf("%lu %lu %lu %s\n", ok, unstarted, failed, last);
    (void)fflush(stdout);
}

static void take_line(void)
{
    char line[64];

    if (read(STDIN_FILENO, line, sizeof(line)) <= 0)
        exit(1);
    if (strncmp(line, "end", 3) == 0)
        is_ending = 1;
    else
        say();
}

int main(int argc, char **argv)
{
    const struct knit_retry_options retry = {.attempts = 10, .wait_ms = 1, .budget_percent = 100};
    const struct knit_open_options opened = {.name = "spreads", .retry = &retry};

    if (argc != 5)
        return 2;
    nap_ms = strtol(argv[3], NULL, 10);
    options.timeout_ms = strtod(argv[4], NULL);
    if (knit_open(argv[1], &opened, &k, &error) != KNIT_OK) {
        printf("cannot open: %s: %s\n", error.name, error.message);
        return 1;
    }
    for (long depth = strtol(argv[2], NULL, 10); depth > 0; depth--)
        start();
    while (in_flight > 0) {
        struct pollfd items[] = {
            {.fd = knit_fd(k), .events = POLLIN},
            {.fd = is_ending ? -1 : STDIN_FILENO, .events = POLLIN},
        };

        (void)knit_flush(k, NULL);
        if (poll(items, 2, -1) < 0)
            continue;
        if (items[1].revents != 0)
            take_line();
        (void)knit_dispatch(k, NULL);
    }
    k = knit_close(k);
    say();
    return 0;
}
