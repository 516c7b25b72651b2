/* SPDX-License-Identifier: Apache-2.0 */
/* Every value there and back, exactly, at every size; and those that are refused. */
#include "tests/conformance/conformance.h"

#include <float.h>
#include <math.h>

#include "proto/buffer.h"
#include "proto/limits.h"
#include "proto/writer.h"
#include "tests/conformance/counters.h"

enum {
    INLINE = 104, /* bytes of params that travel in a cell; */
    SLAB = 1024,  /* beyond this they take a block */
    ROOM = 3 << 20,
    EXT_UNDEFINED = 32,
    EXT_BIGINT = 33,
    EXT_SET = 34,
    EXT_PAIRS = 35,
    EXT_TYPED = 36,
    EXT_VIEW = 37,
    EXT_ERROR = 38,
    EXT_SYMBOL = 39,
    EXT_ENVELOPE = 41,
};

/* ---- one value, in params of its own ---- */

struct value {
    struct knit_buffer buffer;
    struct knit_writer writer;
};

static void begin(struct value *value)
{
    knit_buffer_init(&value->buffer, ROOM);
    knit_writer_init(&value->writer, &value->buffer);
    knit_writer_array(&value->writer, 1);
}

static struct knit_span end(struct value *value)
{
    assert_int_equal(knit_writer_end(&value->writer), 0);
    return knit_buffer_span(&value->buffer);
}

/* The params come back as the result, without their head. */
static void echoes(struct conformance *c, struct knit_span params)
{
    const void *result = NULL;
    size_t len = 0;

    conformance_succeeds(
        c, knit_call_raw(c->k, NULL, &c->error, "echo", params.bytes, params.len, &result, &len));
    assert_int_equal(len, params.len - 1);
    assert_memory_equal(result, params.bytes + 1, len);
}

static void echo_value(struct conformance *c, struct value *value)
{
    echoes(c, end(value));
    knit_buffer_fini(&value->buffer);
}

static void echo_ext(struct conformance *c, int code, const void *body, size_t len)
{
    struct value value;

    begin(&value);
    knit_writer_ext(&value.writer, code, body, len);
    echo_value(c, &value);
}

/* An ext whose body is msgpack that `put` writes. */
static void echo_built(struct conformance *c, int code, void (*put)(struct knit_writer *writer))
{
    struct knit_buffer body;
    struct knit_writer writer;

    knit_buffer_init(&body, ROOM);
    knit_writer_init(&writer, &body);
    put(&writer);
    assert_int_equal(knit_writer_end(&writer), 0);
    echo_ext(c, code, body.bytes, body.len);
    knit_buffer_fini(&body);
}

/* Refused by the library or by the worker, before the task runs; then the pool serves. */
static void is_refused(
    struct conformance *c, const void *params, size_t len, int code, const char *why)
{
    const void *result;
    size_t result_len;

    conformance_fails(
        c, knit_call_raw(c->k, NULL, &c->error, "echo", params, len, &result, &result_len), code);
    assert_int_equal(c->error.started, KNIT_STARTED_NO);
    if (strstr(c->error.message, why) == NULL)
        fail_msg("\"%s\" is not in: %s", why, c->error.message);
    conformance_serves(c);
}

static void fill(struct conformance *c, void *bytes, size_t len)
{
    knit_random_bytes(&c->random, bytes, len);
}

static void *room(size_t len)
{
    void *bytes = malloc(len + 1);

    assert_non_null(bytes);
    return bytes;
}

/* ---- numbers, nil, bool ---- */

