/* SPDX-License-Identifier: Apache-2.0 */
/* The result of a scan must not depend on how the bytes arrive: all input here is fed whole, cut in
 * two at every point, and byte by byte, and must end the same way at the same byte. Expectations
 * are literal; for random messages they come from the plain walk of proto/walk.h.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <knitting/code.h>

#include "proto/buffer.h"
#include "proto/scan.h"
#include "proto/walk.h"
#include "tests/proto/notation.h"
#include "tests/proto/sample.h"

enum { BUFFER_MAX = 64 << 20 };

static void put(struct knit_buffer *buffer, const void *bytes, size_t len)
{
    assert_int_equal(knit_buffer_append(buffer, bytes, len), 0);
}

static void repeat(struct knit_buffer *buffer, uint8_t byte, size_t count)
{
    while (count-- > 0)
        put(buffer, &byte, 1);
}

/* Feed in pieces of `piece` bytes; returns the result, and how many bytes that took. */
static int feed_pieces(
    struct knit_scan *scan, const uint8_t *bytes, size_t len, size_t piece, size_t *ret_used)
{
    size_t at = 0, used;
    int r = 0;

    while (r == 0 && at < len) {
        r = knit_scan_feed(scan, bytes + at, len - at < piece ? len - at : piece, &used);
        at += used;
        if (r == 0)
            assert_true(used == (len - at + used < piece ? len - at + used : piece));
    }
    *ret_used = at;
    return r;
}

static void assert_same(const struct knit_scan *a, const struct knit_scan *b)
{
    assert_int_equal(a->used, b->used);
    assert_int_equal(a->count, b->count);
    assert_int_equal(a->kind, b->kind);
    assert_int_equal(a->has_msgid, b->has_msgid);
    assert_int_equal(a->msgid, b->msgid);
    assert_int_equal(a->refused, b->refused);
    assert_int_equal(a->exceeded, b->exceeded);
    assert_ptr_equal(a->reason, b->reason);
    assert_memory_equal(a->element, b->element, sizeof(a->element));
}

/* Checks that every way to cut the bytes gives the same result, and returns it. */
static int feed_every_way(
    const struct knit_scan_limits *limits, const struct knit_buffer *bytes, struct knit_scan *whole)
{
    struct knit_scan cut;
    size_t used, again, first;
    int r, expected;

    knit_scan_init(whole, limits);
    expected = knit_scan_feed(whole, bytes->bytes, bytes->len, &used);
    for (size_t at = 0; at <= bytes->len && bytes->len < 5000; at++) {
        knit_scan_init(&cut, limits);
        r = knit_scan_feed(&cut, bytes->bytes, at, &first);
        again = 0;
        if (r == 0)
            r = knit_scan_feed(&cut, bytes->bytes + first, bytes->len - first, &again);
        assert_int_equal(r, expected);
        assert_int_equal(first + again, used);
        assert_same(&cut, whole);
    }
    for (size_t piece = 1; piece < 4; piece++) {
        knit_scan_init(&cut, limits);
        r = feed_pieces(&cut, bytes->bytes, bytes->len, piece, &again);
        assert_int_equal(r, expected);
        assert_int_equal(again, used);
        assert_same(&cut, whole);
    }
    return expected;
}

static int feed_hex(
    const struct knit_scan_limits *limits, const char *hex, struct knit_scan *ret_scan)
{
    struct knit_buffer bytes;
    int r;

    knit_notation_hex_new(hex, &bytes);
    r = feed_every_way(limits, &bytes, ret_scan);
    knit_buffer_fini(&bytes);
    return r;
}

/* ---- What is whole ---- */

