/* SPDX-License-Identifier: Apache-2.0 */
/* Typed arrays of values, read where they lie: see <knitting/values.h>.
 *
 * Threads: any. Nothing here blocks. */
#pragma once

#include <knitting/read.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Elements of a typed array where they lie, aligned: little-endian, as this machine is. NULL: it is
 * none of these elements, or they are not aligned, which those of arguments and results are. */
static inline const void *knit_value_typed(
    struct knit_value value, enum knit_element element, size_t *ret_count)
{
    static const uint64_t nothing = 0;
    bool is_it = knit_value_expect(value, KNIT_TYPE_TYPED) && value.element == element;

    *ret_count = is_it ? (size_t)value.number : 0;
    if (!is_it)
        knit_value_differs(value, "typed array of other elements");
    else if (value.number == 0)
        return &nothing;
    else if ((uintptr_t)value.body % knit_element_size(element) != 0)
        knit_value_differs(value, "elements that are aligned");
    else
        return value.body;
    return NULL;
}

/* knit_value_f64s(value, &count): the same by the name of the element. */
#define KNIT_VALUE_TYPED(name, NAME, type)                                                         \
    static inline const type *knit_value_##name(struct knit_value value, size_t *ret_count)        \
    {                                                                                              \
        return (const type *)knit_value_typed(value, KNIT_##NAME, ret_count);                      \
    }
KNIT_VALUE_TYPED(i8s, I8, int8_t)
KNIT_VALUE_TYPED(u8s, U8, uint8_t)
KNIT_VALUE_TYPED(u8cs, U8C, uint8_t)
KNIT_VALUE_TYPED(i16s, I16, int16_t)
KNIT_VALUE_TYPED(u16s, U16, uint16_t)
KNIT_VALUE_TYPED(i32s, I32, int32_t)
KNIT_VALUE_TYPED(u32s, U32, uint32_t)
KNIT_VALUE_TYPED(f32s, F32, float)
KNIT_VALUE_TYPED(f64s, F64, double)
KNIT_VALUE_TYPED(i64s, I64, int64_t)
KNIT_VALUE_TYPED(u64s, U64, uint64_t)
#undef KNIT_VALUE_TYPED

#ifdef __cplusplus
}
#endif
