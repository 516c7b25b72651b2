/* SPDX-License-Identifier: Apache-2.0 */
/* The tasks of typed_tasks.h, as C functions; module_typed.cpp has the same in C++. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/task.h>

#include "tests/system/typed_tasks.h"

KNIT_MODULE("1.0");

#define IMPLEMENT_ECHO(name, type)                                                                 \
    KNIT_IMPLEMENT(name)                                                                           \
    static int name##_impl(                                                                        \
        struct knit_call *call, KNIT_C_OF((type, a)) value, KNIT_C_OF((type, a)) * same)           \
    {                                                                                              \
        (void)call;                                                                                \
        *same = value;                                                                             \
        return 0;                                                                                  \
    }                                                                                              \
    KNIT_IMPLEMENT(optional_##name)                                                                \
    static int optional_##name##_impl(struct knit_call *call,                                      \
        KNIT_C_OF((type, a, optional)) value, KNIT_C_OF((type, a, optional)) * same)               \
    {                                                                                              \
        (void)call;                                                                                \
        *same = value;                                                                             \
        return 0;                                                                                  \
    }
TYPED_ECHOES(IMPLEMENT_ECHO)

KNIT_IMPLEMENT(divide, .doc = "Quotient and remainder.")
static int divide_impl(
    struct knit_call *call, int64_t a, int64_t b, int64_t *quotient, int64_t *remainder)
{
    if (b == 0)
        return knit_fail(call, 7, "division by zero");
    *quotient = a / b;
    *remainder = a % b;
    return 0;
}

KNIT_IMPLEMENT(nothing)
static int nothing_impl(struct knit_call *call)
{
    (void)call;
    return 0;
}

KNIT_IMPLEMENT(log_text)
static int log_text_impl(struct knit_call *call, struct knit_text text)
{
    (void)call;
    return printf("%.*s\n", (int)text.size, text.at) < 0;
}

static uint32_t calls;

KNIT_IMPLEMENT(count)
static int count_impl(struct knit_call *call, uint32_t *ret_calls)
{
    (void)call;
    *ret_calls = ++calls;
    return 0;
}

KNIT_IMPLEMENT(given)
static int given_impl(struct knit_call *call, int64_t a, struct knit_optional_u8 b,
    struct knit_optional_str c, uint8_t *bits)
{
    if (knit_arg_count(call) > 3 || (c.has && (c.value.size != 1 || c.value.at[0] != 'c')))
        return knit_fail(call, 1, "what came is something else");
    *bits = (uint8_t)(a + b.has * 2 + c.has * 4 + knit_arg_count(call) * 16 + b.value * 64);
    return 0;
}

/* A task that keeps what it gives longer than its function lives. */
KNIT_IMPLEMENT(mixed)
static int mixed_impl(struct knit_call *call, struct knit_text text, struct knit_f64s numbers,
    struct knit_optional_i16 factor, struct knit_optional_str *ret_text, double *ret_sum,
    struct knit_i32s *ret_indexes, bool *ret_was_given)
{
    static int32_t found[100];
    size_t count = 0;

    (void)call;
    if ((uintptr_t)numbers.at % sizeof(double) != 0)
        return knit_fail(call, 1, "the numbers are not aligned");
    for (size_t i = 0; i < numbers.count; i++) {
        *ret_sum += numbers.at[i] * (factor.has ? factor.value : 1);
        if (numbers.at[i] < 0 && count < sizeof(found) / sizeof(found[0]))
            found[count++] = (int32_t)i;
    }
    ret_text->has = text.size > 0;
    ret_text->value = text;
    ret_indexes->at = found;
    ret_indexes->count = count;
    *ret_was_given = factor.has;
    return 0;
}

#define SIXTEEN(X)                                                                                 \
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
    X(u8s, o)                                                                                      \
    X(any, p)
#define SIXTEEN_PARAM(type, name) , KNIT_C_OF((type, name)) name
#define SIXTEEN_PLACE(type, name) , KNIT_C_OF((type, name)) * ret_##name
#define SIXTEEN_COPY(type, name)  *ret_##name = name;

KNIT_IMPLEMENT(sixteen)
static int sixteen_impl(struct knit_call *call SIXTEEN(SIXTEEN_PARAM) SIXTEEN(SIXTEEN_PLACE))
{
    (void)call;
    SIXTEEN(SIXTEEN_COPY)
    return 0;
}

#ifndef __cplusplus
KNIT_IMPLEMENT(throws)
static int throws_impl(struct knit_call *call, int64_t what)
{
    return what == 0 ? 0 : knit_fail(call, what, "C throws nothing");
}
#endif

KNIT_IMPLEMENT(dotted)
static int dotted_impl(struct knit_call *call, int64_t a, int64_t *b)
{
    (void)call;
    *b = a + 1;
    return 0;
}

KNIT_TASK(large, "large(number: int) -> int")
{
    return knit_return_int(call, knit_arg_int(call, 0));
}

KNIT_TASK(large_float, "large_float() -> float")
{
    return knit_return_float(call, 1e300);
}

/* ---- one function for several tasks ---- */

static int give_name(struct knit_call *call)
{
    const char *name = (const char *)knit_task_user(call);

    return knit_return_str(call, name, strlen(name));
}

static const struct knit_task first = {.name = "first_of_two",
    .signature = "first_of_two() -> str",
    .run = give_name,
    .user = (void *)"the first"};
static const struct knit_task second = {.name = "second_of_two",
    .signature = "second_of_two() -> str",
    .run = give_name,
    .user = (void *)"the second"};
KNIT_TASK_ENTRY static const struct knit_task *const first_entry = &first;
KNIT_TASK_ENTRY static const struct knit_task *const second_entry = &second;