static void request_is_found_with_its_marks(void **state)
{
    struct knit_scan scan;

    (void)state;
    assert_int_equal(
        feed_hex(NULL, "95 00 cd 01 02 a3 616464 92 01 c4 02 ffff 80 ff", &scan), KNIT_SCAN_E_DONE);
    assert_int_equal(scan.used, 16);
    assert_int_equal(scan.count, 5);
    assert_int_equal(scan.kind, 0);
    assert_true(scan.has_msgid);
    assert_int_equal(scan.msgid, 0x102);
    assert_int_equal(scan.element[0], 1);
    assert_int_equal(scan.element[1], 2);
    assert_int_equal(scan.element[2], 5);
    assert_int_equal(scan.element[3], 9);
    assert_int_equal(scan.element[4], 15);
}

static void notification_has_no_msgid(void **state)
{
    struct knit_scan scan;

    (void)state;
    assert_int_equal(feed_hex(NULL, "93 02 a1 61 90", &scan), KNIT_SCAN_E_DONE);
    assert_int_equal(scan.kind, 2);
    assert_false(scan.has_msgid);
}

static void messages_follow_each_other_after_a_reset(void **state)
{
    struct knit_buffer bytes;
    struct knit_scan scan;
    size_t used;

    (void)state;
    knit_notation_hex_new("94 00 01 a1 61 90  94 00 02 a1 61 91 c0  93 02 05", &bytes);
    knit_scan_init(&scan, NULL);
    assert_int_equal(knit_scan_feed(&scan, bytes.bytes, bytes.len, &used), KNIT_SCAN_E_DONE);
    assert_int_equal(used, 6);
    /* Without a reset the message stays what it is. */
    assert_int_equal(knit_scan_feed(&scan, bytes.bytes + 6, bytes.len - 6, &used), 1);
    assert_int_equal(used, 0);
    knit_scan_reset(&scan);
    assert_int_equal(
        knit_scan_feed(&scan, bytes.bytes + 6, bytes.len - 6, &used), KNIT_SCAN_E_DONE);
    assert_int_equal(used, 7);
    assert_int_equal(scan.msgid, 2);
    knit_scan_reset(&scan);
    assert_int_equal(knit_scan_feed(&scan, bytes.bytes + 13, 3, &used), 0);
    assert_int_equal(used, 3);
    assert_int_equal(knit_scan_feed(&scan, NULL, 0, &used), 0);
    knit_buffer_fini(&bytes);
}

/* A value of every first byte there is, with numbers that keep it small. */
static void every_head_is_passed_over_at_every_split(void **state)
{
    static const uint8_t zeros[40];
    struct knit_buffer bytes;
    struct knit_scan scan;

    (void)state;
    for (unsigned first = 0; first < 256; first++) {
        struct knit_head head;
        uint8_t raw[KNIT_HEAD_BYTES_MAX] = {(uint8_t)first};
        unsigned size = knit_head_size((uint8_t)first);

        if (first == 0xc1)
            continue;
        if (size > 1)
            raw[size - 1] = 3;
        assert_int_equal(knit_head_read(raw, sizeof(raw), &head), 0);
        knit_buffer_init(&bytes, BUFFER_MAX);
        put(&bytes, "\x94\x01\x07\xc0", 4);
        put(&bytes, raw, size);
        if (knit_head_has_body(&head))
            put(&bytes, zeros, head.value);
        if (knit_head_is_container(&head))
            put(&bytes, zeros, head.value * (head.type == KNIT_HEAD_MAP ? 2 : 1));
        assert_int_equal(feed_every_way(NULL, &bytes, &scan), KNIT_SCAN_E_DONE);
        assert_int_equal(scan.used, bytes.len);
        bytes.len--;
        if (bytes.len > 4)
            assert_int_equal(feed_every_way(NULL, &bytes, &scan), 0);
        knit_buffer_fini(&bytes);
    }
}

