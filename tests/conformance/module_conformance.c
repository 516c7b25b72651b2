/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks of the conformance tests, each for what a case has to see from inside. Those that write
 * down what ran are in tests/system/module_ledger.c. What a worker remembers is of its thread:
 * workers that are threads have the module in common. */
#include <knitting/deferred.h>
#include <knitting/task.h>

#include <fenv.h>
#include <locale.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static _Thread_local uint32_t lane, lanes;
static _Thread_local char bootstrap_text[256];

static int remember_lane(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    (void)ret_message;
    (void)message_size;
    lane = info->index;
    lanes = info->total;
    (void)snprintf(bootstrap_text, sizeof(bootstrap_text), "%s", info->text);
    return 0;
}

KNIT_MODULE_BOOTSTRAP("1.0", remember_lane);

/* ---- values ---- */

KNIT_TASK(echo, "echo(value: any) -> any", .doc = "The value itself.")
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, value, len);
}

KNIT_TASK(add, "add(a: int, b: int) -> int", .doc = "The sum of two integers.")
{
    int64_t sum;

    if (__builtin_add_overflow(knit_arg_int(call, 0), knit_arg_int(call, 1), &sum))
        return knit_fail(call, 1, "the sum does not fit 64 bits");
    return knit_return_int(call, sum);
}

KNIT_TASK(empty, "empty() -> nil")
{
    return knit_return_nil(call);
}

/* Each type by its own getter and its own way to return. */
KNIT_TASK(echo_float, "echo_float(value: float) -> float")
{
    return knit_return_float(call, knit_arg_float(call, 0));
}

KNIT_TASK(echo_int, "echo_int(value: int) -> int")
{
    return knit_return_int(call, knit_arg_int(call, 0));
}

KNIT_TASK(echo_uint, "echo_uint(value: uint) -> uint")
{
    return knit_return_uint(call, knit_arg_uint(call, 0));
}

KNIT_TASK(echo_bool, "echo_bool(value: bool) -> bool")
{
    return knit_return_bool(call, knit_arg_bool(call, 0));
}

KNIT_TASK(echo_str, "echo_str(value: str) -> str")
{
    size_t len;
    const char *text = knit_arg_bytes(call, 0, &len);

    return knit_return_str(call, text, len);
}

KNIT_TASK(echo_bin, "echo_bin(value: bin) -> bin")
{
    size_t len;
    const void *bytes = knit_arg_bytes(call, 0, &len);

    return knit_return_bin(call, bytes, len);
}

KNIT_TASK(take_envelope, "take_envelope(value: envelope) -> envelope")
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, value, len);
}

static _Thread_local unsigned char kept[4096];

KNIT_TASK(keep, "keep(bytes: bin) -> bin", .doc = "Bytes that lie in the worker until the next.")
{
    size_t len;
    const void *bytes = knit_arg_bytes(call, 0, &len);

    if (len > sizeof(kept))
        return knit_fail(call, 1, "too many bytes");
    memset(kept, 0xee, sizeof(kept));
    memcpy(kept, bytes, len);
    return knit_return_bin(call, kept, len);
}

KNIT_TASK(kind_of, "kind_of(value: int?) -> str", .doc = "Left out, nil or the number.")
{
    char text[32];

    if (knit_arg_count(call) == 0)
        return knit_return_str(call, "left out", 8);
    if (knit_arg_is_nil(call, 0))
        return knit_return_str(call, "nil", 3);
    (void)snprintf(text, sizeof(text), "%lld", (long long)knit_arg_int(call, 0));
    return knit_return_str(call, text, strlen(text));
}

KNIT_TASK(large, "large(bytes: int) -> bin", .doc = "So many bytes, made in place.")
{
    size_t len = (size_t)knit_arg_int(call, 0);
    unsigned char *place = knit_return_bin_place(call, len);

    for (size_t i = 0; place != NULL && i < len; i++)
        place[i] = (unsigned char)(i * 7);
    return 0;
}

