/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks for tests of pools, modules and calls. The bootstrap text, if any, is the path of a
 * ledger: a file of 64-bit words. Word 0 is a gate that `hold` waits for; word i counts the runs
 * of call i.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <threads.h>
#include <time.h>
#include <unistd.h>

#include <knitting/task.h>

#define LEDGER_WORDS 4096

static _Atomic uint64_t *ledger;
static uint32_t lane, lanes;

static int open_ledger(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    int fd;

    lane = info->index;
    lanes = info->total;
    if (info->text[0] == '\0')
        return 0;
    fd = open(info->text, O_RDWR | O_CLOEXEC);
    if (fd < 0) {
        (void)snprintf(ret_message, message_size, "%s: %s", info->text, strerror(errno));
        return 1;
    }
    ledger = mmap(NULL, LEDGER_WORDS * 8, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    (void)close(fd);
    return ledger == MAP_FAILED;
}

KNIT_MODULE_BOOTSTRAP("1.0", open_ledger);

/* Before a task looks again at the condition that it waits for; nobody counts on how long. */
static void pause_a_little(void)
{
    struct timespec pause = {.tv_nsec = 200000};

    (void)nanosleep(&pause, NULL);
}

/* Not in the order of their names: ids must not come from the linker's order. */
KNIT_TASK(echo, "echo(value: any) -> any", .doc = "Gives back what it got.")
{
    size_t len;
    const void *bytes = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, bytes, len);
}

KNIT_TASK(add, "add(a: int, b: int) -> int")
{
    return knit_return_int(call, knit_arg_int(call, 0) + knit_arg_int(call, 1));
}

KNIT_TASK(count, "count(id: int) -> int")
{
    uint64_t id = (uint64_t)knit_arg_int(call, 0);

    atomic_fetch_add_explicit(&ledger[id], 1, memory_order_seq_cst);
    return knit_return_int(call, (int64_t)id);
}

/* Counts, then waits for the gate whatever its caller does. */
KNIT_TASK(hold, "hold(id: int) -> int")
{
    uint64_t id = (uint64_t)knit_arg_int(call, 0);

    atomic_fetch_add_explicit(&ledger[id], 1, memory_order_seq_cst);
    while (atomic_load_explicit(&ledger[0], memory_order_seq_cst) == 0)
        pause_a_little();
    return knit_return_int(call, (int64_t)id);
}

KNIT_TASK(wait_abort, "wait_abort() -> bool")
{
    while (!knit_aborted(call))
        pause_a_little();
    return knit_return_bool(call, true);
}

KNIT_TASK(wait_and_stop, "wait_and_stop() -> nil")
{
    while (!knit_aborted(call))
        pause_a_little();
    return knit_return_aborted(call);
}

KNIT_TASK(hang, "hang() -> nil", .hard_timeout_ms = 200)
{
    sigset_t all;

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    if (fork() == 0) {
        for (;;)
            (void)pause();
    }
    while (knit_now_ns(call) != 0)
        ;
    return 0;
}

static int overflow(int depth)
{
    char room[4096];

    memset(room, depth, sizeof(room));
    if (depth == INT_MAX) /* never reached */
        return 0;
    return overflow(depth + 1) + room[depth % 4096];
}

/* By the signal in every build: a sanitizer would say what is wrong, and exit. */
__attribute__((no_sanitize("address", "undefined"))) static void fault(void)
{
    static char *volatile nowhere;

    *nowhere = 1;
}

/* Word 1 when a thread was left: it may begin to run only when the next call has counted there. */
static uint64_t left_at;

/* Faults as soon as a call has counted in word 1, or at once. */
static void *fault_in_thread(void *waits)
{
    while (waits != NULL && atomic_load_explicit(&ledger[1], memory_order_seq_cst) == left_at)
        pause_a_little();
    fault();
    return NULL;
}

static int fault_in_c11_thread(void *waits)
{
    (void)fault_in_thread(waits);
    return 0;
}

static void fault_elsewhere(void *waits)
{
    pthread_t thread;

    if (pthread_create(&thread, NULL, fault_in_thread, waits) == 0 && waits == NULL)
        (void)pthread_join(thread, NULL);
}

static void fault_with_signals_blocked(void)
{
    sigset_t all;

    (void)sigfillset(&all);
    (void)sigprocmask(SIG_SETMASK, &all, NULL);
    fault();
}

static void fault_in_child(void)
{
    pid_t child = fork();

    if (child == 0)
        fault();
    (void)waitpid(child, NULL, 0);
}