static void the_least_length_never_decreases_and_is_reached(void **state)
{
    struct knit_random random;
    struct knit_buffer bytes;
    struct knit_scan scan;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (unsigned round = 0; round < 500; round++) {
        uint64_t least = 0;
        int r = 0;

        knit_buffer_reset(&bytes);
        knit_sample_message(&random, &bytes);
        knit_scan_init(&scan, NULL);
        for (size_t i = 0; i < bytes.len && r == 0; i++) {
            size_t used;

            r = knit_scan_feed(&scan, bytes.bytes + i, 1, &used);
            assert_true(knit_scan_least_bytes(&scan) >= least);
            least = knit_scan_least_bytes(&scan);
            assert_in_range(least, i + 1, bytes.len);
        }
        assert_int_equal(r, KNIT_SCAN_E_DONE);
        assert_int_equal(least, bytes.len);
    }
    knit_buffer_fini(&bytes);
    knit_notation_hex_new("94 00 01 a4 6563686f 91 c6 00100000", &bytes);
    knit_scan_init(&scan, NULL);
    assert_int_equal(knit_scan_feed(&scan, bytes.bytes, bytes.len, &(size_t){0}), 0);
    assert_int_equal(knit_scan_least_bytes(&scan), bytes.len + (1 << 20));
    knit_buffer_fini(&bytes);
}

static void random_messages_have_the_marks_a_walk_finds(void **state)
{
    struct knit_random random;
    struct knit_buffer bytes;
    struct knit_scan scan;
    struct knit_walk walk;
    struct knit_item item;

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (unsigned round = 0; round < 2000; round++) {
        size_t used;

        knit_buffer_reset(&bytes);
        knit_sample_message(&random, &bytes);
        put(&bytes, "\x94", knit_random_below(&random, 2));
        knit_scan_init(&scan, NULL);
        assert_int_equal(
            feed_pieces(&scan, bytes.bytes, bytes.len, 1 + knit_random_below(&random, 40), &used),
            KNIT_SCAN_E_DONE);
        assert_int_equal(knit_walk_array(&walk, knit_buffer_span(&bytes)), 0);
        for (unsigned i = 0; i < scan.count; i++) {
            assert_int_equal(knit_walk_next(&walk, &item), 0);
            assert_int_equal(item.raw.bytes - bytes.bytes, scan.element[i]);
        }
        assert_int_equal(walk.rest.bytes - bytes.bytes, scan.used);
        assert_int_equal(used, scan.used);
    }
    knit_buffer_fini(&bytes);
}

static void random_damage_ends_the_same_way_however_it_is_cut(void **state)
{
    const struct knit_scan_limits limits = {.message_bytes = 400, .depth = 4};
    struct knit_random random;
    struct knit_buffer bytes;
    struct knit_scan scan;
    unsigned ended[4] = {0};

    (void)state;
    knit_random_init(&random);
    knit_buffer_init(&bytes, BUFFER_MAX);
    for (unsigned round = 0; round < 3000; round++) {
        knit_buffer_reset(&bytes);
        knit_sample_message(&random, &bytes);
        if (bytes.len > 3000)
            continue;
        knit_sample_mutate(&random, &bytes);
        ended[feed_every_way(&limits, &bytes, &scan)]++;
    }
    for (unsigned i = 0; i < 4; i++)
        assert_true(ended[i] > 0);
    knit_buffer_fini(&bytes);
}

/* ---- Nesting ---- */

/* A request whose one argument is `levels` arrays within each other, params not counted. */
static void put_nested(struct knit_buffer *buffer, const char *open, size_t open_len, size_t levels)
{
    put(buffer, "\x94\x00\x09\xa1t\x91", 6);
    while (levels-- > 0)
        put(buffer, open, open_len);
}

static void nesting_up_to_the_limit_is_accepted(void **state)
{
    struct knit_buffer bytes;
    struct knit_scan scan;

    (void)state;
    knit_buffer_init(&bytes, BUFFER_MAX);
    put_nested(&bytes, "\x91", 1, 31);
    put(&bytes, "\xc0", 1);
    assert_int_equal(feed_every_way(NULL, &bytes, &scan), KNIT_SCAN_E_DONE);
    knit_buffer_reset(&bytes);
    put_nested(&bytes, "\x81\x01", 2, 30);
    put(&bytes, "\x90", 1);
    assert_int_equal(feed_every_way(NULL, &bytes, &scan), KNIT_SCAN_E_DONE);
    knit_buffer_fini(&bytes);
}

