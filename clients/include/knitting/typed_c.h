/* SPDX-License-Identifier: Apache-2.0 */
/* The half of <knitting/typed.h> that C has for itself: the class of an expression, and the
 * argument that it becomes, both chosen by _Generic. <knitting/typed_cpp.h> has the same for
 * C++. */
#pragma once

#include <knitting/typed_types.h>

#define KNIT_ASSERT _Static_assert
#define KNIT_CONST  static const

/* X(C type, class, function that passes it) */
#define KNIT_GIVEN(X)                                                                              \
    X(char, KNIT_IS_SMALL, knit_pass_int)                                                          \
    X(signed char, KNIT_IS_SMALL, knit_pass_int)                                                   \
    X(short, KNIT_IS_SMALL, knit_pass_int)                                                         \
    X(int, KNIT_IS_SMALL, knit_pass_int)                                                           \
    X(long, KNIT_IS_LARGE, knit_pass_int)                                                          \
    X(long long, KNIT_IS_LARGE, knit_pass_int)                                                     \
    X(unsigned char, KNIT_IS_SMALL, knit_pass_uint)                                                \
    X(unsigned short, KNIT_IS_SMALL, knit_pass_uint)                                               \
    X(unsigned, KNIT_IS_SMALL, knit_pass_uint)                                                     \
    X(unsigned long, KNIT_IS_LARGE, knit_pass_uint)                                                \
    X(unsigned long long, KNIT_IS_LARGE, knit_pass_uint)                                           \
    X(float, KNIT_IS_FLOAT, knit_pass_float)                                                       \
    X(double, KNIT_IS_FLOAT, knit_pass_float)                                                      \
    X(_Bool, KNIT_IS_BOOL, knit_pass_bool)                                                         \
    X(char *, KNIT_IS_TEXT, knit_pass_str)                                                         \
    X(const char *, KNIT_IS_TEXT, knit_pass_str)                                                   \
    X(struct knit_text, KNIT_IS_TEXT, knit_pass_text)                                              \
    X(struct knit_bytes, KNIT_IS_BYTES, knit_pass_bytes)                                           \
    X(struct knit_time, KNIT_IS_TIME, knit_pass_time)                                              \
    X(struct knit_any, KNIT_IS_ANY, knit_pass_any)                                                 \
    X(struct knit_handle *, KNIT_IS_HANDLE, knit_pass_handle)                                      \
    X(struct knit_i8s, KNIT_IS_i8s, knit_pass_i8s)                                                 \
    X(struct knit_u8s, KNIT_IS_u8s, knit_pass_u8s)                                                 \
    X(struct knit_u8cs, KNIT_IS_u8cs, knit_pass_u8cs)                                              \
    X(struct knit_i16s, KNIT_IS_i16s, knit_pass_i16s)                                              \
    X(struct knit_u16s, KNIT_IS_u16s, knit_pass_u16s)                                              \
    X(struct knit_i32s, KNIT_IS_i32s, knit_pass_i32s)                                              \
    X(struct knit_u32s, KNIT_IS_u32s, knit_pass_u32s)                                              \
    X(struct knit_i64s, KNIT_IS_i64s, knit_pass_i64s)                                              \
    X(struct knit_u64s, KNIT_IS_u64s, knit_pass_u64s)                                              \
    X(struct knit_f32s, KNIT_IS_f32s, knit_pass_f32s)                                              \
    X(struct knit_f64s, KNIT_IS_f64s, knit_pass_f64s)                                              \
    X(struct knit_none, KNIT_IS_OPTIONAL, knit_pass_none)                                          \
    X(struct knit_optional_i8, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_i8)          \
    X(struct knit_optional_i16, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_i16)        \
    X(struct knit_optional_i32, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_i32)        \
    X(struct knit_optional_i64, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_i64)        \
    X(struct knit_optional_u8, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_u8)          \
    X(struct knit_optional_u16, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_u16)        \
    X(struct knit_optional_u32, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_u32)        \
    X(struct knit_optional_u64, KNIT_IS_OPTIONAL | KNIT_IS_INTEGER, knit_pass_optional_u64)        \
    X(struct knit_optional_f32, KNIT_IS_OPTIONAL | KNIT_IS_FLOAT, knit_pass_optional_f32)          \
    X(struct knit_optional_f64, KNIT_IS_OPTIONAL | KNIT_IS_FLOAT, knit_pass_optional_f64)          \
    X(struct knit_optional_boolean, KNIT_IS_OPTIONAL | KNIT_IS_BOOL, knit_pass_optional_boolean)   \
    X(struct knit_optional_str, KNIT_IS_OPTIONAL | KNIT_IS_TEXT, knit_pass_optional_str)           \
    X(struct knit_optional_bin, KNIT_IS_OPTIONAL | KNIT_IS_BYTES, knit_pass_optional_bin)          \
    X(struct knit_optional_time, KNIT_IS_OPTIONAL | KNIT_IS_TIME, knit_pass_optional_time)         \
    X(struct knit_optional_any, KNIT_IS_OPTIONAL | KNIT_IS_ANY, knit_pass_optional_any)            \
    X(struct knit_optional_i8s, KNIT_IS_OPTIONAL | KNIT_IS_i8s, knit_pass_optional_i8s)            \
    X(struct knit_optional_u8s, KNIT_IS_OPTIONAL | KNIT_IS_u8s, knit_pass_optional_u8s)            \
    X(struct knit_optional_u8cs, KNIT_IS_OPTIONAL | KNIT_IS_u8cs, knit_pass_optional_u8cs)         \
    X(struct knit_optional_i16s, KNIT_IS_OPTIONAL | KNIT_IS_i16s, knit_pass_optional_i16s)         \
    X(struct knit_optional_u16s, KNIT_IS_OPTIONAL | KNIT_IS_u16s, knit_pass_optional_u16s)         \
    X(struct knit_optional_i32s, KNIT_IS_OPTIONAL | KNIT_IS_i32s, knit_pass_optional_i32s)         \
    X(struct knit_optional_u32s, KNIT_IS_OPTIONAL | KNIT_IS_u32s, knit_pass_optional_u32s)         \
    X(struct knit_optional_i64s, KNIT_IS_OPTIONAL | KNIT_IS_i64s, knit_pass_optional_i64s)         \
    X(struct knit_optional_u64s, KNIT_IS_OPTIONAL | KNIT_IS_u64s, knit_pass_optional_u64s)         \
    X(struct knit_optional_f32s, KNIT_IS_OPTIONAL | KNIT_IS_f32s, knit_pass_optional_f32s)         \
    X(struct knit_optional_f64s, KNIT_IS_OPTIONAL | KNIT_IS_f64s, knit_pass_optional_f64s)

