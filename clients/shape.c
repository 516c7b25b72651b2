/* SPDX-License-Identifier: Apache-2.0 */
/* The signature string is interpreted as it is read, once for the arguments and once for the
 * results: it is short, and remembering a parsed form would cost a lookup that is dearer than the
 * reading. Nothing is written to a caller's pointer before its value has been checked.
 */
#include "clients/shape.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/knitting.h>

#include "proto/check.h"
#include "proto/head.h"
#include "proto/walk.h"
#include "proto/writer.h"

enum kind { NIL, BOOL, INT, UINT, FLOAT, STR, BIN, TIME, TYPED, ANY, ARRAY, MAP, EXT };

struct type {
    char name[12];
    uint8_t name_len;
    uint8_t kind;
    uint8_t code; /* of an ext; of a typed array's elements */
    uint8_t size; /* of an element */
};

static const struct type types[] = {
    {"nil", 3, NIL, 0, 0},
    {"bool", 4, BOOL, 0, 0},
    {"int", 3, INT, 0, 0},
    {"uint", 4, UINT, 0, 0},
    {"float", 5, FLOAT, 0, 0},
    {"str", 3, STR, 0, 0},
    {"bin", 3, BIN, 0, 0},
    {"time", 4, TIME, 0, 0},
    {"any", 3, ANY, 0, 0},
    {"array", 5, ARRAY, 0, 0},
    {"map", 3, MAP, 0, 0},
    {"i8[]", 4, TYPED, 1, 1},
    {"u8[]", 4, TYPED, 2, 1},
    {"u8c[]", 5, TYPED, 3, 1},
    {"i16[]", 5, TYPED, 4, 2},
    {"u16[]", 5, TYPED, 5, 2},
    {"i32[]", 5, TYPED, 6, 4},
    {"u32[]", 5, TYPED, 7, 4},
    {"f32[]", 5, TYPED, 8, 4},
    {"f64[]", 5, TYPED, 9, 8},
    {"i64[]", 5, TYPED, 10, 8},
    {"u64[]", 5, TYPED, 11, 8},
    {"undefined", 9, EXT, KNIT_EXT_UNDEFINED, 0},
    {"bigint", 6, EXT, KNIT_EXT_BIGINT, 0},
    {"set", 3, EXT, KNIT_EXT_SET, 0},
    {"pairs", 5, EXT, KNIT_EXT_PAIRS, 0},
    {"view", 4, EXT, KNIT_EXT_VIEW, 0},
    {"error", 5, EXT, KNIT_EXT_ERROR, 0},
    {"symbol", 6, EXT, KNIT_EXT_SYMBOL, 0},
    {"envelope", 8, EXT, KNIT_EXT_ENVELOPE, 0},
};

/* What the two directions carry along. */
struct cursor {
    const char *signature;
    const char *at;
    struct knit_shape_values *values;
    struct knit_shape_flaw *flaw;
    size_t index;
};

void knit_lent_free(struct knit_lent **lent)
{
    while (*lent != NULL) {
        struct knit_lent *next = (*lent)->next;

        free(*lent);
        *lent = next;
    }
}

/* ---- reading the signature ---- */

static int syntax(struct cursor *cursor, const char *reason)
{
    *cursor->flaw = (struct knit_shape_flaw){
        .offset = (size_t)(cursor->at - cursor->signature), .reason = reason};
    return KNIT_SHAPE_E_SYNTAX;
}

/* Loops instead of strspn(): its preparation costs more than these few bytes. */
static const char *behind_spaces(const char *at)
{
    while (*at == ' ' || *at == '\t' || *at == '\n')
        at++;
    return at;
}

static void skip_spaces(struct cursor *cursor)
{
    cursor->at = behind_spaces(cursor->at);
}

static inline bool accept(struct cursor *cursor, const char *token)
{
    const char *at = behind_spaces(cursor->at);

    for (; *token != '\0'; token++, at++) {
        if (*at != *token)
            return false;
    }
    cursor->at = at;
    return true;
}

static size_t word_len(const char *at)
{
    const char *end = at;

    while ((*end >= 'a' && *end <= 'z') || (*end >= '0' && *end <= '9') ||
           (*end >= 'A' && *end <= 'Z') || *end == '_' || *end == '[' || *end == ']')
        end++;
    return (size_t)(end - at);
}