static void one_level_more_is_refused_and_the_stream_lives(void **state)
{
    struct knit_buffer bytes;
    struct knit_scan scan;
    size_t used;

    (void)state;
    knit_buffer_init(&bytes, BUFFER_MAX);
    put_nested(&bytes, "\x91", 1, 32);
    put(&bytes, "\xc0", 1);
    assert_int_equal(feed_every_way(NULL, &bytes, &scan), KNIT_SCAN_E_REFUSED);
    assert_int_equal(scan.refused, KNIT_TOO_DEEP);
    assert_int_equal(scan.msgid, 9);
    assert_int_equal(scan.used, bytes.len);
    knit_scan_reset(&scan);
    assert_int_equal(scan.refused, 0);
    assert_int_equal(knit_scan_feed(&scan, "\x93\x02\x01\x90", 4, &used), KNIT_SCAN_E_DONE);
    /* An empty container is one as well. */
    knit_buffer_reset(&bytes);
    put_nested(&bytes, "\x91", 1, 31);
    put(&bytes, "\x80", 1);
    assert_int_equal(feed_every_way(NULL, &bytes, &scan), KNIT_SCAN_E_REFUSED);
    knit_buffer_fini(&bytes);
}

static void a_million_levels_cost_nothing(void **state)
{
    struct knit_buffer bytes;
    struct knit_scan scan;
    size_t used;

    (void)state;
    knit_buffer_init(&bytes, BUFFER_MAX);
    put_nested(&bytes, "\x91", 1, 1000000);
    knit_scan_init(&scan, NULL);
    assert_int_equal(knit_scan_feed(&scan, bytes.bytes, bytes.len, &used), 0);
    assert_int_equal(scan.refused, KNIT_TOO_DEEP);
    assert_int_equal(knit_scan_feed(&scan, "\xc0", 1, &used), KNIT_SCAN_E_REFUSED);
    knit_buffer_fini(&bytes);
}

/* An ext of this code around what `inner` holds. */
static void wrap(struct knit_buffer *inner, int code, const char *prefix, size_t prefix_len)
{
    struct knit_buffer outer;
    size_t len = prefix_len + inner->len;
    uint8_t head[4] = {0xc8, (uint8_t)(len >> 8), (uint8_t)len, (uint8_t)code};

    knit_buffer_init(&outer, BUFFER_MAX);
    put(&outer, head, sizeof(head));
    put(&outer, prefix, prefix_len);
    put(&outer, inner->bytes, inner->len);
    knit_buffer_fini(inner);
    *inner = outer;
}

static int nest_ext(int code, const char *prefix, size_t prefix_len, size_t levels)
{
    struct knit_buffer value, bytes;
    struct knit_scan scan;
    int r;

    knit_buffer_init(&value, BUFFER_MAX);
    put(&value, "\xc0", 1);
    for (size_t i = 0; i < levels; i++)
        wrap(&value, code, prefix, prefix_len);
    knit_buffer_init(&bytes, BUFFER_MAX);
    put_nested(&bytes, "", 0, 0);
    put(&bytes, value.bytes, value.len);
    r = feed_every_way(NULL, &bytes, &scan);
    assert_int_equal(scan.refused, r == KNIT_SCAN_E_REFUSED ? KNIT_TOO_DEEP : 0);
    assert_int_equal(scan.used, bytes.len);
    knit_buffer_fini(&value);
    knit_buffer_fini(&bytes);
    return r;
}