KNIT_TASK(die, "die(how: str) -> int")
{
    size_t len;
    const char *how = knit_arg_bytes(call, 0, &len);
    thrd_t thread;

    left_at = ledger != NULL ? atomic_load_explicit(&ledger[1], memory_order_seq_cst) : 0;
    switch (len > 0 ? how[0] : ' ') {
    case 'e':
        exit(3);
    case 'a':
        abort();
    case 's':
        (void)raise(SIGSEGV);
        break;
    case 'o':
        return knit_return_int(call, overflow(0));
    case 'k':
        (void)kill(getpid(), SIGKILL);
        break;
    case 'd': /* as a sanitizer or a runtime does before it ends a process */
        (void)signal(SIGBUS, SIG_DFL);
        (void)raise(SIGBUS);
        break;
    case 't': /* as a timer does that was left */
        (void)raise(SIGALRM);
        break;
    case 'w':
        fault();
        break;
    case 'b':
        fault_with_signals_blocked();
        break;
    case 'i':
        __builtin_trap();
    case 'p': /* a thread of its own */
        fault_elsewhere(NULL);
        break;
    case 'l': /* a thread that it leaves */
        fault_elsewhere(ledger);
        break;
    case 'n': /* the same, in C's own way */
        (void)thrd_create(&thread, fault_in_c11_thread, ledger);
        break;
    case 'c': /* a child */
        fault_in_child();
        break;
    default:
        break;
    }
    return knit_return_int(call, 0);
}

KNIT_TASK(pid, "pid() -> int")
{
    return knit_return_int(call, getpid());
}

KNIT_TASK(where, "where() -> (int, int)")
{
    KNIT_BUILDER(builder);

    knit_put_array(builder, 2);
    knit_put_int(builder, lane);
    knit_put_int(builder, lanes);
    return knit_return_built(call, builder);
}

KNIT_TASK(print, "print(text: str) -> nil")
{
    size_t len;
    const char *text = knit_arg_bytes(call, 0, &len);

    (void)printf("%.*s\n", (int)len, text);
    return knit_return_nil(call);
}

KNIT_TASK(large, "large(bytes: int) -> bin")
{
    size_t len = (size_t)knit_arg_int(call, 0);
    unsigned char *place = knit_return_bin_place(call, len);

    for (size_t i = 0; place != NULL && i < len; i++)
        place[i] = (unsigned char)i;
    return 0;
}

KNIT_TASK(refuse, "refuse(code: int, message: str, value: any?) -> nil")
{
    char message[256];
    size_t message_len, len;
    const char *text = knit_arg_bytes(call, 1, &message_len);
    const void *value = knit_arg_raw(call, 2, &len);

    (void)snprintf(message, sizeof(message), "%.*s", (int)message_len, text);
    return knit_fail_data(call, knit_arg_int(call, 0), message, value, len);
}

KNIT_TASK(liar, "liar() -> int")
{
    return knit_return_str(call, "no number", 9);
}

KNIT_TASK(half, "half() -> array")
{
    KNIT_BUILDER(builder);

    knit_put_array(builder, 2);
    knit_put_nil(builder);
    return knit_return_built(call, builder);
}

KNIT_TASK(silent, "silent() -> nil")
{
    (void)call;
    return 0;
}

KNIT_TASK(only_returns, "only_returns(value: int) -> int?",
    .doc = "Returns a number and gives no outcome.")
{
    return (int)knit_arg_int(call, 0);
}

KNIT_TASK(fill_and_return, "fill_and_return(bytes: int, value: int) -> bin")
{
    size_t len = (size_t)knit_arg_int(call, 0);
    void *place = knit_return_bin_place(call, len);

    if (place != NULL)
        memset(place, 0, len);
    return (int)knit_arg_int(call, 1);
}

KNIT_TASK(leave_empty, "leave_empty(bytes: int) -> bin", .doc = "Fills nothing of its place.")
{
    (void)knit_return_bin_place(call, (size_t)knit_arg_int(call, 0));
    return 0;
}

KNIT_TASK(is_nil, "is_nil(index: int, rest: any...) -> bool")
{
    return knit_return_bool(call, knit_arg_is_nil(call, (uint32_t)knit_arg_int(call, 0)));
}

KNIT_TASK(sum, "sum(rest: int...) -> int")
{
    int64_t sum = 0;

    for (uint32_t i = 0; i < knit_arg_count(call); i++)
        sum += knit_arg_int(call, i);
    return knit_return_int(call, sum);
}

KNIT_TASK(descriptors, "descriptors() -> int", .doc = "How many descriptors the worker has open.")
{
    int count = 0;

    for (int fd = 0; fd < 1024; fd++)
        count += fcntl(fd, F_GETFD) >= 0;
    return knit_return_int(call, count);
}

KNIT_TASK(environment, "environment(name: str) -> str?")
{
    char name[64];
    size_t len;
    const char *text = knit_arg_bytes(call, 0, &len);
    const char *value;

    (void)snprintf(name, sizeof(name), "%.*s", (int)len, text);
    value = getenv(name);
    return value != NULL ? knit_return_str(call, value, strlen(value)) : knit_return_nil(call);
}
