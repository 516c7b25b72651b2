/* SPDX-License-Identifier: Apache-2.0 */
/* The types of <knitting/typed.h>: what each name in a declaration is in C and in the signature,
 * and what may be given for it.
 *
 * A name stands for one of the values of <knitting/args.h>, its type; all others are made of that
 * one word. Nothing here is for programs but struct knit_typed, which bindings may fill in
 * themselves. */
#pragma once

#include <knitting/args.h>
#include <knitting/typed_lists.h>

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Names of types ---- */

#define KNIT_TYPE_int    i64
#define KNIT_TYPE_uint   u64
#define KNIT_TYPE_float  f64
#define KNIT_TYPE_double f64
#define KNIT_TYPE_bool   boolean
#define KNIT_TYPE__Bool  boolean
#define KNIT_TYPE_i8     i8
#define KNIT_TYPE_i16    i16
#define KNIT_TYPE_i32    i32
#define KNIT_TYPE_i64    i64
#define KNIT_TYPE_u8     u8
#define KNIT_TYPE_u16    u16
#define KNIT_TYPE_u32    u32
#define KNIT_TYPE_u64    u64
#define KNIT_TYPE_f32    f32
#define KNIT_TYPE_f64    f64
#define KNIT_TYPE_str    str
#define KNIT_TYPE_bin    bin
#define KNIT_TYPE_time   time
#define KNIT_TYPE_any    any
#define KNIT_TYPE_i8s    i8s
#define KNIT_TYPE_u8s    u8s
#define KNIT_TYPE_u8cs   u8cs
#define KNIT_TYPE_i16s   i16s
#define KNIT_TYPE_u16s   u16s
#define KNIT_TYPE_i32s   i32s
#define KNIT_TYPE_u32s   u32s
#define KNIT_TYPE_i64s   i64s
#define KNIT_TYPE_u64s   u64s
#define KNIT_TYPE_f32s   f32s
#define KNIT_TYPE_f64s   f64s

/* By type, in the signature. */
#define KNIT_SIGN_i8      "int"
#define KNIT_SIGN_i16     "int"
#define KNIT_SIGN_i32     "int"
#define KNIT_SIGN_i64     "int"
#define KNIT_SIGN_u8      "uint"
#define KNIT_SIGN_u16     "uint"
#define KNIT_SIGN_u32     "uint"
#define KNIT_SIGN_u64     "uint"
#define KNIT_SIGN_f32     "float"
#define KNIT_SIGN_f64     "float"
#define KNIT_SIGN_boolean "bool"
#define KNIT_SIGN_str     "str"
#define KNIT_SIGN_bin     "bin"
#define KNIT_SIGN_time    "time"
#define KNIT_SIGN_any     "any"
#define KNIT_SIGN_i8s     "i8[]"
#define KNIT_SIGN_u8s     "u8[]"
#define KNIT_SIGN_u8cs    "u8c[]"
#define KNIT_SIGN_i16s    "i16[]"
#define KNIT_SIGN_u16s    "u16[]"
#define KNIT_SIGN_i32s    "i32[]"
#define KNIT_SIGN_u32s    "u32[]"
#define KNIT_SIGN_i64s    "i64[]"
#define KNIT_SIGN_u64s    "u64[]"
#define KNIT_SIGN_f32s    "f32[]"
#define KNIT_SIGN_f64s    "f64[]"

/* By type, in C: knit_c_i64 and so on. */
#define KNIT_VALUES_TYPEDEF(name, type, pass) typedef type knit_c_##name;
KNIT_VALUES_IN_C(KNIT_VALUES_TYPEDEF)
#undef KNIT_VALUES_TYPEDEF

/* ---- What is given for what ---- */

/* The classes of expressions, as bits. */
enum {
    KNIT_IS_SMALL = 1 << 0, /* an integer that a double holds */
    KNIT_IS_LARGE = 1 << 1, /* one that it may not hold */
    KNIT_IS_FLOAT = 1 << 2,
    KNIT_IS_BOOL = 1 << 3,
    KNIT_IS_TEXT = 1 << 4,
    KNIT_IS_BYTES = 1 << 5,
    KNIT_IS_TIME = 1 << 6,
    KNIT_IS_ANY = 1 << 7,
    KNIT_IS_OPTIONAL = 1 << 8, /* it may be nil */
#define KNIT_ELEMENTS_CLASS(name, type, code) KNIT_IS_##name = 1 << (8 + (code)),
    KNIT_ELEMENTS_IN_C(KNIT_ELEMENTS_CLASS)
#undef KNIT_ELEMENTS_CLASS
        KNIT_IS_HANDLE = 1 << 20, /* of another call: each parameter takes it */
    KNIT_IS_WRONG = 1 << 30,
    KNIT_IS_INTEGER = KNIT_IS_SMALL | KNIT_IS_LARGE,
};

/* By type, those that a parameter takes: knit_takes_i64 and so on. Integers are checked when the
 * call is made, since 7 fits each of them, whatever C says it is. */
