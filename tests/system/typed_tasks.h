/* SPDX-License-Identifier: Apache-2.0 */
/* What module_typed.c and its callers share: tasks that give back what they got, one for each type,
 * and some with more of them. C and C++ read the same lines.
 */
#pragma once

#include <knitting/typed.h>

/* X(name of a task, its type): gives back its argument; optional_NAME gives back nil too. */
#define TYPED_ECHOES(X)                                                                            \
    X(echo_int, int)                                                                               \
    X(echo_uint, uint)                                                                             \
    X(echo_float, float)                                                                           \
    X(echo_double, double)                                                                         \
    X(echo_bool, bool)                                                                             \
    X(echo_i8, i8)                                                                                 \
    X(echo_i16, i16)                                                                               \
    X(echo_i32, i32)                                                                               \
    X(echo_i64, i64)                                                                               \
    X(echo_u8, u8)                                                                                 \
    X(echo_u16, u16)                                                                               \
    X(echo_u32, u32)                                                                               \
    X(echo_u64, u64)                                                                               \
    X(echo_f32, f32)                                                                               \
    X(echo_f64, f64)                                                                               \
    X(echo_str, str)                                                                               \
    X(echo_bin, bin)                                                                               \
    X(echo_time, time)                                                                             \
    X(echo_any, any)                                                                               \
    X(echo_i8s, i8s)                                                                               \
    X(echo_u8s, u8s)                                                                               \
    X(echo_u8cs, u8cs)                                                                             \
    X(echo_i16s, i16s)                                                                             \
    X(echo_u16s, u16s)                                                                             \
    X(echo_i32s, i32s)                                                                             \
    X(echo_u32s, u32s)                                                                             \
    X(echo_i64s, i64s)                                                                             \
    X(echo_u64s, u64s)                                                                             \
    X(echo_f32s, f32s)                                                                             \
    X(echo_f64s, f64s)

#define TYPED_DECLARE(name, type)                                                                  \
    KNIT_TYPED(name, ((type, value)), ((type, same)));                                             \
    KNIT_TYPED(optional_##name, ((type, value, optional)), ((type, same, optional)));
TYPED_ECHOES(TYPED_DECLARE)
#undef TYPED_DECLARE

KNIT_TYPED(divide, ((int, a), (int, b)), ((int, quotient), (int, remainder)));
KNIT_TYPED(nothing, (), ());
KNIT_TYPED(log_text, ((str, text)), ());
KNIT_TYPED(count, (), ((u32, calls)));
KNIT_TYPED(given, ((int, a), (u8, b, optional), (str, c, optional)), ((u8, bits)));
KNIT_TYPED(mixed, ((str, text), (f64s, numbers), (i16, factor, optional)),
    ((str, text, optional), (f64, sum), (i32s, indexes), (bool, was_given)));
KNIT_TYPED(sixteen,
    ((i8, a), (i16, b), (i32, c), (i64, d), (u8, e), (u16, f), (u32, g), (u64, h), (f32, i),
        (f64, j), (bool, k), (str, l), (bin, m), (time, n), (u8s, o), (any, p)),
    ((i8, a), (i16, b), (i32, c), (i64, d), (u8, e), (u16, f), (u32, g), (u64, h), (f32, i),
        (f64, j), (bool, k), (str, l), (bin, m), (time, n), (u8s, o), (any, p)));
KNIT_TYPED(throws, ((int, what)), ());
KNIT_TYPED_AS(dotted, "its.own-name", ((int, a)), ((int, b)));
/* The module has it with a: int, and gives a number that these cannot hold. */
KNIT_TYPED(large, ((int, a)), ((i16, b)));
KNIT_TYPED(large_float, (), ((f32, b)));
/* One function for both: which of them is its `user`. */
KNIT_TYPED(first_of_two, (), ((str, name)));
KNIT_TYPED(second_of_two, (), ((str, name)));
