/* SPDX-License-Identifier: Apache-2.0 */
/* What module_declared.c and its caller share. */
#pragma once

#include <knitting/typed.h>

/* X(type, name): every kind of parameter, and as many as there may be. */
#define DECLARED_KINDS(X)                                                                          \
    X(i8, a)                                                                                       \
    X(i16, b)                                                                                      \
    X(i32, c)                                                                                      \
    X(i64, d)                                                                                      \
    X(u8, e)                                                                                       \
    X(u16, f)                                                                                      \
    X(u32, g)                                                                                      \
    X(u64, h)                                                                                      \
    X(f32, i)                                                                                      \
    X(f64, j)                                                                                      \
    X(bool, k)                                                                                     \
    X(str, l)                                                                                      \
    X(bin, m)                                                                                      \
    X(time, n)                                                                                     \
    X(f64s, o)                                                                                     \
    X(any, p)

KNIT_TYPED(kinds,
    ((i8, a), (i16, b), (i32, c), (i64, d), (u8, e), (u16, f), (u32, g), (u64, h), (f32, i),
        (f64, j), (bool, k), (str, l), (bin, m), (time, n), (f64s, o), (any, p)),
    ((i8, a), (i16, b), (i32, c), (i64, d), (u8, e), (u16, f), (u32, g), (u64, h), (f32, i),
        (f64, j), (bool, k), (str, l), (bin, m), (time, n), (f64s, o), (any, p)));
KNIT_TYPED(divided, ((int, a), (int, b)), ((int, quotient), (int, remainder)));
KNIT_TYPED(presence, ((u8, first, optional), (str, second, optional)),
    ((u8, first, optional), (str, second, optional), (i32, arguments)));
/* The module gives numbers that this cannot hold. */
KNIT_TYPED(wide, ((int, a)), ((i16, b)));
KNIT_TYPED(first_twin, (), ((str, name)));
KNIT_TYPED(second_twin, (), ((str, name)));
