/* SPDX-License-Identifier: Apache-2.0 */
/* Values: built and read the same way by callers and by tasks. Everything is inline: a program or a
 * module needs no library for it, a module loads in workers of every version, and what one side
 * builds the other reads by the same lines.
 *
 * A task that takes a map:
 *
 *     #include <knitting/task.h>
 *
 *     KNIT_MODULE("1.0");
 *
 *     KNIT_TASK(weigh, "weigh(parcel: map) -> map", .doc = "What a parcel weighs.")
 *     {
 *         KNIT_BUILDER(answer);
 *         struct knit_reader reader = KNIT_READER_INIT;
 *         struct knit_value parcel = knit_arg_value(call, 0, &reader);
 *         int64_t pieces = knit_value_int(knit_value_get(parcel, "pieces"));
 *         size_t count;
 *         const double *weights = knit_value_f64s(knit_value_get(parcel, "weights"), &count);
 *         double sum = 0;
 *
 *         for (size_t i = 0; i < count; i++)
 *             sum += weights[i] * (double)pieces;
 *         if (knit_reader_code(&reader) != KNIT_OK)
 *             return knit_fail_reader(call, 1, &reader);
 *         knit_put_map(answer, 1);
 *         knit_put_text(answer, "kg");
 *         knit_put_float(answer, sum);
 *         return knit_return_built(call, answer);
 *     }
 *
 * and its caller:
 *
 *     #include <knitting/values.h>
 *
 *     const char *url = "shm:///run/knitting/knitting.sock";
 *     const double weights[] = {0.25, 1.5};
 *     const void *bytes;
 *     size_t len;
 *     struct knit *k = NULL;
 *     struct knit_error error;
 *     KNIT_BUILDER(parcel);
 *
 *     knit_put_map(parcel, 2);
 *     knit_put_text(parcel, "pieces");
 *     knit_put_int(parcel, 4);
 *     knit_put_text(parcel, "weights");
 *     knit_put_typed(parcel, KNIT_F64, weights, 2);
 *     if (knit_built(parcel, &bytes, &len) != KNIT_OK)
 *         fprintf(stderr, "%s\n", knit_builder_reason(parcel));
 *     else if (knit_open(url, NULL, &k, &error) != KNIT_OK ||
 *              knit_call(k, &error, "weigh", "(map) -> map", bytes, len, &bytes, &len) != KNIT_OK)
 *         fprintf(stderr, "%s: %s\n", error.name, error.message);
 *     else
 *         printf("%g kg\n", knit_value_float(knit_value_get(knit_read(NULL, bytes, len), "kg")));
 *     knit_close(k);
 *
 * <knitting/build.h> and <knitting/read.h> have the functions. Values are those of PROTOCOL.md: the
 * types of MessagePack and bigint, set, pairs (a map with an identity), typed array, view, error,
 * symbol, envelope, undefined and time. Typed arrays lie aligned for use in place, on both sides,
 * in arguments and in results that a signature names. Containers nest 32 deep, of which the
 * arguments themselves are one.
 *
 * Threads: any, with one builder or reader for one thread at a time. Nothing here blocks.
 */
#pragma once

#include <stdio.h>

#include <knitting/build.h>
#include <knitting/elements.h>
#include <knitting/read.h>
#include <knitting/tour.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Whether each typed array within the value lies aligned. */
static inline bool knit_value_is_aligned(struct knit_value value)
{
    struct knit_tour tour;
    struct knit_value next;

    knit_tour_begin(&tour, value);
    while (knit_tour_next(&tour, &next)) {
        if (next.type == KNIT_TYPE_TYPED && next.number > 0 &&
            (uintptr_t)next.body % knit_element_size(next.element) != 0)
            return false;
    }
    return true;
}

/* Put a value that was read, whole: its heads become the shortest, its typed arrays lie aligned. */
static inline void knit_put_value(struct knit_builder *builder, struct knit_value value)
{
    struct knit_tour tour;
    struct knit_value next;
    unsigned char head[5];

    knit_tour_begin(&tour, value);
    while (builder->code == KNIT_OK && knit_tour_next(&tour, &next)) {
        const uint32_t count = (uint32_t)next.number; /* each takes a byte of less than 2^32 */

        if (next.type == KNIT_TYPE_ARRAY)
            knit_put_array(builder, count);
        else if (next.type == KNIT_TYPE_MAP)
            knit_put_map(builder, count);
        else if (next.type == KNIT_TYPE_SET)
            knit_put_set(builder, count);
        else if (next.type == KNIT_TYPE_PAIRS)
            knit_put_pairs(builder, count);
        else if (next.type == KNIT_TYPE_ERROR)
            knit_builder_open_ext(builder, KNIT_BUILDER_ERROR, head,
                knit_encode_count(head, 0x80, 15, 0xdd, count), (uint64_t)count * 2);
        else if (next.type == KNIT_TYPE_ENVELOPE)
            knit_put_envelope(builder);
        else if (next.type == KNIT_TOUR_BODY)
            knit_put_body(builder, next.body, (size_t)(next.end - next.body));
        else
            knit_tour_put_leaf(builder, &next);
    }
    if (tour.code != KNIT_OK)
        knit_builder_fail(builder, tour.code, tour.reason);
}

/* One sentence of at most size - 1 bytes about what the reader has noted. */
static inline void knit_reader_explain(const struct knit_reader *reader, char *text, size_t size)
{
    if (reader->code == KNIT_OK)
        (void)snprintf(text, size, "no error");
    else if (reader->reason != NULL)
        (void)snprintf(text, size, "%s", reader->reason);
    else
        (void)snprintf(text, size, "%s: expected %s, got %s",
            reader->name != NULL ? reader->name : "a value", reader->expected, reader->actual);
}

#ifdef __cplusplus
}
#endif
