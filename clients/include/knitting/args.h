/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments and results of a call as arrays: for bindings of other languages and for whoever learns
 * at run time what a task takes. Programs that know their tasks have <knitting/typed.h>, which is
 * made of this.
 *
 *     #include <knitting/args.h>
 *
 *     struct knit_arg args[] = {knit_pass_int(2), knit_pass_int(3)};
 *     struct knit_error error;
 *     struct knit *k;
 *     struct knit_prepared *add;
 *     int64_t sum;
 *     void *results[] = {&sum};
 *
 *     if (knit_open("shm:///run/knitting/knitting.sock", NULL, &k, &error) != KNIT_OK ||
 *         knit_prepare(k, &error, "add", "(int, int) -> int", &add) != KNIT_OK ||
 *         knit_call_args(add, NULL, &error, args, 2, results, 1) != KNIT_OK)
 *         fprintf(stderr, "%s: %s\n", error.name, error.message);
 *     else
 *         printf("%lld\n", (long long)sum);
 *     knit_close(k);
 *
 * Unlike variable arguments these say what they are: one that does not fit the signature is
 * KNIT_BAD_ARGUMENT, before anything is sent.
 *
 * Threads: as those of <knitting/knitting.h>. knit_pass_...() make an argument of a value in C, do
 * not block, and may be called from any thread.
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <knitting/knitting.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Values in C ---- */

/* Bytes that somebody else owns. Those of a result are borrowed as knit_results() has it, those of
 * an argument are read before the function returns. A text is not NUL-terminated. */
struct knit_text {
    const char *at;
    size_t size;
};
struct knit_bytes {
    const void *at;
    size_t size;
};
/* One msgpack value. */
struct knit_any {
    const void *at;
    size_t size;
};

/* X(name, C type, element code of the protocol): arrays of numbers, struct knit_f64s and so on. */
#define KNIT_ELEMENTS_IN_C(X)                                                                      \
    X(i8s, int8_t, 1)                                                                              \
    X(u8s, uint8_t, 2)                                                                             \
    X(u8cs, uint8_t, 3)                                                                            \
    X(i16s, int16_t, 4)                                                                            \
    X(u16s, uint16_t, 5)                                                                           \
    X(i32s, int32_t, 6)                                                                            \
    X(u32s, uint32_t, 7)                                                                           \
    X(f32s, float, 8)                                                                              \
    X(f64s, double, 9)                                                                             \
    X(i64s, int64_t, 10)                                                                           \
    X(u64s, uint64_t, 11)

#define KNIT_ELEMENTS_STRUCT(name, type, code)                                                     \
    struct knit_##name {                                                                           \
        const type *at;                                                                            \
        size_t count;                                                                              \
    };
KNIT_ELEMENTS_IN_C(KNIT_ELEMENTS_STRUCT)
#undef KNIT_ELEMENTS_STRUCT

/* X(name, C type, what knit_pass_... it is passed by): what a parameter or a result can be in C.
 * Each has a struct knit_optional_NAME for those with `?`. */
#define KNIT_VALUES_IN_C(X)                                                                        \
    X(i8, int8_t, int)                                                                             \
    X(i16, int16_t, int)                                                                           \
    X(i32, int32_t, int)                                                                           \
    X(i64, int64_t, int)                                                                           \
    X(u8, uint8_t, uint)                                                                           \
    X(u16, uint16_t, uint)                                                                         \
    X(u32, uint32_t, uint)                                                                         \
    X(u64, uint64_t, uint)                                                                         \
    X(f32, float, float)                                                                           \
    X(f64, double, float)                                                                          \
    X(boolean, bool, bool)                                                                         \
    X(str, struct knit_text, text)                                                                 \
    X(bin, struct knit_bytes, bytes)                                                               \
    X(time, struct knit_time, time)                                                                \
    X(any, struct knit_any, any)                                                                   \
    X(i8s, struct knit_i8s, i8s)                                                                   \
    X(u8s, struct knit_u8s, u8s)                                                                   \
    X(u8cs, struct knit_u8cs, u8cs)                                                                \
    X(i16s, struct knit_i16s, i16s)                                                                \
    X(u16s, struct knit_u16s, u16s)                                                                \
    X(i32s, struct knit_i32s, i32s)                                                                \
    X(u32s, struct knit_u32s, u32s)                                                                \
    X(i64s, struct knit_i64s, i64s)                                                                \
    X(u64s, struct knit_u64s, u64s)                                                                \
    X(f32s, struct knit_f32s, f32s)                                                                \
    X(f64s, struct knit_f64s, f64s)

