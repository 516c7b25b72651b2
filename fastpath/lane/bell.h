/* SPDX-License-Identifier: Apache-2.0 */
/* Sleep and wake: futexes, the one fence, the clock and the spin's pause.
 *
 * Whoever sleeps: announces it, fences, looks again, and sleeps on the value the bell had before
 * the announcement. Whoever wakes: publishes, fences, reads the announcement, changes the bell,
 * wakes. The two fences forbid the one reordering that even x86 allows, a load overtaking an older
 * store of another word: without either of them both sides can miss each other and the sleeper
 * sleeps on with work waiting. tests/model/park.pml and wait.pml show it.
 *
 * The futexes here are shared ones (no PRIVATE flag): the words lie in memory of several processes,
 * and waiting works on read-only mappings too.
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

/* The full fence of both protocols above. ThreadSanitizer does not know fences; a locked operation
 * on a word of the thread's own is one as well, and it does know that. */
static inline void knit_bell_fence(void)
{
#if KNIT_BELL_TSAN
    static _Thread_local _Atomic uint32_t own;
    atomic_fetch_add_explicit(&own, 1, memory_order_seq_cst);
#else
    atomic_thread_fence(memory_order_seq_cst);
#endif
}

/* Let the other hyperthread and the memory bus breathe for one look. */
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

/* Rings an event loop: one byte. A full bell is ringing already, and of one whose other end is
 * closed nobody waits. A socket never blocks. A pipe must be an open file description of the
 * ringer's own that does not block: O_NONBLOCK belongs to the description, so whoever shares it can
 * take it away, and a task of one worker would stop the others and the host. */
static inline void knit_bell_notify(int fd, bool is_pipe)
{
    if (fd >= 0 && is_pipe)
        (void)!write(fd, "", 1);
    else if (fd >= 0)
        (void)send(fd, "", 1, MSG_DONTWAIT | MSG_NOSIGNAL);
}

/* Takes out of a bell what rang it, to be heard again. There is at most a byte for each arm; who
 * writes without end finds an end here. Whether a stranger's socket blocks is not asked, and a pipe
 * must be one that does not. */
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

/* One word of knit_bell_wait_many(). */
static inline struct futex_waitv knit_bell_word(const _Atomic uint32_t *word, uint32_t value)
{
    return (struct futex_waitv){
        .val = value, .uaddr = (uint64_t)(uintptr_t)word, .flags = FUTEX_32};
}

/* A spin budget that learns whether spinning pays. It pays when what was waited for came during the
 * spin. With more runnable threads than cores it never does, and then costs the whole time slice
 * that the other side needed: so each spin in vain halves the budget, each that paid doubles it,
 * and now and then the full one is tried again. */
struct knit_spin {
    uint32_t max_ns;
    uint32_t now_ns;
    uint32_t vain; /* sleeps since the last full try */
};

#define KNIT_SPIN_RETRY    64u /* sleeps between two full tries */
#define KNIT_SPIN_LEAST_NS 500u

static inline void knit_spin_init(struct knit_spin *spin, uint32_t max_us)
{
    spin->max_ns = max_us > 1000000 ? 1000000000u : max_us * 1000;
    spin->now_ns = spin->max_ns;
    spin->vain = 0;
}

static inline void knit_spin_paid(struct knit_spin *spin)
{
    spin->now_ns = spin->now_ns >= spin->max_ns / 2 ? spin->max_ns : spin->now_ns * 2;
}

/* True when the full budget is up again. */
static inline bool knit_spin_failed(struct knit_spin *spin)
{
    spin->now_ns /= 2;
    if (spin->now_ns < KNIT_SPIN_LEAST_NS)
        spin->now_ns = 0;
    if (++spin->vain >= KNIT_SPIN_RETRY) {
        spin->vain = 0;
        spin->now_ns = spin->max_ns;
        return true;
    }
    return false;
}
