/* SPDX-License-Identifier: Apache-2.0 */
/* A put is a byte that says which, one for a count or a length, and eight for a number where it
 * takes one; bodies are the bytes that follow.
 */
#include "tests/clients/builder_program.h"

#include <string.h>

struct program {
    const uint8_t *at, *end;
};

static unsigned next_byte(struct program *program)
{
    return program->at < program->end ? *program->at++ : 0;
}

static uint64_t next_number(struct program *program)
{
    uint64_t number = 0;
    size_t left = (size_t)(program->end - program->at);
    size_t len = left < sizeof(number) ? left : sizeof(number);

    memcpy(&number, program->at, len);
    program->at += len;
    return number;
}

/* At most as many bytes as there are. */
static const uint8_t *next_body(struct program *program, size_t *ret_len)
{
    size_t left = (size_t)(program->end - program->at);
    const uint8_t *body = program->at;
    size_t wanted = next_byte(program);

    /* The byte of the length is the first of the body, so that there always is one. */
    *ret_len = wanted < left ? wanted : left;
    program->at = body + *ret_len + (left > *ret_len);
    return body;
}

static void put_number(struct knit_builder *builder, struct program *program, unsigned which)
{
    uint64_t number = next_number(program) >> (next_byte(program) & 63);
    double value;

    memcpy(&value, &number, sizeof(value));
    switch (which) {
    case 0:
        knit_put_int(builder, (int64_t)number);
        break;
    case 1:
        knit_put_int(builder, -(int64_t)(number >> 1));
        break;
    case 2:
        knit_put_uint(builder, number);
        break;
    case 3:
        knit_put_float(builder, value);
        break;
    default:
        knit_put_time(builder, (int64_t)number, (uint32_t)next_number(program) >> 2);
    }
}

static void put_body(struct knit_builder *builder, struct program *program, unsigned which)
{
    const unsigned element = which == 6 ? next_byte(program) % 13 : 0;
    size_t len;
    const uint8_t *body = next_body(program, &len);
    void *place;

    switch (which) {
    case 0:
        knit_put_str(builder, (const char *)body, len);
        break;
    case 1:
        knit_put_bin(builder, body, len);
        break;
    case 2:
        knit_put_bigint(builder, len % 2 == 1, body, len);
        break;
    case 3:
        knit_put_view(builder, body, len);
        break;
    case 4:
        knit_put_symbol(builder, (const char *)body, len);
        break;
    case 5:
        knit_put_body(builder, body, len);
        break;
    case 6:
        knit_put_typed(builder, (enum knit_element)element, body, len / 8);
        break;
    default:
        place = knit_put_typed_place(builder, KNIT_F64, len / 8);
        if (place != NULL && len >= 8)
            memcpy(place, body, len / 8 * 8);
    }
}

static void put_container(struct knit_builder *builder, struct program *program, unsigned which)
{
    uint32_t count = next_byte(program);

    /* Few, so that some of them become complete; or very many. */
    count = count < 240 ? count % 20 : count < 250 ? count * 1000 : UINT32_MAX - (count - 250);
    switch (which) {
    case 0:
        knit_put_array(builder, count);
        break;
    case 1:
        knit_put_map(builder, count);
        break;
    case 2:
        knit_put_set(builder, count);
        break;
    case 3:
        knit_put_pairs(builder, count);
        break;
    case 4:
        knit_put_error(builder, "E", count % 2 == 0 ? "m" : NULL, count);
        break;
    default:
        knit_put_envelope(builder);
    }
}

static void put(struct knit_builder *builder, struct program *program)
{
    unsigned which = next_byte(program) % 24;

    if (which < 5)
        put_number(builder, program, which);
    else if (which < 13)
        put_body(builder, program, which - 5);
    else if (which < 19)
        put_container(builder, program, which - 13);
    else if (which == 19)
        knit_put_nil(builder);
    else if (which == 20)
        knit_put_bool(builder, next_byte(program) % 2 == 1);
    else if (which == 21)
        knit_put_undefined(builder);
    else
        knit_put_text(builder, which == 22 ? "name" : "message");
}

void builder_program_run(struct knit_builder *builder, const uint8_t *bytes, size_t len)
{
    enum { FILL_MAX = 1000 };
    struct program program = {bytes, bytes + len};

    while (program.at < program.end && builder->code == KNIT_OK &&
           (builder->depth > 0 || builder->len == 0))
        put(builder, &program);
    /* Texts, which keys of errors have to be as well; and bodies where these are due. */
    for (int i = 0; i < FILL_MAX && builder->depth > 0 && builder->code == KNIT_OK; i++) {
        const struct knit_builder_frame *frame = &builder->frame[builder->depth];

        if (frame->kind == KNIT_BUILDER_ENVELOPE && frame->left == 1)
            knit_put_body(builder, "body", 4);
        else
            knit_put_text(builder, "x");
    }
}
