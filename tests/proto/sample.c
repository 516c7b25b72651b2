/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers are drawn so that every width occurs often: a random number of bits first. Lengths stay
 * small but for an occasional one that needs a wider head.
 */
#include "tests/proto/sample.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <string.h>

#include <cmocka.h>
#include <msgpack.h>

enum { BODY_MAX = 70000 };

static int write_bytes(void *buffer, const char *bytes, size_t len)
{
    assert_int_equal(knit_buffer_append(buffer, bytes, len), 0);
    return 0;
}

static uint64_t any_number(struct knit_random *random)
{
    uint64_t bits = knit_random_below(random, 65);

    return bits == 0 ? 0 : knit_random_u64(random) >> (64 - bits);
}

static size_t any_length(struct knit_random *random)
{
    if (knit_random_chance(random, 200))
        return knit_random_below(random, BODY_MAX);
    return knit_random_below(random, knit_random_chance(random, 8) ? 300 : 20);
}

static void put_text(struct knit_random *random, msgpack_packer *packer)
{
    static const char *const characters[] = {"a", "Z", "\x01", "ä", "€", "𝄞"};
    struct knit_buffer text;
    size_t i, count = any_length(random);

    knit_buffer_init(&text, 4 * BODY_MAX);
    for (i = 0; i < count; i++) {
        const char *character = characters[knit_random_below(random, 6)];

        write_bytes(&text, character, strlen(character));
    }
    msgpack_pack_str(packer, text.len);
    msgpack_pack_str_body(packer, text.bytes, text.len);
    knit_buffer_fini(&text);
}

static void put_bin(struct knit_random *random, msgpack_packer *packer)
{
    static uint8_t body[BODY_MAX];
    size_t len = any_length(random);

    knit_random_bytes(random, body, len);
    msgpack_pack_bin(packer, len);
    msgpack_pack_bin_body(packer, body, len);
}

static void put_leaf_ext(struct knit_random *random, msgpack_packer *packer)
{
    static const struct {
        int8_t code;
        uint8_t len;
        const char *body;
    } bodies[] = {
        {32, 0, ""},
        {33, 1, "\0"},
        {33, 4, "\1\0\0\7"},
        {36, 2, "\x0b\0"},
        {36, 8, "\x04\2\0\0\1\2\3\4"},
        {37, 16, "0123456789abcdef"},
        {39, 3, "key"},
        {-1, 4, "\0\0\0\1"},
        {-1, 8, "\0\0\0\4\0\0\0\0"},
        {-1, 12, "\0\0\0\1\xff\xff\xff\xff\xff\xff\xff\xff"},
    };
    size_t i = knit_random_below(random, sizeof(bodies) / sizeof(bodies[0]));

    msgpack_pack_ext(packer, bodies[i].len, bodies[i].code);
    msgpack_pack_ext_body(packer, bodies[i].body, bodies[i].len);
}

static void put_leaf(struct knit_random *random, msgpack_packer *packer)
{
    uint64_t word = knit_random_u64(random);
    double number;

    memcpy(&number, &word, sizeof(number));
    switch (knit_random_below(random, 10)) {
    case 0:
        msgpack_pack_nil(packer);
        break;
    case 1:
        msgpack_pack_true(packer);
        break;
    case 2:
        msgpack_pack_false(packer);
        break;
    case 3:
        msgpack_pack_uint64(packer, any_number(random));
        break;
    case 4:
        msgpack_pack_int64(packer, (int64_t)-any_number(random));
        break;
    case 5:
        msgpack_pack_double(packer, number);
        break;
    case 6:
        msgpack_pack_float(packer, (float)(int32_t)word);
        break;
    case 7:
        put_text(random, packer);
        break;
    case 8:
        put_bin(random, packer);
        break;
    default:
        put_leaf_ext(random, packer);
        break;
    }
}

/* An ext that contains msgpack. */
static void put_deep_ext(
    struct knit_random *random, uint32_t depth, uint32_t size, msgpack_packer *packer)
{
    static const int8_t codes[] = {34, 35, 38, 41};
    int8_t code = codes[knit_random_below(random, 4)];
    struct knit_buffer body;
    msgpack_packer inner;
    uint32_t i, count = (uint32_t)knit_random_below(random, 4);

