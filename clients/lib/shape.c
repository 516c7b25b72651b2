/* SPDX-License-Identifier: Apache-2.0 */
/* Nothing is written to a caller's pointers before every result has been checked. Results may lie
 * in shared memory, where a second read could give another value: so each is read once, what is to
 * be written is noted, and at the end all of it is written.
 */
#include "clients/lib/shape.h"

#include <errno.h>
#include <float.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/args.h>
#include <knitting/values.h>

#include "proto/check.h"
#include "proto/head.h"
#include "proto/limits.h"
#include "proto/pack.h"
#include "proto/signature.h"
#include "proto/types.h"
#include "proto/walk.h"
#include "proto/writer.h"

/* A write through a caller's pointer, made once all results are checked. */
struct write {
    void *to;
    size_t size;
    unsigned char bytes[16];
};

enum {
    WRITES_PER_RESULT = 3, /* presence, address, size */
    WRITES_FEW = 12,       /* that need no allocation */
    PLACES_MAX = KNIT_SIGNATURE_RESULTS_MAX * WRITES_PER_RESULT,
};

/* The state of one encoding or decoding. */
struct cursor {
    struct knit_shape_values *values;
    void *const *places; /* of results, in place of `values`; or NULL */
    struct knit_shape_flaw *flaw;
    size_t index;
    bool has_typed;       /* a typed array is in the result */
    struct write *writes; /* of results */
    size_t writes_count;
};

void knit_aligned_copies_free(struct knit_aligned_copy **copies)
{
    while (*copies != NULL) {
        struct knit_aligned_copy *next = (*copies)->next;

        free(*copies);
        *copies = next;
    }
}

/* ---- making shapes ---- */

static struct knit_shape_part make_part(const struct knit_type_row *row, bool is_optional)
{
    struct knit_shape_part part = {
        row->name, row->kind, row->code, row->element_bytes, is_optional, sizeof(uint64_t)};

    if (part.kind == KNIT_KIND_TYPED && part.code == 0) {
        part.kind = KNIT_KIND_EXT;
        part.code = KNIT_EXT_TYPED;
    }
    /* "nil?" is the same as "nil". */
    if (part.kind == KNIT_KIND_NIL)
        part.is_optional = false;
    return part;
}

static bool is_scalar(const struct knit_shape_part *part)
{
    return part->kind <= KNIT_KIND_FLOAT;
}

/* The heads that a value of each kind has when nothing about it is unusual. */
static const uint16_t usual_heads[] = {
    [KNIT_KIND_NIL] = 1u << KNIT_HEAD_NIL,
    [KNIT_KIND_BOOL] = 1u << KNIT_HEAD_BOOL,
    [KNIT_KIND_INT] = 1u << KNIT_HEAD_INT | 1u << KNIT_HEAD_UINT,
    [KNIT_KIND_UINT] = 1u << KNIT_HEAD_UINT,
    [KNIT_KIND_FLOAT] = 1u << KNIT_HEAD_FLOAT64,
    [KNIT_KIND_STR] = 1u << KNIT_HEAD_STR,
    [KNIT_KIND_BIN] = 1u << KNIT_HEAD_BIN,
};

static bool is_usual(const struct knit_shape_part *part)
{
    return part->kind <= KNIT_KIND_BIN && !part->is_optional;
}

static bool is_whole_number(const struct knit_shape_part *part)
{
    return (part->kind | 1) == KNIT_KIND_UINT && !part->is_optional &&
           part->width == sizeof(uint64_t);
}