static int read_type(struct cursor *cursor, const struct type **ret_type, bool *ret_optional)
{
    size_t len;

    skip_spaces(cursor);
    len = word_len(cursor->at);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].name_len != len || memcmp(types[i].name, cursor->at, len) != 0)
            continue;
        cursor->at += len;
        *ret_type = &types[i];
        *ret_optional = accept(cursor, "?");
        if (*ret_optional && types[i].kind == NIL)
            return syntax(cursor, "nil? is nil");
        if (accept(cursor, "..."))
            return syntax(cursor, "a call names each argument, without ...");
        return 0;
    }
    return syntax(cursor, len == 0 ? "a type is missing" : "unknown type");
}

/* Up to the first parameter; the name of the task may stand before the parenthesis. */
static int begin_params(struct cursor *cursor)
{
    while (*cursor->at != '(' && *cursor->at != '\0')
        cursor->at++;
    return accept(cursor, "(") ? 0 : syntax(cursor, "( is missing");
}

static void skip_param_name(struct cursor *cursor)
{
    const char *at;

    skip_spaces(cursor);
    at = behind_spaces(cursor->at + word_len(cursor->at));
    if (*at == ':')
        cursor->at = at + 1;
}

static uint32_t count_params(const char *at)
{
    uint32_t count = 1;

    at = behind_spaces(at);
    if (*at == ')')
        return 0;
    for (; *at != ')' && *at != '\0'; at++)
        count += *at == ',';
    return count;
}

/* ---- arguments ---- */

static int put_typed(
    struct knit_writer *writer, const struct type *type, const void *elements, size_t count)
{
    unsigned char *body;
    size_t len;

    if (__builtin_mul_overflow(count, type->size, &len) || len > UINT32_MAX - 2)
        return -E2BIG;
    body = malloc(len + 2);
    if (body == NULL)
        return -ENOMEM;
    body[0] = type->code;
    body[1] = 0;
    if (len > 0)
        memcpy(body + 2, elements, len);
    knit_writer_ext(writer, KNIT_EXT_TYPED, body, len + 2);
    free(body);
    return 0;
}

static void put_scalar(struct cursor *cursor, struct knit_writer *writer, enum kind kind)
{
    va_list *list = &cursor->values->list;

    switch ((int)kind) {
    case BOOL:
        knit_writer_bool(writer, va_arg(*list, int) != 0);
        break;
    case INT:
        knit_writer_int(writer, va_arg(*list, int64_t));
        break;
    case UINT:
        knit_writer_uint(writer, va_arg(*list, uint64_t));
        break;
    case FLOAT:
        knit_writer_float(writer, va_arg(*list, double));
        break;
    default:
        knit_writer_nil(writer);
    }
}

static void put_optional_scalar(struct cursor *cursor, struct knit_writer *writer, enum kind kind)
{
    const void *value = va_arg(cursor->values->list, const void *);

    if (value == NULL)
        knit_writer_nil(writer);
    else if (kind == BOOL)
        knit_writer_bool(writer, *(const bool *)value);
    else if (kind == INT)
        knit_writer_int(writer, *(const int64_t *)value);
    else if (kind == UINT)
        knit_writer_uint(writer, *(const uint64_t *)value);
    else
        knit_writer_float(writer, *(const double *)value);
}

static int put_bytes(
    struct cursor *cursor, struct knit_writer *writer, const struct type *type, bool is_optional)
{
    const void *bytes = va_arg(cursor->values->list, const void *);
    size_t len = type->kind == STR ? (bytes != NULL ? strlen(bytes) : 0)
                                   : va_arg(cursor->values->list, size_t);

    if (bytes == NULL && is_optional)
        knit_writer_nil(writer);
    else if (type->kind == STR)
        knit_writer_str(writer, bytes != NULL ? bytes : "", len);
    else if (type->kind == BIN)
        knit_writer_bin(writer, bytes, len);
    else if (type->kind == TYPED)
        return put_typed(writer, type, bytes, len);
    else
        knit_writer_raw(writer, bytes, len);
    return 0;
}

static int put_argument(struct cursor *cursor, struct knit_writer *writer)
{
    const struct type *type;
    const struct knit_time *time;
    bool is_optional;
    int r;

    skip_param_name(cursor);
    r = read_type(cursor, &type, &is_optional);
    if (r != 0)
        return r;
    if (type->kind == TIME) {
        time = va_arg(cursor->values->list, const struct knit_time *);
        if (time != NULL)
            knit_writer_time(writer, time->seconds, time->nanoseconds);
        else
            knit_writer_nil(writer);
    } else if (type->kind > FLOAT) {
        r = put_bytes(cursor, writer, type, is_optional);
    } else if (is_optional) {
        put_optional_scalar(cursor, writer, type->kind);
    } else {
        put_scalar(cursor, writer, type->kind);
    }
    if (r == 0 && writer->error != 0 && writer->error != KNIT_WRITER_E_FULL && writer->error > 0) {
        *cursor->flaw = (struct knit_shape_flaw){
            .index = cursor->index, .reason = knit_writer_reason(writer->error)};
        return KNIT_SHAPE_E_VALUE;
    }
    return r;
}