static void numbers(struct conformance *c)
{
    static const double numbers[] = {42, 0, -45.5, 9007199254740991.0, -9007199254740991.0, DBL_MAX,
        5e-324, DBL_MIN, (double)NAN, (double)INFINITY, -(double)INFINITY, -0.0};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        double got = 1;
        struct value value;

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "echo", "(float) -> float", numbers[i], &got));
        assert_memory_equal(&got, &numbers[i], sizeof(got));
        got = 1;
        conformance_succeeds(
            c, knit_call(c->k, &c->error, "echo_float", "(float) -> float", numbers[i], &got));
        assert_memory_equal(&got, &numbers[i], sizeof(got));
        begin(&value);
        knit_writer_float(&value.writer, numbers[i]);
        echo_value(c, &value);
    }
    /* A NaN keeps its payload. */
    echoes(c, knit_span("\x91\xcb\x7f\xf8\x00\x00\x00\x00\xab\xcd", 10));
    echoes(c, knit_span("\x91\xcb\xff\xf0\x00\x00\x00\x00\x00\x01", 10));
}

static void integers(struct conformance *c)
{
    static const int64_t numbers[] = {0, 1, -1, 127, 128, -32, -33, -128, -129, 255, 256, 65535,
        65536, INT32_MAX, INT32_MIN, -INT64_C(2147483649), INT64_C(2147483648), INT64_C(4294967295),
        INT64_C(4294967296), INT64_C(9007199254740991), INT64_C(9007199254740993),
        -INT64_C(9007199254740993), INT64_MIN, INT64_MAX};
    static const uint64_t large[] = {
        0, INT64_MAX, UINT64_C(9223372036854775808), UINT64_MAX - 1, UINT64_MAX};

    for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++) {
        int64_t got = 77;

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "echo", "(int) -> int", numbers[i], &got));
        assert_true(got == numbers[i]);
        conformance_succeeds(
            c, knit_call(c->k, &c->error, "echo_int", "(int) -> int", numbers[i], &got));
        assert_true(got == numbers[i]);
    }
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++) {
        uint64_t got = 77;

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "echo", "(uint) -> uint", large[i], &got));
        assert_true(got == large[i]);
        conformance_succeeds(
            c, knit_call(c->k, &c->error, "echo_uint", "(uint) -> uint", large[i], &got));
        assert_true(got == large[i]);
    }
}

static void bigints(struct conformance *c)
{
    for (size_t bits = 65; bits <= 4096; bits = bits * 9 / 8 + 1) {
        size_t len = 1 + (bits + 7) / 8;
        uint8_t body[1 + 4096 / 8];

        fill(c, body, len);
        body[len - 1] = (uint8_t)(1u << (bits - 1) % 8); /* as many bits as it says */
        for (uint8_t sign = 0; sign < 2; sign++) {
            body[0] = sign;
            echo_ext(c, EXT_BIGINT, body, len);
        }
    }
}

static void nothings(struct conformance *c)
{
    bool got = false, is_there = true;
    int64_t number = 5;

    conformance_succeeds(c, knit_call(c->k, &c->error, "echo", "(bool) -> bool", 1, &got));
    assert_true(got);
    conformance_succeeds(c, knit_call(c->k, &c->error, "echo_bool", "(bool) -> bool", 0, &got));
    assert_false(got);
    conformance_succeeds(
        c, knit_call(c->k, &c->error, "echo", "(nil) -> int?", &is_there, &number));
    assert_false(is_there);
    conformance_succeeds(c, knit_call(c->k, &c->error, "echo", "(nil) -> nil"));
    echoes(c, knit_span("\x91\xc0", 2));
    echoes(c, knit_span("\x91\xc7\x00\x20", 4)); /* undefined */
    conformance_fails(c,
        knit_call(c->k, &c->error, "add", "(nil, int) -> int", (int64_t)1, &number),
        KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "got nil"));
    conformance_fails(c,
        knit_call(
            c->k, &c->error, "echo_int", "(undefined) -> int", "\xc7\x00\x20", (size_t)3, &number),
        KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "got undefined"));
}

/* ---- texts ---- */

/* Makes a call whose params have that many bytes; whether it has a block until it is collected,
 * which over a stream none has. */