static void compile(struct knit_shape *shape)
{
    const struct knit_shape_part *result = &shape->part[shape->param_count];

    shape->is_short = shape->is_short_args = shape->param_count <= KNIT_SHAPE_SHORT_PARAMS;
    for (uint32_t i = 0; i < shape->param_count && shape->is_short_args; i++) {
        shape->is_short = shape->is_short && is_usual(&shape->part[i]);
        shape->is_short_args = shape->part[i].kind <= KNIT_KIND_BIN;
        shape->kind[i] = shape->part[i].kind;
        shape->number[i] =
            is_whole_number(&shape->part[i]) ? shape->part[i].kind : KNIT_SHAPE_NOTHING;
    }
    shape->is_short = shape->is_short && shape->is_short_args;
    shape->result_kind = KNIT_SHAPE_NOTHING;
    if (shape->result_count == 0) {
        for (size_t i = 0; i < sizeof(usual_heads) / sizeof(usual_heads[0]); i++)
            shape->result_heads |= usual_heads[i];
    } else if (shape->result_count == 1 && is_usual(result)) {
        shape->result_kind = result->kind;
        shape->result_heads = usual_heads[result->kind];
    }
}

void knit_shape_set_width(struct knit_shape *shape, uint32_t index, uint32_t bytes)
{
    const struct knit_shape_part *part = &shape->part[index];

    if ((part->kind | 1) != KNIT_KIND_UINT && part->kind != KNIT_KIND_FLOAT)
        return;
    shape->part[index].width = (uint8_t)bytes;
    compile(shape);
}

static struct knit_shape *make_shape(const struct knit_signature *signature)
{
    uint32_t params = knit_signature_param_count(signature);
    uint32_t results = knit_signature_result_count(signature);
    struct knit_shape *shape =
        calloc(1, sizeof(*shape) + (params + results) * sizeof(shape->part[0]));

    if (shape == NULL)
        return NULL;
    shape->param_count = params;
    shape->result_count = results;
    for (uint32_t i = 0; i < params + results; i++) {
        bool is_optional;
        const struct knit_type_row *row = knit_signature_type(signature, i, &is_optional);

        shape->part[i] = make_part(row, is_optional);
    }
    compile(shape);
    return shape;
}

int knit_shape_new(
    const char *text, struct knit_shape **ret_shape, struct knit_shape_flaw *ret_flaw)
{
    struct knit_signature_flaw flaw;
    struct knit_signature *signature;
    struct knit_shape *shape;
    int r = knit_signature_parse_call(text, strlen(text), &signature, &flaw);

    if (r < 0)
        return r;
    if (r != 0) {
        *ret_flaw = (struct knit_shape_flaw){.offset = flaw.offset, .reason = flaw.reason};
        return KNIT_SHAPE_E_SYNTAX;
    }
    shape = make_shape(signature);
    (void)knit_signature_free(signature);
    if (shape == NULL)
        return -ENOMEM;
    *ret_shape = shape;
    return 0;
}

struct knit_shape *knit_shape_free(struct knit_shape *shape)
{
    free(shape);
    return NULL;
}

/* ---- arguments ---- */

static void put_optional_scalar(struct cursor *cursor, struct knit_writer *writer, unsigned kind)
{
    const void *value = va_arg(cursor->values->list, const void *);
    uint64_t bits;

    if (value == NULL) {
        knit_writer_nil(writer);
    } else if (kind == KNIT_KIND_BOOL) {
        knit_writer_bool(writer, *(const bool *)value);
    } else {
        memcpy(&bits, value, sizeof(bits));
        knit_writer_head(writer, knit_pack_scalars[kind], bits);
    }
}

static void put_bytes(
    struct cursor *cursor, struct knit_writer *writer, const struct knit_shape_part *part)
{
    const void *bytes = va_arg(cursor->values->list, const void *);
    size_t len = part->kind == KNIT_KIND_STR ? (bytes != NULL ? strlen(bytes) : 0)
                                             : va_arg(cursor->values->list, size_t);

    if (bytes == NULL && part->is_optional)
        knit_writer_nil(writer);
    else if (part->kind == KNIT_KIND_STR)
        knit_writer_str(writer, bytes != NULL ? bytes : "", len);
    else if (part->kind == KNIT_KIND_BIN)
        knit_writer_bin(writer, bytes, len);
    else if (part->kind == KNIT_KIND_TYPED)
        knit_writer_typed(writer, (unsigned char)part->code, bytes, len);
    else
        knit_writer_value(writer, bytes, len);
}