#define KNIT_GIVEN_CLASS(type, class, pass)                                                        \
    type:                                                                                          \
    (class),
#define KNIT_GIVEN_PASS(type, class, pass)                                                         \
    type:                                                                                          \
    (pass),

/* A number of the compiler's, and a value of the program's. */
#define KNIT_CLASS(x) _Generic((x), KNIT_GIVEN(KNIT_GIVEN_CLASS) default : KNIT_IS_WRONG)
#define KNIT_ARG(x)   _Generic((x), KNIT_GIVEN(KNIT_GIVEN_PASS) default : knit_pass_none)(x)

/* Whether the expression can take a result whose place is of that type of pointer. */
#define KNIT_TAKES_RESULT(place, x) _Generic((x), place : 1, struct knit_ignored * : 1, default : 0)
#define KNIT_IS_SURPLUS(place)      _Generic((place)0, struct knit_surplus * : 1, default : 0)

/* What is checked before `call` is made, as a part of the same expression. */
#define KNIT_CHECKED(checks, call)                                                                 \
    ((void)sizeof(struct {                                                                         \
        int checked;                                                                               \
        checks                                                                                     \
    }),                                                                                            \
        (call))

/* The arguments, and the places of the results, as arrays that live as long as the call. */
#define KNIT_ARGS(task, args)                                                                      \
    ((const struct knit_arg[task##_arguments + (task##_arguments == 0)]){                          \
        KNIT_PASTE(KNIT_ARGS_, KNIT_IS_EMPTY args)(args)})
#define KNIT_ARGS_0(args) KNIT_EACH(KNIT_ARGS_EACH, , args)
#define KNIT_ARGS_1(args)                                                                          \
    {                                                                                              \
        0                                                                                          \
    }
#define KNIT_ARGS_EACH(c, i, x) KNIT_ARG(x),
#define KNIT_PLACES(task, results)                                                                 \
    ((void *const[task##_results + (task##_results == 0)]){                                        \
        KNIT_PASTE(KNIT_PLACES_, KNIT_IS_EMPTY results)(results)})
#define KNIT_PLACES_0(results)    KNIT_EACH(KNIT_PLACES_EACH, , results)
#define KNIT_PLACES_1(results)    NULL
#define KNIT_PLACES_EACH(c, i, x) (void *)(x),

/* ---- Of a wrapper ---- */

#define KNIT_TYPED_EMPTY                                                                           \
    {                                                                                              \
        0                                                                                          \
    }
#define KNIT_TYPED_TRY(statement) statement