static bool has_block(struct conformance *c, size_t params_len)
{
    uint8_t *params = room(params_len);
    struct knit_handle *handle = NULL;
    bool has;

    /* [bin], its head by its length. */
    memset(params, 7, params_len);
    params[0] = 0x91;
    if (params_len - 3 < 256) {
        params[1] = 0xc4;
        params[2] = (uint8_t)(params_len - 3);
    } else {
        params[1] = 0xc5;
        params[2] = (uint8_t)((params_len - 4) >> 8);
        params[3] = (uint8_t)(params_len - 4);
    }
    conformance_succeeds(
        c, knit_start_raw(c->k, NULL, &handle, &c->error, "echo", params, params_len));
    has = counters_has_block(c->k);
    conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
    (void)knit_free(handle);
    assert_false(counters_has_block(c->k));
    free(params);
    return has;
}

static void only_long_arguments_take_blocks(struct conformance *c)
{
    static const size_t small[] = {INLINE - 1, INLINE, INLINE + 1, SLAB};
    static const size_t large[] = {SLAB + 1, 4 * SLAB};

    for (size_t i = 0; i < sizeof(small) / sizeof(small[0]); i++)
        assert_false(has_block(c, small[i]));
    for (size_t i = 0; i < sizeof(large) / sizeof(large[0]); i++)
        assert_true(has_block(c, large[i]) == ((AT(c->distance) & AT_STREAMS) == 0));
}

static void texts(struct conformance *c)
{
    static const size_t ends[] = {0, 1, 31, 32, INLINE - 3, INLINE - 2, INLINE - 1, INLINE,
        INLINE + 1, 255, 256, SLAB - 4, SLAB - 3, SLAB, SLAB + 1, 65535, 65536, 100000};
    static const char *const letters[] = {"a", "\xc3\xa4", "\xe2\x82\xac", "\xf0\x9d\x84\x9e"};
    char *text = room(ends[sizeof(ends) / sizeof(ends[0]) - 1] + 8);

    for (size_t i = 0; i < sizeof(ends) / sizeof(ends[0]); i++) {
        for (size_t k = 0; k < 4; k++) {
            /* One that ends at that byte, one that has begun before it. */
            for (size_t before = 0; before <= k; before++) {
                size_t len = strlen(letters[k]), got_len, at;
                const char *got;

                if (ends[i] + before < len)
                    continue;
                at = ends[i] + before - len;
                memset(text, 'x', at);
                memcpy(text + at, letters[k], len + 1);
                conformance_succeeds(
                    c, knit_call(c->k, &c->error, before == 0 ? "echo_str" : "echo", "(str) -> str",
                           text, &got, &got_len));
                assert_int_equal(got_len, at + len);
                assert_memory_equal(got, text, got_len);
            }
        }
    }
    free(text);
    echoes(c, knit_span("\x91\xa0", 2));
    echoes(c, knit_span("\x91\xa3"
                        "a\0b",
                  5));
}

static void texts_that_are_no_utf8(struct conformance *c)
{
    static const char *const bad[] = {
        "\xff", "\xc3", "\xc0\x80", "\xed\xa0\x80", "\xf4\x90\x80\x80", "ok\xe2\x82"};
    const char *got;
    char *text = room(200000);
    size_t len;

    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        conformance_fails(c, knit_call(c->k, &c->error, "echo", "(str) -> str", bad[i], &got, &len),
            KNIT_BAD_ARGUMENT);
        assert_non_null(strstr(c->error.message, "UTF-8"));
    }
    /* At the end of a long one: never truncated. */
    for (size_t at = 50; at < 200000; at *= 7) {
        memset(text, 'a', at);
        memcpy(text + at, "\xe2\x82", 3);
        conformance_fails(c, knit_call(c->k, &c->error, "echo", "(str) -> str", text, &got, &len),
            KNIT_BAD_ARGUMENT);
    }
    free(text);
}

/* ---- containers ---- */