static int put_argument(
    struct cursor *cursor, struct knit_writer *writer, const struct knit_shape_part *part)
{
    const struct knit_time *time;

    if (is_scalar(part) && !part->is_optional) {
        knit_writer_head(writer, knit_pack_scalars[part->kind],
            knit_shape_next_scalar(cursor->values, part->kind));
    } else if (is_scalar(part)) {
        put_optional_scalar(cursor, writer, part->kind);
    } else if (part->kind != KNIT_KIND_TIME) {
        put_bytes(cursor, writer, part);
    } else {
        time = va_arg(cursor->values->list, const struct knit_time *);
        if (time != NULL)
            knit_writer_time(writer, time->seconds, time->nanoseconds);
        else
            knit_writer_nil(writer);
    }
    if (writer->error > 0 && writer->error != KNIT_WRITER_E_FULL) {
        *cursor->flaw = (struct knit_shape_flaw){.index = cursor->index,
            .reason = knit_writer_reason(writer->error),
            .is_too_deep = writer->error == KNIT_WRITER_E_TOO_DEEP};
        return KNIT_SHAPE_E_VALUE;
    }
    return 0;
}

int knit_shape_encode(const struct knit_shape *shape, struct knit_shape_values *values,
    struct knit_buffer *buffer, struct knit_shape_flaw *ret_flaw)
{
    struct cursor cursor = {.values = values, .flaw = ret_flaw};
    struct knit_writer writer;
    int r = 0, error;

    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, shape->param_count);
    for (; cursor.index < shape->param_count && r == 0; cursor.index++)
        r = put_argument(&cursor, &writer, &shape->part[cursor.index]);
    error = knit_writer_end(&writer);
    if (r != 0)
        return r;
    return error > 0 ? -E2BIG : error;
}

uint8_t *knit_shape_put_short(
    uint8_t *at, const uint8_t *end, unsigned kind, struct knit_shape_values *values)
{
    const bool is_str = kind == KNIT_KIND_STR;
    const char *bytes;
    size_t len;

    if (kind <= KNIT_KIND_FLOAT)
        return at + knit_pack_scalars[kind](at, knit_shape_next_scalar(values, kind));
    bytes = va_arg(values->list, const char *);
    len = !is_str ? va_arg(values->list, size_t) : bytes != NULL ? strlen(bytes) : 0;
    /* A head of two bytes, and a body. */
    if (len > (size_t)(end - at) - KNIT_PACK_SHORT_MAX ||
        (is_str && !knit_text_is_utf8(bytes, len)))
        return NULL;
    at += is_str ? knit_pack_str(at, len) : knit_pack_bin(at, len);
    if (len > 0)
        memcpy(at, bytes, len);
    return at + len;
}

/* ---- results ---- */

/* The next of the caller's pointers; NULL: there are none, as where a result is only checked. */
static void *next_pointer(struct cursor *cursor)
{
    if (cursor->places != NULL)
        return *cursor->places++;
    return cursor->values != NULL ? va_arg(cursor->values->list, void *) : NULL;
}

static int differs(
    struct cursor *cursor, const struct knit_shape_part *part, const struct knit_head *head)
{
    *cursor->flaw = (struct knit_shape_flaw){
        .index = cursor->index, .expected = part->name, .actual = knit_head_name(head)};
    return KNIT_SHAPE_E_VALUE;
}

static void write_later(struct cursor *cursor, void *to, const void *value, size_t size)
{
    struct write *write;

    if (to == NULL)
        return;
    write = &cursor->writes[cursor->writes_count++];
    write->to = to;
    write->size = size;
    memcpy(write->bytes, value, size);
}