static void nesting_cannot_hide_in_ext_types(void **state)
{
    (void)state;
    assert_int_equal(nest_ext(34, "\x91", 1, 31), KNIT_SCAN_E_DONE);
    assert_int_equal(nest_ext(34, "\x91", 1, 32), KNIT_SCAN_E_REFUSED);
    assert_int_equal(nest_ext(35, "\x92\x01", 2, 31), KNIT_SCAN_E_DONE);
    assert_int_equal(nest_ext(35, "\x92\x01", 2, 32), KNIT_SCAN_E_REFUSED);
    assert_int_equal(nest_ext(38, "\x81\x01", 2, 31), KNIT_SCAN_E_DONE);
    assert_int_equal(nest_ext(38, "\x81\x01", 2, 32), KNIT_SCAN_E_REFUSED);
    assert_int_equal(nest_ext(41, "", 0, 31), KNIT_SCAN_E_DONE);
    assert_int_equal(nest_ext(41, "", 0, 32), KNIT_SCAN_E_REFUSED);
    /* An ext whose body is no msgpack does not count. */
    assert_int_equal(nest_ext(37, "", 0, 40), KNIT_SCAN_E_DONE);
}

static void broken_content_of_an_ext_does_not_lose_the_stream(void **state)
{
    static const char *const bodies[] = {
        "d4 22 c1",          /* not msgpack */
        "d5 22 92 01",       /* announces more than there is */
        "c7 03 22 91 92 01", /* the same, one level down */
        "d6 22 93 cd 01 02", /* used up before its last values */
        "c7 03 22 91 cd 01", /* a number cut off by the end */
        "c7 03 22 91 a5 61", /* the same of a str */
        "c7 03 22 91 01 02", /* more than it should hold */
        "d5 22 01 02",       /* not the container it should be */
        "d5 26 90 01",       /* the same of a map */
        "d5 22 dc 00",       /* cut off within the container's head */
        "c7 00 22",          /* empty */
        "c7 00 29", "d4 29 c1", "d5 29 c7 05",
        "c7 06 22 91 d5 22 92 01 07",       /* an ext in an ext that is used up too early */
        "c7 05 29 d5 22 92 01 07",          /* the header is broken, the body is not looked at */
        "c7 08 22 92 c7 04 22 91 91 91 c0", /* whose inner one runs beyond the outer one */
    };

    (void)state;
    for (size_t i = 0; i < sizeof(bodies) / sizeof(bodies[0]); i++) {
        struct knit_buffer bytes;
        struct knit_scan scan;
        const char *hex = bodies[i];

        knit_notation_hex_new("94 00 09 a1 74 92", &bytes);
        knit_notation_hex(&hex, &bytes);
        put(&bytes, "\xc0", 1);
        assert_int_equal(feed_every_way(NULL, &bytes, &scan), KNIT_SCAN_E_DONE);
        assert_int_equal(scan.used, bytes.len);
        knit_buffer_fini(&bytes);
    }
}

/* ---- Size ---- */

static void what_cannot_fit_is_refused_at_its_announcement(void **state)
{
    static const char *const bombs[] = {"dd ff ff ff ff", "df ff ff ff ff", "db ff ff ff ff",
        "c6 ff ff ff ff", "c9 ff ff ff ff 22"};

    (void)state;
    for (size_t i = 0; i < sizeof(bombs) / sizeof(bombs[0]); i++) {
        struct knit_buffer bytes;
        struct knit_scan scan;
        const char *hex = bombs[i];

        knit_notation_hex_new("94 00 09 a1 74 91", &bytes);
        knit_notation_hex(&hex, &bytes);
        bytes.len--;
        assert_int_equal(feed_every_way(NULL, &bytes, &scan), 0);
        bytes.len++;
        assert_int_equal(feed_every_way(NULL, &bytes, &scan), KNIT_SCAN_E_BAD);
        assert_int_equal(scan.refused, KNIT_TOO_LARGE);
        assert_true(scan.has_msgid);
        assert_int_equal(scan.msgid, 9);
        knit_buffer_fini(&bytes);
    }
}

