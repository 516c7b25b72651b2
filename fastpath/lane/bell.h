/* SPDX-License-Identifier: Apache-2.0 */
/* Sleep and wake: futexes, the one fence, the clock and the spin's pause.
 *
 * The sleeper announces its sleep, fences, looks again, and sleeps on the value that the bell had
 * before the announcement. The waker publishes, fences, reads the announcement, changes the bell,
 * wakes. The two fences forbid the one reordering that even x86 allows, of a load before an older
 * store of another word. Without either of them the sides can miss each other, and the sleeper does
 * not see the work (tests/model/park.pml and wait.pml).
 *
 * The futexes are shared ones (no PRIVATE flag), because the words lie in memory of several
 * processes. Waiting works on read-only mappings too.
 *
 * Threads: any. knit_bell_wait() and _wait_many() block.
 */
#pragma once

#include <errno.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define KNIT_BELL_WORDS_MAX    128u /* FUTEX_WAITV_MAX */
#define KNIT_BELL_SWALLOWS_MAX 16

#if defined(__SANITIZE_THREAD__)
#define KNIT_BELL_TSAN 1
#elif defined(__has_feature)
#if __has_feature(thread_sanitizer)
#define KNIT_BELL_TSAN 1
#endif
#endif
#ifndef KNIT_BELL_TSAN
#define KNIT_BELL_TSAN 0
#endif

static inline uint64_t knit_clock_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * 1000000000u + (uint64_t)now.tv_nsec;
}

/* The full fence of both sides. ThreadSanitizer does not know fences, but it does know a locked
 * operation on a word of the thread's own, which is a full fence as well. */
static inline void knit_bell_fence(void)
{
#if KNIT_BELL_TSAN
    static _Thread_local _Atomic uint32_t own;
    atomic_fetch_add_explicit(&own, 1, memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Between two looks of a spin: leaves the core to its other hyperthread for a moment. */
static inline void knit_bell_pause(void)
{
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("isb" ::: "memory");
#endif
}

/* Sleep while *word == value, at most until until_ns on CLOCK_MONOTONIC (0 = no limit).
 * Returns 0 (woken, or the word differs, or interrupted: look again) or ETIMEDOUT. */
static inline int knit_bell_wait(const _Atomic uint32_t *word, uint32_t value, uint64_t until_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
    /* WAIT_BITSET takes an absolute time, WAIT a relative one. */
    long got = syscall(SYS_futex, word, FUTEX_WAIT_BITSET, value, until_ns != 0 ? &until : NULL,
        NULL, FUTEX_BITSET_MATCH_ANY);
    return got < 0 && errno == ETIMEDOUT ? ETIMEDOUT : 0;
}

/* Wake at most `count` sleepers of *word. Works on read-only mappings. */
static inline void knit_bell_wake(const _Atomic uint32_t *word, int count)
{
    (void)syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* Notifies an event loop: one byte. An error does not matter: a full bell is readable already, and
 * one whose other end is closed has no sleeper. A socket is written without blocking. A pipe must
 * be an open file description of this process's own, with O_NONBLOCK set: the flag belongs to the
 * description, so another process that shared it could clear it, and a task of one worker would
 * block the others and the host. */
static inline void knit_bell_notify(int fd, bool is_pipe)
{
    if (fd >= 0 && is_pipe)
        (void)!write(fd, "", 1);
    else if (fd >= 0)
        (void)send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Reads all bytes from a bell, so that it can become readable again. There is at most a byte for
 * each arm; the number of reads is bounded against a peer that writes more. A socket is read
 * without blocking, whatever its flags; a pipe must have O_NONBLOCK set. */
static inline void knit_bell_swallow(int fd, bool is_pipe)
{
    unsigned char swallowed[64];
    ssize_t got = sizeof(swallowed);
    for (int i = 0; fd >= 0 && i < KNIT_BELL_SWALLOWS_MAX && got == (ssize_t)sizeof(swallowed); i++)
        got = is_pipe ? read(fd, swallowed, sizeof(swallowed))
                      : recv(fd, swallowed, sizeof(swallowed), MSG_DONTWAIT);
}

/* Sleep while every word has its value (Linux 5.16). words: count of them, at most
 * KNIT_BELL_WORDS_MAX. Returns which word was woken, or -1 (one differed, interrupted, late). */
static inline int knit_bell_wait_many(
    const struct futex_waitv *words, uint32_t count, uint64_t until_ns)
{
    struct timespec until = {
        .tv_sec = (time_t)(until_ns / 1000000000u), .tv_nsec = (long)(until_ns % 1000000000u)};
    long got =
        syscall(SYS_futex_waitv, words, count, 0, until_ns != 0 ? &until : NULL, CLOCK_MONOTONIC);
    return got < 0 ? -1 : (int)got;
}

/* 0, or the errno with which knit_bell_wait_many() is refused to this process: ENOSYS before Linux
 * 5.16, EPERM or ENOSYS by a container's filter. A word with another value is never slept on. */
static inline int knit_bell_why_not_many(void)
{
    static const _Atomic uint32_t word = 1;
    const struct futex_waitv differs = {
        .val = 0, .uaddr = (uint64_t)(uintptr_t)&word, .flags = FUTEX_32};
    long got = syscall(SYS_futex_waitv, &differs, 1u, 0u, NULL, CLOCK_MONOTONIC);

    return got < 0 && errno != EAGAIN ? errno : 0;
}

/* By a caller, through an eventfd of the host. An error does not matter: the host has not handled
 * what is in the counter then. */
static inline void knit_bell_ask_host(int fd)
{
    const uint64_t one = 1;

    (void)!write(fd, &one, sizeof(one));
}

/* One word of knit_bell_wait_many(). */
static inline struct futex_waitv knit_bell_word(const _Atomic uint32_t *word, uint32_t value)
{
    return (struct futex_waitv){
        .val = value, .uaddr = (uint64_t)(uintptr_t)word, .flags = FUTEX_32};
}

/* A spin budget that adapts. A spin succeeds when what is waited for comes during it. With more
 * runnable threads than cores it never does, and uses up the time slice that the other side needs:
 * so a spin that failed halves the budget, one that succeeded doubles it, and after
 * KNIT_SPIN_RETRY failures the full budget is tried again. */
struct knit_spin {
    uint32_t max_ns;
    uint32_t now_ns;
    uint32_t failed; /* spins since the last full one */
};

#define KNIT_SPIN_RETRY    64u /* sleeps between two full tries */
#define KNIT_SPIN_LEAST_NS 500u

static inline void knit_spin_init(struct knit_spin *spin, uint32_t max_us)
{
    spin->max_ns = max_us > 1000000 ? 1000000000u : max_us * 1000;
    spin->now_ns = spin->max_ns;
    spin->failed = 0;
}

static inline void knit_spin_paid(struct knit_spin *spin)
{
    spin->now_ns = spin->now_ns >= spin->max_ns / 2 ? spin->max_ns : spin->now_ns * 2;
}

/* True: the budget is the full one again. */
static inline bool knit_spin_failed(struct knit_spin *spin)
{
    spin->now_ns /= 2;
    if (spin->now_ns < KNIT_SPIN_LEAST_NS)
        spin->now_ns = 0;
    if (++spin->failed >= KNIT_SPIN_RETRY) {
        spin->failed = 0;
        spin->now_ns = spin->max_ns;
        return true;
    }
    return false;
}