bool knit_shape_narrow(const struct knit_shape_part *part, uint64_t bits, void *ret_bytes)
{
    const unsigned shift = 64 - 8 * part->width;
    const int64_t number = (int64_t)bits;
    double real;
    float narrow;

    if (part->kind == KNIT_KIND_FLOAT) {
        memcpy(&real, &bits, sizeof(real));
        if (real <= DBL_MAX && real >= -DBL_MAX && (real > FLT_MAX || real < -FLT_MAX))
            return false;
        narrow = (float)real;
        memcpy(ret_bytes, &narrow, sizeof(narrow));
        return true;
    }
    if (part->kind == KNIT_KIND_INT
            ? number > INT64_MAX >> shift || number < -(INT64_MAX >> shift) - 1
            : bits > UINT64_MAX >> shift)
        return false;
    /* Two's complement: the lower bytes are those of the narrower type. */
    if (part->width == sizeof(uint8_t))
        memcpy(ret_bytes, &(uint8_t){(uint8_t)bits}, sizeof(uint8_t));
    else if (part->width == sizeof(uint16_t))
        memcpy(ret_bytes, &(uint16_t){(uint16_t)bits}, sizeof(uint16_t));
    else
        memcpy(ret_bytes, &(uint32_t){(uint32_t)bits}, sizeof(uint32_t));
    return true;
}

const char *knit_shape_range(const struct knit_shape_part *part)
{
    const bool is_int = part->kind == KNIT_KIND_INT;

    if (part->kind == KNIT_KIND_BOOL)
        return "bool (0 or 1)";
    if (part->kind == KNIT_KIND_FLOAT)
        return part->width == sizeof(float) ? "float of 32 bits" : "float";
    switch (part->width) {
    case sizeof(uint8_t):
        return is_int ? "int (-128 to 127)" : "uint (0 to 255)";
    case sizeof(uint16_t):
        return is_int ? "int (-32768 to 32767)" : "uint (0 to 65535)";
    case sizeof(uint32_t):
        return is_int ? "int (-2147483648 to 2147483647)" : "uint (0 to 4294967295)";
    default:
        return is_int ? "int (below 2^63)" : "uint (not negative)";
    }
}

static int take_narrow(
    struct cursor *cursor, const struct knit_shape_part *part, uint64_t bits, void *to)
{
    struct knit_shape_flaw *flaw = cursor->flaw;
    uint8_t bytes[sizeof(uint32_t)];
    double real;

    if (knit_shape_narrow(part, bits, bytes)) {
        write_later(cursor, to, bytes, part->width);
        return 0;
    }
    *flaw = (struct knit_shape_flaw){.index = cursor->index, .expected = knit_shape_range(part)};
    memcpy(&real, &bits, sizeof(real));
    if (part->kind == KNIT_KIND_FLOAT)
        (void)snprintf(flaw->number, sizeof(flaw->number), "%g", real);
    else if (part->kind == KNIT_KIND_INT)
        (void)snprintf(flaw->number, sizeof(flaw->number), "%" PRId64, (int64_t)bits);
    else
        (void)snprintf(flaw->number, sizeof(flaw->number), "%" PRIu64, bits);
    return KNIT_SHAPE_E_VALUE;
}

static int take_scalar(
    struct cursor *cursor, const struct knit_shape_part *part, const struct knit_head *head)
{
    void *to = next_pointer(cursor);
    union {
        int64_t i;
        uint64_t u;
        double f;
        bool b;
    } value;
    bool fits = part->kind == KNIT_KIND_BOOL   ? head->type == KNIT_HEAD_BOOL
                : part->kind == KNIT_KIND_INT  ? knit_head_as_int(head, &value.i)
                : part->kind == KNIT_KIND_UINT ? knit_head_as_uint(head, &value.u)
                                               : knit_head_as_float(head, &value.f);

    if (!fits)
        return differs(cursor, part, head);
    if (cursor->places != NULL && part->width != sizeof(value))
        return take_narrow(cursor, part, value.u, to);
    if (part->kind == KNIT_KIND_BOOL)
        value.b = head->value != 0;
    write_later(cursor, to, &value, part->kind == KNIT_KIND_BOOL ? sizeof(bool) : sizeof(value));
    return 0;
}

static int take_time(
    struct cursor *cursor, const struct knit_shape_part *part, const struct knit_item *item)
{
    struct knit_time *to = next_pointer(cursor), time;