static void a_bomb_as_the_message_itself_fails_within_its_head(void **state)
{
    struct knit_scan scan;

    (void)state;
    assert_int_equal(feed_hex(NULL, "dd ff ff ff ff", &scan), KNIT_SCAN_E_BAD);
    assert_int_equal(scan.refused, KNIT_BAD_MESSAGE);
    assert_false(scan.has_msgid);
    assert_int_equal(feed_hex(NULL, "dd ff ff ff", &scan), 0);
}

static void counts_within_each_other_add_up(void **state)
{
    const struct knit_scan_limits limits = {.message_bytes = 40};
    struct knit_scan scan;

    (void)state;
    /* Fifteen values wanted in each of two arrays: each fits, both do not. */
    assert_int_equal(feed_hex(&limits, "94 00 09 a1 74 91 9f 9f", &scan), 0);
    assert_int_equal(scan.refused, 0);
    assert_int_equal(feed_hex(&limits, "94 00 09 a1 74 91 9f 9f 9f", &scan), 0);
    assert_int_equal(scan.refused, KNIT_TOO_LARGE);
}

static void too_large_is_known_at_once_and_skipped_to_its_end(void **state)
{
    const struct knit_scan_limits limits = {.message_bytes = 100};
    struct knit_buffer bytes;
    struct knit_scan scan;
    size_t used;

    (void)state;
    knit_notation_hex_new("94 00 09 a1 74 91 c5 00 5c", &bytes);
    knit_scan_init(&scan, &limits);
    /* 9 + 92 bytes: one too many. */
    assert_int_equal(knit_scan_feed(&scan, bytes.bytes, bytes.len, &used), 0);
    assert_int_equal(scan.refused, KNIT_TOO_LARGE);
    assert_true(scan.has_msgid);
    repeat(&bytes, 0xff, 92);
    assert_int_equal(feed_every_way(&limits, &bytes, &scan), KNIT_SCAN_E_REFUSED);
    assert_int_equal(scan.used, 101);
    /* One less fits exactly. */
    bytes.bytes[8] = 91;
    bytes.len--;
    assert_int_equal(feed_every_way(&limits, &bytes, &scan), KNIT_SCAN_E_DONE);
    knit_buffer_fini(&bytes);
}

static void too_large_is_followed_four_times_as_far_and_no_further(void **state)
{
    const struct knit_scan_limits limits = {.message_bytes = 100};
    struct knit_buffer bytes;
    struct knit_scan scan;

    (void)state;
    knit_notation_hex_new("94 00 09 a1 74 dc 01 88", &bytes);
    repeat(&bytes, 0xc0, 392);
    assert_int_equal(feed_every_way(&limits, &bytes, &scan), KNIT_SCAN_E_REFUSED);
    assert_int_equal(scan.used, 400);
    assert_int_equal(scan.refused, KNIT_TOO_LARGE);
    bytes.bytes[7] = 0x89;
    assert_int_equal(feed_every_way(&limits, &bytes, &scan), KNIT_SCAN_E_BAD);
    assert_int_equal(scan.refused, KNIT_TOO_LARGE);
    knit_buffer_fini(&bytes);
}

static void a_refused_message_is_followed_through_anything(void **state)
{
    const struct knit_scan_limits limits = {.message_bytes = 30, .depth = 2};
    struct knit_scan scan;

    (void)state;
    /* Too deep, then maps, arrays, bodies and an ext, all skipped. */
    assert_int_equal(
        feed_hex(&limits,
            "94 00 09 a1 74 94 91 91 81 01 92 02 a1 78 c4 01 ff d4 22 c1 df 00000001 01 02", &scan),
        KNIT_SCAN_E_REFUSED);
    assert_int_equal(scan.refused, KNIT_TOO_DEEP);
    /* But 0xc1 ends the stream. */
    assert_int_equal(feed_hex(&limits, "94 00 09 a1 74 91 91 91 c1", &scan), KNIT_SCAN_E_BAD);
    assert_int_equal(scan.refused, KNIT_BAD_MESSAGE);
}