/* `bool` is a macro in C, which no name can be made of. */
#define knit_optional_boolean knit_optional_bool

#define KNIT_VALUES_STRUCT(name, type, pass)                                                       \
    struct knit_optional_##name {                                                                  \
        bool has;                                                                                  \
        type value;                                                                                \
    };
KNIT_VALUES_IN_C(KNIT_VALUES_STRUCT)
#undef KNIT_VALUES_STRUCT

/* ---- Arguments ---- */

enum knit_arg_type {
    KNIT_ARG_NONE,  /* nil; or left out, where none but such follow */
    KNIT_ARG_BOOL,  /* value.b */
    KNIT_ARG_INT,   /* value.i */
    KNIT_ARG_UINT,  /* value.u */
    KNIT_ARG_FLOAT, /* value.f */
    KNIT_ARG_STR,   /* value.at and size: UTF-8 */
    KNIT_ARG_BIN,
    KNIT_ARG_TIME,   /* value.i: seconds; size: nanoseconds */
    KNIT_ARG_VALUE,  /* value.at and size: one msgpack value */
    KNIT_ARG_HANDLE, /* value.handle: the result of that call */
/* Behind it: value.at and, in elements, size. */
#define KNIT_ARG_ELEMENTS_ENUM(name, type, code) KNIT_ARG_##name = 16 + (code),
    KNIT_ELEMENTS_IN_C(KNIT_ARG_ELEMENTS_ENUM)
#undef KNIT_ARG_ELEMENTS_ENUM
};

/* One argument. Where a parameter is an int or a uint either of the two will do, if the number
 * fits; for a float, an integer too that is one exactly; for a bool, 0 or 1; for an `any`, each. */
struct knit_arg {
    uint32_t type;     /* enum knit_arg_type */
    uint32_t reserved; /* 0 */
    union {
        bool b;
        int64_t i;
        uint64_t u;
        double f;
        const void *at;
        struct knit_handle *handle;
    } value;
    size_t size;
};

/* nil, or an argument that is left out. */
static inline struct knit_arg knit_pass_nil(void)
{
    struct knit_arg arg = {KNIT_ARG_NONE, 0, {0}, 0};
    return arg;
}

/* A bool. */
static inline struct knit_arg knit_pass_bool(bool value)
{
    struct knit_arg arg = {KNIT_ARG_BOOL, 0, {0}, 0};
    arg.value.b = value;
    return arg;
}

/* An int; or a uint, where it is not negative. */
static inline struct knit_arg knit_pass_int(int64_t value)
{
    struct knit_arg arg = {KNIT_ARG_INT, 0, {0}, 0};
    arg.value.i = value;
    return arg;
}

/* A uint; or an int, where it fits. */
static inline struct knit_arg knit_pass_uint(uint64_t value)
{
    struct knit_arg arg = {KNIT_ARG_UINT, 0, {0}, 0};
    arg.value.u = value;
    return arg;
}

/* A float. */
static inline struct knit_arg knit_pass_float(double value)
{
    struct knit_arg arg = {KNIT_ARG_FLOAT, 0, {0}, 0};
    arg.value.f = value;
    return arg;
}

/* What all pass that have an address; NULL with a size of 0 is empty, not nil. */
static inline struct knit_arg knit_pass_at(uint32_t type, const void *at, size_t size)
{
    struct knit_arg arg = {type, 0, {0}, size};
    arg.value.at = at;
    return arg;
}

/* A str, borrowed until the call was made. */
static inline struct knit_arg knit_pass_text(struct knit_text text)
{
    return knit_pass_at(KNIT_ARG_STR, text.at, text.size);
}