    if (item->head.type != KNIT_HEAD_EXT || item->head.ext != KNIT_EXT_TIME ||
        !knit_check_time(item->body.bytes, item->body.len, &time.seconds, &time.nanoseconds))
        return differs(cursor, part, &item->head);
    write_later(cursor, to, &time, sizeof(time));
    return 0;
}

/* The bytes that stand for `of` from now on. */
static int add_copy(struct knit_span *of, struct knit_span bytes, struct knit_aligned_copy **copies)
{
    struct knit_aligned_copy *copy = malloc(sizeof(*copy) + bytes.len);

    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy->bytes, bytes.bytes, bytes.len);
    copy->of = *of;
    copy->len = bytes.len;
    copy->next = *copies;
    *copies = copy;
    *of = knit_span(copy->bytes, copy->len);
    return 0;
}

static int align(struct knit_span *elements, size_t size, struct knit_aligned_copy **copies)
{
    static const max_align_t nothing;
    struct knit_aligned_copy *copy;

    if ((uintptr_t)elements->bytes % size == 0)
        return 0;
    if (elements->len == 0) {
        elements->bytes = (const uint8_t *)&nothing;
        return 0;
    }
    for (copy = *copies; copy != NULL; copy = copy->next) {
        if (copy->of.bytes == elements->bytes && copy->of.len == elements->len) {
            elements->bytes = copy->bytes;
            return 0;
        }
    }
    return add_copy(elements, *elements, copies);
}

/* Of a value in which typed arrays do not lie aligned, a copy in which they do. */
static int align_value(struct knit_span *value, struct knit_aligned_copy **copies)
{
    struct knit_aligned_copy *copy;
    const void *bytes;
    size_t len;
    KNIT_BUILDER(builder);

    if (knit_value_is_aligned(knit_read(NULL, value->bytes, value->len)))
        return 0;
    for (copy = *copies; copy != NULL; copy = copy->next) {
        if (copy->of.bytes == value->bytes && copy->of.len == value->len) {
            *value = knit_span(copy->bytes, copy->len);
            return 0;
        }
    }
    knit_put_value(builder, knit_read(NULL, value->bytes, value->len));
    if (knit_built(builder, &bytes, &len) != KNIT_OK)
        return -ENOMEM;
    return add_copy(value, knit_span(bytes, len), copies);
}

/* The run of bytes that the caller gets for a result of this type. */
static int find_bytes(struct cursor *cursor, const struct knit_shape_part *part,
    const struct knit_item *item, struct knit_span *ret_bytes)
{
    uint8_t code, size;

    if (part->kind == KNIT_KIND_STR || part->kind == KNIT_KIND_BIN) {
        if (item->head.type != (part->kind == KNIT_KIND_STR ? KNIT_HEAD_STR : KNIT_HEAD_BIN))
            return differs(cursor, part, &item->head);
        *ret_bytes = item->body;
        return 0;
    }
    if (part->kind == KNIT_KIND_TYPED) {
        if (item->head.type != KNIT_HEAD_EXT || item->head.ext != KNIT_EXT_TYPED ||
            !knit_check_typed(item->body.bytes, item->body.len, &code, &size, ret_bytes) ||
            code != part->code)
            return differs(cursor, part, &item->head);
        return 0;
    }
    if ((part->kind == KNIT_KIND_ARRAY && item->head.type != KNIT_HEAD_ARRAY) ||
        (part->kind == KNIT_KIND_MAP && item->head.type != KNIT_HEAD_MAP) ||
        (part->kind == KNIT_KIND_EXT &&
            (item->head.type != KNIT_HEAD_EXT || item->head.ext != part->code)))
        return differs(cursor, part, &item->head);
    *ret_bytes = item->raw;
    return 0;
}

