/* SPDX-License-Identifier: Apache-2.0 */
/* Each argument says what it is, so none is taken for something else: what does not fit its
 * parameter is found here, and named with the number that does not. Of a value that comes as
 * msgpack the worker sees whether it is of the right type, as with knit_start_raw().
 */
#include "clients/lib/args.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>

#include "proto/pack.h"
#include "proto/writer.h"

static bool fits_integer(const struct knit_shape_part *part, const struct knit_arg *arg)
{
    const unsigned shift = 64 - 8 * part->width;
    const bool is_below_0 = arg->type == KNIT_ARG_INT && arg->value.i < 0;

    if (part->kind == KNIT_KIND_UINT)
        return !is_below_0 && arg->value.u <= UINT64_MAX >> shift;
    return is_below_0 ? arg->value.i >= -(INT64_MAX >> shift) - 1
                      : arg->value.u <= (uint64_t)(INT64_MAX >> shift);
}

/* The number that goes on the wire, as the packer of the part's kind takes it. */
static bool find_scalar(
    const struct knit_shape_part *part, const struct knit_arg *arg, uint64_t *ret_bits)
{
    const bool is_integer = arg->type == KNIT_ARG_INT || arg->type == KNIT_ARG_UINT;
    double real = arg->value.f;
    float narrow;
    uint64_t bits;

    if (part->kind == KNIT_KIND_BOOL && is_integer && arg->value.u > 1)
        return false;
    if (part->kind == KNIT_KIND_BOOL) {
        *ret_bits = is_integer ? arg->value.u : arg->value.b;
        return is_integer || arg->type == KNIT_ARG_BOOL;
    }
    if (part->kind != KNIT_KIND_FLOAT) {
        *ret_bits = arg->value.u;
        return is_integer && fits_integer(part, arg);
    }
    if (arg->type == KNIT_ARG_INT) {
        real = (double)arg->value.i;
        if (real >= 0x1p63 || (int64_t)real != arg->value.i)
            return false;
    } else if (arg->type == KNIT_ARG_UINT) {
        real = (double)arg->value.u;
        if (real >= 0x1p64 || (uint64_t)real != arg->value.u)
            return false;
    } else if (arg->type != KNIT_ARG_FLOAT) {
        return false;
    }
    memcpy(&bits, &real, sizeof(bits));
    if (part->width == sizeof(narrow)) {
        if (!knit_shape_narrow(part, bits, &narrow))
            return false;
        real = (double)narrow;
        memcpy(&bits, &real, sizeof(bits));
    }
    *ret_bits = bits;
    return true;
}

uint8_t *knit_args_put_short(
    uint8_t *at, const uint8_t *end, const struct knit_shape_part *part, const struct knit_arg *arg)
{
    const bool is_str = part->kind == KNIT_KIND_STR;
    uint64_t bits;

    if (arg->type == KNIT_ARG_NONE) {
        *at = KNIT_PACK_NIL;
        return part->is_optional || part->kind == KNIT_KIND_NIL ? at + 1 : NULL;
    }
    if (part->kind <= KNIT_KIND_FLOAT)
        return part->kind != KNIT_KIND_NIL && find_scalar(part, arg, &bits)
                   ? at + knit_pack_scalars[part->kind](at, bits)
                   : NULL;
    /* A head of two bytes, and a body. */
    if (arg->type != part->kind || arg->size > (size_t)(end - at) - KNIT_PACK_SHORT_MAX ||
        (is_str && !knit_text_is_utf8(arg->value.at, arg->size)))
        return NULL;
    at += is_str ? knit_pack_str(at, arg->size) : knit_pack_bin(at, arg->size);
    if (arg->size > 0)
        memcpy(at, arg->value.at, arg->size);
    return at + arg->size;
}

/* ---- all of them ---- */

/* The element code of an array; 0: it is none. */
static unsigned code_of(const struct knit_arg *arg)
{
    const uint32_t code = arg->type - (KNIT_ARG_i8s - 1);

    return arg->type >= KNIT_ARG_i8s && code < KNIT_ELEMENT_CODES ? code : 0;
}

static const char *name_of(const struct knit_arg *arg)
{
    static const char *const names[] = {[KNIT_ARG_NONE] = "nil",
        [KNIT_ARG_BOOL] = "bool",
        [KNIT_ARG_INT] = "int",
        [KNIT_ARG_UINT] = "uint",
        [KNIT_ARG_FLOAT] = "float",
        [KNIT_ARG_STR] = "str",
        [KNIT_ARG_BIN] = "bin",
        [KNIT_ARG_TIME] = "time",
        [KNIT_ARG_VALUE] = "a msgpack value",
        [KNIT_ARG_HANDLE] = "a handle"};

    if (arg->type < sizeof(names) / sizeof(names[0]))
        return names[arg->type];
    return code_of(arg) != 0 ? knit_types_element_name(code_of(arg)) : "no type of an argument";
}

static int refuse(const struct knit_shape_part *part, const struct knit_arg *arg,
    struct knit_shape_flaw *ret_flaw)
{
    const bool is_number =
        arg->type == KNIT_ARG_INT || arg->type == KNIT_ARG_UINT || arg->type == KNIT_ARG_FLOAT;
    struct knit_shape_flaw flaw = {.expected = part->name, .actual = name_of(arg)};