    knit_buffer_init(&body, 1 << 30);
    msgpack_packer_init(&inner, &body, write_bytes);
    if (code == 41) {
        knit_sample_value(random, depth - 1, size / 2, &body);
        write_bytes(&body, "raw bytes", knit_random_below(random, 10));
    } else if (code == 38) {
        msgpack_pack_map(&inner, 3);
        msgpack_pack_str_with_body(&inner, "name", 4);
        msgpack_pack_str_with_body(&inner, "E", 1);
        msgpack_pack_str_with_body(&inner, "message", 7);
        msgpack_pack_str_with_body(&inner, "", 0);
        msgpack_pack_str_with_body(&inner, "data", 4);
        knit_sample_value(random, depth - 1, size / 2, &body);
    } else {
        count = code == 35 ? count * 2 : count;
        msgpack_pack_array(&inner, count);
        for (i = 0; i < count; i++)
            knit_sample_value(random, depth - 1, size / (count + 1), &body);
    }
    msgpack_pack_ext(packer, body.len, code);
    msgpack_pack_ext_body(packer, body.bytes, body.len);
    knit_buffer_fini(&body);
}

void knit_sample_value(
    struct knit_random *random, uint32_t depth, uint32_t size, struct knit_buffer *buffer)
{
    msgpack_packer packer;
    uint32_t i, count = (uint32_t)knit_random_below(random, size < 20 ? size + 1 : 20);
    bool is_map = knit_random_chance(random, 2);

    msgpack_packer_init(&packer, buffer, write_bytes);
    if (depth == 0 || size == 0 || knit_random_chance(random, 3)) {
        put_leaf(random, &packer);
        return;
    }
    if (knit_random_chance(random, 5)) {
        put_deep_ext(random, depth, size, &packer);
        return;
    }
    if (is_map)
        msgpack_pack_map(&packer, count);
    else
        msgpack_pack_array(&packer, count);
    for (i = 0; i < count * (is_map ? 2 : 1); i++)
        knit_sample_value(random, depth - 1, size / (count + 1), buffer);
}

static void put_params(struct knit_random *random, struct knit_buffer *buffer)
{
    msgpack_packer packer;
    uint32_t i, count = (uint32_t)knit_random_below(random, 4);

    msgpack_packer_init(&packer, buffer, write_bytes);
    msgpack_pack_array(&packer, count);
    for (i = 0; i < count; i++)
        knit_sample_value(random, 8, 30, buffer);
}

void knit_sample_message(struct knit_random *random, struct knit_buffer *buffer)
{
    unsigned kind = (unsigned)knit_random_below(random, 3);
    bool has_options = kind == 0 && knit_random_chance(random, 2);
    msgpack_packer packer;

    msgpack_packer_init(&packer, buffer, write_bytes);
    msgpack_pack_array(&packer, kind == 2 ? 3 : has_options ? 5 : 4);
    msgpack_pack_uint8(&packer, (uint8_t)kind);
    if (kind != 2)
        msgpack_pack_uint32(&packer, (uint32_t)any_number(random));
    if (kind == 1) {
        knit_sample_value(random, 8, 30, buffer);
        knit_sample_value(random, 8, 30, buffer);
        return;
    }
    if (knit_random_chance(random, 3))
        msgpack_pack_uint32(&packer, (uint32_t)any_number(random));
    else
        put_text(random, &packer);
    put_params(random, buffer);
    if (has_options) {
        msgpack_pack_map(&packer, 1);
        msgpack_pack_str_with_body(&packer, "timeout", 7);
        knit_sample_value(random, 2, 3, buffer);
    }
}

void knit_sample_mutate(struct knit_random *random, struct knit_buffer *buffer)
{
    static const uint8_t spiteful[] = {0x00, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc1, 0xc4,
        0xc6, 0xc7, 0xc9, 0xcf, 0xd4, 0xd8, 0xdb, 0xdc, 0xdd, 0xde, 0xdf, 0xff, 0x22, 0x29};
    size_t i, count = 1 + knit_random_below(random, 3);

    for (i = 0; i < count && buffer->len > 0; i++) {
        size_t at = knit_random_below(random, buffer->len);

        if (knit_random_chance(random, 4))
            buffer->len = at;
        else if (knit_random_chance(random, 3))
            buffer->bytes[at] = (uint8_t)knit_random_u64(random);
        else
            buffer->bytes[at] = spiteful[knit_random_below(random, sizeof(spiteful))];
    }
}