/* ---- outcomes ---- */

static const struct knit_on_timeout seven = {.value = "\x07", .value_len = 1};

KNIT_TASK(seven_when_late, "seven_when_late() -> int", .timeout_ms = 50, .on_timeout = &seven,
    .doc = "Waits until it is aborted.")
{
    const struct timespec pause = {.tv_nsec = 200000}; /* before it looks again */

    while (!knit_aborted(call))
        (void)nanosleep(&pause, NULL);
    return knit_return_aborted(call);
}

KNIT_TASK(refuse, "refuse(code: int, message: str, data: any?) -> nil", .doc = "Fails with these.")
{
    size_t message_len, len;
    const char *message = knit_arg_bytes(call, 1, &message_len);
    const void *data = knit_arg_raw(call, 2, &len);
    char *text = malloc(message_len + 1);
    int r;

    if (text == NULL)
        abort();
    memcpy(text, message, message_len);
    text[message_len] = '\0';
    r = knit_fail_data(call, knit_arg_int(call, 0), text, data, len);
    free(text);
    return r;
}

KNIT_TASK(liar, "liar() -> int", .doc = "Returns what its signature does not say.")
{
    return knit_return_str(call, "no number", 9);
}

KNIT_TASK(reference, "reference() -> any", .doc = "Returns an ext that is not carried.")
{
    return knit_return_raw(call, "\xd4\x28\x01", 3);
}

KNIT_TASK(half, "half() -> array", .doc = "Builds less than it announced.")
{
    KNIT_BUILDER(answer);

    knit_put_array(answer, 2);
    knit_put_nil(answer);
    return knit_return_built(call, answer);
}

KNIT_TASK(only_returns, "only_returns(value: int) -> int?",
    .doc = "Returns a number and gives no outcome.")
{
    return (int)knit_arg_int(call, 0);
}

/* ---- the worker ---- */

static _Thread_local int64_t ran_before;

KNIT_TASK(next, "next(after: any?) -> int", .doc = "How many calls of it this worker ran before.")
{
    return knit_return_int(call, ran_before++);
}

static int return_place(struct knit_call *call)
{
    KNIT_BUILDER(answer);

    knit_put_array(answer, 3);
    knit_put_int(answer, lane);
    knit_put_int(answer, lanes);
    knit_put_int(answer, getpid());
    return knit_return_built(call, answer);
}

KNIT_TASK(where, "where(after: any?) -> (int, int, int)",
    .doc = "The worker's lane, of how many, its process.")
{
    return return_place(call);
}

KNIT_TASK(where_else, "where_else() -> (int, int, int)", .doc = "The same, as another task.")
{
    return return_place(call);
}

KNIT_TASK(bootstrapped, "bootstrapped() -> str", .doc = "What the bootstrap hook was given.")
{
    return knit_return_str(call, bootstrap_text, strlen(bootstrap_text));
}

KNIT_TASK(burn, "burn(ms: int, looks: bool) -> int",
    .doc = "Computes for so long, or until it is aborted if it looks; 1: it was.")
{
    uint64_t end_ns = knit_now_ns(call) + (uint64_t)knit_arg_int(call, 0) * 1000000;
    bool looks = knit_arg_bool(call, 1);

    while (knit_now_ns(call) < end_ns) {
        if (looks && knit_aborted(call))
            return knit_return_int(call, 1);
    }
    return knit_return_int(call, 0);
}

KNIT_TASK(say, "say(text: str) -> nil", .doc = "Prints it.")
{
    size_t len;
    const char *text = knit_arg_bytes(call, 0, &len);

    (void)fwrite(text, 1, len, stdout);
    (void)fflush(stdout);
    return knit_return_nil(call);
}