static int take_bytes(struct cursor *cursor, const struct knit_shape_part *part,
    const struct knit_item *item, struct knit_aligned_copy **copies)
{
    const void **to = next_pointer(cursor);
    size_t *to_len = next_pointer(cursor);
    struct knit_span bytes;
    size_t len;
    int r = find_bytes(cursor, part, item, &bytes);

    if (r == 0 && part->kind == KNIT_KIND_TYPED && to != NULL)
        r = align(&bytes, part->size, copies);
    else if (r == 0 && cursor->has_typed && to != NULL && part->kind > KNIT_KIND_BIN)
        r = align_value(&bytes, copies);
    if (r != 0)
        return r;
    len = part->kind == KNIT_KIND_TYPED ? bytes.len / part->size : bytes.len;
    write_later(cursor, to, &bytes.bytes, sizeof(bytes.bytes));
    write_later(cursor, to_len, &len, sizeof(len));
    return 0;
}

/* A nil where the type is optional: its other pointers are skipped. */
static void skip_pointers(struct cursor *cursor, const struct knit_shape_part *part)
{
    (void)next_pointer(cursor);
    if (!is_scalar(part) && part->kind != KNIT_KIND_TIME)
        (void)next_pointer(cursor);
}

static int take_result(struct cursor *cursor, const struct knit_shape_part *part,
    const struct knit_item *item, struct knit_aligned_copy **copies)
{
    if (part->is_optional) {
        bool *to_present = next_pointer(cursor);
        bool is_present = item->head.type != KNIT_HEAD_NIL;

        write_later(cursor, to_present, &is_present, sizeof(is_present));
        if (!is_present) {
            skip_pointers(cursor, part);
            return 0;
        }
    }
    if (part->kind == KNIT_KIND_NIL)
        return item->head.type == KNIT_HEAD_NIL ? 0 : differs(cursor, part, &item->head);
    if (part->kind == KNIT_KIND_TIME)
        return take_time(cursor, part, item);
    if (is_scalar(part))
        return take_scalar(cursor, part, &item->head);
    return take_bytes(cursor, part, item, copies);
}

static int take_several(struct cursor *cursor, const struct knit_shape *shape,
    const struct knit_item *item, struct knit_aligned_copy **copies)
{
    static const struct knit_shape_part tuple = {.name = "array"};
    const struct knit_shape_part *results = &shape->part[shape->param_count];
    struct knit_walk walk;
    struct knit_item element;
    int r;

    if (item->head.type != KNIT_HEAD_ARRAY || knit_walk_array(&walk, item->raw) != 0)
        return differs(cursor, &tuple, &item->head);
    for (; cursor->index < shape->result_count; cursor->index++) {
        if (knit_walk_next(&walk, &element) != 0) {
            *cursor->flaw = (struct knit_shape_flaw){
                .index = cursor->index, .reason = "there are fewer results"};
            return KNIT_SHAPE_E_VALUE;
        }
        r = take_result(cursor, &results[cursor->index], &element, copies);
        if (r != 0)
            return r;
    }
    if (knit_walk_next(&walk, &element) == KNIT_WALK_E_END)
        return 0;
    *cursor->flaw =
        (struct knit_shape_flaw){.index = cursor->index, .reason = "there are more results"};
    return KNIT_SHAPE_E_VALUE;
}

/* Reads and checks the one value of a result. A scalar that fills it needs no further check. */
static bool read_item(struct knit_span result, struct knit_item *ret_item, bool *ret_has_typed)
{
    struct knit_head head;
    size_t len;

    if (knit_head_read(result.bytes, result.len, &head) != 0)
        return false;
    if ((head.type >= KNIT_HEAD_STR || head.size != result.len) &&
        (knit_check_front_typed(
             result.bytes, result.len, KNIT_DEPTH_MAX, &len, ret_has_typed, NULL) != 0 ||
            len != result.len))
        return false;
    *ret_item = (struct knit_item){.raw = result, .head = head};
    if (knit_head_has_body(&head))
        ret_item->body = knit_span(result.bytes + head.size, result.len - head.size);
    return true;
}