static void too_deep_inside_an_ext_goes_on_behind_it(void **state)
{
    const struct knit_scan_limits limits = {.depth = 3};
    struct knit_scan scan;

    (void)state;
    /* The outer set holds another, in which an array is too much; one more argument follows. */
    assert_int_equal(feed_hex(&limits, "94 00 09 a1 74 92 c7 06 22 91 c7 02 22 91 90 c0", &scan),
        KNIT_SCAN_E_REFUSED);
    assert_int_equal(scan.used, 16);
    assert_int_equal(scan.refused, KNIT_TOO_DEEP);
    /* An envelope that is too much itself. */
    assert_int_equal(
        feed_hex(&limits, "94 00 09 a1 74 92 91 91 d4 29 c0 c0", &scan), KNIT_SCAN_E_REFUSED);
    assert_int_equal(scan.used, 12);
}

/* ---- Limits and lost streams ---- */

static void limits_are_put_within_their_bounds(void **state)
{
    struct knit_scan scan;

    (void)state;
    knit_scan_init(&scan, NULL);
    assert_int_equal(scan.limits.message_bytes, KNIT_MESSAGE_BYTES_DEFAULT);
    assert_int_equal(scan.limits.skip_bytes, 4 * KNIT_MESSAGE_BYTES_DEFAULT);
    assert_int_equal(scan.limits.depth, 32);
    knit_scan_set_limits(
        &scan, &(struct knit_scan_limits){
                   .message_bytes = UINT32_MAX, .skip_bytes = UINT32_MAX, .depth = 99});
    assert_int_equal(scan.limits.message_bytes, KNIT_MESSAGE_BYTES_MAX);
    assert_true(scan.limits.skip_bytes == UINT32_MAX - 1);
    assert_int_equal(scan.limits.depth, 32);
    knit_scan_set_limits(&scan, &(struct knit_scan_limits){.message_bytes = 100, .skip_bytes = 5});
    assert_int_equal(scan.limits.skip_bytes, 100);
}

/* A message that begins so, then `count` bytes of the value 0xc0, then the rest. */
static void part_ends(
    const char *begin, size_t count, const char *rest, uint32_t exceeded, bool bounds_parts)
{
    const struct knit_scan_limits limits = {.bounds_parts = bounds_parts};
    struct knit_buffer bytes, end;
    struct knit_scan scan;

    knit_notation_hex_new(begin, &bytes);
    repeat(&bytes, 0xc0, count);
    knit_notation_hex_new(rest, &end);
    put(&bytes, end.bytes, end.len);
    assert_int_equal(feed_every_way(&limits, &bytes, &scan),
        exceeded != 0 ? KNIT_SCAN_E_REFUSED : KNIT_SCAN_E_DONE);
    assert_int_equal(scan.exceeded, exceeded);
    assert_int_equal(scan.refused, exceeded != 0 ? KNIT_TOO_LARGE : 0);
    assert_int_equal(scan.used, bytes.len);
    knit_buffer_fini(&end);
    knit_buffer_fini(&bytes);
}

static void params_of_the_protocols_methods_are_bounded(void **state)
{
    (void)state;
    /* "$/x" with a bin, by request, and by notification; a byte more, also before options. */
    part_ends("94 00 09 a3 242f78 91 c5 fffc", 65532, "", 0, true);
    part_ends("94 00 09 a3 242f78 91 c5 fffd", 65533, "", 65536, true);
    part_ends("93 02 a2 242f 91 c5 fffd", 65533, "", 65536, true);
    part_ends("95 00 09 c4 03 242f78 91 c5 fffc", 65532, "80", 0, true);
    part_ends("95 00 09 a3 242f78 91 c5 fffd", 65533, "80", 65536, true);
    /* Values instead of a body. */
    part_ends("94 00 09 a2 242f dc fffd", 65533, "", 0, true);
    part_ends("94 00 09 a2 242f dd 00010000", 65536, "", 65536, true);
    part_ends("94 00 09 a2 242f 91 dc fffd", 65533, "", 65536, true);
    /* Tasks, numbers and callers' own limits. */
    part_ends("94 00 09 a2 2478 91 c5 fffd", 65533, "", 0, true);
    part_ends("94 00 09 a1 24 91 c5 fffd", 65533, "", 0, true);
    part_ends("94 00 09 07 91 c5 fffd", 65533, "", 0, true);
    part_ends("94 00 09 a3 242f78 91 c5 fffd", 65533, "", 0, false);
    part_ends("94 01 09 c0 c5 fffd", 65533, "", 0, true);
}

