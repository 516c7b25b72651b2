/* SPDX-License-Identifier: Apache-2.0 */
/* See steps.h. One act is stalled at a time; what the others do meanwhile is not counted. A futex
 * is a comparison and a list of the words that each party sleeps on. */
#include "tests/fastpath/steps.h"

#include <errno.h>
#include <linux/futex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { WORDS = 8, BUFFER_MAX = 64, NO_PARTY = STEPS_PARTIES };

struct buffered_store {
    void *at;
    size_t size;
    union {
        uint64_t eight;
        uint32_t four;
        uint8_t one;
    } value;
};

struct party {
    const void *words[WORDS]; /* that it sleeps on */
    uint32_t count;
    bool is_asleep;
    struct buffered_store stores[BUFFER_MAX]; /* that no other party sees yet, oldest first */
    uint32_t store_count;
};

/* A word that was woken, and its value then. */
struct woken {
    const void *word;
    uint32_t value;
};

static struct {
    steps_act *on_step, *meanwhile;
    void *on_step_arg;
    bool is_lazy, was_stalled;
    uint64_t count, at;
    void *meanwhile_arg;
    unsigned now;   /* whose act runs */
    jmp_buf *sleep; /* where it goes to sleep */
    struct party parties[STEPS_PARTIES];
    struct woken woken[WORDS];
    uint32_t woken_count, vain_wakes;
} steps;

void steps_init(steps_act *on_step, void *arg)
{
    const bool was_stalled = steps.was_stalled;
    memset(&steps, 0, sizeof(steps));
    steps.was_stalled = was_stalled;
    steps.on_step = on_step;
    steps.on_step_arg = arg;
    steps.now = NO_PARTY;
}

void steps_be_lazy(bool lazy)
{
    steps.is_lazy = lazy;
}

/* ---- stalling ---- */

void steps_stall(uint64_t at, steps_act *meanwhile, void *arg)
{
    steps.count = 0;
    steps.was_stalled = false;
    steps.at = at;
    steps.meanwhile = meanwhile;
    steps.meanwhile_arg = arg;
}

void steps_stall_again(uint64_t more, steps_act *meanwhile, void *arg)
{
    steps_stall(more, meanwhile, arg);
}

bool steps_was_stalled(void)
{
    return steps.was_stalled;
}

void steps_pass(void)
{
    steps_act *meanwhile;

    if (steps.on_step != NULL)
        steps.on_step(steps.on_step_arg);
    if (steps.meanwhile == NULL || steps.now == NO_PARTY || steps.count++ != steps.at)
        return;
    meanwhile = steps.meanwhile;
    steps.meanwhile = NULL;
    steps.was_stalled = true;
    meanwhile(steps.meanwhile_arg);
}

bool steps_as(unsigned party, steps_act *act, void *arg)
{
    jmp_buf here, *const outer_sleep = steps.sleep;
    const unsigned outer = steps.now;
    volatile bool is_through = false; /* set behind a setjmp() */

    steps.parties[party].is_asleep = false;
    if (setjmp(here) == 0) {
        steps.now = party;
        steps.sleep = &here;
        act(arg);
        is_through = true;
        steps_pass();
        steps_drain();
    }
    steps.now = outer;
    steps.sleep = outer_sleep;
    if (outer == NO_PARTY)
        steps.meanwhile = NULL;
    return is_through;
}

/* ---- store buffers ---- */

bool steps_forward(const void *at, void *ret_value, size_t size)
{
    const struct party *party;

    if (steps.now == NO_PARTY)
        return false;
    party = &steps.parties[steps.now];
    for (uint32_t i = party->store_count; i > 0; i--) {
        if (party->stores[i - 1].at != at)
            continue;
        memcpy(ret_value, &party->stores[i - 1].value, size);
        return true;
    }
    return false;
}

