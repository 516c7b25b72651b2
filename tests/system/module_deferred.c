/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks whose calls end after they have returned. */
#include <pthread.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include <knitting/deferred.h>

KNIT_MODULE("1.0");

enum { HELD_MAX = 200, TOO_MANY = 64 };

/* Tokens that a later call uses; the worker's thread alone does. */
static struct knit_deferred *held[HELD_MAX];
static int held_count;

/* For work that lasts: nobody counts on it that something has happened by then. */
static void pause_ms(long ms)
{
    const struct timespec pause = {.tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000};

    (void)nanosleep(&pause, NULL);
}

/* Defers, and has a thread go on. */
static int hand_to_thread(struct knit_call *call, void *(*run)(void *deferred))
{
    struct knit_deferred *deferred = knit_defer(call);
    pthread_t thread;

    if (deferred == NULL)
        return knit_fail(call, TOO_MANY, "too many");
    if (pthread_create(&thread, NULL, run, deferred) != 0)
        return knit_deferred_fail(deferred, 1, "no thread");
    (void)pthread_detach(thread);
    return 12345; /* means nothing */
}

static void *wait_and_return(void *arg)
{
    struct knit_deferred *deferred = arg;
    struct knit_call *call = knit_deferred_open(deferred);
    int64_t ms = knit_arg_int(call, 0), value = knit_arg_int(call, 1);

    (void)knit_deferred_close(call);
    for (; ms > 0; ms--) {
        pause_ms(1);
        if (knit_deferred_aborted(deferred)) {
            (void)knit_deferred_return_aborted(deferred);
            return NULL;
        }
    }
    (void)knit_deferred_return_int(deferred, value);
    return NULL;
}

KNIT_TASK(later, "later(ms: int, value: int) -> int", .doc = "The value, after that time.")
{
    return hand_to_thread(call, wait_and_return);
}

static void *return_bytes(void *arg)
{
    struct knit_call *call = knit_deferred_open(arg);
    size_t len = (size_t)knit_arg_int(call, 0);
    unsigned char *place = knit_return_bin_place(call, len);

    if (place != NULL) {
        for (size_t i = 0; i < len; i++)
            place[i] = (unsigned char)(i * 7);
    }
    (void)knit_deferred_close(call);
    return NULL;
}

KNIT_TASK(later_bytes, "later_bytes(len: int) -> bin", .doc = "So many bytes, from a thread.")
{
    return hand_to_thread(call, return_bytes);
}

static void *echo_twice(void *arg)
{
    struct knit_call *call = knit_deferred_open(arg);
    size_t len;
    const char *text = knit_arg_bytes(call, 0, &len);
    char *both = malloc(2 * len + 1);

    memcpy(both, text, len);
    memcpy(both + len, text, len);
    (void)knit_return_str(call, both, 2 * len);
    (void)knit_deferred_close(call);
    free(both);
    return NULL;
}

KNIT_TASK(later_text, "later_text(text: str) -> str", .doc = "The text twice, from a thread.")
{
    return hand_to_thread(call, echo_twice);
}

static void *return_wrong(void *arg)
{
    (void)knit_deferred_return_str(arg, "no int", 6);
    return NULL;
}

KNIT_TASK(later_wrong, "later_wrong() -> int", .doc = "A text where an int is promised.")
{
    return hand_to_thread(call, return_wrong);
}

static void *fail_later(void *arg)
{
    (void)knit_deferred_fail(arg, 42, "as it should");
    return NULL;
}

KNIT_TASK(later_failure, "later_failure() -> int", .doc = "Fails with 42, from a thread.")
{
    return hand_to_thread(call, fail_later);
}

static void *emit_and_return(void *arg)
{
    struct knit_call *call = knit_deferred_open(arg);
    int64_t count = knit_arg_int(call, 0);

    for (int64_t i = 1; i <= count; i++) {
        (void)knit_progress_int(call, i);
        pause_ms(2);
    }
    (void)knit_return_int(call, count);
    (void)knit_deferred_close(call);
    return NULL;
}

KNIT_TASK(later_progress, "later_progress(count: int) -> int", .doc = "Emits from a thread.")
{
    return hand_to_thread(call, emit_and_return);
}

static void *race(void *arg)
{
    (void)knit_deferred_return_int(arg, 1);
    return NULL;
}

KNIT_TASK(raced, "raced() -> int", .doc = "Four threads give the outcome, and the task too.")
{
    struct knit_deferred *deferred = knit_defer(call);
    pthread_t thread;

    if (deferred == NULL)
        return knit_fail(call, TOO_MANY, "too many");
    for (int i = 0; i < 4; i++) {
        if (pthread_create(&thread, NULL, race, deferred) == 0)
            (void)pthread_detach(thread);
    }
    (void)knit_deferred_return_int(deferred, 1);
    (void)knit_return_int(call, 2);
    return 0;
}

KNIT_TASK(printed, "printed() -> int", .doc = "Prints, defers, and has its outcome at once.")
{
    struct knit_deferred *deferred = knit_defer(call);

    (void)printf("before\n");
    (void)knit_deferred_return_int(deferred, 5);
    (void)printf("after\n");
    return 0;
}

static void *do_nothing(void *arg)
{
    (void)arg;
    return NULL;
}

KNIT_TASK(never, "never() -> int", .doc = "Has no outcome.", .hard_timeout_ms = 300)
{
    return hand_to_thread(call, do_nothing);
}

KNIT_TASK(deaf, "deaf() -> int", .doc = "Has no outcome, and does not listen.")
{
    return hand_to_thread(call, do_nothing);
}

static void *crash(void *arg)
{
    (void)arg;
    pause_ms(20); /* mostly behind the end of its task; callers are told the same before it */
    abort();
}

KNIT_TASK(crash_later, "crash_later() -> int", .doc = "Takes its worker down, from a thread.")
{
    return hand_to_thread(call, crash);
}

KNIT_TASK(hold, "hold() -> int", .doc = "Ends when it is released.")
{
    struct knit_deferred *deferred = held_count < HELD_MAX ? knit_defer(call) : NULL;

    if (deferred == NULL)
        return knit_fail(call, TOO_MANY, "too many");
    held[held_count++] = deferred;
    return 0;
}

KNIT_TASK(held_now, "held_now() -> int", .doc = "How many calls are held.")
{
    return knit_return_int(call, held_count);
}

KNIT_TASK(release, "release() -> int", .doc = "Ends all calls that are held; how many did.")
{
    int64_t ended = 0;

    for (int i = 0; i < held_count; i++)
        ended += knit_deferred_return_int(held[i], i) == 0;
    return knit_return_int(call, ended);
}

KNIT_TASK(forget, "forget() -> int", .doc = "Forgets those that were held.")
{
    held_count = 0;
    return knit_return_int(call, 0);
}

KNIT_TASK(pid, "pid() -> int", .doc = "Of the worker.")
{
    return knit_return_int(call, getpid());
}