static void options_are_bounded(void **state)
{
    (void)state;
    part_ends("95 00 09 a1 74 90 81 a1 78 c5 0ffa", 4090, "", 0, true);
    part_ends("95 00 09 a1 74 90 81 a1 78 c5 0ffb", 4091, "", 4096, true);
    part_ends("95 00 09 a1 74 90 81 a1 78 dc 0ffb", 4091, "", 4096, true);
    part_ends("95 00 09 a1 74 90 de 0020", 64, "", 0, true);
    part_ends("95 00 09 a1 74 90 de 0021", 66, "", 32, true);
    part_ends("95 00 09 a1 74 90 81 c0 de 0021", 66, "", 0, true);
    part_ends("95 00 09 a1 74 90 de 0021", 66, "", 0, false);
    /* What is no map is refused for that later. */
    part_ends("95 00 09 a1 74 90 c5 0ffd", 4093, "", 0, true);
    part_ends("95 00 09 a1 74 90 c5 0ffe", 4094, "", 4096, true);
}

static void a_lost_stream_stays_lost(void **state)
{
    struct knit_scan scan;
    size_t used;

    (void)state;
    knit_scan_init(&scan, NULL);
    assert_int_equal(knit_scan_feed(&scan, "\x94\x00\x09\xc1", 4, &used), KNIT_SCAN_E_BAD);
    assert_int_equal(used, 3);
    assert_true(scan.has_msgid);
    assert_int_equal(knit_scan_feed(&scan, "\x93\x02\x01\x90", 4, &used), KNIT_SCAN_E_BAD);
    assert_int_equal(used, 0);
    assert_string_equal(scan.reason, "the byte 0xc1 is not msgpack");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(request_is_found_with_its_marks),
        cmocka_unit_test(notification_has_no_msgid),
        cmocka_unit_test(messages_follow_each_other_after_a_reset),
        cmocka_unit_test(every_head_is_passed_over_at_every_split),
        cmocka_unit_test(the_least_length_never_decreases_and_is_reached),
        cmocka_unit_test(random_messages_have_the_marks_a_walk_finds),
        cmocka_unit_test(random_damage_ends_the_same_way_however_it_is_cut),
        cmocka_unit_test(nesting_up_to_the_limit_is_accepted),
        cmocka_unit_test(one_level_more_is_refused_and_the_stream_lives),
        cmocka_unit_test(a_million_levels_cost_nothing),
        cmocka_unit_test(nesting_cannot_hide_in_ext_types),
        cmocka_unit_test(broken_content_of_an_ext_does_not_lose_the_stream),
        cmocka_unit_test(what_cannot_fit_is_refused_at_its_announcement),
        cmocka_unit_test(a_bomb_as_the_message_itself_fails_within_its_head),
        cmocka_unit_test(counts_within_each_other_add_up),
        cmocka_unit_test(too_large_is_known_at_once_and_skipped_to_its_end),
        cmocka_unit_test(too_large_is_followed_four_times_as_far_and_no_further),
        cmocka_unit_test(a_refused_message_is_followed_through_anything),
        cmocka_unit_test(too_deep_inside_an_ext_goes_on_behind_it),
        cmocka_unit_test(limits_are_put_within_their_bounds),
        cmocka_unit_test(params_of_the_protocols_methods_are_bounded),
        cmocka_unit_test(options_are_bounded),
        cmocka_unit_test(a_lost_stream_stays_lost),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
