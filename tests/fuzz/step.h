/* SPDX-License-Identifier: Apache-2.0 */
/* Lets a peer step in before each load and each exchange of shared words. meson.build includes it
 * before everything else of the sources that read a request segment; no file names it. The macros
 * of <stdatomic.h> cannot call what they replace, so these call the compiler's functions.
 */
#pragma once

#include <stdatomic.h>

/* In pool.c. */
void pool_access(void);

#undef atomic_load_explicit
#undef atomic_compare_exchange_strong_explicit
#ifdef __clang__
#define KNIT_LOAD     __c11_atomic_load
#define KNIT_EXCHANGE __c11_atomic_compare_exchange_strong
#define atomic_compare_exchange_strong_explicit(p, expected, value, order, failed)                 \
    (pool_access(), KNIT_EXCHANGE((p), (expected), (value), (order), (failed)))
#else
#define KNIT_LOAD     __atomic_load_n
#define KNIT_EXCHANGE __atomic_compare_exchange_n
#define atomic_compare_exchange_strong_explicit(p, expected, value, order, failed)                 \
    (pool_access(), KNIT_EXCHANGE((p), (expected), (value), 0, (order), (failed)))
#endif
#define atomic_load_explicit(p, order) (pool_access(), KNIT_LOAD((p), (order)))
