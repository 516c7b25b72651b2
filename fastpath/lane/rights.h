/* SPDX-License-Identifier: Apache-2.0 */
/* Which tasks somebody may run, asked by workers and by the daemon's loops beside each call, and
 * changed by the host while they ask.
 *
 * A class is a row of bits, one a task, and 64 behind them for whatever else the host's program
 * asks. A *right* is a word that says which class its holder has
 * now, and which of all words that were ever written it is: two words that are the same were
 * written once. The bit of a task is read between two loads of the word:
 *
 *     word (acquire)  ->  bit  ->  fence (acquire)  ->  word again: the same?
 *
 * The host fills rows that no word names, then stores the words, one store each; a row that no word
 * names any more may be filled again at once:
 *
 *     bits of a new row  ->  word (release)         R1: who loads the word sees the bits
 *     word (release)     ->  fence (release)  ->  bits of an old row
 *                                                   R2: who sees such a bit sees the word change
 *
 * So a decision is that of a word which held at one moment while it was made, however long the
 * reader was stopped in between: nobody waits for readers, and nobody counts them. A reader begins
 * again only when the word has changed.
 *
 * Rejected: two tables by turns, since a stopped reader may find the one that is being filled; to
 * keep a row until each worker was seen past a turn, since a stopped worker would then keep the
 * host from changing anything.
 *
 * Threads: any read; writing is the host's, under one lock.
 * tests/model/rights.pml is a model of this.
 */
#pragma once

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "fastpath/lane/layout.h"
#include "fastpath/lane/places.h"

enum {
    KNIT_RIGHTS_PLACES = 124,   /* sessions of a pool */
    KNIT_RIGHTS_CLASSES = 1024, /* rows */
    KNIT_RIGHTS_CLASS_BITS = 10,
    KNIT_RIGHTS_NOTHING = 0, /* the class of no task; its word may be 0 */
    KNIT_RIGHTS_ALL = 1,     /* the class of every task */
    KNIT_RIGHTS_FREE = 2,    /* from here on, classes are the host's to choose */
};

/* Who has one changes only by knit_right_store(). */
struct knit_right {
    _Atomic uint64_t word;
};

/* What a flow (lane_flows.h) gets for each that others get, in parts of KNIT_WEIGHT_ONE: who calls
 * in several loops has a part of its weight in each. 0 = KNIT_WEIGHT_ONE. It orders nothing. */
enum { KNIT_WEIGHT_ONE = 64 };

struct knit_weight {
    _Atomic uint32_t value;
};

/* Pointers into a mapping: of the host, or read-only of a worker. */
struct knit_rights_view {
    struct knit_segment_header *header; /* of its geometry, `slots` is `words` */
    uint32_t words;             /* of a row: a bit for each task; the last is the host's own */
    struct knit_right *member;  /* [KNIT_RIGHTS_PLACES]; of the session with that place */
    struct knit_weight *weight; /* [KNIT_RIGHTS_PLACES]; of the flow of that session */
    struct knit_tally *waiting, *long_calls; /* places.h; by the host's loops */
    _Atomic uint64_t *bits;                  /* [KNIT_RIGHTS_CLASSES][words] */
};

/* As layout.h has them for the other segments. */
uint64_t knit_layout_rights_bytes(uint32_t tasks);
void knit_layout_rights(uint32_t tasks, void *base, struct knit_rights_view *ret);

static inline uint32_t knit_right_class_of(uint64_t word)
{
    return (uint32_t)word & ((1u << KNIT_RIGHTS_CLASS_BITS) - 1);
}

static_assert(KNIT_RIGHTS_CLASSES == 1u << KNIT_RIGHTS_CLASS_BITS, "a word names no other class");

/* relaxed: for classes that mean the same with every table. */
static inline uint32_t knit_right_class(const struct knit_right *right)
{
    return knit_right_class_of(atomic_load_explicit(&right->word, memory_order_relaxed));
}

/* serial: another one for each word that is written, from 1. */
static inline uint64_t knit_right(uint64_t serial, uint32_t class)
{
    return serial << KNIT_RIGHTS_CLASS_BITS | class;
}

/* The number of the host's own bits, to be asked for as tasks are. */
static inline uint32_t knit_rights_own(const struct knit_rights_view *rights)
{
    return 64 * (rights->words - 1);
}

/* Whether who has the right may run the task. Nobody may run what is not in the table. */
static inline bool knit_right_allows(
    const struct knit_rights_view *rights, const struct knit_right *right, uint32_t task)
{
    uint64_t word = atomic_load_explicit(&right->word, memory_order_acquire), again, bits; /* R1 */

    if (task / 64 >= rights->words)
        return false;
    for (;; word = again) {
        const uint32_t class = knit_right_class_of(word);

        /* relaxed: R1 and R2 order it. */
        bits = atomic_load_explicit(
            &rights->bits[class * rights->words + task / 64], memory_order_relaxed);
        atomic_thread_fence(memory_order_acquire); /* R2 */
        again = atomic_load_explicit(&right->word, memory_order_relaxed);
        if (__builtin_expect(again == word, 1))
            return (bits >> (task % 64) & 1) != 0;
        /* R1: the bits of the other word's class. */
        atomic_thread_fence(memory_order_acquire);
    }
}

/* By the host: a row that no word names. */
static inline void knit_rights_fill(
    const struct knit_rights_view *rights, uint32_t class, const uint64_t *bits)
{
    atomic_thread_fence(memory_order_release); /* R2 */
    for (uint32_t i = 0; i < rights->words; i++)
        /* relaxed: R1 and R2 order it. */
        atomic_store_explicit(
            &rights->bits[class * rights->words + i], bits[i], memory_order_relaxed);
}

static inline void knit_right_store(struct knit_right *right, uint64_t word)
{
    atomic_store_explicit(&right->word, word, memory_order_release); /* R1 */
}

/* What that one has now, this one has too. */
static inline void knit_right_copy(struct knit_right *right, const struct knit_right *from)
{
    /* acquire: R1 of what is stored again. */
    knit_right_store(right, atomic_load_explicit(&from->word, memory_order_acquire));
}

static inline void knit_weight_store(struct knit_weight *weight, uint64_t value)
{
    /* relaxed: it holds for what comes a moment later. */
    atomic_store_explicit(
        &weight->value, value < UINT32_MAX ? (uint32_t)value : UINT32_MAX, memory_order_relaxed);
}

static inline uint32_t knit_weight_load(const struct knit_weight *weight)
{
    const uint32_t value = atomic_load_explicit(&weight->value, memory_order_relaxed);

    return value != 0 ? value : KNIT_WEIGHT_ONE;
}
