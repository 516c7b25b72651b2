/* SPDX-License-Identifier: Apache-2.0 */
/* Tasks that record that they ran, in a file that no tested program uses.
 *
 *     ledger(id)               counts in entry[id], returns the worker's thread id, a process's own
 *     carry(id, us, body)      the body, after counting and so many microseconds of work
 *     same(value)              the value itself, counts nothing
 *     clock_ns()               when it runs, in nanoseconds of CLOCK_MONOTONIC
 *     spend(us)                sleeps for so many microseconds; when it began and when it ended
 *     twice(value)             the value itself, after reading it many times; ends the worker when
 *                              it was not the same each time
 *     hold(id, gate, ignores)  as ledger(), then waits until the test opens the gate, or until it
 *                              is aborted if it does not ignore that
 *     compute(id, gate)        as hold(), but that it computes meanwhile and does not look whether
 *                              it is aborted
 *     told(id, deferred)       as ledger(), then waits until it is aborted, and counts again, in
 *                              entry[id + the length of the reason]
 *     die_once(id)             counts, and ends its worker unless it has run before; it is marked
 *                              as one that may run twice, die_for_good(id) is the same unmarked
 *     defer(id, gate, stays)   as hold(), but that its call is deferred: a thread waits, or the
 *                              task itself if it stays
 *
 * The bootstrap text names the file: 64 gates, then for each id how often it ran and in which
 * process last, all u32. It is mapped, so that what a killed worker had counted stays counted.
 * `hold` sleeps on its gate, so tests that need a busy worker depend on no time span: they open
 * the gate when they are done.
 */
#include <knitting/deferred.h>

#include <errno.h>
#include <fcntl.h>
#include <linux/futex.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { GATES = 64, OUT_OF_RANGE = 1, STOPPED = 2, READINGS = 16 };

struct entry {
    _Atomic uint32_t times;
    _Atomic uint32_t process;
};

/* Of each worker, which may be a thread of a process with several. */
static _Thread_local _Atomic uint32_t *gate;
static _Thread_local struct entry *entry;
static _Thread_local int64_t ids;

static int open_ledger(const struct knit_bootstrap *info, char *ret_message, size_t message_size)
{
    struct stat info_of_file;
    void *base = MAP_FAILED;
    int fd = open(info->text, O_RDWR | O_CLOEXEC);

    if (fd >= 0 && fstat(fd, &info_of_file) == 0)
        base = mmap(NULL, (size_t)info_of_file.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (fd >= 0)
        close(fd);
    if (base == MAP_FAILED) {
        snprintf(ret_message, message_size, "ledger '%s': %s", info->text, strerror(errno));
        return -1;
    }
    gate = base;
    entry = (struct entry *)(gate + GATES);
    ids = (info_of_file.st_size - (off_t)(GATES * sizeof(*gate))) / (off_t)sizeof(*entry);
    return 0;
}

KNIT_MODULE_BOOTSTRAP("1.0", open_ledger);

static bool count(const struct knit_call *call)
{
    int64_t id = knit_arg_int(call, 0);

    if (id < 0 || id >= ids)
        return false;
    atomic_store_explicit(&entry[id].process, (uint32_t)gettid(), memory_order_relaxed);
    atomic_fetch_add_explicit(&entry[id].times, 1, memory_order_release);
    return true;
}

KNIT_TASK(ledger, "ledger(id: int) -> int", .doc = "Counts that it ran; its worker's thread id.")
{
    if (!count(call))
        return knit_fail(call, OUT_OF_RANGE, "no such id");
    return knit_return_int(call, gettid());
}

KNIT_TASK(carry, "carry(id: int, us: int, body: bin) -> bin",
    .doc = "Counts that it ran, works for a while; the body.")
{
    struct timespec now;
    int64_t until_ns, us = knit_arg_int(call, 1);
    size_t len;
    const void *body = knit_arg_bytes(call, 2, &len);

    if (us < 0 || us > 1000000 || !count(call))
        return knit_fail(call, OUT_OF_RANGE, "no such id or time");
    clock_gettime(CLOCK_MONOTONIC, &now);
    until_ns = now.tv_sec * 1000000000 + now.tv_nsec + us * 1000;
    while (now.tv_sec * 1000000000 + now.tv_nsec < until_ns) {
        if (knit_aborted(call))
            return knit_fail(call, STOPPED, "aborted");
        clock_gettime(CLOCK_MONOTONIC, &now);
    }
    return knit_return_bin(call, body, len);
}

KNIT_TASK(same, "same(value: any) -> any", .doc = "The value itself.")
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);

    return knit_return_raw(call, value, len);
}

