/* SPDX-License-Identifier: Apache-2.0 */
/* Shapes stand in a table by the address of the string they were parsed from, since most
 * signatures are literals of the caller's program. The address only says where to look: what
 * decides is the text, which a caller may have changed in place. So a signature that was seen
 * before costs one comparison, and one that was not is parsed, as a whole, before anything is sent.
 *
 * Nothing is written to a caller's pointers before every result has been checked. Results may lie
 * in shared memory, where a second look could see something else: so there is one look, which
 * notes what is to be written, and then all of it is written.
 */
#include "clients/lib/shape.h"

#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include <knitting/knitting.h>

#include "proto/check.h"
#include "proto/head.h"
#include "proto/pack.h"
#include "proto/walk.h"
#include "proto/writer.h"

enum kind { NIL, BOOL, INT, UINT, FLOAT, STR, BIN, TIME, TYPED, ANY, ARRAY, MAP, EXT };

struct type {
    char name[12];
    uint8_t name_len;
    uint8_t kind;
    uint8_t code; /* of an ext, all of ours are above 0; of a typed array's elements */
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

/* A parameter or a result. */
struct part {
    const struct type *type;
    bool is_optional;
};

struct knit_shape {
    uint32_t param_count, result_count;
    bool is_plain;   /* the parameters are numbers and the like, none of them optional */
    bool is_several; /* results in parentheses: they come as one array */
    const char *text;
    struct part part[]; /* parameters, then results; then the text */
};

/* Where the parser is. */
struct parser {
    const char *signature;
    const char *at;
    struct knit_shape_flaw *flaw;
};

/* To a caller's pointer, once all results are known to be right. */
struct write {
    void *to;
    size_t size;
    unsigned char bytes[16];
};

enum {
    WRITES_PER_RESULT = 3, /* presence, address, size */
    WRITES_FEW = 12,       /* which need no memory of their own */
};

/* What the two directions carry along. */
struct cursor {
    struct knit_shape_values *values;
    struct knit_shape_flaw *flaw;
    size_t index;
    struct write *writes; /* of results */
    size_t writes_count;
};

void knit_lent_free(struct knit_lent **lent)
{
    while (*lent != NULL) {
        struct knit_lent *next = (*lent)->next;

        free(*lent);
        *lent = next;
    }
}

/* ---- parsing ---- */

static int syntax(struct parser *parser, const char *reason)
{
    *parser->flaw = (struct knit_shape_flaw){
        .offset = (size_t)(parser->at - parser->signature), .reason = reason};
    return KNIT_SHAPE_E_SYNTAX;
}

static void skip_spaces(struct parser *parser)
{
    parser->at += strspn(parser->at, " \t\n");
}

static bool accept(struct parser *parser, const char *token)
{
    size_t len = strlen(token);

    skip_spaces(parser);
    if (strncmp(parser->at, token, len) != 0)
        return false;
    parser->at += len;
    return true;
}

static size_t word_len(const char *at)
{
    return strspn(at, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_[]");
}

static int parse_type(struct parser *parser, struct part *ret_part)
{
    size_t len;

    skip_spaces(parser);
    len = word_len(parser->at);
    for (size_t i = 0; i < sizeof(types) / sizeof(types[0]); i++) {
        if (types[i].name_len != len || memcmp(types[i].name, parser->at, len) != 0)
            continue;
        parser->at += len;
        ret_part->type = &types[i];
        ret_part->is_optional = accept(parser, "?");
        if (ret_part->is_optional && types[i].kind == NIL)
            return syntax(parser, "nil? is nil");
        if (accept(parser, "..."))
            return syntax(parser, "a call names each argument, without ...");
        return 0;
    }
    return syntax(parser, len == 0 ? "a type is missing" : "unknown type");
}

static void skip_param_name(struct parser *parser)
{
    const char *start;

    skip_spaces(parser);
    start = parser->at;
    parser->at += word_len(start);
    if (!accept(parser, ":"))
        parser->at = start;
}

/* `part` has room for whatever the signature may name. */
static int parse_params(struct parser *parser, struct part *part, uint32_t *ret_count)
{
    uint32_t count = 0;

    /* The name of the task may stand before the parenthesis. */
    parser->at += strcspn(parser->at, "(");
    if (!accept(parser, "("))
        return syntax(parser, "( is missing");
    while (count > 0 || !accept(parser, ")")) {
        int r;

        skip_param_name(parser);
        r = parse_type(parser, &part[count]);
        if (r != 0)
            return r;
        count++;
        if (accept(parser, ")"))
            break;
        if (!accept(parser, ","))
            return syntax(parser, ", or ) is missing");
    }
    *ret_count = count;
    return 0;
}

static int parse_results(struct parser *parser, struct part *part, struct knit_shape *shape)
{
    uint32_t count = 0;
    int r;

    shape->is_several = accept(parser, "(");
    do {
        r = parse_type(parser, &part[count]);
        if (r != 0)
            return r;
        count++;
    } while (shape->is_several && accept(parser, ","));
    if (shape->is_several && !accept(parser, ")"))
        return syntax(parser, ", or ) is missing");
    shape->result_count = count;
    return 0;
}

static int parse(struct parser *parser, struct knit_shape *shape)
{
    int r = parse_params(parser, shape->part, &shape->param_count);

    shape->is_plain = true;
    for (uint32_t i = 0; r == 0 && i < shape->param_count; i++) {
        if (shape->part[i].type->kind > FLOAT || shape->part[i].is_optional)
            shape->is_plain = false;
    }
    if (r == 0 && accept(parser, "->"))
        r = parse_results(parser, shape->part + shape->param_count, shape);
    if (r != 0)
        return r;
    skip_spaces(parser);
    return *parser->at == '\0' ? 0 : syntax(parser, "nothing more may stand here");
}

static int make(
    const char *signature, struct knit_shape **ret_shape, struct knit_shape_flaw *ret_flaw)
{
    struct parser parser = {.signature = signature, .at = signature, .flaw = ret_flaw};
    size_t len = strlen(signature), parts = 2;
    struct knit_shape *shape;
    int r;

    for (const char *at = signature; *at != '\0'; at++)
        parts += *at == ',';
    shape = calloc(1, sizeof(*shape) + parts * sizeof(shape->part[0]) + len + 1);
    if (shape == NULL)
        return -ENOMEM;
    shape->text = memcpy(&shape->part[parts], signature, len + 1);
    r = parse(&parser, shape);
    if (r == 0)
        *ret_shape = shape;
    else
        free(shape);
    return r;
}

/* ---- keeping shapes ---- */

/* Fibonacci hashing: literals lie close together. */
static struct knit_shape **place_of(struct knit_shapes *shapes, const char *signature)
{
    uint64_t hash = (uint64_t)(uintptr_t)signature * 0x9e3779b97f4a7c15u;

    return &shapes->place[hash >> 32 & (KNIT_SHAPES - 1)];
}

/* Not inlined: who finds a shape would pay for the frame. */
static __attribute__((noinline)) int replace(struct knit_shapes *shapes, const char *signature,
    const struct knit_shape **ret_shape, struct knit_shape_flaw *ret_flaw)
{
    struct knit_shape **place = place_of(shapes, signature), *shape;
    int r = make(signature, &shape, ret_flaw);

    if (r != 0)
        return r;
    if (*place != NULL)
        shapes->replaced++;
    free(*place);
    *ret_shape = *place = shape;
    return 0;
}

int knit_shapes_find(struct knit_shapes *shapes, const char *signature,
    const struct knit_shape **ret_shape, struct knit_shape_flaw *ret_flaw)
{
    struct knit_shape *shape = *place_of(shapes, signature);

    if (shape == NULL || strcmp(shape->text, signature) != 0)
        return replace(shapes, signature, ret_shape, ret_flaw);
    *ret_shape = shape;
    return 0;
}

void knit_shapes_fini(struct knit_shapes *shapes)
{
    for (size_t i = 0; i < KNIT_SHAPES; i++)
        free(shapes->place[i]);
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

static knit_pack *const packers[] = {
    [NIL] = knit_pack_nil,
    [BOOL] = knit_pack_bool,
    [INT] = knit_pack_int,
    [UINT] = knit_pack_uint,
    [FLOAT] = knit_pack_float,
};

/* The next argument, as the packer of its kind takes it. */
static inline uint64_t next_scalar(struct knit_shape_values *values, unsigned kind)
{
    uint64_t bits;
    double number;

    if (kind == NIL)
        return 0;
    if (kind == BOOL)
        return va_arg(values->list, int) != 0;
    if (kind != FLOAT)
        return va_arg(values->list, uint64_t);
    number = va_arg(values->list, double);
    memcpy(&bits, &number, sizeof(bits));
    return bits;
}

static void put_optional_scalar(struct cursor *cursor, struct knit_writer *writer, unsigned kind)
{
    const void *value = va_arg(cursor->values->list, const void *);
    uint64_t bits;

    if (value == NULL) {
        knit_writer_nil(writer);
    } else if (kind == BOOL) {
        knit_writer_bool(writer, *(const bool *)value);
    } else {
        memcpy(&bits, value, sizeof(bits));
        knit_writer_head(writer, packers[kind], bits);
    }
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

static int put_argument(struct cursor *cursor, struct knit_writer *writer, const struct part *part)
{
    const struct type *type = part->type;
    const struct knit_time *time;
    int r = 0;

    if (type->kind <= FLOAT && !part->is_optional) {
        knit_writer_head(writer, packers[type->kind], next_scalar(cursor->values, type->kind));
    } else if (type->kind <= FLOAT) {
        put_optional_scalar(cursor, writer, type->kind);
    } else if (type->kind != TIME) {
        r = put_bytes(cursor, writer, type, part->is_optional);
    } else {
        time = va_arg(cursor->values->list, const struct knit_time *);
        if (time != NULL)
            knit_writer_time(writer, time->seconds, time->nanoseconds);
        else
            knit_writer_nil(writer);
    }
    if (r == 0 && writer->error > 0 && writer->error != KNIT_WRITER_E_FULL) {
        *cursor->flaw = (struct knit_shape_flaw){
            .index = cursor->index, .reason = knit_writer_reason(writer->error)};
        return KNIT_SHAPE_E_VALUE;
    }
    return r;
}

static int encode_any(const struct knit_shape *shape, struct knit_shape_values *values,
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

/* Heads alone, of which none can be wrong: one look at the room is enough. */
int knit_shape_encode(const struct knit_shape *shape, struct knit_shape_values *values,
    struct knit_buffer *buffer, struct knit_shape_flaw *ret_flaw)
{
    const uint32_t count = shape->param_count;
    uint8_t *start, *at;

    if (!shape->is_plain)
        return encode_any(shape, values, buffer, ret_flaw);
    start = knit_buffer_reserve(buffer, (1 + (size_t)count) * KNIT_HEAD_BYTES_MAX);
    if (start == NULL)
        return buffer->error > 0 ? -E2BIG : buffer->error;
    at = start + knit_pack_array(start, count);
    for (uint32_t i = 0; i < count; i++) {
        unsigned kind = shape->part[i].type->kind;

        at += packers[kind](at, next_scalar(values, kind));
    }
    buffer->len += (size_t)(at - start);
    return 0;
}

/* ---- results ---- */

static int differs(struct cursor *cursor, const struct type *type, const struct knit_head *head)
{
    *cursor->flaw = (struct knit_shape_flaw){
        .index = cursor->index, .expected = type->name, .actual = knit_head_name(head)};
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

static int take_scalar(struct cursor *cursor, const struct type *type, const struct knit_head *head)
{
    void *to = va_arg(cursor->values->list, void *);
    union {
        int64_t i;
        uint64_t u;
        double f;
        bool b;
    } value;
    bool fits = type->kind == BOOL   ? head->type == KNIT_HEAD_BOOL
                : type->kind == INT  ? knit_head_as_int(head, &value.i)
                : type->kind == UINT ? knit_head_as_uint(head, &value.u)
                                     : knit_head_as_float(head, &value.f);

    if (!fits)
        return differs(cursor, type, head);
    if (type->kind == BOOL)
        value.b = head->value != 0;
    write_later(cursor, to, &value, type->kind == BOOL ? sizeof(bool) : sizeof(value));
    return 0;
}

static int take_time(struct cursor *cursor, const struct type *type, const struct knit_item *item)
{
    struct knit_time *to = va_arg(cursor->values->list, struct knit_time *), time;

    if (item->head.type != KNIT_HEAD_EXT || item->head.ext != KNIT_EXT_TIME ||
        !knit_check_time(item->body.bytes, item->body.len, &time.seconds, &time.nanoseconds))
        return differs(cursor, type, &item->head);
    write_later(cursor, to, &time, sizeof(time));
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
        (type->kind == EXT &&
            (item->head.type != KNIT_HEAD_EXT || item->head.ext != (int)type->code)))
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
    size_t len;
    int r = find_bytes(cursor, type, item, &bytes);

    if (r == 0 && type->kind == TYPED && to != NULL)
        r = align(&bytes, type->size, lent);
    if (r != 0)
        return r;
    len = type->kind == TYPED ? bytes.len / type->size : bytes.len;
    write_later(cursor, to, &bytes.bytes, sizeof(bytes.bytes));
    write_later(cursor, to_len, &len, sizeof(len));
    return 0;
}

/* A nil where the type is optional: its pointers are passed over. */
static void skip_pointers(struct cursor *cursor, const struct type *type)
{
    (void)va_arg(cursor->values->list, void *);
    if (type->kind > FLOAT && type->kind != TIME)
        (void)va_arg(cursor->values->list, void *);
}

static int take_result(struct cursor *cursor, const struct part *part, const struct knit_item *item,
    struct knit_lent **lent)
{
    const struct type *type = part->type;

    if (part->is_optional) {
        bool *to_present = va_arg(cursor->values->list, bool *);
        bool is_present = item->head.type != KNIT_HEAD_NIL;

        write_later(cursor, to_present, &is_present, sizeof(is_present));
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

static int take_several(struct cursor *cursor, const struct knit_shape *shape,
    const struct knit_item *item, struct knit_lent **lent)
{
    static const struct type tuple = {.name = "array", .name_len = 5};
    const struct part *results = &shape->part[shape->param_count];
    struct knit_walk walk;
    struct knit_item part;
    int r;

    if (item->head.type != KNIT_HEAD_ARRAY || knit_walk_array(&walk, item->raw) != 0)
        return differs(cursor, &tuple, &item->head);
    for (; cursor->index < shape->result_count; cursor->index++) {
        if (knit_walk_next(&walk, &part) != 0) {
            *cursor->flaw = (struct knit_shape_flaw){
                .index = cursor->index, .reason = "there are fewer results"};
            return KNIT_SHAPE_E_VALUE;
        }
        r = take_result(cursor, &results[cursor->index], &part, lent);
        if (r != 0)
            return r;
    }
    if (knit_walk_next(&walk, &part) == KNIT_WALK_E_END)
        return 0;
    *cursor->flaw =
        (struct knit_shape_flaw){.index = cursor->index, .reason = "there are more results"};
    return KNIT_SHAPE_E_VALUE;
}

/* One well-formed value, taken apart. A number that is all there is needs no further look. */
static bool read_item(struct knit_span result, struct knit_item *ret_item)
{
    struct knit_check_flaw flaw;
    struct knit_head head;

    if (knit_head_read(result.bytes, result.len, &head) != 0)
        return false;
    if ((head.type >= KNIT_HEAD_STR || head.size != result.len) &&
        knit_check_value(result.bytes, result.len, KNIT_DEPTH_MAX, &flaw) != 0)
        return false;
    *ret_item = (struct knit_item){.raw = result, .head = head};
    if (knit_head_has_body(&head))
        ret_item->body = knit_span(result.bytes + head.size, result.len - head.size);
    return true;
}

int knit_shape_decode(const struct knit_shape *shape, struct knit_span result,
    struct knit_shape_values *values, struct knit_lent **lent, struct knit_shape_flaw *ret_flaw)
{
    struct write few[WRITES_FEW], *many = NULL;
    struct cursor cursor = {.values = values, .flaw = ret_flaw, .writes = few};
    struct knit_item item;
    int r = 0;

    if (!read_item(result, &item)) {
        *ret_flaw = (struct knit_shape_flaw){.reason = "it is no value of the protocol"};
        return KNIT_SHAPE_E_VALUE;
    }
    if (shape->result_count > WRITES_FEW / WRITES_PER_RESULT) {
        cursor.writes = many = calloc(shape->result_count, WRITES_PER_RESULT * sizeof(*many));
        if (many == NULL)
            return -ENOMEM;
    }
    if (shape->is_several)
        r = take_several(&cursor, shape, &item, lent);
    else if (shape->result_count > 0)
        r = take_result(&cursor, &shape->part[shape->param_count], &item, lent);
    for (size_t i = 0; r == 0 && i < cursor.writes_count; i++)
        memcpy(cursor.writes[i].to, cursor.writes[i].bytes, cursor.writes[i].size);
    free(many);
    return r;
}
