/* SPDX-License-Identifier: Apache-2.0 */
/* Single options are tested by the vectors. Here: all at once, times at their edges, and bytes that
 * are cut short.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "proto/limits.h"
#include "proto/options.h"
#include "tests/proto/notation.h"

enum { BUFFER_MAX = 1 << 20 };

static void all_options_come_back_as_they_were_put(void **state)
{
    struct knit_options put = {.timeout_ns = 1500000,
        .queue_ns = 1,
        .affinity = 77,
        .epoch = 3,
        .keep = 2,
        .progress = true,
        .output = true,
        .priority = 2,
        .key = knit_span_text("key"),
        .trace = knit_span_text("trace")};
    struct knit_buffer buffer;
    struct knit_options got;
    const char *reason;

    (void)state;
    knit_buffer_init(&buffer, BUFFER_MAX);
    assert_int_equal(knit_options_put(&buffer, &put), 0);
    assert_int_equal(knit_options_decode(knit_buffer_span(&buffer), &got, &reason), 0);
    assert_true(got.timeout_ns == put.timeout_ns && got.queue_ns == put.queue_ns);
    assert_true(got.affinity == put.affinity && got.epoch == put.epoch && got.keep == put.keep);
    assert_true(got.progress && got.output && got.priority == 2);
    assert_true(knit_span_is(got.key, "key") && knit_span_is(got.trace, "trace"));
    assert_false(knit_options_is_empty(&got));
    for (size_t len = 0; len < buffer.len; len++) {
        assert_int_equal(
            knit_options_decode(knit_span(buffer.bytes, len), &got, &reason), KNIT_OPTIONS_E_BAD);
        assert_string_equal(reason, "options must be a map");
    }
    knit_buffer_fini(&buffer);
}

/* Nested too deep for the arrays in which it may come to stand, and what no notation can write. */
static void a_default_that_nobody_could_read_is_refused(void **state)
{
    static const char *const bad[] = {"\xa1\xff", "\xd4\x20\x01", "\xc1"};
    static const uint8_t front[] = "\x81\xa7timeout\x81\xa7"
                                   "default";
    uint8_t map[80];
    struct knit_options options;
    const char *reason;

    (void)state;
    memcpy(map, front, sizeof(front) - 1);
    for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
        memcpy(map + sizeof(front) - 1, bad[i], strlen(bad[i]));
        assert_int_equal(knit_options_decode(
                             knit_span(map, sizeof(front) - 1 + strlen(bad[i])), &options, &reason),
            KNIT_OPTIONS_E_BAD);
    }
    for (size_t depth = KNIT_DEPTH_MAX - 2; depth <= KNIT_DEPTH_MAX - 1; depth++) {
        memset(map + sizeof(front) - 1, 0x91, depth);
        map[sizeof(front) - 1 + depth - 1] = 0x90;
        assert_int_equal(
            knit_options_decode(knit_span(map, sizeof(front) - 1 + depth), &options, &reason),
            depth <= KNIT_DEPTH_MAX - 2 ? 0 : KNIT_OPTIONS_E_BAD);
    }
    assert_string_equal(reason, "option timeout: default must be a well-formed value");
}

static void options_that_are_absent_have_their_defaults(void **state)
{
    struct knit_options options;
    const char *reason;

    (void)state;
    assert_int_equal(knit_options_decode((struct knit_span){0}, &options, &reason), 0);
    assert_true(knit_options_is_empty(&options));
    assert_true(options.timeout_ns == KNIT_OPTION_NONE && options.queue_ns == KNIT_OPTION_NONE);
}

static void times_are_rounded_up_and_never_wrap(void **state)
{
    (void)state;
    assert_true(knit_options_ns(0) == 0);
    assert_true(knit_options_ns(-0.0) == 0);
    assert_true(knit_options_ns(1) == 1000000);
    assert_true(knit_options_ns(1e-9) == 1);
    assert_true(knit_options_ns(0.0000015) == 2);
    assert_true(knit_options_ns(-1e-9) == KNIT_OPTION_NONE);
    assert_true(knit_options_ns(NAN) == KNIT_OPTION_NONE);
    assert_true(knit_options_ns(INFINITY) == KNIT_OPTION_NONE);
    assert_true(knit_options_ns(-INFINITY) == KNIT_OPTION_NONE);
    assert_true(knit_options_ns(1.8e13) == 18000000000000000000u);
    assert_true(knit_options_ns(1.9e13) == KNIT_OPTION_NONE);
}

