/* SPDX-License-Identifier: Apache-2.0 */
/* The worker's half of <knitting/typed.h>: how a parameter is read, and a result given, by its type
 * in C. Nothing here is for programs.
 */
#pragma once

#include <float.h>
#include <stdio.h>
#include <string.h>

#include <knitting/task.h>
#include <knitting/typed_types.h>
#include <knitting/values.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The state of reading a call's arguments. */
struct knit_typed_reading {
    uint32_t bad; /* the first that does not fit, from 1; 0 = none */
    int64_t low;  /* what it has to be in, if it is a number; low > high: it is no number */
    uint64_t high;
    bool is_out_of_memory;
};

static inline void knit_typed_note_bad(
    struct knit_typed_reading *reading, uint32_t index, int64_t low, uint64_t high)
{
    if (reading->bad != 0)
        return;
    reading->bad = index + 1;
    reading->low = low;
    reading->high = high;
}

/* The worker has checked that it is of the right type: so it could not be copied to where it is
 * aligned. */
static inline void knit_typed_note_lack(struct knit_typed_reading *reading, uint32_t index)
{
    reading->is_out_of_memory = reading->is_out_of_memory || reading->bad == 0;
    knit_typed_note_bad(reading, index, 0, 0);
}

/* Ends a call whose arguments the signature lets pass and the types in C do not. */
static inline int knit_typed_refuse(struct knit_call *call, const struct knit_typed *typed,
    const struct knit_typed_reading *reading)
{
    const uint32_t index = reading->bad - 1;
    const char *name = typed->parts[index].name;
    char text[256];

    if (reading->is_out_of_memory)
        (void)snprintf(text, sizeof(text), "argument %u (%s): not enough memory for it",
            (unsigned)reading->bad, name);
    else if (reading->low == 1 && reading->high == 0)
        (void)snprintf(text, sizeof(text), "argument %u (%s): %g does not fit a float",
            (unsigned)reading->bad, name, knit_arg_float(call, index));
    else if (reading->low < 0)
        (void)snprintf(text, sizeof(text), "argument %u (%s): expected %lld to %llu, got %lld",
            (unsigned)reading->bad, name, (long long)reading->low,
            (unsigned long long)reading->high, (long long)knit_arg_int(call, index));
    else
        (void)snprintf(text, sizeof(text), "argument %u (%s): expected 0 to %llu, got %llu",
            (unsigned)reading->bad, name, (unsigned long long)reading->high,
            (unsigned long long)knit_arg_uint(call, index));
    return knit_refuse(call, text);
}

/* ---- Reading, and giving, by type ---- */

#define KNIT_TYPED_INT(name, type, low, high)                                                      \
    static inline type knit_typed_get_##name(                                                      \
        struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)                \
    {                                                                                              \
        int64_t value = knit_arg_int(call, index);                                                 \
        if (value < (low) || value > (high))                                                       \
            knit_typed_note_bad(reading, index, (low), (uint64_t)(high));                          \
        return (type)value;                                                                        \
    }                                                                                              \
    static inline int knit_typed_give_##name(struct knit_call *call, type value)                   \
    {                                                                                              \
        return knit_return_int(call, value);                                                       \
    }                                                                                              \
    static inline void knit_typed_put_##name(struct knit_builder *builder, type value)             \
    {                                                                                              \
        knit_put_int(builder, value);                                                              \
    }
KNIT_TYPED_INT(i8, int8_t, INT8_MIN, INT8_MAX)
KNIT_TYPED_INT(i16, int16_t, INT16_MIN, INT16_MAX)
KNIT_TYPED_INT(i32, int32_t, INT32_MIN, INT32_MAX)
KNIT_TYPED_INT(i64, int64_t, INT64_MIN, INT64_MAX)
#undef KNIT_TYPED_INT

#define KNIT_TYPED_UINT(name, type, high)                                                          \
    static inline type knit_typed_get_##name(                                                      \
        struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)                \
    {                                                                                              \
        uint64_t value = knit_arg_uint(call, index);                                               \
        if (value > (high))                                                                        \
            knit_typed_note_bad(reading, index, 0, (high));                                        \
        return (type)value;                                                                        \
    }                                                                                              \
    static inline int knit_typed_give_##name(struct knit_call *call, type value)                   \
    {                                                                                              \
        return knit_return_uint(call, value);                                                      \
    }                                                                                              \
    static inline void knit_typed_put_##name(struct knit_builder *builder, type value)             \
    {                                                                                              \
        knit_put_uint(builder, value);                                                             \
    }
