/* SPDX-License-Identifier: Apache-2.0 */
/* Arguments and results of tasks as values: <knitting/task.h> includes it.
 *
 * Threads: that of the task; of a deferred call the one that has it open. Nothing here blocks. */
#pragma once

#include <knitting/task.h>
#include <knitting/values.h>

#ifdef __cplusplus
extern "C" {
#endif

/* For the getters of <knitting/read.h>; NONE when absent. reader: gets what is wrong, of several
 * arguments if they share it; NULL = nobody asks. */
static inline struct knit_value knit_arg_value(
    struct knit_call *call, uint32_t index, struct knit_reader *reader)
{
    size_t len;
    const void *bytes = knit_api->arg_aligned(call, index, &len);

    return knit_read(reader, bytes, len);
}

/* A typed array of `count` elements. */
static inline int knit_return_typed(
    struct knit_call *call, enum knit_element element, const void *elements, size_t count)
{
    unsigned char head[KNIT_ENCODE_TYPED_MAX];
    size_t len = knit_encode_elements(element, count);

    return knit_api->return_pieces(
        call, head, knit_encode_typed(head, 0, element, len), elements, len);
}

/* Room for one, which the task fills before it returns 0; aligned. NULL: too large. */
static inline void *knit_return_typed_place(
    struct knit_call *call, enum knit_element element, size_t count)
{
    unsigned char head[KNIT_ENCODE_TYPED_MAX];
    size_t len = knit_encode_elements(element, count);

    return knit_api->return_place(call, head, knit_encode_typed(head, 0, element, len), len);
}

/* What was built; if that went wrong, the call ends with BAD_RESULT and the reason. */
static inline int knit_return_built(struct knit_call *call, struct knit_builder *builder)
{
    const void *bytes;
    size_t len;

    if (knit_built(builder, &bytes, &len) != KNIT_OK)
        return knit_api->return_refused(call, builder->code, knit_builder_reason(builder));
    return knit_api->return_raw(call, bytes, len);
}

/* Fails with data that was built; if that went wrong, the call ends with BAD_RESULT. */
static inline int knit_fail_built(
    struct knit_call *call, int64_t code, const char *message, struct knit_builder *builder)
{
    const void *bytes;
    size_t len;

    if (knit_built(builder, &bytes, &len) != KNIT_OK)
        return knit_api->return_refused(call, builder->code, knit_builder_reason(builder));
    return knit_fail_data(call, code, message, bytes, len);
}

/* Fails with what the reader has noted. */
static inline int knit_fail_reader(
    struct knit_call *call, int64_t code, const struct knit_reader *reader)
{
    char text[512];

    knit_reader_explain(reader, text, sizeof(text));
    return knit_fail(call, code, text);
}

#ifdef __cplusplus
}
#endif
