/* SPDX-License-Identifier: Apache-2.0 */
/* The oracle is the full way, which is what it was when there was no short one. Results are copied
 * to the end of memory of their own, so that AddressSanitizer sees a read beyond what may be read;
 * behind what is written stands a guard.
 */
#include "tests/clients/two_shapes.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "clients/lib/shape.h"
#include "proto/check.h"

enum { SPARES = 10, UNSET = 0x5a, GUARD = 16 };

/* What a result was written to. */
struct targets {
    uint64_t word;
    uint64_t len;
};

static struct knit_shape *make(const char *signature)
{
    struct knit_shape_flaw flaw;
    struct knit_shape *shape = NULL;

    if (knit_shape_new(signature, &shape, &flaw) != 0)
        abort();
    return shape;
}

/* ---- results ---- */

static bool read_short(
    const struct knit_shape *shape, const uint8_t *result, size_t len, size_t spare, ...)
{
    struct knit_shape_values values;
    bool is_read;

    va_start(values.list, spare);
    is_read = knit_shape_decode_short(shape, result, len, spare, &values);
    va_end(values.list);
    return is_read;
}

static int read_full(const struct knit_shape *shape, const uint8_t *result, size_t len, ...)
{
    struct knit_aligned_copy *copies = NULL;
    struct knit_shape_values values;
    struct knit_shape_flaw flaw;
    int r;

    va_start(values.list, len);
    r = knit_shape_decode(shape, knit_span(result, len), &values, &copies, &flaw);
    va_end(values.list);
    knit_aligned_copies_free(&copies);
    return r;
}

static const char *compare(const struct knit_shape *shape, const uint8_t *result, size_t len,
    size_t spare, bool *ret_is_short)
{
    struct targets by_short, by_full;
    bool is_short;
    int r;

    memset(&by_short, UNSET, sizeof(by_short));
    by_full = by_short;
    is_short = read_short(shape, result, len, spare, &by_short.word, &by_short.len);
    r = read_full(shape, result, len, &by_full.word, &by_full.len);
    *ret_is_short = is_short;
    if (is_short && r != 0)
        return "the short way reads what the full one refuses";
    if (is_short && memcmp(&by_short, &by_full, sizeof(by_short)) != 0)
        return "the two ways read other values";
    if (!is_short && by_short.word != by_short.len)
        return "the short way stepped aside and wrote";
    if (is_short && !read_short(shape, result, len, spare, NULL, NULL))
        return "the short way reads nothing without a place for it";
    return NULL;
}

const char *knit_two_shapes_read(
    const char *type, const uint8_t *result, size_t len, bool *ret_is_short)
{
    const char *wrong = NULL;
    char signature[32];
    struct knit_shape *shape;

    (void)snprintf(signature, sizeof(signature), type[0] != '\0' ? "() -> %s" : "()", type);
    shape = make(signature);
    for (size_t spare = 0; spare < SPARES && wrong == NULL; spare++) {
        uint8_t *copy = malloc(len + spare + 1);

        if (copy == NULL)
            abort();
        if (len > 0)
            memcpy(copy + 1, result, len);
        memset(copy + 1 + len, UNSET, spare);
        wrong = compare(shape, copy + 1, len, spare, ret_is_short);
        free(copy);
    }
    (void)knit_shape_free(shape);
    return wrong;
}

/* ---- arguments ---- */

static size_t write_short(const struct knit_shape *shape, uint8_t *to, ...)
{
    struct knit_shape_values values;
    size_t len;

    va_start(values.list, to);
    len = knit_shape_encode_short(shape, &values, to);
    va_end(values.list);
    return len;
}

static int write_full(const struct knit_shape *shape, struct knit_buffer *buffer, ...)
{
    struct knit_shape_values values;
    struct knit_shape_flaw flaw;
    int r;

    va_start(values.list, buffer);
    r = knit_shape_encode(shape, &values, buffer, &flaw);
    va_end(values.list);
    return r;
}

static const char *compare_written(
    size_t len, const uint8_t *bytes, int r, const struct knit_buffer *full, bool *ret_is_short)
{
    *ret_is_short = len != 0;
    if (len == 0)
        return r == 0 && full->len <= KNIT_SHAPE_SHORT_BYTES - KNIT_HEAD_BYTES_MAX
                   ? "the short way steps aside for what fits"
                   : NULL;
    if (r != 0)
        return "the short way writes what the full one refuses";
    for (size_t i = 0; i < sizeof(uint64_t); i++) {
        if (bytes[len + i] != 0)
            return "no zeros lie behind what the short way writes";
    }
    return len != full->len || memcmp(bytes, full->bytes, len) != 0
               ? "the two ways write other bytes"
               : NULL;
}

const char *knit_two_shapes_write(
    const struct knit_two_shapes_values *values, unsigned order, bool *ret_is_short)
{
    static const char *const signatures[] = {
        "(int, uint, float, bool, str, bin)",
        "(str, bin, float, int, bool, uint)",
        "(int, nil, int, int, int, int, int, int, int, int, int, int, int, int)",
    };
    struct knit_shape *shape = make(signatures[order % 3]);
    uint8_t *bytes = malloc(KNIT_SHAPE_SHORT_ROOM + GUARD);
    const uint64_t *bits = values->bits;
    struct knit_buffer full;
    const char *wrong;
    double number;
    size_t len;
    int r;

    if (bytes == NULL)
        abort();
    memset(bytes + KNIT_SHAPE_SHORT_ROOM, UNSET, GUARD);
    memcpy(&number, &bits[2], sizeof(number));
    knit_buffer_init(&full, 1 << 20);
#define FIRST bits[0], bits[1], number, (int)(bits[3] & 1), values->text, values->bytes, values->len
#define SECOND                                                                                     \
    values->text, values->bytes, values->len, number, bits[0], (int)(bits[3] & 1), bits[1]
#define FOUR  bits[0], bits[1], bits[2], bits[3]
#define THIRD FOUR, FOUR, FOUR, bits[0]
    switch (order % 3) {
    case 0:
        len = write_short(shape, bytes, FIRST);
        r = write_full(shape, &full, FIRST);
        break;
    case 1:
        len = write_short(shape, bytes, SECOND);
        r = write_full(shape, &full, SECOND);
        break;
    default:
        len = write_short(shape, bytes, THIRD);
        r = write_full(shape, &full, THIRD);
        break;
    }
    wrong = compare_written(len, bytes, r, &full, ret_is_short);
    for (int i = 0; i < GUARD; i++) {
        if (bytes[KNIT_SHAPE_SHORT_ROOM + i] != UNSET)
            wrong = "the short way writes beyond its room";
    }
    knit_buffer_fini(&full);
    free(bytes);
    (void)knit_shape_free(shape);
    return wrong;
}
