/* SPDX-License-Identifier: Apache-2.0 */
/* A session that outlives its daemon. It says "before" once it has results of the first, waits for
 * a line, by when that is dead, says "between" once it has calls that wait, and "after" when the
 * next daemon has answered all of them. */
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/knitting.h>

enum { CALLS = 50, LARGE_BYTES = 100000, PATIENCE_MS = 60000 };

static struct knit *k;
static struct knit_error error;

static void check(const char *what, int is_right)
{
    if (is_right)
        return;
    printf("%s: %s: %s\n", what, error.name != NULL ? error.name : "", error.message);
    exit(1);
}

static void add(void)
{
    int64_t sum = 0;

    check("add",
        knit_call(k, &error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum) == KNIT_OK);
    check("sum", sum == 5);
}

static void say(const char *word)
{
    puts(word);
    fflush(stdout);
}

/* Several daemons, of which one after the other dies. A call that was sent to a dead one may be
 * lost, the next one is not. */
static int go_round(void)
{
    static const char *const words[] = {"before", "between", "after"};
    int64_t sum = 0;

    for (int i = 0; i < 3; i++) {
        if (i > 0)
            (void)knit_call(k, &error, "add", "(int, int) -> int", (int64_t)2, (int64_t)3, &sum);
        add();
        k = i == 2 ? knit_close(k) : k;
        say(words[i]);
        if (i < 2)
            (void)getchar();
    }
    return 0;
}

/* A daemon that drains while it has a call, and the next one at the same place. */
static int go_beside(void)
{
    struct knit_handle *kept;

    add();
    check(
        "sleep", knit_start(k, NULL, &kept, &error, "sleep", "(int)", (int64_t)600000) == KNIT_OK);
    check("runs", knit_await(kept, 200, &error) == KNIT_PENDING);
    say("before");
    (void)getchar();
    do {
        struct pollfd item = {.fd = knit_fd(k), .events = POLLIN};

        check("told", poll(&item, 1, PATIENCE_MS) == 1 && knit_dispatch(k, &error) == KNIT_OK);
    } while (knit_state(k) == KNIT_IS_OPEN);
    check("drains", knit_state(k) == KNIT_IS_DRAINING);
    add();
    check("open", knit_state(k) == KNIT_IS_OPEN);
    check("goes on", knit_await(kept, 0, &error) == KNIT_PENDING);
    knit_cancel(kept);
    check("cancelled", knit_await(kept, PATIENCE_MS, &error) == KNIT_CANCELLED);
    check("origin", error.origin != KNIT_ORIGIN_CLIENT);
    (void)knit_free(kept);
    add();
    k = knit_close(k);
    say("after");
    return 0;
}

int main(int argc, char **argv)
{
    static char large[LARGE_BYTES];
    const struct knit_open_options options = {.connect_ms = PATIENCE_MS};
    struct knit_handle *kept, *lost, *waiting[CALLS];
    const void *bytes;
    int64_t sum;
    size_t len;

    if (argc < 2)
        return 2;
    memset(large, 'x', sizeof(large));
    check("open", knit_open(argv[1], &options, &k, &error) == KNIT_OK);
    if (argc > 2)
        return strcmp(argv[2], "beside") == 0 ? go_beside() : go_round();
    add();
    check("echo", knit_start(k, NULL, &kept, &error, "echo", "(bin) -> bin", large,
                      sizeof(large)) == KNIT_OK);
    check("await", knit_await(kept, -1, &error) == KNIT_OK);
    check(
        "sleep", knit_start(k, NULL, &lost, &error, "sleep", "(int)", (int64_t)600000) == KNIT_OK);
    check("flush", knit_flush(k, &error) == KNIT_OK);
    check("runs", knit_await(lost, 200, &error) == KNIT_PENDING);
    say("before");

    (void)getchar();
    check("lost", knit_await(lost, PATIENCE_MS, &error) == KNIT_DISCONNECTED);
    check("started", error.started != KNIT_STARTED_NO);
    check("state", knit_state(k) != KNIT_IS_OPEN && knit_state(k) != KNIT_IS_LOST);
    for (int i = 0; i < CALLS; i++)
        check("start", knit_start(k, NULL, &waiting[i], &error, "add", "(int, int) -> int",
                           (int64_t)i, (int64_t)1) == KNIT_OK);
    check("waits", knit_await(waiting[0], 100, &error) == KNIT_PENDING);
    say("between");

    for (int i = 0; i < CALLS; i++) {
        check("add", knit_await(waiting[i], PATIENCE_MS, &error) == KNIT_OK);
        check("result", knit_results(waiting[i], &error, &sum) == KNIT_OK && sum == i + 1);
        (void)knit_free(waiting[i]);
    }
    check("open again", knit_state(k) == KNIT_IS_OPEN);
    add();
    check("kept", knit_results(kept, &error, &bytes, &len) == KNIT_OK && len == sizeof(large) &&
                      memcmp(bytes, large, len) == 0);
    (void)knit_free(kept);
    add();
    (void)knit_free(lost);
    k = knit_close(k);
    say("after");
    return 0;
}