KNIT_TASK(traced, "traced() -> str", .doc = "The trace that its call is a part of.")
{
    char text[KNIT_CALL_TRACE_SIZE];

    return knit_return_str(call, text, knit_call_trace(call, text));
}

KNIT_TASK(clock_ns, "clock_ns() -> int", .doc = "When it runs, in nanoseconds.")
{
    return knit_return_int(call, (int64_t)knit_now_ns(call));
}

KNIT_TASK(spend, "spend(us: int) -> (int, int)",
    .doc = "Sleeps for a while; when it began and when it ended.", .flags = KNIT_TASK_INLINE_SAFE)
{
    KNIT_BUILDER(builder);
    const int64_t us = knit_arg_int(call, 0);
    const struct timespec pause = {.tv_sec = us / 1000000, .tv_nsec = us % 1000000 * 1000};

    knit_put_array(builder, 2);
    knit_put_int(builder, (int64_t)knit_now_ns(call));
    (void)nanosleep(&pause, NULL);
    knit_put_int(builder, (int64_t)knit_now_ns(call));
    return knit_return_built(call, builder);
}

/* volatile: each reading is one of memory, which no compiler may leave out. */
static uint64_t checksum(const volatile unsigned char *bytes, size_t len)
{
    uint64_t sum = 14695981039346656037u;

    for (size_t i = 0; i < len; i++)
        sum = (sum ^ bytes[i]) * 1099511628211u;
    return sum;
}

/* It dies, because no caller can hide that, as it could hide an error. */
KNIT_TASK(twice, "twice(value: any) -> any",
    .doc = "The value itself, which stayed the same while it was read.")
{
    size_t len;
    const void *value = knit_arg_raw(call, 0, &len);
    uint64_t sum = checksum(value, len);

    for (int i = 1; i < READINGS; i++) {
        if (checksum(value, len) != sum)
            abort();
    }
    return knit_return_raw(call, value, len);
}

KNIT_TASK(time_left, "time_left() -> int", .doc = "Nanoseconds until its deadline.")
{
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return knit_return_int(
        call, (int64_t)(knit_deadline_ns(call) - (uint64_t)now.tv_sec * 1000000000u -
                        (uint64_t)now.tv_nsec));
}

KNIT_TASK(hold, "hold(id: int, gate: int, ignores_abort: bool?) -> int",
    .doc = "Counts that it ran, then waits for a gate.")
{
    int64_t which = knit_arg_int(call, 1);

    if (which < 0 || which >= GATES || !count(call))
        return knit_fail(call, OUT_OF_RANGE, "no such id or gate");
    while (atomic_load_explicit(&gate[which], memory_order_acquire) == 0) {
        const struct timespec look_again = {.tv_nsec = 1000000};

        if (!knit_arg_bool(call, 2) && knit_aborted(call))
            return knit_fail(call, STOPPED, "aborted");
        syscall(SYS_futex, &gate[which], FUTEX_WAIT, 0, &look_again, NULL, 0);
    }
    return knit_return_int(call, gettid());
}

KNIT_TASK(compute, "compute(id: int, gate: int) -> int",
    .doc = "Counts that it ran, then computes until a gate opens.")
{
    int64_t which = knit_arg_int(call, 1);

    if (which < 0 || which >= GATES || !count(call))
        return knit_fail(call, OUT_OF_RANGE, "no such id or gate");
    while (atomic_load_explicit(&gate[which], memory_order_acquire) == 0)
        ;
    return knit_return_int(call, gettid());
}