static void containers(struct conformance *c)
{
    static const uint32_t sizes[] = {0, 1, 15, 16, 17, 1000, 65535, 65536};
    struct value value;

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        begin(&value);
        knit_writer_array(&value.writer, sizes[i]);
        for (uint32_t k = 0; k < sizes[i]; k++)
            knit_writer_int(&value.writer, (int64_t)k - 40);
        echo_value(c, &value);
        begin(&value);
        knit_writer_map(&value.writer, sizes[i]);
        for (uint32_t k = 0; k < sizes[i]; k++) {
            char key[16];

            (void)snprintf(key, sizeof(key), "key%u", k);
            knit_writer_text(&value.writer, key);
            knit_writer_uint(&value.writer, k);
        }
        echo_value(c, &value);
    }
    begin(&value);
    knit_writer_array(&value.writer, 4);
    knit_writer_nil(&value.writer);
    knit_writer_float(&value.writer, (double)NAN);
    knit_writer_bin(&value.writer, "\0\xff", 2);
    knit_writer_time(&value.writer, -1, 999999999);
    echo_value(c, &value);
}

/* `depth` arrays within each other, the params array being the first. */
static struct knit_span nested(uint8_t *bytes, size_t depth)
{
    memset(bytes, 0x91, depth);
    bytes[depth] = 0xc0;
    return knit_span(bytes, depth + 1);
}

static void nesting(struct conformance *c)
{
    size_t deepest = 1000000;
    uint8_t *bytes = room(deepest + 1);
    struct knit_span params;

    for (size_t depth = 1; depth <= KNIT_DEPTH_MAX; depth++)
        echoes(c, nested(bytes, depth));
    params = nested(bytes, KNIT_DEPTH_MAX + 1);
    is_refused(c, params.bytes, params.len, KNIT_TOO_DEEP, "");
    params = nested(bytes, deepest);
    is_refused(c, params.bytes, params.len, KNIT_TOO_DEEP, "");
    free(bytes);
}

static void put_set(struct knit_writer *writer)
{
    knit_writer_array(writer, 3);
    knit_writer_text(writer, "b");
    knit_writer_int(writer, 1);
    knit_writer_nil(writer);
}

static void put_pairs(struct knit_writer *writer)
{
    knit_writer_array(writer, 4);
    knit_writer_float(writer, 0.5);
    knit_writer_text(writer, "half");
    knit_writer_text(writer, "a");
    knit_writer_bool(writer, true);
}

static void maps_of_other_kinds(struct conformance *c)
{
    struct value value;

    begin(&value);
    knit_writer_map(&value.writer, 4);
    knit_writer_int(&value.writer, 2);
    knit_writer_text(&value.writer, "two");
    knit_writer_nil(&value.writer);
    knit_writer_bool(&value.writer, true);
    knit_writer_array(&value.writer, 1);
    knit_writer_int(&value.writer, 1);
    knit_writer_float(&value.writer, 0.5);
    knit_writer_text(&value.writer, "a key that is a text behind others");
    knit_writer_int(&value.writer, -1);
    echo_value(c, &value);
    echo_built(c, EXT_SET, put_set);
    echo_built(c, EXT_PAIRS, put_pairs);
    echo_ext(c, EXT_SYMBOL, "name.of.a.symbol", 16);
}

/* ---- times, bytes, typed arrays ---- */

static void times(struct conformance *c)
{
    static const struct knit_time times[] = {{0, 0}, {0, 1}, {-1, 0}, {-1, 999999999}, {1, 999},
        {INT64_C(253402300799), 999999999}, {INT64_C(4294967295), 0}, {INT64_C(17179869184), 5},
        {-INT64_C(62135596800), 0}};

    for (size_t i = 0; i < sizeof(times) / sizeof(times[0]); i++) {
        struct knit_time got = {77, 77};

        conformance_succeeds(
            c, knit_call(c->k, &c->error, "echo", "(time) -> time", &times[i], &got));
        assert_true(got.seconds == times[i].seconds && got.nanoseconds == times[i].nanoseconds);
    }
}