int knit_shape_encode(const char *signature, struct knit_shape_values *values,
    struct knit_buffer *buffer, struct knit_shape_flaw *ret_flaw)
{
    struct cursor cursor = {
        .signature = signature, .at = signature, .values = values, .flaw = ret_flaw};
    struct knit_writer writer;
    uint32_t count;
    int r = begin_params(&cursor);

    if (r != 0)
        return r;
    count = count_params(cursor.at);
    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, count);
    for (; cursor.index < count && r == 0; cursor.index++) {
        if (cursor.index > 0 && !accept(&cursor, ","))
            r = syntax(&cursor, ", or ) is missing");
        else
            r = put_argument(&cursor, &writer);
    }
    if (r == 0 && !accept(&cursor, ")"))
        r = syntax(&cursor, ") is missing");
    if (r != 0) {
        (void)knit_writer_end(&writer);
        return r;
    }
    r = knit_writer_end(&writer);
    return r > 0 ? -E2BIG : r;
}

/* ---- results ---- */

static int differs(struct cursor *cursor, const struct type *type, const struct knit_head *head)
{
    *cursor->flaw = (struct knit_shape_flaw){
        .index = cursor->index, .expected = type->name, .actual = knit_head_name(head)};
    return KNIT_SHAPE_E_VALUE;
}

static int take_scalar(struct cursor *cursor, const struct type *type, const struct knit_head *head)
{
    void *to = va_arg(cursor->values->list, void *);
    union {
        int64_t i;
        uint64_t u;
        double f;
    } value;
    bool fits = type->kind == BOOL   ? head->type == KNIT_HEAD_BOOL
                : type->kind == INT  ? knit_head_as_int(head, &value.i)
                : type->kind == UINT ? knit_head_as_uint(head, &value.u)
                                     : knit_head_as_float(head, &value.f);

    if (!fits)
        return differs(cursor, type, head);
    if (to == NULL)
        return 0;
    if (type->kind == BOOL)
        *(bool *)to = head->value != 0;
    else
        memcpy(to, &value, sizeof(value));
    return 0;
}

static int take_time(struct cursor *cursor, const struct type *type, const struct knit_item *item)
{
    struct knit_time *to = va_arg(cursor->values->list, struct knit_time *), time;

    if (item->head.type != KNIT_HEAD_EXT || item->head.ext != KNIT_EXT_TIME ||
        !knit_check_time(item->body.bytes, item->body.len, &time.seconds, &time.nanoseconds))
        return differs(cursor, type, &item->head);
    if (to != NULL)
        *to = time;
    return 0;
}

static int align(struct knit_span *elements, size_t size, struct knit_lent **lent)
{
    static const max_align_t nothing;
    struct knit_lent *copy;

    if ((uintptr_t)elements->bytes % size == 0)
        return 0;
    if (elements->len == 0) {
        elements->bytes = (const uint8_t *)&nothing;
        return 0;
    }
    copy = malloc(sizeof(*copy) + elements->len);
    if (copy == NULL)
        return -ENOMEM;
    memcpy(copy->bytes, elements->bytes, elements->len);
    copy->next = *lent;
    *lent = copy;
    elements->bytes = copy->bytes;
    return 0;
}

/* The run of bytes a result of this type is handed out as. */
static int find_bytes(struct cursor *cursor, const struct type *type, const struct knit_item *item,
    struct knit_span *ret_bytes)
{
    uint8_t code, size;

    if (type->kind == STR || type->kind == BIN) {
        if (item->head.type != (type->kind == STR ? KNIT_HEAD_STR : KNIT_HEAD_BIN))
            return differs(cursor, type, &item->head);
        *ret_bytes = item->body;
        return 0;
    }
    if (type->kind == TYPED) {
        if (item->head.type != KNIT_HEAD_EXT || item->head.ext != KNIT_EXT_TYPED ||
            !knit_check_typed(item->body.bytes, item->body.len, &code, &size, ret_bytes) ||
            code != type->code)
            return differs(cursor, type, &item->head);
        return 0;
    }
    if ((type->kind == ARRAY && item->head.type != KNIT_HEAD_ARRAY) ||
        (type->kind == MAP && item->head.type != KNIT_HEAD_MAP) ||
        (type->kind == EXT && (item->head.type != KNIT_HEAD_EXT || item->head.ext != type->code)))
        return differs(cursor, type, &item->head);
    *ret_bytes = item->raw;
    return 0;
}