KNIT_TASK(told, "told(id: int, deferred: bool) -> int",
    .doc = "Counts that it ran, and when it is aborted its id and the length of the reason.")
{
    char reason[KNIT_ABORT_REASON_SIZE];
    const bool is_deferred = knit_arg_bool(call, 1);
    const int64_t id = knit_arg_int(call, 0);
    struct knit_deferred *deferred;
    size_t len = knit_abort_reason(call, reason);

    if (len != 0 || reason[0] != '\0' || id < 0 || id >= ids - KNIT_ABORT_REASON_SIZE ||
        !count(call))
        return knit_fail(call, OUT_OF_RANGE, "no such id, or told too early");
    deferred = is_deferred ? knit_defer(call) : NULL;
    while (is_deferred ? !knit_deferred_aborted(deferred) : !knit_aborted(call)) {
        const struct timespec look_again = {.tv_nsec = 1000000};

        (void)nanosleep(&look_again, NULL);
    }
    len = is_deferred ? knit_deferred_abort_reason(deferred, reason)
                      : knit_abort_reason(call, reason);
    if (strlen(reason) == len)
        atomic_fetch_add_explicit(&entry[id + (int64_t)len].times, 1, memory_order_release);
    return is_deferred ? (void)knit_deferred_return_aborted(deferred),
           0           : knit_return_aborted(call);
}

static int die_first(struct knit_call *call)
{
    if (!count(call))
        return knit_fail(call, OUT_OF_RANGE, "no such id");
    if (atomic_load_explicit(&entry[knit_arg_int(call, 0)].times, memory_order_relaxed) == 1)
        abort();
    return knit_return_int(call, gettid());
}

KNIT_TASK(die_once, "die_once(id: int) -> int", .flags = KNIT_TASK_IDEMPOTENT,
    .doc = "Counts that it ran, and ends its worker the first time.")
{
    return die_first(call);
}

KNIT_TASK(die_for_good, "die_for_good(id: int) -> int", .doc = "The same, but not to be repeated.")
{
    return die_first(call);
}

struct waiting {
    struct knit_deferred *deferred;
    _Atomic uint32_t *gate;
    int64_t id;
};

/* Gives the outcome, and frees what it is given. */
static void *wait_and_return(void *arg)
{
    struct waiting *waiting = arg;

    while (atomic_load_explicit(waiting->gate, memory_order_acquire) == 0 &&
           !knit_deferred_aborted(waiting->deferred)) {
        const struct timespec look_again = {.tv_nsec = 1000000};

        syscall(SYS_futex, waiting->gate, FUTEX_WAIT, 0, &look_again, NULL, 0);
    }
    if (knit_deferred_aborted(waiting->deferred))
        (void)knit_deferred_return_aborted(waiting->deferred);
    else
        (void)knit_deferred_return_int(waiting->deferred, waiting->id);
    free(waiting);
    return NULL;
}

KNIT_TASK(defer, "defer(id: int, gate: int, stays: bool?) -> int",
    .doc = "Counts that it ran; its id, when the gate is open.")
{
    const int64_t id = knit_arg_int(call, 0), which = knit_arg_int(call, 1);
    const bool stays = knit_arg_bool(call, 2);
    struct waiting *waiting = malloc(sizeof(*waiting));
    pthread_t thread;

    if (waiting == NULL || which < 0 || which >= GATES || !count(call)) {
        free(waiting);
        return knit_fail(call, OUT_OF_RANGE, "no such id or gate");
    }
    *waiting = (struct waiting){.deferred = knit_defer(call), .gate = &gate[which], .id = id};
    if (waiting->deferred == NULL) {
        free(waiting);
        return knit_fail(call, STOPPED, "too many");
    }
    if (!stays && pthread_create(&thread, NULL, wait_and_return, waiting) == 0)
        (void)pthread_detach(thread);
    else
        (void)wait_and_return(waiting);
    return 0;
}
