/* SPDX-License-Identifier: Apache-2.0 */
/* Every type of the protocol, each in one row: ext types, elements of typed arrays, and the types
 * that signatures name. A table is made of the rows by a macro that takes one:
 *
 *     #define SIZE(code, name, size, number) [code] = (size),
 *     static const uint8_t sizes[] = {KNIT_ELEMENTS(SIZE)};
 */
#pragma once

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* ROW(NAME, code, what it is called in messages). RESULT and SHARED are refused by name: their
 * numbers are taken. */
#define KNIT_EXTS(ROW)                                                                             \
    ROW(TIME, -1, "time") /* MessagePack's own timestamp */                                        \
    ROW(UNDEFINED, 32, "undefined")                                                                \
    ROW(BIGINT, 33, "bigint")                                                                      \
    ROW(SET, 34, "set")                                                                            \
    ROW(PAIRS, 35, "pairs")                                                                        \
    ROW(TYPED, 36, "typed array")                                                                  \
    ROW(VIEW, 37, "view")                                                                          \
    ROW(ERROR, 38, "error")                                                                        \
    ROW(SYMBOL, 39, "symbol")                                                                      \
    ROW(RESULT, 40, "result reference")                                                            \
    ROW(ENVELOPE, 41, "envelope")                                                                  \
    ROW(SHARED, 42, "shared buffer")

/* ROW(code, name, bytes of one element, SIGNED | UNSIGNED | FLOAT), in the order of the codes. */
#define KNIT_ELEMENTS(ROW)                                                                         \
    ROW(1, "i8", 1, SIGNED)                                                                        \
    ROW(2, "u8", 1, UNSIGNED)                                                                      \
    ROW(3, "u8c", 1, UNSIGNED) /* clamped where JavaScript writes them */                          \
    ROW(4, "i16", 2, SIGNED)                                                                       \
    ROW(5, "u16", 2, UNSIGNED)                                                                     \
    ROW(6, "i32", 4, SIGNED)                                                                       \
    ROW(7, "u32", 4, UNSIGNED)                                                                     \
    ROW(8, "f32", 4, FLOAT)                                                                        \
    ROW(9, "f64", 8, FLOAT)                                                                        \
    ROW(10, "i64", 8, SIGNED)                                                                      \
    ROW(11, "u64", 8, UNSIGNED)

/* ROW(name, KIND, code): what a signature names; a typed array of one element type is the element's
 * name with brackets, which KNIT_ELEMENTS has. */
#define KNIT_TYPES(ROW)                                                                            \
    ROW("nil", NIL, 0)                                                                             \
    ROW("bool", BOOL, 0)                                                                           \
    ROW("int", INT, 0)                                                                             \
    ROW("uint", UINT, 0)                                                                           \
    ROW("float", FLOAT, 0)                                                                         \
    ROW("str", STR, 0)                                                                             \
    ROW("bin", BIN, 0)                                                                             \
    ROW("any", ANY, 0)                                                                             \
    ROW("array", ARRAY, 0)                                                                         \
    ROW("map", MAP, 0)                                                                             \
    ROW("typed", TYPED, 0)                                                                         \
    ROW("time", TIME, KNIT_EXT_TIME)                                                               \
    ROW("undefined", EXT, KNIT_EXT_UNDEFINED)                                                      \
    ROW("bigint", EXT, KNIT_EXT_BIGINT)                                                            \
    ROW("set", EXT, KNIT_EXT_SET)                                                                  \
    ROW("pairs", EXT, KNIT_EXT_PAIRS)                                                              \
    ROW("view", EXT, KNIT_EXT_VIEW)                                                                \
    ROW("error", EXT, KNIT_EXT_ERROR)                                                              \
    ROW("symbol", EXT, KNIT_EXT_SYMBOL)                                                            \
    ROW("envelope", EXT, KNIT_EXT_ENVELOPE)

enum knit_ext {
#define KNIT_TYPES_ROW(name, code, text) KNIT_EXT_##name = (code),
    KNIT_EXTS(KNIT_TYPES_ROW)
#undef KNIT_TYPES_ROW
};

enum knit_kind {
    KNIT_KIND_NIL,
    KNIT_KIND_BOOL,
    KNIT_KIND_INT,
    KNIT_KIND_UINT,
    KNIT_KIND_FLOAT,
    KNIT_KIND_STR,
    KNIT_KIND_BIN,
    KNIT_KIND_TIME, /* an ext whose value is a number of seconds and nanoseconds */
    KNIT_KIND_ANY,
    KNIT_KIND_ARRAY,
    KNIT_KIND_MAP,
    KNIT_KIND_TYPED, /* code = of the elements, 0 = any */
    KNIT_KIND_EXT,   /* code = the ext's */
};

/* One type that a signature can name. */
struct knit_type_row {
    const char *name;
    uint8_t kind; /* enum knit_kind */
    int8_t code;
    uint8_t element_bytes; /* of a typed array of one element type; else 0 */
};

enum {
#define KNIT_TYPES_ONE(...) +1
    KNIT_ELEMENT_CODES = 1 KNIT_ELEMENTS(KNIT_TYPES_ONE), /* codes are below it, 0 is none */
    KNIT_TYPE_ROWS = 0 KNIT_TYPES(KNIT_TYPES_ONE) KNIT_ELEMENTS(KNIT_TYPES_ONE),
#undef KNIT_TYPES_ONE
};

extern const struct knit_type_row knit_types[KNIT_TYPE_ROWS];

/* The row of `name`, or of a typed array of the elements `name`. NULL when there is none. */
const struct knit_type_row *knit_types_find(const char *name, size_t len, bool is_typed_array);

/* How a typed array is called: "f64[]"; "typed array" for a code that no element has. */
const char *knit_types_element_name(unsigned code);