static void a_key_may_be_64_bytes_and_no_more(void **state)
{
    char key[KNIT_KEY_BYTES_MAX + 1];
    struct knit_options options = knit_options();
    struct knit_buffer buffer;
    const char *reason;

    (void)state;
    memset(key, 'k', sizeof(key));
    for (size_t extra = 0; extra < 2; extra++) {
        knit_buffer_init(&buffer, BUFFER_MAX);
        options.key = knit_span(key, KNIT_KEY_BYTES_MAX + extra);
        assert_int_equal(knit_options_put(&buffer, &options), 0);
        assert_int_equal(
            knit_options_decode(knit_buffer_span(&buffer), &options, &reason), (int)extra);
        knit_buffer_fini(&buffer);
    }
}

static void a_trace_that_is_not_utf8_is_refused(void **state)
{
    struct knit_options options;
    const char *reason;

    (void)state;
    assert_int_equal(knit_options_decode(knit_span("\x81\xa5trace\xa1\xff", 9), &options, &reason),
        KNIT_OPTIONS_E_BAD);
    assert_string_equal(reason, "option trace must be a str");
}

static void room_that_is_too_small_is_said(void **state)
{
    struct knit_options options = knit_options();
    struct knit_buffer buffer;
    uint8_t memory[4];

    (void)state;
    options.keep = 7;
    knit_buffer_init_fixed(&buffer, memory, sizeof(memory));
    assert_int_equal(knit_options_put(&buffer, &options), KNIT_BUFFER_E_FULL);
    assert_int_equal(buffer.len, 0);
}

/* Numbers of every type and width. */
static void a_timeout_alone_is_read_as_with_others(void **state)
{
    static const struct knit_span values[] = {{(const uint8_t *)"\x00", 1},
        {(const uint8_t *)"\x7f", 1}, {(const uint8_t *)"\xcc\xff", 2},
        {(const uint8_t *)"\xcd\xff\xff", 3}, {(const uint8_t *)"\xce\xff\xff\xff\xff", 5},
        {(const uint8_t *)"\xcf\x00\x00\x00\x01\x00\x00\x00\x00", 9},
        {(const uint8_t *)"\xcf\xff\xff\xff\xff\xff\xff\xff\xff", 9},
        {(const uint8_t *)"\xd1\x03\xe8", 3}, {(const uint8_t *)"\xff", 1},
        {(const uint8_t *)"\xca\x3f\x80\x00\x00", 5},
        {(const uint8_t *)"\xcb\x3f\xb9\x99\x99\x99\x99\x99\x9a", 9},
        {(const uint8_t *)"\xcb\x7f\xf8\x00\x00\x00\x00\x00\x00", 9}};

    (void)state;
    for (size_t i = 0; i < sizeof(values) / sizeof(values[0]); i++) {
        uint8_t memory[32];
        struct knit_buffer map;
        struct knit_options options;
        const char *reason;

        knit_buffer_init_fixed(&map, memory, sizeof(memory));
        assert_int_equal(knit_buffer_append(&map, "\x81\xa7timeout", 9), 0);
        assert_int_equal(knit_buffer_append(&map, values[i].bytes, values[i].len), 0);
        assert_int_equal(knit_options_decode(knit_buffer_span(&map), &options, &reason), 0);
        assert_int_equal(knit_options_timeout_alone(knit_buffer_span(&map)), options.timeout_ns);
        /* Not with a byte behind it, nor as another option. */
        assert_int_equal(knit_buffer_append(&map, "\xc0", 1), 0);
        assert_int_equal(knit_options_timeout_alone(knit_buffer_span(&map)), KNIT_OPTION_NONE);
        memory[2] = 'T';
        assert_int_equal(
            knit_options_timeout_alone(knit_span(memory, map.len - 1)), KNIT_OPTION_NONE);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_timeout_alone_is_read_as_with_others),
        cmocka_unit_test(all_options_come_back_as_they_were_put),
        cmocka_unit_test(a_default_that_nobody_could_read_is_refused),
        cmocka_unit_test(options_that_are_absent_have_their_defaults),
        cmocka_unit_test(times_are_rounded_up_and_never_wrap),
        cmocka_unit_test(a_key_may_be_64_bytes_and_no_more),
        cmocka_unit_test(a_trace_that_is_not_utf8_is_refused),
        cmocka_unit_test(room_that_is_too_small_is_said),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