/* The largest bin that a call can carry: params of that many bytes. */
static size_t largest_bin(struct conformance *c)
{
    return knit_arguments_max(c->k) - 6;
}

static void bytes_of_all_sizes(struct conformance *c)
{
    const size_t sizes[] = {0, 1, INLINE - 4, INLINE - 3, INLINE - 2, INLINE, INLINE + 1, 255, 256,
        SLAB - 4, SLAB - 3, SLAB, SLAB + 1, 4096, 65535, 65536, 1 << 20, largest_bin(c)};
    uint8_t *bytes = room(largest_bin(c));

    fill(c, bytes, largest_bin(c));
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        const void *got;
        size_t len;

        conformance_succeeds(c, knit_call(c->k, &c->error, i % 2 == 0 ? "echo" : "echo_bin",
                                    "(bin) -> bin", bytes, sizes[i], &got, &len));
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(got, bytes, len);
        echo_ext(c, EXT_VIEW, bytes, sizes[i] < 65536 ? sizes[i] : 65536);
    }
    free(bytes);
}

static void typed_arrays(struct conformance *c)
{
    static const uint8_t element_bytes[] = {0, 1, 1, 1, 2, 2, 4, 4, 4, 8, 8, 8};
    static const size_t counts[] = {0, 1, 12, 13, 125, 4096 / 8, 65536};
    uint8_t *body = room(2 + 8 * 65536);

    fill(c, body, 2 + 8 * 65536);
    for (uint8_t code = 1; code < sizeof(element_bytes); code++) {
        for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
            body[0] = code;
            body[1] = 0;
            echo_ext(c, EXT_TYPED, body, 2 + counts[i] * element_bytes[code]);
        }
    }
    free(body);
}

#define ECHO_ELEMENTS(c, type, name, count)                                                        \
    do {                                                                                           \
        type sent[count];                                                                          \
        const type *got;                                                                           \
        size_t got_count;                                                                          \
                                                                                                   \
        fill(c, sent, sizeof(sent));                                                               \
        conformance_succeeds(                                                                      \
            c, knit_call((c)->k, &(c)->error, "echo", "(" name "[]) -> " name "[]", sent,          \
                   (size_t)(count), &got, &got_count));                                            \
        assert_int_equal(got_count, count);                                                        \
        assert_int_equal((uintptr_t)got % sizeof(type), 0);                                        \
        assert_memory_equal(got, sent, sizeof(sent));                                              \
    } while (0)

static void elements_by_their_types(struct conformance *c)
{
    ECHO_ELEMENTS(c, int8_t, "i8", 7);
    ECHO_ELEMENTS(c, uint8_t, "u8", 300);
    ECHO_ELEMENTS(c, uint8_t, "u8c", 5);
    ECHO_ELEMENTS(c, int16_t, "i16", 40);
    ECHO_ELEMENTS(c, uint16_t, "u16", 1000);
    ECHO_ELEMENTS(c, int32_t, "i32", 11);
    ECHO_ELEMENTS(c, uint32_t, "u32", 300);
    ECHO_ELEMENTS(c, int64_t, "i64", 12);
    ECHO_ELEMENTS(c, uint64_t, "u64", 200);
    ECHO_ELEMENTS(c, float, "f32", 25);
    ECHO_ELEMENTS(c, double, "f64", 1000);
}

static void a_part_of_a_buffer(struct conformance *c)
{
    uint8_t bytes[64];
    const void *got;
    size_t len;

    fill(c, bytes, sizeof(bytes));
    for (size_t at = 0; at <= 48; at += 7) {
        conformance_succeeds(c,
            knit_call(c->k, &c->error, "echo", "(bin) -> bin", bytes + at, (size_t)16, &got, &len));
        assert_int_equal(len, 16);
        assert_memory_equal(got, bytes + at, 16);
    }
}

/* ---- whose bytes they are ---- */