    if (part->kind <= KNIT_KIND_FLOAT && part->kind != KNIT_KIND_NIL && is_number &&
        (arg->type != KNIT_ARG_FLOAT || part->kind == KNIT_KIND_FLOAT)) {
        flaw.expected = knit_shape_range(part);
        flaw.actual = NULL;
        if (arg->type == KNIT_ARG_INT)
            (void)snprintf(flaw.number, sizeof(flaw.number), "%" PRId64, arg->value.i);
        else if (arg->type == KNIT_ARG_UINT)
            (void)snprintf(flaw.number, sizeof(flaw.number), "%" PRIu64, arg->value.u);
        else
            (void)snprintf(flaw.number, sizeof(flaw.number), "%g", arg->value.f);
    }
    *ret_flaw = flaw;
    return KNIT_SHAPE_E_VALUE;
}

/* As what it says it is. Returns 0, KNIT_SHAPE_E_VALUE (it says nothing). */
static int put_as_it_is(struct knit_writer *writer, const struct knit_arg *arg)
{
    const unsigned code = code_of(arg);

    switch (arg->type) {
    case KNIT_ARG_NONE:
    case KNIT_ARG_INT:
    case KNIT_ARG_UINT:
    case KNIT_ARG_FLOAT:
        knit_writer_head(writer, knit_pack_scalars[arg->type], arg->value.u);
        return 0;
    case KNIT_ARG_BOOL:
        knit_writer_bool(writer, arg->value.b);
        return 0;
    case KNIT_ARG_STR:
        knit_writer_str(writer, arg->value.at != NULL ? arg->value.at : "", arg->size);
        return 0;
    case KNIT_ARG_BIN:
        knit_writer_bin(writer, arg->value.at, arg->size);
        return 0;
    case KNIT_ARG_TIME:
        knit_writer_time(writer, arg->value.i, (uint32_t)arg->size);
        return 0;
    case KNIT_ARG_VALUE:
        knit_writer_raw(writer, arg->value.at, arg->size);
        return 0;
    default:
        if (code == 0)
            return KNIT_SHAPE_E_VALUE;
        knit_writer_typed(writer, code, arg->value.at, arg->size);
        return 0;
    }
}

/* Whether it may stand for a parameter that is no number. */
static bool fits(const struct knit_shape_part *part, const struct knit_arg *arg)
{
    switch (part->kind) {
    case KNIT_KIND_ANY:
        return true;
    case KNIT_KIND_STR:
    case KNIT_KIND_BIN:
    case KNIT_KIND_TIME:
        return arg->type == part->kind;
    case KNIT_KIND_TYPED:
        return code_of(arg) != 0 && code_of(arg) == (unsigned char)part->code;
    case KNIT_KIND_EXT:
        return arg->type == KNIT_ARG_VALUE || (part->code == KNIT_EXT_TYPED && code_of(arg) != 0);
    default:
        return arg->type == KNIT_ARG_VALUE;
    }
}

static int put_argument(struct knit_writer *writer, const struct knit_shape_part *part,
    const struct knit_arg *arg, struct knit_shape_flaw *ret_flaw)
{
    uint64_t bits;
    int r;

    if (arg->type == KNIT_ARG_HANDLE ||
        (arg->type == KNIT_ARG_NONE &&
            (part->is_optional || part->kind == KNIT_KIND_NIL || part->kind == KNIT_KIND_ANY))) {
        knit_writer_nil(writer);
        return 0;
    }
    if (part->kind <= KNIT_KIND_FLOAT) {
        if (part->kind == KNIT_KIND_NIL || !find_scalar(part, arg, &bits))
            return refuse(part, arg, ret_flaw);
        knit_writer_head(writer, knit_pack_scalars[part->kind], bits);
        return 0;
    }
    r = fits(part, arg) ? put_as_it_is(writer, arg) : KNIT_SHAPE_E_VALUE;
    if (r == KNIT_SHAPE_E_VALUE)
        return refuse(part, arg, ret_flaw);
    if (writer->error > 0 && writer->error != KNIT_WRITER_E_FULL) {
        *ret_flaw = (struct knit_shape_flaw){.reason = knit_writer_reason(writer->error),
            .is_too_deep = writer->error == KNIT_WRITER_E_TOO_DEEP};
        return KNIT_SHAPE_E_VALUE;
    }
    return 0;
}

/* How many arguments are sent. */
static int count_given(const struct knit_shape *shape, const struct knit_arg *args, size_t count,
    uint32_t *ret_given, struct knit_shape_flaw *ret_flaw)
{
    uint32_t given = shape->param_count;

    if (count > shape->param_count) {
        *ret_flaw = (struct knit_shape_flaw){
            .index = shape->param_count, .reason = "there are more arguments than parameters"};
        return KNIT_SHAPE_E_VALUE;
    }
    while (given > 0 && shape->part[given - 1].is_optional &&
           (given > count || args[given - 1].type == KNIT_ARG_NONE))
        given--;
    *ret_given = given;
    if (given <= count)
        return 0;
    *ret_flaw = (struct knit_shape_flaw){.index = count, .reason = "it is missing"};
    return KNIT_SHAPE_E_VALUE;
}

int knit_args_encode(const struct knit_shape *shape, const struct knit_arg *args, size_t count,
    struct knit_buffer *buffer, struct knit_shape_flaw *ret_flaw)
{
    struct knit_writer writer;
    uint32_t given = 0;
    int error, r = count_given(shape, args, count, &given, ret_flaw);

    if (r != 0)
        return r;
    knit_writer_init(&writer, buffer);
    knit_writer_array(&writer, given);
    for (uint32_t i = 0; i < given && r == 0; i++) {
        r = put_argument(&writer, &shape->part[i], &args[i], ret_flaw);
        if (r == KNIT_SHAPE_E_VALUE)
            ret_flaw->index = i;
    }
    error = knit_writer_end(&writer);
    if (r != 0)
        return r;
    return error > 0 ? -E2BIG : error;
}
