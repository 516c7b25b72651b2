/* SPDX-License-Identifier: Apache-2.0 */
/* Bytes into and out of the body of a cell, word by word, for both sides of a lane.
 *
 * A body is an array of atomic words, so that a reader which comes too late loads whole words, and
 * because memcpy() of memory that another process writes is a data race in C. All accesses are
 * relaxed: the cell's last word publishes the rest. What is longer is copied by memcpy() all the
 * same (LAYOUT.md), and only ThreadSanitizer sees single accesses.
 *
 * Threads: pure functions.
 */
#pragma once

#include <endian.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "fastpath/lane/bell.h"
#include "fastpath/lane/layout.h"

/* 1 to 7 bytes as a word, zeros behind them. The loads overlap, which does no harm as they bring
 * the same bytes, and are fewer than one a byte. */
static inline uint64_t knit_cell_few(const unsigned char *from, size_t len)
{
    size_t middle = len / 2, end = len - 1;

    if (len == 1)
        return htole64(from[0]);
    if (len >= 4) {
        uint32_t first, last;
        memcpy(&first, from, 4);
        memcpy(&last, from + len - 4, 4);
        return htole64(le32toh(first) | (uint64_t)le32toh(last) << (8 * (len - 4)));
    }
    return htole64(
        from[0] | (uint64_t)from[middle] << (8 * middle) | (uint64_t)from[end] << (8 * end));
}

/* The 8 bytes there as a word, without the first `skip` of them, zeros behind. */
static inline uint64_t knit_cell_word(const unsigned char *from, size_t skip)
{
    uint64_t word;

    memcpy(&word, from, 8);
    return htole64(le64toh(word) >> (8 * skip));
}

/* As many words as fit a cell, by a jump into a row of moves: bodies are short, and a loop costs
 * more than its words do. */
#define KNIT_CELL_ROW(MOVE)                                                                        \
    case 13:                                                                                       \
        MOVE(12);                                                                                  \
        __attribute__((fallthrough));                                                              \
    case 12:                                                                                       \
        MOVE(11);                                                                                  \
        __attribute__((fallthrough));                                                              \
    case 11:                                                                                       \
        MOVE(10);                                                                                  \
        __attribute__((fallthrough));                                                              \
    case 10:                                                                                       \
        MOVE(9);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 9:                                                                                        \
        MOVE(8);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 8:                                                                                        \
        MOVE(7);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 7:                                                                                        \
        MOVE(6);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 6:                                                                                        \
        MOVE(5);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 5:                                                                                        \
        MOVE(4);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 4:                                                                                        \
        MOVE(3);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 3:                                                                                        \
        MOVE(2);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 2:                                                                                        \
        MOVE(1);                                                                                   \
        __attribute__((fallthrough));                                                              \
    case 1:                                                                                        \
        MOVE(0);                                                                                   \
        break;                                                                                     \
    default:                                                                                       \
        break

/* len: at most KNIT_INLINE_MAX. */
static inline void knit_cell_store(_Atomic uint64_t *body, const void *bytes, size_t len)
{
    const unsigned char *from = bytes;

    if (len < 8) {
        if (len != 0)
            atomic_store_explicit(&body[0], knit_cell_few(from, len), memory_order_relaxed);
        return;
    }
#define KNIT_CELL_STORE(i)                                                                         \
    atomic_store_explicit(&body[i], knit_cell_word(from + 8 * (i), 0), memory_order_relaxed)
    switch (len / 8) {
        KNIT_CELL_ROW(KNIT_CELL_STORE);
    }
#undef KNIT_CELL_STORE
    /* The last 8 bytes, of which the word before has the first. */
    if (len % 8 != 0)
        atomic_store_explicit(
            &body[len / 8], knit_cell_word(from + len - 8, 8 - len % 8), memory_order_relaxed);
}

/* The same of bytes that lie in whole words, with zeros behind their end. */
static inline void knit_cell_store_words(_Atomic uint64_t *body, const uint64_t *words, size_t len)
{
    atomic_store_explicit(&body[0], words[0], memory_order_relaxed);
    for (size_t i = 1; i * 8 < len; i++)
        atomic_store_explicit(&body[i], words[i], memory_order_relaxed);
}

static inline void knit_cell_load_word(unsigned char *to, const _Atomic uint64_t *body, unsigned i)
{
    uint64_t word = atomic_load_explicit(&body[i], memory_order_relaxed);

    memcpy(to + 8 * i, &word, 8);
}

/* Whole words, to anywhere: as many as hold len bytes, and one at least. */
static inline void knit_cell_load(void *bytes, const _Atomic uint64_t *body, size_t len)
{
    unsigned char *to = bytes;

    if (len <= 8) {
        knit_cell_load_word(to, body, 0);
        return;
    }
#define KNIT_CELL_LOAD(i) knit_cell_load_word(to, body, i)
    switch ((len + 7) / 8) {
        KNIT_CELL_ROW(KNIT_CELL_LOAD);
    }
#undef KNIT_CELL_LOAD
}

/* An argument that is longer, in its slab or block: of either side. */
static inline void knit_cell_copy_long(void *to, const void *from, size_t len)
{
#if KNIT_BELL_TSAN
    const _Atomic unsigned char *source = from;
    _Atomic unsigned char *target = to;

    for (size_t i = 0; i < len; i++)
        atomic_store_explicit(&target[i], atomic_load_explicit(&source[i], memory_order_relaxed),
            memory_order_relaxed);
#else
    memcpy(to, from, len);
#endif
}

/* When a call of that meta was published, as its caller says; 0: it does not. */
static inline uint64_t knit_cell_stamp(const struct knit_request_cell *cell, uint64_t meta)
{
    /* relaxed: P1 made it visible. */
    return (knit_meta_flags(meta) & KNIT_CELL_STAMPED) != 0
               ? atomic_load_explicit(&cell->body[KNIT_CELL_WORDS - 1], memory_order_relaxed)
               : 0;
}