static int take_bytes(struct cursor *cursor, const struct type *type, const struct knit_item *item,
    struct knit_lent **lent)
{
    const void **to = va_arg(cursor->values->list, const void **);
    size_t *to_len = va_arg(cursor->values->list, size_t *);
    struct knit_span bytes;
    int r = find_bytes(cursor, type, item, &bytes);

    if (r == 0 && type->kind == TYPED && to != NULL)
        r = align(&bytes, type->size, lent);
    if (r != 0)
        return r;
    if (to != NULL)
        *to = bytes.bytes;
    if (to_len != NULL)
        *to_len = type->kind == TYPED ? bytes.len / type->size : bytes.len;
    return 0;
}

/* A nil where the type is optional: its pointers are passed over. */
static void skip_pointers(struct cursor *cursor, const struct type *type)
{
    (void)va_arg(cursor->values->list, void *);
    if (type->kind > FLOAT && type->kind != TIME)
        (void)va_arg(cursor->values->list, void *);
}

static int take_result(struct cursor *cursor, const struct knit_item *item, struct knit_lent **lent)
{
    const struct type *type;
    bool is_optional;
    int r = read_type(cursor, &type, &is_optional);

    if (r != 0)
        return r;
    if (is_optional) {
        bool *to_present = va_arg(cursor->values->list, bool *);
        bool is_present = item->head.type != KNIT_HEAD_NIL;

        if (to_present != NULL)
            *to_present = is_present;
        if (!is_present) {
            skip_pointers(cursor, type);
            return 0;
        }
    }
    if (type->kind == NIL)
        return item->head.type == KNIT_HEAD_NIL ? 0 : differs(cursor, type, &item->head);
    if (type->kind == TIME)
        return take_time(cursor, type, item);
    if (type->kind <= FLOAT)
        return take_scalar(cursor, type, &item->head);
    return take_bytes(cursor, type, item, lent);
}

static int take_several(
    struct cursor *cursor, const struct knit_item *item, struct knit_lent **lent)
{
    static const struct type tuple = {.name = "array", .name_len = 5};
    struct knit_walk walk;
    struct knit_item part;
    int r;

    if (item->head.type != KNIT_HEAD_ARRAY || knit_walk_array(&walk, item->raw) != 0)
        return differs(cursor, &tuple, &item->head);
    for (;; cursor->index++) {
        if (knit_walk_next(&walk, &part) != 0) {
            *cursor->flaw = (struct knit_shape_flaw){
                .index = cursor->index, .reason = "there are fewer results"};
            return KNIT_SHAPE_E_VALUE;
        }
        r = take_result(cursor, &part, lent);
        if (r != 0)
            return r;
        if (accept(cursor, ")"))
            break;
        if (!accept(cursor, ","))
            return syntax(cursor, ", or ) is missing");
    }
    if (knit_walk_next(&walk, &part) == KNIT_WALK_E_END)
        return 0;
    *cursor->flaw =
        (struct knit_shape_flaw){.index = cursor->index + 1, .reason = "there are more results"};
    return KNIT_SHAPE_E_VALUE;
}

int knit_shape_decode(const char *signature, struct knit_span result,
    struct knit_shape_values *values, struct knit_lent **lent, struct knit_shape_flaw *ret_flaw)
{
    struct cursor cursor = {
        .signature = signature, .at = signature, .values = values, .flaw = ret_flaw};
    struct knit_check_flaw check;
    struct knit_item item = {.raw = result};
    int r;

    while (*cursor.at != ')' && *cursor.at != '\0')
        cursor.at++;
    if (!accept(&cursor, ")"))
        return syntax(&cursor, ") is missing");
    if (knit_check_value(result.bytes, result.len, KNIT_DEPTH_MAX, &check) != 0 ||
        knit_head_read(result.bytes, result.len, &item.head) != 0) {
        *ret_flaw = (struct knit_shape_flaw){.reason = "it is no value of the protocol"};
        return KNIT_SHAPE_E_VALUE;
    }
    if (knit_head_has_body(&item.head))
        item.body = knit_span(result.bytes + item.head.size, result.len - item.head.size);

    if (!accept(&cursor, "->"))
        r = 0;
    else if (accept(&cursor, "("))
        r = take_several(&cursor, &item, lent);
    else
        r = take_result(&cursor, &item, lent);
    if (r != 0)
        return r;
    skip_spaces(&cursor);
    return *cursor.at == '\0' ? 0 : syntax(&cursor, "nothing more may stand here");
}