KNIT_TYPED_UINT(u8, uint8_t, UINT8_MAX)
KNIT_TYPED_UINT(u16, uint16_t, UINT16_MAX)
KNIT_TYPED_UINT(u32, uint32_t, UINT32_MAX)
KNIT_TYPED_UINT(u64, uint64_t, UINT64_MAX)
#undef KNIT_TYPED_UINT

/* X(name, C type, one argument's expression, function that returns it, function that puts it) */
#define KNIT_TYPED_PLAIN(name, type, get, give, put)                                               \
    static inline type knit_typed_get_##name(                                                      \
        struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)                \
    {                                                                                              \
        (void)reading;                                                                             \
        return get(call, index);                                                                   \
    }                                                                                              \
    static inline int knit_typed_give_##name(struct knit_call *call, type value)                   \
    {                                                                                              \
        return give(call, value);                                                                  \
    }                                                                                              \
    static inline void knit_typed_put_##name(struct knit_builder *builder, type value)             \
    {                                                                                              \
        put(builder, value);                                                                       \
    }
KNIT_TYPED_PLAIN(f64, double, knit_arg_float, knit_return_float, knit_put_float)
KNIT_TYPED_PLAIN(boolean, bool, knit_arg_bool, knit_return_bool, knit_put_bool)
#undef KNIT_TYPED_PLAIN

/* A finite number beyond a float's is refused; others are rounded as C rounds them. */
static inline float knit_typed_get_f32(
    struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)
{
    double value = knit_arg_float(call, index);
    bool is_finite = value <= DBL_MAX && value >= -DBL_MAX;

    if (is_finite && (value > (double)FLT_MAX || value < -(double)FLT_MAX)) {
        knit_typed_note_bad(reading, index, 1, 0);
        return 0;
    }
    return (float)value;
}

static inline int knit_typed_give_f32(struct knit_call *call, float value)
{
    return knit_return_float(call, (double)value);
}

static inline void knit_typed_put_f32(struct knit_builder *builder, float value)
{
    knit_put_float(builder, (double)value);
}

#define KNIT_TYPED_BODY(name, type, give, put)                                                     \
    static inline type knit_typed_get_##name(                                                      \
        struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)                \
    {                                                                                              \
        type value = {NULL, 0};                                                                    \
        (void)reading;                                                                             \
        value.at = (const char *)knit_arg_bytes(call, index, &value.size);                         \
        return value;                                                                              \
    }                                                                                              \
    static inline int knit_typed_give_##name(struct knit_call *call, type value)                   \
    {                                                                                              \
        return give(call, value.at, value.size);                                                   \
    }                                                                                              \
    static inline void knit_typed_put_##name(struct knit_builder *builder, type value)             \
    {                                                                                              \
        put(builder, value.at, value.size);                                                        \
    }
KNIT_TYPED_BODY(str, struct knit_text, knit_return_str, knit_put_str)
KNIT_TYPED_BODY(bin, struct knit_bytes, knit_return_bin, knit_put_bin)
#undef KNIT_TYPED_BODY

static inline struct knit_any knit_typed_get_any(
    struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)
{
    struct knit_any value = {NULL, 0};

    (void)reading;
    value.at = knit_api->arg_aligned(call, index, &value.size);
    return value;
}

static inline int knit_typed_give_any(struct knit_call *call, struct knit_any value)
{
    return knit_return_raw(call, value.at, value.size);
}

static inline void knit_typed_put_any(struct knit_builder *builder, struct knit_any value)
{
    knit_put_value(builder, knit_read(NULL, value.at, value.size));
}

static inline struct knit_time knit_typed_get_time(
    struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)
{
    struct knit_time value = {0, 0};

    if (!knit_value_time(knit_arg_value(call, index, NULL), &value.seconds, &value.nanoseconds))
        knit_typed_note_lack(reading, index);
    return value;
}

static inline void knit_typed_put_time(struct knit_builder *builder, struct knit_time value)
{
    knit_put_time(builder, value.seconds, value.nanoseconds);
}

static inline int knit_typed_give_time(struct knit_call *call, struct knit_time value)
{
    KNIT_BUILDER(builder);

    knit_typed_put_time(builder, value);
    return knit_return_built(call, builder);
}

#ifdef __cplusplus
}
#endif

#include <knitting/typed_arrays.h>