/* seq_cst: nothing here is about a weaker order. */
static void write_oldest(struct party *party)
{
    struct buffered_store *store = &party->stores[0];
    if (store->size == 8)
        atomic_store_explicit(
            (_Atomic uint64_t *)store->at, store->value.eight, memory_order_seq_cst);
    else if (store->size == 4)
        atomic_store_explicit(
            (_Atomic uint32_t *)store->at, store->value.four, memory_order_seq_cst);
    else
        atomic_store_explicit((_Atomic uint8_t *)store->at, store->value.one, memory_order_seq_cst);
    memmove(store, store + 1, --party->store_count * sizeof(*store));
}

bool steps_buffer(void *at, const void *value, size_t size)
{
    struct party *party;
    struct buffered_store *store;

    if (!steps.is_lazy || steps.now == NO_PARTY || (size != 8 && size != 4 && size != 1))
        return false;
    party = &steps.parties[steps.now];
    if (party->store_count == BUFFER_MAX)
        write_oldest(party);
    store = &party->stores[party->store_count++];
    store->at = at;
    store->size = size;
    memcpy(&store->value, value, size);
    return true;
}

void steps_drain(void)
{
    if (steps.now == NO_PARTY)
        return;
    while (steps.parties[steps.now].store_count > 0)
        write_oldest(&steps.parties[steps.now]);
}

/* ---- sleeping ---- */

bool steps_is_asleep(unsigned party)
{
    return steps.parties[party].is_asleep;
}

/* The words are the party's, and they have the values that it sleeps on. */
static long fall_asleep(void)
{
    /* Outside of an act no other party runs to wake it. */
    if (steps.sleep == NULL) {
        errno = ETIMEDOUT;
        return -1;
    }
    steps.parties[steps.now].is_asleep = true;
    steps_pass();
    longjmp(*steps.sleep, 1);
}

static uint32_t value_of(const void *word)
{
    return atomic_load_explicit((const _Atomic uint32_t *)word, memory_order_seq_cst);
}

static long wait_many(const struct futex_waitv *words, uint32_t count)
{
    static struct party no_party;
    struct party *party = steps.now != NO_PARTY ? &steps.parties[steps.now] : &no_party;
    party->count = 0;
    for (uint32_t i = 0; i < count; i++) {
        const void *word = (const void *)(uintptr_t)words[i].uaddr; /* NOLINT: as the kernel */
        if (value_of(word) != words[i].val) {
            errno = EAGAIN;
            return -1;
        }
        if (party->count < WORDS)
            party->words[party->count++] = word;
    }
    return fall_asleep();
}

uint32_t steps_vain_wakes(void)
{
    return steps.vain_wakes;
}

/* Words begin at 0. */
static void note_wake(const void *word)
{
    uint32_t i = 0;
    while (i < steps.woken_count && steps.woken[i].word != word)
        i++;
    if (i == WORDS)
        return;
    if (i == steps.woken_count)
        steps.woken[steps.woken_count++] = (struct woken){.word = word};
    if (value_of(word) == steps.woken[i].value)
        steps.vain_wakes++;
    steps.woken[i].value = value_of(word);
}

static void wake(const void *word)
{
    note_wake(word);
    for (unsigned i = 0; i < STEPS_PARTIES; i++) {
        struct party *party = &steps.parties[i];
        for (uint32_t j = 0; party->is_asleep && j < party->count; j++)
            party->is_asleep = party->words[j] != word;
    }
}

long steps_syscall(long number, ...)
{
    va_list arguments;
    long result = 0;
    const void *words;
    int op;
    uint32_t value;

    steps_pass();
    steps_drain();
    va_start(arguments, number);
    words = va_arg(arguments, const void *);
    if (number == SYS_futex_waitv) {
        uint32_t count = va_arg(arguments, uint32_t);
        va_end(arguments);
        return wait_many(words, count);
    }
    op = va_arg(arguments, int);
    value = op == FUTEX_WAKE ? 0 : va_arg(arguments, uint32_t);
    va_end(arguments);
    if (op == FUTEX_WAKE) {
        wake(words);
    } else {
        struct futex_waitv one = {.uaddr = (uintptr_t)words, .val = value};
        result = wait_many(&one, 1);
    }
    return result;
}
