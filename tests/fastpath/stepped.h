/* SPDX-License-Identifier: Apache-2.0 */
/* Puts a call of steps.c before every atomic access, fence and futex call of the sources that are
 * compiled with it. meson.build includes it before everything else, in a second build of fastpath.
 *
 * A store may stay in its party's store buffer, as on a processor: the party itself sees it, the
 * others do not yet. What holds for plain x86 stores holds here for every order but seq_cst.
 */
#pragma once

#include <stdatomic.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "tests/fastpath/steps.h"

#undef atomic_load_explicit
#undef atomic_store_explicit
#undef atomic_exchange_explicit
#undef atomic_fetch_add_explicit
#undef atomic_fetch_and_explicit
#undef atomic_fetch_or_explicit
#undef atomic_compare_exchange_strong_explicit
#undef atomic_compare_exchange_weak_explicit
#undef atomic_thread_fence
/* The comma takes the qualifiers off the type: compilers differ in whether their functions take
 * an _Atomic. */
#define STEPS_PLAIN(p)            __typeof__((void)0, *(p))
#define STEPS_AT(p)               ((STEPS_PLAIN(p) *)(p))
#define STEPS_CALL(function, ...) function(__VA_ARGS__)
#define STEPS_LOCKED(function, ...)                                                                \
    __extension__({                                                                                \
        steps_pass();                                                                              \
        steps_drain();                                                                             \
        function(__VA_ARGS__);                                                                     \
    })
#define atomic_load_explicit(p, order)                                                             \
    __extension__({                                                                                \
        STEPS_PLAIN(p) steps_value;                                                                \
        steps_pass();                                                                              \
        if (!steps_forward(STEPS_AT(p), &steps_value, sizeof(steps_value)))                        \
            steps_value = STEPS_CALL(__atomic_load_n, STEPS_AT(p), (order));                       \
        steps_value;                                                                               \
    })
#define atomic_store_explicit(p, value, order)                                                     \
    __extension__({                                                                                \
        STEPS_PLAIN(p) steps_stored = (value);                                                     \
        steps_pass();                                                                              \
        if ((order) == memory_order_seq_cst ||                                                     \
            !steps_buffer(STEPS_AT(p), &steps_stored, sizeof(steps_stored))) {                     \
            steps_drain();                                                                         \
            STEPS_CALL(__atomic_store_n, STEPS_AT(p), steps_stored, (order));                      \
        }                                                                                          \
    })
#define atomic_exchange_explicit(p, value, order)                                                  \
    STEPS_LOCKED(__atomic_exchange_n, STEPS_AT(p), (value), (order))
#define atomic_fetch_add_explicit(p, value, order)                                                 \
    STEPS_LOCKED(__atomic_fetch_add, STEPS_AT(p), (value), (order))
#define atomic_fetch_and_explicit(p, value, order)                                                 \
    STEPS_LOCKED(__atomic_fetch_and, STEPS_AT(p), (value), (order))
#define atomic_fetch_or_explicit(p, value, order)                                                  \
    STEPS_LOCKED(__atomic_fetch_or, STEPS_AT(p), (value), (order))
#define atomic_compare_exchange_strong_explicit(p, expected, value, order, failed)                 \
    STEPS_LOCKED(                                                                                  \
        __atomic_compare_exchange_n, STEPS_AT(p), (expected), (value), 0, (order), (failed))
#define atomic_compare_exchange_weak_explicit(p, expected, value, order, failed)                   \
    STEPS_LOCKED(                                                                                  \
        __atomic_compare_exchange_n, STEPS_AT(p), (expected), (value), 1, (order), (failed))
#define atomic_thread_fence(order) STEPS_LOCKED(__atomic_thread_fence, (order))
#define syscall                    steps_syscall