/* NUL-terminated; NULL is nil. */
static inline struct knit_arg knit_pass_str(const char *text)
{
    return text == NULL ? knit_pass_nil() : knit_pass_at(KNIT_ARG_STR, text, strlen(text));
}

/* A bin, borrowed until the call was made. */
static inline struct knit_arg knit_pass_bytes(struct knit_bytes bytes)
{
    return knit_pass_at(KNIT_ARG_BIN, bytes.at, bytes.size);
}

/* A time. */
static inline struct knit_arg knit_pass_time(struct knit_time time)
{
    struct knit_arg arg = {KNIT_ARG_TIME, 0, {0}, time.nanoseconds};
    arg.value.i = time.seconds;
    return arg;
}

/* One msgpack value, borrowed until the call was made. */
static inline struct knit_arg knit_pass_any(struct knit_any value)
{
    return knit_pass_at(KNIT_ARG_VALUE, value.at, value.size);
}

/* What another call results in, which need not have ended: this call waits for it in the session,
 * without a place in a lane or on a connection, and starts when it is there. The handle is of a
 * task and of the same session, and stands for one value: an array, where its task has several
 * results. The value has to be right for the parameter, as the worker finds out then.
 *
 * If the other call fails this one ends in KNIT_DEPENDENCY, whose details have the `cause`, and
 * does not run. Its own timeout goes on while it waits, and `queue_ms` too; its end or cancelling
 * does nothing to the other call. Over unix:// and knit:// it waits in the daemon if the others are
 * on their way there: a chain of calls takes one round trip. The handle can be awaited as ever, be
 * an argument of any number of calls, and be freed at once: then the other call goes on for as long
 * as one of them needs it. What is due is started inside of functions that wait or dispatch. */
static inline struct knit_arg knit_pass_handle(struct knit_handle *handle)
{
    struct knit_arg arg = {KNIT_ARG_HANDLE, 0, {0}, 0};
    arg.value.handle = handle;
    return arg;
}

/* knit_pass_f64s() and so on: an array of numbers, borrowed until the call was made. */
#define KNIT_ELEMENTS_PASS(name, type, code)                                                       \
    static inline struct knit_arg knit_pass_##name(struct knit_##name array)                       \
    {                                                                                              \
        return knit_pass_at(KNIT_ARG_##name, array.at, array.count);                               \
    }
KNIT_ELEMENTS_IN_C(KNIT_ELEMENTS_PASS)
#undef KNIT_ELEMENTS_PASS

/* ---- Calls ---- */

#pragma GCC visibility push(default)

/* As knit_call_prepared() and knit_start_prepared() of a task with a signature. Arguments that are
 * missing at the end are left out, where the signature has `?` for them.
 *
 * results: for each result a pointer to its place, or NULL (it is checked and dropped), as are
 * those behind `results_count`. What it points to, by the signature:
 *
 *     int, uint, float, bool          int64_t, uint64_t, double, bool
 *     str, bin, time                  struct knit_text, struct knit_bytes, struct knit_time
 *     i8[]..f64[]                     struct knit_i8s..struct knit_f64s
 *     all others but nil              struct knit_any
 *     with `?`                        struct knit_optional_i64, _u64, _f64, _bool, _str, ..., _any
 *
 * Nothing is written unless the function returns KNIT_OK; of an optional that is absent, `has`
 * alone. */
int knit_call_args(struct knit_prepared *prepared, const struct knit_call_options *options,
    struct knit_error *ret_error, const struct knit_arg *args, size_t args_count,
    void *const *results, size_t results_count);
KNIT_MUST_CHECK int knit_start_args(struct knit_prepared *prepared,
    const struct knit_call_options *options, struct knit_handle **ret, struct knit_error *ret_error,
    const struct knit_arg *args, size_t args_count);

/* As knit_results(), of any call that was started with a signature. */
int knit_results_args(struct knit_handle *handle, struct knit_error *ret_error,
    void *const *results, size_t results_count);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
