/* SPDX-License-Identifier: Apache-2.0 */
/* The end of <knitting/typed_task.h>: arrays of numbers, and what is optional. Nothing here is for
 * programs.
 */
#pragma once

#include <knitting/typed_task.h>

#ifdef __cplusplus
extern "C" {
#endif

#define KNIT_TYPED_ELEMENTS(name, type, code)                                                      \
    static inline struct knit_##name knit_typed_get_##name(                                        \
        struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)                \
    {                                                                                              \
        struct knit_##name value = {NULL, 0};                                                      \
        value.at = knit_value_##name(knit_arg_value(call, index, NULL), &value.count);             \
        if (value.at == NULL)                                                                      \
            knit_typed_note_lack(reading, index);                                                  \
        return value;                                                                              \
    }                                                                                              \
    static inline void knit_typed_put_##name(                                                      \
        struct knit_builder *builder, struct knit_##name value)                                    \
    {                                                                                              \
        knit_put_typed(builder, (enum knit_element)(code), value.at, value.count);                 \
    }                                                                                              \
    static inline int knit_typed_give_##name(struct knit_call *call, struct knit_##name value)     \
    {                                                                                              \
        return knit_return_typed(call, (enum knit_element)(code), value.at, value.count);          \
    }
KNIT_ELEMENTS_IN_C(KNIT_TYPED_ELEMENTS)
#undef KNIT_TYPED_ELEMENTS

#define KNIT_TYPED_OPTIONAL(name, type, pass)                                                      \
    static inline struct knit_optional_##name knit_typed_get_optional_##name(                      \
        struct knit_call *call, uint32_t index, struct knit_typed_reading *reading)                \
    {                                                                                              \
        struct knit_optional_##name optional;                                                      \
        memset(&optional, 0, sizeof(optional));                                                    \
        optional.has = !knit_arg_is_nil(call, index);                                              \
        if (optional.has)                                                                          \
            optional.value = knit_typed_get_##name(call, index, reading);                          \
        return optional;                                                                           \
    }                                                                                              \
    static inline void knit_typed_put_optional_##name(                                             \
        struct knit_builder *builder, struct knit_optional_##name optional)                        \
    {                                                                                              \
        if (optional.has)                                                                          \
            knit_typed_put_##name(builder, optional.value);                                        \
        else                                                                                       \
            knit_put_nil(builder);                                                                 \
    }                                                                                              \
    static inline int knit_typed_give_optional_##name(                                             \
        struct knit_call *call, struct knit_optional_##name optional)                              \
    {                                                                                              \
        return optional.has ? knit_typed_give_##name(call, optional.value)                         \
                            : knit_return_nil(call);                                               \
    }
KNIT_VALUES_IN_C(KNIT_TYPED_OPTIONAL)
#undef KNIT_TYPED_OPTIONAL

#ifdef __cplusplus
}
#endif