static void a_result_that_its_owner_changes(struct conformance *c)
{
    static const size_t sizes[] = {8, 100, 1000, 4000};

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        uint8_t first[4096], second[4096];
        struct knit_handle *handle = NULL;
        const void *got, *later;
        size_t len;

        memset(first, 'a', sizeof(first));
        memset(second, 'b', sizeof(second));
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handle, &c->error, "keep", "(bin) -> bin", first, sizes[i]));
        conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
        /* All workers write over what the first result was made of. */
        for (int k = 0; k < 8; k++)
            conformance_succeeds(c,
                knit_call(c->k, &c->error, "keep", "(bin) -> bin", second, sizes[i], &later, &len));
        conformance_succeeds(c, knit_results(handle, &c->error, &got, &len));
        assert_int_equal(len, sizes[i]);
        assert_memory_equal(got, first, len);
        (void)knit_free(handle);
    }
}

static void a_buffer_that_its_sender_changes(struct conformance *c)
{
    static const size_t sizes[] = {8, INLINE - 4, 1000, SLAB + 100, 1 << 20};
    uint8_t *bytes = room(1 << 20);

    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        struct knit_handle *handle = NULL;
        const uint8_t *got;
        size_t len;

        memset(bytes, 'a', sizes[i]);
        conformance_succeeds(
            c, knit_start(c->k, NULL, &handle, &c->error, "echo", "(bin) -> bin", bytes, sizes[i]));
        memset(bytes, 'b', sizes[i]);
        conformance_succeeds(c, knit_await(handle, conformance_patience_ms(), &c->error));
        conformance_succeeds(c, knit_results(handle, &c->error, &got, &len));
        assert_int_equal(len, sizes[i]);
        for (size_t k = 0; k < len; k++)
            assert_true(got[k] == 'a');
        (void)knit_free(handle);
    }
    free(bytes);
}

/* ---- errors and envelopes as values ---- */

static void put_error(struct knit_writer *writer)
{
    char message[2001];

    memset(message, 'm', 2000);
    message[2000] = '\0';
    knit_writer_map(writer, 4);
    knit_writer_text(writer, "name");
    knit_writer_text(writer, "RangeError");
    knit_writer_text(writer, "message");
    knit_writer_text(writer, message);
    knit_writer_text(writer, "cause");
    knit_writer_map(writer, 2);
    knit_writer_text(writer, "name");
    knit_writer_text(writer, "Error");
    knit_writer_text(writer, "message");
    knit_writer_text(writer, "below");
    knit_writer_text(writer, "data");
    knit_writer_array(writer, 2);
    knit_writer_nil(writer);
    knit_writer_float(writer, 1.5);
}

static void errors_as_values(struct conformance *c)
{
    echo_built(c, EXT_ERROR, put_error);
}

static void envelopes(struct conformance *c)
{
    static const size_t headers[] = {0, 50, 5000}, bodies[] = {0, 1, 3000, 500000};
    uint8_t *body = room(600000);

    for (size_t i = 0; i < 3; i++) {
        for (size_t k = 0; k < 4; k++) {
            struct knit_buffer header;
            struct knit_writer writer;
            struct value value;
            struct knit_span params;
            const void *got;
            size_t len;

            knit_buffer_init(&header, ROOM);
            knit_writer_init(&writer, &header);
            knit_writer_array(&writer, (uint32_t)headers[i]);
            for (size_t at = 0; at < headers[i]; at++)
                knit_writer_int(&writer, (int64_t)at);
            memcpy(body, header.bytes, header.len);
            fill(c, body + header.len, bodies[k]);
            begin(&value);
            knit_writer_ext(&value.writer, EXT_ENVELOPE, body, header.len + bodies[k]);
            params = end(&value);
            echoes(c, params);
            conformance_succeeds(
                c, knit_call(c->k, &c->error, "take_envelope", "(envelope) -> envelope",
                       params.bytes + 1, params.len - 1, &got, &len));
            assert_memory_equal(got, params.bytes + 1, len);
            knit_buffer_fini(&value.buffer);
            knit_buffer_fini(&header);
        }
    }
    free(body);
    conformance_fails(c, knit_call(c->k, &c->error, "take_envelope", "(map)", "\x80", (size_t)1),
        KNIT_BAD_ARGUMENT);
    assert_non_null(strstr(c->error.message, "expected envelope, got map"));
}