/* cursor->writes: WRITES_FEW of them. */
static int decode(struct cursor *cursor, const struct knit_shape *shape, struct knit_span result,
    struct knit_aligned_copy **copies)
{
    struct write *many = NULL;
    struct knit_item item;
    int r = 0;

    if (!read_item(result, &item, &cursor->has_typed)) {
        *cursor->flaw = (struct knit_shape_flaw){.reason = "it is no value of the protocol"};
        return KNIT_SHAPE_E_VALUE;
    }
    if (shape->result_count > WRITES_FEW / WRITES_PER_RESULT) {
        cursor->writes = many = calloc(shape->result_count, WRITES_PER_RESULT * sizeof(*many));
        if (many == NULL)
            return -ENOMEM;
    }
    if (shape->result_count > 1)
        r = take_several(cursor, shape, &item, copies);
    else if (shape->result_count > 0)
        r = take_result(cursor, &shape->part[shape->param_count], &item, copies);
    for (size_t i = 0; r == 0 && i < cursor->writes_count; i++)
        memcpy(cursor->writes[i].to, cursor->writes[i].bytes, cursor->writes[i].size);
    free(many);
    return r;
}

int knit_shape_decode(const struct knit_shape *shape, struct knit_span result,
    struct knit_shape_values *values, struct knit_aligned_copy **copies,
    struct knit_shape_flaw *ret_flaw)
{
    struct write few[WRITES_FEW];
    struct cursor cursor = {.values = values, .flaw = ret_flaw, .writes = few};

    return decode(&cursor, shape, result, copies);
}

/* Where the value lies in the structure of one that is optional. */
static size_t value_offset(const struct knit_shape_part *part)
{
    static const size_t of_integers[] = {
        [sizeof(uint8_t)] = offsetof(struct knit_optional_u8, value),
        [sizeof(uint16_t)] = offsetof(struct knit_optional_u16, value),
        [sizeof(uint32_t)] = offsetof(struct knit_optional_u32, value),
        [sizeof(uint64_t)] = offsetof(struct knit_optional_u64, value)};
    static const size_t of_floats[] = {[sizeof(float)] = offsetof(struct knit_optional_f32, value),
        [sizeof(double)] = offsetof(struct knit_optional_f64, value)};
    static const size_t of_others[] = {
        [KNIT_KIND_BOOL] = offsetof(struct knit_optional_bool, value),
        [KNIT_KIND_TIME] = offsetof(struct knit_optional_time, value)};

    if ((part->kind | 1) == KNIT_KIND_UINT)
        return of_integers[part->width];
    if (part->kind == KNIT_KIND_FLOAT)
        return of_floats[part->width];
    return part->kind == KNIT_KIND_BOOL || part->kind == KNIT_KIND_TIME
               ? of_others[part->kind]
               : offsetof(struct knit_optional_any, value);
}

/* The pointers that stand for a place where arguments vary. Returns how many. */
static size_t spread(const struct knit_shape_part *part, uint8_t *place, void **ret_pointers)
{
    size_t count = 0;

    if (part->is_optional) {
        ret_pointers[count++] = place;
        place = place != NULL ? place + value_offset(part) : NULL;
    }
    if (part->kind == KNIT_KIND_NIL)
        return count;
    ret_pointers[count++] = place;
    if (!is_scalar(part) && part->kind != KNIT_KIND_TIME)
        ret_pointers[count++] = place != NULL ? place + offsetof(struct knit_any, size) : NULL;
    return count;
}

int knit_shape_decode_into(const struct knit_shape *shape, struct knit_span result,
    void *const *places, struct knit_aligned_copy **copies, struct knit_shape_flaw *ret_flaw)
{
    void *pointers[PLACES_MAX];
    struct write few[WRITES_FEW];
    struct cursor cursor = {.places = pointers, .flaw = ret_flaw, .writes = few};
    size_t count = 0;

    for (uint32_t i = 0; i < shape->result_count; i++)
        count += spread(&shape->part[shape->param_count + i], places[i], &pointers[count]);
    return decode(&cursor, shape, result, copies);
}
