/* SPDX-License-Identifier: Apache-2.0 */
/* The values that a call emits while it runs, under a sequence lock: the owner of the claim writes
 * them over each other, the caller reads the last one when it likes. Neither waits for the other: a
 * reader that finds a value half written looks again a few times, and then at its next look.
 *
 * `seq` bears the generation, so what an earlier call of the slot left there is never taken for a
 * value of the one that runs, and the writer needs nothing to begin. A writer that died in the
 * middle leaves an odd number, from which the next one goes on.
 *
 * Edges:
 *   Q1 value  the words, release, with the reader's acquire, before it loads `seq` again: who has
 *             read a word of the next value sees its odd number. ThreadSanitizer knows no fences.
 *   Q2 value  the even number, release, with the reader's acquire: the words of that value
 *
 * The reason of an abort lies in such a cell as well, with the sides exchanged: the session writes
 * it, once a call, before the abort; workers read it.
 *
 * Threads: write: whoever may answer the call; read: the session's.
 */
#pragma once

#include <string.h>

#include <knitting/code.h>

#include "fastpath/lane/layout.h"
#include "proto/progress.h"

static_assert((int)KNIT_VALUE_MAX == KNIT_PROGRESS_BYTES_MAX, "as in the protocol");

#define KNIT_EMIT_TRIES 8

/* A value as its reader has copied it. */
struct knit_emitted {
    uint64_t word;  /* `seq` of it: another value of this call or another call's has another one */
    uint32_t count; /* of the values that the call has emitted, this one included */
    uint32_t len;
    uint64_t body[KNIT_VALUE_WORDS];
};

static inline uint64_t knit_emit_seq(uint64_t word)
{
    return word & 0xffffff;
}

/* gen: of the call that runs in the slot. len: at most KNIT_VALUE_MAX. */
static inline void knit_emit_write(
    struct knit_progress_cell *cell, uint64_t gen, const void *value, size_t len)
{
    uint64_t words[KNIT_VALUE_WORDS] = {0};
    /* relaxed: the claim made what an earlier owner stored visible. */
    const uint64_t old = atomic_load_explicit(&cell->seq, memory_order_relaxed);
    const uint64_t odd = (knit_emit_seq(old) + 1) | 1;
    uint64_t count = 1;

    if (old >> KNIT_GEN_SHIFT == gen)
        count += atomic_load_explicit(&cell->meta, memory_order_relaxed) >> 32;
    memcpy(words, value, len);
    /* relaxed: Q1 orders it. */
    atomic_store_explicit(
        &cell->seq, gen << KNIT_GEN_SHIFT | knit_emit_seq(odd), memory_order_relaxed);
    /* Q1, release. */
    atomic_store_explicit(&cell->meta, count << 32 | len, memory_order_release);
    for (size_t i = 0; i * 8 < len; i++)
        atomic_store_explicit(&cell->body[i], words[i], memory_order_release);
    /* Q2, release. */
    atomic_store_explicit(
        &cell->seq, gen << KNIT_GEN_SHIFT | knit_emit_seq(odd + 1), memory_order_release);
}

/* Whether there may be a value of this call after the one whose word was `seen`. */
static inline bool knit_emit_is_new(
    const struct knit_progress_cell *cell, uint64_t gen, uint64_t seen)
{
    const uint64_t word = atomic_load_explicit(&cell->seq, memory_order_relaxed);

    return word >> KNIT_GEN_SHIFT == gen && word != seen && (word & 1) == 0;
}

/* The last value of this call, if it is another one than `seen`. False: there is none, or it is
 * being written all the time; or no writer of this pool's has written what lies there. */
KNIT_MUST_CHECK static inline bool knit_emit_read(
    const struct knit_progress_cell *cell, uint64_t gen, uint64_t seen, struct knit_emitted *ret)
{
    for (int i = 0; i < KNIT_EMIT_TRIES; i++) {
        /* Q2, acquire. */
        const uint64_t word = atomic_load_explicit(&cell->seq, memory_order_acquire);
        uint64_t meta;

        if (word >> KNIT_GEN_SHIFT != gen || word == seen)
            return false;
        if ((word & 1) != 0)
            continue;
        /* Q1, acquire: whether they are this value's. */
        meta = atomic_load_explicit(&cell->meta, memory_order_acquire);
        for (size_t k = 0; k < KNIT_VALUE_WORDS; k++)
            ret->body[k] = atomic_load_explicit(&cell->body[k], memory_order_acquire);
        if (atomic_load_explicit(&cell->seq, memory_order_relaxed) != word)
            continue;
        ret->word = word;
        ret->count = (uint32_t)(meta >> 32);
        ret->len = (uint32_t)meta;
        return ret->len != 0 && ret->len <= KNIT_VALUE_MAX;
    }
    return false;
}