/* ---- what is refused ---- */

static void values_that_cannot_be_carried(struct conformance *c)
{
    static const struct {
        const char *params;
        size_t len;
        const char *why;
    } cases[] = {
        {"\x91\xd4\x28\x01", 4, "40"},
        {"\x91\xc7\x00\x2a", 4, "42"},
        {"\x91\xd4\x05\x01", 4, "5"},
        {"\x91\xd4\x24\x00", 4, "typed array"},
        {"\x91\xd5\x24\x0c\x00", 5, "typed array"},
        {"\x91\xd4\x26\x80", 4, "error"},
        {"\x91\xd4\x27\xff", 4, "symbol"},
        {"\x91\xa1\xff", 3, "UTF-8"},
    };
    const void *result;
    size_t len;

    for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++)
        is_refused(c, cases[i].params, cases[i].len, KNIT_BAD_ARGUMENT, cases[i].why);
    conformance_fails(c,
        knit_call_raw(c->k, NULL, &c->error, "reference", "\x90", 1, &result, &len),
        KNIT_BAD_RESULT);
    assert_int_equal(c->error.started, KNIT_STARTED_YES);
}

static const struct conformance_case cases[] = {
    {"A1", "floats come back with the same bits, NaN and -0 among them", numbers, 0, 0, 0},
    {"A2", "integers of 64 bits come back exactly, signed and unsigned", integers, 0, 0, 0},
    {"A3", "bigints of 65 to 4096 bits come back, of both signs", bigints, 0, 0, 0},
    {"A4", "true, false, nil and undefined stay apart", nothings, 0, 0, 0},
    {"A5a", "texts of every length come back, whatever character stands at a boundary", texts, 0, 0,
        0},
    {"A5b", "only arguments above 1024 bytes take a block, which is free again afterwards",
        only_long_arguments_take_blocks, 0, 0, 0},
    {"A5c", "a text that is no UTF-8 is refused and never cut", texts_that_are_no_utf8, 0, 0, 0},
    {"A6a", "arrays and maps of every size come back, with nil, NaN, bin and times inside",
        containers, 0, 0, 0},
    {"A6b", "nesting up to the limit works, one deeper and a million are TOO_DEEP", nesting, 0, 0,
        0},
    {"A7", "maps with keys of other types, sets and pairs keep order and type", maps_of_other_kinds,
        0, 0, 0},
    {"A8", "times come back: the epoch, before it, nanoseconds, year 9999", times, 0, 0, 0},
    {"A9a", "bytes of every size up to the largest come back", bytes_of_all_sizes, 0, 0, 0},
    {"A9b", "typed arrays of every element come back with type, length and bytes", typed_arrays, 0,
        0, 0},
    {"A9c", "elements come back as C arrays that are aligned", elements_by_their_types, 0, 0, 0},
    {"A10", "of a part of a buffer this part alone is sent", a_part_of_a_buffer, 0, 0, 0},
    {"A11", "a result stays as it is when a module changes what it was made of",
        a_result_that_its_owner_changes, 0, 0, 0},
    {"A12", "a task sees what was sent when the sender changes its buffer afterwards",
        a_buffer_that_its_sender_changes, 0, 0, 0},
    {"A13", "an error is a value with name, message, cause and data", errors_as_values, 0, 0, 0},
    {"A14", "envelopes come back with any header and body, and nothing else passes for one",
        envelopes, 0, 0, 0},
    {"A15", "a value that cannot be carried is refused by name, for that call alone",
        values_that_cannot_be_carried, 0, 0, 0},
};

const struct conformance_section conformance_values = CONFORMANCE_SECTION("values", cases);