KNIT_TASK(
    trace, "trace(defers: bool, bytes: bin) -> str", .doc = "The trace that its call is a part of.")
{
    struct knit_deferred *deferred = knit_arg_bool(call, 0) ? knit_defer(call) : NULL;
    struct knit_call *open = deferred != NULL ? knit_deferred_open(deferred) : call;
    char text[KNIT_CALL_TRACE_SIZE];
    const size_t len = knit_call_trace(open, text);

    if (deferred == NULL)
        return knit_return_str(call, text, len);
    (void)knit_return_str(open, text, strlen(text));
    (void)knit_deferred_close(open);
    return 0;
}

KNIT_TASK(now, "now() -> int", .doc = "Its clock.")
{
    return knit_return_int(call, (int64_t)knit_now_ns(call));
}

KNIT_TASK(obey, "obey() -> nil", .doc = "Waits until it is aborted.")
{
    const struct timespec pause = {.tv_nsec = 200000}; /* before it looks again */

    while (!knit_aborted(call))
        (void)nanosleep(&pause, NULL);
    return knit_return_aborted(call);
}

KNIT_TASK(is_aborted, "is_aborted() -> bool", .doc = "Whether its abort flag is set at its start.")
{
    return knit_return_bool(call, knit_aborted(call));
}

static int overflow(int depth)
{
    char room[4096];

    memset(room, depth, sizeof(room));
    return depth < 0 ? room[17] : overflow(depth + 1) + room[18];
}

KNIT_TASK(die, "die(how: str) -> nil", .doc = "exit, abort, segv, stack, kill or term.")
{
    size_t len;
    const char *how = knit_arg_bytes(call, 0, &len);

    (void)setrlimit(RLIMIT_CORE, &(struct rlimit){0, 0});
    switch (len > 1 ? how[0] + how[1] : 0) {
    case 'e' + 'x':
        exit(3);
    case 'a' + 'b':
        abort();
    case 's' + 'e':
        (void)signal(SIGSEGV, SIG_DFL); /* sanitizers would turn it into an exit */
        (void)raise(SIGSEGV);
        break;
    case 's' + 't':
        (void)signal(SIGSEGV, SIG_DFL);
        return knit_return_int(call, overflow(0));
    case 'k' + 'i':
        (void)kill(getpid(), SIGKILL);
        break;
    default:
        break;
    }
    return knit_fail(call, 1, "it lives");
}

/* Part of what a task may leave behind, each as it is when the call begins. */
KNIT_TASK(leave_behind, "leave_behind() -> str",
    .doc = "What it finds changed: rounding, mask, timer, locale, folder. Then changes these.")
{
    struct itimerval timer;
    sigset_t blocked;
    char found[8];
    size_t len = 0;
    char folder[256] = "";
    static char first_folder[256];

    if (fegetround() != FE_TONEAREST)
        found[len++] = 'r';
    (void)sigprocmask(SIG_SETMASK, NULL, &blocked);
    if (sigismember(&blocked, SIGUSR1) == 1)
        found[len++] = 'm';
    (void)getitimer(ITIMER_REAL, &timer);
    if (timer.it_value.tv_sec != 0)
        found[len++] = 't';
    if (strcmp(setlocale(LC_NUMERIC, NULL), "C") != 0)
        found[len++] = 'l';
    (void)!getcwd(folder, sizeof(folder));
    if (first_folder[0] != '\0' && strcmp(first_folder, folder) != 0)
        found[len++] = 'f';
    memcpy(first_folder, folder, sizeof(folder));

    (void)fesetround(FE_UPWARD);
    sigaddset(&blocked, SIGUSR1);
    (void)sigprocmask(SIG_SETMASK, &blocked, NULL);
    timer.it_value.tv_sec = 1000;
    (void)setitimer(ITIMER_REAL, &timer, NULL);
    (void)setlocale(LC_NUMERIC, "C.UTF-8");
    (void)!chdir("/");
    return knit_return_str(call, found, len);
}