enum {
    knit_takes_i8 = KNIT_IS_INTEGER,
    knit_takes_i16 = KNIT_IS_INTEGER,
    knit_takes_i32 = KNIT_IS_INTEGER,
    knit_takes_i64 = KNIT_IS_INTEGER,
    knit_takes_u8 = KNIT_IS_INTEGER,
    knit_takes_u16 = KNIT_IS_INTEGER,
    knit_takes_u32 = KNIT_IS_INTEGER,
    knit_takes_u64 = KNIT_IS_INTEGER,
    knit_takes_f32 = KNIT_IS_FLOAT | KNIT_IS_SMALL,
    knit_takes_f64 = KNIT_IS_FLOAT | KNIT_IS_SMALL,
    knit_takes_boolean = KNIT_IS_BOOL | KNIT_IS_SMALL, /* in C, true is an int */
    knit_takes_str = KNIT_IS_TEXT,
    knit_takes_bin = KNIT_IS_BYTES,
    knit_takes_time = KNIT_IS_TIME,
    knit_takes_any = KNIT_IS_WRONG - 1,
#define KNIT_ELEMENTS_TAKES(name, type, code) knit_takes_##name = KNIT_IS_##name,
    KNIT_ELEMENTS_IN_C(KNIT_ELEMENTS_TAKES)
#undef KNIT_ELEMENTS_TAKES
};

/* What KNIT_NONE, KNIT_IGNORE and a surplus result are. */
struct knit_none {
    char none;
};
struct knit_ignored;
struct knit_surplus;

static inline struct knit_none knit_make_none(void)
{
    struct knit_none none = {0};
    return none;
}

static inline struct knit_arg knit_pass_none(struct knit_none none)
{
    (void)none;
    return knit_pass_nil();
}

#define KNIT_VALUES_PASS(name, type, pass)                                                         \
    static inline struct knit_arg knit_pass_optional_##name(struct knit_optional_##name optional)  \
    {                                                                                              \
        return optional.has ? knit_pass_##pass(optional.value) : knit_pass_nil();                  \
    }
KNIT_VALUES_IN_C(KNIT_VALUES_PASS)
#undef KNIT_VALUES_PASS

/* ---- One element of a declaration, (type, name) or (type, name, optional) ---- */

#define KNIT_PART(pick, part)              KNIT_PART_(pick, KNIT_BARE part, , )
#define KNIT_PART_(pick, ...)              pick(__VA_ARGS__)
#define KNIT_PART_TYPE(type, name, ...)    KNIT_PASTE(KNIT_TYPE_, type)
#define KNIT_PART_NAME(type, name, ...)    KNIT_QUOTE(name)
#define KNIT_PART_FLAG(type, name, f, ...) KNIT_FLAG_##f
#define KNIT_FLAG_                         0
#define KNIT_FLAG_optional                 1

/* Of the part: its type; 1 if it is optional. */
#define KNIT_TYPE_OF(part)        KNIT_PART(KNIT_PART_TYPE, part)
#define KNIT_IS_OPTIONAL_OF(part) KNIT_PART(KNIT_PART_FLAG, part)

/* Its type in C, with and without an optional around it. */
#define KNIT_C_OF(part)        KNIT_C_OF_(KNIT_IS_OPTIONAL_OF(part), KNIT_TYPE_OF(part))
#define KNIT_C_OF_(flag, type) KNIT_PASTE(KNIT_C_OF_, flag)(type)
#define KNIT_C_OF_0(type)      KNIT_PASTE(knit_c_, type)
#define KNIT_C_OF_1(type)      struct KNIT_PASTE(knit_optional_, type)

/* Its type in a signature. */
#define KNIT_SIGN_OF(part)                                                                         \
    KNIT_PASTE(KNIT_SIGN_, KNIT_TYPE_OF(part)) KNIT_PASTE(KNIT_MARK_, KNIT_IS_OPTIONAL_OF(part))
#define KNIT_MARK_0 ""
#define KNIT_MARK_1 "?"

/* ---- A declaration, for the library ---- */

/* Of a parameter or a result. */
struct knit_typed_part {
    const char *name;
    uint32_t bytes; /* of a number in C; of others it does not matter */
};

/* A task as its callers know it. Lies where it is for as long as sessions that called it. */
struct knit_typed {
    uint32_t size;         /* of this structure */
    uint16_t params_count; /* at most 16 */
    uint16_t results_count;
    const char *name;
    const char *signature;               /* whole: "add(a: int, b: int) -> int" */
    const struct knit_typed_part *parts; /* parameters, then results */
};

#pragma GCC visibility push(default)

/* What the macros of <knitting/typed.h> call. args: one for each parameter; results: one place for
 * each result, as with knit_call_args(), but numbers as wide as the declaration says. */
int knit_call_typed(struct knit *k, const struct knit_typed *typed,
    const struct knit_call_options *options, struct knit_error *ret_error,
    const struct knit_arg *args, void *const *results);
KNIT_MUST_CHECK int knit_start_typed(struct knit *k, const struct knit_typed *typed,
    const struct knit_call_options *options, struct knit_handle **ret, struct knit_error *ret_error,
    const struct knit_arg *args);
int knit_then_typed(struct knit *k, const struct knit_typed *typed,
    const struct knit_call_options *options, struct knit_error *ret_error,
    const struct knit_arg *args, void (*on_done)(struct knit_handle *handle, void *user),
    void *user);
int knit_await_typed(struct knit_handle *handle, const struct knit_typed *typed, double wait_ms,
    struct knit_error *ret_error, void *const *results);

#pragma GCC visibility pop

#ifdef __cplusplus
}
#endif
